//! A [`super::MemoryQueue`] that may have been put back.

use std::collections::BTreeMap;

use super::tables::Tables;
use super::*;
use crate::alert::Phone;
use crate::queue::ledger::BEFORE;
use crate::queue::past::{ANOTHER_SERVER, FROM_THE_PAST, NO_TEXT, STORM_GUARD, TOGETHER};

impl Tables {
    /// What everybody has committed.
    pub(super) fn witness(&self) -> Witness {
        Witness { newest: self.attempts.last().map(|attempt| attempt.new.id), log: Some(self.log) }
    }

    /// All of `known` must be written, and by this server: its log is the one that was seen last.
    pub(super) fn remember_here(&self, known: &Known) -> Result<(), QueueError> {
        self.remember(known)?;
        match known.log {
            Some(seen) if !seen.is_of(self.log) => Err(QueueError::Unavailable(ANOTHER_SERVER.into())),
            _ => Ok(()),
        }
    }

    /// All of `known` must be written.
    pub(super) fn remember(&self, known: &Known) -> Result<(), Forgot> {
        let state = |id: Uuid| self.find(id).map(|n| self.attempts[n].state);
        if known.queue.is_some_and(|queue| queue != self.identity) {
            return Err(Forgot::Identity);
        }
        if known.begun.is_some_and(|id| state(id).is_none()) {
            return Err(Forgot::Begun);
        }
        if known.seen.iter().any(|id| state(*id).is_none()) {
            return Err(Forgot::Seen);
        }
        if known.log.is_some_and(|seen| seen.is_of(self.log) && seen.position > self.log.position) {
            return Err(Forgot::Log);
        }
        if known.closed.iter().any(|id| state(*id).is_none_or(|state| state == AttemptState::Open)) {
            return Err(Forgot::Closed);
        }
        Ok(())
    }

    pub(super) fn hold(&mut self, owner: Uuid, suspects: &Suspects, why: &str, now: Timestamp) -> Caught {
        let Suspects { until, after, limit } = *suspects;
        let mut caught = Caught::default();
        if after == AlertId(0) {
            caught.doubts = self.hold_doubts(owner, until, why, now);
        }
        let page: Vec<(AlertId, Phone)> = (self.alerts.range(AlertId(after.0.saturating_add(1))..))
            .filter(|(id, row)| {
                row.standing == Standing::Waiting && row.since <= until && !self.held.contains_key(id)
            })
            .filter_map(|(id, row)| Some((*id, Phone::parse(&row.phone).ok()?)))
            .take(limit)
            .collect();
        caught.alerts = page.len() as u64;
        caught.next = page.last().map(|(id, _)| *id).filter(|_| page.len() >= limit);
        let mut by_phone: BTreeMap<Phone, Vec<AlertId>> = BTreeMap::new();
        for (id, phone) in page {
            by_phone.entry(phone).or_default().push(id);
        }
        for (phone, ids) in by_phone {
            for ids in ids.chunks(TOGETHER) {
                self.hold_alerts(owner, &phone, ids, why, now);
            }
        }
        caught
    }

    fn hold_alerts(&mut self, owner: Uuid, phone: &Phone, ids: &[AlertId], why: &str, now: Timestamp) {
        let new = NewAttempt {
            // The same in each run of a simulation, and no other attempt's.
            id: Uuid::from_u128(owner.as_u128().wrapping_add(1 + self.attempts.len() as u128)),
            recipient: phone.clone(),
            text: NO_TEXT.into(),
            dispatcher: STORM_GUARD.into(),
            number: 1,
            deadline: Duration::ZERO,
            carried: ids.to_vec(),
            counted: Vec::new(),
            possible_duplicate: false,
            resend_of: None,
        };
        let id = new.id;
        let n = self.write(owner, new, AttemptState::Held, now);
        self.attempts[n].closing = Some(held(id, why.into()));
        for id in ids {
            self.note(*id, "held", None, why, "smsd", now);
        }
    }

    fn hold_doubts(&mut self, owner: Uuid, until: Timestamp, why: &str, now: Timestamp) -> u64 {
        self.reap(now);
        let old = |n: &usize| {
            let a = &self.attempts[*n];
            let ours = a.owner == owner || !self.lives(a.owner, now);
            a.state == AttemptState::InDoubt && a.begun_at <= until && ours
        };
        let doubts: Vec<usize> = self.unresolved.iter().copied().filter(old).collect();
        for n in &doubts {
            self.close(*n, AttemptState::Held, now);
            let attempt = &mut self.attempts[*n];
            let before = attempt.closing.take();
            let said = before.as_ref().map(|c| &*c.detail).filter(|d| !d.is_empty());
            let detail = why.to_owned() + &said.map_or_else(String::new, |d| format!("{BEFORE}{d}"));
            attempt.closing =
                Some(Closing { code: before.and_then(|c| c.code), ..held(attempt.new.id, detail) });
        }
        doubts.len() as u64
    }

    pub(super) fn is_suspect(&self, n: usize) -> bool {
        let a = &self.attempts[n];
        a.state == AttemptState::Held && a.closing.as_ref().is_some_and(|c| c.class == FROM_THE_PAST)
    }

    pub(super) fn suspected(&self, limit: usize) -> Vec<AlertId> {
        let held = self.unresolved.iter().filter(|n| self.is_suspect(**n)).take(limit);
        held.flat_map(|n| self.attempts[*n].alerts()).collect()
    }
}

fn held(id: Uuid, detail: String) -> Closing {
    Closing {
        id,
        state: AttemptState::Held,
        class: FROM_THE_PAST,
        code: None,
        detail,
        references: Vec::new(),
        own: false,
    }
}
