//! Whom it lets in.

use std::sync::Arc;

use smsd::config::Token;
use smsd::web::access::{Bounds, Scope};

use super::bench::{Bench, JSON, token};

#[tokio::test(flavor = "multi_thread")]
async fn every_route_wants_its_scope_and_no_other() {
    let tokens = Scope::ALL.map(|scope| token(scope.as_str(), &format!("token-{scope}"), &[scope]));
    let bench = Bench::start(tokens.into()).await;
    let routes = [
        ("POST", "/api/v1/alerts", Some(Scope::Send)),
        ("GET", "/api/v1/alerts", Some(Scope::Read)),
        ("GET", "/api/v1/alerts/1", Some(Scope::Read)),
        ("GET", "/api/v1/attempts", Some(Scope::Read)),
        ("GET", "/api/v1/dispatchers", Some(Scope::Read)),
        ("GET", "/api/v1/status", Some(Scope::Read)),
        ("GET", "/api/v1/events", Some(Scope::Read)),
        ("GET", "/metrics", Some(Scope::Read)),
        ("POST", "/api/v1/alerts/1/cancel", Some(Scope::Operate)),
        ("POST", "/api/v1/dispatchers/x/test", Some(Scope::Operate)),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
    ];
    for (method, path, wanted) in routes {
        let nobody = bench.ask(method, path, JSON, "{}").await;
        assert_eq!(nobody.status == 401, wanted.is_some(), "{method} {path}: {nobody:?}");
        assert_eq!(nobody.head.contains("www-authenticate: bearer"), wanted.is_some());
        assert!(nobody.head.contains("x-content-type-options: nosniff"));
        for scope in Scope::ALL {
            let headers = format!("{JSON}Authorization: Bearer token-{scope}\r\n");
            let answer = bench.ask(method, path, &headers, "{}").await;
            let refused = wanted.is_some_and(|wanted| wanted != scope);
            assert_eq!(answer.status == 403, refused, "{method} {path} {scope}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_elsewhere_can_not_make_a_browser_ask() {
    let bench = Bench::start(vec![]).await;
    let body = r#"{"to":"112","text":"x"}"#;
    let rebound = format!("GET /api/v1/alerts HTTP/1.1\r\nHost: evil.example:{}\r\n\r\n", bench.addr.port());
    assert_eq!(bench.raw(rebound).await.status, 403);
    for bad in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        let answer = bench.ask("POST", "/api/v1/alerts", &format!("{JSON}{bad}"), body).await;
        assert_eq!(answer.status, 403, "{bad}");
    }
    let own = format!("{JSON}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", bench.addr);
    assert_eq!(bench.ask("POST", "/api/v1/alerts", &own, body).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_hands_in_what_its_bounds_let_it() {
    let with = |name: &str, bounds: Bounds| Token {
        bounds: Arc::new(bounds),
        ..token(name, name, &[Scope::Send, Scope::Read])
    };
    let yesterday = jiff::Zoned::now().date().yesterday().unwrap();
    let bench = Bench::start(vec![
        with("noc", Bounds { to: vec!["group:noc".to_owned()], ..Bounds::default() }),
        with("mild", Bounds { severity: Some(3), ..Bounds::default() }),
        with("slow", Bounds { rate: Some(3.0 / 60.0), ..Bounds::default() }),
        with("hook", Bounds { webhooks: ["alertmanager".to_owned()].into(), ..Bounds::default() }),
        with("ended", Bounds { until: Some(yesterday.yesterday().unwrap()), ..Bounds::default() }),
    ])
    .await;
    let post = async |name: &str, path: &str, body: &str| {
        let headers = format!("{JSON}Authorization: Bearer {name}\r\n");
        bench.ask("POST", path, &headers, body).await
    };
    let alert = async |name: &str, body: &str| post(name, "/api/v1/alerts", body).await;

    for (to, status) in [("+4790000001", 202), ("004790000001", 202), ("112", 202), ("+4790000002", 403)] {
        let answer = alert("noc", &format!(r#"{{"to": "{to}", "text": "down"}}"#)).await;
        assert_eq!(answer.status, status, "{to}: {answer:?}");
    }
    let both = alert("noc", r#"{"to": ["112", "+4790000002"], "text": "down"}"#).await;
    assert!(both.status == 403 && both.body.contains("noc may not text +4790000002; nothing was queued"));

    for (said, queued) in [("1", 3), ("5", 5)] {
        let taken = alert("mild", &format!(r#"{{"to": "112", "text": "down", "severity": {said}}}"#)).await;
        let path = format!("/api/v1/alerts/{}", taken.json()["ids"][0]);
        let story = bench.ask("GET", &path, "Authorization: Bearer mild\r\n", "").await;
        assert_eq!(story.json()["alert"]["severity"], queued, "{story:?}");
    }

    let three = alert("slow", r#"{"to": ["112", "113", "114"], "text": "down"}"#).await;
    let fourth = alert("slow", r#"{"to": "112", "text": "again"}"#).await;
    assert_eq!((three.status, fourth.status), (202, 429), "{fourth:?}");
    assert!(fourth.head.contains("retry-after: "), "{}", fourth.head);

    assert_eq!(alert("hook", r#"{"to": "112", "text": "down"}"#).await.status, 403);
    assert_eq!(post("hook", "/api/v1/webhooks/grafana", "{}").await.status, 400, "it is read first");
    let other = post("hook", "/api/v1/webhooks/grafana", r#"{"alerts": []}"#).await;
    assert_eq!(other.status, 403, "{other:?}");
    assert_eq!(post("hook", "/api/v1/webhooks/alertmanager", r#"{"alerts": []}"#).await.status, 200);

    let ended = alert("ended", r#"{"to": "112", "text": "down"}"#).await;
    assert!(ended.status == 401 && ended.body.contains("the last day of this token was"), "{ended:?}");
}
