//! Where alerts wait: one trait, and the ledger that every implementation keeps.
//!
//! An SMS can not be submitted exactly once, so the queue keeps a ledger of attempts beside the alerts,
//! in the same database: an attempt is on stable storage before the first byte goes out ([`Queue::begin`])
//! and is closed in the transaction that writes what became of its alerts ([`Queue::settle`]). The engine
//! decides; a queue writes down, compares before it sets, and says what it could not set. A queue knows of
//! no dispatcher.
//!
//! Every verb may be repeated after an error without harm: a reply that was lost is not a rollback, and
//! the attempt id, made before `begin`, is how a repeated call finds what it has already done.

mod report;
mod submission;
mod ledger;
mod news;
mod open;
mod past;
mod wall;
mod arrivals;
pub mod navdb;
pub mod postgres;
pub mod sqlite;
pub mod mirror;
pub mod memory;

pub use news::News;
pub use open::{Opened, open};
pub use past::{Caught, FROM_THE_PAST, Forgot, Grant, Known, LogEnd, STORM_GUARD, Suspects, Witness};
pub use report::*;
pub use submission::{Key, NewAlert, Submission, Submitted};

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::alert::{Alert, AlertId, Phone, Severity, Verdict};

/// A generic producer of alerts with a ledger of attempts.
///
/// The contract, which one suite (`tests/contract/queue.rs`) runs over every implementation:
///
/// 1. `begin` returns only what is durable, and only attempts all of whose alerts wait (checked after the
///    insert, in a new statement) and stand in no other unresolved attempt, whose recipient has no other
///    open attempt, which is marked a possible duplicate if an earlier SMS with one of its alerts may have been
///    taken ([`Alert::maybe_sent`], by now), and whose owner's lease is good.
/// 2. `settle` closes the attempt and sets its alerts in one transaction. Acceptance may be recorded by any
///    holder of the attempt id; refusal and doubt only by the owner while the attempt is open.
/// 3. An alert that is no longer waiting is never set again, and never an error.
/// 4. Every verb may be repeated after an error.
/// 5. `join`, `renew` and `begin` write nothing in a queue that has forgotten what the caller knows to be committed
///    in it: that is [`QueueError::FromThePast`], found in the transaction that would have written. `begin` writes nothing
///    on another server, or after a promotion, either, until the caller has heard of it ([`Known::log`]): that is
///    [`QueueError::Unavailable`].
#[async_trait]
pub trait Queue: Send + Sync {
    // -- an instance's life ------------------------------------------------------------------

    /// Joins as a new instance with a lease of `ttl` by the queue's clock, and brings every open attempt
    /// of instances that are surely dead into doubt: those whose lease ran out, and those with our `lock`
    /// (we hold it, so they do not).
    ///
    /// # Errors
    /// [`QueueError::FromThePast`] if the queue has forgotten something of `known`.
    async fn join(&self, instance: &Instance, ttl: Duration, known: &Known) -> Result<Grant, QueueError>;

    /// Renews the lease for `ttl` from now, durably.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] if the lease ran out before: the caller joins anew under a new id.
    /// [`QueueError::FromThePast`] if the queue has forgotten something of `known`, whatever the lease.
    async fn renew(&self, instance: Uuid, ttl: Duration, known: &Known) -> Result<Grant, QueueError>;

    /// Ends the lease. Attempts that are still open come into doubt.
    async fn leave(&self, instance: Uuid) -> Result<(), QueueError>;

    /// What everybody has committed by now; cheap, since an instance asks beside each look for new alerts.
    ///
    /// # Errors
    /// [`QueueError::FromThePast`] if the queue has forgotten something of `known`. A standby that only reads has not.
    async fn witness(&self, _known: &Known) -> Result<Witness, QueueError> {
        Ok(Witness::default())
    }

    /// How many instances have a good lease, and which of them this one is. A queue that has no others need not say.
    async fn peers(&self, _instance: Uuid) -> Result<Peers, QueueError> {
        Ok(Peers::default())
    }

    // -- the way of an alert -----------------------------------------------------------------

    /// The highest key in the queue now, 0 if there is none: what is above it later is new.
    async fn newest(&self) -> Result<AlertId, QueueError>;

    /// Alerts that wait and stand in no unresolved attempt, at most `limit`, in the order of [`Place`]. With `age`, what
    /// [`Queue::expire`] would take is left out, so that nobody waits until the queue is rid of it. Of a text at most
    /// [`TEXT_CLAIMED`] characters are returned, and a page may end when it has [`CLAIMED_BYTES`] of them: see
    /// [`is_full_page`].
    async fn claim(&self, look: Look, limit: usize, age: Option<&Age>) -> Result<Vec<Alert>, QueueError>;

    /// Writes attempts before they are made; returns the ids of those that we own. What is not returned
    /// left no trace. See the contract, 1. A resend closes the attempt that it repeats as `resent`, in the
    /// same transaction, and is not owned if that attempt is no longer in doubt or held.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] if `owner` has no good lease, [`QueueError::FromThePast`] if the queue has forgotten
    /// something of `known`; nothing was written.
    async fn begin(
        &self,
        owner: Uuid,
        attempts: &[NewAttempt],
        known: &Known,
    ) -> Result<Vec<Uuid>, QueueError>;

    /// Closes attempts and sets their alerts; see the contract, 2 and 3.
    async fn settle(&self, owner: Uuid, settlements: &[Settlement]) -> Result<Settled, QueueError>;

    /// Brings open attempts of dead instances into doubt, then returns every attempt in doubt that `owner` is to
    /// resolve: its own, and those of instances that are gone.
    async fn doubts(&self, owner: Uuid) -> Result<Vec<Doubt>, QueueError>;

    /// After the queue came back from the past: a page of what is suspect is held until a person decides, on record,
    /// with the class [`FROM_THE_PAST`] and `why`. Alerts that wait since then or longer, stand in no unresolved
    /// attempt and could be sent come into attempts by [`STORM_GUARD`] of their own; and on the first page every attempt
    /// in doubt that was begun by then, and whose instance is gone, is held as it is. What a person has released or
    /// requeued since is not suspect.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] if `owner` has no good lease; nothing was written.
    async fn hold(&self, owner: Uuid, suspects: &Suspects, why: &str) -> Result<Caught, QueueError>;

    /// Ignores, with reason `expired`, what waits longer than `age` (a PostgreSQL interval) and stands in no
    /// unresolved attempt: a page of it, at most [`EXPIRED_AT_ONCE`], the lowest keys first. Returns the ids; as long as the
    /// page is full, there may be more.
    async fn expire(&self, age: &Age) -> Result<Vec<AlertId>, QueueError>;

    /// Returns when there may be something to do, sooner than the next look: a notification, or alerts that were
    /// submitted or made to wait again through this object. May return for nothing. Never returns an error: a queue that can not
    /// notify waits for ever, and the engine polls.
    async fn wait(&self) -> News;

    // -- what people and intakes ask ---------------------------------------------------------

    /// Queues submissions, durably, each whole or not at all, and says for each what became of it. What one of them lacks
    /// is no other's trouble. Two with one key are as if one came after the other.
    async fn enqueue(&self, submissions: &[Submission]) -> Result<Vec<Submitted>, QueueError>;

    /// [`Queue::enqueue`] by `until`, or never: what waits longer than that for the queue's lock is not written afterwards
    /// either, so that who is told no by then is told the truth. What is being committed at that moment is answered for.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] also if the time is over.
    async fn enqueue_by(
        &self,
        submissions: &[Submission],
        until: Instant,
    ) -> Result<Vec<Submitted>, QueueError> {
        if Instant::now() >= until {
            return Err(submission::too_late());
        }
        self.enqueue(submissions).await
    }

    /// Queues alerts together, durably, and returns their ids in order: [`Queue::enqueue`] under a key of their own.
    ///
    /// # Errors
    /// [`QueueError::Refused`] also if there is no such account, or the queue can not hold them.
    async fn submit(&self, alerts: &[NewAlert]) -> Result<Vec<AlertId>, QueueError> {
        if alerts.is_empty() {
            return Ok(Vec::new());
        }
        let submission = Submission { key: Key::own(), alerts: alerts.to_vec() };
        let submitted = self.enqueue(std::slice::from_ref(&submission)).await?;
        match submitted.into_iter().next() {
            Some(submitted) => submitted.into_ids(),
            None => {
                Err(QueueError::Unavailable("the queue does not say what became of the alerts".to_owned()))
            }
        }
    }

    /// Ignores, with reason `cancelled`, what waits. Attempts in doubt or held are cancelled with it, also if the alert
    /// itself is gone or no longer waits; alerts in an open attempt are being sent right now and are left. All that
    /// waits may be cancelled in several transactions.
    async fn cancel(&self, which: &Which, by: &str) -> Result<Cancelled, QueueError>;

    /// Closes the attempts in doubt or held that these alerts stand in, as a person decides, on record: whoever
    /// decides for one alert decides for all that the SMS was about. See [`Decision`]. Any other alert is left,
    /// so that the first to decide wins: a resend that the engine begins, a late answer, or another person.
    async fn resolve(&self, ids: &[AlertId], decision: Decision, by: &str) -> Result<Resolved, QueueError>;

    /// Alerts that stand in what [`Queue::hold`] held: all of some such attempts, at most `limit` of them.
    async fn suspected(&self, limit: usize) -> Result<Vec<AlertId>, QueueError>;

    /// Makes sent or ignored alerts wait again, on record; what may have been sent stays so. Returns those that it changed.
    async fn requeue(&self, ids: &[AlertId], by: &str) -> Result<Vec<AlertId>, QueueError>;

    /// Alerts, newest first.
    async fn list(&self, filter: &Filter) -> Result<Vec<AlertRow>, QueueError>;

    /// All that is known of one alert; `None` if there is none with that id.
    async fn show(&self, id: AlertId) -> Result<Option<Story>, QueueError>;

    /// What these alerts say and whose they are; one that is gone is left out.
    async fn mention(&self, ids: &[AlertId]) -> Result<Vec<Mention>, QueueError> {
        let mut mentions = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(Story { alert, .. }) = self.show(*id).await? {
                mentions.push(Mention { id: *id, to: alert.to, text: alert.text, account: None });
            }
        }
        Ok(mentions)
    }

    /// What waits, in a few milliseconds, whatever has ended before.
    async fn depth(&self) -> Result<Depth, QueueError>;

    /// Attempts, the last begun first, at most `limit`; those begun before `before` was, if it is given.
    async fn recent(&self, before: Option<Uuid>, limit: usize) -> Result<Vec<AttemptRow>, QueueError>;

    /// Attempts in doubt or held, oldest first, at most `limit`.
    async fn undecided(&self, limit: usize) -> Result<Vec<AttemptRow>, QueueError>;

    /// How the attempts that ended since then did, by dispatcher and `step`; oldest first. Periods begin at multiples of
    /// `step` (at least a second) since 1970. At most the last 100,000 attempts are looked at, and none of the guard's.
    async fn history(&self, since: jiff::Timestamp, step: Duration) -> Result<Vec<Period>, QueueError>;

    /// Depth, age and totals.
    async fn stats(&self) -> Result<Stats, QueueError>;

    /// Proves that every alert is accounted for, or names the offenders.
    async fn audit(&self) -> Result<Audit, QueueError>;
}

/// The schema beside the alerts. Apart from [`Queue`], since a queue in memory has none.
#[async_trait]
pub trait Schema: Send + Sync {
    /// Creates what is missing; existing data is kept. With `notify`, also what makes new alerts known at once.
    async fn init(&self, notify: bool) -> Result<(), QueueError>;
    /// What is there.
    async fn status(&self) -> Result<SchemaStatus, QueueError>;
    /// The SQL that [`Schema::init`] would run, for a DBA.
    fn sql(&self, notify: bool) -> String;
    /// Removes all that `init` created, the ledger included. The alerts of another program's table stay.
    async fn remove(&self) -> Result<(), QueueError>;
}

/// What [`Schema::status`] found.
#[derive(Clone, Debug, Serialize)]
pub struct SchemaStatus {
    /// Where the queue is, without secrets: a path, or `host:port/database`.
    pub location: String,
    /// The version of the ledger's schema; `None` if there is none.
    pub version: Option<i32>,
    /// The version that this program wants.
    pub wanted: i32,
    /// True if new alerts make themselves known.
    pub notify: bool,
    /// Where alerts bear local times: in which zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zones: Option<Zones>,
}

/// The time zone of local times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Zones {
    /// NAV's; `None`: the server's counts.
    pub of_nav: Option<String>,
    /// What the server would take without it.
    pub of_server: String,
}

/// Why the queue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The database can not be reached, is starting, is full, or dropped us. The caller tries again later.
    #[error("{0}")]
    Unavailable(String),
    /// The database answered, and will answer the same until someone acts: rights, login, schema. The message
    /// says what to do. A running daemon tries again all the same; a command gives up.
    #[error("{0}")]
    Refused(String),
    /// The lease of the instance that asks is not good. It joins anew; nothing was written.
    #[error("this instance's lease has run out")]
    LeaseLost,
    /// The queue has forgotten what was committed in it: a restored backup, a standby that lagged, another database.
    /// Nothing was written. Nothing that waits in it is to be sent before [`Queue::hold`] has seen to what is suspect.
    #[error("the queue has come back from the past: {0}")]
    FromThePast(#[from] Forgot),
    /// A row that this call is about is locked by another session, or the database will not have it: nothing is wrong
    /// with the rest of the call. Nothing was written. The caller asks again by halves, until what can not be
    /// written stands alone.
    #[error("{0}")]
    Poisoned(String),
}

/// Of a text, a claim returns at most so many characters: one more than the longest SMS carries, 255 parts of 153
/// septets (3GPP TS 23.040 §9.2.3.24.1), so that a longer text is still seen to be cut. The queue has the rest.
pub const TEXT_CLAIMED: usize = 255 * 153 + 1;

/// A page of a claim whose texts have so many bytes is full, and may have fewer alerts than its limit.
pub const CLAIMED_BYTES: usize = 16 << 20;

/// True if there may be more after this page of a claim.
pub fn is_full_page(alerts: &[Alert], limit: usize) -> bool {
    alerts.len() >= limit || alerts.iter().map(|alert| alert.text.len()).sum::<usize>() >= CLAIMED_BYTES
}

/// How many alerts one [`Queue::expire`] ends at most: a transaction that others do not notice.
pub const EXPIRED_AT_ONCE: usize = 2_000;

/// Who we are, as the ledger records it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Made anew at each join.
    pub id: Uuid,
    /// For people: `host pid`.
    pub name: String,
    /// Names a lock that at most one living process can hold: boot id, device and inode of the locked pid file.
    /// Who holds it knows that all earlier instances with the same value are dead.
    pub lock: String,
}

/// Who works on a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Which one we are, from 0.
    pub rank: u32,
    /// How many there are, with us.
    pub of: u32,
}

impl Default for Peers {
    fn default() -> Self {
        Peers { rank: 0, of: 1 }
    }
}

/// An alert's place in the order in which alerts are worked off across recipients: most severe, then oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// First by severity, none last.
    pub severity: Severity,
    /// Then by key.
    pub id: AlertId,
}

/// Which alerts a claim looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Alerts whose key is above this one, and, since keys may become visible late, some below (the queue's
    /// own overlap). Costs what it returns, whatever else waits and however long the table is.
    New {
        /// The highest key seen.
        after: AlertId,
    },
    /// All that waits, from this place in the order on.
    Full {
        /// The last place of the page before.
        after: Option<Place>,
    },
}

/// An attempt that is about to be made.
#[derive(Clone, Debug)]
pub struct NewAttempt {
    /// Ours, made before `begin` (UUIDv7).
    pub id: Uuid,
    /// Whom the SMS is for.
    pub recipient: Phone,
    /// The composed text.
    pub text: Arc<str>,
    /// The dispatcher's name.
    pub dispatcher: Arc<str>,
    /// Which attempt this is at getting the SMS out, counting from 1 across failovers and retries.
    pub number: u32,
    /// When the submit is over at the latest, from now.
    pub deadline: Duration,
    /// The alerts whose text it carries.
    pub carried: Vec<AlertId>,
    /// The alerts that it only counts (`+N see web.`).
    pub counted: Vec<AlertId>,
    /// An earlier attempt may have been taken.
    pub possible_duplicate: bool,
    /// The attempt in doubt that this one repeats.
    pub resend_of: Option<Uuid>,
}

/// What is to be written when an attempt is over, or when alerts end without one.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The attempt to close; `None` for alerts that never had one (no valid number).
    pub closing: Option<Closing>,
    /// What becomes of each alert. Alerts that wait on need no mention.
    pub verdicts: Vec<(AlertId, Verdict)>,
    /// For people: why, in the ledger beside an ignored alert. No secrets.
    pub detail: String,
}

/// How an attempt closes.
#[derive(Clone, Debug)]
pub struct Closing {
    /// The attempt.
    pub id: Uuid,
    /// Its new state: any but `Open`, `Resent`.
    pub state: AttemptState,
    /// The class of the answer ([`crate::dispatch::Class::as_str`]), or `accepted`.
    pub class: &'static str,
    /// The remote's own code.
    pub code: Option<String>,
    /// What happened, for people; redacted.
    pub detail: String,
    /// The gateway's references.
    pub references: Vec<String>,
    /// With it the SMS has failed by its recipient's own fault: `retrylimit` counts that ([`crate::alert::Tried::failures`]).
    pub own: bool,
}

/// Where an attempt stands. The words stand in the ledger and in `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// Written, and being made (unresolved).
    Open,
    /// Nobody knows whether it was taken; resolved by policy (unresolved).
    InDoubt,
    /// In doubt until a person decides (unresolved).
    Held,
    /// The gateway took it.
    Accepted,
    /// Not taken (or, with class `failed`, perhaps taken); its alerts wait again.
    Failed,
    /// Refused for good by this dispatcher.
    Rejected,
    /// Was in doubt and has been repeated.
    Resent,
    /// Was in doubt or held, and a person cancelled it.
    Cancelled,
}

impl AttemptState {
    /// All states.
    pub const ALL: [AttemptState; 8] = [
        AttemptState::Open,
        AttemptState::InDoubt,
        AttemptState::Held,
        AttemptState::Accepted,
        AttemptState::Failed,
        AttemptState::Rejected,
        AttemptState::Resent,
        AttemptState::Cancelled,
    ];

    /// The word that stands in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptState::Open => "open",
            AttemptState::InDoubt => "in_doubt",
            AttemptState::Held => "held",
            AttemptState::Accepted => "accepted",
            AttemptState::Failed => "failed",
            AttemptState::Rejected => "rejected",
            AttemptState::Resent => "resent",
            AttemptState::Cancelled => "cancelled",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<AttemptState> {
        AttemptState::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// True while the attempt holds its alerts: no other attempt may carry them.
    pub fn is_unresolved(self) -> bool {
        matches!(self, AttemptState::Open | AttemptState::InDoubt | AttemptState::Held)
    }
}

/// What a settle found that it could not set. Events, not errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Alerts that were gone, or no longer waiting.
    pub vanished: Vec<AlertId>,
    /// Attempts that were no longer ours to close (another instance has taken them over).
    pub superseded: Vec<Uuid>,
}

/// An attempt in doubt.
#[derive(Clone, Debug)]
pub struct Doubt {
    /// The attempt.
    pub id: Uuid,
    /// Whom it was for.
    pub recipient: Phone,
    /// What it said; frozen.
    pub text: Arc<str>,
    /// The dispatcher that it was handed to.
    pub dispatcher: Arc<str>,
    /// Its number.
    pub number: u32,
    /// How long it has been in doubt, by the queue's clock.
    pub age: Duration,
    /// It was itself marked a possible duplicate: it is not resent again without a person.
    pub possible_duplicate: bool,
    /// The most severe of its alerts.
    pub severity: Severity,
    /// The alerts whose text it carries.
    pub carried: Vec<AlertId>,
    /// The alerts that it only counts.
    pub counted: Vec<AlertId>,
}

/// An age as PostgreSQL writes an interval (`1 day 12 hours`), with what it is in other queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    /// As configured; PostgreSQL judges it with its own calendar.
    pub text: String,
    /// The same for queues that do not speak PostgreSQL: a month counts 30 days, as `extract(epoch …)` has it.
    pub duration: Duration,
}

/// Which alerts a person means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that wait.
    All,
    /// These.
    Ids(Vec<AlertId>),
}

/// What a person says of an SMS of which nobody knows whether it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It came: the attempt becomes accepted, what it carries sent, what it counts squeezed out.
    Accept,
    /// It did not, or may come twice: the attempt has failed and may have been taken, its alerts wait again, and
    /// what carries them next is a possible duplicate.
    Resend,
}

/// What a resolve did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Resolved {
    /// Decided, by key; those that were in the same SMS included.
    pub decided: Vec<AlertId>,
    /// Asked for, but in no attempt in doubt or held, or no longer waiting.
    pub untouched: Vec<AlertId>,
}

/// What a cancel did. Of [`Which::All`] a queue may name the first and count the rest, so that an answer about millions
/// is bounded; what was asked for by its id is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cancelled {
    /// Now ignored.
    pub cancelled: Vec<AlertId>,
    /// Left, since they are being sent right now.
    pub in_flight: Vec<AlertId>,
    /// Now ignored, beside those that are named.
    #[serde(skip)]
    pub more_cancelled: u64,
    /// Left, beside those that are named.
    #[serde(skip)]
    pub more_in_flight: u64,
}
