//! What a body comes to, before any queue.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use smsd::config::Config;
use smsd::intake::alertmanager::ALERTMANAGER;
use smsd::intake::grafana::GRAFANA;
use smsd::intake::hook::{self, Posted};
use smsd::intake::{ALERTS_MAX, Handover, Refused};

use crate::bench::{Place, Told, fixture, told};

const TO: &str = "[alertmanager]\nto: +4790000001\n[grafana]\nto: +4790000001\n";

fn config(sections: &str) -> Config {
    Place::new(sections).config()
}

fn alerts(handover: &Handover) -> Vec<Told> {
    let all = handover.submissions.iter().flat_map(|submission| &submission.alerts);
    all.map(|alert| (alert.to.to_string(), alert.severity.0, alert.text.to_string())).collect()
}

/// What Alertmanager's body comes to under this configuration.
fn read(sections: &str, body: &Value) -> Handover {
    ALERTMANAGER.read(body.to_string().as_bytes(), &config(sections).alertmanager).unwrap()
}

fn firing() -> Value {
    serde_json::from_str(&fixture("alertmanager.json")).unwrap()
}

fn keys(handover: &Handover) -> Vec<String> {
    handover.submissions.iter().map(|submission| submission.key.name.clone()).collect()
}

#[test]
fn labels_choose_recipients_and_severity() {
    let sections = "[groups]\nnoc: +4790000001, +4790000002\ndba: +4790000003\n[alertmanager]\nto: group:noc\n\
        to.team.db: group:dba\nto.job.node: group:dba, +4790000004\nto.team.DBX: +4790000009\nseverity.warning: 2\n";
    let mut body = firing();
    let got = alerts(&read(sections, &body));
    let down =
        |host: &str| format!("InstanceDown {host}.example.org:9100: {host} does not answer its exporter");
    // Both are of the job; the second is of the team, too, and is told once to each.
    assert_eq!(
        got,
        [
            told("+4790000003", Some(1), &down("web1")),
            told("+4790000004", Some(1), &down("web1")),
            told("+4790000003", Some(2), &down("db1")),
            told("+4790000004", Some(2), &down("db1")),
        ]
    );
    body["alerts"][0]["labels"] = json!({"alertname": "X", "team": "DB", "severity": "CRITICAL"});
    body["alerts"][1]["labels"] = json!({"alertname": "Y", "team": "DBX", "severity": "odd"});
    let got = alerts(&read(sections, &body));
    // Case counts in labels, and does not in severities.
    let who: Vec<(&str, Option<i32>)> =
        got.iter().map(|(to, severity, _)| (to.as_str(), *severity)).collect();
    assert_eq!(who, [("+4790000001", Some(1)), ("+4790000002", Some(1)), ("+4790000009", Some(3))]);
}

#[test]
fn whom_no_table_names_all_are_told() {
    let sections = "[alertmanager]\nto.team.db: +4790000003\nto.team.web: +4790000004\n";
    let got = alerts(&read(sections, &firing()));
    let who: Vec<&str> = got.iter().map(|(to, ..)| to.as_str()).collect();
    assert_eq!(who, ["+4790000003", "+4790000004", "+4790000003"]);
    let nobody = ALERTMANAGER.read(firing().to_string().as_bytes(), &config("").alertmanager);
    assert_eq!(nobody, Err(Refused::Nobody("alertmanager")));
}

#[test]
fn resolved_is_told_unless_it_is_not_wanted() {
    let body: Value = serde_json::from_str(&fixture("alertmanager_resolved.json")).unwrap();
    let got = alerts(&read(TO, &body));
    let text = "RESOLVED InstanceDown web1.example.org:9100: web1 does not answer its exporter";
    assert_eq!(got, [told("+4790000001", Some(1), text)]);
    let sections = "[alertmanager]\nto: +4790000001\nresolved: no\n";
    assert_eq!(read(sections, &body), Handover::default());
    // Of a group, what still fires is told.
    let mut both = firing();
    both["alerts"][0]["status"] = json!("resolved");
    assert_eq!(alerts(&read(sections, &both)).len(), 1);
}

#[test]
fn a_text_of_ones_own_sees_what_is_documented() {
    let text = "text: {{ alert.labels.alertname }} {{ alert.status }} {{ receiver }} {{ groupLabels.alertname }}\n \
        {{ commonLabels.job }} {{ alert.annotations.summary|default('-') }} {{ externalURL }} {{ alert.generatorURL }}";
    let got =
        alerts(&read(&format!("{TO}[x]\ntype: y\n").replacen("]\n", &format!("]\n{text}\n"), 1), &firing()));
    assert_eq!(
        got[0].2,
        "InstanceDown firing sms InstanceDown\nnode web1 does not answer its exporter \
         http://alertmanager.example.org:9093 http://prometheus.example.org:9090/graph?g0.expr=up+%3D%3D+0"
    );
}

#[test]
fn a_text_that_fails_costs_no_alert() {
    let sections = "[alertmanager]\nto: +4790000001\ntext: {{ alert.labels.team }}!\n";
    let handover = read(sections, &firing());
    let texts: Vec<String> = alerts(&handover).into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["InstanceDown web1.example.org:9100: web1 does not answer its exporter", "db!"]);
    let [note] = &handover.notes[..] else { panic!("{:?}", handover.notes) };
    assert!(note.contains("[alertmanager]") && note.contains("default"), "{note}");
}

#[test]
fn what_the_sender_left_out_is_told() {
    let mut body = firing();
    body["truncatedAlerts"] = json!(40);
    let sections = "[alertmanager]\nto: +4790000001\nto.team.db: +4790000003\n";
    let got = alerts(&read(sections, &body));
    let text = "40 more alerts in Alertmanager: sms http://alertmanager.example.org:9093";
    assert_eq!(got[2..], [told("+4790000001", Some(1), text), told("+4790000003", Some(1), text)]);
}

/// The same notification has the same key; what is another alert, another one.
#[test]
fn the_key_is_that_of_the_notification() {
    let key = |body: &Value| keys(&read(TO, body));
    let first = key(&firing());
    let same = |change: fn(&mut Value)| {
        let mut body = firing();
        change(&mut body);
        key(&body) == first
    };
    let swap = |body: &mut Value| body["alerts"].as_array_mut().unwrap().swap(0, 1);
    assert!(same(|_| {}) && same(swap));
    assert!(same(|b| b["alerts"][0]["annotations"]["summary"] = json!("measured otherwise")));
    assert!(same(|b| b["alerts"][0]["endsAt"] = json!("2026-11-23T11:00:00Z")), "it still fires");
    assert!(same(|b| b["new_in_version_5"] = json!({"x": [1]})));
    for (n, change) in [
        (|b| b["receiver"] = json!("other")) as fn(&mut Value),
        |b| b["groupKey"] = json!("other"),
        |b| b["status"] = json!("resolved"),
        |b| b["truncatedAlerts"] = json!(1),
        |b| b["alerts"][1]["status"] = json!("resolved"),
        |b| b["alerts"][1]["startsAt"] = json!("2026-11-23T12:00:00Z"),
        |b| b["alerts"][1]["fingerprint"] = json!("c"),
        |b| drop(b["alerts"].as_array_mut().unwrap().pop()),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(!same(change), "change {n}");
    }
    // Without fingerprints, the labels tell alerts apart; a resolved one is told apart by its end.
    let mut bare = firing();
    for alert in bare["alerts"].as_array_mut().unwrap() {
        alert.as_object_mut().unwrap().remove("fingerprint");
        alert["status"] = json!("resolved");
    }
    let before = key(&bare);
    bare["alerts"][0]["labels"]["instance"] = json!("web2");
    assert_ne!(key(&bare), before);
    let before = key(&bare);
    bare["alerts"][0]["endsAt"] = json!("2026-11-23T12:00:00Z");
    assert_ne!(key(&bare), before);
    let of_grafana = GRAFANA.read(firing().to_string().as_bytes(), &config(TO).grafana).unwrap();
    assert_ne!(keys(&of_grafana), first);
}

#[test]
fn many_are_handed_in_in_pieces_and_what_is_too_much_is_counted() {
    let alert = |n: usize| json!({"labels": {"alertname": format!("A{n}")}});
    let body = json!({"status": "firing", "alerts": (0..2500).map(alert).collect::<Vec<_>>()});
    let handover = read(TO, &body);
    let sizes: Vec<usize> = handover.submissions.iter().map(|s| s.alerts.len()).collect();
    assert_eq!(sizes, [ALERTS_MAX, ALERTS_MAX, 500]);
    assert_eq!(keys(&handover).iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(keys(&handover).iter().all(|key| key.len() <= 255 && key.starts_with("alertmanager:")));

    let body = json!({"alerts": (0..20_500).map(alert).collect::<Vec<_>>()});
    let got = alerts(&read(TO, &body));
    assert_eq!(got.len(), 20_001);
    assert!(got[20_000].2.starts_with("500 more alerts"), "{}", got[20_000].2);
}

#[test]
fn what_is_missing_is_lived_with_and_what_is_unreadable_is_not() {
    let got = alerts(&read(TO, &json!({"alerts": [{}, {"labels": {"n": 7, "job": "x"}, "status": null}]})));
    assert_eq!(
        got,
        [told("+4790000001", Some(3), "alert"), told("+4790000001", Some(3), "alert: job=x n=7")]
    );
    assert_eq!(read(TO, &json!({"alerts": []})), Handover::default());
    for body in ["", "{", "[]", "{}", "null", r#"{"alerts": {}}"#, r#"{"alerts": [1]}"#, "\u{feff}{}"] {
        for sender in [ALERTMANAGER, GRAFANA] {
            let result = sender.read(body.as_bytes(), &config(TO).alertmanager);
            assert!(matches!(result, Err(Refused::Unreadable(_))), "{body}: {result:?}");
        }
    }
    let deep = format!("{{\"alerts\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(ALERTMANAGER.read(deep.as_bytes(), &config(TO).alertmanager).is_err());
}

#[test]
fn grafana_tells_what_was_measured() {
    let mut body: Value = serde_json::from_str(&fixture("grafana.json")).unwrap();
    let read = |sections: &str, body: &Value| {
        alerts(&GRAFANA.read(body.to_string().as_bytes(), &config(sections).grafana).unwrap())
    };
    assert_eq!(read(TO, &body)[1].2, "High CPU usage: This alert was triggered for zone eu-1");
    body["alerts"][0]["annotations"] = json!({});
    assert_eq!(read(TO, &body)[0].2, "High memory usage: B=44.23943737541908 C=1");
    body["alerts"][0]["values"] = json!(null);
    body["alerts"][0]["valueString"] = json!("[ var='B' value=44 ]");
    assert_eq!(read(TO, &body)[0].2, "High memory usage: [ var='B' value=44 ]");
    let text = "[grafana]\nto: +4790000001\ntext: {{ alert.labels.zone }} {{ alert.valueString }} {{ title }} {{ orgId }}\n";
    assert_eq!(read(text, &body)[0].2, "us-1 [ var='B' value=44 ] [FIRING:2]  (blue) 1");
}

// -- the plain ones ----------------------------------------------------------------------------

const PLAIN: &str = "[groups]\nnoc: +4790000001, +4790000002\n[webhook.x]\n";

fn plain(keys: &str, content_type: &str, query: &str, body: &[u8]) -> Result<Handover, Refused> {
    let config = config(&format!("{PLAIN}{keys}\n"));
    let content_type = Some(content_type).filter(|kind| !kind.is_empty());
    hook::read("x", Posted { content_type, query, body }, &config.webhooks["x"], &config.groups)
}

#[test]
fn a_body_is_what_it_says_to_be() {
    let keys = "to: 112\ntext: {{ body.a|default(body) }}/{{ form.a|default('') }}/{{ query.q|default('') }}/{{ raw }}";
    for (kind, query, body, want) in [
        ("application/json; charset=utf-8", "q=%26", r#"{"a":"é"}"#, r#"é//&/{"a":"é"}"#),
        ("application/vnd.x+json", "", r#"{"a":1}"#, r#"1///{"a":1}"#),
        ("application/x-www-form-urlencoded", "", "a=b%20c&a=d+e", "d e/d e//a=b%20c&a=d+e"),
        ("text/plain", "", "hello", "hello///hello"),
        ("", "", r#"{"a":2}"#, r#"2///{"a":2}"#),
        ("", "", "x: {", "x: {///x: {"),
    ] {
        let handover = plain(keys, kind, query, body.as_bytes()).unwrap();
        assert_eq!(alerts(&handover), [told("112", None, want)], "{kind}");
        assert_eq!(handover.notes, [""; 0]);
    }
    for (kind, body) in [
        ("application/json", &b"{"[..]),
        ("application/json", b"{\"a\": \"\xff\"}"),
        ("application/json", b""),
        ("multipart/form-data; boundary=x", b"--x"),
    ] {
        assert!(matches!(plain(keys, kind, "", body), Err(Refused::Unreadable(_))), "{kind}");
    }
    let odd = plain("to: 112\ntext: {{ raw }}", "text/plain", "", b"caf\xe9").unwrap();
    assert_eq!(alerts(&odd)[0].2, "caf\u{fffd}");
}

#[test]
fn templates_say_who_how_severe_and_when() {
    let keys =
        "to: {{ body.to }}, group:noc\ntext: t\nseverity: {{ body.level }}\nwhen: {{ body.state == 'down' }}";
    let post = |body: Value| plain(keys, "application/json", "", body.to_string().as_bytes());
    let got = post(json!({"to": "+47 (900) 00 009", "level": 2, "state": "down"})).unwrap();
    let who: Vec<Told> =
        ["+4790000009", "+4790000001", "+4790000002"].map(|to| told(to, Some(2), "t")).into();
    assert_eq!(alerts(&got), who);
    assert_eq!(post(json!({"to": "112", "level": 2, "state": "up"})).unwrap(), Handover::default());
    // What fails or is none costs no alert.
    for (body, severity) in [
        (json!({"to": "112", "state": "down"}), None),
        (json!({"to": "112", "state": "down", "level": 9}), Some(3)),
        (json!({"to": "112", "level": "\u{1b}[31m"}), Some(3)),
    ] {
        let got = post(body.clone()).unwrap();
        assert_eq!(alerts(&got)[0], told("112", severity, "t"), "{body}");
        assert!(!got.notes.is_empty() && !got.notes.concat().contains('\u{1b}'), "{:?}", got.notes);
    }
    // There is nobody to tell.
    for body in [
        json!({"to": "nobody", "state": "down"}),
        json!({"state": "down"}),
        json!({"to": "group:x", "state": "down"}),
        json!({"to": "112\nBCC: 113", "state": "down"}),
    ] {
        assert!(matches!(post(body.clone()), Err(Refused::Recipient { .. })), "{body}");
    }
}

#[test]
fn a_text_that_can_not_be_made_is_the_body() {
    let got = plain("to: 112\ntext: {{ body.nothing }}", "application/json", "", br#"{"a": 1}"#).unwrap();
    assert_eq!(alerts(&got)[0].2, r#"x: {"a": 1}"#);
    assert_eq!(got.notes.len(), 1, "{:?}", got.notes);
    let got = plain("to: 112\ntext: {{ body.nothing }}", "", "", "æ".repeat(5000).as_bytes()).unwrap();
    assert!(alerts(&got)[0].2.len() <= 480 && alerts(&got)[0].2.ends_with("æ..."));
}

#[test]
fn a_key_tells_one_alert_from_all_others() {
    let keys = "to: 112\ntext: {{ body.t }}\nkey: {{ body.id }}\nremember: 1h";
    let post = |body: Value| {
        let handover = plain(keys, "application/json", "", body.to_string().as_bytes()).unwrap();
        handover.submissions[0].key.clone()
    };
    let key = post(json!({"id": 1, "t": "a"}));
    assert_eq!(post(json!({"id": 1, "t": "a", "more": 1})), key);
    assert_eq!(key.kept.as_secs(), 3600);
    assert_ne!(post(json!({"id": 2, "t": "a"})).name, key.name);
    // A key that is too coarse costs no alert.
    assert_ne!(post(json!({"id": 1, "t": "b"})).name, key.name);
    // None: each post is an alert.
    assert_ne!(post(json!({"id": "", "t": "a"})).name, post(json!({"id": "", "t": "a"})).name);
    assert_ne!(post(json!({"t": "a"})).name, post(json!({"t": "a"})).name);
}

// -- what `smsd check` says ----------------------------------------------------------------------

#[test]
fn faults_of_the_configuration_are_told_before_the_first_alert() {
    for (sections, want) in [
        (
            "[http]\nlisten: 127.0.0.1:1\n[alertmanager]\nresolved: yes",
            &["Flaw", "[alertmanager] has no `to`"][..],
        ),
        ("[alertmanager]\nto: 112", &["Warning", "[http] has no `listen`"]),
        ("[alertmanager]\nto: group:nok", &["Fault", "group:nok", "no such group"]),
        ("[alertmanager]\nto: +47x", &["Fault", "phone number"]),
        ("[alertmanager]\nto:", &["Fault", "nobody is named"]),
        ("[alertmanager]\nto: 112\nto.team: 113", &["Fault", "to.LABEL.VALUE"]),
        ("[alertmanager]\nto: 112\nseverity.page: 6", &["Fault", "from 1 to 5"]),
        ("[alertmanager]\nto: 112\ntext: {{ alert.labels", &["Fault", "text: line 1"]),
        ("[alertmanager]\nto: 112\ntext: {{ alert.lables.x }}", &["Fault", "alert.lables.x", "labels"]),
        ("[alertmanager]\nto: 112\ntext: {{ status|nothing }}", &["Fault", "nothing"]),
        ("[grafana]\nto: 112\ntext: {{ body }}", &["Fault", "body", "valueString|title"]),
        ("[grafana]\nto: 112\ntxt: x", &["Flaw", "txt", "text"]),
        ("[webhook.x]\nto: 112", &["Fault", "[webhook.x] has no text"]),
        ("[webhook.x]\ntext: x", &["Fault", "[webhook.x] has no to"]),
        ("[webhook.x]\nto: group:nok\ntext: x", &["Fault", "no such group"]),
        ("[webhook.x]\nto: 112\ntext: x\nseverity: 7", &["Fault", "from 1 to 5"]),
        ("[webhook.x]\nto: 112\ntext: {{ alert }}", &["Fault", "body, form, query, raw"]),
        ("[webhook.x]\nto: 112\ntext: x\nwhen: {% if %}", &["Fault", "when"]),
        ("[webhook.grafana]\nto: 112\ntext: x", &["Fault", "[grafana]"]),
        ("[webhook.a/b]\nto: 112\ntext: x", &["Fault", "expected a name"]),
        ("[webhook]\nto: 112", &["Flaw", "there is no section [webhook]"]),
    ] {
        let complaints = Place::new(sections).complaints();
        let found = complaints
            .iter()
            .find(|complaint| want.iter().all(|part| part.split('|').any(|word| complaint.contains(word))));
        assert!(found.is_some(), "{sections}\n{want:?}\n{complaints:#?}");
    }
    let good = "[http]\nlisten: 127.0.0.1:1\n[alertmanager]\nto: 112\ntext: {{ alert.labels.x }}{{ alert['labels']['y'] }}\n\
        [webhook.x]\nto: {{ body.to }}\ntext: {{ body.a.b[0]|int + 1 }}\n";
    let mut complaints = Place::new(good).complaints();
    complaints.retain(|complaint| !complaint.contains("no HTTP interface"));
    assert_eq!(complaints, [""; 0]);
}
