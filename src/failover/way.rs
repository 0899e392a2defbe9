//! The state of one dispatcher.
//!
//! ```text
//!            5 failures in a row, or 2 different           the pause is over
//!            numbers refused in a row       ┌──────────┐
//!   Up ────────────────────────────────────▶│   Down   │───────────────▶ Probing
//!    ▲                                      └──────────┘◀── the probe failed ─┤
//!    │                                           ▲                            │
//!    └── the SMS was taken (slow start) ── Trial ┘ the SMS was not            │
//!                                            ▲────── the probe was good ──────┘
//! ```
//!
//! The pause is 1 s at first and doubles to at most 60 s; a dispatcher that needs a person is probed after 30 s, then
//! after 1, 2, 5 and each 10 minutes. A number that a suspect dispatcher has not refused yet is evidence that is worth
//! having soon: while one waits, the pause is 1 s, so that two bad numbers hold up nobody else.

use std::time::Duration;

use tokio::time::Instant;

use super::rate::Bucket;
use super::{
    MISCONFIGURED_FOR, MISCONFIGURED_PAUSES, MISCONFIGURED_PROBES, STALL, STREAK, SUSPECT, WayConfig,
};
use crate::alert::Phone;
use crate::seeded::{Bug, bug};

/// No dispatcher has to refuse more numbers in a row before it is suspect, however often it was found to be sound.
const MOST_BREADTH: usize = 512;
/// So many numbers refused in a row say enough: no further one is asked sooner than the pause has it.
const ENOUGH_REFUSED: usize = 8;
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
    /// How many different numbers refused in a row make it suspect: [`SUSPECT`], and more while it keeps coming
    /// back and refusing as many again, which is what one does that does not know many of our numbers.
    breadth: usize,
    /// Its successes when it was last taken out of rotation for refusals.
    refused_at: Option<u64>,
    /// The different numbers that it has refused since it last served one.
    refused: Vec<Phone>,
    /// It has answered one SMS as if it needed a person: a probe is to tell.
    to_confirm: bool,
    /// Since when it has needed a person without a break, and how many probes began meanwhile.
    misconfigured: Option<(Instant, u32)>,
}

/// Whether it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    Up,
    Down { since: Instant, until: Instant, pause: Duration, cause: Cause },
    Probing { pause: Duration, cause: Cause },
    Trial { pause: Duration, cause: Cause, busy: bool },
}

/// Why a dispatcher is out of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It can not be reached, or fails.
    Trouble,
    /// It has refused different numbers in a row, and served none between them.
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
            breadth: SUSPECT,
            refused_at: None,
            refused: Vec::new(),
            to_confirm: false,
            misconfigured: None,
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
        if let Health::Down { since, pause, cause, .. } = self.health {
            self.health = Health::Down { since, until: now, pause, cause };
            self.misconfigured = self.misconfigured.map(|_| (now, 0));
        }
    }

    /// A number waits that it has not refused: its answer is worth having soon.
    pub(super) fn hurry(&mut self, recipient: &Phone) {
        let Health::Down { since, until, pause, cause } = self.health else { return };
        let says_something = !self.refused.is_empty()
            && self.refused.len() < ENOUGH_REFUSED
            && !self.refused.contains(recipient);
        if says_something && !bug(Bug::NewcomersWait) {
            self.health = Health::Down { since, until: until.min(since + FIRST_PAUSE), pause, cause };
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
        self.breadth = SUSPECT.max(self.breadth - 1);
        self.refused.clear();
        self.to_confirm = false;
        self.misconfigured = None;
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
    pub(super) fn troubled(&mut self, now: Instant) -> bool {
        self.answered(now);
        self.failures += 1;
        self.misconfigured = None;
        self.fail(self.failures >= STREAK, Cause::Trouble, now)
    }

    /// It refused this number, or (`cause`) said of its SMS that it needs a person. True if that took it out of rotation.
    pub(super) fn refused(&mut self, recipient: &Phone, cause: Cause, now: Instant) -> bool {
        self.answered(now);
        let is_about_this_number = match self.health {
            Health::Trial { cause: Cause::Trouble, .. } => true,
            Health::Trial { cause: Cause::Misconfigured, .. } => cause == Cause::Refusals,
            _ => false,
        };
        if is_about_this_number {
            // It was down and answers again; what it thinks of this recipient is another matter.
            self.health = Health::Up;
            self.room = SLOW_START.min(self.config.concurrency);
            self.failures = 0;
            self.misconfigured = None;
        }
        if !self.refused.contains(recipient) && self.refused.len() < self.breadth.max(ENOUGH_REFUSED) {
            self.refused.push(recipient.clone());
        }
        self.to_confirm |= cause == Cause::Misconfigured && self.health == Health::Up;
        let tripped = self.fail(self.refused.len() >= self.breadth, cause, now);
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
        let known = self.refused.contains(recipient);
        self.refused.len() + usize::from(!known) >= self.breadth
            || matches!(self.health, Health::Trial { cause: Cause::Refusals | Cause::Misconfigured, .. })
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
            self.misconfigured = None;
        }
        self.throttled_until = Some(now + retry_after);
    }

    pub(super) fn start_probe(&mut self, now: Instant) -> bool {
        let Health::Down { until, pause, cause, .. } = self.health else {
            return self.health == Health::Up && std::mem::take(&mut self.to_confirm);
        };
        let due = now >= until;
        if due {
            self.health = Health::Probing { pause, cause };
            if let Some((_, probes)) = &mut self.misconfigured {
                *probes += 1;
            }
        }
        due
    }

    /// True if that took it out of rotation.
    pub(super) fn probed(&mut self, result: Result<(), Cause>, now: Instant) -> bool {
        let (pause, cause) = match (self.health, result) {
            (Health::Probing { pause, cause }, _) => (pause, cause),
            (Health::Up, Err(Cause::Misconfigured)) => {
                self.is_down_for(first_pause(Cause::Misconfigured), Cause::Misconfigured, now);
                return true;
            }
            _ => return false,
        };
        match result {
            Ok(()) if bug(Bug::BreakerNeverCloses) => self.is_down_for(pause, cause, now),
            Ok(()) => self.health = Health::Trial { pause, cause, busy: false },
            Err(new) => self.is_down_for(longer(pause, cause, new), new, now),
        }
        false
    }

    /// Has it needed a person for so long, without a break, and in spite of so many probes, that nobody expects it to
    /// mend itself?
    pub(super) fn is_misconfigured_for_good(&self, now: Instant) -> bool {
        self.is_down()
            && self.misconfigured.is_some_and(|(since, probes)| {
                now.duration_since(since) >= MISCONFIGURED_FOR && probes >= MISCONFIGURED_PROBES
            })
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
        let for_good = self.misconfigured.map(|(since, _)| since + MISCONFIGURED_FOR).filter(|at| *at > now);
        let confirm = (self.to_confirm && self.health == Health::Up).then_some(now);
        [health, throttle, for_good, confirm].into_iter().flatten().min()
    }

    /// It is in use, full, and has answered nothing for a while.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        self.health == Health::Up
            && self.submitting >= self.room
            && now.duration_since(self.answered_at) >= STALL
    }

    fn fail(&mut self, tripped: bool, cause: Cause, now: Instant) -> bool {
        match self.health {
            Health::Trial { pause, cause: old, .. } => {
                self.is_down_for(longer(pause, old, cause), cause, now);
                false
            }
            Health::Up if tripped => {
                self.is_down_for(first_pause(cause), cause, now);
                true
            }
            _ => false,
        }
    }

    fn is_down_for(&mut self, pause: Duration, cause: Cause, now: Instant) {
        self.health = Health::Down { since: now, until: now + pause, pause, cause };
        self.to_confirm = false;
        self.misconfigured = match cause {
            Cause::Misconfigured => self.misconfigured.or(Some((now, 0))),
            Cause::Trouble | Cause::Refusals => None,
        };
    }
}

fn first_pause(cause: Cause) -> Duration {
    match cause {
        Cause::Misconfigured => MISCONFIGURED_PAUSES[0],
        Cause::Trouble | Cause::Refusals => FIRST_PAUSE,
    }
}

/// The pause after this one, if it was down for `old` and is for `new`.
fn longer(pause: Duration, old: Cause, new: Cause) -> Duration {
    match (old, new) {
        (Cause::Misconfigured, Cause::Misconfigured) => {
            let next = MISCONFIGURED_PAUSES.into_iter().find(|next| *next > pause);
            next.unwrap_or(MISCONFIGURED_PAUSES[MISCONFIGURED_PAUSES.len() - 1])
        }
        (_, Cause::Misconfigured) | (Cause::Misconfigured, _) => first_pause(new),
        (Cause::Trouble | Cause::Refusals, Cause::Trouble | Cause::Refusals) => {
            (pause * 2).min(LONGEST_PAUSE)
        }
    }
}
