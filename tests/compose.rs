//! Composing against NAV's own results, and what must hold for any alerts.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Deserialize;
use smsd::alert::AlertId;
use smsd::compose::{Composed, Shape, compose};
use smsd::config::{EncodingChoice, Overflow, Style, Transliterate};
use smsd::sms::{self, Encoding};

#[derive(Deserialize)]
struct Golden {
    messages: Vec<Message>,
    sms: String,
    sent: Vec<AlertId>,
    ignored: Vec<AlertId>,
}

#[derive(Deserialize)]
struct Message {
    id: AlertId,
    text: String,
}

/// Made by running NAV's code.
const GOLDEN: &str = include_str!("vectors/compose.jsonl");

/// NAV's rules, naively: the SMS and how many alerts it carries.
fn nav(texts: &[&str]) -> (String, usize) {
    let joined = |n: usize| match n {
        0 => String::new(),
        1 => texts[0].to_owned(),
        _ => (1..=n).map(|i| format!("{i}: {}", texts[i - 1])).collect::<Vec<_>>().join("; "),
    };
    let fits = |n: usize| joined(n).chars().count() < if n == texts.len() { 160 } else { 160 - 15 };
    let carried = (1..=texts.len()).take_while(|&n| fits(n)).count();
    let sms = match texts.len() - carried {
        0 => joined(carried),
        ignored => format!("{} +{ignored} see web.", joined(carried)),
    };
    (sms, carried)
}

fn numbered<'a>(texts: &[&'a str]) -> Vec<(AlertId, &'a str)> {
    (1..).map(AlertId).zip(texts.iter().copied()).collect()
}

fn composed(texts: &[&str], shape: &Shape) -> Composed {
    compose(&numbered(texts), shape)
}

fn said(texts: &[&str]) -> (String, usize) {
    let composed = composed(texts, &Shape::default());
    (composed.text, composed.sent.len())
}

#[test]
fn all_of_navs_own_results_to_the_letter() {
    let golden: Vec<Golden> = GOLDEN.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(golden.len(), 400);
    for case in &golden {
        let alerts: Vec<_> = case.messages.iter().map(|m| (m.id, m.text.as_str())).collect();
        let composed = compose(&alerts, &Shape::default());
        assert_eq!(composed.text, case.sms);
        assert_eq!((&composed.sent, &composed.ignored), (&case.sent, &case.ignored));
        assert_eq!((composed.encoding, composed.segments), (Encoding::Gsm7, 1));
        // The rules as the properties below use them.
        let texts: Vec<_> = case.messages.iter().map(|m| m.text.as_str()).collect();
        assert_eq!(nav(&texts), (case.sms.clone(), case.sent.len()));
    }
}

#[test]
fn a_first_alert_that_nav_loses_is_sent() {
    let long = "x".repeat(145);
    // NAV: ` +3 see web.`
    assert_eq!(said(&[&long, "linkDown a", "linkDown b"]), (format!("{long} +2 see web."), 1));
    assert_eq!(said(&[&long, "y", "z"]), (format!("1: {long}; 2: y; 3: z"), 3));
    // NAV: ` +2 see web.`
    assert_eq!(said(&[&long, "y"]), (format!("1: {long}; 2: y"), 2));
    // NAV: ` +1 see web.`
    let exact = "x".repeat(160);
    assert_eq!(said(&[&exact]), (exact.clone(), 1));
    assert_eq!(said(&[&"x".repeat(161)]), (format!("{}...", "x".repeat(157)), 1));
    assert_eq!(said(&[&exact, "y"]), (format!("{}... +1 see web.", "x".repeat(145)), 1));
}

#[test]
fn length_is_what_the_network_counts() {
    // 100 characters, 200 septets: NAV sends two segments.
    assert_eq!(said(&[&"[".repeat(100)]), (format!("{}...", "[".repeat(78)), 1));
    // 145 characters for NAV, with the count 231 septets.
    let brackets = "[".repeat(70);
    assert_eq!(said(&[&brackets, &brackets, "y"]), (format!("{brackets} +2 see web."), 1));
    // A text in UCS-2 has 70 units.
    assert_eq!(said(&[&"漢".repeat(70)]), ("漢".repeat(70), 1));
    assert_eq!(said(&[&"漢".repeat(71)]), (format!("{}...", "漢".repeat(67)), 1));
    assert_eq!(said(&["blåbær €", "漢"]), ("1: blåbær €; 2: 漢".to_owned(), 2));
}

#[test]
fn an_alert_in_ucs2_does_not_push_out_those_before_it() {
    let (first, second) = ("x".repeat(50), "y".repeat(50));
    assert_eq!(said(&[&first, &second, "漢"]), (format!("1: {first}; 2: {second} +1 see web."), 2));
    // Cut before it, GSM 03.38 tells more than UCS-2 would.
    let late = format!("{}漢{}", "x".repeat(90), "y".repeat(100));
    assert_eq!(said(&[&late]), (format!("{}...", "x".repeat(90)), 1));
}

#[test]
fn what_is_replaced_saves_a_segment() {
    let short = "“linkDown” – oslo…";
    assert_eq!(said(&[short]).0, short);
    let long = format!("{short} {}", "x".repeat(60));
    assert_eq!(said(&[&long]).0, format!("\"linkDown\" - oslo... {}", "x".repeat(60)));
    let shape = |transliterate| Shape { transliterate, ..Shape::default() };
    let untouched = composed(&[&long], &shape(Transliterate::None));
    assert_eq!((untouched.encoding, untouched.units), (Encoding::Ucs2, 70));
    let russian = "Температура слишком высокая в машинном зале номер пять, немедленно проверьте";
    assert_eq!(composed(&[russian], &shape(Transliterate::Punctuation)).encoding, Encoding::Ucs2);
    let latin = composed(&[russian], &shape(Transliterate::Full));
    assert_eq!(latin.encoding, Encoding::Gsm7);
    assert!(
        latin.text.starts_with("Temperatura slishkom") && latin.text.ends_with("prover'te"),
        "{}",
        latin.text
    );
    // Three segments allowed: two in UCS-2, one with plain quotes.
    let two = format!("“{}”", "x".repeat(100));
    let three = Shape { max_segments: 3, ..Shape::default() };
    assert_eq!(composed(&[&two], &three).text, format!("\"{}\"", "x".repeat(100)));
    // In as many segments either way, so it stays.
    let same = format!("“{}”", "x".repeat(60));
    assert_eq!(composed(&[&same], &three).text, same);
}

#[test]
fn encodings_may_be_forced() {
    let gsm7 =
        Shape { encoding: EncodingChoice::Gsm7, transliterate: Transliterate::None, ..Shape::default() };
    assert_eq!(composed(&["“å” ł 漢 \u{E000}"], &gsm7).text, "\"å\" l Han ?");
    let ucs2 = Shape { encoding: EncodingChoice::Ucs2, ..Shape::default() };
    let wide = composed(&[&"x".repeat(71)], &ucs2);
    assert_eq!(
        (wide.text, wide.encoding, wide.units),
        (format!("{}...", "x".repeat(67)), Encoding::Ucs2, 70)
    );
}

#[test]
fn what_does_not_fit_may_wait() {
    let next = Shape { overflow: Overflow::Next, ..Shape::default() };
    let (first, second) = ("x".repeat(100), "y".repeat(52));
    let all = composed(&[&first, &second], &next);
    assert_eq!((all.text.len(), all.left.len()), (160, 0));
    let some = composed(&[&first, &format!("{second}y"), "z"], &next);
    assert_eq!(some.text, first);
    assert_eq!(
        (some.sent, some.ignored, some.left),
        (vec![AlertId(1)], vec![], vec![AlertId(2), AlertId(3)])
    );
}

#[test]
fn longer_sms_are_counted_by_their_parts() {
    let two = Shape { max_segments: 2, ..Shape::default() };
    let fits = composed(&[&"x".repeat(306)], &two);
    assert_eq!((fits.text.len(), fits.segments, fits.units), (306, 2, 306));
    assert_eq!(composed(&[&"x".repeat(307)], &two).text, format!("{}...", "x".repeat(303)));
    // 25 families are 200 units and three parts have 201, but a part takes eight of them.
    let three = Shape { max_segments: 3, ..Shape::default() };
    let cut = composed(&[&"👨‍👩‍👧".repeat(25)], &three);
    assert_eq!((cut.text, cut.segments), (format!("{}...", "👨‍👩‍👧".repeat(24)), 3));
}

#[test]
fn a_prefix_is_counted_and_gives_way_to_the_text() {
    let with = |prefix: &str| Shape { prefix: prefix.to_owned(), ..Shape::default() };
    assert_eq!(composed(&["a", "b"], &with("NAV: ")).text, "NAV: 1: a; 2: b");
    assert_eq!(composed(&[&"x".repeat(156)], &with("NAV: ")).text, format!("NAV: {}...", "x".repeat(152)));
    assert_eq!(composed(&["abc"], &with(&"p".repeat(158))).text, "abc");
    assert_eq!(composed(&["abc"], &with(&"p".repeat(1000))).text, "abc");
}

#[test]
fn an_empty_alert_is_told() {
    for blank in ["", " \t ", "\0\x07", "\n"] {
        assert_eq!(said(&[blank]), ("(empty alert)".to_owned(), 1));
    }
    assert_eq!(said(&["", "b"]), ("1: ; 2: b".to_owned(), 2));
    assert_eq!(said(&["", &"x".repeat(200)]), ("(empty alert) +1 see web.".to_owned(), 1));
    let none = composed(&[], &Shape::default());
    assert_eq!((none.text, none.segments), (String::new(), 0));
}

#[test]
fn a_storm_is_counted_with_all_its_digits() {
    let text = "x".repeat(143);
    let storm: Vec<&str> = std::iter::repeat_n(text.as_str(), 1_000_001).collect();
    let composed = composed(&storm, &Shape::default());
    // NAV would send 161 characters.
    assert_eq!(composed.text, format!("{}... +1000000 see web.", "x".repeat(139)));
    assert_eq!((composed.units, composed.ignored.len()), (160, 1_000_000));
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let encoding = prop_oneof![
        3 => Just(EncodingChoice::Auto),
        1 => Just(EncodingChoice::Gsm7),
        1 => Just(EncodingChoice::Ucs2)
    ];
    let degree =
        prop_oneof![Just(Transliterate::None), Just(Transliterate::Punctuation), Just(Transliterate::Full)];
    let overflow = prop_oneof![Just(Overflow::Ignore), Just(Overflow::Severe), Just(Overflow::Next)];
    let style = prop_oneof![Just(Style::Nav), Just(Style::Digest)];
    (1_u8..=4, style, overflow, encoding, degree, prop_oneof!["", "NAV: ", "\\PC{0,90}"]).prop_map(
        |(max_segments, style, overflow, encoding, transliterate, prefix)| Shape {
            style,
            max_segments,
            overflow,
            encoding,
            transliterate,
            prefix,
            web: "web".to_owned(),
        },
    )
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,60}",
        2 => "[ -~]{100,300}",
        1 => "([ -~]|[“”…–æøå€\\[\\]{}\u{a0}]){0,200}",
        1 => "(漢|😀|👨‍👩‍👧|🇳🇴|e\u{301}|x){0,150}",
        1 => "[\0-\u{a0}]{0,80}",
        1 => any::<String>(),
    ]
}

/// Characters of GSM 03.38 that are no controls.
fn gsm_text() -> impl Strategy<Value = String> {
    prop_oneof![6 => "[A-Za-z0-9 æøåÆØÅ#&%+/.:;-]{1,40}", 3 => "[a-z ]{100,165}", 1 => "[a€\\[\\]{}^~|]{1,80}"]
        .prop_filter("blank", |text| !text.trim().is_empty())
}

/// The texts between the boundaries of grapheme clusters in `text`.
fn cuts(text: &str) -> BTreeSet<usize> {
    use unicode_segmentation::UnicodeSegmentation;
    text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1_000), ..ProptestConfig::default() })]

    #[test]
    fn every_alert_is_accounted_for_in_an_sms_that_fits(
        texts in prop::collection::vec(any_text(), 1..40),
        shape in any_shape(),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let alerts = numbered(&texts);
        let got = compose(&alerts, &shape);
        let ids: Vec<_> = got.sent.iter().chain(&got.ignored).chain(&got.left).copied().collect();
        prop_assert_eq!(ids, alerts.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        prop_assert!(!got.sent.is_empty());
        prop_assert!(got.left.is_empty() || got.ignored.is_empty());
        prop_assert!(got.segments <= usize::from(shape.max_segments), "{got:?}");
        prop_assert!(!got.text.trim().is_empty());
        prop_assert!(!got.text.chars().any(|c| c.is_control() && c != '\n'), "{:?}", got.text);
        let m = sms::measure_as(&got.text, got.encoding).unwrap();
        prop_assert_eq!((m.segments, m.units), (got.segments, got.units));
        match shape.encoding {
            EncodingChoice::Auto => prop_assert_eq!(sms::measure(&got.text).encoding, got.encoding),
            EncodingChoice::Gsm7 => prop_assert_eq!(got.encoding, Encoding::Gsm7),
            EncodingChoice::Ucs2 => prop_assert_eq!(got.encoding, Encoding::Ucs2),
        }
        let count = format!(" +{} see web.", got.ignored.len());
        prop_assert_eq!(got.text.ends_with(&count), !got.ignored.is_empty());
    }

    #[test]
    fn a_digest_tells_no_fewer_alerts_and_all_that_fit_whole(
        texts in prop::collection::vec(any_text(), 1..40),
        shape in any_shape(),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let nav = composed(&texts, &Shape { style: Style::Nav, ..shape.clone() });
        let digest = composed(&texts, &Shape { style: Style::Digest, ..shape.clone() });
        prop_assert!(digest.sent.len() >= nav.sent.len(), "{nav:?} {digest:?}");
        if nav.ignored.is_empty() && !nav.text.contains("...") {
            prop_assert_eq!(digest, nav);
        }
    }

    #[test]
    fn what_nav_sends_in_one_sms_goes_out_to_the_letter(
        texts in prop::collection::vec(gsm_text(), 1..30),
    ) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (sms, carried) = nav(&texts);
        if carried > 0 && sms::measure(&sms).segments == 1 {
            prop_assert_eq!(said(&texts), (sms, carried));
        }
    }

    #[test]
    fn what_fits_is_carried_and_nothing_is_cut_inside_a_cluster(
        text in "(漢|😀|👨‍👩‍👧|🇳🇴|e\u{301}|x|\\[){0,250}",
        max_segments in 1_u8..4,
    ) {
        prop_assume!(!text.is_empty());
        let shape = Shape { max_segments, transliterate: Transliterate::None, ..Shape::default() };
        let got = composed(&[&text], &shape);
        let text = sms::clean(&text).into_owned();
        if sms::measure(&text).segments <= usize::from(max_segments) {
            prop_assert_eq!(got.text, text);
        } else {
            let head = got.text.strip_suffix("...").unwrap();
            prop_assert!(text.starts_with(head) && cuts(&text).contains(&head.len()));
            // One cluster more would not fit.
            let more = *cuts(&text).range(head.len() + 1..).next().unwrap();
            let longer = format!("{}...", &text[..more]);
            prop_assert!(sms::measure(&longer).segments > usize::from(max_segments), "{longer}");
        }
    }
}
