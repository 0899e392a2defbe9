//! How each dispatcher did in the last day, in quarters of an hour: for small charts. Pure.
//!
//! What happened before this daemon was started comes from the ledger, once; from then on the events tell it. It is a
//! picture, not the account: that is `smsd queue audit`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::Event;
use crate::queue::Period;

/// How long a bucket is.
pub const STEP: Duration = Duration::from_secs(900);
/// A day of them.
pub const BUCKETS: usize = 96;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct History {
    rings: Vec<Ring>,
}

/// How a dispatcher did, bucket by bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Course {
    /// Its name.
    pub dispatcher: Arc<str>,
    /// The last [`BUCKETS`], oldest first; the last one is not over yet.
    pub buckets: Vec<Bucket>,
}

/// What happened within one [`STEP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// When it began.
    pub from: Timestamp,
    /// SMS accepted.
    pub accepted: u64,
    /// Attempts that ended otherwise.
    pub failed: u64,
    /// How long the accepted ones took, in all, in milliseconds.
    pub accepted_millis: u64,
    /// How long the slowest of them took, in milliseconds; 0 for what was before this daemon.
    pub slowest_millis: u64,
}

impl Bucket {
    /// Milliseconds that an accepted SMS took on average, if there was one.
    pub fn mean_millis(&self) -> Option<u64> {
        self.accepted_millis.checked_div(self.accepted)
    }

    /// The share of attempts that were accepted, if there was one.
    pub fn success(&self) -> Option<f64> {
        let all = self.accepted + self.failed;
        (all > 0).then(|| self.accepted as f64 / all as f64)
    }
}

/// The last buckets of one dispatcher, each at its number modulo [`BUCKETS`].
#[derive(Clone, Debug)]
struct Ring {
    dispatcher: Arc<str>,
    slots: Vec<Slot>,
}

/// One bucket, with its number since 1970.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: i64,
    accepted: u64,
    failed: u64,
    accepted_millis: u64,
    slowest_millis: u64,
}

impl History {
    /// Of these dispatchers, from now on; one that keeps its name keeps its past.
    pub fn use_dispatchers(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        let mut known = std::mem::take(&mut self.rings);
        for dispatcher in names {
            let old =
                known.iter().position(|ring| ring.dispatcher == dispatcher).map(|n| known.swap_remove(n));
            let new = || Ring { dispatcher, slots: vec![Slot::default(); BUCKETS] };
            self.rings.push(old.unwrap_or_else(new));
        }
    }

    /// Learns how an attempt ended.
    pub fn learn(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::Accepted { dispatcher, took, .. } => {
                let millis = took.as_millis().try_into().unwrap_or(u64::MAX);
                if let Some(slot) = self.slot(dispatcher, number(now)) {
                    slot.accepted += 1;
                    slot.accepted_millis = slot.accepted_millis.saturating_add(millis);
                    slot.slowest_millis = slot.slowest_millis.max(millis);
                }
            }
            Event::Refused { dispatcher, .. } | Event::Doubtful { dispatcher, .. } => {
                if let Some(slot) = self.slot(dispatcher, number(now)) {
                    slot.failed += 1;
                }
            }
            _ => {}
        }
    }

    /// Learns what the ledger knows. What both know is not counted twice: the larger figure stands.
    pub fn seed(&mut self, periods: &[Period]) {
        for period in periods {
            if let Some(slot) = self.slot(&period.dispatcher, number(period.from)) {
                slot.accepted = slot.accepted.max(period.accepted);
                slot.failed = slot.failed.max(period.failed);
                slot.accepted_millis = slot.accepted_millis.max(period.accepted_millis);
            }
        }
    }

    /// The last day, in the order of the dispatchers.
    pub fn last_day(&self, now: Timestamp) -> Vec<Course> {
        let last = number(now);
        let first = last - BUCKETS as i64 + 1;
        let course = |ring: &Ring| Course {
            dispatcher: Arc::clone(&ring.dispatcher),
            buckets: (first..=last).map(|n| ring.bucket(n)).collect(),
        };
        self.rings.iter().map(course).collect()
    }

    /// The bucket with that number, empty if it stood for an older one; `None` if a newer one stands there.
    fn slot(&mut self, dispatcher: &str, number: i64) -> Option<&mut Slot> {
        let ring = self.rings.iter_mut().find(|ring| &*ring.dispatcher == dispatcher)?;
        let slot = ring.slots.get_mut(place(number))?;
        if slot.number < number {
            *slot = Slot { number, ..Slot::default() };
        }
        (slot.number == number).then_some(slot)
    }
}

impl Ring {
    fn bucket(&self, number: i64) -> Bucket {
        let slot = self.slots.get(place(number)).filter(|slot| slot.number == number);
        let Slot { accepted, failed, accepted_millis, slowest_millis, .. } =
            slot.copied().unwrap_or_default();
        let seconds = number.saturating_mul(STEP.as_secs() as i64);
        let from = Timestamp::from_second(seconds).unwrap_or_default();
        Bucket { from, accepted, failed, accepted_millis, slowest_millis }
    }
}

fn number(t: Timestamp) -> i64 {
    t.as_second().div_euclid(STEP.as_secs() as i64)
}

fn place(number: i64) -> usize {
    number.rem_euclid(BUCKETS as i64) as usize
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::alert::Phone;
    use crate::dispatch::{Class, SubmitError};

    fn at(bucket: i64, seconds: i64) -> Timestamp {
        Timestamp::from_second((1_700_000_000 / 900 + bucket) * 900 + seconds).unwrap()
    }

    fn accepted(dispatcher: &str, millis: u64) -> Event {
        Event::Accepted {
            attempt: Uuid::nil(),
            recipient: Phone::parse("112").unwrap(),
            dispatcher: dispatcher.into(),
            alerts: 1,
            squeezed: 0,
            segments: 1,
            number: 1,
            possible_duplicate: false,
            references: vec![],
            queued_at: vec![],
            took: Duration::from_millis(millis),
        }
    }

    fn refused(dispatcher: &str) -> Event {
        Event::Refused {
            attempt: Uuid::nil(),
            recipient: Phone::parse("112").unwrap(),
            dispatcher: dispatcher.into(),
            number: 1,
            error: SubmitError::new(Class::Unavailable, "no"),
            took: Duration::ZERO,
        }
    }

    fn history() -> History {
        let mut history = History::default();
        history.use_dispatchers(["a".into(), "b".into()]);
        history
    }

    fn figures(history: &History, dispatcher: usize, now: Timestamp) -> Vec<(usize, u64, u64, u64, u64)> {
        let course = history.last_day(now).remove(dispatcher);
        assert_eq!(course.buckets.len(), BUCKETS);
        assert!(course.buckets.windows(2).all(|w| w[1].from.as_second() - w[0].from.as_second() == 900));
        let one = |(n, b): (usize, &Bucket)| (n, b.accepted, b.failed, b.accepted_millis, b.slowest_millis);
        course.buckets.iter().enumerate().map(one).filter(|b| b.1 + b.2 > 0).collect()
    }

    #[test]
    fn a_day_is_kept_and_what_is_older_goes() {
        let mut history = history();
        history.learn(&accepted("a", 30), at(0, 0));
        history.learn(&accepted("a", 10), at(0, 899));
        history.learn(&refused("a"), at(1, 0));
        history.learn(&accepted("b", 5), at(1, 0));
        history.learn(&accepted("nobody", 5), at(1, 0));
        assert_eq!(figures(&history, 0, at(1, 5)), [(94, 2, 0, 40, 30), (95, 0, 1, 0, 0)]);
        assert_eq!(figures(&history, 1, at(1, 5)), [(95, 1, 0, 5, 5)]);
        assert_eq!(figures(&history, 0, at(95, 0)), [(0, 2, 0, 40, 30), (1, 0, 1, 0, 0)]);
        assert_eq!(figures(&history, 0, at(96, 0)), [(0, 0, 1, 0, 0)]);
        history.learn(&accepted("a", 7), at(96, 0));
        history.learn(&accepted("a", 7), at(0, 0));
        assert_eq!(figures(&history, 0, at(96, 0)), [(0, 0, 1, 0, 0), (95, 1, 0, 7, 7)], "a clock set back");
        assert_eq!(history.last_day(at(96, 1))[0].buckets[95].from, at(96, 0));
    }

    #[test]
    fn what_the_ledger_and_the_events_both_know_counts_once() {
        let period = |bucket, accepted, failed| Period {
            from: at(bucket, 0),
            dispatcher: "a".to_owned(),
            accepted,
            failed,
            accepted_millis: accepted * 10,
        };
        let mut history = history();
        history.learn(&accepted("a", 10), at(5, 0));
        history.learn(&refused("a"), at(5, 0));
        history.seed(&[period(3, 7, 1), period(5, 4, 0)]);
        history.learn(&accepted("a", 10), at(5, 9));
        assert_eq!(figures(&history, 0, at(5, 9)), [(93, 7, 1, 70, 0), (95, 5, 1, 50, 10)]);
    }

    #[test]
    fn after_a_reload_a_name_keeps_its_past() {
        let mut history = history();
        history.learn(&accepted("b", 1), at(0, 0));
        history.use_dispatchers(["b".into(), "c".into()]);
        let names: Vec<_> = history.last_day(at(0, 0)).into_iter().map(|c| c.dispatcher).collect();
        assert_eq!(names, ["b".into(), "c".into()] as [Arc<str>; 2]);
        assert_eq!(figures(&history, 0, at(0, 0)).len(), 1);
        let bucket = history.last_day(at(0, 0))[0].buckets[95];
        assert_eq!((bucket.mean_millis(), bucket.success()), (Some(1), Some(1.0)));
    }
}
