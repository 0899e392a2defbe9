//! One run: the database, the gateways, the processes, and the director who does to them what the seed says.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use smsd::alert::{AlertId, Phone, Severity};
use smsd::compose::Shape;
use smsd::config::Main;
use smsd::dispatch::{Dispatcher, Sms};
use smsd::engine::policy::Policy;
use smsd::engine::{Command, Engine, Resources, Settings, Ways, WaysBox};
use smsd::failover::WayConfig;
use smsd::queue::memory::{Backup, MemoryQueue};
use smsd::queue::{AlertRow, AlertState, Filter, NewAlert, Queue};
use smsd::telemetry::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::calm::{Meter, Wait};
use super::database::Connection;
use super::gateway::Line;
use super::oracle::{Oracle, Verdict, Violation, text_of};
use super::past::Kept;
use super::plan::Decided;
use super::plan::{Arrival, Configured, Dice, Fault, Mode, Plan, Rewritten, millis, phone_of, secs};
use super::process::{Control, Process};

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub violation: Option<Violation>,
    /// All that happened, if it was recorded.
    pub log: Vec<String>,
    /// Of the tables at the end.
    pub hash: u64,
    /// How much time passed in the world.
    pub span: Duration,
    pub accepts: usize,
    /// How long healthy recipients waited, in a calm world.
    pub waits: Vec<Wait>,
}

/// Everything outside the engines.
pub struct World {
    pub queue: Arc<MemoryQueue>,
    pub plan: Plan,
    start: Instant,
    /// Seconds by which the database's clock is ahead, and the machine's own.
    offset: Arc<AtomicI64>,
    boot_offset: AtomicI64,
    state: Mutex<State>,
}

pub struct State {
    pub rng: fastrand::Rng,
    pub oracle: Oracle,
    pub meter: Option<Meter>,
    pub modes: Vec<Mode>,
    pub dice: Dice,
    pub healed: bool,
    pub gone_until: Duration,
    pub slow_until: Duration,
    pub slow_by: Duration,
    suspend_at_begin: Option<i64>,
    suspended_at: Option<Duration>,
    /// As many changes of the ledger have been looked at.
    changes: u64,
    next_rows: Duration,
    /// With the key of the last alert in it.
    pub backup: Option<(Backup, AlertId)>,
    /// The key of the last alert.
    pub arrived: i64,
    violation: Option<Violation>,
    log: Option<Vec<String>>,
    accepts: usize,
}

impl State {
    pub fn judge(&mut self, verdict: Verdict) {
        if let (Err(violation), None) = (verdict, &self.violation) {
            self.violation = Some(violation);
        }
    }
}

impl World {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn log(&self, line: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(log) = &mut self.lock().log {
            let line = format!("{:10.3} {}", now.as_secs_f64(), line());
            if std::env::var_os("SMSD_SIM_LIVE").is_some() {
                println!("{line}");
            }
            log.push(line);
        }
    }

    pub fn measure(&self, write: impl FnOnce(&mut Meter, Duration)) {
        let now = self.now();
        if let Some(meter) = &mut self.lock().meter {
            write(meter, now);
        }
    }

    pub fn gateway_latency(&self) -> Duration {
        let mut w = self.lock();
        let latency = w.dice.gateway_latency;
        latency.mul_f64(0.5 + w.rng.f64())
    }

    pub fn handed_over(&self, sms: &Sms, way: usize, running: bool) {
        let jumps = self.plan.clock_jumps();
        let mut w = self.lock();
        // Nobody can look at a clock and send in the same moment: who is suspended in between sends all the same.
        let awake = w.suspended_at != Some(self.now());
        let verdict = w.oracle.handed_over(&self.queue, sms, way, running && awake && !jumps);
        w.judge(verdict);
    }

    fn suspend(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Ordering::Relaxed);
        self.boot_offset.fetch_add(seconds, Ordering::Relaxed);
        self.lock().suspended_at = Some(self.now());
    }

    pub fn suspend_if_asked(&self) {
        let asked = self.lock().suspend_at_begin.take();
        if let Some(seconds) = asked {
            self.log(|| format!("suspended for {seconds} s"));
            self.suspend(seconds);
        }
    }

    /// The database has done something: all must hold. What must hold of the alerts is looked at each second.
    pub async fn changed(&self) {
        let now = self.now();
        let with_rows = {
            let mut w = self.lock();
            let changes = self.queue.changes();
            if changes == w.changes {
                return;
            }
            w.changes = changes;
            let verdict = w.oracle.check(&self.queue, &self.plan);
            w.judge(verdict);
            let due = now >= w.next_rows;
            if due {
                w.next_rows = now + secs(1);
            }
            due
        };
        if with_rows {
            self.check_rows().await;
        }
    }

    fn check_whole(&self) {
        let mut w = self.lock();
        let verdict = w.oracle.check_whole(&self.queue, &self.plan);
        w.judge(verdict);
    }

    async fn check_rows(&self) {
        let (rows, audit) = (self.rows().await, self.queue.audit().await.unwrap());
        let mut w = self.lock();
        let verdict = w.oracle.check_rows(&self.queue, &rows, &audit, &self.plan);
        w.judge(verdict);
    }

    async fn rows(&self) -> Vec<AlertRow> {
        self.queue.list(&Filter { state: None, to: None, limit: usize::MAX, before: None }).await.unwrap()
    }
}

/// One place where an engine runs, dies and is started again.
struct Slot {
    kept: Kept,
    control: Mutex<Arc<Control>>,
    stop: Mutex<CancellationToken>,
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    /// Its configuration file.
    configured: Mutex<Vec<Configured>>,
    written: Mutex<Rewritten>,
    /// How long it stays away when it has ended.
    away: Mutex<Duration>,
}

/// Runs one seed to its end.
pub fn run(seed: u64, record: bool) -> Outcome {
    play(Plan::new(seed), seed, record)
}

/// Runs one world to its end under paused time.
pub fn play(plan: Plan, seed: u64, record: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(live(plan, seed, record))
}

async fn live(plan: Plan, seed: u64, record: bool) -> Outcome {
    let start = Instant::now();
    let offset = Arc::new(AtomicI64::new(0));
    let clock = {
        let offset = offset.clone();
        let epoch = Timestamp::from_second(1_800_000_000).unwrap();
        move || epoch + start.elapsed() + jiff::SignedDuration::from_secs(offset.load(Ordering::Relaxed))
    };
    let state = State {
        rng: fastrand::Rng::with_seed(seed),
        oracle: Oracle::new(plan.configured()),
        meter: Meter::new(&plan),
        modes: vec![Mode::Up; plan.ways.len()],
        dice: plan.dice,
        healed: false,
        gone_until: Duration::ZERO,
        slow_until: Duration::ZERO,
        slow_by: Duration::ZERO,
        suspend_at_begin: None,
        suspended_at: None,
        changes: 0,
        next_rows: Duration::ZERO,
        backup: None,
        arrived: 0,
        violation: None,
        log: record.then(Vec::new),
        accepts: 0,
    };
    let queue = Arc::new(MemoryQueue::with_clock(Arc::new(clock)));
    let world = Arc::new(World {
        queue,
        plan,
        start,
        offset,
        boot_offset: AtomicI64::new(0),
        state: Mutex::new(state),
    });
    world.log(|| format!("{:?}", world.plan));

    let over = CancellationToken::new();
    let slots: Vec<Arc<Slot>> = (0..world.plan.instances)
        .map(|_| {
            Arc::new(Slot {
                kept: Kept::default(),
                control: Mutex::default(),
                stop: Mutex::new(CancellationToken::new()),
                commands: Mutex::default(),
                configured: Mutex::new(world.plan.configured()),
                written: Mutex::new(world.plan.written()),
                away: Mutex::new(Duration::ZERO),
            })
        })
        .collect();
    let supervisors: Vec<_> = slots
        .iter()
        .enumerate()
        .map(|(n, slot)| tokio::spawn(supervise(world.clone(), slot.clone(), n, seed, over.clone())))
        .collect();

    direct(&world, &slots).await;
    if settle(&world).await {
        let rows = world.rows().await;
        {
            let mut guard = world.lock();
            let w = &mut *guard;
            w.judge(w.oracle.check_end(&world.queue, &rows, &world.plan));
        }
        // Who was frozen until now may have something to tell yet.
        sleep(secs(1)).await;
        let mut guard = world.lock();
        let w = &mut *guard;
        w.judge(w.oracle.people.all_told());
    }
    over.cancel();
    for slot in &slots {
        slot.stop.lock().unwrap().cancel();
    }
    for supervisor in supervisors {
        if let Err(error) = supervisor.await {
            world.lock().judge(Err(Violation::new(format!("an engine ended in a panic: {error}"))));
        }
    }
    world.check_whole();
    world.check_rows().await;
    let mut hasher = DefaultHasher::new();
    world.queue.each_attempt(|w| format!("{w:?}").hash(&mut hasher));
    format!("{:?}", world.rows().await).hash(&mut hasher);
    let mut w = world.lock();
    let mut waits = Vec::new();
    if let Some(meter) = w.meter.take() {
        let verdict;
        (waits, verdict) = meter.read(world.now());
        w.judge(verdict);
    }
    Outcome {
        violation: w.violation.take(),
        log: w.log.take().unwrap_or_default(),
        hash: hasher.finish(),
        span: world.now(),
        accepts: w.accepts,
        waits,
    }
}

/// Does what the seed says, and heals all.
async fn direct(world: &Arc<World>, slots: &[Arc<Slot>]) {
    enum Deed {
        BackUp,
        GoBack { kill: bool },
        Arrive(Arrival),
        Fault(Fault),
    }
    let mut deeds: Vec<(Duration, Deed)> = world
        .plan
        .arrivals
        .iter()
        .map(|a| (a.at, Deed::Arrive(*a)))
        .chain(world.plan.faults.iter().map(|(at, fault)| (*at, Deed::Fault(*fault))))
        .collect();
    if let Some(past) = world.plan.past {
        deeds.extend([(past.backup_at, Deed::BackUp), (past.restore_at, Deed::GoBack { kill: past.kills })]);
    }
    deeds.sort_by_key(|(at, _)| *at);
    for (at, deed) in deeds {
        sleep_until(world.start + at).await;
        if world.lock().violation.is_some() {
            return;
        }
        match deed {
            Deed::Arrive(arrival) => arrive(world, arrival).await,
            Deed::BackUp => world.back_up(),
            Deed::GoBack { kill } => {
                world.log(|| "the database goes back".into());
                world.go_back();
                if kill {
                    slots.iter().for_each(|slot| slot.control.lock().unwrap().kill());
                }
            }
            Deed::Fault(fault) => befall(world, slots, fault).await,
        }
    }
    sleep_until(world.start + world.plan.heal_at).await;
    if let Some(but) = &world.plan.served_but {
        let but: Vec<String> = but.iter().map(|n| phone_of(*n)).collect();
        let left = |row: &&AlertRow| row.state != AlertState::Sent && !but.contains(&row.to);
        if let Some(row) = world.rows().await.iter().find(left) {
            let what = "somebody waits for those who can not be served";
            world.lock().judge(Err(Violation::new(what).alert(row.id)));
            return;
        }
    }
    world.log(|| "all is healed".into());
    {
        let mut w = world.lock();
        w.healed = true;
        w.modes.fill(Mode::Up);
        if let Some(meter) = &mut w.meter {
            (0..world.plan.ways.len()).for_each(|way| meter.changed(way, Mode::Up));
        }
        w.dice = Dice { gateway_latency: millis(5), ..Dice::default() };
    }
    for slot in slots {
        *slot.away.lock().unwrap() = Duration::ZERO;
        slot.control.lock().unwrap().freeze(false);
    }
    for (n, slot) in slots.iter().enumerate() {
        reload(world, slot, n);
    }
    if world.plan.past.is_some_and(|past| past.releases) {
        world.release_all().await;
    }
}

async fn arrive(world: &Arc<World>, arrival: Arrival) {
    let id = {
        let mut w = world.lock();
        w.arrived += 1;
        w.arrived
    };
    let text = text_of(id, arrival.words);
    let severity = Severity(arrival.severity);
    let to = if arrival.bad { "x12".into() } else { phone_of(arrival.recipient) };
    world.log(|| format!("alert {id} for {to}, severity {:?}", arrival.severity));
    world.measure(|meter, now| meter.arrived(AlertId(id), &to, now));
    match Phone::parse(&to) {
        Ok(to) if arrival.announced => {
            let new = NewAlert { to, text: text.into(), severity, account: None };
            world.queue.submit(&[new]).await.unwrap();
        }
        _ => {
            world.queue.insert(&to, &text, severity, world.queue.now());
        }
    }
}

async fn befall(world: &Arc<World>, slots: &[Arc<Slot>], fault: Fault) {
    world.log(|| format!("{fault:?}"));
    let now = world.now();
    match fault {
        Fault::Kill(n, away) => {
            *slots[n].away.lock().unwrap() = away;
            slots[n].control.lock().unwrap().kill();
        }
        Fault::KillAtPoll(n, polls, away) => {
            *slots[n].away.lock().unwrap() = away;
            slots[n].control.lock().unwrap().kill_at(polls);
        }
        Fault::Stop(n, away) => {
            *slots[n].away.lock().unwrap() = away;
            slots[n].stop.lock().unwrap().cancel();
        }
        Fault::Freeze(n, time) => {
            let control = slots[n].control.lock().unwrap().clone();
            control.freeze(true);
            tokio::spawn(async move {
                sleep(time).await;
                control.freeze(false);
            });
        }
        Fault::FreezeAtPoll(n, polls, time) => slots[n].control.lock().unwrap().freeze_at(polls, time),
        Fault::Gone(time) => world.lock().gone_until = now + time,
        Fault::Slow(time, by) => {
            let mut w = world.lock();
            w.slow_until = now + time;
            w.slow_by = by;
        }
        Fault::Jump(by) => {
            world.offset.fetch_add(by, Ordering::Relaxed);
        }
        Fault::Gateway(way, mode) => {
            world.lock().modes[way] = mode;
            world.measure(|meter, _| meter.changed(way, mode));
        }
        Fault::Cancel(id) => {
            if world.plan.past.is_some() {
                world.frees_others(AlertId(id));
            }
            world.person_decides(Decided::Cancel, AlertId(id)).await;
        }
        Fault::Decide(decided, pick) => {
            let id = world.pick(pick);
            world.person_decides(decided, id).await;
        }
        Fault::Meddle(meddling, pick) => {
            let id = world.pick(pick);
            world.meddle(meddling, id);
        }
        Fault::Reload(n, which) => {
            let configured = world.plan.reloads[which].clone();
            world.log(|| format!("smsd{n} is to work by {configured:?}"));
            world.lock().oracle.configured.push(configured.clone());
            slots[n].configured.lock().unwrap().clone_from(&configured);
            if let Some(Some(rewritten)) = world.plan.rewritten.get(which) {
                world.log(|| format!("smsd{n} is to work by {rewritten:?}"));
                slots[n].written.lock().unwrap().clone_from(rewritten);
            }
            reload(world, &slots[n], n);
        }
        Fault::Suspend(seconds) => world.suspend(seconds),
        Fault::SuspendAtBegin(seconds) => world.lock().suspend_at_begin = Some(seconds),
    }
}

/// Has the process in this place read its configuration anew.
fn reload(world: &Arc<World>, slot: &Slot, n: usize) {
    let control = slot.control.lock().unwrap().clone();
    let ways = ways(world, &control, &format!("smsd{n}"), &slot.configured.lock().unwrap());
    let settings = settings(world, &slot.written.lock().unwrap());
    if let Some(commands) = &*slot.commands.lock().unwrap() {
        let _ = commands.try_send(Command::Reconfigure(Box::new(settings), WaysBox(ways)));
    }
}

/// Waits until all is settled; false if something was wrong before.
async fn settle(world: &Arc<World>) -> bool {
    let deadline = Instant::now() + world.plan.bound();
    for round in 0.. {
        if world.lock().violation.is_some() {
            return false;
        }
        let rows = world.rows().await;
        if let Some(decision) = world.plan.decide {
            world.decide_held(decision, &rows).await;
        }
        if world.lock().oracle.check_end(&world.queue, &rows, &world.plan).is_ok()
            || Instant::now() >= deadline
        {
            return true;
        }
        // Life goes on: other people are texted too.
        if round % 4 == 0 && Instant::now() + secs(60) < deadline {
            let (recipient, words) = (90_000 + round, 3);
            let other =
                Arrival { at: world.now(), recipient, severity: None, words, announced: false, bad: false };
            arrive(world, other).await;
        }
        sleep(secs(5)).await;
    }
    true
}

/// Starts an engine whenever there is none.
async fn supervise(world: Arc<World>, slot: Arc<Slot>, n: usize, seed: u64, over: CancellationToken) {
    let mut life = 0;
    while !over.is_cancelled() {
        life += 1;
        let control = Arc::new(Control::default());
        let stop = over.child_token();
        *slot.control.lock().unwrap() = control.clone();
        *slot.stop.lock().unwrap() = stop.clone();
        let name = format!("smsd{n}.{life}");
        world.log(|| format!("{name} starts"));
        let seed = seed.wrapping_mul(1000) + life;
        let work = Box::pin(engine(&world, &slot, &control, &name, n, seed, stop));
        let end = Process { work, control: control.clone() }.await;
        control.kill();
        world.lock().oracle.people.gone(&name);
        world.log(|| format!("{name} ends: {end:?}"));
        let mut away = std::mem::take(&mut *slot.away.lock().unwrap());
        if end.is_some_and(|end| end != "Ok(())") {
            // One that stops by itself is started again only after a while, as a service manager does it.
            away = away.max(secs(1));
        }
        if !over.is_cancelled() {
            let healed = world.lock().healed;
            sleep(if healed { millis(100) } else { away }).await;
        }
    }
}

/// The dispatchers that are configured, for one process.
fn ways(world: &Arc<World>, control: &Arc<Control>, name: &str, configured: &[Configured]) -> Ways {
    let plan = &world.plan;
    let way = |c: &Configured| {
        let config = WayConfig {
            name: format!("gw{}", c.way).into(),
            concurrency: c.concurrency,
            rate: c.rate,
            timeout: plan.main.submit_timeout,
            grace: plan.ways[c.way].grace,
            remembers: Duration::ZERO,
        };
        let line = Line { world: world.clone(), control: control.clone(), way: c.way, name: name.to_owned() };
        (config, Arc::new(line) as Arc<dyn Dispatcher>)
    };
    configured.iter().map(way).collect()
}

fn settings(world: &World, written: &Rewritten) -> Settings {
    let Rewritten { main, overflow, poll } = written;
    // Who was told too late to read it anew reads it when all is healed.
    let permissive = world.plan.permissive().main;
    let main = if world.lock().healed {
        &Main { max_per_hour: 0, allow: permissive.allow, deny: permissive.deny, ..main.clone() }
    } else {
        main
    };
    Settings {
        policy: Policy::new(main),
        shape: Shape { overflow: *overflow, ..Shape::default() },
        poll_interval: *poll,
        autocancel: main.autocancel.clone(),
        shutdown_timeout: main.shutdown_timeout,
    }
}

fn engine(
    world: &Arc<World>,
    place: &Slot,
    control: &Arc<Control>,
    name: &str,
    slot: usize,
    seed: u64,
    stop: CancellationToken,
) -> impl Future<Output = String> + use<> {
    let ways = ways(world, control, name, &place.configured.lock().unwrap());
    let settings = settings(world, &place.written.lock().unwrap());
    let mut ids = fastrand::Rng::with_seed(seed ^ ((slot as u64) << 56));
    let (clock, told, teller) = (world.clone(), world.clone(), name.to_owned());
    let resources = Resources {
        queue: Arc::new(Connection {
            world: world.clone(),
            control: control.clone(),
            slot,
            name: name.to_owned(),
            links: Default::default(),
        }),
        ways,
        name: name.to_owned(),
        lock: format!("lock {slot}"),
        boot_clock: Box::new(move || clock.now() + secs(clock.boot_offset.load(Ordering::Relaxed) as u64)),
        ids: Box::new(move || Uuid::from_u64_pair(ids.u64(..), ids.u64(..))),
        keep: Box::new(place.kept.clone()),
        sizes: world.plan.sizes,
        seed,
        events: Box::new(move |event| {
            told.log(|| format!("{teller}: {event:?}"));
            let mut w = told.lock();
            if matches!(event, Event::FromThePast { .. }) && !w.oracle.past.has_gone_back() {
                w.judge(Err(Violation::new("a false alarm: the database has not gone back")));
            }
            if let Event::Vanished { alerts } = &event {
                w.oracle.people.told(&teller, alerts);
            }
            w.oracle.doubted |=
                matches!(event, Event::Doubtful { .. } | Event::Held { .. } | Event::Suspected { .. });
            w.accepts += usize::from(matches!(event, Event::Accepted { .. }));
        }),
    };
    let (commands, inbox) = mpsc::channel(16);
    *place.commands.lock().unwrap() = Some(commands);
    async move { format!("{:?}", Engine::new(settings, resources).run(stop, inbox).await) }
}
