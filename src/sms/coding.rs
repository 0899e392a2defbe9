//! How the text of an SMS becomes its user data: septets of an alphabet, or UCS-2.
//!
//! ```
//! use smsd::sms::Encoding;
//! use smsd::sms::coding::{Unsendable, segments};
//! use smsd::sms::udh::Reference;
//!
//! let parts = segments(&"x".repeat(161), Encoding::Gsm7.into(), Reference::Short(7)).unwrap();
//! assert_eq!(parts.len(), 2);
//! // Of two, the second: 7 septets of header, and 8 of text.
//! assert_eq!((&parts[1].octets[..6], parts[1].length), (&[5, 0, 3, 7, 2, 2][..], 15));
//! let lacking = segments("漢字", Encoding::Gsm7.into(), Reference::Short(7));
//! assert_eq!(lacking, Err(Unsendable::Lacks('漢')));
//! ```

use super::language::Alphabet;
use super::udh::{Header, Part, Reference};
use super::{Encoding, septets, ucs2};

/// Octets of user data in a segment, header included (3GPP TS 23.040 §9.2.3.16).
pub const USER_DATA: usize = 140;

/// What the units of a text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// Septets of this alphabet.
    Gsm7(Alphabet),
    /// 16-bit units, big-endian.
    Ucs2,
}

impl From<Encoding> for Coding {
    fn from(encoding: Encoding) -> Coding {
        match encoding {
            Encoding::Gsm7 => Coding::Gsm7(Alphabet::DEFAULT),
            Encoding::Ucs2 => Coding::Ucs2,
        }
    }
}

impl Coding {
    /// What gateways call it.
    pub const fn encoding(self) -> Encoding {
        match self {
            Coding::Gsm7(_) => Encoding::Gsm7,
            Coding::Ucs2 => Encoding::Ucs2,
        }
    }

    /// Units that a segment has room for: alone, or as a part under such a reference.
    ///
    /// ```
    /// use smsd::sms::coding::Coding;
    /// use smsd::sms::language::Alphabet;
    /// use smsd::sms::udh::Reference;
    ///
    /// let gsm7 = Coding::Gsm7(Alphabet::DEFAULT);
    /// assert_eq!([gsm7, Coding::Ucs2].map(|coding| coding.room(None)), [160, 70]);
    /// assert_eq!([gsm7, Coding::Ucs2].map(|coding| coding.room(Some(Reference::Short(1)))), [153, 67]);
    /// assert_eq!([gsm7, Coding::Ucs2].map(|coding| coding.room(Some(Reference::Long(1)))), [152, 66]);
    /// ```
    pub fn room(self, reference: Option<Reference>) -> usize {
        let part = reference.map_or(0, Reference::octets);
        let header = |elements: usize| if elements == 0 { 0 } else { elements + 1 };
        match self {
            Coding::Gsm7(alphabet) => (USER_DATA - header(part + alphabet.header())) * 8 / 7,
            Coding::Ucs2 => (USER_DATA - header(part)) / 2,
        }
    }

    /// Units of `text`; `None` if it has a character that the coding lacks.
    pub fn units(self, text: &str) -> Option<usize> {
        match self {
            Coding::Gsm7(alphabet) => alphabet.septets(text),
            Coding::Ucs2 => Some(ucs2::units(text)),
        }
    }

    /// The longest head of `text` that has at most `room` units and ends where a text may be cut, in bytes.
    pub(super) fn head(self, text: &str, room: usize) -> usize {
        match self {
            Coding::Gsm7(alphabet) => alphabet.head(text, room),
            Coding::Ucs2 => ucs2::head(text, room),
        }
    }
}

/// One segment as it goes over the air.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Is there a header (`UDHI`)?
    pub has_header: bool,
    /// `UDL`: septets of header and text in 7 bit, else octets.
    pub length: u8,
    /// `UD`: at most 140 octets.
    pub octets: Vec<u8>,
    /// How its text is coded.
    pub coding: Coding,
}

/// Why a text can not be sent in a coding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// A character that the coding lacks.
    #[error("{0:?} is not in this alphabet; send it in UCS-2, or transliterate it")]
    Lacks(char),
    /// An SMS has at most 255 parts (3GPP TS 23.040 §9.2.3.24.1).
    #[error("the text takes {0} parts, and an SMS has at most 255; cut it")]
    TooLong(usize),
}

/// The segments of `text`, one or as many parts as it takes under this reference.
///
/// # Errors
/// What makes the text unsendable.
pub fn segments(text: &str, coding: Coding, reference: Reference) -> Result<Vec<Segment>, Unsendable> {
    // A unit is at most three octets of UTF-8: what is longer need not be tried.
    if text.len() <= coding.room(None) * 3 {
        let alone = Segment::of(text, coding, None)?;
        if alone.octets.len() <= USER_DATA {
            return Ok(vec![alone]);
        }
    }
    let parts: Vec<&str> = super::parts_under(text, coding, reference).collect();
    let total = u8::try_from(parts.len()).map_err(|_| Unsendable::TooLong(parts.len()))?;
    let part = |number| (total > 1).then_some(Part { reference, total, number });
    (1..=total).zip(parts).map(|(number, text)| Segment::of(text, coding, part(number))).collect()
}

impl Segment {
    /// With a text that must fit.
    fn of(text: &str, coding: Coding, part: Option<Part>) -> Result<Segment, Unsendable> {
        let alphabet = match coding {
            Coding::Gsm7(alphabet) => alphabet,
            Coding::Ucs2 => Alphabet::DEFAULT,
        };
        let mut octets = Header { part, alphabet, other: Vec::new() }.write();
        let header = octets.len();
        octets.reserve_exact(USER_DATA - header);
        let length = match coding {
            Coding::Gsm7(alphabet) => {
                let fill = septets::fill(header);
                let (mut length, mut packer) =
                    ((header * 8 + fill) / 7, septets::Packer::behind(octets, fill));
                let pack = |septet| {
                    packer.push(septet);
                    length += 1;
                };
                alphabet.each(text, pack).map_err(Unsendable::Lacks)?;
                octets = packer.finish();
                length
            }
            Coding::Ucs2 => {
                text.encode_utf16().for_each(|unit| octets.extend_from_slice(&unit.to_be_bytes()));
                octets.len()
            }
        };
        Ok(Segment { has_header: header > 0, length: length as u8, octets, coding })
    }
}

/// Hands out references so that two SMS to one phone do not bear the same while a phone may still be putting the first
/// together. Its size is fixed: phones share counters, each of which goes through all its numbers before one returns.
#[derive(Clone, Debug)]
pub struct References {
    next: Vec<u16>,
    long: bool,
}

/// Counters; a power of two.
const COUNTERS: usize = 1024;

impl References {
    /// References of 8 bits, or of 16 (`long`). After a restart other numbers must come: let `seed` be the time.
    pub fn new(long: bool, seed: u64) -> References {
        let mut rng = fastrand::Rng::with_seed(seed);
        References { next: (0..COUNTERS).map(|_| rng.u16(..)).collect(), long }
    }

    /// The next for this phone.
    pub fn next(&mut self, phone: &str) -> Reference {
        let mut hash = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(phone, &mut hash);
        let at = std::hash::Hasher::finish(&hash) as usize % COUNTERS;
        let Some(next) = self.next.get_mut(at) else { return Reference::Short(0) };
        *next = next.wrapping_add(1);
        match self.long {
            true => Reference::Long(*next),
            false => Reference::Short(*next as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::language::Language;
    use super::*;

    #[test]
    fn rooms_are_those_of_the_standard() {
        let turkish = |locking, shift| {
            let is = |yes: bool| yes.then_some(Language::Turkish);
            Coding::Gsm7(Alphabet::new(is(locking), is(shift)).unwrap())
        };
        let rooms = |coding: Coding| {
            [None, Some(Reference::Short(0)), Some(Reference::Long(0))]
                .map(|reference| coding.room(reference))
        };
        assert_eq!(rooms(Encoding::Gsm7.into()), [160, 153, 152]);
        assert_eq!(rooms(Coding::Ucs2), [70, 67, 66]);
        // 3GPP TS 23.040 has no table of these; AOSP counts 5 septets for one table and 8 for two, and so do we.
        assert_eq!(rooms(turkish(false, true)), [155, 149, 148]);
        assert_eq!(rooms(turkish(true, true)), [152, 146, 145]);
    }

    #[test]
    fn no_segment_is_over_140_octets_and_its_length_is_counted_as_it_is_coded() {
        let segments = |text: &str, coding| segments(text, coding, Reference::Short(0x5A)).unwrap();
        let gsm7 = Coding::from(Encoding::Gsm7);
        let [one] = &segments(&"x".repeat(160), gsm7)[..] else { panic!() };
        assert_eq!((one.has_header, one.length, one.octets.len()), (false, 160, 140));
        let [first, second] = &segments(&"x".repeat(161), gsm7)[..] else { panic!() };
        assert_eq!((first.has_header, first.length, first.octets.len()), (true, 160, 140));
        assert_eq!((second.length, second.octets.len()), (15, 14), "7 septets of header, 8 of text");
        let [first, second] = &segments(&"漢".repeat(71), Coding::Ucs2)[..] else { panic!() };
        assert_eq!((first.length, first.octets.len(), second.length), (140, 140, 14));
        assert_eq!(hex::encode(&second.octets), "0500035a02026f226f226f226f22");
        assert_eq!(super::segments("漢", gsm7, Reference::Short(0)), Err(Unsendable::Lacks('漢')));
        let most = 255 * 153;
        assert_eq!(segments(&"x".repeat(most), gsm7).len(), 255);
        let too_long = super::segments(&"x".repeat(most + 1), gsm7, Reference::Short(0));
        assert_eq!(too_long, Err(Unsendable::TooLong(256)));
    }

    #[test]
    fn references_to_one_phone_differ_until_all_were_used() {
        for (long, many) in [(false, 256), (true, 65_536)] {
            let mut references = References::new(long, 7);
            let mut seen = std::collections::HashSet::new();
            assert!((0..many).all(|_| seen.insert(references.next("+4790000001"))));
            assert!(!seen.insert(references.next("+4790000001")));
        }
        let first = |seed| References::new(true, seed).next("+4790000001");
        assert_ne!(first(1), first(2), "after a restart");
    }
}
