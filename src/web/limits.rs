//! What one request, one connection and all of them together may cost us. Nothing here depends on who asks.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Problem;
use crate::config::HttpConfig;

/// Bytes of a request's body at most.
pub const BODY_MAX: usize = 256 * 1024;
/// Bytes of a request's head at most.
pub(super) const HEAD_MAX: usize = 16 * 1024;
/// Headers of a request at most.
pub(super) const HEADERS_MAX: usize = 64;
/// From its first byte, a head is here within this time; so is the first one of a connection, and a TLS handshake.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);
/// A body is here within this time.
const BODY_TIME: Duration = Duration::from_secs(15);
/// A connection on which nothing is asked is closed after this time.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(60);
/// Whoever takes nothing of an answer for this long is dropped.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(30);
/// Connections at once, and at most this part of the descriptors.
const CONNECTIONS_MAX: usize = 1_024;
const SHARE: u64 = 4;
/// Bytes of bodies in memory at once.
const BODIES_MAX: usize = 16 * 1024 * 1024;

/// How many connections there may be at once, if so many descriptors are allowed.
pub fn connections(http: &HttpConfig, descriptors: u64) -> usize {
    if http.listen.is_empty() {
        return 0;
    }
    usize::try_from(descriptors / SHARE).unwrap_or(CONNECTIONS_MAX).clamp(1, CONNECTIONS_MAX)
}

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: Mutex<(u64, BTreeMap<u64, Arc<Place>>)>,
}

/// The place of one connection, and how far its request is.
#[derive(Debug)]
pub(super) struct Place {
    /// Somebody else needs it.
    pub(super) given_away: CancellationToken,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Since when no whole request is here; `None` while one is answered.
    waits_since: Option<Instant>,
    head: Head,
    /// A request came of which not all was read.
    unread: bool,
}

#[derive(Clone, Copy, Debug)]
enum Head {
    /// Not a byte of it.
    None { first: bool },
    /// Some of it, since then.
    Some(Instant),
    /// All of it.
    Whole,
}

/// A place that is taken; given back when dropped.
pub(super) struct Seat {
    places: Arc<Places>,
    number: u64,
    pub(super) place: Arc<Place>,
}

impl Places {
    pub(super) fn new(most: usize) -> Places {
        Places { most, taken: Mutex::default() }
    }

    /// A place for a new connection. If none is free, whoever has gone longest without asking anything whole has to
    /// leave; `None` if all are being answered.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let (next, places) = &mut *taken;
        if places.len() >= self.most {
            let waiting = places.iter().filter_map(|(n, place)| Some((lock(&place.state).waits_since?, *n)));
            let (_, longest) = waiting.min()?;
            if let Some(place) = places.remove(&longest) {
                place.given_away.cancel();
            }
        }
        let number = *next;
        *next += 1;
        let place = Arc::new(Place::new());
        places.insert(number, Arc::clone(&place));
        Some(Seat { places: Arc::clone(self), number, place })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.places.taken).1.remove(&self.number);
    }
}

impl Place {
    fn new() -> Place {
        let state =
            State { waits_since: Some(Instant::now()), head: Head::None { first: true }, unread: false };
        Place { given_away: CancellationToken::new(), state: Mutex::new(state) }
    }

    /// Bytes came.
    pub(super) fn heard(&self) {
        let mut state = lock(&self.state);
        if let Head::None { .. } = state.head {
            state.head = Head::Some(Instant::now());
        }
    }

    /// A head is here, of a request with or without a body.
    pub(super) fn head(&self, body: bool) {
        let mut state = lock(&self.state);
        state.head = Head::Whole;
        state.unread = body;
        if !body {
            state.waits_since = None;
        }
    }

    /// The body is here, too.
    fn body(&self) {
        let mut state = lock(&self.state);
        state.waits_since = None;
        state.unread = false;
    }

    /// The answer is given.
    pub(super) fn answered(&self) {
        let mut state = lock(&self.state);
        state.waits_since = Some(Instant::now());
        state.head = Head::None { first: false };
    }

    /// When the next bytes are to be here at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = lock(&self.state);
        match state.head {
            Head::None { first: true } => state.waits_since.map(|since| since + HEAD_TIME),
            Head::None { first: false } => state.waits_since.map(|since| since + IDLE_TIME),
            Head::Some(since) => Some(since + HEAD_TIME),
            Head::Whole => None,
        }
    }

    /// True if a request was answered before all of it was read.
    pub(super) fn has_unread(&self) -> bool {
        lock(&self.state).unread
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the body, whole, before anybody looks at it. To be put behind those who say who may ask at all.
pub(super) async fn whole_body(request: Request, next: Next) -> Response {
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, Body::empty())).await;
    }
    let expected = body.size_hint().upper().and_then(|n| usize::try_from(n).ok()).unwrap_or(BODY_MAX);
    if expected > BODY_MAX {
        return too_large();
    }
    let room = u32::try_from(expected.max(1)).unwrap_or(u32::MAX);
    let Ok(_room) = BODIES.try_acquire_many(room) else {
        let detail = "more is handed in at once than there is room for; try again";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1).into_response();
    };
    let bytes = match timeout(BODY_TIME, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return too_large(),
        Ok(Err(_)) => return closing(Problem::bad_request("the body does not come as its headers say")),
        Err(_) => {
            let detail = format!("the body was not here within {} s", BODY_TIME.as_secs());
            return closing(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
        }
    };
    if let Some(place) = place {
        place.body();
    }
    next.run(Request::from_parts(parts, Body::from(bytes))).await
}

static BODIES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(BODIES_MAX));

/// 413.
pub(super) fn too_large() -> Response {
    let detail = format!("the body has more than {BODY_MAX} bytes; nothing was queued");
    closing(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
}

/// The last answer of a connection.
pub(super) fn closing(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_leaves_and_who_is_answered_stays() {
        let places = Arc::new(Places::new(2));
        let first = places.take().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = places.take().unwrap();
        first.place.head(false);
        let third = places.take().unwrap();
        assert!(second.place.given_away.is_cancelled() && !first.place.given_away.is_cancelled());
        third.place.head(true);
        assert!(places.take().is_some(), "a body is missing");
        assert!(third.place.given_away.is_cancelled());
        let fourth = places.take().unwrap();
        fourth.place.head(true);
        fourth.place.body();
        assert!(places.take().is_none());
        drop(fourth);
        assert!(places.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn each_part_of_a_request_has_its_time() {
        let place = Place::new();
        let after = |place: &Place| place.deadline().map(|d| (d - Instant::now()).as_secs());
        assert_eq!(after(&place), Some(5));
        tokio::time::advance(Duration::from_secs(4)).await;
        place.heard();
        tokio::time::advance(Duration::from_secs(1)).await;
        place.heard();
        assert_eq!(after(&place), Some(4), "from the first byte, not the last");
        place.head(false);
        assert_eq!(after(&place), None);
        place.answered();
        assert_eq!(after(&place), Some(60));
        place.heard();
        assert_eq!(after(&place), Some(5));
    }

    #[test]
    fn a_few_descriptors_are_left_for_others() {
        let on = HttpConfig { listen: vec!["127.0.0.1:1".parse().unwrap()], ..HttpConfig::default() };
        assert_eq!([32, 4_096, u64::MAX].map(|d| connections(&on, d)), [8, 1_024, 1_024]);
        assert_eq!(connections(&HttpConfig::default(), 4_096), 0);
    }
}
