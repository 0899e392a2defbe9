//! One request to one host over HTTP/1.1, sent once, with an exact answer to "was anything written?".
//!
//! General clients can not say that: whether a refused connection, a broken handshake and a reset after the
//! request are told apart decides here whether an SMS may go out twice. So the connection is ours and counts
//! what the kernel took; HTTP itself is hyper's. Deliberately absent: redirects, retries (but for a
//! kept connection that turned out dead before the first byte), decompression, cookies, HTTP/2.
//!
//! Connections are driven by the task that waits for the answer; nothing runs beside it but, while there
//! are idle connections, the closing of them.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::PROXY_AUTHORIZATION;
use hyper::http::{HeaderMap, StatusCode, Uri, response};
use hyper::{Request, Response, body::Incoming};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::http_way::{Identity, Proxy, Way};
use super::reach::{Addresses, chain};
use super::url_template::Origin;

/// TCP takes at most this long, and so do a proxy and TLS. A name lookup has the rest of the deadline.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A probe connects within this time: a first name server may be silent for 5 s, and the second answers then.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Of an answer's body so much is looked at; an answer's head may be as long.
pub const BODY_MAX: usize = 64 * 1024;
/// What may come before and with the head of the final answer.
const HEAD_MAX: usize = 2 * BODY_MAX;

/// An idle connection is kept this long: shorter than servers keep them (gunicorn 2 s, Apache and Node 5 s),
/// so that a request seldom meets one that is being closed.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// A body that decides nothing is waited for this long, and is read beside what follows until the deadline: there are
/// servers that stop what they do when nobody listens.
const BODY_PATIENCE: Duration = Duration::from_millis(500);
/// So many such bodies of one client are read at once.
const READ_ON_MAX: usize = 64;
/// How long no connection is kept after a kept one was closed under a request.
const UNKEPT: Duration = Duration::from_secs(3600);

/// A client of one host.
pub struct Client {
    origin: Origin,
    connector: HttpConnector<Addresses>,
    reading_on: Arc<Semaphore>,
    tls: OnceLock<Result<TlsConnector, String>>,
    proxy: Option<Proxy>,
    identity: Option<Identity>,
    idle: Arc<Mutex<Idle>>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status, 100 to 999.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, at most [`BODY_MAX`] bytes of it.
    pub body: Bytes,
    /// The body ended, or its first [`BODY_MAX`] bytes came; else it broke off.
    pub readable: bool,
}

/// Why nothing came back. The words are for people and may be foreign: quote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not one byte of the request was written.
    #[error("{0}")]
    Unwritten(String),
    /// Something was written, and then no answer came.
    #[error("{0}")]
    Unanswered(String),
    /// The handshake of TLS 1.3 was refused when we took it for done: nobody has read what was written since.
    #[error("{0}")]
    Denied(String),
}

/// How much the body matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// It decides what the answer means: waited for until the deadline.
    Decides,
    /// It is for people: waited for a moment.
    Quoted,
}

impl Client {
    /// A client that trusts the certificates that the system trusts, read when first needed.
    pub fn new(origin: Origin) -> Client {
        let mut connector = HttpConnector::new_with_resolver(Addresses::default());
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let (tls, idle) = (OnceLock::new(), Arc::default());
        let reading_on = Arc::new(Semaphore::new(READ_ON_MAX));
        Client { origin, connector, reading_on, tls, proxy: None, identity: None, idle }
    }

    /// A client that trusts these certificates only.
    pub fn with_roots(origin: Origin, roots: RootCertStore) -> Client {
        let client = Client::new(origin);
        client.tls.get_or_init(|| tls(roots, None));
        client
    }

    /// A client that goes this way.
    pub fn by(origin: Origin, way: Way) -> Client {
        let client = Client { proxy: way.proxy, identity: way.identity, ..Client::new(origin) };
        if let Some(roots) = way.roots {
            client.tls.get_or_init(|| tls(roots, client.identity.as_ref()));
        }
        client
    }

    /// Sends a request, once. `matters` says how long the body of an answer is waited for.
    ///
    /// # Errors
    /// [`Failure`] says whether anything was written. It comes at the deadline at the latest.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        matters: impl Fn(&response::Parts) -> Body,
    ) -> Result<Answer, Failure> {
        let request = self.addressed(request).map_err(Failure::Unwritten)?;
        if let Some(mut link) = self.take() {
            match link.ask(request.clone(), deadline).await {
                // It was closed under us, and not one byte was written: as if it had never been kept.
                Err(Failure::Unwritten(_)) if Instant::now() < deadline => {}
                Err(failure) => {
                    if Instant::now() < deadline {
                        lock(&self.idle).close_under_us();
                    }
                    return Err(failure);
                }
                Ok(response) => return Ok(self.read(link, response, deadline, matters).await),
            }
        }
        let mut link = self.connect(deadline).await?;
        let response = link.ask(request, deadline).await?;
        Ok(self.read(link, response, deadline, matters).await)
    }

    /// Connects, with the TLS handshake if there is one, and lets go again.
    ///
    /// # Errors
    /// [`Failure::Unwritten`] always.
    pub async fn probe(&self, deadline: Instant) -> Result<(), Failure> {
        self.connect(deadline).await.map(drop)
    }

    async fn connect(&self, deadline: Instant) -> Result<Link, Failure> {
        match timeout_at(deadline, self.dial()).await {
            Ok(linked) => linked.map_err(Failure::Unwritten),
            Err(_) => Err(Failure::Unwritten("connecting took too long".into())),
        }
    }

    async fn dial(&self) -> Result<Link, String> {
        let uri = match &self.proxy {
            Some(proxy) => Uri::builder().scheme("http").authority(proxy.authority.clone()),
            None => Uri::builder().scheme(self.scheme()).authority(self.origin.authority.clone()),
        };
        let uri = uri.path_and_query("/").build().map_err(|e| e.to_string())?;
        let tcp = self.connector.clone().call(uri).await.map_err(|e| chain(&e))?;
        let mut wire =
            Wire(Arc::new(Mutex::new(Socket { tcp: tcp.into_inner(), written: 0, before_head: None })));
        let slow = |_| "connecting took too long".to_owned();
        if let Some(proxy) = self.proxy.as_ref().filter(|_| self.origin.tls) {
            let tunnelled = timeout(CONNECT_TIMEOUT, tunnel(&mut wire, proxy, &self.origin)).await;
            tunnelled.map_err(slow)?.map_err(|e| format!("proxy: {e}"))?;
        }
        if !self.origin.tls {
            return Link::over(wire.clone(), wire).await;
        }
        let name = ServerName::try_from(self.origin.host().to_string()).map_err(|e| e.to_string())?;
        let connector = self.tls.get_or_init(|| tls(native_roots(), self.identity.as_ref())).as_ref()?;
        let stream = timeout(CONNECT_TIMEOUT, connector.connect(name, wire.clone())).await.map_err(slow)?;
        Link::over(stream.map_err(|e| format!("TLS: {}", chain(&e)))?, wire).await
    }

    fn scheme(&self) -> &'static str {
        if self.origin.tls { "https" } else { "http" }
    }

    /// What a proxy is asked for without a tunnel names the host, too (RFC 9112 §3.2.2).
    fn addressed(&self, mut request: Request<Full<Bytes>>) -> Result<Request<Full<Bytes>>, String> {
        let Some(proxy) = self.proxy.as_ref().filter(|_| !self.origin.tls) else { return Ok(request) };
        let mut parts = request.uri().clone().into_parts();
        parts.scheme = Some(self.scheme().parse().map_err(|_| "no scheme")?);
        parts.authority = Some(self.origin.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|e| e.to_string())?;
        if let Some(login) = proxy.authorization() {
            request.headers_mut().insert(PROXY_AUTHORIZATION, login);
        }
        Ok(request)
    }

    /// Reads the body and keeps the connection if it can be used again.
    async fn read(
        &self,
        mut link: Link,
        response: Response<Incoming>,
        deadline: Instant,
        matters: impl Fn(&response::Parts) -> Body,
    ) -> Answer {
        let (head, mut body) = response.into_parts();
        let until = match matters(&head) {
            Body::Decides => deadline,
            Body::Quoted => deadline.min(Instant::now() + BODY_PATIENCE),
        };
        let mut kept = Vec::new();
        let gathered = timeout_at(until, link.gather(&mut body, &mut kept)).await;
        let late = gathered.is_err();
        let end = gathered.unwrap_or(End::Broken);
        if end == End::Whole && link.is_reusable() {
            self.keep(link);
        } else if late && head.status.is_success() && until < deadline {
            read_on(link, body, deadline, &self.reading_on);
        }
        Answer { status: head.status, headers: head.headers, body: kept.into(), readable: end != End::Broken }
    }

    /// A kept connection on which nothing has come since, not even its end.
    fn take(&self) -> Option<Link> {
        let oldest = Instant::now().checked_sub(IDLE_MAX);
        loop {
            let (since, link) = lock(&self.idle).links.pop()?;
            if oldest.is_none_or(|oldest| since > oldest) && link.wire.is_quiet() {
                return Some(link);
            }
        }
    }

    fn keep(&self, link: Link) {
        let mut idle = lock(&self.idle);
        if idle.none_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        idle.links.push((Instant::now(), link));
        if !std::mem::replace(&mut idle.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.idle)));
        }
    }
}

/// Connections that wait for a request, the one used last at the end.
#[derive(Default)]
struct Idle {
    links: Vec<(Instant, Link)>,
    /// A [`sweep`] is under way.
    swept: bool,
    /// The other side closes connections that we keep, just when they are used again: until then none is kept.
    none_until: Option<Instant>,
}

impl Idle {
    fn close_under_us(&mut self) {
        self.links.clear();
        self.none_until = Some(Instant::now() + UNKEPT);
    }
}

/// Reads what decides nothing to its end, for a server that would stop what it does if nobody listened.
fn read_on(mut link: Link, mut body: Incoming, deadline: Instant, places: &Arc<Semaphore>) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else { return };
    tokio::spawn(async move {
        let _place = place;
        let _ = timeout_at(deadline, link.gather(&mut body, &mut Vec::new())).await;
    });
}

/// Closes what has been idle for too long; ends when nothing is left, or nobody.
async fn sweep(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(IDLE_MAX).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = lock(&idle);
        idle.links.retain(|(since, _)| since.elapsed() < IDLE_MAX);
        if idle.links.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

/// A connection that speaks HTTP.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// hyper's side of it; `None` once it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    wire: Wire,
    /// Nothing was answered yet.
    fresh: bool,
}

/// How a body ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
    Broken,
}

impl Link {
    async fn over<S>(stream: S, wire: Wire) -> Result<Link, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BODY_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
        Ok(Link { sender, connection: Some(Box::pin(connection)), wire, fresh: true })
    }

    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        let before = self.wire.written();
        self.wire.wait_for_head(true);
        let sent = self.sender.send_request(request);
        let answered = timeout_at(deadline, drive(&mut self.connection, sent)).await;
        self.wire.wait_for_head(false);
        let words = match answered {
            Ok(Ok(response)) => {
                self.fresh = false;
                return Ok(response);
            }
            Ok(Err(error)) if self.fresh && is_denial(&error) => return Err(Failure::Denied(chain(&error))),
            Ok(Err(error)) => chain(&error),
            Err(_) => "no answer in time".to_string(),
        };
        match self.wire.written() == before {
            true => Err(Failure::Unwritten(words)),
            false => Err(Failure::Unanswered(words)),
        }
    }

    async fn gather(&mut self, body: &mut Incoming, kept: &mut Vec<u8>) -> End {
        loop {
            match drive(&mut self.connection, body.frame()).await {
                None => return End::Whole,
                Some(Err(_)) => return End::Broken,
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    let room = BODY_MAX - kept.len();
                    kept.extend_from_slice(data.get(..room).unwrap_or(&data));
                    if data.len() > room {
                        return End::Cut;
                    }
                }
            }
        }
    }

    fn is_reusable(&mut self) -> bool {
        let ready = drive(&mut self.connection, self.sender.ready()).now_or_never();
        matches!(ready, Some(Ok(()))) && self.connection.is_some()
    }
}

/// Waits for `wanted` and moves the connection that it comes from.
async fn drive<F: Future>(
    connection: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    wanted: F,
) -> F::Output {
    let mut wanted = pin!(wanted);
    poll_fn(|cx| {
        // Asked first, since the connection reads no more of a body than was asked for.
        if let Poll::Ready(output) = wanted.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        if let Some(moved) = connection
            && moved.as_mut().poll(cx).is_ready()
        {
            // How it ended is told to whoever waits for an answer on it.
            *connection = None;
        }
        wanted.as_mut().poll(cx)
    })
    .await
}

/// A TCP connection that counts what the kernel took, and can be looked at while hyper has it. The count
/// stands below TLS: once the handshake is over, what is written is the request.
#[derive(Clone)]
struct Wire(Arc<Mutex<Socket>>);

struct Socket {
    tcp: TcpStream,
    written: u64,
    /// How many more bytes may come before the head of an answer is here, if one is waited for.
    before_head: Option<usize>,
}

impl Wire {
    fn written(&self) -> u64 {
        lock(&self.0).written
    }

    /// The head of an answer is waited for, or is here: however many provisional ones come before it, they end.
    fn wait_for_head(&self, waits: bool) {
        lock(&self.0).before_head = waits.then_some(HEAD_MAX);
    }

    /// Nothing waits to be read: no stray byte, no end. Asks the kernel, since the runtime may not have heard yet.
    fn is_quiet(&self) -> bool {
        let socket = lock(&self.0);
        let peeked = socket2::SockRef::from(&socket.tcp).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut socket = lock(&self.0);
        if socket.before_head == Some(0) {
            return Poll::Ready(Err(io::Error::other("it goes on and on before its answer")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut socket.tcp).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        socket.before_head = socket.before_head.map(|left| left.saturating_sub(read));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = lock(&self.0);
        let n = ready!(Pin::new(&mut socket.tcp).poll_write(cx, buf))?;
        socket.written += n as u64;
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = lock(&self.0);
        let n = ready!(Pin::new(&mut socket.tcp).poll_write_vectored(cx, bufs))?;
        socket.written += n as u64;
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).tcp).poll_shutdown(cx)
    }
}

/// Did the other side refuse our handshake? In TLS 1.3 we take it for done before our certificate was looked at, so that this
/// comes when a request was written already (RFC 8446 §4.4.2, §6.2).
fn is_denial(error: &hyper::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(rustls::Error::AlertReceived(alert)) = inner.and_then(|inner| inner.downcast_ref()) {
            return matches!(
                alert,
                Alert::CertificateRequired
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::HandshakeFailure
            );
        }
        cause = error.source();
    }
    false
}

/// Nothing that is done under these locks can panic half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the proxy connect us to the origin (RFC 9110 §9.3.6). Nothing of the request has been written then.
async fn tunnel(wire: &mut Wire, proxy: &Proxy, origin: &Origin) -> Result<(), String> {
    let to = format!("{}:{}", origin.authority.host(), origin.port());
    let mut ask = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(login) = proxy.authorization() {
        ask.extend([b"Proxy-Authorization: ", login.as_bytes(), b"\r\n"].concat());
    }
    ask.extend(b"\r\n");
    wire.write_all(&ask).await.map_err(|e| e.to_string())?;
    // One by one: what follows the head is the origin's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match wire.read_u8().await {
            Ok(byte) if head.len() < TUNNEL_HEAD_MAX => head.push(byte),
            Ok(_) => return Err("its answer does not end".into()),
            Err(_) => return Err("it closed the connection before it answered".into()),
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut fields);
    match answer.parse(&head).map(|_| answer.code) {
        Ok(Some(200..=299)) => Ok(()),
        Ok(Some(code)) => {
            let reason =
                StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or("");
            Err(format!("it answered {code} {reason}").trim_end().to_owned())
        }
        _ => Err("its answer is no HTTP".into()),
    }
}

/// Bytes of a proxy's answer to CONNECT at most.
const TUNNEL_HEAD_MAX: usize = 8 * 1024;

pub(super) fn tls(roots: RootCertStore, identity: Option<&Identity>) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| e.to_string())?.with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { certificates, key }) => {
            config.with_client_auth_cert(certificates.clone(), key.clone_key()).map_err(|e| e.to_string())?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config).into())
}

/// What the system trusts. What can not be read is left out: a handshake that needed it fails and says so.
pub(super) fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
