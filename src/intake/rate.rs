//! How much one of many may hand in: mails of an address, alerts of a token. A bucket each, of a minute's worth.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// Those who are remembered at once; beyond that, whoever has handed in nothing for longest is forgotten.
const PEERS_MAX: usize = 1_024;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Rates<K> {
    peers: HashMap<K, Bucket>,
}

impl<K> Default for Rates<K> {
    fn default() -> Rates<K> {
        Rates { peers: HashMap::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl<K: Clone + Eq + Hash> Rates<K> {
    /// Counts so many of this one at `rate` per second; what is more than a minute's worth waits for that, and is owed.
    ///
    /// # Errors
    /// It hands in too many: in so many seconds it may hand in the next.
    pub(crate) fn admit(&mut self, peer: K, cost: f64, rate: f64, now: Instant) -> Result<(), u64> {
        let most = (rate * 60.0).max(1.0);
        let wanted = cost.min(most);
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, bucket)| bucket.filled);
            let oldest = oldest.map(|(peer, _)| peer.clone());
            self.peers.retain(|peer, _| Some(peer) != oldest.as_ref());
        }
        let bucket = self.peers.entry(peer).or_insert(Bucket { left: most, filled: now });
        let grown = bucket.left + now.duration_since(bucket.filled).as_secs_f64() * rate;
        *bucket = Bucket { left: grown.min(most), filled: now };
        if bucket.left < wanted {
            return Err((((wanted - bucket.left) / rate).ceil() as u64).max(1));
        }
        bucket.left -= cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_each_address_for_itself() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap());
        for _ in 0..30 {
            assert_eq!(rates.admit(a, 1.0, 0.5, start), Ok(()));
        }
        assert_eq!(rates.admit(a, 1.0, 0.5, start), Err(2));
        assert_eq!(rates.admit(b, 1.0, 0.5, start), Ok(()));
        assert_eq!(rates.admit(a, 1.0, 0.5, start + Duration::from_secs(2)), Ok(()));
        for n in 0..2 * PEERS_MAX as u32 {
            let _ = rates.admit(IpAddr::V4(n.into()), 1.0, 0.5, start + Duration::from_secs(3));
        }
        assert!(rates.peers.len() <= PEERS_MAX);
    }

    #[test]
    fn what_is_more_than_a_minutes_worth_is_owed() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        assert_eq!(rates.admit("a", 90.0, 1.0, start), Ok(()));
        assert_eq!(rates.admit("a", 1.0, 1.0, start), Err(31));
        assert_eq!(rates.admit("a", 1.0, 1.0, start + Duration::from_secs(31)), Ok(()));
    }
}
