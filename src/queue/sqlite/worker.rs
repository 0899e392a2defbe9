//! A thread that owns a connection, since SQLite blocks; and the group commit.
//!
//! Jobs come over a bounded channel. Writes that wait are done in one transaction, each in a savepoint of its
//! own, so that one fsync serves all callers and one caller's error spoils no other's work. Nobody is answered
//! before the commit. A caller that goes away does not undo its job.

use std::path::PathBuf;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

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

enum Job {
    Read(Box<dyn FnOnce(&Connection) + Send>),
    Write(Box<dyn Write>),
}

/// A write between its doing and its answer.
trait Write: Send {
    /// Does it.
    fn run(&mut self, conn: &Connection) -> Result<(), Failure>;
    /// Answers it: with what it found, or with what kept the transaction from being committed.
    fn answer(self: Box<Self>, broken: Option<&Failure>);
}

struct Pending<F, T> {
    work: Option<F>,
    found: Option<Result<T, Failure>>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl Worker {
    /// Starts the thread; returns when `open` has opened its connection.
    pub(super) async fn start(
        path: PathBuf,
        name: &str,
        open: impl FnOnce() -> Result<Connection, Failure> + Send + 'static,
    ) -> Result<Worker, QueueError> {
        let (jobs, inbox) = mpsc::channel(QUEUED_JOBS);
        let (ready, opened) = oneshot::channel();
        let run = move || match open() {
            Ok(conn) => {
                // Nobody listens any more if the caller gave up; then the channel is closed too.
                let _ = ready.send(Ok(()));
                serve(&conn, inbox);
            }
            Err(failure) => {
                let _ = ready.send(Err(failure));
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
            let _ = reply.send(snapshot(conn, work));
        }));
        self.send(job, answer).await
    }

    /// Writes, together with others that wait; returns when it is on stable storage.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Write(Box::new(Pending { work: Some(work), found: None, reply })), answer).await
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

/// The thread: one job after the other, writes in groups.
fn serve(conn: &Connection, mut inbox: mpsc::Receiver<Job>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| inbox.blocking_recv()) {
        match job {
            Job::Read(work) => work(conn),
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
                commit(conn, group);
            }
        }
    }
}

/// Does a group of writes in one transaction, then answers all of them.
fn commit(conn: &Connection, mut group: Vec<Box<dyn Write>>) {
    let broken = write_group(conn, &mut group).err();
    if broken.is_some() && !conn.is_autocommit() {
        // If even this fails, the next BEGIN fails too and says why.
        let _ = conn.execute_batch("ROLLBACK");
    }
    for write in group {
        write.answer(broken.as_ref());
    }
}

fn write_group(conn: &Connection, group: &mut [Box<dyn Write>]) -> Result<(), Failure> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for write in group {
        conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        if let Err(failure) = write.run(conn) {
            if conn.is_autocommit() {
                // A full disk, for one, ends the whole transaction, and the others' work with it.
                return Err(failure);
            }
            conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        conn.prepare_cached("RELEASE job")?.execute([])?;
    }
    conn.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
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
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
    T: Send,
{
    fn run(&mut self, conn: &Connection) -> Result<(), Failure> {
        let found = self.work.take().map_or(Err(Failure::Gone), |work| work(conn));
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
