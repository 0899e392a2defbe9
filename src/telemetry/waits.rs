//! Why recipients' alerts wait, and when the next try is due, as the engine last said. Pure, in bounded memory.
//!
//! Only the engine knows it, and it is news of a moment: it stands in no ledger, and another instance knows its own.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Event, Why, clip};
use crate::alert::Phone;

/// So many recipients are remembered.
const MOST: usize = 10_000;

/// Why the alerts of one recipient wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wait {
    /// `refused`: every way out that could be asked refused them; `failing`: they fail while others' SMS are taken;
    /// `may_have_gone`: a gateway failed and may have sent them all the same.
    pub why: Why,
    /// What the last dispatcher said.
    pub detail: String,
    /// When the next try is due, at the latest unless all dispatchers are down.
    pub next_try_at: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waits(HashMap<Phone, Wait>);

impl Waits {
    /// Learns what an event says of who waits.
    pub(super) fn learn(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::Waits { recipient, why, detail, again_in, .. } => {
                if self.0.len() >= MOST && !self.0.contains_key(recipient) {
                    self.0.retain(|_, wait| wait.next_try_at > now);
                }
                let next = SignedDuration::try_from(*again_in).unwrap_or(SignedDuration::MAX);
                let next_try_at = now.checked_add(next).unwrap_or(Timestamp::MAX);
                let mut detail = detail.clone();
                clip(&mut detail, 300);
                if self.0.len() < MOST || self.0.contains_key(recipient) {
                    self.0.insert(recipient.clone(), Wait { why: *why, detail, next_try_at });
                }
            }
            Event::Accepted { recipient, .. } | Event::Ignored { recipient, .. } => {
                self.0.remove(recipient);
            }
            Event::FromThePast { .. } => self.0.clear(),
            _ => {}
        }
    }

    /// Why this recipient's alerts wait, as far as is known.
    pub(super) fn of(&self, phone: &str) -> Option<Wait> {
        self.0.get(&Phone::parse(phone).ok()?).cloned()
    }
}

impl Wait {
    /// In words, for people. The time is for the caller to tell.
    pub fn words(&self) -> String {
        let detail = self.detail.trim_end_matches('.');
        match detail.is_empty() {
            true => self.why.words().to_owned(),
            false => format!("{} ({detail})", self.why.words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn waits(n: usize, seconds: u64) -> Event {
        Event::Waits {
            recipient: Phone::parse(&format!("+47{n:08}")).unwrap(),
            alerts: Vec::new(),
            why: Why::Refused,
            detail: "400 Bad Request: sender blocked".into(),
            again_in: Duration::from_secs(seconds),
            first: true,
        }
    }

    #[test]
    fn the_last_word_holds_until_an_sms_is_taken_and_memory_is_bounded() {
        let (mut board, now) = (Waits::default(), Timestamp::from_second(1_800_000_000).unwrap());
        for seconds in [30, 45] {
            board.learn(&waits(1, seconds), now);
        }
        let wait = board.of("+47 00000001").unwrap();
        assert_eq!(wait.next_try_at, now + SignedDuration::from_secs(45));
        assert_eq!(wait.words(), "refused by every way out (400 Bad Request: sender blocked)");
        let ended = Event::Ignored {
            recipient: Phone::parse("+4700000001").unwrap(),
            alerts: Vec::new(),
            reason: crate::alert::Reason::Rejected,
            detail: String::new(),
        };
        board.learn(&ended, now);
        assert_eq!(board.of("+4700000001"), None);
        (0..MOST + 50).for_each(|n| board.learn(&waits(n, 3600), now));
        assert_eq!(board.0.len(), MOST);
        board.learn(&waits(99_999, u64::MAX), now + SignedDuration::from_secs(7200));
        assert_eq!(board.0.len(), 1, "what is over gives way");
        assert_eq!(board.of("no number"), None);
    }
}
