//! One connection, from the first byte to the last.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse;
use futures_util::FutureExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::LAST_WORDS;
use super::patient::Patient;
use crate::intake::{Share, Shares};
use crate::web::Problem;
use crate::web::access::{AskedBy, Came};
use crate::web::limits::{self, BODY_MAX, HEAD_MAX, HEADERS_MAX, Place, SMALL_ANSWER};

/// Answers what is asked on a connection until it ends, or until `over`: then with the last answer.
pub(super) async fn serve<S>(
    stream: S,
    came: Came,
    (app, answers): (Router, Arc<Shares>),
    place: &Arc<Place>,
    over: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(Patient::new(stream, Arc::clone(place)));
    let service = service_fn(|request: Request<Incoming>| {
        place.head(!request.body().is_end_stream());
        answer(request, came.clone(), (app.clone(), Arc::clone(&answers)), Arc::clone(place))
    });
    let connection = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        // Patient has limits of its own.
        .header_read_timeout(None)
        .serve_connection(io, service);
    tokio::pin!(connection);
    tokio::select! {
        // However it ended, whoever asked knows.
        _ = connection.as_mut() => return,
        () = over.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(LAST_WORDS, connection).await;
}

type Answer = Response<Watched>;

async fn answer(
    request: Request<Incoming>,
    came: Came,
    (mut app, answers): (Router, Arc<Shares>),
    place: Arc<Place>,
) -> Result<Answer, Infallible> {
    let headers = request.headers();
    let tls = came.tls;
    let odd = odd(&request);
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let mut response = if announced.is_some_and(|n| n > BODY_MAX as u64) {
        limits::too_large(BODY_MAX)
    } else if let Some(odd) = odd {
        limits::closing(odd)
    } else {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(came);
        request.extensions_mut().insert(Arc::clone(&place));
        let answered = AssertUnwindSafe(async { app.call(request).await }).catch_unwind().await;
        match answered {
            Ok(Ok(response)) => response,
            Err(_) => {
                tracing::error!("HTTP: a request made a part of smsd panic; everything else goes on");
                let detail = "smsd has a fault here; its log says more";
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
            }
        }
    };
    let room = match room_for(&response, &answers) {
        Ok(room) => room,
        Err(problem) => {
            response = problem.into_response();
            None
        }
    };
    let headers = response.headers_mut();
    if chunked {
        // If it had a Content-Length, too, which hyper ignores and takes out, whoever stands between us may take what
        // follows for its rest (RFC 9112, 6.3).
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    Ok(response.map(|body| Watched { body, place, _room: room }))
}

/// What another server on the way may have understood otherwise (RFC 9112 §3.2, §6.1): a request without a host or with
/// several, and a body that is coded in another way than in chunks.
fn odd(request: &Request<Incoming>) -> Option<Problem> {
    let headers = request.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if coding.is_some_and(|c| !c.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        let detail = "Transfer-Encoding: expected chunked alone";
        return Some(Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    (hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11)
        .then(|| Problem::bad_request(format!("{hosts} Host headers; expected one")))
}

/// What every answer has that does not say otherwise.
const ALWAYS: [(header::HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];

/// A large answer takes room for as long as it is not read; 503 if there is none.
fn room_for(response: &Response<Body>, answers: &Arc<Shares>) -> Result<Option<Share>, Problem> {
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let Some(size) = size.filter(|size| *size > SMALL_ANSWER) else { return Ok(None) };
    let by =
        response.extensions().get::<AskedBy>().map_or_else(|| "".into(), |AskedBy(name)| Arc::clone(name));
    let mut room = answers.open(&by);
    if room.grow(size) {
        return Ok(Some(room));
    }
    let detail = "more is asked for at once than is read; read what was asked for, and try again";
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1))
}

/// The body of an answer. When it is gone, the answer is given.
struct Watched {
    body: Body,
    place: Arc<Place>,
    _room: Option<Share>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.place.answered();
    }
}
