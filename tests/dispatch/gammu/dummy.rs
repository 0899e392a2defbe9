//! The real gammu with its dummy phone, which sends nothing and writes each SMS into gammu's log.

use std::fs;
use std::sync::Arc;

use smsd::dispatch::gammu::Settings;
use smsd::dispatch::{Class, Dispatcher};
use smsd::sms::{Encoding, measure};
use tempfile::TempDir;

use super::{build, patient};
use crate::contract::{CORPUS, submit};

/// A gammurc, its phone and its log.
struct Dummy {
    dir: TempDir,
    dispatcher: Arc<dyn Dispatcher>,
}

impl Dummy {
    fn new() -> Dummy {
        Dummy::with("model = dummy\nconnection = none\nport = @DIR@/phone\n")
    }

    /// With `gammurc`, in which `@DIR@` stands for its folder.
    fn with(phone: &str) -> Dummy {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("phone")).unwrap();
        let rc = format!("[gammu]\nlogformat = textalldate\nlogfile = @DIR@/log\n{phone}");
        let config = dir.path().join("gammurc");
        fs::write(&config, rc.replace("@DIR@", &dir.path().display().to_string())).unwrap();
        let settings = Settings { config: Some(config), ..Settings::default() };
        Dummy { dispatcher: build(settings, &[]), dir }
    }

    /// The number, the encoding and the parts of the last SMS.
    fn sent(&self) -> (String, Encoding, Vec<String>) {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap();
        let number = log.split("Recipient number \"").nth(1).unwrap().split('"').next().unwrap();
        let mut encoding = None;
        let mut parts = Vec::new();
        for (mark, this) in [("7 bit SMS, length ", Encoding::Gsm7), ("Unicode SMS, length ", Encoding::Ucs2)]
        {
            for piece in log.split(mark).skip(1) {
                let (_, text) = piece.split_once('\n').unwrap();
                // Each line has a date before it.
                let lines = text.split('\n').map(|line| &line["Mon 2026/11/23 19:06:31: ".len()..]);
                let lines: Vec<&str> =
                    lines.take_while(|line| !line.starts_with("Sent SMS on device")).collect();
                parts.push(lines.join("\n"));
                encoding = Some(this);
            }
        }
        (number.to_string(), encoding.unwrap(), parts)
    }
}

#[tokio::test]
async fn what_a_person_wrote_is_sent_to_the_letter() {
    let dummy = Dummy::new();
    let gsm = "@£$¥èéùìòÇ\nØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
        abcdefghijklmnopqrstuvwxyzäöñüà^{}\\[~]|€";
    let own = [
        gsm,
        "-text",
        "-unicode",
        "--help",
        "-len 3",
        "-",
        "漢字",
        "/etc/passwd",
        "@/etc/passwd",
        "line\nline",
        "two ends\n\n",
        "漢 ~/.gammurc ~~ [~",
        "Sending SMS 1/1..OK, message reference=9",
        "",
    ];
    for text in CORPUS.iter().copied().chain(own) {
        let sms = patient("+4712345678", text);
        let receipt = submit(&*dummy.dispatcher, &sms).await.unwrap();
        assert_eq!(receipt.references, ["255"], "{text:?}");
        let (number, encoding, parts) = dummy.sent();
        assert_eq!(number, "+4712345678");
        assert_eq!((encoding, parts), (measure(text).encoding, vec![text.replace('\0', "")]));
    }
}

#[tokio::test]
async fn a_long_text_is_sent_in_the_parts_that_it_was_measured_in() {
    let dummy = Dummy::new();
    for text in
        ["x".repeat(161), "æøå€".repeat(60), "x".repeat(153 * 30), "漢".repeat(71), "漢a".repeat(33 * 30)]
    {
        let receipt = submit(&*dummy.dispatcher, &patient("112", &text)).await.unwrap();
        let (number, encoding, parts) = dummy.sent();
        let cost = measure(&text);
        assert_eq!((&*number, encoding, parts.len()), ("112", cost.encoding, cost.segments));
        assert_eq!(parts.concat(), text);
        assert_eq!(receipt.references, vec!["255"; cost.segments]);
    }
}

#[tokio::test]
async fn a_phone_that_can_not_be_opened_was_given_nothing() {
    for (phone, class, code, words) in [
        (
            "model = at\nconnection = at115200\nport = @DIR@/nowhere\n",
            Class::Unavailable,
            "ERR_DEVICENOTEXIST",
            "Error opening device, it doesn't exist.",
        ),
        (
            "model = dummy\nconnection = none\nport = @DIR@/nowhere\n",
            Class::Misconfigured,
            "ERR_DEVICENOPERMISSION",
            "Error opening device, you don't have the required permission.",
        ),
        (
            "connection = nosuch\nport = /dev/null\n",
            Class::Misconfigured,
            "ERR_UNKNOWNCONNECTIONTYPESTRING",
            "",
        ),
    ] {
        let dummy = Dummy::with(phone);
        for error in [
            submit(&*dummy.dispatcher, &patient("112", "hei")).await.unwrap_err(),
            dummy.dispatcher.probe().await.unwrap_err(),
        ] {
            assert_eq!((error.class, error.code.as_deref()), (class, Some(code)), "{error}");
            assert!(error.detail.contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn the_section_is_the_one_that_was_set() {
    let dummy = Dummy::with(
        "model = dummy\nconnection = none\nport = @DIR@/phone\n[gammu1]\nmodel = dummy\nconnection = none\n\
         port = @DIR@/nowhere\n",
    );
    let of = |section| {
        let config = Some(dummy.dir.path().join("gammurc"));
        build(Settings { config, section: Some(section), ..Settings::default() }, &[])
    };
    assert!(submit(&*of(0), &patient("112", "hei")).await.is_ok());
    let error = submit(&*of(1), &patient("112", "hei")).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("ERR_DEVICENOPERMISSION"), "{error}");
    let error = submit(&*of(7), &patient("112", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Misconfigured);
    assert!(error.detail.contains("it found no configuration"), "{error}");
}

#[tokio::test]
async fn the_probe_knows_the_phone() {
    let health = Dummy::new().dispatcher.probe().await.unwrap();
    assert_eq!(health.0, "Gammu Dummy, signal 42 %, registered with GammuT3l");
}
