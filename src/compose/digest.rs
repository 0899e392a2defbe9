//! `compose: digest`: when not all fit whole, the SMS that tells most of them.
//!
//! NAV's format gives the first alerts their whole text and the others a number. At night it is worth more to know
//! *that* ten things are down than to read all of one: so each alert may be shortened, at a word, and the room is shared
//! out evenly: who needs less than the share is told whole. What is left over goes to the first, who are the most severe.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;

use super::{Candidate, Draft, WHOLE, largest};
use crate::sms::transliterate::Transliterate;

/// Less than so many characters of an alert tell nothing.
const LEAST: usize = 20;
/// What stands for the rest of a text.
const DOTS: &str = "...";
/// The shares of so many alerts are made larger one by one; beyond, there is room enough for all.
const FIRST: usize = 40;

impl Draft<'_> {
    /// The best that tells more alerts than fit whole; `None` if none does.
    pub(super) fn digest(&self, degree: Transliterate, whole: usize) -> Option<Candidate> {
        let most = self.texts.len();
        let enough = |alerts: usize| self.shared(degree, &vec![LEAST; alerts]);
        let (alerts, _) = largest(whole + 1, most, |alerts| Some((alerts, enough(alerts)?)))?;
        let longest = self.texts.iter().take(alerts).map(|text| text.chars().count()).max()?;
        let (share, mut best) =
            largest(LEAST, longest, |share| Some((share, self.shared(degree, &vec![share; alerts])?)))?;
        let mut shares = vec![share; alerts];
        for at in 0..alerts.min(FIRST) {
            let Some(text) = self.texts.get(at) else { break };
            let with = |share: usize| {
                let mut shares = shares.clone();
                shares.get_mut(at).map(|mine| *mine = share)?;
                Some((share, self.shared(degree, &shares)?))
            };
            if let Some((share, candidate)) = largest(share + 1, text.chars().count(), with) {
                best = candidate;
                shares.get_mut(at).map(|mine| *mine = share)?;
            }
        }
        Some(best)
    }

    /// So much of each alert, if that fits.
    fn shared(&self, degree: Transliterate, shares: &[usize]) -> Option<Candidate> {
        let texts: Vec<Cow<'_, str>> =
            self.texts.iter().zip(shares).map(|(text, share)| shortened(text, *share)).collect();
        let text = self.numbered(&texts);
        self.fitting(self.measured(degree, text, shares.len(), WHOLE))
    }
}

/// At most `share` characters of a text, the dots at its end included: cut behind a word, or within one that is longer
/// than half of that.
fn shortened(text: &str, share: usize) -> Cow<'_, str> {
    if text.chars().count() <= share {
        return Cow::Borrowed(text);
    }
    let room = share.saturating_sub(DOTS.len());
    let (mut used, mut end, mut word) = (0, 0, 0);
    for (at, cluster) in text.grapheme_indices(true) {
        if cluster.chars().all(char::is_whitespace) {
            word = at;
        }
        used += cluster.chars().count();
        if used > room {
            break;
        }
        end = at + cluster.len();
    }
    let at_word =
        text.get(..word).map(|head| head.trim_end_matches(|c: char| c.is_whitespace() || ",;:-".contains(c)));
    let head = match at_word {
        Some(head) if word <= end && head.chars().count() * 2 >= room => head,
        _ => text.get(..end).unwrap_or_default(),
    };
    Cow::Owned(format!("{head}{DOTS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_words() {
        for (text, share, short) in [
            ("box down", 20, "box down"),
            ("core router oslo-gw1 is down", 20, "core router..."),
            ("core router oslo-gw1 is down", 23, "core router oslo-gw1..."),
            ("core router: oslo-gw1 is down", 20, "core router..."),
            ("temperature-sensor-of-the-server-room", 20, "temperature-senso..."),
            ("a temperature-sensor-of-the-server-room", 20, "a temperature-sen..."),
            ("漢字漢字漢字漢字漢字漢字", 10, "漢字漢字漢字漢..."),
            ("e\u{301}e\u{301}e\u{301}e\u{301}", 6, "e\u{301}..."),
        ] {
            assert_eq!(shortened(text, share), short, "{text} in {share}");
            assert!(shortened(text, share).chars().count() <= share);
        }
    }
}
