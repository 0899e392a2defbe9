//! Whoever guesses tokens at the login is slowed down: what comes from one address is looked at ten times a second at most,
//! and only from the first wrong one on. No token is ever locked: another address is not slowed, and a good token is
//! heard in its turn.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between two looks at what one address brings.
const PAUSE: Duration = Duration::from_millis(100);
/// Whoever would have to wait longer is turned away.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a wrong token is remembered.
const MEMORY: Duration = Duration::from_secs(60);
/// Addresses that are remembered; where more guess, whoever is not remembered is turned away.
const MOST: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<HashMap<Option<IpAddr>, Guesser>>);

#[derive(Debug)]
struct Guesser {
    /// When the next of its tokens is looked at.
    next: Instant,
    /// Until when it counts as one that guesses.
    until: Instant,
}

impl Guesses {
    /// Waits until a token from this address may be looked at; false: it came too soon.
    pub(in crate::web) async fn turn(&self, from: Option<IpAddr>) -> bool {
        match self.slot(from, Instant::now()) {
            Some(at) => sleep_until(at).await,
            None => return false,
        }
        true
    }

    /// A token from this address was wrong.
    pub(in crate::web) fn wrong(&self, from: Option<IpAddr>) {
        let now = Instant::now();
        let mut guessers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guessers.len() >= MOST {
            guessers.retain(|_, guesser| guesser.until > now);
        }
        if guessers.len() < MOST || guessers.contains_key(&network(from)) {
            let guesser = guessers.entry(network(from)).or_insert(Guesser { next: now + PAUSE, until: now });
            guesser.until = now + MEMORY;
        }
    }

    fn slot(&self, from: Option<IpAddr>, now: Instant) -> Option<Instant> {
        let mut guessers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guesser) = guessers.get_mut(&network(from)) else {
            return (guessers.len() < MOST).then_some(now);
        };
        if guesser.until <= now {
            return Some(now);
        }
        let at = guesser.next.max(now);
        if at > now + PATIENCE {
            return None;
        }
        guesser.next = at + PAUSE;
        Some(at)
    }
}

/// Whoever has one address of IPv6 has as a rule all of its network (RFC 6177).
fn network(from: Option<IpAddr>) -> Option<IpAddr> {
    match from? {
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V6(Ipv6Addr::LOCALHOST));

    #[tokio::test(start_paused = true)]
    async fn whoever_guesses_is_heard_ten_times_a_second() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        assert!(guesses.turn(HERE).await);
        assert_eq!(start.elapsed(), Duration::ZERO, "the first is not slowed");
        for _ in 0..100 {
            guesses.wrong(HERE);
            assert!(guesses.turn(HERE).await);
        }
        assert_eq!(start.elapsed(), PAUSE * 100);
        let heard = (0..1_000).filter(|_| guesses.slot(HERE, Instant::now()).is_some()).count();
        assert!((50..=52).contains(&heard), "{heard}: the rest is turned away");
        let other = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(guesses.slot(other, Instant::now()), Some(Instant::now()), "another is not slowed");
        tokio::time::advance(MEMORY).await;
        assert_eq!(guesses.slot(HERE, Instant::now()), Some(Instant::now()), "and it is forgotten");
    }
}
