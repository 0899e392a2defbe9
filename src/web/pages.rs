//! What people look at: the dashboard.
//!
//! Every page is made here and is whole without JavaScript; the one script only keeps it as it is now. Pages show what is
//! known already ([`crate::telemetry::Sampler`], the board, the last day), so that they answer at once, also while the
//! queue does not; only lists and stories ask the queue. Who acts is asked once more, on a page that says what it costs.
//!
//! Deliberately absent: a build step, anything from another host, inline scripts and styles, cookies of our own.

mod act;
mod alerts;
mod assets;
mod chart;
mod layout;
mod live;
mod login;
mod overview;
mod send;
mod story;
mod verdict;
mod words;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use jiff::Timestamp;
use maud::html;

use self::layout::{Here, Page, Viewer};
use self::overview::View;
use super::{Problem, Site};

/// For everybody: what every page needs, and the way in.
pub(super) fn open() -> Router<Site> {
    Router::new()
        .route("/assets/{name}", get(assets::serve))
        .route("/login", get(login::ask).post(login::enter))
}

pub(super) fn read() -> Router<Site> {
    Router::new()
        .route("/", get(overview))
        .route("/alerts", get(alerts::list))
        .route("/alerts/{id}", get(story::show))
        .route("/live", get(live::listen))
        .route("/logout", post(login::leave))
}

pub(super) fn operate() -> Router<Site> {
    let results: Arc<send::Results> = Arc::default();
    Router::new()
        .route("/alerts/{id}/{act}", get(act::ask).post(act::perform))
        .route("/send", get(send::ask).post(send::perform).layer(Extension(results)))
}

/// Why whoever asks may not, as a page.
pub(super) fn refusal(site: &Site, parts: &Parts, problem: &Problem) -> Response {
    layout::trouble(&Viewer::of(site, parts), problem.status, &problem.detail)
}

/// `GET /`, with `?wall` for a screen on the wall.
async fn overview(State(site): State<Site>, parts: Parts) -> Response {
    let query = parts.uri.query().unwrap_or_default();
    let wall = query.split('&').any(|word| word == "wall" || word.starts_with("wall="));
    let viewer = Viewer::of(&site, &parts);
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
