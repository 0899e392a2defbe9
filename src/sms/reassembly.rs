//! Puts together what came in parts, in bounded memory and time.
//!
//! Parts come in any order, twice, or never; and anybody may send them. What is given up for want of time or room comes
//! out as far as it is there, so that nothing that was received is lost.
//!
//! A service centre that did not hear that we have a part sends it again, with the time at which it took it. So a part of
//! an SMS that came out already is known again by its time and what it says, and without a time it is taken for a new one.
//! Deliberately absent: doubles of an SMS of one part, which come out as often as they come.
//!
//! ```
//! use smsd::sms::pdu::{Incoming, read_hex};
//! use smsd::sms::reassembly::Reassembly;
//! use tokio::time::Instant;
//!
//! let mut reassembly = Reassembly::default();
//! let mut take = |pdu: &str| match read_hex(pdu).unwrap() {
//!     Incoming::Deliver(part) => reassembly.take(part, Instant::now()),
//!     Incoming::Report(_) => vec![],
//! };
//! assert!(take("0044049174090008621132516193400A0500035A02025B570021").is_empty());
//! let whole = take("004404917409000862113251619340080500035A02016F22").remove(0);
//! assert_eq!((whole.text.as_str(), whole.missing), ("漢字!", 0));
//! assert_eq!(whole.first.from.to_string(), "+4790");
//! ```

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::pdu::{Body, Deliver};
use super::udh::Reference;

/// How long the parts of one SMS are waited for.
pub const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Parts of SMS that came out whole, of which is remembered that they came.
const TOLD: usize = 4_096;

/// An SMS as it was sent, as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its first part that came: who sent it, and when.
    pub first: Deliver,
    /// What it says; parts that did not come are missing.
    pub text: String,
    /// How many parts are missing.
    pub missing: usize,
}

/// What stands for a part that did not come.
const GAP: &str = "[…]";

/// How much may be incomplete at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// SMS, each of which takes at most 16 KB beside its parts.
    pub open: usize,
    /// Octets of all their parts.
    pub octets: usize,
}

impl Default for Bounds {
    /// 1,000 SMS with parts of 1 MiB.
    fn default() -> Self {
        Bounds { open: 1_000, octets: 1 << 20 }
    }
}

/// SMS that are incomplete.
#[derive(Debug, Default)]
pub struct Reassembly {
    bounds: Bounds,
    open: HashMap<Key, Pieces>,
    /// By age.
    order: VecDeque<Key>,
    octets: usize,
    /// Of the parts that came out last, in whole SMS.
    told: VecDeque<u64>,
    fingerprints: RandomState,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    from: String,
    reference: Reference,
    total: u8,
}

#[derive(Debug)]
struct Pieces {
    since: Instant,
    first: Deliver,
    bodies: Vec<Option<Body>>,
    /// Fingerprints of the parts that came.
    came: Vec<u64>,
}

impl Reassembly {
    /// With other bounds than the usual ones.
    pub fn within(bounds: Bounds) -> Reassembly {
        Reassembly { bounds, ..Reassembly::default() }
    }

    /// What is incomplete: never more than the bounds.
    pub fn held(&self) -> Bounds {
        Bounds { open: self.open.len(), octets: self.octets }
    }

    /// Takes what came. What is whole, or had to be given up, comes out.
    pub fn take(&mut self, deliver: Deliver, now: Instant) -> Vec<Received> {
        let mut out = self.give_up(now);
        let Some(part) = deliver.header.part else {
            out.push(Received { text: deliver.body.text().unwrap_or_default(), first: deliver, missing: 0 });
            return out;
        };
        let key = Key { from: deliver.from.to_string(), reference: part.reference, total: part.total };
        let at = usize::from(part.number) - 1;
        let said = |pieces: &Pieces| pieces.bodies.get(at).cloned().flatten();
        match self.open.get(&key).and_then(said) {
            // The same again: a service centre that did not hear our thanks.
            Some(body) if body == deliver.body => return out,
            // Another SMS under a reference that is used again.
            Some(_) => out.extend(self.end(&key)),
            None => {}
        }
        let fingerprint = self.fingerprints.hash_one((&key, part.number, deliver.sent_at, &deliver.body));
        // Also while another SMS is open under the same reference: a late double of an old part is no part of it.
        if deliver.sent_at.is_some() && self.told.contains(&fingerprint) {
            return out;
        }
        let size = deliver.body.size();
        let pieces = self.open.entry(key.clone()).or_insert_with(|| {
            self.order.push_back(key.clone());
            let bodies = vec![None; usize::from(part.total)];
            Pieces { since: now, first: deliver.clone(), bodies, came: Vec::new() }
        });
        pieces.came.push(fingerprint);
        if let Some(place) = pieces.bodies.get_mut(at) {
            *place = Some(deliver.body);
        }
        self.octets += size;
        if pieces.bodies.iter().all(Option::is_some) {
            out.extend(self.end(&key));
        }
        while self.open.len() > self.bounds.open || self.octets > self.bounds.octets {
            let Some(oldest) = self.order.front().cloned() else { break };
            out.extend(self.end(&oldest));
        }
        out
    }

    /// What has waited for its parts too long.
    pub fn give_up(&mut self, now: Instant) -> Vec<Received> {
        let mut out = Vec::new();
        while let Some(oldest) = self.order.front().cloned() {
            let waits = self.open.get(&oldest).is_some_and(|p| now.duration_since(p.since) < PATIENCE);
            if waits {
                break;
            }
            out.extend(self.end(&oldest));
        }
        out
    }

    fn end(&mut self, key: &Key) -> Option<Received> {
        self.order.retain(|other| other != key);
        let Pieces { first, bodies, came, .. } = self.open.remove(key)?;
        self.octets -= bodies.iter().flatten().map(Body::size).sum::<usize>().min(self.octets);
        let missing = bodies.iter().filter(|body| body.is_none()).count();
        if missing == 0 {
            self.told.extend(came);
            self.told.drain(..self.told.len().saturating_sub(TOLD));
        }
        Some(Received { text: join(bodies), first, missing })
    }
}

/// The text of parts. Neighbours are joined before they are read, since some senders cut within a character.
fn join(bodies: Vec<Option<Body>>) -> String {
    let mut text = String::new();
    let mut run: Option<Body> = None;
    let say = |text: &mut String, run: &mut Option<Body>| {
        text.extend(run.take().and_then(|body| body.text()));
    };
    for body in bodies {
        match (run.take(), body) {
            (None, Some(body)) => run = Some(body),
            (Some(before), Some(body)) => match before.clone().and(&body) {
                Some(both) => run = Some(both),
                None => {
                    say(&mut text, &mut Some(before));
                    run = Some(body);
                }
            },
            (before, None) => {
                run = before;
                say(&mut text, &mut run);
                text.push_str(GAP);
            }
        }
    }
    say(&mut text, &mut run);
    text
}

#[cfg(test)]
mod tests {
    use super::super::coding::{Coding, segments};
    use super::super::pdu::{Incoming, read};
    use super::*;

    fn parts(text: &str, from: u8, reference: u8) -> Vec<Deliver> {
        let coding = Coding::Ucs2;
        let parts = segments(text, coding, Reference::Short(reference)).unwrap();
        let of = |segment: &super::super::coding::Segment| {
            let first = if segment.has_header { 0x44 } else { 0x04 };
            let head = [0x00, first, 0x02, 0x91, from, 0x00, 0x08, 0x62, 0x11, 0x32, 0x51, 0x61, 0x93, 0x40];
            match read(&[&head[..], &[segment.length], &segment.octets].concat()) {
                Ok(Incoming::Deliver(deliver)) => deliver,
                other => panic!("{other:?}"),
            }
        };
        parts.iter().map(of).collect()
    }

    fn texts(received: Vec<Received>) -> Vec<String> {
        received.into_iter().map(|r| r.text).collect()
    }

    fn long(of: char) -> String {
        of.to_string().repeat(150)
    }

    #[test]
    fn parts_come_in_any_order_and_more_than_once() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        assert_eq!(texts(reassembly.take(parts("alone", 1, 0).remove(0), now)), ["alone"]);
        let (one, other) = (parts(&long('漢'), 1, 7), parts(&long('字'), 2, 7));
        for part in [&one[2], &other[0], &one[0], &one[0], &other[2]] {
            assert!(reassembly.take(part.clone(), now).is_empty());
        }
        assert_eq!(texts(reassembly.take(one[1].clone(), now)), [long('漢')]);
        assert_eq!(texts(reassembly.take(other[1].clone(), now)), [long('字')]);
        assert!(reassembly.open.is_empty() && reassembly.order.is_empty() && reassembly.octets == 0);
    }

    #[test]
    fn a_part_that_comes_again_after_all_came_out_is_no_new_sms() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        let sms = parts(&long('漢'), 1, 7);
        let mut take = |part: &Deliver| texts(reassembly.take(part.clone(), now));
        assert_eq!(sms.iter().flat_map(&mut take).collect::<Vec<_>>(), [long('漢')]);
        assert!(sms.iter().flat_map(&mut take).next().is_none());
        // Whoever says the same a second later means it, and a part without a time may be a new one.
        for sent_at in [sms[0].sent_at.map(|at| at + Duration::from_secs(1)), None, None] {
            let again = sms.iter().map(|part| Deliver { sent_at, ..part.clone() });
            assert_eq!(again.flat_map(|part| take(&part)).collect::<Vec<_>>(), [long('漢')]);
        }
        assert_eq!(reassembly.held(), Bounds { open: 0, octets: 0 });
        for n in 0..3_000 {
            for mut part in parts(&"漢".repeat(71), 1, 7) {
                let long = |p| super::super::udh::Part { reference: Reference::Long(n), ..p };
                part.header.part = part.header.part.map(long);
                reassembly.take(part, now);
            }
        }
        assert_eq!(reassembly.told.len(), TOLD);
    }

    #[test]
    fn what_does_not_come_is_said_to_be_missing() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        let three = parts(&long('漢'), 1, 7);
        reassembly.take(three[0].clone(), now);
        reassembly.take(three[2].clone(), now);
        assert!(reassembly.give_up(now + PATIENCE / 2).is_empty());
        let [received] = &reassembly.give_up(now + PATIENCE)[..] else { panic!() };
        assert_eq!(received.missing, 1);
        assert_eq!(received.text, format!("{}[…]{}", "漢".repeat(67), "漢".repeat(16)));
        // A reference that is used again for another SMS ends the first.
        reassembly.take(three[0].clone(), now);
        let [received] = &reassembly.take(parts(&long('字'), 1, 7)[0].clone(), now)[..] else { panic!() };
        assert_eq!((received.missing, received.text.chars().next()), (2, Some('漢')));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_goes_first() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        let mut out = Vec::new();
        let Bounds { open, octets } = Bounds::default();
        for n in 0..3 * open {
            let mut part = parts(&long('漢'), 1, n as u8).remove(0);
            part.header.part = part
                .header
                .part
                .map(|p| super::super::udh::Part { reference: Reference::Long(n as u16), ..p });
            out.extend(reassembly.take(part, now));
        }
        assert_eq!(out.len(), 2 * open);
        assert_eq!(reassembly.held(), Bounds { open, octets: open * 134 });
        assert!(reassembly.held().octets <= octets);
        let first = out[0].first.header.part.unwrap().reference;
        assert_eq!(first, Reference::Long(0));
    }

    #[test]
    fn a_character_cut_in_two_is_whole_again() {
        let now = Instant::now();
        let mut reassembly = Reassembly::default();
        let mut two = parts(&"😀".repeat(40), 1, 9);
        two[0].body = Body::Units(vec![0x41, 0xD83D]);
        two[1].body = Body::Units(vec![0xDE00]);
        reassembly.take(two[0].clone(), now);
        assert_eq!(texts(reassembly.take(two[1].clone(), now)), ["A😀"]);
    }
}
