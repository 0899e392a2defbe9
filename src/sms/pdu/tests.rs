use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::sms::coding::{Coding, segments};
use crate::sms::language::{Alphabet, Language};
use crate::sms::udh::{Part, Reference};

fn deliver(hex: &str) -> Deliver {
    match read_hex(hex) {
        Ok(Incoming::Deliver(deliver)) => deliver,
        other => panic!("{hex}: {other:?}"),
    }
}

/// The SMS-SUBMIT of one segment, read as the network that passes it on would deliver it.
fn delivered(segment: &crate::sms::coding::Segment) -> Deliver {
    let dcs = match segment.coding.encoding() {
        crate::sms::Encoding::Gsm7 => 0x00,
        crate::sms::Encoding::Ucs2 => 0x08,
    };
    let head = [0x00, if segment.has_header { 0x44 } else { 0x04 }, 0x04, 0x91, 0x74, 0x09, 0x00, dcs];
    let time = [0x62, 0x11, 0x32, 0x51, 0x61, 0x93, 0x40];
    let octets = [&head[..], &time, &[segment.length], &segment.octets].concat();
    match read(&octets) {
        Ok(Incoming::Deliver(deliver)) => deliver,
        other => panic!("{other:?}"),
    }
}

#[test]
fn deliveries_are_read() {
    // The example of many a manual: <https://www.smartposition.nl/resources/sms_pdu.html>.
    let hello = deliver("07917283010010F5040BC87238880900F10000993092516195800AE8329BFD4697D9EC37");
    assert_eq!(hello.smsc.as_ref().map(ToString::to_string).as_deref(), Some("+27381000015"));
    assert_eq!((hello.from.to_string(), hello.from.npi()), ("27838890001".to_owned(), 8));
    assert_eq!(hello.sent_at.map(|t| t.to_string()).as_deref(), Some("1999-03-29T13:16:59Z"));
    assert_eq!(hello.body.text().as_deref(), Some("hellohello"));

    let named = deliver("0004 0ED0D637396C7EBBCB 0000 62113251619340 02 C834".replace(' ', "").as_str());
    assert_eq!(
        (named.from.to_string(), named.from.ton()),
        ("Vodafone".to_owned(), TypeOfNumber::Alphanumeric)
    );
    assert_eq!(named.body.text().as_deref(), Some("Hi"));

    // Seven letters leave seven bits, which some count as a digit more.
    for (length, octets, name) in [
        ("0D", "4279D8FE4E8701", "Bravoia"),
        ("0E", "4279D8FE4E8701", "Bravoia"),
        ("02", "41", "A"),
        ("00", "", ""),
    ] {
        let named = deliver(&format!("0004{length}D0{octets}00006211325161934002C834"));
        assert_eq!(named.from.to_string(), name, "{length} {octets}");
    }

    let part = deliver(
        "0044 0491 7409 0008 62113251619340 0C 050003A50302 6F22 5B57 0041".replace(' ', "").as_str(),
    );
    let is = Part { reference: Reference::Short(0xA5), total: 3, number: 2 };
    assert_eq!((part.header.part, part.body.text().as_deref()), (Some(is), Some("漢字A")));
}

#[test]
fn status_reports_are_read_and_say_what_they_mean() {
    for status in 0..=0xFF {
        // 3GPP TS 23.040 §9.2.3.15, group by group; all that is left out is reserved.
        let means = match status {
            0x00 => Delivery::Delivered,
            0x01..=0x02 | 0x10..=0x1F => Delivery::Unconfirmed,
            0x20..=0x25 | 0x30..=0x3F => Delivery::Trying,
            _ => Delivery::Failed,
        };
        let hex =
            format!("00 06 2A 0A91 7409000010 62113251619340 62113251712340 {status:02X}").replace(' ', "");
        let Ok(Incoming::Report(report)) = read_hex(&hex) else { panic!("{hex}") };
        assert_eq!((report.reference, report.to.to_string()), (0x2A, "+4790000001".to_owned()));
        assert_eq!((report.status, report.delivery()), (status, means), "{status:#x}");
        let seconds = |time: Option<jiff::Timestamp>| time.unwrap().as_second();
        assert_eq!(seconds(report.ended_at) - seconds(report.sent_at), 53);
    }
}

#[test]
fn submits_say_what_was_asked_for() {
    let (to, smsc) = (Address::of_number("4790000001").unwrap(), Address::of_number("+4792001000").unwrap());
    let segment = |text: &str, coding| segments(text, coding, Reference::Short(1)).unwrap().remove(0);
    let (a, kanji) = (segment("A", Coding::Gsm7(Alphabet::DEFAULT)), segment("漢", Coding::Ucs2));
    let hex = |submit: Submit<'_>, segment| submit.write(segment).hex();
    assert_eq!(hex(Submit::to(&to), &a), "0001000A8174090000100000 0141".replace(' ', ""));
    assert_eq!(hex(Submit::to(&to).by(&smsc), &a), format!("0691{}01000A81740900001000000141", "7429000100"));
    let all = Submit::to(&to)
        .valid_for(Duration::from_secs(3600))
        .class(Class::Flash)
        .replacing(3)
        .reported()
        .once();
    assert_eq!(hex(all, &kanji), "0035000A8174090000104318 0B 02 6F22".replace(' ', ""));
    assert_eq!(Submit::to(&to).by(&smsc).write(&a).length(), Submit::to(&to).write(&a).length());
    assert_eq!(hex(Submit::to(&to).replacing(8), &a), hex(Submit::to(&to), &a), "there is no such type");
}

#[test]
fn numbers_are_addresses_and_nothing_else_is() {
    for (number, octets) in
        [("+4790000001", "0a917409000010"), ("112", "038111f2"), ("*100#", "05811a00fb"), ("1", "0181f1")]
    {
        let address = Address::of_number(number).unwrap();
        assert_eq!(hex::encode(address.write()), octets);
        assert_eq!(address.to_string(), number);
    }
    for nonsense in ["", "+", "47 90", "abcd", "123456789012345678901", "１２３"] {
        assert_eq!(Address::of_number(nonsense), None, "{nonsense}");
    }
}

#[test]
fn what_is_no_pdu_is_said_with_its_place() {
    for (hex, said) in [
        ("", "the PDU ends at octet 0, within the service centre's address"),
        ("0", "the PDU is not written in pairs of hexadecimal digits"),
        ("00é", "the PDU is not written in pairs of hexadecimal digits"),
        ("FF", "octet 0 of the PDU: a service centre's address of more than 12 octets"),
        ("0001", "octet 1 of the PDU: neither SMS-DELIVER nor SMS-STATUS-REPORT"),
        ("000415", "octet 2 of the PDU: an address of more than 20 digits"),
        ("00040491", "the PDU ends at octet 4, within an address"),
        ("0004049174090000621132", "the PDU ends at octet 11, within a time"),
        ("0044049174090000621132516193400205", "octet 16 of the PDU: a header longer than the user data"),
        ("00440491740900006211325161934001050003", "octet 16 of the PDU: a header longer than the user data"),
    ] {
        assert_eq!(read_hex(hex).unwrap_err().to_string(), said, "{hex}");
    }
}

proptest! {
    #[test]
    fn what_is_submitted_is_delivered(
        text in "([ -~]|[\u{a}åØ€\\[ışğनमस्ते漢😀]|\\PC){0,400}", reference in any::<u16>(), long: bool,
    ) {
        let reference = if long { Reference::Long(reference) } else { Reference::Short(reference as u8) };
        let alphabet = |l| Alphabet::new(Some(l), Some(l)).unwrap();
        for coding in [
            Coding::Gsm7(Alphabet::DEFAULT),
            Coding::Gsm7(alphabet(Language::Turkish)),
            Coding::Gsm7(alphabet(Language::Hindi)),
            Coding::Ucs2,
        ] {
            let Ok(segments) = segments(&text, coding, reference) else { continue };
            let mut whole = None;
            for (n, segment) in (1..).zip(&segments) {
                prop_assert!(segment.octets.len() <= 140);
                let part = delivered(segment);
                let wanted = (segments.len() > 1)
                    .then_some(Part { reference, total: segments.len() as u8, number: n });
                prop_assert_eq!(part.header.part, wanted);
                // No part is cut within a character.
                prop_assert!(text.contains(&part.body.text().unwrap()));
                whole = match whole {
                    None => Some(part.body),
                    Some(whole) => Body::and(whole, &part.body),
                };
            }
            prop_assert_eq!(whole.unwrap().text(), Some(text.clone()));
        }
    }

    #[test]
    fn any_octets_are_a_pdu_or_an_error(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&octets);
    }
}
