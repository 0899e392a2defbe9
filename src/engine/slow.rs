//! The slow lane: what can not be written although the queue writes everything else.
//!
//! A row that somebody holds locked, or that the database will not have, fails the whole batch that it stands in. Once it
//! stands alone it comes here, and is tried by itself, beside the batches of all others.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// First and longest pause between two tries of one thing.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Things that are tried one at a time, each after a pause of its own.
#[derive(Debug)]
pub(super) struct SlowLane<T> {
    waiting: VecDeque<Stuck<T>>,
    under_way: Option<Stuck<T>>,
}

#[derive(Debug)]
struct Stuck<T> {
    what: T,
    next: Instant,
    pause: Duration,
}

impl<T> Default for SlowLane<T> {
    fn default() -> Self {
        SlowLane { waiting: VecDeque::new(), under_way: None }
    }
}

impl<T: Clone> SlowLane<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// It has failed alone.
    pub(super) fn add(&mut self, what: T, now: Instant) {
        self.waiting.push_back(Stuck { what, next: now + PAUSE.0, pause: PAUSE.0 });
    }

    /// What is to be tried now.
    pub(super) fn next(&mut self, now: Instant) -> Option<T> {
        if self.under_way.is_some() {
            return None;
        }
        let due = self.waiting.iter().position(|stuck| stuck.next <= now)?;
        self.under_way = self.waiting.remove(due);
        self.under_way.as_ref().map(|stuck| stuck.what.clone())
    }

    /// The try was answered for certain. What was in its way may have been in the way of the others.
    pub(super) fn done(&mut self, now: Instant) {
        self.under_way = None;
        self.waiting.iter_mut().for_each(|stuck| stuck.next = now);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        if let Some(mut stuck) = self.under_way.take() {
            stuck.pause = (stuck.pause * 2).min(PAUSE.1);
            stuck.next = now + stuck.pause;
            self.waiting.push_back(stuck);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|stuck| keep(&stuck.what));
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).map(|stuck| stuck.what)
    }

    pub(super) fn wake(&self) -> Option<Instant> {
        let next = self.waiting.iter().map(|stuck| stuck.next).min();
        next.filter(|_| self.under_way.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_its_own_pause_and_the_first_that_succeeds_wakes_the_others() {
        let now = Instant::now();
        let at = |secs| now + Duration::from_secs(secs);
        let mut lane = SlowLane::default();
        lane.add("a", now);
        lane.add("b", at(1));
        assert_eq!((lane.next(now), lane.wake()), (None, Some(at(1))));
        assert_eq!(
            (lane.next(at(1)), lane.next(at(9)), lane.wake()),
            (Some("a"), None, None),
            "one at a time"
        );
        lane.failed(at(1));
        assert_eq!(lane.wake(), Some(at(2)), "b");
        assert_eq!(lane.next(at(2)), Some("b"));
        lane.failed(at(2));
        assert_eq!(lane.wake(), Some(at(3)), "a, after twice the pause");
        for (secs, what) in [(3, "a"), (4, "b"), (7, "a")] {
            assert_eq!(lane.next(at(secs)), Some(what));
            lane.failed(at(secs));
        }
        assert_eq!(lane.next(at(8)), Some("b"));
        lane.done(at(8));
        assert_eq!(lane.wake(), Some(at(8)), "a need not wait until 15");
    }
}
