//! The national language tables, against those of gsmcodecs, and the three that smpp has.

use serde_json::{Value, json};
use smsd::sms::coding::{Coding, segments};
use smsd::sms::gsm7::ESCAPE;
use smsd::sms::language::{Alphabet, Language};
use smsd::sms::pdu::{self, Deliver};
use smsd::sms::udh::{Part, Reference};

use super::{SEED, is, node, pdus, python, random, text};

/// Where gsmcodecs is wrong: the table, the code, what it says, and what 3GPP TS 23.038 means. Why stands in
/// `tests/vectors/national.tsv`.
const FAULTS: [(Table, Language, u8, Option<char>, char); 12] = [
    (Table::Locking, Language::Bengali, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Gujarati, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Hindi, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Kannada, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Malayalam, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Oriya, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Punjabi, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Tamil, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Telugu, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Urdu, 0x2C, Some('\''), ','),
    (Table::Locking, Language::Kannada, 0x24, Some('\u{CAA}'), '\u{CA1}'),
    (Table::Shift, Language::Telugu, 0x65, None, '€'),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Table {
    Locking,
    Shift,
}

/// What differs between ours and theirs in this alphabet: table, code, theirs, ours.
type Difference = (Table, Language, u8, Option<char>, char);

fn faults(alphabet: Alphabet) -> impl Iterator<Item = &'static Difference> {
    FAULTS.iter().filter(move |(table, language, ..)| match table {
        Table::Locking => alphabet.locking() == Some(*language),
        Table::Shift => alphabet.shift() == Some(*language),
    })
}

/// Every alphabet with a table of one language, or with both of one, or of two.
fn alphabets() -> Vec<Alphabet> {
    let mut all = vec![Alphabet::DEFAULT];
    for language in Language::ALL {
        let is = Some(language);
        all.extend([(is, None), (None, is), (is, is)].into_iter().filter_map(|(l, s)| Alphabet::new(l, s)));
    }
    all.extend(Alphabet::new(Some(Language::Hindi), Some(Language::Urdu)));
    all
}

fn question(mut of: Value, alphabet: Alphabet) -> Value {
    let id = |language: Option<Language>| language.map_or(0, Language::id);
    of["locking"] = id(alphabet.locking()).into();
    of["shift"] = id(alphabet.shift()).into();
    of
}

/// What each code stands for in theirs, alone and after an escape.
struct Theirs {
    alone: Vec<Option<char>>,
    escaped: Vec<Option<char>>,
}

fn tables(alphabets: &[Alphabet]) -> Vec<Theirs> {
    let ask = |alphabet: &Alphabet| question(json!({"do": "gsmcodecs_table"}), *alphabet);
    let answers = python(&alphabets.iter().map(ask).collect::<Vec<_>>());
    let of = |answer: &Value, which: &str| serde_json::from_value(is(answer)[which].clone()).unwrap();
    answers
        .iter()
        .map(|answer| Theirs { alone: of(answer, "alone"), escaped: of(answer, "escaped") })
        .collect()
}

#[test]
fn every_code_is_read_as_gsmcodecs_reads_it_but_for_its_faults() {
    let alphabets = alphabets();
    for (alphabet, mut theirs) in alphabets.iter().zip(tables(&alphabets)) {
        for (table, _, code, wrong, right) in faults(*alphabet) {
            let there = match table {
                Table::Locking => &mut theirs.alone,
                Table::Shift => &mut theirs.escaped,
            };
            let there = &mut there[usize::from(*code)];
            assert_eq!(there, wrong, "{alphabet:?} {code:#x}: they have mended it");
            *there = Some(*right);
        }
        for (code, (alone, escaped)) in (0u8..).zip(theirs.alone.iter().zip(&theirs.escaped)) {
            // What they refuse stands for nothing: the standard has a phone read something in its place.
            let alone = alone.unwrap_or(' ').to_string();
            let escaped = escaped.map_or(alone.clone(), String::from);
            if code != ESCAPE {
                assert_eq!(alphabet.decode(&[code]), alone, "{alphabet:?} {code:#x}");
            }
            assert_eq!(alphabet.decode(&[ESCAPE, code]), escaped, "{alphabet:?} {code:#x} escaped");
        }
    }
}

/// The characters of theirs that are right, alone and escaped.
fn characters(alphabet: Alphabet, theirs: &Theirs) -> (Vec<char>, Vec<char>) {
    let is_wrong = |c: &char| faults(alphabet).any(|(.., theirs, ours)| Some(*c) == *theirs || c == ours);
    let of = |table: &[Option<char>]| table.iter().copied().flatten().filter(|c| !is_wrong(c)).collect();
    (of(&theirs.alone), of(&theirs.escaped))
}

fn is_twice(c: &char, table: &[Option<char>]) -> bool {
    table.iter().filter(|other| **other == Some(*c)).count() > 1
}

#[test]
fn texts_are_coded_and_read_as_by_gsmcodecs() {
    let mut rng = fastrand::Rng::with_seed(SEED + 4);
    let (mut cases, mut questions) = (Vec::new(), Vec::new());
    let alphabets = alphabets();
    for (alphabet, theirs) in alphabets.iter().zip(tables(&alphabets)) {
        let (mut alone, mut escaped) = characters(*alphabet, &theirs);
        let mut texts: Vec<String> = alone.iter().chain(&escaped).map(char::to_string).collect();
        // Either code will do; we send the first and they the last, which is looked at in these characters alone.
        alone.retain(|c| !is_twice(c, &theirs.alone));
        escaped.retain(|c| !is_twice(c, &theirs.escaped));
        texts.extend((0..60).map(|_| {
            let count = rng.usize(1..=160);
            random(&mut rng, count, &alone, &escaped)
        }));
        for text in texts {
            let ours = pdu::hex(&alphabet.encode(&text).unwrap_or_else(|| panic!("{alphabet:?} {text:?}")));
            questions.push(question(json!({"do": "gsmcodecs_encode", "text": text}), *alphabet));
            questions.push(question(json!({"do": "gsmcodecs_decode", "septets": ours}), *alphabet));
            let of_two = text.chars().any(|c| is_twice(&c, &theirs.alone) || is_twice(&c, &theirs.escaped));
            cases.push((*alphabet, text, ours, of_two));
        }
    }
    assert!(cases.len() > 6_000, "{}", cases.len());
    for ((alphabet, sent, ours, of_two), answers) in cases.iter().zip(python(&questions).chunks(2)) {
        let [coded, read] = answers else { panic!() };
        assert!(text(coded) == ours || *of_two, "{alphabet:?} {sent:?}: {coded}, ours {ours}");
        assert_eq!(text(read), sent, "{alphabet:?}");
        assert_eq!(alphabet.decode(&hex::decode(text(coded)).unwrap()), *sent);
    }
}

#[test]
fn segments_say_their_languages_and_are_read_in_them() {
    let mut rng = fastrand::Rng::with_seed(SEED + 8);
    let (mut cases, mut questions) = (Vec::new(), Vec::new());
    let alphabets = alphabets();
    for (alphabet, theirs) in alphabets.iter().zip(tables(&alphabets)).skip(1) {
        let (alone, escaped) = characters(*alphabet, &theirs);
        for n in 0..24 {
            let count = rng.usize(1..=400);
            let text = random(&mut rng, count, &alone, &escaped);
            let reference = if n % 2 == 0 { Reference::Short(n) } else { Reference::Long(rng.u16(..)) };
            let segments = segments(&text, Coding::Gsm7(*alphabet), reference).unwrap();
            let delivered: Vec<Deliver> = segments.iter().map(pdus::delivered).collect();
            assert_eq!(pdus::received(delivered.clone()), text, "{alphabet:?}");
            for (number, (segment, ours)) in (1..).zip(segments.iter().zip(delivered)) {
                let total = segments.len() as u8;
                let part = (total > 1).then_some(Part { reference, total, number });
                assert_eq!((ours.header.part, ours.header.alphabet), (part, *alphabet));
                questions.push(json!({"do": "national_text", "octets": pdus::user_data(segment)}));
                let said = json!({"text": ours.body.text(), "part": pdus::part_as_said(part)});
                cases.push((*alphabet, said));
            }
        }
    }
    assert!(cases.len() > 1_500, "{}", cases.len());
    for ((alphabet, said), read) in cases.iter().zip(python(&questions)) {
        assert_eq!(is(&read), said, "{alphabet:?}");
    }
}

#[test]
fn the_tables_that_smpp_has_are_ours() {
    let of = |language, locking| Alphabet::new(locking, Some(language)).unwrap();
    for (language, alphabet) in [
        (Language::Turkish, of(Language::Turkish, Some(Language::Turkish))),
        (Language::Spanish, of(Language::Spanish, None)),
        (Language::Portuguese, of(Language::Portuguese, Some(Language::Portuguese))),
    ] {
        let codes = (0u8..128).filter(|code| *code != ESCAPE);
        let codes: Vec<Vec<u8>> = codes.flat_map(|code| [vec![code], vec![ESCAPE, code]]).collect();
        let read: Vec<String> = codes.iter().map(|septets| alphabet.decode(septets)).collect();
        let id = language.id();
        let questions = codes.iter().zip(&read).flat_map(|(septets, text)| {
            let decode = json!({"do": "decodeIn", "language": id, "octets": pdu::hex(septets)});
            [decode, json!({"do": "encodeIn", "language": id, "text": text})]
        });
        let answers = node(&questions.collect::<Vec<_>>());
        for ((septets, ours), answers) in codes.iter().zip(&read).zip(answers.chunks(2)) {
            // It leaves the escape before a code that is not in the table; then the code is read from the alphabet.
            let theirs = text(&answers[0]);
            assert_eq!(theirs.strip_prefix('\x1B').unwrap_or(theirs), ours, "{language} {septets:x?}");
            // It sends by an escape what Portuguese has without one too.
            let coded = hex::decode(text(&answers[1])).unwrap();
            let is_longer = language == Language::Portuguese && ["^", "\\", "|", "~"].contains(&&**ours);
            assert_eq!(
                coded.len() > 1 && alphabet.septets(ours) == Some(1),
                is_longer,
                "{language} {ours:?}"
            );
            assert!(
                is_longer || alphabet.encode(ours) == Some(coded.clone()),
                "{language} {ours:?}: {coded:x?}"
            );
            assert_eq!(alphabet.decode(&coded), *ours);
        }
    }
}
