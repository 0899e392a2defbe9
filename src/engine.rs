//! The engine: the one task that sees both the queue and the dispatchers.
//!
//! All decisions are taken by [`core::Core`], which does no I/O. This shell carries them out, and wakes for four
//! reasons only: a stop, a kick (a notification, a command), a timer, and work that has come to its end.
//!
//! At any time at most one `claim`, one `begin` and one `settle` is under way. What gathers meanwhile goes into
//! the next: that is the group commit. A `begin` or `settle` that fails is repeated until the queue has
//! answered for certain; nothing is ever resent because writing it down was slow. What the queue refuses to write for
//! one row's sake is found out by halves, and tried beside the others from then on (`slow`).

pub mod core;
pub mod guard;
pub mod outcome;
mod pipe;
pub mod policy;
pub mod pulse;
pub mod retry;
mod silence;
mod sizes;
mod slow;
pub mod waiting;

use std::collections::{HashMap, HashSet};
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
use self::pipe::{Lane, Pipe, QUEUE_PAUSE};
use self::policy::Policy;
use self::pulse::{AT_REST, Pulse};
use self::silence::{Silence, Verb};
pub use self::sizes::Sizes;
use crate::alert::{Alert, AlertId};
use crate::compose::Shape;
use crate::dispatch::{Class, Dispatcher, Health, Receipt, SubmitError};
use crate::failover::{WayConfig, WayId};
use crate::queue::{
    Age, Caught, Doubt, EXPIRED_AT_ONCE, Forgot, Grant, Instance, Look, NewAttempt, News, Peers, Place,
    Queue, QueueError, Settled, Settlement, Witness, is_full_page,
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
/// With a full window, how often the most severe that wait are looked at.
const PEEK: Duration = Duration::from_secs(1);
/// What a text is taken to be long, in bytes, before any was seen.
const TEXT: usize = 16 << 10;
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
    /// How much it knows and asks at once.
    pub sizes: Sizes,
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
    sizes: Sizes,
    core: Core,
    queue: Arc<dyn Queue>,
    dispatchers: HashMap<WayId, Arc<dyn Dispatcher>>,
    name: String,
    lock: String,
    boot_clock: Box<dyn Fn() -> Duration + Send>,
    events: Box<dyn FnMut(Event) + Send>,
    tasks: JoinSet<Ended>,

    guard: Guard,
    lease: Lease,
    looks: Looks,
    begins: Pipe<NewAttempt>,
    settlements: Pipe<(Uuid, Settlement)>,
    /// Attempts that may have been begun although no `begin` said so for certain.
    uncertain: HashSet<Uuid>,
    silence: Silence,
    stopping: Option<(Instant, Option<Stop>)>,
    pulse: Pulse,
}

/// A task that came to its end.
struct Ended {
    /// Before how many pasts it was asked for ([`Guard::epoch`]).
    epoch: u64,
    /// What the queue was asked; `None` if it was a dispatcher.
    verb: Option<Verb>,
    /// It ended in a panic: what the queue did is not known.
    panicked: bool,
    done: Done,
}

/// What came of it.
enum Done {
    Joined(Uuid, Duration, Result<Grant, QueueError>),
    Renewed(Uuid, Duration, Result<Grant, QueueError>),
    Held(Result<Caught, QueueError>),
    Peers(Result<Peers, QueueError>),
    Witnessed(Result<Witness, QueueError>),
    Newest(Result<AlertId, QueueError>),
    Claimed(Purpose, Look, usize, Result<Vec<Alert>, QueueError>),
    Expired(Result<Vec<AlertId>, QueueError>),
    Doubts(Result<Vec<Doubt>, QueueError>),
    Begun(Lane, Uuid, Vec<Uuid>, Result<Vec<Uuid>, QueueError>),
    Settled(Lane, Batch, Result<Settled, QueueError>),
    Submitted(Uuid, Result<Receipt, SubmitError>, Duration),
    Probed(WayId, Result<Health, SubmitError>),
    Kicked(Result<News, QueueError>),
}

/// What came of a `begin` or a `settle`.
struct Answer<T> {
    result: Result<T, QueueError>,
    panicked: bool,
    /// It was asked before the queue came back from the past.
    outdated: bool,
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

/// What a look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// What was queued since the last look.
    New,
    /// What waits first of all.
    Head,
    /// All that waits, page by page.
    Walk,
}

/// When the queue is looked at.
struct Looks {
    /// The highest key seen; `None` until the queue has told it.
    newest: Option<AlertId>,
    /// A look (claim, newest) is under way.
    busy: bool,
    kick_armed: bool,
    next_kick: Instant,
    next_new: Instant,
    /// When a walk through all that waits begins, unless one is under way: then as soon as that has ended.
    next_full: Instant,
    /// Where the walk goes on, and from when on.
    walk: Option<Place>,
    next_page: Instant,
    next_peek: Instant,
    /// Where a look at the head goes on: the page before had hardly anybody who can be served.
    peek: Option<Place>,
    peek_began: Instant,
    /// The head of the queue is to be looked at now.
    confirm: bool,
    /// What the last look was for.
    last: Purpose,
    /// Bytes of a text, on average.
    text: usize,
    next_expire: Instant,
    expiring: bool,
    next_doubts: Instant,
    doubting: bool,
}

impl Engine {
    /// Puts an engine together; [`Engine::run`] starts it.
    pub fn new(settings: Settings, resources: Resources) -> Engine {
        let now = Instant::now();
        let Resources { queue, ways, name, lock, boot_clock, ids, keep, sizes, seed, mut events } = resources;
        let (guard, unreadable) = Guard::new(keep);
        if let Some(reason) = unreadable {
            events(Event::NotKept { reason });
        }
        let core = Core::new(settings.policy.clone(), settings.shape.clone(), sizes, ids, seed, now);
        let boot_clock: Box<dyn Fn() -> Duration + Send> = match bug(Bug::LeaseStandsStill) {
            true => Box::new(move || now.elapsed()),
            false => boot_clock,
        };
        let mut engine = Engine {
            settings,
            sizes,
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
                next_kick: now,
                next_new: now,
                next_full: now,
                walk: None,
                next_page: now,
                next_peek: now,
                peek: None,
                peek_began: now,
                confirm: false,
                last: Purpose::New,
                text: TEXT,
                next_expire: now,
                expiring: false,
                next_doubts: now,
                doubting: false,
            },
            begins: Pipe::new(now),
            settlements: Pipe::new(now),
            uncertain: HashSet::new(),
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
                if !self.silence.is_broken(now) {
                    self.pulse.beat();
                }
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
        let Outbox { begins, submits, settlements, probes, events, look_soon, look_now, stop } =
            self.core.take_out();
        for event in events {
            (self.events)(event);
        }
        self.begins.gathered.extend(begins);
        self.settlements.gathered.extend(settlements);
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
        if let (Some(owner), None) = (self.lease.owner, self.guard.rests(now)) {
            let alerts = |a: &NewAttempt| a.carried.len() + a.counted.len();
            if let Some(batch) = self.begins.batch(now, &self.sizes, alerts, |_, _| true) {
                self.begin(Lane::Main, owner, batch);
            }
            if let Some(attempt) = self.begins.slow.next(now) {
                self.begin(Lane::Slow, owner, vec![attempt]);
            }
        }
        let alerts = |(_, s): &(Uuid, Settlement)| s.verdicts.len();
        if let Some(batch) = self.settlements.batch(now, &self.sizes, alerts, |a, b| a.0 == b.0) {
            self.settle(Lane::Main, batch);
        }
        if let Some(settlement) = self.settlements.slow.next(now) {
            self.settle(Lane::Slow, vec![settlement]);
        }
    }

    fn begin(&mut self, lane: Lane, owner: Uuid, batch: Vec<NewAttempt>) {
        let ids: Vec<Uuid> = batch.iter().map(|a| a.id).collect();
        let known = match lane {
            Lane::Main => self.guard.asks(Asker::Begin),
            Lane::Slow => self.guard.known(),
        };
        let asked = ids.clone();
        let work = move |queue: Arc<dyn Queue>| async move {
            if bug(Bug::BegunBeforeDurable) {
                tokio::spawn(async move { queue.begin(owner, &batch, &known).await });
                return Ok(asked);
            }
            queue.begin(owner, &batch, &known).await
        };
        self.ask(Verb::Begin, work, move |result| Done::Begun(lane, owner, ids, result));
    }

    fn settle(&mut self, lane: Lane, batch: Vec<(Uuid, Settlement)>) {
        let owner = batch.first().map_or(Uuid::nil(), |(owner, _)| *owner);
        let batch: Vec<Settlement> = batch.into_iter().map(|(_, s)| s).collect();
        let about = Batch::of(&batch);
        let work = move |queue: Arc<dyn Queue>| async move { queue.settle(owner, &batch).await };
        self.ask(Verb::Settle, work, move |result| Done::Settled(lane, about, result));
    }

    /// Looks at the queue when it is time.
    fn look(&mut self, now: Instant) {
        let (Some(owner), None) = (self.lease.owner, &self.stopping) else { return };
        if !self.looks.kick_armed && now >= self.looks.next_kick {
            self.looks.kick_armed = true;
            self.ask(Verb::Wait, |queue| async move { Ok(queue.wait().await) }, Done::Kicked);
        }
        if self.hold_suspects(owner, now) {
            return;
        }
        if now >= self.looks.next_doubts && !self.looks.doubting {
            self.looks.doubting = true;
            self.ask(Verb::Doubts, move |queue| async move { queue.doubts(owner).await }, Done::Doubts);
        }
        if let Some(age) = self.settings.autocancel.clone()
            && now >= self.looks.next_expire
            && !self.looks.expiring
        {
            self.looks.expiring = true;
            self.ask(Verb::Expire, move |queue| async move { queue.expire(&age).await }, Done::Expired);
        }
        let (at, purpose) = self.next_look(now);
        if self.looks.busy || at > now {
            return;
        }
        self.looks.busy = true;
        let Some(newest) = self.looks.newest else {
            self.ask(Verb::Look, |queue| async move { queue.newest().await }, Done::Newest);
            return;
        };
        let page = self.sizes.page_of(self.looks.text);
        let (look, limit) = match purpose {
            Purpose::New => (Look::New { after: newest }, page),
            Purpose::Walk => {
                let after =
                    self.looks.walk.filter(|_| !(bug(Bug::WalkStartsOver) && now >= self.looks.next_full));
                if after.is_none() {
                    self.core.walking();
                    self.looks.next_full = now + self.settings.policy.delay;
                }
                (Look::Full { after }, page)
            }
            Purpose::Head => {
                let after = self.looks.peek.filter(|_| !self.looks.confirm);
                if after.is_none() {
                    self.looks.peek_began = now;
                }
                self.looks.confirm = false;
                // What is gone over only to get past it is gone over quickly.
                (Look::Full { after }, if after.is_none() { page.min(self.sizes.peek_page) } else { page })
            }
        };
        self.looks.last = purpose;
        self.core.looking();
        let age = self.settings.autocancel.clone();
        let work = move |queue: Arc<dyn Queue>| async move { queue.claim(look, limit, age.as_ref()).await };
        self.ask(Verb::Look, work, move |result| Done::Claimed(purpose, look, limit, result));
        if matches!(look, Look::New { .. }) {
            self.look_for_witness();
        }
    }

    /// What the queue is looked at for next, and when. New alerts first: they are cheap and may be urgent. Then the
    /// head and the walk in turns; a walk is never begun anew before it has ended.
    fn next_look(&self, now: Instant) -> (Instant, Purpose) {
        let l = &self.looks;
        if l.newest.is_none() {
            return (l.next_full, Purpose::Walk);
        }
        let can_walk = self.core.has_room();
        let new = Some((l.next_new, Purpose::New));
        let head = match (l.confirm, can_walk) {
            (true, _) => Some(now),
            (false, true) => None,
            (false, false) => Some(l.next_peek),
        };
        let walk = can_walk.then_some(match l.walk.is_some() || self.core.misses() {
            true => l.next_page,
            false => l.next_full.max(l.next_page),
        });
        let (head, walk) = (head.map(|at| (at, Purpose::Head)), walk.map(|at| (at, Purpose::Walk)));
        let in_turn = match l.last {
            Purpose::Head => [new, walk, head],
            Purpose::New | Purpose::Walk => [new, head, walk],
        };
        let looks = || in_turn.iter().flatten().copied();
        let due = looks().find(|(at, _)| *at <= now);
        due.or_else(|| looks().min_by_key(|(at, _)| *at)).unwrap_or((l.next_new, Purpose::New))
    }

    fn keep_lease(&mut self, now: Instant) {
        if self.lease.busy || now < self.lease.next || (self.lease.owner.is_none() && self.stopping.is_some())
        {
            return;
        }
        self.lease.busy = true;
        let (asked, known) = ((self.boot_clock)(), self.guard.asks(Asker::Lease));
        match self.lease.owner {
            Some(owner) => {
                let work =
                    move |queue: Arc<dyn Queue>| async move { queue.renew(owner, LEASE, &known).await };
                self.ask(Verb::Lease, work, move |result| Done::Renewed(owner, asked, result));
            }
            None => {
                let instance =
                    Instance { id: self.core.new_id(), name: self.name.clone(), lock: self.lock.clone() };
                let id = instance.id;
                let work =
                    move |queue: Arc<dyn Queue>| async move { queue.join(&instance, LEASE, &known).await };
                self.ask(Verb::Lease, work, move |result| Done::Joined(id, asked, result));
            }
        }
    }

    fn count_peers(&mut self, owner: Uuid, now: Instant) {
        self.lease.next_count = now + COUNT;
        self.ask(Verb::Peers, move |queue| async move { queue.peers(owner).await }, Done::Peers);
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
            let done = Done::Submitted(attempt, result, started.elapsed());
            Ended { epoch, verb: None, panicked: false, done }
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
            Ended { epoch, verb: None, panicked: false, done: Done::Probed(way, result) }
        });
    }

    /// Asks the queue. A panic costs this one answer: it is as if the queue had done it or not, and had not said so.
    fn ask<T, F, A>(
        &mut self,
        verb: Verb,
        work: F,
        done: impl FnOnce(Result<T, QueueError>) -> Done + Send + 'static,
    ) where
        T: Send + 'static,
        F: FnOnce(Arc<dyn Queue>) -> A + Send + 'static,
        A: Future<Output = Result<T, QueueError>> + Send + 'static,
    {
        let (epoch, queue) = (self.guard.epoch, self.queue.clone());
        self.tasks.spawn(async move {
            let (result, panicked) = match AssertUnwindSafe(async { work(queue).await }).catch_unwind().await
            {
                Ok(result) => (result, false),
                Err(_) => {
                    (Err(QueueError::Unavailable(format!("{verb} ended in a panic: a fault in smsd"))), true)
                }
            };
            Ended { epoch, verb: Some(verb), panicked, done: done(result) }
        });
    }

    // -- what has come to its end --------------------------------------------------------------

    fn take(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let now = Instant::now();
        let Ended { epoch, verb, panicked, done } = match ended {
            Ok(ended) => ended,
            Err(error) => return tracing::error!("a task of the engine ended early: {error}"),
        };
        if let Some(verb) = verb {
            self.silence.ended(verb, panicked, now);
        }
        if panicked && bug(Bug::PanicDoubles) {
            self.begins.failed(now);
            self.settlements.failed(now);
        }
        let outdated = epoch != self.guard.epoch;
        let done = match outdated {
            true => match self.outdated(done, now) {
                Some(done) => done,
                None => return,
            },
            false => done,
        };
        match done {
            Done::Submitted(attempt, result, took) => self.core.submitted(attempt, result, took, now),
            Done::Begun(lane, owner, ids, result) => {
                let result = Answer { result, panicked, outdated };
                self.begun(lane, owner, &ids, result, now);
            }
            Done::Settled(lane, about, result) => {
                let result = Answer { result, panicked, outdated };
                self.settled(lane, &about, result, now);
            }
            Done::Claimed(purpose, look, limit, result) => self.claimed(purpose, look, limit, result, now),
            Done::Newest(result) => {
                self.looks.busy = false;
                match self.heard(Verb::Look, result) {
                    Some(newest) => self.looks.newest = Some(newest),
                    None => self.looks.next_full = now + QUEUE_PAUSE.1,
                }
            }
            Done::Kicked(Err(_)) => {
                self.looks.kick_armed = false;
                self.looks.next_kick = now + QUEUE_PAUSE.1;
            }
            Done::Kicked(Ok(news)) => {
                self.looks.kick_armed = false;
                // A queue that does not answer is not asked sooner for a notification.
                if !self.silence.concerns(Verb::Look) {
                    self.looks.next_new = now;
                    if news == News::Freed {
                        self.looks.next_full = self.looks.next_full.min(now + self.settings.poll_interval);
                    }
                }
            }
            Done::Joined(id, asked, result) => self.joined(id, asked, result, now),
            Done::Renewed(owner, asked, result) => self.renewed(owner, asked, result, now),
            Done::Held(result) => self.held(result, now),
            Done::Witnessed(result) => self.witnessed(result, now),
            // Whoever can not tell tells it of the lease as well.
            Done::Peers(Ok(peers)) => self.core.know_peers(peers, now),
            Done::Peers(Err(_)) => {}
            Done::Doubts(result) => {
                self.looks.doubting = false;
                self.looks.next_doubts = now + QUEUE_PAUSE.1;
                if let Some(doubts) = self.heard(Verb::Doubts, result) {
                    self.looks.next_doubts = now + self.settings.policy.delay;
                    self.core.learn_doubts(doubts, now);
                }
            }
            Done::Expired(result) => {
                self.looks.expiring = false;
                self.looks.next_expire = now + QUEUE_PAUSE.1;
                if let Some(ids) = self.heard(Verb::Expire, result) {
                    let may_be_more = ids.len() >= EXPIRED_AT_ONCE;
                    self.looks.next_expire = if may_be_more { now } else { now + self.settings.policy.delay };
                    self.core.forget(&ids, now);
                    if !ids.is_empty() {
                        (self.events)(Event::Expired { alerts: ids });
                    }
                }
            }
            Done::Probed(way, result) => self.core.probed(way, result.map(|_| ()), now),
        }
    }

    fn begun(&mut self, lane: Lane, owner: Uuid, ids: &[Uuid], answer: Answer<Vec<Uuid>>, now: Instant) {
        let Answer { result, panicked, outdated } = answer;
        match result {
            Ok(owned) => {
                self.begin_is_over(lane, ids, now);
                match lane {
                    _ if outdated => {}
                    Lane::Main => self.guard_begun(&owned),
                    Lane::Slow => self.guard_wrote(&owned),
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
                self.begin_is_over(lane, ids, now);
                self.heard(Verb::Begin, Ok(()));
                self.core.not_begun(ids, now);
                self.lose_lease(now);
            }
            Err(QueueError::FromThePast(forgot)) => {
                self.begin_is_over(lane, ids, now);
                self.core.not_begun(ids, now);
                self.turn_back(forgot, now);
            }
            Err(error) => {
                let spoilt = matches!(error, QueueError::Poisoned(_) | QueueError::Refused(_));
                if !spoilt {
                    self.uncertain.extend(ids);
                }
                match lane {
                    Lane::Slow => self.begins.slow.failed(now),
                    Lane::Main if spoilt || panicked => self.begin_is_spoilt(error, now),
                    Lane::Main => {
                        self.begins.failed(now);
                        self.heard::<()>(Verb::Begin, Err(error));
                    }
                }
            }
        }
    }

    /// The queue has said for certain what it began of these.
    fn begin_is_over(&mut self, lane: Lane, ids: &[Uuid], now: Instant) {
        match lane {
            Lane::Main => self.begins.done(),
            Lane::Slow => self.begins.slow.done(now),
        }
        ids.iter().for_each(|id| _ = self.uncertain.remove(id));
    }

    /// One SMS spoils the batch. Once it stands alone it is given back, if it was certainly not begun; else it is
    /// asked for beside the others.
    fn begin_is_spoilt(&mut self, error: QueueError, now: Instant) {
        let Some(attempt) = self.begins.halve(now) else { return };
        let own = match error {
            QueueError::Poisoned(_) => Some(attempt),
            _ => self.begins.refused_alone(attempt, now),
        };
        let Some(attempt) = own else {
            self.heard::<()>(Verb::Begin, Err(error));
            return;
        };
        let (id, reason) = (attempt.id, error.to_string());
        if self.uncertain.contains(&id) {
            let alerts = self.core.stuck(id);
            (self.events)(Event::Stuck { attempt: Some(id), alerts, begun: true, reason });
            self.begins.slow.add(attempt, now);
        } else if let Some(alerts) = self.core.unbegun(id, now) {
            (self.events)(Event::Stuck { attempt: Some(id), alerts, begun: false, reason });
        }
    }

    fn settled(&mut self, lane: Lane, about: &Batch, answer: Answer<Settled>, now: Instant) {
        let Answer { result, panicked, outdated } = answer;
        let result = match result {
            Err(_) if bug(Bug::SettleErrorIgnored) => Ok(Settled::default()),
            other => other,
        };
        match result {
            Err(_) if bug(Bug::SettleErrorSendsAgain) => {
                self.settle_is_over(lane, now);
                self.core.not_begun(&about.attempts, now);
            }
            Ok(settled) => {
                self.settle_is_over(lane, now);
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
            Err(error) => match lane {
                Lane::Slow => self.settlements.slow.failed(now),
                Lane::Main if panicked => self.settle_is_spoilt(error, now),
                Lane::Main => match error {
                    QueueError::Poisoned(_) | QueueError::Refused(_) => self.settle_is_spoilt(error, now),
                    _ => {
                        self.settlements.failed(now);
                        self.heard::<()>(Verb::Settle, Err(error));
                    }
                },
            },
        }
    }

    fn settle_is_over(&mut self, lane: Lane, now: Instant) {
        match lane {
            Lane::Main => self.settlements.done(),
            Lane::Slow => self.settlements.slow.done(now),
        }
    }

    /// One outcome spoils the batch. Once it stands alone it is written beside the others, whenever that is possible.
    fn settle_is_spoilt(&mut self, error: QueueError, now: Instant) {
        let Some(settlement) = self.settlements.halve(now) else { return };
        let own = match error {
            QueueError::Poisoned(_) => Some(settlement),
            _ => self.settlements.refused_alone(settlement, now),
        };
        let Some(settlement) = own else {
            self.heard::<()>(Verb::Settle, Err(error));
            return;
        };
        let attempt = settlement.1.closing.as_ref().map(|closing| closing.id);
        let alerts = match attempt {
            Some(id) => self.core.stuck(id),
            None => settlement.1.verdicts.iter().map(|(id, _)| *id).collect(),
        };
        (self.events)(Event::Stuck { attempt, alerts, begun: true, reason: error.to_string() });
        self.settlements.slow.add(settlement, now);
    }

    fn claimed(
        &mut self,
        purpose: Purpose,
        look: Look,
        limit: usize,
        result: Result<Vec<Alert>, QueueError>,
        now: Instant,
    ) {
        self.looks.busy = false;
        let Some(alerts) = self.heard(Verb::Look, result) else {
            let later = now + QUEUE_PAUSE.1;
            let l = &mut self.looks;
            l.next_new = l.next_new.max(later);
            l.next_peek = l.next_peek.max(later);
            // A walk goes on where it broke off.
            l.next_page = later;
            l.peek = None;
            if purpose == Purpose::Walk && l.walk.is_none() {
                l.next_full = later;
            }
            return;
        };
        self.guard.saw(&alerts);
        if !alerts.is_empty() {
            let mean = alerts.iter().map(|a| a.text.len()).sum::<usize>() / alerts.len();
            // It grows at once, and shrinks as pages confirm it.
            self.looks.text = mean.max(self.looks.text / 4);
        }
        let full_page = is_full_page(&alerts, limit);
        let last = alerts.last().map(|a| Place { severity: a.severity, id: a.id }).filter(|_| full_page);
        if let Look::Full { after } = look {
            self.core.prune(Covered { after, to: last }, &alerts, now);
        }
        let hidden = full_page && self.core.servable(&alerts, now) < alerts.len() / 2;
        match purpose {
            Purpose::New => {
                self.looks.newest = alerts.iter().map(|a| a.id).chain(self.looks.newest).max();
                self.looks.next_new = if full_page { now } else { now + self.settings.poll_interval };
            }
            Purpose::Head => {
                self.looks.peek = last.filter(|_| hidden);
                let pause = PEEK.max(4 * now.saturating_duration_since(self.looks.peek_began));
                self.looks.next_peek = if self.looks.peek.is_some() { now } else { now + pause };
            }
            Purpose::Walk => {
                self.looks.walk = last;
                if self.pulse.set_ready() {
                    (self.events)(Event::Ready);
                }
            }
        }
        self.core.learn(alerts, now);
        if purpose == Purpose::Walk && self.looks.walk.is_none() {
            self.core.walked(now);
            // What there was no room for is not looked for again at once, in case there still is none.
            self.looks.next_page = now + self.settings.poll_interval;
        }
    }

    fn joined(&mut self, id: Uuid, asked: Duration, result: Result<Grant, QueueError>, now: Instant) {
        self.lease.busy = false;
        if let Err(QueueError::FromThePast(forgot)) = result {
            return self.turn_back(forgot, now);
        }
        if let Some(grant) = self.heard(Verb::Lease, result) {
            self.guard.granted(grant, asked, now);
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
                    self.guard.granted(grant, asked, now);
                    if !self.guard.is_holding() {
                        self.save_guard();
                    }
                }
                self.lease.trusted_until = asked + LEASE - TRUST_MARGIN;
                // An answer that came late says little of now: it is asked again at once.
                self.lease.next = now + RENEW.saturating_sub((self.boot_clock)().saturating_sub(asked));
                if let Some(owner) = self.lease.owner {
                    self.count_peers(owner, now);
                }
                self.heard(Verb::Lease, Ok(()));
            }
            Err(QueueError::LeaseLost) if bug(Bug::GuardCriesWolf) => self.turn_back(Forgot::Begun, now),
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
            self.uncertain.clear();
            let ids: Vec<Uuid> = self.begins.slow.drain().map(|attempt| attempt.id).collect();
            self.core.not_begun(&ids, now);
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
        self.lease.owner.is_some() && trusted && held && self.guard.rests(Instant::now()).is_none()
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let looks = match (&self.stopping, self.lease.owner) {
            (None, Some(_)) if self.guard.is_holding() => self.guard.wake(),
            (None, Some(_)) => {
                let l = &self.looks;
                let look = (!l.busy).then(|| self.next_look(now).0);
                let doubts = (!l.doubting).then_some(l.next_doubts);
                let expire = (!l.expiring && self.settings.autocancel.is_some()).then_some(l.next_expire);
                [look, doubts, expire].into_iter().flatten().min()
            }
            _ => None,
        };
        let lease = (!self.lease.busy && (self.lease.owner.is_some() || self.stopping.is_none()))
            .then_some(self.lease.next);
        let deadline = self.stopping.as_ref().map(|(at, _)| *at);
        let rested = self.guard.rests(now);
        let begins = self.lease.owner.and_then(|_| self.begins.wake()).map(|at| rested.unwrap_or(at).max(at));
        let wakes =
            [looks, lease, deadline, begins, rested, self.settlements.wake(), self.core.next_wake(now)];
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

    /// Gives the lease back. What is still open comes into doubt, by the queue.
    async fn leave(mut self) -> Result<(), Stop> {
        let in_flight = self.core.in_flight();
        self.tasks.shutdown().await;
        if let Some(owner) = self.lease.owner {
            let leave = AssertUnwindSafe(async { self.queue.leave(owner).await }).catch_unwind();
            let left = tokio::time::timeout(Duration::from_secs(2), leave).await;
            if !matches!(left, Ok(Ok(Ok(())))) {
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
