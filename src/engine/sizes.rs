//! How much the engine knows, asks and writes at once.

/// Bounds of the engine's memory and of its calls. Nothing but a test has reason to change them: small ones make a
/// handful of alerts do what would take thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Waiting alerts that the engine knows at most; the rest wait in the queue.
    pub window: usize,
    /// Bytes that the texts of these alerts take at most.
    pub window_bytes: usize,
    /// As many of one recipient's alerts as are worth knowing: more than an SMS tells. What goes beyond it takes no room
    /// from others.
    pub share: usize,
    /// Recipients who back off, and whose alerts were let go, of whom the engine remembers how often they failed.
    pub resting: usize,
    /// Alerts of one page of a look.
    pub page: usize,
    /// Below this room the engine does not walk through what waits. It always looks for new alerts: among them may be the
    /// most urgent.
    pub walk_room: usize,
    /// Alerts of a look at the head of the queue alone.
    pub peek_page: usize,
    /// Attempts of one `begin`, settlements of one `settle`.
    pub batch: usize,
    /// Alerts of one of them, unless a single SMS has more: so that an urgent alert does not wait long for the
    /// transaction before it.
    pub batch_alerts: usize,
    /// SMS whose outcome can not be written and that give back their place at the dispatcher all the same. Each is an
    /// attempt that a crash leaves in doubt beyond `concurrency`, so they are few; but more than one, since one row
    /// that somebody holds locked must not stop a modem that has one place.
    pub stuck: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Sizes {
            window: 10_000,
            window_bytes: 64 << 20,
            share: 16,
            resting: 100_000,
            page: 4_000,
            walk_room: 5_000,
            peek_page: 500,
            batch: 1_000,
            batch_alerts: 4_000,
            stuck: 32,
        }
    }
}

impl Sizes {
    /// Alerts of a page, if a text takes `mean` bytes: what a look brings is held beside the window, and is not to take
    /// more than a quarter of what that may.
    pub(super) fn page_of(&self, mean: usize) -> usize {
        self.page.min((self.window_bytes / 4 / mean.max(1)).max(1))
    }
}
