//! Where submissions wait for the clerk: bounded in bytes, shared among callers, and left in an order in which nobody's
//! bulk holds up what is urgent: the most severe first, among those turn by turn between callers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::{NotTaken, Share, Shares, Taken};
use crate::queue::Submission;

/// Submissions that wait at once; whoever comes then is told to come again.
const MOST: usize = 4_096;
/// Of the memory for them, this part is for callers who take no more than a little of it.
const RESERVED: usize = 4;
const LITTLE: usize = 256 * 1024;
/// What an alert takes beside its text, which it may share with others.
const ALERT: usize = 128;
/// Submissions of one commit at most.
const GROUP: usize = 512;
/// Alerts of one commit at most, unless one submission alone has more.
const ROWS: usize = 2_000;

/// See the module.
#[derive(Debug)]
pub(super) struct WaitingRoom {
    bytes: Arc<Shares>,
    inner: Mutex<Inner>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// Who has something here; the first one's turn is next.
    callers: VecDeque<Caller>,
    count: usize,
    closed: bool,
}

#[derive(Debug)]
struct Caller {
    name: Arc<str>,
    /// By the severity of the most severe of its alerts.
    waiting: BTreeMap<i32, VecDeque<Handed>>,
}

/// A submission, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) submission: Submission,
    pub(super) waits: Waits,
}

/// Who waits.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) until: Instant,
    reply: oneshot::Sender<Result<Taken, NotTaken>>,
    _room: Share,
}

/// Why nobody else may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    NoRoom,
    Closed,
}

impl WaitingRoom {
    /// With so many bytes of memory.
    pub(super) fn new(bytes: usize) -> WaitingRoom {
        WaitingRoom {
            bytes: Arc::new(Shares::new(bytes, bytes / RESERVED, LITTLE)),
            inner: Mutex::default(),
            came: Notify::new(),
        }
    }

    /// A submission waits for its turn.
    pub(super) fn enter(
        &self,
        caller: &Arc<str>,
        submission: Submission,
        until: Instant,
        reply: oneshot::Sender<Result<Taken, NotTaken>>,
    ) -> Result<(), Full> {
        let mut room = self.bytes.open(caller);
        let mut inner = self.lock();
        if inner.closed {
            return Err(Full::Closed);
        }
        if inner.count >= MOST || !room.grow(weight(&submission)) {
            return Err(Full::NoRoom);
        }
        let severity = submission.alerts.iter().filter_map(|alert| alert.severity.0).min();
        let handed = Handed { submission, waits: Waits { until, reply, _room: room } };
        let at = inner.callers.iter().position(|known| known.name == *caller);
        let at = at.unwrap_or_else(|| {
            inner.callers.push_back(Caller { name: Arc::clone(caller), waiting: BTreeMap::new() });
            inner.callers.len() - 1
        });
        if let Some(known) = inner.callers.get_mut(at) {
            known.waiting.entry(severity.unwrap_or(i32::MAX)).or_default().push_back(handed);
            inner.count += 1;
        }
        drop(inner);
        self.came.notify_one();
        Ok(())
    }

    /// Waits until somebody waits.
    pub(super) async fn has_some(&self) {
        loop {
            let came = self.came.notified();
            if self.lock().count > 0 {
                return;
            }
            came.await;
        }
    }

    /// What is written next, together; nothing, if nobody waits.
    pub(super) fn next(&self) -> Vec<Handed> {
        let mut inner = self.lock();
        let (mut group, mut rows) = (Vec::new(), 0);
        while group.len() < GROUP {
            let Some(handed) = inner.pop(|alerts| group.is_empty() || rows + alerts <= ROWS) else { break };
            rows += handed.submission.alerts.len();
            group.push(handed);
        }
        group
    }

    /// Nobody may come any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whose turn it is, if so many alerts fit.
    fn pop(&mut self, fits: impl Fn(usize) -> bool) -> Option<Handed> {
        let severity = |caller: &Caller| caller.waiting.keys().next().copied();
        let most = self.callers.iter().filter_map(severity).min()?;
        let at = self.callers.iter().position(|caller| severity(caller) == Some(most))?;
        let first = self.callers.get(at)?.waiting.get(&most)?.front()?;
        if !fits(first.submission.alerts.len()) {
            return None;
        }
        let mut caller = self.callers.remove(at)?;
        let mut level = caller.waiting.remove(&most)?;
        let handed = level.pop_front();
        self.count -= 1;
        if !level.is_empty() {
            caller.waiting.insert(most, level);
        }
        if !caller.waiting.is_empty() {
            self.callers.push_back(caller);
        }
        handed
    }
}

impl Waits {
    /// Whoever has gone away meanwhile asks again under the same key, or never.
    pub(super) fn answer(self, result: Result<Taken, NotTaken>) {
        let _ = self.reply.send(result);
    }

    pub(super) fn refuse(self, why: &str) {
        self.answer(Err(NotTaken::Queue(why.to_owned())));
    }

    /// For a seeded bug: says yes while it still waits.
    pub(super) fn answer_early(&mut self, result: Result<Taken, NotTaken>) {
        let (nobody, _) = oneshot::channel();
        let _ = std::mem::replace(&mut self.reply, nobody).send(result);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }
}

/// What a submission takes in memory: a text that stands in many alerts counts once.
fn weight(submission: &Submission) -> usize {
    let mut last = None;
    let texts = submission.alerts.iter().map(|alert| {
        let same = last.replace(alert.text.as_ptr()) == Some(alert.text.as_ptr());
        if same { 0 } else { alert.text.len() }
    });
    texts.sum::<usize>() + submission.alerts.len() * ALERT + submission.key.name.len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::{Phone, Severity};
    use crate::queue::{Key, NewAlert};

    fn bulk(text: &str, alerts: usize, severity: i32) -> Submission {
        let text: Arc<str> = text.into();
        let alert = |n: usize| NewAlert {
            to: Phone::parse(&format!("+4790{n:06}")).unwrap(),
            text: Arc::clone(&text),
            severity: Severity(Some(severity)),
            account: None,
        };
        Submission {
            key: Key { name: String::new(), kept: Duration::ZERO },
            alerts: (0..alerts).map(alert).collect(),
        }
    }

    fn enter(room: &WaitingRoom, caller: &str, submission: Submission) -> Result<(), Full> {
        let (reply, answer) = oneshot::channel();
        // Whoever waits stays until the test is over.
        std::mem::forget(answer);
        room.enter(&caller.into(), submission, Instant::now() + Duration::from_secs(10), reply)
    }

    fn texts(group: &[Handed]) -> Vec<String> {
        group.iter().map(|handed| handed.submission.alerts[0].text.to_string()).collect()
    }

    #[tokio::test]
    async fn the_most_severe_go_first_and_callers_take_turns() {
        let room = WaitingRoom::new(16 << 20);
        for n in 0..3 {
            enter(&room, "hog", bulk(&format!("hog {n}"), 1, 1)).unwrap();
        }
        enter(&room, "hog", bulk("mild", 1, 5)).unwrap();
        enter(&room, "one", bulk("one", 1, 1)).unwrap();
        enter(&room, "two", bulk("two", 1, 2)).unwrap();
        assert_eq!(texts(&room.next()), ["hog 0", "one", "hog 1", "hog 2", "two", "mild"]);
        assert!(room.next().is_empty());
    }

    #[tokio::test]
    async fn a_commit_is_bounded_in_rows() {
        let room = WaitingRoom::new(16 << 20);
        for _ in 0..5 {
            enter(&room, "hog", bulk("bulk", 1_000, 1)).unwrap();
        }
        enter(&room, "one", bulk("one", 1, 1)).unwrap();
        assert_eq!(texts(&room.next()), ["bulk", "one"], "the next would be one too many");
        assert_eq!(texts(&room.next()), ["bulk", "bulk"]);
        enter(&room, "hog", bulk("large", 3_000, 1)).unwrap();
        assert_eq!(texts(&room.next()), ["bulk", "bulk"]);
        assert_eq!(texts(&room.next()), ["large"], "alone, it goes as it is");
    }

    #[tokio::test]
    async fn whoever_brings_too_much_leaves_room_for_others() {
        let room = WaitingRoom::new(16 << 20);
        let taken = (0..4_000).take_while(|_| enter(&room, "hog", bulk("x", 1_000, 1)).is_ok()).count();
        assert!((90..110).contains(&taken), "{taken}");
        assert_eq!(enter(&room, "one", bulk("x", 1_000, 1)), Ok(()));
        room.close();
        assert_eq!(enter(&room, "one", bulk("x", 1, 1)), Err(Full::Closed));
        while !room.next().is_empty() {}
        assert!(room.lock().callers.is_empty() && room.lock().count == 0);
    }
}
