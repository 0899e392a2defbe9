//! What one request, one connection and all of them together may cost us, and how those who ask share it: whoever is not
//! known costs nobody anything, and no caller takes all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{self, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::access::Came;
use super::{Caller, Problem};
use crate::config::{HttpConfig, Main, Memory};
use crate::intake::{Intake, Refusal, Share, Shares, Tally};
use crate::os::descriptors;

/// Bytes of a request's body at most.
pub const BODY_MAX: usize = 256 * 1024;
/// Bytes of a request's head at most.
pub(super) const HEAD_MAX: usize = 16 * 1024;
/// Headers of a request at most.
pub(super) const HEADERS_MAX: usize = 64;
/// From its first byte, a head is here within this time; so is the first one of a connection, and a TLS handshake.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);
/// After this time, so many bytes of a body are here for each second that has passed since.
const BODY_TIME: Duration = Duration::from_secs(5);
const BODY_RATE: usize = 8 * 1024;
/// A connection on which nothing is asked is closed after this time.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(60);
/// Whoever takes nothing of an answer for this long is dropped.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(30);
/// Connections at once, and at most this part of the descriptors.
const CONNECTIONS_MAX: usize = 1_024;
const SHARE: u64 = 4;
/// This part of the places for connections is for those who listen without an end.
const LISTENERS_SHARE: usize = 4;
/// More than so many never listen at once.
const LISTENERS_MAX: usize = 128;
/// Whoever takes nothing of an answer for this long has to make way for the next.
const STALL: Duration = Duration::from_secs(2);
/// This part of a room is for who has next to nothing there; and what of the room for answers that is.
const RESERVED: usize = 4;
const LITTLE: usize = 8;
/// Smaller answers are not counted.
pub(super) const SMALL_ANSWER: usize = 16 * 1024;
/// Bytes of a form of somebody who is not known, at most: a token.
const FORM_MAX: usize = 4 * 1024;

/// How many connections there may be at once, if so many descriptors are allowed.
pub fn connections(http: &HttpConfig, descriptors: u64) -> usize {
    if http.listen.is_empty() {
        return 0;
    }
    places(descriptors)
}

fn places(descriptors: u64) -> usize {
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
    /// Since when nothing of an answer is taken.
    stalled_since: Option<Instant>,
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
    /// leave, or else whoever has taken nothing of an answer for the longest time; `None` if all are being answered.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = lock(&self.taken);
        let (next, places) = &mut *taken;
        if places.len() >= self.most {
            let now = Instant::now();
            let waiting = places.iter().filter_map(|(n, place)| Some((lock(&place.state).waits_since?, *n)));
            let stalled = |(n, place): (&u64, &Arc<Place>)| {
                let since = lock(&place.state).stalled_since?;
                (now.duration_since(since) >= STALL).then_some((since, *n))
            };
            let (_, longest) = waiting.min().or_else(|| places.iter().filter_map(stalled).min())?;
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
        let (waits_since, head) = (Some(Instant::now()), Head::None { first: true });
        let state = State { waits_since, head, stalled_since: None, unread: false };
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

    /// Something of the answer was taken, or could not be given.
    pub(super) fn wrote(&self, taken: bool) {
        let mut state = lock(&self.state);
        match taken {
            true => state.stalled_since = None,
            false => _ = state.stalled_since.get_or_insert_with(Instant::now),
        }
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
pub(super) async fn whole_body(
    extract::State((tally, room)): extract::State<(Tally, Arc<Shares>)>,
    request: Request,
    next: Next,
) -> Response {
    let from = address(&request);
    let caller = request.extensions().get::<Caller>().map_or_else(|| "".into(), |c| Arc::clone(&c.name));
    let (request, _room) = match read(request, BODY_MAX, Some(room.open(&caller))).await {
        Ok(read) => read,
        Err(unread) => return unread.answer(&tally, from),
    };
    next.run(request).await
}

/// The same for whoever is not known, and so costs nobody anything: a form has room, and what takes no form is not read.
pub(super) async fn little_body(
    extract::State(tally): extract::State<Tally>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() && !request.body().is_end_stream() {
        let (parts, _) = request.into_parts();
        let mut response = next.run(Request::from_parts(parts, Body::empty())).await;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let from = address(&request);
    match read(request, FORM_MAX, None).await {
        Ok((request, _)) => next.run(request).await,
        Err(unread) => unread.answer(&tally, from),
    }
}

fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Came>()?.address
}

/// Why a body was not read.
enum Unread {
    TooLarge(usize),
    NoRoom,
    Broken,
    Slow,
}

impl Unread {
    fn answer(self, tally: &Tally, from: Option<IpAddr>) -> Response {
        match self {
            Unread::TooLarge(most) => too_large(most),
            Unread::NoRoom => {
                tally.refuse(Intake::Http, Refusal::Room, from);
                let detail = "more is handed in at once than there is room for; try again";
                closing(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1))
            }
            Unread::Broken => closing(Problem::bad_request("the body does not come as its headers say")),
            Unread::Slow => {
                tally.refuse(Intake::Http, Refusal::Slow, from);
                let detail = format!(
                    "the body came too slowly: after {} s at least {} KiB are expected in each",
                    BODY_TIME.as_secs(),
                    BODY_RATE / 1024
                );
                closing(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
            }
        }
    }
}

/// Reads a body of so many bytes at most as it comes; who is known takes the room for it as it fills.
async fn read(
    request: Request,
    most: usize,
    mut room: Option<Share>,
) -> Result<(Request, Option<Share>), Unread> {
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let (parts, mut body) = request.into_parts();
    if body.is_end_stream() {
        return Ok((Request::from_parts(parts, Body::empty()), None));
    }
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLarge(most));
    }
    let begun = Instant::now();
    let mut bytes = Vec::new();
    loop {
        let in_time = begun + BODY_TIME + Duration::from_secs_f64(bytes.len() as f64 / BODY_RATE as f64);
        let frame = match timeout_at(in_time, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(Unread::Broken),
            Ok(None) => break,
            Err(_) => return Err(Unread::Slow),
        };
        let Ok(piece) = frame.into_data() else { continue };
        if bytes.len() + piece.len() > most {
            return Err(Unread::TooLarge(most));
        }
        if room.as_mut().is_some_and(|room| !room.grow(piece.len())) {
            return Err(Unread::NoRoom);
        }
        bytes.extend_from_slice(&piece);
    }
    if let Some(place) = place {
        place.body();
    }
    Ok((Request::from_parts(parts, Body::from(bytes)), room))
}

/// The room for bodies, shared by who is known: however much some bring at once, whoever brings one body finds room.
pub(super) fn bodies(main: &Main) -> Arc<Shares> {
    let bytes = main.memory(Memory::Bodies);
    Arc::new(Shares::new(bytes, bytes / RESERVED, BODY_MAX))
}

/// The room for answers that are not read yet.
pub(super) fn answers(main: &Main) -> Arc<Shares> {
    let bytes = main.memory(Memory::Answers);
    Arc::new(Shares::new(bytes, bytes / RESERVED, bytes / LITTLE))
}

/// The places of those who listen to what happens, a part of all places: without an end, each would keep its own for ever.
pub(super) fn listeners() -> Shares {
    let places = places(descriptors::allowed().unwrap_or(1_024));
    let most = (places / LISTENERS_SHARE).clamp(2, LISTENERS_MAX);
    Shares::new(most, most / 2, (most / 8).max(1))
}

/// 413.
pub(super) fn too_large(most: usize) -> Response {
    let detail = format!("the body has more than {most} bytes; nothing was queued");
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
        fourth.place.wrote(false);
        assert!(places.take().is_none(), "nobody has to read at once");
        tokio::time::advance(STALL).await;
        let fifth = places.take().unwrap();
        assert!(fourth.place.given_away.is_cancelled(), "it does not read its answer");
        fifth.place.head(false);
        fifth.place.wrote(false);
        fifth.place.wrote(true);
        tokio::time::advance(STALL).await;
        assert!(places.take().is_none());
        drop(fifth);
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
