//! Attempts of which nobody knows whether they were taken, and which are ours to resolve.

use super::*;

/// An attempt in doubt that we resolve.
#[derive(Debug)]
pub(super) struct Doubted {
    pub(super) doubt: Doubt,
    /// Not by the dispatcher that fell silent, if another works.
    pub(super) avoid: Option<WayId>,
    /// By the dispatcher that fell silent, if it works: until then its gateway knows by the key what it has taken.
    pub(super) known: Option<(WayId, Instant)>,
    /// When it is resent at the latest.
    pub(super) grace_over: Instant,
    pub(super) timer: Option<Instant>,
    /// How often the queue did not let it be resent.
    pub(super) refusals: u32,
}

/// How often, and how far apart, a resend is tried that the queue does not allow: the recipient may have an open
/// attempt of another instance. After that the doubt waits for a person, since its alerts have been changed.
const RESEND_TRIES: u32 = 12;
const RESEND_PAUSE: Duration = Duration::from_secs(5);

impl Core {
    pub(super) fn doubt(&mut self, doubt: Doubt, way: Option<WayId>, now: Instant) {
        let id = doubt.id;
        let again = doubt.possible_duplicate && !bug(Bug::ResendForEver);
        if again || self.policy.on_unknown == OnUnknown::Hold {
            self.hold(id, doubt.recipient);
            return;
        }
        let grace = way.map_or(Duration::from_secs(30), |w| self.failover.config(w).grace);
        let at_once = self.policy.on_unknown == OnUnknown::Failover || self.policy.is_urgent(doubt.severity);
        let grace_over = now + grace.saturating_sub(doubt.age);
        let timer = if at_once && way.is_some() { now } else { grace_over };
        let known = way.and_then(|way| self.known_until(way, &doubt, now).map(|until| (way, until)));
        let avoid = way.filter(|_| known.is_none());
        self.doubts.insert(id, Doubted { doubt, avoid, known, grace_over, timer: Some(timer), refusals: 0 });
        if !bug(Bug::DoubtForgotten) {
            self.doubt_timers.insert((timer, id));
        }
    }

    /// Until when the gateway knows the key of an attempt, counted from the earliest moment at which it can have
    /// seen it to the latest at which a resend that is chosen for it now reaches it.
    fn known_until(&self, way: WayId, doubt: &Doubt, now: Instant) -> Option<Instant> {
        let config = self.failover.config(way);
        let left = config.remembers.checked_sub(doubt.age + 2 * (config.timeout + SUBMIT_MARGIN))?;
        (!left.is_zero()).then(|| now + left)
    }

    /// By which dispatcher a resend goes. The one that knows the key is only preferred: one that is full or down holds up
    /// nobody.
    pub(super) fn choose_again(&self, doubted: &Doubted, now: Instant) -> Choice {
        if let Some((way, _)) = doubted.known.filter(|(_, until)| now < *until) {
            let others: Vec<WayId> = self.failover.order().iter().copied().filter(|id| *id != way).collect();
            if let taken @ Choice::Take(_) = self.failover.choose(&others, now) {
                return taken;
            }
        }
        self.failover.choose(doubted.avoid.as_slice(), now)
    }

    /// The queue did not let it be resent.
    pub(super) fn doubt_again(&mut self, id: Uuid, job: Job, now: Instant) {
        let refusals = job.resend_refusals + 1;
        if refusals >= RESEND_TRIES {
            return self.hold(id, job.recipient);
        }
        self.out.look_soon = true;
        let at = now + RESEND_PAUSE;
        let mut doubt = doubt_of(id, job, &self.failover);
        doubt.possible_duplicate = false;
        doubt.number -= 1;
        self.doubts.insert(
            id,
            Doubted { doubt, avoid: None, known: None, grace_over: at, timer: Some(at), refusals },
        );
        self.doubt_timers.insert((at, id));
    }

    /// What the queue did not let be resent, and does not name in doubt any more, a person has decided.
    pub(super) fn drop_decided(&mut self, named: &[Doubt], now: Instant) {
        let named: HashSet<Uuid> = named.iter().map(|doubt| doubt.id).collect();
        let decided: Vec<(Uuid, Doubted)> =
            self.doubts.extract_if(|id, d| d.refusals > 0 && !named.contains(id)).collect();
        for (id, doubted) in decided {
            self.doubt_timers.retain(|(_, other)| *other != id);
            let phone = doubted.doubt.recipient;
            if let Some(recipient) = self.recipients.get_mut(&phone) {
                recipient.resends.retain(|other| *other != id);
            }
            self.refresh(&phone, now);
        }
    }

    /// A resend is not repeated without a person.
    pub(super) fn hold(&mut self, id: Uuid, recipient: Phone) {
        self.out.events.push(Event::Held { attempt: id, recipient });
        let error = SubmitError::new(
            Class::Unknown,
            "a person is to decide: in doubt twice, its alerts changed, or on_unknown is hold",
        );
        let settlement = outcome::refused(id, AttemptState::Held, &error, false, &[], Reason::Rejected);
        self.out.settlements.push((self.owner, settlement));
    }

    pub(super) fn time_doubt(&mut self, id: Uuid, now: Instant) {
        if let Some(doubted) = self.doubts.get_mut(&id) {
            let at = doubted.grace_over.max(now);
            doubted.timer = Some(at);
            self.doubt_timers.insert((at, id));
        }
    }

    pub(super) fn doubt_is_due(&mut self, id: Uuid, now: Instant) {
        let Some(doubted) = self.doubts.get_mut(&id) else {
            self.doubt_timers.retain(|(_, other)| *other != id);
            return;
        };
        if let Some(at) = doubted.timer.take() {
            self.doubt_timers.remove(&(at, id));
        }
        let phone = doubted.doubt.recipient.clone();
        self.recipients.entry(phone.clone()).or_default().resends.push(id);
        self.refresh(&phone, now);
    }

    pub(super) fn way_named(&self, name: &str) -> Option<WayId> {
        self.failover.order().iter().copied().find(|id| &*self.failover.config(*id).name == name)
    }
}

pub(super) fn doubt_of(attempt: Uuid, job: Job, failover: &Failover) -> Doubt {
    Doubt {
        id: attempt,
        recipient: job.recipient,
        text: job.text,
        dispatcher: failover.config(job.way).name.clone(),
        number: job.number,
        age: Duration::ZERO,
        possible_duplicate: job.possible_duplicate,
        severity: job.severity,
        carried: job.carried,
        counted: job.counted,
    }
}
