//! How a queue that comes back from the past is found out, and what is then held.
//!
//! A restored backup, or a standby that lagged when it was promoted, has lost the last of what was
//! committed: rows that were sent wait again, and the ledger has forgotten that too. Commits are lost
//! from the end. So it is enough that an instance names the last things that it knows to be committed
//! ([`Known`], its witnesses): a queue that does not have one of them has been rolled back. The question
//! is part of the verb's own transaction, so that nothing is begun in such a queue, however silently a
//! connection came to lead there.
//!
//! An instance has witnesses of its own commits, and of those of all others: it learns the newest attempt
//! that any instance has begun, and where the database's log ends, with each grant of its lease and
//! beside each look for new alerts ([`Witness`]). Else an idle instance would send again what its
//! neighbour's lost commits had sent.

use jiff::Timestamp;
use uuid::Uuid;

use crate::alert::AlertId;

/// The dispatcher of the attempts that [`crate::queue::Queue::hold`] writes.
pub const STORM_GUARD: &str = "storm guard";
/// The class of what is held since it may be of the past.
pub const FROM_THE_PAST: &str = "from_the_past";
/// Why nothing is begun on a server of which the instance has not heard yet.
pub(super) const ANOTHER_SERVER: &str =
    "another database server answers than before (a standby was promoted, or a copy restored)";
/// What stands in the place of a text in the guard's attempts: there is no SMS.
pub(super) const NO_TEXT: &str = "(no SMS: these alerts are held by the storm guard)";
/// So many alerts stand in one of the guard's attempts at most, all of one recipient: a person decides
/// for all of them.
pub(super) const TOGETHER: usize = 50;

/// What an instance knows to be committed. Each is asked for only if it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The queue's identity, as it once told it ([`Grant::queue`]).
    pub queue: Option<Uuid>,
    /// The last attempt that this instance began.
    pub begun: Option<Uuid>,
    /// Attempts of any instance that the queue has shown ([`Witness::newest`]): those since it last
    /// confirmed one, and that one. All of them, since answers of two questions may cross.
    pub seen: Vec<Uuid>,
    /// The furthest end of the database's log that was seen, on the server that was last seen.
    pub log: Option<LogEnd>,
    /// Attempts that were closed, or came into doubt, since the queue was last asked, and the last one
    /// before: none of them is open any more. All of them, since a closing that was written after the
    /// queue had gone back says nothing of those before.
    pub closed: Vec<Uuid>,
}

/// How far a database's log was on stable storage: what is committed after this has a greater position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// Made with the database cluster. A copy of its files has the same, a dump restored elsewhere has not.
    pub system: u64,
    /// A standby that is promoted, and a restore from archived log, begin another one.
    pub timeline: u32,
    /// In bytes.
    pub position: u64,
}

impl LogEnd {
    /// True if both are of one history, in which positions only grow.
    pub fn is_of(self, other: LogEnd) -> bool {
        (self.system, self.timeline) == (other.system, other.timeline)
    }
}

/// What a queue shows of everybody's commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// The newest attempt that any instance has begun: the last that was committed, or (`NAVDBQueue`) the
    /// one with the greatest id.
    pub newest: Option<Uuid>,
    /// Where its log ends, if it has one that smsd may read.
    pub log: Option<LogEnd>,
}

/// What a queue no longer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forgot {
    /// It is not the queue that it was.
    #[error("its identity is another than before")]
    Identity,
    /// See [`Known::begun`].
    #[error("it does not know the last attempt that was begun in it")]
    Begun,
    /// See [`Known::seen`].
    #[error("it does not know an attempt that it has shown")]
    Seen,
    /// See [`Known::log`].
    #[error("its log ends before a place that it had reached")]
    Log,
    /// See [`Known::closed`].
    #[error("an attempt that was closed in it is open again, or gone")]
    Closed,
}

impl Forgot {
    const WORDS: [(&str, Forgot); 5] = [
        ("identity", Forgot::Identity),
        ("begun", Forgot::Begun),
        ("seen", Forgot::Seen),
        ("log", Forgot::Log),
        ("closed", Forgot::Closed),
    ];

    /// Reads the word by which a statement of a database says it.
    pub(super) fn from_word(word: &str) -> Option<Forgot> {
        Forgot::WORDS.into_iter().find(|(known, _)| *known == word).map(|(_, forgot)| forgot)
    }
}

/// What a queue says when it grants or renews a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The queue's identity, made with its schema. A dump and what is restored from it have the same.
    pub queue: Uuid,
    /// The time by the queue's clock.
    pub now: Timestamp,
    /// What everybody has committed by now.
    pub witness: Witness,
}

/// What may be of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspects {
    /// What has waited since then or longer, by the queue's clock.
    pub until: Timestamp,
    /// Above this key: where the last page ended; 0 for the first page.
    pub after: AlertId,
    /// At most so many alerts.
    pub limit: usize,
}

/// What was held of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Alerts that waited.
    pub alerts: u64,
    /// Attempts in doubt.
    pub doubts: u64,
    /// There may be more after this one.
    pub next: Option<AlertId>,
}
