//! What any other program posts: templates say what it means.
//!
//! A template is given `body` (the JSON, or for a form its fields), `form` (the fields of a form), `query` (of the URL), and `raw` (the body as
//! text). A body that says to be JSON must be; one that does not say what it is, is JSON if it can be read so.
//!
//! **No alert is lost because a template fails**: a text that can not be made is replaced by the body itself, a severity
//! that is none is left out, and what `when` can not decide is queued. Only a recipient that is none is refused: there
//! is nobody to tell.
//!
//! Deliberately absent: a key for what brings none, since two posts alike may well be two alerts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::Value;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::handover::{Handover, Refused};
use super::template::{self, Template, TemplateError, Values};
use super::{RecipientError, recipients};
use crate::alert::{Phone, Severity};
use crate::queue::{Key, NewAlert, Submission};

/// Names that a template may ask for.
pub const NAMES: [&str; 4] = ["body", "form", "query", "raw"];
/// How long a key is remembered.
pub const REMEMBER: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a body that stands for a text that could not be made.
const RAW_MAX: usize = 480;

/// What a section `[webhook.NAME]` says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `to`: numbers and groups with commas between them.
    pub to: Template,
    /// `text`.
    pub text: Template,
    /// `severity`: 1 to 5, or nothing.
    pub severity: Option<Template>,
    /// `key`: what tells this from all others.
    pub key: Option<Template>,
    /// `when`: nothing, `false`, `no`, `off` or `0`: there is nothing to tell.
    pub when: Option<Template>,
    /// `remember`: how long a key is.
    pub remember: Duration,
    /// `account`: NAV's, to which the alerts belong.
    pub account: Option<i32>,
}

/// What was posted.
#[derive(Clone, Copy, Debug)]
pub struct Posted<'a> {
    /// `Content-Type`, if it was said.
    pub content_type: Option<&'a str>,
    /// The query of the URL.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
}

/// What it comes to, for the webhook of this name.
///
/// # Errors
/// See [`Refused`].
pub fn read(
    name: &str,
    posted: Posted<'_>,
    settings: &Settings,
    groups: &BTreeMap<String, Vec<Phone>>,
) -> Result<Handover, Refused> {
    let raw = raw(posted)?;
    let values = values(posted, &raw)?;
    let mut made = Made { name, values: &values, notes: Vec::new() };
    if let Some(when) = &settings.when {
        let decided = made.by("when", when, "the alert is queued");
        if decided
            .is_some_and(|word| ["", "false", "no", "off", "0", "none"].contains(&&*word.to_lowercase()))
        {
            return Ok(Handover { submissions: Vec::new(), notes: made.notes });
        }
    }
    let to = settings
        .to
        .render(&values)
        .map_err(|error| Refused::Recipient { name: name.to_owned(), why: error.to_string() })?;
    let to = named(&to, groups).map_err(|error| Refused::recipient(name, &error))?;
    let text = made.by("text", &settings.text, "the body is sent as it is").filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| {
        let mut text = format!("{name}: {}", raw.trim());
        template::cut(&mut text, RAW_MAX);
        text
    });
    let severity = settings.severity.as_ref().and_then(|severity| made.severity(severity));
    let key = settings.key.as_ref().and_then(|key| made.by("key", key, "it has none"));
    let text: Arc<str> = text.into();
    let alerts: Vec<NewAlert> = to
        .into_iter()
        .map(|to| NewAlert {
            to,
            text: Arc::clone(&text),
            severity: Severity(severity),
            account: settings.account,
        })
        .collect();
    let key = match key.filter(|key| !key.is_empty()) {
        Some(key) => Key { name: digest(name, &key, &alerts), kept: settings.remember },
        None => Key::own(),
    };
    Ok(Handover { submissions: vec![Submission { key, alerts }], notes: made.notes })
}

/// The recipients of a list with commas or line ends.
///
/// # Errors
/// See [`RecipientError`].
pub fn named(list: &str, groups: &BTreeMap<String, Vec<Phone>>) -> Result<Vec<Phone>, RecipientError> {
    recipients(list.split([',', '\n']).map(str::trim).filter(|word| !word.is_empty()), groups)
}

/// What templates make of what was posted.
struct Made<'a> {
    name: &'a str,
    values: &'a Values,
    notes: Vec<String>,
}

impl Made<'_> {
    /// What a template makes; if it fails, a note says so and what happens instead.
    fn by(&mut self, key: &str, template: &Template, instead: &str) -> Option<String> {
        let failed = |error: TemplateError| {
            self.notes.push(format!("`{key}` of [webhook.{}]: {error}; {instead}", self.name));
        };
        template.render(self.values).map_err(failed).ok()
    }

    fn severity(&mut self, template: &Template) -> Option<i32> {
        let word = self.by("severity", template, "it has none").filter(|word| !word.is_empty())?;
        let severity = word.parse().ok().filter(|n| (1..=5).contains(n));
        if severity.is_none() {
            let note = format!(
                "`severity` of [webhook.{}] made {:?} of it, expected 1 to 5; it has the middle, 3",
                self.name,
                clipped(&word)
            );
            self.notes.push(note);
        }
        // Any other word means the middle, as in notifications.
        severity.or(Some(3))
    }
}

fn clipped(word: &str) -> String {
    let mut word = word.to_owned();
    crate::telemetry::clip(&mut word, 60);
    word
}

/// A key that is used for another text is another alert: a coarse one must not cost any.
fn digest(name: &str, key: &str, alerts: &[NewAlert]) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(name);
    part(key);
    for alert in alerts {
        part(alert.to.as_str());
        part(&alert.text);
    }
    format!("webhook:{}", hex::encode(hash.finalize()))
}

/// The type without its parameters, in lower case.
fn kind(posted: Posted<'_>) -> String {
    let kind = posted.content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

fn is_json(kind: &str) -> bool {
    kind == "application/json" || kind.ends_with("+json")
}

fn raw(posted: Posted<'_>) -> Result<Cow<'_, str>, Refused> {
    let kind = kind(posted);
    if kind.starts_with("multipart/") {
        let message =
            "the body is multipart; expected JSON, a form (application/x-www-form-urlencoded) or text";
        return Err(Refused::Unreadable(message.to_owned()));
    }
    // A phone can show text in any coding that we can not: odd bytes cost no alert.
    let text = String::from_utf8_lossy(posted.body);
    match is_json(&kind) && matches!(text, Cow::Owned(_)) {
        true => Err(Refused::Unreadable("the body is no JSON: it is not UTF-8".to_owned())),
        false => Ok(text),
    }
}

fn values(posted: Posted<'_>, raw: &str) -> Result<Values, Refused> {
    let kind = kind(posted);
    let mut form = Value::from(Values::new());
    let body = match serde_json::from_str::<Json>(raw) {
        _ if kind == "application/x-www-form-urlencoded" => {
            form = fields(posted.body);
            form.clone()
        }
        Ok(json) => template::value(&json),
        Err(error) if is_json(&kind) => {
            return Err(Refused::Unreadable(format!("the body is no JSON: {error}")));
        }
        Err(_) => Value::from(raw),
    };
    let query = fields(posted.query.as_bytes());
    let values = [("body", body), ("form", form), ("query", query), ("raw", Value::from(raw))];
    Ok(values.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Of a name that stands twice, the last.
fn fields(coded: &[u8]) -> Value {
    let fields = url::form_urlencoded::parse(coded);
    Value::from(
        fields.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect::<Values>(),
    )
}
