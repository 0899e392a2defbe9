//! The words of a rule, and what may be one.

use std::ops::RangeInclusive;

use regex::Regex;

use super::{Place, RuleError};
use crate::dispatch::http_get::success_rule;

/// A line, read word by word.
pub(super) struct Words<'l> {
    line: &'l str,
    /// Where the line begins in the whole text.
    at: usize,
    pos: usize,
}

impl<'l> Words<'l> {
    /// The words of a line that begins at `at` in the whole text.
    pub(super) fn new(line: &'l str, at: usize) -> Words<'l> {
        Words { line, at, pos: 0 }
    }

    fn rest(&self) -> &'l str {
        self.line.get(self.pos..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.pos = self.line.len() - self.rest().trim_start().len();
    }

    pub(super) fn is_done(&mut self) -> bool {
        self.skip_space();
        self.rest().is_empty()
    }

    /// The next word, which stays.
    pub(super) fn next(&mut self) -> &'l str {
        self.skip_space();
        self.rest().split(char::is_whitespace).next().unwrap_or_default()
    }

    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.next() == word;
        if found {
            self.pos += word.len();
        }
        found
    }

    pub(super) fn take_comma(&mut self) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(',');
        self.pos += usize::from(found);
        found
    }

    pub(super) fn wrong(&mut self, expected: &str) -> RuleError {
        let word = self.next().len();
        let start = self.at + self.pos;
        RuleError { part: start..start + word, expected: expected.to_owned() }
    }

    pub(super) fn place(&mut self) -> Result<Place, RuleError> {
        let word = self.next();
        let place = Place::parse(word).ok_or_else(|| {
            self.wrong("status, body, a JSON pointer such as /error/code, or an XML element such as //code")
        })?;
        self.pos += word.len();
        Ok(place)
    }

    /// Up to a comma or a space; with either in it in quotes.
    pub(super) fn value(&mut self) -> Result<String, RuleError> {
        self.skip_space();
        if let Some(rest) = self.rest().strip_prefix('"') {
            let Some((value, _)) = rest.split_once('"') else {
                return Err(self.wrong("a value with a quote at its end, too"));
            };
            self.pos += value.len() + 2;
            return Ok(value.to_owned());
        }
        let value = self.rest().split([',', ' ', '\t']).next().unwrap_or_default();
        if value.is_empty() {
            return Err(self.wrong("a value"));
        }
        self.pos += value.len();
        Ok(value.to_owned())
    }

    /// `202`, `4xx` or `500-503`.
    pub(super) fn statuses(&mut self) -> Result<RangeInclusive<u16>, RuleError> {
        self.skip_space();
        let word = self.rest().split([',', ' ', '\t']).next().unwrap_or_default();
        let code = |s: &str| s.parse::<u16>().ok().filter(|n| s.len() == 3 && (100..=999).contains(n));
        let range = match (word.strip_suffix("xx"), word.split_once('-')) {
            (Some(hundred), _) => code(&format!("{hundred}00")).map(|n| n..=n + 99),
            (None, Some((low, high))) => code(low).zip(code(high)).map(|(low, high)| low..=high),
            (None, None) => code(word).map(|n| n..=n),
        };
        let range = range.filter(|range| !range.is_empty());
        let range = range.ok_or_else(|| self.wrong("a status such as 202, 4xx or 500-503"))?;
        self.pos += word.len();
        Ok(range)
    }

    /// What is left of the line.
    pub(super) fn regex(&mut self) -> Result<Regex, RuleError> {
        self.skip_space();
        let text = self.rest().trim_end();
        let wrong = |expected: String| RuleError {
            part: self.at + self.pos..self.at + self.pos + text.len(),
            expected,
        };
        if text.is_empty() {
            return Err(wrong("a regular expression".into()));
        }
        let regex = success_rule(text).map_err(|e| {
            let why = e.to_string();
            let why = why.lines().last().map(|l| l.trim_start_matches("error: ")).unwrap_or_default();
            wrong(format!("a regular expression: {why}"))
        })?;
        self.pos = self.line.len();
        Ok(regex)
    }
}
