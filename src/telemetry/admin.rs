//! What is mailed to the admin: collected from the events in bounded memory, and put into words. Pure.
//!
//! It is learned where the board and the metrics learn, and not heard by listening, so that no listener can lag behind:
//! what is ignored in a storm is counted to the last alert. Of each kind the last [`SHOWN`] are told by themselves,
//! and the others as a number; no kind can push another out.
//!
//! Deliberately absent: the text of an alert, which who sends the mail asks the queue for; and the words of a faulty
//! configuration, which may be secret.

mod letter;
mod pace;
mod words;

pub use letter::{Letter, Sender};
pub use pace::{GATHER, MINUTE, Pace};

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;

use super::Event;
use crate::alert::{AlertId, Reason};

/// Of each kind, so many are told by themselves.
pub const SHOWN: usize = 20;
/// The text of so many alerts is told in one mail.
pub const TEXTS: usize = 50;

/// How grave something is, in NAV's words (`mailwarnlevel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// Each step.
    Debug,
    /// What goes as it should.
    Info,
    /// What may.
    Warning,
    /// What a person should look at.
    Error,
    /// What a person should look at now: alerts do not reach people.
    Critical,
}

impl Gravity {
    /// All, as `mailwarnlevel` names them.
    pub const ALL: [Gravity; 5] =
        [Gravity::Debug, Gravity::Info, Gravity::Warning, Gravity::Error, Gravity::Critical];

    /// NAV's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Gravity::Debug => "DEBUG",
            Gravity::Info => "INFO",
            Gravity::Warning => "WARNING",
            Gravity::Error => "ERROR",
            Gravity::Critical => "CRITICAL",
        }
    }
}

/// What a note is about. What is over is as grave as what it ends: who was told of the one is told of the other. Among
/// equally grave ones, the first is what a mail is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// smsd stops by itself.
    GaveUp,
    /// No dispatcher works, or one does again.
    Outage,
    /// The queue does not answer, or does again; its disk is full, or has room again.
    Queue,
    /// The queue came back from the past.
    Past,
    /// Alerts were given up at the retry limit.
    RetryLimit,
    /// Alerts were refused by all dispatchers.
    Rejected,
    /// Alerts are refused by every way out, and wait.
    Refused,
    /// A second copy of alerts may have gone out.
    Copied,
    /// Alerts have no number that can be texted.
    BadNumber,
    /// Alerts grew too old.
    Expired,
    /// An attempt waits for a person.
    Held,
    /// A dispatcher is out of rotation, or works again.
    Dispatcher,
    /// The queue elsewhere does not answer, or does again.
    Elsewhere,
    /// A new configuration was refused.
    Reload,
    /// An attempt is in doubt, or repeated.
    Doubt,
    /// Something else that may go as it should not.
    Warning,
    /// What goes as it should.
    Info,
    /// For whoever looks for a fault of smsd's.
    Debug,
}

impl Kind {
    /// How grave it is.
    pub fn gravity(self) -> Gravity {
        match self {
            Kind::GaveUp | Kind::Outage | Kind::Queue | Kind::Past | Kind::RetryLimit => Gravity::Critical,
            Kind::Rejected
            | Kind::Refused
            | Kind::Copied
            | Kind::BadNumber
            | Kind::Expired
            | Kind::Held
            | Kind::Dispatcher
            | Kind::Elsewhere
            | Kind::Reload => Gravity::Error,
            Kind::Doubt | Kind::Warning => Gravity::Warning,
            Kind::Info => Gravity::Info,
            Kind::Debug => Gravity::Debug,
        }
    }

    /// Why alerts of this kind were ignored; `None` if they were not.
    fn ignored(self) -> Option<Reason> {
        match self {
            Kind::RetryLimit => Some(Reason::RetryLimit),
            Kind::Rejected | Kind::BadNumber => Some(Reason::Rejected),
            Kind::Expired => Some(Reason::Expired),
            _ => None,
        }
    }
}

/// What one event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: Kind,
    /// What happened, short enough for a subject.
    pub headline: String,
    /// What else there is to say.
    pub more: String,
    /// The alerts that were ignored, or that wait in trouble: all of them are counted, the first [`TEXTS`] named.
    pub alerts: Vec<AlertId>,
    /// How many there were.
    pub count: usize,
}

/// What has come together for one mail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(BTreeMap<Kind, Heap>);

/// All of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heap {
    /// How often it happened.
    times: u64,
    /// To how many alerts.
    alerts: u64,
    /// The last ones, oldest first.
    last: VecDeque<(Timestamp, Note)>,
}

impl Batch {
    /// True if there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The alerts whose texts are to be told, at most [`TEXTS`].
    pub fn named(&self) -> Vec<AlertId> {
        let mut ids = self.alerts_of(true);
        ids.extend(self.alerts_of(false));
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(TEXTS);
        ids
    }

    /// Those of them that were ignored, or that were not.
    fn alerts_of(&self, ignored: bool) -> Vec<AlertId> {
        let heaps = self.0.iter().filter(|(kind, _)| kind.ignored().is_some() == ignored);
        let notes = heaps.flat_map(|(_, heap)| &heap.last);
        let mut ids: Vec<AlertId> = notes.flat_map(|(_, note)| &note.alerts).copied().take(TEXTS).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn add(&mut self, at: Timestamp, note: Note) {
        let heap = self.0.entry(note.kind).or_default();
        heap.times += 1;
        heap.alerts += note.count as u64;
        heap.last.push_back((at, note));
        while heap.last.len() > SHOWN {
            heap.last.pop_front();
        }
    }

    /// Puts what is older before it.
    fn put_before(&mut self, older: Batch) {
        for (kind, mut before) in older.0 {
            let heap = self.0.entry(kind).or_default();
            heap.times += before.times;
            heap.alerts += before.alerts;
            before.last.append(&mut heap.last);
            heap.last = before.last;
            while heap.last.len() > SHOWN {
                heap.last.pop_front();
            }
        }
    }
}

/// Collects from the events what the admin wants to be told.
#[derive(Debug, Default)]
pub struct Collector {
    from: Option<Gravity>,
    batch: Batch,
}

impl Collector {
    /// What is at least so grave is collected from now on; `None`: nothing, and what was collected is forgotten.
    pub fn collect_from(&mut self, gravity: Option<Gravity>) {
        self.from = gravity;
        if gravity.is_none() {
            self.batch = Batch::default();
        }
    }

    /// Learns an event; true if it is going to be told.
    pub fn learn(&mut self, event: &Event, at: Timestamp) -> bool {
        let Some(from) = self.from else { return false };
        if words::kind(event).gravity() < from {
            return false;
        }
        self.batch.add(at, words::note(event));
        true
    }

    /// True if there is something to tell.
    pub fn waits(&self) -> bool {
        !self.batch.is_empty()
    }

    /// What has come together, to be mailed.
    pub fn take(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// It could not be mailed: it is told with what comes next.
    pub fn give_back(&mut self, batch: Batch) {
        if self.from.is_some() {
            self.batch.put_before(batch);
        }
    }
}

#[cfg(test)]
mod tests;
