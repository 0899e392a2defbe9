//! `GET /api/v1/events`: what happens, as it happens, as server-sent events.
//!
//! Each has the name of what happened, and JSON with when and with what. No texts of alerts are in it, no words of
//! programs, and no secrets. Whoever is too slow is told that something was lost (`lagged`), and goes on with what comes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::intake::{Intake, Refusal, Shares};
use crate::telemetry::{Event, Told};
use crate::web::access::Pass;
use crate::web::{Closing, Problem, Site};

/// Between two comments that keep a silent connection alive.
const ALIVE: Duration = Duration::from_secs(15);

/// What happens, as it happens
#[utoipa::path(get, path = "/api/v1/events", tag = "state", security(("token" = ["read"])),
    responses((status = 200, description = "Server-sent events without end: each has the name of what happened, and \
        JSON with `at`, `type` and what belongs to it. No texts of alerts. `lagged`: some were lost on the way.",
        body = String, content_type = "text/event-stream")))]
pub(super) async fn follow(
    State(site): State<Site>,
    Extension(listeners): Extension<Arc<Shares>>,
    Extension(pass): Extension<Pass>,
    closing: Option<Extension<Closing>>,
) -> Result<impl IntoResponse, Problem> {
    let mut place = listeners.open(&pass.caller.name);
    if !place.grow(1) {
        site.desk.tally().refuse(Intake::Http, Refusal::Room, None);
        let detail = "as many listen already as may; try again later";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(10));
    }
    let feed = site.hub.listen();
    let events = stream::unfold((feed, place), |(mut feed, place)| async move {
        let event = match feed.recv().await {
            Ok(told) => sse_event(&told),
            Err(RecvError::Lagged(lost)) => event("lagged", &json!({ "lost": lost })),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok::<_, Infallible>(event), (feed, place)))
    });
    let over = closing.map(|Extension(Closing(over))| over).unwrap_or_default();
    let events = events.take_until(async move {
        tokio::select! {
            () = over.cancelled() => {}
            () = pass.is_revoked(&site) => {}
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}

fn sse_event(told: &Told) -> sse::Event {
    let (name, mut value) = shown(&told.event);
    if let Value::Object(fields) = &mut value {
        fields.insert("type".to_owned(), name.into());
        fields.insert("at".to_owned(), told.at.to_string().into());
    }
    event(name, &value)
}

fn event(name: &str, value: &Value) -> sse::Event {
    sse::Event::default().event(name).data(value.to_string())
}

/// The name of an event, and what programs may know of it.
fn shown(event: &Event) -> (&'static str, Value) {
    match event {
        Event::ProgramEnded { dispatcher, reason, pause } => (
            "program_ended",
            json!({ "dispatcher": dispatcher, "reason": reason.detail, "pause_seconds": pause.as_secs_f64() }),
        ),
        Event::Garbled { dispatcher, what } => ("garbled", json!({ "dispatcher": dispatcher, "what": what })),
        Event::LateAnswer { dispatcher, .. } => ("late_answer", json!({ "dispatcher": dispatcher })),
        // Whatever a program says may be a text.
        Event::Overheard { dispatcher, .. } => ("overheard", json!({ "dispatcher": dispatcher })),
        Event::Accepted {
            attempt,
            recipient,
            dispatcher,
            alerts,
            squeezed,
            segments,
            number,
            possible_duplicate,
            references,
            took,
            ..
        } => (
            "accepted",
            json!({
                "attempt": attempt, "to": recipient, "dispatcher": dispatcher, "alerts": alerts, "squeezed": squeezed,
                "segments": segments, "number": number, "possible_duplicate": possible_duplicate, "references": references,
                "took_seconds": took.as_secs_f64(),
            }),
        ),
        Event::Refused { attempt, recipient, dispatcher, number, error, took } => (
            "refused",
            json!({
                "attempt": attempt, "to": recipient, "dispatcher": dispatcher, "number": number,
                "class": error.class.as_str(), "code": error.code, "detail": error.detail,
                "took_seconds": took.as_secs_f64(),
            }),
        ),
        Event::Doubtful { attempt, recipient, dispatcher, held, error, took } => (
            "doubtful",
            json!({
                "attempt": attempt, "to": recipient, "dispatcher": dispatcher, "held": held, "detail": error.detail,
                "took_seconds": took.as_secs_f64(),
            }),
        ),
        Event::Resent { attempt, resend_of, recipient } => {
            ("resent", json!({ "attempt": attempt, "resend_of": resend_of, "to": recipient }))
        }
        Event::Held { attempt, recipient } => ("held", json!({ "attempt": attempt, "to": recipient })),
        Event::Superseded { attempt, recipient } => {
            ("superseded", json!({ "attempt": attempt, "to": recipient }))
        }
        Event::Peers { instances } => ("peers", json!({ "instances": instances })),
        Event::Outrun { attempts } => ("outrun", json!({ "attempts": attempts })),
        Event::Ignored { recipient, alerts, reason, detail } => {
            ("ignored", json!({ "to": recipient, "alerts": alerts, "reason": reason, "detail": detail }))
        }
        Event::BadNumber { alert, detail, .. } => ("bad_number", json!({ "alert": alert, "detail": detail })),
        Event::Barred { alert, recipient } => ("barred", json!({ "alert": alert, "to": recipient })),
        Event::HeldBack { recipient } => ("held_back", json!({ "to": recipient })),
        Event::Waits { recipient, alerts, why, detail, again_in, .. } => (
            "waits",
            json!({
                "to": recipient, "alerts": alerts, "why": why, "detail": detail,
                "next_try_seconds": again_in.as_secs_f64(),
            }),
        ),
        Event::Copied { recipient, dispatcher, alerts } => {
            ("copied", json!({ "to": recipient, "dispatcher": dispatcher, "alerts": alerts }))
        }
        Event::Expired { alerts } => ("expired", json!({ "alerts": alerts })),
        Event::Vanished { alerts } => ("vanished", json!({ "alerts": alerts })),
        Event::DispatcherDown { dispatcher, reason, .. } => {
            ("dispatcher_down", json!({ "dispatcher": dispatcher, "reason": reason }))
        }
        Event::DispatcherUp { dispatcher } => ("dispatcher_up", json!({ "dispatcher": dispatcher })),
        Event::AllDown { waiting } => ("all_down", json!({ "waiting": waiting })),
        Event::WayOut => ("way_out", json!({})),
        Event::QueueLost { reason } => ("queue_lost", json!({ "reason": reason })),
        Event::QueueBack { after } => ("queue_back", json!({ "after_seconds": after.as_secs_f64() })),
        Event::DiskFull { place } => ("disk_full", json!({ "place": place })),
        Event::DiskRoom => ("disk_room", json!({})),
        Event::ElsewhereLost { reason } => ("elsewhere_lost", json!({ "reason": reason })),
        Event::ElsewhereBack { after } => ("elsewhere_back", json!({ "after_seconds": after.as_secs_f64() })),
        Event::Unheard { alert, .. } => ("unheard", json!({ "alert": alert })),
        Event::LeaseLost => ("lease_lost", json!({})),
        Event::FromThePast { forgot, until } => {
            ("from_the_past", json!({ "forgot": forgot.to_string(), "until": until }))
        }
        Event::Suspected { alerts, doubts, until } => {
            ("suspected", json!({ "alerts": alerts, "doubts": doubts, "until": until }))
        }
        Event::Stuck { attempt, alerts, begun, reason } => {
            ("stuck", json!({ "attempt": attempt, "alerts": alerts, "begun": begun, "reason": reason }))
        }
        Event::NotKept { reason } => ("not_kept", json!({ "reason": reason })),
        Event::Tested { attempt, recipient, dispatcher, class, by } => (
            "tested",
            json!({ "attempt": attempt, "to": recipient, "dispatcher": dispatcher, "class": class, "by": by }),
        ),
        Event::Ready => ("ready", json!({})),
        Event::Reloaded => ("reloaded", json!({})),
        // The faults may quote the configuration: who may read the log reads them there.
        Event::ReloadRefused { .. } => ("reload_refused", json!({})),
        // The text is for the log alone.
        Event::Wording { attempt, .. } => ("wording", json!({ "attempt": attempt })),
        Event::GaveUp { reason } => ("gave_up", json!({ "reason": reason })),
        Event::Stopping { in_flight } => ("stopping", json!({ "in_flight": in_flight })),
        Event::Stopped { in_flight } => ("stopped", json!({ "in_flight": in_flight })),
    }
}
