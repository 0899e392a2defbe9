//! What the storm guard remembers from one life of the process to the next, as bytes. Pure.

use jiff::Timestamp;
use uuid::Uuid;

/// What was known of the queue when something was last begun in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The queue's identity.
    pub queue: Uuid,
    /// The last attempt that was committed.
    pub begun: Option<Uuid>,
    /// Our instance, and how often its lease was renewed.
    pub renewed: Option<(Uuid, u64)>,
    /// When the queue was whole, by its clock.
    pub whole: Timestamp,
}

/// First word of a slot.
const NAME: &str = "smsd-guard-1";

impl Record {
    /// One line that people can read, with its number in the row of those that were written and a checksum.
    pub(super) fn to_line(self, number: u64) -> String {
        let begun = self.begun.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let (instance, renewals) =
            self.renewed.map_or_else(|| ("-".to_owned(), 0), |(id, n)| (id.to_string(), n));
        let body = format!(
            "{NAME} {number} {} {begun} {instance} {renewals} {}",
            self.queue,
            self.whole.as_microsecond()
        );
        format!("{body} {:016x}\n", checksum(&body))
    }

    /// The line back, with its number; `None` if it is not whole.
    pub(super) fn of_line(line: &str) -> Option<(u64, Record)> {
        let (body, sum) = line.split_once('\n')?.0.rsplit_once(' ')?;
        if u64::from_str_radix(sum, 16).ok()? != checksum(body) {
            return None;
        }
        let [NAME, number, queue, begun, instance, renewals, whole] = body.split(' ').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let id = |word: &str| match word {
            "-" => Some(None),
            id => id.parse().ok().map(Some),
        };
        let renewed = match id(instance)? {
            None => None,
            Some(id) => Some((id, renewals.parse().ok()?)),
        };
        let whole = Timestamp::from_microsecond(whole.parse().ok()?).ok()?;
        Some((number.parse().ok()?, Record { queue: queue.parse().ok()?, begun: id(begun)?, renewed, whole }))
    }
}

/// FNV-1a: against a torn write, not against a forger.
fn checksum(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_and_a_torn_one_is_not() {
        let whole = Timestamp::from_microsecond(1_800_000_000_123_456).unwrap();
        for begun in [None, Some(Uuid::now_v7())] {
            let renewed = begun.map(|id| (id, u64::MAX));
            let record = Record { queue: Uuid::now_v7(), begun, renewed, whole };
            let line = record.to_line(7);
            assert!(record.to_line(u64::MAX).len() <= 256, "a slot");
            assert_eq!(Record::of_line(&line), Some((7, record)));
            assert_eq!(Record::of_line(&format!("{line}the rest of an older one")), Some((7, record)));
            for cut in 0..line.len() {
                assert_eq!(Record::of_line(&line[..cut]), None, "{cut}");
                let mut torn = line.clone().into_bytes();
                torn[cut] ^= 1;
                let torn = String::from_utf8(torn).unwrap();
                assert!(Record::of_line(&torn).is_none_or(|read| read == (7, record)), "{torn}");
            }
        }
        for odd in ["", "\n", " \n", "smsd-guard-1 1 2 3 4 5 6 7\n"] {
            assert_eq!(Record::of_line(odd), None);
        }
    }
}
