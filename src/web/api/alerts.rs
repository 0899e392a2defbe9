//! Alerts as they stand, and what a person decides about one.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Query, unanswered, wrong};
use crate::alert::{AlertId, Phone};
use crate::queue::{AlertRow, AlertState, Decision, Filter, Story, Which};
use crate::web::{Caller, Problem, Site};

/// Which alerts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    state: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    /// The last id of the page before.
    after: Option<i64>,
}

/// A page of alerts, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    alerts: Vec<AlertRow>,
    /// What `after` is to be for the next page; none after the last one.
    next: Option<AlertId>,
}

/// Rows of a page, if nothing else is asked for, and at most.
pub(super) const PAGE: (usize, usize) = (100, 1_000);

pub(super) async fn list(
    State(site): State<Site>,
    Query(asked): Query<Asked>,
) -> Result<Json<Page>, Problem> {
    let state = asked.state.as_deref().map(str::parse::<AlertState>).transpose();
    let state = state.map_err(|e| wrong("state", &e))?;
    let to = asked.to.as_deref().map(Phone::parse).transpose().map_err(|e| wrong("to", &e.to_string()))?;
    let limit = limit(asked.limit)?;
    // One more tells whether there is another page.
    let filter = Filter { state, to, limit: limit + 1, before: asked.after.map(AlertId) };
    let mut alerts = site.queue.list(&filter).await.map_err(unanswered)?;
    let more = alerts.len() > limit;
    alerts.truncate(limit);
    let next = alerts.last().map(|row| row.id).filter(|_| more);
    Ok(Json(Page { alerts, next }))
}

/// A page's rows.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked.unwrap_or(PAGE.0) {
        limit if (1..=PAGE.1).contains(&limit) => Ok(limit),
        _ => Err(wrong("limit", &format!("expected 1 to {}", PAGE.1))),
    }
}

pub(super) async fn show(State(site): State<Site>, Path(id): Path<String>) -> Result<Json<Story>, Problem> {
    let id = alert_id(&id)?;
    let story = site.queue.show(id).await.map_err(unanswered)?;
    story.map(Json).ok_or_else(|| no_alert(id))
}

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    /// The alerts that changed; those that shared an SMS with this one included.
    changed: Vec<AlertId>,
}

pub(super) async fn decide(
    State(site): State<Site>,
    caller: Caller,
    Path((id, verb)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    let id = alert_id(&id)?;
    let (ids, by) = ([id], &*caller.name);
    let changed = match verb.as_str() {
        "cancel" => site.queue.cancel(&Which::Ids(vec![id]), by).await.map(|done| done.cancelled),
        "requeue" => site.queue.requeue(&ids, by).await,
        "accept" => site.queue.resolve(&ids, Decision::Accept, by).await.map(|done| done.decided),
        "release" => site.queue.resolve(&ids, Decision::Resend, by).await.map(|done| done.decided),
        _ => {
            let detail = "there is no such thing to do; expected cancel, requeue, accept or release";
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
    };
    let changed = changed.map_err(unanswered)?;
    if !changed.is_empty() {
        tracing::info!(alert = %id, by, "alert: {verb}");
        return Ok(Json(Done { changed }));
    }
    let story = site.queue.show(id).await.map_err(unanswered)?.ok_or_else(|| no_alert(id))?;
    let detail = format!("nothing was changed: {}", why(&verb, story.alert.state));
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// Why this can not be done to an alert that stands so.
fn why(verb: &str, state: AlertState) -> String {
    match (verb, state) {
        ("cancel", AlertState::Waiting) => {
            "the alert is being sent right now; ask again in a moment".to_owned()
        }
        ("accept" | "release", _) => format!("the alert is {state}, and neither in doubt nor held"),
        _ => format!("the alert is {state}"),
    }
}

fn alert_id(text: &str) -> Result<AlertId, Problem> {
    text.parse().map(AlertId).map_err(|_| wrong("the id", "expected a whole number"))
}

fn no_alert(id: AlertId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no alert {id}"))
}
