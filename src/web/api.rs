//! What programs ask: `/api/v1/…`.

pub(super) mod alerts;
pub(super) mod dispatchers;
pub(super) mod events;
pub(super) mod hand_in;
pub(super) mod state;

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;

use super::{Problem, Site};
use crate::queue::QueueError;
use crate::telemetry::clip;

pub(super) fn send() -> Router<Site> {
    Router::new().route("/api/v1/alerts", post(hand_in::hand_in))
}

pub(super) fn read() -> Router<Site> {
    Router::new()
        .route("/api/v1/alerts", get(alerts::list))
        .route("/api/v1/alerts/{id}", get(alerts::show))
        .route("/api/v1/attempts", get(state::attempts))
        .route("/api/v1/dispatchers", get(dispatchers::list))
        .route("/api/v1/status", get(state::status))
        .route("/api/v1/events", get(events::follow))
}

pub(super) fn operate() -> Router<Site> {
    Router::new()
        .route("/api/v1/alerts/{id}/cancel", post(alerts::cancel))
        .route("/api/v1/alerts/{id}/requeue", post(alerts::requeue))
        .route("/api/v1/alerts/{id}/accept", post(alerts::accept))
        .route("/api/v1/alerts/{id}/release", post(alerts::release))
        .route("/api/v1/dispatchers/{name}/test", post(dispatchers::test))
}

/// A body of JSON that says nothing that is not known, nothing twice, and is nested no deeper than serde_json goes.
pub(super) struct Strict<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Strict<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind =
            request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let detail = "expected a body of JSON: Content-Type: application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let body = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|_| Problem::bad_request("the body does not come as its headers say"))?;
        serde_json::from_slice(&body).map(Strict).map_err(|e| wrong("the body", &e.to_string()))
    }
}

/// What stands behind `?`, likewise.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri)
            .map(|query| Query(query.0))
            .map_err(|e| wrong("the query", &e.body_text()))
    }
}

/// 400, with foreign words cut and escaped.
fn wrong(what: &str, why: &str) -> Problem {
    let mut detail = format!("{what} makes no sense: {why}");
    clip(&mut detail, 300);
    Problem::bad_request(detail)
}

/// The queue could not say.
fn unanswered(error: QueueError) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the queue does not answer: {error}"))
        .retry_after(5)
}
