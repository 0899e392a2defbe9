//! How old something is by a wall clock that may have been set meanwhile.
//!
//! An alert bears the time at which it was queued, by the wall clock of then. If that clock jumps ahead by ten years,
//! everything that waits looks ten years old, and `autocancel` would throw it away. So we remember, by a clock that
//! nobody sets, what the wall clock has shown since we started, and believe whichever setting makes something
//! youngest: too long waiting costs an SMS that nobody needs, too short an alert. A setting by which it has not
//! happened yet has nothing to say of it; but what seems to happen within the next minute ([`SLACK`]) has just happened,
//! since two clocks are never read at one moment, nor do those who queue have the same.
//!
//! Deliberately absent: what the clock showed before we started. Nobody can tell whether it was right then, or is now.

use std::time::Duration;

/// A smaller step is a clock that is being put right, and changes no age by much.
const JUMP: i64 = 2_000_000;
/// Settings that are remembered.
const MOST: usize = 16;
/// By how much a setting is known too little, and clocks of those who queue may differ from the queue's. In microseconds.
pub(super) const SLACK: i64 = 60_000_000;

/// What the wall clock has shown. All times are microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Wall {
    /// Wall clock minus uptime, by setting; the last one holds.
    settings: Vec<i64>,
}

impl Wall {
    /// Both clocks were read at one moment.
    pub(super) fn see(&mut self, wall: i64, uptime: i64) {
        let now = wall.saturating_sub(uptime);
        if self.settings.last().is_none_or(|last| now.abs_diff(*last) >= JUMP.unsigned_abs()) {
            // One that was there before comes last again.
            self.settings.retain(|old| now.abs_diff(*old) >= JUMP.unsigned_abs());
            self.settings.push(now);
            if self.settings.len() > MOST {
                self.settings.remove(0);
            }
        }
    }

    /// How far the clock now is ahead of each of its earlier settings.
    pub(super) fn ahead(&self) -> Vec<i64> {
        let Some((now, earlier)) = self.settings.split_last() else { return Vec::new() };
        earlier.iter().map(|old| now.saturating_sub(*old)).collect()
    }

    /// How old what happened at `then` is at the least, while the clock shows `now`.
    pub(super) fn age(&self, then: i64, now: i64) -> Duration {
        let by = |ahead: i64| {
            let age = now.saturating_sub(ahead).saturating_sub(then);
            if age < -SLACK { None } else { Some(age.max(0).unsigned_abs()) }
        };
        let ages = self.ahead().into_iter().chain([0]).filter_map(by);
        Duration::from_micros(ages.min().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const HOUR: i64 = 60 * MINUTE;
    const YEARS: i64 = 10 * 365 * 24 * HOUR;

    /// A clock that was set while the minutes went by.
    struct Story {
        wall: Wall,
        uptime: i64,
        set: i64,
    }

    impl Story {
        fn begin() -> Story {
            let mut story = Story { wall: Wall::default(), uptime: HOUR, set: 5 * YEARS };
            story.pass(0);
            story
        }
        fn pass(&mut self, time: i64) -> i64 {
            self.uptime += time;
            self.wall.see(self.now(), self.uptime);
            self.now()
        }
        fn jump(&mut self, by: i64) {
            self.set += by;
            self.pass(0);
        }
        fn now(&self) -> i64 {
            self.set + self.uptime
        }
        fn minutes(&self, then: i64) -> u64 {
            self.wall.age(then, self.now()).as_secs() / 60
        }
    }

    #[test]
    fn without_a_jump_it_is_what_the_clock_says() {
        let mut story = Story::begin();
        let then = story.now();
        story.pass(90 * MINUTE);
        assert_eq!(story.minutes(then), 90);
        assert_eq!(story.minutes(then + YEARS), 0, "what is to come has no age");
        assert_eq!(story.minutes(then - YEARS) as i64, YEARS / MINUTE + 90, "from before our start");
        assert_eq!(Wall::default().age(5, 8), Duration::from_micros(3));
    }

    #[test]
    fn a_jump_makes_nothing_older() {
        for by in [HOUR, -HOUR, YEARS, -YEARS] {
            let mut story = Story::begin();
            let before = story.now();
            story.pass(5 * MINUTE);
            story.jump(by);
            let after = story.now();
            story.pass(7 * MINUTE);
            assert!(story.minutes(before) <= 12, "{by}: {}", story.minutes(before));
            assert!(story.minutes(after) <= 7, "{by}: {}", story.minutes(after));
            story.pass(3 * HOUR);
            // In time all of it grows old; what came after the jump later by at most the jump.
            assert!(story.minutes(before) >= 120, "{by}: {}", story.minutes(before));
            assert!(story.minutes(after) >= 120, "{by}: {}", story.minutes(after));
        }
    }

    #[test]
    fn a_clock_set_again_and_again_makes_nothing_older() {
        let mut story = Story::begin();
        let mut queued = Vec::new();
        for by in [HOUR, HOUR, -YEARS, 2 * YEARS, -HOUR, -YEARS] {
            queued.push((story.now(), story.uptime));
            story.pass(MINUTE);
            story.jump(by);
        }
        story.pass(MINUTE);
        for (then, uptime) in queued {
            let true_age = ((story.uptime - uptime) / MINUTE) as u64;
            assert!(story.minutes(then) <= true_age, "{} for {true_age}", story.minutes(then));
        }
    }

    /// The wall clock is read first, and then, later by what a busy machine takes for it, the other.
    #[test]
    fn what_was_queued_this_moment_is_young_however_late_the_clocks_were_read() {
        let mut wall = Wall::default();
        let (set, read_late) = (5 * YEARS, 1_500_000);
        wall.see(set, read_late);
        wall.see(set + YEARS + MINUTE, MINUTE);
        for ago in [0, 1_000, read_late, MINUTE] {
            let age = wall.age(set + MINUTE - ago, set + YEARS + MINUTE);
            assert!(age <= Duration::from_micros(ago.unsigned_abs()), "{ago} us ago: {age:?}");
        }
        let tomorrow = set + 24 * HOUR;
        assert!(
            wall.age(tomorrow, set + YEARS + MINUTE) > Duration::from_secs(86_400),
            "it has not happened"
        );
    }

    #[test]
    fn it_remembers_so_many_settings_and_no_drift() {
        let mut wall = Wall::default();
        for n in 0..1_000 {
            wall.see(n * 1_000, 0);
        }
        assert!(wall.ahead().is_empty());
        for n in 0..100 {
            wall.see(n * HOUR, 0);
        }
        assert_eq!(wall.ahead().len(), MOST - 1);
        wall.see(i64::MIN, i64::MAX);
        wall.see(i64::MAX, i64::MIN);
        assert_eq!(wall.age(i64::MIN, i64::MAX), Duration::from_micros(i64::MAX.unsigned_abs()));
    }
}
