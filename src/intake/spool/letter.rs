//! A file in smstools' format (its manual, "SMS file format"): header lines, an empty line, the text.
//!
//! Pure. What smstools ignores is ignored here, too. What would make something else of the message than a text
//! on a phone (binary data, a ring, a silent SMS) is refused, since an alert of it would say what nobody wrote.

use std::collections::{BTreeMap, HashSet};

use super::alphabet::{self, Charset};
use crate::alert::{Phone, Severity};
use crate::intake::{ALERTS_MAX, RecipientError, recipients};

/// What holds for files that do not say otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// How the text is written.
    pub charset: Charset,
    /// A `+` is put before numbers that are international in smstools.
    pub international: bool,
    /// How severe it is.
    pub severity: Severity,
    /// `[groups]`.
    pub groups: &'a BTreeMap<String, Vec<Phone>>,
}

/// What a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Whom it is for, each once; not empty.
    pub to: Vec<Phone>,
    /// Recipients that are none, with the reason: the others get the text all the same.
    pub bad: Vec<RecipientError>,
    /// The text.
    pub text: String,
    /// How severe it is.
    pub severity: Severity,
}

/// Why a file asks for nothing that we could do. The words go into the file as its `Fail_reason:`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no `To:`.
    #[error("No destination")]
    NoDestination,
    /// No `To:` names anybody.
    #[error("No destination: {0}")]
    BadDestination(RecipientError),
    /// It names more than one submission may have.
    #[error("more than {ALERTS_MAX} numbers")]
    TooMany,
    /// There is no empty line, or nothing after it.
    #[error("No text or data")]
    NoText,
    /// An alphabet that neither smstools nor we know.
    #[error("Invalid alphabet: {0:?}")]
    Alphabet(String),
    /// A header asks for something that is no text.
    #[error("{0}: smsd sends texts only")]
    NoTextMessage(String),
}

/// Severity of a file with `Priority: High`.
const HIGH: Severity = Severity(Some(1));

/// Reads a file.
///
/// # Errors
/// See [`Unfit`].
pub fn parse(file: &[u8], reading: &Reading<'_>) -> Result<Letter, Unfit> {
    // Some editors begin each file with a byte order mark.
    let (head, body) = split(file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file));
    let mut severity = reading.severity;
    let mut charset = reading.charset;
    let mut words = Vec::new();
    let mut kind = None;
    for (name, value) in headers(head) {
        let name = name.to_ascii_lowercase();
        let value = value.as_str();
        match name.as_str() {
            "to" => words.extend(value.split(',').map(|word| word.trim().to_owned())),
            "to_toa" => kind = Some(value.to_ascii_lowercase()),
            "alphabet" => charset = alphabet(value)?,
            "priority" if value.eq_ignore_ascii_case("high") => severity = severity.min(HIGH),
            "severity" => {
                severity =
                    value.parse().ok().filter(|s| (1..=5).contains(s)).map_or(severity, |s| Severity(Some(s)))
            }
            "hex" | "voicecall" | "ping" | "text_is_pdu" | "system_message" if is_yes(value) => {
                return Err(Unfit::NoTextMessage(format!("{name}: yes")));
            }
            "system_message" if matches!(value, "2" | "ToSIM") => return Err(Unfit::NoTextMessage(name)),
            "udh-data" | "include" | "macro" | "replace" if !value.is_empty() => {
                return Err(Unfit::NoTextMessage(name));
            }
            _ => {}
        }
    }
    let international = kind.map_or(reading.international, |k| reading.international && k == "international");
    if words.is_empty() {
        return Err(Unfit::NoDestination);
    }
    let (mut to, mut bad, mut named) = (Vec::new(), Vec::new(), HashSet::new());
    for word in &words {
        match recipients([number(word, international).as_str()], reading.groups) {
            Ok(phones) => to.extend(phones.into_iter().filter(|phone| named.insert(phone.clone()))),
            Err(why) => bad.push(why),
        }
        if to.len() > ALERTS_MAX || bad.len() > ALERTS_MAX {
            return Err(Unfit::TooMany);
        }
    }
    if to.is_empty() {
        return Err(bad.pop().map_or(Unfit::NoDestination, Unfit::BadDestination));
    }
    let text = alphabet::decode(body.unwrap_or_default(), charset);
    // smstools' `trim_text`: what an editor or echo puts at the end is no part of the text.
    let text = text.trim_end();
    if text.is_empty() {
        return Err(Unfit::NoText);
    }
    Ok(Letter { to, bad, text: text.to_owned(), severity })
}

/// The header, and the text if an empty line begins it.
pub(super) fn split(file: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut at = 0;
    while let Some(end) = file.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\n')) {
        let line = file.get(at..at + end).unwrap_or_default();
        if line.trim_ascii().is_empty() {
            return (file.get(..at).unwrap_or_default(), file.get(at + end + 1..));
        }
        at += end + 1;
    }
    (file, None)
}

/// Names and values, without the spaces around them. Lines that are none are left out, as in smstools.
fn headers(head: &[u8]) -> impl Iterator<Item = (String, String)> {
    head.split(|b| *b == b'\n').filter_map(|line| {
        let line = String::from_utf8_lossy(line);
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    })
}

fn alphabet(value: &str) -> Result<Charset, Unfit> {
    alphabet::named(value).ok_or_else(|| {
        let mut word = value.to_owned();
        crate::telemetry::clip(&mut word, 40);
        match word.to_ascii_lowercase().starts_with("bin") {
            true => Unfit::NoTextMessage(format!("Alphabet: {word}")),
            false => Unfit::Alphabet(word),
        }
    })
}

fn is_yes(value: &str) -> bool {
    ["true", "yes", "on", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// A number of smstools' in our form. There, `s` marks one that is to be dialled as it stands, and every other is
/// international without its `+`. Those with a `0` in front or of six digits and less can be none.
fn number(word: &str, international: bool) -> String {
    if let Some(short) = word.strip_prefix(['s', 'S'])
        && short.starts_with(|c: char| c.is_ascii_digit())
    {
        return short.to_owned();
    }
    let digits = word.chars().filter(char::is_ascii_digit).count();
    match word.starts_with(|c: char| matches!(c, '1'..='9')) && digits > SHORT_MAX && international {
        true => format!("+{word}"),
        false => word.to_owned(),
    }
}

/// Digits of a number that a network knows without its country.
const SHORT_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> Result<Letter, Unfit> {
        let groups = BTreeMap::from([("noc".to_owned(), vec![Phone::parse("+4790000001").unwrap()])]);
        let reading = Reading {
            charset: Charset::Latin9,
            international: true,
            severity: Severity(Some(3)),
            groups: &groups,
        };
        parse(file, &reading)
    }

    fn to(letter: &Letter) -> Vec<&str> {
        letter.to.iter().map(Phone::as_str).collect()
    }

    #[test]
    fn the_manuals_examples() {
        let letter = read(b"To: 491721234567\n\nHello, this is the sms.\n").unwrap();
        assert_eq!((to(&letter), &*letter.text), (vec!["+491721234567"], "Hello, this is the sms."));
        let letter =
            read(b"To: 491721234567\nFlash: yes\nAlphabet: ISO\n\nHello Stefan, how are you?").unwrap();
        assert_eq!((&*letter.text, letter.severity), ("Hello Stefan, how are you?", Severity(Some(3))));
        let binary = read(b"To: 491721234567\nAlphabet: binary\nUDH: true\n\ngs2389");
        assert_eq!(binary, Err(Unfit::NoTextMessage("Alphabet: binary".into())));
    }

    #[test]
    fn numbers_are_what_they_are_in_smstools() {
        for (word, want) in [
            ("491721234567", "+491721234567"),
            ("+491721234567", "+491721234567"),
            ("358 12 345 6789", "+358123456789"),
            ("00491721234567", "00491721234567"),
            ("01721234567", "01721234567"),
            ("s1234", "1234"),
            ("s491721234567", "491721234567"),
            ("112", "112"),
            ("166166", "166166"),
            ("group:noc", "+4790000001"),
        ] {
            let letter = read(format!("To: {word}\n\nx").as_bytes()).unwrap();
            assert_eq!(to(&letter), [want], "{word}");
        }
        let national = read(b"To: 1721234567\nTo_TOA: national\n\nx").unwrap();
        assert_eq!(to(&national), ["1721234567"]);
    }

    #[test]
    fn all_recipients_count_and_a_bad_one_holds_up_no_other() {
        let letter =
            read(b"To: 4790000001\nFrom: me\nTo: 12abc\nto: 4790000002\nTo: 4790000001\n\nx").unwrap();
        assert_eq!(to(&letter), ["+4790000001", "+4790000002"]);
        assert_eq!(letter.bad.len(), 1);
        assert!(letter.bad[0].to_string().contains("12abc"));
        assert!(matches!(read(b"To: 12abc\n\nx"), Err(Unfit::BadDestination(_))));
    }

    #[test]
    fn a_file_names_no_more_than_a_submission_may_have() {
        let file = |n: usize, word: &str| {
            let to: String = (0..n).map(|n| format!("To: {word}{n:04}\n")).collect();
            format!("{to}\nx").into_bytes()
        };
        assert_eq!(read(&file(ALERTS_MAX, "+4790")).unwrap().to.len(), ALERTS_MAX);
        assert_eq!(read(&file(ALERTS_MAX + 1, "+4790")), Err(Unfit::TooMany));
        assert_eq!(read(&file(ALERTS_MAX + 1, "bad")), Err(Unfit::TooMany));
    }

    #[test]
    fn what_editors_and_people_add_costs_nothing() {
        let letter = read(b"\xEF\xBB\xBFTo: 112, 113\n \nhei\n").unwrap();
        assert_eq!((to(&letter), &*letter.text), (vec!["112", "113"], "hei"));
        let ucs2 = read(b"To: 112\nAlphabet: UCS\n\n\x00n\x00e\x00d\n").unwrap();
        assert_eq!(ucs2.text, "ned");
    }

    #[test]
    fn headers_end_at_the_first_empty_line() {
        let letter =
            read(b"\xFF no header\r\nTo:4790000001\r\nPriority: HIGH\r\n\r\nTo: 1\r\n\r\nAlphabet: x\r\n")
                .unwrap();
        assert_eq!(letter.text, "To: 1\r\n\r\nAlphabet: x");
        assert_eq!((to(&letter), letter.severity), (vec!["+4790000001"], Severity(Some(1))));
        let letter = read(b"To: 112\nSeverity: 2\n\nx").unwrap();
        assert_eq!(letter.severity, Severity(Some(2)));
    }

    #[test]
    fn the_text_is_in_its_alphabet() {
        let letter = read(b"To: 112\nAlphabet: UCS\n\n\x00h\x00i\x00\n").unwrap();
        assert_eq!(letter.text, "hi");
        assert_eq!(read(b"To: 112\n\ngr\xFC\xDFe").unwrap().text, "grüße");
        assert_eq!(read(b"To: 112\nAlphabet: EBCDIC\n\nx"), Err(Unfit::Alphabet("EBCDIC".into())));
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_reason() {
        for (file, want) in [
            (&b""[..], "No destination"),
            (b"\nTo: 112", "No destination"),
            (b"To: 112", "No text or data"),
            (b"To: 112\n\n \r\n", "No text or data"),
            (b"To:\n\nx", "No destination: \"\": no digits; expected a number such as +4799999999"),
            (b"To: 112\nHex: yes\n\n41", "hex: yes: smsd sends texts only"),
            (b"To: 112\nVoicecall: 1\n\nTONE: 1", "voicecall: yes: smsd sends texts only"),
            (b"To: 112\nUDH-DATA: 050003\n\nx", "udh-data: smsd sends texts only"),
            (b"To: 112\nInclude: /etc/passwd\n\n", "include: smsd sends texts only"),
        ] {
            assert_eq!(read(file).unwrap_err().to_string(), want);
        }
        assert!(read(b"To: 112\nHex: no\nReplace:\n\nx").is_ok());
    }
}
