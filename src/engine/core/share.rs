//! Several instances on one queue: who is first at whose alerts.
//!
//! They all see the same alerts in the same order. If each simply began with the first, every SMS would be tried by all
//! of them, and all but one would have tried in vain. So each lets its own recipients pass before the others': a
//! recipient is one instance's by a hash and by that instance's rank among those that live. It is a head start of a
//! moment and a handicap in the order within a severity, not a right: whoever has nothing more urgent to do takes any
//! alert, and nobody waits for an instance that is dead, stopped or slow.
//!
//! What belongs to others is most likely gone when its turn comes. Then the queue is asked once more, and what
//! it does not show any more is forgotten.

use super::*;
use crate::queue::{Peers, Place};

/// How long a new alert is left to the instance that its recipient belongs to.
const HEAD_START: Duration = Duration::from_millis(400);
/// So many keys further back the recipients of others stand in the order, and up to so many more at random: who
/// helps another does not take what that one takes next.
const HANDICAP: i64 = 4_000;
/// For so long a look is believed about what others work on too.
const FRESH: Duration = Duration::from_millis(200);

/// What a full look went over: all places after the one and up to the other; `None` is the end of all.
#[derive(Clone, Copy, Debug)]
pub struct Covered {
    /// Where it began.
    pub after: Option<Place>,
    /// Where it ended.
    pub to: Option<Place>,
}

impl Covered {
    fn has(&self, place: Place) -> bool {
        self.after.is_none_or(|after| place > after) && self.to.is_none_or(|to| place <= to)
    }
}

impl Core {
    /// So many instances work on the queue now, and we are one of them.
    pub fn know_peers(&mut self, peers: Peers, now: Instant) {
        let before = std::mem::replace(&mut self.peers, peers);
        if before.of != peers.of {
            self.out.events.push(Event::Peers { instances: peers.of });
        }
        if before != peers {
            let ready: Vec<Phone> = self.ready.iter().map(|(_, phone)| phone.clone()).collect();
            for phone in ready {
                self.refresh(&phone, now);
            }
        }
    }

    /// A full look went over these places and found only these alerts: the others do not wait any more.
    pub fn prune(&mut self, covered: Covered, found: &[Alert], now: Instant) {
        let found: HashSet<AlertId> = found.iter().map(|alert| alert.id).collect();
        let changed = self.settled_meanwhile.as_ref();
        let gone: Vec<AlertId> = self
            .window
            .places()
            .filter(|place| covered.has(*place) && !found.contains(&place.id))
            // These came back to wait while the queue was looking.
            .filter(|place| changed.is_none_or(|ids| !ids.contains(&place.id)))
            .map(|place| place.id)
            .collect();
        self.forget(&gone, now);
        if covered.after.is_none() {
            self.looked_at = Some(now);
        }
    }

    /// Does no other instance work on the queue, as far as is known?
    pub fn is_alone(&self) -> bool {
        self.peers.of <= 1
    }

    /// A recipient's turn among all.
    pub(super) fn turn_of(&self, phone: &Phone, turn: Turn) -> Turn {
        if self.peers.of <= 1 {
            return turn;
        }
        // By key, since that is how far one is set back.
        let handicap = match self.is_ours(phone) {
            true => 0,
            false => {
                let mine = mix(hash(phone) ^ u64::from(self.peers.rank));
                HANDICAP + (mine % HANDICAP.unsigned_abs()).cast_signed()
            }
        };
        let id = AlertId(turn.id.0.saturating_add(handicap));
        Turn { queued_at: jiff::Timestamp::UNIX_EPOCH, id, ..turn }
    }

    /// Whether to ask the queue before this recipient, who is not ours, is begun with.
    pub(super) fn is_stale(&self, phone: &Phone, now: Instant) -> bool {
        let fresh = |at: Instant| now.saturating_duration_since(at) <= FRESH;
        self.peers.of > 1 && !self.is_ours(phone) && !self.looked_at.is_some_and(fresh)
    }

    /// Until when a recipient's alerts are left to another instance.
    pub(super) fn left_until(&self, phone: &Phone) -> Option<Instant> {
        let left = self.peers.of > 1 && !self.is_ours(phone);
        left.then(|| Some(self.window.learned(phone)? + HEAD_START))?
    }

    /// Others have begun what we wanted to: what else waits?
    pub(super) fn outrun(&mut self, attempts: usize, now: Instant) {
        self.out.look_soon = true;
        self.out.look_now |=
            self.peers.of > 1 && self.looked_at.is_none_or(|at| now.saturating_duration_since(at) > FRESH);
        self.out.events.push(Event::Outrun { attempts });
    }

    fn is_ours(&self, phone: &Phone) -> bool {
        hash(phone) % u64::from(self.peers.of.max(1)) == u64::from(self.peers.rank)
    }
}

/// Every instance, of whatever version, must come to the same.
fn hash(phone: &Phone) -> u64 {
    // FNV-1a mixes the last digits hardly at all, and numbers of one site differ only there.
    let hash = phone.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}
