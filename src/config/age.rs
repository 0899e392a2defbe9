//! PostgreSQL's intervals, as `autocancel` is written.

use std::time::Duration;

use super::value::{Parsed, number, wrong};
use crate::queue::Age;

/// A PostgreSQL interval as people write it: quantities with units, `HH:MM[:SS]`, or ISO 8601 (`P1DT12H`);
/// `0` is none. What is accepted means the same to PostgreSQL (its manual, §8.5.4); its rarer forms
/// (`1-2`, `ago`, negative parts) are refused.
pub(super) fn age(text: &str) -> Parsed<Option<Age>> {
    let seconds = if text.starts_with('P') { iso_8601(text) } else { interval(text) };
    match seconds.map(Duration::try_from_secs_f64) {
        Some(Ok(Duration::ZERO)) => Ok(None),
        Some(Ok(duration)) if duration <= AGE_MAX => Ok(Some(Age { text: text.to_owned(), duration })),
        _ => wrong("a PostgreSQL interval such as 1 day 12 hours or 00:30:00, or 0 for none"),
    }
}

const CLOCK: &str = "hh:mm";
const DAY: f64 = 86_400.0;
const MONTH: f64 = 30.0 * DAY;
/// Twelve months are a year of 365.25 days, as PostgreSQL's `extract(epoch …)` has it.
const YEAR: f64 = 365.25 * DAY;
/// What is older than this was not meant.
const AGE_MAX: Duration = Duration::from_secs(1000 * 366 * 86_400);

fn interval(text: &str) -> Option<f64> {
    let mut months = 0.0;
    let mut seconds = 0.0;
    let mut used = Vec::new();
    let mut words = text.split_whitespace().flat_map(split_unit).peekable();
    words.peek()?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            if used.iter().any(|u| matches!(*u, "h" | "m" | "s")) {
                return None;
            }
            used.extend(["h", "m", "s", CLOCK]);
            seconds += clock(word)?;
            continue;
        }
        let count = number(word)?;
        let lower = words.peek().map(|w| w.to_ascii_lowercase());
        let unit = match lower.as_deref() {
            // A bare number is seconds, and days if a time of day follows (`1 12:00:00`).
            None => "s",
            Some(next) if next.contains(':') => "d",
            Some("us" | "usec" | "usecs" | "microsecond" | "microseconds") => "us",
            Some("ms" | "msec" | "msecs" | "millisecond" | "milliseconds") => "ms",
            Some("s" | "sec" | "secs" | "second" | "seconds") => "s",
            Some("m" | "min" | "mins" | "minute" | "minutes") => "m",
            Some("h" | "hr" | "hrs" | "hour" | "hours") => "h",
            Some("d" | "day" | "days") => "d",
            Some("w" | "week" | "weeks") => "w",
            Some("mon" | "mons" | "month" | "months") => "mon",
            Some("y" | "yr" | "yrs" | "year" | "years") => "y",
            Some(_) => return None,
        };
        // PostgreSQL refuses a unit that stands twice. It loses the rest of a broken week, and that of a
        // broken day behind a time of day.
        let class = if matches!(unit, "us" | "ms") { "s" } else { unit };
        let broken = count.fract() != 0.0 && matches!(unit, "w" | "d" | "mon" | "y");
        if used.contains(&class) || (broken && (unit == "w" || used.contains(&CLOCK))) {
            return None;
        }
        used.push(class);
        if lower.as_deref().is_some_and(|next| !next.contains(':')) {
            words.next();
        }
        match unit {
            "us" => seconds += count / 1e6,
            "ms" => seconds += count / 1e3,
            "s" => seconds += count,
            "m" => seconds += count * 60.0,
            "h" => seconds += count * 3600.0,
            "d" => seconds += count * DAY,
            "w" => seconds += count * 7.0 * DAY,
            "mon" => months += count,
            _ => months += (count * 12.0).round(),
        }
    }
    Some(seconds + calendar(months))
}

/// `P1DT12H`.
fn iso_8601(text: &str) -> Option<f64> {
    let span: jiff::Span = text.parse().ok().filter(|_| !text.contains(char::is_lowercase))?;
    let months = f64::from(span.get_years()) * 12.0 + f64::from(span.get_months());
    let days = f64::from(span.get_weeks()) * 7.0 + f64::from(span.get_days());
    let seconds = f64::from(span.get_hours()) * 3600.0
        + span.get_minutes() as f64 * 60.0
        + span.get_seconds() as f64
        + span.get_milliseconds() as f64 / 1e3
        + span.get_microseconds() as f64 / 1e6;
    Some(days * DAY + seconds + calendar(months))
}

/// Months, and what is less than one as days.
fn calendar(months: f64) -> f64 {
    let whole = months.trunc();
    (whole / 12.0).trunc() * YEAR + (whole % 12.0) * MONTH + (months - whole) * MONTH
}

/// `12:30`, `12:30:15.5`.
fn clock(word: &str) -> Option<f64> {
    let parts: Vec<&str> = word.split(':').collect();
    let whole = |s: &str| (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())).then(|| number(s))?;
    let (hours, minutes, seconds) = match parts[..] {
        [h, m] => (whole(h)?, whole(m)?, 0.0),
        [h, m, s] => (whole(h)?, whole(m)?, number(s)?),
        _ => return None,
    };
    (minutes < 60.0 && seconds < 60.0).then_some(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// `12h` is `12` and `h`.
fn split_unit(word: &str) -> impl Iterator<Item = &str> {
    let at =
        word.find(|c: char| c.is_ascii_alphabetic()).filter(|_| !word.contains(':')).unwrap_or(word.len());
    let (count, unit) = word.split_at(at);
    [count, unit].into_iter().filter(|s| !s.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_postgresqls() {
        const HOUR: f64 = 3600.0;
        for (text, seconds) in [
            ("1 day 12 hours", 36.0 * HOUR),
            ("12 HOURS 1 Day", 36.0 * HOUR),
            ("1d 12h", 36.0 * HOUR),
            ("00:30:00", 0.5 * HOUR),
            ("1:30", 1.5 * HOUR),
            ("100:00:00.5", 100.0 * HOUR + 0.5),
            ("1 12:00:00", 36.0 * HOUR),
            ("2 days 01:00", 49.0 * HOUR),
            ("1 week", 7.0 * 24.0 * HOUR),
            ("90", 90.0),
            ("1.5 hours", 1.5 * HOUR),
            ("1 mon", 30.0 * 24.0 * HOUR),
            ("1.5 months", 45.0 * 24.0 * HOUR),
            ("1 year", 365.25 * 24.0 * HOUR),
            ("14 months", (365.25 + 60.0) * 24.0 * HOUR),
            ("10 minutes 5.02 secs", 605.02),
            ("P1DT12H", 36.0 * HOUR),
            ("PT30M", 0.5 * HOUR),
        ] {
            let age = age(text).unwrap().unwrap();
            assert_eq!((age.text.as_str(), age.duration.as_secs_f64()), (text, seconds), "{text}");
        }
        for text in ["0", "0 days", "00:00", "PT0S"] {
            assert_eq!(age(text), Ok(None), "{text}");
        }
        for text in [
            "1 s 20 ms",
            "1 hour 00:30",
            "1.5 weeks",
            "1:30 1.5 days",
            "1d12h",
            "",
            "day",
            "1 dya",
            "two days",
            "-1 day",
            "1 day ago",
            "1-2",
            "1 day 1 day",
            "1:60",
            "1:2:3:4",
            ":30",
            "1 2 days",
            "01:00 02:00",
            "1e3 days",
            "P",
            "PT",
            "p1d",
            "2000 years",
            "1 day, 2 hours",
            "1 day\0",
        ] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
