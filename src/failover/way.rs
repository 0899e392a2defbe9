//! The state of one dispatcher.
//!
//! ```text
//!            5 in a row, or 5 different                    the pause is over
//!            recipients refused             ┌──────────┐
//!   Up ────────────────────────────────────▶│   Down   │───────────────▶ Probing
//!    ▲                                      └──────────┘◀── the probe failed ─┤
//!    │                                           ▲                            │
//!    └── the SMS was taken (slow start) ── Trial ┘ the SMS was not            │
//!                                            ▲────── the probe was good ──────┘
//! ```
//!
//! The pause is 1 s at first and doubles to at most 60 s; a dispatcher that needs a person is probed every 10 minutes.

use std::time::Duration;

use tokio::time::Instant;

use super::rate::Bucket;
use super::{MISCONFIGURED_PAUSE, STALL, STREAK, WayConfig};
use crate::alert::{AlertId, Phone};
use crate::seeded::{Bug, bug};

const MOST_BREADTH: usize = 128 * STREAK;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Submits at once after a return; each success doubles it.
const SLOW_START: usize = 2;

/// One dispatcher.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) config: WayConfig,
    pub(super) health: Health,
    pub(super) successes: u64,
    bucket: Bucket,
    throttled_until: Option<Instant>,
    /// SMS that are meant for it and not settled yet: each holds a place, from before its attempt is written until its
    /// outcome is. So this is what a crash can leave in doubt.
    on_their_way: usize,
    /// Of those, the SMS that it has been given and has not answered.
    submitting: usize,
    /// Places: `concurrency`, or fewer in a slow start.
    room: usize,
    /// The last time that it gave any answer, or that it had nothing to answer.
    answered_at: Instant,
    /// Failures in a row that were its own fault.
    failures: usize,
    /// How many different recipients refused in a row are its own fault: [`STREAK`], and more while it keeps coming
    /// back and refusing as many again, which is what one does that does not know many of our numbers.
    breadth: usize,
    /// Its successes when it was last taken out of rotation for refusals.
    refused_at: Option<u64>,
    /// Different recipients that failed or were refused in a row, with the alerts given up for it.
    refusals: Vec<(Phone, Vec<AlertId>)>,
}

/// Whether it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    Down { until: Instant, pause: Duration, cause: Cause },
    Probing { pause: Duration, cause: Cause },
    Trial { pause: Duration, cause: Cause, busy: bool },
}

/// Why a dispatcher is out of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It can not be reached, or fails.
    Trouble,
    /// It refuses everybody.
    Refusals,
    /// It needs a person: login, address, credit, SIM.
    Misconfigured,
}

/// What people are told of a dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In use.
    Up,
    /// Out of rotation.
    Down(Cause),
    /// Left alone at its own wish.
    Throttled,
}

pub(super) enum Admission {
    Yes,
    NoRoom,
    No,
}

impl Way {
    pub(super) fn new(config: WayConfig, now: Instant) -> Way {
        Way {
            health: Health::Up,
            successes: 0,
            bucket: Bucket::new(config.rate, now),
            throttled_until: None,
            on_their_way: 0,
            submitting: 0,
            room: config.concurrency,
            answered_at: now,
            failures: 0,
            breadth: STREAK,
            refused_at: None,
            refusals: Vec::new(),
            config,
        }
    }

    /// What stays as it was goes on where it is: its rate, its slow start, its pause. One that needs a person is
    /// probed at once all the same, since whoever reloads may be that person.
    pub(super) fn reconfigure(&mut self, config: WayConfig, now: Instant) {
        if config.rate != self.config.rate {
            self.bucket = Bucket::new(config.rate, now);
        }
        let is_full_size = self.room >= self.config.concurrency;
        self.room = if is_full_size { config.concurrency } else { self.room.min(config.concurrency) };
        self.config = config;
        if self.cause() == Some(Cause::Misconfigured) {
            self.rebuilt(now);
        }
    }

    /// What was changed may be what was wrong: a dispatcher that is down is probed at once.
    pub(super) fn rebuilt(&mut self, now: Instant) {
        if let Health::Down { pause, cause, .. } = self.health {
            self.health = Health::Down { until: now, pause, cause };
        }
    }

    /// True if nothing is on its way through it.
    pub(super) fn is_idle(&self) -> bool {
        self.on_their_way == 0 && self.submitting == 0
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn admits(&self, now: Instant) -> Admission {
        if self.is_throttled(now) {
            return Admission::No;
        }
        match self.health {
            Health::Down { .. } | Health::Probing { .. } => Admission::No,
            // Others are used while the one trial is under way.
            Health::Trial { busy: true, .. } => Admission::No,
            Health::Trial { busy: false, .. } => Admission::Yes,
            Health::Up if self.is_stalled(now) => Admission::No,
            // However slowly outcomes are written, a crash leaves only so much in doubt.
            Health::Up if self.on_their_way >= self.room => Admission::NoRoom,
            Health::Up if self.bucket.wait(now).is_some() => Admission::NoRoom,
            Health::Up => Admission::Yes,
        }
    }

    pub(super) fn taken(&mut self, now: Instant) {
        self.on_their_way += 1;
        self.bucket.take(now);
        if let Health::Trial { busy, .. } = &mut self.health {
            *busy = true;
        }
    }

    pub(super) fn settled(&mut self) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
    }

    pub(super) fn submit_begins(&mut self, now: Instant) {
        if self.submitting == 0 {
            self.answered_at = now;
        }
        self.submitting += 1;
    }

    pub(super) fn submit_ended(&mut self) {
        self.submitting = self.submitting.saturating_sub(1);
    }

    pub(super) fn released(&mut self) {
        if let Health::Trial { busy, .. } = &mut self.health {
            *busy = false;
        }
    }

    /// True if that brought it back.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        self.answered(now);
        self.successes += 1;
        self.failures = 0;
        self.breadth = STREAK.max(self.breadth - 1);
        self.refusals.clear();
        self.throttled_until = None;
        self.room = (self.room * 2).min(self.config.concurrency);
        let back = self.health != Health::Up;
        if back {
            self.health = Health::Up;
            self.room = SLOW_START.min(self.config.concurrency);
        }
        back
    }

    /// True if that took it out of rotation.
    pub(super) fn troubled(&mut self, recipient: &Phone, now: Instant) -> bool {
        self.answered(now);
        self.failures += 1;
        self.count(recipient, &[]);
        let tripped = self.failures >= STREAK || self.refusals.len() >= self.breadth;
        self.fail(tripped, Cause::Trouble, now)
    }

    /// True if that took it out of rotation.
    pub(super) fn refused(&mut self, recipient: &Phone, given_up: &[AlertId], now: Instant) -> bool {
        self.answered(now);
        if matches!(self.health, Health::Trial { cause: Cause::Trouble | Cause::Misconfigured, .. }) {
            // It was down and answers again; what it thinks of this recipient is another matter.
            self.health = Health::Up;
            self.room = SLOW_START.min(self.config.concurrency);
            self.failures = 0;
        }
        self.count(recipient, given_up);
        let tripped = self.fail(self.refusals.len() >= self.breadth, Cause::Refusals, now);
        if tripped {
            let has_served_since = self.refused_at.is_some_and(|then| then < self.successes);
            if has_served_since && !bug(Bug::RefusalsNeverLearnt) {
                self.breadth = (self.breadth * 2).min(MOST_BREADTH);
            }
            self.refused_at = Some(self.successes);
        }
        tripped
    }

    pub(super) fn refusal_is_its_own(&self, recipient: &Phone) -> bool {
        let known = self.refusals.iter().any(|(phone, _)| phone == recipient);
        self.refusals.len() + usize::from(!known) >= self.breadth
            || matches!(self.health, Health::Trial { cause: Cause::Refusals, .. })
            || matches!(self.health, Health::Down { .. } | Health::Probing { .. })
    }

    pub(super) fn answered(&mut self, now: Instant) {
        self.released();
        self.answered_at = now;
    }

    pub(super) fn throttled(&mut self, retry_after: Duration, now: Instant) {
        self.answered(now);
        if let Health::Trial { .. } = self.health {
            self.health = Health::Up;
            self.room = SLOW_START.min(self.config.concurrency);
        }
        self.throttled_until = Some(now + retry_after);
    }

    /// True if that is news.
    pub(super) fn misconfigured(&mut self, now: Instant) -> bool {
        self.answered(now);
        let news = self.cause() != Some(Cause::Misconfigured);
        self.health = Health::Down {
            until: now + MISCONFIGURED_PAUSE,
            pause: MISCONFIGURED_PAUSE,
            cause: Cause::Misconfigured,
        };
        news
    }

    pub(super) fn start_probe(&mut self, now: Instant) -> bool {
        let Health::Down { until, pause, cause } = self.health else { return false };
        let due = now >= until;
        if due {
            self.health = Health::Probing { pause, cause };
        }
        due
    }

    pub(super) fn probed(&mut self, result: Result<(), Cause>, now: Instant) {
        let Health::Probing { pause, cause } = self.health else { return };
        self.health = match result {
            Ok(()) if bug(Bug::BreakerNeverCloses) => down(pause, cause, now),
            Ok(()) => Health::Trial { pause, cause, busy: false },
            Err(cause) => down(longer(pause, cause), cause, now),
        };
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.health, Health::Down { .. } | Health::Probing { .. })
    }

    pub(super) fn is_on_trial(&self) -> bool {
        matches!(self.health, Health::Trial { .. })
    }

    /// Never true of one that [`Way::admits`] an SMS, or SMS would go round in circles.
    pub(super) fn is_closed(&self, now: Instant) -> bool {
        self.is_down() || self.is_stalled(now) || self.is_throttled(now)
    }

    fn is_throttled(&self, now: Instant) -> bool {
        self.throttled_until.is_some_and(|until| now < until)
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        match self.health {
            Health::Up => None,
            Health::Down { cause, .. } | Health::Probing { cause, .. } | Health::Trial { cause, .. } => {
                Some(cause)
            }
        }
    }

    pub(super) fn state(&self, now: Instant) -> State {
        match self.cause() {
            Some(cause) => State::Down(cause),
            None if self.is_throttled(now) => State::Throttled,
            None => State::Up,
        }
    }

    pub(super) fn take_wronged(&mut self) -> Vec<AlertId> {
        self.refusals.iter_mut().flat_map(|(_, ids)| std::mem::take(ids)).collect()
    }

    /// The keys of alerts mean nothing any more.
    pub(super) fn forget_alerts(&mut self) {
        self.refusals.iter_mut().for_each(|(_, given_up)| given_up.clear());
    }

    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let health = match self.health {
            Health::Down { until, .. } => Some(until),
            Health::Up if self.submitting >= self.room && !self.is_stalled(now) => {
                Some(self.answered_at + STALL)
            }
            Health::Up => self.bucket.wait(now),
            Health::Probing { .. } | Health::Trial { .. } => None,
        };
        let throttle = self.throttled_until.filter(|until| *until > now);
        [health, throttle].into_iter().flatten().min()
    }

    /// It is in use, full, and has answered nothing for a while.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.health == Health::Up
            && self.submitting >= self.room
            && now.duration_since(self.answered_at) >= STALL
    }

    fn count(&mut self, recipient: &Phone, given_up: &[AlertId]) {
        let room = self.refusals.len() < self.breadth;
        match self.refusals.iter_mut().find(|(phone, _)| phone == recipient) {
            Some((_, ids)) => ids.extend(given_up),
            None if room => self.refusals.push((recipient.clone(), given_up.to_vec())),
            None => {}
        }
    }

    fn fail(&mut self, tripped: bool, cause: Cause, now: Instant) -> bool {
        match self.health {
            Health::Trial { pause, cause: old, .. } => {
                self.health = down(longer(pause, old), old, now);
                false
            }
            Health::Up if tripped => {
                self.health = down(FIRST_PAUSE, cause, now);
                true
            }
            _ => false,
        }
    }
}

fn down(pause: Duration, cause: Cause, now: Instant) -> Health {
    Health::Down { until: now + pause, pause, cause }
}

fn longer(pause: Duration, cause: Cause) -> Duration {
    match cause {
        Cause::Misconfigured => MISCONFIGURED_PAUSE,
        Cause::Trouble | Cause::Refusals => (pause * 2).min(LONGEST_PAUSE),
    }
}
