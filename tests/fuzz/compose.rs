//! Composing: any alerts in any shape make one SMS that fits, and every alert is accounted for.

use smsd::alert::AlertId;
use smsd::compose::{Shape, compose};
use smsd::config::{EncodingChoice, Overflow, Style, Transliterate};
use smsd::sms::{self, gsm7};

/// The input: a line of five digits (segments, overflow, encoding, transliteration, style) and the prefix; then the
/// alerts, a record separator (0x1E) between each.
pub(crate) fn run(data: &[u8]) {
    let input = String::from_utf8_lossy(data);
    let (head, alerts) = input.split_once('\n').unwrap_or((&input, ""));
    let mut head = head.chars();
    let mut pick = || head.next().map_or(0, |c| c as usize % 16);
    let shape = Shape {
        max_segments: pick() as u8,
        overflow: [Overflow::Ignore, Overflow::Next, Overflow::Severe][pick() % 3],
        encoding: [EncodingChoice::Auto, EncodingChoice::Gsm7, EncodingChoice::Ucs2][pick() % 3],
        transliterate: [Transliterate::None, Transliterate::Punctuation, Transliterate::Full][pick() % 3],
        style: [Style::Nav, Style::Digest][pick() % 2],
        prefix: head.as_str().to_owned(),
        web: "web".to_owned(),
    };
    let alerts: Vec<(AlertId, &str)> = (1..).map(AlertId).zip(alerts.split('\x1E')).collect();
    let composed = compose(&alerts, &shape);

    assert_eq!(composed, compose(&alerts, &shape));
    let told = [&composed.sent[..], &composed.ignored, &composed.left].concat();
    assert_eq!(told, alerts.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    assert!(!composed.sent.is_empty());
    match shape.overflow {
        Overflow::Ignore | Overflow::Severe => assert!(composed.left.is_empty()),
        Overflow::Next => assert!(composed.ignored.is_empty()),
    }
    assert!(!composed.text.trim().is_empty(), "gateways refuse a blank SMS");
    let first = alerts.first().map_or("", |(_, text)| text.trim_start());
    let dots = [first, &shape.prefix].iter().any(|text| text.contains(['.', '…']));
    assert!(dots || !composed.text.starts_with("..."), "nothing is told of {first:?}");
    assert!(!composed.text.contains(|c: char| c.is_control() && c != '\n'), "{:?}", composed.text);
    assert!((1..=usize::from(shape.max_segments.max(1))).contains(&composed.segments), "{composed:?}");
    let measure = sms::measure_as(&composed.text, composed.encoding).expect("what was measured");
    assert_eq!((measure.segments, measure.units), (composed.segments, composed.units));
    if shape.encoding == EncodingChoice::Gsm7 {
        assert!(gsm7::encode(&composed.text).is_some(), "{:?}", composed.text);
    }
    if !composed.ignored.is_empty() {
        assert!(composed.text.ends_with(&format!(" +{} see web.", composed.ignored.len())));
    }
}
