//! How long to wait after a failure.

use std::time::Duration;

/// `delay`, times `factor` for each failure before this one, at most `longest`, ± 20 % as `jitter` (0 to 1) says.
///
/// `failures` counts from 1.
pub fn backoff(failures: u32, delay: Duration, factor: f64, longest: Duration, jitter: f64) -> Duration {
    let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = delay.as_secs_f64() * factor.powi(exponent);
    let bounded = grown.min(longest.as_secs_f64());
    Duration::try_from_secs_f64(bounded * (0.8 + 0.4 * jitter)).unwrap_or(longest)
}

/// How long a recipient waits after a failure that is the dispatchers' fault and counts against nobody:
/// 1 s, doubling to at most a minute, and less if one of them comes back.
pub fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_with_a_fifth_of_jitter() {
        let s = Duration::from_secs;
        let at = |n, jitter| backoff(n, s(30), 1.5, s(3600), jitter).as_secs_f64();
        assert_eq!([at(1, 0.5), at(2, 0.5), at(3, 0.5)], [30.0, 45.0, 67.5]);
        assert_eq!((at(1, 0.0), at(1, 1.0)), (24.0, 36.0));
        assert_eq!(at(40, 0.5), 3600.0);
        assert_eq!(at(u32::MAX, 0.5), 3600.0, "an overflow is the bound");
    }

    #[test]
    fn a_pause_is_at_most_a_minute() {
        let secs: Vec<u64> = (1..=8).map(|n| pause(n).as_secs()).collect();
        assert_eq!(secs, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX).as_secs(), 60);
    }
}
