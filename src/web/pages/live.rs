//! `GET /live`: tells a page that something has changed, at most once a second, as server-sent events without content. What
//! it is, the page asks for itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::telemetry::sampler::Sample;
use crate::telemetry::{Sampler, Told};
use crate::web::Site;

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
    site: Site,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn listen(
    State(site): State<Site>,
    Extension(places): Extension<Arc<Semaphore>>,
) -> Response {
    // A stream would keep the daemon from its end; a page that finds none asks again and again.
    if site.hub.board().stopping {
        return (StatusCode::SERVICE_UNAVAILABLE, "smsd is stopping\n").into_response();
    }
    let Ok(place) = places.try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages listen\n").into_response();
    };
    let listener = Listener {
        events: site.hub.listen(),
        samples: site.sampler.watch(),
        sampler: site.sampler.clone(),
        next: Instant::now(),
        site,
        _place: place,
    };
    let words = stream::unfold(listener, |mut listener| async move {
        let more = listener.changed().await;
        more.then(|| (Ok::<Event, Infallible>(Event::default().data("")), listener))
    });
    Sse::new(words).into_response()
}

impl Listener {
    /// Waits until something has changed; false: no more.
    async fn changed(&mut self) -> bool {
        sleep_until(self.next).await;
        self.sampler.look();
        // What happened since the last word is one word.
        while !matches!(
            self.events.try_recv(),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed)
        ) {
            self.next = Instant::now();
        }
        let silence = timeout(ALIVE, async {
            tokio::select! {
                _ = self.events.recv() => {}
                _ = self.samples.changed() => {}
            }
        });
        let _ = silence.await;
        self.next = Instant::now() + LEAST;
        !self.site.hub.board().stopping
    }
}
