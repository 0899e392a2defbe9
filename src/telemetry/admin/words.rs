//! What each event is to the admin, in words that are understood on a phone at three in the morning.

use super::super::{Event, Why, clip};
use super::{Kind, Note, TEXTS};
use crate::alert::{AlertId, Reason};
use crate::failover::Cause;

/// Bytes of a foreign string in a mail.
const WORDS: usize = 300;

/// What an event is about.
pub(super) fn kind(event: &Event) -> Kind {
    match event {
        Event::GaveUp { .. } => Kind::GaveUp,
        Event::AllDown { .. } | Event::WayOut => Kind::Outage,
        Event::QueueLost { .. }
        | Event::QueueBack { .. }
        | Event::Stuck { .. }
        | Event::DiskFull { .. }
        | Event::DiskRoom => Kind::Queue,
        Event::FromThePast { .. } | Event::Suspected { .. } => Kind::Past,
        Event::Waits { why: Why::Refused, first: true, .. } => Kind::Refused,
        Event::Copied { .. } => Kind::Copied,
        Event::Ignored { reason: Reason::RetryLimit, .. } => Kind::RetryLimit,
        Event::Ignored { reason: Reason::Rejected, .. } => Kind::Rejected,
        Event::BadNumber { .. } => Kind::BadNumber,
        Event::Expired { .. } | Event::Ignored { reason: Reason::Expired, .. } => Kind::Expired,
        Event::Held { .. } | Event::Doubtful { held: true, .. } => Kind::Held,
        Event::DispatcherDown { .. } | Event::DispatcherUp { .. } => Kind::Dispatcher,
        Event::ElsewhereLost { .. } | Event::ElsewhereBack { .. } => Kind::Elsewhere,
        Event::ReloadRefused { .. } => Kind::Reload,
        Event::Doubtful { held: false, .. } | Event::Resent { .. } => Kind::Doubt,
        Event::ProgramEnded { .. }
        | Event::Garbled { .. }
        | Event::Refused { .. }
        | Event::Superseded { .. }
        | Event::Barred { .. }
        | Event::HeldBack { .. }
        | Event::Waits { first: true, .. }
        | Event::Vanished { .. }
        | Event::Unheard { .. }
        | Event::LeaseLost
        | Event::NotKept { .. }
        | Event::Stopping { .. }
        | Event::Stopped { .. } => Kind::Warning,
        Event::Accepted { .. }
        | Event::Peers { .. }
        | Event::Tested { .. }
        | Event::Ready
        | Event::Reloaded
        | Event::Ignored { reason: Reason::Squeezed | Reason::Cancelled, .. } => Kind::Info,
        Event::LateAnswer { .. }
        | Event::Overheard { .. }
        | Event::Outrun { .. }
        | Event::Waits { first: false, .. }
        | Event::Wording { .. } => Kind::Debug,
    }
}

/// What it says.
pub(super) fn note(event: &Event) -> Note {
    let (headline, more) = told(event);
    let (alerts, count) = match event {
        Event::Ignored { alerts, .. }
        | Event::Expired { alerts }
        | Event::Waits { why: Why::Refused, alerts, .. }
        | Event::Copied { alerts, .. } => (alerts.iter().take(TEXTS).copied().collect(), alerts.len()),
        Event::BadNumber { alert, .. } => (vec![*alert], 1),
        _ => (Vec::new(), 0),
    };
    Note { kind: kind(event), headline, more, alerts, count }
}

/// A headline, and what else there is to say. Neither holds a text or a secret.
fn told(event: &Event) -> (String, String) {
    let said = |headline: String, more: &str| (headline, more.to_owned());
    match event {
        Event::GaveUp { reason } => (
            format!("smsd stops: {}", cut(reason, 120)),
            "Nothing is sent until it is started again; everything unsent waits.".to_owned(),
        ),
        Event::AllDown { waiting } => (
            match waiting {
                0 => "no dispatcher works, alerts wait".to_owned(),
                1 => "no dispatcher works, 1 alert waits".to_owned(),
                n => format!("no dispatcher works, {n} alerts wait"),
            },
            "Nothing goes out until one works again.".to_owned(),
        ),
        Event::WayOut => said("a dispatcher works again, what waits is sent".to_owned(), ""),
        Event::QueueLost { reason } => (
            format!("the queue does not answer: {}", cut(reason, 120)),
            format!(
                "{}. It is tried again all the time; nothing is sent until it answers.",
                cut(reason, WORDS)
            ),
        ),
        Event::DiskFull { place } => (
            format!("the disk of the queue is full: {}", cut(place, 120)),
            "smsd uses up what it has kept for that, some MiB: some thousand SMS can still go out. Make room now: \
             without any, nothing is sent."
                .to_owned(),
        ),
        Event::DiskRoom => said("the disk of the queue has room again".to_owned(), ""),
        Event::QueueBack { after } => {
            said(format!("the queue answers again, after {} s", after.as_secs()), "")
        }
        Event::FromThePast { forgot, until } => (
            "the queue has come back from the past, nothing is sent".to_owned(),
            format!(
                "{forgot}. What waits since {until:.0} or longer may have been sent and is going to be held."
            ),
        ),
        Event::Suspected { alerts: 0, doubts: 0, .. } => {
            said("nothing in the queue from the past is suspect, sending goes on".to_owned(), "")
        }
        Event::Suspected { alerts: count, doubts, until } => (
            format!(
                "{count} alerts and {doubts} SMS in doubt are held, since they may have been sent before"
            ),
            format!(
                "The queue came back from the past, and these wait since {until:.0} or longer. New alerts go out. Look: \
                 smsd queue list --state held. Decide: smsd queue release, accept or cancel, with --held-by-guard."
            ),
        ),
        Event::Ignored { recipient, alerts: ids, reason, detail } => (
            format!("{} to {recipient} ignored: {reason}", alerts(ids.len())),
            format!("{}. To send again: smsd queue requeue {}", cut(detail, WORDS), list(ids)),
        ),
        Event::BadNumber { alert, number, detail } => (
            format!("an alert was ignored: its number {:?} can not be texted", cut(number, 30)),
            format!("Alert {alert}: {}.", cut(detail, WORDS)),
        ),
        Event::Expired { alerts: ids } => (
            format!("{} ignored: older than autocancel", alerts(ids.len())),
            format!("To send again: smsd queue requeue {}", list(ids)),
        ),
        Event::Held { attempt, recipient } => held(attempt, recipient.as_str(), ""),
        Event::Doubtful { attempt, recipient, held: true, error, .. } => {
            held(attempt, recipient.as_str(), &error.detail)
        }
        Event::Doubtful { attempt, recipient, dispatcher, error, .. } => (
            format!("nobody knows whether an SMS to {recipient} was taken by {dispatcher}"),
            format!("Attempt {attempt}: {}. It is resent after the grace.", cut(&error.detail, WORDS)),
        ),
        Event::Resent { attempt, resend_of, recipient } => (
            format!("an SMS to {recipient} is sent again: a possible duplicate"),
            format!("Attempt {attempt} repeats {resend_of}, which is in doubt."),
        ),
        Event::DispatcherDown { dispatcher, cause, reason } => {
            let (state, next) = match cause {
                Cause::Trouble => ("is down", "It is probed, first after 1 s."),
                Cause::Refusals => (
                    "is suspect, it refused different numbers in a row",
                    "It served none between them. It is probed, first after 1 s; what it refused waits.",
                ),
                Cause::Misconfigured => {
                    ("needs a person", "It is probed after 30 s, 1, 2, 5 and then every 10 minutes.")
                }
            };
            (
                format!("dispatcher {dispatcher} {state}: {}", cut(reason, 120)),
                format!("{}. {next}", cut(reason, WORDS)),
            )
        }
        Event::DispatcherUp { dispatcher } => said(format!("dispatcher {dispatcher} works again"), ""),
        Event::ElsewhereLost { reason } => (
            "the queue elsewhere does not answer".to_owned(),
            format!("{}. What was taken over from there goes out all the same.", cut(reason, WORDS)),
        ),
        Event::ElsewhereBack { after } => {
            said(format!("the queue elsewhere answers again, after {} s", after.as_secs()), "")
        }
        Event::ReloadRefused { .. } => said(
            "the new configuration is faulty, the old one stays".to_owned(),
            "smsd check says what is wrong with it.",
        ),
        Event::ProgramEnded { dispatcher, reason, pause } => (
            format!("the program of dispatcher {dispatcher} has ended"),
            format!("{}. It is started again after {} s.", cut(&reason.detail, WORDS), pause.as_secs()),
        ),
        Event::Garbled { dispatcher, what } => {
            said(format!("the program of dispatcher {dispatcher} says {what}, which is left alone"), "")
        }
        Event::Refused { attempt, recipient, dispatcher, error, .. } => (
            format!("an SMS to {recipient} was not taken by {dispatcher}: {}", error.class),
            format!("Attempt {attempt}: {}.", cut(&error.detail, WORDS)),
        ),
        Event::Superseded { attempt, recipient } => {
            said(format!("another instance has taken attempt {attempt} to {recipient} over"), "")
        }
        Event::Barred { alert, recipient } => {
            said(format!("allow and deny forbid {recipient}, alert {alert} waits"), "")
        }
        Event::HeldBack { recipient } => {
            said(format!("max_per_hour is reached for {recipient}, its alerts wait"), "")
        }
        Event::Waits { recipient, alerts: ids, why, detail, again_in, .. } => (
            format!("{} to {recipient} not sent yet: {}", alerts(ids.len()), why.words()),
            format!(
                "{}. Nothing is given up: the next try is due in {} s. If it no longer matters: smsd queue cancel {}",
                cut(detail, WORDS),
                again_in.as_secs(),
                list(ids)
            ),
        ),
        Event::Copied { recipient, dispatcher, alerts: ids } => (
            format!("{recipient} may have got the same SMS twice, by {dispatcher}"),
            format!(
                "{dispatcher} says that it failed and may have sent all the same, twice now. At most 5 copies go out within \
                 ten minutes and 10 within an hour. If it came: smsd queue cancel {}",
                list(ids)
            ),
        ),
        Event::Vanished { alerts: ids } => (
            format!("{} were removed or changed by others while sent", alerts(ids.len())),
            format!("These: {}.", list(ids)),
        ),
        Event::Unheard { alert, elsewhere } => said(
            format!("{} was told how alert {alert} ended and says that it waits", cut(elsewhere, 60)),
            "It is not sent again for an hour.",
        ),
        Event::LeaseLost => said("the lease ran out, smsd joins anew".to_owned(), ""),
        Event::Stuck { attempt, alerts: ids, begun, reason } => (
            match begun {
                true => format!("the outcome of an SMS with {} can not be written", alerts(ids.len())),
                false => format!("an SMS with {} can not be begun and waits", alerts(ids.len())),
            },
            format!(
                "{}. All else goes on. See who holds or forbids these rows: {}.{}",
                cut(reason, WORDS),
                list(ids),
                attempt.map(|id| format!(" Attempt {id}.")).unwrap_or_default()
            ),
        ),
        Event::NotKept { reason } => (
            "the storm guard's record can not be kept".to_owned(),
            format!("{}. A queue that comes back from the past may not be noticed.", cut(reason, WORDS)),
        ),
        Event::Stopping { in_flight } => said(format!("smsd stops, {in_flight} SMS are on their way"), ""),
        Event::Stopped { in_flight: 0 } => said("smsd has stopped".to_owned(), ""),
        Event::Stopped { in_flight } => said(format!("smsd has stopped, {in_flight} SMS are in doubt"), ""),
        Event::Accepted { attempt, recipient, dispatcher, alerts: carried, .. } => (
            format!("an SMS to {recipient} was taken by {dispatcher}"),
            format!("Attempt {attempt} carries {}.", alerts(*carried)),
        ),
        Event::Peers { instances } => said(format!("{instances} instances work on the queue"), ""),
        Event::Tested { recipient, dispatcher, class, by, .. } => {
            said(format!("{} tested {dispatcher} with an SMS to {recipient}: {class}", cut(by, 60)), "")
        }
        Event::Ready => said("the queue answers, smsd is ready".to_owned(), ""),
        Event::Reloaded => said("the configuration was read again".to_owned(), ""),
        Event::LateAnswer { dispatcher, .. } => {
            said(format!("the program of dispatcher {dispatcher} has answered too late"), "")
        }
        // What a program says may be a text.
        Event::Overheard { dispatcher, .. } => {
            said(format!("the program of dispatcher {dispatcher} says something: see the log"), "")
        }
        Event::Outrun { attempts } => said(format!("{attempts} SMS were not begun: another was first"), ""),
        Event::Wording { attempt, recipient, .. } => said(format!("attempt {attempt} to {recipient}"), ""),
    }
}

fn held(attempt: &uuid::Uuid, recipient: &str, why: &str) -> (String, String) {
    let why = if why.is_empty() { String::new() } else { format!(": {}", cut(why, WORDS)) };
    (
        format!("an SMS to {recipient} is held: a person must say whether it came"),
        format!(
            "Attempt {attempt}{why}. Look: smsd queue list --state held. Decide: smsd queue accept, release or cancel."
        ),
    )
}

fn alerts(n: usize) -> String {
    if n == 1 { "1 alert".to_owned() } else { format!("{n} alerts") }
}

fn list(ids: &[AlertId]) -> String {
    let more = if ids.len() > TEXTS { " …" } else { "" };
    ids.iter().take(TEXTS).map(|id| id.to_string()).collect::<Vec<_>>().join(" ") + more
}

fn cut(words: &str, most: usize) -> String {
    let mut words = words.trim_end_matches('.').to_owned();
    clip(&mut words, most);
    words
}
