//! The debug dispatcher, through the configuration.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use smsd::config::{DispatcherConfig, DispatcherKind, Main};
use smsd::dispatch::status::Status;
use smsd::dispatch::{self, debug};

use crate::contract::sms;

fn config(settings: debug::Settings, classes: &[(&str, &str)]) -> DispatcherConfig {
    let classes = classes.iter().map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap()));
    named("dbg", DispatcherKind::Debug(settings), classes.collect())
}

pub(crate) fn named(name: &str, kind: DispatcherKind, classes: BTreeMap<String, Status>) -> DispatcherConfig {
    DispatcherConfig {
        name: name.into(),
        kind,
        concurrency: None,
        rate: None,
        timeout: None,
        grace: None,
        max_segments: Some(2),
        probe_interval: None,
        classes,
        files: BTreeMap::new(),
    }
}

#[tokio::test]
async fn it_is_built_from_its_keys() {
    let built = dispatch::build(&config(debug::Settings::default(), &[]), &Main::default()).unwrap();
    assert_eq!(built.limits().max_segments, Some(2));
    assert_eq!(built.submit(&sms("112", "hei")).await.unwrap().references, ["1"]);
}

#[test]
fn what_can_not_be_used_is_refused_by_section_and_key() {
    let log = Some("/no/such/folder/log".into());
    for (settings, classes, want) in [
        (debug::Settings::default(), vec![("503", "ERR")], "[dbg] class.503: "),
        (debug::Settings { fail_rate: 1.5, ..Default::default() }, vec![], "[dbg] fail_rate: 1.5 found"),
        (debug::Settings { fail_rate: f64::NAN, ..Default::default() }, vec![], "[dbg] fail_rate: NaN found"),
        (
            debug::Settings { log, ..Default::default() },
            vec![],
            "[dbg] log: /no/such/folder/log can not be opened",
        ),
    ] {
        let Err(error) = dispatch::build(&config(settings, &classes), &Main::default()) else {
            panic!("built, though {want}");
        };
        assert!(error.to_string().starts_with(want), "{error}");
    }
}

/// The dispatcher is what the engine's own speed is measured with, so it must not be what is measured.
#[tokio::test]
async fn it_keeps_up_with_any_engine() {
    let built = dispatch::build(&config(debug::Settings::default(), &[]), &Main::default()).unwrap();
    let sms = sms("112", "hei");
    let begun = Instant::now();
    for _ in 0..50_000 {
        built.submit(&sms).await.unwrap();
    }
    // A tenth of what the optimised build does: 100,000 a second.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
