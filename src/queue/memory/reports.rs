//! What a [`super::MemoryQueue`] tells of its rows.

use std::collections::{BTreeMap, HashSet};

use super::tables::{Attempt, Tables};
use super::*;
use crate::queue::ledger::MAX_OFFENDERS;
use crate::queue::past::STORM_GUARD;
use crate::queue::report::{HISTORY, step_micros};
use crate::queue::{AlertState, Layer, Offender};

impl Tables {
    pub(super) fn doubts(&self, owner: Uuid, now: Timestamp) -> Vec<Doubt> {
        let ours = |a: &&Attempt| {
            a.state == AttemptState::InDoubt && (a.owner == owner || !self.lives(a.owner, now))
        };
        let mut doubts: Vec<Doubt> = self
            .unresolved
            .iter()
            .map(|n| &self.attempts[*n])
            .filter(ours)
            .map(|a| Doubt {
                id: a.new.id,
                recipient: a.new.recipient.clone(),
                text: a.new.text.clone(),
                dispatcher: a.new.dispatcher.clone(),
                number: a.new.number,
                age: since(a.doubt_since, now),
                possible_duplicate: a.new.possible_duplicate,
                severity: (a.alerts().filter_map(|id| self.alerts.get(&id)))
                    .map(|row| row.severity)
                    .min()
                    .unwrap_or_default(),
                carried: a.new.carried.clone(),
                counted: a.new.counted.clone(),
            })
            .collect();
        doubts.sort_by_key(|d| std::cmp::Reverse(d.age));
        doubts
    }

    pub(super) fn list(&self, filter: &Filter) -> Vec<AlertRow> {
        let before = filter.before.unwrap_or(AlertId(i64::MAX));
        (self.alerts.range(..before).rev())
            .filter(|(_, row)| filter.to.as_ref().is_none_or(|to| bare(&row.phone) == bare(to.as_str())))
            .filter_map(|(id, _)| self.row(*id))
            .filter(|row| filter.state.is_none_or(|state| row.state == state))
            .take(filter.limit)
            .collect()
    }

    fn row(&self, id: AlertId) -> Option<AlertRow> {
        let row = self.alerts.get(&id)?;
        let state = match row.standing {
            Standing::Sent => AlertState::Sent,
            Standing::Ignored => AlertState::Ignored,
            Standing::Waiting => match self.holder_state(id) {
                Some(AttemptState::InDoubt) => AlertState::InDoubt,
                Some(AttemptState::Held) => AlertState::Held,
                _ => AlertState::Waiting,
            },
        };
        Some(AlertRow {
            id,
            to: row.phone.clone(),
            text: row.text.clone(),
            severity: row.severity,
            state,
            reason: row.reason,
            queued_at: Some(row.queued_at),
            ended_at: row.ended_at,
        })
    }

    pub(super) fn show(&self, id: AlertId) -> Option<Story> {
        Some(Story {
            alert: self.row(id)?,
            attempts: self
                .alerts
                .get(&id)?
                .attempts
                .iter()
                .map(|n| self.attempt_row(&self.attempts[*n]))
                .collect(),
            notes: self
                .notes
                .iter()
                .filter(|(alert, _)| *alert == id)
                .map(|(_, note)| note.clone())
                .collect(),
        })
    }

    fn attempt_row(&self, a: &Attempt) -> AttemptRow {
        let closing = a.closing.as_ref();
        AttemptRow {
            id: a.new.id,
            number: a.new.number,
            recipient: a.new.recipient.to_string(),
            text: a.new.text.to_string(),
            dispatcher: a.new.dispatcher.to_string(),
            state: a.state,
            begun_at: a.begun_at,
            ended_at: a.ended_at,
            class: closing.map(|c| c.class.to_owned()),
            code: closing.and_then(|c| c.code.clone()),
            detail: closing.map(|c| c.detail.clone()),
            references: closing.map(|c| c.references.clone()).unwrap_or_default(),
            possible_duplicate: a.new.possible_duplicate,
            resend_of: a.new.resend_of,
            delivery: None,
            instance: self.leases.get(&a.owner).map(|lease| lease.name.clone()).unwrap_or_default(),
            carried: a.new.carried.clone(),
            counted: a.new.counted.clone(),
        }
    }

    pub(super) fn depth(&self) -> Depth {
        let mut depth = Depth::default();
        for place in &self.waiting {
            let queued_at = self.alerts.get(&place.id).map(|row| row.queued_at);
            match depth.waiting.last_mut().filter(|layer| layer.severity == place.severity) {
                Some(layer) => {
                    layer.alerts += 1;
                    layer.oldest = layer.oldest.min(queued_at);
                }
                None => {
                    depth.waiting.push(Layer { severity: place.severity, alerts: 1, oldest: queued_at });
                }
            }
        }
        for n in &self.unresolved {
            match self.attempts[*n].state {
                AttemptState::InDoubt => depth.in_doubt += 1,
                AttemptState::Held => depth.held += 1,
                _ => depth.open += 1,
            }
        }
        depth
    }

    pub(super) fn recent(&self, before: Option<Uuid>, limit: usize) -> Vec<AttemptRow> {
        let end = before.map_or(self.attempts.len(), |before| self.find(before).unwrap_or(0));
        self.attempts[..end].iter().rev().take(limit).map(|a| self.attempt_row(a)).collect()
    }

    pub(super) fn undecided(&self, limit: usize) -> Vec<AttemptRow> {
        (self.unresolved.iter().map(|n| &self.attempts[*n]))
            .filter(|a| a.state != AttemptState::Open)
            .take(limit)
            .map(|a| self.attempt_row(a))
            .collect()
    }

    pub(super) fn history(&self, since: Timestamp, step: Duration) -> Vec<Period> {
        let step = step_micros(step);
        let mut periods: BTreeMap<(i64, &str), Period> = BTreeMap::new();
        for a in self.attempts.iter().rev().take(HISTORY).filter(|a| &*a.new.dispatcher != STORM_GUARD) {
            let Some(ended_at) = a.ended_at.filter(|at| *at >= since) else { continue };
            let from = ended_at.as_microsecond().div_euclid(step) * step;
            let period = periods.entry((from, &a.new.dispatcher)).or_insert_with(|| Period {
                from: Timestamp::from_microsecond(from).unwrap_or(Timestamp::MIN),
                dispatcher: a.new.dispatcher.to_string(),
                accepted: 0,
                failed: 0,
                accepted_millis: 0,
            });
            match a.state {
                AttemptState::Accepted => {
                    period.accepted += 1;
                    period.accepted_millis += super::since(a.begun_at, ended_at).as_millis() as u64;
                }
                _ => period.failed += 1,
            }
        }
        periods.into_values().collect()
    }

    pub(super) fn stats(&self, now: Timestamp) -> Stats {
        let count = |standing| self.alerts.values().filter(|row| row.standing == standing).count() as u64;
        let attempts = |state| self.attempts.iter().filter(|a| a.state == state).count() as u64;
        let oldest =
            self.waiting.iter().filter_map(|p| self.alerts.get(&p.id)).map(|row| row.queued_at).min();
        Stats {
            waiting: count(Standing::Waiting),
            oldest_waiting_seconds: oldest.map(|at| since(at, now).as_secs()),
            open: attempts(AttemptState::Open),
            in_doubt: attempts(AttemptState::InDoubt),
            held: attempts(AttemptState::Held),
            held_by_guard: self.unresolved.iter().filter(|n| self.is_suspect(**n)).count() as u64,
            sent: count(Standing::Sent),
            ignored: count(Standing::Ignored),
            sms: attempts(AttemptState::Accepted),
            possible_duplicates: self.accepted().filter(|a| a.new.possible_duplicate).count() as u64,
        }
    }

    pub(super) fn audit(&self) -> Audit {
        let mut audit = Audit { alerts: self.alerts.len() as u64, ..Audit::default() };
        let mut carriers: BTreeMap<AlertId, Vec<&Attempt>> = BTreeMap::new();
        let mut duplicated: HashSet<AlertId> = HashSet::new();
        for a in self.accepted() {
            for id in &a.new.carried {
                if a.new.possible_duplicate {
                    duplicated.insert(*id);
                }
                if !a.requeued.contains(id) {
                    carriers.entry(*id).or_default().push(a);
                }
            }
        }
        audit.possible_duplicates = duplicated.len() as u64;

        let mut offence = |alert, attempt, what: &str| {
            audit.offenders.push(Offender { alert, attempt, what: what.into() });
        };
        for (id, row) in &self.alerts {
            match row.standing {
                Standing::Waiting => {
                    audit.waiting += 1;
                    if carriers.contains_key(id) {
                        offence(Some(*id), None, "waits, though an accepted attempt carries it");
                    }
                }
                Standing::Sent if carriers.contains_key(id) => audit.sent += 1,
                Standing::Sent => offence(Some(*id), None, "sent, but no accepted attempt carries it"),
                Standing::Ignored if row.reason.is_some() => audit.ignored += 1,
                Standing::Ignored => offence(Some(*id), None, "ignored without a reason"),
            }
        }
        for (id, attempts) in &carriers {
            if attempts.iter().filter(|a| !a.new.possible_duplicate).count() > 1 {
                offence(Some(*id), None, "accepted more than once, but not marked a possible duplicate");
            }
        }
        for n in &self.unresolved {
            let a = &self.attempts[*n];
            audit.unresolved += u64::from(a.state != AttemptState::Open);
            if a.alerts().next().is_none() {
                offence(None, Some(a.new.id), "unresolved, but carries no alert");
            }
        }
        audit.offenders.truncate(MAX_OFFENDERS);
        audit
    }

    fn accepted(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|a| a.state == AttemptState::Accepted)
    }
}

/// A number as [`crate::alert::Phone`] compares it.
fn bare(phone: &str) -> String {
    phone.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.')).collect()
}
