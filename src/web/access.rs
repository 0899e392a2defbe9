//! Who may do what.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use super::Site;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// To hand in alerts.
    Send,
    /// To look at alerts and states.
    Read,
    /// To cancel, requeue, release, accept, and send tests.
    Operate,
}

/// These routes for those who have the scope.
pub(super) fn guard(routes: Router<Site>, scope: Scope, site: &Site) -> Router<Site> {
    routes.route_layer(from_fn_with_state((site.clone(), scope), check))
}

async fn check(State((_site, _scope)): State<(Site, Scope)>, request: Request, next: Next) -> Response {
    next.run(request).await
}
