//! GSM 03.38: the default alphabet and its extension table (3GPP TS 23.038 §6.2.1 and §6.2.1.1).
//!
//! The two tables are the only place where the alphabet is written down; what is looked up is made of them
//! at compile time. What a national language puts in their place stands in [`super::language`].

use std::borrow::Cow;

/// The default alphabet, by code. 0x1B is the escape, which stands for no character.
pub const BASIC: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', //
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\x1B', 'Æ', 'æ', 'ß', 'É', //
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/', //
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?', //
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', //
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§', //
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', //
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// The extension table: the code that follows an escape.
pub const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\x0C'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// Announces a code of the extension table.
pub const ESCAPE: u8 = 0x1B;

/// The septets of one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// One septet.
    Basic(u8),
    /// [`ESCAPE`] and this one.
    Escaped(u8),
}

impl Code {
    /// How many septets: 1 or 2.
    pub const fn septets(self) -> usize {
        match self {
            Code::Basic(_) => 1,
            Code::Escaped(_) => 2,
        }
    }
}

/// The code of a character, if the alphabet has it.
pub fn code(c: char) -> Option<Code> {
    match look_up(c) {
        ABSENT => None,
        b if b & ESCAPED != 0 => Some(Code::Escaped(b & !ESCAPED)),
        b => Some(Code::Basic(b)),
    }
}

/// The character of a code of the default alphabet; `None` for the escape.
pub(super) fn basic(code: u8) -> Option<char> {
    BASIC.get(usize::from(code)).copied().filter(|_| code != ESCAPE)
}

/// The character of a code that follows an escape.
pub(super) fn extended(code: u8) -> Option<char> {
    EXTENSION.iter().find(|(at, _)| *at == code).map(|(_, c)| *c)
}

/// True if the alphabet has the character.
pub fn has(c: char) -> bool {
    code(c).is_some()
}

/// Septets of `text`; `None` if it has a character that the alphabet lacks.
pub fn septets(text: &str) -> Option<usize> {
    text.chars().try_fold(0, |sum, c| match look_up(c) {
        ABSENT => None,
        byte => Some(sum + 1 + usize::from(byte >> 7)),
    })
}

/// The septets of `text`, not packed; `None` if it has a character that the alphabet lacks.
pub fn encode(text: &str) -> Option<Vec<u8>> {
    super::language::Alphabet::DEFAULT.encode(text)
}

/// `text` with `?` for each character that the alphabet lacks: the last resort.
pub fn force(text: &str) -> Cow<'_, str> {
    if text.chars().all(has) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if has(c) { c } else { '?' }).collect())
}

/// The longest head of `text` of at most `room` septets, in bytes; no escape pair is split.
///
/// Every character of the alphabet is a grapheme cluster of its own, but CR LF is one too.
pub(super) fn head(text: &str, room: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += code(c).map_or(1, Code::septets);
        if used > room {
            return super::ucs2::boundary(text, at).unwrap_or(at);
        }
    }
    text.len()
}

/// The code, with [`ESCAPED`] if an escape precedes it, or [`ABSENT`].
fn look_up(c: char) -> u8 {
    match LOW.get(c as usize) {
        Some(&byte) => byte,
        None => EXTENSION.iter().find(|(_, x)| *x == c).map_or(ABSENT, |(code, _)| code | ESCAPED),
    }
}

const ABSENT: u8 = 0xFF;
const ESCAPED: u8 = 0x80;

/// Code by character up to Ω, the last of [`BASIC`]; `€` alone lies beyond.
static LOW: [u8; 'Ω' as usize + 1] = low();

const fn low() -> [u8; 'Ω' as usize + 1] {
    let mut low = [ABSENT; 'Ω' as usize + 1];
    let mut code = 0;
    while code < BASIC.len() {
        if code != ESCAPE as usize {
            low[BASIC[code] as usize] = code as u8;
        }
        code += 1;
    }
    let mut i = 0;
    while i < EXTENSION.len() {
        let (code, c) = EXTENSION[i];
        if (c as usize) < low.len() {
            low[c as usize] = code | ESCAPED;
        }
        i += 1;
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gsm0338.tsv` was written by Perl's Encode::GSM0338, which follows Unicode's GSM0338.TXT.
    #[test]
    fn the_alphabet_is_unicodes() {
        let table = include_str!("../../tests/vectors/gsm0338.tsv");
        let mut known = std::collections::HashMap::new();
        for line in table.lines().filter(|l| !l.starts_with('#')) {
            let (septets, scalar) = line.split_once('\t').unwrap();
            let c = char::from_u32(u32::from_str_radix(scalar, 16).unwrap()).unwrap();
            known.insert(c, hex::decode(septets).unwrap());
        }
        assert_eq!(known.len(), 127 + 10);
        for c in '\0'..=char::MAX {
            assert_eq!(encode(&c.to_string()), known.get(&c).cloned(), "{c:?}");
        }
    }

    #[test]
    fn what_is_lacking_becomes_a_question_mark() {
        assert_eq!(force("blåbær 漢 €"), "blåbær ? €");
        assert_eq!(septets("`"), None);
        assert_eq!(septets("a[€"), Some(5));
        assert_eq!(head("a[€", 4), 2);
        assert_eq!(head("ab\r\ncd", 3), 2, "CR LF is one grapheme cluster");
    }
}
