//! A thread that owns a connection, since SQLite blocks; and the group commit.
//!
//! Jobs come over a bounded channel. Writes that wait are done in one transaction, each in a savepoint of its
//! own, so that one fsync serves all callers and one caller's error spoils no other's work. A row that ends the
//! whole transaction (`RAISE(ROLLBACK)`) costs the others a transaction each, and nothing else. Nobody is answered
//! before the commit. A caller that goes away does not undo its job.
//!
//! A job that panics is answered with [`Failure::Panicked`], and what stood in the same transaction is committed. The
//! connection, whose state nobody can vouch for, is closed and opened anew; the thread goes on. A write may be run
//! more than once, each time on a transaction in which it has left no trace.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::ballast::Ballast;
use super::failure::Failure;
use crate::queue::QueueError;

/// Callers beyond these wait for a place.
const QUEUED_JOBS: usize = 1024;
/// One transaction serves at most so many callers.
const GROUP: usize = 256;

/// A handle to the thread, which ends when the last handle is dropped.
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
    path: PathBuf,
}

/// A read that answers its caller itself.
type Read = dyn FnOnce(Result<&Connection, Failure>) + Send;

enum Job {
    Read(Box<Read>),
    Write(Box<dyn Write>),
}

/// A write between its doing and its answer.
trait Write: Send {
    /// Forgets what was found in a transaction that was not committed.
    fn forget(&mut self);
    /// Does it.
    fn run(&mut self, conn: &Connection) -> Result<(), Failure>;
    /// Answers it: with what it found, or with what kept the transaction from being committed.
    fn answer(self: Box<Self>, broken: Option<&Failure>);
}

struct Pending<F, T> {
    work: F,
    found: Option<Result<T, Failure>>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl Worker {
    /// Starts the thread; returns when `open` has opened its connection. On a disk that is full, what `ballast` holds is
    /// given up, and the write that met it is done again.
    pub(super) async fn start(
        path: PathBuf,
        name: &str,
        open: impl Fn() -> Result<Connection, Failure> + Send + 'static,
        ballast: Option<Arc<Ballast>>,
    ) -> Result<Worker, QueueError> {
        let (jobs, mut inbox) = mpsc::channel(QUEUED_JOBS);
        let (ready, opened) = oneshot::channel();
        let run = move || {
            let mut owner = Owner { open: Box::new(open), conn: None, ballast };
            let first = owner.conn().map(drop);
            let failed = first.is_err();
            // Nobody listens any more if the caller gave up; then the channel is closed too.
            let _ = ready.send(first);
            if failed {
                return;
            }
            while catch_unwind(AssertUnwindSafe(|| owner.serve(&mut inbox))).is_err() {
                owner.conn = None;
            }
        };
        let started = std::thread::Builder::new().name(name.into()).spawn(run);
        started.map_err(|e| QueueError::Unavailable(format!("no thread for {}: {e}", path.display())))?;
        opened.await.unwrap_or(Err(Failure::Gone)).map_err(|failure| failure.at(&path))?;
        Ok(Worker { jobs, path })
    }

    /// Reads from one state of the database.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Read(Box::new(move |conn| {
            let found = conn.and_then(|conn| {
                catch_unwind(AssertUnwindSafe(|| snapshot(conn, work))).unwrap_or(Err(Failure::Panicked))
            });
            let panicked = matches!(found, Err(Failure::Panicked));
            let _ = reply.send(found);
            if panicked {
                std::panic::resume_unwind(Box::new(AFTER_ANSWER));
            }
        }));
        self.send(job, answer).await
    }

    /// Writes, together with others that wait; returns when it is on stable storage.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Box::new(Pending { work, found: None, reply })), answer).await
    }

    async fn send<T>(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<T, Failure>>,
    ) -> Result<T, QueueError> {
        let sent = self.jobs.send(job).await;
        let answered = if sent.is_ok() { answer.await } else { Ok(Err(Failure::Gone)) };
        answered.unwrap_or(Err(Failure::Gone)).map_err(|failure| failure.at(&self.path))
    }
}

/// What the thread has.
struct Owner {
    open: Box<dyn Fn() -> Result<Connection, Failure> + Send>,
    /// `None` before it is opened, and after a panic.
    conn: Option<Connection>,
    ballast: Option<Arc<Ballast>>,
}

impl Owner {
    /// The connection; opened if there is none.
    fn conn(&mut self) -> Result<&Connection, Failure> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => (self.open)()?,
        };
        Ok(self.conn.insert(conn))
    }

    /// One job after the other, writes in groups, until the last handle is dropped.
    fn serve(&mut self, inbox: &mut mpsc::Receiver<Job>) {
        let mut next = None;
        while let Some(job) = next.take().or_else(|| inbox.blocking_recv()) {
            match job {
                Job::Read(work) => work(self.conn()),
                Job::Write(first) => {
                    let mut group = vec![first];
                    while group.len() < GROUP {
                        match inbox.try_recv() {
                            Ok(Job::Write(more)) => group.push(more),
                            Ok(read) => {
                                next = Some(read);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(group);
                }
            }
        }
    }

    /// Does a group of writes in one transaction, then answers all of them.
    fn commit(&mut self, mut group: Vec<Box<dyn Write>>) {
        let mut broken = self.write(&mut group).err();
        if broken.as_ref().is_some_and(Failure::is_full)
            && self.ballast.as_ref().is_some_and(|ballast| ballast.give_up())
        {
            broken = self.write(&mut group).err();
        }
        if group.len() > 1 && broken.as_ref().is_some_and(Failure::is_of_a_row) {
            for mut write in group {
                let broken = self.write(std::slice::from_mut(&mut write)).err();
                write.answer(broken.as_ref());
            }
            return;
        }
        for write in group {
            write.answer(broken.as_ref());
        }
    }

    /// One transaction; what it did is gone if it fails.
    fn write(&mut self, group: &mut [Box<dyn Write>]) -> Result<(), Failure> {
        for write in &mut *group {
            write.forget();
        }
        let conn = self.conn()?;
        let done = transaction(conn, group);
        if done.is_err() && !conn.is_autocommit() {
            // If even this fails, the next BEGIN fails too and says why.
            let _ = conn.execute_batch("ROLLBACK");
        }
        if let Ok(true) | Err(Failure::Panicked) = done {
            self.conn = None;
        }
        done.map(drop)
    }
}

/// Ends a read that has panicked, and was answered: the connection goes.
const AFTER_ANSWER: &str = "a read of the queue has panicked";

/// True if one of the writes has panicked, of which no trace is left.
fn transaction(conn: &Connection, group: &mut [Box<dyn Write>]) -> Result<bool, Failure> {
    let mut panicked = false;
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for write in group {
        conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        if let Err(failure) = write.run(conn) {
            if conn.is_autocommit() || failure.is_full() {
                // A full disk, for one, ends the whole transaction, and the others' work with it.
                return Err(failure);
            }
            panicked |= matches!(failure, Failure::Panicked);
            conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        conn.prepare_cached("RELEASE job")?.execute([])?;
    }
    conn.prepare_cached("COMMIT")?.execute([])?;
    Ok(panicked)
}

fn snapshot<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let transaction = conn.unchecked_transaction()?;
    let found = work(&transaction)?;
    transaction.commit()?;
    Ok(found)
}

impl<F, T> Write for Pending<F, T>
where
    F: Fn(&Connection) -> Result<T, Failure> + Send,
    T: Send,
{
    fn forget(&mut self) {
        self.found = None;
    }

    fn run(&mut self, conn: &Connection) -> Result<(), Failure> {
        let work = || (self.work)(conn);
        let found = catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure::Panicked));
        let done = found.as_ref().map(|_| ()).map_err(Failure::clone);
        self.found = Some(found);
        done
    }

    fn answer(self: Box<Self>, broken: Option<&Failure>) {
        let answer = match (self.found, broken) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(broken)) => Err(broken.clone()),
            (Some(found), None) => found,
            (None, None) => Err(Failure::Gone),
        };
        let _ = self.reply.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    async fn worker(opened: &Arc<AtomicUsize>) -> (tempfile::TempDir, Worker) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.db");
        let (at, opened) = (path.clone(), Arc::clone(opened));
        let open = move || {
            opened.fetch_add(1, Ordering::Relaxed);
            let conn = Connection::open(&at)?;
            conn.execute_batch("CREATE TABLE IF NOT EXISTS t (x INTEGER CHECK (x <> 13))")?;
            conn.execute_batch(
                "CREATE TRIGGER IF NOT EXISTS stop BEFORE INSERT ON t WHEN new.x = 66
                 BEGIN SELECT raise(ROLLBACK, 'not this one'); END",
            )?;
            Ok(conn)
        };
        (dir, Worker::start(path, "test", open, None).await.unwrap())
    }

    /// `SELECT sum(x)` after the insert; 7 panics after it.
    async fn insert(worker: &Worker, x: i64) -> Result<i64, QueueError> {
        let work = move |conn: &Connection| {
            conn.prepare_cached("INSERT INTO t VALUES (?)")?.execute([x])?;
            let sum = conn.prepare_cached("SELECT sum(x) FROM t")?.query_row([], |row| row.get(0))?;
            assert_ne!(x, 7, "a panic that the test wants");
            Ok(sum)
        };
        worker.write(work).await
    }

    async fn sum(worker: &Worker) -> i64 {
        let sum =
            |conn: &Connection| Ok(conn.query_row("SELECT coalesce(sum(x), 0) FROM t", [], |r| r.get(0))?);
        worker.read(sum).await.unwrap()
    }

    /// While the thread sleeps in a read, what the callers write gathers into one group.
    async fn together(worker: &Worker, all: &[i64]) -> Vec<Result<i64, QueueError>> {
        let rest = worker.read(|_| {
            std::thread::sleep(Duration::from_millis(100));
            Ok(())
        });
        let writes = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            futures_util::future::join_all(all.iter().map(|x| insert(worker, *x))).await
        };
        tokio::join!(rest, writes).1
    }

    #[tokio::test]
    async fn a_job_that_panics_costs_its_caller_alone_and_not_for_ever() {
        let opened = Arc::default();
        let (_dir, worker) = worker(&opened).await;
        for round in 1..=3 {
            let told = together(&worker, &[1, 7, 2]).await;
            let [Ok(_), Err(QueueError::Unavailable(why)), Ok(_)] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert!(why.contains("panic"), "{why}");
            assert_eq!(
                sum(&worker).await,
                3 * round,
                "what panicked left no trace, the others are committed"
            );
            let read: Result<(), _> = worker.read(|_| panic!("a panic that the test wants")).await;
            assert!(matches!(&read, Err(QueueError::Unavailable(why)) if why.contains("panic")), "{read:?}");
            assert_eq!(sum(&worker).await, 3 * round);
            assert_eq!(opened.load(Ordering::Relaxed) as i64, 1 + 2 * round, "opened anew after each panic");
        }
    }

    #[tokio::test]
    async fn a_row_that_ends_the_transaction_costs_its_caller_alone() {
        let opened = Arc::default();
        let (_dir, worker) = worker(&opened).await;
        let told = together(&worker, &[1, 66, 2, 13, 4]).await;
        let fine: Vec<bool> = told.iter().map(Result::is_ok).collect();
        assert_eq!(fine, [true, false, true, false, true], "{told:?}");
        assert_eq!(sum(&worker).await, 7);
    }
}
