//! What `/openapi.json` says there is, and what there is.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::bench::{Bench, JSON};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn document(bench: &Bench) -> Value {
    let answer = bench.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_there_and_by_no_other_method() {
    let bench = Bench::start(vec![]).await;
    bench.post("/api/v1/alerts", r#"{"to":"112","text":"x"}"#).await;
    let document = document(&bench).await;
    let paths = document["paths"].as_object().unwrap();
    for (path, item) in paths {
        let filled = path.replace("{id}", "1").replace("{name}", "DebugDispatcher");
        for method in METHODS {
            let documented = item.get(method).is_some();
            let answer = bench.ask(&method.to_uppercase(), &filled, JSON, "{}").await;
            assert_eq!(answer.status != 405, documented, "{method} {path}: {answer:?}");
            assert!(!answer.body.contains("nothing by this path"), "{method} {path}: {answer:?}");
            if documented {
                let status = answer.status.to_string();
                assert!(item[method]["responses"].get(&status).is_some(), "{method} {path}: {answer:?}");
            }
        }
    }
}

/// The routes as the code has them, but for the pages, which are for people.
fn routes(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes(&path, found);
        } else if !path.file_name().unwrap().to_string_lossy().starts_with("pages") {
            let code = std::fs::read_to_string(&path).unwrap();
            let after = code.split(".route(").skip(1);
            found.extend(after.map(|rest| rest.split('"').nth(1).unwrap().to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_documented_with_its_scope_and_its_refusals() {
    let bench = Bench::start(vec![]).await;
    let document = document(&bench).await;
    let paths = document["paths"].as_object().unwrap();
    let mut there = BTreeSet::new();
    routes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web"), &mut there);
    assert!(there.len() > 15, "{there:?}");
    assert_eq!(there, paths.keys().cloned().collect());

    let text = document.to_string();
    for target in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(target).is_some(), "there is no {target}");
    }
    let token = &document["components"]["securitySchemes"]["token"];
    assert_eq!(token["scheme"], "bearer");
    for scope in ["`send`", "`read`", "`operate`"] {
        assert!(token["description"].as_str().unwrap().contains(scope));
    }
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let open = ["/healthz", "/readyz", "/openapi.json"].contains(&path.as_str());
            let security = operation["security"].to_string();
            let scope = ["send", "read", "operate"].iter().any(|s| security.contains(s));
            assert_eq!(scope, !open, "{method} {path}: {security}");
            let responses = operation["responses"].as_object().unwrap();
            assert_eq!(responses.contains_key("401"), !open, "{method} {path}");
            for (status, answer) in responses.iter().filter(|(status, _)| *status > &"399".to_owned()) {
                let problem = &answer["content"]["application/problem+json"]["schema"]["$ref"];
                let wanted = (status != "431").then_some("#/components/schemas/Problem");
                assert_eq!(problem.as_str(), wanted, "{method} {path} {status}");
            }
        }
    }
}
