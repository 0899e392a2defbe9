//! The desk at which all intakes hand in, and the clerk behind it who writes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::room::{Full, Handed, WaitingRoom};
use super::{Intake, TEXT_KEPT, Tally, template};
use crate::alert::AlertId;
use crate::config::{Main, Memory};
use crate::queue::{NewAlert, Queue, QueueError, Submission, Submitted};
use crate::seeded::{Bug, bug};

/// How long an intake waits for its turn at the queue: what is not being written by then is not written later.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it then waits for the answer: what is being written at that moment is on the disk by then, or the disk is ill.
const GRACE: Duration = Duration::from_secs(5);
/// Between two tries when the queue does not answer.
const PAUSE: Duration = Duration::from_millis(200);

/// Where intakes hand in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    room: Arc<WaitingRoom>,
    intake: Option<Intake>,
    caller: Option<Arc<str>>,
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

impl Desk {
    /// Hands in; returns when the alerts are on stable storage. Dropped before, it may have queued them or not.
    ///
    /// # Errors
    /// See [`NotTaken`].
    pub async fn hand_in(&self, submission: Submission) -> Result<Taken, NotTaken> {
        let intake = self.intake.unwrap_or_else(|| Intake::of(&submission.key));
        let result = self.hand_over(submission, intake).await;
        self.tally.add(intake, &result);
        result
    }

    /// The same desk for an intake whose keys do not say whose they are (see [`crate::queue::Key::name`]).
    pub fn at(&self, intake: Intake) -> Desk {
        Desk { intake: Some(intake), ..self.clone() }
    }

    /// The same desk for one caller: callers share the room and take turns.
    pub fn by(&self, caller: &Arc<str>) -> Desk {
        Desk { caller: Some(Arc::clone(caller)), ..self.clone() }
    }

    /// What was handed in so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    async fn hand_over(&self, mut submission: Submission, intake: Intake) -> Result<Taken, NotTaken> {
        cut(&mut submission.alerts);
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + PATIENCE;
        let caller = self.caller.clone().unwrap_or_else(|| intake.as_str().into());
        self.room.enter(&caller, submission, until, reply).map_err(|full| match full {
            Full::NoRoom => NotTaken::Busy(Duration::from_secs(1)),
            Full::Closed => NotTaken::Queue("smsd is stopping".to_owned()),
        })?;
        let late = || NotTaken::Queue(format!("no answer within {} s", (PATIENCE + GRACE).as_secs()));
        match timeout_at(until + GRACE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(NotTaken::Queue("smsd is stopping".to_owned())),
            Err(_) => Err(late()),
        }
    }
}

/// Cuts what no SMS would tell, once for all who are told the same.
fn cut(alerts: &mut [NewAlert]) {
    let mut last: Option<(Arc<str>, Arc<str>)> = None;
    for alert in alerts.iter_mut().filter(|alert| alert.text.len() > TEXT_KEPT) {
        let (_, kept) = match &last {
            Some((whole, kept)) if Arc::ptr_eq(whole, &alert.text) => (whole, kept),
            _ => {
                let mut kept = alert.text.to_string();
                template::cut(&mut kept, TEXT_KEPT);
                let pair = last.insert((Arc::clone(&alert.text), kept.into()));
                (&pair.0, &pair.1)
            }
        };
        alert.text = Arc::clone(kept);
    }
}

/// Opens a desk on a queue, and returns who works behind it: [`Clerk::work`] is to be run for as long as there is a desk.
pub fn desk(queue: Arc<dyn Queue>) -> (Desk, Clerk) {
    desk_within(queue, Main::default().memory(Memory::HandedIn))
}

/// The same with so many bytes of memory for what waits.
pub fn desk_within(queue: Arc<dyn Queue>, bytes: usize) -> (Desk, Clerk) {
    let room = Arc::new(WaitingRoom::new(bytes));
    let desk = Desk { room: Arc::clone(&room), intake: None, caller: None, tally: Tally::default() };
    (desk, Clerk { queue, room })
}

/// Who writes what is handed in.
pub struct Clerk {
    queue: Arc<dyn Queue>,
    room: Arc<WaitingRoom>,
}

impl Clerk {
    /// Works until `closing` is cancelled; what is handed in by then is still seen to.
    pub async fn work(&mut self, closing: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => {
                    self.room.close();
                    let rest = self.room.next();
                    if rest.is_empty() {
                        return;
                    }
                    self.enter(rest).await;
                }
                () = self.room.has_some() => self.enter(self.room.next()).await,
            }
        }
    }

    /// Queues a batch; again, while the queue does not answer and somebody waits.
    async fn enter(&self, batch: Vec<Handed>) {
        let mut why = "it is busy with what came before".to_owned();
        let (mut submissions, mut waiting): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|handed| (handed.submission, handed.waits)).unzip();
        loop {
            let now = Instant::now();
            let (mut left, mut still) = (Vec::new(), Vec::new());
            for (submission, waits) in submissions.into_iter().zip(waiting) {
                if waits.until <= now {
                    waits.refuse(&why);
                } else if !waits.is_gone() {
                    left.push(submission);
                    still.push(waits);
                }
            }
            (submissions, waiting) = (left, still);
            // Who has the least time left speaks for all: the others try again.
            let Some(until) = waiting.iter().map(|waits| waits.until).min() else { return };
            if bug(Bug::AcceptedBeforeDurable) {
                for waits in &mut waiting {
                    waits.answer_early(Ok(Taken { ids: Vec::new(), before: false }));
                }
            }
            let error = match self.queue.enqueue_by(&submissions, until).await {
                Ok(results) => {
                    for (waits, result) in waiting.into_iter().zip(results) {
                        waits.answer(result.into());
                    }
                    return;
                }
                Err(error) => error,
            };
            why = error.to_string();
            if matches!(error, QueueError::Refused(_)) {
                waiting.into_iter().for_each(|waits| waits.refuse(&why));
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        // Nobody is left who would write.
        self.room.close();
        while !self.room.next().is_empty() {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Phone, Severity};

    #[test]
    fn a_text_is_cut_once_for_all_who_are_told_it() {
        let long: Arc<str> = "æ".repeat(TEXT_KEPT).into();
        let new = |text: &Arc<str>| NewAlert {
            to: Phone::parse("+4790000001").unwrap(),
            text: Arc::clone(text),
            severity: Severity::default(),
            account: None,
        };
        let short: Arc<str> = "x".repeat(TEXT_KEPT).into();
        let mut alerts = vec![new(&long), new(&short), new(&long)];
        cut(&mut alerts);
        let [first, whole, last] = &alerts[..] else { panic!("{alerts:?}") };
        assert!(first.text.len() <= TEXT_KEPT && first.text.ends_with("æ..."), "{}", first.text.len());
        assert!(Arc::ptr_eq(&first.text, &last.text) && Arc::ptr_eq(&whole.text, &short));
    }
}
