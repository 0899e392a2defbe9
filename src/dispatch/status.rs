//! What each remote code means: `status-classes.csv`, compiled in, and the overrides of a dispatcher.
//!
//! The table is the truth; code asks it. A row's code is a number, a list or a range of numbers, what is
//! left of a range (`other 4xx`), or a *situation* in words (`no reply after the dot`) that a dispatcher
//! looks up by the very words of the table.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;

use super::Class;

/// What a remote code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The SMS was taken.
    Accepted,
    /// It was not, and this is what follows.
    Refused(Class),
}

impl Status {
    /// Reads a class of the table: `OK`, `RCPT`, `MSG`, `BUG`, `RTMP`, `DTMP`, `THR`, `DPERM`, `ERR`, `AMB`.
    pub fn from_word(word: &str) -> Option<Status> {
        Some(match word {
            "OK" => Status::Accepted,
            "RCPT" | "MSG" | "BUG" => Status::Refused(Class::Rejected),
            "RTMP" => Status::Refused(Class::Deferred),
            "DTMP" => Status::Refused(Class::Unavailable),
            "THR" => Status::Refused(Class::Throttled { retry_after: DEFAULT_RETRY_AFTER }),
            "DPERM" => Status::Refused(Class::Misconfigured),
            "ERR" => Status::Refused(Class::Failed),
            "AMB" => Status::Refused(Class::Unknown),
            _ => return None,
        })
    }
}

/// How long a throttled dispatcher is left alone when it does not say (`status-classes.csv`, HTTP 429).
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);

/// The bounds of what a gateway may ask us to wait (`status-classes.csv`, HTTP 429).
pub const RETRY_AFTER_BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Whose codes a row is about: the first column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `command_status` of SMPP 3.4 and 5.0.
    Smpp,
    /// HTTP status codes.
    Http,
    /// SMTP replies and enhanced status codes.
    Smtp,
    /// `+CMS ERROR` (3GPP TS 27.005 §3.2.5), and the RP and TP causes in it.
    GsmCms,
    /// `message_state` of an SMPP delivery receipt.
    SmppReport,
    /// TP-Status of an SMS-STATUS-REPORT (3GPP TS 23.040 §9.2.3.15).
    TpStatus,
    /// `GSM_Error` of libGammu.
    Gammu,
    /// Exit codes of programs (sysexits(3) of 4.3BSD).
    Sysexits,
}

/// What the network's later word on an accepted SMS means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It reached the phone.
    Delivered,
    /// It never will, for a cause of this class.
    Undelivered(Class),
    /// Nothing is decided yet.
    NoChange,
}

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An answer to a submit.
    Answer(Status),
    /// A delivery report.
    Report(Report),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Whose code it is.
    pub protocol: Protocol,
    /// The second column as it stands.
    pub code: &'static str,
    /// The same, understood.
    pub codes: Codes,
    /// The protocol's own name of the code; may be empty.
    pub name: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// What else there is to know; may be empty.
    pub note: &'static str,
}

/// Which codes a row is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Codes {
    /// These.
    These(Vec<RangeInclusive<u32>>),
    /// Those of a range that no other row names.
    Other(RangeInclusive<u32>),
    /// A situation in words.
    Situation,
}

/// All rows, in the order of the file.
pub fn table() -> &'static [Row] {
    static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| CSV.lines().skip(1).filter_map(Row::parse).collect());
    &TABLE
}

/// What a numeric code means; `None` if the table does not know it.
pub fn of_code(protocol: Protocol, code: u32) -> Option<Meaning> {
    row(protocol, code).map(|row| row.meaning)
}

/// The row of a numeric code.
pub fn row(protocol: Protocol, code: u32) -> Option<&'static Row> {
    let rows = || table().iter().filter(|row| row.protocol == protocol);
    let named = |row: &&Row| matches!(&row.codes, Codes::These(r) if r.iter().any(|r| r.contains(&code)));
    let left = |row: &&Row| matches!(&row.codes, Codes::Other(r) if r.contains(&code));
    rows().find(named).or_else(|| rows().find(left))
}

/// What a situation means, asked by the words of the table's second column.
pub fn of_situation(protocol: Protocol, words: &str) -> Option<Meaning> {
    let mut rows = table().iter().filter(|row| row.protocol == protocol && row.codes == Codes::Situation);
    rows.find(|row| row.code == words).map(|row| row.meaning)
}

/// What an HTTP status means by the table alone. Total: any number means something.
pub fn http(status: u16) -> Status {
    match of_code(Protocol::Http, status.into()) {
        Some(Meaning::Answer(status)) => status,
        _ => Status::Refused(Class::Failed),
    }
}

/// The HTTP part of the table with one dispatcher's overrides.
#[derive(Clone, Debug, Default)]
pub struct HttpStatuses(BTreeMap<u16, Status>);

impl HttpStatuses {
    /// Takes the overrides of a configuration (`class.503: ERR`).
    ///
    /// # Errors
    /// The first code that is no HTTP status.
    pub fn new(overrides: &BTreeMap<String, Status>) -> Result<HttpStatuses, String> {
        let code = |code: &String| match code.parse::<u16>() {
            Ok(n @ 100..=999) if code.len() == 3 => Ok(n),
            _ => Err(code.clone()),
        };
        overrides
            .iter()
            .map(|(key, status)| Ok((code(key)?, *status)))
            .collect::<Result<_, _>>()
            .map(HttpStatuses)
    }

    /// What an answer means. `retry_after` is the header as it came; it makes a 503 throttling, unless 503
    /// is overridden.
    pub fn of(&self, status: u16, retry_after: Option<&str>, now: Timestamp) -> Status {
        let asked = retry_after.and_then(|value| parse_retry_after(value, now));
        match self.0.get(&status).copied() {
            None if status == 503 && retry_after.is_some() => throttled(asked),
            by_override => match by_override.unwrap_or_else(|| http(status)) {
                Status::Refused(Class::Throttled { .. }) => throttled(asked),
                other => other,
            },
        }
    }
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds or a date; kept within [`RETRY_AFTER_BOUNDS`].
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long time all the same.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO)
    };
    Some(asked.clamp(*RETRY_AFTER_BOUNDS.start(), *RETRY_AFTER_BOUNDS.end()))
}

static CSV: &str = include_str!("status-classes.csv");

fn throttled(asked: Option<Duration>) -> Status {
    Status::Refused(Class::Throttled { retry_after: asked.unwrap_or(DEFAULT_RETRY_AFTER) })
}

impl Row {
    fn parse(line: &'static str) -> Option<Row> {
        let [protocol, code, name, class, note] = fields(line)?;
        let protocol = Protocol::from_word(protocol)?;
        let codes = match protocol {
            // A reply code alone says little in SMTP: its rows are situations, digits or not.
            Protocol::Smtp => Codes::Situation,
            _ => Codes::parse(code),
        };
        Some(Row { protocol, code, codes, name, meaning: Meaning::parse(class)?, note })
    }
}

impl Protocol {
    fn from_word(word: &str) -> Option<Protocol> {
        Some(match word {
            "smpp" => Protocol::Smpp,
            "http" => Protocol::Http,
            "smtp" => Protocol::Smtp,
            "gsm-cms" => Protocol::GsmCms,
            "smpp-dlr" => Protocol::SmppReport,
            "tp-status" => Protocol::TpStatus,
            "gammu" => Protocol::Gammu,
            "sysexits" => Protocol::Sysexits,
            _ => return None,
        })
    }
}

impl Meaning {
    fn parse(class: &str) -> Option<Meaning> {
        if let Some(status) = Status::from_word(class) {
            return Some(Meaning::Answer(status));
        }
        let cause = |words: &str| match Status::from_word(words.split(' ').next()?)? {
            Status::Refused(class) => Some(class),
            Status::Accepted => None,
        };
        let report = match class.strip_prefix("UNDELIVERED (") {
            Some(words) => Report::Undelivered(cause(words)?),
            None if class == "DELIVERED" => Report::Delivered,
            None if class.starts_with("no change") => Report::NoChange,
            None => return None,
        };
        Some(Meaning::Report(report))
    }
}

impl Codes {
    fn parse(code: &str) -> Codes {
        if let Some(rest) = code.strip_prefix("other") {
            return open_range(rest.trim()).map_or(Codes::Situation, Codes::Other);
        }
        let ranges: Option<Vec<_>> = code.split(',').map(|part| range(part.trim())).collect();
        ranges.map_or(Codes::Situation, Codes::These)
    }
}

/// `7`, `0x0B`, `300-399`, or `2 DELIVRD`, where the word is the protocol's name.
fn range(part: &str) -> Option<RangeInclusive<u32>> {
    let (first, name) = part.split_once(' ').unwrap_or((part, ""));
    if !name.chars().all(|c| c.is_ascii_uppercase()) {
        return None;
    }
    match first.split_once('-') {
        Some((low, high)) => Some(number(low)?..=number(high)?),
        None => number(first).map(|n| n..=n),
    }
}

/// What stands after `other`: nothing, `4xx` or `512+`.
fn open_range(rest: &str) -> Option<RangeInclusive<u32>> {
    if rest.is_empty() {
        return Some(0..=u32::MAX);
    }
    if let Some(low) = rest.strip_suffix('+') {
        return Some(number(low)?..=u32::MAX);
    }
    let hundred = number(rest.strip_suffix("xx")?)? * 100;
    Some(hundred..=hundred + 99)
}

fn number(digits: &str) -> Option<u32> {
    match digits.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// The five columns of a line; a field may stand in quotes, which none contains.
fn fields(line: &str) -> Option<[&str; 5]> {
    let mut rest = Some(line);
    let mut next = || {
        let line = rest?;
        let (field, after) = match line.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(field, after)| (field, after.strip_prefix(',')))?,
            None => line.split_once(',').map_or((line, None), |(field, after)| (field, Some(after))),
        };
        rest = after;
        Some(field)
    };
    let fields = [next()?, next()?, next()?, next()?, next()?];
    rest.is_none().then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(class: Class) -> Status {
        Status::Refused(class)
    }

    fn wait(seconds: u64) -> Status {
        refused(Class::Throttled { retry_after: Duration::from_secs(seconds) })
    }

    #[test]
    fn every_line_is_understood() {
        let lines = CSV.lines().skip(1).filter(|line| !line.trim().is_empty());
        let lost: Vec<_> = lines.filter(|line| Row::parse(line).is_none()).collect();
        assert!(lost.is_empty(), "{lost:#?}");
        let count = |p| table().iter().filter(|row| row.protocol == p).count();
        assert_eq!(count(Protocol::Gammu), 81);
        assert!(count(Protocol::Smpp) > 50 && count(Protocol::GsmCms) > 70 && count(Protocol::Smtp) > 10);
    }

    #[test]
    fn every_row_with_numbers_is_what_its_numbers_mean() {
        for row in table() {
            if let Codes::These(ranges) = &row.codes {
                for code in ranges.iter().flat_map(|r| [*r.start(), *r.end()]) {
                    assert_eq!(of_code(row.protocol, code), Some(row.meaning), "{row:?}");
                }
            }
            if row.codes == Codes::Situation {
                assert_eq!(of_situation(row.protocol, row.code), Some(row.meaning), "{row:?}");
            }
        }
    }

    #[test]
    fn no_code_has_two_rows() {
        for a in table() {
            for b in table().iter().filter(|b| a.protocol == b.protocol && a.code < b.code) {
                if let (Codes::These(a), Codes::These(b)) = (&a.codes, &b.codes) {
                    let clash =
                        a.iter().any(|a| b.iter().any(|b| a.start() <= b.end() && b.start() <= a.end()));
                    assert!(!clash, "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn only_words_are_situations() {
        let odd = |row: &&Row| row.protocol != Protocol::Smtp && row.codes == Codes::Situation;
        for row in table().iter().filter(odd) {
            assert!(row.code.contains(' '), "{row:?}");
            assert!(!row.code.chars().all(|c| c.is_ascii_digit() || " ,-x".contains(c)), "{row:?}");
        }
        assert_eq!(of_code(Protocol::Smpp, 0x0000_0B00), Some(Meaning::Answer(refused(Class::Deferred))));
        assert_eq!(of_code(Protocol::GsmCms, 600), Some(Meaning::Answer(refused(Class::Unknown))));
        assert_eq!(of_code(Protocol::GsmCms, 0xE7), Some(Meaning::Answer(refused(Class::Deferred))));
        assert_eq!(of_code(Protocol::SmppReport, 6), Some(Meaning::Report(Report::NoChange)));
        assert_eq!(of_code(Protocol::TpStatus, 0x46), {
            Some(Meaning::Report(Report::Undelivered(Class::Rejected)))
        });
        assert_eq!(of_code(Protocol::Gammu, 82), None);
        for (words, class) in [
            ("dns|connect|tls|proxy-connect failure", Class::Unavailable),
            ("write error, reset, EOF, timeout after the first byte", Class::Unknown),
        ] {
            assert_eq!(of_situation(Protocol::Http, words), Some(Meaning::Answer(refused(class))));
        }
    }

    #[test]
    fn every_http_status_means_something() {
        let known: &[(&[u16], Status)] = &[
            (&[200, 201, 202, 204, 206, 207, 226, 299], Status::Accepted),
            (&[300, 301, 302, 307, 308, 399], refused(Class::Misconfigured)),
            (&[401, 402, 403, 404, 405, 407, 410, 501, 505, 511], refused(Class::Misconfigured)),
            (&[400, 406, 411, 413, 414, 418, 422, 431, 451, 499], refused(Class::Rejected)),
            (
                &[408, 409, 500, 502, 504, 506, 520, 524, 599, 600, 999, u16::MAX, 0, 99],
                refused(Class::Failed),
            ),
            (
                &[421, 423, 424, 425, 503, 507, 508, 510, 521, 522, 523, 525, 526, 530],
                refused(Class::Unavailable),
            ),
            (&[429], wait(30)),
            (&[100, 101, 103, 199], refused(Class::Unknown)),
        ];
        for (codes, status) in known {
            for code in *codes {
                assert_eq!(http(*code), *status, "{code}");
            }
        }
        for code in 100..=999 {
            assert!(of_code(Protocol::Http, code).is_some(), "{code}");
        }
    }

    #[test]
    fn retry_after_is_read_and_kept_in_bounds() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        let plain = HttpStatuses::default();
        for (value, seconds) in [
            ("120", 120),
            (" 7 ", 7),
            ("0", 1),
            ("86400", 3600),
            ("99999999999999999999999999", 3600),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 30),
            ("Sun, 06 Nov 1994 08:50:07 GMT", 60),
            ("Sun, 06 Nov 1994 07:49:37 GMT", 1),
            ("Sat, 06 Nov 1999 08:49:37 GMT", 3600),
            ("-5", 30),
            ("soon", 30),
            ("", 30),
        ] {
            assert_eq!(plain.of(429, Some(value), now), wait(seconds), "{value}");
            assert_eq!(plain.of(503, Some(value), now), wait(seconds), "{value}");
        }
        assert_eq!(plain.of(503, None, now), refused(Class::Unavailable));
        assert_eq!(plain.of(500, Some("5"), now), refused(Class::Failed));
    }

    #[test]
    fn overrides_come_before_the_table() {
        let now = Timestamp::UNIX_EPOCH;
        let over = |code: &str, word: &str| (code.to_string(), Status::from_word(word).unwrap());
        let own = [over("503", "ERR"), over("409", "OK"), over("500", "THR")].into();
        let own = HttpStatuses::new(&own).unwrap();
        assert_eq!(own.of(503, Some("5"), now), refused(Class::Failed));
        assert_eq!(own.of(409, None, now), Status::Accepted);
        assert_eq!(own.of(500, Some("9"), now), wait(9));
        assert_eq!(own.of(502, None, now), refused(Class::Failed));
        for bad in ["5xx", "", "99", "1000", "0503", "+50", "ESME_ROK"] {
            assert_eq!(HttpStatuses::new(&[over(bad, "ERR")].into()).unwrap_err(), bad);
        }
    }
}
