//! Renewals that wait for the file while another process writes in it.
//!
//! An instance that asks in time to have its lease renewed has done all that it can: if the file is another
//! program's for longer than the lease lasts, nobody could have written anything. So its lease is judged by the time
//! at which it asked, until it is answered. That is safe, since a lease ends for good when another instance takes notice
//! of its end ([`super::verbs::reap`]), which is a write as well.

use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use super::clock::Now;

/// The renewal that waits; an instance has one at a time, and a process one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Renewals(Arc<Mutex<Option<(Uuid, i64)>>>);

impl Renewals {
    /// `instance` asks now. Returns the time by which its lease is judged: that of its first asking since it was answered.
    pub(super) fn ask(&self, instance: Uuid, now: Now) -> Now {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *waiting {
            Some((who, since)) if who == instance => Now { uptime: since.min(now.uptime), ..now },
            _ => {
                *waiting = Some((instance, now.uptime));
                now
            }
        }
    }

    /// The file was written, or will not be.
    pub(super) fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The time by which the lease of `owner` is judged now.
    pub(super) fn judge(&self, owner: Uuid, now: Now) -> Now {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((who, since)) if who == owner => Now { uptime: since.min(now.uptime), ..now },
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_judged_by_the_first_asking_that_was_not_answered() {
        let at = |uptime| Now { wall: 1, uptime };
        let (renewals, me, other) = (Renewals::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(renewals.judge(me, at(3)).uptime, 3);
        assert_eq!(renewals.ask(me, at(5)).uptime, 5);
        assert_eq!(renewals.ask(me, at(9)).uptime, 5);
        assert_eq!((renewals.judge(me, at(20)).uptime, renewals.judge(other, at(20)).uptime), (5, 20));
        renewals.answered();
        assert_eq!((renewals.judge(me, at(21)).uptime, renewals.ask(me, at(22)).uptime), (21, 22));
        assert_eq!(renewals.ask(other, at(23)).uptime, 23, "joined anew under another id");
    }
}
