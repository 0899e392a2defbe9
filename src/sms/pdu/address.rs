//! Addresses: numbers in semi-octets, or names in septets (3GPP TS 23.040 §9.1.2.5).

use std::fmt;

use super::{PduError, Reader};
use crate::sms::language::Alphabet;
use crate::sms::septets;

/// Digits of a number at most: an address field has 12 octets.
const DIGITS: usize = 20;
/// The semi-octets that are not 0 to 9.
const SIGNS: [char; 5] = ['*', '#', 'a', 'b', 'c'];
const FILL: u8 = 0xF;
/// ISDN numbering (E.164), the usual plan.
const ISDN: u8 = 1;

/// Type of number (TON).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the standard's words")]
pub enum TypeOfNumber {
    Unknown,
    International,
    National,
    Network,
    Subscriber,
    Alphanumeric,
    Abbreviated,
    Reserved,
}

impl TypeOfNumber {
    fn of(bits: u8) -> TypeOfNumber {
        match bits & 0x07 {
            0 => TypeOfNumber::Unknown,
            1 => TypeOfNumber::International,
            2 => TypeOfNumber::National,
            3 => TypeOfNumber::Network,
            4 => TypeOfNumber::Subscriber,
            5 => TypeOfNumber::Alphanumeric,
            6 => TypeOfNumber::Abbreviated,
            _ => TypeOfNumber::Reserved,
        }
    }
}

/// Who sends, or is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Digits and signs without `+`, or a name.
    value: String,
    ton: TypeOfNumber,
    /// Numbering plan (NPI), 0 to 15.
    npi: u8,
}

impl Address {
    /// The address of a number as people write it, `+` for an international one; `None` for what is no number of 1 to 20
    /// digits or signs.
    pub fn of_number(number: &str) -> Option<Address> {
        let (ton, digits) = match number.strip_prefix('+') {
            Some(digits) => (TypeOfNumber::International, digits),
            None => (TypeOfNumber::Unknown, number),
        };
        let is_number =
            (1..=DIGITS).contains(&digits.len()) && digits.chars().all(|c| semi_octet(c).is_some());
        is_number.then(|| Address { value: digits.to_owned(), ton, npi: ISDN })
    }

    /// Type of number.
    pub fn ton(&self) -> TypeOfNumber {
        self.ton
    }

    /// Numbering plan (NPI).
    pub fn npi(&self) -> u8 {
        self.npi
    }

    fn type_octet(&self) -> u8 {
        0x80 | (self.ton as u8) << 4 | self.npi
    }

    fn semi_octets(&self) -> Vec<u8> {
        let digits: Vec<u8> = self.value.chars().filter_map(semi_octet).collect();
        let pair = |pair: &[u8]| match *pair {
            [low, high] => high << 4 | low,
            [low] => FILL << 4 | low,
            _ => 0xFF,
        };
        digits.chunks(2).map(pair).collect()
    }

    /// As it stands in TP-DA: how many digits, type, digits.
    pub(super) fn write(&self) -> Vec<u8> {
        [&[self.value.len() as u8, self.type_octet()], &*self.semi_octets()].concat()
    }

    /// As it stands before a TPDU: how many octets, type, digits; a zero for "the one that the SIM knows".
    pub(super) fn write_smsc(smsc: Option<&Address>) -> Vec<u8> {
        let Some(smsc) = smsc else { return vec![0] };
        let digits = smsc.semi_octets();
        [&[digits.len() as u8 + 1, smsc.type_octet()], &*digits].concat()
    }

    /// Reads TP-OA, TP-RA: the length counts semi-octets, also of a name.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Address, PduError> {
        let length = usize::from(reader.octet("an address")?);
        if length > DIGITS {
            return Err(PduError::Wrong { at: reader.at - 1, what: "an address of more than 20 digits" });
        }
        let kind = reader.octet("an address")?;
        let octets = reader.take(length.div_ceil(2), "an address")?;
        Ok(Address::of_octets(kind, octets, length))
    }

    fn of_octets(kind: u8, octets: &[u8], length: usize) -> Address {
        let (ton, npi) = (TypeOfNumber::of(kind >> 4), kind & 0x0F);
        let value = match ton {
            // Seven bits a letter in four bits a digit. Behind seven letters there is just room for a zero, an `@`; whoever
            // counts whole octets, as for a service centre's address, counts that too.
            TypeOfNumber::Alphanumeric => {
                let mut codes = septets::unpack(octets, 0, length * 4 / 7);
                let _ = codes.pop_if(|last| *last == 0 && length.is_multiple_of(14));
                Alphabet::DEFAULT.decode(&codes)
            }
            _ => {
                let digits = octets.iter().flat_map(|octet| [octet & 0x0F, octet >> 4]).take(length);
                digits.map_while(digit).collect()
            }
        };
        Address { value, ton, npi }
    }
}

/// Reads the service centre's address, if there is one.
pub(super) fn read_smsc(reader: &mut Reader<'_>) -> Result<Option<Address>, PduError> {
    let length = usize::from(reader.octet("the service centre's address")?);
    if length > DIGITS / 2 + 2 {
        return Err(PduError::Wrong { at: 0, what: "a service centre's address of more than 12 octets" });
    }
    let octets = reader.take(length, "the service centre's address")?;
    let Some((kind, octets)) = octets.split_first() else { return Ok(None) };
    Ok(Some(Address::of_octets(*kind, octets, octets.len() * 2)))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = if self.ton == TypeOfNumber::International { "+" } else { "" };
        write!(f, "{plus}{}", self.value)
    }
}

fn semi_octet(c: char) -> Option<u8> {
    let sign = || SIGNS.iter().position(|sign| *sign == c).map(|at| 10 + at as u8);
    c.to_digit(10).map(|digit| digit as u8).or_else(sign)
}

/// `None` for the fill that ends a number.
fn digit(semi_octet: u8) -> Option<char> {
    match semi_octet {
        0..=9 => Some(char::from(b'0' + semi_octet)),
        sign => SIGNS.get(usize::from(sign - 10)).copied(),
    }
}
