//! `autocancel`: what is accepted has one length, whatever the spaces and the case, and reads back as itself.

use std::time::Duration;

use smsd::config::{Env, load};
use smsd::queue::Age;

/// The input is the interval.
pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some(age) = read(&text) else { return };
    assert!(!age.duration.is_zero() && age.duration <= Duration::from_secs(1000 * 366 * 86_400), "{age:?}");
    let length = |text: &str| read(text).map(|age| age.duration);
    assert_eq!(length(&format!("{} seconds", age.duration.as_secs_f64())), Some(age.duration), "{age:?}");
    if !age.text.contains('P') {
        let words: Vec<&str> = age.text.split_whitespace().collect();
        assert_eq!(length(&words.join("  ").to_uppercase()), Some(age.duration), "{age:?}");
    }
}

fn read(interval: &str) -> Option<Age> {
    let dir = tempfile::tempdir().expect("a directory for a moment");
    let file = dir.path().join("smsd.conf");
    let conf = format!(
        "[main]\nautocancel: {interval}\n[dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\n"
    );
    std::fs::write(&file, conf).expect("a file for a moment");
    load(Some(&file), &Env::empty(dir.path())).ok()?.config.main.autocancel
}
