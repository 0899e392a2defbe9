//! `GET /live`: tells a page that something has changed, at most once a second, as server-sent events without content. What
//! it is, the page asks for itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::intake::{Share, Shares};
use crate::telemetry::sampler::Sample;
use crate::telemetry::{Sampler, Told};
use crate::web::access::Pass;
use crate::web::{Closing, Site};

/// Between two words to one page.
const LEAST: Duration = Duration::from_secs(1);
/// A word is said at least so often, so that a page can tell silence from death.
const ALIVE: Duration = Duration::from_secs(10);

/// Who is told.
struct Listener {
    events: broadcast::Receiver<Arc<Told>>,
    samples: watch::Receiver<Arc<Sample>>,
    sampler: Sampler,
    next: Instant,
    _place: Share,
}

pub(super) async fn listen(
    State(site): State<Site>,
    Extension(listeners): Extension<Arc<Shares>>,
    Extension(pass): Extension<Pass>,
    closing: Option<Extension<Closing>>,
) -> Response {
    let mut place = listeners.open(&pass.caller.name);
    if !place.grow(1) {
        // The page asks every few seconds instead.
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages listen\n").into_response();
    }
    let listener = Listener {
        events: site.hub.listen(),
        samples: site.sampler.watch(),
        sampler: site.sampler.clone(),
        next: Instant::now(),
        _place: place,
    };
    let words = stream::unfold(listener, |mut listener| async move {
        listener.changed().await;
        Some((Ok::<Event, Infallible>(Event::default().data("")), listener))
    });
    let over = closing.map(|Extension(Closing(over))| over).unwrap_or_default();
    let words = words.take_until(async move {
        tokio::select! {
            () = over.cancelled() => {}
            () = pass.is_revoked(&site) => {}
        }
    });
    Sse::new(words).into_response()
}

impl Listener {
    /// Waits until something has changed.
    async fn changed(&mut self) {
        sleep_until(self.next).await;
        self.sampler.look();
        // What happened since the last word is one word.
        if !self.events.is_empty() {
            self.events = self.events.resubscribe();
            self.next = Instant::now() + LEAST;
            return;
        }
        let silence = timeout(ALIVE, async {
            tokio::select! {
                _ = self.events.recv() => {}
                _ = self.samples.changed() => {}
            }
        });
        let _ = silence.await;
        self.next = Instant::now() + LEAST;
    }
}
