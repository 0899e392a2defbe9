//! `GET /healthz`: the process lives.

use axum::Router;
use axum::routing::get;

use super::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/healthz", get(|| async { "ok\n" }))
}
