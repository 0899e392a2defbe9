//! Rules of the ledger that are the same whatever keeps it. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{AttemptState, Decision, Resolved};
use crate::alert::AlertId;

/// The audit names at most so many offenders.
pub(super) const MAX_OFFENDERS: usize = 1000;

/// For so long copies of an alert are counted ([`crate::alert::Tried::copies`]).
pub(super) const REMEMBERED: Duration = Duration::from_secs(3600);

/// What is to be done about a wish to close an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Close it, and set its alerts.
    Close,
    /// It stands there already: a repeat, and nothing changes.
    Repeat,
    /// The wish comes too late, or from the wrong instance: nothing changes, and that is told.
    Superseded,
}

/// Judges the wish to bring an attempt `from` one state `to` another; `ours` says that the lease of the
/// asking instance is good and that the attempt is its own, or an unresolved one of an instance that is gone.
pub(super) fn judge(from: AttemptState, to: AttemptState, ours: bool) -> Judgement {
    use AttemptState::{Accepted, Held, InDoubt, Open, Resent};
    match (from, to) {
        (_, Open | Resent) => Judgement::Superseded,
        (from, to) if from == to => Judgement::Repeat,
        (_, Accepted) => Judgement::Close,
        (Open, _) | (InDoubt, Held) if ours => Judgement::Close,
        _ => Judgement::Superseded,
    }
}

/// True if an attempt that ended so may have reached the phone although nobody said that it was taken.
pub(super) fn may_have_been_taken(state: AttemptState, class: Option<&str>) -> bool {
    match state {
        AttemptState::Resent | AttemptState::Cancelled => true,
        AttemptState::Failed => class == Some("failed"),
        _ => false,
    }
}

impl Decision {
    /// How the attempt ends.
    pub(super) fn state(self) -> AttemptState {
        match self {
            Decision::Accept => AttemptState::Accepted,
            Decision::Resend => AttemptState::Failed,
        }
    }

    /// Its class; a release must be one that [`may_have_been_taken`].
    pub(super) fn class(self) -> &'static str {
        match self {
            Decision::Accept => "accepted",
            Decision::Resend => "failed",
        }
    }

    /// What the alerts' notes call it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Decision::Accept => "accepted",
            Decision::Resend => "released",
        }
    }

    /// Why the attempt ended. What was known of it before follows, after [`BEFORE`].
    pub(super) fn detail(self, by: &str) -> String {
        format!("{by} {} it", self.word())
    }
}

/// Stands between a person's decision and what was known of the attempt before.
pub(super) const BEFORE: &str = "; before: ";

impl Resolved {
    /// Of those that were asked for, what was not decided is untouched.
    pub(super) fn of(asked: &[AlertId], decided: impl IntoIterator<Item = AlertId>) -> Resolved {
        let decided: BTreeSet<AlertId> = decided.into_iter().collect();
        let rest: BTreeSet<AlertId> = asked.iter().copied().filter(|id| !decided.contains(id)).collect();
        Resolved { decided: decided.into_iter().collect(), untouched: rest.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of states, ours and not: acceptance always, refusal and doubt only from open, by its owner.
    #[test]
    fn acceptance_is_a_fact_and_the_rest_needs_the_owner() {
        for from in AttemptState::ALL {
            for to in AttemptState::ALL {
                for ours in [true, false] {
                    let expected = if matches!(to, AttemptState::Open | AttemptState::Resent) {
                        Judgement::Superseded
                    } else if from == to {
                        Judgement::Repeat
                    } else if to == AttemptState::Accepted
                        || ours && from == AttemptState::Open
                        || ours && from == AttemptState::InDoubt && to == AttemptState::Held
                    {
                        Judgement::Close
                    } else {
                        Judgement::Superseded
                    };
                    assert_eq!(judge(from, to, ours), expected, "{from:?} to {to:?}, ours {ours}");
                }
            }
        }
    }
}
