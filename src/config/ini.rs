//! The INI dialect of Python's `configparser.RawConfigParser`, as NAV uses it (Python 3.11, default arguments).
//!
//! NAV's operators have files in this dialect, and it has corners: an indented line continues the value
//! above it whatever it looks like, an empty line belongs to a value, a comment does not; `[DEFAULT]` is
//! inherited; the second `[main]` is an error. No crate reads it exactly, so this is our own, held against the
//! real `python3` by `tests/config.rs`. There is no interpolation: `%` is a character like any other.
//!
//! Where Python stops at the first error, this reader goes on, so that a person hears of all of them at once.
//! What it returns beside an error is a guess that is good for nothing but finding more faults.

use std::collections::HashMap;
use std::ops::Range;

/// A file, read. It is in use only if `errors` is empty.
#[derive(Debug, Default)]
pub struct Ini {
    /// `[DEFAULT]`: what every section inherits.
    pub defaults: Vec<Entry>,
    /// The other sections in the order of the file.
    pub sections: Vec<Section>,
    /// What Python would have refused, in the order of the file; the first [`MAX_ERRORS`] of it.
    pub errors: Vec<Error>,
}

/// More errors than this help nobody.
pub const MAX_ERRORS: usize = 100;

/// `[name]` and what stands under it.
#[derive(Debug)]
pub struct Section {
    /// Between the brackets, to the letter.
    pub name: String,
    /// Where the header stands, brackets included.
    pub span: Range<usize>,
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

/// `key: value`.
#[derive(Debug)]
pub struct Entry {
    /// In lower case.
    pub key: String,
    /// Where the key stands.
    pub span: Range<usize>,
    /// What it is set to.
    pub value: Value,
}

/// A value of one or several lines.
#[derive(Debug, Default)]
pub struct Value {
    /// The lines without the space around each, joined by `\n`.
    pub text: String,
    /// Where each line of `text` stands in the file.
    lines: Vec<Range<usize>>,
}

impl Value {
    /// Where the part `range` of `text` stands in the file, as far as its first line goes.
    pub fn locate(&self, range: Range<usize>) -> Range<usize> {
        let mut start = 0;
        for (line, place) in self.text.split('\n').zip(&self.lines) {
            let end = start + line.len();
            if range.start <= end {
                return place.start + range.start.saturating_sub(start)
                    ..place.start + range.end.clamp(range.start, end).saturating_sub(start);
            }
            start = end + 1;
        }
        self.lines.first().cloned().unwrap_or(0..0)
    }

    /// Where the value stands: its first line that is not empty.
    pub fn span(&self) -> Range<usize> {
        let lead = self.text.len() - self.text.trim_start_matches('\n').len();
        self.locate(lead..self.text.len())
    }

    fn push(&mut self, line: &str, place: Range<usize>) {
        if !self.lines.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.lines.push(place);
    }
}

/// What Python refuses, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The piece of text that is.
    pub span: Range<usize>,
}

/// What Python refuses.
#[derive(Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bytes that are not UTF-8 (`UnicodeDecodeError`).
    NotUtf8,
    /// A byte order mark, which Python takes for text before the first section.
    ByteOrderMark,
    /// Text before the first section (`MissingSectionHeaderError`); told once.
    NoSection,
    /// Neither `:` nor `=` in the line (`ParsingError`).
    NoDelimiter,
    /// Nothing before the `:` or `=` (`ParsingError`).
    NoKey,
    /// The section stood already (`DuplicateSectionError`), here.
    DuplicateSection(Range<usize>),
    /// The key stood already in this section (`DuplicateOptionError`), here.
    DuplicateKey(Range<usize>),
}

/// Bytes to text as Python's text mode has it: UTF-8, every line end a `\n`. All spans are in this text.
pub fn decode(bytes: &[u8]) -> (String, Option<Error>) {
    let unified = |s: &str| s.replace("\r\n", "\n").replace('\r', "\n");
    match std::str::from_utf8(bytes) {
        Ok(text) => (unified(text), None),
        Err(e) => {
            let good = bytes.get(..e.valid_up_to()).unwrap_or_default();
            let at = unified(&String::from_utf8_lossy(good)).len();
            let span = at..at + char::REPLACEMENT_CHARACTER.len_utf8();
            (unified(&String::from_utf8_lossy(bytes)), Some(Error { kind: ErrorKind::NotUtf8, span }))
        }
    }
}

/// Reads a text from [`decode`]. Never fails: see [`Ini::errors`].
pub fn parse(text: &str) -> Ini {
    let mut parser = Parser::default();
    let mut at = 0;
    if text.starts_with(BYTE_ORDER_MARK) {
        at = BYTE_ORDER_MARK.len_utf8();
        parser.error(ErrorKind::ByteOrderMark, 0..at);
    }
    for line in text.get(at..).unwrap_or_default().split_inclusive('\n') {
        parser.line(line, at);
        at += line.len();
    }
    parser.finish()
}

/// White space as Python's `str.strip` and `\s` have it: Unicode's, and four separators of old.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

const BYTE_ORDER_MARK: char = '\u{feff}';
const DEFAULT: &str = "DEFAULT";

#[derive(Default)]
struct Parser {
    /// `[DEFAULT]`, once it stood, is among them.
    sections: Vec<Section>,
    /// Name → place in `sections`.
    by_name: HashMap<String, usize>,
    /// Section and key → where the key stands.
    by_key: HashMap<(usize, String), Range<usize>>,
    /// The section that the next key belongs to.
    current: Option<usize>,
    /// What an indented line continues.
    open: Open,
    /// The indentation, in characters, that a continuation must exceed.
    indent: usize,
    errors: Vec<Error>,
}

#[derive(Default)]
enum Open {
    /// Nothing: an indented line is read like any other.
    #[default]
    Nothing,
    /// The last value of the current section.
    Value,
    /// A line that was an error; its continuations are no further errors.
    Faulty,
}

impl Parser {
    fn line(&mut self, line: &str, at: usize) {
        let body = line.trim_start_matches(is_space);
        let start = at + line.len() - body.len();
        let body = body.trim_end_matches(is_space);
        let span = start..start + body.len();

        if body.is_empty() {
            if let Some(value) = self.open_value() {
                value.push("", at..at);
            }
            return;
        }
        if body.starts_with(['#', ';']) {
            return;
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        if indent > self.indent {
            if let Some(value) = self.open_value() {
                value.push(body, span);
                return;
            }
            if matches!(self.open, Open::Faulty) {
                return;
            }
        }
        self.indent = indent;
        match (header(body), self.current) {
            (Some(name), _) => self.section(name, span),
            (None, Some(section)) => self.entry(section, body, span),
            (None, None) => {
                if !self.errors.iter().any(|e| e.kind == ErrorKind::NoSection) {
                    self.error(ErrorKind::NoSection, span);
                }
            }
        }
    }

    fn section(&mut self, name: &str, span: Range<usize>) {
        self.open = Open::Nothing;
        if let Some(&known) = self.by_name.get(name) {
            self.current = Some(known);
            if name != DEFAULT {
                let first = self.sections.get(known).map_or(0..0, |s| s.span.clone());
                self.error(ErrorKind::DuplicateSection(first), span);
            }
            return;
        }
        self.current = Some(self.sections.len());
        self.by_name.insert(name.to_owned(), self.sections.len());
        self.sections.push(Section { name: name.to_owned(), span, entries: Vec::new() });
    }

    fn entry(&mut self, section: usize, body: &str, span: Range<usize>) {
        self.open = Open::Faulty;
        let Some((key, rest)) = body.split_once([':', '=']) else {
            return self.error(ErrorKind::NoDelimiter, span);
        };
        let key = key.trim_end_matches(is_space);
        if key.is_empty() {
            return self.error(ErrorKind::NoKey, span);
        }
        let key_span = span.start..span.start + key.len();
        let key = key.to_lowercase();
        if let Some(first) = self.by_key.get(&(section, key.clone())) {
            let first = first.clone();
            return self.error(ErrorKind::DuplicateKey(first), key_span);
        }
        self.by_key.insert((section, key.clone()), key_span.clone());
        let text = rest.trim_start_matches(is_space);
        let mut value = Value::default();
        value.push(text, span.end - text.len()..span.end);
        if let Some(s) = self.sections.get_mut(section) {
            s.entries.push(Entry { key, span: key_span, value });
            self.open = Open::Value;
        }
    }

    fn open_value(&mut self) -> Option<&mut Value> {
        match self.open {
            Open::Value => {
                let section = self.sections.get_mut(self.current?)?;
                section.entries.last_mut().map(|e| &mut e.value)
            }
            Open::Nothing | Open::Faulty => None,
        }
    }

    fn error(&mut self, kind: ErrorKind, span: Range<usize>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(Error { kind, span });
        }
    }

    fn finish(mut self) -> Ini {
        for entry in self.sections.iter_mut().flat_map(|s| &mut s.entries) {
            let text = &mut entry.value.text;
            text.truncate(text.trim_end_matches(is_space).len());
        }
        let mut ini = Ini { errors: self.errors, ..Ini::default() };
        for section in self.sections {
            if section.name == DEFAULT {
                ini.defaults = section.entries;
            } else {
                ini.sections.push(section);
            }
        }
        ini
    }
}

/// `[name]`: up to the last bracket of the line, and what follows that is ignored.
fn header(body: &str) -> Option<&str> {
    let inside = body.strip_prefix('[')?;
    let name = inside.get(..inside.rfind(']')?)?;
    (!name.is_empty()).then_some(name)
}
