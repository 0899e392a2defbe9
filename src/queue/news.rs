//! What wakes who waits for something to do.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// How the payload of a notification begins that is nobody's news: somebody listens for an echo.
pub(super) const ECHO: &str = "echo ";

/// What a wait ended with, as far as the queue can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// New alerts, with keys above all others: a look for new ones finds them.
    Submitted,
    /// Older alerts wait again, wherever their keys are: only a full look finds them.
    Freed,
}

impl News {
    /// Any payload but our own word is a trigger's: new alerts.
    pub(super) fn of_notification(payload: &str) -> News {
        if payload == "freed" { News::Freed } else { News::Submitted }
    }
}

/// Rings for who waits. What rings meanwhile is kept, as one ring.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Notify,
    freed: AtomicBool,
}

impl Bell {
    pub(super) fn ring(&self, news: News) {
        if news == News::Freed {
            self.freed.store(true, Ordering::Release);
        }
        self.rung.notify_one();
    }

    pub(super) async fn wait(&self) -> News {
        self.rung.notified().await;
        match self.freed.swap(false, Ordering::AcqRel) {
            true => News::Freed,
            false => News::Submitted,
        }
    }
}
