//! SMS-SUBMIT and SMS-DELIVER, whole: what we write they read, what they write we read.

use std::time::Duration;

use serde_json::{Value, json};
use smsd::sms::coding::{Coding, Segment, segments};
use smsd::sms::language::Alphabet;
use smsd::sms::pdu::{self, Address, Class, Deliver, Incoming, Submit};
use smsd::sms::reassembly::Reassembly;
use smsd::sms::udh::{Header, Part, Reference};
use smsd::sms::{gsm7, septets};

use super::{SEED, alphabet, gsm7_texts, is, python, random, text, ucs2_texts};

const GSM7: Coding = Coding::Gsm7(Alphabet::DEFAULT);
const SMSC: &str = "+4792001000";

/// What an SMS-DELIVER says before its text, written by smspdudecoder.
struct Head {
    /// Who sends.
    from: String,
    /// Septets of a name; `None` of a number.
    name: Option<usize>,
    /// When, in seconds since 1970.
    second: i64,
    /// TP-OA and TP-SCTS, in hexadecimal.
    address: String,
    time: String,
}

/// Numbers and names of all lengths, at times in all time zones there are.
fn heads(rng: &mut fastrand::Rng, count: usize) -> Vec<Head> {
    let (basic, extension) = (&alphabet()[..127], &alphabet()[127..]);
    let (mut heads, mut questions) = (Vec::new(), Vec::new());
    for n in 0..count {
        let name = (n % 2 == 1).then(|| {
            loop {
                let name = random(rng, 1 + n / 2 % 11, basic, extension);
                if gsm7::septets(&name).unwrap() <= 11 {
                    break name;
                }
            }
        });
        let digits: String = (0..3 + n % 18).map(|_| rng.digit(10)).collect();
        let (second, quarters) = (rng.i64(946_771_200..3_092_515_200), n as i64 % 105 - 48);
        questions.push(match &name {
            Some(name) => json!({"do": "decoder_pack", "text": name}),
            None => json!({"do": "decoder_number", "digits": digits}),
        });
        questions.push(json!({"do": "decoder_time", "second": second, "quarters": quarters}));
        let septets = name.as_deref().and_then(gsm7::septets);
        let from = name.unwrap_or(format!("{}{digits}", if n % 4 == 0 { "+" } else { "" }));
        heads.push(Head { from, name: septets, second, address: digits, time: String::new() });
    }
    for (head, answers) in heads.iter_mut().zip(python(&questions).chunks(2)) {
        let (length, kind) = match head.name {
            Some(septets) => ((septets * 7).div_ceil(4), 0xD0),
            None => (head.address.len(), if head.from.starts_with('+') { 0x91 } else { 0x81 }),
        };
        head.address = format!("{length:02X}{kind:02X}{}", text(&answers[0]));
        head.time = text(&answers[1]).to_owned();
    }
    heads
}

impl Head {
    /// With user data and its length in hexadecimal behind it.
    fn deliver(&self, segment: &Segment, user_data: &str) -> String {
        let first = if segment.has_header { "44" } else { "04" };
        format!("00{first}{}00{:02X}{}{user_data}", self.address, dcs(segment.coding), self.time)
    }

    /// Who sends, as they read it: seven spare bits are an `@` to both.
    fn sender_as_read(&self) -> String {
        let spare = self.name.map_or(0, |septets| (septets * 7).div_ceil(8) * 8 - septets * 7);
        format!("{}{}", self.from, if spare == 7 { "@" } else { "" })
    }
}

/// A segment as the network delivers it.
pub(super) fn delivered(segment: &Segment) -> Deliver {
    let (address, time) = ("04817409".to_owned(), "62113251619340".to_owned());
    let head = Head { from: String::new(), name: None, second: 0, address, time };
    read(&head.deliver(segment, &user_data(segment)))
}

fn dcs(coding: Coding) -> u8 {
    if coding == Coding::Ucs2 { 0x08 } else { 0x00 }
}

fn coding(text: &str) -> Coding {
    if text.chars().all(gsm7::has) { GSM7 } else { Coding::Ucs2 }
}

/// TP-UDL and TP-UD, in hexadecimal.
pub(super) fn user_data(segment: &Segment) -> String {
    pdu::hex(&[&[segment.length], &*segment.octets].concat())
}

fn read(hex: &str) -> Deliver {
    match pdu::read_hex(hex) {
        Ok(Incoming::Deliver(deliver)) => deliver,
        other => panic!("{hex}: {other:?}"),
    }
}

/// What we make of all parts of an SMS.
pub(super) fn received(parts: impl IntoIterator<Item = Deliver>) -> String {
    let (mut reassembly, now) = (Reassembly::default(), tokio::time::Instant::now());
    let whole: Vec<_> = parts.into_iter().flat_map(|part| reassembly.take(part, now)).collect();
    let [whole] = &whole[..] else { panic!("{whole:?}") };
    assert_eq!(whole.missing, 0);
    whole.text.clone()
}

pub(super) fn part_as_said(part: Option<Part>) -> Value {
    part.map_or(Value::Null, |Part { reference, total, number }| match reference {
        Reference::Short(reference) => json!([reference, total, number]),
        Reference::Long(reference) => json!([reference, total, number]),
    })
}

/// Every text in its coding, under references of both sizes.
fn texts(rng: &mut fastrand::Rng, count: usize) -> Vec<(String, Reference)> {
    let mut texts = gsm7_texts(rng, count);
    texts.extend(ucs2_texts(rng, count));
    let emoji: Vec<char> = "😀🇳🇴👨‍👩‍👧👍🏽e\u{301}\u{10FFFF}".chars().collect();
    texts.extend((0..count / 4).map(|n| format!("😀{}", random(rng, n % 150, &emoji, &['a', 'й']))));
    let reference = |n: usize, random: u16| match n / 2 % 2 {
        0 => Reference::Short(random as u8),
        _ => Reference::Long(random),
    };
    texts.into_iter().enumerate().map(|(n, text)| (text, reference(n, rng.u16(..)))).collect()
}

/// The text of a segment as smspdudecoder cuts it from the user data: after it has read all septets, those of the header
/// too, and by counting the characters that came of them. Each escape makes one less of two.
fn cut_by_characters(segment: &Segment, text: &str) -> String {
    if segment.coding == Coding::Ucs2 {
        return text.to_owned();
    }
    let all = septets::unpack(&segment.octets, 0, usize::from(segment.length));
    let header = all.len() - gsm7::septets(text).unwrap();
    let escapes = |septets: &[u8]| septets.iter().filter(|septet| **septet == gsm7::ESCAPE).count();
    let spare = segment.octets.len() * 8 - all.len() * 7;
    let more = if spare == 7 && escapes(&all) > 0 { "@" } else { "" };
    text.chars().skip(escapes(&all[..header])).chain(more.chars()).collect()
}

#[test]
fn delivers_are_read_alike() {
    let mut rng = fastrand::Rng::with_seed(SEED + 5);
    let heads = heads(&mut rng, 210);
    let (mut cases, mut questions) = (Vec::new(), Vec::new());
    let mut faults = [0; 4];
    let mut texts = texts(&mut rng, 400);
    texts.push((String::new(), Reference::Short(0)));
    // This reference looks like an escape.
    texts.push(("blåbær".repeat(30), Reference::Long(0xB001)));
    for (n, (text, reference)) in texts.iter().enumerate() {
        let head = &heads[n % heads.len()];
        let segments = segments(text, coding(text), *reference).unwrap();
        let pdus: Vec<String> =
            segments.iter().map(|segment| head.deliver(segment, &user_data(segment))).collect();
        assert_eq!(received(pdus.iter().map(|pdu| read(pdu))), *text);
        for (segment, pdu) in segments.into_iter().zip(pdus) {
            questions.push(json!({"do": "decoder_deliver", "pdu": pdu}));
            questions.push(json!({"do": "messaging_deliver", "pdu": pdu}));
            cases.push((head, segment, read(&pdu)));
        }
    }
    assert!(cases.len() > 1_500, "{}", cases.len());
    for ((head, segment, ours), answers) in cases.iter().zip(python(&questions).chunks(2)) {
        let [decoder, messaging] = answers else { panic!() };
        assert_eq!(ours.from.to_string(), head.from);
        assert_eq!(ours.sent_at.unwrap().as_second(), head.second);
        let (text, part) = (ours.body.text().unwrap(), part_as_said(ours.header.part));
        let from = head.sender_as_read();
        let read_as = |text: &str| json!({"from": from, "second": head.second, "text": text, "part": part});
        let cut = cut_by_characters(segment, &text);
        faults[0] += usize::from(cut.len() > text.len());
        faults[1] += usize::from(!cut.starts_with(&text));
        faults[2] += usize::from(from != head.from);
        let mut wanted = read_as(&cut);
        wanted["zone"] = "UTC".into();
        assert_eq!(*is(decoder), wanted);
        match text.is_empty() {
            true => {
                faults[3] += 1;
                assert_eq!(messaging["error"], "TypeError: Unhandled Type <class 'str'>");
            }
            false => assert_eq!(*is(messaging), read_as(&text)),
        }
    }
    assert!(faults.iter().all(|times| *times > 0), "a fault that none of the texts shows: {faults:?}");
}

#[test]
fn submits_are_read_as_written() {
    let mut rng = fastrand::Rng::with_seed(SEED + 6);
    let smsc = Address::of_number(SMSC).unwrap();
    let (mut wanted, mut questions) = (Vec::new(), Vec::new());
    for (n, (text, reference)) in texts(&mut rng, 400).iter().enumerate() {
        let (by, report, once, class) = (n % 3 == 0, n % 5 == 0, n % 7 == 0, n % 11 == 0);
        let number: String = (0..3 + n % 18).map(|_| rng.digit(10)).collect();
        let to = Address::of_number(&format!("+{number}")).unwrap();
        let mut submit = Submit::to(&to).valid_for(validity(n as u8));
        submit = if by { submit.by(&smsc) } else { submit };
        submit = if report { submit.reported() } else { submit };
        submit = if once { submit.once() } else { submit };
        submit = if class { submit.class(Class::Flash) } else { submit };
        submit = submit.replacing((n % 8) as u8);
        let segments = segments(text, coding(text), *reference).unwrap();
        let (total, mut whole) = (segments.len() as u8, String::new());
        for (number, segment) in (1..).zip(&segments) {
            let part = (total > 1).then_some(Part { reference: *reference, total, number });
            let said = delivered(segment).body.text().unwrap();
            whole.push_str(&said);
            questions.push(json!({"do": "decoder_submit", "pdu": submit.write(segment).hex()}));
            wanted.push(json!({
                "to": to.to_string(),
                "smsc": by.then_some(SMSC),
                "report": report,
                "once": once,
                "validity": n as u8,
                "pid": if n % 8 == 0 { 0 } else { 0x40 + n % 8 },
                "text": cut_by_characters(segment, &said),
                "part": part_as_said(part),
            }));
        }
        assert_eq!(whole, *text);
    }
    for (wanted, read) in wanted.iter().zip(python(&questions)) {
        assert_eq!(is(&read), wanted);
    }
}

/// The validity of a value of TP-VP (3GPP TS 23.040 §9.2.3.12.1).
fn validity(value: u8) -> Duration {
    let (v, minute, day) = (u64::from(value), 60, 86_400);
    Duration::from_secs(match value {
        0..=143 => (v + 1) * 5 * minute,
        144..=167 => day / 2 + (v - 143) * 30 * minute,
        168..=196 => (v - 166) * day,
        197..=255 => (v - 192) * 7 * day,
    })
}

/// The segments of a text in 7 bit as python-messaging cuts it: after 153 septets, whatever they are.
fn cut_by_septets(text: &str, reference: Reference) -> Vec<Segment> {
    let codes = gsm7::encode(text).unwrap();
    let total = codes.len().div_ceil(153) as u8;
    let part = |(number, codes): (u8, &[u8])| {
        let part = Some(Part { reference, total, number });
        let mut octets = Header { part, ..Header::default() }.write();
        octets.extend(septets::pack(codes, 1));
        Segment { has_header: true, length: codes.len() as u8 + 7, octets, coding: GSM7 }
    };
    (1..).zip(codes.chunks(153)).map(part).collect()
}

#[test]
fn submits_are_written_alike() {
    let mut rng = fastrand::Rng::with_seed(SEED + 7);
    let heads = heads(&mut rng, 2);
    let smsc = Address::of_number(SMSC).unwrap();
    let mut texts = gsm7_texts(&mut rng, 900);
    texts.extend(ucs2_texts(&mut rng, 600));
    let (mut cases, mut questions) = (Vec::new(), Vec::new());
    let mut cut_in_two = 0;
    for (n, text) in texts.iter().enumerate() {
        let (reference, value) = (n as u8, n as u8);
        let digits: String = (0..3 + n % 18).map(|_| rng.digit(10)).collect();
        let to = format!("{}{digits}", if n % 2 == 0 { "+" } else { "" });
        let (by, report, class, valid) = (n % 3 == 0, n % 5 == 0, n % 4, n % 2 == 0);
        let mut question = json!({"do": "messaging_submit", "to": to, "text": text, "reference": reference});
        let to = Address::of_number(&to).unwrap();
        let mut submit = Submit::to(&to);
        if by {
            submit = submit.by(&smsc);
            question["smsc"] = SMSC.into();
        }
        if report {
            submit = submit.reported();
            question["report"] = true.into();
        }
        if valid {
            submit = submit.valid_for(validity(value));
            question["seconds"] = validity(value).as_secs().into();
        }
        if n % 7 == 0 {
            submit = submit.class([Class::Flash, Class::Phone, Class::Sim, Class::Equipment][class]);
            question["klass"] = class.into();
        }
        let reference = Reference::Short(reference);
        let mut segments = segments(text, coding(text), reference).unwrap();
        if coding(text) == GSM7 && segments.len() > 1 {
            let theirs = cut_by_septets(text, reference);
            let is_cut = |at: usize| gsm7::encode(text).unwrap()[..at].ends_with(&[gsm7::ESCAPE]);
            match (1..theirs.len()).any(|part| is_cut(part * 153)) {
                true => {
                    cut_in_two += 1;
                    segments = theirs;
                }
                false => assert_eq!(segments, theirs),
            }
        }
        let wanted: Vec<Value> = segments
            .iter()
            .map(|segment| submit.write(segment))
            .map(|pdu| json!([pdu.length(), pdu.hex()]))
            .collect();
        questions.push(question);
        cases.push((text, segments, wanted));
    }
    for ((text, segments, wanted), theirs) in cases.iter().zip(python(&questions)) {
        assert_eq!(is(&theirs), &Value::from(wanted.clone()), "{text:?}");
        // Passed on by the network, it is read as it was, even if it was cut within a character.
        let parts = is(&theirs).as_array().unwrap().iter().zip(segments).map(|(theirs, segment)| {
            let pdu = theirs[1].as_str().unwrap();
            read(&heads[0].deliver(segment, &pdu[pdu.len() - user_data(segment).len()..]))
        });
        assert_eq!(received(parts), **text);
    }
    assert!(cut_in_two > 0, "a fault that none of the texts shows");
}

#[test]
fn validity_is_written_alike() {
    let to = Address::of_number("+4790000001").unwrap();
    let question = |value| {
        let seconds = validity(value).as_secs();
        json!({"do": "messaging_submit", "to": to.to_string(), "text": "A", "seconds": seconds})
    };
    let theirs = python(&(0..=255).map(question).collect::<Vec<_>>());
    let one = &segments("A", GSM7, Reference::Short(0)).unwrap()[0];
    for (value, theirs) in (0..=255).zip(&theirs) {
        let ours = Submit::to(&to).valid_for(validity(value)).write(one).hex();
        assert_eq!(is(theirs)[0][1], ours, "{value}");
        assert_eq!(ours[ours.len() - 6..], format!("{value:02X}0141"));
    }
}

#[test]
fn emoji_are_too_much_for_python_messaging() {
    let question = |text: &str| json!({"do": "messaging_submit", "to": "+4790000001", "text": text});
    let full = format!("{}😀", "漢".repeat(69));
    let theirs = python(&[question("a😀b"), question(&full)]);
    let head = "0001000A917409000010 0008".replace(' ', "");
    assert_eq!(
        is(&theirs[0])[0][1],
        format!("{head}0600611F6000062"),
        "6 octets of 8, in an odd number of digits"
    );
    let overfull = format!("{head}8C{}1F600", "6F22".repeat(69));
    assert_eq!(*is(&theirs[1]), json!([[(overfull.len() / 2) - 1, overfull]]), "142 octets in a segment");
    let ours = segments(&full, Coding::Ucs2, Reference::Short(0)).unwrap();
    assert_eq!(ours.iter().map(|segment| segment.length).collect::<Vec<_>>(), [140, 14]);
}
