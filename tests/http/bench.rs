//! The interface on a free port of loopback before an embedded queue, and a client that writes what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use smsd::config::{Config, HttpConfig, Token};
use smsd::daemon::build_ways;
use smsd::queue::{Queue, sqlite::SqliteQueue};
use smsd::standing::Standing;
use smsd::telemetry::{Hub, Sampler};
use smsd::web::access::{Hash, Scope};
use smsd::web::{self, Site};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The interface; ends when dropped.
pub(super) struct Bench {
    pub(super) addr: SocketAddr,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) dir: TempDir,
    pub(super) over: CancellationToken,
    pub(super) tasks: JoinSet<()>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub(super) fn token(name: &str, token: &str, scopes: &[Scope]) -> Token {
    let scopes = scopes.iter().copied().collect();
    Token { name: name.to_owned(), scopes, bounds: Arc::default(), hash: Hash::of(token) }
}

impl Bench {
    pub(super) async fn start(tokens: Vec<Token>) -> Bench {
        Bench::in_dir(TempDir::new().unwrap(), tokens).await
    }

    pub(super) async fn in_dir(dir: TempDir, tokens: Vec<Token>) -> Bench {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let poll = Duration::from_millis(50);
        let queue: Arc<dyn Queue> =
            Arc::new(SqliteQueue::open(&dir.path().join("queue.db"), poll, true).await.unwrap());
        let mut config = Config::embedded();
        config.groups.insert("noc".to_owned(), vec!["+4790000001".parse().unwrap(), "112".parse().unwrap()]);
        config.http =
            HttpConfig { listen: vec![addr.to_string().parse().unwrap()], tokens, ..HttpConfig::default() };
        let hub =
            Arc::new(Hub::new(config.dispatchers.iter().map(|d| (d.name.as_str().into(), d.kind.as_str()))));
        let (sampler, _) = Sampler::new(Arc::clone(&queue));
        let (desk, mut clerk) = smsd::intake::desk(Arc::clone(&queue));
        let ways = build_ways(&config).unwrap();
        let (stand, standing) = watch::channel(Arc::new(Standing { config, ways }));
        let socket = Some(dir.path().join("smsd.sock"));
        let site = Site {
            queue: Arc::clone(&queue),
            hub,
            sampler,
            desk,
            standing,
            socket,
            inherited: Arc::default(),
        };
        let (over, mut tasks) = (CancellationToken::new(), JoinSet::new());
        let ends = over.clone();
        tasks.spawn(async move {
            clerk.work(ends).await;
            drop(stand);
        });
        tasks.spawn(web::serve(site, over.clone()));
        let bench = Bench { addr, queue, dir, over, tasks };
        while TcpStream::connect(addr).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Writes these bytes on a connection of their own, and reads the first answer.
    pub(super) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect().await;
        // Who is refused in the middle may not have read all.
        let _ = stream.write_all(bytes.as_ref()).await;
        read(&mut stream).await
    }

    /// Asks; `headers` end with CR LF each.
    pub(super) async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = self.addr;
        let length = body.len();
        self.raw(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, JSON, body).await
    }
}

pub(super) const JSON: &str = "Content-Type: application/json\r\n";

/// Reads one answer.
pub(super) async fn read(stream: &mut TcpStream) -> Answer {
    timeout(PATIENCE, async {
        let mut got = Vec::new();
        let head = loop {
            if let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            let mut some = [0; 4096];
            match stream.read(&mut some).await {
                Ok(n) if n > 0 => got.extend(&some[..n]),
                _ => {
                    return Answer {
                        status: 0,
                        head: String::new(),
                        body: String::from_utf8_lossy(&got).into(),
                    };
                }
            }
        };
        let text = String::from_utf8_lossy(&got[..head]).to_lowercase();
        let length = text.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        while got.len() < head + length {
            let mut some = [0; 4096];
            match stream.read(&mut some).await {
                Ok(n) if n > 0 => got.extend(&some[..n]),
                _ => break,
            }
        }
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Answer { status, head: text, body: String::from_utf8_lossy(&got[head..]).into() }
    })
    .await
    .expect("an answer in time")
}
