//! The engine's state and every decision that it takes; no I/O, no clock, not async.
//!
//! It is told what happened (`learn`, `begun`, `submitted`, `settled`, …) and when; what is to be done then
//! stands in its [`Outbox`]. So the same decisions run in the daemon, under paused time and in simulation; and they
//! are the same each time, since nothing is ever decided by the order of a hash table.
//!
//! A recipient is idle or busy. Busy means that one SMS of its is on its way:
//!
//! ```text
//!   idle ── start ──▶ begin ──▶ submit ──▶ settle ──▶ idle
//!                       ▲                    │
//!                       └──── failover ──────┘
//! ```

mod answer;
mod copies;
mod doubt;
mod job;
mod past;
mod recipient;
mod share;
mod stage;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use self::copies::Copies;
use self::doubt::{Doubted, doubt_of};
use self::job::{Job, Next};
use self::recipient::Recipient;
pub use self::share::Covered;
use self::stage::Stage;
use super::outcome::{self, Blame, Exhausted};
use super::policy::Policy;
use super::retry;
use super::sizes::Sizes;
use super::waiting::{Turn, Waiting, Window};
use crate::alert::{Alert, AlertId, Phone, Reason, Severity, Verdict};
use crate::compose::{Shape, compose_sparing};
use crate::config::{LimitAction, OnUnknown, Overflow};
use crate::dispatch::{Class, Receipt, Sms, SubmitError};
use crate::failover::{Cause, Change, Choice, Failover, State, WayConfig, WayId};
use crate::queue::{AttemptState, Doubt, NewAttempt, Peers, Settlement};
use crate::seeded::{Bug, bug};
use crate::sms::measure;
use crate::telemetry::{Event, Why};

/// How long a submit may outlast its time limit before the engine stops waiting for it.
pub const SUBMIT_MARGIN: Duration = Duration::from_secs(1);

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To be written before they are made.
    pub begins: Vec<NewAttempt>,
    /// To be made.
    pub submits: Vec<Submit>,
    /// To be written, each by the instance that began it.
    pub settlements: Vec<(Uuid, Settlement)>,
    /// To be probed.
    pub probes: Vec<WayId>,
    /// To be told.
    pub events: Vec<Event>,
    /// The queue holds more than was known: look again soon.
    pub look_soon: bool,
    /// What others work on too is next: look at once at what still waits.
    pub look_now: bool,
    /// The daemon is to stop, for this reason.
    pub stop: Option<Stop>,
}

/// A submit to make.
#[derive(Clone, Debug)]
pub struct Submit {
    /// Through which dispatcher.
    pub way: WayId,
    /// What.
    pub sms: Sms,
}

/// Why the daemon stops by itself; what waits goes on waiting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// `retrylimitaction: shutdown`.
    #[error("{recipient} has failed {failures} times and retrylimitaction is shutdown; all alerts wait on")]
    RetryLimit {
        /// Who failed.
        recipient: Phone,
        /// How often.
        failures: u32,
    },
    /// `exit_on_permanent_error: yes`.
    #[error(
        "every dispatcher has been misconfigured for ten minutes and three probes; all alerts wait on. `smsd check --probe` \
         says what is wrong; exit_on_permanent_error: no keeps the daemon probing"
    )]
    AllMisconfigured,
}

/// The state.
pub struct Core {
    policy: Policy,
    shape: Shape,
    sizes: Sizes,
    failover: Failover,
    window: Window,
    /// Alerts were pushed out of the window since all that waits was last looked at.
    pushed_out: bool,
    /// Counts the walks through all that waits.
    walk: u64,
    /// Alerts that were let go, and of which it is remembered how often they failed ([`Recipient::let_go`]).
    let_go: usize,
    /// SMS that gave back their place although their outcome is not written.
    placeless: usize,
    recipients: HashMap<Phone, Recipient>,
    /// Idle recipients whose time has come, most urgent first.
    ready: BTreeSet<(Turn, Phone)>,
    /// Idle recipients whose time will come.
    timers: BTreeSet<(Instant, Phone)>,
    /// SMS on their way, by the attempt that is unsettled.
    jobs: HashMap<Uuid, Job>,
    /// SMS between two dispatchers.
    between: VecDeque<Job>,
    doubts: HashMap<Uuid, Doubted>,
    doubt_timers: BTreeSet<(Instant, Uuid)>,
    /// Recipients that wait only for a dispatcher to come back.
    paused: BTreeSet<Phone>,
    /// Alerts to numbers that may not be texted, so that each is told once.
    spoken_of: HashSet<AlertId>,
    /// Alerts without a usable number whose rejection is not yet written.
    rejecting: HashSet<AlertId>,
    /// Alerts in a job: a look that began before the attempt was written still shows them.
    on_their_way: HashSet<AlertId>,
    /// Alerts settled while a look was under way, which may still show them as waiting.
    settled_meanwhile: Option<HashSet<AlertId>>,
    /// SMS that were on their way when the queue came back from the past.
    past: HashSet<Uuid>,
    /// Of alerts that may have gone out.
    copies: Copies,
    owner: Uuid,
    peers: Peers,
    /// When a full look last began at the head of the queue, as far as it has ended.
    looked_at: Option<Instant>,
    draining: bool,
    all_down: bool,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    rng: fastrand::Rng,
    out: Outbox,
}

impl Core {
    /// A core that knows of nothing yet, and has no dispatchers before [`Core::reconfigure`]. `ids` makes attempt ids; `seed` the jitter.
    pub fn new(
        policy: Policy,
        shape: Shape,
        sizes: Sizes,
        ids: Box<dyn FnMut() -> Uuid + Send>,
        seed: u64,
        now: Instant,
    ) -> Core {
        Core {
            policy,
            shape,
            sizes,
            failover: Failover::new(Vec::new(), now),
            window: Window::new(sizes),
            pushed_out: false,
            walk: 0,
            let_go: 0,
            placeless: 0,
            recipients: HashMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            jobs: HashMap::new(),
            between: VecDeque::new(),
            doubts: HashMap::new(),
            doubt_timers: BTreeSet::new(),
            paused: BTreeSet::new(),
            spoken_of: HashSet::new(),
            rejecting: HashSet::new(),
            on_their_way: HashSet::new(),
            settled_meanwhile: None,
            past: HashSet::new(),
            copies: Copies::default(),
            owner: Uuid::nil(),
            peers: Peers::default(),
            looked_at: None,
            draining: false,
            all_down: false,
            ids,
            rng: fastrand::Rng::with_seed(seed),
            out: Outbox::default(),
        }
    }

    /// Takes a new configuration; what is on its way goes on. Returns the dispatchers' places in order.
    pub fn reconfigure(
        &mut self,
        policy: Policy,
        shape: Shape,
        ways: Vec<WayConfig>,
        now: Instant,
    ) -> Vec<WayId> {
        self.policy = policy;
        self.shape = shape;
        self.spoken_of.clear();
        self.wake_paused(now);
        let phones: BTreeSet<Phone> = self.recipients.keys().cloned().collect();
        let order = self.failover.reconfigure(ways, now);
        for phone in phones {
            self.refresh(&phone, now);
        }
        order
    }

    /// These dispatchers were built anew.
    pub fn rebuilt(&mut self, ways: &[WayId], now: Instant) {
        ways.iter().for_each(|way| self.failover.rebuilt(*way, now));
    }

    /// Is this dispatcher not configured any more, and has it ended what it had on its way?
    pub fn is_over(&self, way: WayId) -> bool {
        self.failover.is_over(way)
    }

    /// An id for an attempt or an instance.
    pub fn new_id(&mut self) -> Uuid {
        (self.ids)()
    }

    /// Which instance begins attempts from now on.
    pub fn joined(&mut self, owner: Uuid) {
        self.owner = owner;
    }

    /// From now on nothing new is begun.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        for job in std::mem::take(&mut self.between) {
            self.give_back(job, now);
        }
    }

    /// True if nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.out.settlements.is_empty()
    }

    /// Who began this attempt, if it is on its way.
    pub fn owner_of(&self, attempt: Uuid) -> Option<Uuid> {
        self.jobs.get(&attempt).map(|job| job.owner)
    }

    /// SMS on their way.
    pub fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Does it have room to know more of what waits?
    pub fn has_room(&self) -> bool {
        self.window.has_room_for(self.sizes.walk_room)
    }

    /// What it has pushed out could be known again: the window is half empty.
    pub fn misses(&self) -> bool {
        self.pushed_out && self.window.is_half_empty()
    }

    /// All that waits is looked at from its beginning.
    pub fn walking(&mut self) {
        self.pushed_out = false;
        self.walk += 1;
    }

    /// All that waits has been looked at.
    pub fn walked(&mut self, now: Instant) {
        let stale = |r: &Recipient| !r.let_go.is_empty() && r.let_go_in < self.walk;
        let mut phones: Vec<Phone> =
            self.recipients.iter().filter(|(_, r)| stale(r)).map(|(phone, _)| phone.clone()).collect();
        phones.sort_unstable();
        for phone in phones {
            // The walk has not seen what was let go: it waits no more.
            if let Some(recipient) = self.recipients.get_mut(&phone) {
                self.let_go -= recipient.let_go.len();
                recipient.let_go.clear();
            }
            self.refresh(&phone, now);
        }
    }

    /// Of these, how many are of people who can be served now or soon?
    pub fn servable(&self, alerts: &[Alert], now: Instant) -> usize {
        let rests = |alert: &&Alert| {
            let phone = Phone::parse(&alert.phone).ok();
            phone.and_then(|phone| self.recipients.get(&phone)).is_some_and(|r| r.rests(&self.policy, now))
        };
        alerts.len() - alerts.iter().filter(rests).count()
    }

    /// The dispatchers' states, by priority.
    pub fn ways(&self, now: Instant) -> Vec<(Arc<str>, State)> {
        self.failover
            .order()
            .iter()
            .map(|id| (self.failover.config(*id).name.clone(), self.failover.state(*id, now)))
            .collect()
    }

    /// Takes what there is to do.
    pub fn take_out(&mut self) -> Outbox {
        std::mem::take(&mut self.out)
    }

    /// When, by itself, there will be something to do.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let doubt = self.doubt_timers.first().map(|(at, _)| *at);
        [timer, doubt, self.failover.next_wake(now)].into_iter().flatten().min()
    }

    // -- what happened -----------------------------------------------------------------------

    /// A look at the queue begins now; its answer goes to `learn`.
    pub fn looking(&mut self) {
        self.settled_meanwhile = Some(HashSet::new());
    }

    /// The queue holds these. What is known already is passed over.
    pub fn learn(&mut self, alerts: Vec<Alert>, now: Instant) {
        let mut touched = BTreeSet::new();
        // Of recipients of whom nothing is known: how often they failed by their own fault, and when last.
        let mut failed: HashMap<Phone, (u32, Option<Reverse<Duration>>)> = HashMap::new();
        for alert in alerts {
            if self.settled_meanwhile.as_ref().is_some_and(|ids| ids.contains(&alert.id)) {
                continue;
            }
            self.copies.learn(alert.id, &alert.tried.copies, now);
            if self.window.contains(alert.id) || self.on_their_way.contains(&alert.id) {
                continue;
            }
            match Phone::parse(&alert.phone) {
                Err(error) => self.reject_number(&alert, &error.to_string()),
                Ok(phone) if !self.policy.permits(&phone) => self.bar(&alert, phone),
                Ok(phone) => {
                    // Who wants the daemon to stop at the limit judges by himself, and begins anew with it. Of several
                    // instances each counts what it has proved: one may not know that another has served the number.
                    let counts = self.policy.retrylimitaction == LimitAction::Ignore && self.is_alone();
                    let before = if counts { alert.tried.failures } else { 0 };
                    if before > 0 && !self.recipients.contains_key(&phone) {
                        let last = failed.entry(phone.clone()).or_insert((0, None));
                        *last = (*last).max((before, alert.tried.failed.map(Reverse)));
                    }
                    let (attempts, failures) = self.remembered(&phone, alert.id);
                    let (attempts, failures) = (attempts.max(alert.tried.attempts), failures.max(before));
                    let waiting = Waiting { alert, learned: now, attempts, failures };
                    if self.window.insert(phone.clone(), waiting) {
                        touched.insert(phone);
                    }
                }
            }
        }
        self.settled_meanwhile = None;
        for phone in touched {
            if let Some((failures, Some(Reverse(ago)))) = failed.remove(&phone) {
                self.go_on_backing_off(&phone, failures, ago, now);
            }
            self.refresh(&phone, now);
        }
        self.trim(now);
    }

    /// Pushes out of the window what is too much.
    fn trim(&mut self, now: Instant) {
        let mut touched = BTreeSet::new();
        for (phone, waiting) in self.window.trim() {
            self.pushed_out = true;
            self.let_go(&phone, &waiting);
            touched.insert(phone);
        }
        for phone in touched {
            self.refresh(&phone, now);
        }
    }

    /// These are no longer waiting, or were changed by others.
    pub fn forget(&mut self, ids: &[AlertId], now: Instant) {
        for id in ids {
            if let Some(phone) = self.window.remove(*id) {
                self.refresh(&phone, now);
            }
        }
    }

    /// Attempts in doubt that we are to resolve; those that are known are passed over.
    pub fn learn_doubts(&mut self, doubts: Vec<Doubt>, now: Instant) {
        self.drop_decided(&doubts, now);
        for doubt in doubts {
            if self.doubts.contains_key(&doubt.id) || self.jobs.contains_key(&doubt.id) {
                continue;
            }
            if self.jobs.values().any(|job| job.resend_of == Some(doubt.id)) {
                continue;
            }
            let way = self.way_named(&doubt.dispatcher);
            self.doubt(doubt, way, now);
        }
    }

    /// `begin` wrote the batch `asked` for `owner`, who now owns `owned`. Without `may_send`, or if we have joined
    /// anew since, the lease under which they were written ran out: they are not submitted after all.
    pub fn begun(&mut self, owner: Uuid, asked: &[Uuid], owned: &[Uuid], may_send: bool, now: Instant) {
        let owned: HashSet<&Uuid> = owned.iter().collect();
        let mut outrun = 0;
        for id in asked {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            if !job.stage.advance(Stage::Planned, Stage::Begun) && !bug(Bug::SubmitBeforeBegin) {
                continue;
            }
            if owned.contains(id) || bug(Bug::UnownedSubmitted) {
                job.owner = owner;
                if std::mem::take(&mut job.placeless) {
                    self.placeless -= 1;
                    self.failover.taken(job.way, now);
                }
                let recipient = self.recipients.get_mut(&job.recipient);
                if let Some(recipient) = recipient {
                    recipient.unbegun_until = None;
                }
                match self.jobs.get(id).map(|job| job.way) {
                    Some(_) if bug(Bug::SubmitBeforeBegin) => {}
                    Some(_) if !may_send || owner != self.owner => {
                        self.abandon(*id, "the lease ran out first")
                    }
                    Some(way) if self.failover.is_closed(way, now) => {
                        self.abandon(*id, "its dispatcher was gone first")
                    }
                    Some(_) => self.submit(*id, now),
                    None => {}
                }
            } else if self.past.contains(id) {
                self.not_begun(std::slice::from_ref(id), now);
            } else if let Some(job) = self.end(*id) {
                self.failover.released(job.way);
                let recipient = job.recipient.clone();
                match job.resend_of {
                    None if bug(Bug::UnownedTriedAgain) => self.give_back(job, now),
                    Some(old) => self.doubt_again(old, job, now),
                    // Another instance has them, or they were changed under us: the next look tells.
                    None => outrun += 1,
                }
                self.free(&recipient, now);
            }
        }
        if outrun > 0 {
            self.outrun(outrun, now);
        }
    }

    /// `begin` wrote nothing of this batch, for certain.
    pub fn not_begun(&mut self, asked: &[Uuid], now: Instant) {
        for id in asked {
            let planned = self.jobs.get(id).is_some_and(|job| job.stage <= Stage::Begun);
            if !planned && !bug(Bug::SettleErrorSendsAgain) && !bug(Bug::SubmitBeforeBegin) {
                continue;
            }
            if self.past.contains(id) {
                if let Some(job) = self.jobs.get(id) {
                    self.failover.released(job.way);
                }
                self.is_past(*id, now);
            } else if let Some(job) = self.end(*id) {
                self.failover.released(job.way);
                self.give_back(job, now);
            }
        }
    }

    /// A submit came to its end.
    pub fn submitted(
        &mut self,
        attempt: Uuid,
        result: Result<Receipt, SubmitError>,
        took: Duration,
        now: Instant,
    ) {
        let Some(mut job) = self.jobs.remove(&attempt) else { return };
        if !job.stage.advance(Stage::Submitted, Stage::Settling) {
            self.jobs.insert(attempt, job);
            return;
        }
        self.failover.submit_ended(job.way);
        let result = result.or_else(|error| match error.class {
            Class::Rejected if bug(Bug::RefusedIsAccepted) => Ok(Receipt::default()),
            Class::Unknown if bug(Bug::SilenceIsRefusal) => {
                Err(SubmitError { class: Class::Unavailable, ..error })
            }
            _ => Err(error),
        });
        match result {
            Ok(receipt) => self.accepted(attempt, &mut job, receipt, took, now),
            Err(error) if error.class == Class::Unknown => {
                self.in_doubt(attempt, &mut job, &error, took, now)
            }
            Err(error) => self.refused(attempt, &mut job, &error, took, now),
        }
        self.jobs.insert(attempt, job);
        self.note_outage();
    }

    /// The attempt's outcome is written. `superseded`: it was no longer ours to close.
    pub fn settled(&mut self, attempt: Uuid, superseded: bool, now: Instant) {
        if self.is_past(attempt, now) {
            return;
        }
        let Some(mut job) = self.end(attempt) else { return };
        if superseded {
            self.out.events.push(Event::Superseded { attempt, recipient: job.recipient.clone() });
            self.out.look_soon = true;
            return self.free(&job.recipient, now);
        }
        match job.next {
            Next::Failover if !self.draining => {
                job.resend_of = None;
                self.between.push_back(job);
            }
            Next::Failover => self.give_back(job, now),
            Next::Return(how) => self.give_back_after(job, how, now),
            Next::Doubt => {
                let (way, recipient) = (job.way, job.recipient.clone());
                self.doubt(doubt_of(attempt, job, &self.failover), Some(way), now);
                self.free(&recipient, now);
            }
            Next::Done | Next::Pending => self.free(&job.recipient, now),
        }
    }

    /// The end of alerts that never had an attempt is written.
    pub fn settled_beside(&mut self, ids: &[AlertId]) {
        for id in ids {
            self.rejecting.remove(id);
            if let Some(meanwhile) = &mut self.settled_meanwhile {
                meanwhile.insert(*id);
            }
        }
    }

    /// A probe came to its end.
    pub fn probed(&mut self, way: WayId, result: Result<(), SubmitError>, now: Instant) {
        let reason = result.as_ref().err().map(|error| error.detail.clone());
        let result = result.map_err(|error| match error.class {
            Class::Misconfigured => Cause::Misconfigured,
            _ => Cause::Trouble,
        });
        let good = result.is_ok();
        let change = self.failover.probed(way, result, now);
        self.tell(change, reason);
        if good {
            self.wake_paused(now);
        }
        self.note_outage();
    }

    /// Decides what is to be done at this moment. Without `may_send` (no good lease, no queue) nothing new is begun.
    pub fn step(&mut self, may_send: bool, now: Instant) {
        while let Some((at, phone)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.refresh(&phone, now);
        }
        while let Some((at, id)) = self.doubt_timers.first().copied() {
            if at > now {
                break;
            }
            self.doubt_is_due(id, now);
        }
        self.out.probes.extend(self.failover.probes(now));
        self.stop_for_good(now);
        if may_send && !self.draining && self.out.stop.is_none() {
            self.fail_over(now);
            self.start_ready(now);
        }
    }
}
