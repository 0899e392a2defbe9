//! Where events come together: the log, the board of what holds now, and the feed of what happens.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::broadcast;

use super::Event;
use super::board::Board;

/// Events that a slow listener may lag behind; what is beyond is lost to that listener alone.
const FEED: usize = 1_024;

/// See the module. One per daemon, shared by all that tell and all that ask.
#[derive(Debug)]
pub struct Hub {
    board: Mutex<Board>,
    feed: broadcast::Sender<Arc<Told>>,
}

/// An event and when it was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

impl Hub {
    /// With these dispatchers, in order of priority, all taken to work until something else is told.
    pub fn new(dispatchers: impl IntoIterator<Item = (Arc<str>, &'static str)>) -> Hub {
        let now = Timestamp::now();
        Hub { board: Mutex::new(Board::new(dispatchers, now)), feed: broadcast::channel(FEED).0 }
    }

    /// Tells an event to all who listen.
    pub fn tell(&self, event: Event) {
        event.log();
        let at = Timestamp::now();
        self.with(|board| board.learn(&event, at));
        // Nobody may be listening.
        let _ = self.feed.send(Arc::new(Told { at, event }));
    }

    /// The dispatchers are these from now on.
    pub fn use_dispatchers(&self, dispatchers: impl IntoIterator<Item = (Arc<str>, &'static str)>) {
        self.with(|board| board.use_dispatchers(dispatchers, Timestamp::now()));
    }

    /// What holds now.
    pub fn board(&self) -> Board {
        self.with(|board| board.clone())
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Told>> {
        self.feed.subscribe()
    }

    fn with<T>(&self, f: impl FnOnce(&mut Board) -> T) -> T {
        f(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
