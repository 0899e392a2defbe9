//! A queue that fails as databases fail: slow, gone, hanging, or done with what was asked but unable to say so.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use smsd::alert::{Alert, AlertId};
use smsd::queue::memory::{MemoryQueue, Written};
use smsd::queue::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, NewAttempt, News, Peers, Period, Queue, QueueError, Resolved, Settled, Settlement, Stats,
    Story, Submission, Submitted, Suspects, Which, Witness,
};
use tokio::sync::{Mutex, oneshot};
use tokio::time::sleep;
use uuid::Uuid;

use super::past::Answer;
use super::plan::{Poison, millis};
use super::process::Control;
use super::world::World;

/// One process's connection to the database.
pub struct Connection {
    pub world: Arc<World>,
    pub control: Arc<Control>,
    /// Where the process runs.
    pub slot: usize,
    pub name: String,
    /// In a world in which calls share them: for the lease, for looks, for begins and for outcomes.
    pub links: [Mutex<()>; 4],
}

/// By which of its connections a process asks for this.
fn link(verb: &str) -> Option<usize> {
    match verb {
        "join" | "renew" | "leave" => Some(0),
        "peers" | "newest" | "claim" | "doubts" | "expire" => Some(1),
        "begin" => Some(2),
        "settle" => Some(3),
        _ => None,
    }
}

/// How long the database waits for a row that is locked.
const LOCKED: Duration = millis(200);

/// What befalls one call.
#[derive(Clone, Copy, Default)]
pub struct Fate {
    there: Duration,
    back: Duration,
    /// It fails before it has any effect.
    refused: bool,
    /// It has its effect, and the caller never hears of it.
    lost: bool,
    /// What asks for it ends in a panic, whether it has its effect or not.
    panics: bool,
}

impl World {
    fn fate(&self) -> Fate {
        let now = self.now();
        let mut guard = self.lock();
        let w = &mut *guard;
        if w.healed {
            return Fate::default();
        }
        let mut roll = |p: f64| p > 0.0 && w.rng.f64() < p;
        let mut fate = Fate { refused: now < w.gone_until || roll(w.dice.refused_before), ..Fate::default() };
        fate.lost = !fate.refused && roll(w.dice.lost_reply);
        fate.panics = roll(w.dice.panics);
        let slow = if now < w.slow_until { w.slow_by } else { Duration::ZERO };
        if roll(w.dice.hangs) {
            // Until the connection's own time limit ends it.
            (fate.refused, fate.lost) = if roll(0.5) { (true, false) } else { (false, true) };
            fate.back = millis(20_000);
        }
        let latency = w.dice.queue_latency + slow;
        if !latency.is_zero() {
            fate.there = latency.mul_f64(w.rng.f64());
            fate.back += latency.mul_f64(w.rng.f64());
        }
        fate
    }

    /// Why a call that is about these alerts can not be written now.
    fn spoilt(&self, verb: &str, alerts: &[AlertId]) -> Option<QueueError> {
        let now = self.now();
        let is = |p: &&Poison| {
            p.verb == verb && (p.from..p.until).contains(&now) && alerts.contains(&AlertId(p.alert))
        };
        let poison = self.plan.poison.iter().find(is).filter(|_| !self.lock().healed)?;
        let why = format!("scripted: alert {} can not be written", poison.alert);
        Some(if poison.refused { QueueError::Refused(why) } else { QueueError::Poisoned(why) })
    }

    /// Is this verb refused now, whatever it is about?
    fn refuses(&self, verb: &str) -> bool {
        let now = self.now();
        let is = |(other, from, until): &(&str, Duration, Duration)| {
            *other == verb && (*from..*until).contains(&now)
        };
        self.plan.refused.iter().any(is) && !self.lock().healed
    }
}

impl Connection {
    async fn call<T, F, A>(&self, verb: &'static str, effect: F) -> Result<T, QueueError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<MemoryQueue>) -> A + Send + 'static,
        A: Future<Output = Result<T, QueueError>> + Send + 'static,
    {
        self.control.running().await;
        let link = link(verb).filter(|_| self.world.plan.links);
        let _alone = match link {
            Some(link) => Some(self.links[link].lock().await),
            None => None,
        };
        let now = self.world.now();
        self.world.lock().oracle.past.asks(self.slot, &self.name, now);
        let fate = self.world.fate();
        let (tell, told) = oneshot::channel();
        let (world, name) = (self.world.clone(), self.name.clone());
        let served = async move {
            if !fate.there.is_zero() {
                sleep(fate.there).await;
            }
            // What is on its way when the database goes is lost too.
            let gone = !world.lock().healed && world.now() < world.lock().gone_until;
            let result = if fate.refused || gone {
                world.log(|| format!("{name}: {verb} is refused"));
                Err(QueueError::Unavailable("scripted: not reached".into()))
            } else if world.refuses(verb) {
                Err(QueueError::Refused(format!("scripted: no right to {verb}")))
            } else {
                let result = effect(world.queue.clone()).await;
                if verb == "begin" {
                    world.suspend_if_asked();
                }
                world.changed().await;
                if fate.lost {
                    world.log(|| format!("{name}: the reply to {verb} is lost"));
                    result.and(Err(QueueError::Unavailable("scripted: reply lost".into())))
                } else {
                    result
                }
            };
            if !fate.back.is_zero() {
                sleep(fate.back).await;
            }
            let _ = tell.send(result);
        };
        if fate.there.is_zero() && fate.back.is_zero() {
            served.await;
        } else {
            // The database is another machine: what has been asked of it happens, whatever becomes of the process.
            tokio::spawn(served);
        }
        let answer = told.await;
        self.control.running().await;
        if fate.panics {
            self.world.log(|| format!("{}: {verb} ends in a panic", self.name));
            // Nothing is printed of this one.
            std::panic::resume_unwind(Box::new("scripted"));
        }
        answer.unwrap_or_else(|_| Err(QueueError::Unavailable("scripted: no answer".into())))
    }
}

impl Connection {
    /// The process is told this now.
    fn tells(&self, answer: Option<Answer>) {
        let now = self.world.now();
        if let Some(answer) = answer {
            self.world.lock().oracle.past.tells(self.slot, &self.name, now, answer);
        }
    }
}

#[async_trait]
impl Queue for Connection {
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let (instance, known) = (instance.clone(), known.clone());
        let granted = self.call("join", move |q| async move { q.join(&instance, ttl, &known).await }).await;
        self.tells(granted.as_ref().ok().map(|grant| Answer::Granted(grant.witness)));
        granted
    }

    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let known = known.clone();
        let granted = self.call("renew", move |q| async move { q.renew(instance, ttl, &known).await }).await;
        self.tells(granted.as_ref().ok().map(|grant| Answer::Granted(grant.witness)));
        granted
    }

    async fn witness(&self, known: &Known) -> Result<Witness, QueueError> {
        let known = known.clone();
        let shown = self.call("witness", move |q| async move { q.witness(&known).await }).await;
        self.tells(shown.as_ref().ok().copied().map(Answer::Shown));
        shown
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.call("leave", move |q| async move { q.leave(instance).await }).await
    }

    async fn peers(&self, instance: Uuid) -> Result<Peers, QueueError> {
        self.call("peers", move |q| async move { q.peers(instance).await }).await
    }

    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.call("newest", |q| async move { q.newest().await }).await
    }

    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        let age = age.cloned();
        self.call("claim", move |q| async move { q.claim(look, limit, age.as_ref()).await }).await
    }

    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        let (attempts, known) = (attempts.to_vec(), known.clone());
        let ids: Vec<Uuid> = attempts.iter().map(|a| a.id).collect();
        let (world, slot, name) = (self.world.clone(), self.slot, self.name.clone());
        self.world.measure(|meter, now| meter.begins(&attempts, now));
        let answer = self
            .call("begin", move |q| async move {
                let about = |a: &NewAttempt| a.carried.iter().chain(&a.counted).copied().collect::<Vec<_>>();
                let alerts: Vec<AlertId> = attempts.iter().flat_map(about).collect();
                if let Some(error) = world.spoilt("begin", &alerts) {
                    world.log(|| format!("begin of {alerts:?}: {error}"));
                    sleep(LOCKED).await;
                    return Err(error);
                }
                let result = q.begin(owner, &attempts, &known).await;
                if let Ok(owned) = &result {
                    let past = &mut world.lock().oracle.past;
                    let finds_out = past.finds_out(slot, &name);
                    let new = attempts.iter().filter(|a| owned.contains(&a.id));
                    past.begins(finds_out, new.flat_map(|a| a.carried.iter().chain(&a.counted)).copied());
                }
                world.log(|| {
                    let asked: Vec<String> =
                        attempts.iter().map(|a| format!("{:.8} {:?}", a.id.to_string(), a.carried)).collect();
                    format!("begin {asked:?}: {result:?}")
                });
                result
            })
            .await;
        if let Ok(owned) = &answer {
            self.tells(owned.last().copied().map(Answer::Begun));
            let refused = ids.iter().filter(|id| !owned.contains(id));
            self.world.measure(|meter, now| refused.for_each(|id| meter.ended(*id, now)));
        }
        answer
    }

    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let settlements = settlements.to_vec();
        let closed: Vec<Uuid> = settlements.iter().filter_map(|s| Some(s.closing.as_ref()?.id)).collect();
        let world = self.world.clone();
        let answer = self
            .call("settle", move |q| async move {
                let about = |s: &Settlement| -> Vec<AlertId> {
                    let of = |w: Written<'_>| {
                        w.attempt.carried.iter().chain(&w.attempt.counted).copied().collect()
                    };
                    match &s.closing {
                        Some(closing) => q.look_up(closing.id, of).unwrap_or_default(),
                        None => s.verdicts.iter().map(|(id, _)| *id).collect(),
                    }
                };
                let alerts: Vec<AlertId> = settlements.iter().flat_map(about).collect();
                if let Some(error) = world.spoilt("settle", &alerts) {
                    world.log(|| format!("settle of {alerts:?}: {error}"));
                    sleep(LOCKED).await;
                    return Err(error);
                }
                let result = q.settle(owner, &settlements).await;
                world.log(|| format!("settle {settlements:?}: {result:?}"));
                result
            })
            .await;
        self.world.measure(|meter, now| closed.iter().for_each(|id| meter.ended(*id, now)));
        if let Ok(settled) = &answer {
            self.world.lock().oracle.people.found_gone(&self.name, &settled.vanished);
        }
        answer
    }

    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        self.call("doubts", move |q| async move { q.doubts(owner).await }).await
    }

    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        let (suspects, why, world) = (*suspects, why.to_owned(), self.world.clone());
        self.call("hold", move |q| async move {
            // A page of a large table takes its time.
            let time = millis(world.lock().rng.u64(300..3_000));
            sleep(time).await;
            let result = q.hold(owner, &suspects, &why).await;
            world.lock().oracle.doubted |=
                result.as_ref().is_ok_and(|caught| caught.alerts + caught.doubts > 0);
            world.log(|| format!("hold {suspects:?}: {result:?}"));
            result
        })
        .await
    }

    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        let age = age.clone();
        self.call("expire", move |q| async move { q.expire(&age).await }).await
    }

    async fn wait(&self) -> News {
        let news = self.world.queue.wait().await;
        self.control.running().await;
        news
    }

    async fn enqueue(&self, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError> {
        let submissions = submissions.to_vec();
        self.call("enqueue", move |q| async move { q.enqueue(&submissions).await }).await
    }

    async fn cancel(&self, which: &Which, by: &str) -> Result<Cancelled, QueueError> {
        let (which, by) = (which.clone(), by.to_owned());
        self.call("cancel", move |q| async move { q.cancel(&which, &by).await }).await
    }

    async fn resolve(&self, ids: &[AlertId], decision: Decision, by: &str) -> Result<Resolved, QueueError> {
        let (ids, by) = (ids.to_vec(), by.to_owned());
        self.call("resolve", move |q| async move { q.resolve(&ids, decision, &by).await }).await
    }

    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        self.call("suspected", move |q| async move { q.suspected(limit).await }).await
    }

    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        let (ids, by) = (ids.to_vec(), by.to_owned());
        let world = self.world.clone();
        self.call("requeue", move |q| async move {
            let result = q.requeue(&ids, &by).await;
            world.log(|| format!("requeue {ids:?}: {result:?}"));
            result
        })
        .await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<AlertRow>, QueueError> {
        self.world.queue.list(filter).await
    }

    async fn show(&self, id: AlertId) -> Result<Option<Story>, QueueError> {
        self.world.queue.show(id).await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.world.queue.depth().await
    }

    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.world.queue.recent(before, limit).await
    }

    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.world.queue.undecided(limit).await
    }

    async fn history(&self, since: Timestamp, step: Duration) -> Result<Vec<Period>, QueueError> {
        self.world.queue.history(since, step).await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.world.queue.stats().await
    }

    async fn audit(&self) -> Result<Audit, QueueError> {
        self.world.queue.audit().await
    }
}
