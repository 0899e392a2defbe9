//! A TCP proxy before PostgreSQL that cuts a connection at its next commit.

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

/// Ends with the value.
pub struct Proxy {
    pub port: u16,
    cut: Arc<Mutex<Option<Cut>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(server: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(Mutex::new(None));
        let task = tokio::spawn({
            let cut = cut.clone();
            async move {
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    connections.spawn(carry(client, server, cut.clone()));
                }
            }
        });
        Proxy { port, cut, task }
    }

    /// Arms the cut.
    pub fn cut_next(&self, cut: Cut) {
        *self.cut.lock().unwrap() = Some(cut);
    }

    /// True if the cut that was armed has happened.
    pub fn has_cut(&self) -> bool {
        self.cut.lock().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, server: u16, cut: Arc<Mutex<Option<Cut>>>) {
    /// The simple query as it stands on the wire.
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            n = client.read(&mut up) => {
                let Some(bytes) = n.ok().and_then(|n| up.get(..n)).filter(|b| !b.is_empty()) else { return };
                let at = bytes.windows(COMMIT.len()).position(|w| w == COMMIT);
                let armed = match at {
                    Some(_) => cut.lock().unwrap().take(),
                    None => None,
                };
                match (armed, at) {
                    (Some(Cut::BeforeCommit), Some(at)) => {
                        server.write_all(&bytes[..at]).await.unwrap();
                        return;
                    }
                    (Some(Cut::AfterCommit), _) => {
                        server.write_all(bytes).await.unwrap();
                        // `Terminate` makes the server end the session when it has done the commit.
                        server.write_all(b"X\0\0\0\x04").await.unwrap();
                        while matches!(server.read(&mut down).await, Ok(n) if n > 0) {}
                        return;
                    }
                    _ => server.write_all(bytes).await.unwrap(),
                }
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
