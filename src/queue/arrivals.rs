//! How long an alert has waited at the most, by its key and a clock that nobody sets.
//!
//! An alert bears the time at which it was queued, by a wall clock that may have been wrong just then and right again
//! before anybody looked ([`super::wall`] knows only what it has seen). But keys grow: whoever has a greater key than any that
//! was there at our last look has come since, whatever time it bears. So each look remembers the greatest key, and what came
//! too late to have waited so long is not too old.
//!
//! Deliberately absent: what was there before our first look. For that, the time that it bears is all there is.

use std::collections::VecDeque;
use std::time::Duration;

/// An age is known as precisely as this part of it, so that no more looks are remembered.
const PARTS: u32 = 64;

/// The greatest keys of looks in the past.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    /// The greatest key that may have waited for the whole age; `None` before the first look.
    long: Option<i64>,
    /// Looks since, oldest first: uptime, greatest key.
    looks: VecDeque<(Duration, i64)>,
}

impl Arrivals {
    /// Looks at `uptime`, when the greatest key is `newest`. Returns the greatest key of those that may have waited longer
    /// than `age`.
    pub(super) fn look(&mut self, newest: i64, uptime: Duration, age: Duration) -> i64 {
        let mut long = *self.long.get_or_insert(newest);
        while let Some((_, key)) = self.looks.pop_front_if(|(at, _)| uptime.saturating_sub(*at) > age) {
            long = key;
        }
        self.long = Some(long);
        if self.looks.back().is_none_or(|(last, _)| uptime.saturating_sub(*last) >= age / PARTS) {
            self.looks.push_back((uptime, newest));
        }
        long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_there_first_may_be_of_any_age() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.look(7, HOUR, HOUR), 7);
        assert_eq!(arrivals.look(9, HOUR + MINUTE, HOUR), 7, "8 and 9 have come within the minute");
    }

    #[test]
    fn what_came_later_is_too_old_when_it_has_waited_for_so_long_and_not_before() {
        let mut arrivals = Arrivals::default();
        // One alert a minute; each look finds the one of its minute.
        for minute in 0..600 {
            let long = arrivals.look(i64::from(minute), MINUTE * minute, HOUR);
            assert!(long <= i64::from(minute.saturating_sub(61)).max(0), "{long} in minute {minute}");
            assert!(long >= i64::from(minute.saturating_sub(63)), "{long} in minute {minute}");
        }
    }

    #[test]
    fn so_many_looks_are_remembered_and_no_more() {
        let mut arrivals = Arrivals::default();
        for second in 0..100_000 {
            arrivals.look(1, Duration::from_secs(second), HOUR);
            assert!(arrivals.looks.len() <= PARTS as usize + 2);
        }
        arrivals.look(2, Duration::MAX, Duration::ZERO);
        assert_eq!(arrivals.look(i64::MIN, Duration::ZERO, Duration::MAX), 1, "nothing makes it panic");
    }
}
