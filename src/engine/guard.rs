//! The storm guard: nothing that may have gone out goes out again by itself because the queue came back
//! from the past.
//!
//! A restored backup or a lagging standby shows alerts as waiting that were sent, and its ledger knows
//! nothing of it. The engine names to the queue what it knows to be committed ([`Known`]), by itself and
//! by all other instances, and the queue refuses to begin anything if it has forgotten that. Then
//! everything that the engine knew is forgotten too, and what the queue shows is held page by page
//! ([`crate::queue::Queue::hold`]) before the first look at it. What was queued later is new, and goes
//! out.
//!
//! No instance has seen everything: another one may have sent something in the last moments before a
//! rollback. So after a rollback, and when another server answers than before (a promotion, a restore
//! elsewhere), the engine begins nothing for a while (`REST`), and the instance that lost something
//! holds it first.
//!
//! A small record outlives the process ([`Keep`]): it is written when a `begin` is committed and before
//! the first byte of what it began goes out, with each renewal of the lease, and when the engine learns
//! of another instance's attempt. It need not be synced, since it guards against the database's past and
//! not against our own power cut; after that one, the record is at most a little older, and the guard as
//! blind as a little earlier.

mod file;
mod record;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::file::RecordFile;
pub use self::record::Record;
use super::pipe::QUEUE_PAUSE;
use super::silence::Verb;
use super::{Done, Engine, RENEW};
use crate::alert::{Alert, AlertId};
use crate::queue::{Caught, Forgot, Grant, Known, LogEnd, Queue, QueueError, Suspects, Witness};
use crate::seeded::{Bug, bug};
use crate::telemetry::Event;

/// Alerts that are held in one transaction.
const PAGE: usize = 2_000;
/// How far ahead of the queue's clock an alert may say that it was queued: local times of another zone,
/// clocks that differ. What is further ahead is no time.
const AHEAD: Duration = Duration::from_secs(26 * 3600);

/// Where the [`Record`] outlives the process.
pub trait Keep: Send {
    /// What was saved last; `None` if nothing ever was.
    ///
    /// # Errors
    /// Why it can not be read, for people. The engine goes on without.
    fn load(&mut self) -> Result<Option<Record>, String>;

    /// Saves it, so that it survives a kill -9 at any moment.
    ///
    /// # Errors
    /// Why it can not be, for people. The engine goes on without.
    fn save(&mut self, record: &Record) -> Result<(), String>;
}

/// Keeps nothing: who uses it does not notice what happens to the queue between two of its lives.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepNothing;

impl Keep for KeepNothing {
    fn load(&mut self) -> Result<Option<Record>, String> {
        Ok(None)
    }

    fn save(&mut self, _: &Record) -> Result<(), String> {
        Ok(())
    }
}

/// So many closed attempts are asked for at most. Each begin and each renewal confirms those before it.
const MOST_CLOSED: usize = 4_000;
/// The same of attempts that were seen, which every question confirms.
const MOST_SEEN: usize = 16;
/// For how long nothing is begun when the queue was rolled back, or another server answers: each instance
/// that lives asks the queue within a renewal of its lease, and holds what it knows to be lost.
const REST: Duration = RENEW.saturating_add(Duration::from_secs(1));

/// How often an instance that works alone asks whether another one has begun something.
const ALONE: Duration = Duration::from_secs(1);

/// Who asks the queue; each at most once at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    Begin,
    Lease,
    Witness,
}

/// The last witnesses of a question.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    closed: Option<Uuid>,
    seen: Option<Uuid>,
}

/// See the module.
pub(super) struct Guard {
    keep: Box<dyn Keep>,
    /// People were told that it can not be kept.
    told: bool,
    known: Known,
    /// What each [`Asker`] has asked for last.
    asked: [Asked; 3],
    /// The [`Asker::Witness`] asks.
    pub(super) witnessing: bool,
    /// When news of others' attempts is to be asked for.
    next_witness: Instant,
    /// Nothing is begun before this.
    rests_until: Option<Instant>,
    /// The last moment at which we knew the queue to be whole, by its clock; and by ours (boot time), if
    /// it was in this life.
    whole: Option<(Timestamp, Option<Duration>)>,
    /// When the latest alert that we saw was queued, as it says.
    latest: Option<Timestamp>,
    holding: Option<Holding>,
    /// Counts the pasts that we came from: what was asked in an earlier one tells nothing of this one.
    pub(super) epoch: u64,
}

/// What is suspect is being held.
struct Holding {
    forgot: Forgot,
    until: Timestamp,
    after: AlertId,
    caught: Caught,
    busy: bool,
    next: Instant,
    pause: Duration,
}

impl Guard {
    /// With what was kept; also why that can not be read.
    pub(super) fn new(mut keep: Box<dyn Keep>) -> (Guard, Option<String>) {
        let (record, why) = match keep.load() {
            Ok(record) => (record, None),
            Err(why) => (None, Some(why)),
        };
        let known = record.map_or_else(Known::default, |record| Known {
            queue: Some(record.queue),
            begun: record.begun,
            seen: record.seen.into_iter().collect(),
            log: record.log,
            closed: Vec::new(),
        });
        let whole = record.map(|r| (r.whole, None));
        // The clock may have been set back since.
        let latest = record.map(|r| r.whole);
        let guard = Guard {
            keep,
            told: false,
            known,
            asked: [Asked::default(); 3],
            witnessing: false,
            next_witness: Instant::now(),
            rests_until: None,
            whole,
            latest,
            holding: None,
            epoch: 0,
        };
        (guard, why)
    }

    /// What the queue has to know.
    pub(super) fn known(&self) -> Known {
        if bug(Bug::NoStormGuard) { Known::default() } else { self.known.clone() }
    }

    pub(super) fn is_holding(&self) -> bool {
        self.holding.is_some()
    }

    /// When there is something to be held.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.holding.as_ref().filter(|holding| !holding.busy).map(|holding| holding.next)
    }

    /// These alerts wait.
    pub(super) fn saw(&mut self, alerts: &[Alert]) {
        self.latest = alerts.iter().map(|a| a.queued_at).chain(self.latest).max();
    }

    /// The lease was granted, or renewed, as asked at `asked`. While something is still to be held, the
    /// queue is not whole.
    pub(super) fn granted(&mut self, grant: Grant, asked: Duration, now: Instant) {
        self.confirmed(Asker::Lease);
        self.known.queue = Some(grant.queue);
        if self.holding.is_none() {
            self.whole = Some((grant.now, Some(asked)));
        }
        self.learn(grant.witness, now);
    }

    /// The queue shows what everybody has committed. True if that is news of an attempt.
    fn learn(&mut self, witness: Witness, now: Instant) -> bool {
        if bug(Bug::WitnessOfItsOwnOnly) {
            return false;
        }
        match (self.known.log, witness.log) {
            (_, None) => {}
            (Some(known), Some(log)) if log.is_of(known) => {
                let position = known.position.max(log.position);
                self.known.log = Some(LogEnd { position, ..log });
            }
            (known, Some(log)) => {
                self.known.log = Some(log);
                if known.is_some() {
                    self.rest(now);
                }
            }
        }
        let news = witness.newest.filter(|newest| !self.known.seen.contains(newest));
        self.known.seen.extend(news);
        let beyond = self.known.seen.len().saturating_sub(MOST_SEEN);
        self.known.seen.drain(..beyond);
        news.is_some()
    }

    /// Nothing is begun for a while.
    fn rest(&mut self, now: Instant) {
        if self.rests_until.is_none_or(|until| until <= now) {
            tracing::info!("the queue may have been rolled back: nothing is sent for {} s", REST.as_secs());
        }
        self.rests_until = Some(now + REST);
    }

    /// Until when nothing may be begun.
    pub(super) fn rests(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }

    /// The queue has closed these attempts.
    pub(super) fn closed(&mut self, attempts: impl Iterator<Item = Uuid>) {
        self.known.closed.extend(attempts);
        let beyond = self.known.closed.len().saturating_sub(MOST_CLOSED);
        self.known.closed.drain(..beyond);
    }

    /// The witnesses of a begin, a renewal, or a look for news of others.
    pub(super) fn asks(&mut self, asker: Asker) -> Known {
        let seen = self.known.seen.last().copied();
        // What this instance has closed is asked for often enough by the two others.
        let closed = self.known.closed.last().copied().filter(|_| !matches!(asker, Asker::Witness));
        self.asked[asker as usize] = Asked { closed, seen };
        let known = self.known();
        if closed.is_none() { Known { closed: Vec::new(), ..known } } else { known }
    }

    /// The queue has confirmed the witnesses of this question: those before the last are needed no more.
    pub(super) fn confirmed(&mut self, asker: Asker) {
        let Asked { closed, seen } = std::mem::take(&mut self.asked[asker as usize]);
        let drop_before = |ids: &mut Vec<Uuid>, last: Option<Uuid>| {
            if let Some(at) = last.and_then(|last| ids.iter().position(|id| *id == last)) {
                ids.drain(..at);
            }
        };
        drop_before(&mut self.known.closed, closed);
        drop_before(&mut self.known.seen, seen);
    }

    /// The queue has committed this attempt.
    pub(super) fn begun(&mut self, attempt: Uuid) {
        self.known.begun = Some(attempt);
    }

    /// Writes down what is known. Returns why it can not be, the first time.
    pub(super) fn save(&mut self, boot: Duration) -> Option<String> {
        let (Some(queue), Some(whole)) = (self.known.queue, self.moment(boot)) else { return None };
        let Known { begun, log, .. } = self.known;
        let record = Record { queue, begun, seen: self.known.seen.last().copied(), log, whole };
        match self.keep.save(&record) {
            Ok(()) => {
                self.told = false;
                None
            }
            Err(_) if self.told => None,
            Err(why) => {
                self.told = true;
                Some(why)
            }
        }
    }

    /// The last moment at which the queue was whole: what has waited for longer may have been sent since.
    fn moment(&self, boot: Duration) -> Option<Timestamp> {
        let (at, then) = self.whole?;
        let passed = then.map_or(Duration::ZERO, |then| boot.saturating_sub(then));
        let clock = plus(at, passed);
        // Its rows may be by another clock, and they are what it is held against.
        let latest = self.latest.filter(|latest| *latest <= plus(clock, AHEAD));
        Some(latest.map_or(clock, |latest| latest.max(clock)))
    }

    /// The queue has forgotten something: nothing of what was known is known any more, and what waits is
    /// suspect.
    fn turn(&mut self, forgot: Forgot, boot: Duration, now: Instant) -> Timestamp {
        // While it is being held, a second turn changes nothing about what is suspect.
        let until = match (self.holding.take(), self.moment(boot)) {
            (Some(holding), _) => holding.until,
            // What another instance has sent since our last renewal is suspect too.
            (None, Some(moment)) => plus(moment, RENEW),
            (None, None) => Timestamp::MIN,
        };
        self.known = Known::default();
        self.asked = [Asked::default(); 3];
        self.latest = None;
        self.epoch += 1;
        self.rest(now);
        if !bug(Bug::GuardHoldsNothing) {
            self.holding = Some(Holding {
                forgot,
                until,
                after: AlertId(0),
                caught: Caught::default(),
                busy: false,
                next: now,
                pause: QUEUE_PAUSE.0,
            });
        }
        until
    }
}

impl Engine {
    /// The queue has come back from the past. Nothing more goes out, and we join it as if we had never
    /// known it.
    pub(super) fn turn_back(&mut self, forgot: Forgot, now: Instant) {
        let until = self.guard.turn(forgot, (self.boot_clock)(), now);
        (self.events)(Event::FromThePast { forgot, until });
        self.lease.owner = None;
        self.lease.trusted_until = Duration::ZERO;
        // Two databases behind one address, which answer in turns, are not asked as fast as they answer.
        self.lease.next = if self.guard.epoch == 1 { now } else { now + QUEUE_PAUSE.1 };
        let planned: Vec<Uuid> = self.begins.take_idle().into_iter().map(|attempt| attempt.id).collect();
        self.core.forget_all(&planned, now);
        // Without an attempt that the queue knows, the key of an alert may be another alert's by now.
        self.settlements.retain_idle(|(_, settlement)| settlement.closing.is_some());
        self.looks.newest = None;
        self.looks.walk = None;
        self.looks.peek = None;
        self.looks.next_full = now;
        self.looks.next_doubts = now;
        self.looks.next_expire = now;
    }

    /// Asks what everybody has committed, beside a look for new alerts.
    pub(super) fn look_for_witness(&mut self) {
        let now = Instant::now();
        if !self.guard.witnessing && now >= self.guard.next_witness {
            self.guard.witnessing = true;
            // Whoever works alone has begun all that there is, and asks in case somebody has just joined.
            self.guard.next_witness = if self.core.is_alone() { now + ALONE } else { now };
            let known = self.guard.asks(Asker::Witness);
            let work = move |queue: Arc<dyn Queue>| async move { queue.witness(&known).await };
            self.ask(Verb::Witness, work, Done::Witnessed);
        }
    }

    /// A queue that can not tell is asked again soon, and says so of the look as well.
    pub(super) fn witnessed(&mut self, result: Result<Witness, QueueError>, now: Instant) {
        self.guard.witnessing = false;
        match result {
            Ok(witness) => {
                self.guard.confirmed(Asker::Witness);
                if self.guard.learn(witness, now) && !self.guard.is_holding() {
                    self.save_guard();
                }
            }
            Err(QueueError::FromThePast(forgot)) => self.turn_back(forgot, now),
            Err(_) => {}
        }
    }

    /// Holds the next page of what is suspect; true as long as nothing else may be looked at.
    pub(super) fn hold_suspects(&mut self, owner: Uuid, now: Instant) -> bool {
        let Some(holding) = &mut self.guard.holding else { return false };
        if !holding.busy && now >= holding.next {
            holding.busy = true;
            let suspects = Suspects { until: holding.until, after: holding.after, limit: PAGE };
            let why = format!(
                "the queue came back from the past ({}): this waits since {} or longer and may have been sent before",
                holding.forgot, holding.until
            );
            let work = move |queue: Arc<dyn Queue>| async move { queue.hold(owner, &suspects, &why).await };
            self.ask(Verb::Hold, work, Done::Held);
        }
        !bug(Bug::GuardLooksFirst)
    }

    pub(super) fn held(&mut self, result: Result<Caught, QueueError>, now: Instant) {
        if let Err(QueueError::LeaseLost) = result {
            if let Some(holding) = &mut self.guard.holding {
                holding.busy = false;
            }
            return self.lose_lease(now);
        }
        let page = self.heard(Verb::Hold, result);
        let Some(holding) = &mut self.guard.holding else { return };
        holding.busy = false;
        let Some(page) = page else {
            holding.next = now + holding.pause;
            holding.pause = (holding.pause * 2).min(QUEUE_PAUSE.1);
            return;
        };
        holding.pause = QUEUE_PAUSE.0;
        holding.caught.alerts += page.alerts;
        holding.caught.doubts += page.doubts;
        if let Some(after) = page.next {
            holding.after = after;
            return;
        }
        let Holding { until, caught, .. } = *holding;
        self.guard.holding = None;
        // From here on it is a queue like any other, and what was queued meanwhile is looked at.
        self.lease.next = now;
        self.looks.next_full = now;
        self.looks.next_doubts = now;
        self.guard.whole = Some((until, Some((self.boot_clock)())));
        self.save_guard();
        (self.events)(Event::Suspected { alerts: caught.alerts, doubts: caught.doubts, until });
    }

    /// The queue has committed this batch, of which nothing has been submitted yet.
    pub(super) fn guard_begun(&mut self, owned: &[Uuid]) {
        self.guard.confirmed(Asker::Begin);
        self.guard_wrote(owned);
    }

    /// The same for what was begun beside the batches, which asks for nothing that they do not ask for.
    pub(super) fn guard_wrote(&mut self, owned: &[Uuid]) {
        if let Some(last) = owned.last() {
            self.guard.begun(*last);
            if !bug(Bug::KeptAfterSubmit) {
                self.save_guard();
            }
        }
    }

    pub(super) fn save_guard(&mut self) {
        if let Some(reason) = self.guard.save((self.boot_clock)()) {
            (self.events)(Event::NotKept { reason });
        }
    }

    /// What was asked before the queue came back from the past: its answer is of no queue that there is
    /// now. Returns what is to be heard all the same.
    pub(super) fn outdated(&mut self, done: Done, now: Instant) -> Option<Done> {
        match done {
            Done::Begun(lane, _, ids, Err(_)) => {
                self.begin_is_over(lane, &ids, now);
                self.core.not_begun(&ids, now);
            }
            Done::Claimed(..) | Done::Newest(_) => self.looks.busy = false,
            Done::Doubts(_) => self.looks.doubting = false,
            Done::Peers(_) => {}
            Done::Witnessed(_) => self.guard.witnessing = false,
            Done::Expired(_) => self.looks.expiring = false,
            Done::Renewed(..) | Done::Joined(..) => {
                self.lease.busy = false;
                self.lease.next = now;
            }
            Done::Held(_) => {
                if let Some(holding) = &mut self.guard.holding {
                    holding.busy = false;
                }
            }
            done @ (Done::Begun(..)
            | Done::Settled(..)
            | Done::Submitted(..)
            | Done::Probed(..)
            | Done::Kicked(_)) => return Some(done),
        }
        None
    }
}

fn plus(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
