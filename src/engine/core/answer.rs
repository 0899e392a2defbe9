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
        }
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
            (Class::Misconfigured, _) => self.failover.misconfigured(way, now),
            (Class::Rejected, Blame::Dispatcher) => self.failover.refused(way, &job.recipient, &[], now),
            (_, Blame::Dispatcher) => self.failover.troubled(way, &job.recipient, now),
            (_, Blame::Refused) => {
                let last = !self.has_next_way(job, now);
                let given_up = if last && self.judge_round(job) == Exhausted::Rejected {
                    job.carried.iter().chain(&job.counted).copied().collect()
                } else {
                    Vec::new()
                };
                self.failover.refused(way, &job.recipient, &given_up, now)
            }
            (_, Blame::Recipient) => {
                self.failover.answered(way, now);
                None
            }
        };
        let state = outcome::state_after(error.class);
        self.tell(change, Some(error));

        if self.has_next_way(job, now) {
            job.next = Next::Failover;
            self.out.settlements.push((job.owner, outcome::refused(id, state, error, &[], Reason::Rejected)));
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
            job.next = Next::Return(how);
            self.out.settlements.push((job.owner, outcome::refused(id, state, error, &ignored, reason)));
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
        let change = self.failover.troubled(job.way, &job.recipient, now);
        self.tell(change, Some(error));
        self.recipients.entry(job.recipient.clone()).or_default().went_out(&self.policy, now);
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
        self.out.settlements.push((job.owner, outcome::refused(id, state, error, &[], Reason::Rejected)));
    }

    /// Whose fault it is. Trouble is the dispatcher's, unless another recipient has been served through it
    /// since this recipient began to fail there; a refusal is the recipient's, unless five different ones
    /// were refused in a row.
    pub(super) fn blame(&mut self, job: &Job, class: Class) -> Blame {
        let way = job.way;
        match class {
            Class::Rejected if self.failover.refusal_is_its_own(way, &job.recipient) => Blame::Dispatcher,
            Class::Rejected => Blame::Refused,
            Class::Deferred => Blame::Recipient,
            Class::Unavailable if bug(Bug::DispatchersFaultCounts) => Blame::Recipient,
            Class::Throttled { .. } | Class::Misconfigured | Class::Unknown => Blame::Dispatcher,
            Class::Unavailable | Class::Failed => {
                let successes = self.failover.successes(way);
                let failing = &mut self.recipients.entry(job.recipient.clone()).or_default().failing;
                match failing.iter().find(|(w, _)| *w == way) {
                    Some((_, since)) if successes > *since => Blame::Recipient,
                    Some(_) => Blame::Dispatcher,
                    None => {
                        failing.push((way, successes));
                        Blame::Dispatcher
                    }
                }
            }
        }
    }

    /// Is there another dispatcher for this SMS, now or as soon as it has room?
    pub(super) fn has_next_way(&self, job: &Job, now: Instant) -> bool {
        !self.draining && self.failover.choose(&job.tried, now) != Choice::Down
    }

    /// No dispatcher is left: what is that to the recipient?
    pub(super) fn exhausted(&mut self, job: &mut Job, error: &SubmitError) -> Exhausted {
        let how = self.judge_round(job);
        let throttled = matches!(error.class, Class::Throttled { .. });
        match (how, self.policy.retrylimitaction) {
            (Exhausted::Uncounted, LimitAction::Shutdown) if !throttled => Exhausted::Counted,
            _ => how,
        }
    }

    /// What the answers come to. A refusal by a dispatcher that is no longer configured is nobody's last word.
    fn judge_round(&self, job: &Job) -> Exhausted {
        let ways = self.failover.order();
        let counts = |(way, blame): &&(WayId, Blame)| *blame != Blame::Refused || ways.contains(way);
        let round: Vec<Blame> = job.round.iter().filter(counts).map(|(_, blame)| *blame).collect();
        outcome::exhausted(&round, ways.len())
    }

    /// Which alerts end with this failure, and why.
    pub(super) fn give_up(&mut self, job: &mut Job, how: Exhausted) -> (Vec<AlertId>, Reason) {
        let all = || job.carried.iter().chain(&job.counted).copied().collect::<Vec<_>>();
        match how {
            Exhausted::Rejected => (all(), Reason::Rejected),
            Exhausted::Uncounted | Exhausted::Refused => (Vec::new(), Reason::RetryLimit),
            Exhausted::Counted => {
                job.alerts.iter_mut().for_each(|w| w.failures += 1);
                let limit = self.policy.retrylimit;
                let over: Vec<AlertId> = job
                    .alerts
                    .iter()
                    .filter(|w| limit > 0 && w.failures >= limit)
                    .map(|w| w.alert.id)
                    .collect();
                match self.policy.retrylimitaction {
                    LimitAction::Ignore => (over, Reason::RetryLimit),
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

    /// Its alerts wait again, and the recipient waits as it has deserved.
    pub(super) fn give_back_after(&mut self, mut job: Job, how: Exhausted, now: Instant) {
        let throttled_only = job.round.is_empty();
        let limit = self.policy.retrylimit;
        match how {
            Exhausted::Rejected => job.alerts.clear(),
            Exhausted::Counted => {
                self.back_off(&job.recipient, now);
                if self.policy.retrylimitaction == LimitAction::Ignore && limit > 0 {
                    job.alerts.retain(|w| w.failures < limit);
                }
            }
            Exhausted::Refused => {
                // It waits for those that could not be asked, and not longer than for them.
                self.back_off(&job.recipient, now);
                let recipient = self.recipients.entry(job.recipient.clone()).or_default();
                recipient.paused_until = recipient.backoff_until.take();
                self.paused.insert(job.recipient.clone());
            }
            Exhausted::Uncounted if throttled_only => {}
            Exhausted::Uncounted => {
                let recipient = self.recipients.entry(job.recipient.clone()).or_default();
                recipient.pauses += 1;
                recipient.paused_until = Some(now + retry::pause(recipient.pauses));
                self.paused.insert(job.recipient.clone());
            }
        }
        self.give_back(job, now);
    }

    /// Its alerts wait again as they did.
    pub(super) fn give_back(&mut self, job: Job, now: Instant) {
        if job.alerts.is_empty() && !job.carried.is_empty() {
            // A resend of what another process began: only the queue knows the alerts' own texts.
            self.out.look_soon = true;
        }
        for mut w in job.alerts {
            w.attempts = w.attempts.max(job.number);
            self.window.insert(job.recipient.clone(), w);
        }
        self.trim(now);
        self.free(&job.recipient, now);
    }

    pub(super) fn tell(&mut self, change: Option<Change>, error: Option<&SubmitError>) {
        match change {
            None => {}
            Some(Change::Up(way)) => {
                let dispatcher = self.failover.config(way).name.clone();
                self.out.events.push(Event::DispatcherUp { dispatcher });
            }
            Some(Change::Down { way, cause, wronged }) => {
                let dispatcher = self.failover.config(way).name.clone();
                let reason = error.map(|e| e.detail.clone()).unwrap_or_default();
                self.out.requeues.extend(&wronged);
                self.out.events.push(Event::DispatcherDown {
                    dispatcher,
                    cause,
                    reason,
                    wronged: wronged.len(),
                });
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
        if self.policy.exit_on_permanent_error && self.failover.all_misconfigured() && self.out.stop.is_none()
        {
            self.out.stop = Some(Stop::AllMisconfigured);
        }
    }
}
