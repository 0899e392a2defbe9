//! SMS-SUBMIT: an SMS on its way to the service centre (3GPP TS 23.040 §9.2.2.2).

use std::time::Duration;

use super::address::Address;
use super::time;
use crate::sms::Encoding;
use crate::sms::coding::Segment;

/// Where a phone puts an SMS (3GPP TS 23.038 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Shown at once, and not kept: a flash SMS.
    Flash,
    /// In the phone.
    Phone,
    /// On the SIM.
    Sim,
    /// In what is attached to the phone.
    Equipment,
}

/// How a segment is submitted.
#[derive(Clone, Debug)]
pub struct Submit<'a> {
    to: &'a Address,
    smsc: Option<&'a Address>,
    validity: Option<Duration>,
    class: Option<Class>,
    replaces: Option<u8>,
    wants_report: bool,
    rejects_duplicates: bool,
}

impl<'a> Submit<'a> {
    /// To this number, by the service centre that the SIM knows.
    pub fn to(to: &'a Address) -> Submit<'a> {
        let (smsc, validity, class, replaces) = (None, None, None, None);
        Submit { to, smsc, validity, class, replaces, wants_report: false, rejects_duplicates: false }
    }

    /// By this service centre.
    pub fn by(self, smsc: &'a Address) -> Submit<'a> {
        Submit { smsc: Some(smsc), ..self }
    }

    /// For how long the network shall try, rounded up to what the standard has: 5 minutes to 63 weeks.
    pub fn valid_for(self, validity: Duration) -> Submit<'a> {
        Submit { validity: Some(validity), ..self }
    }

    /// As an SMS of this class.
    pub fn class(self, class: Class) -> Submit<'a> {
        Submit { class: Some(class), ..self }
    }

    /// In place of the last one of this type, 1 to 7, from us on the phone (§9.2.3.9); other types are not said.
    pub fn replacing(self, kind: u8) -> Submit<'a> {
        Submit { replaces: (1..=7).contains(&kind).then_some(kind), ..self }
    }

    /// With a status report asked for (`TP-SRR`).
    pub fn reported(self) -> Submit<'a> {
        Submit { wants_report: true, ..self }
    }

    /// The service centre shall refuse it if it still has the same one from us (`TP-RD`).
    pub fn once(self) -> Submit<'a> {
        Submit { rejects_duplicates: true, ..self }
    }

    /// The PDU of one segment.
    pub fn write(&self, segment: &Segment) -> Pdu {
        let mut octets = Address::write_smsc(self.smsc);
        let before = octets.len();
        let flag = |yes: bool, bit: u8| u8::from(yes) << bit;
        octets.push(
            0x01 | flag(self.rejects_duplicates, 2)
                | flag(self.validity.is_some(), 4)
                | flag(self.wants_report, 5)
                | flag(segment.has_header, 6),
        );
        // TP-MR: the modem counts for itself.
        octets.push(0);
        octets.extend(self.to.write());
        octets.push(self.replaces.map_or(0, |kind| 0x40 | kind));
        let coding = match segment.coding.encoding() {
            Encoding::Gsm7 => 0x00,
            Encoding::Ucs2 => 0x08,
        };
        octets.push(coding | self.class.map_or(0, |class| 0x10 | class as u8));
        octets.extend(self.validity.map(time::relative));
        octets.push(segment.length);
        octets.extend(&segment.octets);
        Pdu { octets, before }
    }
}

/// A PDU to hand to a modem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    octets: Vec<u8>,
    before: usize,
}

impl Pdu {
    /// The octets, the service centre's address first.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The length to give with `AT+CMGS`: octets without the service centre's address (3GPP TS 27.005 §3.5.1).
    pub fn length(&self) -> usize {
        self.octets.len() - self.before
    }

    /// In hexadecimal, as a modem takes it.
    pub fn hex(&self) -> String {
        super::hex(&self.octets)
    }
}
