//! What other programs post when something happens: `/api/v1/webhooks/…`.

use axum::Router;

use super::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
