//! What people are told of alerts and attempts: rows, stories, totals, the audit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::AttemptState;
use crate::alert::{AlertId, Phone, Reason, Severity};

/// What an alert's owner wants to know first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Waits (in an open attempt or in none).
    Waiting,
    /// Waits, in an attempt of which nobody knows whether it was taken.
    InDoubt,
    /// Waits for a person to decide.
    Held,
    /// An SMS that carries it was accepted.
    Sent,
    /// Will not be sent.
    Ignored,
}

impl AlertState {
    /// All states.
    pub const ALL: [AlertState; 5] =
        [AlertState::Waiting, AlertState::InDoubt, AlertState::Held, AlertState::Sent, AlertState::Ignored];

    /// The word for it on the command line and in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Waiting => "waiting",
            AlertState::InDoubt => "in_doubt",
            AlertState::Held => "held",
            AlertState::Sent => "sent",
            AlertState::Ignored => "ignored",
        }
    }
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AlertState {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let word = s.replace('-', "_");
        AlertState::ALL
            .into_iter()
            .find(|x| x.as_str() == word)
            .ok_or_else(|| format!("{s:?} is no state; expected waiting, in-doubt, held, sent or ignored"))
    }
}

/// Which alerts to list.
#[derive(Clone, Debug)]
pub struct Filter {
    /// In this state only.
    pub state: Option<AlertState>,
    /// To this number only (compared without punctuation).
    pub to: Option<Phone>,
    /// At most so many.
    pub limit: usize,
    /// Older than this one (for the next page).
    pub before: Option<AlertId>,
}

/// One alert as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AlertRow {
    /// Its key.
    pub id: AlertId,
    /// The number as queued.
    pub to: String,
    /// The text as queued.
    pub text: String,
    /// How severe.
    pub severity: Severity,
    /// What became of it.
    pub state: AlertState,
    /// Why, if it was ignored and the ledger knows.
    pub reason: Option<Reason>,
    /// When it was queued.
    pub queued_at: Option<Timestamp>,
    /// When it was sent or ignored.
    pub ended_at: Option<Timestamp>,
}

/// One attempt as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttemptRow {
    /// Its id.
    pub id: Uuid,
    /// Which attempt at this SMS.
    pub number: u32,
    /// The number it went to.
    pub recipient: String,
    /// The SMS.
    pub text: String,
    /// The dispatcher.
    pub dispatcher: String,
    /// Where it stands.
    pub state: AttemptState,
    /// When it was written, just before it was made.
    pub begun_at: Timestamp,
    /// When it was closed.
    pub ended_at: Option<Timestamp>,
    /// What class of answer closed it.
    pub class: Option<String>,
    /// The remote's own code.
    pub code: Option<String>,
    /// What happened, in words.
    pub detail: Option<String>,
    /// The gateway's references.
    pub references: Vec<String>,
    /// An earlier attempt may have been taken.
    pub possible_duplicate: bool,
    /// The attempt that it repeats.
    pub resend_of: Option<Uuid>,
    /// The network's later word: `delivered`, `undelivered`.
    pub delivery: Option<String>,
    /// The instance that made it.
    pub instance: String,
    /// The alerts whose text it carries.
    pub carried: Vec<AlertId>,
    /// The alerts that it only counts.
    pub counted: Vec<AlertId>,
}

/// What a person, or the program without an attempt, did to an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// `ignored`, `requeued`, `held` by the storm guard, or of an SMS in doubt `accepted` or `released`.
    pub what: String,
    /// Why, if it was ignored.
    pub reason: Option<Reason>,
    /// In words.
    pub detail: String,
    /// Who: a person's login, or `smsd`.
    pub by: String,
}

/// All that is known of one alert, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Story {
    /// The alert.
    pub alert: AlertRow,
    /// Its attempts.
    pub attempts: Vec<AttemptRow>,
    /// What else happened to it.
    pub notes: Vec<Note>,
}

/// An alert as a mail to the admin names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Its key.
    pub id: AlertId,
    /// The number as queued.
    pub to: String,
    /// The text as queued.
    pub text: String,
    /// Whose it is, where the queue knows accounts.
    pub account: Option<Account>,
}

/// An account of NAV's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The person's name.
    pub name: String,
    /// What the person logs in as.
    pub login: String,
}

/// Depth, age and totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Alerts that wait, those in unresolved attempts included.
    pub waiting: u64,
    /// Age of the oldest, in whole seconds.
    pub oldest_waiting_seconds: Option<u64>,
    /// Attempts being made.
    pub open: u64,
    /// Attempts in doubt.
    pub in_doubt: u64,
    /// Attempts that wait for a person.
    pub held: u64,
    /// Of these, held since the queue came back from the past.
    pub held_by_guard: u64,
    /// Alerts sent.
    pub sent: u64,
    /// Alerts ignored.
    pub ignored: u64,
    /// Attempts accepted: SMS that went out.
    pub sms: u64,
    /// Accepted attempts that are marked possible duplicates.
    pub possible_duplicates: u64,
}

/// What waits, and what is undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Depth {
    /// What waits, by severity, most severe first; only severities of which something waits.
    pub waiting: Vec<Layer>,
    /// Attempts being made.
    pub open: u64,
    /// Attempts in doubt.
    pub in_doubt: u64,
    /// Attempts that wait for a person.
    pub held: u64,
}

impl Depth {
    /// Alerts that wait, of whatever severity.
    pub fn alerts(&self) -> u64 {
        self.waiting.iter().map(|layer| layer.alerts).sum()
    }

    /// When the oldest of them was queued.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.waiting.iter().filter_map(|layer| layer.oldest).min()
    }
}

/// What waits of one severity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Layer {
    /// Which.
    pub severity: Severity,
    /// How many, those in unresolved attempts included.
    pub alerts: u64,
    /// When the oldest was queued.
    pub oldest: Option<Timestamp>,
}

/// A history looks at so many attempts.
pub(super) const HISTORY: usize = 100_000;

/// How long a period is, in microseconds.
pub(super) fn step_micros(step: Duration) -> i64 {
    i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1_000_000)
}

/// How a dispatcher's attempts did in one period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Period {
    /// When it began.
    pub from: Timestamp,
    /// Whose.
    pub dispatcher: String,
    /// SMS accepted.
    pub accepted: u64,
    /// Attempts that ended otherwise.
    pub failed: u64,
    /// How long the accepted ones took, in all, in milliseconds.
    pub accepted_millis: u64,
}

/// The account of all alerts since the ledger exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Alerts in the queue.
    pub alerts: u64,
    /// Of these waiting.
    pub waiting: u64,
    /// Sent, by an accepted attempt.
    pub sent: u64,
    /// Ignored, with a reason.
    pub ignored: u64,
    /// Ended before the ledger was there (NAV's own smsd sent or ignored them).
    pub before_ledger: u64,
    /// Attempts in doubt or held.
    pub unresolved: u64,
    /// Alerts that more than one SMS may have carried, all on record.
    pub possible_duplicates: u64,
    /// What does not add up; empty when all is accounted for. At most 1,000 are named.
    pub offenders: Vec<Offender>,
}

/// An alert or attempt that does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offender {
    /// The alert, if it is one.
    pub alert: Option<AlertId>,
    /// The attempt, if it is one.
    pub attempt: Option<Uuid>,
    /// What is wrong.
    pub what: String,
}
