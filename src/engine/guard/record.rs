//! What the storm guard remembers from one life of the process to the next, as bytes. Pure.

use jiff::Timestamp;
use uuid::Uuid;

use crate::queue::LogEnd;

/// What was known of the queue at the last begin, the last renewal of the lease, or the last news of
/// another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The queue's identity.
    pub queue: Uuid,
    /// The last attempt that this daemon began.
    pub begun: Option<Uuid>,
    /// The newest attempt of any instance that the queue had shown.
    pub seen: Option<Uuid>,
    /// Where the database's log had come to.
    pub log: Option<LogEnd>,
    /// When the queue was whole, by its clock.
    pub whole: Timestamp,
}

/// First word of a slot.
const NAME: &str = "smsd-guard-2";
/// That of a record which knew only this daemon's own attempts, and how often its lease was renewed.
const NAME_1: &str = "smsd-guard-1";

impl Record {
    /// One line that people can read, with its number in the row of those that were written and a checksum.
    pub(super) fn to_line(self, number: u64) -> String {
        let id = |id: Option<Uuid>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let log = self.log.map_or_else(
            || "-".to_owned(),
            |LogEnd { system, timeline, position }| format!("{system}:{timeline}:{position}"),
        );
        let (queue, begun, seen) = (self.queue, id(self.begun), id(self.seen));
        let body = format!("{NAME} {number} {queue} {begun} {seen} {log} {}", self.whole.as_microsecond());
        format!("{body} {:016x}\n", checksum(&body))
    }

    /// The line back, with its number; `None` if it is not whole.
    pub(super) fn of_line(line: &str) -> Option<(u64, Record)> {
        let (body, sum) = line.split_once('\n')?.0.rsplit_once(' ')?;
        if u64::from_str_radix(sum, 16).ok()? != checksum(body) {
            return None;
        }
        let words: Vec<&str> = body.split(' ').collect();
        let (number, queue, begun, seen, log, whole) = match words[..] {
            [NAME, number, queue, begun, seen, log, whole] => (number, queue, begun, seen, log, whole),
            [NAME_1, number, queue, begun, _, _, whole] => (number, queue, begun, "-", "-", whole),
            _ => return None,
        };
        let id = |word: &str| match word {
            "-" => Some(None),
            id => id.parse().ok().map(Some),
        };
        let log = match log {
            "-" => None,
            log => Some(log_end(log)?),
        };
        let whole = Timestamp::from_microsecond(whole.parse().ok()?).ok()?;
        let record = Record { queue: queue.parse().ok()?, begun: id(begun)?, seen: id(seen)?, log, whole };
        Some((number.parse().ok()?, record))
    }
}

fn log_end(word: &str) -> Option<LogEnd> {
    let [system, timeline, position] = word.split(':').collect::<Vec<_>>()[..] else { return None };
    Some(LogEnd {
        system: system.parse().ok()?,
        timeline: timeline.parse().ok()?,
        position: position.parse().ok()?,
    })
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
            let log = begun.map(|_| LogEnd { system: u64::MAX, timeline: u32::MAX, position: u64::MAX });
            let record = Record { queue: Uuid::now_v7(), begun, seen: begun, log, whole };
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
        for odd in ["", "\n", " \n", "smsd-guard-2 1 2 3 4 5 6 7\n"] {
            assert_eq!(Record::of_line(odd), None);
        }
    }

    #[test]
    fn a_record_of_the_version_before_is_read() {
        let (queue, begun) = (Uuid::from_u128(9), Uuid::from_u128(8));
        let body = format!("smsd-guard-1 3 {queue} {begun} {begun} 17 1800000000123456");
        let line = format!("{body} {:016x}\n", checksum(&body));
        let whole = Timestamp::from_microsecond(1_800_000_000_123_456).unwrap();
        let record = Record { queue, begun: Some(begun), seen: None, log: None, whole };
        assert_eq!(Record::of_line(&line), Some((3, record)));
    }
}
