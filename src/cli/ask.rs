//! Asking the running daemon what only it knows, over the socket beside its pid file.
//!
//! The daemon may be another version, so what it says beyond what is known here is left alone. It is never waited for
//! longer than [`PATIENCE`]: a command that shows trouble is needed most when there is some.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Session;
use crate::alert::AlertId;
use crate::queue::{AttemptRow, AttemptState, Depth};
use crate::telemetry::{Wait, clip};

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 4 << 20;

/// Where the daemon listens to its own user.
pub(crate) struct Daemon {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No daemon runs, or it has no socket. The queue can be asked instead.
    #[error("nobody listens at {}", .0.display())]
    Nobody(PathBuf),
    /// The socket is not ours to use.
    #[error("{} can not be used ({error}); only the daemon's user and root may", socket.display())]
    Shut {
        /// The socket.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It hangs, is stopped, or has more to do than it can.
    #[error("the daemon does not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It says why it can not answer, usually that the queue does not answer it.
    #[error("{0}")]
    Refused(String),
    /// It says something else than a daemon does.
    #[error("the daemon's answer makes no sense: {0}")]
    Nonsense(String),
}

/// What the daemon says of itself, its ways out and the queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Live {
    /// Its version.
    pub(crate) version: String,
    /// When it was started.
    pub(crate) started_at: Timestamp,
    /// The ways out, in order of priority.
    pub(crate) dispatchers: Vec<Way>,
    /// Whether the queue answers it.
    pub(crate) queue: Answering,
    /// No dispatcher works, since then.
    pub(crate) all_down_since: Option<Timestamp>,
    /// How many instances work on the queue, with this one.
    pub(crate) instances: u32,
    /// It is stopping.
    pub(crate) stopping: bool,
    /// What waits.
    pub(crate) depth: Depth,
}

/// A way out; of one that only the configuration tells of, no more is known than its name and type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Way {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// It is in rotation.
    pub(crate) up: Option<bool>,
    /// Since when that holds.
    pub(crate) since: Option<Timestamp>,
    /// What kind of trouble it is in.
    pub(crate) cause: Option<String>,
    /// What it said last that was not a yes.
    pub(crate) reason: Option<String>,
    /// When it last took an SMS.
    pub(crate) last_accepted_at: Option<Timestamp>,
}

/// Whether the queue answers the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Answering {
    pub(crate) up: bool,
    pub(crate) since: Timestamp,
    pub(crate) reason: Option<String>,
}

/// An attempt, as far as a list of the last SMS shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Sms {
    pub(crate) id: uuid::Uuid,
    pub(crate) recipient: String,
    pub(crate) text: String,
    pub(crate) dispatcher: String,
    pub(crate) state: AttemptState,
    pub(crate) begun_at: Timestamp,
    pub(crate) possible_duplicate: bool,
}

impl Way {
    /// Those that the configuration names, of which no more is known.
    pub(crate) fn configured(session: &Session) -> Vec<Way> {
        let dispatchers = session.config.dispatchers.iter();
        dispatchers
            .map(|d| Way { name: d.name.clone(), kind: d.kind.as_str().to_owned(), ..Way::default() })
            .collect()
    }
}

impl From<AttemptRow> for Sms {
    fn from(row: AttemptRow) -> Sms {
        let AttemptRow { id, recipient, text, dispatcher, state, begun_at, possible_duplicate, .. } = row;
        Sms { id, recipient, text, dispatcher, state, begun_at, possible_duplicate }
    }
}

impl Daemon {
    /// The one that this configuration is for.
    pub(crate) fn of(session: &Session) -> Daemon {
        Daemon { socket: session.config.pid_file(&session.env).with_extension("sock") }
    }

    /// What holds now.
    ///
    /// # Errors
    /// [`AskError::Refused`] also while the queue does not answer: [`Daemon::ways`] can be had even then.
    pub(crate) async fn status(&self) -> Result<Live, AskError> {
        self.get("/api/v1/status").await
    }

    /// The ways out alone.
    pub(crate) async fn ways(&self) -> Result<Vec<Way>, AskError> {
        #[derive(Deserialize)]
        struct Answer {
            dispatchers: Vec<Way>,
        }
        Ok(self.get::<Answer>("/api/v1/dispatchers").await?.dispatchers)
    }

    /// The last SMS, the last begun first.
    pub(crate) async fn last_sms(&self, limit: usize) -> Result<Vec<Sms>, AskError> {
        #[derive(Deserialize)]
        struct Answer {
            attempts: Vec<Sms>,
        }
        Ok(self.get::<Answer>(&format!("/api/v1/attempts?limit={limit}")).await?.attempts)
    }

    /// Why an alert waits, as far as the daemon knows.
    pub(crate) async fn wait_of(&self, id: AlertId) -> Result<Option<Wait>, AskError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            waits: Option<Wait>,
        }
        Ok(self.get::<Answer>(&format!("/api/v1/alerts/{id}")).await?.waits)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let (ok, body) = timeout(PATIENCE, self.exchange(path)).await.map_err(|_| AskError::Silent)??;
        if ok {
            return serde_json::from_slice(&body).map_err(nonsense);
        }
        #[derive(Deserialize)]
        struct Problem {
            detail: String,
        }
        let Problem { mut detail } = serde_json::from_slice(&body).map_err(nonsense)?;
        clip(&mut detail, 300);
        Err(AskError::Refused(detail))
    }

    /// The body of an answer, and whether it is one.
    async fn exchange(&self, path: &str) -> Result<(bool, Bytes), AskError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(nonsense)?;
        let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(nonsense)?;
        let answer = async {
            let answer = requests.send_request(request).await.map_err(nonsense)?;
            let ok = answer.status().is_success();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(nonsense)?;
            Ok((ok, body.to_bytes()))
        };
        let connection = async {
            // How it ends is told by the answer, or by its absence.
            let _ = connection.await;
            std::future::pending().await
        };
        tokio::select! {
            answer = answer => answer,
            never = connection => never,
        }
    }

    fn unreachable(&self, error: io::Error) -> AskError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::Nobody(socket),
            _ => AskError::Shut { socket, error },
        }
    }
}

fn nonsense(error: impl ToString) -> AskError {
    let mut why = error.to_string();
    clip(&mut why, 300);
    AskError::Nonsense(why)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// What is said to somebody whom this is answered.
    async fn answered(answer: &'static [u8]) -> AskError {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon { socket: dir.path().join("sock") };
        let listener = UnixListener::bind(&daemon.socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            if answer.is_empty() {
                return std::future::pending().await;
            }
            let _ = stream.write_all(answer).await;
            // More than anybody wants to read.
            while answer.ends_with(b"\n\n") && stream.write_all(&[b' '; 65_536]).await.is_ok() {}
        };
        tokio::join!(daemon.status(), async {
            tokio::select! { () = serve => {}, () = tokio::time::sleep(PATIENCE * 2) => {} }
        })
        .0
        .unwrap_err()
    }

    #[tokio::test]
    async fn whatever_listens_there_is_neither_waited_for_nor_believed() {
        let nobody = Daemon { socket: "/nonexistent/smsd.sock".into() };
        assert!(matches!(nobody.status().await, Err(AskError::Nobody(_))));
        tokio::time::pause();
        assert!(matches!(answered(b"").await, AskError::Silent));
        tokio::time::resume();
        for nonsense in [
            &b"220 mail\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\n\r\n\n\n",
        ] {
            assert!(matches!(answered(nonsense).await, AskError::Nonsense(_)), "{nonsense:?}");
        }
        let refused =
            answered(b"HTTP/1.1 503 No\r\nContent-Length: 20\r\n\r\n{\"detail\":\"\\u001b[2J\"}").await;
        assert!(matches!(refused, AskError::Nonsense(_)), "cut in the middle: {refused}");
        let refused =
            answered(b"HTTP/1.1 503 No\r\nContent-Length: 22\r\n\r\n{\"detail\":\"\\u001b[2J\"}").await;
        assert_eq!(refused.to_string(), r"\u{1b}[2J");
    }
}
