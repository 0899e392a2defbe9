//! `GET /alerts/ID`: all that happened to one alert, as a line of time.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};

use super::act::{Act, Did};
use super::layout::{Here, Page, Viewer, trouble};
use super::overview::decisions;
use super::words::{self, Tone, alert_state, foreign, foreign_lines, moment, severity, span, state};
use crate::alert::{AlertId, Reason};
use crate::queue::{AlertState, AttemptRow, AttemptState, FROM_THE_PAST, Note, Story};
use crate::telemetry::Wait;
use crate::web::Site;

/// Alerts named of those that shared an SMS.
const SHARED: usize = 12;

pub(super) async fn show(
    State(site): State<Site>,
    Path(id): Path<i64>,
    Query(did): Query<Did>,
    parts: Parts,
) -> Response {
    let viewer = Viewer::of(&site, &parts);
    let story = match site.queue.show(AlertId(id)).await {
        Ok(Some(story)) => story,
        Ok(None) => {
            let words = format!("There is no alert {id}: it was deleted, or never queued here.");
            return trouble(&viewer, StatusCode::NOT_FOUND, &words);
        }
        Err(error) => {
            let words = format!("The queue does not answer: {error}");
            return trouble(&viewer, StatusCode::SERVICE_UNAVAILABLE, &words);
        }
    };
    let page = Page {
        title: &format!("Alert {id}"),
        here: Here::Alerts,
        live: true,
        wall: false,
        viewer: Some(&viewer),
        flash: did.flash(),
        above: html! {},
        body: render(&story, site.wait_of(&story).as_ref(), viewer.operate, Timestamp::now()),
    };
    page.answer(StatusCode::OK)
}

/// The page beneath the navigation.
pub(super) fn render(story: &Story, wait: Option<&Wait>, operate: bool, now: Timestamp) -> Markup {
    let alert = &story.alert;
    let (tone, word) = alert_state(alert.state, alert.reason);
    let mut events: Vec<(Timestamp, Markup)> = Vec::new();
    if let Some(at) = alert.queued_at {
        events.push((at, html! { (Tone::Idle.icon()) h3 { "Queued" } p.soft.small { (moment(at, now)) } }));
    }
    events.extend(story.attempts.iter().map(|a| (a.begun_at, attempt(a, alert.id, now))));
    events.extend(story.notes.iter().map(|n| (n.at, note(n, now))));
    events.sort_by_key(|(at, _)| *at);
    html! {
        div.head { h1 { "Alert " (alert.id) } (state(tone, word)) }
        div.board {
            section.card aria-labelledby="h-alert" {
                header { h2 #h-alert { "The alert" } }
                p.said {
                    @match wait.filter(|_| alert.state == AlertState::Waiting) {
                        Some(wait) => (why_it_waits(wait, story.attempts.len(), now)),
                        None => (conclusion(story)),
                    }
                }
                dl.facts {
                    dt { "To" } dd { (foreign(&alert.to, 64)) }
                    dt { "Text" } dd { (foreign_lines(&alert.text, 2000)) }
                    dt { "Severity" } dd { (severity(alert.severity)) }
                    @if let Some(at) = alert.queued_at { dt { "Queued" } dd { (moment(at, now)) } }
                    @if let Some(at) = alert.ended_at { dt { "Ended" } dd { (moment(at, now)) } }
                }
                @if operate { (acts(story)) }
            }
            section.card aria-labelledby="h-story" {
                header { h2 #h-story { "What happened" } }
                ol.story { @for (_, event) in &events { li { (event) } } }
            }
        }
    }
}

fn acts(story: &Story) -> Markup {
    let id = story.alert.id;
    let one = |act: Act, words: &str| html! { div.acts { a.btn id=(act.as_str()) href=(act.path(id)) { (words) } } };
    match story.alert.state {
        AlertState::InDoubt | AlertState::Held => decisions(id, None),
        AlertState::Waiting => one(Act::Cancel, "Cancel"),
        AlertState::Sent | AlertState::Ignored => one(Act::Requeue, "Queue again"),
    }
}

/// What the engine says of an alert that waits.
fn why_it_waits(wait: &Wait, tries: usize, now: Timestamp) -> Markup {
    html! {
        "It waits: " (foreign(&wait.words(), 400)) ". The next try is due " (moment(wait.next_try_at, now)) "; "
        (words::count(tries as u64, "attempt")) " so far."
    }
}

/// How it stands, and why.
fn conclusion(story: &Story) -> Markup {
    let last = |state| story.attempts.iter().rev().find(|a| a.state == state);
    let ignored = story.notes.iter().rev().find(|n| n.what == "ignored");
    let tries = story.attempts.len();
    html! {
        @match story.alert.state {
            AlertState::Sent => @match last(AttemptState::Accepted) {
                Some(a) => { (foreign(&a.dispatcher, 64)) " took it." @if a.possible_duplicate { " It may have reached the phone more than once." } }
                None => { "It was sent before there was a ledger, so no more is known." }
            },
            AlertState::Waiting if tries == 0 => { "It waits to be sent." }
            AlertState::Waiting => { "It waits to be tried again; " (words::count(tries as u64, "attempt")) " so far." }
            AlertState::InDoubt => { "Nobody knows whether it came. It is sent again by itself, once, unless somebody decides before." }
            AlertState::Held if last(AttemptState::Held).is_some_and(|a| a.class.as_deref() == Some(FROM_THE_PAST)) => {
                "The queue came back from the past, and this may have been sent before. A person has to decide."
            }
            AlertState::Held => { "Nobody knows whether it came. A person has to decide: ask whom it was for." }
            AlertState::Ignored => @match story.alert.reason {
                Some(Reason::Squeezed) => { "There was no room for it in the SMS, which only counts it (+N see web)." }
                Some(Reason::Cancelled) => { "Cancelled" @if let Some(n) = ignored { " by " (foreign(&n.by, 64)) } "." }
                Some(Reason::Expired) => { "It grew older than autocancel allows." }
                Some(Reason::Rejected) => { "Every way out refused it as often as retrylimit allows, while it served others." }
                Some(Reason::RetryLimit) => { "It failed as often as retrylimit allows." }
                None => { "It was ignored; the ledger does not know why." }
            },
        }
    }
}

fn attempt(a: &AttemptRow, alert: AlertId, now: Timestamp) -> Markup {
    let (tone, word) = words::outcome(a);
    let guard = a.class.as_deref() == Some(FROM_THE_PAST);
    let took = a.ended_at.map(|end| span(end.as_millisecond() - a.begun_at.as_millisecond()));
    html! {
        (tone.icon())
        h3 {
            @if guard { "Held by the storm guard" } @else { "Attempt " (a.number) " by " (foreign(&a.dispatcher, 64)) }
            ": " span class=(tone.as_str()) { (word) }
            @if a.possible_duplicate { " " span.tag { "may be double" } }
        }
        p.soft.small {
            (moment(a.begun_at, now)) @if let Some(took) = took { ", took " (took) }
        }
        @if let Some(detail) = a.detail.as_deref().filter(|d| !d.is_empty()) { p { (foreign(detail, 600)) } }
        blockquote { (foreign_lines(&a.text, 1000)) }
        dl.facts.small {
            @if let Some(class) = &a.class { dt { "Class" } dd { (foreign(class, 64)) } }
            @if let Some(code) = &a.code { dt { "Code" } dd { (foreign(code, 64)) } }
            @if !a.references.is_empty() {
                dt { "Reference" }
                dd { @for r in a.references.iter().take(SHARED) { (foreign(r, 64)) " " } }
            }
            @if let Some(delivery) = &a.delivery { dt { "Network says" } dd { (foreign(delivery, 64)) } }
            @if a.resend_of.is_some() { dt { "Repeats" } dd { "an attempt that was in doubt" } }
            (shared("Carries", &a.carried, alert))
            (shared("Counts only", &a.counted, alert))
            dt { "Instance" } dd { (foreign(&a.instance, 64)) }
        }
    }
}

/// Who shared the SMS.
fn shared(word: &str, ids: &[AlertId], alert: AlertId) -> Markup {
    let more = ids.len().saturating_sub(SHARED);
    html! {
        @if ids.iter().any(|id| *id != alert) {
            dt { (word) }
            dd {
                @for id in ids.iter().take(SHARED) {
                    @if *id == alert { "this alert " } @else { a href={ "/alerts/" (id) } { (id) } " " }
                }
                @if more > 0 { "and " (more) " more" }
            }
        }
    }
}

fn note(n: &Note, now: Timestamp) -> Markup {
    let (tone, word) = match n.what.as_str() {
        "ignored" => (Tone::Idle, "Ignored"),
        "requeued" => (Tone::Busy, "Queued again"),
        "held" => (Tone::Warn, "Held"),
        "accepted" => (Tone::Good, "Said to have come"),
        "released" => (Tone::Busy, "Released to be sent again"),
        other => (Tone::Idle, other),
    };
    html! {
        (tone.icon())
        h3 { (foreign(word, 64)) @if let Some(reason) = n.reason { ": " (reason) } " by " (foreign(&n.by, 64)) }
        p.soft.small { (moment(n.at, now)) }
        @if !n.detail.is_empty() { p { (foreign(&n.detail, 600)) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Severity;
    use crate::queue::AlertRow;
    use uuid::Uuid;

    #[test]
    fn all_that_is_known_is_told_and_nothing_of_it_is_html() {
        let bad = "<i>\u{1b}";
        let at = Timestamp::from_second(1_900_000_000).unwrap();
        let alert = AlertRow {
            id: AlertId(7),
            to: bad.into(),
            text: bad.into(),
            severity: Severity(Some(2)),
            state: AlertState::Held,
            reason: None,
            queued_at: Some(at),
            ended_at: None,
        };
        let attempt = AttemptRow {
            id: Uuid::nil(),
            number: 3,
            recipient: bad.into(),
            text: bad.into(),
            dispatcher: bad.into(),
            state: AttemptState::Held,
            begun_at: at,
            ended_at: Some(at),
            class: Some(bad.into()),
            code: Some(bad.into()),
            detail: Some(bad.into()),
            references: vec![bad.into()],
            possible_duplicate: true,
            resend_of: Some(Uuid::nil()),
            delivery: Some(bad.into()),
            instance: bad.into(),
            carried: vec![AlertId(7), AlertId(8)],
            counted: vec![AlertId(9)],
        };
        let note = Note { at, what: bad.into(), reason: None, detail: bad.into(), by: bad.into() };
        let story = Story { alert, attempts: vec![attempt], notes: vec![note] };
        let shown = render(&story, None, true, at).into_string();
        assert!(!shown.contains("<i>") && !shown.contains('\u{1b}'));
        assert_eq!(shown.matches("&lt;i&gt;").count(), 13);
        for part in [
            "/alerts/8\"",
            "/alerts/9\"",
            "Attempt 3",
            "may be double",
            "/alerts/7/accept",
            "/alerts/7/release",
        ] {
            assert!(shown.contains(part), "{part}");
        }
        assert!(!render(&story, None, false, at).into_string().contains("/accept"));
    }
}
