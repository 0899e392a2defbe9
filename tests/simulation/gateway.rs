//! Scripted gateways: what they take is the truth that the ledger is held against.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use smsd::dispatch::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::oracle::read;
use super::plan::{Mode, secs};
use super::process::Control;
use super::world::World;

/// One process's line to one gateway.
pub struct Line {
    pub world: Arc<World>,
    pub control: Arc<Control>,
    pub way: usize,
    pub name: String,
}

/// What the gateway makes of one SMS.
struct Deed {
    take: bool,
    answer: Option<Class>,
    /// It says nothing at all.
    silent: bool,
    after: Duration,
}

#[async_trait]
impl Dispatcher for Line {
    fn limits(&self) -> Limits {
        Limits { max_segments: None }
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let strict = !self.control.is_frozen();
        self.world
            .log(|| format!("{} submits {} to gateway {}: {}", self.name, short(sms), self.way, sms.text));
        self.world.handed_over(sms, self.way, strict);
        let mut visit = Visit::new(self, sms);
        self.control.running().await;
        let (tell, told) = oneshot::channel();
        let (world, control, way, sms) = (self.world.clone(), self.control.clone(), self.way, sms.clone());
        let name = self.name.clone();
        // The gateway is another machine: it goes on when the process dies.
        tokio::spawn(async move {
            sleep(world.gateway_latency()).await;
            let deed = world.decide(way, &sms, &name);
            if deed.take {
                world.taken(&control);
            }
            sleep(deed.after).await;
            if deed.silent {
                return std::future::pending().await;
            }
            world.log(|| format!("gateway {way} answers {}: {:?}", short(&sms), deed.answer));
            world.lock().oracle.answered(way, sms.recipient.as_str(), deed.answer);
            let _ = tell.send(match deed.answer {
                None => Ok(Receipt { references: vec!["7".into()] }),
                Some(class) => Err(SubmitError::new(class, format!("scripted: {class}"))),
            });
        });
        let answer = told.await;
        self.control.running().await;
        match answer {
            Ok(answer) => {
                visit.answered = true;
                answer
            }
            Err(_) => std::future::pending().await,
        }
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        self.control.running().await;
        sleep(self.world.gateway_latency()).await;
        let mode = self.world.lock().modes[self.way];
        self.control.running().await;
        match mode {
            Mode::Down => Err(SubmitError::new(Class::Unavailable, "scripted: down")),
            Mode::Misconfigured => Err(SubmitError::new(Class::Misconfigured, "scripted: misconfigured")),
            Mode::Hung(_) => std::future::pending().await,
            _ => Ok(Health("alive".into())),
        }
    }
}

/// From the moment at which an SMS is handed over until the engine has an answer, or waits for none.
struct Visit<'a> {
    line: &'a Line,
    phone: String,
    from: Duration,
    answered: bool,
}

impl Visit<'_> {
    fn new<'a>(line: &'a Line, sms: &Sms) -> Visit<'a> {
        line.world.measure(|meter, _| meter.submitted(line.way));
        Visit { line, phone: sms.recipient.to_string(), from: line.world.now(), answered: false }
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let Visit { line, phone, from, answered } = self;
        line.world.measure(|meter, now| meter.submit_ended(line.way, phone, *from, now, *answered));
    }
}

pub fn short(sms: &Sms) -> String {
    format!("{:.8} ({})", sms.attempt.to_string(), sms.recipient)
}

impl World {
    fn decide(&self, way: usize, sms: &Sms, by: &str) -> Deed {
        let mut guard = self.lock();
        let w = &mut *guard;
        let dice = w.dice;
        let mut roll = |p: f64| p > 0.0 && w.rng.f64() < p;
        let plan = &self.plan.ways[way];
        let recipient: Option<usize> = sms.recipient.as_str().get(6..).and_then(|n| n.parse().ok());
        let deed = |take, answer| Deed { take, answer, silent: false, after: Duration::ZERO };
        let late = sms.timeout + secs(3);
        let mut deed = match w.modes[way] {
            Mode::Down => deed(false, Some(Class::Unavailable)),
            Mode::Refusing => deed(false, Some(Class::Rejected)),
            Mode::Misconfigured => deed(false, Some(Class::Misconfigured)),
            Mode::Throttling(pause, p) if roll(p) => {
                deed(false, Some(Class::Throttled { retry_after: pause }))
            }
            Mode::Error(p) => deed(roll(p), Some(Class::Failed)),
            Mode::Hung(p) => Deed { silent: true, ..deed(roll(p), None) },
            _ if recipient.is_some_and(|n| plan.refuses.contains(&n)) => deed(false, Some(Class::Rejected)),
            _ if !w.healed && recipient.is_some_and(|n| plan.defers.contains(&n)) => {
                deed(false, Some(Class::Deferred))
            }
            Mode::Late => Deed { after: late, ..deed(true, None) },
            Mode::Slow(after) => Deed { after, ..deed(true, None) },
            Mode::Up | Mode::Throttling(..) => deed(true, None),
        };
        if deed.take && deed.answer.is_none() && self.plan.healthy != Some(way) {
            if roll(dice.gateway_fails) {
                deed.take = roll(0.5);
                deed.answer = Some(if deed.take { Class::Failed } else { Class::Unavailable });
            } else if roll(dice.gateway_silent) {
                deed.take = roll(0.5);
                deed.silent = true;
            }
        }
        if deed.take {
            let verdict =
                w.oracle.take(&self.queue, sms, deed.answer.is_some(), &self.plan, (by, self.now()));
            w.judge(verdict);
            if deed.answer.is_none()
                && let Some(meter) = &mut w.meter
            {
                meter.taken(&read(&sms.text).0, self.now());
            }
        }
        drop(guard);
        self.log(|| {
            let took = if deed.take { "takes" } else { "does not take" };
            format!("gateway {way} {took} {}{}", short(sms), if deed.silent { ", and is silent" } else { "" })
        });
        deed
    }
}
