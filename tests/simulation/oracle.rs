//! What really happened, as far as the world outside the engine can tell, and what must hold of it.
//!
//! The gateways' own list of accepts is the truth. The ledger is held against it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use smsd::alert::{AlertId, Reason};
use smsd::config::OnUnknown;
use smsd::dispatch::{Class, Sms};
use smsd::queue::memory::{MemoryQueue, Written};
use smsd::queue::{AlertRow, AlertState, AttemptState, Audit, Offender};
use uuid::Uuid;

use super::past::Forgotten;
use super::people::People;
use super::plan::{Configured, Plan};

/// What a run found to be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub what: String,
    pub alert: Option<AlertId>,
    pub attempt: Option<Uuid>,
}

impl Violation {
    pub fn new(what: impl Into<String>) -> Violation {
        Violation { what: what.into(), alert: None, attempt: None }
    }

    pub fn alert(mut self, id: AlertId) -> Violation {
        self.alert = Some(id);
        self
    }

    pub fn attempt(mut self, id: Uuid) -> Violation {
        self.attempt = Some(id);
        self
    }
}

pub type Verdict = Result<(), Violation>;

/// One SMS that a gateway took.
#[derive(Clone, Copy, Debug)]
struct Accept {
    attempt: Uuid,
    /// The gateway said afterwards that it had failed: the design lets such an SMS be repeated, marked.
    denied: bool,
}

/// What a recipient met at one gateway.
#[derive(Default)]
struct Trouble {
    /// The gateway's successes when trouble began.
    since: Option<u64>,
}

/// What was seen of the ledger's attempts when they were last looked at.
#[derive(Default)]
struct Seen {
    changes: usize,
    /// Each attempt, and whether it was marked.
    marked: HashMap<Uuid, bool>,
    /// Those that were resent, and by which.
    resent: HashMap<Uuid, Uuid>,
}

#[derive(Default)]
pub struct Oracle {
    accepts: BTreeMap<AlertId, Vec<Accept>>,
    taken: HashSet<Uuid>,
    /// What people and other programs did.
    pub people: People,
    submitted: HashSet<Uuid>,
    /// Successes that a gateway told.
    successes: HashMap<usize, u64>,
    troubles: HashMap<(usize, String), Trouble>,
    /// Answers that may count against a recipient.
    counted: HashMap<String, u32>,
    /// Of an alert, when a process handed over an SMS that a gateway took and denied, or never answered.
    copies: HashMap<(AlertId, String), Vec<Duration>>,
    refused: BTreeSet<(String, usize)>,
    /// All that was ever configured.
    pub configured: Vec<Vec<Configured>>,
    pub doubted: bool,
    /// Attempts that were in doubt or held when last looked at.
    pub uncertain: HashSet<Uuid>,
    seen: Seen,
    pub past: Forgotten,
}

/// The alerts whose text an SMS carries, and how many it counts.
pub fn read(text: &str) -> (Vec<AlertId>, usize) {
    let carried = (text.match_indices("<a"))
        .filter_map(|(at, _)| text.get(at + 2..at + 8)?.strip_suffix('>')?.parse().ok())
        .map(AlertId)
        .collect();
    let rest = text.rsplit_once(" +").and_then(|(_, tail)| tail.strip_suffix(" see web.")?.parse().ok());
    (carried, rest.unwrap_or(0))
}

/// A text by which its alert is known again.
pub fn text_of(id: i64, words: usize) -> String {
    format!("<a{id:05}>{}", " down".repeat(words))
}

impl Oracle {
    pub fn new(configured: Vec<Configured>) -> Oracle {
        Oracle { configured: vec![configured], ..Oracle::default() }
    }

    /// An engine hands over an SMS to a gateway. `strict`: its lease must be good at this moment.
    pub fn handed_over(&mut self, queue: &MemoryQueue, sms: &Sms, way: usize, strict: bool) -> Verdict {
        let wrong = |what: &str| Err(Violation::new(what).attempt(sms.attempt));
        if !self.submitted.insert(sms.attempt) {
            return wrong("an attempt is submitted twice");
        }
        let seen = queue.look_up(sms.attempt, |w| {
            let way = *w.attempt.dispatcher == *format!("gw{way}");
            let same = w.attempt.text == sms.text && w.attempt.recipient == sms.recipient && way;
            (w.state, w.owned, same, w.attempt.carried.clone(), w.attempt.counted.len())
        });
        let older = self.past.is_older(sms.attempt);
        let Some((state, owned, same, carried, counted)) = seen else {
            if older {
                return Ok(());
            }
            return wrong("an SMS is submitted that is not in the ledger");
        };
        // Until it finds that the database went back, an instance trusts a renewal that the database has forgotten.
        let owned = owned || self.past.has_gone_back();
        if strict && !older && (state != AttemptState::Open || !owned) {
            return wrong(&format!(
                "an SMS is submitted whose attempt is {state:?}, its lease good: {owned}"
            ));
        }
        if !same || read(&sms.text) != (carried, counted) {
            return wrong("the SMS is another than the ledger says");
        }
        Ok(())
    }

    /// A gateway takes an SMS; `denied`: it will say that it failed.
    pub fn take(
        &mut self,
        queue: &MemoryQueue,
        sms: &Sms,
        denied: bool,
        plan: &Plan,
        (by, now): (&str, Duration),
    ) -> Verdict {
        self.taken.insert(sms.attempt);
        self.count_copies(sms, by, now, plan)?;
        let written = |a: &Accept| {
            queue.look_up(a.attempt, |w| (w.place, w.attempt.possible_duplicate, a.denied, a.attempt))
        };
        for id in read(&sms.text).0 {
            let marked = queue.look_up(sms.attempt, |w| w.attempt.possible_duplicate);
            if self.past.is_another(id, sms.attempt) {
                continue;
            }
            self.past.take(id, sms.attempt, marked, plan.instances == 1)?;
            let accepts = self.accepts.entry(id).or_default();
            accepts.push(Accept { attempt: sms.attempt, denied });
            // Whoever makes an alert wait again that was sent or ignored asks for it to be sent anew.
            let since = self.people.since(id);
            let copies: Vec<_> = accepts.iter().filter_map(written).filter(|c| c.0 >= since).collect();
            let first = copies.iter().map(|c| c.0).min();
            if let Some((.., attempt)) = copies.iter().find(|c| Some(c.0) != first && !c.1) {
                let what = "an alert goes out again, and the ledger does not mark it a possible duplicate";
                return Err(Violation::new(what).alert(id).attempt(*attempt));
            }
            let by_a_person = self.past.is_forgotten(id) || self.past.is_released(&[id]);
            let most = 2 + self.people.further(id);
            if copies.iter().filter(|(.., denied, _)| !denied).count() > most && !by_a_person {
                return Err(Violation::new("an alert goes out more than twice")
                    .alert(id)
                    .attempt(sms.attempt));
            }
        }
        Ok(())
    }

    /// However a gateway answers, and however often a process starts anew: of one alert one instance lets at most five copies
    /// out within ten minutes, and ten within an hour. Where the database's clock jumps or goes on while
    /// the machine sleeps, only a process by itself can tell how long ago that was.
    fn count_copies(&mut self, sms: &Sms, by: &str, now: Duration, plan: &Plan) -> Verdict {
        for id in read(&sms.text).0 {
            // A person who makes it wait again asks for more.
            if self.people.since(id) > 0 || self.people.further(id) > 0 || self.past.has_gone_back() {
                continue;
            }
            let copies = {
                let by =
                    if plan.clock_jumps() || plan.sleeps() { by } else { by.split('.').next().unwrap_or(by) };
                self.copies.entry((id, by.to_owned())).or_default()
            };
            copies.push(now);
            for (most, within) in [(5, Duration::from_secs(600)), (10, Duration::from_secs(3600))] {
                let count = copies.iter().filter(|at| now - **at < within).count();
                if count > most {
                    let what = format!("{count} copies of an alert go out within {within:?}");
                    return Err(Violation::new(what).alert(id).attempt(sms.attempt));
                }
            }
        }
        Ok(())
    }

    /// The alerts above this key never were.
    pub fn forget_above(&mut self, last: AlertId) {
        self.accepts.retain(|id, _| *id <= last);
    }

    /// Each alert that was taken, with the attempts by which it was.
    pub fn accepted_by(&self) -> impl Iterator<Item = (AlertId, HashSet<Uuid>)> {
        self.accepts.iter().map(|(id, accepts)| (*id, accepts.iter().map(|a| a.attempt).collect()))
    }

    /// A gateway answers.
    pub fn answered(&mut self, way: usize, phone: &str, class: Option<Class>) {
        let successes = self.successes.entry(way).or_default();
        let trouble = self.troubles.entry((way, phone.into())).or_default();
        match class {
            None => {
                *successes += 1;
                trouble.since = None;
            }
            Some(Class::Throttled { .. } | Class::Unknown) => {}
            Some(class) => {
                if matches!(class, Class::Rejected | Class::Misconfigured) {
                    self.refused.insert((phone.into(), way));
                }
                match trouble.since {
                    // Only who has served another one since is believed.
                    Some(since) if since < *successes => {
                        *self.counted.entry(phone.into()).or_default() += 1;
                    }
                    Some(_) => {}
                    None => trouble.since = Some(*successes),
                }
            }
        }
    }

    /// What must hold of the whole ledger. [`Oracle::check`] looks only at what has changed there, and so misses what a
    /// gateway has done since.
    pub fn check_whole(&mut self, queue: &MemoryQueue, plan: &Plan) -> Verdict {
        self.look_anew();
        self.check(queue, plan)
    }

    /// What was seen of the ledger is true no longer.
    pub fn look_anew(&mut self) {
        self.seen = Seen::default();
    }

    /// What must hold of the ledger at any time.
    pub fn check(&mut self, queue: &MemoryQueue, plan: &Plan) -> Verdict {
        let mut unresolved: HashSet<AlertId> = HashSet::new();
        let mut open: HashSet<String> = HashSet::new();
        let mut found = Ok(());
        let seen = &mut self.seen;
        seen.changes = queue.each_revised(seen.changes, |w| {
            let Written { attempt: new, state, class, .. } = w;
            let mut wrong = |what: &str| {
                if found.is_ok() {
                    found = Err(Violation {
                        what: what.into(),
                        alert: new.carried.first().copied(),
                        attempt: Some(new.id),
                    });
                }
            };
            if state.is_unresolved()
                && !new.carried.iter().chain(&new.counted).all(|id| unresolved.insert(*id))
            {
                wrong("an alert stands in two unresolved attempts");
            }
            if state == AttemptState::Open && !open.insert(new.recipient.to_string()) {
                wrong("a recipient has two open attempts");
            }
            if let Some(old) = new.resend_of {
                if seen.marked.get(&old).is_none_or(|marked| *marked) {
                    wrong("what may have been a duplicate already is resent without a person");
                }
                if *seen.resent.entry(old).or_insert(new.id) != new.id {
                    wrong("an attempt is resent twice");
                }
                if !new.possible_duplicate {
                    wrong("a resend is not marked");
                }
                if plan.mains().all(|main| main.on_unknown == OnUnknown::Hold) {
                    wrong("resent, though a person is to decide");
                }
            }
            seen.marked.insert(new.id, new.possible_duplicate);
            let taken = self.taken.contains(&new.id);
            match state {
                AttemptState::InDoubt | AttemptState::Held => _ = self.uncertain.insert(new.id),
                AttemptState::Failed | AttemptState::Rejected
                    if self.uncertain.contains(&new.id)
                        && !self.people.released(new.id)
                        && !self.past.is_released(&new.carried) =>
                {
                    wrong(
                        "in doubt, and then certainly not taken, by the word of one who no longer owned it",
                    );
                }
                _ => {}
            }
            match state {
                AttemptState::Accepted if !taken && !self.people.accepted(new.id) => {
                    wrong("accepted in the ledger, but by no gateway")
                }
                AttemptState::Rejected if taken => wrong("rejected in the ledger, but a gateway took it"),
                AttemptState::Failed if taken && class != Some("failed") => {
                    wrong("certainly not taken, says the ledger, but a gateway took it");
                }
                _ => {}
            }
        });
        found
    }

    /// What must hold of each alert at any time.
    pub fn check_rows(&self, queue: &MemoryQueue, rows: &[AlertRow], audit: &Audit, plan: &Plan) -> Verdict {
        let mut counted: HashSet<AlertId> = HashSet::new();
        queue.each_attempt(|w| {
            if w.state == AttemptState::Accepted {
                counted.extend(&w.attempt.counted);
            }
        });
        let own = |o: &&Offender| o.alert.is_none_or(|id| !self.people.has_set(id));
        if let Some(offender) = audit.offenders.iter().find(own) {
            let Violation { what, .. } = Violation::new(format!("the audit: {}", offender.what));
            return Err(Violation { what, alert: offender.alert, attempt: offender.attempt });
        }
        for row in rows {
            let wrong = |what: String| Err(Violation::new(what).alert(row.id));
            match (row.state, row.reason) {
                _ if self.people.has_set(row.id) => {}
                (AlertState::Sent, _)
                    if !self.accepts.contains_key(&row.id) && !self.people.says_sent(row.id) =>
                {
                    return wrong("sent, but no gateway took it".into());
                }
                (AlertState::Waiting, _) if counted.contains(&row.id) && self.people.since(row.id) == 0 => {
                    return wrong("it waits, though an accepted SMS has counted it".into());
                }
                (AlertState::Ignored, None) => return wrong("ignored without a reason".into()),
                (AlertState::Ignored, Some(reason)) => {
                    if let Some(why) = self.unjust(row, reason, plan) {
                        return wrong(format!("ignored as {reason:?}, but {why}"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Why an alert should not have been ignored for this reason.
    fn unjust(&self, row: &AlertRow, reason: Reason, plan: &Plan) -> Option<String> {
        let phones = || self.people.phones(row.id).chain([&row.to]);
        match reason {
            // The audit knows the SMS that counts it.
            Reason::Squeezed | Reason::Cancelled => None,
            Reason::Rejected if phones().any(|phone| phone.contains('x')) => None,
            Reason::Rejected => {
                let refused = |phone: &String, c: &Configured| self.refused.contains(&(phone.clone(), c.way));
                let by_all = |phone| self.configured.iter().any(|all| all.iter().all(|c| refused(phone, c)));
                match phones().any(by_all) {
                    true => self.unjust(row, Reason::RetryLimit, plan),
                    false => {
                        Some(format!("not all that were ever configured together have refused {}", row.to))
                    }
                }
            }
            Reason::RetryLimit => {
                let counted =
                    phones().filter_map(|phone| self.counted.get(phone)).max().copied().unwrap_or(0);
                let least = plan.mains().map(|main| main.retrylimit).filter(|limit| *limit > 0).min();
                least
                    .is_none_or(|least| counted < least)
                    .then(|| format!("{} failed only {counted} times by its own fault", row.to))
            }
            // By a clock that jumped, an age says nothing.
            Reason::Expired if plan.clock_jumps() => None,
            Reason::Expired => {
                let old = row.ended_at.zip(row.queued_at).map(|(end, start)| end.duration_since(start));
                let least =
                    plan.mains().filter_map(|main| main.autocancel.as_ref()).map(|age| age.duration).min();
                least
                    .is_none_or(|least| old.is_none_or(|old| old.as_secs_f64() < least.as_secs_f64()))
                    .then(|| "it was not old enough".into())
            }
        }
    }

    /// All was healed long ago.
    pub fn check_end(&self, queue: &MemoryQueue, rows: &[AlertRow], plan: &Plan) -> Verdict {
        for row in rows {
            let mut phones = self.people.phones(row.id).chain([&row.to]);
            if row.state == AlertState::Waiting && phones.any(|phone| plan.may_wait(phone)) {
                continue;
            }
            let decided = row.state == AlertState::Held && plan.decide.is_some();
            if !matches!(row.state, AlertState::Sent | AlertState::Ignored | AlertState::Held) || decided {
                return Err(
                    Violation::new(format!("still {:?} long after all was healed", row.state)).alert(row.id)
                );
            }
            if row.state == AlertState::Held && !self.doubted {
                return Err(Violation::new("held, though nothing was ever in doubt").alert(row.id));
            }
        }
        let mut left = None;
        queue.each_attempt(|w| {
            if matches!(w.state, AttemptState::Open | AttemptState::InDoubt) {
                left = Some((w.attempt.id, w.state));
            }
        });
        match left {
            Some((id, state)) => {
                Err(Violation::new(format!("an attempt is still {state:?} long after all was healed"))
                    .attempt(id))
            }
            None => Ok(()),
        }
    }
}
