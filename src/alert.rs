//! The alert: what waits, for whom, and how severe it is. Reading starts here.
//!
//! An alert is immutable once read. What becomes of it is a [`Verdict`], and the
//! queue alone writes that down. Nothing here knows of SMS, dispatchers or databases.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The key of an alert in its queue (NAV: `smsq.id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct AlertId(pub i64);

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How severe an alert is: 1 is most severe; none is least severe of all.
///
/// The order is that of urgency: the most severe comes first. Any integer that a database
/// may hold is taken as it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Option<i32>)]
pub struct Severity(pub Option<i32>);

impl Severity {
    /// True if this alert is as severe as `bound` or more so. No bound reaches an alert without severity.
    pub fn at_least(self, bound: i32) -> bool {
        self.0.is_some_and(|s| s <= bound)
    }
}

impl Ord for Severity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |s: &Severity| s.0.map_or(i64::MAX, i64::from);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Severity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// One queued row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Its key in the queue.
    pub id: AlertId,
    /// The recipient exactly as the queue holds it; [`Phone::parse`] judges it.
    pub phone: String,
    /// What a human or a program wrote; never trusted, never interpreted.
    pub text: String,
    /// How severe it is.
    pub severity: Severity,
    /// When it was queued, by the queue's clock.
    pub queued_at: Timestamp,
    /// An earlier attempt may have reached the phone: whatever carries this alert next is
    /// recorded as a possible duplicate.
    pub maybe_sent: bool,
    /// What has come of it so far.
    pub tried: Tried,
}

/// What the ledger says of an alert's attempts, whoever made them. What came before a person made it wait again does not
/// count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// How many there were, as they are numbered.
    pub attempts: u32,
    /// Those that failed by the recipient's own fault: what `retrylimit` bounds.
    pub failures: u32,
    /// How long ago the last of these was.
    pub failed: Option<Duration>,
    /// How long ago each attempt within the last hour ended that carried it and may have been taken; the oldest first.
    pub copies: Vec<Duration>,
}

/// A recipient: a phone number in the form in which it is compared, stored and sent.
///
/// Spaces and `-().` are removed; what remains is `+` or nothing, then 3 to 15 digits
/// (ITU-T E.164 allows 15; short codes have as few as 3). The leading `+` is kept as it was:
/// `+47…` and `0047…` stay two recipients, since only a dispatcher knows the country that it stands in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Phone(Arc<str>);

impl Phone {
    /// Judges a number from outside.
    ///
    /// # Errors
    /// [`PhoneError`] says what is wrong with it; the alert is then rejected with that reason.
    pub fn parse(raw: &str) -> Result<Phone, PhoneError> {
        let digits = |group: &str| group.chars().filter(char::is_ascii_digit).count();
        if raw.contains('.') && raw.split('.').any(|group| digits(group) < 2) {
            // The point of a decimal number, which is no part of a phone's.
            return Err(PhoneError::Character('.'));
        }
        if raw.contains("(0)") {
            return Err(PhoneError::Trunk);
        }
        let cleaned: String = raw.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.')).collect();
        let digits = cleaned.strip_prefix('+').unwrap_or(&cleaned);
        if cleaned.starts_with("+0") {
            return Err(PhoneError::Country);
        }
        if digits.is_empty() {
            return Err(PhoneError::Empty);
        }
        if let Some(odd) = digits.chars().find(|c| !c.is_ascii_digit()) {
            return Err(PhoneError::Character(odd));
        }
        if !(3..=15).contains(&digits.len()) {
            return Err(PhoneError::Length(digits.len()));
        }
        Ok(Phone(cleaned.into()))
    }

    /// The number as it goes out.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits by which two spellings may reach one phone: without the `+` or the `00` before a country. A gateway
    /// that wants digits alone is given the same for all of them.
    pub fn digits(&self) -> &str {
        digits(&self.0)
    }

    /// The other spellings with the same [`Phone::digits`]; none of a short number, which is of one network.
    pub fn others(&self) -> impl Iterator<Item = Phone> {
        let digits = self.digits();
        let known = if digits.len() < LONG { &[][..] } else { &["+", "00", ""][..] };
        let spelled = known.iter().filter_map(move |before| Phone::parse(&format!("{before}{digits}")).ok());
        spelled.filter(move |other| other != self)
    }

    /// Does it begin with this prefix, with the country's code written in the same way, or with `00` for `+`?
    pub fn begins(&self, prefix: &str) -> bool {
        let country = |text: &str| text.starts_with('+') || text.starts_with("00");
        match (country(&self.0), country(prefix)) {
            (true, true) => self.digits().starts_with(digits(prefix)),
            _ => self.0.starts_with(prefix),
        }
    }

    /// May it be a number that begins with this prefix, however it is spelled?
    pub fn may_begin(&self, prefix: &str) -> bool {
        self.begins(prefix) || (self.digits().len() >= LONG && self.digits().starts_with(digits(prefix)))
    }
}

/// From so many digits on, a number without a sign for that may begin with a country's code.
const LONG: usize = 8;

fn digits(text: &str) -> &str {
    text.strip_prefix('+').or_else(|| text.strip_prefix("00")).unwrap_or(text)
}

impl FromStr for Phone {
    type Err = PhoneError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Phone::parse(s)
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a number can not be texted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// Nothing was left after the punctuation was removed.
    #[error("no digits; expected a number such as +4799999999")]
    Empty,
    /// A character that no number has.
    #[error("{0:?} is not a digit; expected a number such as +4799999999")]
    Character(char),
    /// In `+44 (0)20 …` the 0 is dialled only where no country stands before it: which is meant can not be known.
    #[error(
        "(0) is dialled without the country, or the country without it; expected a number such as +4799999999"
    )]
    Trunk,
    /// No country's code begins with 0.
    #[error("a country's code does not begin with 0; expected a number such as +4799999999")]
    Country,
    /// Too short for a short code or too long for E.164.
    #[error("{0} digits; expected 3 to 15")]
    Length(usize),
}

/// What becomes of an alert when its attempt is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// An SMS that carries it was accepted.
    Sent,
    /// It will not be sent, for this reason.
    Ignored(Reason),
    /// It waits on.
    Waits,
}

/// Why an alert was ignored. The words stand in the ledger and in `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It did not fit the SMS, which counted it (`+N see web.`).
    Squeezed,
    /// A person cancelled it.
    Cancelled,
    /// It grew older than `autocancel`.
    Expired,
    /// Every dispatcher refused the number or the text, or the number is none.
    Rejected,
    /// The recipient failed `retrylimit` times.
    RetryLimit,
}

impl Reason {
    /// All reasons, for metrics that exist from the start.
    pub const ALL: [Reason; 5] =
        [Reason::Squeezed, Reason::Cancelled, Reason::Expired, Reason::Rejected, Reason::RetryLimit];

    /// The word that stands in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Squeezed => "squeezed",
            Reason::Cancelled => "cancelled",
            Reason::Expired => "expired",
            Reason::Rejected => "rejected",
            Reason::RetryLimit => "retry_limit",
        }
    }

    /// Reads the word back; `None` for a word that this version does not know.
    pub fn from_word(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Squeezed => "squeezed out (+N see web)",
            Reason::Cancelled => "cancelled",
            Reason::Expired => "expired",
            Reason::Rejected => "rejected",
            Reason::RetryLimit => "retry limit reached",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_severe_first_and_none_last() {
        let mut all = [Severity(None), Severity(Some(5)), Severity(Some(1)), Severity(Some(i32::MAX))];
        all.sort();
        assert_eq!(all, [Severity(Some(1)), Severity(Some(5)), Severity(Some(i32::MAX)), Severity(None)]);
        assert!(!Severity(None).at_least(i32::MAX));
        assert!(Severity(Some(1)).at_least(1) && !Severity(Some(2)).at_least(1));
    }

    #[test]
    fn numbers_are_normalised_or_refused_with_the_reason() {
        for (raw, want) in
            [("+47 (999) 99-99.9 9", "+47999999999"), ("112", "112"), ("004799999999", "004799999999")]
        {
            assert_eq!(Phone::parse(raw).unwrap().as_str(), want);
        }
        for (raw, why) in [
            ("", PhoneError::Empty),
            ("+", PhoneError::Empty),
            ("+47 abc; DROP", PhoneError::Character('a')),
            ("4793&msg=pwn", PhoneError::Character('&')),
            ("++47999", PhoneError::Character('+')),
            ("٠١٢٣", PhoneError::Character('٠')),
            ("12", PhoneError::Length(2)),
            ("4790000001.0", PhoneError::Character('.')),
            ("+47 (0) 900 00 001", PhoneError::Trunk),
            ("+000", PhoneError::Country),
            ("+0047 900 00 001", PhoneError::Country),
            ("1234567890123456", PhoneError::Length(16)),
        ] {
            assert_eq!(Phone::parse(raw).unwrap_err(), why, "{raw}");
        }
    }

    #[test]
    fn reasons_read_back() {
        for r in Reason::ALL {
            assert_eq!(Reason::from_word(r.as_str()), Some(r));
        }
        assert_eq!(Reason::from_word("?"), None);
    }
}
