//! What an answer means for the attempt and its alerts.

use crate::alert::{AlertId, Reason, Verdict};
use crate::dispatch::{Class, Receipt, SubmitError};
use crate::queue::{AttemptState, Closing, Settlement};
use crate::seeded::{Bug, bug};
use uuid::Uuid;

/// Whose fault it was that an SMS was not taken. One answer is evidence and no verdict: what a dispatcher says of a number
/// is believed once it has served another number since it first said so ("proved").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// This number or text was refused.
    Refused {
        /// The dispatcher has served another number since.
        proved: bool,
    },
    /// This number was deferred, and nothing is proved.
    Deferred,
    /// The recipient's, proved: counts towards its limit.
    Recipient,
    /// The dispatcher's: counts against nobody.
    Dispatcher,
}

/// What becomes of an SMS that no dispatcher took. Its alerts wait in any case, up to the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// It failed by its recipient's fault: it backs off, and the limit comes nearer, at which this is the reason.
    Counted(Reason),
    /// It was refused or deferred, and nothing proves yet that its number is the cause: it backs off, and nothing is
    /// counted.
    Unproved,
    /// It waits, and nothing is counted.
    Uncounted,
}

/// Judges a round of answers from different dispatchers; `ways` is how many dispatchers there are. A number counts as
/// refused only if none of them would have it: while another one is down, it waits.
pub fn exhausted(round: &[Blame], ways: usize) -> Exhausted {
    if round.contains(&Blame::Recipient) {
        return Exhausted::Counted(Reason::RetryLimit);
    }
    let refused = round.iter().filter(|b| matches!(b, Blame::Refused { .. })).count();
    let unproved = round.iter().any(|b| matches!(b, Blame::Refused { proved: false } | Blame::Deferred));
    match refused {
        0 if unproved => Exhausted::Unproved,
        0 => Exhausted::Uncounted,
        _ if unproved && !bug(Bug::RefusalIsFinal) => Exhausted::Unproved,
        refused if refused < ways && !bug(Bug::RefusedByOneIsFinal) => Exhausted::Unproved,
        _ => Exhausted::Counted(Reason::Rejected),
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
            own: false,
        }),
        verdicts: sent.chain(squeezed).collect(),
        detail: String::new(),
    }
}

/// The settlement of an attempt that was not accepted; `own`: with it the SMS has failed by its recipient's own fault;
/// `ignored` names the alerts that end with it.
pub fn refused(
    attempt: Uuid,
    state: AttemptState,
    error: &SubmitError,
    own: bool,
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
            own,
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
    use Blame::{Deferred, Dispatcher, Recipient};

    #[test]
    fn a_refusal_counts_only_if_it_is_proved_and_by_all() {
        const NO: Blame = Blame::Refused { proved: false };
        const PROVED: Blame = Blame::Refused { proved: true };
        const REJECTED: Exhausted = Exhausted::Counted(Reason::Rejected);
        const FAILED: Exhausted = Exhausted::Counted(Reason::RetryLimit);
        for (round, ways, want) in [
            (&[NO][..], 1, Exhausted::Unproved),
            (&[PROVED], 1, REJECTED),
            (&[PROVED, NO], 2, Exhausted::Unproved),
            (&[PROVED, PROVED], 2, REJECTED),
            (&[PROVED], 2, Exhausted::Unproved),
            (&[PROVED, Dispatcher], 2, Exhausted::Unproved),
            (&[PROVED, Deferred], 2, Exhausted::Unproved),
            (&[NO, Recipient], 2, FAILED),
            (&[Deferred], 1, Exhausted::Unproved),
            (&[Recipient], 1, FAILED),
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
