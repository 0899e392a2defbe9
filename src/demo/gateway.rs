//! An HTTP gateway with faults as options, on loopback: for the demonstration, the tests and the benchmarks.
//!
//! It takes the number from the parameter `to`, `phone` or `number` and the text from `text`, `sms`, `msg` or
//! `message`, in the query, in a form, or as members of a JSON object. Its list of what it accepted is the oracle of every test of faults: what stands there went out.
//! It speaks just enough HTTP/1.1 to be misused, and keeps connections alive.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A free port of loopback.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A gateway that runs until it is dropped.
pub struct Gateway {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

/// How it treats a request.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// It takes the SMS, whatever it answers.
    pub takes: bool,
    /// It waits so long before it answers.
    pub delay: Duration,
    /// What it answers.
    pub answer: Answer,
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A proper answer.
    Proper {
        /// Its status.
        status: u16,
        /// Header fields beside `Content-Length`.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// The request itself as the body of this status.
    Echo(u16),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// The first bytes at once, the others one by one.
    Drip {
        /// What comes at once.
        first: Vec<u8>,
        /// What drips.
        then: Vec<u8>,
        /// Time before each byte.
        every: Duration,
    },
    /// The first bytes once, the second for ever; if there are no second, silence.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, for ever.
    Hang,
    /// The end of the connection.
    Close,
    /// A reset of the connection.
    Reset,
}

/// An SMS that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The number, decoded.
    pub phone: String,
    /// The text, decoded.
    pub text: String,
    /// The request target as it came over the wire.
    pub target: String,
    /// When.
    pub at: Timestamp,
}

impl Behaviour {
    /// 200, and the SMS is taken.
    pub fn ok() -> Behaviour {
        Behaviour { takes: true, ..Behaviour::status(200) }
    }

    /// This status, and the SMS is not taken.
    pub fn status(status: u16) -> Behaviour {
        Behaviour::answering(Answer::Proper { status, headers: Vec::new(), body: Vec::new() })
    }

    /// This answer at once, and the SMS is not taken.
    pub fn answering(answer: Answer) -> Behaviour {
        Behaviour { takes: false, delay: Duration::ZERO, answer }
    }

    /// The same with a header field, if it is a proper answer.
    pub fn header(mut self, name: &str, value: &str) -> Behaviour {
        if let Answer::Proper { headers, .. } = &mut self.answer {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// The same with a body, if it is a proper answer.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Behaviour {
        if let Answer::Proper { body, .. } = &mut self.answer {
            *body = bytes.into();
        }
        self
    }

    /// The same after a while.
    pub fn delay(self, delay: Duration) -> Behaviour {
        Behaviour { delay, ..self }
    }

    /// The same, and the SMS is taken: its answer is a lie or gets lost.
    pub fn taking(self) -> Behaviour {
        Behaviour { takes: true, ..self }
    }
}

impl Gateway {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// What listening said.
    pub async fn start(behaviour: Behaviour) -> io::Result<Gateway> {
        Gateway::serve(LOOPBACK, behaviour, None).await
    }

    /// Starts one at an address that a dispatcher knows already: a gateway that comes (back) up.
    ///
    /// # Errors
    /// What listening said.
    pub async fn start_at(addr: SocketAddr, behaviour: Behaviour) -> io::Result<Gateway> {
        Gateway::serve(addr, behaviour, None).await
    }

    /// Starts one that speaks TLS.
    ///
    /// # Errors
    /// What listening said.
    pub async fn start_tls(behaviour: Behaviour, tls: Arc<rustls::ServerConfig>) -> io::Result<Gateway> {
        Gateway::serve(LOOPBACK, behaviour, Some(tls.into())).await
    }

    async fn serve(addr: SocketAddr, behaviour: Behaviour, tls: Option<TlsAcceptor>) -> io::Result<Gateway> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::new(behaviour)));
        let task = tokio::spawn(listen(listener, tls, state.clone())).abort_handle();
        Ok(Gateway { addr, state, task })
    }

    /// Changes how every request is treated from now on.
    pub fn set(&self, behaviour: Behaviour) {
        self.state().all = behaviour;
    }

    /// Changes how requests for one number are treated from now on.
    pub fn set_for(&self, phone: &str, behaviour: Behaviour) {
        self.state().by_phone.insert(phone.into(), behaviour);
    }

    /// What it took, in order.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.state().accepted.clone()
    }

    /// How many it took.
    pub fn accepted_count(&self) -> usize {
        self.state().accepted.len()
    }

    /// The targets of all requests that it read to the end of their head, taken or not.
    pub fn targets(&self) -> Vec<String> {
        self.state().heads.iter().filter_map(|head| head.split(' ').nth(1)).map(String::from).collect()
    }

    /// The heads of those requests as they came.
    pub fn heads(&self) -> Vec<String> {
        self.state().heads.clone()
    }

    /// The bodies of those requests, empty ones too.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.state().bodies.clone()
    }

    /// How many connections were opened to it.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// Ends it, and comes back when nobody listens any more and every connection is closed.
    pub async fn stop(self) {
        self.task.abort();
        while Arc::strong_count(&self.state) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct State {
    all: Behaviour,
    by_phone: BTreeMap<String, Behaviour>,
    accepted: Vec<Accepted>,
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
    connections: usize,
}

impl State {
    fn new(all: Behaviour) -> State {
        let (by_phone, accepted, heads, bodies) = Default::default();
        State { all, by_phone, accepted, heads, bodies, connections: 0 }
    }

    /// Writes a request down and says how to treat it.
    fn meet(&mut self, head: String, body: Vec<u8>) -> Behaviour {
        let target = head.split(' ').nth(1).unwrap_or_default().to_string();
        let mut values = parameters(target.split_once('?').map_or("", |(_, query)| query));
        match serde_json::from_slice::<HashMap<String, serde_json::Value>>(&body) {
            Ok(members) => {
                let text =
                    |(key, value): (String, serde_json::Value)| Some((key, value.as_str()?.to_string()));
                values.extend(members.into_iter().filter_map(text));
            }
            Err(_) => values.extend(parameters(&String::from_utf8_lossy(&body))),
        }
        let value = |names: &[&str]| names.iter().find_map(|n| values.get(*n)).cloned().unwrap_or_default();
        let (phone, text) = (value(&["to", "phone", "number"]), value(&["text", "sms", "msg", "message"]));
        let behaviour = self.by_phone.get(&phone).unwrap_or(&self.all).clone();
        if behaviour.takes {
            self.accepted.push(Accepted { phone, text, target, at: Timestamp::now() });
        }
        self.heads.push(head);
        self.bodies.push(body);
        behaviour
    }
}

fn parameters(query: &str) -> HashMap<String, String> {
    let decode = |s: &str| percent_decode_str(&s.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (decode(key), decode(value))).collect()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    // Dropped with the gateway, and all its connections with it.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((tcp, _)) = listener.accept().await else { continue };
        lock(&state).connections += 1;
        let (tls, state) = (tls.clone(), state.clone());
        connections.spawn(async move {
            match tls {
                None => talk(tcp, &state).await,
                Some(tls) => talk(tls.accept(tcp).await?, &state).await,
            }
        });
    }
}

/// What [`talk`] needs of a stream.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn talk(stream: impl Stream, state: &Mutex<State>) -> io::Result<()> {
    stream.tcp().set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let mut body = vec![0; content_length(&head)];
        stream.read_exact(&mut body).await?;
        let echo = [head.as_slice(), &body].concat();
        let behaviour = lock(state).meet(String::from_utf8_lossy(&head).into_owned(), body);
        if !behaviour.delay.is_zero() {
            tokio::time::sleep(behaviour.delay).await;
        }
        match behaviour.answer {
            Answer::Proper { status, headers, body } => {
                stream.write_all(&proper(status, &headers, &body)).await?;
                stream.flush().await?;
            }
            Answer::Echo(status) => {
                stream.write_all(&proper(status, &[], &echo)).await?;
                stream.flush().await?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Answer::Drip { first, then, every } => {
                stream.write_all(&first).await?;
                stream.flush().await?;
                for byte in then {
                    tokio::time::sleep(every).await;
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                }
            }
            Answer::Endless(first, then) => {
                stream.write_all(&first).await?;
                stream.flush().await?;
                if then.is_empty() {
                    std::future::pending::<()>().await;
                }
                loop {
                    stream.write_all(&then).await?;
                }
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => return stream.shutdown().await,
            Answer::Reset => {
                let socket = socket2::SockRef::from(stream.get_ref().tcp());
                return socket.set_linger(Some(Duration::ZERO));
            }
        }
    }
}

/// Bytes of the body behind a head, at most [`BODY_MAX`].
fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.unwrap_or(0).min(BODY_MAX)
}

/// A request with a longer body is no SMS.
const BODY_MAX: usize = 1 << 20;

fn proper(status: u16, headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} \r\n").into_bytes();
    for (name, value) in headers {
        answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if status != 204 && status != 304 && status >= 200 {
        answer.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body);
    answer
}
