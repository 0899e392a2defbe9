//! `smsd why ID`: all that happened to one alert, for a tired person at 3 am.

use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::ask::Daemon;
use super::output::{between, json, moment, paint, print, shown, time};
use super::queue::list;
use super::{FAILED, Globals, Session, block_on, eprintln_quietly, exit};
use crate::alert::{AlertId, Reason};
use crate::queue::{AlertRow, AlertState, AttemptRow, AttemptState, FROM_THE_PAST, Note, Story};
use crate::telemetry::Wait;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Id of the alert
    id: i64,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let session = Session::load(globals)?;
        let id = AlertId(self.id);
        let Some(story) = block_on(async { Ok(session.queue().await?.show(id).await?) })? else {
            let next = "deleted, or never queued here; see `smsd queue list`";
            eprintln_quietly(format_args!("smsd: there is no alert {id}: {next}"));
            return Ok(exit(FAILED));
        };
        // A daemon that does not answer is no reason to show less than the ledger knows.
        let waits = match story.alert.state {
            AlertState::Waiting => {
                block_on(async { Ok(Daemon::of(&session).wait_of(id).await) })?.ok().flatten()
            }
            _ => None,
        };
        if self.json {
            json(&Told { story, waits })?
        } else {
            print(&tell(&story, waits.as_ref()))?
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What `--json` shows.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    story: Story,
    /// Why it waits, as the daemon says.
    waits: Option<Wait>,
}

/// The story: how it stands and why, then what happened, oldest first.
fn tell(story: &Story, wait: Option<&Wait>) -> String {
    let alert = &story.alert;
    let severity = alert.severity.0.map_or_else(|| "no severity".to_owned(), |s| format!("severity {s}"));
    let state = alert.state.to_string().replace('_', " ").to_uppercase();
    let mut lines = vec![
        format!(
            "Alert {} to {}, {severity}: {}",
            alert.id,
            shown(&alert.to, 32),
            paint(&state, alert.state.into())
        ),
        format!("  {}", conclusion(story, wait)),
        String::new(),
        format!("  text    {}", shown(&alert.text, 1000)),
    ];
    if let Some(queued) = alert.queued_at {
        lines.push(format!("  queued  {}", time(queued)));
    }
    let mut events: Vec<(Timestamp, String)> = story
        .attempts
        .iter()
        .map(|a| (a.begun_at, attempt(a, alert.id)))
        .chain(story.notes.iter().map(|n| (n.at, note(n))))
        .collect();
    events.sort_by_key(|(at, _)| *at);
    if !events.is_empty() {
        lines.push(String::new());
        lines.extend(events.into_iter().map(|(at, event)| format!("  {}  {event}", moment(at))));
    }
    lines.join("\n") + "\n"
}

/// How it stands, why, and what to do about it.
fn conclusion(story: &Story, wait: Option<&Wait>) -> String {
    let alert = &story.alert;
    let last = |state| story.attempts.iter().rev().find(|a| a.state == state);
    match alert.state {
        AlertState::Sent => match last(AttemptState::Accepted) {
            Some(a) => accepted(story, a).unwrap_or_else(|| sent(alert, a)),
            None => "It was sent before there was a ledger, so no more is known.".to_owned(),
        },
        AlertState::Ignored => ignored(story),
        AlertState::Held
            if last(AttemptState::Held).is_some_and(|a| a.class.as_deref() == Some(FROM_THE_PAST)) =>
        {
            let id = alert.id;
            format!(
                "The storm guard holds it: the queue came back from the past, and this may have been sent before. \
                 A person has to decide. It came: `smsd queue accept {id}`; send it anyway: `smsd queue release {id}`; \
                 it no longer matters: `smsd queue cancel {id}`. For all that is held so: `--held-by-guard`."
            )
        }
        AlertState::Held => {
            let by = last(AttemptState::Held).map_or("a dispatcher", |a| &*a.dispatcher);
            let id = alert.id;
            format!(
                "Nobody knows whether {} took it, and a person has to decide. Ask the recipient. It came: \
                 `smsd queue accept {id}`; it did not: `smsd queue release {id}`; it no longer matters: \
                 `smsd queue cancel {id}`.",
                shown(by, 64)
            )
        }
        AlertState::InDoubt => {
            let by = last(AttemptState::InDoubt).map_or("a dispatcher", |a| &*a.dispatcher);
            format!(
                "Nobody knows whether {} took it. What happens next is `on_unknown` in [main]: by default it \
                 is sent again, once, after a grace. Who knows better says `smsd queue accept {id}` (it came) or \
                 `smsd queue release {id}` (it did not).",
                shown(by, 64),
                id = alert.id
            )
        }
        AlertState::Waiting => waiting(story, wait),
    }
}

/// A person said so, not a gateway.
fn accepted(story: &Story, a: &AttemptRow) -> Option<String> {
    let said = story.notes.last().filter(|n| n.what == "accepted")?;
    let (by, at, dispatcher) = (shown(&said.by, 64), time(said.at), shown(&a.dispatcher, 64));
    Some(format!("{by} said at {at} that it came. Whether {dispatcher} took it was not known."))
}

fn sent(alert: &AlertRow, a: &AttemptRow) -> String {
    let at = a.ended_at.or(alert.ended_at);
    let when = at.map_or_else(String::new, |at| format!(" at {}", time(at)));
    let after = match (alert.queued_at, at) {
        (Some(queued), Some(at)) => format!(", {} after it was queued", between(queued, at)),
        _ => String::new(),
    };
    let delivery = match a.delivery.as_deref() {
        Some("delivered") => " The network says that it was delivered.".to_owned(),
        Some(word) => format!(" The network says: {}.", shown(word, 64)),
        None => String::new(),
    };
    let twice = if a.possible_duplicate { " It may have reached the phone before, too." } else { "" };
    format!("{} took it{when}{after}.{delivery}{twice}", shown(&a.dispatcher, 64))
}

fn ignored(story: &Story) -> String {
    let alert = &story.alert;
    let note = story.notes.iter().rev().find(|n| n.what == "ignored");
    let by = note.map_or_else(|| "someone".to_owned(), |n| shown(&n.by, 64));
    let detail = note.map(|n| shown(&n.detail, 512)).filter(|d| !d.is_empty());
    let said = detail.map_or_else(String::new, |d| format!(" ({d})"));
    let again = format!("To send it after all: `smsd queue requeue {}`.", alert.id);
    match alert.reason {
        Some(Reason::Squeezed) => {
            let carrier = story.attempts.iter().rev().find(|a| a.counted.contains(&alert.id));
            let others = carrier.map_or_else(String::new, |a| {
                format!(
                    " It went to the same phone at the same time as {}, which filled it.",
                    list(&a.carried)
                )
            });
            format!("There was no room in the SMS, which counts it in `+N see web.`{others}")
        }
        Some(Reason::Cancelled) => format!("Cancelled by {by}{said}. {again}"),
        Some(Reason::Expired) => {
            format!("It grew older than `autocancel` before it could be sent{said}. {again}")
        }
        Some(Reason::Rejected) => {
            format!(
                "Every dispatcher refused the number or the text `retrylimit` times, and served others{said}. Mend the number \
                 where it comes from. {again}"
            )
        }
        Some(Reason::RetryLimit) => {
            format!(
                "This recipient's SMS failed `retrylimit` times{said}. Mend what the attempts say. {again}"
            )
        }
        None => "The ledger does not know why: another program ignored it, or NAV's own smsd.".to_owned(),
    }
}

fn waiting(story: &Story, wait: Option<&Wait>) -> String {
    let open = story.attempts.iter().find(|a| a.state == AttemptState::Open);
    if let (None, Some(wait)) = (open, wait) {
        return format!(
            "It waits: {}. The next try is due at {}, sooner if another dispatcher comes back.",
            shown(&wait.words(), 400),
            time(wait.next_try_at)
        );
    }
    match (open, story.attempts.last()) {
        (Some(a), _) => {
            format!("It is being handed to {} since {}.", shown(&a.dispatcher, 64), time(a.begun_at))
        }
        (None, Some(a)) => format!(
            "It waits for its next attempt; the last one, by {}, ended so: {}.",
            shown(&a.dispatcher, 64),
            outcome(a)
        ),
        (None, None) => "No attempt has been made yet. Is the daemon running? See `smsd status`.".to_owned(),
    }
}

/// One attempt: how it went, and what it carried.
fn attempt(a: &AttemptRow, alert: AlertId) -> String {
    let took = a.ended_at.map_or_else(String::new, |end| format!(" after {}", between(a.begun_at, end)));
    let mut text = format!("attempt {} by {}: {}{took}", a.number, shown(&a.dispatcher, 64), outcome(a));
    let mut line = |words: String| {
        text += "\n                           ";
        text += &words;
    };
    if !a.references.is_empty() {
        line(format!("reference {}", shown(&a.references.join(", "), 256)));
    }
    if let Some(delivery) = &a.delivery {
        line(format!("the network says: {}", shown(delivery, 64)));
    }
    line(format!("SMS to {}: {}", shown(&a.recipient, 32), shown(&a.text, 2000)));
    let others: Vec<AlertId> = a.carried.iter().copied().filter(|id| *id != alert).collect();
    match (a.carried.contains(&alert), others.is_empty()) {
        (true, true) => {}
        (true, false) => line(format!("shared with {}", list(&others))),
        (false, _) => line(format!("carries {} and only counts this one", list(&a.carried))),
    }
    let counted: Vec<AlertId> = a.counted.iter().copied().filter(|id| *id != alert).collect();
    if !counted.is_empty() {
        line(format!("counts without carrying: {}", list(&counted)));
    }
    if a.possible_duplicate {
        let of = a.resend_of.map_or_else(String::new, |id| format!(" (repeats attempt {id})"));
        line(format!("possible duplicate{of}: an earlier attempt may have been taken"));
    }
    text
}

/// How an attempt ended, with the class, code and words of the gateway.
fn outcome(a: &AttemptRow) -> String {
    let word = match a.state {
        AttemptState::Open => "being made now",
        AttemptState::InDoubt => "in doubt: nobody knows whether it was taken",
        AttemptState::Held => "held: nobody knows whether it was taken",
        AttemptState::Accepted => "accepted",
        AttemptState::Failed if a.class.as_deref() == Some("failed") => "failed, and may have been taken",
        AttemptState::Failed => "not taken",
        AttemptState::Rejected => "`retrylimit` times, and served others",
        AttemptState::Resent => "was in doubt, and has been repeated",
        AttemptState::Cancelled => "was in doubt, and was cancelled",
    };
    let mut text = paint(word, a.state.into());
    let class = a.class.as_deref().filter(|c| !matches!(*c, "accepted" | "failed" | "rejected"));
    let why: Vec<String> = [class, a.code.as_deref()].into_iter().flatten().map(|w| shown(w, 64)).collect();
    if !why.is_empty() {
        text += &format!(" ({})", why.join(", "));
    }
    if let Some(detail) = a.detail.as_deref().filter(|d| !d.is_empty()) {
        text += &format!(": {}", shown(detail, 512));
    }
    text
}

fn note(n: &Note) -> String {
    let reason = n.reason.map_or_else(String::new, |r| format!(": {r}"));
    let detail = if n.detail.is_empty() { String::new() } else { format!(" ({})", shown(&n.detail, 512)) };
    format!("{} by {}{reason}{detail}", shown(&n.what, 64), shown(&n.by, 64))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::alert::Severity;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn alert(state: AlertState, reason: Option<Reason>) -> AlertRow {
        AlertRow {
            id: AlertId(12),
            to: "+4799999999".into(),
            text: "router \x1b[2J down".into(),
            severity: Severity(Some(2)),
            state,
            reason,
            queued_at: Some(at(0)),
            ended_at: None,
        }
    }

    fn attempt_row(number: u32, state: AttemptState, class: &str) -> AttemptRow {
        AttemptRow {
            id: Uuid::nil(),
            number,
            recipient: "+4799999999".into(),
            text: "1: router; 2: switch".into(),
            dispatcher: format!("gw{number}"),
            state,
            begun_at: at(i64::from(number)),
            ended_at: Some(at(i64::from(number) + 1)),
            class: Some(class.into()),
            code: None,
            detail: None,
            references: vec![],
            possible_duplicate: false,
            resend_of: None,
            delivery: None,
            instance: "here 1".into(),
            carried: vec![AlertId(12), AlertId(13)],
            counted: vec![AlertId(14)],
        }
    }

    #[test]
    fn a_failover_is_told_from_beginning_to_end() {
        let mut refused = attempt_row(1, AttemptState::Failed, "unavailable");
        refused.code = Some("503".into());
        refused.detail = Some("Service\nUnavailable".into());
        let mut taken = attempt_row(2, AttemptState::Accepted, "accepted");
        taken.references = vec!["4711".into()];
        taken.delivery = Some("delivered".into());
        let story =
            Story { alert: alert(AlertState::Sent, None), attempts: vec![taken, refused], notes: vec![] };
        let told = tell(&story, None);
        let order = [
            "Alert 12 to +4799999999, severity 2: SENT",
            "gw2 took it at",
            "3.0 s after it was queued",
            "delivered",
            r"router \u{1b}[2J down",
            r"attempt 1 by gw1: not taken (unavailable, 503): Service\nUnavailable after 1.0 s",
            "attempt 2 by gw2: accepted after 1.0 s",
            "reference 4711",
            "shared with 13",
            "counts without carrying: 14",
        ];
        let mut rest = &*told;
        for part in order {
            let (_, after) = rest
                .split_once(part)
                .unwrap_or_else(|| panic!("{part:?} is missing or out of order in\n{told}"));
            rest = after;
        }
        assert!(!told.contains('\x1b'));
    }

    #[test]
    fn every_end_says_why_and_what_to_do() {
        let told = |state, reason, attempts: Vec<AttemptRow>, notes: Vec<Note>| {
            tell(&Story { alert: alert(state, reason), attempts, notes }, None)
        };
        let ignored = |reason| told(AlertState::Ignored, Some(reason), vec![], vec![]);
        let mut squeezer = attempt_row(1, AttemptState::Accepted, "accepted");
        (squeezer.carried, squeezer.counted) = (vec![AlertId(13)], vec![AlertId(12)]);
        for (told, part) in [
            (told(AlertState::Waiting, None, vec![], vec![]), "smsd status"),
            (
                told(
                    AlertState::Waiting,
                    None,
                    vec![attempt_row(1, AttemptState::Failed, "deferred")],
                    vec![],
                ),
                "the last one, by gw1, ended so: not taken (deferred)",
            ),
            (
                told(AlertState::Waiting, None, vec![attempt_row(1, AttemptState::Open, "")], vec![]),
                "It is being handed to gw1",
            ),
            (
                told(
                    AlertState::InDoubt,
                    None,
                    vec![attempt_row(1, AttemptState::InDoubt, "unknown")],
                    vec![],
                ),
                "on_unknown",
            ),
            (
                told(AlertState::Held, None, vec![attempt_row(1, AttemptState::Held, "unknown")], vec![]),
                "It came: `smsd queue accept 12`; it did not: `smsd queue release 12`;",
            ),
            (
                told(AlertState::Held, None, vec![attempt_row(1, AttemptState::Held, FROM_THE_PAST)], vec![]),
                "send it anyway: `smsd queue release 12`",
            ),
            (told(AlertState::Sent, None, vec![], vec![]), "before there was a ledger"),
            (
                told(
                    AlertState::Sent,
                    None,
                    vec![attempt_row(1, AttemptState::Accepted, "accepted")],
                    vec![Note {
                        at: at(2),
                        what: "accepted".into(),
                        reason: None,
                        detail: String::new(),
                        by: "kari".into(),
                    }],
                ),
                "that it came. Whether gw1 took it was not known.",
            ),
            (
                told(AlertState::Ignored, Some(Reason::Squeezed), vec![squeezer], vec![]),
                "at the same time as 13, which filled it",
            ),
            (ignored(Reason::Expired), "autocancel"),
            (ignored(Reason::Rejected), "`retrylimit` times, and served others"),
            (ignored(Reason::RetryLimit), "retrylimit"),
            (told(AlertState::Ignored, None, vec![], vec![]), "does not know why"),
            (
                told(
                    AlertState::Ignored,
                    Some(Reason::Cancelled),
                    vec![],
                    vec![Note {
                        at: at(1),
                        what: "ignored".into(),
                        reason: Some(Reason::Cancelled),
                        detail: String::new(),
                        by: "kari".into(),
                    }],
                ),
                "Cancelled by kari. To send it after all: `smsd queue requeue 12`.",
            ),
        ] {
            assert!(told.contains(part), "{part:?} is missing in\n{told}");
        }
    }
}
