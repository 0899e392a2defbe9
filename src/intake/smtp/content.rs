//! From a mail to what the alert says, and for whom: a subject, the first text, a `Message-ID`.

use mail_parser::{Message, MessageParser, MimeHeaders};

use crate::alert::Phone;
use crate::config::TextOf;
use crate::dispatch::mail::mark;
use crate::intake::TEXT_MAX;

/// What of a mail concerns us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// `Subject`, decoded, on one line.
    pub subject: String,
    /// The first text, decoded; HTML, if there is no other, without its tags.
    pub body: String,
    /// `Message-ID`, if it has one.
    pub id: Option<String>,
    /// Why it is no alert, whatever it says.
    pub unwanted: Option<Unwanted>,
}

/// What no alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// A mail of this very smsd, which would send it again.
    OurOwn,
    /// The answer of a program (RFC 3834), or a report of what became of a mail (RFC 3462).
    Automatic,
}

impl Unwanted {
    fn of(message: &Message<'_>) -> Option<Unwanted> {
        let header = |name: &'static str| message.header_raw(name).map(str::trim);
        if mark::get().is_some_and(|mark| header(mark::HEADER) == Some(mark)) {
            return Some(Unwanted::OurOwn);
        }
        let replied = |value: &str| {
            value.get(.."auto-replied".len()).is_some_and(|word| word.eq_ignore_ascii_case("auto-replied"))
        };
        let report = message.content_type().is_some_and(|kind| {
            kind.ctype().eq_ignore_ascii_case("multipart")
                && kind.subtype().is_some_and(|sub| sub.eq_ignore_ascii_case("report"))
        });
        (header("Auto-Submitted").is_some_and(replied) || report).then_some(Unwanted::Automatic)
    }

    /// What its sender is told.
    pub fn reply(self) -> &'static str {
        match self {
            Unwanted::OurOwn => "554 5.4.6 this mail is smsd's own: it would go round in a circle",
            Unwanted::Automatic => "554 5.7.1 an automatic answer or a report is no alert",
        }
    }
}

/// Reads a mail; any octets are one.
pub fn read(mail: &[u8]) -> Content {
    let Some(message) = MessageParser::default().parse(mail) else { return Content::default() };
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut body = message.body_text(0).map(|body| body.replace("\r\n", "\n")).unwrap_or_default();
    body.truncate(body.floor_char_boundary(TEXT_MAX));
    Content {
        subject: message.subject().map(words).unwrap_or_default(),
        body: body.trim_matches(['\n', '\r']).trim_end().to_owned(),
        unwanted: Unwanted::of(&message),
        id: message.message_id().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned),
    }
}

impl Content {
    /// What a subject `sms NUMBER` names, as NAV and Argus write it; several have commas or spaces between them only if
    /// each begins a new number. `None` if the subject is another, such as `SMS gateway gw1 is down`.
    pub fn named_in_subject(&self) -> Option<Vec<&str>> {
        let (word, rest) = self.subject.split_once(' ')?;
        if !word.eq_ignore_ascii_case("sms") {
            return None;
        }
        let words: Vec<&str> = rest.split([',', ';']).map(str::trim).filter(|w| !w.is_empty()).collect();
        let names = |word: &&str| word.starts_with("group:") || Phone::parse(word).is_ok();
        (!words.is_empty() && words.iter().all(names)).then_some(words)
    }

    /// What the alert says. A subject that names the number says nothing else.
    pub fn text(&self, of: TextOf) -> String {
        let subject = match self.named_in_subject() {
            Some(_) => "",
            None => self.subject.as_str(),
        };
        let text = match of {
            TextOf::Body => {
                [self.body.as_str(), subject].into_iter().find(|t| !t.is_empty()).unwrap_or_default()
            }
            TextOf::Subject => [subject, &self.body].into_iter().find(|t| !t.is_empty()).unwrap_or_default(),
            TextOf::Both if subject.is_empty() => &self.body,
            TextOf::Both if self.body.is_empty() => subject,
            TextOf::Both => return format!("{subject}: {}", self.body),
        };
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn navs_and_argus_form() {
        let mail = b"From: nav@example.org\r\nTo: sms@gw\r\nSubject: sms +4790000001\r\n\
            Message-ID: <1@example.org>\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Transfer-Encoding: base64\r\n\r\nYm94IGRvd246IHDDpSBsaW5qYQ==\r\n";
        let content = read(mail);
        assert_eq!(content.named_in_subject(), Some(vec!["+4790000001"]));
        assert_eq!(content.text(TextOf::Both), "box down: på linja");
        assert_eq!(content.id.as_deref(), Some("1@example.org"));
    }

    #[test]
    fn the_first_text_in_its_charset() {
        for (mail, subject, body) in [
            (&b"Subject: =?iso-8859-1?Q?p=E5?= nett\r\n\r\nhei\r\n"[..], "på nett", "hei"),
            (b"Content-Type: text/plain; charset=iso-8859-15\r\n\r\n\xA4 5\r\n", "", "€ 5"),
            (b"Content-Transfer-Encoding: quoted-printable\r\n\
               Content-Type: text/plain; charset=utf-8\r\n\r\np=C3=A5 =\r\nlinja\r\n", "", "på linja"),
            (b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
               plain\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>rich</b>\r\n--b--\r\n", "", "plain"),
            (b"Content-Type: text/html\r\n\r\n<p>router <b>down</b> &amp; out</p>\r\n", "", "router down & out"),
            (b"Content-Type: text/plain; charset=no-such\r\n\r\nhei\r\n", "", "hei"),
            (b"no header at all", "", ""),
        ] {
            let content = read(mail);
            assert_eq!((&*content.subject, &*content.body), (subject, body), "{:?}", String::from_utf8_lossy(mail));
        }
    }

    #[test]
    fn what_programs_answer_is_no_alert_and_what_they_say_is() {
        for (head, unwanted) in [
            ("Auto-Submitted: auto-replied (vacation)", Some(Unwanted::Automatic)),
            (
                "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
                Some(Unwanted::Automatic),
            ),
            ("Auto-Submitted: auto-generated", None),
            ("Auto-Submitted: no", None),
            ("X-Smsd: somebody else's", None),
            ("From: x@y", None),
        ] {
            assert_eq!(
                read(format!("{head}\r\nSubject: s\r\n\r\nhei\r\n").as_bytes()).unwanted,
                unwanted,
                "{head}"
            );
        }
    }

    #[test]
    fn the_text_is_what_is_asked_for() {
        let mail = |subject: &str, body: &str| Content {
            subject: subject.into(),
            body: body.into(),
            ..Content::default()
        };
        for (subject, body, want) in [
            ("Down", "router", ["router", "Down", "Down: router"]),
            ("Down", "", ["Down", "Down", "Down"]),
            ("", "router", ["router", "router", "router"]),
            ("SMS 112, group:noc", "router", ["router", "router", "router"]),
            ("SMS gateway gw1 is down", "", ["SMS gateway gw1 is down"; 3]),
            ("SMS 112 is down", "see", ["see", "SMS 112 is down", "SMS 112 is down: see"]),
            ("", "", ["", "", ""]),
        ] {
            let mail = mail(subject, body);
            assert_eq!([TextOf::Body, TextOf::Subject, TextOf::Both].map(|of| mail.text(of)), want);
        }
        assert_eq!(mail("smsd down", "").named_in_subject(), None);
        assert_eq!(mail("sms", "").named_in_subject(), None);
    }
}
