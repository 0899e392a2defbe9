//! SMS-STATUS-REPORT: what became of an SMS (3GPP TS 23.040 §9.2.2.3).

use jiff::Timestamp;

use super::address::Address;
use super::{PduError, Reader, time};

/// The network's word on an SMS of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// `TP-MR`: which of those that the modem sent to this number.
    pub reference: u8,
    /// To whom it went.
    pub to: Address,
    /// When the service centre took it.
    pub sent_at: Option<Timestamp>,
    /// When it came to what it says.
    pub ended_at: Option<Timestamp>,
    /// `TP-ST`, as it came.
    pub status: u8,
}

/// What a status means to whoever waits for it (§9.2.3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The phone has it.
    Delivered,
    /// It left, and nobody can say whether it arrived (forwarded, or replaced by another).
    Unconfirmed,
    /// The network goes on trying.
    Trying,
    /// It will not arrive.
    Failed,
}

impl StatusReport {
    /// What it means. Each group of 32 ends with 16 statuses of the service centre's own, of which only the group is known;
    /// what is reserved is read as `Service Rejected`, a failure, as the standard asks.
    pub fn delivery(&self) -> Delivery {
        match self.status {
            0x00 => Delivery::Delivered,
            0x01 | 0x02 | 0x10..=0x1F => Delivery::Unconfirmed,
            0x20..=0x25 | 0x30..=0x3F => Delivery::Trying,
            _ => Delivery::Failed,
        }
    }
}

pub(super) fn read(reader: &mut Reader<'_>, _first: u8) -> Result<StatusReport, PduError> {
    let reference = reader.octet("the message reference")?;
    let to = Address::read(reader)?;
    let (sent_at, ended_at) = (time::read(reader)?, time::read(reader)?);
    let status = reader.octet("the status")?;
    Ok(StatusReport { reference, to, sent_at, ended_at, status })
}
