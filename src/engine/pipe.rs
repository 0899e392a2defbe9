//! What is to be written to the queue, gathered into batches: the group commit.

use std::time::Duration;

use tokio::time::Instant;

use super::sizes::Sizes;
use super::slow::SlowLane;
use crate::seeded::{Bug, bug};

/// First and longest pause between attempts to reach a queue that does not answer.
pub(super) const QUEUE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Things refused one by one, with nothing written between them, after which it is the verb that is refused (rights,
/// a schema) and not the thing: then the rest waits as for a queue that does not answer.
const REFUSED_IN_A_ROW: u32 = 2;

/// Which of the two ways into the queue a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// With all that had gathered.
    Main,
    /// Alone, since it could not be written before.
    Slow,
}

/// Things to be written in batches, one batch at a time, each repeated until it is certain. A batch that something in
/// it spoils is asked for again by halves, until that stands alone.
pub(super) struct Pipe<T> {
    pub(super) gathered: Vec<T>,
    pub(super) under_way: Vec<T>,
    pub(super) busy: bool,
    next: Instant,
    pause: Duration,
    /// Among so many of the first that have gathered is one that spoils its batch.
    suspects: usize,
    refused_in_a_row: u32,
    pub(super) slow: SlowLane<T>,
}

impl<T: Clone> Pipe<T> {
    pub(super) fn new(now: Instant) -> Self {
        Pipe {
            gathered: Vec::new(),
            under_way: Vec::new(),
            busy: false,
            next: now,
            pause: QUEUE_PAUSE.0,
            suspects: 0,
            refused_in_a_row: 0,
            slow: SlowLane::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.under_way.is_empty() && self.slow.is_empty()
    }

    /// The batch to write now: the one that failed, or what has gathered, as far as `same`, the sizes and the number of
    /// `alerts` allow.
    pub(super) fn batch(
        &mut self,
        now: Instant,
        sizes: &Sizes,
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
                same(first, x) && sum <= sizes.batch_alerts
            };
            self.suspects = self.suspects.min(self.gathered.len());
            let most = match self.suspects {
                0 => sizes.batch,
                suspects => suspects.div_ceil(2),
            };
            let n = self.gathered.iter().take(most).take_while(fits).count().max(1);
            self.under_way = self.gathered.drain(..n).collect();
        }
        self.busy = true;
        Some(self.under_way.clone())
    }

    /// The batch was answered for certain.
    pub(super) fn done(&mut self) {
        self.busy = false;
        self.pause = QUEUE_PAUSE.0;
        self.refused_in_a_row = 0;
        self.suspects = self.suspects.saturating_sub(self.under_way.len());
        self.under_way.clear();
    }

    /// The queue did not answer: the same batch again, after a pause.
    pub(super) fn failed(&mut self, now: Instant) {
        self.busy = false;
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(QUEUE_PAUSE.1);
    }

    /// Something in the batch spoils it: again by halves, at once. Returns what stands alone.
    pub(super) fn halve(&mut self, now: Instant) -> Option<T> {
        if bug(Bug::PoisonStopsAll) {
            self.failed(now);
            return None;
        }
        self.busy = false;
        let mut batch = std::mem::take(&mut self.under_way);
        if batch.len() <= 1 {
            self.suspects = 0;
            return batch.pop();
        }
        self.suspects = batch.len();
        self.gathered.splice(..0, batch);
        None
    }

    /// This one was refused, and stood alone. Returns it if that is its own fault; else it is the verb that is refused,
    /// and all that has gathered waits, this one last.
    pub(super) fn refused_alone(&mut self, what: T, now: Instant) -> Option<T> {
        self.refused_in_a_row += 1;
        if self.refused_in_a_row <= REFUSED_IN_A_ROW {
            return Some(what);
        }
        self.gathered.push(what);
        self.failed(now);
        None
    }

    /// Takes out what the queue is not being asked to write at this moment.
    pub(super) fn take_idle(&mut self) -> Vec<T> {
        let mut idle = std::mem::take(&mut self.gathered);
        if !self.busy {
            idle.append(&mut self.under_way);
        }
        idle.extend(self.slow.drain());
        idle
    }

    /// Keeps of what the queue is not being asked to write at this moment only this.
    pub(super) fn retain_idle(&mut self, keep: impl Fn(&T) -> bool) {
        self.gathered.retain(&keep);
        if !self.busy {
            self.under_way.retain(&keep);
        }
        self.slow.retain(&keep);
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        let main = !self.busy && (!self.gathered.is_empty() || !self.under_way.is_empty());
        [main.then_some(self.next), self.slow.wake()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_items_and_in_alerts_and_a_large_one_goes_alone() {
        let (now, s) = (Instant::now(), Sizes::default());
        let mut pipe: Pipe<usize> = Pipe::new(now);
        pipe.gathered = vec![9_000, 3_000, 1_000, 1, 2, 7];
        pipe.gathered.extend([1; 1_500]);
        let mut sizes = Vec::new();
        while let Some(batch) = pipe.batch(now, &s, |n| *n, |_, x| *x != 7) {
            sizes.push(batch.len());
            pipe.done();
        }
        // What is of another kind than the first ends a batch, and is the first of none here.
        assert_eq!(sizes, [1, 2, 2, 1, 1_000, 500]);
    }

    #[test]
    fn what_spoils_a_batch_stands_alone_after_few_calls_and_all_else_is_written() {
        let (now, s) = (Instant::now(), Sizes::default());
        for bad in [&[0][..], &[15], &[6, 7], &[3, 9, 20]] {
            let mut pipe: Pipe<usize> = Pipe::new(now);
            pipe.gathered = (0..32).collect();
            let (mut alone, mut written, mut calls) = (Vec::new(), Vec::new(), 0);
            while let Some(batch) = pipe.batch(now, &s, |_| 1, |_, _| true) {
                calls += 1;
                if batch.iter().any(|n| bad.contains(n)) {
                    alone.extend(pipe.halve(now));
                } else {
                    written.extend(batch);
                    pipe.done();
                }
            }
            written.sort_unstable();
            assert_eq!(alone, bad);
            assert_eq!(written, (0..32).filter(|n| !bad.contains(n)).collect::<Vec<_>>());
            assert!(calls <= 1 + 12 * bad.len(), "{calls} calls for {bad:?}");
        }
    }

    #[test]
    fn a_verb_that_is_refused_for_all_is_asked_again_after_a_pause() {
        let (mut now, s) = (Instant::now(), Sizes::default());
        let mut pipe: Pipe<usize> = Pipe::new(now);
        pipe.gathered = (0..100).collect();
        let (start, mut calls, mut lone) = (now, 0, 0);
        while now < start + Duration::from_secs(60) {
            while pipe.batch(now, &s, |_| 1, |_, _| true).is_some() {
                calls += 1;
                if let Some(alone) = pipe.halve(now) {
                    lone += usize::from(pipe.refused_alone(alone, now).is_some());
                }
            }
            now = pipe.wake().unwrap();
        }
        assert_eq!((lone, pipe.gathered.len()), (2, 98));
        assert!(calls < 400, "{calls} calls in a minute");
    }
}
