//! What an intake hands in: alerts under a key, so that handing them in twice queues them once.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::QueueError;
use crate::alert::{AlertId, Phone, Severity};

/// An alert from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAlert {
    /// Whom it is for.
    pub to: Phone,
    /// The text, which all have in common who are told the same.
    pub text: Arc<str>,
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

/// What tells a submission from all others, for a while: after that, the same key is another submission's. So it is at once
/// if it was used while the queue's clock was more than an hour ahead of what it shows now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it comes from and what it is there, at most 255 bytes: `http:…`, `alertmanager:…`.
    pub name: String,
    /// How long it is remembered.
    pub kept: Duration,
}

impl Key {
    /// What the name of a key begins with that no caller has brought.
    pub const OWN: &str = "own";

    /// A key for a submission that brings none, so that it can be repeated when the queue's answer was lost.
    pub fn own() -> Key {
        Key { name: format!("{}:{}", Key::OWN, uuid::Uuid::now_v7()), kept: Duration::from_secs(600) }
    }
}

/// A key that is remembered this much longer than from now on was used by a clock that was wrong. That it is taken for another
/// submission's may double an alert; that it is remembered for years would lose one.
pub(super) const AHEAD: Duration = Duration::from_secs(3600);

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
    /// The queue can not hold such an alert, for the reason given; nothing was written. Asking again does not help.
    Unfit(String),
    /// A row that it needs is locked by another session; nothing was written. The caller asks again later.
    NotNow(String),
}

impl Submitted {
    /// The ids of what is queued.
    pub(super) fn into_ids(self) -> Result<Vec<AlertId>, QueueError> {
        Err(QueueError::Refused(match self {
            Submitted::Queued(ids) | Submitted::Before(ids) => return Ok(ids),
            Submitted::OtherAlerts => "other alerts were queued under this key".to_owned(),
            Submitted::NoAccount(Some(account)) => format!("there is no such account: {account}"),
            Submitted::NoAccount(None) => "NAV's queue wants an account".to_owned(),
            Submitted::Unfit(why) => why,
            Submitted::NotNow(why) => return Err(QueueError::Unavailable(why)),
        }))
    }
}

/// What a queue says that could not begin to write in time.
pub(super) fn too_late() -> QueueError {
    QueueError::Unavailable("the queue's turn came too late; nothing was written".to_owned())
}

/// So many keys that are remembered no longer are removed when so many submissions come: more than come, so that they go,
/// and not so many that anybody would notice.
pub(super) fn forgotten_with(submissions: usize) -> usize {
    submissions.saturating_mul(2).saturating_add(16)
}

/// What a queue remembers of a submission's alerts, to tell the same from others.
pub(super) type Digest = [u8; 32];

impl Submission {
    /// SHA-256 over all that the alerts say; each field with its length, so that none runs into the next.
    pub(super) fn digest(&self) -> Digest {
        fn number(hash: &mut Sha256, number: Option<i32>) {
            hash.update([u8::from(number.is_some())]);
            hash.update(number.unwrap_or_default().to_be_bytes());
        }
        let mut hash = Sha256::new();
        for alert in &self.alerts {
            for text in [alert.to.as_str(), &alert.text] {
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text);
            }
            number(&mut hash, alert.severity.0);
            number(&mut hash, alert.account);
        }
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alerts that differ in anything have another digest, also where the same bytes stand in a row.
    #[test]
    fn a_digest_tells_alerts_apart() {
        let new = |to: &str, text: &str, severity, account| NewAlert {
            to: Phone::parse(to).unwrap(),
            text: text.into(),
            severity: Severity(severity),
            account,
        };
        let one = || new("4790", "1 up", Some(3), Some(1));
        let different = [
            vec![one()],
            vec![one(), one()],
            vec![new("47901", " up", Some(3), Some(1))],
            vec![new("4790", "1 up", None, Some(1))],
            vec![new("4790", "1 up", Some(0), Some(1))],
            vec![new("4790", "1 up", Some(3), None)],
            vec![new("4790", "1 up", Some(1), Some(3))],
            vec![],
        ];
        let digest = |alerts: &Vec<NewAlert>| Submission { key: Key::own(), alerts: alerts.clone() }.digest();
        let digests: std::collections::HashSet<Digest> = different.iter().map(digest).collect();
        assert_eq!(digests.len(), different.len());
        assert_eq!(digest(&vec![one()]), digest(&vec![one()]), "the key is no part of it");
    }
}
