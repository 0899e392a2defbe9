//! NAV's own table `smsq` in PostgreSQL, with our ledger beside it in the schema `smsd`.
//!
//! NAV's table is not altered, unless the operator asks (`smsd db init --notify`). Rows may be deleted or
//! changed under us at any time; that is an event, never an error.
//!
//! The ledger has another shape than one would draw at first, for speed. An alert's lock is not a flag in
//! its row of `attempt_alert` under a partial unique index, and a recipient's is not the attempt's state
//! under another: closing an attempt would then write every index of both tables anew. The locks are rows
//! of two small tables, `open` and `unresolved`, that come with `begin` and go with `settle`; the ledger
//! proper is inserted once and updated once within its page. In plain SQL, in batches of 100 to 500 with
//! `synchronous_commit = on`, that is 33,000 to 42,000 alerts a second against 12,000 to 26,000.
//!
//! Every verb that an instance needs is one round trip. Plans are kept simple (`BEGIN` below): rows come in
//! as arrays and meet tables through their primary keys, however old the statistics are.

mod begin;
mod claim;
mod intake;
mod lease;
mod notes;
mod past;
mod people;
mod reports;
mod schema;
mod settle;

use std::borrow::Cow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use super::news::Bell;
use super::postgres::{Ear, Fault, Link, Server, Settings};
use super::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, Mention, NewAttempt, News, Peers, Period, Queue, QueueError, Resolved, Schema, SchemaStatus,
    Settled, Settlement, Stats, Story, Submission, Submitted, Suspects, Which,
};
use crate::alert::{Alert, AlertId};
use crate::config::PostgresTarget;

/// Begins a transaction of an instance's verb. What it writes is durable when `COMMIT` returns, also where
/// the database's default is otherwise; `on` is not set over a stricter `remote_apply`. Its statements join
/// hundreds of rows with tables of millions, always by their keys, and the planner is not to think otherwise.
const BEGIN: &str = "BEGIN; \
    SELECT set_config('synchronous_commit', 'on', true) \
        WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write'); \
    SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off; SET LOCAL random_page_cost = 1; \
    SET LOCAL jit = off; SET LOCAL statement_timeout = '20s'";

/// The longest time for a verb of an instance.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest time for what a person asks: it may read the whole table.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_secs(600);

/// For so long at most one who joins waits until it listens.
const TO_LISTEN: Duration = Duration::from_secs(1);

/// NAV's queue.
pub struct NavDbQueue {
    server: Arc<Server>,
    setup: bool,
    /// Claims and leases.
    look: Arc<Link>,
    /// Begins.
    begin: Link,
    /// Settlements.
    settle: Link,
    /// New alerts.
    intake: Link,
    /// What changes alerts from outside.
    people: Link,
    /// What reads whole tables.
    reports: Link,
    /// What the server's clock has shown.
    ages: Mutex<people::Ages>,
    /// Where looks stand.
    walks: Mutex<claim::Walks>,
    /// Hears of new alerts, for who waits for them.
    ear: OnceLock<Ear>,
}

/// Opens NAV's queue. The database need not be there yet: verbs are [`QueueError::Unavailable`] until it is,
/// and with `setup` the first connection creates the ledger's schema.
///
/// # Errors
/// [`QueueError::Refused`] if the configuration can not be used.
pub async fn open(target: &PostgresTarget, setup: bool) -> Result<NavDbQueue, QueueError> {
    let settings = Settings::resolve(target)?;
    let prepare = if setup { schema::create_or_check } else { schema::check };
    Ok(NavDbQueue {
        server: Arc::new(Server { settings, prepare, news: Arc::new(Bell::default()) }),
        setup,
        look: Arc::new(Link::new(PATIENCE)),
        begin: Link::new(PATIENCE),
        settle: Link::new(PATIENCE),
        intake: Link::new(PATIENCE),
        people: Link::new(PATIENCE_WITH_PEOPLE),
        reports: Link::new(PATIENCE_WITH_PEOPLE),
        ages: Mutex::default(),
        walks: Mutex::default(),
        ear: OnceLock::new(),
    })
}

impl NavDbQueue {
    async fn hand_in(
        &self,
        submissions: &[Submission],
        until: Option<Instant>,
    ) -> Result<Vec<Submitted>, QueueError> {
        let submitted = self
            .intake
            .run(&self.server, |client| async move { intake::enqueue(&client, submissions, until).await })
            .await?;
        if submitted.iter().any(|one| matches!(one, Submitted::Queued(_) | Submitted::Before(_))) {
            self.server.news.ring(News::Submitted);
        }
        Ok(submitted)
    }

    async fn wait_again(
        &self,
        ids: &[AlertId],
        by: &str,
        if_rejected: bool,
    ) -> Result<Vec<AlertId>, QueueError> {
        let ids = self
            .people
            .run(&self.server, |client| async move { people::requeue(&client, ids, by, if_rejected).await })
            .await?;
        self.server.news.ring(News::Freed);
        Ok(ids)
    }

    /// In pages, each a verb of its own, so that it may take its time.
    async fn cancel_all(&self, by: &str) -> Result<Cancelled, QueueError> {
        let (cancelled, mut next) = (Mutex::default(), Some(i64::MIN));
        while let Some(after) = next {
            let (cancelled, by) = (&cancelled, by);
            next = self
                .people
                .run(&self.server, |client| async move {
                    people::cancel_above(&client, after, by, cancelled).await
                })
                .await?;
        }
        Ok(cancelled.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn ear(&self) -> &Ear {
        self.ear.get_or_init(|| Ear::open(self.server.clone(), self.look.clone()))
    }
}

#[async_trait]
impl Queue for NavDbQueue {
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let known = &past::Parameters::of(known);
        let join = self
            .look
            .run(&self.server, |client| async move { lease::join(&client, instance, ttl, known).await });
        // An instance will want to be woken; but nothing hangs on it.
        let (joined, _) = tokio::join!(join, tokio::time::timeout(TO_LISTEN, self.ear().ready()));
        joined
    }

    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let known = &past::Parameters::of(known);
        self.look
            .run(&self.server, |client| async move { lease::renew(&client, instance, ttl, known).await })
            .await
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.look.run(&self.server, |client| async move { lease::leave(&client, instance).await }).await
    }

    async fn peers(&self, instance: Uuid) -> Result<Peers, QueueError> {
        self.look.run(&self.server, |client| async move { lease::peers(&client, instance).await }).await
    }

    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.look.run(&self.server, |client| async move { claim::newest(&client).await }).await
    }

    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        let (ages, walks) = (&self.ages, &self.walks);
        self.look
            .run(&self.server, |client| async move {
                let seen = match age {
                    Some(age) => people::seen(&client, age, ages, false).await?,
                    None => people::Seen::nothing(),
                };
                claim::claim(&client, look, limit, &seen, walks).await
            })
            .await
    }

    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        let (rows, known) = (&begin::Rows::of(attempts), &past::Parameters::of(known));
        self.begin
            .run(&self.server, |client| async move { begin::begin(&client, owner, rows, known).await })
            .await
    }

    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let rows = &settle::Rows::of(settlements);
        self.settle
            .run(&self.server, |client| async move { settle::settle(&client, owner, rows).await })
            .await
    }

    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        self.look.run(&self.server, |client| async move { lease::doubts(&client, owner).await }).await
    }

    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        self.people
            .run(&self.server, |client| async move { past::hold(&client, owner, suspects, why).await })
            .await
    }

    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        let ages = &self.ages;
        self.people.run(&self.server, |client| async move { people::expire(&client, age, ages).await }).await
    }

    async fn wait(&self) -> News {
        self.ear();
        self.server.news.wait().await
    }

    /// If the reply to the commit is lost, the link does it again, and finds what is queued.
    async fn enqueue(&self, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError> {
        self.hand_in(submissions, None).await
    }

    async fn enqueue_by(
        &self,
        submissions: &[Submission],
        until: Instant,
    ) -> Result<Vec<Submitted>, QueueError> {
        self.hand_in(submissions, Some(until)).await
    }

    async fn cancel(&self, which: &Which, by: &str) -> Result<Cancelled, QueueError> {
        let done = match which {
            Which::Ids(ids) => {
                let cancel = |client: Arc<Client>| async move { people::cancel(&client, ids, by).await };
                self.people.run(&self.server, cancel).await?
            }
            Which::All => self.cancel_all(by).await?,
        };
        // Alerts that stood in an attempt with one that is cancelled wait again.
        self.server.news.ring(News::Freed);
        Ok(done)
    }

    async fn resolve(&self, ids: &[AlertId], decision: Decision, by: &str) -> Result<Resolved, QueueError> {
        let resolved = self
            .people
            .run(&self.server, |client| async move { people::resolve(&client, ids, decision, by).await })
            .await?;
        self.server.news.ring(News::Freed);
        Ok(resolved)
    }

    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        self.people.run(&self.server, |client| async move { past::suspected(&client, limit).await }).await
    }

    async fn reprieve(&self, ids: &[AlertId]) -> Result<Vec<AlertId>, QueueError> {
        self.wait_again(ids, "smsd", true).await
    }

    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        self.wait_again(ids, by, false).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<AlertRow>, QueueError> {
        self.reports.run(&self.server, |client| async move { reports::list(&client, filter).await }).await
    }

    async fn show(&self, id: AlertId) -> Result<Option<Story>, QueueError> {
        self.reports.run(&self.server, |client| async move { reports::show(&client, id).await }).await
    }

    async fn mention(&self, ids: &[AlertId]) -> Result<Vec<Mention>, QueueError> {
        let named = self
            .reports
            .run(&self.server, |client| async move { reports::mention(&client, ids, true).await })
            .await;
        match named {
            // Not everybody who may read smsq may read the accounts.
            Err(QueueError::Refused(_)) => {
                self.reports
                    .run(&self.server, |client| async move { reports::mention(&client, ids, false).await })
                    .await
            }
            named => named,
        }
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.reports.run(&self.server, |client| async move { reports::depth(&client).await }).await
    }

    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.reports
            .run(&self.server, |client| async move { reports::recent(&client, before, limit).await })
            .await
    }

    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.reports.run(&self.server, |client| async move { reports::undecided(&client, limit).await }).await
    }

    async fn history(&self, since: Timestamp, step: Duration) -> Result<Vec<Period>, QueueError> {
        self.reports
            .run(&self.server, |client| async move { reports::history(&client, since, step).await })
            .await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.reports.run(&self.server, |client| async move { reports::stats(&client).await }).await
    }

    async fn audit(&self) -> Result<Audit, QueueError> {
        self.reports.run(&self.server, |client| async move { reports::audit(&client).await }).await
    }
}

#[async_trait]
impl Schema for NavDbQueue {
    async fn init(&self, notify: bool) -> Result<(), QueueError> {
        let session = self.server.session().await?;
        let done = schema::create(&session.client, notify).await;
        done.map_err(|fault| self.server.explain(fault))
    }

    async fn status(&self) -> Result<SchemaStatus, QueueError> {
        let session = self.server.session().await?;
        let found = schema::find(&session.client).await.map_err(|fault| self.server.explain(fault))?;
        Ok(SchemaStatus {
            location: self.server.settings.location(),
            version: found.version,
            wanted: schema::VERSION,
            notify: found.notify,
        })
    }

    fn sql(&self, notify: bool) -> String {
        schema::sql(notify)
    }

    async fn remove(&self) -> Result<(), QueueError> {
        let session = self.server.session().await?;
        schema::remove(&session.client).await.map_err(|fault| self.server.explain(fault))
    }
}

impl std::fmt::Debug for NavDbQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NavDbQueue")
            .field("settings", &self.server.settings)
            .field("setup", &self.setup)
            .finish()
    }
}

/// Text as PostgreSQL can hold it: without NUL.
fn clean(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

/// The keys as PostgreSQL takes them.
fn keys(ids: &[AlertId]) -> Vec<i64> {
    ids.iter().map(|id| id.0).collect()
}

/// The keys as they come back.
fn ids(keys: Vec<i64>) -> Vec<AlertId> {
    keys.into_iter().map(AlertId).collect()
}

/// A time from seconds since 1970, as `extract(epoch …)` gives it. What is beyond all calendars (`infinity`)
/// becomes the first or last time that there is.
fn time(epoch: f64) -> Timestamp {
    let micros = (epoch * 1e6) as i64;
    let bound = if epoch < 0.0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(bound)
}

/// Milliseconds for an interval.
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

type Verb<T> = Result<T, Fault>;
