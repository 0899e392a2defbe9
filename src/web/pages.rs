//! What people look at: the dashboard.
//!
//! Every page is made here and is whole without JavaScript; the one script only keeps it as it is now. Pages show what is
//! known already ([`crate::telemetry::Sampler`], the board, the last day), so that they answer at once, also while the
//! queue does not; only lists and stories ask the queue. Who acts is asked once more, on a page that says what it costs.
//!
//! Deliberately absent: a build step, anything from another host, inline scripts and styles, cookies of our own.

mod assets;
mod chart;
mod layout;
mod overview;
mod verdict;
mod words;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use maud::html;

use self::layout::{Here, Page, Viewer};
use self::overview::View;
use super::Site;

/// For everybody: what every page needs.
pub(super) fn open() -> Router<Site> {
    Router::new().route("/assets/{name}", get(assets::serve))
}

pub(super) fn read() -> Router<Site> {
    Router::new().route("/", get(overview))
}

pub(super) fn operate() -> Router<Site> {
    Router::new()
}

async fn overview(State(site): State<Site>, uri: Uri) -> Response {
    let wall = uri.query().is_some_and(|q| q.split('&').any(|word| word == "wall" || word == "wall="));
    let viewer = Viewer { name: "http".into(), operate: true, csrf: String::new(), session: false };
    let view = View {
        now: Timestamp::now(),
        board: site.hub.board(),
        sample: site.sampler.look(),
        courses: site.hub.history(),
        operate: viewer.operate && !wall,
        wall,
    };
    let title = view.verdict().line;
    let page = Page {
        title: &title,
        here: Here::Overview,
        live: true,
        wall,
        viewer: Some(&viewer),
        flash: None,
        above: html! {},
        body: view.render(),
    };
    page.answer(StatusCode::OK)
}
