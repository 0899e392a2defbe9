//! Links: connections that come about when they are needed, and again when they were lost.
//!
//! A link carries one verb at a time; verbs that shall not wait for each other have links of their own. A
//! verb is one network round trip: its statements are all on the way before the first answer is read.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all, join3};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::connect::{OnNotify, connect};
use super::fault;
use super::settings::Settings;
use crate::queue::news::{Bell, ECHO};
use crate::queue::{News, QueueError};

/// How often a verb that collided with another (deadlock, serialisation) is done again.
const COLLISIONS: u32 = 5;

/// What all links of one queue share.
pub(crate) struct Server {
    /// Where it is.
    pub(crate) settings: Settings,
    /// Checks a new session, given its place for people, before its first verb; what it refuses is not used.
    pub(crate) prepare: fn(Arc<Client>, String) -> BoxFuture<'static, Result<(), Fault>>,
    /// Woken by a notification, and by a new listening session ([`super::Ear`]).
    pub(crate) news: Arc<Bell>,
}

impl Server {
    /// A session of its own, unchecked.
    pub(crate) async fn session(&self) -> Result<Session, QueueError> {
        let news = self.news.clone();
        // A pooler may bring any session what another one listens for.
        self.session_with(Arc::new(move |payload| {
            if !payload.starts_with(ECHO) {
                news.ring(News::of_notification(payload));
            }
        }))
        .await
    }

    /// The same with other use for notifications.
    pub(super) async fn session_with(&self, notify: OnNotify) -> Result<Session, QueueError> {
        let (client, driver) = connect(&self.settings, &notify).await?;
        Ok(Session { client: Arc::new(client), driver: tokio::spawn(driver) })
    }

    /// What a failure means to the caller.
    pub(crate) fn explain(&self, fault: Fault) -> QueueError {
        match fault {
            Fault::Sql(error) => fault::of_verb(&self.settings, &error),
            Fault::Queue(error) => error,
        }
    }
}

/// Why a verb failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// PostgreSQL or the network says so.
    Sql(Error),
    /// We say so.
    Queue(QueueError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Sql(error)
    }
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Fault {
        Fault::Queue(error)
    }
}

/// A connection with the task that drives it; both end together.
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Returns when the connection has ended; to be waited for once.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// One connection at most, made when it is needed.
pub(crate) struct Link {
    session: Mutex<Option<Session>>,
    patience: Duration,
}

impl Link {
    /// A link whose verbs take at most `patience`; after that the server is taken for dead.
    pub(crate) fn new(patience: Duration) -> Link {
        Link { session: Mutex::new(None), patience }
    }

    /// Does a verb. A lost connection is made anew once and the verb done again, so a verb must find out
    /// what an earlier call of it has already done.
    pub(crate) async fn run<T, V, F>(&self, server: &Server, verb: V) -> Result<T, QueueError>
    where
        V: Fn(Arc<Client>) -> F,
        F: Future<Output = Result<T, Fault>>,
    {
        let mut slot = self.session.lock().await;
        let (mut lost, mut collisions) = (false, 0);
        loop {
            // Out of its slot while it works: a verb that is given up in the middle takes its session along.
            let session = match slot.take().filter(|session| !session.client.is_closed()) {
                Some(session) => session,
                None => self.fresh(server).await?,
            };
            let fault = match tokio::time::timeout(self.patience, verb(session.client.clone())).await {
                Ok(Ok(done)) => {
                    *slot = Some(session);
                    return Ok(done);
                }
                Ok(Err(fault)) => fault,
                Err(_) => return Err(self.no_answer(server)),
            };
            match &fault {
                Fault::Sql(error) if session.client.is_closed() || fault::ends_session(error) => {
                    if lost {
                        return Err(server.explain(fault));
                    }
                    lost = true;
                }
                Fault::Sql(error) if fault::is_collision(error) && collisions < COLLISIONS => {
                    *slot = Some(session);
                    collisions += 1;
                }
                _ => {
                    *slot = Some(session);
                    return Err(server.explain(fault));
                }
            }
        }
    }

    /// A checked session.
    async fn fresh(&self, server: &Server) -> Result<Session, QueueError> {
        let session = server.session().await?;
        let prepare = (server.prepare)(session.client.clone(), server.settings.location());
        match tokio::time::timeout(self.patience, prepare).await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(fault)) => Err(server.explain(fault)),
            Err(_) => Err(self.no_answer(server)),
        }
    }

    fn no_answer(&self, server: &Server) -> QueueError {
        let (place, seconds) = (server.settings.location(), self.patience.as_secs());
        QueueError::Unavailable(format!("no answer from database {place} within {seconds} s"))
    }
}

/// A parameter with its type, so that the statement needs no preparing.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement with its parameters.
pub(crate) type Statement<'a> = (&'a str, &'a [Parameter<'a>]);

/// Does statements in one transaction and one round trip; each sees what the ones before it did. Returns their
/// rows.
pub(crate) async fn in_transaction(
    client: &Client,
    begin: &str,
    statements: &[Statement<'_>],
) -> Result<Vec<Vec<Row>>, Error> {
    // Each of these sends when it is first polled, and they are polled in this order.
    let work = join_all(statements.iter().map(|(sql, parameters)| client.query_typed(sql, parameters)));
    let (begun, rows, ended) = join3(client.batch_execute(begin), work, client.batch_execute("COMMIT")).await;
    begun?;
    let rows = rows.into_iter().collect::<Result<Vec<_>, _>>()?;
    ended?;
    Ok(rows)
}
