//! National languages in 7 bit: tables that stand in for the default alphabet or its extension (3GPP TS 23.038 §6.2.1.2).
//!
//! A *locking* table replaces the default alphabet for the whole SMS, a *single shift* table what follows an escape.
//! An element of the user data header names each (3GPP TS 23.040 §9.2.3.24.15, .16), which costs room. So they pay
//! only for texts that would otherwise go out in UCS-2, and only where the way out carries headers: a modem, SMPP,
//! not a gateway that is given a text.
//!
//! The tables are made by `scripts/alphabets` from two readings of the standard made independently of each other.

mod tables;

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use super::gsm7::{self, Code, ESCAPE};

/// A language with tables of its own, by its national language identifier (3GPP TS 23.038 §6.2.1.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "languages speak for themselves")]
pub enum Language {
    Turkish = 1,
    Spanish,
    Portuguese,
    /// And Assamese.
    Bengali,
    Gujarati,
    Hindi,
    Kannada,
    Malayalam,
    Oriya,
    Punjabi,
    Tamil,
    Telugu,
    Urdu,
}

impl Language {
    /// All of them.
    pub const ALL: [Language; 13] = [
        Language::Turkish,
        Language::Spanish,
        Language::Portuguese,
        Language::Bengali,
        Language::Gujarati,
        Language::Hindi,
        Language::Kannada,
        Language::Malayalam,
        Language::Oriya,
        Language::Punjabi,
        Language::Tamil,
        Language::Telugu,
        Language::Urdu,
    ];

    /// The identifier in a header.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The language of an identifier; `None` for those that are reserved.
    pub fn of_id(id: u8) -> Option<Language> {
        Language::ALL.get(usize::from(id).checked_sub(1)?).copied()
    }

    /// Has it a locking table? All have but Spanish.
    pub fn has_locking(self) -> bool {
        !locking(self).is_empty()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What septets stand for: the default alphabet and its extension, either of which a language may replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Alphabet {
    locking: Option<Language>,
    shift: Option<Language>,
}

impl Alphabet {
    /// GSM 03.38 as every phone knows it.
    pub const DEFAULT: Alphabet = Alphabet { locking: None, shift: None };

    /// An alphabet of these tables; `None` where the language has no locking table.
    pub fn new(locking: Option<Language>, shift: Option<Language>) -> Option<Alphabet> {
        let is_there = locking.is_none_or(Language::has_locking);
        is_there.then_some(Alphabet { locking, shift })
    }

    /// The language in place of the default alphabet.
    pub const fn locking(self) -> Option<Language> {
        self.locking
    }

    /// The language in place of the extension table.
    pub const fn shift(self) -> Option<Language> {
        self.shift
    }

    /// Octets of the header elements that announce it.
    pub(super) const fn header(self) -> usize {
        3 * (self.locking.is_some() as usize + self.shift.is_some() as usize)
    }

    /// The code of a character, if the alphabet has it.
    pub fn code(self, c: char) -> Option<Code> {
        if self == Alphabet::DEFAULT {
            return gsm7::code(c);
        }
        let basic = match self.locking {
            None => match gsm7::code(c) {
                Some(Code::Basic(code)) => Some(code),
                _ => None,
            },
            Some(language) => CODES.locking(language, c),
        };
        let escaped = || match self.shift {
            None => match gsm7::code(c) {
                Some(Code::Escaped(code)) => Some(code),
                // What the extension lacks for once, since a locking table took its place, is not in the extension.
                _ => None,
            },
            Some(language) => CODES.shift(language, c),
        };
        basic.map(Code::Basic).or_else(|| escaped().map(Code::Escaped))
    }

    /// Septets of `text`; `None` if it has a character that the alphabet lacks.
    pub fn septets(self, text: &str) -> Option<usize> {
        if self == Alphabet::DEFAULT {
            return gsm7::septets(text);
        }
        text.chars().try_fold(0, |sum, c| Some(sum + self.code(c)?.septets()))
    }

    /// The septets of `text`, not packed; `None` if it has a character that the alphabet lacks.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        let mut septets = Vec::with_capacity(text.len());
        self.each(text, |septet| septets.push(septet)).is_ok().then_some(septets)
    }

    /// Hands on the septets of `text`, up to the first character that the alphabet lacks.
    pub(super) fn each(self, text: &str, mut take: impl FnMut(u8)) -> Result<(), char> {
        for c in text.chars() {
            match self.code(c).ok_or(c)? {
                Code::Basic(code) => take(code),
                Code::Escaped(code) => {
                    take(ESCAPE);
                    take(code);
                }
            }
        }
        Ok(())
    }

    /// The text of septets, as the standard has a phone read them (3GPP TS 23.038 §6.2.1.1): an escaped code that is
    /// not in the table is read from the alphabet itself, an escape before an escape is a space, and so is a code that
    /// stands for nothing. An escape at the end says nothing.
    pub fn decode(self, septets: &[u8]) -> String {
        let mut text = String::with_capacity(septets.len());
        let mut codes = septets.iter().map(|septet| septet & 0x7F);
        while let Some(code) = codes.next() {
            text.push(match code {
                ESCAPE => match codes.next() {
                    Some(code) => self.escaped(code).or_else(|| self.basic(code)).unwrap_or(' '),
                    None => break,
                },
                code => self.basic(code).unwrap_or(' '),
            });
        }
        text
    }

    /// The longest head of `text` of at most `room` septets, in bytes; no escape pair is split, nor a base letter from
    /// its signs where a language has such.
    pub(super) fn head(self, text: &str, room: usize) -> usize {
        if self == Alphabet::DEFAULT {
            return gsm7::head(text, room);
        }
        let mut used = 0;
        for (at, c) in text.char_indices() {
            used += self.code(c).map_or(1, Code::septets);
            if used > room {
                return super::ucs2::boundary(text, at).unwrap_or(at);
            }
        }
        text.len()
    }

    fn basic(self, code: u8) -> Option<char> {
        match self.locking {
            None => gsm7::basic(code),
            Some(language) => CODES.locking_chars(language).get(usize::from(code)).copied().flatten(),
        }
    }

    fn escaped(self, code: u8) -> Option<char> {
        match self.shift {
            None => gsm7::extended(code),
            Some(language) => CODES.shift_chars(language).get(usize::from(code)).copied().flatten(),
        }
    }
}

fn locking(language: Language) -> &'static str {
    tables::LOCKING.get(usize::from(language.id()) - 1).copied().unwrap_or_default()
}

fn shift(language: Language) -> &'static str {
    tables::SHIFT.get(usize::from(language.id()) - 1).copied().unwrap_or_default()
}

/// The tables, both ways.
struct Codes {
    locking: Vec<Table>,
    shift: Vec<Table>,
}

struct Table {
    chars: Vec<Option<char>>,
    codes: HashMap<char, u8>,
}

static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let tables = |of: fn(Language) -> &'static str| Language::ALL.map(|l| Table::new(of(l))).into();
    Codes { locking: tables(locking), shift: tables(shift) }
});

impl Table {
    fn new(table: &str) -> Table {
        let chars: Vec<Option<char>> = table.chars().map(|c| Some(c).filter(|c| *c != '\0')).collect();
        let mut codes = HashMap::new();
        for (code, c) in (0..128).zip(&chars) {
            // A character that stands in a table twice is sent by its first code.
            codes.extend(c.filter(|c| !codes.contains_key(c)).map(|c| (c, code)));
        }
        Table { chars, codes }
    }
}

impl Codes {
    fn of(tables: &[Table], language: Language) -> Option<&Table> {
        tables.get(usize::from(language.id()) - 1)
    }

    fn locking(&self, language: Language, c: char) -> Option<u8> {
        Codes::of(&self.locking, language)?.codes.get(&c).copied()
    }

    fn shift(&self, language: Language, c: char) -> Option<u8> {
        Codes::of(&self.shift, language)?.codes.get(&c).copied()
    }

    fn locking_chars(&self, language: Language) -> &[Option<char>] {
        Codes::of(&self.locking, language).map_or(&[], |table| &table.chars)
    }

    fn shift_chars(&self, language: Language) -> &[Option<char>] {
        Codes::of(&self.shift, language).map_or(&[], |table| &table.chars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_what_two_readings_of_the_standard_say() {
        let mut agreed = 0;
        for line in include_str!("../../tests/vectors/national.tsv").lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let language = Language::of_id(fields[1].parse().unwrap()).unwrap();
            let code = u8::from_str_radix(fields[2], 16).unwrap();
            let wanted = match fields[..] {
                [.., one, two] if fields.len() == 5 => {
                    assert_eq!(one, two, "the readings differ and nobody has ruled: {line}");
                    agreed += 1;
                    one
                }
                [_, _, _, _, _, ruling, reason] if !reason.is_empty() => ruling,
                _ => panic!("{line}"),
            };
            let wanted = u32::from_str_radix(wanted, 16).ok().and_then(char::from_u32);
            let ours = match fields[0] {
                "lock" => Alphabet::new(Some(language), None).unwrap().basic(code),
                _ => Alphabet::new(None, Some(language)).unwrap().escaped(code),
            };
            assert_eq!(ours, wanted, "{line}");
        }
        assert_eq!(agreed, 2279);
        let all: usize = Language::ALL.iter().map(|l| count(locking(*l)) + count(shift(*l))).sum();
        assert_eq!(all, 2294, "nothing else stands in them");
    }

    fn count(table: &str) -> usize {
        table.chars().filter(|c| *c != '\0').count()
    }

    #[test]
    fn a_table_has_128_codes_and_never_the_escape() {
        for language in Language::ALL {
            assert_eq!(Language::of_id(language.id()), Some(language));
            for table in [locking(language), shift(language)] {
                assert!(table.is_empty() || table.chars().count() == 128, "{language}");
                assert_eq!(table.chars().nth(0x1B).unwrap_or('\0'), '\0', "{language}");
            }
        }
        assert!(!Language::Spanish.has_locking());
        assert_eq!(Alphabet::new(Some(Language::Spanish), None), None);
        assert_eq!((Language::of_id(0), Language::of_id(14)), (None, None));
    }

    #[test]
    fn languages_are_coded_as_the_standard_says() {
        let turkish = Alphabet::new(Some(Language::Turkish), Some(Language::Turkish)).unwrap();
        assert_eq!(turkish.encode("ışık").unwrap(), [0x07, 0x1D, 0x07, 0x6B]);
        assert_eq!(turkish.decode(&[0x07, 0x1D, 0x07, 0x6B]), "ışık");
        let shifted = Alphabet::new(None, Some(Language::Turkish)).unwrap();
        assert_eq!(shifted.encode("ış").unwrap(), [0x1B, 0x69, 0x1B, 0x73]);
        // Without a single shift table of the language, the extension of the default alphabet stays.
        let locked = Alphabet::new(Some(Language::Portuguese), None).unwrap();
        assert_eq!(locked.encode("Ã[").unwrap(), [0x5B, 0x1B, 0x3C]);
        let hindi = Alphabet::new(Some(Language::Hindi), Some(Language::Hindi)).unwrap();
        assert_eq!(hindi.septets("नमस्ते A"), Some(9), "a capital letter is escaped");
    }

    #[test]
    fn what_stands_for_nothing_is_read_as_the_standard_says() {
        let default = Alphabet::DEFAULT;
        assert_eq!(default.decode(&[0x1B, 0x41]), "A", "not in the extension");
        assert_eq!(default.decode(&[b'a', 0x1B, 0x1B, b'b']), "a b");
        assert_eq!(default.decode(&[b'a', 0x1B]), "a");
        let tamil = Alphabet::new(Some(Language::Tamil), None).unwrap();
        assert_eq!(tamil.decode(&[0x11, 0x61]), " a");
    }
}
