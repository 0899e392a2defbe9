//! What the network between two phones does.

use smsd::sms::pdu::Pdu;

/// An SMS-SUBMIT without a validity period, sent to oneself: the SMS-DELIVER that comes of it.
pub(crate) fn deliver(submit: &Pdu) -> Vec<u8> {
    let [0, first, _reference, rest @ ..] = submit.octets() else { panic!("{submit:?}") };
    let (address, rest) = rest.split_at(2 + usize::from(rest[0]).div_ceil(2));
    let (way, text) = rest.split_at(2);
    let time = [0x62, 0x11, 0x32, 0x51, 0x61, 0x93, 0x40];
    [&[0, first & 0x40], address, way, &time, text].concat()
}
