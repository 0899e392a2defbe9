//! The database goes back in time: a backup is put back, while the processes run or as they are killed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smsd::alert::AlertId;
use smsd::engine::guard::{Keep, Record};
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{AttemptState, Decision, Queue};
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
    /// It is not waited for: the database goes back as soon as an SMS is taken.
    pub at_once: bool,
    /// In the end a person has all that the guard holds sent.
    pub releases: bool,
}

impl Past {
    /// From dice of its own, so that what else a seed means stays the same.
    pub fn of(seed: u64, span: Duration, arrivals: &[Arrival]) -> Option<Past> {
        let mut r = fastrand::Rng::with_seed(seed ^ 0x7061_7374);
        if r.f64() >= 0.3 {
            return None;
        }
        let (kills, releases) = (r.bool(), r.bool());
        // Some lose no more than what befell one alert, together with the process that knew of it.
        if kills && r.bool() {
            let backup_at = arrivals.get(r.usize(..arrivals.len().max(1)))?.at;
            let restore_at = backup_at + secs(30);
            return Some(Past { backup_at, restore_at, kills, at_once: true, releases });
        }
        let backup_at = span.mul_f64(0.8 * r.f64());
        let most = span - backup_at;
        let age = if r.bool() { most.mul_f64(r.f64()) } else { most.min(secs(20)).mul_f64(r.f64()) };
        Some(Past { backup_at, restore_at: backup_at + age, kills, at_once: false, releases })
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

/// What is known of what the database has forgotten.
#[derive(Default)]
pub struct Forgotten {
    /// Attempts from before it went back.
    older: HashSet<Uuid>,
    /// Alerts that a gateway took, and the ledger knows nothing of it.
    alerts: HashSet<AlertId>,
    /// A person has let them be sent again.
    released: HashSet<AlertId>,
}

impl Forgotten {
    pub fn has_gone_back(&self) -> bool {
        !self.older.is_empty()
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

    /// A gateway takes an SMS with this alert; `marked` is what the ledger says of the attempt, if it knows it.
    pub fn take(&mut self, id: AlertId, attempt: Uuid, marked: Option<bool>, strict: bool) -> Verdict {
        let wrong = |what: &str| Err(Violation::new(what).alert(id).attempt(attempt));
        if marked.is_none() {
            self.alerts.insert(id);
        } else if strict && self.is_forgotten(id) && !self.is_older(attempt) {
            if !self.released.contains(&id) {
                return wrong("sent before the database went back, and again without a person's word");
            }
            if marked == Some(false) {
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
    fn goes_back(&mut self, queue: &MemoryQueue, restore: impl FnOnce()) {
        self.past.older.extend(attempts(queue));
        restore();
        let known = attempts(queue);
        let lost = |(id, taken): (AlertId, HashSet<Uuid>)| (!taken.is_subset(&known)).then_some(id);
        self.past.alerts = self.accepted_by().filter_map(lost).collect();
        self.uncertain.clear();
    }
}

impl World {
    pub fn back_up(&self) {
        let backup = self.queue.backup();
        self.lock().backup = Some(backup);
    }

    pub fn go_back(&self) {
        let mut w = self.lock();
        if let Some(backup) = w.backup.take() {
            w.oracle.goes_back(&self.queue, || self.queue.restore(&backup, false));
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
    pub fn taken(&self, control: &Control) {
        if self.plan.past.is_some_and(|past| past.at_once) && self.lock().backup.is_some() {
            self.log(|| "the database goes back at once".into());
            self.go_back();
            control.kill();
        }
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
