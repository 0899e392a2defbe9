//! One caller's notification is no other's.

use serde_json::{Value, json};

use super::place::Place;
use crate::bench::until;

/// All that a stranger knows of it beforehand, with labels of the caller's own.
fn notification(labels: &Value, summary: &str) -> String {
    json!({
        "version": "4", "receiver": "sms", "status": "firing", "orgId": 1,
        "groupKey": "{}:{alertname=\"CoreDown\"}", "groupLabels": {"alertname": "CoreDown"},
        "alerts": [{
            "status": "firing", "labels": labels, "annotations": {"summary": summary},
            "startsAt": "2026-11-29T18:00:00.123Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "c0ffee01",
        }],
    })
    .to_string()
}

#[test]
fn nobody_hides_a_notification_by_posting_one_like_it_first() {
    let who = "to: +4790000001\nto.team.lab: +4790000009\n";
    let place = Place::new("", &format!("[alertmanager]\n{who}[grafana]\n{who}"));
    let daemon = place.start();
    for sender in ["alertmanager", "grafana"] {
        let path = format!("/api/v1/webhooks/{sender}");
        let other = notification(&json!({"team": "lab", "alertname": "Lunch"}), "lunch");
        assert_eq!(place.post("printer", &path, &other).status, 200);
        let summary = format!("core switch is down, says {sender}");
        let own = notification(&json!({"alertname": "CoreDown", "severity": "critical"}), &summary);
        let same = place.post("printer", &path, &own);
        assert_eq!(same.status, 200, "{same:?}");

        let first = place.post("alertmanager", &path, &own);
        assert_eq!((first.status, first.json()["ids"].as_array().unwrap().len()), (200, 1), "{first:?}");
        assert_ne!(first.json(), same.json(), "another caller's alert, even in the very same words");
        let again = place.post("alertmanager", &path, &own);
        assert_eq!((again.status, again.json()), (200, first.json()), "a retry is queued once");

        let id = first.json()["ids"][0].clone();
        let sent = || place.get("screen", &format!("/api/v1/alerts/{id}")).json()["alert"]["state"] == "sent";
        until("the alert of Alertmanager's own is sent", || sent().then_some(()));
        let told = place.gateway.accepted();
        let told = told.iter().filter(|sms| sms.phone == "+4790000001" && sms.text.contains(&summary));
        assert!(told.count() >= 1, "the person on call is told");
    }
    daemon.stop();
}

#[test]
fn what_has_neither_fingerprint_nor_start_is_told_apart_by_its_words() {
    let place = Place::new("", "[alertmanager]\nto: +4790000001\n");
    let daemon = place.start();
    for (host, summary) in [("one", "it hangs"), ("two", "it hangs"), ("two", "it burns")] {
        let (labels, said) = (json!({"alertname": "Down", "instance": host}), json!({"summary": summary}));
        let body = json!({"alerts": [{"labels": labels, "annotations": said}]}).to_string();
        let taken = place.post("alertmanager", "/api/v1/webhooks/alertmanager", &body);
        assert_eq!((taken.status, taken.json()["ids"].as_array().unwrap().len()), (200, 1), "{taken:?}");
        let told = || {
            place.gateway.accepted().iter().any(|sms| sms.text.contains(host) && sms.text.contains(summary))
        };
        until("it is told", || told().then_some(()));
    }
    daemon.stop();
}
