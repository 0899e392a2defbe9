//! How a queue that comes back from the past is found out, and what is then held.
//!
//! A restored backup, or a standby that lagged when it was promoted, has lost the last of what was committed: rows
//! that were sent wait again, and the ledger has forgotten that too. Commits are lost from the end. So it is enough
//! that whoever asks names the last things that it knows to be committed: a queue that does not know one of them
//! is not the queue that it was. The question is part of the verb's own transaction, so that nothing is begun in
//! such a queue, however silently a connection came to lead there.

use jiff::Timestamp;
use uuid::Uuid;

use crate::alert::AlertId;

/// The dispatcher of the attempts that [`crate::queue::Queue::hold`] writes.
pub const STORM_GUARD: &str = "storm guard";
/// The class of what is held since it may be of the past.
pub const FROM_THE_PAST: &str = "from_the_past";
/// What stands in the place of a text in the guard's attempts: there is no SMS.
pub(super) const NO_TEXT: &str = "(no SMS: these alerts are held by the storm guard)";
/// So many alerts stand in one of the guard's attempts at most, all of one recipient: a person decides for all of them.
pub(super) const TOGETHER: usize = 50;

/// What an instance knows to be committed. Each is asked for only if it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The queue's identity, as it once told it ([`Grant::queue`]).
    pub queue: Option<Uuid>,
    /// The last attempt that was begun.
    pub begun: Option<Uuid>,
    /// Attempts that were closed, or came into doubt, since the queue was last asked, and the last one before: none
    /// of them is open any more. All of them, since a closing that was written after the queue had gone back says nothing
    /// of those before.
    pub closed: Vec<Uuid>,
    /// An instance, and how often its lease was renewed.
    pub renewed: Option<(Uuid, u64)>,
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
    /// See [`Known::closed`].
    #[error("an attempt that was closed in it is open again, or gone")]
    Closed,
    /// See [`Known::renewed`].
    #[error("it does not know that our lease was renewed in it")]
    Renewed,
}

impl Forgot {
    const WORDS: [(&str, Forgot); 4] = [
        ("identity", Forgot::Identity),
        ("begun", Forgot::Begun),
        ("closed", Forgot::Closed),
        ("renewed", Forgot::Renewed),
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
    /// How often the lease was renewed.
    pub renewals: u64,
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
