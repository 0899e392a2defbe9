//! The SMS itself: how the network carries a text, and how much of it fits.
//!
//! Pure and usable on its own: no I/O, no clock, no configuration. Lengths are what the network counts: septets (GSM
//! 03.38, an escaped character counts two) or 16-bit units (UCS-2), never `chars`. The way of a text out and in:
//!
//! | what happens | where |
//! | --- | --- |
//! | what no SMS may carry is taken out | [`clean()`] |
//! | its cost is counted, in what it is | [`measure()`], [`parts`] |
//! | the cheapest coding is chosen, characters perhaps replaced | [`choice`], [`transliterate`] |
//! | it becomes the octets of segments | [`coding`], by [`gsm7`], [`language`], [`septets`], [`ucs2`], [`udh`] |
//! | each of which a modem is handed as a PDU, and hands us such | [`pdu`] |
//! | parts that come in are put together | [`reassembly`] |
//!
//! Deliberately absent: what an SMS says (that is [`compose`](crate::compose)), and who carries it
//! ([`dispatch`](crate::dispatch)). Segments are counted here as those of a concatenation header with an 8-bit reference
//! (3GPP TS 23.040 §9.2.3.24.1).
//!
//! ```
//! use smsd::sms::{Encoding, measure, parts};
//!
//! let m = measure("Temperatur i rom 5: 61 grader [kritisk]");
//! assert_eq!((m.encoding, m.segments, m.units), (Encoding::Gsm7, 1, 41)); // [ and ] count two
//! assert_eq!(measure("温度").encoding, Encoding::Ucs2);
//! assert_eq!(parts(&"x".repeat(161), Encoding::Gsm7).count(), 2);
//! ```
//!
//! From a text to what a modem is handed with `AT+CMGS`:
//!
//! ```
//! use smsd::sms::choice::{Means, choose};
//! use smsd::sms::clean;
//! use smsd::sms::coding::{References, segments};
//! use smsd::sms::pdu::{Address, Submit};
//!
//! let text = clean("“boxDown” core-gw1\t(Trondheim)\r\n");
//! let choice = choose(&text, &Means::default());
//! // References of 8 bits; the seed would be the time.
//! let reference = References::new(false, 4711).next("+4790000001");
//! let to = Address::of_number("+4790000001").ok_or("no number")?;
//! for segment in segments(&choice.text, choice.coding, reference)? {
//!     let pdu = Submit::to(&to).reported().write(&segment);
//!     assert!(pdu.hex().starts_with("0021000A9174090000100008"));
//!     assert_eq!(pdu.length(), 12 + segment.octets.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod clean;
pub mod gsm7;
pub mod ucs2;
pub mod language;
pub mod transliterate;
pub mod choice;
pub mod septets;
pub mod udh;
pub mod coding;
pub mod pdu;
pub mod reassembly;

use std::fmt;

use serde::Serialize;

pub use clean::{clean, is_blank};
use coding::Coding;
use udh::Reference;

/// How the network carries a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// GSM 03.38 default alphabet and its extension table, packed septets.
    Gsm7,
    /// UTF-16 big-endian.
    Ucs2,
}

impl Encoding {
    /// Units of an SMS that is one segment: 140 octets (3GPP TS 23.040 §9.2.3.24).
    pub fn single(self) -> usize {
        Coding::from(self).room(None)
    }

    /// Units of one part of a longer SMS: 134 octets, since a header of 6 stands before them.
    pub fn part(self) -> usize {
        Coding::from(self).room(Some(USUAL))
    }

    /// Units of `text` in this encoding; `None` if it has a character that the encoding lacks.
    pub fn units(self, text: &str) -> Option<usize> {
        Coding::from(self).units(text)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Gsm7 => "gsm7",
            Encoding::Ucs2 => "ucs2",
        })
    }
}

/// What a text costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measure {
    /// How the network carries it.
    pub encoding: Encoding,
    /// In how many parts; 1 for an empty text.
    pub segments: usize,
    /// Septets (GSM 03.38) or 16-bit units (UCS-2), headers of parts not counted.
    pub units: usize,
}

/// What `text` costs as it stands: in GSM 03.38 if that has all its characters, else in UCS-2.
///
/// GSM 03.38 never takes more segments than UCS-2 would: even a text of escaped characters alone has 80 of
/// them in a segment, against 70.
pub fn measure(text: &str) -> Measure {
    measure_as(text, Encoding::Gsm7).unwrap_or_else(|| of_units(text, Encoding::Ucs2, ucs2::units(text)))
}

/// What `text` costs in this encoding; `None` if it has a character that the encoding lacks.
pub fn measure_as(text: &str, encoding: Encoding) -> Option<Measure> {
    encoding.units(text).map(|units| of_units(text, encoding, units))
}

/// The parts of `text` as the network carries them: one, or several of at most [`Encoding::part`] units each.
///
/// No part ends inside an escape pair or a surrogate pair, nor inside a grapheme cluster unless that alone is
/// longer than a part (no [cleaned](clean()) text has one). That is why parts may be shorter than they could be,
/// and why segments are counted by cutting, not by dividing. What the encoding lacks counts as one unit.
pub fn parts(text: &str, coding: impl Into<Coding>) -> Parts<'_> {
    parts_under(text, coding.into(), USUAL)
}

/// The same under a reference of this size.
pub fn parts_under(text: &str, coding: Coding, reference: Reference) -> Parts<'_> {
    let alone = coding.room(None);
    let single = coding.head(text, alone) == text.len();
    Parts { rest: Some(text), room: if single { alone } else { coding.room(Some(reference)) }, coding }
}

/// What parts are counted with: a reference of 8 bits.
const USUAL: Reference = Reference::Short(0);

/// The iterator of [`parts`].
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    rest: Option<&'a str>,
    room: usize,
    coding: Coding,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.take()?;
        let (part, rest) = rest.split_at(self.coding.head(rest, self.room));
        if !rest.is_empty() {
            self.rest = Some(rest);
        }
        Some(part)
    }
}

fn of_units(text: &str, encoding: Encoding, units: usize) -> Measure {
    let segments = if units <= encoding.single() { 1 } else { parts(text, encoding).count() };
    Measure { encoding, segments, units }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn segments_at_the_bounds() {
        for (text, encoding, units, segments) in [
            ("".to_owned(), Encoding::Gsm7, 0, 1),
            ("x".repeat(160), Encoding::Gsm7, 160, 1),
            ("x".repeat(161), Encoding::Gsm7, 161, 2),
            ("x".repeat(306), Encoding::Gsm7, 306, 2),
            ("x".repeat(307), Encoding::Gsm7, 307, 3),
            ("€".repeat(80), Encoding::Gsm7, 160, 1),
            // 76 pairs are 152 septets; the 153rd stays empty, or a pair would be split.
            ("€".repeat(152), Encoding::Gsm7, 304, 2),
            ("€".repeat(153), Encoding::Gsm7, 306, 3),
            ("漢".repeat(70), Encoding::Ucs2, 70, 1),
            ("漢".repeat(71), Encoding::Ucs2, 71, 2),
            ("漢".repeat(134), Encoding::Ucs2, 134, 2),
            ("漢".repeat(135), Encoding::Ucs2, 135, 3),
            // 33 pairs are 66 units; the 67th stays empty.
            ("😀".repeat(66), Encoding::Ucs2, 132, 2),
            ("😀".repeat(67), Encoding::Ucs2, 134, 3),
            // A family of 8 units: 8 of them to a part, though 25 are fewer units than three parts have.
            ("👨‍👩‍👧".repeat(24), Encoding::Ucs2, 192, 3),
            ("👨‍👩‍👧".repeat(25), Encoding::Ucs2, 200, 4),
        ] {
            assert_eq!(measure(&text), Measure { encoding, segments, units }, "{text}");
        }
        assert_eq!(measure_as("漢", Encoding::Gsm7), None);
        assert_eq!(measure_as("abc", Encoding::Ucs2).map(|m| m.units), Some(3));
    }

    #[test]
    fn a_cluster_longer_than_a_part_is_cut_between_characters() {
        let zalgo = format!("e{}", "\u{301}".repeat(150));
        let lengths: Vec<_> = parts(&zalgo, Encoding::Ucs2).map(ucs2::units).collect();
        assert_eq!(lengths, [67, 67, 17]);
    }

    proptest! {
        #[test]
        fn parts_fit_and_join_to_the_text(text in "([ -~]|[€\\[😀é漢]|e\u{301}|🇳🇴|\\PC){0,400}") {
            for encoding in [Encoding::Gsm7, Encoding::Ucs2] {
                let Some(m) = measure_as(&text, encoding) else { continue };
                let all: Vec<_> = parts(&text, encoding).collect();
                prop_assert_eq!(all.concat(), text.clone());
                prop_assert_eq!(all.len(), m.segments);
                let room = if all.len() == 1 { encoding.single() } else { encoding.part() };
                for part in all {
                    prop_assert!(encoding.units(part).unwrap() <= room);
                }
            }
        }
    }
}
