//! A token bucket: `rate` submits a second, at most one second's worth at once.

use std::time::Duration;

use tokio::time::Instant;

/// The bucket. Without a rate it is never empty.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Option<f64>,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(rate: Option<f64>, now: Instant) -> Bucket {
        Bucket { rate, tokens: rate.map_or(0.0, burst), filled: now }
    }

    /// When the next token is there: `None` if there is one now.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let missing = 1.0 - self.level(rate, now);
        // A token counts as there from a microsecond before on, so that a timer that fires a hair early finds it.
        (missing > rate * 1e-6).then(|| now + Duration::from_secs_f64((missing / rate).min(86_400.0)))
    }

    pub(super) fn take(&mut self, now: Instant) {
        if let Some(rate) = self.rate {
            self.tokens = self.level(rate, now) - 1.0;
            self.filled = now;
        }
    }

    fn level(&self, rate: f64, now: Instant) -> f64 {
        (self.tokens + now.duration_since(self.filled).as_secs_f64() * rate).min(burst(rate))
    }
}

fn burst(rate: f64) -> f64 {
    rate.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_a_second_is_five_at_once_then_one_each_fifth() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(5.0), start);
        for _ in 0..5 {
            assert_eq!(bucket.wait(start), None);
            bucket.take(start);
        }
        let next = bucket.wait(start).unwrap();
        assert!((next - start).abs_diff(Duration::from_millis(200)) < Duration::from_millis(1));
        assert_eq!(bucket.wait(next), None);
        bucket.take(next);
        assert!(bucket.wait(next).is_some());
    }

    #[test]
    fn thirty_a_minute_is_one_each_two_seconds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(0.5), start);
        bucket.take(start);
        let next = bucket.wait(start).unwrap();
        assert!((next - start).abs_diff(Duration::from_secs(2)) < Duration::from_millis(1));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let now = Instant::now();
        let mut bucket = Bucket::new(None, now);
        for _ in 0..1000 {
            bucket.take(now);
        }
        assert_eq!(bucket.wait(now), None);
    }
}
