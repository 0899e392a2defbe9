//! What every scenario stands on: a queue in memory, scripted gateways, the real engine, time that is paused.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use smsd::alert::{AlertId, Phone, Severity};
use smsd::compose::Shape;
use smsd::config::Main;
use smsd::dispatch::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use smsd::engine::core::Stop;
use smsd::engine::guard::{Keep, KeepNothing};
use smsd::engine::policy::Policy;
use smsd::engine::pulse::Pulse;
use smsd::engine::{Engine, Resources, Settings, Sizes};
use smsd::failover::WayConfig;
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{AlertRow, AlertState, Filter, Queue};
use smsd::telemetry::Event;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const HANG: Duration = Duration::from_secs(10_000);

/// What a gateway does with an SMS.
pub type Script = Box<dyn Fn(&Sms) -> Answer + Send + Sync>;

pub enum Answer {
    Take,
    /// Takes it, and never says so.
    TakeAndHang,
    Hang,
    Refuse(Class),
    /// A fault in its own code.
    Panic,
}

/// A gateway that does as its script says, and remembers what it took.
pub struct Gateway {
    script: Mutex<Script>,
    alive: Mutex<Option<Class>>,
    taken: Mutex<Vec<(Instant, String, String)>>,
    asked: Mutex<Vec<(Instant, String)>>,
    latency: Duration,
}

impl Gateway {
    pub fn new(script: impl Fn(&Sms) -> Answer + Send + Sync + 'static) -> Arc<Gateway> {
        Arc::new(Gateway {
            script: Mutex::new(Box::new(script)),
            alive: Mutex::new(None),
            taken: Mutex::default(),
            asked: Mutex::default(),
            latency: Duration::from_millis(5),
        })
    }

    pub fn good() -> Arc<Gateway> {
        Gateway::new(|_| Answer::Take)
    }

    pub fn refusing(class: Class) -> Arc<Gateway> {
        let gateway = Gateway::new(move |_| Answer::Refuse(class));
        *gateway.alive.lock().unwrap() = (class == Class::Unavailable).then_some(class);
        gateway
    }

    pub fn now(&self, script: impl Fn(&Sms) -> Answer + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
        *self.alive.lock().unwrap() = None;
    }

    /// (when, to, text) of what it took.
    pub fn taken(&self) -> Vec<(Instant, String, String)> {
        self.taken.lock().unwrap().clone()
    }

    pub fn texts(&self) -> Vec<String> {
        self.taken().into_iter().map(|(_, _, text)| text).collect()
    }

    /// (when, to) of every submit, taken or not.
    pub fn asked(&self) -> Vec<(Instant, String)> {
        self.asked.lock().unwrap().clone()
    }

    pub fn asked_for(&self, phone: &str) -> usize {
        self.asked().iter().filter(|(_, to)| to == phone).count()
    }
}

#[async_trait]
impl Dispatcher for Gateway {
    fn limits(&self) -> Limits {
        Limits { max_segments: None }
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let to = sms.recipient.to_string();
        self.asked.lock().unwrap().push((Instant::now(), to.clone()));
        let answer = (self.script.lock().unwrap())(sms);
        if matches!(answer, Answer::Take | Answer::TakeAndHang) {
            self.taken.lock().unwrap().push((Instant::now(), to, sms.text.to_string()));
        }
        match answer {
            Answer::Take => {
                tokio::time::sleep(self.latency).await;
                Ok(Receipt { references: vec!["7".into()] })
            }
            Answer::Panic => panic!("on purpose"),
            Answer::Hang | Answer::TakeAndHang => {
                tokio::time::sleep(HANG).await;
                Err(SubmitError::new(Class::Unavailable, "much too late"))
            }
            Answer::Refuse(class) => {
                tokio::time::sleep(self.latency).await;
                Err(SubmitError::new(class, format!("scripted: {class}")))
            }
        }
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        match *self.alive.lock().unwrap() {
            None => Ok(Health("alive".into())),
            Some(class) => Err(SubmitError::new(class, "dead")),
        }
    }
}

/// A running engine.
pub struct Bench {
    pub queue: Arc<MemoryQueue>,
    pub events: Arc<Mutex<Vec<Event>>>,
    pub pulse: Pulse,
    stop: CancellationToken,
    engine: JoinHandle<Result<(), Stop>>,
    turns: Arc<Mutex<Turns>>,
    _commands: mpsc::Sender<smsd::engine::Command>,
}

/// Turns of the engine's loop.
#[derive(Default)]
struct Turns {
    all: usize,
    here: usize,
    now: Duration,
}

impl Turns {
    /// While it spins, paused time stands still: no scenario would end.
    fn count(&mut self, time: Duration) {
        self.all += 1;
        self.here = if time == self.now { self.here + 1 } else { 0 };
        self.now = time;
        assert!(self.here < 100_000, "the engine spins");
    }
}

pub struct Options {
    pub main: Main,
    pub lock: String,
    pub seed: u64,
    pub concurrency: usize,
    pub rate: Option<f64>,
    pub grace: Duration,
    pub remembers: Duration,
    pub keep: Box<dyn Keep>,
    pub sizes: Sizes,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            main: Main::default(),
            lock: "lock".into(),
            seed: 1,
            concurrency: 16,
            rate: None,
            grace: Duration::from_secs(30),
            remembers: Duration::ZERO,
            keep: Box::new(KeepNothing),
            sizes: Sizes::default(),
        }
    }
}

impl Bench {
    pub fn start(gateways: &[&Arc<Gateway>]) -> Bench {
        Bench::start_with(Arc::new(MemoryQueue::new()), gateways, |_| {})
    }

    pub fn start_with(
        queue: Arc<MemoryQueue>,
        gateways: &[&Arc<Gateway>],
        set: impl FnOnce(&mut Options),
    ) -> Bench {
        Bench::start_on(queue.clone(), queue, gateways, set)
    }

    /// The engine sees the first queue, which is somehow the second.
    pub fn start_on(
        seen: Arc<dyn Queue>,
        queue: Arc<MemoryQueue>,
        gateways: &[&Arc<Gateway>],
        set: impl FnOnce(&mut Options),
    ) -> Bench {
        let mut options = Options::default();
        set(&mut options);
        let Options { main, lock, seed, concurrency, rate, grace, remembers, keep, sizes } = options;
        let ways = gateways
            .iter()
            .enumerate()
            .map(|(n, gateway)| {
                let config = WayConfig {
                    name: format!("gw{}", n + 1).into(),
                    concurrency,
                    rate,
                    timeout: main.submit_timeout,
                    grace,
                    remembers,
                };
                (config, Arc::clone(gateway) as Arc<dyn Dispatcher>)
            })
            .collect();
        let settings = Settings {
            policy: Policy::new(&main),
            shape: Shape::of(&main),
            poll_interval: Duration::from_millis(250),
            autocancel: main.autocancel.clone(),
            shutdown_timeout: main.shutdown_timeout,
        };
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let told = events.clone();
        let start = Instant::now();
        let turns: Arc<Mutex<Turns>> = Arc::default();
        let counted = turns.clone();
        let resources = Resources {
            queue: seen,
            ways,
            name: "test".into(),
            lock,
            boot_clock: Box::new(move || {
                let time = start.elapsed();
                counted.lock().unwrap().count(time);
                time
            }),
            ids: Box::new(Uuid::now_v7),
            keep,
            sizes,
            seed,
            events: Box::new(move |event| told.lock().unwrap().push(event)),
        };
        let stop = CancellationToken::new();
        let (commands, inbox) = mpsc::channel(1);
        let engine = Engine::new(settings, resources);
        let pulse = engine.pulse();
        let engine = tokio::spawn(engine.run(stop.clone(), inbox));
        Bench { queue, events, pulse, stop, engine, turns, _commands: commands }
    }

    pub fn alert(&self, to: &str, text: &str, severity: i32) -> AlertId {
        self.queue.insert(to, text, Severity(Some(severity)), self.queue.now())
    }

    /// How often the engine has read the clock: at each turn of its loop.
    pub fn turns(&self) -> usize {
        self.turns.lock().unwrap().all
    }

    pub async fn row(&self, id: AlertId) -> AlertRow {
        self.queue.show(id).await.unwrap().expect("the alert is there").alert
    }

    /// How many attempts were made for it.
    pub async fn attempts(&self, id: AlertId) -> usize {
        self.queue.show(id).await.unwrap().expect("the alert is there").attempts.len()
    }

    pub async fn state(&self, id: AlertId) -> AlertState {
        self.row(id).await.state
    }

    pub async fn states(&self) -> HashMap<AlertState, usize> {
        let all = Filter { state: None, to: None, limit: usize::MAX, before: None };
        let mut counts = HashMap::new();
        for row in self.queue.list(&all).await.unwrap() {
            *counts.entry(row.state).or_default() += 1;
        }
        counts
    }

    /// Everything is accounted for.
    pub async fn audit(&self) {
        let audit = self.queue.audit().await.unwrap();
        assert!(audit.offenders.is_empty(), "{:#?}", audit.offenders);
    }

    pub fn has_event(&self, is: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().any(is)
    }

    pub fn count_events(&self, is: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|e| is(e)).count()
    }

    /// Stops in two phases.
    pub async fn stop(self) -> Result<(), Stop> {
        self.stop.cancel();
        self.engine.await.unwrap()
    }

    /// The daemon ended by itself.
    pub async fn ended(self) -> Result<(), Stop> {
        within(Duration::from_secs(60), self.engine).await.unwrap()
    }

    /// kill -9.
    pub async fn kill(self) -> Arc<MemoryQueue> {
        self.engine.abort();
        let _ = self.engine.await;
        self.queue
    }
}

pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, work).await.expect("it takes too long")
}

pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub fn phone(n: usize) -> String {
    let phone = format!("+47999{n:05}");
    assert!(Phone::parse(&phone).is_ok());
    phone
}
