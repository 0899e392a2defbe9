//! What an answer means for the attempt and its alerts.

use crate::alert::{AlertId, Reason, Verdict};
use crate::dispatch::{Class, Receipt, SubmitError};
use crate::queue::{AttemptState, Closing, Settlement};
use crate::seeded::{Bug, bug};
use uuid::Uuid;

/// Whose fault a refusal was, after the rule of breadth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This SMS or number was refused for good by this dispatcher.
    Refused,
    /// The recipient's: counts towards its limit.
    Recipient,
    /// The dispatcher's: counts against nobody.
    Dispatcher,
}

/// What becomes of an SMS that no dispatcher took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// Every dispatcher refused it: it is ignored.
    Rejected,
    /// Those that could be asked refused it, but not all could: it backs off, and waits for the others.
    Refused,
    /// It failed by its recipient's fault: back-off, and the limit comes nearer.
    Counted,
    /// It waits, and nothing is counted.
    Uncounted,
}

/// Judges a round of answers from different dispatchers; `ways` is how many dispatchers there are.
pub fn exhausted(round: &[Blame], ways: usize) -> Exhausted {
    if round.contains(&Blame::Recipient) {
        return Exhausted::Counted;
    }
    match round.iter().filter(|b| **b == Blame::Refused).count() {
        0 => Exhausted::Uncounted,
        refused if refused < ways && !bug(Bug::RefusedByOneIsFinal) => Exhausted::Refused,
        _ => Exhausted::Rejected,
    }
}

/// The settlement of an accepted attempt: what it carries is sent, what it counts is squeezed out.
pub fn accepted(attempt: Uuid, receipt: Receipt, carried: &[AlertId], counted: &[AlertId]) -> Settlement {
    let sent = carried.iter().map(|id| (*id, Verdict::Sent));
    let counted = if bug(Bug::SqueezedLeftWaiting) { &[] } else { counted };
    let squeezed = counted.iter().map(|id| (*id, Verdict::Ignored(Reason::Squeezed)));
    Settlement {
        closing: Some(Closing {
            id: attempt,
            state: AttemptState::Accepted,
            class: "accepted",
            code: None,
            detail: String::new(),
            references: receipt.references,
        }),
        verdicts: sent.chain(squeezed).collect(),
        detail: String::new(),
    }
}

/// The settlement of an attempt that was not accepted; `ignored` names the alerts that end with it.
pub fn refused(
    attempt: Uuid,
    state: AttemptState,
    error: &SubmitError,
    ignored: &[AlertId],
    reason: Reason,
) -> Settlement {
    Settlement {
        closing: Some(Closing {
            id: attempt,
            state,
            class: error.class.as_str(),
            code: error.code.clone(),
            detail: error.detail.clone(),
            references: Vec::new(),
        }),
        verdicts: ignored.iter().map(|id| (*id, Verdict::Ignored(reason))).collect(),
        detail: error.detail.clone(),
    }
}

/// The state in which a refusal leaves the attempt.
pub fn state_after(class: Class) -> AttemptState {
    match class {
        Class::Rejected => AttemptState::Rejected,
        Class::Unknown => AttemptState::InDoubt,
        Class::Deferred
        | Class::Unavailable
        | Class::Throttled { .. }
        | Class::Misconfigured
        | Class::Failed => AttemptState::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Blame::{Dispatcher, Recipient, Refused};

    #[test]
    fn only_a_refusal_by_all_is_final() {
        for (round, ways, want) in [
            (&[Refused][..], 1, Exhausted::Rejected),
            (&[Refused, Refused], 2, Exhausted::Rejected),
            (&[Refused], 2, Exhausted::Refused),
            (&[Refused, Dispatcher], 2, Exhausted::Refused),
            (&[Refused, Recipient], 2, Exhausted::Counted),
            (&[Recipient], 1, Exhausted::Counted),
            (&[Dispatcher], 1, Exhausted::Uncounted),
            (&[Dispatcher, Dispatcher], 2, Exhausted::Uncounted),
        ] {
            assert_eq!(exhausted(round, ways), want, "{round:?} of {ways}");
        }
    }

    #[test]
    fn what_is_counted_is_squeezed_out() {
        let s = accepted(Uuid::nil(), Receipt::default(), &[AlertId(1)], &[AlertId(2)]);
        assert_eq!(
            s.verdicts,
            [(AlertId(1), Verdict::Sent), (AlertId(2), Verdict::Ignored(Reason::Squeezed))]
        );
    }
}
