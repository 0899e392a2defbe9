//! What was handed in, counted by intake and by what came of it, and who was turned away at the door before anything was
//! read: that is said in the log, too, once a minute at most, whatever is thrown at us. No number of a phone.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{NotTaken, Taken};
use crate::queue::Key;
use crate::telemetry::Seldom;

/// A form of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// `POST /api/v1/alerts`.
    Http,
    /// Alertmanager's webhook.
    Alertmanager,
    /// Grafana's webhook.
    Grafana,
    /// Any other webhook.
    Webhook,
    /// The spool folder.
    Spool,
    /// Mail.
    Smtp,
    /// A test from the dashboard, and what does not say where it comes from.
    Other,
}

impl Intake {
    /// All of them.
    pub const ALL: [Intake; 7] = [
        Intake::Http,
        Intake::Alertmanager,
        Intake::Grafana,
        Intake::Webhook,
        Intake::Spool,
        Intake::Smtp,
        Intake::Other,
    ];

    /// The word for it, in metrics and before the colon of a [`Key`].
    pub fn as_str(self) -> &'static str {
        match self {
            Intake::Http => "http",
            Intake::Alertmanager => "alertmanager",
            Intake::Grafana => "grafana",
            Intake::Webhook => "webhook",
            Intake::Spool => "spool",
            Intake::Smtp => "smtp",
            Intake::Other => "other",
        }
    }

    /// By what stands before the colon of its keys.
    pub(super) fn of(key: &Key) -> Intake {
        let word = key.name.split_once(':').map_or("", |(word, _)| word);
        Intake::ALL.into_iter().find(|intake| intake.as_str() == word).unwrap_or(Intake::Other)
    }
}

/// What came of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its alerts are queued.
    Queued,
    /// They were queued before, under the same key.
    Before,
    /// The queue will never take it: the key is another's, or NAV has no such account.
    Refused,
    /// Too much was handed in at once.
    Busy,
    /// The queue did not answer in time.
    Unavailable,
}

impl Fate {
    /// All of them.
    pub const ALL: [Fate; 5] = [Fate::Queued, Fate::Before, Fate::Refused, Fate::Busy, Fate::Unavailable];

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Queued => "queued",
            Fate::Before => "before",
            Fate::Refused => "refused",
            Fate::Busy => "busy",
            Fate::Unavailable => "unavailable",
        }
    }

    fn of(result: &Result<Taken, NotTaken>) -> Fate {
        match result {
            Ok(Taken { before: false, .. }) => Fate::Queued,
            Ok(Taken { before: true, .. }) => Fate::Before,
            Err(NotTaken::OtherAlerts | NotTaken::NoAccount(_) | NotTaken::Unfit(_)) => Fate::Refused,
            Err(NotTaken::Busy(_)) => Fate::Busy,
            Err(NotTaken::Queue(_)) => Fate::Unavailable,
        }
    }
}

/// Why somebody was turned away before what was brought had been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Came with a token that is not known here, by a program or at the login.
    Token,
    /// Came from an address that may not ask.
    Address,
    /// Nobody else fits in: no place for a connection, or no room for what it brings.
    Room,
    /// Did not bring in time what was announced.
    Slow,
    /// Hands in more than it may.
    Rate,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 5] =
        [Refusal::Token, Refusal::Address, Refusal::Room, Refusal::Slow, Refusal::Rate];

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::Token => "token",
            Refusal::Address => "address",
            Refusal::Room => "room",
            Refusal::Slow => "slow",
            Refusal::Rate => "rate",
        }
    }

    /// What the log says of it.
    fn told(self) -> &'static str {
        match self {
            Refusal::Token => "asked with a token that is not known here",
            Refusal::Address => "asked from an address that may not",
            Refusal::Room => "turned away: more comes at once than there is room for",
            Refusal::Slow => "turned away: what was announced did not come in time",
            Refusal::Rate => "turned away: more was handed in than this token may",
        }
    }
}

/// How long a door counts as shut after somebody was turned away for lack of room.
const SHUT: Duration = Duration::from_secs(30);

/// Submissions so far. Cheap to clone: all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    since: Instant,
    fates: [[AtomicU64; Fate::ALL.len()]; Intake::ALL.len()],
    refusals: [[Refused; Refusal::ALL.len()]; Intake::ALL.len()],
    stuck: [AtomicBool; Intake::ALL.len()],
}

impl Default for Counts {
    fn default() -> Counts {
        let since = Instant::now();
        Counts { since, fates: Default::default(), refusals: Default::default(), stuck: Default::default() }
    }
}

#[derive(Debug, Default)]
struct Refused {
    count: AtomicU64,
    said: Seldom,
    /// When it was the last time, in milliseconds since the start, and 1.
    last: AtomicU64,
}

impl Tally {
    /// Somebody was turned away, from this address if it has one.
    pub fn refuse(&self, intake: Intake, why: Refusal, from: Option<IpAddr>) {
        let Some(refused) = self.refused(intake, why) else { return };
        let now = Instant::now();
        refused.count.fetch_add(1, Ordering::Relaxed);
        let passed = u64::try_from(now.duration_since(self.0.since).as_millis()).unwrap_or(u64::MAX - 1);
        refused.last.store(passed + 1, Ordering::Relaxed);
        if let Some(count) = refused.said.due(now) {
            tracing::warn!(
                intake = intake.as_str(),
                reason = why.as_str(),
                from = from.map(tracing::field::display),
                count,
                "{}; said at most once a minute",
                why.told()
            );
        }
    }

    /// An intake that is stuck, or has turned somebody away for lack of room just now.
    pub fn troubled(&self) -> Option<Intake> {
        let passed = self.0.since.elapsed();
        Intake::ALL.into_iter().find(|intake| {
            let last = self.refused(*intake, Refusal::Room).map_or(0, |r| r.last.load(Ordering::Relaxed));
            let shut = last > 0 && passed.saturating_sub(Duration::from_millis(last - 1)) < SHUT;
            shut || self.0.stuck.get(*intake as usize).is_some_and(|stuck| stuck.load(Ordering::Relaxed))
        })
    }

    /// Whether an intake takes nothing until somebody mends what it is stuck at.
    pub fn stuck(&self, intake: Intake, is: bool) {
        if let Some(stuck) = self.0.stuck.get(intake as usize) {
            stuck.store(is, Ordering::Relaxed);
        }
    }

    /// Every pair of an intake and a reason to turn somebody away.
    pub fn refusals(&self) -> impl Iterator<Item = (Intake, Refusal, u64)> + '_ {
        Intake::ALL.into_iter().flat_map(move |intake| {
            Refusal::ALL.into_iter().map(move |why| {
                let count = self.refused(intake, why).map_or(0, |r| r.count.load(Ordering::Relaxed));
                (intake, why, count)
            })
        })
    }

    fn refused(&self, intake: Intake, why: Refusal) -> Option<&Refused> {
        self.0.refusals.get(intake as usize)?.get(why as usize)
    }

    pub(super) fn add(&self, intake: Intake, result: &Result<Taken, NotTaken>) {
        if let Some(count) = self.count(intake, Fate::of(result)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every pair, those of which there was none included.
    pub fn rows(&self) -> impl Iterator<Item = (Intake, Fate, u64)> + '_ {
        Intake::ALL.into_iter().flat_map(move |intake| {
            Fate::ALL.into_iter().map(move |fate| {
                let count = self.count(intake, fate).map_or(0, |count| count.load(Ordering::Relaxed));
                (intake, fate, count)
            })
        })
    }

    fn count(&self, intake: Intake, fate: Fate) -> Option<&AtomicU64> {
        self.0.fates.get(intake as usize)?.get(fate as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_submission_counts_once_under_its_intake() {
        let tally = Tally::default();
        let taken = |before| Ok(Taken { ids: vec![], before });
        tally.add(Intake::Smtp, &taken(false));
        tally.add(Intake::Smtp, &taken(false));
        tally.add(Intake::Smtp, &taken(true));
        tally.add(Intake::Http, &Err(NotTaken::NoAccount(None)));
        tally.add(Intake::Http, &Err(NotTaken::OtherAlerts));
        tally.add(Intake::Other, &Err(NotTaken::Busy(Duration::ZERO)));
        tally.add(Intake::Other, &Err(NotTaken::Queue(String::new())));
        let some: Vec<_> =
            tally.rows().filter(|row| row.2 > 0).map(|(i, f, n)| (i.as_str(), f.as_str(), n)).collect();
        assert_eq!(
            some,
            [
                ("http", "refused", 2),
                ("smtp", "queued", 2),
                ("smtp", "before", 1),
                ("other", "busy", 1),
                ("other", "unavailable", 1)
            ]
        );
        assert_eq!(tally.rows().count(), 35);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_turned_away_is_counted_and_a_door_is_shut_for_a_while() {
        let tally = Tally::default();
        tally.refuse(Intake::Http, Refusal::Token, None);
        assert_eq!(tally.troubled(), None);
        tally.refuse(Intake::Smtp, Refusal::Room, None);
        tally.refuse(Intake::Smtp, Refusal::Room, None);
        assert_eq!(tally.troubled(), Some(Intake::Smtp));
        tokio::time::advance(SHUT).await;
        assert_eq!(tally.troubled(), None);
        tally.stuck(Intake::Spool, true);
        assert_eq!(tally.troubled(), Some(Intake::Spool));
        tally.stuck(Intake::Spool, false);
        assert_eq!(tally.troubled(), None);
        let some: Vec<_> = tally.refusals().filter(|(.., n)| *n > 0).collect();
        assert_eq!(some, [(Intake::Http, Refusal::Token, 1), (Intake::Smtp, Refusal::Room, 2)]);
    }

    #[test]
    fn a_key_says_where_it_comes_from() {
        let of = |name: &str| Intake::of(&Key { name: name.to_owned(), kept: Duration::ZERO });
        assert_eq!(of("alertmanager:4f"), Intake::Alertmanager);
        assert_eq!(of("spool:a:b"), Intake::Spool);
        assert_eq!((of("http"), of("own:1"), of("")), (Intake::Other, Intake::Other, Intake::Other));
    }
}
