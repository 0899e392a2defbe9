//! What people and other programs do to alerts, and what the oracle allows for it.
//!
//! They go past the engines, at once and without fail: how a person's own connection may break is the command line's
//! concern.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use smsd::alert::{AlertId, Severity};
use smsd::queue::memory::{MemoryQueue, Standing};
use smsd::queue::{AlertRow, AlertState, AttemptState, Decision, Queue, Which};
use uuid::Uuid;

use super::oracle::{Verdict, Violation, text_of};
use super::plan::{Decided, Meddling, Pick, phone_of};
use super::world::World;

/// What was done, as far as it excuses what would be a fault without it.
#[derive(Default)]
pub struct People {
    accepted: HashSet<Uuid>,
    released: HashSet<Uuid>,
    /// Alerts of attempts that a person accepted.
    said_sent: HashSet<AlertId>,
    /// How many copies a person has allowed beyond what the engine may send by itself.
    further: HashMap<AlertId, usize>,
    /// How many attempts had been begun when a person made it wait again.
    since: HashMap<AlertId, usize>,
    /// Set by another program.
    set: HashSet<AlertId>,
    /// Its former numbers.
    phones: HashMap<AlertId, Vec<String>>,
    /// Alerts that each process has found to be gone, and has not told of.
    untold: BTreeMap<String, BTreeSet<AlertId>>,
}

impl People {
    pub fn accepted(&self, attempt: Uuid) -> bool {
        self.accepted.contains(&attempt)
    }

    pub fn released(&self, attempt: Uuid) -> bool {
        self.released.contains(&attempt)
    }

    pub fn says_sent(&self, id: AlertId) -> bool {
        self.said_sent.contains(&id)
    }

    pub fn further(&self, id: AlertId) -> usize {
        self.further.get(&id).copied().unwrap_or(0)
    }

    pub fn since(&self, id: AlertId) -> usize {
        self.since.get(&id).copied().unwrap_or(0)
    }

    pub fn has_set(&self, id: AlertId) -> bool {
        self.set.contains(&id)
    }

    pub fn phones(&self, id: AlertId) -> impl Iterator<Item = &String> {
        self.phones.get(&id).into_iter().flatten()
    }

    /// A process has heard that these were no longer waiting when it wrote what became of them.
    pub fn found_gone(&mut self, name: &str, ids: &[AlertId]) {
        if !ids.is_empty() {
            self.untold.entry(name.into()).or_default().extend(ids);
        }
    }

    pub fn told(&mut self, name: &str, ids: &[AlertId]) {
        if let Some(untold) = self.untold.get_mut(name) {
            untold.retain(|id| !ids.contains(id));
        }
    }

    pub fn gone(&mut self, name: &str) {
        self.untold.remove(name);
    }

    pub fn all_told(&self) -> Verdict {
        match self.untold.values().find_map(BTreeSet::first) {
            Some(id) => Err(Violation::new("changed under the engine, and no event says so").alert(*id)),
            None => Ok(()),
        }
    }
}

/// An attempt that holds an alert.
struct Holder {
    id: Uuid,
    state: AttemptState,
    marked: bool,
    alerts: Vec<AlertId>,
}

fn holders(queue: &MemoryQueue) -> Vec<Holder> {
    let mut holders = Vec::new();
    queue.each_attempt(|w| {
        if w.state.is_unresolved() {
            let alerts = w.attempt.carried.iter().chain(&w.attempt.counted).copied().collect();
            let (id, marked) = (w.attempt.id, w.attempt.possible_duplicate);
            holders.push(Holder { id, state: w.state, marked, alerts });
        }
    });
    holders
}

impl World {
    pub fn pick(&self, Pick { state, nth, id }: Pick) -> AlertId {
        let ids: Vec<AlertId> = holders(&self.queue)
            .into_iter()
            .filter(|h| Some(h.state) == state)
            .flat_map(|h| h.alerts)
            .collect();
        if ids.is_empty() { AlertId(id) } else { ids[nth % ids.len()] }
    }

    /// A person decides on one alert.
    pub async fn person_decides(self: &Arc<World>, decided: Decided, id: AlertId) {
        let holder = holders(&self.queue)
            .into_iter()
            .find(|h| h.state != AttemptState::Open && h.alerts.contains(&id));
        let mut begun = 0;
        self.queue.each_attempt(|_| begun += 1);
        let by = "somebody";
        let changed = match decided {
            Decided::Accept => self.queue.resolve(&[id], Decision::Accept, by).await.unwrap().decided,
            Decided::Release => self.queue.resolve(&[id], Decision::Resend, by).await.unwrap().decided,
            Decided::Cancel => self.queue.cancel(&Which::Ids(vec![id]), by).await.unwrap().cancelled,
            Decided::Requeue => self.queue.requeue(&[id], by).await.unwrap(),
        };
        self.log(|| format!("{decided:?} {id:?}: {changed:?}"));
        let mut guard = self.lock();
        let people = &mut guard.oracle.people;
        match (decided, holder) {
            (Decided::Accept, Some(holder)) => {
                people.accepted.insert(holder.id);
                people.said_sent.extend(holder.alerts);
            }
            (Decided::Release | Decided::Cancel, Some(holder)) => {
                if matches!(decided, Decided::Release) {
                    people.released.insert(holder.id);
                }
                // The engine sends a marked SMS no second time by itself.
                for id in holder.alerts.into_iter().filter(|_| holder.marked) {
                    *people.further.entry(id).or_default() += 1;
                }
            }
            (Decided::Requeue, _) if !changed.is_empty() => _ = people.since.insert(id, begun),
            _ => {}
        }
    }

    /// All is healed: people look at what is held.
    pub async fn decide_held(self: &Arc<World>, decision: Decision, rows: &[AlertRow]) {
        for row in rows.iter().filter(|row| row.state == AlertState::Held) {
            let decided = match decision {
                Decision::Accept => Decided::Accept,
                Decision::Resend => Decided::Release,
            };
            self.person_decides(decided, row.id).await;
        }
    }

    /// Another program changes a row.
    pub fn meddle(&self, meddling: Meddling, id: AlertId) {
        let mut there = false;
        self.queue.rewrite(id, |_| there = true);
        if !there {
            return;
        }
        self.log(|| format!("alert {} is changed by another program: {meddling:?}", id.0));
        let mut former = None;
        match meddling {
            Meddling::Delete => self.queue.delete(id),
            Meddling::Sent => self.queue.overwrite(id, Standing::Sent),
            Meddling::Ignored => self.queue.overwrite(id, Standing::Ignored),
            Meddling::Text(words) => self.queue.rewrite(id, |alert| alert.text = text_of(id.0, words)),
            Meddling::Severity(to) => self.queue.rewrite(id, |alert| alert.severity = Severity(to)),
            Meddling::Phone(n) => self.queue.rewrite(id, |alert| {
                former = Some(std::mem::replace(&mut alert.phone, phone_of(n)));
            }),
        }
        let people = &mut self.lock().oracle.people;
        if matches!(meddling, Meddling::Sent | Meddling::Ignored) {
            people.set.insert(id);
        }
        people.phones.entry(id).or_default().extend(former);
    }
}
