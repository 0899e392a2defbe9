//! The database goes back in time: a backup is put back, while the processes run or as they are killed.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smsd::alert::AlertId;
use smsd::engine::guard::{Keep, Record};
use smsd::queue::memory::{MemoryQueue, Restored};
use smsd::queue::{AttemptState, Decision, LogEnd, Queue, Witness};
use tokio::time::sleep;
use uuid::Uuid;

use super::oracle::{Oracle, Verdict, Violation};
use super::plan::{Arrival, secs};
use super::process::Control;
use super::world::World;

/// When the database goes back, and how far.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    pub backup_at: Duration,
    pub restore_at: Duration,
    /// The processes are killed with it.
    pub kills: bool,
    /// It is not waited for: the database goes back as soon as an SMS is taken, or so much later.
    pub at_once: bool,
    pub lingers: Duration,
    /// In the end a person has all that the guard holds sent.
    pub releases: bool,
    /// Which server goes on.
    pub server: Restored,
    /// New alerts are given the keys of those that are forgotten.
    pub reuses: bool,
}

impl Past {
    /// From dice of its own, so that what else a seed means stays the same.
    pub fn of(seed: u64, span: Duration, arrivals: &[Arrival]) -> Option<Past> {
        let mut r = fastrand::Rng::with_seed(seed ^ 0x7061_7374);
        if r.f64() >= 0.3 {
            return None;
        }
        let (kills, releases) = (r.bool(), r.bool());
        // Another server gives no key again that is known to be given: a begin that is under way when it takes over is
        // tried again there by its keys.
        let on = |r: &mut fastrand::Rng| {
            let server = [Restored::Here, Restored::Standby, Restored::Elsewhere][r.usize(..3)];
            (server, r.f64() < 0.5 && server == Restored::Here)
        };
        // Some lose no more than what befell one alert, together with the process that knew of it.
        if kills && r.bool() {
            let backup_at = arrivals.get(r.usize(..arrivals.len().max(1)))?.at;
            let restore_at = backup_at + secs(30);
            let (server, reuses) = on(&mut r);
            // Long enough for others to see it.
            let lingers = if r.bool() { secs(3).mul_f64(r.f64()) } else { Duration::ZERO };
            return Some(Past {
                backup_at,
                restore_at,
                kills,
                at_once: true,
                lingers,
                releases,
                server,
                reuses,
            });
        }
        let backup_at = span.mul_f64(0.8 * r.f64());
        let most = span - backup_at;
        let age = if r.bool() { most.mul_f64(r.f64()) } else { most.min(secs(20)).mul_f64(r.f64()) };
        let (restore_at, (server, reuses)) = (backup_at + age, on(&mut r));
        let lingers = Duration::ZERO;
        Some(Past { backup_at, restore_at, kills, at_once: false, lingers, releases, server, reuses })
    }
}

/// The file of one slot's processes. It survives them.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Option<Record>>>);

impl Keep for Kept {
    fn load(&mut self) -> Result<Option<Record>, String> {
        Ok(*self.0.lock().unwrap())
    }

    fn save(&mut self, record: &Record) -> Result<(), String> {
        *self.0.lock().unwrap() = Some(*record);
        Ok(())
    }
}

/// A log that is short by no more may have grown past what was seen of it before anybody asks again.
const OUTGROWN: u64 = 64;

/// What one slot's processes have been told of everybody's commits.
#[derive(Default)]
struct Told {
    /// The process that asked last.
    by: String,
    /// Answers that it may not have read yet.
    unread: Vec<(Duration, Answer)>,
    seen: HashSet<Uuid>,
    /// What its record keeps: the last attempt that it saw, and the last that it began.
    last: Option<Uuid>,
    begun: Option<Uuid>,
    log: Option<LogEnd>,
    /// When its lease was last granted, and that it was the same process.
    whole: Duration,
    granted: bool,
}

/// What the database tells a process.
#[derive(Clone, Copy)]
pub enum Answer {
    /// It has a lease.
    Granted(Witness),
    /// What everybody has committed.
    Shown(Witness),
    /// Its own attempts are committed, this one last.
    Begun(Uuid),
}

impl Told {
    /// A process that asks again has read what it was told before.
    fn asks(&mut self, by: &str, now: Duration) {
        if self.by != by {
            self.unread.clear();
            self.granted = false;
            by.clone_into(&mut self.by);
        }
        let unread = std::mem::take(&mut self.unread);
        for (at, answer) in unread {
            if at == now {
                self.unread.push((at, answer));
                continue;
            }
            match answer {
                Answer::Begun(id) => {
                    self.seen.insert(id);
                    self.begun = Some(id);
                }
                Answer::Granted(witness) | Answer::Shown(witness) => {
                    self.seen.extend(witness.newest);
                    self.last = witness.newest.or(self.last);
                }
            }
            if let Answer::Granted(witness) = answer {
                self.log = witness.log;
                (self.whole, self.granted) = (at, true);
            }
        }
    }

    /// Which of the slot's processes must find out that these attempts are left, and the log ends here.
    fn finds_out(&self, left: &HashSet<Uuid>, log: Option<LogEnd>, backed_up_at: Duration) -> Finds {
        let is_short = |told: LogEnd, log: LogEnd| told.is_of(log) && told.position > log.position + OUTGROWN;
        let short = self.log.zip(log).is_some_and(|(told, log)| is_short(told, log));
        let lost = |id: &Uuid| !left.contains(id);
        let by_record = self.last.iter().chain(&self.begun).any(lost) || short;
        // What was queued after its last lease, a process that has had none since takes for new.
        let recent = self.whole + secs(4) >= backed_up_at;
        let by_itself = (self.seen.iter().any(lost) || short) && (self.granted || recent);
        Finds { by: by_itself.then(|| self.by.clone()), later: by_record && recent }
    }
}

/// Who of a slot finds out.
#[derive(Default)]
struct Finds {
    /// The process that was there then.
    by: Option<String>,
    /// Those that come after it.
    later: bool,
}

/// What is known of what the database has forgotten.
#[derive(Default)]
pub struct Forgotten {
    /// It went back.
    gone_back: bool,
    told: HashMap<usize, Told>,
    finds: HashMap<usize, Finds>,
    /// When the backup was made.
    backed_up_at: Duration,
    /// Above this key, an alert of an attempt from before is another one than that with its key now.
    last_key: Option<AlertId>,
    /// Alerts in attempts of processes that could not find out.
    excused: HashSet<AlertId>,
    /// Attempts from before it went back.
    older: HashSet<Uuid>,
    /// Alerts that a gateway took, and the ledger knows nothing of it.
    alerts: HashSet<AlertId>,
    /// A person has let them be sent again.
    released: HashSet<AlertId>,
}

impl Forgotten {
    pub fn has_gone_back(&self) -> bool {
        self.gone_back
    }

    /// A process asks the database something.
    pub fn asks(&mut self, slot: usize, by: &str, now: Duration) {
        self.told.entry(slot).or_default().asks(by, now);
    }

    /// A process is told something.
    pub fn tells(&mut self, slot: usize, by: &str, now: Duration, answer: Answer) {
        let told = self.told.entry(slot).or_default();
        if told.by == by {
            told.unread.push((now, answer));
        }
    }

    /// Must this process find out that the database went back?
    pub fn finds_out(&self, slot: usize, by: &str) -> bool {
        self.finds.get(&slot).is_some_and(|finds| match &finds.by {
            Some(there) if there == by => true,
            _ => finds.later,
        })
    }

    /// A process has begun an attempt with these alerts.
    pub fn begins(&mut self, finds_out: bool, alerts: impl Iterator<Item = AlertId>) {
        if self.gone_back && !finds_out {
            self.excused.extend(alerts);
        }
    }

    /// True if the alert of this attempt is another one than that with its key now.
    pub fn is_another(&self, id: AlertId, attempt: Uuid) -> bool {
        self.is_older(attempt) && self.last_key.is_some_and(|last| id > last)
    }

    pub fn is_older(&self, attempt: Uuid) -> bool {
        self.older.contains(&attempt)
    }

    pub fn is_forgotten(&self, alert: AlertId) -> bool {
        self.alerts.contains(&alert)
    }

    pub fn is_released(&self, alerts: &[AlertId]) -> bool {
        alerts.iter().any(|id| self.released.contains(id))
    }

    /// A gateway takes an SMS with this alert; `marked` is what the ledger says of the attempt, if it
    /// knows it. With `alone`, the process that sends it has sent all that ever was sent.
    pub fn take(&mut self, id: AlertId, attempt: Uuid, marked: Option<bool>, alone: bool) -> Verdict {
        let wrong = |what: &str| Err(Violation::new(what).alert(id).attempt(attempt));
        if marked.is_none() {
            self.alerts.insert(id);
        } else if self.is_forgotten(id) && !self.is_older(attempt) {
            if alone && !self.released.contains(&id) {
                return wrong("sent before the database went back, and again without a person's word");
            }
            if (alone || !self.excused.contains(&id)) && marked == Some(false) {
                return wrong("sent before the database went back, and again without a mark");
            }
        }
        Ok(())
    }
}

fn attempts(queue: &MemoryQueue) -> HashSet<Uuid> {
    let mut ids = HashSet::new();
    queue.each_attempt(|w| _ = ids.insert(w.attempt.id));
    ids
}

impl Oracle {
    /// The database goes back: `restore` does it.
    fn goes_back(&mut self, queue: &MemoryQueue, restore: impl FnOnce(), last_key: Option<AlertId>) {
        self.past.gone_back = true;
        self.past.older.extend(attempts(queue));
        restore();
        let known = attempts(queue);
        if let Some(last) = last_key {
            self.forget_above(last);
        }
        let lost = |(id, taken): (AlertId, HashSet<Uuid>)| (!taken.is_subset(&known)).then_some(id);
        self.past.alerts = self.accepted_by().filter_map(lost).collect();
        self.past.last_key = last_key;
        self.uncertain.clear();
        self.look_anew();
        let (log, past) = (Some(queue.log()), &mut self.past);
        let finds = |(slot, told): (&usize, &Told)| (*slot, told.finds_out(&known, log, past.backed_up_at));
        past.finds = past.told.iter().map(finds).collect();
    }
}

impl World {
    pub fn back_up(&self) {
        let (backup, last) = (self.queue.backup(), self.queue.last_key());
        let now = self.now();
        let mut w = self.lock();
        w.backup = Some((backup, last));
        w.oracle.past.backed_up_at = now;
    }

    pub fn go_back(&self) {
        let mut guard = self.lock();
        let w = &mut *guard;
        if let (Some((backup, last)), Some(past)) = (w.backup.take(), self.plan.past) {
            let restore = || self.queue.restore_on(&backup, past.reuses, past.server);
            w.oracle.goes_back(&self.queue, restore, past.reuses.then_some(last));
            if past.reuses {
                w.arrived = last.0;
            }
        }
    }

    /// Who cancels one alert of an SMS in doubt or held lets its others wait again.
    pub fn frees_others(&self, id: AlertId) {
        let mut freed: HashSet<AlertId> = HashSet::new();
        self.queue.each_attempt(|w| {
            let alerts = || w.attempt.carried.iter().chain(&w.attempt.counted);
            if matches!(w.state, AttemptState::InDoubt | AttemptState::Held) && alerts().any(|a| *a == id) {
                freed.extend(alerts());
            }
        });
        self.lock().oracle.past.released.extend(freed);
    }

    /// A gateway has taken an SMS of this process.
    pub fn taken(self: &Arc<World>, control: &Arc<Control>) {
        let Some(past) = self.plan.past.filter(|past| past.at_once) else { return };
        if self.lock().backup.is_none() {
            return;
        }
        let (world, control) = (self.clone(), control.clone());
        let goes_back = move || {
            // Another SMS may have been first.
            if world.lock().backup.is_some() {
                world.log(|| "the database goes back at once".into());
                world.go_back();
                control.kill();
            }
        };
        if past.lingers.is_zero() {
            return goes_back();
        }
        tokio::spawn(async move {
            sleep(past.lingers).await;
            goes_back();
        });
    }

    /// After a while a person has everything sent that is held.
    pub async fn release_all(&self) {
        sleep(secs(60)).await;
        loop {
            let ids = self.queue.suspected(10).await.unwrap();
            if ids.is_empty() {
                break;
            }
            self.log(|| format!("released: {ids:?}"));
            self.lock().oracle.past.released.extend(&ids);
            self.queue.resolve(&ids, Decision::Resend, "somebody").await.unwrap();
        }
    }
}
