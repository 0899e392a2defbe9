//! The real gammu with a modem: what stands in the PDUs that it writes, and what it makes of what the modem answers.

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use smsd::dispatch::gammu::Settings;
use smsd::dispatch::{Class, Dispatcher, Sms};
use smsd::sms::language::Alphabet;
use smsd::sms::{septets, udh};
use tempfile::TempDir;

use super::{build, patient};

/// A modem (`tests/support/modem.py`) on a terminal of its own.
struct Modem {
    dir: TempDir,
    child: Child,
    dispatcher: Arc<dyn Dispatcher>,
}

impl Drop for Modem {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Modem {
    async fn start() -> Modem {
        let dir = tempfile::tempdir().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/modem.py");
        let child = Command::new("python3").arg(script).arg(dir.path()).spawn().unwrap();
        let port = dir.path().join("port");
        while !port.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let config = dir.path().join("gammurc");
        fs::write(&config, format!("[gammu]\nconnection = at115200\nport = {}\n", port.display())).unwrap();
        let settings = Settings { config: Some(config), ..Settings::default() };
        Modem { dispatcher: build(settings, &[]), dir, child }
    }

    /// What it does with each part; the last of them from then on.
    fn play(&self, parts: &[&str]) {
        fs::write(self.dir.path().join("play"), parts.join("\n")).unwrap();
        drop(fs::remove_file(self.dir.path().join("pdus")));
    }

    /// Number and text of what it was given since then, put together by the parts' headers.
    fn taken(&self) -> (String, String, usize) {
        let pdus = fs::read_to_string(self.dir.path().join("pdus")).unwrap_or_default();
        let parts: Vec<_> = pdus.lines().map(submit_pdu).collect();
        for (n, (to, header, _)) in parts.iter().enumerate() {
            assert_eq!(*to, parts[0].0);
            let part = header.part.as_ref().map(|part| (usize::from(part.total), usize::from(part.number)));
            assert_eq!(part, (parts.len() > 1).then_some((parts.len(), n + 1)));
        }
        // A pair of units may stand in two parts.
        let units = parts.iter().flat_map(|(_, _, units)| units).copied();
        (parts[0].0.clone(), char::decode_utf16(units).map(Result::unwrap).collect(), parts.len())
    }
}

/// An SMS-SUBMIT (3GPP TS 23.040 §9.2.2.2) behind the number of its centre: number, header, text in UTF-16.
fn submit_pdu(hex: &str) -> (String, udh::Header, Vec<u16>) {
    let octets: Vec<u8> =
        (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    let tpdu = &octets[1 + usize::from(octets[0])..];
    let (first, digits) = (tpdu[0], usize::from(tpdu[2]));
    let octets_of_number = digits.div_ceil(2);
    let swapped = tpdu[4..4 + octets_of_number].iter().flat_map(|o| [o & 15, o >> 4]);
    let number: String = swapped.take(digits).map(|d| char::from(b'0' + d)).collect();
    let plus = if tpdu[3] == 0x91 { "+" } else { "" };
    let rest = &tpdu[4 + octets_of_number..];
    let (coding, length, data) = (rest[1], usize::from(rest[3]), &rest[4..]);
    let header = if first & 0x40 == 0 { &[][..] } else { &data[..1 + usize::from(data[0])] };
    let text: Vec<u16> = if coding & 0x0c == 8 {
        data[header.len()..length].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    } else {
        let fill = septets::fill(header.len());
        let count = length - (header.len() * 8 + fill) / 7;
        let septets = septets::unpack(&data[header.len()..], fill, count);
        Alphabet::DEFAULT.decode(&septets).encode_utf16().collect()
    };
    (format!("{plus}{number}"), udh::Header::read(header.get(1..).unwrap_or_default()), text)
}

#[tokio::test]
async fn the_modem_is_given_what_a_person_wrote() {
    let modem = Modem::start().await;
    for (to, text, parts) in [
        ("+4712345678", "-text 'æøå' [€] {~}\\^| `x`\n\n", 1),
        ("112", &*"@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ!\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà^{}\\[~]|€ ".repeat(3), 2),
        ("+479000000", "~/.漢 😀~", 1),
        ("+479000000", &*"漢 😀\u{1a}\u{1b}[31m\r\n".repeat(10), 2),
    ] {
        modem.play(&["+CMGS: 17"]);
        let receipt = modem.dispatcher.submit(&patient(to, text)).await.unwrap();
        assert_eq!(receipt.references, vec!["17"; parts]);
        assert_eq!(modem.taken(), (to.to_string(), text.to_string(), parts));
    }
}

#[tokio::test]
async fn what_the_modem_answers_is_what_its_class_is() {
    let long = "x".repeat(161);
    let mut all = tokio::task::JoinSet::new();
    for (plays, parts, want, code) in [
        (&["+CMS ERROR: 38"][..], 1, Class::Unavailable, "CMS 38"),
        (&["+CMS ERROR: 1"], 1, Class::Rejected, "CMS 1"),
        (&["ERROR"], 1, Class::Unknown, "ERR_UNKNOWN"),
        (&["before +CMS ERROR: 331"], 1, Class::Unavailable, "CMS 331"),
        (&["before +CME ERROR: 10"], 1, Class::Misconfigured, "ERR_NOSIM"),
        (&["+CMGS: 1", "+CMS ERROR: 38"], 2, Class::Failed, "CMS 38"),
    ] {
        let text = if parts == 1 { "hei".to_string() } else { long.clone() };
        all.spawn(async move {
            let modem = Modem::start().await;
            modem.play(plays);
            let error = modem.dispatcher.submit(&patient("112", &text)).await.unwrap_err();
            assert_eq!((error.class, error.code.as_deref()), (want, Some(code)), "{plays:?}: {error}");
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_modem_that_falls_silent_leaves_it_open_once_it_may_have_the_text() {
    let modem = Modem::start().await;
    // Until the SMS has been read, the time must not be up: it is given as much as it needs, and more.
    modem.play(&["silence"]);
    let sms = Sms { timeout: Duration::from_secs(15), ..patient("112", "hei") };
    assert_eq!(modem.dispatcher.submit(&sms).await.unwrap_err().class, Class::Unknown);
    assert_eq!(modem.taken(), ("112".to_string(), "hei".to_string(), 1));
}

#[tokio::test]
async fn a_modem_that_was_never_there_was_given_nothing() {
    let modem = Modem::start().await;
    fs::write(modem.dir.path().join("mute"), "").unwrap();
    // gammu would go on asking for half a minute.
    let sms = Sms { timeout: Duration::from_secs(2), ..patient("112", "hei") };
    let error = modem.dispatcher.submit(&sms).await.unwrap_err();
    assert_eq!((error.class, error.code), (Class::Unavailable, None));
    assert!(error.detail.contains("before it sent anything"), "{}", error.detail);
}
