//! A recipient: what is remembered of a phone number, and when its next SMS may go.

use super::*;

/// How long a recipient at most waits for a dispatcher that has no room, where those that have are spared.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// What `max_per_hour` counts in.
const HOUR: Duration = Duration::from_secs(3600);
/// A storm ends after so long without anything that waits, at least.
const QUIET: Duration = Duration::from_secs(30);
/// Whoever rests for no longer is as good as ready.
const SOON: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Recipient {
    pub(super) busy: bool,
    /// When an SMS last went out, or may have.
    pub(super) last_sms: Option<Instant>,
    /// How many SMS went out, or may have, since it last was quiet.
    pub(super) storm: u32,
    /// When the last SMS went out that `max_per_hour` counts, the oldest first, and as many as it allows.
    pub(super) counted: VecDeque<Instant>,
    /// It was told that `max_per_hour` holds what waits.
    pub(super) held_back: bool,
    /// When the first of what waits became known.
    pub(super) waiting_since: Option<Instant>,
    /// Failures by its own fault, in a row; and until when it waits for them.
    pub(super) failures: u32,
    pub(super) backoff_until: Option<Instant>,
    /// Failures by the dispatchers' fault, in a row; and until when it waits for them.
    pub(super) pauses: u32,
    pub(super) paused_until: Option<Instant>,
    /// Until when it waits, since the queue writes others' attempts and not its own; kept until it does.
    pub(super) unbegun_until: Option<Instant>,
    /// Alerts that the window had no room for, with their attempts and failures; and in which walk they were last seen.
    pub(super) let_go: BTreeMap<AlertId, (u32, u32)>,
    pub(super) let_go_in: u64,
    /// How often an SMS of its was the trial of a dispatcher that was down, since one of its SMS was last taken.
    pub(super) trials: u32,
    /// Since how many of a dispatcher's successes this recipient has been failing there.
    pub(super) failing: Vec<(WayId, u64)>,
    /// Dispatchers that may have taken its SMS although they said no, and until when they are spared.
    pub(super) avoid: Vec<(WayId, Instant)>,
    /// For what people were told that its alerts wait.
    pub(super) told: Option<Why>,
    /// Attempts in doubt that are to be resent now.
    pub(super) resends: Vec<Uuid>,
    pub(super) ready: Option<Turn>,
    pub(super) timer: Option<Instant>,
}

impl Recipient {
    /// An SMS went out, or may have.
    pub(super) fn went_out(&mut self, policy: &Policy, now: Instant) {
        self.last_sms = Some(now);
        self.storm = self.storm.saturating_add(1);
        self.may_have_gone(policy, now);
    }

    /// May the next SMS leave severe alerts for the one after it? Only the first of a storm may, which ends when nothing
    /// has waited for an interval.
    pub(super) fn may_spare(&mut self, policy: &Policy) -> bool {
        let quiet = policy.group_interval.max(QUIET);
        let ended =
            self.last_sms.is_none_or(|at| self.waiting_since.is_some_and(|since| since >= at + quiet));
        if ended {
            self.storm = 0;
        }
        self.storm < policy.severe_sms
    }

    /// An SMS counts in `max_per_hour`; what it was about does not wait for `group_interval` on its account.
    pub(super) fn may_have_gone(&mut self, policy: &Policy, now: Instant) {
        if policy.max_per_hour > 0 {
            self.counted.push_back(now);
        }
        while self.counted.len() > policy.max_per_hour as usize {
            self.counted.pop_front();
        }
    }

    /// Until when no SMS of its goes out, whatever else waits for it and is not urgent.
    fn rests_until(&self, policy: &Policy) -> Option<Instant> {
        let full = self.full_until(policy);
        [self.backoff_until, self.paused_until, self.unbegun_until, full].into_iter().flatten().max()
    }

    /// Is it no use to know more of what waits for it?
    pub(super) fn rests(&self, policy: &Policy, now: Instant) -> bool {
        !self.busy && self.rests_until(policy).is_some_and(|until| until > now + SOON)
    }

    /// Until when `max_per_hour` lets no more SMS go out. One that was lowered counts what is remembered.
    fn full_until(&self, policy: &Policy) -> Option<Instant> {
        let most = policy.max_per_hour as usize;
        let oldest = self.counted.len().checked_sub(most).filter(|_| most > 0)?;
        self.counted.get(oldest).map(|at| *at + HOUR)
    }
}

impl Core {
    pub(super) fn free(&mut self, phone: &Phone, now: Instant) {
        if let Some(recipient) = self.recipients.get_mut(phone) {
            recipient.busy = false;
        }
        self.refresh(phone, now);
        self.refresh_others(phone, now);
    }

    /// The other spellings of this number share its hour.
    pub(super) fn refresh_others(&mut self, phone: &Phone, now: Instant) {
        if self.policy.max_per_hour > 0 {
            phone.others().for_each(|other| self.refresh(&other, now));
        }
    }

    /// Until when `max_per_hour` lets no more SMS go to this phone: however its number is spelled, it has one account. What
    /// is on its way counts.
    fn full_until(&self, phone: &Phone, now: Instant) -> Option<Instant> {
        let most = self.policy.max_per_hour as usize;
        if most == 0 {
            return None;
        }
        let own = self.recipients.get(phone);
        let others: Vec<&Recipient> =
            phone.others().filter_map(|other| self.recipients.get(&other)).collect();
        if others.is_empty() {
            return own?.full_until(&self.policy);
        }
        let counted =
            own.into_iter().chain(others.iter().copied()).flat_map(|known| known.counted.iter().copied());
        let begun = others.iter().filter(|other| other.busy).map(|_| now);
        let mut all: Vec<Instant> = counted.chain(begun).collect();
        all.sort_unstable();
        let oldest = all.len().checked_sub(most)?;
        all.get(oldest).map(|at| *at + HOUR)
    }

    /// Finds out anew when this recipient's next SMS may go, and forgets a recipient of whom nothing is to be remembered.
    pub(super) fn refresh(&mut self, phone: &Phone, now: Instant) {
        let (first, copied_until) = self.first_allowed(phone, now);
        let full_until = self.full_until(phone, now);
        let left_until = self.left_until(phone);
        if !self.recipients.contains_key(phone) && first.is_none() && copied_until.is_none() {
            return;
        }
        let recipient = self.recipients.entry(phone.clone()).or_default();
        if let Some(turn) = recipient.ready.take() {
            self.ready.remove(&(turn, phone.clone()));
        }
        if let Some(at) = recipient.timer.take() {
            self.timers.remove(&(at, phone.clone()));
        }
        if recipient.busy {
            self.window.rest(phone, false);
            return;
        }
        if recipient.paused_until.is_none_or(|until| until <= now) {
            recipient.paused_until = None;
            self.paused.remove(phone);
        }
        let resend = recipient.resends.first().and_then(|id| self.doubts.get(id)).map(|d| Turn {
            severity: d.doubt.severity,
            queued_at: jiff::Timestamp::MIN,
            id: d.doubt.carried.first().copied().unwrap_or(AlertId(0)),
        });
        let quiet_until = recipient.last_sms.map(|at| at + self.policy.group_interval);
        let Some(turn) = resend.or(first) else {
            // Only what keeps the next alert apart from the last SMS, or counts, is worth remembering.
            let counts_until = recipient.counted.back().map(|at| *at + HOUR);
            let rests =
                quiet_until.max(counts_until).max(recipient.unbegun_until).filter(|until| *until > now);
            match copied_until.or(rests) {
                Some(until) => {
                    recipient.timer = Some(until);
                    self.timers.insert((until, phone.clone()));
                }
                None if recipient.resends.is_empty() && recipient.let_go.is_empty() => {
                    self.recipients.remove(phone);
                }
                None => {}
            }
            return;
        };
        let since = *recipient.waiting_since.get_or_insert(now);
        let collected = match (resend, self.policy.is_urgent(turn.severity)) {
            (Some(_), _) | (_, true) => None,
            (None, false) => {
                let quiet = quiet_until.filter(|until| *until > since);
                Some(quiet.unwrap_or(since + self.policy.group_wait))
            }
        };
        let left_until = left_until.filter(|_| resend.is_none());
        // What is urgent goes out all the same, and counts; and so does what was begun already.
        let full_until = full_until.filter(|until| *until > now && collected.is_some());
        if full_until.is_none() {
            recipient.held_back = false;
        } else if !std::mem::replace(&mut recipient.held_back, true) {
            self.out.events.push(Event::HeldBack { recipient: phone.clone() });
        }
        let rests = [recipient.backoff_until, recipient.paused_until, recipient.unbegun_until, full_until];
        let rests = rests.into_iter().flatten().max();
        let due = [collected, left_until, rests].into_iter().flatten().max();
        self.window.rest(phone, rests.is_some_and(|until| until > now + SOON));
        match due.filter(|at| *at > now) {
            Some(at) => {
                recipient.timer = Some(at);
                self.timers.insert((at, phone.clone()));
            }
            None => {
                let turn = if resend.is_some() { turn } else { self.turn_of(phone, turn) };
                if let Some(recipient) = self.recipients.get_mut(phone) {
                    recipient.ready = Some(turn);
                }
                self.ready.insert((turn, phone.clone()));
            }
        }
    }

    /// The first turn of a recipient that may go out now; or if all has gone out as often as may be, until when that
    /// holds.
    fn first_allowed(&self, phone: &Phone, now: Instant) -> (Option<Turn>, Option<Instant>) {
        if self.copies.is_empty() {
            return (self.window.first(phone), None);
        }
        let mut until: Option<Instant> = None;
        for turn in self.window.turns(phone) {
            match self.copies.full_until(turn.id, now) {
                None => return (Some(turn), None),
                Some(at) => until = Some(until.map_or(at, |until| until.min(at))),
            }
        }
        (None, until)
    }

    /// How many copies of one of a recipient's alerts may have gone out within the hour, at the most.
    pub(super) fn most_copies(&self, phone: &Phone, now: Instant) -> usize {
        if self.copies.is_empty() {
            return 0;
        }
        self.window.turns(phone).map(|turn| self.copies.of(turn.id, now)).max().unwrap_or(0)
    }

    /// The dispatchers that are spared by a recipient now.
    pub(super) fn avoided(&self, phone: &Phone, now: Instant) -> Vec<WayId> {
        let avoid = self.recipients.get(phone).map(|r| r.avoid.as_slice()).unwrap_or_default();
        avoid.iter().filter(|(_, until)| *until > now).map(|(way, _)| *way).collect()
    }

    /// Only dispatchers that it spares could take its SMS, or others that are full: it waits.
    pub(super) fn spare(&mut self, phone: &Phone, now: Instant) {
        if let Some(recipient) = self.recipients.get_mut(phone) {
            recipient.avoid.retain(|(_, until)| *until > now);
            let first = recipient.avoid.iter().map(|(_, until)| *until).min();
            recipient.paused_until = first.map(|until| until.min(now + LOOK_AGAIN));
            self.paused.insert(phone.clone());
        }
        self.refresh(phone, now);
    }

    /// The window has no room for this alert. If it was tried, that is remembered for when it is learned again.
    pub(super) fn let_go(&mut self, phone: &Phone, waiting: &Waiting) {
        let Waiting { alert, attempts, failures, .. } = waiting;
        let Some(recipient) = self.recipients.get_mut(phone) else { return };
        if (*attempts, *failures) != (0, 0) && self.let_go < self.sizes.resting {
            self.let_go += usize::from(recipient.let_go.insert(alert.id, (*attempts, *failures)).is_none());
            recipient.let_go_in = self.walk;
        }
    }

    /// The attempts and failures of an alert that was let go.
    pub(super) fn remembered(&mut self, phone: &Phone, id: AlertId) -> (u32, u32) {
        let known = self.recipients.get_mut(phone).and_then(|recipient| recipient.let_go.remove(&id));
        self.let_go -= usize::from(known.is_some());
        known.unwrap_or_default()
    }

    /// A dispatcher may work again: nobody waits longer for it than need be.
    pub(super) fn wake_paused(&mut self, now: Instant) {
        for phone in std::mem::take(&mut self.paused) {
            if let Some(recipient) = self.recipients.get_mut(&phone) {
                recipient.paused_until = None;
            }
            self.refresh(&phone, now);
        }
    }

    pub(super) fn reject_number(&mut self, alert: &Alert, why: &str) {
        if !self.rejecting.insert(alert.id) {
            return;
        }
        let detail = format!("the number can not be texted: {why}");
        self.out.events.push(Event::BadNumber {
            alert: alert.id,
            number: alert.phone.clone(),
            detail: detail.clone(),
        });
        self.out.settlements.push((
            self.owner,
            Settlement {
                closing: None,
                verdicts: vec![(alert.id, Verdict::Ignored(Reason::Rejected))],
                detail,
            },
        ));
    }

    pub(super) fn bar(&mut self, alert: &Alert, phone: Phone) {
        if self.spoken_of.len() < self.sizes.window && self.spoken_of.insert(alert.id) {
            self.out.events.push(Event::Barred { alert: alert.id, recipient: phone });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Main;

    #[test]
    fn as_many_as_may_go_within_an_hour_are_counted_whatever_was_allowed_before() {
        let policy = |max_per_hour| Policy::new(&Main { max_per_hour, ..Main::default() });
        let (start, mut recipient) = (Instant::now(), Recipient::default());
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        for minutes in [0, 10, 20] {
            assert_eq!(recipient.full_until(&policy(3)), None);
            recipient.went_out(&policy(3), at(minutes));
        }
        assert_eq!(recipient.full_until(&policy(3)), Some(at(60)));
        recipient.went_out(&policy(3), at(60));
        assert_eq!((recipient.full_until(&policy(3)), recipient.counted.len()), (Some(at(70)), 3));
        // Lowered, raised, lifted.
        assert_eq!(recipient.full_until(&policy(1)), Some(at(120)));
        assert_eq!(recipient.full_until(&policy(4)), None);
        assert_eq!(recipient.full_until(&policy(0)), None);
        recipient.went_out(&policy(0), at(61));
        assert!(recipient.counted.is_empty());
    }
}
