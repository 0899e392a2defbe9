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
use uuid::Uuid;

use super::postgres::{Begin, Client, Ear, Fault, Link, Server, Settings, Terms};
use super::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, Mention, NewAttempt, News, Peers, Period, Queue, QueueError, Resolved, Schema, SchemaStatus,
    Settled, Settlement, Stats, Story, Submission, Submitted, Suspects, Which, Witness, Zones,
};
use crate::alert::{Alert, AlertId};
use crate::config::PostgresTarget;

/// Begins a transaction of an instance's verb. Its statements join hundreds of rows with tables of millions,
/// always by their keys, and the planner is not to think otherwise.
const BEGIN: Begin = Begin::each_sees_commits(
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off; SET LOCAL random_page_cost = 1; \
     SET LOCAL jit = off",
);

/// Renewing a lease: tried twice within the time for which an instance trusts the last one.
const OF_LEASES: Terms = Terms {
    patience: Duration::from_secs(4),
    statement: Duration::from_millis(3500),
    lock: Duration::from_secs(3),
    by_rows: false,
    cancels: false,
};
/// Looking for what waits: over before the lease ends that it is done under.
const OF_LOOKS: Terms = Terms {
    patience: Duration::from_secs(9),
    statement: Duration::from_secs(8),
    lock: Duration::from_secs(8),
    by_rows: false,
    cancels: true,
};
/// Beginning attempts: another instance that is writing the same recipients' is waited for, a forgotten
/// session is not.
const OF_BEGINS: Terms = Terms {
    patience: Duration::from_secs(20),
    statement: Duration::from_secs(15),
    lock: Duration::from_secs(1),
    by_rows: true,
    cancels: false,
};
/// Settling: what nobody else writes is free at once, and what somebody holds is to hold up nothing else.
const OF_SETTLEMENTS: Terms = Terms { lock: Duration::from_millis(200), ..OF_BEGINS };
/// Handing in.
const OF_INTAKES: Terms = Terms { lock: Duration::from_secs(15), ..OF_BEGINS };
/// What a person asks: it may read the whole table.
const OF_PEOPLE: Terms = Terms {
    patience: Duration::from_secs(600),
    statement: Duration::from_secs(590),
    lock: Duration::from_secs(20),
    by_rows: false,
    cancels: true,
};

/// For so long at most one who joins waits until it listens.
const TO_LISTEN: Duration = Duration::from_secs(1);

/// NAV's queue.
pub struct NavDbQueue {
    server: Arc<Server>,
    setup: bool,
    /// Leases, and nothing that may be slow: who can not renew one in time is taken for dead.
    lease: Link,
    /// Claims, and what else is looked at to work.
    look: Arc<Link>,
    /// Begins.
    begin: Link,
    /// Settlements: one that meets a locked row, and the next batch.
    settle: Link,
    /// New alerts.
    intake: Link,
    /// What changes alerts from outside.
    people: Link,
    /// What reads whole tables.
    reports: Link,
    /// Whether the server shows where its log ends.
    log: past::LogAccess,
    /// What monitoring asks all the time.
    samples: Link,
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
        server: Arc::new(Server::new(settings, prepare)),
        setup,
        log: past::LogAccess::default(),
        lease: Link::new(1, OF_LEASES),
        look: Arc::new(Link::new(1, OF_LOOKS)),
        begin: Link::new(1, OF_BEGINS),
        settle: Link::new(2, OF_SETTLEMENTS),
        intake: Link::new(1, OF_INTAKES),
        people: Link::new(1, OF_PEOPLE),
        reports: Link::new(2, OF_PEOPLE),
        samples: Link::new(1, OF_LOOKS),
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
        let join = self.lease.run(&self.server, |client| async move {
            self.log.ask(&client).await?;
            let known = past::Parameters::of(known, &self.log);
            lease::join(&client, instance, ttl, &known).await
        });
        // An instance will want to be woken; but nothing hangs on it.
        let (joined, _) = tokio::join!(join, tokio::time::timeout(TO_LISTEN, self.ear().ready()));
        joined
    }

    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let known = &past::Parameters::of(known, &self.log);
        self.lease
            .run(&self.server, |client| async move { lease::renew(&client, instance, ttl, known).await })
            .await
    }

    async fn witness(&self, known: &Known) -> Result<Witness, QueueError> {
        let known = &past::Parameters::of(known, &self.log);
        self.lease.run(&self.server, |client| async move { past::witness(&client, known).await }).await
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.lease.run(&self.server, |client| async move { lease::leave(&client, instance).await }).await
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
        let (rows, known) = (&begin::Rows::of(attempts), &past::Parameters::of(known, &self.log));
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
                let cancel = |client: Client| async move { people::cancel(&client, ids, by).await };
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

    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        let ids = self
            .people
            .run(&self.server, |client| async move { people::requeue(&client, ids, by).await })
            .await?;
        self.server.news.ring(News::Freed);
        Ok(ids)
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
        self.samples.run(&self.server, |client| async move { reports::depth(&client).await }).await
    }

    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.samples
            .run(&self.server, |client| async move { reports::recent(&client, before, limit).await })
            .await
    }

    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.samples.run(&self.server, |client| async move { reports::undecided(&client, limit).await }).await
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
        let session = self.server.session(OF_PEOPLE).await?;
        let done = schema::create(&session.client, notify).await;
        done.map_err(|fault| self.server.explain(fault, OF_PEOPLE))
    }

    async fn status(&self) -> Result<SchemaStatus, QueueError> {
        let session = self.server.session(OF_PEOPLE).await?;
        let found = schema::find(&session.client).await;
        let found = found.map_err(|fault| self.server.explain(fault, OF_PEOPLE))?;
        Ok(SchemaStatus {
            location: self.server.settings.location(),
            version: found.version,
            wanted: schema::VERSION,
            notify: found.notify,
            zones: Some(Zones {
                of_nav: self.server.settings.time_zone.clone(),
                of_server: session.client.scope().server_zone.clone(),
            }),
        })
    }

    fn sql(&self, notify: bool) -> String {
        schema::sql(notify)
    }

    async fn remove(&self) -> Result<(), QueueError> {
        let session = self.server.session(OF_PEOPLE).await?;
        schema::remove(&session.client).await.map_err(|fault| self.server.explain(fault, OF_PEOPLE))
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
