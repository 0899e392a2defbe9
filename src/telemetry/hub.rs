//! Where events come together: the log, the board of what holds now, the last day, the metrics, what is to be mailed,
//! and the feed of what happens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;

use super::Event;
use super::admin::{Batch, Collector, Gravity};
use super::board::Board;
use super::history::{BUCKETS, Course, History, STEP};
use super::metrics::Metrics;
use super::waits::{Wait, Waits};
use crate::queue::Queue;

/// Events that a slow listener may lag behind; what is beyond is lost to that listener alone.
const FEED: usize = 1_024;
/// Between two tries to learn the last day from the ledger.
const PAUSE: Duration = Duration::from_secs(30);

/// See the module. One per daemon, shared by all that tell and all that ask.
#[derive(Debug)]
pub struct Hub {
    known: Mutex<Known>,
    metrics: Metrics,
    feed: broadcast::Sender<Arc<Told>>,
    /// There is something to mail.
    mail: Notify,
}

/// What was learned from the events.
#[derive(Debug)]
struct Known {
    board: Board,
    history: History,
    waits: Waits,
    admin: Collector,
}

/// An event and when it was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

impl Hub {
    /// With these dispatchers, in order of priority, all taken to work until something else is told.
    pub fn new(dispatchers: impl IntoIterator<Item = (Arc<str>, &'static str)>) -> Hub {
        let now = Timestamp::now();
        let hub = Hub {
            known: Mutex::new(Known {
                board: Board::new([], now),
                history: History::default(),
                waits: Waits::default(),
                admin: Collector::default(),
            }),
            metrics: Metrics::default(),
            feed: broadcast::channel(FEED).0,
            mail: Notify::new(),
        };
        hub.use_dispatchers(dispatchers);
        hub
    }

    /// Tells an event to all who listen.
    pub fn tell(&self, event: Event) {
        event.log();
        let at = Timestamp::now();
        self.metrics.learn(&event, at);
        let to_mail = self.with(|known| {
            known.board.learn(&event, at);
            known.history.learn(&event, at);
            known.waits.learn(&event, at);
            known.admin.learn(&event, at)
        });
        if to_mail {
            self.mail.notify_one();
        }
        // Nobody may be listening.
        let _ = self.feed.send(Arc::new(Told { at, event }));
    }

    /// The dispatchers are these from now on.
    pub fn use_dispatchers(&self, dispatchers: impl IntoIterator<Item = (Arc<str>, &'static str)>) {
        let dispatchers: Vec<_> = dispatchers.into_iter().collect();
        let names = || dispatchers.iter().map(|(name, _)| Arc::clone(name));
        names().for_each(|name| self.metrics.expect(&name));
        self.with(|known| {
            known.history.use_dispatchers(names());
            known.board.use_dispatchers(dispatchers.iter().cloned(), Timestamp::now());
        });
    }

    /// What holds now.
    pub fn board(&self) -> Board {
        self.with(|known| known.board.clone())
    }

    /// Why what waits for this number waits, as far as the engine has said so.
    pub fn wait_of(&self, phone: &str) -> Option<Wait> {
        self.with(|known| known.waits.of(phone))
    }

    /// How each dispatcher did in the last day.
    pub fn history(&self) -> Vec<Course> {
        self.with(|known| known.history.last_day(Timestamp::now()))
    }

    /// What was counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Told>> {
        self.feed.subscribe()
    }

    /// What is at least so grave is mailed from now on; `None`: nothing.
    pub fn mail_from(&self, gravity: Option<Gravity>) {
        self.with(|known| known.admin.collect_from(gravity));
    }

    /// Returns when there is something to mail. One waits at a time.
    pub async fn has_mail(&self) {
        while !self.with(|known| known.admin.waits()) {
            self.mail.notified().await;
        }
    }

    /// What is to be mailed.
    pub fn take_mail(&self) -> Batch {
        self.with(|known| known.admin.take())
    }

    /// What could not be mailed.
    pub fn keep_mail(&self, batch: Batch) {
        self.with(|known| known.admin.give_back(batch));
    }

    /// Learns from the ledger how the day before was; tries until the queue answers. Charts can wait: the caller drops
    /// this when it has no more time.
    pub async fn remember(&self, queue: &dyn Queue) {
        loop {
            let day = STEP * BUCKETS as u32;
            match queue.history(Timestamp::now() - day, STEP).await {
                Ok(periods) => return self.with(|known| known.history.seed(&periods)),
                Err(error) => tracing::debug!("the last day is not known yet: {error}"),
            }
            sleep(PAUSE).await;
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
