//! What the queue said when it was last asked: what waits, what went out last, what is undecided.
//!
//! Pages and metrics show this instead of asking the queue themselves: so they answer at once, also while the queue is
//! down, and a hundred people who look cost the queue no more than one. Somebody who looks makes it fresh; when nobody
//! does, the queue is asked now and then, so that the first look finds something.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::clip;
use crate::queue::{AttemptRow, Depth, Queue, QueueError};

/// Between two questions while somebody looks.
pub const FRESH: Duration = Duration::from_secs(2);
/// Between two questions while nobody does.
pub const STALE: Duration = Duration::from_secs(15);
/// How long a look counts.
pub const LOOK: Duration = Duration::from_secs(10);
/// How long the queue may take to answer all of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// As many of the last attempts.
pub const RECENT: usize = 50;
/// As many attempts in doubt or held.
pub const UNDECIDED: usize = 200;

/// What the queue said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// When it said so; `None`: it has not answered yet, and the rest is empty.
    pub at: Option<Timestamp>,
    /// What waits.
    pub depth: Depth,
    /// The last attempts, the last begun first, at most [`RECENT`].
    pub recent: Vec<AttemptRow>,
    /// Attempts in doubt or held, oldest first, at most [`UNDECIDED`].
    pub undecided: Vec<AttemptRow>,
    /// Why it did not answer when it was last asked; the rest is then as old as `at` says.
    pub error: Option<String>,
}

/// Where the last sample is read. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sampler {
    latest: watch::Receiver<Arc<Sample>>,
    looked: Arc<watch::Sender<Option<Instant>>>,
}

impl Sampler {
    /// Of this queue, with who asks it: [`Asker::work`] is to be run for as long as somebody may look.
    pub fn new(queue: Arc<dyn Queue>) -> (Sampler, Asker) {
        Sampler::of(Box::new(queue))
    }

    fn of(source: Box<dyn Source>) -> (Sampler, Asker) {
        let (publish, latest) = watch::channel(Arc::default());
        let (looked, looks) = watch::channel(None);
        (Sampler { latest, looked: Arc::new(looked) }, Asker { source, publish, looks })
    }

    /// The last sample, without waiting for anything. Does not count as a look.
    pub fn latest(&self) -> Arc<Sample> {
        Arc::clone(&self.latest.borrow())
    }

    /// The last sample, and samples stay fresh for a while: for whoever shows it.
    pub fn look(&self) -> Arc<Sample> {
        self.looked.send_replace(Some(Instant::now()));
        self.latest()
    }

    /// Tells of each new sample. Who goes on listening calls [`Sampler::look`] at each, so that they keep coming.
    pub fn watch(&self) -> watch::Receiver<Arc<Sample>> {
        self.latest.clone()
    }
}

/// Who asks the queue.
pub struct Asker {
    source: Box<dyn Source>,
    publish: watch::Sender<Arc<Sample>>,
    looks: watch::Receiver<Option<Instant>>,
}

impl Asker {
    /// Asks until `over` is cancelled.
    pub async fn work(&mut self, over: CancellationToken) {
        loop {
            let asked = Instant::now();
            let sample = tokio::select! {
                sample = self.ask() => sample,
                () = over.cancelled() => return,
            };
            self.publish.send_replace(Arc::new(sample));
            if !self.rest(asked, &over).await {
                return;
            }
        }
    }

    /// A new sample, or the last one with the reason why there is no newer.
    async fn ask(&self) -> Sample {
        let mut why = match timeout(PATIENCE, self.source.sample()).await {
            Ok(Ok(sample)) => return sample,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        clip(&mut why, 300);
        Sample { error: Some(why), ..Sample::clone(&self.publish.borrow()) }
    }

    /// Waits until the queue is to be asked again; false: no more.
    async fn rest(&mut self, asked: Instant, over: &CancellationToken) -> bool {
        loop {
            let looked = *self.looks.borrow_and_update();
            let pause = if looked.is_some_and(|at| at.elapsed() < LOOK) { FRESH } else { STALE };
            tokio::select! {
                () = sleep_until(asked + pause) => return true,
                Ok(()) = self.looks.changed() => {}
                () = over.cancelled() => return false,
            }
        }
    }
}

/// What is sampled.
#[async_trait]
trait Source: Send + Sync {
    async fn sample(&self) -> Result<Sample, QueueError>;
}

#[async_trait]
impl Source for Arc<dyn Queue> {
    async fn sample(&self) -> Result<Sample, QueueError> {
        let depth = self.depth().await?;
        let recent = self.recent(None, RECENT).await?;
        let undecided = self.undecided(UNDECIDED).await?;
        Ok(Sample { at: Some(Timestamp::now()), depth, recent, undecided, error: None })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Answers with how often it was asked as the open attempts; does not answer, or refuses, at the questions named.
    struct Fake {
        asked: AtomicU64,
        refuses_at: u64,
        hangs_at: u64,
    }

    #[async_trait]
    impl Source for Arc<Fake> {
        async fn sample(&self) -> Result<Sample, QueueError> {
            let n = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            if n == self.hangs_at {
                std::future::pending::<()>().await;
            }
            if n == self.refuses_at {
                return Err(QueueError::Unavailable("starting\x1b[2J".to_owned()));
            }
            let depth = Depth { open: n, ..Depth::default() };
            Ok(Sample { at: Some(Timestamp::now()), depth, ..Sample::default() })
        }
    }

    fn sampler(refuses_at: u64, hangs_at: u64) -> (Sampler, Arc<Fake>, tokio::task::JoinSet<()>) {
        let fake = Arc::new(Fake { asked: AtomicU64::new(0), refuses_at, hangs_at });
        let (sampler, mut asker) = Sampler::of(Box::new(Arc::clone(&fake)));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { asker.work(CancellationToken::new()).await });
        (sampler, fake, tasks)
    }

    async fn asked_within(fake: &Fake, seconds: u64) -> u64 {
        let before = fake.asked.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        fake.asked.load(Ordering::Relaxed) - before
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_asked_often_only_while_somebody_looks() {
        let (sampler, fake, _tasks) = sampler(0, 0);
        assert_eq!(asked_within(&fake, 65).await, 5, "at once, then every 15 s");
        for _ in 0..100 {
            sampler.look();
        }
        assert_eq!(asked_within(&fake, 1).await, 1, "what is older than 2 s is made fresh at once, and once");
        assert_eq!(asked_within(&fake, 8).await, 4, "every 2 s");
        assert_eq!(asked_within(&fake, 60).await, 4, "every 15 s again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_does_not_answer_keeps_what_it_said_last() {
        let (sampler, fake, _tasks) = sampler(2, 3);
        assert_eq!(sampler.latest().at, None);
        asked_within(&fake, 1).await;
        let first = sampler.latest();
        assert_eq!((first.depth.open, &first.error), (1, &None));

        asked_within(&fake, 15).await;
        let refused = sampler.latest();
        assert_eq!((refused.at, refused.depth.open), (first.at, 1));
        assert_eq!(refused.error.as_deref(), Some(r"starting\u{1b}[2J"));

        asked_within(&fake, 25).await;
        assert_eq!(sampler.latest().error.as_deref(), Some("no answer within 10 s"));
        assert_eq!(sampler.latest().depth.open, 1);

        asked_within(&fake, 15).await;
        assert_eq!((sampler.latest().depth.open, &sampler.latest().error), (4, &None));
    }
}
