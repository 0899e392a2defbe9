//! How far an SMS on its way has come.

use crate::seeded::{Bug, bug};

/// What the next answer about an attempt can be. Each answer moves it on once: one that comes twice finds it elsewhere.
///
/// ```text
///   Planned ── begin wrote it ──▶ Begun ──▶ Submitted ── answered ──▶ Settling
///                                   └─── not submitted after all ────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The queue is asked to write it.
    Planned,
    /// It is on stable storage.
    Begun,
    /// A dispatcher has it.
    Submitted,
    /// Its outcome is to be written.
    Settling,
}

impl Stage {
    /// Moves on from the one to the other; false, and nothing is changed, if it is not there.
    pub(super) fn advance(&mut self, from: Stage, to: Stage) -> bool {
        let here = *self == from || bug(Bug::PanicDoubles);
        if here {
            *self = to;
        }
        here
    }
}

#[cfg(test)]
mod tests {
    use super::Stage::{Begun, Planned, Settling, Submitted};

    #[test]
    fn an_answer_that_comes_twice_moves_nothing() {
        let mut stage = Planned;
        assert!(stage.advance(Planned, Begun));
        assert!(!stage.advance(Planned, Begun), "a second answer to a begin");
        assert!(stage.advance(Begun, Submitted) && !stage.advance(Begun, Submitted));
        assert!(stage.advance(Submitted, Settling) && !stage.advance(Submitted, Settling));
        assert_eq!(stage, Settling);
    }
}
