//! The rows of a [`super::MemoryQueue`], their indexes, and the verbs that change them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::*;
use crate::alert::Tried;
use crate::queue::Note;
use crate::queue::ledger::{BEFORE, REMEMBERED};
use crate::queue::submission::Digest;
use crate::seeded::{Bug, bug};

/// All rows. `waiting`, `held`, `open` and `unresolved` are indexes over the rest.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) identity: Uuid,
    pub(super) alerts: BTreeMap<AlertId, Row>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) leases: HashMap<Uuid, Lease>,
    pub(super) notes: Vec<(AlertId, Note)>,
    pub(super) waiting: BTreeSet<Place>,
    /// The unresolved attempt that an alert stands in.
    pub(super) held: HashMap<AlertId, usize>,
    pub(super) unresolved: BTreeSet<usize>,
    by_id: HashMap<Uuid, usize>,
    /// The places of the attempts that were begun or brought to another state, in that order.
    pub(super) revised: Vec<usize>,
    /// How often an alert was changed.
    pub(super) changes: u64,
    pub(super) last_id: i64,
    pub(super) log: LogEnd,
    /// What was handed in, by key, and until when each key is remembered.
    pub(super) submissions: HashMap<String, Remembered>,
    pub(super) forgotten: BTreeSet<(Timestamp, String)>,
}

#[derive(Clone)]
pub(super) struct Remembered {
    pub(super) digest: Digest,
    pub(super) until: Timestamp,
    pub(super) ids: Vec<AlertId>,
}

#[derive(Clone)]
pub(super) struct Row {
    pub(super) phone: String,
    pub(super) text: String,
    pub(super) severity: Severity,
    pub(super) standing: Standing,
    pub(super) reason: Option<Reason>,
    pub(super) queued_at: Timestamp,
    /// It waits since: queued, or made to wait again.
    pub(super) since: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    /// All its attempts, oldest first.
    pub(super) attempts: Vec<usize>,
}

#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) new: NewAttempt,
    pub(super) owner: Uuid,
    pub(super) state: AttemptState,
    pub(super) begun_at: Timestamp,
    pub(super) doubt_since: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) closing: Option<Closing>,
    /// Alerts that a person made to wait again since: what this attempt did no longer counts for them.
    pub(super) requeued: HashSet<AlertId>,
}

#[derive(Clone)]
pub(super) struct Lease {
    pub(super) name: String,
    pub(super) lock: String,
    pub(super) until: Timestamp,
}

impl Attempt {
    pub(super) fn alerts(&self) -> impl Iterator<Item = AlertId> {
        self.new.carried.iter().chain(&self.new.counted).copied()
    }
}

impl Tables {
    pub(super) fn lives(&self, instance: Uuid, now: Timestamp) -> bool {
        self.leases.get(&instance).is_some_and(|lease| lease.until > now)
    }

    /// Brings the open attempts of all who no longer live into doubt.
    pub(super) fn reap(&mut self, now: Timestamp) {
        let dead = |n: &usize| {
            self.attempts[*n].state == AttemptState::Open && !self.lives(self.attempts[*n].owner, now)
        };
        let lost: Vec<usize> = self.unresolved.iter().copied().filter(dead).collect();
        for n in lost {
            self.close(n, AttemptState::InDoubt, now);
        }
    }

    /// Has it waited longer than `age`? What came after the key `long` has not.
    pub(super) fn is_old(&self, id: AlertId, long: AlertId, age: Duration, now: Timestamp) -> bool {
        id <= long && self.alerts.get(&id).is_some_and(|row| since(row.since, now) > age)
    }

    pub(super) fn find(&self, attempt: Uuid) -> Option<usize> {
        self.by_id.get(&attempt).copied()
    }

    pub(super) fn written(&self, n: usize, now: Timestamp) -> Written<'_> {
        let a = &self.attempts[n];
        Written {
            attempt: &a.new,
            state: a.state,
            class: a.closing.as_ref().map(|c| c.class),
            owned: self.lives(a.owner, now),
            place: n,
        }
    }

    pub(super) fn insert(&mut self, phone: &str, text: &str, severity: Severity, at: Timestamp) -> AlertId {
        self.last_id += 1;
        self.changes += 1;
        self.log.position += 1;
        let id = AlertId(self.last_id);
        let row = Row {
            phone: phone.into(),
            text: text.into(),
            severity,
            standing: Standing::Waiting,
            reason: None,
            queued_at: at,
            since: at,
            ended_at: None,
            attempts: Vec::new(),
        };
        self.alerts.insert(id, row);
        self.waiting.insert(Place { severity, id });
        id
    }

    pub(super) fn set(&mut self, id: AlertId, to: Standing, reason: Option<Reason>, now: Timestamp) {
        let Some(row) = self.alerts.get_mut(&id) else { return };
        self.changes += 1;
        row.standing = to;
        row.reason = reason;
        let place = Place { severity: row.severity, id };
        if to == Standing::Waiting {
            row.ended_at = None;
            self.waiting.insert(place);
        } else {
            row.ended_at = Some(now);
            self.waiting.remove(&place);
        }
    }

    pub(super) fn rewrite(&mut self, id: AlertId, change: impl FnOnce(&mut Alert), now: Timestamp) {
        let Some(mut alert) = self.alert(id, now) else { return };
        change(&mut alert);
        let Some(row) = self.alerts.get_mut(&id) else { return };
        self.changes += 1;
        let old = Place { severity: row.severity, id };
        (row.phone, row.text, row.severity) = (alert.phone, alert.text, alert.severity);
        if self.waiting.remove(&old) {
            self.waiting.insert(Place { severity: alert.severity, id });
        }
    }

    pub(super) fn delete(&mut self, id: AlertId) {
        if let Some(row) = self.alerts.remove(&id) {
            self.changes += 1;
            self.waiting.remove(&Place { severity: row.severity, id });
        }
    }

    pub(super) fn orphan(&mut self, attempt: Uuid) {
        let Some(n) = self.by_id.get(&attempt).copied() else { return };
        self.held.retain(|_, holder| *holder != n);
        self.attempts[n].new.carried.clear();
        self.attempts[n].new.counted.clear();
    }

    pub(super) fn waits(&self, id: AlertId) -> bool {
        self.alerts.get(&id).is_some_and(|row| row.standing == Standing::Waiting)
    }

    /// The state of the unresolved attempt that holds the alert.
    pub(super) fn holder_state(&self, id: AlertId) -> Option<AttemptState> {
        self.held.get(&id).map(|n| self.attempts[*n].state)
    }

    pub(super) fn alert(&self, id: AlertId, now: Timestamp) -> Option<Alert> {
        let row = self.alerts.get(&id)?;
        Some(Alert {
            id,
            phone: row.phone.clone(),
            text: row.text.clone(),
            severity: row.severity,
            queued_at: row.queued_at,
            maybe_sent: self.maybe_sent(id),
            tried: self.tried(id, row, now),
        })
    }

    fn tried(&self, id: AlertId, row: &Row, now: Timestamp) -> Tried {
        let mut tried = Tried::default();
        for a in row.attempts.iter().map(|n| &self.attempts[*n]).filter(|a| a.begun_at >= row.since) {
            tried.attempts = tried.attempts.max(a.new.number);
            if a.closing.as_ref().is_some_and(|closing| closing.own) {
                tried.failures += 1;
                tried.failed = a.ended_at.and_then(|at| happened(at, now));
            }
            let class = a.closing.as_ref().map(|c| c.class);
            if may_have_been_taken(a.state, class) && a.new.carried.contains(&id) {
                tried
                    .copies
                    .extend(a.ended_at.and_then(|at| happened(at, now)).filter(|age| *age < REMEMBERED));
            }
        }
        tried
    }

    /// An earlier SMS with it may have reached the phone although nobody said so.
    fn maybe_sent(&self, id: AlertId) -> bool {
        let attempts = self.alerts.get(&id).map_or(&[][..], |row| &row.attempts);
        attempts.iter().map(|n| &self.attempts[*n]).any(|a| {
            let class = a.closing.as_ref().map(|c| c.class);
            may_have_been_taken(a.state, class)
        })
    }

    /// Writes an attempt, unless it may not begin; true if it is owned.
    pub(super) fn begin(&mut self, owner: Uuid, new: &NewAttempt, now: Timestamp) -> bool {
        if let Some(n) = self.by_id.get(&new.id) {
            let before = &self.attempts[*n];
            return before.owner == owner && before.state == AttemptState::Open;
        }
        let repeated = match new.resend_of {
            None => None,
            Some(old) => match self.by_id.get(&old).copied() {
                Some(n) if self.may_repeat(n, new) => Some(n),
                _ => return false,
            },
        };
        let alerts: Vec<AlertId> = new.carried.iter().chain(&new.counted).copied().collect();
        let distinct: BTreeSet<AlertId> = alerts.iter().copied().collect();
        let free = |id: &AlertId| {
            self.waits(*id) && (self.held.get(id).copied() == repeated || bug(Bug::NoAlertLock))
        };
        let busy = self
            .unresolved
            .iter()
            .map(|n| &self.attempts[*n])
            .any(|a| a.state == AttemptState::Open && a.new.recipient == new.recipient)
            && !bug(Bug::NoRecipientLock);
        if alerts.is_empty() || distinct.len() != alerts.len() || busy || !alerts.iter().all(free) {
            return false;
        }
        let stale = bug(Bug::StaleClaimUnmarked);
        if !new.possible_duplicate && !stale && alerts.iter().any(|id| self.maybe_sent(*id)) {
            return false;
        }
        if let Some(n) = repeated {
            self.close(n, AttemptState::Resent, now);
        }
        self.write(owner, new.clone(), AttemptState::Open, now);
        true
    }

    /// Writes an unresolved attempt; returns its place.
    pub(super) fn write(
        &mut self,
        owner: Uuid,
        new: NewAttempt,
        state: AttemptState,
        now: Timestamp,
    ) -> usize {
        let n = self.attempts.len();
        self.by_id.insert(new.id, n);
        self.revised.push(n);
        self.unresolved.insert(n);
        for id in new.carried.iter().chain(&new.counted) {
            self.held.insert(*id, n);
            if let Some(row) = self.alerts.get_mut(id) {
                row.attempts.push(n);
            }
        }
        self.attempts.push(Attempt {
            new,
            owner,
            state,
            begun_at: now,
            doubt_since: now,
            ended_at: None,
            closing: None,
            requeued: HashSet::new(),
        });
        n
    }

    /// True if the attempt waits to be repeated, and `new` carries and counts the same alerts.
    fn may_repeat(&self, n: usize, new: &NewAttempt) -> bool {
        let old = &self.attempts[n];
        let set = |ids: &[AlertId]| ids.iter().copied().collect::<BTreeSet<_>>();
        matches!(old.state, AttemptState::InDoubt | AttemptState::Held)
            && set(&old.new.carried) == set(&new.carried)
            && set(&old.new.counted) == set(&new.counted)
    }

    /// Brings an attempt to a state, and lets its alerts go if that ends it.
    pub(super) fn close(&mut self, n: usize, state: AttemptState, now: Timestamp) {
        let attempt = &mut self.attempts[n];
        if state == AttemptState::InDoubt {
            attempt.doubt_since = now;
        }
        attempt.state = state;
        self.revised.push(n);
        if !state.is_unresolved() {
            attempt.ended_at = Some(now);
            let alerts: Vec<AlertId> = attempt.alerts().collect();
            self.unresolved.remove(&n);
            for id in alerts {
                // A late acceptance finds them held by another attempt by now.
                if self.held.get(&id) == Some(&n) {
                    self.held.remove(&id);
                }
            }
        }
    }

    pub(super) fn settle(&mut self, owner: Uuid, settlement: &Settlement, now: Timestamp, out: &mut Settled) {
        let mut accepted = None;
        if let Some(closing) = &settlement.closing {
            let n = self.by_id.get(&closing.id).copied();
            match n.map(|n| (n, self.judge(owner, n, closing.state, now))) {
                Some((n, Judgement::Close)) => {
                    self.close(n, closing.state, now);
                    self.attempts[n].closing = Some(closing.clone());
                    accepted = Some(n).filter(|_| closing.state == AttemptState::Accepted);
                }
                Some((_, Judgement::Repeat)) => return,
                Some((_, Judgement::Superseded)) | None => return out.superseded.push(closing.id),
            }
        }
        for (id, verdict) in &settlement.verdicts {
            if !self.apply(*id, *verdict, accepted, &settlement.detail, now) {
                out.vanished.push(*id);
            }
        }
    }

    fn judge(&self, owner: Uuid, n: usize, to: AttemptState, now: Timestamp) -> Judgement {
        let attempt = &self.attempts[n];
        let orphaned = attempt.state.is_unresolved()
            && attempt.state != AttemptState::Open
            && !self.lives(attempt.owner, now);
        if bug(Bug::OldOwnerMaySettle) && attempt.state.is_unresolved() {
            return Judgement::Close;
        }
        judge(attempt.state, to, self.lives(owner, now) && (attempt.owner == owner || orphaned))
    }

    /// Sets one alert if it waits and the verdict is this settlement's to give; false if not. What an accepted
    /// attempt did counts for its own alerts; any other alert must stand in no unresolved attempt.
    fn apply(
        &mut self,
        id: AlertId,
        verdict: Verdict,
        accepted: Option<usize>,
        why: &str,
        now: Timestamp,
    ) -> bool {
        let its_own = |n: usize| {
            !self.attempts[n].requeued.contains(&id)
                && self.alerts.get(&id).is_some_and(|row| row.attempts.contains(&n))
        };
        let (to, reason) = match (verdict, accepted) {
            (Verdict::Waits, _) => return true,
            _ if !self.waits(id) => return false,
            (Verdict::Sent, Some(n)) if its_own(n) => (Standing::Sent, None),
            (Verdict::Ignored(Reason::Squeezed), Some(n)) if its_own(n) => {
                (Standing::Ignored, Some(Reason::Squeezed))
            }
            (Verdict::Sent, _) | (Verdict::Ignored(Reason::Squeezed), Some(_)) => return false,
            (Verdict::Ignored(_), _) if self.held.contains_key(&id) => return false,
            (Verdict::Ignored(reason), _) => {
                self.ignore(id, reason, why, "smsd", now);
                return true;
            }
        };
        self.set(id, to, reason, now);
        true
    }

    /// Ignores an alert, on record.
    pub(super) fn ignore(&mut self, id: AlertId, reason: Reason, why: &str, by: &str, now: Timestamp) {
        self.set(id, Standing::Ignored, Some(reason), now);
        self.note(id, "ignored", Some(reason), why, by, now);
    }

    pub(super) fn requeue(&mut self, id: AlertId, by: &str, now: Timestamp) -> bool {
        if !self.wait_again(id, by, now) {
            return false;
        }
        for n in self.alerts.get(&id).map_or(&[][..], |row| &row.attempts) {
            if !self.attempts[*n].state.is_unresolved() {
                self.attempts[*n].requeued.insert(id);
            }
        }
        true
    }

    fn wait_again(&mut self, id: AlertId, by: &str, now: Timestamp) -> bool {
        let Some(row) = self.alerts.get_mut(&id) else { return false };
        if row.standing == Standing::Waiting {
            return false;
        }
        row.since = now;
        self.set(id, Standing::Waiting, None, now);
        self.note(id, "requeued", None, "", by, now);
        true
    }

    /// Closes the attempt in doubt or held that the alert stands in; returns those of its alerts that waited.
    pub(super) fn resolve(
        &mut self,
        id: AlertId,
        decision: Decision,
        by: &str,
        now: Timestamp,
    ) -> Vec<AlertId> {
        let holder = self.held.get(&id).copied();
        let Some(n) = holder.filter(|n| self.attempts[*n].state != AttemptState::Open) else {
            return Vec::new();
        };
        self.close(n, decision.state(), now);
        let attempt = &mut self.attempts[n];
        let before = attempt.closing.take();
        let said = before.as_ref().map(|c| &*c.detail).filter(|d| !d.is_empty());
        attempt.closing = Some(Closing {
            id: attempt.new.id,
            state: decision.state(),
            class: if bug(Bug::ReleasedUnmarked) { "unavailable" } else { decision.class() },
            detail: decision.detail(by) + &said.map_or_else(String::new, |d| format!("{BEFORE}{d}")),
            code: before.as_ref().and_then(|c| c.code.clone()),
            references: before.map(|c| c.references).unwrap_or_default(),
            own: false,
        });
        let sent: HashSet<AlertId> = attempt.new.carried.iter().copied().collect();
        let alerts: Vec<AlertId> = attempt.alerts().collect();
        let decided: Vec<AlertId> = alerts.into_iter().filter(|id| self.waits(*id)).collect();
        for id in &decided {
            match decision {
                Decision::Accept if sent.contains(id) => self.set(*id, Standing::Sent, None, now),
                Decision::Accept => self.set(*id, Standing::Ignored, Some(Reason::Squeezed), now),
                Decision::Resend => {
                    if let Some(row) = self.alerts.get_mut(id) {
                        row.since = now;
                    }
                }
            }
            self.note(*id, decision.word(), None, "", by, now);
        }
        decided
    }

    pub(super) fn note(
        &mut self,
        id: AlertId,
        what: &str,
        reason: Option<Reason>,
        why: &str,
        by: &str,
        at: Timestamp,
    ) {
        let note = Note { at, what: what.into(), reason, detail: why.into(), by: by.into() };
        self.notes.push((id, note));
    }
}
