//! What is posted by other programs: `[alertmanager]`, `[grafana]` and `[webhook.NAME]`.
//!
//! Numbers and groups are looked up here, so that a name that is none is told before the first alert; templates are
//! parsed, and rendered once with a sample.

use std::collections::BTreeMap;
use std::time::Duration;

use super::fault::Severity;
use super::ini::Entry;
use super::section::{Reader, Section};
use super::value::{self, Parsed, Wrong, clipped};
use crate::alert::Phone;
use crate::intake::notification::{Route, Sender, Settings};
use crate::intake::template::{Template, TemplateError, Values};
use crate::intake::{RecipientError, hook, recipients};

/// The numbers of `[groups]`.
type Groups = BTreeMap<String, Vec<Phone>>;

/// Names of webhooks that have sections of their own.
const RESERVED: [&str; 2] = ["alertmanager", "grafana"];
/// How a section of a webhook begins.
const PREFIX: &str = "webhook.";
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// Reads the section of a sender of notifications; `listens`: `[http]` does.
pub(super) fn notifications(
    reader: &mut Reader<'_>,
    sender: &Sender,
    remember: Duration,
    groups: &Groups,
    listens: bool,
) -> Settings {
    let mut settings = Settings::new(remember);
    let mut s = reader.section(sender.name);
    settings.to = s.entry("to").map(|entry| to(&mut s, entry, groups)).unwrap_or_default();
    for (_, entry) in s.prefixed("to.", Some) {
        let spelled = s.spelled(entry).get("to.".len()..).unwrap_or_default().to_owned();
        match spelled.split_once('.') {
            Some((label, value)) if !label.is_empty() && !value.is_empty() => settings.routes.push(Route {
                label: label.to_owned(),
                value: value.to_owned(),
                to: to(&mut s, entry, groups),
            }),
            _ => {
                let message = format!("{}: expected to.LABEL.VALUE", clipped(&entry.key));
                s.fault_at(entry, message, "such as to.team.db: group:dba".to_owned());
            }
        }
    }
    for (word, entry) in s.prefixed("severity.", Some) {
        if let Some(severity) = s.parse(entry, value::integer(1..=5)) {
            settings.severities.insert(word.to_owned(), severity);
        }
    }
    s.set("resolved", &mut settings.resolved, value::boolean);
    s.set("remember", &mut settings.remember, value::duration(Duration::ZERO..=WEEK));
    settings.account = s.get("account", value::integer(1..=i32::MAX));
    settings.text = template(&mut s, "text", &sender.sample(), |template| {
        let (name, known) = sender.unknown(template)?;
        Some((name.to_owned(), known.join(", ")))
    });
    let named = s.entry("to").is_some();
    // A section without a key says nothing, and wants nothing.
    let speaks = !s.is_empty();
    stands(s, |s| match (named, listens) {
        (false, true) if speaks => {
            let message = format!("[{}] has no `to`: it does not say who is told", s.name);
            Some((
                Severity::Flaw,
                message,
                "such as to: +4799999999, or to: group:NAME with a group of [groups]",
            ))
        }
        (true, false) => {
            let message = format!("[{}] is not used: [http] has no `listen`", s.name);
            Some((Severity::Warning, message, "such as listen: 127.0.0.1:8465"))
        }
        _ => None,
    });
    settings
}

/// Reads the sections `[webhook.NAME]`.
pub(super) fn hooks(
    reader: &mut Reader<'_>,
    groups: &Groups,
    listens: bool,
) -> BTreeMap<String, hook::Settings> {
    let ini = reader.ini;
    let names = ini.sections.iter().filter_map(|section| section.name.strip_prefix(PREFIX));
    let mut hooks = BTreeMap::new();
    for name in names {
        hooks.extend(one(reader, name, groups, listens).map(|settings| (name.to_owned(), settings)));
    }
    hooks
}

fn one(reader: &mut Reader<'_>, name: &str, groups: &Groups, listens: bool) -> Option<hook::Settings> {
    let mut s = reader.section(&format!("{PREFIX}{name}"));
    let sample = Values::new();
    let unknown = |template: &Template| {
        let root = |name: &String| name.split('.').next().unwrap_or_default().to_owned();
        let odd = template.names().iter().map(root).find(|name| !hook::NAMES.contains(&name.as_str()))?;
        Some((odd, hook::NAMES.join(", ")))
    };
    let to = template(&mut s, "to", &sample, unknown);
    if let (Some(template), Some(entry)) = (&to, s.entry("to"))
        && template.names().is_empty()
        && let Ok(list) = template.render(&sample)
    {
        s.parse(entry, |_| hook::named(&list, groups).or_else(wrong));
    }
    let text = template(&mut s, "text", &sample, unknown);
    let [severity, key, when] =
        ["severity", "key", "when"].map(|key| template(&mut s, key, &sample, unknown));
    if let (Some(template), Some(entry)) = (&severity, s.entry("severity"))
        && template.names().is_empty()
        && let Ok(word) = template.render(&sample)
        && !word.is_empty()
    {
        s.parse(entry, |_| value::integer(1..=5)(&word));
    }
    let mut remember = hook::REMEMBER;
    s.set("remember", &mut remember, value::duration(Duration::ZERO..=WEEK));
    let account = s.get("account", value::integer(1..=i32::MAX));
    let missing: Vec<&str> = ["to", "text"].into_iter().filter(|key| s.entry(key).is_none()).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !name.is_empty() && name.len() <= 64 && name.chars().all(plain);
    stands(s, |s| match () {
        () if RESERVED.contains(&name) => {
            let message = format!("[{}]: the webhook {name} has a section [{name}]", s.name);
            Some((Severity::Fault, message, "give this one another name"))
        }
        () if !good => {
            let message = format!("[{}]: expected a name of letters, digits, - _ and .", clipped(&s.name));
            Some((Severity::Fault, message, "such as [webhook.zabbix]"))
        }
        () if !missing.is_empty() => {
            let message = format!("[{}] has no {}", s.name, missing.join(" and no "));
            Some((Severity::Fault, message, "such as to: group:noc and text: {{ body.message }}"))
        }
        () if !listens => {
            let message = format!("[{}] is not used: [http] has no `listen`", s.name);
            Some((Severity::Warning, message, "such as listen: 127.0.0.1:8465"))
        }
        () => None,
    });
    Some(hook::Settings { to: to?, text: text?, severity, key, when, remember, account })
}

/// Closes a section; what is wrong with it as a whole is told where it begins, if it stands in the file.
fn stands<'a>(
    s: Section<'_, 'a>,
    wrong: impl FnOnce(&Section<'_, 'a>) -> Option<(Severity, String, &'static str)>,
) {
    let header = s.reader.ini.sections.iter().find(|section| section.name == s.name);
    // A header without a key, as in the example, asks for nothing.
    if let Some(span) = header.filter(|header| !header.entries.is_empty()).map(|header| header.span.clone())
        && let Some((severity, message, hint)) = wrong(&s)
    {
        let source = s.reader.source;
        let told = |severity| source.fault(severity, span.clone(), span.end, message).hint(hint.to_owned());
        s.reader.faults.push(severity, told);
    }
    s.close();
}

/// Numbers and groups.
fn to<'a>(s: &mut Section<'_, 'a>, entry: &'a Entry, groups: &Groups) -> Vec<Phone> {
    let one = |word: &str| recipients([word], groups).or_else(wrong);
    let to = s.parse(entry, value::list(one)).map(|to| to.concat());
    if to.as_ref().is_some_and(Vec::is_empty) {
        let message = format!("{}: nobody is named", clipped(&entry.key));
        s.fault_at(entry, message, "such as +4799999999, or group:NAME with a group of [groups]".to_owned());
    }
    to.unwrap_or_default()
}

fn wrong<T>(error: RecipientError) -> Parsed<T> {
    let hint = match error {
        RecipientError::NoGroup { .. } => Some(error.to_string()),
        RecipientError::Number { .. } | RecipientError::Nobody => None,
    };
    let expected = "a phone number such as +4799999999, or group:NAME".to_owned();
    Err(Wrong { expected, part: None, hint })
}

/// A template, if it is there and good. `unknown` finds a name in it that it will never be given, and says which there are.
fn template(
    s: &mut Section<'_, '_>,
    key: &str,
    sample: &Values,
    unknown: impl Fn(&Template) -> Option<(String, String)>,
) -> Option<Template> {
    let entry = s.entry(key)?;
    let told = |s: &mut Section<'_, '_>, error: TemplateError| {
        s.fault_in_line(entry, error.line, format!("{key}: {error}"), None);
    };
    let template = match Template::parse(entry.value.text.trim()) {
        Ok(template) => template,
        Err(error) => {
            told(s, error);
            return None;
        }
    };
    if let Some((name, known)) = unknown(&template) {
        let message = format!("{key}: {:?} is no name of this template", clipped(&name));
        s.fault_at(entry, message, format!("there are {known}"));
        return None;
    }
    template.try_on(sample).map_err(|error| told(s, error)).ok()?;
    Some(template)
}
