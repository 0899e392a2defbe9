//! Cleaning, measuring, cutting and encoding: what is counted is what the network carries.

use smsd::sms::{self, Encoding, clean, gsm7, transliterate, ucs2};
use unicode_segmentation::UnicodeSegmentation;

/// The input is the text.
pub(crate) fn run(data: &[u8]) {
    let raw = String::from_utf8_lossy(data);
    let cleaned = sms::clean(&raw);
    assert!(!cleaned.contains(|c: char| c.is_control() && c != '\n'), "{cleaned:?}");
    assert_eq!(sms::clean(&cleaned), cleaned, "cleaning is done once");
    for cluster in cleaned.graphemes(true) {
        assert!(ucs2::units(cluster) <= clean::CLUSTER_MAX, "{cluster:?}");
    }
    for text in [&raw, &cleaned, &transliterate::punctuation(&raw), &transliterate::full(&raw)] {
        measured(text);
    }
    let forced = gsm7::force(&raw);
    assert_eq!(forced.chars().count(), raw.chars().count());
    assert_eq!(decoded(&gsm7::encode(&forced).expect("forced text has only what the alphabet has")), forced);
}

fn measured(text: &str) {
    let best = sms::measure(text);
    for encoding in [Encoding::Gsm7, Encoding::Ucs2] {
        let Some(measure) = sms::measure_as(text, encoding) else {
            assert_eq!(best.encoding, Encoding::Ucs2);
            continue;
        };
        assert!(best.segments <= measure.segments);
        let parts: Vec<&str> = sms::parts(text, encoding).collect();
        assert_eq!(parts.concat(), text);
        assert_eq!(parts.len(), measure.segments);
        let room = if parts.len() == 1 { encoding.single() } else { encoding.part() };
        assert!(parts.iter().all(|part| encoding.units(part).is_some_and(|units| units <= room)));
        assert_eq!(parts.iter().filter_map(|part| encoding.units(part)).sum::<usize>(), measure.units);
    }
    if let Some(septets) = gsm7::encode(text) {
        assert_eq!(Some(septets.len()), gsm7::septets(text));
        assert_eq!(decoded(&septets), text);
    }
}

/// What a phone reads, by the tables of the standard.
fn decoded(septets: &[u8]) -> String {
    let mut septets = septets.iter();
    let mut text = String::new();
    while let Some(&septet) = septets.next() {
        text.push(match septet {
            gsm7::ESCAPE => {
                let escaped = septets.next().expect("an escape announces a code");
                gsm7::EXTENSION.iter().find(|(code, _)| code == escaped).expect("a code of the table").1
            }
            basic => gsm7::BASIC[usize::from(basic)],
        });
    }
    text
}
