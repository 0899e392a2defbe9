//! Whether the queue answers, so that people are told once when it stops to and once when it does again.
//!
//! A queue may do one thing and refuse another (rights, a full disk): it answers again when everything that
//! failed has succeeded since, and not when anything has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::QueueError;

/// What the engine asks of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    Lease,
    Look,
    Doubts,
    Hold,
    Expire,
    Begin,
    Settle,
    Peers,
    Witness,
    Wait,
}

impl Verb {
    /// Without this no alert goes out, or stays out of doubt.
    fn must_run(self) -> bool {
        match self {
            Verb::Lease | Verb::Look | Verb::Doubts | Verb::Hold | Verb::Begin | Verb::Settle => true,
            Verb::Expire | Verb::Peers | Verb::Witness | Verb::Wait => false,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::Lease => "a look at the lease",
            Verb::Look => "a look at the queue",
            Verb::Doubts => "a look at what is in doubt",
            Verb::Hold => "holding what is suspect",
            Verb::Expire => "ignoring what is too old",
            Verb::Begin => "writing down attempts",
            Verb::Settle => "writing down outcomes",
            Verb::Witness => "asking for what others have committed",
            Verb::Peers => "counting the instances",
            Verb::Wait => "waiting for news",
        })
    }
}

/// What has failed and not succeeded since.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
    failing: BTreeSet<Verb>,
    told: Vec<String>,
    /// What has ended in nothing but panics, and since when.
    panicking: BTreeMap<Verb, Instant>,
}

/// For so long a verb may do nothing but panic before the engine is taken to be broken: then a new start may help.
const PANICS: Duration = Duration::from_secs(60);

/// A queue that refuses in ever other words is not quoted for ever.
const MOST_TOLD: usize = 8;

impl Silence {
    /// It failed. Returns the reason if people should hear it: the first of all, and later each one that asks
    /// for a person.
    pub(super) fn failed(&mut self, verb: Verb, error: &QueueError, now: Instant) -> Option<String> {
        self.failing.insert(verb);
        let first = self.since.is_none();
        self.since.get_or_insert(now);
        let reason = error.to_string();
        let news = matches!(error, QueueError::Refused(_))
            && self.told.len() < MOST_TOLD
            && !self.told.contains(&reason);
        (first || news).then(|| {
            self.told.push(reason.clone());
            reason
        })
    }

    /// It succeeded. True if it had failed before.
    pub(super) fn succeeded(&mut self, verb: Verb) -> bool {
        self.failing.remove(&verb)
    }

    /// After how long everything works again; told once.
    pub(super) fn is_over(&mut self, now: Instant) -> Option<Duration> {
        if !self.failing.is_empty() {
            return None;
        }
        self.told.clear();
        self.since.take().map(|since| now - since)
    }

    /// A task came to its end.
    pub(super) fn ended(&mut self, verb: Verb, panicked: bool, now: Instant) {
        match panicked {
            true => _ = self.panicking.entry(verb).or_insert(now),
            false => _ = self.panicking.remove(&verb),
        }
    }

    /// What must run has done nothing but panic for a long time. A queue that is down is none of that.
    pub(super) fn is_broken(&self, now: Instant) -> bool {
        let long = |since: &Instant| now.saturating_duration_since(*since) >= PANICS;
        self.panicking.iter().any(|(verb, since)| verb.must_run() && long(since))
    }

    /// Does this fail?
    pub(super) fn concerns(&self, verb: Verb) -> bool {
        self.failing.contains(&verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_run_and_does_nothing_but_panic_is_broken() {
        let (mut silence, now) = (Silence::default(), Instant::now());
        silence.ended(Verb::Look, true, now);
        silence.ended(Verb::Peers, true, now);
        assert!(!silence.is_broken(now + PANICS / 2) && silence.is_broken(now + PANICS));
        silence.ended(Verb::Look, false, now + PANICS);
        assert!(!silence.is_broken(now + 2 * PANICS), "peers are not needed");
    }

    #[test]
    fn what_fails_while_the_rest_works_is_told_once() {
        let (mut silence, now) = (Silence::default(), Instant::now());
        let refused = |what: &str| QueueError::Refused(what.into());
        let gone = |what: &str| QueueError::Unavailable(what.into());
        assert_eq!(silence.is_over(now), None, "nothing was wrong");
        assert_eq!(silence.failed(Verb::Settle, &gone("gone"), now).as_deref(), Some("gone"));
        assert_eq!(silence.failed(Verb::Look, &gone("still gone"), now), None, "once");
        assert!(silence.succeeded(Verb::Look) && !silence.succeeded(Verb::Lease));
        assert_eq!(silence.is_over(now), None, "what failed first still fails");
        assert!(silence.concerns(Verb::Settle) && !silence.concerns(Verb::Look));
        assert_eq!(silence.failed(Verb::Settle, &refused("no right"), now).as_deref(), Some("no right"));
        assert_eq!(silence.failed(Verb::Settle, &refused("no right"), now), None, "once");
        assert!(silence.succeeded(Verb::Settle));
        let later = now + Duration::from_secs(7);
        assert_eq!(silence.is_over(later), Some(Duration::from_secs(7)));
        assert_eq!(silence.is_over(later), None, "once");
        assert!(silence.failed(Verb::Settle, &refused("no right"), later).is_some(), "a new one");
    }
}
