//! PDUs from a modem: any octets are one or an error, what is one is written and read again as the same, and what is in
//! parts is put together in bounded memory.

use std::time::Duration;

use smsd::sms::coding::{Coding, Segment};
use smsd::sms::pdu::{self, Address, Body, Deliver, Incoming, PduError, Submit};
use smsd::sms::reassembly::{Bounds, PATIENCE, Reassembly};
use smsd::sms::septets;
use smsd::sms::udh::Header;
use tokio::time::Instant;

#[path = "../support/network.rs"]
mod network;

/// The input: several PDUs, the length of each before it; also taken as one PDU, as its hexadecimal digits, as a header
/// and as septets.
pub(crate) fn run(data: &[u8]) {
    let alone = read(data);
    assert_eq!(pdu::read_hex(&pdu::hex(data)), alone);
    if let Ok(digits) = std::str::from_utf8(data) {
        let _ = pdu::read_hex(digits);
    }
    header(data);
    packed(data);

    let bounds = Bounds { open: 3, octets: 400 };
    let (mut reassembly, mut now) = (Reassembly::within(bounds), Instant::now());
    let mut take = |reassembly: &mut Reassembly, read: Result<Incoming, PduError>| {
        let Ok(Incoming::Deliver(deliver)) = read else { return };
        now += Duration::from_secs(3600);
        for received in reassembly.take(deliver, now) {
            let total = received.first.header.part.map_or(1, |part| usize::from(part.total));
            assert!(received.missing < total);
            assert!(received.text.matches("[…]").count() >= received.missing);
        }
        let held = reassembly.held();
        assert!(held.open <= bounds.open && held.octets <= bounds.octets, "{held:?}");
    };
    take(&mut reassembly, alone);
    let mut rest = data;
    while let [length, more @ ..] = rest {
        let (one, more) = more.split_at(more.len().min(usize::from(*length)));
        take(&mut reassembly, read(one));
        rest = more;
    }
    reassembly.give_up(now + PATIENCE);
    assert_eq!(reassembly.held(), Bounds { open: 0, octets: 0 });
}

fn read(octets: &[u8]) -> Result<Incoming, PduError> {
    let read = pdu::read(octets);
    match &read {
        Ok(Incoming::Deliver(deliver)) => written(deliver),
        Ok(Incoming::Report(report)) => _ = report.delivery(),
        Err(PduError::Short { at, .. }) => assert_eq!(*at, octets.len()),
        Err(PduError::Wrong { at, .. }) => assert!(*at < octets.len()),
        Err(PduError::NotHex) => panic!("octets are no digits"),
    }
    read
}

/// What came, sent back to whom it came from as an SMS-SUBMIT, and that delivered as a network does.
fn written(deliver: &Deliver) {
    let Some(to) = Address::of_number(&deliver.from.to_string()) else { return };
    let header = Header { other: Vec::new(), ..deliver.header.clone() };
    let head = header.write();
    let (coding, length, text) = match &deliver.body {
        Body::Septets(alphabet, codes) => {
            let fill = septets::fill(head.len());
            let length = (head.len() * 8 + fill) / 7 + codes.len();
            (Coding::Gsm7(*alphabet), length, septets::pack(codes, fill))
        }
        Body::Units(units) => {
            let octets: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            (Coding::Ucs2, head.len() + octets.len(), octets)
        }
        Body::Octets(_) => return,
    };
    let octets = [&head[..], &text].concat();
    let length = u8::try_from(length).expect("no longer than what was read");
    let segment = Segment { has_header: !head.is_empty(), length, octets, coding };
    let submit = Submit::to(&to).write(&segment);

    match pdu::read(&network::deliver(&submit)) {
        Ok(Incoming::Deliver(again)) => {
            assert_eq!((&again.header, &again.body), (&header, &deliver.body));
            assert_eq!(again.from.to_string(), deliver.from.to_string());
        }
        other => panic!("{other:?}"),
    }
}

fn header(octets: &[u8]) {
    let header = Header { other: Vec::new(), ..Header::read(octets) };
    let written = header.write();
    assert_eq!(Header::read(written.get(1..).unwrap_or_default()), header);
}

fn packed(octets: &[u8]) {
    for fill in 0..7 {
        let codes = septets::unpack(octets, fill, usize::MAX);
        assert_eq!(codes.len(), (octets.len() * 8).saturating_sub(fill) / 7);
        assert_eq!(septets::unpack(&septets::pack(&codes, fill), fill, codes.len()), codes);
    }
}
