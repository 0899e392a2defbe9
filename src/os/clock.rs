//! The clock that leases are measured by.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot, suspend included (`CLOCK_BOOTTIME`; Rust's `Instant` stands still in suspend, and a lease
/// does not).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootTime;

impl BootTime {
    /// Time since boot. Never goes back.
    pub fn now() -> Duration {
        // The kernel has had this clock since 2.6.39; an error would mean no clock at all, and a lease measured
        // from zero has run out, which is the safe side.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_forward_and_agrees_with_the_kernel() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap()
        };
        let (before, now, after) = (uptime(), BootTime::now(), uptime());
        // /proc/uptime has two decimals.
        assert!(now.as_secs_f64() >= before - 0.01 && now.as_secs_f64() <= after + 0.02, "{now:?}");
        assert!(BootTime::now() >= now);
    }
}
