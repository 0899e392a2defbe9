//! What Grafana's alerting posts to a contact point of type webhook.
//!
//! Its body is Alertmanager's with more in it: `orgId`, `title` and `message`, and for each alert the values that made it
//! fire. An alert without a summary is told by these.
//!
//! Grafana (`receivers/webhook/v1/webhook.go` of its alerting module) does not try again after any answer that is no 2xx:
//! the notification comes again when the `group_interval` is over, 5 minutes unless set. A notification is therefore
//! remembered for six minutes: a repetition that is wanted comes after four hours, unless `repeat_interval` is set.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::notification::{Blank, Sender, word};

/// Its notifications.
pub const GRAFANA: Sender = Sender {
    name: "grafana",
    called: "Grafana",
    common: &[
        ("receiver", Blank::Text),
        ("status", Blank::Text),
        ("orgId", Blank::Text),
        ("groupLabels", Blank::Table),
        ("commonLabels", Blank::Table),
        ("commonAnnotations", Blank::Table),
        ("externalURL", Blank::Text),
        ("groupKey", Blank::Text),
        ("truncatedAlerts", Blank::Text),
        ("version", Blank::Text),
        ("title", Blank::Text),
        ("state", Blank::Text),
        ("message", Blank::Text),
    ],
    alert: &[
        ("status", Blank::Text),
        ("labels", Blank::Table),
        ("annotations", Blank::Table),
        ("startsAt", Blank::Text),
        ("endsAt", Blank::Text),
        ("generatorURL", Blank::Text),
        ("fingerprint", Blank::Text),
        ("silenceURL", Blank::Text),
        ("dashboardURL", Blank::Text),
        ("panelURL", Blank::Text),
        ("imageURL", Blank::Text),
        ("values", Blank::Table),
        ("valueString", Blank::Text),
    ],
    otherwise: measured,
};

/// How long a notification that comes again is taken for the same; see the module.
pub const REMEMBER: Duration = Duration::from_secs(6 * 60);

/// What was measured: `B=44.2 C=1`.
fn measured(alert: &Map<String, Json>) -> Option<String> {
    let values = alert.get("values").and_then(Json::as_object).filter(|values| !values.is_empty());
    let listed = |values: &Map<String, Json>| {
        values.iter().map(|(name, value)| format!("{name}={}", word(value))).collect::<Vec<_>>().join(" ")
    };
    values.map(listed).or_else(|| alert.get("valueString").map(word)).filter(|text| !text.is_empty())
}
