//! The HTTP interface: what programs ask, and what people look at.
//!
//! Each module beneath has the routes of one matter, and says which [`Scope`] they need; here they come together.
//! Nothing here waits for a dispatcher or decides what is sent: it hands in, it asks the queue, it shows.

pub mod access;
mod api;
mod health;
pub mod limits;
mod listen;
mod metrics;
mod openapi;
mod pages;
pub mod problem;
pub mod tls;
mod trial;
mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access::{Caller, Scope};
pub use listen::serve;
pub use problem::Problem;

use self::access::Door;
use crate::intake::Desk;
use crate::os::Inherited;
use crate::queue::{AlertState, Queue, Story};
use crate::standing::Standing;
use crate::telemetry::{Hub, Sampler, Wait};

/// What the interface shows and does, it does with these. Cheap to clone.
#[derive(Clone)]
pub struct Site {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// Where events come together.
    pub hub: Arc<Hub>,
    /// What the queue said last.
    pub sampler: Sampler,
    /// Where alerts are handed in.
    pub desk: Desk,
    /// What holds now.
    pub standing: watch::Receiver<Arc<Standing>>,
    /// The socket by which this user's own commands ask the daemon.
    pub socket: Option<PathBuf>,
    /// Sockets that were opened for us.
    pub inherited: Arc<Inherited>,
}

impl Site {
    /// What holds at this moment.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.borrow())
    }

    /// Why an alert waits, if it does and the engine has said so.
    pub(crate) fn wait_of(&self, story: &Story) -> Option<Wait> {
        (story.alert.state == AlertState::Waiting).then(|| self.hub.wait_of(&story.alert.to)).flatten()
    }
}

/// Cancelled when the interface ends; what streams without end looks at it.
#[derive(Clone, Debug)]
pub(crate) struct Closing(pub(crate) CancellationToken);

/// All routes, each behind the scope that it needs.
pub fn router(site: Site) -> Router {
    let open = health::routes().merge(openapi::routes()).merge(pages::open());
    let send = api::send().merge(webhooks::routes());
    // Who listens to events, and pages that are told of them, share places.
    let listeners = Extension(Arc::new(limits::listeners()));
    let read = api::read().merge(metrics::read()).merge(pages::read()).layer(listeners);
    let operate = api::operate().merge(pages::operate());
    let door = Arc::new(Door::default());
    let room = limits::bodies(&site.standing().config.main);
    let routes = Router::new()
        .merge(open.route_layer(from_fn_with_state(site.desk.tally().clone(), limits::little_body)))
        .merge(access::guard(send, Scope::Send, &site, (&door, &room)))
        .merge(access::guard(read, Scope::Read, &site, (&door, &room)))
        .merge(access::guard(operate, Scope::Operate, &site, (&door, &room)))
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is nothing by this path; see /openapi.json")
        })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method; see /openapi.json")
        });
    access::with_sessions(routes, &door).layer(Extension(trial::Turns::default())).with_state(site)
}
