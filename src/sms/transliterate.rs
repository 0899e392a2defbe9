//! Near forms in GSM 03.38 for what it lacks, so that one curly quote does not cost half of an SMS.
//!
//! Whether a replacement pays is for the caller to find out by measuring: a near form may be longer (`…`
//! becomes `...`, `😀` becomes `:grinning:`). What the alphabet has is never touched.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;

use super::gsm7;

/// What may be replaced to save segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transliterate {
    /// Nothing.
    None,
    /// Curly quotes, dashes, ellipsis, no-break space.
    Punctuation,
    /// Everything that has a near form in GSM 03.38.
    Full,
}

impl Transliterate {
    /// This degree and those that change less, the least first.
    pub fn up_to(self) -> impl Iterator<Item = Transliterate> {
        [Transliterate::None, Transliterate::Punctuation, Transliterate::Full]
            .into_iter()
            .take_while(move |d| *d <= self)
    }

    /// `text` with what this degree replaces.
    pub fn of(self, text: &str) -> Cow<'_, str> {
        match self {
            Transliterate::None => Cow::Borrowed(text),
            Transliterate::Punctuation => punctuation(text),
            Transliterate::Full => full(text),
        }
    }
}

/// `text` with plain punctuation: quotes, dashes, ellipsis, spaces and bullets. Invisible characters that
/// change no letter (byte order mark, soft hyphen, zero-width space, direction marks) are removed.
pub fn punctuation(text: &str) -> Cow<'_, str> {
    if text.is_ascii() && !text.contains('`') {
        return Cow::Borrowed(text);
    }
    let Some(first) = text.find(|c| plain(c).is_some()) else { return Cow::Borrowed(text) };
    let (head, tail) = text.split_at(first);
    let mut out = String::with_capacity(text.len());
    out.push_str(head);
    for c in tail.chars() {
        match plain(c) {
            Some(near) => out.push_str(near),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `text` with everything replaced that has a near form: punctuation by our table, the rest by any_ascii.
/// A grapheme cluster of which nothing would remain stays as it is.
pub fn full(text: &str) -> Cow<'_, str> {
    if text.chars().all(gsm7::has) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for cluster in text.graphemes(true) {
        let before = out.len();
        for c in cluster.chars() {
            match plain(c) {
                Some(near) => out.push_str(near),
                None if gsm7::has(c) => out.push(c),
                None => push_ascii(&mut out, c),
            }
        }
        if out.len() == before && !cluster.chars().all(|c| plain(c) == Some("")) {
            out.push_str(cluster);
        }
    }
    Cow::Owned(out)
}

/// The near form of punctuation that GSM 03.38 lacks.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        '‘' | '’' | '‚' | '‛' | '′' | '‵' | '‹' | '›' | 'ʼ' | '´' | '`' => "'",
        '“' | '”' | '„' | '‟' | '″' | '‶' | '«' | '»' => "\"",
        // Hyphens, dashes, the minus sign.
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}' => "-",
        '…' => "...",
        // No-break, typographic and ideographic spaces.
        '\u{A0}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => " ",
        // The increment of `∆T` looks like the letter that the alphabet has.
        '\u{2206}' => "Δ",
        '•' | '‣' | '◦' | '∙' => "*",
        '·' => ".",
        '\u{AD}' | '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2060}' | '\u{FEFF}' => "",
        _ => return None,
    })
}

/// any_ascii's near form; of ASCII, GSM 03.38 lacks the backtick alone, and controls have no place here.
fn push_ascii(out: &mut String, c: char) {
    let near = any_ascii::any_ascii_char(c).chars().filter(|c| !c.is_control());
    out.extend(near.map(|c| if c == '`' { '\'' } else { c }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_becomes_plain_and_letters_stay() {
        for (text, near) in [
            ("“a” – it’s…\u{A0}«b» `c`", "\"a\" - it's... \"b\" 'c'"),
            ("soft\u{AD}hyphen\u{FEFF}", "softhyphen"),
            ("blåbær 漢 °", "blåbær 漢 °"),
        ] {
            assert_eq!(punctuation(text), near);
        }
        assert!(matches!(punctuation("blåbær"), Cow::Borrowed(_)));
    }

    #[test]
    fn full_keeps_what_the_alphabet_has() {
        for (text, near) in [
            ("blåbær é ñ Δ € [", "blåbær é ñ Δ € ["),
            ("“ł” 61°C", "\"l\" 61degC"),
            ("e\u{301}", "e"),
            ("Привет 😀", "Privet :grinning:"),
            // Nobody knows a near form of a private character.
            ("a\u{E000}b", "a\u{E000}b"),
            ("a\u{200B}b", "ab"),
        ] {
            assert_eq!(full(text), near);
        }
    }

    #[test]
    fn near_forms_are_in_the_alphabet_and_replace_what_is_not() {
        for c in '\0'..=char::MAX {
            if let Some(near) = plain(c) {
                assert!(!gsm7::has(c) && near.chars().all(gsm7::has), "{c:?}");
            }
        }
    }
}
