//! Links: connections that come about when they are needed, and again when they were lost.
//!
//! A connection carries one verb at a time; verbs that shall not wait for each other have links of their own.
//! A verb is one network round trip: its statements are all on the way before the first answer is read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_postgres::Error;

use super::cancel::{AtWork, Canceller, Cancels};
use super::client::{Client, Terms};
use super::connect::{Connected, OnNotify, connect};
use super::fault;
use super::scope::Scope;
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
    pub(crate) prepare: fn(Client, String) -> BoxFuture<'static, Result<(), Fault>>,
    /// Woken by a notification, and by a new listening session ([`super::Ear`]).
    pub(crate) news: Arc<Bell>,
    cancels: Cancels,
}

impl Server {
    pub(crate) fn new(
        settings: Settings,
        prepare: fn(Client, String) -> BoxFuture<'static, Result<(), Fault>>,
    ) -> Server {
        Server { settings, prepare, news: Arc::default(), cancels: Cancels::default() }
    }

    /// A session of its own, in which verbs run on these terms; the database's schema is unchecked.
    pub(crate) async fn session(&self, terms: Terms) -> Result<Session, QueueError> {
        let news = self.news.clone();
        // A pooler may bring any session what another one listens for.
        let wire = self.wire(Arc::new(move |payload| {
            if !payload.starts_with(ECHO) {
                news.ring(News::of_notification(payload));
            }
        }));
        let wire = wire.await?;
        let scope = Scope::of(&wire.client, &self.settings);
        match tokio::time::timeout(terms.patience, scope).await {
            Ok(Ok(scope)) => {
                let client = Client::new(wire.client.clone(), Arc::new(scope), terms);
                Ok(Session { client, canceller: wire.canceller.clone(), wire })
            }
            Ok(Err(fault)) => Err(self.explain(fault, terms)),
            Err(_) => Err(self.no_answer(terms)),
        }
    }

    /// A bare connection with other use for notifications.
    pub(super) async fn wire(&self, notify: OnNotify) -> Result<Wire, QueueError> {
        let Connected { client, driver, canceller } = connect(&self.settings, &notify).await?;
        Ok(Wire { client: Arc::new(client), canceller, driver: tokio::spawn(driver) })
    }

    /// What a failure means to the caller.
    pub(crate) fn explain(&self, fault: Fault, terms: Terms) -> QueueError {
        match fault {
            Fault::Sql(error) => fault::of_verb(&self.settings, &error, terms.by_rows),
            Fault::Queue(error) => error,
        }
    }

    fn no_answer(&self, terms: Terms) -> QueueError {
        let (place, seconds) = (self.settings.location(), terms.patience.as_secs());
        QueueError::Unavailable(format!("no answer from database {place} within {seconds} s"))
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
pub(super) struct Wire {
    pub(super) client: Arc<tokio_postgres::Client>,
    canceller: Canceller,
    driver: JoinHandle<()>,
}

impl Wire {
    /// Returns when the connection has ended; to be waited for once.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A connection that verbs may use.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(super) canceller: Canceller,
    wire: Wire,
}

impl Session {
    fn is_closed(&self) -> bool {
        self.wire.client.is_closed()
    }
}

/// Some connections at most, each made when it is needed.
pub(crate) struct Link {
    /// As many as may be at work.
    places: Semaphore,
    idle: Mutex<Vec<Session>>,
    terms: Terms,
}

impl Link {
    /// A link of `width` connections whose verbs run on these terms.
    pub(crate) fn new(width: usize, terms: Terms) -> Link {
        Link { places: Semaphore::new(width), idle: Mutex::default(), terms }
    }

    /// Does a verb. A lost connection is made anew once and the verb done again, so a verb must find out
    /// what an earlier call of it has already done.
    pub(crate) async fn run<T, V, F>(&self, server: &Server, verb: V) -> Result<T, QueueError>
    where
        V: Fn(Client) -> F,
        F: Future<Output = Result<T, Fault>>,
    {
        // It is never closed, so a failure can not be; were it one, the verb would go on without a place.
        let _place = self.places.acquire().await.ok();
        let (mut lost, mut collisions) = (false, 0);
        loop {
            // None is idle while it works: a verb that is given up in the middle takes its session along.
            let idle = self.idle().pop();
            let session = match idle.filter(|session| !session.is_closed()) {
                Some(session) => session,
                None => self.fresh(server).await?,
            };
            let client = session.client.clone();
            let at_work = AtWork::new(session, self.terms.cancels.then_some(&server.cancels));
            let done = tokio::time::timeout(self.terms.patience, verb(client)).await;
            let Ok(done) = done else { return Err(server.no_answer(self.terms)) };
            let session = at_work.done().filter(|session| !session.is_closed());
            let fault = match done {
                Ok(done) => {
                    self.idle().extend(session);
                    return Ok(done);
                }
                Err(fault) => fault,
            };
            match &fault {
                Fault::Sql(error) if session.is_none() || fault::ends_session(error) => {
                    if lost {
                        return Err(server.explain(fault, self.terms));
                    }
                    lost = true;
                }
                Fault::Sql(error) if fault::is_collision(error) && collisions < COLLISIONS => {
                    self.idle().extend(session);
                    collisions += 1;
                }
                _ => {
                    self.idle().extend(session);
                    return Err(server.explain(fault, self.terms));
                }
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A checked session.
    async fn fresh(&self, server: &Server) -> Result<Session, QueueError> {
        let session = server.session(self.terms).await?;
        let prepare = (server.prepare)(session.client.clone(), server.settings.location());
        match tokio::time::timeout(self.terms.patience, prepare).await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(fault)) => Err(server.explain(fault, self.terms)),
            Err(_) => Err(server.no_answer(self.terms)),
        }
    }
}
