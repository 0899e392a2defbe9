//! What an answer means, in the operator's words: rules of one line each.
//!
//! ```text
//! status 202, 4xx, 500-503         the status is one of these
//! body ~ REGEX                     the body matches; REGEX goes on to the end of the line
//! /error/code = 21211              the JSON value at this pointer (RFC 6901) is this
//! /messages/0/status in 1, "2 b"   … is one of these
//! /error/text ~ REGEX              … matches
//! /id                              … is there, and not null
//! //code = 0                       the same of the first XML element of this name, at any depth
//! not CONDITION                    the opposite
//! CONDITION and CONDITION          both
//! ```
//!
//! A value is compared as text: `0` is the number 0 and the string "0". A list of rules holds if one of them does.
//! Several lists are asked in a fixed order, see [`Rules::judge`].

mod words;

use std::ops::{Range, RangeInclusive};

use hyper::StatusCode;
use quick_xml::events::Event;
use regex::Regex;

use self::words::Words;
use crate::dispatch::http_client::Answer;

/// What follows if one of a list's rules holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This SMS or number will not do.
    Reject,
    /// This number, for now.
    Defer,
    /// Too fast.
    Throttle,
    /// The gateway, until someone acts.
    Misconfigured,
    /// The gateway, for now; the SMS was certainly not taken.
    Unavailable,
    /// The gateway failed, and may have passed the SMS on.
    Fail,
    /// The SMS was taken.
    Success,
}

impl Verdict {
    /// The verdicts by their keys, in the order in which they are asked for.
    pub const ALL: [(&'static str, Verdict); 7] = [
        ("reject", Verdict::Reject),
        ("defer", Verdict::Defer),
        ("throttle", Verdict::Throttle),
        ("misconfigured", Verdict::Misconfigured),
        ("unavailable", Verdict::Unavailable),
        ("fail", Verdict::Fail),
        ("success", Verdict::Success),
    ];
}

/// The lists of one dispatcher.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules(Vec<(Verdict, Vec<Rule>)>);

impl Rules {
    /// Sets the list of a verdict.
    pub fn set(&mut self, verdict: Verdict, rules: Vec<Rule>) {
        self.0.push((verdict, rules));
        self.0.sort_by_key(|(verdict, _)| Verdict::ALL.iter().position(|(_, known)| known == verdict));
    }

    /// Is there such a list?
    pub fn has(&self, verdict: Verdict) -> bool {
        self.0.iter().any(|(known, _)| *known == verdict)
    }

    /// Does a rule look into bodies?
    pub fn need_body(&self) -> bool {
        self.0.iter().flat_map(|(_, rules)| rules).flat_map(|rule| &rule.0).any(|c| c.what != What::Status)
    }

    /// The first verdict, in the order of [`Verdict::ALL`], of which a rule holds. `accepted` says that the status
    /// alone means that the SMS was taken: where it does not, a `success` holds only if it names the status itself.
    pub fn judge(&self, answer: &Answer, accepted: bool) -> Option<Verdict> {
        let content = Content::new(&answer.body);
        let holds = |verdict: Verdict, rule: &Rule| {
            (accepted || verdict != Verdict::Success || rule.names_status())
                && rule.holds(answer.status, &content)
        };
        self.0.iter().find(|(verdict, rules)| rules.iter().any(|r| holds(*verdict, r))).map(|(v, _)| *v)
    }
}

/// One line: conditions that must all hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule(Vec<Condition>);

/// Why a line is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct RuleError {
    /// The piece of the text that is wrong.
    pub part: Range<usize>,
    /// What was expected there.
    pub expected: String,
}

impl Rule {
    /// Reads rules, one a line.
    ///
    /// # Errors
    /// The first line that is none, and no line at all.
    pub fn parse_all(text: &str) -> Result<Vec<Rule>, RuleError> {
        let mut rules = Vec::new();
        let mut at = 0;
        for line in text.split('\n') {
            if !line.trim().is_empty() {
                rules.push(Rule::parse(line, at)?);
            }
            at += line.len() + 1;
        }
        if rules.is_empty() {
            return Err(RuleError { part: 0..text.len(), expected: "a rule, such as status 202".into() });
        }
        Ok(rules)
    }

    fn parse(line: &str, at: usize) -> Result<Rule, RuleError> {
        let mut words = Words::new(line, at);
        let mut conditions = vec![Condition::parse(&mut words)?];
        while !words.is_done() {
            if !words.take("and") {
                return Err(words.wrong("`and`, or the end of the line"));
            }
            conditions.push(Condition::parse(&mut words)?);
        }
        Ok(Rule(conditions))
    }

    fn names_status(&self) -> bool {
        self.0.iter().any(|condition| condition.what == What::Status && !condition.negated)
    }

    fn holds(&self, status: StatusCode, content: &Content<'_>) -> bool {
        self.0.iter().all(|condition| condition.holds(status, content))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    negated: bool,
    what: What,
    test: Test,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Status,
    Body,
    At(Place),
}

/// What must be found there.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    There,
    OneOf(Vec<String>),
    Within(Vec<RangeInclusive<u16>>),
    Matches(Pattern),
}

/// A regular expression; equal to another by its words.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Condition {
    fn parse(words: &mut Words<'_>) -> Result<Condition, RuleError> {
        let negated = words.take("not");
        if words.take("status") {
            let mut ranges = vec![words.statuses()?];
            while words.take_comma() {
                ranges.push(words.statuses()?);
            }
            return Ok(Condition { negated, what: What::Status, test: Test::Within(ranges) });
        }
        if words.take("body") {
            if !words.take("~") {
                return Err(words.wrong("~ and a regular expression"));
            }
            return Ok(Condition { negated, what: What::Body, test: Test::Matches(Pattern(words.regex()?)) });
        }
        let what = What::At(words.place()?);
        let test = if words.take("=") {
            Test::OneOf(vec![words.value()?])
        } else if words.take("in") {
            let mut values = vec![words.value()?];
            while words.take_comma() {
                values.push(words.value()?);
            }
            Test::OneOf(values)
        } else if words.take("~") {
            Test::Matches(Pattern(words.regex()?))
        } else if words.is_done() || words.next() == "and" {
            Test::There
        } else {
            return Err(words.wrong("=, in, ~, `and`, or the end of the line"));
        };
        Ok(Condition { negated, what, test })
    }

    fn holds(&self, status: StatusCode, content: &Content<'_>) -> bool {
        let found = match &self.what {
            What::Status => vec![status.as_str().to_owned()],
            What::Body => vec![content.text.to_string()],
            What::At(place) => place.find(content),
        };
        let is = |text: &String| match &self.test {
            Test::There => true,
            Test::OneOf(values) => values.contains(text),
            Test::Within(ranges) => ranges.iter().any(|range| range.contains(&status.as_u16())),
            Test::Matches(pattern) => pattern.0.is_match(text),
        };
        found.iter().any(is) != self.negated
    }
}

/// A place in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A JSON pointer.
    Pointer(String),
    /// The name of an XML element, without its namespace.
    Element(String),
}

impl Place {
    fn parse(word: &str) -> Option<Place> {
        let valid = |name: &str| !name.is_empty() && !name.contains(['/', '<', '>', '=']);
        match word.strip_prefix("//") {
            Some(name) => valid(name).then(|| Place::Element(name.to_owned())),
            None => (word.starts_with('/') && word.len() > 1).then(|| Place::Pointer(word.to_owned())),
        }
    }

    /// What stands there as text: nothing, one value, or those of a JSON array.
    fn find(&self, content: &Content<'_>) -> Vec<String> {
        match self {
            Place::Element(name) => element(&content.text, name).into_iter().collect(),
            Place::Pointer(pointer) => {
                let found = content.json.as_ref().and_then(|json| json.pointer(pointer));
                match found {
                    None | Some(serde_json::Value::Null) => Vec::new(),
                    Some(serde_json::Value::Array(all)) => all.iter().take(LIST_MAX).map(shown).collect(),
                    Some(one) => vec![shown(one)],
                }
            }
        }
    }
}

/// Where an answer has the gateway's reference: a pointer, an element, or `body ~ REGEX` (its first group, or all).
#[derive(Clone, Debug, PartialEq)]
pub struct Reference(Source);

#[derive(Clone, Debug, PartialEq)]
enum Source {
    At(Place),
    Body(Pattern),
}

impl Reference {
    /// Reads it.
    ///
    /// # Errors
    /// What is no such place.
    pub fn parse(text: &str) -> Result<Reference, RuleError> {
        let mut words = Words::new(text, 0);
        if words.take("body") {
            if !words.take("~") {
                return Err(words.wrong("~ and a regular expression"));
            }
            return Ok(Reference(Source::Body(Pattern(words.regex()?))));
        }
        let place = words.place()?;
        match words.is_done() {
            true => Ok(Reference(Source::At(place))),
            false => Err(words.wrong("the end of the line")),
        }
    }

    /// The references in a body, as they stand there.
    pub fn find(&self, body: &[u8]) -> Vec<String> {
        let content = Content::new(body);
        match &self.0 {
            Source::At(place) => place.find(&content),
            Source::Body(Pattern(regex)) => regex
                .captures(&content.text)
                .and_then(|found| found.get(1).or_else(|| found.get(0)))
                .map(|found| found.as_str().to_owned())
                .into_iter()
                .collect(),
        }
    }
}

/// Values of a list that are looked at: an SMS has at most 255 parts.
const LIST_MAX: usize = 255;

/// A body in the forms in which rules look at it.
struct Content<'a> {
    text: std::borrow::Cow<'a, str>,
    json: Option<serde_json::Value>,
}

impl<'a> Content<'a> {
    fn new(body: &'a [u8]) -> Content<'a> {
        // serde_json goes at most 128 levels deep.
        Content { text: String::from_utf8_lossy(body), json: serde_json::from_slice(body).ok() }
    }
}

fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The text of the first element of this name; that of the elements in it is left out. Ends at the first fault.
fn element(xml: &str, name: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut text = String::new();
    let mut depth = 0_u32;
    loop {
        match reader.read_event().ok()? {
            Event::Eof => return None,
            Event::Start(_) if depth > 0 => depth += 1,
            Event::Start(tag) if tag.local_name().as_ref() == name => depth = 1,
            Event::Empty(tag) if depth == 0 && tag.local_name().as_ref() == name => {
                return Some(String::new());
            }
            Event::End(_) if depth == 1 => return Some(text.trim().to_owned()),
            Event::End(_) if depth > 1 => depth -= 1,
            Event::Text(piece) if depth == 1 => text.push_str(&piece.xml10_content()),
            Event::CData(piece) if depth == 1 => text.push_str(&piece.xml10_content()),
            Event::GeneralRef(reference) if depth == 1 => match reference.resolve_char_ref().ok()? {
                Some(c) => text.push(c),
                None => text.push_str(quick_xml::escape::resolve_xml_entity(&reference.into_inner())?),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn holds(rule: &str, status: u16, body: &str) -> bool {
        let mut rules = Rules::default();
        rules.set(Verdict::Reject, Rule::parse_all(rule).unwrap());
        rules.judge(&answer(status, body), (200..300).contains(&status)) == Some(Verdict::Reject)
    }

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()), readable: true }
    }

    #[test]
    fn what_holds_and_what_does_not() {
        const JSON: &str =
            r#"{"messages":[{"status":"0","id":7,"text":null}],"ok":true,"a/b":"x, y","ids":[1,2]}"#;
        const XML: &str = r#"<?xml version="1.0"?><r xmlns:s="u"><s:code> 0 </s:code><t>a &amp; <b>x</b>&#98;</t><code>1</code><e/></r>"#;
        for (rule, status, body, want) in [
            ("status 202", 202, "", true),
            ("status 202", 200, "", false),
            ("status 4xx", 499, "", true),
            ("status 4xx", 500, "", false),
            ("status 400-402, 451", 451, "", true),
            ("status 400-402, 451", 403, "", false),
            ("not status 2xx", 302, "", true),
            ("body ~ ^0: Acc", 202, "0: Accepted", true),
            ("body ~ ^0: Acc", 202, "1: Accepted", false),
            ("body ~ this and that", 202, "not this and that", true),
            ("status 403 and body ~ route", 403, "no route", true),
            ("status 403 and body ~ route", 400, "no route", false),
            ("/messages/0/status = 0", 200, JSON, true),
            ("/messages/0/status = \"0\"", 200, JSON, true),
            ("/messages/0/id = \"7\"", 200, JSON, true),
            ("/messages/0/status = 1", 200, JSON, false),
            ("/messages/0/status in 1, 0", 200, JSON, true),
            ("/messages/0/status in 1,2", 200, JSON, false),
            ("/a~1b = \"x, y\"", 200, JSON, true),
            ("/ok = true and /messages/0/id", 200, JSON, true),
            ("/messages/0/text", 200, JSON, false),
            ("not /messages/0/text", 200, JSON, true),
            ("/messages/1", 200, JSON, false),
            ("/ids = 2", 200, JSON, true),
            ("/ids ~ ^[34]$", 200, JSON, false),
            ("/messages/0/status = 0", 200, "no JSON", false),
            ("//code = 0", 200, XML, true),
            ("//code = 1", 200, XML, false),
            ("//t = \"a & b\"", 200, XML, true),
            ("//e", 200, XML, true),
            ("//nothing", 200, XML, false),
            ("//code = 0", 200, "<a><code>0", false),
            ("//code = 0", 200, "<!DOCTYPE a [<!ENTITY x \"0\">]><a><code>&x;</code></a>", false),
            ("status 500\nbody ~ x\n\n/ok", 200, JSON, true),
        ] {
            assert_eq!(holds(rule, status, body), want, "{rule} on {status} {body}");
        }
    }

    #[test]
    fn lists_are_asked_in_order_and_success_does_not_mend_a_status() {
        let mut rules = Rules::default();
        for (verdict, text) in [
            (Verdict::Success, "body ~ OK\nstatus 409 and /code = duplicate"),
            (Verdict::Throttle, "body ~ slow"),
            (Verdict::Reject, "body ~ number"),
        ] {
            rules.set(verdict, Rule::parse_all(text).unwrap());
        }
        for (status, body, want) in [
            (200, "OK", Some(Verdict::Success)),
            (200, "OK slow number", Some(Verdict::Reject)),
            (200, "OK slow", Some(Verdict::Throttle)),
            (500, "OK", None),
            (500, "slow", Some(Verdict::Throttle)),
            (409, r#"{"code":"duplicate"}"#, Some(Verdict::Success)),
            (409, "OK", None),
            (200, "?", None),
        ] {
            assert_eq!(rules.judge(&answer(status, body), status == 200), want, "{status} {body}");
        }
        assert!(rules.need_body() && rules.has(Verdict::Reject) && !rules.has(Verdict::Fail));
    }

    #[test]
    fn what_is_no_rule_is_said() {
        for (text, part, expected) in [
            ("", "", "a rule"),
            ("status", "", "a status such as"),
            ("status 20", "20", "a status such as"),
            ("status 2xxx", "2xxx", "a status such as"),
            ("status 500-400", "500-400", "a status such as"),
            ("status 200\n  statsu 4xx", "statsu", "status, body, a JSON pointer"),
            ("status 200 or body ~ x", "or", "`and`"),
            ("body OK", "OK", "~ and a regular"),
            ("body ~ (", "(", "a regular expression: unclosed group"),
            ("body ~", "", "a regular expression"),
            ("/a == 0", "==", "=, in, ~"),
            ("/a =", "", "a value"),
            ("/a = \"b", "\"b", "a value with a quote"),
            ("//a/b = 0", "//a/b", "status, body"),
            ("/", "/", "status, body"),
        ] {
            let error = Rule::parse_all(text).unwrap_err();
            assert!(error.expected.starts_with(expected), "{text}: {error:?}");
            assert_eq!(text.get(error.part), Some(part), "{text}");
        }
        assert!(Reference::parse("/a b").is_err() && Reference::parse("").is_err());
    }

    #[test]
    fn references_are_found() {
        for (rule, body, want) in [
            ("/id", r#"{"id":7}"#, vec!["7"]),
            ("/ids", r#"{"ids":["a",2]}"#, vec!["a", "2"]),
            ("/id", "{}", vec![]),
            ("//id", "<a><id>x</id></a>", vec!["x"]),
            ("body ~ ^OK: (\\S+)", "OK: 4711 x", vec!["4711"]),
            ("body ~ [0-9]+", "OK: 4711", vec!["4711"]),
            ("body ~ [0-9]+", "none", vec![]),
        ] {
            assert_eq!(Reference::parse(rule).unwrap().find(body.as_bytes()), want, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_it(text in "(status|body|not|and|[ ~=,/\"0-9]|/a|//b|\\PC){0,12}", body in any::<Vec<u8>>()) {
            if let Ok(rules) = Rule::parse_all(&text) {
                for rule in rules {
                    rule.holds(StatusCode::OK, &Content::new(&body));
                }
            }
            let _ = Reference::parse(&text).map(|reference| reference.find(&body));
        }
    }
}
