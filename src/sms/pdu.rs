//! What goes between a modem and the network: SMS-SUBMIT out, SMS-DELIVER and SMS-STATUS-REPORT in (3GPP TS 23.040 §9.2.2),
//! each with the address of the service centre before it, as in AT commands (3GPP TS 27.005 §3.1).
//!
//! What is written is checked before; what is read is foreign, and any octets at all give a PDU or an error. Deliberately
//! absent: who talks to the modem, and SMS-SUBMIT-REPORT and SMS-COMMAND, which no modem hands to us.
//!
//! ```
//! use smsd::sms::coding::{Coding, segments};
//! use smsd::sms::language::Alphabet;
//! use smsd::sms::pdu::{Address, Submit};
//! use smsd::sms::udh::Reference;
//!
//! let to = Address::of_number("+4790000001").unwrap();
//! let one = &segments("hellohello", Coding::Gsm7(Alphabet::DEFAULT), Reference::Short(1)).unwrap()[0];
//! let pdu = Submit::to(&to).write(one);
//! assert_eq!(pdu.hex(), "0001000A917409000010000 00AE8329BFD4697D9EC37".replace(' ', ""));
//! assert_eq!(pdu.length(), pdu.octets().len() - 1);
//! ```
//!
//! What a modem hands us (`AT+CMGL`, `+CMT`, `+CDS`):
//!
//! ```
//! use smsd::sms::pdu::{Delivery, Incoming, read_hex};
//!
//! let pdu = "07917283010010F5040BC87238880900F10000993092516195800AE8329BFD4697D9EC37";
//! let Incoming::Deliver(sms) = read_hex(pdu)? else { panic!("an SMS") };
//! assert_eq!((sms.from.to_string(), sms.body.text()), ("27838890001".into(), Some("hellohello".into())));
//!
//! let Incoming::Report(report) = read_hex("00062A0A917409000010621132516193406211325171234000")? else { panic!() };
//! assert_eq!((report.reference, report.delivery()), (42, Delivery::Delivered));
//! # Ok::<(), smsd::sms::pdu::PduError>(())
//! ```

mod address;
mod deliver;
mod report;
mod submit;
mod time;

pub use address::{Address, TypeOfNumber};
pub use deliver::{Body, Deliver};
pub use report::{Delivery, StatusReport};
pub use submit::{Class, Pdu, Submit};

/// A PDU that the network sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An SMS to us.
    Deliver(Deliver),
    /// What became of an SMS of ours.
    Report(StatusReport),
}

/// Why octets are no PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    /// It is cut off.
    #[error("the PDU ends at octet {at}, within {what}")]
    Short {
        /// How many octets there are.
        at: usize,
        /// What was being read.
        what: &'static str,
    },
    /// What must not be.
    #[error("octet {at} of the PDU: {what}")]
    Wrong {
        /// Where.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Not hexadecimal.
    #[error("the PDU is not written in pairs of hexadecimal digits")]
    NotHex,
}

/// Reads what the network sent, the service centre's address first.
///
/// # Errors
/// Where the octets stop being a PDU that we know.
pub fn read(octets: &[u8]) -> Result<Incoming, PduError> {
    let mut reader = Reader { octets, at: 0 };
    let smsc = address::read_smsc(&mut reader)?;
    let first = reader.octet("the first octet")?;
    match first & 0x03 {
        0 => Ok(Incoming::Deliver(deliver::read(&mut reader, smsc, first)?)),
        2 => Ok(Incoming::Report(report::read(&mut reader, first)?)),
        _ => Err(PduError::Wrong { at: reader.at - 1, what: "neither SMS-DELIVER nor SMS-STATUS-REPORT" }),
    }
}

/// The same from hexadecimal digits, as a modem gives them; white space around them is no matter.
///
/// # Errors
/// As [`read`], or that it is not hexadecimal.
pub fn read_hex(digits: &str) -> Result<Incoming, PduError> {
    let digits = digits.trim();
    let nibble = |digit: u8| (digit as char).to_digit(16).map(|n| n as u8);
    let octets: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some(nibble(high)? << 4 | nibble(low)?),
            _ => None,
        })
        .collect();
    read(&octets.ok_or(PduError::NotHex)?)
}

/// Octets in hexadecimal, as modems read them.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut out, octet| {
        // Writing to a String never fails.
        let _ = write!(out, "{octet:02X}");
        out
    })
}

/// Octets from first to last.
struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], PduError> {
        let end = self.at.saturating_add(count);
        let taken = self.octets.get(self.at..end).ok_or(PduError::Short { at: self.octets.len(), what })?;
        self.at = end;
        Ok(taken)
    }

    fn octet(&mut self, what: &'static str) -> Result<u8, PduError> {
        self.take(1, what).map(|octets| octets.first().copied().unwrap_or_default())
    }

    fn rest(&mut self) -> &'a [u8] {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        self.at = self.octets.len();
        rest
    }
}

#[cfg(test)]
mod tests;
