//! `GET /metrics`: what Prometheus asks, in the format that it asks for. Answers at once, also while the queue is down.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;

use super::Site;
use crate::telemetry::metrics::{Now, classic};

/// OpenMetrics 1.0, for who asks for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The older text format, for anybody else.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn read() -> Router<Site> {
    Router::new().route("/metrics", get(metrics))
}

/// What Prometheus asks
#[utoipa::path(get, path = "/metrics", tag = "health", security(("token" = ["read"])),
    responses((status = 200, description = "Prometheus' text format, or OpenMetrics for who accepts that.",
        content((String = "text/plain"), (String = "application/openmetrics-text")))))]
pub(super) async fn metrics(State(site): State<Site>, headers: HeaderMap) -> impl IntoResponse {
    let (board, sample) = (site.hub.board(), site.sampler.latest());
    let now = Now { at: Timestamp::now(), board: &board, sample: &sample, tally: site.desk.tally() };
    let text = site.hub.metrics().open_metrics(&now);
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accept.into_iter().any(|value| value.contains("application/openmetrics-text")) {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], text)
    } else {
        ([(header::CONTENT_TYPE, CLASSIC)], classic(&text))
    }
}
