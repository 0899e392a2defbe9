//! A queue in memory, for tests and simulation.
//!
//! It keeps the whole contract but durability: it lives as long as the object. Everything happens under one
//! mutex that is never held across an await, and time comes from one injected clock, by default tokio's, so
//! that paused time is this queue's time too. It is also the model that the databases are tested against.
//!
//! What a foreign program may do to the rows of a database is there as plain methods ([`MemoryQueue::insert`],
//! [`MemoryQueue::overwrite`], [`MemoryQueue::rewrite`], [`MemoryQueue::delete`], [`MemoryQueue::orphan`]). Faults are
//! not: who wants them wraps the queue.

mod intake;
mod past;
mod reports;
mod tables;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use crate::alert::{Alert, AlertId, Reason, Severity, Verdict};
use crate::queue::arrivals::Arrivals;
use crate::queue::ledger::{Judgement, judge, may_have_been_taken};
use crate::queue::news::Bell;
use crate::queue::wall::SLACK;
use crate::queue::{
    Age, AlertRow, AttemptRow, AttemptState, Audit, Cancelled, Caught, Closing, Decision, Depth, Doubt,
    EXPIRED_AT_ONCE, Filter, Forgot, Grant, Instance, Known, LogEnd, Look, NewAlert, NewAttempt, News, Peers,
    Period, Place, Queue, QueueError, Resolved, Settled, Settlement, Stats, Story, Submission, Submitted,
    Suspects, Which, Witness,
};
use tables::{Lease, Tables};

/// Where an alert stands in its row. [`crate::queue::AlertState`] is this and what its attempts say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits.
    Waiting,
    /// It was sent.
    Sent,
    /// It was ignored.
    Ignored,
}

/// An attempt as it stands in the ledger, for whoever checks it without copying it.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// As it was begun.
    pub attempt: &'a NewAttempt,
    /// Where it stands.
    pub state: AttemptState,
    /// The class of the answer that closed it.
    pub class: Option<&'a str>,
    /// The lease of its owner is good.
    pub owned: bool,
    /// How many attempts were begun before it.
    pub place: usize,
}

/// What a [`MemoryQueue`] held at one time.
#[derive(Clone)]
pub struct Backup(Tables);

impl std::fmt::Debug for Backup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backup").field("alerts", &self.0.alerts.len()).finish()
    }
}

/// Which server has what a [`Backup`] holds, when it is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The same one: its log goes on from where the backup was made.
    Here,
    /// A standby that lagged, and is promoted: its log goes on from there on another timeline.
    Standby,
    /// Another database cluster: its log tells nothing of the former one's.
    Elsewhere,
}

/// The time by this queue's clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// See the module.
pub struct MemoryQueue {
    tables: Mutex<Tables>,
    clock: Clock,
    /// When it was made, by the clock that nobody sets.
    made: Instant,
    arrivals: Mutex<Arrivals>,
    news: Bell,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        let (start, wall) = (Instant::now(), Timestamp::now());
        MemoryQueue::with_clock(Arc::new(move || plus(wall, start.elapsed())))
    }
}

impl MemoryQueue {
    /// An empty queue by tokio's clock, which tests may pause.
    pub fn new() -> MemoryQueue {
        MemoryQueue::default()
    }

    /// An empty queue by a clock of the caller's.
    pub fn with_clock(clock: Clock) -> MemoryQueue {
        MemoryQueue {
            tables: Mutex::default(),
            clock,
            made: Instant::now(),
            arrivals: Mutex::default(),
            news: Bell::default(),
        }
    }

    /// Inserts a waiting alert as a foreign program would: any phone, any time, and nobody is notified.
    pub fn insert(&self, phone: &str, text: &str, severity: Severity, queued_at: Timestamp) -> AlertId {
        self.lock().insert(phone, text, severity, queued_at)
    }

    /// Overwrites where an alert stands as a foreign program would, past the ledger.
    pub fn overwrite(&self, id: AlertId, standing: Standing) {
        let now = self.now();
        self.lock().set(id, standing, None, now);
    }

    /// Changes an alert's phone, text and severity as a foreign program would, past the ledger. `change` sees the row
    /// as [`Queue::claim`] shows it.
    pub fn rewrite(&self, id: AlertId, change: impl FnOnce(&mut Alert)) {
        let now = self.now();
        self.lock().rewrite(id, change, now);
    }

    /// Deletes an alert as a foreign program would, past the ledger.
    pub fn delete(&self, id: AlertId) {
        self.lock().delete(id);
    }

    /// Damages the ledger: the attempt no longer knows its alerts, nor they it.
    pub fn orphan(&self, attempt: Uuid) {
        self.lock().orphan(attempt);
    }

    /// All that is written now, to be put back later ([`MemoryQueue::restore`]).
    pub fn backup(&self) -> Backup {
        Backup(self.lock().clone())
    }

    /// Goes back to an earlier time, as a database does whose files are replaced by an older copy. With `reuse`, new
    /// alerts are given keys that alerts which are forgotten now once had.
    pub fn restore(&self, backup: &Backup, reuse: bool) {
        self.restore_on(backup, reuse, Restored::Here);
    }

    /// The same by another server.
    pub fn restore_on(&self, backup: &Backup, reuse: bool, server: Restored) {
        let mut t = self.lock();
        let (last_id, log) = (t.last_id, t.log);
        *t = backup.0.clone();
        if !reuse {
            t.last_id = last_id;
        }
        match server {
            Restored::Here => {}
            Restored::Standby => (t.log.system, t.log.timeline) = (log.system, log.timeline + 1),
            Restored::Elsewhere => t.log = LogEnd { system: log.system + 1, timeline: 1, position: 1 },
        }
    }

    /// Where its log ends.
    pub fn log(&self) -> LogEnd {
        self.lock().log
    }

    /// The key of the alert that came last.
    pub fn last_key(&self) -> AlertId {
        AlertId(self.lock().last_id)
    }

    /// Shows one attempt, if it is written.
    pub fn look_up<T>(&self, attempt: Uuid, see: impl FnOnce(Written<'_>) -> T) -> Option<T> {
        let now = self.now();
        let t = self.lock();
        t.find(attempt).map(|n| see(t.written(n, now)))
    }

    /// Shows every attempt in the order in which they were begun.
    pub fn each_attempt(&self, mut see: impl FnMut(Written<'_>)) {
        let now = self.now();
        let t = self.lock();
        (0..t.attempts.len()).for_each(|n| see(t.written(n, now)));
    }

    /// Shows each unresolved attempt, and each that was begun or closed since `seen` such changes, in the order in which they
    /// were begun. Returns how many changes there have been.
    pub fn each_revised(&self, seen: usize, mut see: impl FnMut(Written<'_>)) -> usize {
        let now = self.now();
        let t = self.lock();
        let places: BTreeSet<usize> =
            t.unresolved.iter().chain(t.revised.iter().skip(seen)).copied().collect();
        places.into_iter().for_each(|n| see(t.written(n, now)));
        t.revised.len()
    }

    /// How often an alert or an attempt has changed.
    pub fn changes(&self) -> u64 {
        let t = self.lock();
        t.changes + t.revised.len() as u64
    }

    /// Those of the alerts that `change` makes wait again.
    fn made_to_wait(&self, ids: &[AlertId], change: impl Fn(&mut Tables, AlertId) -> bool) -> Vec<AlertId> {
        let mut t = self.lock();
        let changed: Vec<AlertId> = ids.iter().copied().filter(|id| change(&mut t, *id)).collect();
        drop(t);
        if !changed.is_empty() {
            self.news.ring(News::Freed);
        }
        changed
    }

    /// The greatest key of those that may have waited longer than `age`.
    fn long_since(&self, t: &Tables, age: &Age) -> AlertId {
        let newest = t.alerts.last_key_value().map_or(0, |(id, _)| id.0);
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        AlertId(arrivals.look(newest, self.made.elapsed(), age.duration))
    }

    /// The time by this queue's clock.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        t.remember(known)?;
        for (id, lease) in &mut t.leases {
            if lease.lock == instance.lock && *id != instance.id {
                lease.until = lease.until.min(now);
            }
        }
        let lease = t.leases.entry(instance.id).or_insert_with(|| Lease {
            name: instance.name.clone(),
            lock: instance.lock.clone(),
            until: now,
        });
        lease.until = plus(now, ttl);
        t.reap(now);
        t.log.position += 1;
        Ok(Grant { queue: t.identity, now, witness: t.witness() })
    }

    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        t.remember(known)?;
        match t.leases.get_mut(&instance) {
            Some(lease) if lease.until > now => {
                lease.until = plus(now, ttl);
                t.log.position += 1;
                Ok(Grant { queue: t.identity, now, witness: t.witness() })
            }
            _ => Err(QueueError::LeaseLost),
        }
    }

    async fn witness(&self, known: &Known) -> Result<Witness, QueueError> {
        let t = self.lock();
        t.remember(known)?;
        Ok(t.witness())
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        let now = self.now();
        let mut t = self.lock();
        if let Some(lease) = t.leases.get_mut(&instance) {
            lease.until = lease.until.min(now);
        }
        t.reap(now);
        Ok(())
    }

    async fn peers(&self, instance: Uuid) -> Result<Peers, QueueError> {
        let now = self.now();
        let t = self.lock();
        let live = |id: &Uuid| *id == instance || t.leases.get(id).is_some_and(|lease| lease.until > now);
        let of = t.leases.keys().filter(|id| live(id)).count() as u32;
        let rank = t.leases.keys().filter(|id| live(id) && **id < instance).count() as u32;
        Ok(Peers { rank, of: of.max(1) })
    }

    async fn newest(&self) -> Result<AlertId, QueueError> {
        Ok(self.lock().alerts.last_key_value().map_or(AlertId(0), |(id, _)| *id))
    }

    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        let now = self.now();
        let t = self.lock();
        let long = age.map(|age| (self.long_since(&t, age), age.duration));
        let old = |id: AlertId| long.is_some_and(|(long, age)| t.is_old(id, long, age, now));
        let free = |place: &&Place| !t.held.contains_key(&place.id) && !old(place.id);
        let places: Vec<Place> = match look {
            Look::Full { after } => t
                .waiting
                .iter()
                .filter(|p| after.is_none_or(|a| **p > a))
                .filter(free)
                .take(limit)
                .copied()
                .collect(),
            Look::New { after } => {
                let mut new: Vec<Place> = (t.alerts.range(AlertId(after.0.saturating_add(1))..))
                    .filter(|(_, row)| row.standing == Standing::Waiting)
                    .map(|(id, row)| Place { severity: row.severity, id: *id })
                    .filter(|place| free(&place))
                    .take(limit)
                    .collect();
                new.sort();
                new
            }
        };
        Ok(places.iter().filter_map(|place| t.alert(place.id, now)).collect())
    }

    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        t.remember_here(known)?;
        if !t.lives(owner, now) {
            return Err(QueueError::LeaseLost);
        }
        t.log.position += 1;
        Ok(attempts.iter().filter(|new| t.begin(owner, new, now)).map(|new| new.id).collect())
    }

    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        let mut settled = Settled::default();
        t.log.position += 1;
        for settlement in settlements {
            t.settle(owner, settlement, now, &mut settled);
        }
        Ok(settled)
    }

    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        t.reap(now);
        Ok(t.doubts(owner, now))
    }

    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        match t.lives(owner, now) {
            true => {
                t.log.position += 1;
                Ok(t.hold(owner, suspects, why, now))
            }
            false => Err(QueueError::LeaseLost),
        }
    }

    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        let long = self.long_since(&t, age);
        let old = |id: &AlertId| !t.held.contains_key(id) && t.is_old(*id, long, age.duration, now);
        let ids: BTreeSet<AlertId> = t.waiting.iter().map(|p| p.id).filter(old).collect();
        let ids: Vec<AlertId> = ids.into_iter().take(EXPIRED_AT_ONCE).collect();
        let why = format!("waited longer than {}", age.text);
        for id in &ids {
            t.ignore(*id, Reason::Expired, &why, "smsd", now);
        }
        Ok(ids)
    }

    async fn wait(&self) -> News {
        self.news.wait().await
    }

    async fn enqueue(&self, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError> {
        let now = self.now();
        let submitted = self.lock().enqueue(submissions, now);
        if submitted.iter().any(|one| matches!(one, Submitted::Queued(_))) {
            self.news.ring(News::Submitted);
        }
        Ok(submitted)
    }

    async fn cancel(&self, which: &Which, by: &str) -> Result<Cancelled, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        let waits: BTreeSet<AlertId> = match which {
            Which::All => t.waiting.iter().map(|p| p.id).collect(),
            Which::Ids(ids) => ids.iter().copied().filter(|id| t.waits(*id)).collect(),
        };
        let (in_flight, cancelled): (Vec<_>, Vec<_>) =
            waits.into_iter().partition(|id| t.holder_state(*id) == Some(AttemptState::Open));
        let mut freed = false;
        // Of what is asked for by its id, also an alert that is gone or has ended may stand in an attempt.
        let asked = if let Which::Ids(ids) = which { ids.as_slice() } else { &cancelled };
        for id in asked.iter().filter(|id| !in_flight.contains(id)) {
            if let Some(n) = t.held.get(id).copied().filter(|n| t.attempts[*n].state != AttemptState::Open) {
                t.close(n, AttemptState::Cancelled, now);
                freed = true;
            }
        }
        for id in &cancelled {
            t.ignore(*id, Reason::Cancelled, "", by, now);
        }
        drop(t);
        if freed {
            self.news.ring(News::Freed);
        }
        Ok(Cancelled { cancelled, in_flight, ..Cancelled::default() })
    }

    async fn resolve(&self, ids: &[AlertId], decision: Decision, by: &str) -> Result<Resolved, QueueError> {
        let now = self.now();
        let mut t = self.lock();
        let decided: Vec<AlertId> = ids.iter().flat_map(|id| t.resolve(*id, decision, by, now)).collect();
        drop(t);
        if !decided.is_empty() {
            self.news.ring(News::Freed);
        }
        Ok(Resolved::of(ids, decided))
    }

    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        Ok(self.lock().suspected(limit))
    }

    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        let now = self.now();
        Ok(self.made_to_wait(ids, |t, id| t.requeue(id, by, now)))
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<AlertRow>, QueueError> {
        Ok(self.lock().list(filter))
    }

    async fn show(&self, id: AlertId) -> Result<Option<Story>, QueueError> {
        Ok(self.lock().show(id))
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        Ok(self.lock().depth())
    }

    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        Ok(self.lock().recent(before, limit))
    }

    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        Ok(self.lock().undecided(limit))
    }

    async fn history(&self, since: Timestamp, step: Duration) -> Result<Vec<Period>, QueueError> {
        Ok(self.lock().history(since, step))
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        let now = self.now();
        Ok(self.lock().stats(now))
    }

    async fn audit(&self) -> Result<Audit, QueueError> {
        Ok(self.lock().audit())
    }
}

fn plus(at: Timestamp, span: Duration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}

/// How long ago something happened; `None` if by this clock it has not happened yet.
fn happened(then: Timestamp, now: Timestamp) -> Option<Duration> {
    let age = now.duration_since(then);
    (age >= -jiff::SignedDuration::from_micros(SLACK)).then(|| Duration::try_from(age).unwrap_or_default())
}

/// How long ago that was; nothing if it is yet to come.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
