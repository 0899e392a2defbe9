//! What happened, told once: the events of the program and where they go.
//!
//! The engine says what happened as an [`Event`]; here it becomes a log line. One line per SMS and per change of
//! state, never one per retry, never the text of an alert, and foreign words only escaped and cut.

pub mod admin;
pub mod board;
pub mod history;
mod hub;
pub mod journal;
mod line;
pub mod log;
pub mod metrics;
pub mod sampler;
#[cfg(test)]
mod samples;
mod seldom;
mod waits;

pub use hub::{Hub, Told};
pub use sampler::{Sample, Sampler};
pub(crate) use seldom::Seldom;
pub use waits::Wait;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::alert::{AlertId, Phone, Reason};
use crate::dispatch::SubmitError;
use crate::failover::Cause;
use crate::queue::Forgot;

/// Something that people may want to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// A program that a dispatcher speaks to has ended, or could not be started.
    ProgramEnded {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// How it ended.
        reason: SubmitError,
        /// How long it is left alone.
        pause: Duration,
    },
    /// A program says what makes no sense; told once for each kind and life of the program.
    Garbled {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// What it said.
        what: &'static str,
    },
    /// A program has answered when nobody waited any more.
    LateAnswer {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// What it has answered.
        attempt: String,
    },
    /// A line of what a program says on standard error.
    Overheard {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// The line, cut, without secrets.
        words: String,
    },
    /// An SMS was taken by a gateway.
    Accepted {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// How many alerts it carries.
        alerts: usize,
        /// How many it only counts.
        squeezed: usize,
        /// As how many segments the network carries it.
        segments: usize,
        /// Which attempt at it this was.
        number: u32,
        /// An earlier attempt may have been taken.
        possible_duplicate: bool,
        /// The gateway's references.
        references: Vec<String>,
        /// When the alerts that it carries were queued, by the queue's clock, as far as is known.
        queued_at: Vec<Timestamp>,
        /// How long the submit took.
        took: Duration,
    },
    /// An SMS was not taken.
    Refused {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// Which attempt at it this was.
        number: u32,
        /// The answer.
        error: SubmitError,
        /// How long the submit took.
        took: Duration,
    },
    /// Nobody knows whether an SMS was taken.
    Doubtful {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// It waits for a person.
        held: bool,
        /// What happened.
        error: SubmitError,
        /// How long the submit took.
        took: Duration,
    },
    /// An attempt in doubt is repeated: a possible duplicate.
    Resent {
        /// The new attempt.
        attempt: Uuid,
        /// The one in doubt.
        resend_of: Uuid,
        /// To whom.
        recipient: Phone,
    },
    /// An attempt in doubt waits for a person.
    Held {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
    },
    /// Another instance has taken an attempt of ours over.
    Superseded {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
    },
    /// Another number of instances works on the queue.
    Peers {
        /// How many, with us.
        instances: u32,
    },
    /// SMS were not begun: another instance was first, or somebody has changed their alerts.
    Outrun {
        /// How many.
        attempts: usize,
    },
    /// Alerts were given up.
    Ignored {
        /// Whose.
        recipient: Phone,
        /// Which.
        alerts: Vec<AlertId>,
        /// Why.
        reason: Reason,
        /// Why, in words.
        detail: String,
    },
    /// An alert's number is none.
    BadNumber {
        /// Which alert.
        alert: AlertId,
        /// The number as queued.
        number: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An alert's number may not be texted (`allow`, `deny`); it waits.
    Barred {
        /// Which alert.
        alert: AlertId,
        /// Whose.
        recipient: Phone,
    },
    /// A recipient has had as many SMS within an hour as `max_per_hour` allows; its alerts wait.
    HeldBack {
        /// Whose.
        recipient: Phone,
    },
    /// No dispatcher took a recipient's SMS, and its alerts wait for the next try.
    Waits {
        /// Whose.
        recipient: Phone,
        /// Which.
        alerts: Vec<AlertId>,
        /// For what reason.
        why: Why,
        /// What the last dispatcher said.
        detail: String,
        /// When the next try is due.
        again_in: Duration,
        /// It waits for this reason for the first time since an SMS to it was last taken.
        first: bool,
    },
    /// A second copy of alerts may have gone out: a gateway says that it failed, and may have sent all the same.
    Copied {
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// Which.
        alerts: Vec<AlertId>,
    },
    /// Alerts grew older than `autocancel`.
    Expired {
        /// Which.
        alerts: Vec<AlertId>,
    },
    /// Alerts were gone, or changed by others, when their outcome was written.
    Vanished {
        /// Which.
        alerts: Vec<AlertId>,
    },
    /// The queue writes everything but this: a row is locked by somebody, or the database does not take it. It is tried
    /// again beside all else, and is told once.
    Stuck {
        /// The attempt, if it is about one.
        attempt: Option<Uuid>,
        /// The alerts.
        alerts: Vec<AlertId>,
        /// It may have been begun, and its outcome is to be written; else it was not begun, and its alerts wait.
        begun: bool,
        /// What the queue says.
        reason: String,
    },
    /// A dispatcher is out of rotation.
    DispatcherDown {
        /// Which.
        dispatcher: Arc<str>,
        /// Why.
        cause: Cause,
        /// Why, in words.
        reason: String,
    },
    /// A dispatcher works again.
    DispatcherUp {
        /// Which.
        dispatcher: Arc<str>,
    },
    /// No dispatcher works: alerts wait.
    AllDown {
        /// How many, as far as is known.
        waiting: usize,
    },
    /// A dispatcher works again after all were down.
    WayOut,
    /// The queue does not answer.
    QueueLost {
        /// Why.
        reason: String,
    },
    /// The queue answers again.
    QueueBack {
        /// How long it was away.
        after: Duration,
    },
    /// The disk of the embedded queue is full: the room that was kept for that is used up now.
    DiskFull {
        /// The folder.
        place: String,
    },
    /// There is room on that disk again.
    DiskRoom,
    /// The queue elsewhere, of which ours is a mirror, does not answer.
    ElsewhereLost {
        /// Why.
        reason: String,
    },
    /// It answers again.
    ElsewhereBack {
        /// How long it was away.
        after: Duration,
    },
    /// The queue elsewhere was told how an alert ended, and lets it wait all the same.
    Unheard {
        /// Which.
        alert: AlertId,
        /// Its class.
        elsewhere: String,
    },
    /// Our lease ran out; a new instance was made.
    LeaseLost,
    /// The queue has forgotten what was committed in it. Nothing is sent until what is suspect is held.
    FromThePast {
        /// What it has forgotten.
        forgot: Forgot,
        /// What waits since then or longer is suspect, by the queue's clock.
        until: Timestamp,
    },
    /// What is suspect since the queue came back from the past is held.
    Suspected {
        /// Alerts.
        alerts: u64,
        /// Attempts in doubt.
        doubts: u64,
        /// They wait since then or longer, by the queue's clock.
        until: Timestamp,
    },
    /// The storm guard's record can not be read or written.
    NotKept {
        /// Why.
        reason: String,
    },
    /// Somebody sent a test straight through a dispatcher.
    Tested {
        /// The id by which the gateway may know the SMS.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// Through which dispatcher.
        dispatcher: Arc<str>,
        /// `accepted`, or the class of the answer.
        class: &'static str,
        /// Who.
        by: String,
    },
    /// The queue has answered for the first time, and what waits is known.
    Ready,
    /// The configuration was read again.
    Reloaded,
    /// The new configuration is faulty; the old one stays.
    ReloadRefused {
        /// The faults.
        faults: String,
    },
    /// An SMS is handed to a dispatcher, and its text is wanted in the log (`log_texts`).
    Wording {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// What the phone is to show.
        text: Arc<str>,
    },
    /// smsd stops by itself.
    GaveUp {
        /// Why.
        reason: String,
    },
    /// A stop was asked for.
    Stopping {
        /// SMS on their way that are waited for.
        in_flight: usize,
    },
    /// The stop is over.
    Stopped {
        /// SMS that were still on their way: they come into doubt.
        in_flight: usize,
    },
}

/// For what reason alerts wait although they could go out as far as time is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Every way out that could be asked refused the number or the text.
    Refused,
    /// The recipient's SMS fail, while others are taken.
    Failing,
    /// A gateway says that it failed, and may have sent all the same: it is not asked again at once.
    MayHaveGone,
}

impl Why {
    /// What it is in words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Why::Refused => "refused by every way out",
            Why::Failing => "every way out fails for this number",
            Why::MayHaveGone => "it may have been sent, since a gateway that failed may have sent it",
        }
    }
}

/// Cuts a foreign string to at most `max` bytes at a character, and makes its control characters visible:
/// C0 and C1, DEL, and the bidirectional overrides that reorder a log line.
pub fn clip(s: &mut String, max: usize) {
    if s.contains(acts_on_a_terminal) {
        *s = s
            .chars()
            .flat_map(
                |c| if acts_on_a_terminal(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] },
            )
            .collect();
    }
    if s.len() > max {
        let mut end = max.saturating_sub('…'.len_utf8());
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s.truncate(end);
        s.push('…');
    }
}

/// Control characters (C0, C1 and DEL), and what makes a line read in another order than it is written in.
pub(crate) fn acts_on_a_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
