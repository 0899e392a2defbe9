//! The engine: the one task that sees both the queue and the dispatchers.
//!
//! All decisions are taken by [`core::Core`], which does no I/O. This shell carries them out, and wakes for four
//! reasons only: a stop, a kick (a notification, a command), a timer, and work that has come to its end.
//!
//! At any time at most one `claim`, one `begin` and one `settle` is under way. What gathers meanwhile goes into
//! the next: that is the group commit. A `begin` or `settle` that fails is repeated until the queue has
//! answered for certain; nothing is ever resent because writing it down was slow.

pub mod core;
pub mod guard;
pub mod outcome;
mod pipe;
pub mod policy;
pub mod pulse;
pub mod retry;
mod silence;
pub mod waiting;

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::core::{Core, Covered, Outbox, SUBMIT_MARGIN, Stop, Submit};
use self::guard::{Asker, Guard, Keep};
use self::pipe::{Pipe, QUEUE_PAUSE};
use self::policy::Policy;
use self::pulse::{AT_REST, Pulse};
use self::silence::{Silence, Verb};
use crate::alert::{Alert, AlertId};
use crate::compose::Shape;
use crate::dispatch::{Class, Dispatcher, Health, Receipt, SubmitError};
use crate::failover::{WayConfig, WayId};
use crate::queue::{
    Age, Caught, Doubt, Grant, Instance, Look, NewAttempt, News, Peers, Place, Queue, QueueError, Settled,
    Settlement, is_full_page,
};
use crate::seeded::{Bug, bug};
use crate::telemetry::Event;

/// How long the lease of an instance lasts, by the queue's clock.
pub const LEASE: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How often the instances are counted at most, where begins show that there are others.
const COUNT: Duration = Duration::from_secs(1);
/// How much sooner than the queue we stop to trust it.
const TRUST_MARGIN: Duration = Duration::from_secs(2);
/// Alerts of one page of a full look.
const PAGE: usize = 4_000;
/// Below this room the engine does not walk on through what waits. It always looks for new alerts: among them may be
/// the most urgent.
const WALK_ROOM: usize = core::WINDOW / 2;
/// With a full window, how often the most severe that wait are looked at.
const PEEK: Duration = Duration::from_secs(1);
/// Alerts of such a look.
const PEEK_PAGE: usize = 500;
/// One dispatcher with what the engine needs to know of it, in order of priority.
pub type Ways = Vec<(WayConfig, Arc<dyn Dispatcher>)>;

/// What the engine works by; changed as a whole by a reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When SMS go out.
    pub policy: Policy,
    /// What they look like.
    pub shape: Shape,
    /// Time between looks for new alerts.
    pub poll_interval: Duration,
    /// Age past which a waiting alert is ignored.
    pub autocancel: Option<Age>,
    /// How long a stop waits for what is on its way.
    pub shutdown_timeout: Duration,
}

/// What the engine runs on, apart from its settings.
pub struct Resources {
    /// Where alerts wait.
    pub queue: Arc<dyn Queue>,
    /// The ways out.
    pub ways: Ways,
    /// Our name for people, and the lock that proves who is dead.
    pub name: String,
    /// See [`Instance::lock`].
    pub lock: String,
    /// A clock that goes on in suspend (`CLOCK_BOOTTIME`): the lease is judged by it.
    pub boot_clock: Box<dyn Fn() -> Duration + Send>,
    /// Makes the ids of attempts and of our instance.
    pub ids: Box<dyn FnMut() -> Uuid + Send>,
    /// What the storm guard remembers from one life to the next.
    pub keep: Box<dyn Keep>,
    /// Seed of the jitter.
    pub seed: u64,
    /// Where events go.
    pub events: Box<dyn FnMut(Event) + Send>,
}

/// What a running engine is told.
#[derive(Debug)]
pub enum Command {
    /// Work by this from now on.
    Reconfigure(Box<Settings>, WaysBox),
}

/// Dispatchers in a command.
pub struct WaysBox(pub Ways);

impl std::fmt::Debug for WaysBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(config, _)| &config.name)).finish()
    }
}

/// The engine.
pub struct Engine {
    settings: Settings,
    core: Core,
    queue: Arc<dyn Queue>,
    dispatchers: HashMap<WayId, Arc<dyn Dispatcher>>,
    name: String,
    lock: String,
    boot_clock: Box<dyn Fn() -> Duration + Send>,
    events: Box<dyn FnMut(Event) + Send>,
    /// What was asked, and before how many pasts ([`Guard::epoch`]).
    tasks: JoinSet<(u64, Done)>,

    guard: Guard,
    lease: Lease,
    looks: Looks,
    begins: Pipe<NewAttempt>,
    settlements: Pipe<(Uuid, Settlement)>,
    requeues: Vec<AlertId>,
    requeueing: bool,
    silence: Silence,
    stopping: Option<(Instant, Option<Stop>)>,
    pulse: Pulse,
}

/// Work that came to its end.
enum Done {
    Joined(Uuid, Duration, Result<Grant, QueueError>),
    Renewed(Uuid, Duration, Result<Grant, QueueError>),
    Held(Result<Caught, QueueError>),
    Peers(Result<Peers, QueueError>),
    Newest(Result<AlertId, QueueError>),
    Claimed(Look, usize, Result<Vec<Alert>, QueueError>),
    Expired(Result<Vec<AlertId>, QueueError>),
    Doubts(Result<Vec<Doubt>, QueueError>),
    Begun(Uuid, Vec<Uuid>, Result<Vec<Uuid>, QueueError>),
    Settled(Batch, Result<Settled, QueueError>),
    Requeued(Vec<AlertId>, Result<Vec<AlertId>, QueueError>),
    Submitted(Uuid, Result<Receipt, SubmitError>, Duration),
    Probed(WayId, Result<Health, SubmitError>),
    Kicked(News),
}

/// What a `settle` was about: attempts, and alerts that had none.
struct Batch {
    attempts: Vec<Uuid>,
    beside: Vec<AlertId>,
}

impl Batch {
    fn of(settlements: &[Settlement]) -> Batch {
        let (with, without): (Vec<_>, Vec<_>) = settlements.iter().partition(|s| s.closing.is_some());
        Batch {
            attempts: with.iter().filter_map(|s| Some(s.closing.as_ref()?.id)).collect(),
            beside: without.iter().flat_map(|s| s.verdicts.iter().map(|(id, _)| *id)).collect(),
        }
    }
}

/// Our lease, as far as we can tell by our own clock.
struct Lease {
    owner: Option<Uuid>,
    /// Until when we trust it, by the boot clock.
    trusted_until: Duration,
    busy: bool,
    next: Instant,
    pause: Duration,
    /// From when on the instances may be counted for another reason than a renewal.
    next_count: Instant,
}

/// When the queue is looked at.
struct Looks {
    /// The highest key seen; `None` until the queue has told it.
    newest: Option<AlertId>,
    /// A look (claim, newest) is under way.
    busy: bool,
    kick_armed: bool,
    next_new: Instant,
    next_full: Instant,
    next_peek: Instant,
    /// The head of the queue is to be looked at now.
    confirm: bool,
    /// Where a walk through all that waits goes on.
    walk: Option<Place>,
    next_expire: Instant,
    expiring: bool,
    /// What is too old has been cancelled once; before that nothing is looked at.
    purged: bool,
    next_doubts: Instant,
    doubting: bool,
}

impl Engine {
    /// Puts an engine together; [`Engine::run`] starts it.
    pub fn new(settings: Settings, resources: Resources) -> Engine {
        let now = Instant::now();
        let Resources { queue, ways, name, lock, boot_clock, ids, keep, seed, mut events } = resources;
        let (guard, unreadable) = Guard::new(keep);
        if let Some(reason) = unreadable {
            events(Event::NotKept { reason });
        }
        let core = Core::new(settings.policy.clone(), settings.shape.clone(), Vec::new(), ids, seed, now);
        let boot_clock: Box<dyn Fn() -> Duration + Send> = match bug(Bug::LeaseStandsStill) {
            true => Box::new(move || now.elapsed()),
            false => boot_clock,
        };
        let mut engine = Engine {
            settings,
            core,
            queue,
            dispatchers: HashMap::new(),
            name,
            lock,
            boot_clock,
            events,
            tasks: JoinSet::new(),
            guard,
            lease: Lease {
                owner: None,
                trusted_until: Duration::ZERO,
                busy: false,
                next: now,
                pause: QUEUE_PAUSE.0,
                next_count: now,
            },
            looks: Looks {
                newest: None,
                busy: false,
                kick_armed: false,
                next_new: now,
                next_full: now,
                next_peek: now,
                confirm: false,
                walk: None,
                next_expire: now,
                expiring: false,
                purged: false,
                next_doubts: now,
                doubting: false,
            },
            begins: Pipe::new(now),
            settlements: Pipe::new(now),
            requeues: Vec::new(),
            requeueing: false,
            silence: Silence::default(),
            stopping: None,
            pulse: Pulse::default(),
        };
        engine.use_ways(ways, now);
        engine
    }

    /// Beats for as long as the engine goes on.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Works until `stop` is cancelled (then finishes what is on its way, at most `shutdown_timeout`), or until
    /// the policy says to stop.
    ///
    /// # Errors
    /// [`Stop`]: the reason why the engine stopped by itself; everything unsent still waits.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<(), Stop> {
        let mut commands_open = true;
        loop {
            let now = Instant::now();
            self.core.step(self.may_send(), now);
            self.carry_out(now);
            if let Some((deadline, _)) = self.stopping
                && (self.is_quiet() || now >= deadline)
            {
                return self.leave().await;
            }
            let mut wake = self.next_wake(now);
            if bug(Bug::LoopHangs) && self.core.in_flight() > 0 {
                loop {
                    std::thread::park();
                }
            }
            if bug(Bug::LoopSpins) && self.pulse.is_ready() {
                wake = now;
            }
            // All is done that there was to do by now. Whoever has more to do at once, again and again, spins.
            if wake > now {
                self.pulse.beat();
                wake = wake.min(now + AT_REST);
            }
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.stopping.is_none() => self.stop(None),
                command = commands.recv(), if commands_open => match command {
                    Some(command) => self.obey(command),
                    None => commands_open = false,
                },
                Some(done) = self.tasks.join_next() => {
                    self.take(done);
                    while let Some(done) = self.tasks.try_join_next() {
                        self.take(done);
                    }
                }
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    // -- what is to be done ------------------------------------------------------------------

    fn carry_out(&mut self, now: Instant) {
        let Outbox { begins, submits, settlements, probes, requeues, events, look_soon, look_now, stop } =
            self.core.take_out();
        for event in events {
            (self.events)(event);
        }
        self.begins.gathered.extend(begins);
        self.settlements.gathered.extend(settlements);
        self.requeues.extend(requeues);
        for submit in submits {
            self.submit(submit);
        }
        for way in probes {
            self.probe(way);
        }
        if look_soon {
            let soon = now + self.settings.poll_interval;
            self.looks.next_full = self.looks.next_full.min(soon);
            self.looks.next_doubts = self.looks.next_doubts.min(soon);
        }
        if look_now && !self.silence.concerns(Verb::Look) {
            self.looks.confirm = true;
        }
        if let Some(reason) = stop {
            self.stop(Some(reason));
        }
        self.keep_lease(now);
        self.look(now);
        self.write(now);
    }

    fn write(&mut self, now: Instant) {
        if let Some(owner) = self.lease.owner
            && let Some(batch) = self.begins.batch(now, |a| a.carried.len() + a.counted.len(), |_, _| true)
        {
            let ids: Vec<Uuid> = batch.iter().map(|a| a.id).collect();
            let known = self.guard.asks(Asker::Begin);
            self.ask(move |queue| async move {
                if bug(Bug::BegunBeforeDurable) {
                    let begun = Done::Begun(owner, Vec::clone(&ids), Ok(ids));
                    tokio::spawn(async move { queue.begin(owner, &batch, &known).await });
                    return begun;
                }
                Done::Begun(owner, ids, queue.begin(owner, &batch, &known).await)
            });
        }
        if let Some(batch) = self.settlements.batch(now, |(_, s)| s.verdicts.len(), |a, b| a.0 == b.0) {
            let owner = batch.first().map_or(Uuid::nil(), |(owner, _)| *owner);
            let batch: Vec<Settlement> = batch.into_iter().map(|(_, s)| s).collect();
            let about = Batch::of(&batch);
            self.ask(move |queue| async move { Done::Settled(about, queue.settle(owner, &batch).await) });
        }
        // What was given up wrongly is made to wait again only when its giving up is written.
        if !self.requeues.is_empty() && !self.requeueing && self.settlements.is_empty() {
            self.requeueing = true;
            let ids = std::mem::take(&mut self.requeues);
            self.ask(move |queue| async move {
                let result = queue.reprieve(&ids).await;
                Done::Requeued(ids, result)
            });
        }
    }

    /// Looks at the queue when it is time. New alerts first: they are cheap and may be urgent.
    fn look(&mut self, now: Instant) {
        let (Some(owner), None) = (self.lease.owner, &self.stopping) else { return };
        if !self.looks.kick_armed {
            self.looks.kick_armed = true;
            self.ask(|queue| async move { Done::Kicked(queue.wait().await) });
        }
        if self.hold_suspects(owner, now) {
            return;
        }
        if now >= self.looks.next_doubts && !self.looks.doubting {
            self.looks.doubting = true;
            self.ask(move |queue| async move { Done::Doubts(queue.doubts(owner).await) });
        }
        if let Some(age) = self.settings.autocancel.clone()
            && now >= self.looks.next_expire
            && !self.looks.expiring
        {
            self.looks.expiring = true;
            self.ask(move |queue| async move { Done::Expired(queue.expire(&age).await) });
        }
        if self.looks.busy || !self.is_purged() {
            return;
        }
        let Some(newest) = self.looks.newest else {
            if now >= self.looks.next_full {
                self.looks.busy = true;
                self.ask(|queue| async move { Done::Newest(queue.newest().await) });
            }
            return;
        };
        let can_walk = self.core.room() >= WALK_ROOM;
        let (look, limit) = if now >= self.looks.next_new {
            (Look::New { after: newest }, PAGE)
        } else if can_walk && (now >= self.looks.next_full || self.looks.walk.is_none() && self.core.misses())
        {
            self.core.walking();
            (Look::Full { after: None }, PAGE)
        } else if let (Some(after), true) = (self.looks.walk, can_walk) {
            (Look::Full { after: Some(after) }, PAGE)
        } else if self.looks.confirm || now >= self.looks.next_peek && !can_walk {
            self.looks.confirm = false;
            self.looks.next_peek = now + PEEK;
            (Look::Full { after: None }, PEEK_PAGE)
        } else {
            return;
        };
        self.looks.busy = true;
        self.core.looking();
        let age = self.settings.autocancel.clone();
        self.ask(move |queue| async move {
            Done::Claimed(look, limit, queue.claim(look, limit, age.as_ref()).await)
        });
    }

    fn keep_lease(&mut self, now: Instant) {
        if self.lease.busy || now < self.lease.next || (self.lease.owner.is_none() && self.stopping.is_some())
        {
            return;
        }
        self.lease.busy = true;
        let (asked, known) = ((self.boot_clock)(), self.guard.asks(Asker::Lease));
        match self.lease.owner {
            Some(owner) => self.ask(move |queue| async move {
                Done::Renewed(owner, asked, queue.renew(owner, LEASE, &known).await)
            }),
            None => {
                let instance =
                    Instance { id: self.core.new_id(), name: self.name.clone(), lock: self.lock.clone() };
                self.ask(move |queue| async move {
                    let result = queue.join(&instance, LEASE, &known).await;
                    Done::Joined(instance.id, asked, result)
                });
            }
        }
    }

    fn count_peers(&mut self, owner: Uuid, now: Instant) {
        self.lease.next_count = now + COUNT;
        self.ask(move |queue| async move { Done::Peers(queue.peers(owner).await) });
    }

    fn submit(&mut self, Submit { way, sms }: Submit) {
        let dispatcher = self.dispatchers.get(&way).cloned();
        let epoch = self.guard.epoch;
        self.tasks.spawn(async move {
            let started = Instant::now();
            let attempt = sms.attempt;
            let limit = sms.timeout + SUBMIT_MARGIN;
            let submit = async {
                match dispatcher {
                    Some(dispatcher) => dispatcher.submit(&sms).await,
                    None => {
                        Err(SubmitError::new(Class::Unavailable, "this dispatcher is no longer configured"))
                    }
                }
            };
            let result = match tokio::time::timeout(limit, AssertUnwindSafe(submit).catch_unwind()).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    Err(SubmitError::new(Class::Unknown, "the dispatcher ended in a panic: a fault in smsd"))
                }
                Err(_) => Err(SubmitError::new(
                    Class::Unknown,
                    format!("no answer within {} s", limit.as_secs_f64()),
                )),
            };
            (epoch, Done::Submitted(attempt, result, started.elapsed()))
        });
    }

    fn probe(&mut self, way: WayId) {
        let Some(dispatcher) = self.dispatchers.get(&way).cloned() else { return };
        let epoch = self.guard.epoch;
        self.tasks.spawn(async move {
            let limit = Duration::from_secs(30);
            let result = match tokio::time::timeout(
                limit,
                AssertUnwindSafe(dispatcher.probe()).catch_unwind(),
            )
            .await
            {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    Err(SubmitError::new(Class::Unavailable, "the probe ended in a panic: a fault in smsd"))
                }
                Err(_) => Err(SubmitError::new(Class::Unavailable, "no answer to the probe within 30 s")),
            };
            (epoch, Done::Probed(way, result))
        });
    }

    fn ask<F, A>(&mut self, work: F)
    where
        F: FnOnce(Arc<dyn Queue>) -> A,
        A: Future<Output = Done> + Send + 'static,
    {
        let (epoch, work) = (self.guard.epoch, work(self.queue.clone()));
        self.tasks.spawn(async move { (epoch, work.await) });
    }

    // -- what has come to its end --------------------------------------------------------------

    fn take(&mut self, done: Result<(u64, Done), tokio::task::JoinError>) {
        let now = Instant::now();
        let outdated = done.as_ref().is_ok_and(|(epoch, _)| *epoch != self.guard.epoch);
        let done = match done {
            Ok((_, done)) if outdated => match self.outdated(done, now) {
                Some(done) => Ok(done),
                None => return,
            },
            done => done.map(|(_, done)| done),
        };
        match done {
            Ok(Done::Submitted(attempt, result, took)) => self.core.submitted(attempt, result, took, now),
            Ok(Done::Begun(owner, ids, result)) => self.begun(owner, &ids, result, outdated, now),
            Ok(Done::Settled(about, result)) => self.settled(&about, result, outdated, now),
            Ok(Done::Claimed(look, limit, result)) => self.claimed(look, limit, result, now),
            Ok(Done::Newest(result)) => {
                self.looks.busy = false;
                match self.heard(Verb::Look, result) {
                    Some(newest) => self.looks.newest = Some(newest),
                    None => self.looks.next_full = now + QUEUE_PAUSE.1,
                }
            }
            Ok(Done::Kicked(news)) => {
                self.looks.kick_armed = false;
                // A queue that does not answer is not asked sooner for a notification.
                if !self.silence.concerns(Verb::Look) {
                    self.looks.next_new = now;
                    if news == News::Freed {
                        self.looks.next_full = self.looks.next_full.min(now + self.settings.poll_interval);
                    }
                }
            }
            Ok(Done::Joined(id, asked, result)) => self.joined(id, asked, result, now),
            Ok(Done::Renewed(owner, asked, result)) => self.renewed(owner, asked, result, now),
            Ok(Done::Held(result)) => self.held(result, now),
            // Whoever can not tell tells it of the lease as well.
            Ok(Done::Peers(Ok(peers))) => self.core.know_peers(peers, now),
            Ok(Done::Peers(Err(_))) => {}
            Ok(Done::Doubts(result)) => {
                self.looks.doubting = false;
                self.looks.next_doubts = now + QUEUE_PAUSE.1;
                if let Some(doubts) = self.heard(Verb::Doubts, result) {
                    self.looks.next_doubts = now + self.settings.policy.delay;
                    self.core.learn_doubts(doubts, now);
                }
            }
            Ok(Done::Expired(result)) => {
                self.looks.expiring = false;
                self.looks.next_expire = now + QUEUE_PAUSE.1;
                if let Some(ids) = self.heard(Verb::Expire, result) {
                    self.looks.purged = true;
                    self.looks.next_expire = now + self.settings.policy.delay;
                    self.core.forget(&ids, now);
                    if !ids.is_empty() {
                        (self.events)(Event::Expired { alerts: ids });
                    }
                }
            }
            Ok(Done::Requeued(ids, result)) => {
                self.requeueing = false;
                self.looks.next_full = now;
                if self.heard(Verb::Requeue, result).is_none() {
                    self.requeues.extend(ids);
                }
            }
            Ok(Done::Probed(way, result)) => self.core.probed(way, result.map(|_| ()), now),
            // A queue's own task ended in a panic: what it was doing is not known to be done, and is asked again.
            Err(error) => {
                tracing::error!("a task of the engine ended early: {error}");
                self.begins.failed(now);
                self.settlements.failed(now);
                self.looks.busy = false;
                self.looks.doubting = false;
                self.looks.expiring = false;
                self.requeueing = false;
                self.lease.busy = false;
            }
        }
    }

    fn begun(
        &mut self,
        owner: Uuid,
        ids: &[Uuid],
        result: Result<Vec<Uuid>, QueueError>,
        outdated: bool,
        now: Instant,
    ) {
        match result {
            Ok(owned) => {
                self.begins.done();
                if !outdated {
                    self.guard_begun(&owned);
                }
                let may_send = self.may_send();
                if owned.len() < ids.len() && now >= self.lease.next_count {
                    // Most likely somebody has joined.
                    self.count_peers(owner, now);
                }
                self.core.begun(owner, ids, &owned, may_send, now);
                self.heard(Verb::Begin, Ok(()));
            }
            Err(QueueError::LeaseLost) => {
                self.begins.done();
                self.heard(Verb::Begin, Ok(()));
                self.core.not_begun(ids, now);
                self.lose_lease(now);
            }
            Err(QueueError::FromThePast(forgot)) => {
                self.begins.done();
                self.core.not_begun(ids, now);
                self.turn_back(forgot, now);
            }
            Err(error) => {
                self.begins.failed(now);
                self.heard::<()>(Verb::Begin, Err(error));
            }
        }
    }

    fn settled(&mut self, about: &Batch, result: Result<Settled, QueueError>, outdated: bool, now: Instant) {
        let result = match result {
            Err(_) if bug(Bug::SettleErrorIgnored) => Ok(Settled::default()),
            other => other,
        };
        match result {
            Err(_) if bug(Bug::SettleErrorSendsAgain) => {
                self.settlements.done();
                self.core.not_begun(&about.attempts, now);
            }
            Ok(settled) => {
                self.settlements.done();
                // What was open and is not ours to close was begun under a lease that has run out since, whatever a
                // clock that was set back says of it now: under that name nobody would ever take it over.
                let lost = |id: &Uuid| self.core.owner_of(*id).is_some_and(|o| Some(o) == self.lease.owner);
                let lost = settled.superseded.iter().any(lost);
                if !outdated {
                    let closed = about.attempts.iter().filter(|id| !settled.superseded.contains(id));
                    self.guard.closed(closed.copied());
                    if bug(Bug::KeptAfterSubmit) {
                        self.save_guard();
                    }
                }
                for id in &about.attempts {
                    self.core.settled(*id, settled.superseded.contains(id), now);
                }
                self.let_go();
                if lost {
                    self.lose_lease(now);
                }
                self.core.settled_beside(&about.beside);
                if !settled.vanished.is_empty() && !bug(Bug::VanishedUntold) {
                    (self.events)(Event::Vanished { alerts: settled.vanished });
                }
                self.heard(Verb::Settle, Ok(()));
            }
            Err(error) => {
                self.settlements.failed(now);
                self.heard::<()>(Verb::Settle, Err(error));
            }
        }
    }

    fn claimed(&mut self, look: Look, limit: usize, result: Result<Vec<Alert>, QueueError>, now: Instant) {
        self.looks.busy = false;
        let Some(alerts) = self.heard(Verb::Look, result) else {
            let later = now + QUEUE_PAUSE.1;
            self.looks.next_new = self.looks.next_new.max(later);
            // A walk that broke off begins anew.
            self.looks.next_full = match look {
                Look::Full { .. } => later,
                Look::New { .. } if self.looks.walk.is_some() => later,
                Look::New { .. } => self.looks.next_full.max(later),
            };
            self.looks.walk = None;
            return;
        };
        self.guard.saw(&alerts);
        let full_page = is_full_page(&alerts, limit);
        let last = alerts.last().map(|a| Place { severity: a.severity, id: a.id });
        if let Look::Full { after } = look {
            self.core.prune(Covered { after, to: last.filter(|_| full_page) }, &alerts, now);
        }
        match look {
            Look::New { .. } => {
                self.looks.newest = alerts.iter().map(|a| a.id).chain(self.looks.newest).max();
                self.looks.next_new = if full_page { now } else { now + self.settings.poll_interval };
            }
            Look::Full { .. } if limit < PAGE => {}
            Look::Full { after } => {
                if after.is_none() {
                    self.looks.next_full = now + self.settings.policy.delay;
                }
                self.looks.walk = last.filter(|_| full_page);
                if self.pulse.set_ready() {
                    (self.events)(Event::Ready);
                }
            }
        }
        self.core.learn(alerts, now);
    }

    fn joined(&mut self, id: Uuid, asked: Duration, result: Result<Grant, QueueError>, now: Instant) {
        self.lease.busy = false;
        if let Err(QueueError::FromThePast(forgot)) = result {
            return self.turn_back(forgot, now);
        }
        if let Some(grant) = self.heard(Verb::Lease, result) {
            self.guard.granted(id, grant, asked);
            if !self.guard.is_holding() {
                self.save_guard();
            }
            self.lease.owner = Some(id);
            self.lease.trusted_until = asked + LEASE - TRUST_MARGIN;
            self.lease.next = now + RENEW;
            self.lease.pause = QUEUE_PAUSE.0;
            self.core.joined(id);
            self.count_peers(id, now);
            self.looks.next_doubts = now;
        } else {
            self.lease.next = now + self.lease.pause;
            self.lease.pause = (self.lease.pause * 2).min(QUEUE_PAUSE.1);
        }
    }

    fn renewed(&mut self, owner: Uuid, asked: Duration, result: Result<Grant, QueueError>, now: Instant) {
        self.lease.busy = false;
        match result {
            Ok(grant) => {
                if self.lease.owner == Some(owner) {
                    self.guard.granted(owner, grant, asked);
                }
                self.lease.trusted_until = asked + LEASE - TRUST_MARGIN;
                self.lease.next = now + RENEW;
                if let Some(owner) = self.lease.owner {
                    self.count_peers(owner, now);
                }
                self.heard(Verb::Lease, Ok(()));
            }
            Err(QueueError::LeaseLost) => self.lose_lease(now),
            Err(QueueError::FromThePast(forgot)) => self.turn_back(forgot, now),
            Err(error) => {
                self.lease.next = now + QUEUE_PAUSE.1;
                self.heard::<()>(Verb::Lease, Err(error));
            }
        }
    }

    fn lose_lease(&mut self, now: Instant) {
        if self.lease.owner.take().is_some() {
            (self.events)(Event::LeaseLost);
            self.lease.next = now;
            self.lease.trusted_until = Duration::ZERO;
            self.looks.next_full = now;
            self.unwritten(now);
        }
    }

    /// What has only been planned is not begun after all.
    fn unwritten(&mut self, now: Instant) {
        let ids: Vec<Uuid> = self.begins.gathered.drain(..).map(|attempt| attempt.id).collect();
        self.core.not_begun(&ids, now);
    }

    /// Notes whether the queue answers, and tells a change once.
    fn heard<T>(&mut self, verb: Verb, result: Result<T, QueueError>) -> Option<T> {
        let now = Instant::now();
        match result {
            Ok(value) => {
                if self.silence.succeeded(verb) {
                    // A queue that was away may have come back from the past.
                    self.looks.next_full = now;
                    self.looks.next_doubts = now;
                }
                if let Some(after) = self.silence.is_over(now) {
                    (self.events)(Event::QueueBack { after });
                }
                Some(value)
            }
            Err(error) => {
                if let Some(reason) = self.silence.failed(verb, &error, now) {
                    (self.events)(Event::QueueLost { reason });
                }
                None
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Reconfigure(settings, WaysBox(ways)) => {
                self.settings = *settings;
                if self.settings.autocancel.is_none() {
                    self.silence.succeeded(Verb::Expire);
                }
                self.use_ways(ways, now);
                self.looks.next_full = now;
                (self.events)(Event::Reloaded);
            }
        }
    }

    /// Dispatchers that are the same as before keep what they know and have open. Those that are gone stay until what
    /// they have on its way is over.
    fn use_ways(&mut self, ways: Ways, now: Instant) {
        let (configs, dispatchers): (Vec<_>, Vec<_>) = ways.into_iter().unzip();
        let mut order =
            self.core.reconfigure(self.settings.policy.clone(), self.settings.shape.clone(), configs, now);
        if bug(Bug::ReloadMixesDispatchers) {
            order.sort();
        }
        let is_new = |(way, new): &(&WayId, &Arc<dyn Dispatcher>)| {
            self.dispatchers.get(way).is_none_or(|old| !Arc::ptr_eq(old, new))
        };
        let rebuilt: Vec<WayId> =
            order.iter().zip(&dispatchers).filter(is_new).map(|(way, _)| *way).collect();
        self.core.rebuilt(&rebuilt, now);
        self.dispatchers.extend(order.into_iter().zip(dispatchers));
        self.let_go();
    }

    /// What is not configured any more, and has nothing on its way, ends with its connections and children.
    fn let_go(&mut self) {
        let core = &self.core;
        self.dispatchers.retain(|way, _| !core.is_over(*way));
    }

    // -- time and stopping ---------------------------------------------------------------------

    /// We send only while we are sure that no other instance takes us for dead.
    fn may_send(&self) -> bool {
        let trusted = (self.boot_clock)() < self.lease.trusted_until || bug(Bug::NoLeaseCheck);
        let held = !self.guard.is_holding() || bug(Bug::GuardLooksFirst);
        self.lease.owner.is_some() && trusted && held
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let looks = match (&self.stopping, self.lease.owner) {
            (None, Some(_)) if self.guard.is_holding() => self.guard.wake(),
            (None, Some(_)) => {
                let l = &self.looks;
                let can_walk = self.core.room() >= WALK_ROOM;
                // What `look` does not do yet is nothing to wake up for.
                let ready = !l.busy && self.is_purged();
                let known = ready && l.newest.is_some();
                let new = known.then_some(l.next_new);
                let full = match known && can_walk && (l.walk.is_some() || self.core.misses()) {
                    true => Some(now),
                    false => (ready && (!known || can_walk)).then_some(l.next_full),
                };
                let peek = (known && !can_walk).then_some(l.next_peek);
                let confirm = (known && l.confirm).then_some(now);
                let doubts = (!l.doubting).then_some(l.next_doubts);
                let expire = (!l.expiring && self.settings.autocancel.is_some()).then_some(l.next_expire);
                [new, full, peek, confirm, doubts, expire].into_iter().flatten().min()
            }
            _ => None,
        };
        let lease = (!self.lease.busy && (self.lease.owner.is_some() || self.stopping.is_none()))
            .then_some(self.lease.next);
        let deadline = self.stopping.as_ref().map(|(at, _)| *at);
        let begins = self.lease.owner.and_then(|_| self.begins.wake());
        let wakes = [looks, lease, deadline, begins, self.settlements.wake(), self.core.next_wake(now)];
        wakes.into_iter().flatten().min().unwrap_or(now + RENEW)
    }

    fn stop(&mut self, reason: Option<Stop>) {
        if self.stopping.is_some() {
            return;
        }
        let now = Instant::now();
        self.core.drain(now);
        self.unwritten(now);
        if let Some(reason) = &reason {
            (self.events)(Event::GaveUp { reason: reason.to_string() });
        }
        (self.events)(Event::Stopping { in_flight: self.core.in_flight() });
        self.stopping = Some((now + self.settings.shutdown_timeout, reason));
    }

    fn is_quiet(&self) -> bool {
        self.core.is_idle() && self.settlements.is_empty()
    }

    /// Nothing is sent before what is too old has been cancelled.
    fn is_purged(&self) -> bool {
        self.looks.purged || self.settings.autocancel.is_none()
    }

    /// Gives the lease back. What is still open comes into doubt, by the queue.
    async fn leave(mut self) -> Result<(), Stop> {
        let in_flight = self.core.in_flight();
        self.tasks.shutdown().await;
        if let Some(owner) = self.lease.owner {
            let left = tokio::time::timeout(Duration::from_secs(2), self.queue.leave(owner)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::warn!(
                    "the queue did not take our leave; our lease runs out in {} s",
                    LEASE.as_secs()
                );
            }
        }
        (self.events)(Event::Stopped { in_flight });
        match self.stopping.take() {
            Some((_, Some(reason))) => Err(reason),
            _ => Ok(()),
        }
    }
}
