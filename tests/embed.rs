//! smsd inside another program: the example does what it says, the pages quote it, and what can not work is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers fail by panicking")]

#[path = "../examples/own-way-out.rs"]
mod example;

use std::sync::Arc;
use std::time::Duration;

use example::{Outbox, send_one};
use smsd::Parts;
use smsd::alert::Phone;
use smsd::config::Config;
use smsd::dispatch::{Class, Dispatcher, Sms};
use smsd::embed::RunError;
use smsd::queue::AttemptState;

const SOURCE: &str = include_str!("../examples/own-way-out.rs");

#[tokio::test]
async fn an_alert_leaves_by_a_queue_and_a_way_out_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let to = Phone::parse("+4799999999").unwrap();
    let told = send_one(dir.path(), to, "gw1 is down").await.unwrap();
    let files: Vec<_> = std::fs::read_dir(dir.path().join("outbox")).unwrap().flatten().collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "+4799999999\ngw1 is down");
    let name = file.file_name().into_string().unwrap();
    let closing = told.closing.unwrap();
    assert_eq!((name, closing.state), (format!("{}.sms", closing.id), AttemptState::Accepted));
}

#[tokio::test]
async fn the_examples_way_out_knows_what_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Outbox { folder: dir.path().join("gone") };
    let sms = Sms::new(Phone::parse("112").unwrap(), "hei".into(), Duration::from_secs(1));
    assert_eq!(gone.submit(&sms).await.unwrap_err().class, Class::Misconfigured);
    assert_eq!(gone.probe().await.unwrap_err().class, Class::Misconfigured);
}

#[tokio::test]
async fn parts_that_can_not_work_are_told() {
    let nothing = || {
        let mut config = Config::embedded();
        config.dispatchers.clear();
        Parts::new(config)
    };
    let outbox = || Arc::new(Outbox { folder: "/".into() });
    let twice = nothing().dispatcher("a", outbox()).dispatcher("a", outbox());
    for (parts, want) in [(nothing(), "no dispatcher"), (twice, "two dispatchers are named \"a\"")] {
        let error = smsd::run(parts, std::future::pending()).await.unwrap_err();
        assert!(matches!(error, RunError::Parts(_)) && error.to_string().contains(want), "{error}");
    }
}

/// What stands in the pages is compiled and run with the example.
#[test]
fn the_pages_quote_the_example() {
    for page in [include_str!("../docs/own-dispatcher.md"), include_str!("../docs/own-queue.md")] {
        let blocks: Vec<&str> =
            page.split("```rust\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
        assert!(!blocks.is_empty(), "{page}");
        let flat = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        for block in blocks {
            assert!(flat(SOURCE).contains(&flat(block)), "not in the example:\n{block}");
        }
    }
}
