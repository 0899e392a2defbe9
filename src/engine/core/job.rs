//! One SMS on its way: composed, begun, submitted, and on to the next dispatcher.

use jiff::Timestamp;

use super::*;

/// Of those that wait while no dispatcher is in rotation, as many are looked at for a number that none has refused.
const ENOUGH_TO_ASK: usize = 16;

/// One SMS on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) recipient: Phone,
    pub(super) text: Arc<str>,
    /// Known alerts, carried first; empty for a resend of what another process began.
    pub(super) alerts: Vec<Waiting>,
    pub(super) carried: Vec<AlertId>,
    pub(super) counted: Vec<AlertId>,
    pub(super) severity: Severity,
    pub(super) possible_duplicate: bool,
    pub(super) resend_of: Option<Uuid>,
    /// See [`Sms::key`]; `None`: each attempt's own id.
    pub(super) key: Option<Uuid>,
    /// See [`Doubted::avoid`].
    pub(super) avoid: Option<WayId>,
    /// See [`Doubted::refusals`].
    pub(super) resend_refusals: u32,
    pub(super) number: u32,
    pub(super) owner: Uuid,
    pub(super) way: WayId,
    pub(super) tried: Vec<WayId>,
    pub(super) round: Vec<(WayId, Blame)>,
    /// Those of `tried` that may have taken it all the same.
    pub(super) may_have_it: Vec<WayId>,
    /// One has refused it, whoever was to blame for that.
    pub(super) refused: bool,
    /// What the last one said that did not take it.
    pub(super) detail: String,
    pub(super) stage: Stage,
    /// It gave back its place at the dispatcher, since its outcome can not be written.
    pub(super) placeless: bool,
    pub(super) next: Next,
}

impl Job {
    /// All alerts that it is about.
    pub(super) fn alert_ids(&self) -> Vec<AlertId> {
        self.carried.iter().chain(&self.counted).copied().collect()
    }

    /// When the alerts that it carries were queued; nothing for a resend of what another process began.
    pub(super) fn queued_at(&self) -> Vec<Timestamp> {
        let carried = self.alerts.iter().filter(|w| self.carried.contains(&w.alert.id));
        carried.map(|w| w.alert.queued_at).collect()
    }
}

/// What follows when the attempt is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is under way.
    Pending,
    /// The SMS is done with.
    Done,
    /// Another dispatcher.
    Failover,
    /// Its alerts wait again.
    Return(Exhausted),
    /// It is in doubt: to be resolved by policy.
    Doubt,
}

impl Core {
    /// SMS between two dispatchers go first: their people have waited longest.
    pub(super) fn fail_over(&mut self, now: Instant) {
        for _ in 0..self.between.len() {
            let Some(mut job) = self.between.pop_front() else { break };
            match self.choose_next(&job, now) {
                Choice::Take(way) => {
                    job.number += 1;
                    self.begin(job, way, now);
                }
                Choice::Busy => self.between.push_back(job),
                Choice::Down if bug(Bug::FailoverLosesRecipient) => {}
                Choice::Down => {
                    // What it met counts, but for the limit, which needs a settlement.
                    let how = match self.judge_round(&job) {
                        Exhausted::Counted(_) => Exhausted::Unproved,
                        how => how,
                    };
                    self.give_back_after(job, how, now);
                }
            }
        }
    }

    /// The next dispatcher: the one that fell silent comes last.
    fn choose_next(&self, job: &Job, now: Instant) -> Choice {
        let but: Vec<WayId> = job.tried.iter().copied().chain(job.avoid).collect();
        match self.failover.choose(&but, now) {
            Choice::Down if job.avoid.is_some() => self.failover.choose(&job.tried, now),
            choice => choice,
        }
    }

    pub(super) fn start_ready(&mut self, now: Instant) {
        while let Some((turn, phone)) = self.next_ready(now) {
            let resend = self.recipients.get(&phone).and_then(|r| r.resends.first().copied());
            if resend.is_none() && self.is_stale(&phone, now) {
                self.out.look_now = true;
                break;
            }
            let doubted = resend.and_then(|id| self.doubts.get(&id));
            let avoids = doubted.is_some_and(|doubted| doubted.avoid.is_some());
            let choice = match doubted {
                Some(doubted) => self.choose_again(doubted, now),
                None => self.failover.choose(&self.avoided(&phone, now), now),
            };
            let spared = resend.is_none() && !self.avoided(&phone, now).is_empty();
            match choice {
                Choice::Take(way) => {
                    self.ready.remove(&(turn, phone.clone()));
                    if self.failover.is_on_trial(way)
                        && let Some(recipient) = self.recipients.get_mut(&phone)
                    {
                        recipient.trials += 1;
                    }
                    match resend {
                        Some(id) => self.start_resend(&phone, id, way, now),
                        None => self.start_fresh(&phone, way, now),
                    }
                }
                Choice::Down if avoids => {
                    // No other dispatcher works: it waits for its grace to end and takes any.
                    let id = resend.unwrap_or_default();
                    if let Some(doubted) = self.doubts.get_mut(&id) {
                        doubted.avoid = None;
                    }
                    if let Some(recipient) = self.recipients.get_mut(&phone) {
                        recipient.resends.retain(|r| *r != id);
                    }
                    self.time_doubt(id, now);
                    self.refresh(&phone, now);
                }
                Choice::Down if resend.is_none() && self.outages_count() => self.count_outage(&phone, now),
                // Others may take the dispatcher that this one is spared.
                Choice::Busy | Choice::Down if spared => {
                    self.failover.hurry(&phone);
                    self.spare(&phone, now);
                }
                Choice::Down => {
                    self.hurry();
                    break;
                }
                Choice::Busy => break,
            }
        }
    }

    /// Nobody is served: a suspect dispatcher is asked sooner if one waits whom it has not refused.
    fn hurry(&mut self) {
        for (_, phone) in self.ready.iter().take(ENOUGH_TO_ASK) {
            self.failover.hurry(phone);
        }
    }

    /// With `retrylimitaction: shutdown`, an outage of all dispatchers counts too.
    fn outages_count(&self) -> bool {
        self.policy.retrylimitaction == LimitAction::Shutdown && self.failover.all_given_up()
    }

    /// A failure of a recipient's alerts without an attempt: there is nobody to make it.
    fn count_outage(&mut self, phone: &Phone, now: Instant) {
        for mut w in self.window.take(phone) {
            w.failures += 1;
            if self.policy.retrylimit > 0 && w.failures >= self.policy.retrylimit {
                self.shut_down(phone);
            }
            self.window.insert(phone.clone(), w);
        }
        self.back_off(phone, now);
        self.refresh(phone, now);
    }

    /// Whose turn it is: the most urgent. A dispatcher on trial is given the recipient of whose SMS the fewest copies may
    /// have gone out, and of those one that has been on trial least often, so that one recipient whom it always refuses does
    /// not keep it, and with it everybody else, from coming back; and if it was down for refusing, any one of those,
    /// since the most urgent may be just those whom it refuses for ever.
    fn next_ready(&mut self, now: Instant) -> Option<(Turn, Phone)> {
        let Some(cause) = self.failover.has_only_a_trial(now).filter(|_| !bug(Bug::TrialForTheMostUrgent))
        else {
            return self.ready.first().cloned();
        };
        let tried = |phone: &Phone| {
            let copies = if bug(Bug::CopiesWithoutBound) { 0 } else { self.most_copies(phone, now) };
            (copies, self.recipients.get(phone).map_or(0, |r| r.trials))
        };
        let tries: Vec<_> = self.ready.iter().map(|entry| (tried(&entry.1), entry)).collect();
        let fewest = tries.iter().map(|(tried, _)| *tried).min()?;
        let those: Vec<&(Turn, Phone)> =
            tries.into_iter().filter(|(tried, _)| *tried == fewest).map(|(_, entry)| entry).collect();
        let any = match cause {
            Cause::Refusals | Cause::Misconfigured => self.rng.usize(..those.len()),
            Cause::Trouble => 0,
        };
        those.get(any).map(|entry| (*entry).clone())
    }

    pub(super) fn start_fresh(&mut self, phone: &Phone, way: WayId, now: Instant) {
        let mut waiting = self.window.take(phone);
        // What has gone out too often within the hour stays behind, and holds up nothing that is new.
        for w in waiting.extract_if(.., |w| self.copies.full_until(w.alert.id, now).is_some()) {
            self.window.insert(phone.clone(), w);
        }
        let pieces: Vec<(AlertId, &str)> = waiting.iter().map(|w| (w.alert.id, &*w.alert.text)).collect();
        let Some(recipient) = self.recipients.get_mut(phone) else { return };
        let severe = match self.shape.overflow == Overflow::Severe && recipient.may_spare(&self.policy) {
            true => waiting.iter().take_while(|w| self.policy.is_severe(w.alert.severity)).count(),
            false => 0,
        };
        let composed = compose_sparing(&pieces, &self.shape, severe);
        recipient.ready = None;
        recipient.waiting_since = None;
        let left: HashSet<AlertId> = composed.left.iter().copied().collect();
        if !left.is_empty() {
            recipient.waiting_since = Some(now);
            for w in waiting.extract_if(.., |w| left.contains(&w.alert.id)) {
                self.window.insert(phone.clone(), w);
            }
        }
        let Some(severity) = waiting.iter().map(|w| w.alert.severity).min() else {
            return self.refresh(phone, now);
        };
        let job = Job {
            recipient: phone.clone(),
            text: composed.text.into(),
            severity,
            possible_duplicate: waiting.iter().any(|w| w.alert.maybe_sent),
            resend_of: None,
            key: None,
            avoid: None,
            resend_refusals: 0,
            number: 1 + waiting.iter().map(|w| w.attempts).max().unwrap_or(0),
            owner: self.owner,
            carried: composed.sent,
            counted: composed.ignored,
            alerts: waiting,
            way,
            tried: Vec::new(),
            round: Vec::new(),
            may_have_it: Vec::new(),
            refused: false,
            detail: String::new(),
            stage: Stage::Planned,
            placeless: false,
            next: Next::Pending,
        };
        self.begin(job, way, now);
    }

    pub(super) fn start_resend(&mut self, phone: &Phone, id: Uuid, way: WayId, now: Instant) {
        if let Some(recipient) = self.recipients.get_mut(phone) {
            recipient.ready = None;
            recipient.resends.retain(|r| *r != id);
        }
        let Some(Doubted { doubt, avoid, refusals, .. }) = self.doubts.remove(&id) else {
            return self.refresh(phone, now);
        };
        let job = Job {
            recipient: doubt.recipient,
            text: doubt.text,
            alerts: Vec::new(),
            carried: doubt.carried,
            counted: doubt.counted,
            severity: doubt.severity,
            possible_duplicate: !bug(Bug::ResendUnmarked),
            resend_of: Some(id),
            key: Some(id),
            avoid,
            resend_refusals: refusals,
            number: doubt.number + 1,
            owner: self.owner,
            way,
            tried: Vec::new(),
            round: Vec::new(),
            may_have_it: Vec::new(),
            refused: false,
            detail: String::new(),
            stage: Stage::Planned,
            placeless: false,
            next: Next::Pending,
        };
        self.begin(job, way, now);
    }

    pub(super) fn begin(&mut self, mut job: Job, way: WayId, now: Instant) {
        let id = self.new_id();
        let config = self.failover.config(way);
        self.out.begins.push(NewAttempt {
            id,
            recipient: job.recipient.clone(),
            text: job.text.clone(),
            dispatcher: config.name.clone(),
            number: job.number,
            deadline: config.timeout + SUBMIT_MARGIN,
            carried: job.carried.clone(),
            counted: job.counted.clone(),
            possible_duplicate: job.possible_duplicate,
            resend_of: job.resend_of,
        });
        self.failover.taken(way, now);
        if let Some(recipient) = self.recipients.get_mut(&job.recipient) {
            recipient.busy = true;
        }
        self.refresh_others(&job.recipient, now);
        job.way = way;
        job.owner = self.owner;
        job.stage = Stage::Planned;
        job.placeless = false;
        job.next = Next::Pending;
        self.on_their_way.extend(job.carried.iter().chain(&job.counted));
        self.jobs.insert(id, job);
        if bug(Bug::SubmitBeforeBegin) {
            self.submit(id, now);
        }
    }

    /// Takes a job off its way.
    pub(super) fn end(&mut self, id: Uuid) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        match job.placeless {
            true => self.placeless -= 1,
            false => self.failover.settled(job.way),
        }
        for id in job.carried.iter().chain(&job.counted) {
            self.on_their_way.remove(id);
            if let Some(ids) = &mut self.settled_meanwhile {
                ids.insert(*id);
            }
        }
        Some(job)
    }

    /// Its outcome can not be written, though others' can. As long as such SMS are few, each gives back its place.
    /// Returns what it is about.
    pub fn stuck(&mut self, id: Uuid) -> Vec<AlertId> {
        let Some(job) = self.jobs.get_mut(&id) else { return Vec::new() };
        if !job.placeless && self.placeless < self.sizes.stuck {
            job.placeless = true;
            self.placeless += 1;
            self.failover.settled(job.way);
        }
        job.alert_ids()
    }

    /// The queue writes others' attempts, and not this one: for certain nothing was written. Its recipient waits. Returns
    /// what it is about, if people have not heard yet that this recipient's can not be written.
    pub fn unbegun(&mut self, id: Uuid, now: Instant) -> Option<Vec<AlertId>> {
        let job = self.jobs.get(&id)?;
        let alerts = job.alert_ids();
        let recipient = self.recipients.entry(job.recipient.clone()).or_default();
        let first = recipient.unbegun_until.replace(now + self.policy.delay).is_none();
        self.not_begun(&[id], now);
        first.then_some(alerts)
    }

    pub(super) fn submit(&mut self, id: Uuid, now: Instant) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !job.stage.advance(Stage::Begun, Stage::Submitted) && !bug(Bug::SubmitBeforeBegin) {
            return;
        }
        job.stage = Stage::Submitted;
        if let Some(first) = job.resend_of {
            self.out.events.push(Event::Resent {
                attempt: id,
                resend_of: first,
                recipient: job.recipient.clone(),
            });
        }
        if self.policy.log_texts {
            let (recipient, text) = (job.recipient.clone(), job.text.clone());
            self.out.events.push(Event::Wording { attempt: id, recipient, text });
        }
        let timeout = self.failover.config(job.way).timeout;
        self.failover.submit_begins(job.way, now);
        if bug(Bug::SentBeforeSubmit) {
            let sent = outcome::accepted(id, Receipt::default(), &job.carried, &job.counted);
            self.out.settlements.push((job.owner, sent));
        }
        let sms = Sms {
            attempt: id,
            key: job.key.unwrap_or(id),
            recipient: job.recipient.clone(),
            text: job.text.clone(),
            timeout,
        };
        self.out.submits.push(Submit { way: job.way, sms });
    }

    /// Written, but not to be made any more: certainly not taken. Its alerts wait as they did.
    pub(super) fn abandon(&mut self, id: Uuid, why: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !job.stage.advance(Stage::Begun, Stage::Settling) {
            return;
        }
        self.failover.released(job.way);
        job.next = Next::Failover;
        let error = SubmitError::new(Class::Unavailable, format!("not submitted: {why}"));
        let settlement = outcome::refused(id, AttemptState::Failed, &error, false, &[], Reason::Rejected);
        self.out.settlements.push((job.owner, settlement));
    }
}
