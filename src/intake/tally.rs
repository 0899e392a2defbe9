//! What was handed in, counted by intake and by what came of it. No clock, no lock, no number of a phone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Key, NotTaken, Taken};

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

/// Submissions so far. Cheap to clone: all clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<[[AtomicU64; Fate::ALL.len()]; Intake::ALL.len()]>);

impl Tally {
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
        self.0.get(intake as usize)?.get(fate as usize)
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

    #[test]
    fn a_key_says_where_it_comes_from() {
        let of = |name: &str| Intake::of(&Key { name: name.to_owned(), kept: Duration::ZERO });
        assert_eq!(of("alertmanager:4f"), Intake::Alertmanager);
        assert_eq!(of("spool:a:b"), Intake::Spool);
        assert_eq!((of("http"), of("own:1"), of("")), (Intake::Other, Intake::Other, Intake::Other));
    }
}
