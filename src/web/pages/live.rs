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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::telemetry::sampler::Sample;
use crate::telemetry::{Sampler, Told};
use crate::web::{Closing, Site};

/// Pages that are told at once; the others ask every few seconds.
pub(super) const MOST: usize = 200;
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
    _place: OwnedSemaphorePermit,
}

pub(super) async fn listen(
    State(site): State<Site>,
    Extension(places): Extension<Arc<Semaphore>>,
    closing: Option<Extension<Closing>>,
) -> Response {
    let Ok(place) = places.try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages listen\n").into_response();
    };
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
    Sse::new(words.take_until(over.cancelled_owned())).into_response()
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
