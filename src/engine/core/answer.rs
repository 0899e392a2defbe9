//! What an answer changes: the SMS, its recipient, the dispatcher.

use super::*;

impl Core {
    pub(super) fn accepted(
        &mut self,
        id: Uuid,
        job: &mut Job,
        receipt: Receipt,
        took: Duration,
        now: Instant,
    ) {
        let change = self.failover.succeeded(job.way, now);
        self.tell(change, None);
        let recipient = self.recipients.entry(job.recipient.clone()).or_default();
        recipient.went_out(&self.policy, now);
        recipient.failures = 0;
        recipient.backoff_until = None;
        recipient.pauses = 0;
        recipient.trials = 0;
        recipient.failing.retain(|(way, _)| *way != job.way);
        recipient.avoid.clear();
        recipient.told = None;
        job.carried.iter().chain(&job.counted).for_each(|id| self.copies.forget(*id));
        self.out.events.push(Event::Accepted {
            attempt: id,
            recipient: job.recipient.clone(),
            dispatcher: self.failover.config(job.way).name.clone(),
            alerts: job.carried.len(),
            squeezed: job.counted.len(),
            segments: measure(&job.text).segments,
            number: job.number,
            possible_duplicate: job.possible_duplicate,
            references: receipt.references.clone(),
            queued_at: job.queued_at(),
            took,
        });
        job.next = Next::Done;
        self.out.settlements.push((job.owner, outcome::accepted(id, receipt, &job.carried, &job.counted)));
    }

    pub(super) fn refused(
        &mut self,
        id: Uuid,
        job: &mut Job,
        error: &SubmitError,
        took: Duration,
        now: Instant,
    ) {
        let way = job.way;
        job.tried.push(way);
        if error.class == Class::Failed {
            job.possible_duplicate = true;
            job.alerts.iter_mut().for_each(|w| w.alert.maybe_sent = true);
            job.may_have_it.push(way);
            self.recipients.entry(job.recipient.clone()).or_default().may_have_gone(&self.policy, now);
            let copies = self.count_copies(job, now);
            self.tell_copies(job, copies);
        }
        job.refused |= matches!(error.class, Class::Rejected | Class::Misconfigured);
        let blame = self.blame(job, error.class);
        if !matches!(error.class, Class::Throttled { .. }) {
            job.round.push((way, blame));
        }
        self.out.events.push(Event::Refused {
            attempt: id,
            recipient: job.recipient.clone(),
            dispatcher: self.failover.config(way).name.clone(),
            number: job.number,
            error: error.clone(),
            took,
        });

        // The dispatcher's state first: it decides whether there is another way.
        let change = match (error.class, blame) {
            (Class::Throttled { retry_after }, _) => {
                self.failover.throttled(way, retry_after, now);
                None
            }
            (Class::Misconfigured, _) => self.failover.misconfigured(way, &job.recipient, now),
            (Class::Rejected, _) => self.failover.refused(way, &job.recipient, now),
            (_, Blame::Dispatcher) => self.failover.troubled(way, now),
            (_, Blame::Recipient | Blame::Deferred | Blame::Refused { .. }) => {
                self.failover.answered(way, now);
                None
            }
        };
        let state = outcome::state_after(error.class);
        self.tell(change, Some(error.detail.clone()));

        if self.has_next_way(job, now) {
            job.next = Next::Failover;
            self.out
                .settlements
                .push((job.owner, outcome::refused(id, state, error, false, &[], Reason::Rejected)));
        } else {
            let how = self.exhausted(job, error);
            let (ignored, reason) = self.give_up(job, how);
            if !ignored.is_empty() {
                self.out.events.push(Event::Ignored {
                    recipient: job.recipient.clone(),
                    alerts: ignored.clone(),
                    reason,
                    detail: error.detail.clone(),
                });
            }
            ignored.iter().for_each(|id| self.copies.forget(*id));
            job.detail = error.detail.clone();
            job.next = Next::Return(how);
            let own = matches!(self.judge_round(job), Exhausted::Counted(_));
            self.out.settlements.push((job.owner, outcome::refused(id, state, error, own, &ignored, reason)));
        }
    }

    pub(super) fn in_doubt(
        &mut self,
        id: Uuid,
        job: &mut Job,
        error: &SubmitError,
        took: Duration,
        now: Instant,
    ) {
        let change = self.failover.troubled(job.way, now);
        self.tell(change, Some(error.detail.clone()));
        self.recipients.entry(job.recipient.clone()).or_default().went_out(&self.policy, now);
        self.count_copies(job, now);
        let again = job.possible_duplicate && !bug(Bug::ResendForEver);
        let held = again || self.policy.on_unknown == OnUnknown::Hold;
        self.out.events.push(Event::Doubtful {
            attempt: id,
            recipient: job.recipient.clone(),
            dispatcher: self.failover.config(job.way).name.clone(),
            held,
            error: error.clone(),
            took,
        });
        let state = if held { AttemptState::Held } else { AttemptState::InDoubt };
        job.next = if held { Next::Done } else { Next::Doubt };
        self.out
            .settlements
            .push((job.owner, outcome::refused(id, state, error, false, &[], Reason::Rejected)));
    }

    /// Whose fault it is. It is the recipient's only if another one has been served through this dispatcher since
    /// this recipient began to fail there. Without that, a refusal proves nothing, and trouble is the dispatcher's.
    pub(super) fn blame(&mut self, job: &Job, class: Class) -> Blame {
        if matches!(class, Class::Throttled { .. } | Class::Unknown) {
            return Blame::Dispatcher;
        }
        let proved = self.is_proved(job);
        let is_its_own = || self.failover.refusal_is_its_own(job.way, &job.recipient);
        match class {
            Class::Rejected | Class::Misconfigured if is_its_own() => Blame::Dispatcher,
            Class::Rejected | Class::Misconfigured => Blame::Refused { proved },
            Class::Deferred if proved => Blame::Recipient,
            Class::Deferred => Blame::Deferred,
            _ if proved || bug(Bug::DispatchersFaultCounts) => Blame::Recipient,
            _ => Blame::Dispatcher,
        }
    }

    /// Has its dispatcher served another number since it first failed to serve this one? The measure is a count of
    /// successes, not a clock.
    fn is_proved(&mut self, job: &Job) -> bool {
        let successes = self.failover.successes(job.way);
        let failing = &mut self.recipients.entry(job.recipient.clone()).or_default().failing;
        match failing.iter().find(|(way, _)| *way == job.way) {
            Some((_, since)) => successes > *since,
            None => {
                failing.push((job.way, successes));
                false
            }
        }
    }

    /// One more copy of what this SMS carries may have gone out.
    fn count_copies(&mut self, job: &Job, now: Instant) -> usize {
        job.carried.iter().map(|id| self.copies.add(*id, now)).max().unwrap_or(0)
    }

    /// People are told of the second copy.
    fn tell_copies(&mut self, job: &Job, copies: usize) {
        if copies == 2 {
            self.out.events.push(Event::Copied {
                recipient: job.recipient.clone(),
                dispatcher: self.failover.config(job.way).name.clone(),
                alerts: job.carried.clone(),
            });
        }
    }

    /// Is there another dispatcher for this SMS, now or as soon as it has room, and may a further copy go out?
    pub(super) fn has_next_way(&self, job: &Job, now: Instant) -> bool {
        let is_full = job.carried.iter().any(|id| self.copies.full_until(*id, now).is_some());
        !self.draining && !is_full && self.failover.choose(&job.tried, now) != Choice::Down
    }

    /// No dispatcher is left: what is that to the recipient?
    pub(super) fn exhausted(&mut self, job: &mut Job, error: &SubmitError) -> Exhausted {
        let how = self.judge_round(job);
        let throttled = matches!(error.class, Class::Throttled { .. });
        match (how, self.policy.retrylimitaction) {
            (Exhausted::Uncounted | Exhausted::Unproved, LimitAction::Shutdown) if !throttled => {
                Exhausted::Counted(Reason::RetryLimit)
            }
            _ => how,
        }
    }

    /// What the answers come to. A refusal by a dispatcher that is no longer configured is nobody's last word.
    pub(super) fn judge_round(&self, job: &Job) -> Exhausted {
        let ways = self.failover.order();
        let counts =
            |(way, blame): &&(WayId, Blame)| !matches!(blame, Blame::Refused { .. }) || ways.contains(way);
        let round: Vec<Blame> = job.round.iter().filter(counts).map(|(_, blame)| *blame).collect();
        outcome::exhausted(&round, ways.len())
    }

    /// Which alerts end with this failure, and why.
    pub(super) fn give_up(&mut self, job: &mut Job, how: Exhausted) -> (Vec<AlertId>, Reason) {
        match how {
            Exhausted::Uncounted | Exhausted::Unproved => (Vec::new(), Reason::RetryLimit),
            Exhausted::Counted(reason) => {
                job.alerts.iter_mut().for_each(|w| w.failures += 1);
                let is_final = reason == Reason::Rejected && bug(Bug::RefusalIsFinal);
                let limit = if is_final { 1 } else { self.policy.retrylimit };
                let over: Vec<AlertId> = job
                    .alerts
                    .iter()
                    .filter(|w| limit > 0 && w.failures >= limit)
                    .map(|w| w.alert.id)
                    .collect();
                match self.policy.retrylimitaction {
                    LimitAction::Ignore => (over, reason),
                    LimitAction::Shutdown => {
                        if !over.is_empty() {
                            self.shut_down(&job.recipient);
                        }
                        (Vec::new(), Reason::RetryLimit)
                    }
                }
            }
        }
    }

    pub(super) fn shut_down(&mut self, recipient: &Phone) {
        let failures = self.policy.retrylimit;
        self.out.stop.get_or_insert_with(|| Stop::RetryLimit { recipient: recipient.clone(), failures });
    }

    /// One more failure in a row that is the recipient's own.
    pub(super) fn back_off(&mut self, phone: &Phone, now: Instant) {
        let jitter = self.rng.f64();
        let Policy { delay, delayfactor, maxdelay, .. } = self.policy;
        let recipient = self.recipients.entry(phone.clone()).or_default();
        recipient.failures += 1;
        let pause = retry::backoff(recipient.failures, delay, delayfactor, maxdelay, jitter);
        recipient.backoff_until = Some(now + pause);
        if bug(Bug::BackOffForAll) {
            self.recipients.values_mut().for_each(|r| r.backoff_until = Some(now + pause));
        }
    }

    /// A recipient backs off as it did before this process knew of it.
    pub(super) fn go_on_backing_off(&mut self, phone: &Phone, failures: u32, ago: Duration, now: Instant) {
        let jitter = self.rng.f64();
        let Policy { delay, delayfactor, maxdelay, .. } = self.policy;
        let pause = retry::backoff(failures, delay, delayfactor, maxdelay, jitter);
        let recipient = self.recipients.entry(phone.clone()).or_default();
        recipient.failures = failures;
        recipient.backoff_until = pause.checked_sub(ago).map(|left| now + left);
    }

    /// Its alerts wait again, and the recipient waits as it has deserved.
    pub(super) fn give_back_after(&mut self, mut job: Job, how: Exhausted, now: Instant) {
        let throttled_only = job.round.is_empty();
        let may_have_it = !job.may_have_it.is_empty() && !bug(Bug::CopiesWithoutBound);
        let limit = self.policy.retrylimit;
        match how {
            Exhausted::Counted(reason) => {
                self.back_off(&job.recipient, now);
                if self.policy.retrylimitaction == LimitAction::Ignore && limit > 0 {
                    job.alerts.retain(|w| w.failures < limit);
                }
                let why = if reason == Reason::Rejected { Why::Refused } else { Why::Failing };
                self.say_why(&job, why, now);
            }
            Exhausted::Uncounted if throttled_only => {}
            Exhausted::Uncounted if !may_have_it => {
                let recipient = self.recipients.entry(job.recipient.clone()).or_default();
                recipient.pauses += 1;
                recipient.paused_until = Some(now + retry::pause(recipient.pauses));
                self.paused.insert(job.recipient.clone());
                if job.refused {
                    self.say_why(&job, Why::Refused, now);
                }
            }
            Exhausted::Unproved | Exhausted::Uncounted => {
                // It backs off from those that it was offered, and not longer than until another one can be asked.
                self.back_off(&job.recipient, now);
                let recipient = self.recipients.entry(job.recipient.clone()).or_default();
                recipient.paused_until = recipient.backoff_until.take();
                let until = recipient.paused_until.filter(|_| may_have_it);
                recipient.avoid.retain(|(way, at)| *at > now && !job.may_have_it.contains(way));
                recipient
                    .avoid
                    .extend(until.iter().flat_map(|at| job.may_have_it.iter().map(|way| (*way, *at))));
                self.paused.insert(job.recipient.clone());
                let why = match (job.refused, may_have_it) {
                    (true, _) => Why::Refused,
                    (false, true) => Why::MayHaveGone,
                    (false, false) => Why::Failing,
                };
                self.say_why(&job, why, now);
            }
        }
        self.give_back(job, now);
    }

    /// Tells why what this SMS was about waits, and for how long.
    fn say_why(&mut self, job: &Job, why: Why, now: Instant) {
        let Some(recipient) = self.recipients.get_mut(&job.recipient) else { return };
        let until = recipient.backoff_until.max(recipient.paused_until);
        let (Some(until), false) = (until, job.alerts.is_empty()) else { return };
        self.out.events.push(Event::Waits {
            recipient: job.recipient.clone(),
            alerts: job.alerts.iter().map(|w| w.alert.id).collect(),
            why,
            detail: job.detail.clone(),
            again_in: until.saturating_duration_since(now),
            first: recipient.told.replace(why) != Some(why),
        });
    }

    /// Its alerts wait again as they did.
    pub(super) fn give_back(&mut self, job: Job, now: Instant) {
        if job.alerts.is_empty() && !job.carried.is_empty() {
            // A resend of what another process began: only the queue knows the alerts' own texts.
            self.out.look_soon = true;
        }
        // They have been collected for once.
        if let Some(since) = job.alerts.iter().map(|w| w.learned).min()
            && let Some(recipient) = self.recipients.get_mut(&job.recipient)
        {
            recipient.waiting_since = Some(recipient.waiting_since.map_or(since, |old| old.min(since)));
        }
        for mut w in job.alerts {
            w.attempts = w.attempts.max(job.number);
            self.window.insert(job.recipient.clone(), w);
        }
        self.trim(now);
        self.free(&job.recipient, now);
    }

    pub(super) fn tell(&mut self, change: Option<Change>, reason: Option<String>) {
        match change {
            None => {}
            Some(Change::Up(way)) => {
                let dispatcher = self.failover.config(way).name.clone();
                self.out.events.push(Event::DispatcherUp { dispatcher });
            }
            Some(Change::Down { way, cause }) => {
                let dispatcher = self.failover.config(way).name.clone();
                let reason = reason.unwrap_or_default();
                self.out.events.push(Event::DispatcherDown { dispatcher, cause, reason });
            }
        }
    }

    pub(super) fn note_outage(&mut self) {
        let down = self.failover.all_down();
        if down && !self.all_down {
            self.out.events.push(Event::AllDown { waiting: self.window.len() });
        } else if !down && self.all_down {
            self.out.events.push(Event::WayOut);
        }
        self.all_down = down;
    }

    /// `exit_on_permanent_error`: nobody expects any more that a dispatcher mends itself.
    pub(super) fn stop_for_good(&mut self, now: Instant) {
        let wanted = self.policy.exit_on_permanent_error && self.out.stop.is_none();
        if wanted && self.failover.all_misconfigured_for_good(now) {
            self.out.stop = Some(Stop::AllMisconfigured);
        }
    }
}
