//! What Prometheus's Alertmanager posts to a `webhook_config` (version 4 of its body).
//!
//! What its source says (`notify/webhook/webhook.go`, `notify/util.go`, `notify/retry_stage.go`; 0.25 and 0.32): any 2xx is a
//! yes. After 5xx, and after no answer, it tries again, at first after half a second, then at most 90 seconds apart (its back-off of
//! 60 s with 50 % jitter), for one `group_interval` (5 min unless set). After any other answer, 429 among them, it
//! gives up; the notification counts as not sent, so that it comes again when the `group_interval` is over. So we say no with 503
//! for all that may get better, and with 4xx only to a body that will never be readable.
//!
//! In a cluster, each further member waits 15 s (`cluster.peer-timeout`) for the word that another has sent, and sends if
//! it does not come. With two retries at their longest and five members, the same notification comes within four
//! minutes, and so long is it remembered: less than the default `group_interval` of five minutes, below which no repetition comes
//! whatever `repeat_interval` says. Who has made that shorter sets `remember`.

use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::notification::{Blank, Sender};

/// Its notifications.
pub const ALERTMANAGER: Sender = Sender {
    name: "alertmanager",
    called: "Alertmanager",
    common: &[
        ("receiver", Blank::Text),
        ("status", Blank::Text),
        ("groupLabels", Blank::Table),
        ("commonLabels", Blank::Table),
        ("commonAnnotations", Blank::Table),
        ("externalURL", Blank::Text),
        ("groupKey", Blank::Text),
        ("truncatedAlerts", Blank::Text),
        ("version", Blank::Text),
        ("notification_reason", Blank::Text),
    ],
    alert: &[
        ("status", Blank::Text),
        ("labels", Blank::Table),
        ("annotations", Blank::Table),
        ("startsAt", Blank::Text),
        ("endsAt", Blank::Text),
        ("generatorURL", Blank::Text),
        ("fingerprint", Blank::Text),
    ],
    otherwise: |_: &Map<String, Json>| None,
};

/// How long a notification that comes again is taken for the same; see the module.
pub const REMEMBER: Duration = Duration::from_secs(4 * 60);
