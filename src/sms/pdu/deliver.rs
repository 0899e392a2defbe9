//! SMS-DELIVER: an SMS to us (3GPP TS 23.040 §9.2.2.1), and the user data of any PDU.

use jiff::Timestamp;

use super::address::Address;
use super::{PduError, Reader, time};
use crate::sms::language::Alphabet;
use crate::sms::septets;
use crate::sms::udh::Header;

/// An SMS to us, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// By which service centre.
    pub smsc: Option<Address>,
    /// From whom: a number, or a name.
    pub from: Address,
    /// When the service centre took it, if it says a time that there is.
    pub sent_at: Option<Timestamp>,
    /// Protocol identifier, as it came.
    pub pid: u8,
    /// Data coding scheme, as it came.
    pub dcs: u8,
    /// Which part, in which alphabet.
    pub header: Header,
    /// What it says.
    pub body: Body,
}

/// User data without its header. Kept in units, since the parts of a longer SMS may be cut within a character.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Septets of an alphabet.
    Septets(Alphabet, Vec<u8>),
    /// 16-bit units.
    Units(Vec<u16>),
    /// What is no text: data, or a compressed text.
    Octets(Vec<u8>),
}

impl Body {
    /// The text, if it is one. What makes no sense in it is replaced, never left out.
    pub fn text(&self) -> Option<String> {
        match self {
            Body::Septets(alphabet, septets) => Some(alphabet.decode(septets)),
            Body::Units(units) => Some(String::from_utf16_lossy(units)),
            Body::Octets(_) => None,
        }
    }

    /// Octets of memory that it takes.
    pub(in crate::sms) fn size(&self) -> usize {
        match self {
            Body::Septets(_, septets) => septets.len(),
            Body::Units(units) => units.len() * 2,
            Body::Octets(octets) => octets.len(),
        }
    }

    /// This one with the next part's behind it; `None` if they are not of one kind.
    pub(in crate::sms) fn and(self, next: &Body) -> Option<Body> {
        match (self, next) {
            (Body::Septets(alphabet, mut all), Body::Septets(same, more)) if alphabet == *same => {
                all.extend(more);
                Some(Body::Septets(alphabet, all))
            }
            (Body::Units(mut all), Body::Units(more)) => {
                all.extend(more);
                Some(Body::Units(all))
            }
            (Body::Octets(mut all), Body::Octets(more)) => {
                all.extend(more);
                Some(Body::Octets(all))
            }
            _ => None,
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, smsc: Option<Address>, first: u8) -> Result<Deliver, PduError> {
    let from = Address::read(reader)?;
    let (pid, dcs) = (reader.octet("the protocol identifier")?, reader.octet("the coding scheme")?);
    let sent_at = time::read(reader)?;
    let (header, body) = user_data(reader, first & 0x40 != 0, dcs)?;
    Ok(Deliver { smsc, from, sent_at, pid, dcs, header, body })
}

/// What the units of the user data are.
enum Kind {
    Gsm7,
    Ucs2,
    Octets,
}

/// The coding scheme (3GPP TS 23.038 §4). What is reserved is taken for 7 bit, as the standard asks; what is compressed
/// is left as it is, since nobody compresses.
fn kind(dcs: u8) -> Kind {
    match dcs >> 4 {
        0x0..=0x7 if dcs & 0x20 != 0 => Kind::Octets,
        0x0..=0x7 => match dcs >> 2 & 0x03 {
            1 => Kind::Octets,
            2 => Kind::Ucs2,
            _ => Kind::Gsm7,
        },
        0xE => Kind::Ucs2,
        0xF if dcs & 0x04 != 0 => Kind::Octets,
        _ => Kind::Gsm7,
    }
}

/// `TP-UDL` and `TP-UD`. What is announced and not there is taken as not said: an SMS cut off tells more than none.
pub(super) fn user_data(
    reader: &mut Reader<'_>,
    has_header: bool,
    dcs: u8,
) -> Result<(Header, Body), PduError> {
    let kind = kind(dcs);
    let length = usize::from(reader.octet("the length of the text")?);
    let octets = match kind {
        Kind::Gsm7 => (length * 7).div_ceil(8),
        Kind::Ucs2 | Kind::Octets => length,
    };
    let at = reader.at;
    let data = reader.rest();
    let data = data.get(..octets).unwrap_or(data);
    let before = match has_header {
        true => data.first().map_or(0, |length| usize::from(*length) + 1),
        false => 0,
    };
    if before > data.len() {
        return Err(PduError::Wrong { at, what: "a header longer than the user data" });
    }
    let (head, text) = data.split_at(before);
    let header = Header::read(head.get(1..).unwrap_or_default());
    let body = match kind {
        Kind::Gsm7 => {
            let fill = septets::fill(before);
            let count = length.saturating_sub((before * 8 + fill) / 7);
            Body::Septets(header.alphabet, septets::unpack(text, fill, count))
        }
        Kind::Ucs2 => {
            Body::Units(text.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])).collect())
        }
        Kind::Octets => Body::Octets(text.to_vec()),
    };
    Ok((header, body))
}
