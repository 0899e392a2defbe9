//! How often the text of an alert may have gone out, and when that is often enough for now.
//!
//! A gateway that sends and answers 500 is asked again, since it may as well not have sent. Each such answer is one more copy
//! that the phone may show, so they are bounded per alert, whatever the gateway does and however short `delay` is.
//!
//! What an earlier process or another instance has seen is learned with the alert, from the ledger
//! ([`crate::alert::Tried::copies`]).

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::alert::AlertId;
use crate::seeded::{Bug, bug};

/// So many copies may go out within such a time.
const BOUNDS: [(usize, Duration); 2] = [(5, Duration::from_secs(600)), (10, HOUR)];
const HOUR: Duration = Duration::from_secs(3600);
/// From so many alerts on, those whose copies are all older than an hour are forgotten now and then.
const MANY: usize = 1024;

/// When copies of alerts may have gone out.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The last ones of each alert, oldest first.
    by_alert: HashMap<AlertId, Vec<Instant>>,
    /// At so many alerts the old ones are forgotten.
    sweep_at: usize,
}

impl Copies {
    /// One more may have gone out. Returns how many there were within the hour.
    pub(super) fn add(&mut self, id: AlertId, now: Instant) -> usize {
        if self.by_alert.len() >= self.sweep_at.max(MANY) {
            self.by_alert.retain(|_, times| times.last().is_some_and(|at| now.duration_since(*at) < HOUR));
            self.sweep_at = 2 * self.by_alert.len();
        }
        let times = self.by_alert.entry(id).or_default();
        times.push(now);
        let most = BOUNDS.iter().map(|(most, _)| *most).max().unwrap_or(0);
        times.drain(..times.len().saturating_sub(most));
        self.of(id, now)
    }

    /// The ledger knows of these, as long ago, the oldest first. Whatever is known better is kept.
    pub(super) fn learn(&mut self, id: AlertId, ages: &[Duration], now: Instant) {
        if ages.len() > self.of(id, now) && !bug(Bug::CopiesForgotten) {
            self.by_alert.insert(id, ages.iter().map(|age| now.checked_sub(*age).unwrap_or(now)).collect());
        }
    }

    /// It has ended, or a person has made it wait again.
    pub(super) fn forget(&mut self, id: AlertId) {
        self.by_alert.remove(&id);
    }

    /// How many may have gone out within the hour.
    pub(super) fn of(&self, id: AlertId, now: Instant) -> usize {
        let times = self.by_alert.get(&id);
        times.map_or(0, |times| times.iter().filter(|at| now.duration_since(**at) < HOUR).count())
    }

    /// Until when no more may go out; `None` if one may now.
    pub(super) fn full_until(&self, id: AlertId, now: Instant) -> Option<Instant> {
        let times = self.by_alert.get(&id).filter(|_| !bug(Bug::CopiesWithoutBound))?;
        let until = |(most, within): (usize, Duration)| {
            let first = times.len().checked_sub(most)?;
            times.get(first).map(|at| *at + within)
        };
        BOUNDS.into_iter().filter_map(until).max().filter(|until| *until > now)
    }

    /// True if no alert may have gone out.
    pub(super) fn is_empty(&self) -> bool {
        self.by_alert.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_in_ten_minutes_and_ten_in_an_hour_and_no_more() {
        let (mut copies, start, id) = (Copies::default(), Instant::now(), AlertId(1));
        let mut went: Vec<u64> = Vec::new();
        for second in 0..2 * 3600 {
            let now = start + Duration::from_secs(second);
            if copies.full_until(id, now).is_none() {
                assert_eq!(copies.add(id, now).min(10), copies.of(id, now));
                went.push(second);
            }
        }
        let within = |span: u64| {
            let most = |from: &u64| went.iter().filter(|at| (*from..from + span).contains(at)).count();
            went.iter().map(most).max()
        };
        assert_eq!((within(600), within(3600)), (Some(5), Some(10)));
        assert_eq!(went[..11], [0, 1, 2, 3, 4, 600, 601, 602, 603, 604, 3600]);
    }

    #[test]
    fn alerts_whose_copies_are_old_take_no_memory() {
        let (mut copies, start) = (Copies::default(), Instant::now());
        for n in 0..50_000 {
            copies.add(AlertId(n), start + Duration::from_secs(n.unsigned_abs() * 10));
        }
        assert!(copies.by_alert.len() <= 3 * MANY, "{}", copies.by_alert.len());
        copies.forget(AlertId(49_999));
        assert_eq!(copies.of(AlertId(49_999), start), 0);
    }
}
