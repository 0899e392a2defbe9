//! One SMS text out of all that waits for one recipient.

use serde::Serialize;

use crate::alert::AlertId;
use crate::config::{EncodingChoice, Overflow, Transliterate};

/// What an SMS may look like: `[main]`'s keys, narrowed to the enabled dispatchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Segments at most, 1 to 255.
    pub max_segments: u8,
    /// What becomes of alerts that do not fit.
    pub overflow: Overflow,
    /// Which encodings may be used.
    pub encoding: EncodingChoice,
    /// What may be replaced to save segments.
    pub transliterate: Transliterate,
    /// Put before each SMS.
    pub prefix: String,
}

/// One SMS and what became of each alert that was to go into it: each stands in exactly one of the lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Composed {
    /// The text.
    #[serde(rename = "sms")]
    pub text: String,
    /// The alerts whose text it carries.
    pub sent: Vec<AlertId>,
    /// The alerts that it only counts.
    pub ignored: Vec<AlertId>,
    /// The alerts that wait for the next SMS (`overflow: next`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<AlertId>,
    /// How the network carries it.
    pub encoding: crate::sms::Encoding,
    /// In how many parts.
    pub segments: usize,
    /// Its length: septets (GSM 03.38) or 16-bit units (UCS-2), headers of parts not counted.
    pub units: usize,
}

/// stub
pub fn compose(alerts: &[(AlertId, &str)], _shape: &Shape) -> Composed {
    Composed {
        text: alerts.first().map(|a| a.1.to_string()).unwrap_or_default(),
        sent: alerts.iter().take(1).map(|a| a.0).collect(),
        ignored: alerts.iter().skip(1).map(|a| a.0).collect(),
        left: vec![],
        encoding: crate::sms::Encoding::Gsm7,
        segments: 1,
        units: 1,
    }
}
