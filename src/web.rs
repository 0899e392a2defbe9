//! The HTTP interface: what programs ask, and what people look at.
//!
//! Each module beneath has the routes of one matter, and says which [`Scope`] they need; here they come together.
//! Nothing here waits for a dispatcher or decides what is sent: it hands in, it asks the queue, it shows.

pub mod access;
mod api;
mod health;
mod metrics;
mod pages;
pub mod problem;
pub mod tls;
mod webhooks;

use self::access::Door;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use access::{Caller, Scope};
pub use problem::Problem;

use crate::config::Listen;
use crate::intake::Desk;
use crate::queue::Queue;
use crate::standing::Standing;
use crate::telemetry::{Hub, Sampler};

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
}

impl Site {
    /// What holds at this moment.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.borrow())
    }
}

/// Between two tries to listen where we can not.
const PAUSE: Duration = Duration::from_secs(5);

/// Serves until `over` is cancelled.
pub async fn serve(site: Site, over: CancellationToken) {
    let listen = site.standing().config.http.listen.clone();
    let Some(Listen::Tcp(address)) = listen.first() else { return over.cancelled().await };
    let app = router(site);
    loop {
        let error = match TcpListener::bind(&address).await {
            Ok(listener) => {
                let shutdown = over.clone().cancelled_owned();
                match axum::serve(listener, app.clone()).with_graceful_shutdown(shutdown).await {
                    Ok(()) => return,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        tracing::error!("HTTP can not listen on {address}: {error}; trying again");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = over.cancelled() => return,
        }
    }
}

/// All routes, each behind the scope that it needs.
pub fn router(site: Site) -> Router {
    let open = health::routes().merge(pages::open());
    let send = api::send().merge(webhooks::routes());
    let read = api::read().merge(metrics::read()).merge(pages::read());
    let operate = api::operate().merge(pages::operate());
    let door = Arc::new(Door::default());
    let routes = Router::new()
        .merge(open)
        .merge(access::guard(send, Scope::Send, &site, &door))
        .merge(access::guard(read, Scope::Read, &site, &door))
        .merge(access::guard(operate, Scope::Operate, &site, &door));
    access::with_sessions(routes, &door).with_state(site)
}
