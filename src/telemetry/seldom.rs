//! What happens often is said seldom: at most once a minute, with how often it happened since.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    unsaid: u64,
    said_at: Option<Instant>,
}

impl Seldom {
    /// It happened once more: how often since it was last said, if it is time to say so again.
    pub(crate) fn due(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.unsaid += 1;
        if count.said_at.is_some_and(|then| now.duration_since(then) < MINUTE) {
            return None;
        }
        count.said_at = Some(now);
        Some(std::mem::take(&mut count.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_said_once_a_minute_with_its_number() {
        let (seldom, start) = (Seldom::default(), Instant::now());
        let said: Vec<u64> =
            (0..10_000).filter_map(|n| seldom.due(start + Duration::from_millis(n * 10))).collect();
        assert_eq!(said, [1, 6_000]);
    }
}
