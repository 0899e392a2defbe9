//! The embedded queue: one SQLite file, for a site that has no database server and wants none.
//!
//! Every commit is on stable storage (`journal_mode = WAL`, `synchronous = FULL`), and commits of concurrent
//! callers are shared. Writing, looking for what to send, renewing the lease and reporting each have a thread and a
//! connection of their own: an audit of a million alerts delays no SMS, a long look no `begin`, and another program
//! that writes for long costs no lease. What many rows are changed by (`expire`, `cancel`) is done in pages, so that
//! others get their turn between them. Several processes on this machine may open the file, which `sqlite3` can too; every
//! write transaction begins `IMMEDIATE`, so what it reads is what it changes, and keys become visible in order.
//!
//! Deliberately absent: files on network file systems (SQLite's locks do not hold there), and foreign
//! notifications (the file's change counter is looked at instead, which costs microseconds).

mod ballast;
mod claim;
mod clock;
mod failure;
mod file;
mod intake;
mod old;
mod origin;
mod past;
mod people;
mod renewals;
mod reports;
mod verbs;
mod worker;

use std::collections::BTreeSet;
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
    Age, AlertRow, AttemptRow, Audit, Cancelled, Caught, Decision, Depth, Doubt, EXPIRED_AT_ONCE, Filter,
    Grant, Instance, Known, Look, NewAttempt, News, Period, Queue, QueueError, Resolved, Schema,
    SchemaStatus, Settled, Settlement, Stats, Story, Submission, Submitted, Suspects, Which, Witness,
};
pub use ballast::{Ballast, Kept, Room};
use clock::{Clocks, Now};
use failure::Failure;
use old::TooOld;
use people::Meant;
use renewals::Renewals;
use worker::Worker;

/// Alerts that one transaction of a `cancel` or an `expire` ends.
const PAGE: usize = 500;
/// Of all that a `cancel` of everything ends, so many are named.
const NAMED: usize = 1_000;
/// How long a `cancel` leaves the file to other processes at most between two of them.
const TURN: Duration = Duration::from_millis(50);

/// See the module.
pub struct SqliteQueue {
    path: PathBuf,
    poll_interval: Duration,
    writer: Worker,
    looks: Worker,
    leases: Worker,
    reader: Worker,
    ballast: Arc<Ballast>,
    renewals: Renewals,
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
        let at = || (path.to_owned(), path.to_owned());
        let ballast = Arc::new(Ballast::beside(path));
        let spare = || Some(Arc::clone(&ballast));
        let (named, at_writer) = at();
        let writer = Worker::start(named, "queue", move || file::open(&at_writer, create), spare()).await?;
        let (named, at_leases) = at();
        let leases =
            Worker::start(named, "queue-leases", move || file::open_for_leases(&at_leases), spare()).await?;
        let (named, at_looks) = at();
        let looks = Worker::start(named, "queue-looks", move || file::open_reader(&at_looks), None).await?;
        let (named, at_reader) = at();
        let reader =
            Worker::start(named, "queue-reports", move || file::open_reader(&at_reader), None).await?;
        let seen = writer.read(file::change_counter).await?;
        let noted = writer.read(people::last_note).await.unwrap_or(0);
        Ok(SqliteQueue {
            path: path.into(),
            poll_interval,
            writer,
            looks,
            leases,
            reader,
            ballast,
            renewals: Renewals::default(),
            clocks: Clocks::default(),
            arrivals: Arc::default(),
            news: Bell::default(),
            seen: AtomicI64::new(seen),
            noted: AtomicI64::new(noted),
        })
    }

    /// The room that is kept for a full disk.
    pub fn ballast(&self) -> Arc<Ballast> {
        Arc::clone(&self.ballast)
    }

    /// The time by which the lease of `owner` is judged; see [`Renewals`].
    fn clock_of(&self, owner: Uuid) -> impl Fn() -> Now + Send + 'static {
        let renewals = self.renewals.clone();
        move || renewals.judge(owner, Now::read())
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
        for page in alerts.chunks(PAGE) {
            let (page, by) = (page.to_vec(), by.clone());
            let meant = Meant::These(page.iter().copied().collect());
            let gone = move |conn: &_| {
                let done = people::cancel(conn, &page, &meant, &by, Now::read())?;
                origin::gone(conn, &done.cancelled)
            };
            self.writer.write(gone).await?;
        }
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
        let (known, clocks) = (known.clone(), self.clocks.clone());
        let asked = self.renewals.ask(instance, Now::read());
        // The most regular of the verbs keeps an eye on the wall clock too.
        let renew = move |conn: &_| verbs::renew(conn, instance, ttl, &known, asked, clocks.read().0);
        let renewed = self.leases.write(renew).await;
        if !matches!(renewed, Err(QueueError::Unavailable(_))) {
            self.renewals.answered();
        }
        renewed
    }

    async fn witness(&self, known: &Known) -> Result<Witness, QueueError> {
        let known = known.clone();
        self.writer.read(move |conn| past::witness(conn, &known)).await
    }

    async fn leave(&self, instance: Uuid) -> Result<(), QueueError> {
        self.writer.write(move |conn| verbs::leave(conn, instance, Now::read())).await
    }

    async fn newest(&self) -> Result<AlertId, QueueError> {
        self.looks.read(claim::newest).await
    }

    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError> {
        let (age, clocks, arrivals) = (age.cloned(), self.clocks.clone(), Arc::clone(&self.arrivals));
        let claim = move |conn: &_| {
            let old = age.map(|age| TooOld::look(conn, &age, clocks.read(), &arrivals)).transpose()?;
            claim::claim(conn, look, limit, old.as_ref())
        };
        self.looks.read(claim).await
    }

    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError> {
        let (attempts, known) = (attempts.to_vec(), known.clone());
        let now = self.clock_of(owner);
        let begin = move |conn: &_| verbs::begin(conn, owner, &attempts, &known, now());
        self.writer.write(move |conn| begin(conn).map_err(Failure::by_halves)).await
    }

    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError> {
        let settlements = settlements.to_vec();
        let now = self.clock_of(owner);
        let settle = move |conn: &_| verbs::settle(conn, owner, &settlements, now());
        self.writer.write(move |conn| settle(conn).map_err(Failure::by_halves)).await
    }

    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError> {
        let (clocks, now) = (self.clocks.clone(), self.clock_of(owner));
        self.writer.write(move |conn| claim::doubts(conn, owner, (now(), clocks.read().1))).await
    }

    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError> {
        let (suspects, why) = (*suspects, why.to_owned());
        let now = self.clock_of(owner);
        self.writer.write(move |conn| past::hold(conn, owner, &suspects, &why, now())).await
    }

    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError> {
        let why: Arc<str> = format!("waited longer than {}", age.text).into();
        let (age, clocks, arrivals) = (age.clone(), self.clocks.clone(), Arc::clone(&self.arrivals));
        let old = self.looks.read(move |conn| TooOld::look(conn, &age, clocks.read(), &arrivals)).await?;
        let (mut ended, mut after) = (Vec::new(), AlertId(0));
        while ended.len() < EXPIRED_AT_ONCE {
            let (limit, asked) = (PAGE.min(EXPIRED_AT_ONCE - ended.len()), old.clone());
            let page = self.looks.read(move |conn| people::too_old(conn, &asked, after, limit)).await?;
            let Some(last) = page.last() else { break };
            after = *last;
            let end = |apart| {
                let (page, why, before) = (page.clone(), Arc::clone(&why), old.before);
                move |conn: &_| {
                    let ended = people::expire(conn, &page, before, &why, apart, Now::read());
                    ended.map_err(Failure::by_halves)
                }
            };
            ended.extend(match self.writer.write(end(false)).await {
                Err(QueueError::Poisoned(_)) => self.writer.write(end(true)).await?,
                done => done?,
            });
            if page.len() < limit {
                break;
            }
        }
        Ok(ended)
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
        let (meant, mut left) = match which {
            Which::All => (Meant::All, None),
            Which::Ids(ids) => {
                let ids: BTreeSet<AlertId> = ids.iter().copied().collect();
                (Meant::These(ids.clone()), Some(ids.into_iter()))
            }
        };
        // What comes later is not meant.
        let (newest, meant) = (self.newest().await?, Arc::new(meant));
        let (mut done, mut after) = (BTreeSet::new(), AlertId(0));
        let mut in_flight = BTreeSet::new();
        let named = if *which == Which::All { NAMED } else { usize::MAX };
        let (mut more_cancelled, mut more_in_flight) = (0, 0);
        loop {
            let page: Vec<AlertId> = match &mut left {
                Some(left) => left.by_ref().take(PAGE).collect(),
                None => self.reader.read(move |conn| people::waiting(conn, after, newest, PAGE)).await?,
            };
            let Some(last) = page.last() else { break };
            after = *last;
            let began = Instant::now();
            let (is_last, meant, by) = (page.len() < PAGE, Arc::clone(&meant), by.to_owned());
            let cancel = move |conn: &_| people::cancel(conn, &page, &meant, &by, Now::read());
            let cancelled = self.writer.write(cancel).await?;
            let room = named.saturating_sub(done.len());
            more_cancelled += cancelled.cancelled.len().saturating_sub(room) as u64;
            done.extend(cancelled.cancelled.into_iter().take(room));
            let room = named.saturating_sub(in_flight.len());
            more_in_flight += cancelled.in_flight.len().saturating_sub(room) as u64;
            in_flight.extend(cancelled.in_flight.into_iter().take(room));
            if is_last {
                break;
            }
            // Other processes look for their turn now and then: about each second look finds the file free.
            tokio::time::sleep(began.elapsed().min(TURN)).await;
        }
        let done = Cancelled {
            cancelled: done.into_iter().collect(),
            in_flight: in_flight.into_iter().collect(),
            more_cancelled,
            more_in_flight,
        };
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

    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError> {
        let (ids, by) = (ids.to_vec(), by.to_owned());
        let verb = move |conn: &_| people::requeue(conn, &ids, &by, Now::read());
        let changed = self.writer.write(verb).await?;
        if !changed.is_empty() {
            self.news.ring(News::Freed);
        }
        Ok(changed)
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
