//! Alphabets, packed and not, and UCS-2.

use serde_json::{Value, json};
use smsd::sms::language::Alphabet;
use smsd::sms::septets::{pack, unpack};
use smsd::sms::{gsm7, pdu, ucs2};

use super::{SEED, alphabet, gsm7_texts, is, node, python, text, ucs2_texts};

const DEFAULT: Alphabet = Alphabet::DEFAULT;

/// A septet of zeros fits behind the last one, which they take for `@`.
fn one_at_sign_too_many(text: &str, fill: usize) -> String {
    let bits = fill + 7 * gsm7::septets(text).unwrap();
    let spare = bits.div_ceil(8) * 8 - bits;
    format!("{text}{}", if spare == 7 { "@" } else { "" })
}

#[test]
fn the_alphabet_is_the_same_everywhere() {
    let mut ours: Vec<u32> = alphabet().into_iter().map(u32::from).collect();
    ours.sort_unstable();
    let theirs = |answers: Vec<Value>| serde_json::from_value::<Vec<u32>>(is(&answers[0]).clone()).unwrap();
    assert_eq!(theirs(python(&[json!({"do": "messaging_alphabet"})])), ours);
    // smpp counts the escape as a character.
    let smpp = theirs(node(&[json!({"do": "alphabet"})]));
    assert_eq!(smpp.into_iter().filter(|code| *code != 0x1B).collect::<Vec<_>>(), ours);
}

#[test]
fn gsm7_packs_and_reads_as_we_do() {
    let mut rng = fastrand::Rng::with_seed(SEED);
    for (n, text) in gsm7_texts(&mut rng, 3_000).iter().enumerate() {
        let fill = n % 7;
        let ours = pack(&DEFAULT.encode(text).unwrap(), fill);
        let mut writer = ::gsm7::Gsm7Writer::new(Vec::new());
        (0..fill).for_each(|_| writer.write_bit(false).unwrap());
        writer.write_str(text).unwrap();
        let mut theirs = writer.into_writer().unwrap();
        if (fill + 7 * gsm7::septets(text).unwrap()) % 8 == 7 {
            *theirs.last_mut().unwrap() ^= 0x80;
        }
        assert_eq!(ours, theirs, "{text:?} behind {fill} bits");

        let reader = ::gsm7::Gsm7Reader::new_with_bit_offset(&ours[..], fill as u32).unwrap();
        let read: String = reader.map(Result::unwrap).collect();
        assert_eq!(read, one_at_sign_too_many(text, fill));
        assert_eq!(DEFAULT.decode(&unpack(&theirs, fill, gsm7::septets(text).unwrap())), *text);
    }
}

#[test]
fn smspdudecoder_packs_and_reads_as_we_do() {
    let mut rng = fastrand::Rng::with_seed(SEED + 1);
    let texts = gsm7_texts(&mut rng, 1_500);
    let ours: Vec<String> =
        texts.iter().map(|text| pdu::hex(&pack(&DEFAULT.encode(text).unwrap(), 0))).collect();
    let pack = |text| json!({"do": "decoder_pack", "text": text});
    let unpack = |octets| json!({"do": "decoder_unpack", "octets": octets});
    let packed = python(&texts.iter().map(pack).collect::<Vec<_>>());
    let read = python(&ours.iter().map(unpack).collect::<Vec<_>>());
    for (((sent, ours), packed), read) in texts.iter().zip(&ours).zip(&packed).zip(&read) {
        assert_eq!(text(packed), ours, "{sent:?}");
        assert_eq!(text(read), one_at_sign_too_many(sent, 0));
    }
}

#[test]
fn smpp_codes_and_reads_gsm7_as_we_do() {
    let mut rng = fastrand::Rng::with_seed(SEED + 2);
    let texts = gsm7_texts(&mut rng, 3_000);
    let ours = |text: &String| pdu::hex(&gsm7::encode(text).unwrap());
    let encode = texts.iter().map(|text| json!({"do": "encode", "as": "ASCII", "text": text}));
    let decode = texts.iter().map(|text| json!({"do": "decode", "as": "ASCII", "octets": ours(text)}));
    let answers = node(&encode.chain(decode).collect::<Vec<_>>());
    let (coded, read) = answers.split_at(texts.len());
    for ((sent, coded), read) in texts.iter().zip(coded).zip(read) {
        assert_eq!((text(coded), text(read)), (&*ours(sent), &**sent));
        assert_eq!(DEFAULT.decode(&hex::decode(text(coded)).unwrap()), *sent);
    }
}

#[test]
fn ucs2_is_the_same_everywhere() {
    let mut rng = fastrand::Rng::with_seed(SEED + 3);
    let mut texts = ucs2_texts(&mut rng, 500);
    texts.extend(["😀".to_owned(), "a👨‍👩‍👧\u{10FFFF}\u{10000}\u{FFFF}".to_owned()]);
    let ours = |text: &String| {
        let octets: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(octets.len(), ucs2::units(text) * 2);
        pdu::hex(&octets)
    };
    let smpp = |text| json!({"do": "encode", "as": "UCS2", "text": text});
    let back = |text| json!({"do": "decode", "as": "UCS2", "octets": ours(text)});
    let decoder = |text| json!({"do": "decoder_ucs2", "text": text});
    let coded = node(&texts.iter().map(smpp).collect::<Vec<_>>());
    let read = node(&texts.iter().map(back).collect::<Vec<_>>());
    let decoder = python(&texts.iter().map(decoder).collect::<Vec<_>>());
    for (((sent, coded), read), decoder) in texts.iter().zip(&coded).zip(&read).zip(&decoder) {
        assert_eq!((text(coded), text(decoder), text(read)), (&*ours(sent), &*ours(sent), &**sent));
    }
}
