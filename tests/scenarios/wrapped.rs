//! A queue that does to single calls what a test says, and else what the queue in memory does.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use smsd::alert::{Alert, AlertId};
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, NewAttempt, News, Peers, Period, Queue, QueueError, Resolved, Settled, Settlement, Stats,
    Story, Submission, Submitted, Suspects, Which, Witness,
};
use tokio::time::sleep;
use uuid::Uuid;

/// What becomes of a call.
pub enum Does {
    Its,
    ItsAfter(Duration),
    Fail(QueueError),
    /// A panic before it has done anything.
    Panic,
    /// It is done, and then there is a panic.
    ItsAndPanic,
}

/// Says what becomes of a call of this verb that is about these alerts.
pub type Script = Box<dyn Fn(&'static str, &[AlertId]) -> Does + Send + Sync>;

pub struct Wrapped {
    queue: Arc<MemoryQueue>,
    script: Script,
    alerts: Mutex<HashMap<Uuid, Vec<AlertId>>>,
}

impl Wrapped {
    pub fn around(
        queue: &Arc<MemoryQueue>,
        script: impl Fn(&'static str, &[AlertId]) -> Does + Send + Sync + 'static,
    ) -> Arc<Wrapped> {
        Arc::new(Wrapped { queue: queue.clone(), script: Box::new(script), alerts: Mutex::default() })
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        alerts: &[AlertId],
        work: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        match (self.script)(verb, alerts) {
            Does::Its => work.await,
            Does::ItsAfter(time) => {
                sleep(time).await;
                work.await
            }
            Does::Fail(error) => Err(error),
            Does::Panic => silently(),
            Does::ItsAndPanic => {
                let _ = work.await;
                silently()
            }
        }
    }
}

/// A panic of which nothing is printed.
fn silently<T>() -> T {
    std::panic::resume_unwind(Box::new("on purpose"))
}

#[async_trait]
impl Queue for Wrapped {
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        self.call("join", &[], self.queue.join(instance, ttl, known)).await
    }
    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        self.call("renew", &[], self.queue.renew(instance, ttl, known)).await
    }
    async fn witness(&self, known: &Known) -> Result<Witness, QueueError> {
        self.queue.witness(known).await
    }
    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.queue.leave(instance).await
    }
    async fn peers(&self, instance: Uuid) -> Result<Peers, QueueError> {
        self.call("peers", &[], self.queue.peers(instance)).await
    }
    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.call("newest", &[], self.queue.newest()).await
    }
    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        let verb = match look {
            Look::New { .. } => "claim new",
            Look::Full { .. } => "claim",
        };
        self.call(verb, &[], self.queue.claim(look, limit, age)).await
    }
    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        let of = |a: &NewAttempt| a.carried.iter().chain(&a.counted).copied().collect::<Vec<_>>();
        self.alerts.lock().unwrap().extend(attempts.iter().map(|a| (a.id, of(a))));
        let alerts: Vec<AlertId> = attempts.iter().flat_map(of).collect();
        self.call("begin", &alerts, self.queue.begin(owner, attempts, known)).await
    }
    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let alerts: Vec<AlertId> = {
            let known = self.alerts.lock().unwrap();
            let of = |s: &Settlement| known.get(&s.closing.as_ref()?.id).cloned();
            let beside = |s: &Settlement| s.verdicts.iter().map(|(id, _)| *id).collect();
            settlements.iter().flat_map(|s| of(s).unwrap_or_else(|| beside(s))).collect()
        };
        self.call("settle", &alerts, self.queue.settle(owner, settlements)).await
    }
    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        self.call("doubts", &[], self.queue.doubts(owner)).await
    }
    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        self.call("hold", &[], self.queue.hold(owner, suspects, why)).await
    }
    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        self.queue.suspected(limit).await
    }
    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        self.call("expire", &[], self.queue.expire(age)).await
    }
    async fn wait(&self) -> News {
        self.call("wait", &[], async { Ok(self.queue.wait().await) }).await.unwrap()
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
