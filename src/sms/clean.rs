//! What no SMS may carry, taken out of a text before anything is counted.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::ucs2;

/// Units of the longest grapheme cluster that is left whole. Unicode's stream-safe text bounds a cluster at 30
/// marks (UAX #15 §13), and the longest emoji have 15 units, so only nonsense is cut; and any cluster fits a part.
pub const CLUSTER_MAX: usize = 32;

/// `text` without what a phone can not show or a gateway may choke on:
///
/// - CR LF, lone CR, and the line and paragraph separators (U+2028, U+2029) become LF;
/// - TAB becomes a space;
/// - all other control characters (C0 with NUL, DEL, C1) are removed;
/// - bidirectional embeddings, overrides and isolates (U+202A–202E, U+2066–2069) are removed, since what one
///   alert leaves open would turn round the next one and the count; the marks U+200E, U+200F and U+061C stay;
/// - a grapheme cluster longer than [`CLUSTER_MAX`] units is cut to that, with a space at its end: what was in
///   its middle, such as a joiner, would make one cluster of it and the next.
///
/// Letters are composed (Unicode's normal form C): `a` and a ring behind it are `å`, as the ångström's sign is, and the ohm's
/// is Ω: what looks the same costs the same, and the default alphabet has it.
///
/// Nothing else is touched; spaces stay where they are.
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n')) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' | '\u{2028}' | '\u{2029}' => cleaned.push('\n'),
            '\t' => cleaned.push(' '),
            '\n' => cleaned.push('\n'),
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => cleaned.push(c),
        }
    }
    // Below U+0300 nothing combines.
    if cleaned.chars().any(|c| c >= '\u{300}') {
        // Bounded before and after: nonsense is not to be sorted, and what was composed may be shorter.
        let bound: String = cleaned.graphemes(true).flat_map(bounded).collect();
        let composed: String = bound.nfc().collect();
        cleaned = composed.graphemes(true).flat_map(bounded).collect();
    }
    Cow::Owned(cleaned)
}

/// Would a phone show nothing of it? White space, and what has no width or is blank by itself.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_whitespace()
            || matches!(c, '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
                | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{E0000}'..='\u{E0FFF}')
    })
}

fn bounded(cluster: &str) -> [&str; 2] {
    if ucs2::units(cluster) <= CLUSTER_MAX {
        return [cluster, ""];
    }
    let mut units = " ".len();
    let end = cluster.char_indices().find(|(_, c)| {
        units += c.len_utf16();
        units > CLUSTER_MAX
    });
    [end.and_then(|(at, _)| cluster.get(..at)).unwrap_or(cluster), " "]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_go_and_line_ends_become_lf() {
        for (text, cleaned) in [
            ("a\r\nb\rc\nd", "a\nb\nc\nd"),
            ("a\r\r\nb", "a\n\nb"),
            ("a\tb", "a b"),
            ("a\0\x07\x0B\x0C\x1B\x7F\u{80}\u{85}\u{9F}b", "ab"),
            ("a\u{2028}b\u{202E}c\u{2066}d", "a\nbcd"),
            ("\u{200F}שלום", "\u{200F}שלום"),
            (" blåbær ", " blåbær "),
        ] {
            assert_eq!(clean(text), cleaned, "{text:?}");
        }
    }

    #[test]
    fn letters_are_composed() {
        for (text, cleaned) in [
            ("ma\u{30A}leren pa\u{30A} Ro\u{308}ros", "måleren på Röros"),
            ("\u{212B} \u{2126} \u{B5}", "Å Ω \u{B5}"),
            ("q\u{301}", "q\u{301}"),
        ] {
            assert_eq!(clean(text), cleaned);
        }
        assert!(clean("\u{212B}\u{2126}").chars().all(crate::sms::gsm7::has));
    }

    #[test]
    fn a_cluster_is_bounded() {
        let marks = |n| "\u{301}".repeat(n);
        assert_eq!(clean(&format!("q{}x", marks(31))), format!("q{}x", marks(31)));
        assert_eq!(clean(&format!("q{}x", marks(32))), format!("q{} x", marks(30)));
        // Cut behind the joiner, each of these would join the next.
        let joined = format!("👨{}\u{200d}👩", marks(29));
        let cut = format!("👨{} ", marks(29));
        assert_eq!(clean(&joined.repeat(5)), cut.repeat(5));
        let england = "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
        assert_eq!(clean(england), england);
    }
}
