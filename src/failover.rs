//! Which way out an SMS takes: order of priority, health, rate and room.
//!
//! Pure: it is told what happened and when, and answers which dispatcher is next. It submits nothing,
//! probes nothing and reads no clock. A dispatcher that only has no room is waited for; one that is down,
//! throttled or stuck is passed over. Whose fault a failure is, the engine decides ([`crate::engine`]);
//! here stands what follows from it for the dispatcher.

mod rate;
mod way;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::alert::Phone;
use crate::seeded::{Bug, bug};
use way::Way;
pub use way::{Cause, State};

/// One dispatcher as failover knows it.
#[derive(Clone, Debug)]
pub struct WayConfig {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Submits at once.
    pub concurrency: usize,
    /// Submits per second.
    pub rate: Option<f64>,
    /// Longest time for one submit.
    pub timeout: Duration,
    /// How long an attempt through it stays in doubt before it is resent.
    pub grace: Duration,
    /// For how long its gateway does not send an SMS again under the same [`Sms::key`](crate::dispatch::Sms::key); 0 if
    /// it heeds no key.
    pub remembers: Duration,
}

/// A dispatcher's place in [`Failover`]; stays valid, and means the same dispatcher, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WayId(usize);

/// What [`Failover::choose`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This one, now.
    Take(WayId),
    /// One that works has no room at this moment: wait for it.
    Busy,
    /// None of those that are left works.
    Down,
}

/// A change of a dispatcher's state that people should hear of, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It works again.
    Up(WayId),
    /// It is out of rotation.
    Down {
        /// Which.
        way: WayId,
        /// Why.
        cause: Cause,
    },
}

/// All dispatchers and their state.
#[derive(Debug)]
pub struct Failover {
    /// Never shortened, so that a [`WayId`] stays good over a change of configuration.
    ways: Vec<Way>,
    /// Those in use, by priority.
    order: Vec<WayId>,
}

impl Failover {
    /// Dispatchers in order of priority.
    pub fn new(configs: Vec<WayConfig>, now: Instant) -> Failover {
        let mut failover = Failover { ways: Vec::new(), order: Vec::new() };
        failover.reconfigure(configs, now);
        failover
    }

    /// Takes a new configuration. A dispatcher that keeps its name keeps its state; one that is gone ends
    /// what it has in flight. Returns their places in the order given. Which of them were built anew says
    /// [`Failover::rebuilt`].
    pub fn reconfigure(&mut self, configs: Vec<WayConfig>, now: Instant) -> Vec<WayId> {
        let mut order = Vec::with_capacity(configs.len());
        for config in configs {
            let known = self.order.iter().copied().find(|id| self.ways[id.0].name() == &*config.name);
            let id = known.unwrap_or(WayId(self.ways.len()));
            match self.ways.get_mut(id.0) {
                Some(way) => way.reconfigure(config, now),
                None => self.ways.push(Way::new(config, now)),
            }
            order.push(id);
        }
        self.order.clone_from(&order);
        order
    }

    /// It was built anew. What was changed may be what was wrong: if it is down, it is probed at once.
    pub fn rebuilt(&mut self, id: WayId, now: Instant) {
        self.ways[id.0].rebuilt(now);
    }

    /// Is it not in use any more, and has it ended what it had on its way?
    pub fn is_over(&self, id: WayId) -> bool {
        !self.order.contains(&id) && self.ways[id.0].is_idle()
    }

    /// Those in use, by priority.
    pub fn order(&self) -> &[WayId] {
        &self.order
    }

    /// Its configuration.
    pub fn config(&self, id: WayId) -> &WayConfig {
        &self.ways[id.0].config
    }

    /// The first dispatcher in order, other than those in `tried`, that an SMS can take now.
    pub fn choose(&self, tried: &[WayId], now: Instant) -> Choice {
        for &id in self.order.iter().filter(|id| !tried.contains(id)) {
            match self.ways[id.0].admits(now) {
                _ if bug(Bug::StallWaitedFor) && self.ways[id.0].is_stalled(now) => return Choice::Busy,
                way::Admission::Yes => return Choice::Take(id),
                way::Admission::NoRoom => return Choice::Busy,
                way::Admission::No => {}
            }
        }
        Choice::Down
    }

    /// Is the next SMS one that decides whether its dispatcher works again? Then this is why that was down.
    pub fn has_only_a_trial(&self, now: Instant) -> Option<Cause> {
        match self.choose(&[], now) {
            Choice::Take(id) if self.ways[id.0].is_on_trial() => self.ways[id.0].cause(),
            _ => None,
        }
    }

    /// Is the next SMS that it is given the one that decides whether it works again?
    pub fn is_on_trial(&self, id: WayId) -> bool {
        self.ways[id.0].is_on_trial()
    }

    /// An SMS is meant for it: a place is taken until [`Failover::settled`].
    pub fn taken(&mut self, id: WayId, now: Instant) {
        self.ways[id.0].taken(now);
    }

    /// The SMS was not submitted after all.
    pub fn released(&mut self, id: WayId) {
        self.ways[id.0].released();
    }

    /// The outcome of an SMS that was `taken` is written, or it never was begun.
    pub fn settled(&mut self, id: WayId) {
        self.ways[id.0].settled();
    }

    /// It is given an SMS now.
    pub fn submit_begins(&mut self, id: WayId, now: Instant) {
        self.ways[id.0].submit_begins(now);
    }

    /// It has answered, or is waited for no longer.
    pub fn submit_ended(&mut self, id: WayId) {
        self.ways[id.0].submit_ended();
    }

    /// Is it of no use to give it what was meant for it? It is down, throttled or stuck.
    pub fn is_closed(&self, id: WayId, now: Instant) -> bool {
        self.ways[id.0].is_closed(now)
    }

    /// How many SMS it has accepted: the measure of breadth, free of clocks.
    pub fn successes(&self, id: WayId) -> u64 {
        self.ways[id.0].successes
    }

    /// It accepted an SMS.
    pub fn succeeded(&mut self, id: WayId, now: Instant) -> Option<Change> {
        self.ways[id.0].succeeded(now).then_some(Change::Up(id))
    }

    /// It did not take the SMS, or did not say, and the fault is its own.
    pub fn troubled(&mut self, id: WayId, now: Instant) -> Option<Change> {
        if bug(Bug::BreakerNeverOpens) {
            self.ways[id.0].answered(now);
            return None;
        }
        self.ways[id.0].troubled(now).then(|| self.down(id))
    }

    /// It refused this recipient's SMS. Two different numbers refused in a row make it suspect.
    pub fn refused(&mut self, id: WayId, recipient: &Phone, now: Instant) -> Option<Change> {
        self.ways[id.0].refused(recipient, Cause::Refusals, now).then(|| self.down(id))
    }

    /// It said of this recipient's SMS that it needs a person. By itself that is a refusal like any other, since
    /// one number's country may be what the account is not good for; a probe is to tell more.
    pub fn misconfigured(&mut self, id: WayId, recipient: &Phone, now: Instant) -> Option<Change> {
        self.ways[id.0].refused(recipient, Cause::Misconfigured, now).then(|| self.down(id))
    }

    /// This recipient waits, and no dispatcher is in rotation: suspect ones that have not refused it are probed soon.
    pub fn hurry(&mut self, recipient: &Phone) {
        for id in &self.order {
            self.ways[id.0].hurry(recipient);
        }
    }

    /// Would refusing this recipient now be the dispatcher's own fault, by breadth?
    pub fn refusal_is_its_own(&self, id: WayId, recipient: &Phone) -> bool {
        self.ways[id.0].refusal_is_its_own(recipient)
    }

    /// It failed with this recipient through no fault of its own: it lives, and that is all that it says.
    pub fn answered(&mut self, id: WayId, now: Instant) {
        self.ways[id.0].answered(now);
    }

    /// It asked to be left alone for a while.
    pub fn throttled(&mut self, id: WayId, retry_after: Duration, now: Instant) {
        self.ways[id.0].throttled(retry_after, now);
    }

    /// Dispatchers to be probed now; each is marked as being probed.
    pub fn probes(&mut self, now: Instant) -> Vec<WayId> {
        self.order.iter().copied().filter(|id| self.ways[id.0].start_probe(now)).collect()
    }

    /// How a probe ended: well, badly for now, or badly until someone acts.
    pub fn probed(&mut self, id: WayId, result: Result<(), Cause>, now: Instant) -> Option<Change> {
        self.ways[id.0].probed(result, now).then(|| self.down(id))
    }

    /// True if no dispatcher works. One on trial has not proved yet that it does.
    pub fn all_down(&self) -> bool {
        self.order.iter().all(|id| self.ways[id.0].cause().is_some())
    }

    /// True if no dispatcher works, and none is on trial.
    pub fn all_given_up(&self) -> bool {
        self.order.iter().all(|id| self.ways[id.0].is_down())
    }

    /// True if every dispatcher has needed a person for [`MISCONFIGURED_FOR`] and [`MISCONFIGURED_PROBES`] probes, without a
    /// break.
    pub fn all_misconfigured_for_good(&self, now: Instant) -> bool {
        !self.order.is_empty() && self.order.iter().all(|id| self.ways[id.0].is_misconfigured_for_good(now))
    }

    /// What people are told of it.
    pub fn state(&self, id: WayId, now: Instant) -> State {
        self.ways[id.0].state(now)
    }

    /// When, by itself, something may change.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        self.order.iter().filter_map(|id| self.ways[id.0].next_wake(now)).min()
    }

    fn down(&self, way: WayId) -> Change {
        Change::Down { way, cause: self.ways[way.0].cause().unwrap_or(Cause::Trouble) }
    }
}

/// How long a dispatcher that needs a person is left alone before each next probe. The first pauses are short, since what
/// looks like that may be a gateway that is being deployed, or a rate limit answered by 402.
pub const MISCONFIGURED_PAUSES: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
    Duration::from_secs(600),
];

/// For how long, and ([`MISCONFIGURED_PROBES`]) in spite of how many probes, every dispatcher needs a person before
/// `exit_on_permanent_error` ends the daemon.
pub const MISCONFIGURED_FOR: Duration = Duration::from_secs(600);

/// See [`MISCONFIGURED_FOR`].
pub const MISCONFIGURED_PROBES: u32 = 3;

/// How many failures in a row are the dispatcher's own fault.
pub const STREAK: usize = 5;

/// How many different numbers refused in a row, with none served between them, make a dispatcher suspect. A site has
/// one to four phones on call: a rule that needs more of them would never notice that the gateway is at fault.
pub const SUSPECT: usize = 2;

/// How long a full dispatcher may go without any answer before others are used in its place.
pub const STALL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
