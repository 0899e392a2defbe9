//! The two clocks of the embedded queue.
//!
//! What people read is by the wall clock. A lease is by `CLOCK_BOOTTIME`, which counts through suspend and which
//! nobody sets: whoever opens the file runs on the same machine, so a clock that jumps ends no lease and keeps
//! none alive. Readings of different boots do not compare, so the boot's id stands beside them. How old an alert or
//! a doubt is, is asked of both ([`Wall`]): a wall clock that jumps must not throw away what waits.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::queue::wall::Wall;

/// One reading of both clocks, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since 1970, UTC.
    pub(super) wall: i64,
    /// Since this machine started.
    pub(super) uptime: i64,
}

impl Now {
    pub(super) fn read() -> Now {
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Now { wall: Timestamp::now().as_microsecond(), uptime: micros(uptime) }
    }
}

/// Reads both clocks, and remembers what the wall clock has shown since we started.
#[derive(Clone, Default)]
pub(super) struct Clocks(Arc<Mutex<Wall>>);

impl Clocks {
    /// Now, and what to tell ages by.
    pub(super) fn read(&self) -> (Now, Wall) {
        let mut wall = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Now::read();
        wall.see(now.wall, now.uptime);
        (now, wall.clone())
    }
}

/// Names this boot of the machine.
pub(super) fn boot_id() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    })
}

pub(super) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// A time from the database, where a foreign program may have written any integer.
pub(super) fn timestamp(micros: i64) -> Timestamp {
    let bound = if micros < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(micros).unwrap_or(bound)
}
