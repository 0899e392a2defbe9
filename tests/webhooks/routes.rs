//! The answers that whoever posts gets, and what is queued then.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::bench::{Place, fixture};

const SITE: &str = "[http]\nlisten: 127.0.0.1:1\n[alertmanager]\nto: +4790000001\nremember: 1h\n\
    [webhook.x]\nto: {{ body.to }}\ntext: {{ body.text }}\nkey: {{ body.key|default('') }}\n";
const ALERTMANAGER: &str = "/api/v1/webhooks/alertmanager";

#[tokio::test]
async fn what_is_posted_twice_is_queued_once() {
    let place = Place::new(SITE);
    let open = place.open().await;
    let mut body: Value = serde_json::from_str(&fixture("alertmanager.json")).unwrap();
    let (status, first) = open.post(ALERTMANAGER, "application/json", body.to_string()).await;
    assert_eq!((status, first["ids"].as_array().unwrap().len()), (StatusCode::OK, 2));
    // The other member of a cluster, which has heard of another value.
    body["alerts"][0]["annotations"]["summary"] = json!("measured otherwise");
    let (status, _) = open.post(ALERTMANAGER, "application/json", body.to_string()).await;
    assert_eq!((status, open.queued().await.len()), (StatusCode::OK, 2));
    body["alerts"][0]["status"] = json!("resolved");
    assert_eq!(open.take("alertmanager", body.to_string()).await, 2);
    assert_eq!(open.queued().await.len(), 4);

    let alert = json!({"to": "112", "text": "a", "key": "k"}).to_string();
    assert_eq!(open.take("x", alert.clone()).await, open.take("x", alert).await);
    assert_eq!(open.queued().await.len(), 5);
    for _ in 0..2 {
        open.take("x", json!({"to": "112", "text": "a"}).to_string()).await;
    }
    assert_eq!(open.queued().await.len(), 7, "without a key, each is an alert");
}

#[tokio::test]
async fn a_repetition_that_is_wanted_is_queued_again() {
    let place = Place::new(&SITE.replace("remember: 1h", "remember: 0"));
    let open = place.open().await;
    let body = fixture("alertmanager.json");
    open.take("alertmanager", body.clone()).await;
    open.take("alertmanager", body).await;
    assert_eq!(open.queued().await.len(), 4);
}

#[tokio::test]
async fn only_what_will_never_be_taken_gets_a_4xx() {
    let place = Place::new(SITE);
    let mut open = place.open().await;
    let body = fixture("alertmanager.json");
    for (uri, kind, body, want) in [
        (ALERTMANAGER, "application/json", "{".to_owned(), StatusCode::BAD_REQUEST),
        (ALERTMANAGER, "application/json", " ".repeat(256 * 1024 + 1), StatusCode::PAYLOAD_TOO_LARGE),
        ("/api/v1/webhooks/y", "application/json", "{}".to_owned(), StatusCode::NOT_FOUND),
        ("/api/v1/webhooks/x", "application/json", "{}".to_owned(), StatusCode::BAD_REQUEST),
        ("/api/v1/webhooks/x", "multipart/form-data", "{}".to_owned(), StatusCode::BAD_REQUEST),
        // Somebody forgot `to`: that can be mended while Alertmanager tries again.
        (
            "/api/v1/webhooks/grafana",
            "application/json",
            fixture("grafana.json"),
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    ] {
        let (status, answer) = open.post(uri, kind, body).await;
        assert_eq!(status, want, "{uri} {answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{uri} {answer}");
    }
    assert_eq!(open.queued().await, []);
    let later = Place::new(&format!("{SITE}[grafana]\nto: 112\n"));
    open.reload(later.config());
    assert_eq!(open.take("grafana", fixture("grafana.json")).await, 2);

    open.close().await;
    let down = open.post(ALERTMANAGER, "application/json", body).await;
    assert_eq!(down.0, StatusCode::SERVICE_UNAVAILABLE, "{}", down.1);
}

/// What RELIABILITY has as its injection corpus: it stays text, and it stays in its field.
#[tokio::test]
async fn what_is_injected_stays_text() {
    let place = Place::new(SITE);
    let open = place.open().await;
    for evil in [
        "a\r\nTo: 113",
        "\u{1b}[2J\u{1a}",
        "\"; DROP TABLE alert; --",
        "{{ 7*7 }}{% raw %}",
        "%0d%0a",
        "]]><!ENTITY x>",
        "../../etc/passwd",
        "\u{202e}txt",
        "' OR 1=1",
        "\\u0000",
    ] {
        let before = open.queued().await.len();
        open.take("x", json!({"to": "112", "text": evil}).to_string()).await;
        assert_eq!(open.queued().await[before..], [("112".to_owned(), None, evil.to_owned())]);
        let (status, _) = open
            .post("/api/v1/webhooks/x", "application/json", json!({"to": evil, "text": "x"}).to_string())
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{evil:?} is no number");
        let labels = json!({"alertname": evil, "severity": evil, "instance": evil, evil: evil});
        let body =
            json!({"receiver": evil, "groupKey": evil, "alerts": [{"labels": labels, "startsAt": evil}]});
        open.take("alertmanager", body.to_string()).await;
        let (to, severity, text) = open.queued().await.pop().unwrap();
        assert_eq!((to.as_str(), severity), ("+4790000001", Some(3)));
        assert!(!text.contains("49") && !text.chars().any(char::is_control), "{text:?}");
    }
}
