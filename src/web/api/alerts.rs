//! Alerts as they stand, and what a person decides about one.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::{Query, unanswered, wrong};
use crate::alert::{AlertId, Phone};
use crate::queue::{AlertRow, AlertState, Decision, Filter, Story, Which};
use crate::telemetry::Wait;
use crate::web::problem::{Body, PROBLEM};
use crate::web::{Caller, Problem, Site};

/// Which alerts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// In this state only.
    #[param(value_type = Option<AlertState>)]
    state: Option<String>,
    /// To this number only.
    #[param(pattern = r"^(\+[1-9][0-9]{2,14}|[0-9]{3,15})$")]
    to: Option<String>,
    /// Rows of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The last id of the page before.
    after: Option<i64>,
}

/// A page of alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Alerts)]
pub(super) struct Page {
    alerts: Vec<AlertRow>,
    /// What `after` is to be for the next page; none after the last one.
    next: Option<AlertId>,
}

/// Rows of a page, if nothing else is asked for, and at most.
pub(super) const PAGE: (usize, usize) = (100, 1_000);

/// Alerts, newest first
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", security(("token" = ["read"])), params(Asked),
    responses((status = 200, description = "A page of them.", body = Page)))]
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

/// All that is known of an alert
#[utoipa::path(get, path = "/api/v1/alerts/{id}", tag = "alerts", security(("token" = ["read"])), params(Id),
    responses(
        (status = 200, description = "Its story.", body = Told),
        (status = 404, description = "There is no such alert.", body = Body, content_type = PROBLEM),
    ))]
pub(super) async fn show(State(site): State<Site>, Path(id): Path<String>) -> Result<Json<Told>, Problem> {
    let id = alert_id(&id)?;
    let story = site.queue.show(id).await.map_err(unanswered)?.ok_or_else(|| no_alert(id))?;
    let waits = site.wait_of(&story);
    Ok(Json(Told { story, waits }))
}

/// All that is known of an alert, also by the engine.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertStory)]
pub(super) struct Told {
    #[serde(flatten)]
    story: Story,
    /// Why it waits, if it does and its recipient has met trouble.
    waits: Option<Wait>,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::web) struct Done {
    /// The alerts that changed; those that shared an SMS with this one included.
    changed: Vec<AlertId>,
}

/// What a person may decide about an alert.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Cancel,
    Requeue,
    Accept,
    Release,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Verb::Cancel => "cancel",
            Verb::Requeue => "requeue",
            Verb::Accept => "accept",
            Verb::Release => "release",
        }
    }
}

/// What comes of a decision.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it is for the document alone")]
enum Decided {
    /// The alert changed, and with it those that shared an SMS with it.
    #[response(status = 200)]
    Done(Done),
    /// There is no such alert.
    #[response(status = 404, content_type = "application/problem+json")]
    Unknown(Body<'static>),
    /// The alert does not stand so that this could be done; nothing was changed.
    #[response(status = 409, content_type = "application/problem+json")]
    Unfit(Body<'static>),
}

/// Which alert.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it is for the document alone")]
struct Id {
    /// The alert's key.
    #[param(example = 1)]
    id: i64,
}

/// Do not send it
#[utoipa::path(post, path = "/api/v1/alerts/{id}/cancel", tag = "alerts", security(("token" = ["operate"])),
    params(Id), responses(Decided))]
pub(super) async fn cancel(on: State<Site>, caller: Caller, id: Path<String>) -> Result<Json<Done>, Problem> {
    decide(on, caller, id, Verb::Cancel).await
}

/// Send it again, though it was sent or ignored
#[utoipa::path(post, path = "/api/v1/alerts/{id}/requeue", tag = "alerts", security(("token" = ["operate"])),
    params(Id), responses(Decided))]
pub(super) async fn requeue(
    on: State<Site>,
    caller: Caller,
    id: Path<String>,
) -> Result<Json<Done>, Problem> {
    decide(on, caller, id, Verb::Requeue).await
}

/// Take it as sent, though nobody knows
#[utoipa::path(post, path = "/api/v1/alerts/{id}/accept", tag = "alerts", security(("token" = ["operate"])),
    params(Id), responses(Decided))]
pub(super) async fn accept(on: State<Site>, caller: Caller, id: Path<String>) -> Result<Json<Done>, Problem> {
    decide(on, caller, id, Verb::Accept).await
}

/// Send it, though nobody knows whether it was sent before
#[utoipa::path(post, path = "/api/v1/alerts/{id}/release", tag = "alerts", security(("token" = ["operate"])),
    params(Id), responses(Decided))]
pub(super) async fn release(
    on: State<Site>,
    caller: Caller,
    id: Path<String>,
) -> Result<Json<Done>, Problem> {
    decide(on, caller, id, Verb::Release).await
}

async fn decide(
    State(site): State<Site>,
    caller: Caller,
    Path(id): Path<String>,
    verb: Verb,
) -> Result<Json<Done>, Problem> {
    let id = alert_id(&id)?;
    let (ids, by) = ([id], &*caller.name);
    let changed = match verb {
        Verb::Cancel => site.queue.cancel(&Which::Ids(vec![id]), by).await.map(|done| done.cancelled),
        Verb::Requeue => site.queue.requeue(&ids, by).await,
        Verb::Accept => site.queue.resolve(&ids, Decision::Accept, by).await.map(|done| done.decided),
        Verb::Release => site.queue.resolve(&ids, Decision::Resend, by).await.map(|done| done.decided),
    };
    let changed = changed.map_err(unanswered)?;
    if !changed.is_empty() {
        tracing::info!(alert = %id, by, "alert: {}", verb.as_str());
        return Ok(Json(Done { changed }));
    }
    let story = site.queue.show(id).await.map_err(unanswered)?.ok_or_else(|| no_alert(id))?;
    let detail = format!("nothing was changed: {}", why(verb, story.alert.state));
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// Why this can not be done to an alert that stands so.
fn why(verb: Verb, state: AlertState) -> String {
    match (verb, state) {
        (Verb::Cancel, AlertState::Waiting) => {
            "the alert is being sent right now; ask again in a moment".to_owned()
        }
        (Verb::Accept | Verb::Release, _) => format!("the alert is {state}, and neither in doubt nor held"),
        _ => format!("the alert is {state}"),
    }
}

fn alert_id(text: &str) -> Result<AlertId, Problem> {
    text.parse().map(AlertId).map_err(|_| wrong("the id", "expected a whole number"))
}

fn no_alert(id: AlertId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no alert {id}"))
}
