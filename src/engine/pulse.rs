//! Whether the engine goes on: what a watchdog looks at.
//!
//! It beats each time the engine has done all that there was to do, and rests. So it stands still when the engine hangs in
//! a step, and when it spins, which looks busy from outside. Waiting is no standing still: for a queue that is down, for a
//! gateway, in a long stop, the engine rests and looks around again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// So long the engine rests at most.
pub(super) const AT_REST: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Heart>);

#[derive(Debug, Default)]
struct Heart {
    beats: AtomicU64,
    ready: AtomicBool,
}

impl Pulse {
    /// How often it has beaten. One that is alive beats once a second at least.
    pub fn beats(&self) -> u64 {
        self.0.beats.load(Ordering::Relaxed)
    }

    /// Has the queue answered, and is it known what waits?
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Relaxed)
    }

    pub(super) fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// True the first time.
    pub(super) fn set_ready(&self) -> bool {
        !self.0.ready.swap(true, Ordering::Relaxed)
    }
}
