//! Listening for notifications, and not believing in them until one of our own has come back.
//!
//! Between us and PostgreSQL a pooler may stand that lends a session for the length of a transaction (PgBouncer in
//! transaction mode). There `LISTEN` succeeds and nothing ever comes. So a session does nothing but listen, and
//! another one sends it an echo. What listens must stay silent meanwhile: the same pooler would bring it what its
//! own transaction on the right session had just notified. Looks at the queue go on either way, each
//! `poll_interval`; only people are told, once, why an alert is not noticed sooner.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::client::Parameter;
use super::link::{Link, Server, Wire};
use crate::queue::News;
use crate::queue::news::ECHO;

/// For so long an echo may be under way.
const ECHO_WITHIN: Duration = Duration::from_secs(5);
/// How often notifications that come are tested: a connection may die without a word.
const TRUSTED: Duration = Duration::from_secs(60);
/// How often notifications that do not come are tested.
const DEAF: Duration = Duration::from_secs(600);
/// Pause between tries to reach the database.
const PAUSE: Duration = Duration::from_secs(2);

/// A task that listens; it ends with the value.
pub(crate) struct Ear {
    task: JoinHandle<()>,
    tried: watch::Receiver<bool>,
}

impl Ear {
    /// Listens from now on and rings the server's bell. `voice` sends the echoes.
    pub(crate) fn open(server: Arc<Server>, voice: Arc<Link>) -> Ear {
        let (tried, seen) = watch::channel(false);
        Ear { task: tokio::spawn(listen(server, voice, tried)), tried: seen }
    }

    /// Returns when it listens, or could not at first.
    pub(crate) async fn ready(&self) {
        let _ = self.tried.clone().wait_for(|tried| *tried).await;
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Session after session.
async fn listen(server: Arc<Server>, voice: Arc<Link>, tried: watch::Sender<bool>) {
    let mut trusted = true;
    loop {
        let echo = Arc::new(Echo::default());
        if let Some(mut session) = session(&server, &echo).await {
            let mut fresh = true;
            while let Some(heard) = echo.test(&server, &voice, &mut session).await {
                if fresh {
                    // What came before it listened is not known.
                    server.news.ring(News::Submitted);
                    tried.send_replace(true);
                    fresh = false;
                }
                tell(&server, &mut trusted, heard);
                let pause = if heard { TRUSTED } else { DEAF };
                if timeout(pause, session.ended()).await.is_ok() {
                    break;
                }
            }
        }
        tried.send_replace(true);
        sleep(PAUSE).await;
    }
}

/// A listening session. If there is none, the queue's verbs meet the reason themselves, and tell it.
async fn session(server: &Server, echo: &Arc<Echo>) -> Option<Wire> {
    let (news, heard) = (server.news.clone(), echo.clone());
    server
        .wire(Arc::new(move |payload| match payload.strip_prefix(ECHO) {
            Some(nonce) => heard.came(nonce),
            None => news.ring(News::of_notification(payload)),
        }))
        .await
        .inspect_err(|error| tracing::debug!("no session to listen on: {error}"))
        .ok()
}

fn tell(server: &Server, trusted: &mut bool, heard: bool) {
    let place = server.settings.location();
    match (std::mem::replace(trusted, heard), heard) {
        (true, false) => tracing::warn!(
            "notifications from database {place} do not arrive, as behind a pooler in transaction mode; \
             new alerts are found by looking, each poll_interval"
        ),
        (false, true) => tracing::info!("notifications from database {place} arrive"),
        _ => {}
    }
}

/// What we send to ourselves.
struct Echo {
    /// Of this session.
    nonce: String,
    back: Notify,
}

impl Default for Echo {
    fn default() -> Self {
        Echo { nonce: Uuid::now_v7().to_string(), back: Notify::new() }
    }
}

impl Echo {
    fn came(&self, nonce: &str) {
        if nonce == self.nonce {
            self.back.notify_one();
        }
    }

    /// Whether an echo comes back; `None` if that can not be told: the session has ended, or none could be sent.
    async fn test(&self, server: &Server, voice: &Link, session: &mut Wire) -> Option<bool> {
        do_within(session, "LISTEN smsd").await?;
        let payload = format!("{ECHO}{}", self.nonce);
        let payload: &Parameter<'_> = &(&payload, Type::TEXT);
        let said = voice
            .run(server, |client| async move {
                client.query_typed("SELECT pg_notify('smsd', $1)", std::slice::from_ref(payload)).await?;
                Ok(())
            })
            .await;
        said.inspect_err(|error| tracing::debug!("no echo sent: {error}")).ok()?;
        let heard = tokio::select! {
            () = self.back.notified() => true,
            () = sleep(ECHO_WITHIN) => false,
            () = session.ended() => return None,
        };
        if !heard {
            // Behind a pooler some session listens now for nobody; most likely the next transaction gets that one.
            do_within(session, "UNLISTEN smsd").await?;
        }
        Some(heard)
    }
}

/// A command without an answer, if it is done in time.
async fn do_within(session: &Wire, command: &str) -> Option<()> {
    let done = timeout(ECHO_WITHIN, session.client.batch_execute(command)).await.ok()?;
    done.inspect_err(|error| tracing::debug!("{command}: {error}")).ok()
}
