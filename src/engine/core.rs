//! The engine's state and every decision that it takes; no I/O, no clock, not async.
//!
//! It is told what happened (`learn`, `begun`, `submitted`, `settled`, …) and when; what is to be done then
//! stands in its [`Outbox`]. So the same decisions run in the daemon, under paused time and in simulation.
//!
//! A recipient is idle or busy. Busy means that one SMS of its is on its way:
//!
//! ```text
//!   idle ── start ──▶ begin ──▶ submit ──▶ settle ──▶ idle
//!                       ▲                    │
//!                       └──── failover ──────┘
//! ```

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::outcome::{self, Blame, Exhausted};
use super::policy::Policy;
use super::retry;
use super::waiting::{Turn, Waiting, Window};
use crate::alert::{Alert, AlertId, Phone, Reason, Severity, Verdict};
use crate::compose::{Shape, compose};
use crate::config::{LimitAction, OnUnknown};
use crate::dispatch::{Class, Receipt, Sms, SubmitError};
use crate::failover::{Cause, Change, Choice, Failover, State, WayConfig, WayId};
use crate::queue::{AttemptState, Doubt, NewAttempt, Settlement};
use crate::telemetry::Event;

/// How many waiting alerts the engine knows at most; the rest wait in the queue.
pub const WINDOW: usize = 20_000;

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
    /// Given up wrongly: to wait again.
    pub requeues: Vec<AlertId>,
    /// To be told.
    pub events: Vec<Event>,
    /// The queue holds more than was known: look again soon.
    pub look_soon: bool,
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
        "every dispatcher is misconfigured; all alerts wait on. `smsd check --probe` says what is wrong; \
         exit_on_permanent_error: no keeps the daemon probing"
    )]
    AllMisconfigured,
}

/// The state.
pub struct Core {
    policy: Policy,
    shape: Shape,
    failover: Failover,
    window: Window,
    recipients: HashMap<Phone, Recipient>,
    /// Idle recipients whose time has come, most urgent first.
    ready: BTreeSet<(Turn, Phone)>,
    /// Idle recipients whose time will come.
    timers: BTreeSet<(Instant, Phone)>,
    /// SMS on their way, by the attempt that is unsettled.
    jobs: HashMap<Uuid, Job>,
    /// Attempts that are written and stand in line before a dispatcher.
    lines: HashMap<WayId, VecDeque<Uuid>>,
    /// SMS between two dispatchers.
    between: VecDeque<Job>,
    doubts: HashMap<Uuid, Doubted>,
    doubt_timers: BTreeSet<(Instant, Uuid)>,
    /// Recipients that wait only for a dispatcher to come back.
    paused: HashSet<Phone>,
    /// Alerts to numbers that may not be texted, so that each is told once.
    /// (and those without a usable number, until their rejection is written).
    spoken_of: HashSet<AlertId>,
    /// Alerts in a job: a look that began before the attempt was written still shows them.
    on_their_way: HashSet<AlertId>,
    /// Alerts settled while a look was under way, which may still show them as waiting.
    settled_meanwhile: Option<HashSet<AlertId>>,
    owner: Uuid,
    draining: bool,
    all_down: bool,
    ids: Box<dyn FnMut() -> Uuid + Send>,
    rng: fastrand::Rng,
    out: Outbox,
}

#[derive(Debug, Default)]
struct Recipient {
    busy: bool,
    /// When an SMS last went out, or may have.
    last_sms: Option<Instant>,
    /// When the first of what waits became known.
    waiting_since: Option<Instant>,
    /// Failures by its own fault, in a row; and until when it waits for them.
    failures: u32,
    backoff_until: Option<Instant>,
    /// Failures by the dispatchers' fault, in a row; and until when it waits for them.
    pauses: u32,
    paused_until: Option<Instant>,
    /// Since how many of a dispatcher's successes this recipient has been failing there.
    failing: Vec<(WayId, u64)>,
    /// Attempts in doubt that are to be resent now.
    resends: Vec<Uuid>,
    ready: Option<Turn>,
    timer: Option<Instant>,
}

/// One SMS on its way.
#[derive(Debug)]
struct Job {
    recipient: Phone,
    text: Arc<str>,
    /// Known alerts, carried first; empty for a resend of what another process began.
    alerts: Vec<Waiting>,
    carried: Vec<AlertId>,
    counted: Vec<AlertId>,
    severity: Severity,
    possible_duplicate: bool,
    resend_of: Option<Uuid>,
    /// See [`Doubted::refusals`].
    resend_refusals: u32,
    number: u32,
    owner: Uuid,
    way: WayId,
    tried: Vec<WayId>,
    round: Vec<Blame>,
    next: Next,
}

/// What follows when the attempt is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It is under way.
    Pending,
    /// The SMS is done with.
    Done,
    /// Another dispatcher.
    Failover,
    /// Its alerts wait again.
    Return(Exhausted),
    /// It is in doubt: to be resolved by policy.
    Doubt,
}

/// An attempt in doubt that we resolve.
#[derive(Debug)]
struct Doubted {
    doubt: Doubt,
    /// Not by the dispatcher that fell silent, if another works.
    avoid: Option<WayId>,
    /// When it is resent at the latest.
    grace_over: Instant,
    timer: Option<Instant>,
    /// How often the queue did not let it be resent.
    refusals: u32,
}

/// How often, and how far apart, a resend is tried that the queue does not allow: the recipient may have an open
/// attempt of another instance. After that the doubt waits for a person, since its alerts have been changed.
const RESEND_TRIES: u32 = 12;
const RESEND_PAUSE: Duration = Duration::from_secs(5);

impl Core {
    /// A core that knows of nothing yet. `ids` makes attempt ids; `seed` the jitter.
    pub fn new(
        policy: Policy,
        shape: Shape,
        ways: Vec<WayConfig>,
        ids: Box<dyn FnMut() -> Uuid + Send>,
        seed: u64,
        now: Instant,
    ) -> Core {
        Core {
            policy,
            shape,
            failover: Failover::new(ways, now),
            window: Window::default(),
            recipients: HashMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            jobs: HashMap::new(),
            lines: HashMap::new(),
            between: VecDeque::new(),
            doubts: HashMap::new(),
            doubt_timers: BTreeSet::new(),
            paused: HashSet::new(),
            spoken_of: HashSet::new(),
            on_their_way: HashSet::new(),
            settled_meanwhile: None,
            owner: Uuid::nil(),
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
        let phones: Vec<Phone> = self.recipients.keys().cloned().collect();
        let order = self.failover.reconfigure(ways, now);
        for phone in phones {
            self.refresh(&phone, now);
        }
        order
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

    /// SMS on their way.
    pub fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// How many more alerts it has room to know.
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.window.len())
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
        let mut touched = HashSet::new();
        for alert in alerts {
            let known = self.window.contains(alert.id)
                || self.on_their_way.contains(&alert.id)
                || self.settled_meanwhile.as_ref().is_some_and(|ids| ids.contains(&alert.id));
            if known {
                continue;
            }
            match Phone::parse(&alert.phone) {
                Err(error) => self.reject_number(&alert, &error.to_string()),
                Ok(phone) if !self.policy.permits(&phone) => self.bar(&alert, phone),
                Ok(phone) => {
                    let waiting = Waiting { alert, attempts: 0, failures: 0 };
                    if self.window.insert(phone.clone(), waiting) {
                        touched.insert(phone);
                    }
                }
            }
        }
        self.settled_meanwhile = None;
        while self.window.len() > WINDOW {
            touched.extend(self.window.pop_last());
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

    /// `begin` wrote the batch `asked` for `owner`, who now owns `owned`. Without `may_send` (the lease ran out
    /// meanwhile) they are not submitted after all.
    pub fn begun(&mut self, owner: Uuid, asked: &[Uuid], owned: &[Uuid], may_send: bool, now: Instant) {
        let owned: HashSet<&Uuid> = owned.iter().collect();
        for id in asked {
            if owned.contains(id) {
                if let Some(job) = self.jobs.get_mut(id) {
                    job.owner = owner;
                }
                match self.jobs.get(id).map(|job| job.way) {
                    Some(way) if may_send => self.lines.entry(way).or_default().push_back(*id),
                    _ => self.abandon(*id, "the lease ran out first"),
                }
            } else if let Some(job) = self.end(*id) {
                self.failover.released(job.way);
                let recipient = job.recipient.clone();
                match job.resend_of {
                    Some(old) => self.doubt_again(old, job, now),
                    // Another instance has them, or they were changed under us: the next look tells.
                    None => self.out.look_soon = true,
                }
                self.free(&recipient, now);
            }
        }
    }

    /// `begin` wrote nothing of this batch, for certain.
    pub fn not_begun(&mut self, asked: &[Uuid], now: Instant) {
        for id in asked {
            if let Some(job) = self.end(*id) {
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
        self.failover.measured(job.way, took);
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

    /// A probe came to its end.
    pub fn probed(&mut self, way: WayId, result: Result<(), SubmitError>, now: Instant) {
        let result = result.map_err(|error| match error.class {
            Class::Misconfigured => Cause::Misconfigured,
            _ => Cause::Trouble,
        });
        let good = result.is_ok();
        self.failover.probed(way, result, now);
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
        self.advance_lines(may_send, now);
        if may_send && !self.draining && self.out.stop.is_none() {
            self.fail_over(now);
            self.start_ready(now);
        }
    }
}

// -- the way of an SMS ---------------------------------------------------------------------------

impl Core {
    /// SMS between two dispatchers go first: their people have waited longest.
    fn fail_over(&mut self, now: Instant) {
        for _ in 0..self.between.len() {
            let Some(mut job) = self.between.pop_front() else { break };
            match self.failover.choose(&job.tried, now) {
                Choice::Take(way) => {
                    job.number += 1;
                    self.begin(job, way, now);
                }
                Choice::Busy => self.between.push_back(job),
                Choice::Down => self.give_back_after(job, Exhausted::Uncounted, now),
            }
        }
    }

    fn start_ready(&mut self, now: Instant) {
        while let Some((turn, phone)) = self.ready.first().cloned() {
            let resend = self.recipients.get(&phone).and_then(|r| r.resends.first().copied());
            let avoid: Vec<WayId> = resend.and_then(|id| self.doubts.get(&id)?.avoid).into_iter().collect();
            match self.failover.choose(&avoid, now) {
                Choice::Take(way) => {
                    self.ready.remove(&(turn, phone.clone()));
                    match resend {
                        Some(id) => self.start_resend(&phone, id, way, now),
                        None => self.start_fresh(&phone, way, now),
                    }
                }
                Choice::Down if !avoid.is_empty() => {
                    // No other dispatcher works: it waits for its grace to end and takes any.
                    let id = resend.unwrap_or_default();
                    if let Some(doubted) = self.doubts.get_mut(&id) {
                        doubted.avoid = None;
                    }
                    if let Some(recipient) = self.recipients.get_mut(&phone) {
                        recipient.resends.retain(|r| *r != id);
                    }
                    self.time_doubt(id, now);
                    self.refresh(&phone, now);
                }
                Choice::Down if resend.is_none() && self.outages_count() => self.count_outage(&phone, now),
                Choice::Busy | Choice::Down => break,
            }
        }
    }

    /// With `retrylimitaction: shutdown`, an outage of all dispatchers counts too.
    fn outages_count(&self) -> bool {
        self.policy.retrylimitaction == LimitAction::Shutdown && self.failover.all_given_up()
    }

    /// A failure of a recipient's alerts without an attempt: there is nobody to make it.
    fn count_outage(&mut self, phone: &Phone, now: Instant) {
        for mut w in self.window.take(phone) {
            w.failures += 1;
            if self.policy.retrylimit > 0 && w.failures >= self.policy.retrylimit {
                self.shut_down(phone);
            }
            self.window.insert(phone.clone(), w);
        }
        self.back_off(phone, now);
        self.refresh(phone, now);
    }

    fn start_fresh(&mut self, phone: &Phone, way: WayId, now: Instant) {
        let mut waiting = self.window.take(phone);
        let pieces: Vec<(AlertId, &str)> = waiting.iter().map(|w| (w.alert.id, &*w.alert.text)).collect();
        let composed = compose(&pieces, &self.shape);
        let Some(recipient) = self.recipients.get_mut(phone) else { return };
        recipient.ready = None;
        recipient.waiting_since = None;
        let left: HashSet<AlertId> = composed.left.iter().copied().collect();
        if !left.is_empty() {
            recipient.waiting_since = Some(now);
            for w in waiting.extract_if(.., |w| left.contains(&w.alert.id)) {
                self.window.insert(phone.clone(), w);
            }
        }
        let Some(severity) = waiting.iter().map(|w| w.alert.severity).min() else { return };
        let job = Job {
            recipient: phone.clone(),
            text: composed.text.into(),
            severity,
            possible_duplicate: waiting.iter().any(|w| w.alert.maybe_sent),
            resend_of: None,
            resend_refusals: 0,
            number: 1 + waiting.iter().map(|w| w.attempts).max().unwrap_or(0),
            owner: self.owner,
            carried: composed.sent,
            counted: composed.ignored,
            alerts: waiting,
            way,
            tried: Vec::new(),
            round: Vec::new(),
            next: Next::Pending,
        };
        self.begin(job, way, now);
    }

    fn start_resend(&mut self, phone: &Phone, id: Uuid, way: WayId, now: Instant) {
        if let Some(recipient) = self.recipients.get_mut(phone) {
            recipient.ready = None;
            recipient.resends.retain(|r| *r != id);
        }
        let Some(Doubted { doubt, refusals, .. }) = self.doubts.remove(&id) else {
            return self.refresh(phone, now);
        };
        let job = Job {
            recipient: doubt.recipient,
            text: doubt.text,
            alerts: Vec::new(),
            carried: doubt.carried,
            counted: doubt.counted,
            severity: doubt.severity,
            possible_duplicate: true,
            resend_of: Some(id),
            resend_refusals: refusals,
            number: doubt.number + 1,
            owner: self.owner,
            way,
            tried: Vec::new(),
            round: Vec::new(),
            next: Next::Pending,
        };
        self.begin(job, way, now);
    }

    fn begin(&mut self, mut job: Job, way: WayId, now: Instant) {
        let id = self.new_id();
        let config = self.failover.config(way);
        self.out.begins.push(NewAttempt {
            id,
            recipient: job.recipient.clone(),
            text: job.text.clone(),
            dispatcher: config.name.clone(),
            number: job.number,
            deadline: config.timeout + SUBMIT_MARGIN,
            carried: job.carried.clone(),
            counted: job.counted.clone(),
            possible_duplicate: job.possible_duplicate,
            resend_of: job.resend_of,
        });
        self.failover.taken(way, now);
        if let Some(recipient) = self.recipients.get_mut(&job.recipient) {
            recipient.busy = true;
        }
        job.way = way;
        job.owner = self.owner;
        job.next = Next::Pending;
        self.on_their_way.extend(job.carried.iter().chain(&job.counted));
        self.jobs.insert(id, job);
    }

    /// Takes a job off its way.
    fn end(&mut self, id: Uuid) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        for id in job.carried.iter().chain(&job.counted) {
            self.on_their_way.remove(id);
            if let Some(ids) = &mut self.settled_meanwhile {
                ids.insert(*id);
            }
        }
        Some(job)
    }

    /// Submits from each line as far as there is room, and dissolves the lines that lead nowhere now.
    fn advance_lines(&mut self, may_send: bool, now: Instant) {
        for way in self.lines.keys().copied().collect::<Vec<_>>() {
            let closed = self.failover.is_closed(way, now);
            while let Some(id) = self.lines.get(&way).and_then(|line| line.front().copied()) {
                if closed || !may_send {
                    self.abandon(id, "its dispatcher, or the lease, was gone first");
                } else if self.failover.start_submit(way) {
                    self.submit(id);
                } else {
                    break;
                }
                if let Some(line) = self.lines.get_mut(&way) {
                    line.pop_front();
                }
            }
        }
        self.lines.retain(|_, line| !line.is_empty());
    }

    fn submit(&mut self, id: Uuid) {
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(first) = job.resend_of {
            self.out.events.push(Event::Resent {
                attempt: id,
                resend_of: first,
                recipient: job.recipient.clone(),
            });
        }
        let timeout = self.failover.config(job.way).timeout;
        let sms = Sms { attempt: id, recipient: job.recipient.clone(), text: job.text.clone(), timeout };
        self.out.submits.push(Submit { way: job.way, sms });
    }

    /// Written, but not to be made any more: certainly not taken. Its alerts wait as they did.
    fn abandon(&mut self, id: Uuid, why: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.failover.released(job.way);
        job.next = Next::Failover;
        let error = SubmitError::new(Class::Unavailable, format!("not submitted: {why}"));
        let settlement = outcome::refused(id, AttemptState::Failed, &error, &[], Reason::Rejected);
        self.out.settlements.push((job.owner, settlement));
    }

    fn accepted(&mut self, id: Uuid, job: &mut Job, receipt: Receipt, took: Duration, now: Instant) {
        let change = self.failover.succeeded(job.way, now);
        self.tell(change, None);
        let recipient = self.recipients.entry(job.recipient.clone()).or_default();
        recipient.last_sms = Some(now);
        recipient.failures = 0;
        recipient.backoff_until = None;
        recipient.pauses = 0;
        recipient.failing.retain(|(way, _)| *way != job.way);
        self.out.events.push(Event::Accepted {
            attempt: id,
            recipient: job.recipient.clone(),
            dispatcher: self.failover.config(job.way).name.clone(),
            alerts: job.carried.len(),
            squeezed: job.counted.len(),
            number: job.number,
            possible_duplicate: job.possible_duplicate,
            references: receipt.references.clone(),
            took,
        });
        job.next = Next::Done;
        self.out.settlements.push((job.owner, outcome::accepted(id, receipt, &job.carried, &job.counted)));
    }

    fn refused(&mut self, id: Uuid, job: &mut Job, error: &SubmitError, took: Duration, now: Instant) {
        let way = job.way;
        job.tried.push(way);
        if error.class == Class::Failed {
            job.possible_duplicate = true;
            job.alerts.iter_mut().for_each(|w| w.alert.maybe_sent = true);
        }
        let blame = self.blame(job, error.class);
        if !matches!(error.class, Class::Throttled { .. }) {
            job.round.push(blame);
        }
        self.out.events.push(Event::Refused {
            attempt: id,
            recipient: job.recipient.clone(),
            dispatcher: self.failover.config(way).name.clone(),
            number: job.number,
            error: error.clone(),
            took,
        });

        // The dispatcher's state first: it decides whether there is another way.
        let change = match (error.class, blame) {
            (Class::Throttled { retry_after }, _) => {
                self.failover.throttled(way, retry_after, now);
                None
            }
            (Class::Misconfigured, _) => self.failover.misconfigured(way, now),
            (Class::Rejected, Blame::Dispatcher) => self.failover.refused(way, &job.recipient, &[], now),
            (_, Blame::Dispatcher) => self.failover.troubled(way, &job.recipient, now),
            (_, Blame::Refused) => {
                let last = !self.has_next_way(job, now);
                let ways = self.failover.order().len();
                let given_up = if last && outcome::exhausted(&job.round, ways) == Exhausted::Rejected {
                    job.carried.iter().chain(&job.counted).copied().collect()
                } else {
                    Vec::new()
                };
                self.failover.refused(way, &job.recipient, &given_up, now)
            }
            (_, Blame::Recipient) => {
                self.failover.answered(way, now);
                None
            }
        };
        let state = outcome::state_after(error.class);
        self.tell(change, Some(error));

        if self.has_next_way(job, now) {
            job.next = Next::Failover;
            self.out.settlements.push((job.owner, outcome::refused(id, state, error, &[], Reason::Rejected)));
        } else {
            let how = self.exhausted(job, error);
            let (ignored, reason) = self.give_up(job, how);
            if !ignored.is_empty() {
                self.out.events.push(Event::Ignored {
                    recipient: job.recipient.clone(),
                    alerts: ignored.clone(),
                    reason,
                    detail: error.detail.clone(),
                });
            }
            job.next = Next::Return(how);
            self.out.settlements.push((job.owner, outcome::refused(id, state, error, &ignored, reason)));
        }
    }

    fn in_doubt(&mut self, id: Uuid, job: &mut Job, error: &SubmitError, took: Duration, now: Instant) {
        let change = self.failover.troubled(job.way, &job.recipient, now);
        self.tell(change, Some(error));
        self.recipients.entry(job.recipient.clone()).or_default().last_sms = Some(now);
        let held = job.possible_duplicate || self.policy.on_unknown == OnUnknown::Hold;
        self.out.events.push(Event::Doubtful {
            attempt: id,
            recipient: job.recipient.clone(),
            dispatcher: self.failover.config(job.way).name.clone(),
            held,
            error: error.clone(),
            took,
        });
        let state = if held { AttemptState::Held } else { AttemptState::InDoubt };
        job.next = if held { Next::Done } else { Next::Doubt };
        self.out.settlements.push((job.owner, outcome::refused(id, state, error, &[], Reason::Rejected)));
    }

    /// Whose fault it is. Trouble is the dispatcher's, unless another recipient has been served through it
    /// since this recipient began to fail there; a refusal is the recipient's, unless five different ones
    /// were refused in a row.
    fn blame(&mut self, job: &Job, class: Class) -> Blame {
        let way = job.way;
        match class {
            Class::Rejected if self.failover.refusal_is_its_own(way, &job.recipient) => Blame::Dispatcher,
            Class::Rejected => Blame::Refused,
            Class::Deferred => Blame::Recipient,
            Class::Throttled { .. } | Class::Misconfigured | Class::Unknown => Blame::Dispatcher,
            Class::Unavailable | Class::Failed => {
                let successes = self.failover.successes(way);
                let failing = &mut self.recipients.entry(job.recipient.clone()).or_default().failing;
                match failing.iter().find(|(w, _)| *w == way) {
                    Some((_, since)) if successes > *since => Blame::Recipient,
                    Some(_) => Blame::Dispatcher,
                    None => {
                        failing.push((way, successes));
                        Blame::Dispatcher
                    }
                }
            }
        }
    }

    /// Is there another dispatcher for this SMS, now or as soon as it has room?
    fn has_next_way(&self, job: &Job, now: Instant) -> bool {
        !self.draining && self.failover.choose(&job.tried, now) != Choice::Down
    }

    /// No dispatcher is left: what is that to the recipient?
    fn exhausted(&mut self, job: &mut Job, error: &SubmitError) -> Exhausted {
        let how = outcome::exhausted(&job.round, self.failover.order().len());
        let throttled = matches!(error.class, Class::Throttled { .. });
        match (how, self.policy.retrylimitaction) {
            (Exhausted::Uncounted, LimitAction::Shutdown) if !throttled => Exhausted::Counted,
            _ => how,
        }
    }

    /// Which alerts end with this failure, and why.
    fn give_up(&mut self, job: &mut Job, how: Exhausted) -> (Vec<AlertId>, Reason) {
        let all = || job.carried.iter().chain(&job.counted).copied().collect::<Vec<_>>();
        match how {
            Exhausted::Rejected => (all(), Reason::Rejected),
            Exhausted::Uncounted => (Vec::new(), Reason::RetryLimit),
            Exhausted::Counted => {
                job.alerts.iter_mut().for_each(|w| w.failures += 1);
                let limit = self.policy.retrylimit;
                let over: Vec<AlertId> = job
                    .alerts
                    .iter()
                    .filter(|w| limit > 0 && w.failures >= limit)
                    .map(|w| w.alert.id)
                    .collect();
                match self.policy.retrylimitaction {
                    LimitAction::Ignore => (over, Reason::RetryLimit),
                    LimitAction::Shutdown => {
                        if !over.is_empty() {
                            self.shut_down(&job.recipient);
                        }
                        (Vec::new(), Reason::RetryLimit)
                    }
                }
            }
        }
    }

    fn shut_down(&mut self, recipient: &Phone) {
        let failures = self.policy.retrylimit;
        self.out.stop.get_or_insert_with(|| Stop::RetryLimit { recipient: recipient.clone(), failures });
    }

    /// One more failure in a row that is the recipient's own.
    fn back_off(&mut self, phone: &Phone, now: Instant) {
        let jitter = self.rng.f64();
        let Policy { delay, delayfactor, maxdelay, .. } = self.policy;
        let recipient = self.recipients.entry(phone.clone()).or_default();
        recipient.failures += 1;
        let pause = retry::backoff(recipient.failures, delay, delayfactor, maxdelay, jitter);
        recipient.backoff_until = Some(now + pause);
    }

    /// Its alerts wait again, and the recipient waits as it has deserved.
    fn give_back_after(&mut self, mut job: Job, how: Exhausted, now: Instant) {
        let throttled_only = job.round.is_empty();
        let limit = self.policy.retrylimit;
        match how {
            Exhausted::Rejected => job.alerts.clear(),
            Exhausted::Counted => {
                self.back_off(&job.recipient, now);
                if self.policy.retrylimitaction == LimitAction::Ignore && limit > 0 {
                    job.alerts.retain(|w| w.failures < limit);
                }
            }
            Exhausted::Uncounted if throttled_only => {}
            Exhausted::Uncounted => {
                let recipient = self.recipients.entry(job.recipient.clone()).or_default();
                recipient.pauses += 1;
                recipient.paused_until = Some(now + retry::pause(recipient.pauses));
                self.paused.insert(job.recipient.clone());
            }
        }
        self.give_back(job, now);
    }

    /// Its alerts wait again as they did.
    fn give_back(&mut self, job: Job, now: Instant) {
        if job.alerts.is_empty() && !job.carried.is_empty() {
            // A resend of what another process began: only the queue knows the alerts' own texts.
            self.out.look_soon = true;
        }
        for mut w in job.alerts {
            w.attempts = w.attempts.max(job.number);
            self.window.insert(job.recipient.clone(), w);
        }
        while self.window.len() > WINDOW {
            if let Some(phone) = self.window.pop_last() {
                self.refresh(&phone, now);
            }
        }
        self.free(&job.recipient, now);
    }
}

// -- recipients ----------------------------------------------------------------------------------

impl Core {
    fn free(&mut self, phone: &Phone, now: Instant) {
        if let Some(recipient) = self.recipients.get_mut(phone) {
            recipient.busy = false;
        }
        self.refresh(phone, now);
    }

    /// Finds out anew when this recipient's next SMS may go, and forgets a recipient of whom nothing is to be remembered.
    fn refresh(&mut self, phone: &Phone, now: Instant) {
        let first = self.window.first(phone);
        if !self.recipients.contains_key(phone) && first.is_none() {
            return;
        }
        let recipient = self.recipients.entry(phone.clone()).or_default();
        if let Some(turn) = recipient.ready.take() {
            self.ready.remove(&(turn, phone.clone()));
        }
        if let Some(at) = recipient.timer.take() {
            self.timers.remove(&(at, phone.clone()));
        }
        if recipient.busy {
            return;
        }
        if recipient.paused_until.is_none_or(|until| until <= now) {
            recipient.paused_until = None;
            self.paused.remove(phone);
        }
        let resend = recipient.resends.first().and_then(|id| self.doubts.get(id)).map(|d| Turn {
            severity: d.doubt.severity,
            queued_at: jiff::Timestamp::MIN,
            id: d.doubt.carried.first().copied().unwrap_or(AlertId(0)),
        });
        let quiet_until = recipient.last_sms.map(|at| at + self.policy.group_interval);
        let Some(turn) = resend.or(first) else {
            // Only what keeps the next alert apart from the last SMS is worth remembering.
            match quiet_until.filter(|until| *until > now) {
                Some(until) => {
                    recipient.timer = Some(until);
                    self.timers.insert((until, phone.clone()));
                }
                None if recipient.resends.is_empty() => {
                    self.recipients.remove(phone);
                }
                None => {}
            }
            return;
        };
        let since = *recipient.waiting_since.get_or_insert(now);
        let collected = match (resend, self.policy.is_urgent(turn.severity)) {
            (Some(_), _) | (_, true) => None,
            (None, false) => {
                let quiet = quiet_until.filter(|until| *until > since);
                Some(quiet.unwrap_or(since + self.policy.group_wait))
            }
        };
        let due = [collected, recipient.backoff_until, recipient.paused_until].into_iter().flatten().max();
        match due.filter(|at| *at > now) {
            Some(at) => {
                recipient.timer = Some(at);
                self.timers.insert((at, phone.clone()));
            }
            None => {
                recipient.ready = Some(turn);
                self.ready.insert((turn, phone.clone()));
            }
        }
    }

    /// A dispatcher may work again: nobody waits longer for it than need be.
    fn wake_paused(&mut self, now: Instant) {
        for phone in std::mem::take(&mut self.paused) {
            if let Some(recipient) = self.recipients.get_mut(&phone) {
                recipient.paused_until = None;
            }
            self.refresh(&phone, now);
        }
    }

    fn reject_number(&mut self, alert: &Alert, why: &str) {
        if !self.spoken_of.insert(alert.id) {
            return;
        }
        let detail = format!("the number can not be texted: {why}");
        self.out.events.push(Event::BadNumber {
            alert: alert.id,
            number: alert.phone.clone(),
            detail: detail.clone(),
        });
        self.out.settlements.push((
            self.owner,
            Settlement {
                closing: None,
                verdicts: vec![(alert.id, Verdict::Ignored(Reason::Rejected))],
                detail,
            },
        ));
    }

    fn bar(&mut self, alert: &Alert, phone: Phone) {
        if self.spoken_of.len() < WINDOW && self.spoken_of.insert(alert.id) {
            self.out.events.push(Event::Barred { alert: alert.id, recipient: phone });
        }
    }
}

// -- doubts, dispatchers -------------------------------------------------------------------------

impl Core {
    fn doubt(&mut self, doubt: Doubt, way: Option<WayId>, now: Instant) {
        let id = doubt.id;
        if doubt.possible_duplicate || self.policy.on_unknown == OnUnknown::Hold {
            self.hold(id, doubt.recipient);
            return;
        }
        let grace = way.map_or(Duration::from_secs(30), |w| self.failover.config(w).grace);
        let at_once = self.policy.on_unknown == OnUnknown::Failover || self.policy.is_urgent(doubt.severity);
        let grace_over = now + grace.saturating_sub(doubt.age);
        let timer = if at_once && way.is_some() { now } else { grace_over };
        self.doubts.insert(id, Doubted { doubt, avoid: way, grace_over, timer: Some(timer), refusals: 0 });
        self.doubt_timers.insert((timer, id));
    }

    /// The queue did not let it be resent.
    fn doubt_again(&mut self, id: Uuid, job: Job, now: Instant) {
        let refusals = job.resend_refusals + 1;
        if refusals >= RESEND_TRIES {
            return self.hold(id, job.recipient);
        }
        let at = now + RESEND_PAUSE;
        let avoid = None;
        let mut doubt = doubt_of(id, job, &self.failover);
        doubt.possible_duplicate = false;
        doubt.number -= 1;
        self.doubts.insert(id, Doubted { doubt, avoid, grace_over: at, timer: Some(at), refusals });
        self.doubt_timers.insert((at, id));
    }

    /// A resend is not repeated without a person.
    fn hold(&mut self, id: Uuid, recipient: Phone) {
        self.out.events.push(Event::Held { attempt: id, recipient });
        let error = SubmitError::new(
            Class::Unknown,
            "a person is to decide: in doubt twice, its alerts changed, or on_unknown is hold",
        );
        let settlement = outcome::refused(id, AttemptState::Held, &error, &[], Reason::Rejected);
        self.out.settlements.push((self.owner, settlement));
    }

    fn time_doubt(&mut self, id: Uuid, now: Instant) {
        if let Some(doubted) = self.doubts.get_mut(&id) {
            let at = doubted.grace_over.max(now);
            doubted.timer = Some(at);
            self.doubt_timers.insert((at, id));
        }
    }

    fn doubt_is_due(&mut self, id: Uuid, now: Instant) {
        let Some(doubted) = self.doubts.get_mut(&id) else {
            self.doubt_timers.retain(|(_, other)| *other != id);
            return;
        };
        if let Some(at) = doubted.timer.take() {
            self.doubt_timers.remove(&(at, id));
        }
        let phone = doubted.doubt.recipient.clone();
        self.recipients.entry(phone.clone()).or_default().resends.push(id);
        self.refresh(&phone, now);
    }

    fn way_named(&self, name: &str) -> Option<WayId> {
        self.failover.order().iter().copied().find(|id| &*self.failover.config(*id).name == name)
    }

    fn tell(&mut self, change: Option<Change>, error: Option<&SubmitError>) {
        match change {
            None => {}
            Some(Change::Up(way)) => {
                let dispatcher = self.failover.config(way).name.clone();
                self.out.events.push(Event::DispatcherUp { dispatcher });
            }
            Some(Change::Down { way, cause, wronged }) => {
                let dispatcher = self.failover.config(way).name.clone();
                let reason = error.map(|e| e.detail.clone()).unwrap_or_default();
                self.out.requeues.extend(&wronged);
                self.out.events.push(Event::DispatcherDown {
                    dispatcher,
                    cause,
                    reason,
                    wronged: wronged.len(),
                });
            }
        }
    }

    fn note_outage(&mut self) {
        let down = self.failover.all_down();
        if down && !self.all_down {
            self.out.events.push(Event::AllDown { waiting: self.window.len() });
        } else if !down && self.all_down {
            self.out.events.push(Event::WayOut);
        }
        self.all_down = down;
        if self.policy.exit_on_permanent_error && self.failover.all_misconfigured() && self.out.stop.is_none()
        {
            self.out.stop = Some(Stop::AllMisconfigured);
        }
    }
}

fn doubt_of(attempt: Uuid, job: Job, failover: &Failover) -> Doubt {
    Doubt {
        id: attempt,
        recipient: job.recipient,
        text: job.text,
        dispatcher: failover.config(job.way).name.clone(),
        number: job.number,
        age: Duration::ZERO,
        possible_duplicate: job.possible_duplicate,
        severity: job.severity,
        carried: job.carried,
        counted: job.counted,
    }
}
