//! Bodies: announced and not brought, brought to be read for ever, and large ones for thousands.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::json;

use super::place::{Flood, Place, account, token};

#[test]
fn bodies_that_never_come_keep_nobody_from_handing_in() {
    bodies_that_never_come(64, Duration::from_secs(6));
}

#[test]
#[ignore = "make attack"]
fn hundreds_of_bodies_that_never_come() {
    bodies_that_never_come(512, Duration::from_secs(40));
}

/// Connections of somebody without a token: 256 KiB announced, or a chunk of one byte, wherever no token is asked for.
fn bodies_that_never_come(connections: usize, lasts: Duration) {
    let place = Place::new("", "[webhook.door]\nto: +4790000002\ntext: {{ body.message }}\n");
    let daemon = place.start();
    let begun = Instant::now();
    let flood = Flood::start(place.address, connections, |n| {
        let asked =
            ["POST /login", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /assets/x"][n % 5];
        let rest = [
            "Content-Length: 262144\r\n\r\n",
            "Content-Length: 4000\r\n\r\ntoken=",
            "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        ][n / 5 % 3];
        format!("{asked} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n{rest}")
    });
    let also = || {
        assert_eq!(place.post("printer", "/api/v1/webhooks/door", r#"{"message":"open"}"#).status, 200);
        assert_eq!(place.log_in(&token("screen")).status, 303);
        assert_eq!(place.ask("GET", "/readyz", "", "").status, 200);
    };
    let urgent = place.while_honest(|| sleep(lasts), also);
    let opened = flood.stop();
    account("bodies that never come", opened, begun, &daemon, urgent, 64);

    assert!(place.metric("smsd_intake_refused_total{intake=\"http\",reason=\"slow\"}") > 0.0);
    assert_eq!(place.metric("smsd_intake_refused_total{intake=\"http\",reason=\"room\"}"), 0.0);
    assert_eq!(daemon.said("turned away: what was announced did not come in time"), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_notification_of_many_names_and_alerts_holds_up_nobody() {
    many_names(2);
}

#[test]
#[ignore = "make attack"]
fn more_notifications_of_many_names() {
    many_names(6);
}

/// Bodies of 256 KiB, all at once: 13,000 names beside the alerts, of which there are 45,000, and each wants a text.
fn many_names(posts: usize) {
    let place = Place::new(
        "allow: +4791\n",
        "[alertmanager]\nto: +9990000001\ntext: {{ alert.labels.alertname }} {{ alert.status }}\n",
    );
    let daemon = place.start();
    let names: String = (0..13_000).map(|n| format!("\"{n:x}\":0,")).collect();
    let body = |post: usize| {
        let head = format!("{{\"receiver\":\"{post}\",{names}\"alerts\":[");
        let alerts = vec!["{}"; (256 * 1024 - head.len() - 2) / 3];
        format!("{head}{}]}}", alerts.join(","))
    };
    let bodies: Vec<String> = (0..posts).map(body).collect();
    let begun = Instant::now();
    let attack = || {
        thread::scope(|scope| {
            for body in &bodies {
                scope.spawn(|| {
                    let answer = place.post("alertmanager", "/api/v1/webhooks/alertmanager", body);
                    assert_eq!(answer.status, 200, "{answer:?}");
                });
            }
        });
    };
    let urgent = place.while_honest(attack, || {});
    let each = begun.elapsed() / u32::try_from(posts).unwrap();
    account("notifications of many names", posts, begun, &daemon, urgent, 256);
    assert!(each < Duration::from_secs(4), "{each:?} for each");
    daemon.stop();
}

#[test]
fn long_texts_for_thousands_take_little_memory() {
    long_texts(8);
}

#[test]
#[ignore = "make attack"]
fn a_hundred_long_texts_for_thousands() {
    long_texts(100);
}

/// Posts at once, each with 65,000 letters to 1,000 numbers that may not be texted, so that all of them stay.
fn long_texts(posts: usize) {
    let place = Place::new("allow: +4791\n", "");
    let daemon = place.start();
    let body = |post: usize| {
        let to: Vec<String> = (0..1_000).map(|n| format!("+99{post:03}{n:06}")).collect();
        json!({"to": to, "text": "x".repeat(65_000), "severity": 5}).to_string()
    };
    let bodies: Vec<String> = (0..posts).map(body).collect();
    let begun = Instant::now();
    let attack = || {
        thread::scope(|scope| {
            for body in &bodies {
                scope.spawn(|| {
                    let answer = place.post("printer", "/api/v1/alerts", body);
                    // Of one caller there is not room for everything.
                    assert!([202, 429, 503].contains(&answer.status), "{answer:?}");
                });
            }
        });
    };
    let urgent = place.while_honest(attack, || {});
    let kept = place.get("screen", "/api/v1/alerts?limit=1&to=%2B99000000000").json();
    assert_eq!(kept["alerts"][0]["text"].as_str().map(str::len), Some(4_096), "{kept}");
    account("65,000 letters to 1,000 numbers", posts, begun, &daemon, urgent, 256);
    daemon.stop();
}

#[test]
fn one_callers_batches_hold_up_nobody() {
    batches(64, Duration::from_secs(4));
}

#[test]
#[ignore = "make attack"]
fn one_callers_batches_without_end() {
    batches(128, Duration::from_secs(20));
}

/// One caller hands in short texts to 1,000 numbers each, over and over.
fn batches(connections: usize, lasts: Duration) {
    let place = Place::new("allow: +4791\n", "");
    let daemon = place.start();
    let begun = Instant::now();
    let request = |n: usize| {
        let to: Vec<String> = (0..1_000).map(|i| format!("+99{n:03}{i:06}")).collect();
        let body = json!({"to": to, "text": "twenty letters at all", "severity": 1}).to_string();
        format!(
            "POST /api/v1/alerts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            super::place::bearer("printer"),
            body.len()
        )
    };
    let requests: Vec<String> = (0..connections).map(request).collect();
    let flood = Flood::start(place.address, connections, move |n| requests[n].clone());
    let urgent = place.while_honest(|| sleep(lasts), || {});
    account("batches of 1,000 without end", flood.stop(), begun, &daemon, urgent, 256);
    daemon.stop();
}
