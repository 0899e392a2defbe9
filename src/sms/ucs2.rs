//! UCS-2, in truth UTF-16: a character beyond U+FFFF takes two units (3GPP TS 23.038 §6.2.3).

use unicode_segmentation::GraphemeCursor;

/// 16-bit units of `text`.
pub fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// The longest head of `text` of at most `room` units, in bytes; no surrogate pair is split.
///
/// It ends between two grapheme clusters, or within the first if that alone has more than `room` units.
pub(super) fn head(text: &str, room: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.len_utf16();
        if used > room {
            return boundary(text, at).unwrap_or(at);
        }
    }
    text.len()
}

/// The last boundary between two grapheme clusters at or before `at`, if there is one past the start.
pub(super) fn boundary(text: &str, at: usize) -> Option<usize> {
    let mut cursor = GraphemeCursor::new(at, text.len(), true);
    if cursor.is_boundary(text, 0) == Ok(true) {
        return Some(at);
    }
    cursor.prev_boundary(text, 0).ok().flatten().filter(|&b| b > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_end_between_clusters() {
        for (text, room, head_is) in [
            ("abc", 2, "ab"),
            ("😀😀", 3, "😀"),
            ("ae\u{301}b", 2, "a"),
            ("🇳🇴🇸🇪🇩🇰", 11, "🇳🇴🇸🇪"),
            ("a👨‍👩‍👧", 8, "a"),
            ("e\u{301}\u{301}", 2, "e\u{301}"),
        ] {
            assert_eq!(&text[..head(text, room)], head_is, "{text} in {room}");
        }
    }
}
