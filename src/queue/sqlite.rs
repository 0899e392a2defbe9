//! The embedded queue: one SQLite file, for a site that has no database server and wants none.
//!
//! Every commit is on stable storage (`journal_mode = WAL`, `synchronous = FULL`), and commits of concurrent
//! callers are shared. Writing is one thread's business and reporting another's, so that an audit of a million
//! alerts delays no SMS. Several processes on this machine may open the file, which `sqlite3` can too; every
//! write transaction begins `IMMEDIATE`, so what it reads is what it changes, and keys become visible in order.
//!
//! Deliberately absent: files on network file systems (SQLite's locks do not hold there), and foreign
//! notifications (the file's change counter is looked at instead, which costs microseconds).

mod claim;
mod clock;
mod failure;
mod file;
mod intake;
mod origin;
mod past;
mod people;
mod reports;
mod verbs;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::alert::{Alert, AlertId};
use crate::queue::arrivals::Arrivals;
use crate::queue::mirror::{Foreign, TakenOver, Untold};
use crate::queue::news::Bell;
use crate::queue::{
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, Filter, Grant, Instance,
    Known, Look, NewAttempt, News, Period, Queue, QueueError, Resolved, Schema, SchemaStatus, Settled,
    Settlement, Stats, Story, Submission, Submitted, Suspects, Which,
};
use clock::{Clocks, Now};
use worker::Worker;

/// See the module.
pub struct SqliteQueue {
    path: PathBuf,
    poll_interval: Duration,
    writer: Worker,
    reader: Worker,
    clocks: Clocks,
    arrivals: Arc<Mutex<Arrivals>>,
    news: Bell,
    /// The file's change counter at the last look; it counts what other connections commit.
    seen: AtomicI64,
    /// The last note at the last change: alerts that wait again have one.
    noted: AtomicI64,
}

impl SqliteQueue {
    /// Opens the queue in the file at `path`; with `create`, makes the file (readable by its owner only) and the
    /// schema if they are missing. [`Queue::wait`] looks for what other processes queued every `poll_interval`.
    ///
    /// # Errors
    /// [`QueueError::Refused`] says what to do: there is no such directory, the file is not there and not to be
    /// created, may not be written, is damaged, is another program's, or is of a newer smsd.
    /// [`QueueError::Unavailable`] if it is locked or can not be read right now.
    pub async fn open(path: &Path, poll_interval: Duration, create: bool) -> Result<SqliteQueue, QueueError> {
        let at = path.to_owned();
        let writer = Worker::start(path.into(), "queue", move || file::open(&at, create)).await?;
        let at = path.to_owned();
        let reader = Worker::start(path.into(), "queue-reports", move || file::open_reader(&at)).await?;
        let seen = writer.read(file::change_counter).await?;
        let noted = writer.read(people::last_note).await.unwrap_or(0);
        Ok(SqliteQueue {
            path: path.into(),
            poll_interval,
            writer,
            reader,
            clocks: Clocks::default(),
            arrivals: Arc::default(),
            news: Bell::default(),
            seen: AtomicI64::new(seen),
            noted: AtomicI64::new(noted),
        })
    }

    /// What another connection has changed in the file since the last look, if anything. A note of our own since
    /// then counts as well: that costs a full look, which does no harm.
    async fn changed(&self) -> Option<News> {
        // Of an error nothing is said: the engine's next look meets it itself, and tells it.
        let now = self.writer.read(file::change_counter).await.ok()?;
        if self.seen.swap(now, Ordering::Relaxed) == now {
            return None;
        }
        let last = self.writer.read(people::last_note).await.ok()?;
        Some(if self.noted.swap(last, Ordering::Relaxed) == last { News::Submitted } else { News::Freed })
    }
}

impl SqliteQueue {
    async fn hand_in(
        &self,
        submissions: &[Submission],
        until: Option<Instant>,
    ) -> Result<Vec<Submitted>, QueueError> {
        let submissions = submissions.to_vec();
        let work = move |conn: &_| intake::enqueue(conn, &submissions, until, Now::read());
        let submitted = self.writer.write(work).await?;
        if submitted.iter().any(|one| matches!(one, Submitted::Queued(_))) {
            self.news.ring(News::Submitted);
        }
        Ok(submitted)
    }

    async fn wait_again(
        &self,
        ids: &[AlertId],
        by: &str,
        if_rejected: bool,
    ) -> Result<Vec<AlertId>, QueueError> {
        let (ids, by) = (ids.to_vec(), by.to_owned());
        let verb = move |conn: &_| people::requeue(conn, &ids, &by, if_rejected, Now::read());
        let changed = self.writer.write(verb).await?;
        if !changed.is_empty() {
            self.news.ring(News::Freed);
        }
        Ok(changed)
    }
}

/// What a [`Mirror`](super::mirror::Mirror) asks for.
impl SqliteQueue {
    pub(super) async fn take_over(&self, page: Vec<Foreign>) -> Result<TakenOver, QueueError> {
        let taken = self.writer.write(move |conn| origin::take_over(conn, &page, Now::read())).await?;
        if taken.new > 0 {
            self.news.ring(News::Submitted);
        }
        Ok(taken)
    }

    pub(super) async fn untold(&self, limit: usize) -> Result<Vec<Untold>, QueueError> {
        self.reader.read(move |conn| origin::untold(conn, limit)).await
    }

    pub(super) async fn told(&self, told: Vec<(AlertId, String)>) -> Result<(), QueueError> {
        if told.is_empty() {
            return Ok(());
        }
        self.writer.write(move |conn| origin::told(conn, &told)).await
    }

    /// Cancels what no longer waits there.
    pub(super) async fn gone_elsewhere(&self, alerts: Vec<AlertId>, by: String) -> Result<(), QueueError> {
        let gone = move |conn: &_| {
            let done = people::cancel(conn, &Which::Ids(alerts.clone()), &by, Now::read())?;
            origin::gone(conn, &done.cancelled)
        };
        self.writer.write(gone).await?;
        // Alerts that stood in an attempt with one that is cancelled wait again.
        self.news.ring(News::Freed);
        Ok(())
    }

    pub(super) async fn waiting_elsewhere(&self) -> Result<Vec<(AlertId, String)>, QueueError> {
        self.reader.read(origin::waiting).await
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        let (instance, known) = (instance.clone(), known.clone());
        self.writer.write(move |conn| verbs::join(conn, &instance, ttl, &known, Now::read())).await
    }

    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError> {
        // The most regular of the verbs keeps an eye on the wall clock too.
        let (known, clocks) = (known.clone(), self.clocks.clone());
        self.writer.write(move |conn| verbs::renew(conn, instance, ttl, &known, clocks.read().0)).await
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.writer.write(move |conn| verbs::leave(conn, instance, Now::read())).await
    }

    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.writer.read(claim::newest).await
    }

    async fn claim(&self, look: Look, limit: usize, _age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        self.writer.read(move |conn| claim::claim(conn, look, limit)).await
    }

    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        let (attempts, known) = (attempts.to_vec(), known.clone());
        self.writer.write(move |conn| verbs::begin(conn, owner, &attempts, &known, Now::read())).await
    }

    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let settlements = settlements.to_vec();
        self.writer.write(move |conn| verbs::settle(conn, owner, &settlements, Now::read())).await
    }

    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        let clocks = self.clocks.clone();
        self.writer.write(move |conn| claim::doubts(conn, owner, clocks.read())).await
    }

    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        let (suspects, why) = (*suspects, why.to_owned());
        self.writer.write(move |conn| past::hold(conn, owner, &suspects, &why, Now::read())).await
    }

    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        let (age, clocks, arrivals) = (age.clone(), self.clocks.clone(), Arc::clone(&self.arrivals));
        self.writer.write(move |conn| people::expire(conn, &age, clocks.read(), &arrivals)).await
    }

    async fn wait(&self) -> News {
        loop {
            tokio::select! {
                news = self.news.wait() => return news,
                () = tokio::time::sleep(self.poll_interval) => {}
            }
            if let Some(news) = self.changed().await {
                return news;
            }
        }
    }

    async fn enqueue(&self, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError> {
        self.hand_in(submissions, None).await
    }

    async fn enqueue_by(
        &self,
        submissions: &[Submission],
        until: tokio::time::Instant,
    ) -> Result<Vec<Submitted>, QueueError> {
        self.hand_in(submissions, Some(until.into_std())).await
    }

    async fn cancel(&self, which: &Which, by: &str) -> Result<Cancelled, QueueError> {
        let (which, by) = (which.clone(), by.to_owned());
        let done = self.writer.write(move |conn| people::cancel(conn, &which, &by, Now::read())).await?;
        // Alerts that stood in an attempt with one that is cancelled wait again.
        if !done.cancelled.is_empty() {
            self.news.ring(News::Freed);
        }
        Ok(done)
    }

    async fn resolve(&self, ids: &[AlertId], decision: Decision, by: &str) -> Result<Resolved, QueueError> {
        let (ids, by) = (ids.to_vec(), by.to_owned());
        let work = move |conn: &_| people::resolve(conn, &ids, decision, &by, Now::read());
        let resolved = self.writer.write(work).await?;
        if !resolved.decided.is_empty() {
            self.news.ring(News::Freed);
        }
        Ok(resolved)
    }

    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError> {
        self.reader.read(move |conn| past::suspected(conn, limit)).await
    }

    async fn reprieve(&self, ids: &[AlertId]) -> Result<Vec<AlertId>, QueueError> {
        self.wait_again(ids, "smsd", true).await
    }

    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        self.wait_again(ids, by, false).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<AlertRow>, QueueError> {
        let filter = filter.clone();
        self.reader.read(move |conn| reports::list(conn, &filter)).await
    }

    async fn show(&self, id: AlertId) -> Result<Option<Story>, QueueError> {
        self.reader.read(move |conn| reports::show(conn, id)).await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.reader.read(reports::depth).await
    }

    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.reader.read(move |conn| reports::recent(conn, before, limit)).await
    }

    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError> {
        self.reader.read(move |conn| reports::undecided(conn, limit)).await
    }

    async fn history(&self, since: Timestamp, step: Duration) -> Result<Vec<Period>, QueueError> {
        self.reader.read(move |conn| reports::history(conn, since, step)).await
    }

    async fn stats(&self) -> Result<Stats, QueueError> {
        self.reader.read(|conn| reports::stats(conn, Now::read())).await
    }

    async fn audit(&self) -> Result<Audit, QueueError> {
        self.reader.read(reports::audit).await
    }
}

#[async_trait]
impl Schema for SqliteQueue {
    /// `notify` asks for nothing more: waiting processes look at the file's change counter.
    async fn init(&self, _notify: bool) -> Result<(), QueueError> {
        self.writer.write(file::create_schema).await
    }

    async fn status(&self) -> Result<SchemaStatus, QueueError> {
        let version = self.writer.read(file::version).await?;
        let location = self.path.display().to_string();
        Ok(SchemaStatus { location, version, wanted: file::WANTED, notify: true, zones: None })
    }

    fn sql(&self, _notify: bool) -> String {
        file::SCHEMA.to_owned()
    }

    /// Drops the tables, alerts included; the empty file stays.
    async fn remove(&self) -> Result<(), QueueError> {
        self.writer.write(file::drop_schema).await
    }
}
