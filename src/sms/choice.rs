//! Which coding a text is sent in: the one that takes the fewest segments.
//!
//! Of equals, first the one that changes the text least; then the one that more phones can show: the default alphabet,
//! UCS-2, a national language. Deliberately absent: what several alerts have to say to each other (`compose`).

use std::borrow::Cow;

use super::coding::Coding;
use super::language::{Alphabet, Language};
use super::transliterate::Transliterate;
use super::udh::Reference;
use super::{Encoding, Measure, parts_under};

/// What may be done to a text.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// How much of it may be replaced.
    pub transliterate: Transliterate,
    /// Languages whose tables may be used: none where a gateway is given the text and chooses for itself.
    pub languages: &'a [Language],
    /// The size of the reference of its parts.
    pub reference: Reference,
}

impl Default for Means<'_> {
    /// What every phone and every gateway knows.
    fn default() -> Self {
        Means { transliterate: Transliterate::Punctuation, languages: &[], reference: Reference::Short(0) }
    }
}

/// How a text is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The text, perhaps changed.
    pub text: Cow<'a, str>,
    /// In what.
    pub coding: Coding,
    /// What it costs.
    pub measure: Measure,
}

/// The cheapest way to send `text`, which should be [cleaned](super::clean()).
///
/// ```
/// use smsd::sms::choice::{Means, choose};
/// use smsd::sms::language::Language;
/// use smsd::sms::{Encoding, transliterate::Transliterate};
///
/// // A curly quote alone would cost half of the room.
/// let text = format!("“{}”", "x".repeat(100));
/// let choice = choose(&text, &Means::default());
/// assert_eq!((choice.measure.encoding, choice.measure.segments), (Encoding::Gsm7, 1));
///
/// let turkish = "Şırnak'ta ağ bağlantısı kesildi. Yönlendirici yanıt vermiyor, yedek hat da çalışmıyor.";
/// let means = Means { transliterate: Transliterate::None, ..Means::default() };
/// assert_eq!(choose(turkish, &means).measure.segments, 2);
/// let choice = choose(turkish, &Means { languages: &Language::ALL, ..means });
/// assert_eq!((choice.measure.segments, choice.text), (1, turkish.into()));
/// ```
pub fn choose<'a>(text: &'a str, means: &Means<'_>) -> Choice<'a> {
    let mut best: Option<Choice<'a>> = None;
    for degree in means.transliterate.up_to() {
        let text = degree.of(text);
        if best.as_ref().is_some_and(|best| best.text == text) {
            continue;
        }
        for coding in codings(means) {
            // An SMS has a segment at least.
            if best.as_ref().is_some_and(|best| best.measure.segments == 1) {
                return best.unwrap_or_else(|| in_ucs2(text, means));
            }
            let Some(measure) = measure(&text, coding, means.reference) else { continue };
            if best.as_ref().is_none_or(|best| measure.segments < best.measure.segments) {
                best = Some(Choice { text: text.clone(), coding, measure });
            }
        }
    }
    best.unwrap_or_else(|| in_ucs2(Cow::Borrowed(text), means))
}

fn in_ucs2<'a>(text: Cow<'a, str>, means: &Means<'_>) -> Choice<'a> {
    let segments = parts_under(&text, Coding::Ucs2, means.reference).count();
    let measure = Measure { encoding: Encoding::Ucs2, segments, units: super::ucs2::units(&text) };
    Choice { text, coding: Coding::Ucs2, measure }
}

fn measure(text: &str, coding: Coding, reference: Reference) -> Option<Measure> {
    let units = coding.units(text)?;
    let segments = match units <= coding.room(None) {
        true => 1,
        false => parts_under(text, coding, reference).count(),
    };
    Some(Measure { encoding: coding.encoding(), segments, units })
}

/// The codings in the order of how many phones know them.
fn codings<'m>(means: &Means<'m>) -> impl Iterator<Item = Coding> + use<'m> {
    let national = means.languages.iter().flat_map(|&language| {
        let is = Some(language);
        [(None, is), (is, None), (is, is)]
            .into_iter()
            .filter_map(|(locking, shift)| Alphabet::new(locking, shift))
    });
    [Coding::Gsm7(Alphabet::DEFAULT), Coding::Ucs2].into_iter().chain(national.map(Coding::Gsm7))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fewest_segments_win_and_of_equals_the_least_change() {
        let all = Means { transliterate: Transliterate::Full, languages: &Language::ALL, ..Means::default() };
        let of = |text: &str| {
            let choice = choose(text, &all);
            (choice.text.into_owned(), choice.coding, choice.measure.segments)
        };
        let default = Coding::Gsm7(Alphabet::DEFAULT);
        assert_eq!(of("blåbær"), ("blåbær".into(), default, 1));
        assert_eq!(of("“a”"), ("“a”".into(), Coding::Ucs2, 1), "one segment either way: unchanged");
        let quoted = format!("“{}”", "x".repeat(70));
        assert_eq!(of(&quoted), (quoted.replace(['“', '”'], "\""), default, 1));
        let greek = "Η σύνδεση με το δρομολογητή χάθηκε και η εφεδρική γραμμή δεν λειτουργεί πια".to_owned();
        assert_eq!((of(&greek).1, of(&greek).2), (default, 1));
        let hindi =
            "मुख्य राउटर से संपर्क टूट गया है और अतिरिक्त लाइन भी काम नहीं कर रही है, कृपया तुरंत जाँच करें".to_owned();
        let language = Alphabet::new(Some(Language::Hindi), None).unwrap();
        assert_eq!(of(&hindi), (hindi.clone(), Coding::Gsm7(language), 1));
        // Half as many septets as escaped in the default alphabet.
        let wavy = "~".repeat(100);
        assert_eq!(of(&wavy).1, Coding::Gsm7(Alphabet::new(Some(Language::Portuguese), None).unwrap()));
    }

    proptest! {
        #[test]
        fn nothing_that_may_be_done_is_cheaper(text in "([ -~]|[€‘“…–ışğáâçãõनमरஅ😀漢]|e\u{301}|\\PC){0,300}") {
            let text = crate::sms::clean(&text);
            for degree in [Transliterate::None, Transliterate::Punctuation, Transliterate::Full] {
                let means = Means { transliterate: degree, languages: &Language::ALL, ..Means::default() };
                let choice = choose(&text, &means);
                for less in degree.up_to() {
                    let text = less.of(&text);
                    for coding in codings(&means) {
                        let cost = measure(&text, coding, means.reference);
                        prop_assert!(cost.is_none_or(|cost| cost.segments >= choice.measure.segments));
                    }
                }
                prop_assert!(degree.up_to().any(|less| less.of(&text) == choice.text));
                let segments = crate::sms::coding::segments(&choice.text, choice.coding, means.reference);
                if let Ok(segments) = segments {
                    prop_assert_eq!(segments.len(), choice.measure.segments);
                    prop_assert!(segments.iter().all(|s| s.octets.len() <= crate::sms::coding::USER_DATA));
                }
            }
        }
    }
}
