//! What gammu's codes mean: those of its library, and those of the network that it passes on.

use std::collections::BTreeMap;

use crate::dispatch::Class;
use crate::dispatch::status::{Meaning, Protocol, Row, Status, row, table};

/// A code of `class.CODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// `GSM_Error` of libGammu; the program ends with 100 more.
    Gammu(u32),
    /// `+CMS ERROR` (3GPP TS 27.005 §3.2.5).
    Cms(u32),
}

impl Code {
    /// Reads `14`, `ERR_TIMEOUT` or `CMS 38`, in any case; `None` if there is no such code.
    pub fn parse(text: &str) -> Option<Code> {
        let text = text.to_ascii_uppercase();
        let number = |digits: &str| {
            let plain = (1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok())?
        };
        if let Some(cms) = text.strip_prefix("CMS") {
            return number(cms.trim_start()).map(Code::Cms);
        }
        let mut rows = table().iter().filter(|row| row.protocol == Protocol::Gammu);
        let row = rows.find(|row| row.name == text || row.code == text)?;
        number(row.code).map(Code::Gammu)
    }

    /// What the table says of it.
    pub fn row(self) -> Option<&'static Row> {
        match self {
            Code::Gammu(code) => row(Protocol::Gammu, code),
            Code::Cms(code) => row(Protocol::GsmCms, code),
        }
    }
}

impl std::fmt::Display for Code {
    /// As it stands in the ledger, and as it may stand in `class.CODE`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, self.row()) {
            (Code::Gammu(_), Some(row)) => f.write_str(row.name),
            (Code::Gammu(code), None) => write!(f, "{code}"),
            (Code::Cms(code), _) => write!(f, "CMS {code}"),
        }
    }
}

/// The gammu and CMS parts of the table with one dispatcher's overrides.
#[derive(Clone, Debug, Default)]
pub struct Codes(BTreeMap<Code, Status>);

impl Codes {
    /// Takes the overrides of a configuration (`class.ERR_TIMEOUT: DTMP`).
    ///
    /// # Errors
    /// The first code that is none.
    pub fn new(overrides: &BTreeMap<String, Status>) -> Result<Codes, String> {
        let code = |key: &String| Code::parse(key).ok_or_else(|| key.clone());
        let all: Result<_, _> = overrides.iter().map(|(key, status)| Ok((code(key)?, *status))).collect();
        all.map(Codes)
    }

    /// What a code means. The table's own `OK` is none: of `ERR_NONE` gammu makes no failure, and a duplicate (CMS
    /// 197) is only what was asked to be refused as one, which we do not. The network's refusals that the table does
    /// not know are refusals all the same.
    pub fn of(&self, code: Code) -> Status {
        let by_table = || match (code, code.row().map(|row| row.meaning)) {
            (_, Some(Meaning::Answer(status @ Status::Refused(_)))) => status,
            (Code::Cms(_), None) => Status::Refused(Class::Failed),
            _ => Status::Refused(Class::Unknown),
        };
        self.0.get(&code).copied().unwrap_or_else(by_table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_they_are_shown() {
        for (text, code) in [
            ("14", Code::Gammu(14)),
            ("ERR_TIMEOUT", Code::Gammu(14)),
            ("err_timeout", Code::Gammu(14)),
            ("CMS 38", Code::Cms(38)),
            ("cms500", Code::Cms(500)),
        ] {
            assert_eq!(Code::parse(text), Some(code), "{text}");
        }
        for text in
            ["", "0", "82", "014", "+14", "ERR_", "ERR_TIMEOUTS", "CMS", "CMS -1", "CMS 123456", "104"]
        {
            assert_eq!(Code::parse(text), None, "{text}");
        }
        for code in (1..=81).map(Code::Gammu).chain((0..=1000).map(Code::Cms)) {
            assert_eq!(Code::parse(&code.to_string()), Some(code));
        }
    }

    #[test]
    fn overrides_come_before_the_table() {
        let own = [("err_timeout", "DTMP"), ("cms 500", "OK")];
        let own = own.map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap()));
        let codes = Codes::new(&own.into()).unwrap();
        assert_eq!(codes.of(Code::Gammu(14)), Status::Refused(Class::Unavailable));
        assert_eq!(codes.of(Code::Cms(500)), Status::Accepted);
        let table = Codes::default();
        assert_eq!(table.of(Code::Gammu(14)), Status::Refused(Class::Unknown));
        assert_eq!(table.of(Code::Cms(500)), Status::Refused(Class::Failed));
        assert_eq!(table.of(Code::Gammu(1)), Status::Refused(Class::Unknown));
        assert_eq!(table.of(Code::Cms(197)), Status::Refused(Class::Unknown));
        assert_eq!(table.of(Code::Cms(5)), Status::Refused(Class::Failed));
        assert_eq!(Codes::new(&[("5xx".to_string(), Status::Accepted)].into()).unwrap_err(), "5xx");
    }
}
