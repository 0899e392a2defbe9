//! Whom it lets in.

use smsd::web::access::Scope;

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
