//! An engine that has nothing to do does nothing. Every turn of its loop reads the boot clock once or twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use smsd::alert::{Alert, AlertId};
use smsd::config::Main;
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, NewAttempt, News, Period, Queue, QueueError, Resolved, Settled, Settlement, Stats, Story,
    Submission, Submitted, Suspects, Which,
};
use uuid::Uuid;

use super::bench::*;

/// In an idle second it looks at the queue four times, and an answer is a turn of its own.
const TURNS_A_SECOND: usize = 30;

#[tokio::test(start_paused = true)]
async fn an_idle_engine_looks_at_its_queue_and_does_nothing_else() {
    let bench = Bench::start(&[&Gateway::good()]);
    pass(secs(10)).await;
    let before = bench.turns();
    pass(secs(60)).await;
    let turns = bench.turns() - before;
    assert!(turns > 60, "it does look: {turns}");
    assert!(turns < 60 * TURNS_A_SECOND, "{turns} turns in a minute");
    bench.stop().await.unwrap();
}

/// The daemon was once seen to spin until the first look was over.
#[tokio::test(start_paused = true)]
async fn an_engine_that_waits_for_its_queue_does_nothing_meanwhile() {
    for autocancel in [None, Some(Age { text: "1 day".into(), duration: secs(86_400) })] {
        for slow in [Slow::JOIN, Slow::NEWEST, Slow::CLAIM, Slow::EXPIRE, Slow::DOUBTS, Slow::ALL] {
            let memory = Arc::new(MemoryQueue::new());
            let queue = Arc::new(SlowQueue::new(memory.clone(), slow));
            let main = Main { autocancel: autocancel.clone(), ..Main::default() };
            let gateway = Gateway::good();
            let bench = Bench::start_on(queue, memory, &[&gateway], |options| options.main = main);
            bench.alert(&phone(1), "it waits", 3);
            pass(secs(10)).await;
            let turns = bench.turns();
            assert!(turns < 10 * TURNS_A_SECOND, "{slow:?} {autocancel:?}: {turns} turns");
            pass(secs(600)).await;
            assert_eq!(gateway.texts(), ["it waits"], "{slow:?} {autocancel:?}");
            bench.kill().await;
        }
    }
}

/// Which verbs take their time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slow(&'static [&'static str]);

impl Slow {
    pub(super) const NONE: Slow = Slow(&[]);
    const JOIN: Slow = Slow(&["join"]);
    const NEWEST: Slow = Slow(&["newest"]);
    const CLAIM: Slow = Slow(&["claim"]);
    const EXPIRE: Slow = Slow(&["expire"]);
    const DOUBTS: Slow = Slow(&["doubts"]);
    const ALL: Slow = Slow(&["join", "newest", "claim", "expire", "doubts", "begin", "settle"]);
}

/// A queue whose verbs take their time, and which can refuse claims as a database does that goes away.
pub(super) struct SlowQueue {
    queue: Arc<MemoryQueue>,
    slow: Slow,
    claims_left: AtomicUsize,
    claims_refused: AtomicUsize,
}

impl SlowQueue {
    pub(super) fn new(queue: Arc<MemoryQueue>, slow: Slow) -> SlowQueue {
        SlowQueue {
            queue,
            slow,
            claims_left: AtomicUsize::new(usize::MAX),
            claims_refused: AtomicUsize::new(0),
        }
    }

    /// All claims are refused but the next `answered`.
    pub(super) fn refuse_claims_after(&self, answered: usize) {
        self.claims_left.store(answered, Ordering::Relaxed);
    }

    pub(super) fn claims_refused(&self) -> usize {
        self.claims_refused.load(Ordering::Relaxed)
    }

    async fn take_time(&self, verb: &str) {
        if self.slow.0.contains(&verb) {
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
    }
}

#[async_trait]
impl Queue for SlowQueue {
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        self.take_time("join").await;
        self.queue.join(instance, ttl, known).await
    }
    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        self.queue.renew(instance, ttl, known).await
    }
    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.queue.leave(instance).await
    }
    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.take_time("newest").await;
        self.queue.newest().await
    }
    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        self.take_time("claim").await;
        let one_less = |left: usize| left.checked_sub(1);
        if self.claims_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            self.claims_refused.fetch_add(1, Ordering::Relaxed);
            return Err(QueueError::Unavailable("no claim is answered".into()));
        }
        self.queue.claim(look, limit, age).await
    }
    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        self.take_time("begin").await;
        self.queue.begin(owner, attempts, known).await
    }
    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        self.take_time("settle").await;
        self.queue.settle(owner, settlements).await
    }
    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        self.take_time("doubts").await;
        self.queue.doubts(owner).await
    }
    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        self.queue.hold(owner, suspects, why).await
    }
    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        self.queue.suspected(limit).await
    }
    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        self.take_time("expire").await;
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
    async fn reprieve(&self, ids: &[AlertId]) -> Result<Vec<AlertId>, QueueError> {
        self.queue.reprieve(ids).await
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
