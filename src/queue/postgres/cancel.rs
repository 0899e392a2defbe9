//! Telling the server that nobody waits for an answer any more.
//!
//! A verb is given up when its time is over, or when its caller goes away. PostgreSQL notices neither while
//! it works: a scan of a large table would go on, and the next one would run beside it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_postgres::{CancelToken, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::link::Session;

/// The longest time to tell it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a session's server is told.
#[derive(Clone)]
pub(super) struct Canceller {
    pub(super) token: CancelToken,
    /// Where the session itself has TLS.
    pub(super) tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    async fn tell(self) {
        let told = async {
            match self.tls {
                Some(tls) => self.token.cancel_query(tls).await,
                None => self.token.cancel_query(NoTls).await,
            }
        };
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("the database was not told that a query was given up: {error}"),
            Err(_) => tracing::debug!("the database does not hear that a query was given up"),
        }
    }
}

/// Those that are being told. What is still under way ends with the value.
#[derive(Default)]
pub(super) struct Cancels(Mutex<JoinSet<()>>);

impl Cancels {
    /// Ends what this session's server is doing for us, and then the session: a pooler hears only of the
    /// living.
    fn end(&self, session: Session) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(
            async move {
                session.canceller.clone().tell().await;
                drop(session);
            },
            &runtime,
        );
    }
}

/// A session at work. Unless it is [given back](AtWork::done), its verb has been given up.
pub(super) struct AtWork<'a> {
    session: Option<Session>,
    /// `None` where the server is not told.
    cancels: Option<&'a Cancels>,
}

impl<'a> AtWork<'a> {
    pub(super) fn new(session: Session, cancels: Option<&'a Cancels>) -> AtWork<'a> {
        AtWork { session: Some(session), cancels }
    }

    /// The verb has ended by itself.
    pub(super) fn done(mut self) -> Option<Session> {
        self.session.take()
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if let (Some(session), Some(cancels)) = (self.session.take(), self.cancels) {
            cancels.end(session);
        }
    }
}
