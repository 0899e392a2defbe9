//! What brings alerts into the queue from outside, and the desk at which all of it hands in.
//!
//! An intake understands one form of asking (HTTP, a webhook, a file, a mail) and turns it into a
//! [submission](crate::queue::Submission). It hands that in at the [`Desk`], and says yes to whoever asked only when the
//! desk does: then the alerts are on stable storage. What is handed in at the same time is queued by one commit. A
//! submission that the queue has not answered for is handed in again under the same key, so that a lost answer doubles
//! nothing. Callers share the room in which submissions wait for their turn, and nobody's bulk holds up what is
//! urgent.
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
mod desk;
mod rate;
mod room;
mod shares;
mod tally;

pub use desk::{Clerk, Desk, NotTaken, PATIENCE, Taken, desk, desk_within};
pub use handover::{Handover, Refused};
pub(crate) use rate::Rates;
pub use recipients::{RecipientError, recipients};
pub(crate) use shares::{Share, Shares};
pub use tally::{Fate, Intake, Refusal, Tally};

/// The longest text that an intake takes, in bytes.
pub const TEXT_MAX: usize = 64 * 1024;
/// What is kept of it, in bytes: more than a dozen parts of an SMS. What is behind that no SMS would tell, and it would be
/// kept for each number.
pub const TEXT_KEPT: usize = 4 * 1024;
/// Alerts of one submission at most.
pub const ALERTS_MAX: usize = 1_000;
