//! A site that is attacked: the daemon with the HTTP interface, callers with a token each, a gateway that takes all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smsd::web::access::Hash;

use crate::bench::{Daemon, Gateway, Site, gateway, nobody_listens, until, ways};

/// Who has a token, and what it may.
const TOKENS: [(&str, &str); 5] = [
    ("icinga", "send"),
    ("printer", "send"),
    ("alertmanager", "send"),
    ("screen", "read"),
    ("boss", "send read operate"),
];

/// Within this time the gateway has what is urgent.
const URGENT: Duration = Duration::from_secs(2);

/// See the module.
pub struct Place {
    pub site: Site,
    pub gateway: Gateway,
    pub address: SocketAddr,
    /// Urgent alerts so far.
    asked: AtomicUsize,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Place {
    /// `main`: more keys of [main]; `rest`: sections. `[http]` is there.
    pub fn new(main: &str, rest: &str) -> Place {
        let (site, gateway) = (Site::embedded("", ""), gateway());
        let place = Place { site, gateway, address: nobody_listens(), asked: AtomicUsize::new(0) };
        place.configure(main, &format!("{}\n{rest}", ways(&[place.gateway.addr], "")), &TOKENS);
        place
    }

    /// The same with dispatchers among the sections, and other tokens.
    pub fn configure(&self, main: &str, rest: &str, tokens: &[(&str, &str)]) {
        let tokens: String = tokens
            .iter()
            .map(|(name, may)| format!("token.{name}: {may} sha256:{}\n", Hash::of(token(name)).to_hex()))
            .collect();
        let main = format!("urgent_severity: 1\ngroup_interval: 0\n{main}");
        let rest = format!("[http]\nlisten: {}\n{tokens}[queue]\npoll_interval: 100ms\n{rest}", self.address);
        self.site.configure(&main, &rest);
    }

    /// Without a token.
    pub fn revoke(&self, main: &str, name: &str) {
        let left: Vec<_> = TOKENS.into_iter().filter(|(other, _)| *other != name).collect();
        self.configure(main, &ways(&[self.gateway.addr], ""), &left);
    }

    /// A running daemon that answers.
    pub fn start(&self) -> Daemon {
        self.up(self.site.start())
    }

    pub fn up(&self, daemon: Daemon) -> Daemon {
        let daemon = daemon.up();
        until("it answers", || TcpStream::connect(self.address).ok());
        daemon
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.raw(head + body)
    }

    /// These bytes, and all that is answered until the connection ends.
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // Who is refused early is told so all the same.
        let _ = stream.write_all(bytes.as_ref());
        Answer::whole(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream
    }

    pub fn get(&self, by: &str, path: &str) -> Answer {
        self.ask("GET", path, &bearer(by), "")
    }

    pub fn post(&self, by: &str, path: &str, body: &str) -> Answer {
        let headers = format!("{}Content-Type: application/json\r\n", bearer(by));
        self.ask("POST", path, &headers, body)
    }

    /// What `POST /api/v1/alerts` says.
    pub fn hand_in(&self, by: &str, to: &str, text: &str, severity: i32) -> Answer {
        self.post(by, "/api/v1/alerts", &json!({"to": to, "text": text, "severity": severity}).to_string())
    }

    /// The id of an alert that is queued.
    #[track_caller]
    pub fn queued(&self, by: &str, to: &str, text: &str, severity: i32) -> i64 {
        let answer = self.hand_in(by, to, text, severity);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["ids"][0].as_i64().unwrap()
    }

    /// The answer to a login, by a form as browsers send it.
    pub fn log_in(&self, token: &str) -> Answer {
        let headers = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.ask("POST", "/login", headers, &format!("token={token}"))
    }

    /// A metric's value.
    pub fn metric(&self, name: &str) -> f64 {
        let all = self.get("boss", "/metrics").body;
        let line = all.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing in {all}")).trim().parse().unwrap()
    }

    pub fn is_sent(&self, text: &str) -> bool {
        self.gateway.accepted().iter().any(|sms| sms.text.contains(text))
    }

    /// An urgent alert of an honest caller to somebody of its own; how long it took until the gateway had it.
    #[track_caller]
    pub fn urgent(&self) -> Duration {
        let n = self.asked.fetch_add(1, Ordering::Relaxed);
        let (to, text) = (format!("+4791{n:06}"), format!("urgent {n}"));
        let begun = Instant::now();
        self.queued("icinga", &to, &text, 1);
        let took = until("the gateway has what is urgent", || {
            let there = self.gateway.accepted().iter().rev().any(|sms| sms.phone == to && sms.text == text);
            there.then(|| begun.elapsed())
        });
        assert!(took < URGENT, "it took {took:?}");
        took
    }

    /// Urgent alerts, and what else an honest caller does, until the attack is over; the longest delay.
    #[track_caller]
    pub fn while_honest(&self, attack: impl FnOnce() + Send, mut also: impl FnMut()) -> Duration {
        thread::scope(|scope| {
            let attack = scope.spawn(attack);
            let mut slowest = Duration::ZERO;
            while !attack.is_finished() {
                slowest = slowest.max(self.urgent());
                also();
                sleep(Duration::from_millis(100));
            }
            attack.join().unwrap();
            slowest.max(self.urgent())
        })
    }
}

/// Holds what an attack cost against what it may cost, and tells it.
pub fn account(
    attack: &str,
    connections: usize,
    begun: Instant,
    daemon: &Daemon,
    urgent: Duration,
    mib: u64,
) {
    let (seconds, peak) = (begun.elapsed().as_secs_f64(), daemon.memory().1 / 1024);
    let urgent = urgent.as_millis();
    println!("attack: {attack:<40} {connections:>11} {seconds:>7.1} {peak:>9} {urgent:>9}");
    assert!(peak < mib, "{peak} MiB at most so far");
}

impl Answer {
    /// All that comes until the connection ends.
    pub fn whole(mut stream: TcpStream) -> Answer {
        let mut all = Vec::new();
        // A reset after the answer is an end, too.
        let _ = stream.read_to_end(&mut all);
        let all = String::from_utf8_lossy(&all);
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// The cookie that a login sets, as a browser brings it.
    pub fn session(&self) -> String {
        assert_eq!(self.status, 303, "{self:?}");
        let cookie = self.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

pub fn token(name: &str) -> String {
    format!("{name}-0123456789abcdef")
}

pub fn bearer(name: &str) -> String {
    format!("Authorization: Bearer {}\r\n", token(name))
}

/// Connections that say something, wait for what is answered, and come again, until it is stopped.
pub struct Flood {
    over: Arc<AtomicBool>,
    opened: JoinHandle<usize>,
}

impl Flood {
    /// `word`: what the connection of this number says.
    pub fn start(
        address: SocketAddr,
        connections: usize,
        word: impl Fn(usize) -> String + Send + 'static,
    ) -> Flood {
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let opened = thread::spawn(move || {
            let (mut slots, mut opened) = (Vec::new(), 0);
            slots.resize_with(connections, || None::<TcpStream>);
            while !ended.load(Ordering::Relaxed) {
                for (n, slot) in slots.iter_mut().enumerate() {
                    if slot.as_mut().is_some_and(is_open) {
                        continue;
                    }
                    let Ok(mut stream) = TcpStream::connect(address) else { continue };
                    opened += 1;
                    stream.set_nonblocking(true).unwrap();
                    let _ = stream.write_all(word(n).as_bytes());
                    *slot = Some(stream);
                }
                sleep(Duration::from_millis(20));
            }
            opened
        });
        Flood { over, opened }
    }

    /// How many connections it opened.
    pub fn stop(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.opened.join().unwrap()
    }
}

/// Nothing has come, and the other side has not closed it.
fn is_open(stream: &mut TcpStream) -> bool {
    let mut some = [0; 4096];
    match stream.read(&mut some) {
        Ok(n) => n > 0,
        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
    }
}
