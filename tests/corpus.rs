//! The corpus of every fuzz target, replayed: what once broke the code, and what is likely to.
//!
//! The targets are plain functions over bytes in `tests/fuzz/`, which `fuzz/` gives to libFuzzer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

#[path = "fuzz/autocancel.rs"]
mod autocancel;
#[path = "fuzz/compose.rs"]
mod compose;
#[path = "fuzz/config.rs"]
mod config;
#[path = "fuzz/gsm.rs"]
mod gsm;
#[path = "fuzz/http_rules.rs"]
mod http_rules;
#[path = "fuzz/http_template.rs"]
mod http_template;
#[path = "fuzz/mail.rs"]
mod mail;
#[path = "fuzz/pdu.rs"]
mod pdu;
#[path = "fuzz/phone.rs"]
mod phone;
#[path = "fuzz/postgres.rs"]
mod postgres;
#[path = "fuzz/smtp_replies.rs"]
mod smtp_replies;
#[path = "fuzz/soap.rs"]
mod soap;
#[path = "fuzz/spool.rs"]
mod spool;
#[path = "fuzz/url_template.rs"]
mod url_template;
#[path = "fuzz/webhooks.rs"]
mod webhooks;

/// Runs the target on every file of its corpus, whole and cut short, and names the file that breaks it.
fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/fuzz").join(target);
    let mut files: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} inputs in {}", files.len(), dir.display());
    for file in files {
        let input = std::fs::read(&file).unwrap();
        for part in [&input[..], &input[..input.len() / 2]] {
            if std::panic::catch_unwind(|| run(part)).is_err() {
                panic!("{target} broke on {} ({} bytes of it)", file.display(), part.len());
            }
        }
    }
}

#[test]
fn autocancel() {
    replay("autocancel", autocancel::run);
}

#[test]
fn compose() {
    replay("compose", compose::run);
}

#[test]
fn config() {
    replay("config", config::run);
}

#[test]
fn gsm() {
    replay("gsm", gsm::run);
}

#[test]
fn http_rules() {
    replay("http_rules", http_rules::run);
}

#[test]
fn http_template() {
    replay("http_template", http_template::run);
}

#[test]
fn mail() {
    replay("mail", mail::run);
}

#[test]
fn pdu() {
    replay("pdu", pdu::run);
}

#[test]
fn phone() {
    replay("phone", phone::run);
}

#[test]
fn postgres() {
    replay("postgres", postgres::run);
}

#[test]
fn smtp_replies() {
    replay("smtp_replies", smtp_replies::run);
}

#[test]
fn soap() {
    replay("soap", soap::run);
}

#[test]
fn spool() {
    replay("spool", spool::run);
}

#[test]
fn url_template() {
    replay("url_template", url_template::run);
}

#[test]
fn webhooks() {
    replay("webhooks", webhooks::run);
}
