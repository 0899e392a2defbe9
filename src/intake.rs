//! What brings alerts into the queue from outside, and the desk at which all of it hands in.
//!
//! An intake understands one form of asking (HTTP, a webhook, a file, a mail) and turns it into a [`Submission`]. It hands
//! that in at the [`Desk`], and says yes to whoever asked only when the desk does: then the alerts are on stable
//! storage. What is handed in at the same time is queued by one commit. A submission that the queue has not answered for
//! is handed in again under the same key, so that a lost answer doubles nothing.
//!
//! Deliberately absent: waiting rooms in memory for alerts that the queue will not take. Who is told no asks again.

mod recipients;
pub mod smtp;
pub mod spool;
pub mod handover;
pub mod template;
mod one_sms;
pub mod notification;
pub mod alertmanager;
pub mod grafana;
pub mod hook;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use handover::{Handover, Refused};
pub use recipients::{RecipientError, recipients};
pub use tally::{Fate, Intake, Tally};

use crate::alert::AlertId;
use crate::queue::{Key, Queue, QueueError, Submission, Submitted};
use crate::seeded::{Bug, bug};

/// The longest text that an intake takes, in bytes: far above what any number of segments carries.
pub const TEXT_MAX: usize = 64 * 1024;
/// Alerts of one submission at most.
pub const ALERTS_MAX: usize = 1_000;
/// How long an intake waits for its turn at the queue: what is not being written by then is not written later.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it then waits for the answer: what is being written at that moment is on the disk by then, or the disk is ill.
const GRACE: Duration = Duration::from_secs(5);
/// Submissions that wait for the queue at once; whoever comes then is told to come again.
const WAITING_ROOM: usize = 4_096;
/// Submissions of one commit at most.
const GROUP: usize = 512;
/// Between two tries when the queue does not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// Where intakes hand in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    clerk: mpsc::Sender<Handed>,
    intake: Option<Intake>,
    tally: Tally,
}

/// What the queue has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The alerts, in the order of the submission.
    pub ids: Vec<AlertId>,
    /// They were queued before, under the same key.
    pub before: bool,
}

/// Why nothing was queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The key stands for other alerts. Asking again does not help.
    #[error("the idempotency key was used for other alerts; nothing was queued")]
    OtherAlerts,
    /// NAV: there is no such account. Asking again does not help.
    #[error("{}; nothing was queued", no_account(*.0))]
    NoAccount(Option<i32>),
    /// The queue can not hold such an alert (NAV: texts of at most 145 characters). Asking again does not help.
    #[error("{0}; nothing was queued")]
    Unfit(String),
    /// More is handed in than the queue takes. The caller tells its peer to come again after this time.
    #[error("more is handed in than the queue takes; nothing was queued, try again in {} s", .0.as_secs())]
    Busy(Duration),
    /// The queue can not be written now; the words are the queue's own, for the log and for whoever may read the queue.
    #[error("the queue can not be written: {0}; nothing is known to be queued, try again")]
    Queue(String),
}

fn no_account(account: Option<i32>) -> String {
    match account {
        Some(id) => format!("NAV has no account {id}"),
        None => "NAV's queue wants an account (`account`)".to_owned(),
    }
}

/// A submission on its way to the clerk.
struct Handed {
    submission: Submission,
    until: Instant,
    reply: oneshot::Sender<Result<Taken, NotTaken>>,
}

impl std::fmt::Debug for Handed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handed").field("key", &self.submission.key).finish_non_exhaustive()
    }
}

impl Desk {
    /// Hands in; returns when the alerts are on stable storage. Dropped before, it may have queued them or not.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub async fn hand_in(&self, submission: Submission) -> Result<Taken, NotTaken> {
        let intake = self.intake.unwrap_or_else(|| Intake::of(&submission.key));
        let result = self.hand_over(submission).await;
        self.tally.add(intake, &result);
        result
    }

    /// The same desk for an intake whose keys do not say whose they are (see [`Key::name`]).
    pub fn at(&self, intake: Intake) -> Desk {
        Desk { intake: Some(intake), ..self.clone() }
    }

    /// What was handed in so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    async fn hand_over(&self, submission: Submission) -> Result<Taken, NotTaken> {
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + PATIENCE;
        let handed = Handed { submission, until, reply };
        self.clerk.try_send(handed).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NotTaken::Busy(Duration::from_secs(1)),
            mpsc::error::TrySendError::Closed(_) => NotTaken::Queue("smsd is stopping".to_owned()),
        })?;
        let late = || NotTaken::Queue(format!("no answer within {} s", (PATIENCE + GRACE).as_secs()));
        match timeout_at(until + GRACE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(NotTaken::Queue("smsd is stopping".to_owned())),
            Err(_) => Err(late()),
        }
    }
}

/// Opens a desk on a queue, and returns who works behind it: [`Clerk::work`] is to be run for as long as there is a desk.
pub fn desk(queue: Arc<dyn Queue>) -> (Desk, Clerk) {
    let (clerk, inbox) = mpsc::channel(WAITING_ROOM);
    (Desk { clerk, intake: None, tally: Tally::default() }, Clerk { queue, inbox })
}

/// Who writes what is handed in.
pub struct Clerk {
    queue: Arc<dyn Queue>,
    inbox: mpsc::Receiver<Handed>,
}

impl Clerk {
    /// Works until `closing` is cancelled; what is handed in by then is still seen to.
    pub async fn work(&mut self, closing: CancellationToken) {
        let mut batch = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                got = self.inbox.recv_many(&mut batch, GROUP) => if got == 0 { return },
                () = closing.cancelled() => {
                    self.inbox.close();
                    if self.inbox.recv_many(&mut batch, GROUP).await == 0 {
                        return;
                    }
                }
            }
            self.enter(std::mem::take(&mut batch)).await;
        }
    }

    /// Queues a batch; again, while the queue does not answer and somebody waits.
    async fn enter(&self, mut batch: Vec<Handed>) {
        let mut why = "it is busy with what came before".to_owned();
        loop {
            let now = Instant::now();
            batch.retain(|handed| !handed.reply.is_closed());
            refuse(batch.extract_if(.., |handed| handed.until <= now), &why);
            // Who has the least time left speaks for all: the others try again.
            let Some(until) = batch.iter().map(|handed| handed.until).min() else { return };
            if bug(Bug::AcceptedBeforeDurable) {
                for handed in &mut batch {
                    let (nobody, _) = oneshot::channel();
                    let reply = std::mem::replace(&mut handed.reply, nobody);
                    let _ = reply.send(Ok(Taken { ids: Vec::new(), before: false }));
                }
            }
            let submissions: Vec<Submission> = batch.iter().map(|h| h.submission.clone()).collect();
            let error = match self.queue.enqueue_by(&submissions, until).await {
                Ok(results) => {
                    for (handed, result) in batch.into_iter().zip(results) {
                        // Whoever has gone away meanwhile asks again under the same key, or never.
                        let _ = handed.reply.send(result.into());
                    }
                    return;
                }
                Err(error) => error,
            };
            why = error.to_string();
            if matches!(error, QueueError::Refused(_)) {
                return refuse(batch, &why);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Tells no. Whoever has gone away meanwhile needs no answer.
fn refuse(batch: impl IntoIterator<Item = Handed>, why: &str) {
    for handed in batch {
        let _ = handed.reply.send(Err(NotTaken::Queue(why.to_owned())));
    }
}

impl From<Submitted> for Result<Taken, NotTaken> {
    fn from(submitted: Submitted) -> Self {
        match submitted {
            Submitted::Queued(ids) => Ok(Taken { ids, before: false }),
            Submitted::Before(ids) => Ok(Taken { ids, before: true }),
            Submitted::OtherAlerts => Err(NotTaken::OtherAlerts),
            Submitted::NoAccount(account) => Err(NotTaken::NoAccount(account)),
            Submitted::Unfit(why) => Err(NotTaken::Unfit(why)),
            Submitted::NotNow(why) => Err(NotTaken::Queue(why)),
        }
    }
}
