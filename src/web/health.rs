//! `GET /healthz`: the process lives. `GET /readyz`: alerts that come get out. Open to all, and silent about the rest.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::time::timeout;

use super::{Problem, Site};

/// How long the queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready))
}

/// The process lives
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain")))]
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Alerts that come get out
///
/// The reason names nothing: anybody may ask. `GET /api/v1/status` says more.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "The queue answers, and a dispatcher works.", body = String,
        content_type = "text/plain")))]
pub(super) async fn ready(State(site): State<Site>) -> Result<&'static str, Problem> {
    let unready = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5);
    let board = site.hub.board();
    if board.stopping {
        return Err(unready("smsd is stopping"));
    }
    if !matches!(timeout(PATIENCE, site.queue.depth()).await, Ok(Ok(_))) || !board.queue.up {
        return Err(unready("the queue does not answer"));
    }
    if board.all_down_since.is_some() || !board.dispatchers.iter().any(|light| light.up) {
        return Err(unready("no dispatcher works"));
    }
    Ok("ready\n")
}
