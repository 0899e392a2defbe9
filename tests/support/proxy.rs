//! A TCP proxy before PostgreSQL that cuts a connection at its next commit, or stops it there for good.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Where to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The commit is done; its reply is lost.
    AfterCommit,
    /// The commit never arrives.
    BeforeCommit,
}

/// What is to happen, once.
#[derive(Clone, Copy)]
struct Trap {
    cut: Cut,
    /// Only to a transaction in which this was sent.
    with: Option<&'static [u8]>,
    /// The connection stays, and nobody hears anything on it any more.
    hangs: bool,
}

/// Ends with the value.
pub struct Proxy {
    pub port: u16,
    trap: Arc<Mutex<Option<Trap>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let trap = Arc::new(Mutex::new(None));
        let task = tokio::spawn({
            let trap = trap.clone();
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    connections.spawn(carry(client, server, trap.clone()));
                }
            }
        });
        Proxy { port, trap, task }
    }

    /// Arms the cut.
    pub fn cut_next(&self, cut: Cut) {
        *self.trap.lock().unwrap() = Some(Trap { cut, with: None, hangs: false });
    }

    /// Arms a silence: at the commit of the next transaction in which this was sent.
    pub fn hang_next(&self, cut: Cut, with: &'static str) {
        *self.trap.lock().unwrap() = Some(Trap { cut, with: Some(with.as_bytes()), hangs: true });
    }

    /// True if what was armed has happened.
    pub fn has_cut(&self) -> bool {
        self.trap.lock().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, server: u16, trap: Arc<Mutex<Option<Trap>>>) {
    /// The simple query as it stands on the wire.
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    // What was sent in this transaction.
    let mut said = Vec::new();
    loop {
        tokio::select! {
            n = client.read(&mut up) => {
                let Some(bytes) = n.ok().and_then(|n| up.get(..n)).filter(|b| !b.is_empty()) else { return };
                said.extend_from_slice(bytes);
                let at = find(bytes, COMMIT);
                let armed = match at {
                    Some(_) => trap.lock().unwrap().take_if(|trap| trap.with.is_none_or(|with| find(&said, with).is_some())),
                    None => None,
                };
                if at.is_some() {
                    said.clear();
                }
                let Some(Trap { cut, hangs, .. }) = armed else {
                    server.write_all(bytes).await.unwrap();
                    continue;
                };
                match cut {
                    Cut::BeforeCommit => server.write_all(&bytes[..at.unwrap_or_default()]).await.unwrap(),
                    Cut::AfterCommit => {
                        server.write_all(bytes).await.unwrap();
                        // `Terminate` makes the server end the session when it has done the commit.
                        server.write_all(b"X\0\0\0\x04").await.unwrap();
                        while matches!(server.read(&mut down).await, Ok(n) if n > 0) {}
                    }
                }
                if hangs {
                    // Until the client goes; then the server sees its end too, and rolls back what is not committed.
                    while matches!(client.read(&mut up).await, Ok(n) if n > 0) {}
                }
                return;
            }
            n = server.read(&mut down) => {
                let Some(bytes) = n.ok().and_then(|n| down.get(..n)).filter(|b| !b.is_empty()) else { return };
                if client.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
