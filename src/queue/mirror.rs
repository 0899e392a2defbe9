//! A queue elsewhere, mirrored in the embedded one: what waits there is taken over, and there is told what became of it.
//!
//! So a site keeps the queue class that it wrote for NAV's smsd, and everything else (the ledger, several alerts in one
//! SMS, doubt, failover) is as with the embedded queue. An alert is taken over once, under its key there, in one
//! transaction; that it has ended is told there, again and again until it is heard. If that queue is gone meanwhile, what
//! was taken over goes out all the same.
//!
//! An alert that no longer waits there, and is not on its way, was cancelled there; if it is listed again after all, it is
//! taken over anew, since a class may have said that nothing waits when it could not look. One that waits there again although its
//! end was told is sent again only if its key is another alert's by now, or after [`AGAIN`]: a class that forgets what it
//! is told must not become a storm. What may have been sent before under the same key is marked a possible duplicate then,
//! and the notes of both alerts name each other.
//!
//! What is new is listed before ends are told. A class that takes longer than `HANGS` to hear of them goes on with that in
//! its process, and lists in another: so what it hangs on delays no new alert, and a class that answers is never asked by two.

mod python;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use python::{BridgeError, PythonClass};

use super::QueueError;
use super::sqlite::SqliteQueue;
use crate::alert::AlertId;
use crate::telemetry::Event;
use python::Bridge;

/// So many alerts are taken over in one transaction.
const PAGE: usize = 500;
/// So many ends are told before the next listing.
const TELL_MAX: usize = 5000;
/// After so many that it would not hear, the queue elsewhere is told nothing before the next look.
const TELL_FAILURES: usize = 3;
/// An alert of which it would not hear is told again so long after.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// The same alert under the same key is taken over again only so long after the last time.
pub const AGAIN: Duration = Duration::from_secs(3600);
/// A class that needs longer to hear of ends is not waited for by what it could list meanwhile.
const HANGS: Duration = Duration::from_secs(3);
/// When smsd stops, what has ended is told for so long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// An alert of a queue elsewhere.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its key there, as JSON.
    pub key: String,
    /// Whom it is for; whether that is a number shows when it is to be sent.
    pub phone: String,
    /// The text.
    pub text: String,
    /// How severe.
    pub severity: Option<i32>,
    /// Since when it waits, in seconds since 1970, if that is known.
    pub queued_at: Option<f64>,
}

/// An alert of which the queue elsewhere does not know what it is by now.
#[derive(Clone, Debug)]
pub struct Untold {
    /// Ours.
    pub alert: AlertId,
    /// Its key there.
    pub key: String,
    /// What it is, in NAV's letters: `N` waiting, `Y` sent, `I` ignored.
    pub sent: String,
    /// The gateway's reference if it is a number that fits, else 0.
    pub smsid: i32,
}

/// What a page of a listing brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Alerts that are now ours.
    pub new: usize,
    /// Alerts whose end was told and which wait there as if it had not.
    pub unheard: Vec<AlertId>,
}

/// Why the two queues could not be brought together.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The queue elsewhere.
    #[error(transparent)]
    Elsewhere(#[from] BridgeError),
    /// Ours.
    #[error(transparent)]
    Here(#[from] QueueError),
}

/// Alerts of which the queue elsewhere would not hear, and until when it is not told of them.
type Refused = HashMap<AlertId, Instant>;

/// What tells the queue elsewhere how alerts have ended.
struct Teller {
    queue: Arc<SqliteQueue>,
    elsewhere: Bridge,
    refused: Refused,
}

/// See the module.
pub struct Mirror {
    queue: Arc<SqliteQueue>,
    /// What lists, and tells while nothing hangs.
    elsewhere: Bridge,
    /// What tells now, while the class is asked for what is new; at most one.
    telling: JoinSet<(Teller, Result<(), MirrorError>)>,
    refused: Refused,
    poll_interval: Duration,
    /// Hashes keys: what a million of them are is remembered in a few megabytes.
    hasher: RandomState,
    /// What was not listed the last time.
    missed: HashSet<AlertId>,
    /// What was already said to be unheard.
    complained: HashSet<AlertId>,
    /// Who hears of what happens.
    events: Box<dyn Fn(Event) + Send + Sync>,
}

impl Mirror {
    /// Between the class and the embedded queue; looks every `poll_interval`.
    pub fn new(class: PythonClass, queue: Arc<SqliteQueue>, poll_interval: Duration) -> Mirror {
        Mirror {
            queue,
            elsewhere: Bridge::new(class),
            telling: JoinSet::new(),
            refused: HashMap::new(),
            poll_interval,
            hasher: RandomState::new(),
            missed: HashSet::new(),
            complained: HashSet::new(),
            events: Box::new(|event| event.log()),
        }
    }

    /// Tells what happens to `events`, and not to the log alone.
    #[must_use]
    pub fn telling(self, events: impl Fn(Event) + Send + Sync + 'static) -> Mirror {
        Mirror { events: Box::new(events), ..self }
    }

    /// Mirrors until `stop`; then tells what has ended.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut silent_since: Option<Instant> = None;
        while !stop.is_cancelled() {
            // What is under way when the stop comes is idempotent: it may be broken off anywhere.
            let passed = tokio::select! {
                passed = self.pass_by(Some(HANGS)) => passed,
                () = stop.cancelled() => break,
            };
            match passed {
                Ok(()) => {
                    if let Some(since) = silent_since.take() {
                        (self.events)(Event::ElsewhereBack { after: since.elapsed() });
                    }
                }
                Err(error) if silent_since.is_none() => {
                    silent_since = Some(Instant::now());
                    (self.events)(Event::ElsewhereLost { reason: error.to_string() });
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sleep(self.poll_interval) => {}
                () = stop.cancelled() => {}
            }
        }
        // A request that was broken off has left its answer behind.
        self.telling.shutdown().await;
        self.elsewhere = Bridge::new(self.elsewhere.class().clone());
        if let Ok(Err(error)) = timeout(LAST_WORDS, self.tell(None)).await {
            (self.events)(Event::ElsewhereLost { reason: error.to_string() });
        }
    }

    /// Brings both together, once.
    ///
    /// # Errors
    /// Either of them does not answer; nothing is lost by it.
    pub async fn pass(&mut self) -> Result<(), MirrorError> {
        self.pass_by(None).await
    }

    /// So long is waited for what is told, if it is given; then that goes on by itself.
    async fn pass_by(&mut self, patience: Option<Duration>) -> Result<(), MirrorError> {
        let listed = match self.take_over().await {
            Ok(listed) => self.find_cancelled(&listed).await,
            Err(error) => Err(error),
        };
        // A class that can not list may be able to hear.
        let told = self.tell(patience).await;
        listed.and(told)
    }

    /// Does the queue elsewhere answer? Lists what waits there, and takes nothing over.
    ///
    /// # Errors
    /// It does not.
    pub async fn probe(&mut self) -> Result<(), MirrorError> {
        self.elsewhere.list().await?;
        while self.elsewhere.next().await?.is_some() {}
        Ok(())
    }

    /// Puts a test message into the queue elsewhere; how many messages that says it has put in.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn queue_test(
        &mut self,
        uid: i32,
        phone: &str,
        text: &str,
    ) -> Result<Option<i64>, MirrorError> {
        Ok(self.elsewhere.test(uid, phone, text).await?)
    }

    /// Tells what has ended, and waits for that, at most for `patience`.
    async fn tell(&mut self, patience: Option<Duration>) -> Result<(), MirrorError> {
        if self.telling.is_empty() {
            // The process that runs is asked; a second one is started only if this one hangs.
            let class = self.elsewhere.class().clone();
            let teller = Teller {
                queue: Arc::clone(&self.queue),
                elsewhere: std::mem::replace(&mut self.elsewhere, Bridge::new(class)),
                refused: std::mem::take(&mut self.refused),
            };
            self.telling.spawn(teller.tell());
        }
        let told = match patience {
            Some(patience) => match timeout(patience, self.telling.join_next()).await {
                Ok(told) => told,
                Err(_) => return Ok(()),
            },
            None => self.telling.join_next().await,
        };
        match told {
            Some(Ok((teller, told))) => {
                self.refused = teller.refused;
                if teller.elsewhere.runs() {
                    self.elsewhere = teller.elsewhere;
                }
                told
            }
            // It has panicked, and its process ended with it: the next pass starts another.
            Some(Err(error)) => {
                tracing::error!("the task that tells the queue elsewhere ended early: {error}");
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes over what is new; returns the hashed keys of all that waits there.
    async fn take_over(&mut self) -> Result<HashSet<u64>, MirrorError> {
        let mut listed = HashSet::new();
        let mut page = Vec::new();
        self.elsewhere.list().await?;
        loop {
            let next = self.elsewhere.next().await?;
            let is_last = next.is_none();
            if let Some(foreign) = next {
                listed.insert(self.hasher.hash_one(&foreign.key));
                page.push(foreign);
            }
            if page.len() == PAGE || is_last && !page.is_empty() {
                let taken = self.queue.take_over(std::mem::take(&mut page)).await?;
                for alert in taken.unheard {
                    if self.complained.len() < PAGE && self.complained.insert(alert) {
                        (self.events)(Event::Unheard { alert, elsewhere: self.elsewhere.class().name() });
                    }
                }
            }
            if is_last {
                return Ok(listed);
            }
        }
    }

    /// What waits here and, by two listings in a row, not there was cancelled there, or deleted.
    async fn find_cancelled(&mut self, listed: &HashSet<u64>) -> Result<(), MirrorError> {
        let ours = self.queue.waiting_elsewhere().await?;
        let is_missed = |(_, key): &(AlertId, String)| !listed.contains(&self.hasher.hash_one(key));
        let missed: HashSet<AlertId> = ours.into_iter().filter(is_missed).map(|(id, _)| id).collect();
        let gone: Vec<AlertId> = missed.intersection(&self.missed).copied().collect();
        self.missed = missed;
        if !gone.is_empty() {
            self.queue.gone_elsewhere(gone, self.elsewhere.class().name()).await?;
        }
        Ok(())
    }
}

impl Teller {
    /// Tells what has ended. One alert of which the class will not hear holds up no other.
    async fn tell(mut self) -> (Teller, Result<(), MirrorError>) {
        let told = self.tell_all().await;
        (self, told)
    }

    async fn tell_all(&mut self) -> Result<(), MirrorError> {
        let (mut told, mut failures) = (Vec::new(), 0);
        let mut result = Ok(());
        self.refused.retain(|_, until| Instant::now() < *until);
        for Untold { alert, key, sent, smsid } in self.queue.untold(TELL_MAX).await? {
            if self.refused.contains_key(&alert) {
                continue;
            }
            match self.elsewhere.tell(&key, &sent, smsid).await {
                // That it has changed nothing is no fault: the message may be deleted there.
                Ok(_) => told.push((alert, sent)),
                Err(error) => {
                    self.refused.insert(alert, Instant::now() + REFUSED_PAUSE);
                    result = Err(error.into());
                    failures += 1;
                }
            }
            if failures == TELL_FAILURES {
                break;
            }
            if told.len() == PAGE {
                self.queue.told(std::mem::take(&mut told)).await?;
            }
        }
        self.queue.told(told).await?;
        result
    }
}
