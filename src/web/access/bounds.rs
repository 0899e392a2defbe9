//! What a token may hand in, where that is less than anything: through which webhooks, how severe, to whom, how much, and
//! until when.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::alert::Phone;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// `send:NAME`: only these webhooks may be posted to, and nothing else is handed in; none named: all.
    pub webhooks: BTreeSet<String>,
    /// `severity=N`: what is handed in as more severe than that is queued as that severe.
    pub severity: Option<i32>,
    /// `to=NUMBER`, `to=group:NAME`: only these may be told, as written; none named: all.
    pub to: Vec<String>,
    /// `rate=30/m`: alerts per second.
    pub rate: Option<f64>,
    /// `until=2027-06-30`: the last day, in UTC.
    pub until: Option<Date>,
}

impl Bounds {
    /// True if nothing bounds what is handed in.
    pub fn are_none(&self) -> bool {
        Bounds { until: None, ..self.clone() } == Bounds::default()
    }

    /// Is the last day over?
    pub fn are_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|last| now.to_zoned(TimeZone::UTC).date() > last)
    }

    /// May this webhook be posted to? `None`: what is no webhook.
    pub fn admit(&self, webhook: Option<&str>) -> bool {
        self.webhooks.is_empty() || webhook.is_some_and(|name| self.webhooks.contains(name))
    }

    /// The first of these that is not among those who may be told.
    pub fn stranger<'p>(allowed: &[Phone], phones: impl IntoIterator<Item = &'p Phone>) -> Option<&'p Phone> {
        let allowed: BTreeSet<&str> = allowed.iter().map(Phone::digits).collect();
        phones.into_iter().find(|phone| !allowed.contains(phone.digits()))
    }
}

/// As they are written, each behind a space.
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.severity.map_or(Ok(()), |severity| write!(f, " severity={severity}"))?;
        self.to.iter().try_for_each(|to| write!(f, " to={to}"))?;
        match self.rate {
            Some(rate) if rate >= 1.0 => write!(f, " rate={}/s", round(rate))?,
            Some(rate) if rate * 60.0 >= 1.0 => write!(f, " rate={}/m", round(rate * 60.0))?,
            Some(rate) => write!(f, " rate={}/h", round(rate * 3600.0))?,
            None => {}
        }
        self.until.map_or(Ok(()), |until| write!(f, " until={until}"))
    }
}

/// What was written as a number of a minute or an hour comes back as such.
fn round(rate: f64) -> f64 {
    (rate * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_day_is_over_with_it() {
        let bounds = Bounds { until: Some(jiff::civil::date(2027, 6, 30)), ..Bounds::default() };
        let over = |at: &str| bounds.are_over(at.parse().unwrap());
        assert!(!over("2027-06-30T23:59:59Z") && over("2027-07-01T00:00:00Z"));
        assert!(bounds.are_none() && !Bounds::default().are_over(Timestamp::MAX));
    }

    #[test]
    fn they_read_as_they_are_written() {
        let bounds = Bounds {
            severity: Some(3),
            to: vec!["group:noc".into(), "+4790000001".into()],
            rate: Some(100.0 / 3600.0),
            until: Some(jiff::civil::date(2027, 6, 30)),
            ..Bounds::default()
        };
        assert_eq!(
            bounds.to_string(),
            " severity=3 to=group:noc to=+4790000001 rate=1.666667/m until=2027-06-30"
        );
        let rate = |rate| Bounds { rate: Some(rate), ..Bounds::default() }.to_string();
        assert_eq!([rate(0.5), rate(2.0), rate(36.0 / 3600.0)], [" rate=30/m", " rate=2/s", " rate=36/h"]);
    }

    #[test]
    fn whoever_is_not_named_is_a_stranger_however_spelled() {
        let phone = |number: &str| Phone::parse(number).unwrap();
        let allowed = [phone("+4790000001"), phone("112")];
        let told = [phone("004790000001"), phone("112"), phone("+4790000002")];
        assert_eq!(Bounds::stranger(&allowed, &told), Some(&told[2]));
        assert_eq!(Bounds::stranger(&allowed, &told[..2]), None);
    }
}
