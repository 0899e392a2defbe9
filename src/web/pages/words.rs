//! How things are said on a page: times, spans, counts, states with their shape, and what others wrote.
//!
//! What is foreign (a number, a text, a gateway's answer, a name) goes through [`foreign`] and nothing else: it is escaped,
//! kept apart from the direction of what stands around it, cut, and what can not be seen in it is shown.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use crate::alert::{Reason, Severity};
use crate::queue::{AlertState, AttemptRow, AttemptState};

/// How good or bad something is. Each has a shape of its own, so that nobody needs colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Somebody should look.
    Warn,
    /// Something is broken or lost.
    Bad,
    /// Neither.
    Idle,
}

impl Tone {
    /// The class for the style sheet, and the end of the symbol's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Busy => "busy",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
            Tone::Idle => "idle",
        }
    }

    /// Its shape, from [`symbols`].
    pub(super) fn icon(self) -> Markup {
        html! { svg.icon.(self.as_str()) viewBox="0 0 16 16" aria-hidden="true" { use href={ "#i-" (self.as_str()) } {} } }
    }
}

/// The shapes, once on each page: a check, a clock, a triangle, an octagon, a ring.
pub(super) fn symbols() -> Markup {
    html! {
        svg.symbols width="0" height="0" aria-hidden="true" {
            symbol id="i-good" viewBox="0 0 16 16" {
                circle cx="8" cy="8" r="7.5" fill="currentColor" {}
                path d="m4.5 8.3 2.4 2.4 4.6-5" fill="none" stroke="var(--on)" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" {}
            }
            symbol id="i-busy" viewBox="0 0 16 16" {
                circle cx="8" cy="8" r="6.6" fill="none" stroke="currentColor" stroke-width="1.6" {}
                path d="M8 4.4V8l2.4 1.6" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" {}
            }
            symbol id="i-warn" viewBox="0 0 16 16" {
                path d="M8 .9 15.6 14.6H.4z" fill="currentColor" stroke="currentColor" stroke-width=".8" stroke-linejoin="round" {}
                path d="M8 5.6v4.2M8 12.1v.1" fill="none" stroke="var(--on)" stroke-width="1.7" stroke-linecap="round" {}
            }
            symbol id="i-bad" viewBox="0 0 16 16" {
                path d="M5 .7h6L15.3 5v6L11 15.3H5L.7 11V5z" fill="currentColor" {}
                path d="m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2" fill="none" stroke="var(--on)" stroke-width="1.8" stroke-linecap="round" {}
            }
            symbol id="i-idle" viewBox="0 0 16 16" {
                circle cx="8" cy="8" r="6.6" fill="none" stroke="currentColor" stroke-width="1.6" {}
                path d="M5 8h6" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" {}
            }
        }
    }
}

/// A word with its shape.
pub(super) fn state(tone: Tone, word: &str) -> Markup {
    html! { span class={ "state " (tone.as_str()) } { (tone.icon()) span { (word) } } }
}

/// Where an alert stands.
pub(super) fn alert_state(state: AlertState, reason: Option<Reason>) -> (Tone, &'static str) {
    match (state, reason) {
        (AlertState::Waiting, _) => (Tone::Busy, "waiting"),
        (AlertState::InDoubt, _) => (Tone::Warn, "in doubt"),
        (AlertState::Held, _) => (Tone::Warn, "held"),
        (AlertState::Sent, _) => (Tone::Good, "sent"),
        (AlertState::Ignored, Some(Reason::Squeezed)) => (Tone::Idle, "squeezed out"),
        (AlertState::Ignored, Some(Reason::Cancelled)) => (Tone::Idle, "cancelled"),
        (AlertState::Ignored, Some(Reason::Expired)) => (Tone::Bad, "expired"),
        (AlertState::Ignored, Some(Reason::Rejected)) => (Tone::Bad, "refused"),
        (AlertState::Ignored, Some(Reason::RetryLimit)) => (Tone::Bad, "given up"),
        (AlertState::Ignored, None) => (Tone::Idle, "ignored"),
    }
}

/// How an attempt ended, or where it stands.
pub(super) fn outcome(attempt: &AttemptRow) -> (Tone, &'static str) {
    match (attempt.state, attempt.delivery.as_deref()) {
        (AttemptState::Accepted, Some("delivered")) => (Tone::Good, "delivered"),
        (AttemptState::Accepted, Some("undelivered")) => (Tone::Bad, "not delivered"),
        (AttemptState::Accepted, _) => (Tone::Good, "accepted"),
        (AttemptState::Open, _) => (Tone::Busy, "on its way"),
        (AttemptState::InDoubt, _) => (Tone::Warn, "in doubt"),
        (AttemptState::Held, _) => (Tone::Warn, "held"),
        (AttemptState::Failed, _) => (Tone::Bad, "failed"),
        (AttemptState::Rejected, _) => (Tone::Bad, "refused"),
        (AttemptState::Resent, _) => (Tone::Warn, "doubt, resent"),
        (AttemptState::Cancelled, _) => (Tone::Idle, "cancelled"),
    }
}

/// What others wrote, at most `max` characters of it on one line.
pub(super) fn foreign(text: &str, max: usize) -> Markup {
    html! { bdi { (visible(text, max, false)) } }
}

/// The same with its lines.
pub(super) fn foreign_lines(text: &str, max: usize) -> Markup {
    html! { bdi.lines { (visible(text, max, true)) } }
}

fn visible(text: &str, max: usize, lines: bool) -> Markup {
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    let (shown, cut) = (text.get(..end).unwrap_or_default(), end < text.len());
    let odd = |c: char| is_hidden(c) && !(lines && c == '\n');
    html! {
        @for part in shown.split_inclusive(odd) {
            @match part.chars().next_back().filter(|c| odd(*c)) {
                Some(c) => {
                    (part.strip_suffix(c).unwrap_or_default())
                    span.odd { (name_of(c)) }
                }
                None => (part),
            }
        }
        @if cut { span.cut { "…" } }
    }
}

/// True for what moves a cursor, turns the direction of reading, or can not be seen.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn name_of(c: char) -> String {
    match c {
        '\n' => "LF".to_owned(),
        '\r' => "CR".to_owned(),
        '\t' => "TAB".to_owned(),
        '\0' => "NUL".to_owned(),
        '\u{1a}' => "SUB".to_owned(),
        '\u{1b}' => "ESC".to_owned(),
        c => format!("U+{:04X}", u32::from(c)),
    }
}

/// A moment, as briefly as it is clear: `03:12:09` today, else with its date.
pub(super) fn moment(t: Timestamp, now: Timestamp) -> Markup {
    clock(t, now, "%H:%M:%S")
}

/// The same to the minute.
pub(super) fn minute(t: Timestamp, now: Timestamp) -> Markup {
    clock(t, now, "%H:%M")
}

fn clock(t: Timestamp, now: Timestamp, format: &str) -> Markup {
    html! { time datetime=(iso(t)) { (words(t, now, format)) } }
}

/// [`minute`] without markup.
pub(super) fn minute_words(t: Timestamp, now: Timestamp) -> String {
    words(t, now, "%H:%M")
}

fn words(t: Timestamp, now: Timestamp, format: &str) -> String {
    let zone = TimeZone::system();
    let (t, now) = (t.to_zoned(zone.clone()), now.to_zoned(zone));
    let day = match t.date() == now.date() {
        true => "",
        false if t.year() == now.year() => "%-d %b ",
        false => "%Y-%m-%d ",
    };
    t.strftime(&format!("{day}{format}")).to_string()
}

/// For programs that read the page.
pub(super) fn iso(t: Timestamp) -> String {
    t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The name of the zone of all times on the page.
pub(super) fn zone(now: Timestamp) -> String {
    now.to_zoned(TimeZone::system()).strftime("%Z").to_string()
}

/// A span as people say it: `230 ms`, `4.2 s`, `12 min`, `3 h 20 min`, `2 d 4 h`.
pub(super) fn span(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..=0 => format!("{} ms", millis.max(0)),
        1..60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// How long ago, in whole seconds at least: `2 s`, `12 min`.
pub(super) fn ago(t: Timestamp, now: Timestamp) -> String {
    let millis = now.as_millisecond() - t.as_millisecond();
    match millis {
        ..60_000 => format!("{} s", (millis / 1000).max(0)),
        _ => span(millis),
    }
}

/// `1 alert`, `1,200 alerts`.
pub(super) fn count(n: u64, noun: &str) -> String {
    let plural = match noun {
        "SMS" => "",
        _ if n == 1 => "",
        _ => "s",
    };
    format!("{} {noun}{plural}", number(n))
}

/// With commas between thousands.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `99.2 %`; never 100 for what is less.
pub(super) fn percent(share: f64) -> String {
    let tenths = (share * 1000.0).floor() / 10.0;
    if tenths >= 100.0 { "100 %".to_owned() } else { format!("{tenths:.1} %") }
}

/// A severity, for a narrow place.
pub(super) fn severity(severity: Severity) -> String {
    severity.0.map_or_else(|| "none".to_owned(), |s| s.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_escaped_and_what_is_hidden_in_it_is_shown() {
        let shown = foreign("<b onx=\"1\">&'\u{202e}a\r\n\0", 100).into_string();
        assert_eq!(
            shown,
            "<bdi>&lt;b onx=&quot;1&quot;&gt;&amp;'<span class=\"odd\">U+202E</span>a<span class=\"odd\">CR</span>\
             <span class=\"odd\">LF</span><span class=\"odd\">NUL</span></bdi>"
        );
        assert_eq!(foreign("æøå", 2).into_string(), "<bdi>æø<span class=\"cut\">…</span></bdi>");
        assert_eq!(foreign_lines("a\nb", 9).into_string(), "<bdi class=\"lines\">a\nb</bdi>");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(
            [number(0), number(999), number(1_000), number(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([count(1, "alert"), count(2, "alert"), count(2, "SMS")], ["1 alert", "2 alerts", "2 SMS"]);
        assert_eq!(
            [percent(1.0), percent(0.9999), percent(0.5), percent(0.0)],
            ["100 %", "99.9 %", "50.0 %", "0.0 %"]
        );
    }
}
