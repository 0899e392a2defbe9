//! The mail that an SMS becomes (RFC 5322, RFC 2045), as gateways without a parser can read it, too.
//!
//! A text goes as it is, where mail can carry it as it is: then the last line end belongs to the mail and all else to the
//! text. Where something on the way might change it (a space at the end of a line, a lone carriage return, a line
//! of more than 998 bytes, a server without 8BITMIME), it goes in base64, which is the text to the byte.

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;

use super::mark;

/// Characters of a line of a header, as RFC 5322 §2.1.1 recommends.
const LINE: usize = 78;

/// What goes into a mail.
pub struct Message<'a> {
    /// `From`, as configured: an address, or a name with the address in angle brackets.
    pub from: &'a str,
    /// `To`: an address.
    pub to: &'a str,
    /// `Subject`.
    pub subject: &'a str,
    /// `Message-ID` without its angle brackets.
    pub id: &'a str,
    /// `Date`.
    pub date: Timestamp,
    /// The SMS.
    pub text: &'a str,
    /// A long subject goes over several lines, as people's programs read it and a simple gateway may not.
    pub fold: bool,
}

impl Message<'_> {
    /// The mail: every line ends in CRLF. `eight`: letters outside ASCII may stand in it.
    pub fn to_bytes(&self, eight: bool) -> Vec<u8> {
        let (encoding, body) = match self.text.is_ascii() {
            true if is_plain(self.text) => ("7bit", lines(self.text)),
            false if eight && is_plain(self.text) => ("8bit", lines(self.text)),
            _ => ("base64", in_base64(self.text)),
        };
        let date =
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_string(&self.date).unwrap_or_default();
        let subject = words(self.subject);
        let subject =
            if self.fold && !subject.contains('\r') { folded("Subject", &subject) } else { subject };
        let mut mail = String::new();
        for (name, value) in [
            ("From", header(self.from)),
            ("To", header(self.to)),
            ("Subject", subject),
            ("Date", date),
            ("Message-ID", format!("<{}>", self.id)),
            ("MIME-Version", "1.0".into()),
            ("Content-Type", "text/plain; charset=utf-8".into()),
            ("Content-Transfer-Encoding", encoding.into()),
            // RFC 3834 §5: no vacation program answers it.
            ("Auto-Submitted", "auto-generated".into()),
        ] {
            mail.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(mark) = mark::get() {
            mail.push_str(&format!("{}: {mark}\r\n", mark::HEADER));
        }
        mail.push_str("\r\n");
        mail.push_str(&body);
        mail.into_bytes()
    }
}

/// True if a mail can carry the text as it is. A line that begins with `From ` is changed by mailboxes.
fn is_plain(text: &str) -> bool {
    let sound = |line: &str| {
        line.len() <= 998
            && !line.ends_with(' ')
            && !line.starts_with("From ")
            && !line.contains(char::is_control)
    };
    text.split('\n').all(sound)
}

fn lines(text: &str) -> String {
    text.split('\n').flat_map(|line| [line, "\r\n"]).collect()
}

/// The lines of a header, each but the first with a space before it (RFC 5322 §2.2.3). A word is never torn.
fn folded(name: &str, value: &str) -> String {
    let (mut folded, mut room) = (String::new(), LINE.saturating_sub(name.len() + 2));
    for word in value.split_ascii_whitespace() {
        if !folded.is_empty() {
            let fits = word.len() < room;
            folded.push_str(if fits { " " } else { "\r\n " });
            room = if fits { room } else { LINE }.saturating_sub(1);
        }
        folded.push_str(word);
        room = room.saturating_sub(word.len());
    }
    folded
}

/// Lines of 76 characters (RFC 2045 §6.8).
fn in_base64(text: &str) -> String {
    let encoded = BASE64_STANDARD.encode(text);
    let mut lines = String::with_capacity(encoded.len() + encoded.len() / 38 + 2);
    for (n, c) in encoded.chars().enumerate() {
        if n > 0 && n % 76 == 0 {
            lines.push_str("\r\n");
        }
        lines.push(c);
    }
    lines + "\r\n"
}

/// A header with an address: as it is in ASCII, else with its name in encoded words.
fn header(value: &str) -> String {
    if value.chars().all(|c| matches!(c, ' '..='~')) {
        return value.to_owned();
    }
    let (name, address) = value.split_at(value.rfind(" <").unwrap_or(value.len()));
    words(name) + address
}

/// Words in a header: as they are in ASCII, else in encoded words of at most 75 characters (RFC 2047 §2), a line each.
/// What would be read as an encoded word is encoded, too.
fn words(words: &str) -> String {
    if !words.contains("=?") && words.chars().all(|c| matches!(c, ' '..='~')) {
        return words.to_owned();
    }
    let mut encoded = Vec::new();
    let mut piece = String::new();
    for c in words.chars().filter(|c| !c.is_control()) {
        // 45 bytes are 60 characters of base64, and 12 stand around them.
        if piece.len() + c.len_utf8() > 45 {
            encoded.push(std::mem::take(&mut piece));
        }
        piece.push(c);
    }
    encoded.push(piece);
    let encoded = encoded.iter().map(|piece| format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(piece)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(text: &str, subject: &str, eight: bool) -> String {
        let from = "NAV på nett <nav@example.org>";
        let date = "2026-11-23T19:00:00Z".parse().unwrap();
        let message =
            Message { from, to: "sms@example.org", subject, id: "1@example.org", date, text, fold: true };
        String::from_utf8(message.to_bytes(eight)).unwrap()
    }

    #[test]
    fn a_plain_text_stays_plain() {
        let want = "From: =?utf-8?B?TkFWIHDDpSBuZXR0?= <nav@example.org>\r\nTo: sms@example.org\r\n\
                    Subject: sms +4799999999\r\nDate: Mon, 23 Nov 2026 19:00:00 -0000\r\n\
                    Message-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Transfer-Encoding: 7bit\r\nAuto-Submitted: auto-generated\r\n\r\n.\r\nhei\r\n";
        assert_eq!(mail(".\nhei", "sms +4799999999", false), want);
    }

    #[test]
    fn the_encoding_is_what_the_text_needs() {
        let long = "x".repeat(999);
        for (text, eight, want) in [
            ("hei", true, "7bit"),
            ("", false, "7bit"),
            ("på", true, "8bit"),
            ("på", false, "base64"),
            ("a \nb", true, "base64"),
            ("a ", true, "base64"),
            ("a\rb", true, "base64"),
            ("a\r\nb", true, "base64"),
            ("a\0b", true, "base64"),
            ("From me", true, "base64"),
            (&long, true, "base64"),
        ] {
            let mail = mail(text, "x", eight);
            assert!(mail.contains(&format!("Content-Transfer-Encoding: {want}\r\n")), "{text:?}: {mail}");
            assert!(eight || mail.is_ascii());
            assert!(!mail.replace("\r\n", "").contains(['\r', '\n']), "{mail:?}");
            assert!(mail.lines().all(|line| line.len() <= 998));
        }
    }

    #[test]
    fn no_subject_is_a_second_header() {
        let mail = mail("x", &format!("{}\r\nBcc: all@example.org", "æ".repeat(60)), false);
        assert!(!mail.contains("Bcc"), "{mail}");
        assert!(mail.lines().all(|line| line.len() <= 76 + "Subject: ".len()), "{mail}");
        // What looks like an address at its end is none.
        let mail = self::mail("x", "æ <\r\nBcc: all@example.org>", false);
        assert!(!mail.contains("Bcc"), "{mail}");
        let mail = self::mail("x", "=?utf-8?B?DQpCY2M=?=", false);
        assert!(
            mail.contains("Subject: =?utf-8?B?PT91"),
            "what is no encoded word does not become one: {mail}"
        );
    }

    #[test]
    fn a_long_subject_is_folded_between_words() {
        let subject = "smsd noc: dispatcher gw is down: connection refused by the gateway at 203.0.113.7, port 80 (+3 more)";
        let mail = mail("x", subject, false);
        let head = mail.split("\r\nDate: ").next().unwrap();
        assert!(mail.lines().all(|line| line.len() <= 78), "{mail}");
        assert_eq!(head.split_once("Subject: ").unwrap().1.replace("\r\n ", " "), subject);
        assert!(head.contains("\r\n "), "{head}");
    }
}
