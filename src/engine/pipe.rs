//! What is to be written to the queue, gathered into batches: the group commit.

use std::time::Duration;

use tokio::time::Instant;

/// Attempts of one `begin`, settlements of one `settle`.
const BATCH: usize = 1_000;
/// First and longest pause between attempts to reach a queue that does not answer.
pub(super) const QUEUE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Things to be written in batches, one batch at a time, each repeated until it is certain.
pub(super) struct Pipe<T> {
    pub(super) gathered: Vec<T>,
    pub(super) under_way: Vec<T>,
    pub(super) busy: bool,
    pub(super) next: Instant,
    pub(super) pause: Duration,
}

impl<T: Clone> Pipe<T> {
    pub(super) fn new(now: Instant) -> Self {
        Pipe { gathered: Vec::new(), under_way: Vec::new(), busy: false, next: now, pause: QUEUE_PAUSE.0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.under_way.is_empty()
    }

    /// The batch to write now: the one that failed, or what has gathered, as far as `same` allows.
    pub(super) fn batch(&mut self, now: Instant, same: impl Fn(&T, &T) -> bool) -> Option<Vec<T>> {
        if self.busy || now < self.next {
            return None;
        }
        if self.under_way.is_empty() {
            let first = self.gathered.first()?;
            let n = self.gathered.iter().take(BATCH).take_while(|x| same(first, x)).count();
            self.under_way = self.gathered.drain(..n).collect();
        }
        self.busy = true;
        Some(self.under_way.clone())
    }

    pub(super) fn done(&mut self) {
        self.busy = false;
        self.pause = QUEUE_PAUSE.0;
        self.under_way.clear();
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.busy = false;
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(QUEUE_PAUSE.1);
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        (!self.busy && !self.is_empty()).then_some(self.next)
    }
}
