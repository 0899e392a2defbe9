//! What must hold for any text on its way to a phone and back, and for any alerts: 100,000 cases in all.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use smsd::alert::AlertId;
use smsd::compose::{Shape, compose_sparing};
use smsd::config::{EncodingChoice, Overflow, Style, Transliterate};
use smsd::sms;
use smsd::sms::choice::{Choice, Means, choose};
use smsd::sms::coding::{Coding, Segment, USER_DATA, segments};
use smsd::sms::language::Language;
use smsd::sms::pdu::{self, Address, Deliver, Incoming, Submit};
use smsd::sms::reassembly::{Bounds, Reassembly};
use smsd::sms::udh::Reference;
use tokio::time::Instant;
use unicode_segmentation::UnicodeSegmentation;

#[path = "support/network.rs"]
mod network;

/// Of each of the two properties.
const CASES: u32 = 50_000;

/// Texts are made of these: cheap to make, and to make smaller. What no SMS may carry is among them.
const PIECES: [&str; 40] = [
    "a",
    " ",
    "7",
    "\n",
    "@",
    "_",
    "é",
    "Ω",
    "[",
    "€",
    "\\",
    "^~",
    "`",
    "“",
    "…",
    "—",
    "\u{a0}",
    "ş",
    "ğı",
    "ç",
    "ãõ",
    "न",
    "क्षि",
    "ம",
    "漢",
    "😀",
    "👨‍👩‍👧",
    "🇳🇴",
    "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
    "e\u{301}",
    "\u{301}",
    "\u{200d}",
    "\0",
    "\r\n",
    "\t",
    "\u{202E}",
    "\u{E000}",
    "boxDown: sw7-trd.example.org ",
    "En lang og helt alminnelig setning om måleren på Røros. ",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678",
];

fn text(pieces: Range<usize>) -> impl Strategy<Value = String> {
    // The last three are long, and each stands for a plain text.
    let piece = prop_oneof![2 => 0..PIECES.len(), 1 => PIECES.len() - 3..PIECES.len(), 1 => Just(0)];
    prop::collection::vec(piece, pieces).prop_map(|pieces| pieces.iter().map(|at| PIECES[*at]).collect())
}

fn degree() -> impl Strategy<Value = Transliterate> {
    prop_oneof![Just(Transliterate::None), Just(Transliterate::Punctuation), Just(Transliterate::Full)]
}

fn means() -> impl Strategy<Value = Means<'static>> {
    let languages = prop_oneof![7 => Just(&[][..]), 1 => Just(&Language::ALL[..])];
    let reference =
        prop_oneof![any::<u8>().prop_map(Reference::Short), any::<u16>().prop_map(Reference::Long)];
    (degree(), languages, reference).prop_map(|(transliterate, languages, reference)| Means {
        transliterate,
        languages,
        reference,
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let encoding = prop_oneof![
        3 => Just(EncodingChoice::Auto),
        1 => Just(EncodingChoice::Gsm7),
        1 => Just(EncodingChoice::Ucs2)
    ];
    let overflow = prop_oneof![Just(Overflow::Ignore), Just(Overflow::Severe), Just(Overflow::Next)];
    let prefix = prop_oneof![3 => Just(String::new()), 1 => text(0..4)];
    (1_u8..=3, overflow, encoding, degree(), prefix).prop_map(
        |(max_segments, overflow, encoding, transliterate, prefix)| Shape {
            style: Style::Nav,
            max_segments,
            overflow,
            encoding,
            transliterate,
            prefix,
            web: "web".to_owned(),
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: CASES,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_text_arrives_as_it_was_sent(text in text(0..16), means in means(), seed: u64) {
        let cleaned = sms::clean(&text);
        let choice = choose(&cleaned, &means);
        prop_assert!(means.transliterate.up_to().any(|degree| degree.of(&cleaned) == choice.text));
        let segments = segments(&choice.text, choice.coding, means.reference).unwrap();
        prop_assert_eq!(segments.len(), choice.measure.segments);
        prop_assert!(segments.iter().all(|segment| segment.octets.len() <= USER_DATA));

        let parts: Vec<Deliver> = segments.iter().map(delivered).collect();
        let reference = |part: &Deliver| part.header.part.map(|part| part.reference);
        let wanted = (parts.len() > 1).then_some(means.reference);
        prop_assert!(parts.iter().all(|part| reference(part) == wanted), "{:?}", parts);
        let said: Vec<String> = parts.iter().map(|part| part.body.text().unwrap()).collect();
        prop_assert_eq!(&said.concat(), &choice.text);
        prop_assert!(cuts_nothing(&choice, &said), "{:?}", said);
        arrives(parts, &choice.text, seed)?;
    }

    #[test]
    fn every_alert_is_told_or_counted_or_waits(
        texts in prop::collection::vec(text(0..5), 1..7), shape in shape(), severe in 0_usize..9,
    ) {
        let alerts: Vec<_> = (1..).map(AlertId).zip(texts.iter().map(String::as_str)).collect();
        let ids: Vec<AlertId> = alerts.iter().map(|(id, _)| *id).collect();
        for style in [Style::Nav, Style::Digest] {
            let shape = Shape { style, ..shape.clone() };
            let composed = compose_sparing(&alerts, &shape, severe);
            prop_assert!(!composed.sent.is_empty());
            prop_assert_eq!([&composed.sent[..], &composed.left, &composed.ignored].concat(), ids.clone());
            match shape.overflow {
                Overflow::Ignore => prop_assert!(composed.left.is_empty()),
                Overflow::Severe => {
                    let kept = composed.sent.len() + composed.left.len();
                    prop_assert!(kept == ids.len().min(severe).max(composed.sent.len()), "{composed:?}");
                }
                Overflow::Next => prop_assert!(composed.ignored.is_empty()),
            }
            let coding = Coding::from(composed.encoding);
            let segments = segments(&composed.text, coding, Reference::Short(7)).unwrap();
            prop_assert_eq!(segments.len(), composed.segments);
            prop_assert!(composed.segments <= usize::from(shape.max_segments));
            prop_assert!(segments.iter().all(|segment| segment.octets.len() <= USER_DATA));
        }
    }
}

/// What the phone is handed of one segment.
fn delivered(segment: &Segment) -> Deliver {
    static TO: LazyLock<Address> = LazyLock::new(|| Address::of_number("+4790000001").unwrap());
    match pdu::read(&network::deliver(&Submit::to(&TO).write(segment))) {
        Ok(Incoming::Deliver(deliver)) => deliver,
        other => panic!("{other:?}"),
    }
}

/// Each part ends where a grapheme cluster does, and so neither within a surrogate pair nor within an escape pair.
fn cuts_nothing(choice: &Choice<'_>, said: &[String]) -> bool {
    let mut at = 0;
    said.len() == 1
        || said.iter().all(|part| {
            at += part.len();
            at == choice.text.len() || choice.text.grapheme_indices(true).any(|(start, _)| start == at)
        })
}

/// In any order, each part up to three times, also when the SMS is whole already: the text comes once.
fn arrives(parts: Vec<Deliver>, text: &str, seed: u64) -> Result<(), TestCaseError> {
    let (now, mut rng, mut reassembly) =
        (Instant::now(), fastrand::Rng::with_seed(seed), Reassembly::default());
    let alone = parts.len() == 1;
    let mut coming: Vec<&Deliver> = parts
        .iter()
        .flat_map(|part| std::iter::repeat_n(part, if alone { 1 } else { rng.usize(1..=3) }))
        .collect();
    rng.shuffle(&mut coming);
    let mut received = Vec::new();
    for part in coming {
        received.extend(reassembly.take(part.clone(), now));
    }
    received.extend(reassembly.give_up(now + Duration::from_secs(48 * 3600)));
    let [whole] = &received[..] else { return Err(TestCaseError::fail(format!("{received:?}"))) };
    prop_assert_eq!((whole.text.as_str(), whole.missing), (text, 0));
    prop_assert_eq!(reassembly.held(), Bounds { open: 0, octets: 0 });
    Ok(())
}
