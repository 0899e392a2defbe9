//! The user data header: which part of what an SMS is, and in which language's alphabet (3GPP TS 23.040 §9.2.3.24).

use super::language::{Alphabet, Language};

/// Names one SMS of several parts among those to one phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// 8 bits: what every phone knows (§9.2.3.24.1).
    Short(u8),
    /// 16 bits: one octet more in each part (§9.2.3.24.8).
    Long(u16),
}

impl Reference {
    /// Octets of its element, identifier and length included.
    pub const fn octets(self) -> usize {
        match self {
            Reference::Short(_) => 5,
            Reference::Long(_) => 6,
        }
    }
}

/// Which part of a longer SMS this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Of which SMS.
    pub reference: Reference,
    /// Of how many, 1 to 255.
    pub total: u8,
    /// The how manieth, from 1.
    pub number: u8,
}

/// What we know to say, and to read, in a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Which part.
    pub part: Option<Part>,
    /// In which alphabet, if its septets are not of the default one.
    pub alphabet: Alphabet,
    /// Elements that we do not know: identifier and data, as they came. Not written.
    pub other: Vec<(u8, Vec<u8>)>,
}

const SHORT: u8 = 0x00;
const LONG: u8 = 0x08;
const SINGLE_SHIFT: u8 = 0x24;
const LOCKING_SHIFT: u8 = 0x25;

impl Header {
    /// The header as octets, its own length first; none if there is nothing to say.
    pub fn write(&self) -> Vec<u8> {
        if self.part.is_none() && self.alphabet == Alphabet::DEFAULT {
            return Vec::new();
        }
        let mut out = vec![0];
        match self.part {
            Some(Part { reference: Reference::Short(reference), total, number }) => {
                out.extend([SHORT, 3, reference, total, number]);
            }
            Some(Part { reference: Reference::Long(reference), total, number }) => {
                let [high, low] = reference.to_be_bytes();
                out.extend([LONG, 4, high, low, total, number]);
            }
            None => {}
        }
        for (element, language) in
            [(SINGLE_SHIFT, self.alphabet.shift()), (LOCKING_SHIFT, self.alphabet.locking())]
        {
            out.extend(language.into_iter().flat_map(|language| [element, 1, language.id()]));
        }
        out[0] = (out.len() - 1) as u8;
        out
    }

    /// Reads a header without its length. As the standard says (§9.2.3.24), an element that is out of order or
    /// nonsense is passed over, and of several of one kind the last counts; what is cut off ends it.
    pub fn read(mut octets: &[u8]) -> Header {
        let mut header = Header::default();
        let (mut locking, mut shift) = (None, None);
        while let [element, length, rest @ ..] = octets {
            let Some((data, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
            match (*element, data) {
                (SHORT, [reference, total, number]) => {
                    header.is_part(Reference::Short(*reference), *total, *number)
                }
                (LONG, [high, low, total, number]) => {
                    header.is_part(Reference::Long(u16::from_be_bytes([*high, *low])), *total, *number);
                }
                (SINGLE_SHIFT, [language]) => shift = Language::of_id(*language),
                (LOCKING_SHIFT, [language]) => locking = Language::of_id(*language),
                (element, data) => header.other.push((element, data.to_vec())),
            }
            octets = rest;
        }
        header.alphabet = Alphabet::new(locking, shift).or(Alphabet::new(None, shift)).unwrap_or_default();
        header
    }

    fn is_part(&mut self, reference: Reference, total: u8, number: u8) {
        if (1..=total).contains(&number) {
            self.part = Some(Part { reference, total, number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_written_and_read() {
        let turkish = Alphabet::new(Some(Language::Turkish), Some(Language::Turkish)).unwrap();
        for (reference, alphabet, octets) in [
            (Some(Reference::Short(0xA5)), Alphabet::DEFAULT, "050003a50302"),
            (Some(Reference::Long(0x1234)), Alphabet::DEFAULT, "06080412340302"),
            (Some(Reference::Short(7)), turkish, "0b00030703022401012501 01"),
            (None, Alphabet::new(None, Some(Language::Spanish)).unwrap(), "03240102"),
            (None, Alphabet::DEFAULT, ""),
        ] {
            let part = reference.map(|reference| Part { reference, total: 3, number: 2 });
            let header = Header { part, alphabet, other: Vec::new() };
            let written = header.write();
            assert_eq!(hex::encode(&written), octets.replace(' ', ""));
            assert_eq!(Header::read(written.get(1..).unwrap_or_default()), header);
        }
    }

    #[test]
    fn nonsense_is_passed_over() {
        let read = |octets: &str| Header::read(&hex::decode(octets.replace(' ', "")).unwrap());
        for octets in
            ["00 03 07 03 00", "00 03 07 03 04", "00 03 07 00 00", "00 02 07 03", "00 03 07 03", "00"]
        {
            assert_eq!(read(octets).part, None, "{octets}");
        }
        let both = read("00 03 01 02 01 05 04 15 8a 00 00 00 03 02 02 02");
        assert_eq!(
            both.part,
            Some(Part { reference: Reference::Short(2), total: 2, number: 2 }),
            "the last counts"
        );
        assert_eq!(both.other, [(5, vec![0x15, 0x8a, 0, 0])]);
        assert_eq!(read("24 01 63").alphabet, Alphabet::DEFAULT, "a language that is not known");
    }
}
