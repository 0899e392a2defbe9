//! From the text of a value to its type: pure functions that say what they expected.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::alert::Phone;
use crate::queue::Age;

/// What a parser says of a text that it can not use.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wrong {
    /// Ends the sentence "expected …".
    pub(super) expected: String,
    /// The part of the text that is wrong; `None`: all of it.
    pub(super) part: Option<Range<usize>>,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

pub(super) type Parsed<T> = Result<T, Wrong>;

pub(super) fn wrong<T>(expected: impl Into<String>) -> Parsed<T> {
    Err(Wrong { expected: expected.into(), ..Wrong::default() })
}

/// The name among `known` that `name` was most likely meant to be: at most a third of it mistyped.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    if name.len() > 64 {
        return None;
    }
    let far = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|k| (strsim::osa_distance(&name, &k.to_lowercase()), k))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// A piece of the file as a message may hold it: at most 60 bytes, nothing that a terminal would obey.
pub(super) fn clipped(text: &str) -> String {
    let mut text = text.to_owned();
    crate::telemetry::clip(&mut text, 60);
    text
}

/// A line of text.
pub(super) fn line(text: &str) -> Parsed<String> {
    if text.is_empty() || text.contains(char::is_control) {
        return wrong("one line of text");
    }
    Ok(text.to_owned())
}

/// A line of text in which spaces at the ends count if quotes stand around it; may be empty.
pub(super) fn quoted(text: &str) -> Parsed<String> {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if inner.contains(char::is_control) || inner.chars().count() > 80 {
        return wrong("one line of at most 80 characters");
    }
    Ok(inner.to_owned())
}

/// One word: a user name, a mail address, a host.
pub(super) fn word(text: &str) -> Parsed<String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("one word without spaces");
    }
    Ok(text.to_owned())
}

/// A path, as it stands.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    line(text).map(PathBuf::from).or_else(|_| wrong("a path"))
}

/// Python's booleans.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => wrong("yes or no"),
    }
}

/// One of the words, whatever their case.
pub(super) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&str) -> Parsed<T> {
    move |text| {
        if let Some((_, value)) = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let hint = nearest(text, words.iter().map(|(w, _)| *w)).map(|w| format!("did you mean {w:?}?"));
        let words: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        Err(Wrong { expected: or(&words), part: None, hint })
    }
}

/// `a, b or c`.
pub(super) fn or(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// A whole number within bounds.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    move |text| match text.parse::<T>() {
        Ok(n) if range.contains(&n) => Ok(n),
        _ => wrong(format!("a whole number from {} to {}", range.start(), range.end())),
    }
}

/// A number within bounds, decimals allowed.
pub(super) fn decimal(range: RangeInclusive<f64>) -> impl Fn(&str) -> Parsed<f64> {
    move |text| match number(text) {
        Some(n) if range.contains(&n) => Ok(n),
        _ => wrong(format!("a number from {} to {}", range.start(), range.end())),
    }
}

/// Seconds, decimals allowed, or `250ms`, `30s`, `5m`, `1h`, `2d`; within bounds.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (count, unit) = text.split_at(unit_at);
        let unit = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => DAY,
            _ => f64::NAN,
        };
        let seconds = number(count.trim_end()).unwrap_or(f64::NAN) * unit;
        match Duration::try_from_secs_f64(seconds) {
            Ok(d) if range.contains(&d) => Ok(d),
            Ok(_) => wrong(format!("{} to {}", show(*range.start()), show(*range.end()))),
            Err(_) => wrong("seconds, or a number with ms, s, m, h or d, such as 30, 1.5 or 5m"),
        }
    }
}

/// `5/s`, `30/m`, `100/h`: how many per second.
pub(super) fn rate(text: &str) -> Parsed<f64> {
    let per_second = text.split_once('/').and_then(|(count, unit)| {
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Some(number(count.trim())? / seconds)
    });
    match per_second {
        Some(r) if r > 0.0 && r <= 1e6 => Ok(r),
        _ => wrong("more than 0 per second, minute or hour, such as 5/s, 30/m or 100/h"),
    }
}

/// Items with commas or line ends between them. Empty ones do not count.
pub(super) fn list<T>(item: impl Fn(&str) -> Parsed<T>) -> impl Fn(&str) -> Parsed<Vec<T>> {
    move |text| {
        let mut items = Vec::new();
        let mut at = 0;
        for piece in text.split([',', '\n']) {
            let trimmed = piece.trim();
            let start = at + piece.len() - piece.trim_start().len();
            at += piece.len() + 1;
            if !trimmed.is_empty() {
                let part = Some(start..start + trimmed.len());
                items.push(item(trimmed).map_err(|w| Wrong { part, ..w })?);
            }
        }
        Ok(items)
    }
}

/// A number that can be texted.
pub(super) fn phone(text: &str) -> Parsed<Phone> {
    Phone::parse(text).or_else(|_| wrong("a phone number such as +4799999999"))
}

/// How numbers may begin, in the form in which a [`Phone`] is compared.
pub(super) fn prefix(text: &str) -> Parsed<String> {
    let cleaned: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '(' | ')' | '.')).collect();
    let digits = cleaned.strip_prefix('+').unwrap_or(&cleaned);
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return wrong("how phone numbers begin, such as +47");
    }
    Ok(cleaned)
}

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

/// For people: `30 s`, `1.5 s`, `250 ms`, `2 h`.
pub(super) fn show(d: Duration) -> String {
    let s = d.as_secs_f64();
    match d.as_secs() {
        0 if d.is_zero() => "0".to_owned(),
        0 => format!("{} ms", s * 1000.0),
        whole if whole % 86_400 == 0 => format!("{} d", whole / 86_400),
        whole if whole % 3600 == 0 => format!("{} h", whole / 3600),
        whole if whole % 60 == 0 => format!("{} m", whole / 60),
        _ => format!("{s} s"),
    }
}

const CLOCK: &str = "hh:mm";
const DAY: f64 = 86_400.0;
const MONTH: f64 = 30.0 * DAY;
/// Twelve months are a year of 365.25 days, as PostgreSQL's `extract(epoch …)` has it.
const YEAR: f64 = 365.25 * DAY;
/// What is older than this was not meant.
const AGE_MAX: Duration = Duration::from_secs(1000 * 366 * 86_400);

/// Decimal digits with at most one point: what Rust and Python, which know `1e3`, `inf` and `1_0`, agree on.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

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
    fn durations() {
        let parse = duration(Duration::ZERO..=Duration::from_secs(86_400));
        for (text, seconds) in [
            ("0", 0.0),
            ("30", 30.0),
            ("1.5", 1.5),
            ("250ms", 0.25),
            ("30s", 30.0),
            ("30 s", 30.0),
            ("5m", 300.0),
            ("1.5h", 5400.0),
            ("1d", 86_400.0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in
            ["", "s", "-1", "+1", "1e3", "inf", "nan", ".5", "1..2", "1_0", "5 minutes", "1h30m", "2d", "٣"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

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

    #[test]
    fn rates_are_per_second() {
        for (text, per_second) in [("5/s", 5.0), ("30/m", 0.5), ("36 / h", 0.01), ("0.5/s", 0.5)] {
            assert_eq!(rate(text), Ok(per_second), "{text}");
        }
        for text in ["5", "0/s", "-1/s", "5/d", "/s", "5/", "1e9/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn booleans_are_pythons() {
        for (text, want) in
            [("yes", true), ("On", true), ("1", true), ("TRUE", true), ("off", false), ("0", false)]
        {
            assert_eq!(boolean(text), Ok(want));
        }
        assert!(boolean("y").is_err() && boolean("").is_err());
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["delay", "delayfactor", "maxdelay", "deny"];
        for (name, want) in [
            ("dealy", Some("delay")),
            ("Delay", Some("delay")),
            ("delay_factor", Some("delayfactor")),
            ("dely", Some("delay")),
            ("password", None),
            ("x", None),
        ] {
            assert_eq!(nearest(name, known), want, "{name}");
        }
    }

    #[test]
    fn lists_say_which_item_is_wrong() {
        assert_eq!(list(prefix)(" +47, ,(08)\n 1-2,"), Ok(vec!["+47".into(), "08".into(), "12".into()]));
        let text = "+47,\n  +4x , 1";
        let part = list(prefix)(text).unwrap_err().part.unwrap();
        assert_eq!(&text[part], "+4x");
    }
}
