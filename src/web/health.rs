//! `GET /healthz`: the process lives. `GET /readyz`: alerts that come get out. Open to all, silent about the rest, and
//! answered from what was found within the last second, so that a thousand who ask cost the queue no more than one.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{Problem, Site};

/// How long the queue may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long its answer holds.
const FRESH: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<Site> {
    let last = Extension(Arc::<Last>::default());
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).layer(last)
}

/// Whether the queue answered when it was last asked, and when. Whoever comes while it is being asked waits for that.
#[derive(Debug, Default)]
pub(super) struct Last(Mutex<Option<(Instant, bool)>>);

impl Last {
    async fn answers(&self, site: &Site) -> bool {
        let mut last = self.0.lock().await;
        if let Some((_, answered)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return answered;
        }
        let answered = matches!(timeout(PATIENCE, site.queue.depth()).await, Ok(Ok(_)));
        *last = Some((Instant::now(), answered));
        answered
    }
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
    responses((status = 200, description = "The queue answers, a dispatcher works, and no intake is shut or stuck.", body = String,
        content_type = "text/plain")))]
pub(super) async fn ready(
    State(site): State<Site>,
    Extension(last): Extension<Arc<Last>>,
) -> Result<&'static str, Problem> {
    let unready = |detail: &str| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(5);
    let board = site.hub.board();
    if board.stopping {
        return Err(unready("smsd is stopping"));
    }
    if !board.queue.up || !last.answers(&site).await {
        return Err(unready("the queue does not answer"));
    }
    if board.all_down_since.is_some() || !board.dispatchers.iter().any(|light| light.up) {
        return Err(unready("no dispatcher works"));
    }
    if site.desk.tally().troubled().is_some() {
        return Err(unready("something that brings alerts is shut or stuck"));
    }
    Ok("ready\n")
}
