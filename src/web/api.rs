//! What programs ask: `/api/v1/…`.

use axum::Router;

use super::Site;

pub(super) fn send() -> Router<Site> {
    Router::new()
}

pub(super) fn read() -> Router<Site> {
    Router::new()
}

pub(super) fn operate() -> Router<Site> {
    Router::new()
}
