//! The places for connections: whoever brings mail keeps one, whoever only waits makes way for the next.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One address has at most this part of the places, and is let have so many.
const SHARE: (usize, usize) = (4, 4);
/// Whoever has brought no mail for so long makes way.
const IDLE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    places: BTreeMap<u64, Place>,
}

#[derive(Debug)]
struct Place {
    address: IpAddr,
    /// Since when no mail comes; `None` while one does.
    waits_since: Option<Instant>,
    given_away: CancellationToken,
}

/// A place that is taken; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    places: Arc<Places>,
    number: u64,
    /// Somebody else needs it.
    pub(super) given_away: CancellationToken,
}

impl Places {
    /// A place among so many for a connection from this address. If its share or all of them are taken, whoever has gone
    /// longest without a mail has to leave: one of the same address, or anybody; `None` if none of those is idle.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Seat> {
        let mut taken = self.lock();
        let own = taken.places.values().filter(|place| place.address == address).count();
        let same = own >= (most / SHARE.0).max(SHARE.1);
        if same || taken.places.len() >= most {
            let waiting = taken.places.iter().filter(|(_, place)| !same || place.address == address);
            let idle = |since: &Instant| since.elapsed() >= IDLE;
            let longest = waiting.filter_map(|(n, place)| Some((place.waits_since.filter(idle)?, *n))).min();
            let (_, longest) = longest?;
            if let Some(place) = taken.places.remove(&longest) {
                place.given_away.cancel();
            }
        }
        let (number, given_away) = (taken.next, CancellationToken::new());
        taken.next += 1;
        let place = Place { address, waits_since: Some(Instant::now()), given_away: given_away.clone() };
        taken.places.insert(number, place);
        Some(Seat { places: Arc::clone(self), number, given_away })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A mail begins, or is seen to.
    pub(super) fn brings(&self, mail: bool) {
        if let Some(place) = self.places.lock().places.get_mut(&self.number) {
            place.waits_since = (!mail).then(Instant::now);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_only_waits_makes_way() {
        let places = Arc::new(Places::default());
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let take = |n| places.take(address(n), 8);
        let first = take(1).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let others: Vec<Seat> = (0..3).map(|_| take(1).unwrap()).collect();
        assert!(take(1).is_none(), "its share is four, and nobody has waited long");
        assert!(take(2).is_some(), "others have room");
        others.iter().for_each(|seat| seat.brings(true));
        tokio::time::advance(IDLE).await;
        let fifth = take(1).unwrap();
        assert!(first.given_away.is_cancelled() && !others[0].given_away.is_cancelled());
        tokio::time::advance(Duration::from_secs(1)).await;
        others[0].brings(false);
        tokio::time::advance(IDLE).await;
        let many: Vec<Seat> = (2..6).map(|n| take(n).unwrap()).collect();
        assert!(!fifth.given_away.is_cancelled(), "eight are here");
        let another = take(9).unwrap();
        assert!(fifth.given_away.is_cancelled(), "of all who wait, it has waited longest");
        drop((first, many, another));
        assert_eq!(places.lock().places.len(), 3, "those who bring mail, or did");
    }
}
