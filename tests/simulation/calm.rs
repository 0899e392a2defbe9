//! How soon a healthy recipient is served through a healthy gateway while others are bad (invariant I7).
//!
//! A calm world is a seed's world in which one gateway is healthy all the time, the database answers and the process
//! lives. What an alert of a healthy recipient may wait for is written down as spans of time:
//!
//! * its collecting: `group_wait`, and `group_interval` after each SMS of its recipient;
//! * an SMS of its recipient that goes before, from its begin to its settlement (`overflow: next`);
//! * an SMS of its recipient at a gateway that is not healthy, until that answers or the time limit is over; and, if it
//!   never answered, the grace after that;
//! * a gateway whose places are all taken, until nothing has moved there for [`STALL`].
//!
//! What is left of its waiting when these are taken out is explained by two looks at the queue, two answers of the
//! healthy gateway (at most 0.45 s each) and a handful of calls to the database (60 ms each): [`Meter::bound`].

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use smsd::alert::AlertId;
use smsd::engine::Sizes;
use smsd::failover::{STALL, STREAK};
use smsd::queue::NewAttempt;
use uuid::Uuid;

use super::oracle::{Verdict, Violation};
use super::plan::{Arrival, Dice, Fault, Mode, Plan, Poison, millis, phone_of, secs, small};

type Span = (Duration, Duration);

impl Plan {
    /// The same seed's world with a gateway that is healthy all the time, a database that answers, and one process;
    /// each eighth is a
    /// [`Plan::picky`], a [`Plan::crowded`] or a [`Plan::poisoned`] one.
    pub fn calm(seed: u64) -> Plan {
        match seed % 8 {
            3 => return Plan::crowded(seed),
            5 => return Plan::poisoned(seed),
            7 => return Plan::picky(seed),
            _ => {}
        }
        let mut plan = Plan::new(seed);
        if plan.ways.len() == 1 {
            plan.ways.push(plan.ways[0].clone());
        }
        let healthy = seed as usize % plan.ways.len();
        plan.healthy = Some(healthy);
        plan.past = None;
        plan.ways[healthy].refuses.truncate(STREAK - 2);
        plan.ways.iter_mut().for_each(|way| way.rate = None);
        (plan.instances, plan.decide, plan.main.autocancel) = (1, None, None);
        plan.main.exit_on_permanent_error = false;
        plan.reloads.clear();
        plan.is_unstrained();
        plan.faults.retain(|(_, fault)| matches!(fault, Fault::Gateway(way, _) if *way != healthy));
        if plan.faults.is_empty() {
            let bad = (healthy + 1) % plan.ways.len();
            let mode = [Mode::Down, Mode::Hung(0.5), Mode::Error(0.5), Mode::Late, Mode::Refusing];
            plan.faults.push((Duration::ZERO, Fault::Gateway(bad, mode[seed as usize / 8 % mode.len()])));
        }
        let Dice { queue_latency, gateway_latency, gateway_fails, gateway_silent, .. } = plan.dice;
        plan.dice = Dice { queue_latency, gateway_latency, gateway_fails, gateway_silent, ..Dice::default() };
        plan
    }

    /// The only gateway refuses everybody for a while, and a fifth of all, who are the most urgent, for ever: within
    /// [`Plan::bound`] all the others are served nevertheless.
    fn picky(seed: u64) -> Plan {
        let mut plan = Plan::new(seed);
        plan.is_unstrained();
        let (refused, served) = (20 + seed as usize / 8 % 20, 100);
        plan.ways.truncate(1);
        plan.ways[0].refuses = (0..refused).collect();
        (plan.ways[0].defers, plan.ways[0].rate) = (Vec::new(), None);
        (plan.instances, plan.decide, plan.main.autocancel) = (1, None, None);
        (plan.main.exit_on_permanent_error, plan.main.retrylimit) = (false, 0);
        plan.reloads.clear();
        plan.heal_at = secs(20);
        plan.faults = vec![(Duration::ZERO, Fault::Gateway(0, Mode::Refusing))];
        plan.dice = Dice { gateway_latency: plan.dice.gateway_latency, ..Dice::default() };
        let arrival = |n: usize| Arrival {
            at: millis(n as u64 * 100),
            recipient: n,
            severity: Some(if n < refused { 1 } else { 5 }),
            words: 3,
            announced: false,
            bad: false,
        };
        plan.arrivals = (0..refused + served).map(arrival).collect();
        plan
    }

    /// Nothing but what a calm world is about. Its engine may know as little as the seed says.
    fn is_unstrained(&mut self) {
        (self.poison, self.refused, self.rewritten) = (Vec::new(), Vec::new(), Vec::new());
        self.links = false;
        self.dice.panics = 0.0;
        self.sizes = Sizes::default();
        (self.main.max_per_hour, self.main.allow, self.main.deny) = (0, Vec::new(), Vec::new());
    }

    /// One gateway, and a database that is whole.
    fn simple(seed: u64) -> Plan {
        let mut plan = Plan::new(seed);
        plan.ways.truncate(1);
        plan.ways[0].refuses.clear();
        (plan.ways[0].defers, plan.ways[0].rate, plan.ways[0].concurrency) = (Vec::new(), None, 4);
        (plan.instances, plan.decide, plan.past, plan.main.autocancel) = (1, None, None, None);
        (plan.main.exit_on_permanent_error, plan.main.retrylimit) = (false, 0);
        plan.reloads.clear();
        plan.faults.clear();
        plan.is_unstrained();
        plan.dice = Dice { gateway_latency: millis(20), ..Dice::default() };
        plan
    }

    /// More alerts wait than the engine knows at once, most of them for people who are deferred; and the database is so
    /// slow that to look at all of them takes much longer than the pause between two such looks.
    fn crowded(seed: u64) -> Plan {
        let mut plan = Plan::simple(seed);
        let (deferred, each, served) = (4 + seed as usize / 8 % 5, 5, 10);
        plan.ways[0].defers = (0..deferred).collect();
        (plan.main.delay, plan.poll) = (secs(3), millis(250));
        plan.sizes = small(&mut fastrand::Rng::with_seed(seed));
        (plan.sizes.page, plan.sizes.window_bytes) = (2, Sizes::default().window_bytes);
        plan.dice.queue_latency = secs(1);
        plan.heal_at = secs(240);
        let arrival = |recipient: usize, severity: i32| Arrival {
            at: Duration::ZERO,
            recipient,
            severity: Some(severity),
            words: 3,
            announced: false,
            bad: false,
        };
        let bad = (0..deferred * each).map(|n| arrival(n % deferred, 1));
        plan.arrivals = bad.chain((0..served).map(|n| arrival(deferred + n, 5))).collect();
        plan.served_but = Some((0..deferred).collect());
        plan
    }

    /// One row can not be begun, or not be settled, as long as nothing is healed.
    fn poisoned(seed: u64) -> Plan {
        let mut plan = Plan::simple(seed);
        plan.ways[0].concurrency = 1 + seed as usize / 8 % 4;
        plan.sizes.batch = 1 + seed as usize / 8 % 7;
        plan.dice.queue_latency = millis(2);
        plan.heal_at = secs(60);
        let verb = if (seed / 8).is_multiple_of(2) { "settle" } else { "begin" };
        let alert = 1 + (seed / 16 % 20) as i64;
        let (from, until, refused) = (Duration::ZERO, plan.heal_at, (seed / 32).is_multiple_of(2));
        plan.poison = vec![Poison { alert, verb, from, until, refused }];
        let arrival = |n: usize| Arrival {
            at: millis(n as u64 * 50),
            recipient: n,
            severity: Some(3),
            words: 3,
            announced: n.is_multiple_of(2),
            bad: false,
        };
        plan.arrivals = (0..40).map(arrival).collect();
        plan.served_but = Some(vec![alert as usize - 1]);
        plan
    }

    /// The same world without any fault.
    pub fn faultless(seed: u64) -> Plan {
        let mut plan = Plan::calm(seed);
        plan.faults.clear();
        (plan.dice.gateway_fails, plan.dice.gateway_silent) = (0.0, 0.0);
        (plan.poison, plan.served_but) = (Vec::new(), None);
        for way in &mut plan.ways {
            way.refuses.clear();
            way.defers.clear();
        }
        plan
    }
}

/// How long one alert of a healthy recipient waited until a gateway took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub alert: AlertId,
    pub whole: Duration,
    /// Without what policy explains.
    pub unexplained: Duration,
    /// An SMS of its recipient was at a gateway that is not healthy meanwhile.
    pub met_a_bad_one: bool,
}

/// The places at one gateway.
struct Places {
    most: usize,
    taken: usize,
    moved_at: Duration,
    /// When all were taken, and something had moved within [`STALL`].
    full: Vec<Span>,
    /// SMS that it was given since it began to hang.
    swallowed: Option<usize>,
}

impl Places {
    fn moved(&mut self, now: Duration, change: isize) {
        if self.taken >= self.most {
            self.full.push((self.moved_at, now.min(self.moved_at + STALL)));
        }
        self.taken = self.taken.saturating_add_signed(change);
        self.moved_at = now;
    }
}

/// What is written down in a calm world.
pub struct Meter {
    healthy: usize,
    bound: Duration,
    graces: Vec<Duration>,
    group_interval: Duration,
    group_wait: Duration,
    concurrency: Vec<usize>,
    bad: Vec<String>,
    arrived: BTreeMap<AlertId, (String, Duration)>,
    taken: HashMap<AlertId, Duration>,
    places: Vec<Places>,
    held_by: HashMap<Uuid, (usize, String, Duration)>,
    /// From begin to settlement, by recipient.
    busy: HashMap<String, Vec<Span>>,
    explained: HashMap<String, Vec<Span>>,
    met: HashMap<String, Vec<Span>>,
    verdict: Verdict,
}

impl Meter {
    pub fn new(plan: &Plan) -> Option<Meter> {
        let healthy = plan.healthy?;
        let refused = plan.ways.iter().flat_map(|way| way.refuses.iter().chain(&way.defers));
        let places = plan.ways.iter().enumerate().map(|(n, way)| Places {
            // A gateway that comes back is given few at first.
            most: if n == healthy { way.concurrency } else { way.concurrency.min(2) },
            taken: 0,
            moved_at: Duration::ZERO,
            full: Vec::new(),
            swallowed: None,
        });
        Some(Meter {
            healthy,
            bound: plan.poll * 2 + secs(2),
            graces: plan.ways.iter().map(|way| way.grace).collect(),
            group_interval: plan.main.group_interval(),
            group_wait: plan.main.group_wait,
            concurrency: plan.ways.iter().map(|way| way.concurrency).collect(),
            bad: refused.map(|n| phone_of(*n)).collect(),
            arrived: BTreeMap::new(),
            taken: HashMap::new(),
            places: places.collect(),
            held_by: HashMap::new(),
            busy: HashMap::new(),
            explained: HashMap::new(),
            met: HashMap::new(),
            verdict: Ok(()),
        })
    }

    pub fn arrived(&mut self, id: AlertId, phone: &str, now: Duration) {
        if !self.bad.iter().any(|bad| bad == phone) && !phone.contains('x') {
            self.arrived.insert(id, (phone.into(), now));
            self.explained.entry(phone.into()).or_default().push((now, now + self.group_wait));
        }
    }

    pub fn taken(&mut self, ids: &[AlertId], now: Duration) {
        for id in ids {
            self.taken.entry(*id).or_insert(now);
        }
    }

    pub fn begins(&mut self, attempts: &[NewAttempt], now: Duration) {
        for attempt in attempts {
            let way = attempt.dispatcher.strip_prefix("gw").and_then(|n| n.parse().ok()).unwrap();
            let begun = (way, attempt.recipient.to_string(), now);
            if self.held_by.insert(attempt.id, begun).is_none() {
                self.places[way].moved(now, 1);
            }
        }
    }

    pub fn ended(&mut self, attempt: Uuid, now: Duration) {
        if let Some((way, phone, begun)) = self.held_by.remove(&attempt) {
            self.busy.entry(phone).or_default().push((begun, now));
            self.places[way].moved(now, -1);
        }
    }

    /// A gateway does something else from now on.
    pub fn changed(&mut self, way: usize, mode: Mode) {
        self.places[way].swallowed = matches!(mode, Mode::Hung(_)).then_some(0);
    }

    pub fn submitted(&mut self, way: usize) {
        let concurrency = self.concurrency[way];
        let Some(swallowed) = &mut self.places[way].swallowed else { return };
        *swallowed += 1;
        // Those that are given to it before the fifth has failed; and one trial.
        if *swallowed > concurrency + STREAK + 1 && self.verdict.is_ok() {
            let what = format!("gateway {way} never answers, and is given SMS for ever");
            self.verdict = Err(Violation::new(what));
        }
    }

    /// A submit is over; `answered` or not.
    pub fn submit_ended(&mut self, way: usize, phone: &str, from: Duration, now: Duration, answered: bool) {
        self.places[way].moved(now, 0);
        let explained = self.explained.entry(phone.into()).or_default();
        explained.push((now, now + self.group_interval));
        if way != self.healthy {
            let until = if answered { now } else { now + self.graces[way] };
            explained.push((from, until));
            self.met.entry(phone.into()).or_default().push((from, until));
        }
    }

    /// All waits, and whether each is within the bound. What was never taken is held, or was given up.
    pub fn read(mut self, now: Duration) -> (Vec<Wait>, Verdict) {
        self.places.iter_mut().for_each(|places| places.moved(now, 0));
        let full: Vec<Span> = self.places.iter().flat_map(|places| places.full.clone()).collect();
        let mut waits = Vec::new();
        for (alert, (phone, from)) in &self.arrived {
            let Some(to) = self.taken.get(alert).copied() else { continue };
            let own = self.explained.get(phone).into_iter().flatten();
            let before = self.busy.get(phone).into_iter().flatten().filter(|s| s.1 <= to);
            let mut spans: Vec<Span> =
                own.chain(before).chain(&full).copied().filter(|s| s.0 < to && s.1 > *from).collect();
            spans.sort_unstable();
            let (mut unexplained, mut at) = (Duration::ZERO, *from);
            for (start, end) in spans {
                unexplained += start.saturating_sub(at);
                at = at.max(end);
            }
            unexplained += to.saturating_sub(at);
            let met = self.met.get(phone).into_iter().flatten().any(|s| s.0 < to && s.1 > *from);
            waits.push(Wait { alert: *alert, whole: to - *from, unexplained, met_a_bad_one: met });
        }
        let long = waits.iter().find(|wait| wait.unexplained > self.bound);
        let verdict = self.verdict.and(match long {
            Some(Wait { alert, whole, unexplained, .. }) => Err(Violation::new(format!(
                "a healthy recipient waited {whole:?}, and nothing explains {unexplained:?} of it"
            ))
            .alert(*alert)),
            None => Ok(()),
        });
        (waits, verdict)
    }
}

/// The wait that 99 of 100 do not exceed.
pub fn p99(mut waits: Vec<Duration>) -> Duration {
    waits.sort_unstable();
    waits.get(waits.len() * 99 / 100).copied().unwrap_or(millis(0))
}
