//! `compose: digest`: when not all fit whole, the SMS that tells most of them.
//!
//! NAV's format gives the first alerts their whole text and the others a number. At night it is worth more to know
//! *that* ten things are down than to read all of one: so each alert may be shortened, at a word, and the room is shared
//! out evenly: who needs less than the share is told whole. What is left over goes to the first, who are the most severe.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;

use super::{Candidate, Draft, WHOLE, largest};
use crate::sms::Encoding;
use crate::sms::transliterate::Transliterate;

/// Less than so many characters of an alert tell nothing.
const LEAST: usize = 20;
/// What stands for the rest of a text.
const DOTS: &str = "...";
/// The shares of so many alerts are made larger one by one; beyond, there is room enough for all.
const FIRST: usize = 40;

impl Draft<'_> {
    /// The texts, ready to be shortened.
    pub(super) fn shortenings(&self) -> Vec<Shortening<'_>> {
        self.texts.iter().map(|text| Shortening::new(text, self.characters())).collect()
    }

    /// The best that tells more alerts than fit whole; `None` if none does.
    ///
    /// Its cost is that of writing the SMS a few hundred times at most, however many alerts there are.
    pub(super) fn digest(
        &self,
        degree: Transliterate,
        whole: usize,
        of: &[Shortening<'_>],
    ) -> Option<Candidate> {
        let enough = |alerts: usize| self.shared(degree, of.iter().take(alerts).map(|text| (text, LEAST)));
        let (alerts, _) = largest(whole + 1, of.len(), |alerts| Some((alerts, enough(alerts)?)))?;
        let of = of.get(..alerts)?;
        let longest = of.iter().map(|text| text.chars).max()?.min(self.characters());
        let even = |share| Some((share, self.shared(degree, of.iter().map(|text| (text, share)))?));
        let (share, mut best) = largest(LEAST, longest, even)?;
        let mut shares: Vec<usize> = vec![share; alerts];
        for (at, text) in of.iter().enumerate().take(FIRST) {
            let more = |mine: usize| {
                let shares = shares.iter().enumerate().map(|(i, share)| if i == at { mine } else { *share });
                Some((mine, self.shared(degree, of.iter().zip(shares))?))
            };
            if let Some((mine, candidate)) = largest(share + 1, text.chars.min(self.characters()), more) {
                best = candidate;
                shares.get_mut(at).map(|share| *share = mine)?;
            }
        }
        Some(best)
    }

    /// So much of each alert, if that fits.
    fn shared<'t>(
        &self,
        degree: Transliterate,
        shares: impl Iterator<Item = (&'t Shortening<'t>, usize)>,
    ) -> Option<Candidate> {
        let texts: Vec<Cow<'_, str>> = shares.map(|(text, share)| text.to(share)).collect();
        let text = self.numbered(&texts);
        self.fitting(self.measured(degree, text, texts.len(), WHOLE))
    }

    /// More than an SMS has room for.
    fn characters(&self) -> usize {
        self.segments * Encoding::Gsm7.single()
    }
}

/// A text and where it may be cut, looked for once.
pub(super) struct Shortening<'a> {
    text: &'a str,
    chars: usize,
    clusters: Vec<Cluster>,
}

/// A grapheme cluster.
struct Cluster {
    /// Characters up to its end.
    chars: usize,
    /// Bytes up to its end.
    end: usize,
    /// Where the last white space began.
    word: usize,
}

impl<'a> Shortening<'a> {
    /// With the cuts within so many characters.
    fn new(text: &'a str, most: usize) -> Shortening<'a> {
        let (mut chars, mut word) = (0, 0);
        let clusters = text.grapheme_indices(true).map(|(at, cluster)| {
            if cluster.chars().all(char::is_whitespace) {
                word = at;
            }
            chars += cluster.chars().count();
            Cluster { chars, end: at + cluster.len(), word }
        });
        let clusters = clusters.take(most).collect();
        Shortening { text, chars: text.chars().count(), clusters }
    }

    /// At most `share` characters of the text, the dots at its end included: cut behind a word, or within one that is
    /// longer than half of that.
    fn to(&self, share: usize) -> Cow<'_, str> {
        if self.chars <= share {
            return Cow::Borrowed(self.text);
        }
        let room = share.saturating_sub(DOTS.len());
        let fit = self.clusters.partition_point(|cluster| cluster.chars <= room);
        let head = |end: usize| self.text.get(..end).unwrap_or_default();
        // The first that does not fit may be the space behind the last word.
        let words = head(self.clusters.get(fit).map_or(0, |cluster| cluster.word))
            .trim_end_matches(|c: char| c.is_whitespace() || ",;:-".contains(c));
        let head = match words.chars().count() * 2 >= room {
            true => words,
            false => head(fit.checked_sub(1).and_then(|last| self.clusters.get(last)).map_or(0, |c| c.end)),
        };
        Cow::Owned(format!("{head}{DOTS}"))
    }
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
            let text = Shortening::new(text, 100);
            assert_eq!(text.to(share), short, "in {share}");
            assert!(text.to(share).chars().count() <= share);
        }
    }
}
