//! What people look at: the dashboard.

use axum::Router;

use super::Site;

pub(super) fn read() -> Router<Site> {
    Router::new()
}

pub(super) fn operate() -> Router<Site> {
    Router::new()
}
