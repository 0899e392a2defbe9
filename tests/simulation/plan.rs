//! What a seed means: how large the world is, how the engine is configured, what arrives, what goes wrong and when.
//!
//! Each seed takes a random subset of the faults ("swarm"): a fault that always happens hides what happens without it.

use std::iter;
use std::time::Duration;

use smsd::config::{Main, OnUnknown, Overflow};
use smsd::engine::Sizes;
use smsd::failover::SUSPECT;
use smsd::queue::{Age, AttemptState, Decision};

use super::past::Past;

/// Everything that happens in one run, but for the dice of single calls.
#[derive(Debug)]
pub struct Plan {
    pub main: Main,
    pub overflow: Overflow,
    pub poll: Duration,
    pub ways: Vec<WayPlan>,
    /// The gateway that has no faults, if one has none.
    pub healthy: Option<usize>,
    pub instances: usize,
    /// What may be configured instead of all `ways` in their order.
    pub reloads: Vec<Vec<Configured>>,
    /// How people decide, once all is healed, on what is held; else it stays so.
    pub decide: Option<Decision>,
    /// When, for whom, how severe, how long a text, through `submit` or past it.
    pub arrivals: Vec<Arrival>,
    /// What goes wrong, in order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// When the database goes back in time.
    pub past: Option<Past>,
    /// When all is healed.
    pub heal_at: Duration,
    pub dice: Dice,
    /// How much an engine knows and asks at once.
    pub sizes: Sizes,
    /// Alerts whose rows can not be written for a while.
    pub poison: Vec<Poison>,
    /// Verbs that are refused for a while.
    pub refused: Vec<(&'static str, Duration, Duration)>,
    /// Calls of one kind share a connection, as the real queue's do: one at a time.
    pub links: bool,
    /// What a reload brings beside other dispatchers, if it brings that.
    pub rewritten: Vec<Option<Rewritten>>,
    /// Before all is healed, everybody is served but these.
    pub served_but: Option<Vec<usize>>,
}

/// A row that can not be written.
#[derive(Clone, Copy, Debug)]
pub struct Poison {
    pub alert: i64,
    pub verb: &'static str,
    pub from: Duration,
    pub until: Duration,
    /// The database refuses it; else somebody holds it locked.
    pub refused: bool,
}

/// What else a configuration file may say.
#[derive(Clone, Debug)]
pub struct Rewritten {
    pub main: Main,
    pub overflow: Overflow,
    pub poll: Duration,
}

#[derive(Clone, Debug)]
pub struct WayPlan {
    pub concurrency: usize,
    pub rate: Option<f64>,
    pub grace: Duration,
    /// Recipients that it refuses, for ever.
    pub refuses: Vec<usize>,
    /// Recipients that it defers, until all is healed.
    pub defers: Vec<usize>,
}

/// A gateway as a configuration file has it.
#[derive(Clone, Copy, Debug)]
pub struct Configured {
    pub way: usize,
    pub concurrency: usize,
    pub rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub at: Duration,
    pub recipient: usize,
    pub severity: Option<i32>,
    pub words: usize,
    pub announced: bool,
    /// Its number is none.
    pub bad: bool,
}

/// How likely it is that something happens to a single call, until all is healed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dice {
    pub queue_latency: Duration,
    pub refused_before: f64,
    pub lost_reply: f64,
    pub hangs: f64,
    pub gateway_latency: Duration,
    pub gateway_fails: f64,
    pub gateway_silent: f64,
    /// A call to the queue ends in a panic.
    pub panics: f64,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// kill -9 at this moment, and a new start after so long.
    Kill(usize, Duration),
    /// kill -9 at the engine's so many-th poll from now.
    KillAtPoll(usize, u64, Duration),
    /// A stop as asked for by SIGTERM, and a new start.
    Stop(usize, Duration),
    /// SIGSTOP, and SIGCONT after so long.
    Freeze(usize, Duration),
    /// SIGSTOP at the engine's so many-th poll from now, and SIGCONT after so long.
    FreezeAtPoll(usize, u64, Duration),
    /// The queue can not be reached for so long.
    Gone(Duration),
    /// Its calls take so much longer for so long.
    Slow(Duration, Duration),
    /// Its clock jumps by so many seconds.
    Jump(i64),
    /// A gateway does this from now on.
    Gateway(usize, Mode),
    /// A person cancels one alert.
    Cancel(i64),
    /// A person decides on one alert.
    Decide(Decided, Pick),
    /// Another program changes a row under us.
    Meddle(Meddling, Pick),
    /// A process is told to work by another configuration, which is that of all that start there later.
    Reload(usize, usize),
    /// The machine is suspended for so many seconds: the clocks go on, what the engines take for time does not.
    Suspend(i64),
    /// The same as soon as an attempt is written.
    SuspendAtBegin(i64),
}

/// Which alert: one in an attempt that is open, in doubt or held, if there is any; else the one with this key.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    pub state: Option<AttemptState>,
    pub nth: usize,
    pub id: i64,
}

/// What a person says of an alert.
#[derive(Clone, Copy, Debug)]
pub enum Decided {
    Accept,
    Release,
    Cancel,
    Requeue,
}

/// What another program does to a row.
#[derive(Clone, Copy, Debug)]
pub enum Meddling {
    Delete,
    Sent,
    Ignored,
    Text(usize),
    Phone(usize),
    Severity(Option<i32>),
}

/// What a gateway does with an SMS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Up,
    /// Refuses connections.
    Down,
    /// Answers 500, having taken it with this probability.
    Error(f64),
    /// Never answers, having taken it with this probability.
    Hung(f64),
    /// Answers after so long.
    Slow(Duration),
    /// Asks to be left alone for so long, with this probability.
    Throttling(Duration, f64),
    Misconfigured,
    /// Refuses every number.
    Refusing,
    /// Takes it, and answers after the engine has stopped to listen.
    Late,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x736d_7364);
        let r = &mut rng;
        let on = |r: &mut fastrand::Rng, p: f64| r.f64() < p;

        let mut main = Main {
            delay: secs(r.u64(3..=30)),
            delayfactor: 1.0 + r.f64(),
            maxdelay: secs(r.u64(30..=200)),
            retrylimit: [0, 3, 5][r.usize(..3)],
            exit_on_permanent_error: on(r, 0.1),
            group_interval: Some(secs([0, 1, 10, 30][r.usize(..4)])),
            group_wait: secs([0, 0, 2][r.usize(..3)]),
            urgent_severity: r.i32(0..=2),
            on_unknown: [OnUnknown::Resend, OnUnknown::Resend, OnUnknown::Failover, OnUnknown::Hold]
                [r.usize(..4)],
            submit_timeout: secs([5, 10, 30][r.usize(..3)]),
            shutdown_timeout: secs([2, 30][r.usize(..2)]),
            ..Main::default()
        };
        if on(r, 0.15) {
            main.autocancel = Some(minutes(r.u64(1..=10)));
        }
        let overflow = if on(r, 0.2) { Overflow::Next } else { Overflow::Ignore };

        let big = on(r, 0.1);
        let recipients = if big { r.usize(20..=200) } else { r.usize(1..=9) };
        let alerts = if big { r.usize(50..=300) } else { r.usize(1..=60) };
        let span = secs(r.u64(20..=240));
        let instances = [1, 1, 1, 1, 2, 2, 3][r.usize(..7)];

        let refusing = on(r, 0.2);
        let deferring = on(r, 0.2);
        let few = |r: &mut fastrand::Rng, yes: bool| -> Vec<usize> {
            if !yes {
                return Vec::new();
            }
            let most = if r.bool() { 3 } else { usize::MAX };
            (0..recipients).filter(|_| r.f64() < 0.2).take(most).collect()
        };
        let everywhere = few(r, refusing);
        let ways: Vec<WayPlan> = (0..r.usize(1..=3))
            .map(|_| WayPlan {
                concurrency: r.usize(1..=32),
                rate: on(r, 0.15).then(|| 1.0 + 9.0 * r.f64()),
                grace: secs([0, 5, 30][r.usize(..3)]),
                refuses: if on(r, 0.7) { everywhere.clone() } else { few(r, refusing) },
                defers: few(r, deferring),
            })
            .collect();

        let arrivals: Vec<Arrival> = (0..alerts)
            .map(|_| Arrival {
                at: if on(r, 0.3) { Duration::ZERO } else { span.mul_f64(0.9 * r.f64()) },
                recipient: r.usize(..recipients),
                severity: on(r, 0.8).then(|| r.i32(1..=5)),
                words: r.usize(0..=12),
                announced: on(r, 0.3),
                bad: on(r, 0.01),
            })
            .collect();

        let mut dice = Dice {
            queue_latency: millis([0, 0, 2, 30][r.usize(..4)]),
            gateway_latency: millis([1, 20, 300][r.usize(..3)]),
            ..Dice::default()
        };
        if on(r, 0.3) {
            dice.refused_before = 0.1 * r.f64();
        }
        if on(r, 0.4) {
            dice.lost_reply = 0.15 * r.f64();
        }
        if on(r, 0.2) {
            dice.hangs = 0.02 * r.f64();
        }
        if on(r, 0.25) {
            dice.gateway_fails = 0.3 * r.f64();
        }
        if on(r, 0.25) {
            dice.gateway_silent = 0.2 * r.f64();
        }

        let mut faults: Vec<(Duration, Fault)> = Vec::new();
        let mut some = |r: &mut fastrand::Rng,
                        chance: f64,
                        most: usize,
                        make: &mut dyn FnMut(&mut fastrand::Rng) -> Fault| {
            if r.f64() < chance {
                for _ in 0..r.usize(1..=most) {
                    faults.push((span.mul_f64(r.f64()), make(r)));
                }
            }
        };
        let away = |r: &mut fastrand::Rng| [millis(0), millis(0), secs(2), secs(20), secs(60)][r.usize(..5)];
        some(r, 0.4, 8, &mut |r| Fault::Kill(r.usize(..instances), away(r)));
        some(r, 0.4, 12, &mut |r| Fault::KillAtPoll(r.usize(..instances), r.u64(1..30), away(r)));
        some(r, 0.3, 3, &mut |r| Fault::Stop(r.usize(..instances), away(r)));
        some(r, 0.3, 4, &mut |r| Fault::Freeze(r.usize(..instances), millis(r.u64(100..40_000))));
        some(r, 0.3, 6, &mut |r| {
            Fault::FreezeAtPoll(r.usize(..instances), r.u64(1..30), millis(r.u64(10_000..40_000)))
        });
        some(r, 0.3, 4, &mut |r| Fault::Gone(millis(r.u64(50..40_000))));
        some(r, 0.2, 3, &mut |r| Fault::Slow(millis(r.u64(1_000..60_000)), millis(r.u64(50..8_000))));
        some(r, 0.1, 2, &mut |r| Fault::Jump(if r.bool() { 3600 } else { -3600 }));
        some(r, 0.1, 3, &mut |r| Fault::Cancel(r.i64(1..=alerts as i64)));
        let kinds: Vec<usize> = (0..9).filter(|_| r.f64() < 0.35).collect();
        for way in 0..ways.len() {
            if kinds.is_empty() {
                break;
            }
            some(r, 0.7, 6, &mut |r| {
                let part = [0.0, 0.3, 1.0][r.usize(..3)];
                let mode = match kinds[r.usize(..kinds.len())] {
                    0 => Mode::Down,
                    1 => Mode::Error(part),
                    2 => Mode::Hung(part),
                    3 => Mode::Slow(millis(r.u64(500..20_000))),
                    4 => Mode::Throttling(millis(r.u64(100..20_000)), 0.3 + part),
                    5 => Mode::Misconfigured,
                    6 => Mode::Late,
                    7 => Mode::Refusing,
                    _ => Mode::Up,
                };
                Fault::Gateway(way, mode)
            });
            some(r, 0.7, 4, &mut |_| Fault::Gateway(way, Mode::Up));
        }
        let mut plan = Plan {
            main,
            overflow,
            poll: millis([250, 250, 1000][r.usize(..3)]),
            ways,
            healthy: None,
            instances,
            reloads: Vec::new(),
            decide: None,
            past: Past::of(seed, span, &arrivals),
            arrivals,
            faults,
            heal_at: span,
            dice,
            sizes: Sizes::default(),
            poison: Vec::new(),
            refused: Vec::new(),
            links: false,
            rewritten: Vec::new(),
            served_but: None,
        };
        plan.meddle(&mut fastrand::Rng::with_seed(seed ^ 0x7065_6f70_6c65), recipients);
        plan.strain(&mut fastrand::Rng::with_seed(seed ^ 0x7374_7261_696e), big);
        plan.rejudge(&mut fastrand::Rng::with_seed(seed ^ 0x006a_7564_6765));
        if plan.past.is_some() {
            // What people and others did, the database forgets as well; that account is not kept.
            plan.faults.retain(|(_, fault)| !matches!(fault, Fault::Decide(..) | Fault::Meddle(..)));
            plan.decide = None;
        }
        if seed % 97 == 11 {
            plan.last_a_day(&mut fastrand::Rng::with_seed(seed ^ 0x0064_6179));
        }
        plan.faults.sort_by_key(|(at, _)| *at);
        plan
    }

    /// A day on which every gateway does the same to everybody: refuses, says that it needs a person, or sends and says
    /// that it has failed. One process, a database that works, and few people: what is judged is the patience.
    fn last_a_day(&mut self, r: &mut fastrand::Rng) {
        let mode = [Mode::Refusing, Mode::Misconfigured, Mode::Error(1.0), Mode::Error(0.5)][r.usize(..4)];
        let day = secs(24 * 3600);
        self.instances = 1;
        self.poll = secs(20);
        self.heal_at = day;
        self.main.exit_on_permanent_error = false;
        self.main.autocancel = None;
        self.main.max_per_hour = 0;
        (self.main.allow, self.main.deny) = (Vec::new(), Vec::new());
        let few = r.usize(1..=4);
        self.arrivals.truncate(12);
        self.arrivals.iter_mut().for_each(|a| {
            a.recipient %= few;
            a.at = day.mul_f64(0.9 * r.f64());
        });
        self.ways.iter_mut().for_each(|way| (way.refuses, way.defers) = (Vec::new(), Vec::new()));
        (self.past, self.decide, self.links) = (None, None, false);
        (self.poison, self.refused, self.reloads, self.rewritten) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.dice = Dice { gateway_latency: millis(20), ..Dice::default() };
        self.faults =
            (0..self.ways.len()).map(|way| (secs(r.u64(0..=60)), Fault::Gateway(way, mode))).collect();
    }

    /// What people, other programs and the machine do. Dice of their own, so that the rest of a seed is what it was.
    fn meddle(&mut self, r: &mut fastrand::Rng, recipients: usize) {
        let (span, alerts, instances) = (self.heal_at, self.arrivals.len() as i64, self.instances);
        let faults = &mut self.faults;
        let mut some = |r: &mut fastrand::Rng,
                        chance: f64,
                        most: usize,
                        make: &mut dyn FnMut(&mut fastrand::Rng) -> Fault| {
            if r.f64() < chance {
                for _ in 0..r.usize(1..=most) {
                    faults.push((span.mul_f64(r.f64()), make(r)));
                }
            }
        };
        let pick = |r: &mut fastrand::Rng, states: &[Option<AttemptState>]| Pick {
            state: states[r.usize(..states.len())],
            nth: r.usize(..100),
            id: r.i64(1..=alerts),
        };
        let (open, doubt, held) =
            (Some(AttemptState::Open), Some(AttemptState::InDoubt), Some(AttemptState::Held));
        some(r, 0.25, 12, &mut |r| {
            let meddling = match r.usize(..6) {
                0 => Meddling::Delete,
                1 => Meddling::Sent,
                2 => Meddling::Ignored,
                3 => Meddling::Text(r.usize(0..=12)),
                4 => Meddling::Phone(r.usize(..recipients)),
                _ => Meddling::Severity(r.bool().then(|| r.i32(1..=5))),
            };
            Fault::Meddle(meddling, pick(r, &[open, open, doubt, held, None]))
        });
        some(r, 0.25, 12, &mut |r| match r.usize(..5) {
            0 => Fault::Decide(Decided::Accept, pick(r, &[doubt, held])),
            1 | 2 => Fault::Decide(Decided::Release, pick(r, &[doubt, held])),
            3 => Fault::Decide(Decided::Cancel, pick(r, &[open, doubt, held])),
            _ => Fault::Decide(Decided::Requeue, pick(r, &[None])),
        });
        some(r, 0.08, 3, &mut |r| Fault::Suspend(r.i64(1..=3600)));
        some(r, 0.12, 4, &mut |r| Fault::SuspendAtBegin(r.i64(10..=3600)));
        let reloads = &mut self.reloads;
        let ways = &self.ways;
        some(r, 0.25, 5, &mut |r| {
            let mut order: Vec<usize> = (0..ways.len()).collect();
            r.shuffle(&mut order);
            order.truncate(r.usize(1..=ways.len()));
            let configured = |r: &mut fastrand::Rng, way: usize| Configured {
                way,
                concurrency: r.usize(1..=32),
                rate: (r.f64() < 0.15).then(|| 1.0 + 9.0 * r.f64()),
            };
            reloads.push(order.into_iter().map(|way| configured(r, way)).collect());
            Fault::Reload(r.usize(..instances), reloads.len() - 1)
        });
        self.decide = [None, None, Some(Decision::Accept), Some(Decision::Resend)][r.usize(..4)];
    }

    /// Little room, few people, rows that can not be written, verbs that are refused, panics, connections that are shared,
    /// and reloads of more than the dispatchers. Dice of their own as well.
    fn strain(&mut self, r: &mut fastrand::Rng, big: bool) {
        let (span, alerts) = (self.heal_at, self.arrivals.len() as i64);
        let on = |r: &mut fastrand::Rng, p: f64| r.f64() < p;
        if on(r, 0.6) {
            self.sizes = small(r);
            // Whom every gateway refuses for ever is ready all the time: they alone must not fill it.
            self.sizes.window += 2 * self.ways.iter().map(|way| way.refuses.len()).sum::<usize>();
        }
        if !big && on(r, 0.5) {
            let few = r.usize(1..=4);
            self.arrivals.iter_mut().for_each(|a| a.recipient %= few);
        }
        let moment = |r: &mut fastrand::Rng| {
            let from = span.mul_f64(r.f64());
            (from, from + (span - from).mul_f64(r.f64()))
        };
        if on(r, 0.25) {
            for _ in 0..r.usize(1..=3) {
                let (from, until) = moment(r);
                let verb = if r.bool() { "begin" } else { "settle" };
                let poison = Poison { alert: r.i64(1..=alerts), verb, from, until, refused: r.bool() };
                self.poison.push(poison);
            }
        }
        if on(r, 0.15) {
            let verbs = ["begin", "settle", "expire", "doubts", "peers", "claim", "hold", "renew", "join"];
            let (from, until) = moment(r);
            self.refused.push((verbs[r.usize(..verbs.len())], from, until));
        }
        if on(r, 0.25) {
            self.dice.panics = 0.05 * r.f64();
        }
        self.links = on(r, 0.3);
        if on(r, 0.1) {
            self.main.max_per_hour = r.u32(1..=5);
        }
        if on(r, 0.06) {
            let prefix = |r: &mut fastrand::Rng| phone_of(r.usize(..4));
            match r.bool() {
                true => self.main.deny = vec![prefix(r)],
                false => self.main.allow = vec![prefix(r), phone_of(9)],
            }
        }
        for _ in 0..self.reloads.len() {
            let rewritten = on(r, 0.5).then(|| Rewritten {
                main: Main {
                    delay: secs(r.u64(3..=30)),
                    delayfactor: 1.0 + r.f64(),
                    group_interval: Some(secs([0, 1, 10, 30][r.usize(..4)])),
                    group_wait: secs([0, 0, 2][r.usize(..3)]),
                    urgent_severity: r.i32(0..=2),
                    max_per_hour: if r.f64() < 0.2 { r.u32(1..=5) } else { 0 },
                    ..self.main.clone()
                },
                overflow: if r.f64() < 0.2 { Overflow::Next } else { Overflow::Ignore },
                poll: millis([250, 250, 1000][r.usize(..3)]),
            });
            self.rewritten.push(rewritten);
        }
    }

    /// A reload that brings more than the dispatchers may bring other limits and another rule for doubt, too: the oracle
    /// judges by all that was ever configured. Dice of their own as well. A world whose database goes back is left as it is:
    /// there one thing is looked for, in few seeds.
    fn rejudge(&mut self, r: &mut fastrand::Rng) {
        if self.past.is_some() {
            return;
        }
        if r.f64() < 0.3 {
            self.overflow = Overflow::Severe;
            (self.main.severe, self.main.severe_sms) = (r.i32(0..=3), r.u32(0..=5));
        }
        for Rewritten { main, overflow, .. } in self.rewritten.iter_mut().flatten() {
            if r.f64() < 0.3 {
                *overflow = Overflow::Severe;
            }
            if r.bool() {
                main.retrylimit = [0, 2, 3, 5][r.usize(..4)];
            }
            if r.bool() {
                main.on_unknown = [OnUnknown::Resend, OnUnknown::Failover, OnUnknown::Hold][r.usize(..3)];
            }
            if r.f64() < 0.3 {
                main.autocancel = r.bool().then(|| minutes(r.u64(1..=10)));
            }
        }
    }

    /// All that `[main]` ever says.
    pub fn mains(&self) -> impl Iterator<Item = &Main> {
        iter::once(&self.main).chain(self.rewritten.iter().flatten().map(|rewritten| &rewritten.main))
    }

    /// What is configured when all is healed forbids nobody.
    pub fn permissive(&self) -> Rewritten {
        let main = Main { max_per_hour: 0, allow: Vec::new(), deny: Vec::new(), ..self.main.clone() };
        Rewritten { main, overflow: self.overflow, poll: self.poll }
    }

    /// What is configured at first, beside the dispatchers.
    pub fn written(&self) -> Rewritten {
        Rewritten { main: self.main.clone(), overflow: self.overflow, poll: self.poll }
    }

    /// What is configured at first.
    pub fn configured(&self) -> Vec<Configured> {
        let as_planned =
            |(way, p): (usize, &WayPlan)| Configured { way, concurrency: p.concurrency, rate: p.rate };
        self.ways.iter().enumerate().map(as_planned).collect()
    }

    /// A number that every gateway refuses for ever is given up at its limit, unless several are refused, so that it may be
    /// taken for the gateways' own fault, or a gateway has served nobody else since: then it may wait.
    pub fn may_wait(&self, phone: &str) -> bool {
        let most = self.ways.iter().map(|way| way.refuses.len()).max().unwrap_or(0);
        let refused = |way: usize| self.ways[way].refuses.iter().any(|n| phone_of(*n) == phone);
        let by_all = |configured: &Vec<Configured>| configured.iter().all(|c| refused(c.way));
        // The limit is each alert's, so that those who do not fit one SMS meet it one after the other.
        let next = |r: &Rewritten| r.overflow != Overflow::Ignore;
        let one_by_one = self.overflow != Overflow::Ignore
            || self.rewritten.iter().flatten().any(next)
            || self.sizes.share < Sizes::default().share;
        (most >= SUSPECT || self.ways.len() > 1 || self.main.retrylimit == 0 || one_by_one)
            && (by_all(&self.configured()) || self.reloads.iter().any(by_all))
    }

    /// The database's clock alone jumps.
    pub fn clock_jumps(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Jump(_)))
    }

    /// The machine is suspended: time goes on, and what an engine takes for time does not.
    pub fn sleeps(&self) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Suspend(_) | Fault::SuspendAtBegin(_)))
    }

    /// How long after the healing everything is settled at the latest.
    pub fn bound(&self) -> Duration {
        let reloaded = self.reloads.iter().flatten().filter_map(|c| c.rate);
        let slowest = self.ways.iter().filter_map(|w| w.rate).chain(reloaded).fold(f64::INFINITY, f64::min);
        let sms = self.arrivals.len() as f64 * 2.0 / slowest;
        let back: i64 =
            self.faults.iter().map(|(_, f)| if let Fault::Jump(s) = f { s.abs() } else { 0 }).sum();
        let probes = self.faults.iter().any(|(_, f)| matches!(f, Fault::Gateway(_, Mode::Misconfigured)));
        // So many may be tried before one whom it does not refuse.
        let refused = self.ways.iter().map(|way| way.refuses.len() as u64).sum::<u64>();
        let limit = u64::from(self.mains().map(|main| main.retrylimit).max().unwrap_or(0)) + 1;
        // Ten minutes, and what is configured: back-offs of those whom a gateway refuses for ever, rates, leases.
        let copied = self.dice.gateway_fails > 0.0
            || self.faults.iter().any(|(_, f)| matches!(f, Fault::Gateway(_, Mode::Error(_))));
        // An alert that has gone out five times within ten minutes is not sent again before those are over.
        let hour = u64::from(copied && self.heal_at > secs(3600)) * 3600;
        secs(
            600 + hour
                + 600 * u64::from(copied)
                + u64::from(probes) * 700
                + 60 * refused
                + back.unsigned_abs(),
        ) + self.main.maxdelay.mul_f64(1.2) * u32::try_from(limit).unwrap_or(1)
            + Duration::from_secs_f64(sms.min(3600.0))
    }
}

/// Bounds that a handful of alerts reaches.
pub fn small(r: &mut fastrand::Rng) -> Sizes {
    let window = r.usize(4..=24);
    Sizes {
        window,
        window_bytes: if r.f64() < 0.2 { 400 } else { Sizes::default().window_bytes },
        share: r.usize(1..=4),
        resting: [0, 10, 100_000][r.usize(..3)],
        page: r.usize(1..=6),
        walk_room: window / 2,
        peek_page: r.usize(1..=3),
        batch: r.usize(1..=5),
        batch_alerts: r.usize(2..=10),
        stuck: r.usize(0..=2),
    }
}

fn minutes(n: u64) -> Age {
    Age { text: format!("{n} minutes"), duration: secs(60 * n) }
}

/// The number of the n-th recipient.
pub fn phone_of(n: usize) -> String {
    format!("+47999{n:05}")
}

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
