//! Rules of the ledger that are the same whatever keeps it. Pure.

use super::AttemptState;

/// The audit names at most so many offenders.
pub(super) const MAX_OFFENDERS: usize = 1000;

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
