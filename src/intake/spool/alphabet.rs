//! From the bytes of a file's text to letters.

use std::fmt;

use crate::sms::gsm7;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// ISO 8859-15; what is sound UTF-8 is taken for that, as smstools does (`outgoing_utf8`).
    Latin9,
    /// UTF-8.
    Utf8,
    /// The default alphabet of GSM 03.38, an octet each.
    Gsm,
    /// UTF-16, big endian where no byte order mark says otherwise.
    Ucs2,
}

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Charset::Latin9 => "ISO-8859-15",
            Charset::Utf8 => "UTF-8",
            Charset::Gsm => "GSM",
            Charset::Ucs2 => "UCS2",
        })
    }
}

/// The charset of an `Alphabet:`, of which smstools looks at the first three letters; `None` for any other word.
/// What is binary is none.
pub(super) fn named(word: &str) -> Option<Charset> {
    match word.get(..3)?.to_ascii_lowercase().as_str() {
        "iso" | "lat" | "ans" => Some(Charset::Latin9),
        "gsm" => Some(Charset::Gsm),
        "utf" => Some(Charset::Utf8),
        "ucs" | "chi" | "uni" => Some(Charset::Ucs2),
        _ => None,
    }
}

/// The text. What no letter stands for becomes U+FFFD, so that an alert with one bad byte still goes out.
pub(super) fn decode(bytes: &[u8], charset: Charset) -> String {
    match charset {
        Charset::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
        Charset::Latin9 => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().map(|b| latin9(*b)).collect(),
        },
        Charset::Gsm => gsm(bytes),
        Charset::Ucs2 => ucs2(bytes),
    }
}

/// ISO 8859-15 is Latin-1 but for eight letters.
fn latin9(byte: u8) -> char {
    match byte {
        0xA4 => '€',
        0xA6 => 'Š',
        0xA8 => 'š',
        0xB4 => 'Ž',
        0xB8 => 'ž',
        0xBC => 'Œ',
        0xBD => 'œ',
        0xBE => 'Ÿ',
        other => char::from(other),
    }
}

fn gsm(bytes: &[u8]) -> String {
    let mut escaped = false;
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if !escaped && byte == gsm7::ESCAPE {
            escaped = true;
            continue;
        }
        let table = |code: u8| gsm7::BASIC.get(usize::from(code)).copied().filter(|_| code != gsm7::ESCAPE);
        let found = match escaped {
            // A code that the extension table lacks is shown as in the default alphabet (3GPP TS 23.038 §6.2.1.1).
            true => {
                gsm7::EXTENSION.iter().find(|(at, _)| *at == byte).map(|(_, c)| *c).or_else(|| table(byte))
            }
            false => table(byte),
        };
        escaped = false;
        text.push(found.unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    text
}

fn ucs2(bytes: &[u8]) -> String {
    let (bytes, little) = match bytes {
        [0xFE, 0xFF, rest @ ..] => (rest, false),
        [0xFF, 0xFE, rest @ ..] => (rest, true),
        _ => (bytes, false),
    };
    // `echo` and editors end a file with one octet that is half a letter here.
    let bytes = match bytes {
        [whole @ .., b'\n'] if bytes.len() % 2 == 1 => whole,
        _ => bytes,
    };
    let units = bytes.chunks(2).map(|pair| match *pair {
        [a, b] if little => u16::from_le_bytes([a, b]),
        [a, b] => u16::from_be_bytes([a, b]),
        // Half a letter at the end.
        _ => 0xFFFD,
    });
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alphabet_reads_its_own() {
        for (bytes, charset, want) in [
            (&b"gr\xFC\xDF \xA4 5"[..], Charset::Latin9, "grüß € 5"),
            ("på".as_bytes(), Charset::Latin9, "på"),
            ("på".as_bytes(), Charset::Utf8, "på"),
            (b"p\xE5", Charset::Utf8, "p\u{fffd}"),
            (b"p\x0F \x1B\x65 \x1B\x41\x80\x1B", Charset::Gsm, "på € A\u{fffd}"),
            (b"\x00p\x00\xE5\xD8\x3D\xDE\x00", Charset::Ucs2, "på😀"),
            (b"\xFE\xFF\x00x", Charset::Ucs2, "x"),
            (b"\xFF\xFEx\x00", Charset::Ucs2, "x"),
            (b"\x00x\xD8\x3D\x00", Charset::Ucs2, "x\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(decode(bytes, charset), want, "{charset}");
        }
    }

    #[test]
    fn three_letters_name_an_alphabet() {
        for (word, want) in [
            ("ISO", Some(Charset::Latin9)),
            ("Latin", Some(Charset::Latin9)),
            ("ANSI", Some(Charset::Latin9)),
            ("UCS-2", Some(Charset::Ucs2)),
            ("Unicode", Some(Charset::Ucs2)),
            ("utf8", Some(Charset::Utf8)),
            ("GSM", Some(Charset::Gsm)),
            ("binary", None),
            ("ß", None),
            ("", None),
        ] {
            assert_eq!(named(word), want, "{word}");
        }
    }
}
