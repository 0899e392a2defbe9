//! When the next mail may go: the first at once, then one a minute at most, and after a failure with growing pauses.

use std::time::Duration;

use tokio::time::Instant;

/// What comes together within so long goes into one mail: a dispatcher that fails and the outage that this is.
pub const GATHER: Duration = Duration::from_secs(1);
/// Between two mails.
pub const MINUTE: Duration = Duration::from_secs(60);
/// After the first failure, doubled with each further one, up to the longest.
const PAUSE: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    sent: Option<Instant>,
    tried: Option<(Instant, u32)>,
}

impl Pace {
    /// When what has been waiting since then may go.
    pub fn due(&self, waits_since: Instant) -> Instant {
        if let Some((at, failures)) = self.tried {
            if failures == 0 {
                return waits_since;
            }
            return at + (PAUSE * 2u32.saturating_pow(failures.saturating_sub(1).min(8))).min(LONGEST);
        }
        let gathered = waits_since + GATHER;
        self.sent.map_or(gathered, |sent| gathered.max(sent + MINUTE))
    }

    /// Something has changed: what is to be mailed is tried again at once. A failure is still one.
    pub fn hope(&mut self) {
        if let Some((_, failures)) = &mut self.tried {
            *failures = 0;
        }
    }

    /// A mail was taken. True if the one before was not.
    pub fn sent(&mut self, now: Instant) -> bool {
        self.sent = Some(now);
        self.tried.take().is_some()
    }

    /// A mail was not taken. True if the one before was.
    pub fn failed(&mut self, now: Instant) -> bool {
        let before =
            self.tried.replace((now, self.tried.map_or(1, |(_, failures)| failures.saturating_add(1))));
        before.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_goes_at_once_and_then_one_a_minute() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.due(start), start + GATHER);
        assert!(!pace.sent(after(1)));
        assert_eq!(pace.due(after(5)), after(61), "what comes soon waits");
        assert_eq!(pace.due(after(60)), after(61));
        assert_eq!(pace.due(after(100)), after(100) + GATHER, "what comes late does not");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_once_and_tried_again_ever_later() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut waits = Vec::new();
        for n in 0..8 {
            assert_eq!(pace.failed(start), n == 0);
            waits.push((pace.due(start) - start).as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        pace.hope();
        assert_eq!(pace.due(start), start);
        assert!(!pace.failed(start), "it is told once all the same");
        assert_eq!(pace.due(start), start + PAUSE);
        assert!(pace.sent(start), "that it works again is told");
        assert_eq!(pace.due(start), start + MINUTE);
        assert!(pace.failed(start));
    }
}
