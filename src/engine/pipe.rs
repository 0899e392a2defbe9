//! What is to be written to the queue, gathered into batches: the group commit.

use std::time::Duration;

use tokio::time::Instant;

/// Attempts of one `begin`, settlements of one `settle`.
const BATCH: usize = 1_000;
/// Alerts of one of them, unless a single SMS has more: so that an urgent alert does not wait long for the
/// transaction before it.
const ALERTS: usize = 4_000;
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

    /// The batch to write now: the one that failed, or what has gathered, as far as `same` and the number of
    /// `alerts` allow.
    pub(super) fn batch(
        &mut self,
        now: Instant,
        alerts: impl Fn(&T) -> usize,
        same: impl Fn(&T, &T) -> bool,
    ) -> Option<Vec<T>> {
        if self.busy || now < self.next {
            return None;
        }
        if self.under_way.is_empty() {
            let first = self.gathered.first()?;
            let mut sum = 0;
            let fits = |x: &&T| {
                sum += alerts(x);
                same(first, x) && sum <= ALERTS
            };
            let n = self.gathered.iter().take(BATCH).take_while(fits).count().max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_items_and_in_alerts_and_a_large_one_goes_alone() {
        let now = Instant::now();
        let mut pipe: Pipe<usize> = Pipe::new(now);
        pipe.gathered = vec![9_000, 3_000, 1_000, 1, 2, 7];
        pipe.gathered.extend([1; 1_500]);
        let mut sizes = Vec::new();
        while let Some(batch) = pipe.batch(now, |n| *n, |_, x| *x != 7) {
            sizes.push(batch.len());
            pipe.done();
        }
        // What is of another kind than the first ends a batch, and is the first of none here.
        assert_eq!(sizes, [1, 2, 2, 1, 1_000, 500]);
    }
}
