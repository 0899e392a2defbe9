//! The configuration: whatever the files hold, it is refused with faults that can be shown, or can be used.

use std::fs;

use smsd::config::{Env, Faults, ini, load};
use smsd::dispatch;

/// The input: smsd.conf, db.conf and nav.conf, a record separator (0x1E) between each.
pub(crate) fn run(data: &[u8]) {
    let mut files = data.splitn(3, |b| *b == 0x1E);
    let main = files.next().unwrap_or_default();
    spans(main);

    let dir = tempfile::tempdir().expect("a directory for a moment");
    let conf = dir.path().join("smsd.conf");
    fs::write(&conf, main).expect("a file for a moment");
    for (name, text) in ["db.conf", "nav.conf"].iter().zip(files) {
        fs::write(dir.path().join(name), text).expect("a file for a moment");
    }
    let env = Env::empty(dir.path());
    match load(Some(&conf), &env) {
        Ok(loaded) => {
            let config = loaded.config;
            assert!(!config.dispatchers.is_empty());
            assert!(config.main.delayfactor >= 1.0 && config.main.delayfactor.is_finite());
            assert!(config.main.max_segments >= 1 && config.main.concurrency >= 1);
            for dispatcher in &config.dispatchers {
                if let Err(why) = dispatch::build(dispatcher, &config.main) {
                    panic!("what was accepted can not be built: {why}");
                }
            }
            shown(&Faults(loaded.warnings), data);
        }
        Err(faults) => {
            assert!(faults.is_fatal());
            shown(&faults, data);
        }
    }
}

/// Everything that the reader points at stands in the text.
fn spans(main: &[u8]) {
    let (text, _) = ini::decode(main);
    let read = ini::parse(&text);
    assert!(read.errors.len() <= ini::MAX_ERRORS);
    for error in &read.errors {
        assert!(text.get(error.span.clone()).is_some(), "{error:?}");
    }
    for entry in read.sections.iter().flat_map(|section| &section.entries).chain(&read.defaults) {
        assert_eq!(text.get(entry.span.clone()).map(str::to_lowercase).as_ref(), Some(&entry.key));
        assert!(text.get(entry.value.span()).is_some(), "{entry:?}");
        for (at, c) in entry.value.text.char_indices() {
            assert!(text.get(entry.value.locate(at..at + c.len_utf8())).is_some(), "{entry:?} at {at}");
        }
    }
}

fn shown(faults: &Faults, data: &[u8]) {
    assert!(faults.0.len() <= 202, "{} faults", faults.0.len());
    let lines = 1 + data.iter().filter(|b| matches!(b, b'\n' | b'\r' | 0x1E)).count();
    for fault in &faults.0 {
        assert!(fault.line.is_none_or(|line| line <= lines), "{fault}");
        assert!(!fault.to_string().contains(|c: char| c.is_control()), "{fault}");
    }
    let page = faults.render(false);
    assert!(!page.contains(|c: char| c.is_control() && c != '\n'), "{page:?}");
    faults.render(true);
    faults.clone().strict();
}
