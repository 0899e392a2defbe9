//! What a program says of an SMS, and what it means.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::quote::quote;
use super::super::status::{RETRY_AFTER_BOUNDS, Status};
use super::super::url_template::escape;
use super::super::{Class, Receipt, SubmitError};

/// Bytes of a reference that are kept.
const REFERENCE_MAX: usize = 100;

/// References that are kept: an SMS has no more segments.
const REFERENCES_MAX: usize = 255;

/// Bytes of a code that are kept.
const CODE_MAX: usize = 40;

/// The keys of an answer; all may be missing, and those that it does not have are left alone.
///
/// What decides (`ok`, `class`) is read by itself: a no stays a no, whatever is odd about the rest, which is for show. And what
/// stands there and is no decision is no yes either.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Map<String, Value>")]
pub struct Words {
    /// Was it taken?
    pub ok: Option<bool>,
    /// A class of the table: `OK`, `RTMP`, …
    pub class: Option<String>,
    /// The gateway's own code, which `class.CODE` of the configuration may give a class.
    pub code: Option<Word>,
    /// The gateway's reference.
    pub reference: Option<Word>,
    /// The same, one per message that it made of the SMS.
    pub references: Option<Vec<Word>>,
    /// What happened, for people.
    pub detail: Option<String>,
    /// With the class `THR`: seconds to wait.
    pub retry_after: Option<f64>,
    /// There was an `ok` or a `class`, and nobody knows what it says.
    pub unclear: bool,
}

impl From<Map<String, Value>> for Words {
    fn from(mut said: Map<String, Value>) -> Words {
        let mut take = |key: &str| said.remove(key).filter(|value| !value.is_null());
        let (ok, class) = (take("ok"), take("class"));
        let unclear = ok.as_ref().is_some_and(|ok| !ok.is_boolean())
            || class.as_ref().is_some_and(|class| !class.is_string());
        let word = |value: Value| match value {
            Value::String(text) => Some(Word::Text(text)),
            Value::Number(number) => Some(Word::Number(number)),
            _ => None,
        };
        let shown = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let seconds = |value: Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let references = |value: Value| match value {
            Value::Array(all) => all.into_iter().filter_map(word).collect(),
            one => word(one).into_iter().collect(),
        };
        Words {
            ok: ok.and_then(|ok| ok.as_bool()),
            class: class.and_then(|class| class.as_str().map(str::to_owned)),
            code: take("code").and_then(word),
            reference: take("reference").and_then(word),
            references: take("references").map(references),
            detail: take("detail").map(shown),
            retry_after: take("retry_after").and_then(seconds).filter(|seconds| seconds.is_finite()),
            unclear,
        }
    }
}

/// A string, or a number that stands for one.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// `"4711"`.
    Text(String),
    /// `4711`.
    Number(serde_json::Number),
}

impl Word {
    pub(super) fn text(&self) -> String {
        match self {
            Word::Text(text) => text.clone(),
            Word::Number(number) => number.to_string(),
        }
    }
}

/// What must not come back to people, and who said it.
pub(super) struct Hidden<'a> {
    pub(super) secrets: &'a [String],
    pub(super) text: &'a str,
}

impl Hidden<'_> {
    /// Foreign words without secrets and texts.
    pub(super) fn quote(&self, foreign: &[u8]) -> String {
        quote(foreign, self.secrets, &forms(self.text))
    }

    fn clipped(&self, foreign: &str, max: usize) -> String {
        let mut words = quote(foreign.as_bytes(), self.secrets, &[]);
        crate::telemetry::clip(&mut words, max);
        words
    }
}

impl Words {
    /// What they mean where `otherwise` is what follows if they give no class. `by` begins what people are told.
    ///
    /// What contradicts itself (taken, and refused) may have been taken: `Failed`.
    pub(super) fn judge(
        &self,
        otherwise: Option<Status>,
        overrides: &BTreeMap<String, Status>,
        by: &str,
        hidden: &Hidden<'_>,
    ) -> Result<Receipt, SubmitError> {
        let code = self.code.as_ref().map(Word::text);
        let overridden = code.as_ref().and_then(|code| overrides.get(&code.to_lowercase())).copied();
        let named = self.class.as_deref().map(|word| Status::from_word(&word.trim().to_ascii_uppercase()));
        let accepts = |status| status == Status::Accepted;
        let failed = Status::Refused(Class::Failed);
        let (status, why) =
            match (overridden, named, self.ok.map(|ok| if ok { Status::Accepted } else { failed })) {
                _ if self.unclear => (failed, "its ok or class says neither yes nor no"),
                (Some(status), ..) => (status, ""),
                (None, Some(None), _) => (failed, "it gave a class that there is not"),
                (None, Some(Some(class)), said) => match said.or(otherwise.filter(|_| accepts(class))) {
                    Some(said) if accepts(said) != accepts(class) => (failed, "it contradicts itself"),
                    _ => (class, ""),
                },
                (None, None, said) => match (said, otherwise) {
                    (Some(said), Some(end)) if accepts(said) != accepts(end) => {
                        if accepts(end) {
                            (said, "")
                        } else {
                            (failed, "it contradicts itself")
                        }
                    }
                    (_, Some(end)) => (end, ""),
                    (Some(said), None) => (said, ""),
                    (None, None) => (failed, "it said neither ok nor a class"),
                },
            };
        let class = match status {
            Status::Accepted => return Ok(Receipt { references: self.references(hidden) }),
            Status::Refused(Class::Throttled { retry_after }) => {
                Class::Throttled { retry_after: self.retry_after.map_or(retry_after, bounded) }
            }
            Status::Refused(class) => class,
        };
        let detail = self.detail.as_deref().map(|detail| hidden.quote(detail.as_bytes())).unwrap_or_default();
        let parts: Vec<&str> = [by, why, &detail].into_iter().filter(|part| !part.is_empty()).collect();
        let error = SubmitError::new(class, parts.join(": "));
        Err(match code {
            Some(code) => error.code(hidden.clipped(&code, CODE_MAX)),
            None => error,
        })
    }

    fn references(&self, hidden: &Hidden<'_>) -> Vec<String> {
        let all = self.reference.iter().chain(self.references.iter().flatten());
        let kept = all.map(|word| hidden.clipped(&word.text(), REFERENCE_MAX));
        let mut references: Vec<String> = Vec::new();
        for reference in kept.filter(|reference| !reference.is_empty()).take(REFERENCES_MAX) {
            // `reference` may be the first of `references` once more.
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        references
    }
}

fn bounded(seconds: f64) -> Duration {
    let (least, most) = RETRY_AFTER_BOUNDS.into_inner();
    Duration::from_secs_f64(seconds.clamp(least.as_secs_f64(), most.as_secs_f64()))
}

/// A text in the forms in which a program may give it back.
fn forms(text: &str) -> [String; 5] {
    let json = serde_json::to_string(text).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let mut units = [0; 2];
    let ascii = json.chars().fold(String::new(), |mut all, c| {
        if c.is_ascii() {
            all.push(c);
        } else {
            all.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
        all
    });
    let escaped: String = escape(text).collect();
    [text.to_owned(), json, ascii, escaped.replace("%20", "+"), escaped]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::status::DEFAULT_RETRY_AFTER;

    fn judged(words: &str, otherwise: Option<Status>) -> Result<Receipt, SubmitError> {
        let words: Words = serde_json::from_str(words).unwrap();
        let overrides = [("451".to_owned(), Status::Refused(Class::Deferred))].into();
        let hidden = Hidden { secrets: &["hunter2".to_owned()], text: "gw1 is down, æ" };
        words.judge(otherwise, &overrides, "send", &hidden)
    }

    #[test]
    fn words_and_their_classes() {
        use Class::*;
        let exit = |class| Some(Status::Refused(class));
        let (yes, none) = (Some(Status::Accepted), None);
        let wait = |s| Some(Throttled { retry_after: Duration::from_secs(s) });
        for (words, otherwise, want) in [
            (r#"{}"#, yes, None),
            (r#"{}"#, exit(Rejected), Some(Rejected)),
            (r#"{}"#, none, Some(Failed)),
            (r#"{"ok":true}"#, none, None),
            (r#"{"ok":true}"#, yes, None),
            (r#"{"ok":false}"#, none, Some(Failed)),
            (r#"{"ok":false}"#, yes, Some(Failed)),
            (r#"{"ok":true}"#, exit(Unavailable), Some(Failed)),
            (r#"{"class":"RTMP"}"#, yes, Some(Deferred)),
            (r#"{"class":" rtmp "}"#, none, Some(Deferred)),
            (r#"{"class":"RTMP"}"#, exit(Failed), Some(Deferred)),
            (r#"{"class":"OK"}"#, none, None),
            (r#"{"class":"OK"}"#, exit(Unavailable), Some(Failed)),
            (r#"{"ok":true,"class":"DTMP"}"#, none, Some(Failed)),
            (r#"{"ok":false,"class":"DTMP"}"#, none, Some(Unavailable)),
            (r#"{"ok":false,"class":"OK"}"#, none, Some(Failed)),
            (r#"{"class":"WHAT"}"#, yes, Some(Failed)),
            (r#"{"class":"DTMP","code":451}"#, none, Some(Deferred)),
            (r#"{"ok":true,"code":"451"}"#, none, Some(Deferred)),
            (r#"{"class":"THR","retry_after":7}"#, none, wait(7)),
            (r#"{"class":"THR","retry_after":-7}"#, none, wait(1)),
            (r#"{"class":"THR","retry_after":1e300}"#, none, wait(3600)),
            (r#"{"class":"THR"}"#, none, wait(DEFAULT_RETRY_AFTER.as_secs())),
        ] {
            assert_eq!(judged(words, otherwise).err().map(|e| e.class), want, "{words} {otherwise:?}");
        }
    }

    #[test]
    fn what_decides_is_read_whatever_is_odd_about_the_rest() {
        let yes = Some(Status::Accepted);
        for (words, want, detail) in [
            (r#"{"class":"RTMP","code":"9","retry_after":"30"}"#, Class::Deferred, ""),
            (r#"{"class":"DTMP","detail":{"error":"no credit"}}"#, Class::Unavailable, "no credit"),
            (r#"{"ok":false,"detail":["x"]}"#, Class::Failed, "x"),
            (r#"{"ok":"no"}"#, Class::Failed, "neither yes nor no"),
            (r#"{"class":7}"#, Class::Failed, "neither yes nor no"),
            (r#"{"ok":true,"class":["DTMP"]}"#, Class::Failed, "neither yes nor no"),
        ] {
            let error = judged(words, yes).unwrap_err();
            assert!(error.class == want && error.detail.contains(detail), "{words}: {error:?}");
        }
        let wait = judged(r#"{"class":"THR","retry_after":" 7 "}"#, None).unwrap_err();
        assert_eq!(wait.class, Class::Throttled { retry_after: Duration::from_secs(7) });
        for taken in [r#"{"ok":true,"reference":{"a":1}}"#, r#"{"ok":null,"class":null,"retry_after":[]}"#] {
            assert!(judged(taken, yes).is_ok(), "{taken}");
        }
        assert_eq!(judged(r#"{"ok":true,"references":"a"}"#, None).unwrap().references, ["a"]);
    }

    #[test]
    fn references_are_bounded_and_hold_no_secret() {
        let long = "x".repeat(5000);
        let words =
            format!(r#"{{"ok":true,"reference":4711,"references":["4711",""," hunter2 ","{long}",null]}}"#);
        let receipt = judged(&words, None).unwrap();
        let [first, secret, cut] = &receipt.references[..] else { panic!("{receipt:?}") };
        assert_eq!((&**first, &**secret), ("4711", "<secret>"));
        assert!(cut.len() <= REFERENCE_MAX, "{cut}");
        let many = format!(r#"{{"ok":true,"references":{:?}}}"#, (0..5000).collect::<Vec<_>>());
        assert_eq!(judged(&many, None).unwrap().references.len(), REFERENCES_MAX);
    }

    #[test]
    fn what_a_program_gives_back_is_taken_out() {
        for detail in [
            "sent gw1 is down, æ",
            r"sent gw1 is down, \\u00e6",
            "sent gw1%20is%20down",
            "sent gw1+is+down%2C",
        ] {
            let error = judged(&format!(r#"{{"class":"ERR","detail":"{detail}","code":"hunter2"}}"#), None);
            let error = error.unwrap_err();
            assert!(!error.detail.contains("down"), "{error:?}");
            assert_eq!(error.code.as_deref(), Some("<secret>"));
        }
    }
}
