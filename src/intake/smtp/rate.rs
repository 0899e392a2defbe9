//! How many mails one address may send: a bucket each, of a minute's worth.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Addresses that are remembered at once; beyond that, those that have waited longest for a mail are forgotten.
const PEERS_MAX: usize = 1_024;

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Rates {
    peers: HashMap<IpAddr, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    mails: f64,
    filled: Instant,
}

impl Rates {
    /// Counts a mail of this address at `rate` per second.
    ///
    /// # Errors
    /// It sends too many: in so many seconds it may send the next.
    pub(super) fn admit(&mut self, peer: IpAddr, rate: f64, now: Instant) -> Result<(), u64> {
        let most = (rate * 60.0).max(1.0);
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let oldest = self.peers.iter().min_by_key(|(_, bucket)| bucket.filled).map(|(peer, _)| *peer);
            self.peers.retain(|peer, _| Some(*peer) != oldest);
        }
        let bucket = self.peers.entry(peer).or_insert(Bucket { mails: most, filled: now });
        let grown = bucket.mails + now.duration_since(bucket.filled).as_secs_f64() * rate;
        *bucket = Bucket { mails: grown.min(most), filled: now };
        if bucket.mails < 1.0 {
            return Err((((1.0 - bucket.mails) / rate).ceil() as u64).max(1));
        }
        bucket.mails -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minutes_worth_at_once_and_each_address_for_itself() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|a| a.parse().unwrap());
        for _ in 0..30 {
            assert_eq!(rates.admit(a, 0.5, start), Ok(()));
        }
        assert_eq!(rates.admit(a, 0.5, start), Err(2));
        assert_eq!(rates.admit(b, 0.5, start), Ok(()));
        assert_eq!(rates.admit(a, 0.5, start + Duration::from_secs(2)), Ok(()));
        for n in 0..2 * PEERS_MAX as u32 {
            let _ = rates.admit(IpAddr::V4(n.into()), 0.5, start + Duration::from_secs(3));
        }
        assert!(rates.peers.len() <= PEERS_MAX);
    }
}
