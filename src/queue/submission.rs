//! What an intake hands in: alerts under a key, so that handing them in twice queues them once.

use std::time::Duration;

use crate::alert::{AlertId, Phone, Severity};

/// An alert from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAlert {
    /// Whom it is for.
    pub to: Phone,
    /// The text.
    pub text: String,
    /// How severe.
    pub severity: Severity,
    /// NAV: the account that it belongs to.
    pub account: Option<i32>,
}

/// Alerts that are queued together, or not at all, and once, however often they are handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What tells it from all others.
    pub key: Key,
    /// What is to be queued; at least one.
    pub alerts: Vec<NewAlert>,
}

/// What tells a submission from all others, for a while: after that, the same key is another submission's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it comes from and what it is there, at most 255 bytes: `http:…`, `alertmanager:…`.
    pub name: String,
    /// How long it is remembered.
    pub kept: Duration,
}

impl Key {
    /// A key for a submission that brings none, so that it can be repeated when the queue's answer was lost.
    pub fn own() -> Key {
        Key { name: format!("own:{}", uuid::Uuid::now_v7()), kept: Duration::from_secs(600) }
    }
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Its alerts are queued, durably; their ids in order.
    Queued(Vec<AlertId>),
    /// They were queued before, under the same key; nothing was written now.
    Before(Vec<AlertId>),
    /// The key was used for other alerts; nothing was written.
    OtherAlerts,
    /// NAV: the queue has no such account, or none was named; nothing was written.
    NoAccount(Option<i32>),
}
