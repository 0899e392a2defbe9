//! A notification of Alertmanager's kind: a group of alerts, each firing or resolved, with labels and annotations.
//!
//! Each of its alerts becomes one of ours for each recipient. Who that is, and how severe it is, its labels say by the
//! tables of the configuration; what the SMS says, a template, or a text that names the alert and tells as much of its
//! summary as one SMS has room for.
//!
//! **A notification that comes again is queued once.** Its key is a digest of the receiver, the group, whom it is for,
//! and each alert's fingerprint, labels, state and times; who posts it is put before that ([`Handover::by`]). What may
//! differ between two posts of one notification is no part of it: the order of the alerts, annotations (two Prometheus of
//! a pair have measured different values), texts of our own configuration. So two Alertmanagers of one cluster that both
//! send it, with one token, are the same to us. But the same notification is also what comes after `repeat_interval`, on
//! purpose, and nothing in it says so: all that tells a repetition from a retry is the time that has passed. So a key is
//! remembered for no longer than it takes to try again ([`Settings::remember`]; each sender's module says why how long).
//!
//! **No alert is lost because something about it is odd**: what the template can not render is told in the default text, a
//! severity that is in no table is the middle one, an alert that no table sends to anybody goes to all whom the tables
//! name, and of what the sender left out, one alert says how much.
//!
//! Deliberately absent: silences, inhibition and grouping, which are the sender's; and the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::{Value, merge_maps};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::ALERTS_MAX;
use super::handover::{Handover, Refused};
use super::one_sms::one_sms;
use super::template::{self, STEPS, Template, Values};
use crate::alert::{Phone, Severity};
use crate::queue::{Key, NewAlert, Submission};

/// What a section such as `[alertmanager]` says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `to`: who is told of alerts that no [`Settings::routes`] is for.
    pub to: Vec<Phone>,
    /// `to.LABEL.VALUE`: who is told instead; of all that match.
    pub routes: Vec<Route>,
    /// `severity.VALUE`: what the label `severity` means, in lower case.
    pub severities: BTreeMap<String, i32>,
    /// `resolved`: tell that alerts are resolved.
    pub resolved: bool,
    /// `text`.
    pub text: Option<Template>,
    /// `remember`: how long a notification that comes again is taken for the same.
    pub remember: Duration,
    /// `account`: NAV's, to which the alerts belong.
    pub account: Option<i32>,
}

impl Settings {
    /// What holds where the section says nothing; `remember` is the sender's.
    pub fn new(remember: Duration) -> Settings {
        let severities = [("critical", 1), ("warning", 3), ("info", 5)];
        Settings {
            to: Vec::new(),
            routes: Vec::new(),
            severities: severities.map(|(word, severity)| (word.to_owned(), severity)).into(),
            resolved: true,
            text: None,
            remember,
            account: None,
        }
    }

    /// Who is told of an alert with these labels, each once.
    fn recipients(&self, labels: &Map<String, Json>) -> Vec<&Phone> {
        let matches = |route: &&Route| labels.get(&route.label).is_some_and(|v| word(v) == route.value);
        let mut to: Vec<&Phone> = self.routes.iter().filter(matches).flat_map(|route| &route.to).collect();
        if to.is_empty() {
            to.extend(&self.to);
        }
        if to.is_empty() {
            to.extend(self.routes.iter().flat_map(|route| &route.to));
        }
        let mut seen = BTreeSet::new();
        to.retain(|phone| seen.insert(*phone));
        to
    }

    /// Any other word means the middle.
    fn severity(&self, labels: &Map<String, Json>) -> i32 {
        let word = word(labels.get("severity").unwrap_or(&Json::Null)).to_lowercase();
        self.severities.get(&word).copied().unwrap_or(3)
    }
}

/// `to.LABEL.VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The label, as it is spelled.
    pub label: String,
    /// Its value, as it is spelled.
    pub value: String,
    /// Who is told.
    pub to: Vec<Phone>,
}

/// A program that sends notifications: what is its own about them.
#[derive(Debug)]
pub struct Sender {
    /// Its name, which is that of its section.
    pub name: &'static str,
    /// What it is called.
    pub called: &'static str,
    /// What templates may ask for beside `alert`, documented by the sender.
    pub(super) common: &'static [(&'static str, Blank)],
    /// The same within `alert`.
    pub(super) alert: &'static [(&'static str, Blank)],
    /// What else it says of an alert without a summary.
    pub(super) otherwise: fn(&Map<String, Json>) -> Option<String>,
}

/// What stands for a field that a body does not have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blank {
    Text,
    Table,
}

impl Blank {
    fn value(self) -> Value {
        match self {
            Blank::Text => Value::from(""),
            Blank::Table => Value::from(Values::new()),
        }
    }
}

/// Alerts of ours from one notification at most: what is beyond is counted.
const OURS_MAX: usize = 20 * ALERTS_MAX;
/// Names that stand beside `alerts`, at most.
const NAMES_MAX: usize = 256;

impl Sender {
    /// What a body comes to.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn read(&self, body: &[u8], settings: &Settings) -> Result<Handover, Refused> {
        let wrong =
            |what: &str| Refused::Unreadable(format!("this is no notification of {}: {what}", self.called));
        let body: Json = serde_json::from_slice(body).map_err(|e| wrong(&format!("no JSON: {e}")))?;
        let body = body.as_object().ok_or_else(|| wrong("expected a JSON object"))?;
        let alerts =
            body.get("alerts").and_then(Json::as_array).ok_or_else(|| wrong("it has no list `alerts`"))?;
        let alerts: Option<Vec<&Map<String, Json>>> = alerts.iter().map(Json::as_object).collect();
        let alerts = alerts.ok_or_else(|| wrong("something in `alerts` is no object"))?;

        let mut teller = Teller::new(self, settings, body);
        for alert in &alerts {
            teller.tell(alert);
        }
        teller.truncated(&alerts);
        if teller.nobody {
            return Err(Refused::Nobody(self.name));
        }
        let key = self.key(body, &alerts, &teller.ours);
        let kept = settings.remember;
        let submissions = teller.ours.chunks(ALERTS_MAX).enumerate().map(|(n, alerts)| Submission {
            key: Key { name: format!("{}:{key}:{n}", self.name), kept },
            alerts: alerts.to_vec(),
        });
        Ok(Handover { submissions: submissions.collect(), notes: teller.notes })
    }

    /// What a template could be given.
    pub fn sample(&self) -> Values {
        let text = |word: &str| Json::from(word);
        let labels =
            [("alertname", "InstanceDown"), ("instance", "web1.example.org:9100"), ("severity", "critical")];
        let annotations = [("summary", "web1 is down"), ("description", "web1 has been down for 5 minutes")];
        let table = |pairs: &[(&str, &str)]| Json::from_iter(pairs.iter().map(|(k, v)| (*k, text(v))));
        let alert = [
            ("status", text("firing")),
            ("labels", table(&labels)),
            ("annotations", table(&annotations)),
            ("startsAt", text("2026-01-01T00:00:00Z")),
        ];
        let alert = alert.map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
        let mut values = self.common(&Map::new());
        values.insert("alert".to_owned(), self.fields(&alert));
        values
    }

    /// What a template asks for and this sender never says, if there is such a thing.
    pub fn unknown<'t>(&self, template: &'t Template) -> Option<(&'t str, Vec<&'static str>)> {
        let names = |fields: &'static [(&str, Blank)]| fields.iter().map(|(name, _)| *name);
        template.names().iter().find_map(|name| {
            let (root, rest) = name.split_once('.').unwrap_or((name, ""));
            let field = rest.split('.').next().unwrap_or_default();
            let known: Vec<&str> = match root {
                "alert" if field.is_empty() || names(self.alert).any(|n| n == field) => return None,
                "alert" => names(self.alert).collect(),
                _ => ["alert"].into_iter().chain(names(self.common)).collect(),
            };
            (root == "alert" || !known.contains(&root)).then_some((name.as_str(), known))
        })
    }

    /// See the module.
    fn key(&self, body: &Map<String, Json>, alerts: &[&Map<String, Json>], ours: &[NewAlert]) -> String {
        let field = |of: &Map<String, Json>, name: &str| of.get(name).map(word).unwrap_or_default();
        let digest = |parts: &[String]| {
            let mut hash = Sha256::new();
            for part in parts {
                // With its length, so that no two lists look the same.
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part.as_bytes());
            }
            hex::encode(hash.finalize())
        };
        let mut each: Vec<String> = alerts
            .iter()
            .map(|alert| {
                let (status, fingerprint) = (field(alert, "status"), field(alert, "fingerprint"));
                let starts = field(alert, "startsAt");
                let labels = alert.get("labels").map(Json::to_string).unwrap_or_default();
                // When a firing alert would end, were it not heard of again, is no matter.
                let ends = if is_resolved(alert, body) { field(alert, "endsAt") } else { String::new() };
                // Without these two nothing tells it from another: then all that it says does.
                let rest = match fingerprint.is_empty() || starts.is_empty() {
                    true => alert.get("annotations").map(Json::to_string).unwrap_or_default(),
                    false => String::new(),
                };
                digest(&[fingerprint, status, starts, ends, labels, rest])
            })
            .collect();
        each.sort();
        let common = ["receiver", "groupKey", "status", "orgId", "truncatedAlerts"];
        let mut parts: Vec<String> = common.iter().map(|name| field(body, name)).collect();
        if parts.get(1).is_some_and(String::is_empty) {
            parts.push(body.get("groupLabels").map(Json::to_string).unwrap_or_default());
        }
        parts.extend(each);
        let mut to: Vec<&str> = ours.iter().map(|alert| alert.to.as_str()).collect();
        to.sort_unstable();
        to.dedup();
        parts.extend(to.into_iter().map(str::to_owned));
        digest(&parts)
    }

    /// What templates see of the body, beside the alert.
    fn common(&self, body: &Map<String, Json>) -> Values {
        let mut values: Values =
            self.common.iter().map(|(name, blank)| ((*name).to_owned(), blank.value())).collect();
        let told = body.iter().filter(|(name, json)| *name != "alerts" && !json.is_null());
        values.extend(told.take(NAMES_MAX).map(|(name, json)| (name.clone(), template::value(json))));
        values
    }

    /// What they see as `alert`.
    fn fields(&self, alert: &Map<String, Json>) -> Value {
        let mut fields: Values =
            self.alert.iter().map(|(name, blank)| ((*name).to_owned(), blank.value())).collect();
        let told = alert.iter().filter(|(_, json)| !json.is_null());
        fields.extend(told.map(|(name, json)| (name.clone(), template::value(json))));
        Value::from(fields)
    }

    /// The text where there is no template: what it is and where, and what there is to say of it.
    fn text(&self, alert: &Map<String, Json>, resolved: bool) -> String {
        let none = Map::new();
        let table = |name: &str| alert.get(name).and_then(Json::as_object).unwrap_or(&none);
        let (labels, annotations) = (table("labels"), table("annotations"));
        let first = |of: &Map<String, Json>, names: &[&'static str]| {
            let found = names.iter().map(|name| (*name, of.get(*name).map(word).unwrap_or_default()));
            found.into_iter().find(|(_, text)| !text.trim().is_empty())
        };
        let name = first(labels, &["alertname"]);
        let place = first(labels, &["instance", "host", "hostname", "node", "device"]);
        let told: Vec<&str> = [&name, &place].into_iter().flatten().map(|(label, _)| *label).collect();
        let others = || {
            let hidden = |label: &str| label == "severity" || label.starts_with("__");
            let others = labels.iter().filter(|(label, _)| !told.contains(&label.as_str()) && !hidden(label));
            others.map(|(label, value)| format!("{label}={}", word(value))).collect::<Vec<_>>().join(" ")
        };
        let summary = first(annotations, &["summary", "description", "message"]).map(|(_, text)| text);
        let tail = summary.or_else(|| (self.otherwise)(alert)).unwrap_or_else(others);
        let name = name.as_ref().map_or("alert", |(_, name)| name.as_str());
        let head: Vec<&str> = resolved
            .then_some("RESOLVED")
            .into_iter()
            .chain([name])
            .chain(place.as_ref().map(|(_, place)| place.as_str()))
            .collect();
        one_sms(&head.join(" "), &tail)
    }
}

/// Turns the alerts of a notification into ours, one after the other.
struct Teller<'a> {
    sender: &'a Sender,
    settings: &'a Settings,
    body: &'a Map<String, Json>,
    /// For templates; nothing, if there is none.
    common: Value,
    /// What work they may still be.
    steps: u64,
    ours: Vec<NewAlert>,
    /// Alerts that there was no room for.
    beyond: u64,
    nobody: bool,
    notes: Vec<String>,
}

impl<'a> Teller<'a> {
    fn new(sender: &'a Sender, settings: &'a Settings, body: &'a Map<String, Json>) -> Teller<'a> {
        let common = if settings.text.is_some() { sender.common(body) } else { Values::new() };
        let (common, steps, ours, notes) = (Value::from(common), STEPS, Vec::new(), Vec::new());
        Teller { sender, settings, body, common, steps, ours, beyond: 0, nobody: false, notes }
    }

    fn tell(&mut self, alert: &Map<String, Json>) {
        let resolved = is_resolved(alert, self.body);
        if resolved && !self.settings.resolved {
            return;
        }
        let none = Map::new();
        let labels = alert.get("labels").and_then(Json::as_object).unwrap_or(&none);
        let to = self.settings.recipients(labels);
        self.nobody |= to.is_empty();
        if self.ours.len() + to.len() > OURS_MAX {
            self.beyond += 1;
            return;
        }
        let severity = self.settings.severity(labels);
        let text = self.text(alert, resolved);
        self.queue(to, text, severity);
    }

    fn text(&mut self, alert: &Map<String, Json>, resolved: bool) -> String {
        let Some(template) = &self.settings.text else { return self.sender.text(alert, resolved) };
        let alert_alone = Value::from(Values::from([("alert".to_owned(), self.sender.fields(alert))]));
        let values = merge_maps([alert_alone, self.common.clone()]);
        let problem = match template.render_within(values, &mut self.steps) {
            Ok(text) if !text.is_empty() => return text,
            Ok(_) => "it makes an empty text".to_owned(),
            Err(error) => error.to_string(),
        };
        let note =
            format!("`text` of [{}]: {problem}; the alert is told in the default text", self.sender.name);
        if !self.notes.contains(&note) && self.notes.len() < 10 {
            self.notes.push(note);
        }
        self.sender.text(alert, resolved)
    }

    fn queue(&mut self, to: Vec<&Phone>, text: String, severity: i32) {
        let text: Arc<str> = text.into();
        self.ours.extend(to.into_iter().map(|phone| NewAlert {
            to: phone.clone(),
            text: Arc::clone(&text),
            severity: Severity(Some(severity)),
            account: self.settings.account,
        }));
    }

    /// Says how many alerts the notification has not told, to all whom those that it tells are for.
    fn truncated(&mut self, alerts: &[&Map<String, Json>]) {
        let told = self.body.get("truncatedAlerts");
        let by_sender = told.and_then(|n| n.as_u64().or_else(|| word(n).parse().ok())).unwrap_or_default();
        let more = by_sender.saturating_add(self.beyond);
        if more == 0 {
            return;
        }
        let called = self.sender.called;
        self.notes.push(format!("{called} told of {more} more alerts without saying which (max_alerts)"));
        let none = Map::new();
        let labels = |alert: &'_ &Map<String, Json>| alert.get("labels").and_then(Json::as_object).cloned();
        let severity = alerts.iter().filter_map(labels).map(|labels| self.settings.severity(&labels)).min();
        let all = alerts.iter().map(|alert| alert.get("labels").and_then(Json::as_object).unwrap_or(&none));
        let mut seen = BTreeSet::new();
        let mut to: Vec<&Phone> = all.flat_map(|labels| self.settings.recipients(labels)).collect();
        if to.is_empty() {
            to = self.settings.recipients(&none);
        }
        to.retain(|phone| seen.insert(*phone));
        self.nobody |= to.is_empty();
        let receiver = self.body.get("receiver").map(word).unwrap_or_default();
        let url = self.body.get("externalURL").map(word).unwrap_or_default();
        let text = one_sms(&format!("{more} more alerts in {called}"), &format!("{receiver} {url}"));
        self.queue(to, text, severity.unwrap_or(3));
    }
}

/// The alert's own word counts, else the group's; an unknown one means that it fires.
fn is_resolved(alert: &Map<String, Json>, body: &Map<String, Json>) -> bool {
    let status = alert.get("status").or_else(|| body.get("status"));
    status.is_some_and(|status| word(status) == "resolved")
}

/// A value in a word: labels are text, whatever a proxy made of them.
pub(super) fn word(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        Json::Number(_) | Json::Bool(_) => json.to_string(),
        Json::Null | Json::Array(_) | Json::Object(_) => String::new(),
    }
}
