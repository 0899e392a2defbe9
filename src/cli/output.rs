//! How records are shown: tables and colour for people, exact JSON for programs.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, Row};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::queue::{AlertState, AttemptState};
use crate::telemetry::{acts_on_a_terminal, clip};

/// Writes one value as one line of JSON to stdout.
pub(crate) fn json(value: &(impl Serialize + ?Sized)) -> anyhow::Result<()> {
    let mut line = tame(&serde_json::to_string(value)?);
    line.push('\n');
    Ok(print(&line)?)
}

/// The same JSON, with what a terminal would act on written as `\uXXXX`: such characters stand in strings alone.
fn tame(json: &str) -> String {
    let mut tamed = String::with_capacity(json.len());
    for c in json.chars() {
        if acts_on_a_terminal(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                tamed.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            tamed.push(c);
        }
    }
    tamed
}

/// Writes to stdout. A closed pipe is an error here, which ends the command quietly.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A table without borders: columns in capitals, then rows.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Table {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(columns.iter().map(|c| Cell::new(c.to_uppercase())));
        Table(table)
    }

    pub(crate) fn row(&mut self, cells: impl Into<Row>) {
        self.0.add_row(cells);
    }

    /// A row of one line. On a terminal the last cell, which is the text, is cut to what room the others leave it.
    pub(crate) fn line(&mut self, cells: impl Into<Row>) {
        let mut row = cells.into();
        row.max_height(1);
        self.wrapped(row);
    }

    /// A row of which only the last cell is given more lines, if it needs them.
    pub(crate) fn wrapped(&mut self, cells: impl Into<Row>) {
        self.0.add_row(cells);
        let others = self.0.column_count().saturating_sub(1);
        for column in self.0.column_iter_mut().take(others) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        print(&self.text())
    }

    pub(crate) fn text(&self) -> String {
        format!("{}\n", self.0.trim_fmt())
    }
}

/// A foreign string as it may be shown: one line, nothing that moves a cursor, at most `max` bytes.
pub(crate) fn shown(text: &str, max: usize) -> String {
    let mut text = text.to_owned();
    clip(&mut text, max);
    text
}

/// A time where the reader is.
pub(crate) fn time(t: Timestamp) -> String {
    t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The same to the millisecond.
pub(crate) fn moment(t: Timestamp) -> String {
    t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// A span as people say it: `230 ms`, `4.2 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`.
pub(crate) fn span(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..=0 => format!("{} ms", millis.max(0)),
        1..60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// The time from one moment to another.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> String {
    span(to.as_millisecond() - from.as_millisecond())
}

/// How long ago, in its largest unit: `4 s`, `12 min`, `3 h`, `2 d`. A clock that was set back makes nothing younger
/// than now.
pub(crate) fn age(from: Timestamp, to: Timestamp) -> String {
    let seconds = to.as_second().saturating_sub(from.as_second());
    match seconds {
        ..60 => format!("{} s", seconds.max(0)),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// `1 alert`, `2 alerts`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// True if what goes to stdout may be coloured.
pub(crate) fn colour_on_stdout() -> bool {
    wants_colour() && io::stdout().is_terminal()
}

/// True if what goes to stderr may be coloured.
pub(crate) fn colour_on_stderr() -> bool {
    wants_colour() && io::stderr().is_terminal()
}

/// A word in a cell, in the colour of good, pending or bad.
pub(crate) fn tinted(word: &str, tint: Tint) -> Cell {
    let cell = Cell::new(word);
    if colour_on_stdout() { cell.fg(tint.into()) } else { cell }
}

/// How a word is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tint {
    Good,
    Pending,
    Bad,
}

impl From<Tint> for Color {
    fn from(t: Tint) -> Color {
        match t {
            Tint::Good => Color::Green,
            Tint::Pending => Color::Yellow,
            Tint::Bad => Color::Red,
        }
    }
}

impl From<AlertState> for Tint {
    fn from(s: AlertState) -> Tint {
        match s {
            AlertState::Sent => Tint::Good,
            AlertState::Waiting => Tint::Pending,
            AlertState::InDoubt | AlertState::Held | AlertState::Ignored => Tint::Bad,
        }
    }
}

impl From<AttemptState> for Tint {
    fn from(s: AttemptState) -> Tint {
        match s {
            AttemptState::Accepted => Tint::Good,
            AttemptState::Open | AttemptState::Resent => Tint::Pending,
            _ => Tint::Bad,
        }
    }
}

/// Text in a colour, where stdout shows colours.
pub(crate) fn paint(text: &str, tint: Tint) -> String {
    let code = match tint {
        Tint::Good => 32,
        Tint::Pending => 33,
        Tint::Bad => 31,
    };
    if colour_on_stdout() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// <https://no-color.org>: any value that is not empty means no.
fn wants_colour() -> bool {
    let set = |name| std::env::var_os(name).filter(|v| !v.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (millis, want) in [
            (-5, "0 ms"),
            (230, "230 ms"),
            (4_260, "4.2 s"),
            (725_000, "12 min 5 s"),
            (12_000_000, "3 h 20 min"),
            (187_200_000, "2 d 4 h"),
        ] {
            assert_eq!(span(millis), want);
        }
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_moves_no_cursor() {
        assert_eq!(shown("a\r\n\x1b[2Jb\u{202e}c", 100), r"a\r\n\u{1b}[2Jb\u{202e}c");
        assert_eq!(shown("æøå", 5), "æ…");
    }
}
