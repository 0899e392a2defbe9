//! A text that says the most that one SMS can: what it is about whole, and what there is to say of it as far as it fits.

use unicode_segmentation::UnicodeSegmentation;

use crate::sms::choice::{Means, choose};
use crate::sms::clean;

/// No SMS has more characters.
const CHARACTERS: usize = 160;
/// What stands for the rest of a text.
const DOTS: &str = "...";

/// `head`, and `tail` behind it, in one SMS: 160 characters of GSM 03.38, or 70 if it has others. The tail is
/// shortened, at a word if there is one near, or left out; the head only if it does not fit by itself. Line ends
/// and runs of white space become a space.
pub(super) fn one_sms(head: &str, tail: &str) -> String {
    let (head, tail) = (line(head), line(tail));
    let whole = [head.as_str(), &tail].join(if head.is_empty() || tail.is_empty() { "" } else { ": " });
    if fits(&whole) {
        return whole;
    }
    let lead = if fits(&format!("{head}: {DOTS}")) { head.len() } else { 0 };
    if lead == 0 && fits(&head) {
        return head;
    }
    let lead = if lead > 0 { lead + 2 } else { 0 };
    let ends: Vec<usize> = whole
        .grapheme_indices(true)
        .map(|(at, _)| at)
        .skip_while(|at| *at <= lead)
        .take(CHARACTERS)
        .collect();
    let cut = |end: usize| format!("{}{DOTS}", whole.get(..end).unwrap_or_default().trim_end());
    // What fits at an end fits at all before it.
    let fitting = ends.partition_point(|end| fits(&cut(*end)));
    let end = fitting.checked_sub(1).and_then(|last| ends.get(last).copied()).unwrap_or(lead);
    cut(word(&whole, lead, end))
}

/// The end of a word shortly before `end`, if there is one.
fn word(text: &str, lead: usize, end: usize) -> usize {
    let kept = text.get(lead..end).unwrap_or_default();
    let more = text.get(end..).unwrap_or_default();
    if more.starts_with(' ') {
        return end;
    }
    let near = kept.len().saturating_sub(kept.len() / 4);
    kept.rfind(' ').filter(|at| *at > near).map_or(end, |at| lead + at)
}

fn line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn fits(text: &str) -> bool {
    text.len() <= 4 * CHARACTERS && choose(text, &Means::default()).measure.segments == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_gives_way_to_the_head() {
        assert_eq!(one_sms("Down web1", "it is\n down"), "Down web1: it is down");
        assert_eq!(one_sms("Down", ""), "Down");
        assert_eq!(one_sms("", "x"), "x");
        let words = "word ".repeat(60);
        let text = one_sms("InstanceDown web1:9100", &words);
        assert!(text.starts_with("InstanceDown web1:9100: word word"), "{text}");
        assert!(text.ends_with(" word...") && text.len() <= 160 && text.len() > 150, "{text}");
        let text = one_sms("Down", &"x".repeat(300));
        assert_eq!((text.len(), &text[..8]), (160, "Down: xx"));
        // Of a head that fills the SMS, no letter is given for a tail.
        assert_eq!(one_sms(&"h".repeat(158), "tail"), "h".repeat(158));
        assert_eq!(one_sms(&"h".repeat(170), "tail"), format!("{}...", "h".repeat(157)));
    }

    #[test]
    fn what_gsm_lacks_has_room_for_70() {
        let text = one_sms("Æøå Ж", &"щ".repeat(200));
        assert_eq!(text.chars().count(), 70);
        assert!(text.starts_with("Æøå Ж: щ") && text.ends_with("щ..."));
        let text = one_sms("👩‍👩‍👧‍👦", &"👩‍👩‍👧‍👦".repeat(30));
        assert!(text.ends_with("👦...") && crate::sms::measure(&text).segments == 1, "{text}");
    }
}
