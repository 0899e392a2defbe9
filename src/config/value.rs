//! From the text of a value to its type: pure functions that say what they expected.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::alert::Phone;

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

/// A piece of the file as a message may hold it: one line, for what an indented line brings into a value may be
/// a secret; at most 60 bytes; nothing that a terminal would obey.
pub(super) fn clipped(text: &str) -> String {
    let (line, more) = text.split_once('\n').map_or((text, ""), |(line, _)| (line, "…"));
    let mut text = format!("{line}{more}");
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
            "d" => 86_400.0,
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

/// Decimal digits with at most one point: what Rust and Python, which know `1e3`, `inf` and `1_0`, agree on.
pub(super) fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.starts_with(|c: char| c.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
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
