//! Every event there is, with the same words wherever it has words from outside.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Event, Why};
use crate::alert::{AlertId, Phone, Reason};
use crate::dispatch::{Class, SubmitError};
use crate::failover::Cause;
use crate::queue::Forgot;

/// A number that only these events name.
pub(crate) const PHONE: &str = "+4799999999";

pub(crate) fn all(words: &str) -> Vec<Event> {
    let dispatcher: Arc<str> = "gw".into();
    let recipient = Phone::parse(PHONE).unwrap();
    let error = SubmitError { class: Class::Unavailable, code: Some(words.into()), detail: words.into() };
    let (attempt, took, until) = (Uuid::nil(), Duration::from_millis(5), Timestamp::UNIX_EPOCH);
    let (alert, alerts, reason) = (AlertId(7), vec![AlertId(7); 3], || words.to_owned());
    let mut all = vec![
        Event::ProgramEnded { dispatcher: dispatcher.clone(), reason: error.clone(), pause: took },
        Event::Garbled { dispatcher: dispatcher.clone(), what: "nonsense" },
        Event::LateAnswer { dispatcher: dispatcher.clone(), attempt: reason() },
        Event::Overheard { dispatcher: dispatcher.clone(), words: reason() },
        Event::Accepted {
            attempt,
            recipient: recipient.clone(),
            dispatcher: dispatcher.clone(),
            alerts: 2,
            squeezed: 0,
            segments: 3,
            number: 1,
            possible_duplicate: false,
            references: vec![reason(); 5],
            queued_at: vec![Timestamp::now() - Duration::from_secs(3), Timestamp::now()],
            took,
        },
        Event::Refused {
            attempt,
            recipient: recipient.clone(),
            dispatcher: dispatcher.clone(),
            number: 1,
            error: error.clone(),
            took,
        },
        Event::Resent { attempt, resend_of: attempt, recipient: recipient.clone() },
        Event::Held { attempt, recipient: recipient.clone() },
        Event::Superseded { attempt, recipient: recipient.clone() },
        Event::Peers { instances: 1 },
        Event::Peers { instances: 2 },
        Event::Outrun { attempts: 1 },
        Event::BadNumber { alert, number: reason(), detail: reason() },
        Event::Barred { alert, recipient: recipient.clone() },
        Event::HeldBack { recipient: recipient.clone() },
        Event::Ready,
        Event::Expired { alerts: alerts.clone() },
        Event::Vanished { alerts: alerts.clone() },
        Event::Copied {
            recipient: recipient.clone(),
            dispatcher: dispatcher.clone(),
            alerts: alerts.clone(),
        },
        Event::DispatcherUp { dispatcher: dispatcher.clone() },
        Event::AllDown { waiting: 1 },
        Event::WayOut,
        Event::QueueLost { reason: reason() },
        Event::QueueBack { after: took },
        Event::DiskFull { place: reason() },
        Event::DiskRoom,
        Event::ElsewhereLost { reason: reason() },
        Event::ElsewhereBack { after: took },
        Event::Unheard { alert, elsewhere: reason() },
        Event::LeaseLost,
        Event::FromThePast { forgot: Forgot::Begun, until },
        Event::Suspected { alerts: 0, doubts: 0, until },
        Event::Suspected { alerts: 5, doubts: 1, until },
        Event::NotKept { reason: reason() },
        Event::Stuck { attempt: Some(attempt), alerts: alerts.clone(), begun: true, reason: reason() },
        Event::Stuck { attempt: None, alerts: alerts.clone(), begun: false, reason: reason() },
        Event::Tested {
            attempt,
            recipient: recipient.clone(),
            dispatcher: dispatcher.clone(),
            class: "accepted",
            by: reason(),
        },
        Event::Reloaded,
        Event::ReloadRefused { faults: reason() },
        Event::Wording { attempt, recipient: recipient.clone(), text: words.into() },
        Event::GaveUp { reason: reason() },
        Event::Stopping { in_flight: 1 },
        Event::Stopped { in_flight: 0 },
        Event::Stopped { in_flight: 2 },
    ];
    for held in [false, true] {
        let (recipient, dispatcher, error) = (recipient.clone(), dispatcher.clone(), error.clone());
        all.push(Event::Doubtful { attempt, recipient, dispatcher, held, error, took });
    }
    for cause in [Cause::Trouble, Cause::Refusals, Cause::Misconfigured] {
        let dispatcher = dispatcher.clone();
        all.push(Event::DispatcherDown { dispatcher, cause, reason: reason() });
    }
    for (why, first) in [(Why::Refused, true), (Why::Failing, true), (Why::MayHaveGone, false)] {
        let (recipient, alerts, detail) = (recipient.clone(), alerts.clone(), reason());
        all.push(Event::Waits { recipient, alerts, why, detail, again_in: took, first });
    }
    for why in Reason::ALL {
        let (recipient, alerts) = (recipient.clone(), alerts.clone());
        all.push(Event::Ignored { recipient, alerts, reason: why, detail: reason() });
    }
    assert!((0..KINDS).all(|n| all.iter().any(|event| place(event) == n)), "an event is missing");
    all
}

const KINDS: usize = 43;

/// Each kind of event in its place: one that is new does not get past this.
fn place(event: &Event) -> usize {
    match event {
        Event::ProgramEnded { .. } => 0,
        Event::Garbled { .. } => 1,
        Event::LateAnswer { .. } => 2,
        Event::Overheard { .. } => 3,
        Event::Accepted { .. } => 4,
        Event::Refused { .. } => 5,
        Event::Doubtful { .. } => 6,
        Event::Resent { .. } => 7,
        Event::Held { .. } => 8,
        Event::Superseded { .. } => 9,
        Event::Peers { .. } => 10,
        Event::Outrun { .. } => 11,
        Event::Ignored { .. } => 12,
        Event::BadNumber { .. } => 13,
        Event::Barred { .. } => 14,
        Event::Expired { .. } => 15,
        Event::Vanished { .. } => 16,
        Event::DispatcherDown { .. } => 17,
        Event::DispatcherUp { .. } => 18,
        Event::AllDown { .. } => 19,
        Event::WayOut => 20,
        Event::QueueLost { .. } => 21,
        Event::QueueBack { .. } => 22,
        Event::ElsewhereLost { .. } => 23,
        Event::ElsewhereBack { .. } => 24,
        Event::Unheard { .. } => 25,
        Event::LeaseLost => 26,
        Event::FromThePast { .. } => 27,
        Event::Suspected { .. } => 28,
        Event::NotKept { .. } => 29,
        Event::Tested { .. } => 30,
        Event::Reloaded => 31,
        Event::ReloadRefused { .. } => 32,
        Event::Wording { .. } => 33,
        Event::GaveUp { .. } => 34,
        Event::Stopping { .. } | Event::Stopped { .. } => 35,
        Event::HeldBack { .. } => 36,
        Event::Waits { .. } => 38,
        Event::Copied { .. } => 39,
        Event::Ready => 37,
        Event::Stuck { .. } => 40,
        Event::DiskFull { .. } => 41,
        Event::DiskRoom => 42,
    }
}
