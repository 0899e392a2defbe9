//! What holds now, and what was tried last.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Query, alerts, unanswered};
use crate::queue::{AttemptRow, Depth};
use crate::telemetry::board::Board;
use crate::web::{Problem, Site};

/// What holds now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// The version of smsd.
    version: &'static str,
    /// What was learned from what happened.
    #[serde(flatten)]
    board: Board,
    /// What waits.
    depth: Depth,
}

/// What holds now
#[utoipa::path(get, path = "/api/v1/status", tag = "state", security(("token" = ["read"])),
    responses((status = 200, description = "As far as is known.", body = Status)))]
pub(super) async fn status(State(site): State<Site>) -> Result<Json<Status>, Problem> {
    let depth = site.queue.depth().await.map_err(unanswered)?;
    Ok(Json(Status { version: crate::VERSION, board: site.hub.board(), depth }))
}

/// Which attempts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Rows of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The last id of the page before.
    before: Option<Uuid>,
}

/// A page of attempts, the last begun first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempts)]
pub(super) struct Page {
    attempts: Vec<AttemptRow>,
    /// What `before` is to be for the next page; none after the last one.
    next: Option<Uuid>,
}

/// Attempts, the last begun first
#[utoipa::path(get, path = "/api/v1/attempts", tag = "state", security(("token" = ["read"])), params(Asked),
    responses((status = 200, description = "A page of them.", body = Page)))]
pub(super) async fn attempts(
    State(site): State<Site>,
    Query(asked): Query<Asked>,
) -> Result<Json<Page>, Problem> {
    let limit = alerts::limit(asked.limit)?;
    let mut attempts = site.queue.recent(asked.before, limit + 1).await.map_err(unanswered)?;
    let more = attempts.len() > limit;
    attempts.truncate(limit);
    let next = attempts.last().map(|row| row.id).filter(|_| more);
    Ok(Json(Page { attempts, next }))
}
