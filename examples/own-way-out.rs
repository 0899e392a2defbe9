//! smsd inside a program that brings a way out and a queue of its own: `cargo run --example own-way-out`.
//!
//! The way out puts each SMS as a file into a folder, from which something else would take it. The queue is smsd's embedded
//! one, told on to whoever wants to know what became of the alerts. `docs/own-dispatcher.md` and `docs/own-queue.md` quote
//! this file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use smsd::alert::{Alert, AlertId, Phone, Severity};
use smsd::config::Config;
use smsd::dispatch::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use smsd::queue::sqlite::SqliteQueue;
use smsd::queue::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, NewAlert, NewAttempt, News, Peers, Period, Queue, QueueError, Resolved, Settled, Settlement,
    Stats, Story, Submission, Submitted, Suspects, Which, Witness,
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Puts each SMS as a file into a folder.
pub(crate) struct Outbox {
    /// The folder.
    pub(crate) folder: PathBuf,
}

#[async_trait]
impl Dispatcher for Outbox {
    fn limits(&self) -> Limits {
        // Whatever the configuration allows.
        Limits { max_segments: None }
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        // The name is the same when the SMS is sent again: whoever empties the folder gets it once.
        let name = format!("{}.sms", sms.key);
        let (new, path) = (self.folder.join(format!(".{name}")), self.folder.join(&name));
        let words = format!("{}\n{}", sms.recipient, sms.text);
        // Until it has its name nobody takes it: what fails before has certainly not been taken.
        tokio::fs::write(&new, words).await.map_err(|error| self.failed(Class::Unavailable, &error))?;
        // A name may have been given although that fails: nobody knows.
        tokio::fs::rename(&new, &path).await.map_err(|error| self.failed(Class::Unknown, &error))?;
        Ok(Receipt { references: vec![name] })
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        match tokio::fs::metadata(&self.folder).await {
            Ok(_) => Ok(Health("the folder is there".to_owned())),
            Err(error) => Err(self.failed(Class::Unavailable, &error)),
        }
    }
}

impl Outbox {
    fn failed(&self, class: Class, error: &io::Error) -> SubmitError {
        // What a person must mend is told from what may pass.
        let class = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Class::Misconfigured,
            _ => class,
        };
        SubmitError::new(class, format!("{}: {error}", self.folder.display()))
    }
}

/// A queue that tells on what is settled in it.
pub(crate) struct Told<Q> {
    /// Where alerts wait.
    pub(crate) queue: Q,
    /// Who is told.
    pub(crate) tell: mpsc::UnboundedSender<Settlement>,
}

#[async_trait]
impl<Q: Queue> Queue for Told<Q> {
    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let settled = self.queue.settle(owner, settlements).await?;
        // It is on stable storage by now. Whoever is told may be gone.
        for settlement in settlements {
            let _ = self.tell.send(settlement.clone());
        }
        Ok(settled)
    }

    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        self.queue.join(instance, ttl, known).await
    }
    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        self.queue.renew(instance, ttl, known).await
    }
    async fn witness(&self, known: &Known) -> Result<Witness, QueueError> {
        self.queue.witness(known).await
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.queue.leave(instance).await
    }
    async fn peers(&self, instance: Uuid) -> Result<Peers, QueueError> {
        self.queue.peers(instance).await
    }
    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.queue.newest().await
    }
    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        self.queue.claim(look, limit, age).await
    }
    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        self.queue.begin(owner, attempts, known).await
    }
    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        self.queue.doubts(owner).await
    }
    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        self.queue.hold(owner, suspects, why).await
    }
    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        self.queue.expire(age).await
    }
    async fn wait(&self) -> News {
        self.queue.wait().await
    }
    async fn enqueue(&self, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError> {
        self.queue.enqueue(submissions).await
    }
    async fn cancel(&self, which: &Which, by: &str) -> Result<Cancelled, QueueError> {
        self.queue.cancel(which, by).await
    }
    async fn resolve(&self, ids: &[AlertId], decision: Decision, by: &str) -> Result<Resolved, QueueError> {
        self.queue.resolve(ids, decision, by).await
    }
    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        self.queue.suspected(limit).await
    }
    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        self.queue.requeue(ids, by).await
    }
    async fn list(&self, filter: &Filter) -> Result<Vec<AlertRow>, QueueError> {
        self.queue.list(filter).await
    }
    async fn show(&self, id: AlertId) -> Result<Option<Story>, QueueError> {
        self.queue.show(id).await
    }
    async fn depth(&self) -> Result<Depth, QueueError> {
        self.queue.depth().await
    }
    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.queue.recent(before, limit).await
    }
    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.queue.undecided(limit).await
    }
    async fn history(&self, since: Timestamp, step: Duration) -> Result<Vec<Period>, QueueError> {
        self.queue.history(since, step).await
    }
    async fn stats(&self) -> Result<Stats, QueueError> {
        self.queue.stats().await
    }
    async fn audit(&self) -> Result<Audit, QueueError> {
        self.queue.audit().await
    }
}

/// Sends one alert into `folder/outbox` and returns what was told of it.
pub(crate) async fn send_one(
    folder: &Path,
    to: Phone,
    text: &str,
) -> Result<Settlement, Box<dyn std::error::Error>> {
    let outbox = folder.join("outbox");
    tokio::fs::create_dir_all(&outbox).await?;
    let mut config = Config::embedded();
    config.dispatchers.clear();
    config.main.state_dir = Some(folder.to_owned());
    let (tell, mut told) = mpsc::unbounded_channel();
    let queue = SqliteQueue::open(&folder.join("queue.db"), config.queue.poll_interval, true).await?;
    let queue = Arc::new(Told { queue, tell });
    let severity = Severity(Some(1));
    queue.submit(&[NewAlert { to, text: text.into(), severity, account: None }]).await?;

    let parts =
        smsd::Parts::new(config).queue(queue).dispatcher("outbox", Arc::new(Outbox { folder: outbox }));
    let mut first = None;
    smsd::run(parts, async { first = told.recv().await }).await?;
    Ok(first.ok_or("smsd ended before it had sent anything")?)
}

#[allow(dead_code, reason = "a test takes this file for a module")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("own-way-out-{}", std::process::id()));
    tokio::fs::create_dir_all(&folder).await?;
    let settled = send_one(&folder, Phone::parse("+4799999999")?, "gw1 is down").await?;
    println!("{settled:?}\nthe SMS is in {}", folder.join("outbox").display());
    Ok(())
}
