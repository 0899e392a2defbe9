//! Alerts in and out.

use serde_json::json;
use tokio::task::JoinSet;

use super::bench::{Bench, JSON};

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_queued_before_the_answer_and_can_be_looked_at_and_cancelled() {
    let bench = Bench::start(vec![]).await;
    let taken = bench
        .post("/api/v1/alerts", r#"{"to":["+47 90 00 00 09","group:noc"],"text":"Fire","severity":1}"#)
        .await;
    assert_eq!((taken.status, taken.json()), (202, json!({"ids": [1, 2, 3]})));
    assert_eq!(bench.queue.depth().await.unwrap().alerts(), 3);

    let page = bench.get("/api/v1/alerts?limit=2").await.json();
    assert_eq!((&page["alerts"][0]["id"], &page["next"]), (&json!(3), &json!(2)), "newest first");
    let last = bench.get("/api/v1/alerts?limit=2&after=2&state=waiting").await.json();
    assert_eq!((&last["alerts"][0]["to"], &last["next"]), (&json!("+4790000009"), &json!(null)));
    assert_eq!(bench.get("/api/v1/alerts/1").await.json()["alert"]["text"], "Fire");
    assert_eq!(bench.get("/api/v1/alerts/9").await.status, 404);
    assert_eq!(bench.get("/api/v1/alerts/x").await.status, 400);
    for query in ["limit=0", "limit=1001", "state=x", "to=abc", "x=1", "limit=1&limit=2"] {
        assert_eq!(bench.get(&format!("/api/v1/alerts?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(bench.post("/api/v1/alerts/1/cancel", "").await.json(), json!({"changed": [1]}));
    assert_eq!(bench.post("/api/v1/alerts/1/cancel", "").await.status, 409);
    assert_eq!(bench.get("/api/v1/alerts/1").await.json()["notes"][0]["by"], "http");
    assert_eq!(bench.post("/api/v1/alerts/1/requeue", "").await.json(), json!({"changed": [1]}));
    for (path, status) in [("1/accept", 409), ("1/release", 409), ("9/cancel", 404), ("1/eat", 404)] {
        assert_eq!(bench.post(&format!("/api/v1/alerts/{path}"), "").await.status, status, "{path}");
    }
    let status = bench.get("/api/v1/status").await.json();
    assert_eq!((&status["depth"]["waiting"][0]["alerts"], &status["queue"]["up"]), (&json!(3), &json!(true)));
    assert_eq!(bench.get("/api/v1/attempts?limit=5").await.json(), json!({"attempts": [], "next": null}));
    assert_eq!((bench.get("/healthz").await.status, bench.get("/readyz").await.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_goes_straight_through_a_dispatcher() {
    let bench = Bench::start(vec![]).await;
    let ways = bench.get("/api/v1/dispatchers").await.json();
    assert_eq!(
        (&ways["dispatchers"][0]["name"], &ways["dispatchers"][0]["up"]),
        (&json!("DebugDispatcher"), &json!(true))
    );
    let tested = bench.post("/api/v1/dispatchers/DebugDispatcher/test", r#"{"to":"+4790000001"}"#).await;
    assert_eq!((tested.status, &tested.json()["class"]), (200, &json!("accepted")));
    assert_eq!(bench.post("/api/v1/dispatchers/none/test", r#"{"to":"+4790000001"}"#).await.status, 404);
    assert_eq!(bench.post("/api/v1/dispatchers/DebugDispatcher/test", r#"{"to":"x"}"#).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_alert_however_often_and_after_a_restart() {
    let mut bench = Bench::start(vec![]).await;
    let mut all = JoinSet::new();
    for n in 0..40 {
        let addr = bench.addr;
        all.spawn(async move {
            let body = if n % 2 == 0 {
                r#"{"to":"112","text":"once","idempotency_key":"k 1"}"#
            } else {
                r#"{"to":"112","text":"once"}"#
            };
            let headers = if n % 2 == 0 { "" } else { "Idempotency-Key: k 1\r\n" };
            let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
            let request = format!(
                "POST /api/v1/alerts HTTP/1.1\r\nHost: {addr}\r\n{JSON}{headers}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
            super::bench::read(&mut stream).await
        });
    }
    for answer in all.join_all().await {
        assert_eq!((answer.status, answer.json()), (202, json!({"ids": [1]})));
    }
    let other = r#"{"to":"112","text":"other","idempotency_key":"k 1"}"#;
    assert_eq!(bench.post("/api/v1/alerts", other).await.status, 409);

    bench.over.cancel();
    while bench.tasks.join_next().await.is_some() {}
    let Bench { dir, queue, .. } = bench;
    drop(queue);
    let bench = Bench::in_dir(dir, vec![]).await;
    let again = bench.post("/api/v1/alerts", r#"{"to":"112","text":"once","idempotency_key":"k 1"}"#).await;
    assert_eq!((again.status, again.json()), (202, json!({"ids": [1]})));
    assert!(again.head.contains("idempotency-replayed: true"), "{again:?}");
    assert_eq!(bench.queue.depth().await.unwrap().alerts(), 1);
}
