//! What nobody should send: each gets its code, nothing of it becomes another mail, and the others are served.

use std::time::Instant;

use crate::bench::until;
use crate::mails::Wire;
use crate::site::{Place, pairs};

#[test]
fn one_mail_never_passes_for_two() {
    let place = Place::new("");
    let daemon = place.start();
    let smuggled = "MAIL FROM:<a@x>\r\nRCPT TO:<113@x>\r\nDATA\r\n\r\nsmuggled";
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n\0.\r\n", "\r\r\n.\r\r\n"]
    {
        let mut wire = Wire::greeted(place.port);
        let reply = wire.mail("112@x", format!("\r\nfirst{end}{smuggled}"));
        let nul = end.contains('\0');
        assert!(reply.starts_with(if nul { "250 " } else { "521 5.6.11" }), "{end:?}: {reply}");
        if nul {
            assert_eq!(wire.ask("NOOP"), "250 2.0.0 ok", "{end:?}");
        } else {
            assert_eq!(wire.reply(), "", "{end:?}: what follows is nobody's command");
        }
    }
    for line in ["NOOP\nRCPT TO:<113@x>", "NOOP\rNOOP", "EHLO a\n"] {
        let mut wire = Wire::greeted(place.port);
        assert!(wire.ask(line).starts_with("521 5.5.2"), "{line:?}");
        assert_eq!(wire.reply(), "", "the connection ends");
    }
    let sent = place.sent_all(1);
    assert_eq!(sent[0].0, "112");
    daemon.stop();
}

#[test]
fn floods_cost_little_and_harm_nobody() {
    let place = Place::new("");
    let daemon = place.start();
    let before = daemon.memory().0;
    // A line without an end, garbage, recipients without end, a mail that drips.
    let mut endless = Wire::greeted(place.port);
    let mut dripping = Wire::greeted(place.port);
    assert!(dripping.ask("MAIL FROM:<a@x>").starts_with("250"));
    for _ in 0..200 {
        endless.put(vec![b'A'; 64 * 1024]);
    }
    assert_eq!(endless.ask(""), "500 5.5.2 line too long");
    let mut garbage = Wire::greeted(place.port);
    garbage.put(b"\x00\xff\x1b[2J nonsense\r\n".repeat(30));
    let replies: Vec<String> =
        std::iter::repeat_with(|| garbage.reply()).take_while(|r| !r.is_empty()).collect();
    assert_eq!(replies.last().map(String::as_str), Some("421 4.7.0 too many errors"), "{replies:?}");
    let mut many = Wire::greeted(place.port);
    assert!(many.ask("MAIL FROM:<a@x>").starts_with("250"));
    let flood = std::thread::spawn(move || {
        let mut codes = [0, 0];
        // Those that come after the end of the connection find nobody.
        for _ in 0..100 {
            let line = "RCPT TO:<112@x>\r\n".repeat(10);
            many.put(line);
            for _ in 0..10 {
                codes[usize::from(many.reply().starts_with("452"))] += 1;
            }
        }
        codes
    });
    let mut big = Wire::greeted(place.port);
    assert!(big.mail("112@x", "y".repeat(5_000_000)).starts_with("552"));
    let begun = Instant::now();
    let mut good = Wire::greeted(place.port);
    assert!(good.mail("+4790000001@x", "\r\nstill here").starts_with("250"));
    assert!(begun.elapsed().as_secs() < 2);
    let [taken, later] = flood.join().unwrap();
    assert!(taken >= 100 && later >= 800, "{taken} {later}");
    assert_eq!(place.sent_all(1), pairs(&[("+4790000001", "still here")]));
    let grown = daemon.memory().0.saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    daemon.stop();
}

/// Nesting, charsets and headers that no mail program makes.
#[test]
fn mime_of_any_kind_is_answered() {
    let place = Place::new("");
    let daemon = place.start();
    let nested: String =
        (0..900).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n")).collect();
    let wrapped = "Content-Type: message/rfc822\r\n\r\n".repeat(1_500);
    let words = format!("Subject: {}\r\n\r\nx", "=?utf-8?B?8J+YgA==?=\r\n ".repeat(2_000));
    let mails = [
        (nested.as_str(), None),
        (&wrapped, None),
        (&words, Some("x")),
        ("Content-Type: text/plain; charset=\"\0\"\r\n\r\nzero", Some("zero")),
        ("Content-Type: text/plain; charset=x-unknown\r\n\r\nunknown", Some("unknown")),
        ("Content-Transfer-Encoding: base64\r\n\r\n!!!!", None),
        ("Subject: a\r\nBcc: 113@x\r\nTo: 113@x\r\n\r\n\u{202e}bidi", Some("bidi")),
        ("Subject: sms 113\r\n\r\nnot to the subject's", Some("not to")),
    ];
    for (mail, text) in mails {
        let mut wire = Wire::greeted(place.port);
        let reply = wire.mail("112@x", mail);
        let shown: String = mail.chars().take(60).collect();
        assert!(
            reply.starts_with("250 ") || (text.is_none() && reply.starts_with("554 ")),
            "{shown}: {reply}"
        );
        assert_eq!(wire.ask("NOOP"), "250 2.0.0 ok");
        if let Some(text) = text {
            until(text, || {
                place.sent().iter().any(|(to, sent)| to == "112" && sent.contains(text)).then_some(())
            });
        }
    }
    assert!(place.sent().iter().all(|(to, _)| to == "112"));
    daemon.stop();
}
