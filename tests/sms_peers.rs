//! `sms` against what others wrote: PyPI's smspdudecoder, python-messaging and gsmcodecs, npm's smpp, and the crate gsm7.
//!
//! `scripts/install-test-deps` puts them into `target/peers`, in the versions that `tests/peers` names. Each is asked all
//! at once, by a small program that answers a question on each line. Where they differ from 3GPP TS 23.038 and 23.040, the
//! standard rules. These are all their faults; the tests hold each of them to its fault, so that nothing else may differ:
//!
//! | who | fault | where it is held |
//! | --- | --- | --- |
//! | smspdudecoder, gsm7 | read `@` from 7 spare bits | `septets::one_at_sign_too_many` |
//! | smspdudecoder, python-messaging | the same in the name of a sender | `pdus::sender_as_read` |
//! | smspdudecoder | counts characters, not septets, when it cuts the text from its user data: an escape in the text lets spare bits in, one that the octets of the header look like takes the first letter away | `pdus::cut_by_characters` |
//! | gsm7 | sets a single spare bit, the first of the CR that belongs into seven | `septets::gsm7_packs_and_reads_as_we_do` |
//! | python-messaging | cuts parts between an escape and its code | `pdus::submits_are_written_alike` |
//! | python-messaging | writes a character past U+FFFF in five digits, and counts it as one unit, which overfills parts | `pdus::emoji_are_too_much_for_python_messaging` |
//! | python-messaging | can not read an empty text in GSM 03.38 | `pdus::delivers_are_read_alike` |
//! | gsmcodecs | an apostrophe for the comma in ten locking tables, a letter twice in Kannada (as the standard prints it), no `€` in Telugu | `national::FAULTS` |
//! | gsmcodecs | has no character for a code that stands for none | `national::every_code_is_read_as_gsmcodecs_reads_it_but_for_its_faults` |
//! | smpp | takes the escape for a character, and leaves it before a code that no table has | `septets::the_alphabet_is_the_same_everywhere`, `national::the_tables_that_smpp_has_are_ours` |
//!
//! What is no fault: where a character stands in an alphabet twice, gsmcodecs and smpp may choose the other code.
//! smspdudecoder gives times in UTC, which loses the zone but tells the instant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use smsd::sms::gsm7;

#[path = "peers/national.rs"]
mod national;
#[path = "peers/pdus.rs"]
mod pdus;
#[path = "peers/septets.rs"]
mod septets;

/// Where the random texts start.
const SEED: u64 = 20_261_123;

/// Asks the Python program all of this; an answer is `{"is": …}` or `{"error": …}`.
fn python(questions: &[Value]) -> Vec<Value> {
    ask(Command::new("python3").arg("tests/peers/sms.py").env("PYTHONPATH", "target/peers/python"), questions)
}

/// Asks the program for Node.js.
fn node(questions: &[Value]) -> Vec<Value> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node/node_modules");
    ask(Command::new("node").arg("tests/peers/smpp.js").env("NODE_PATH", modules), questions)
}

fn ask(program: &mut Command, questions: &[Value]) -> Vec<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = std::fs::read_to_string(root.join("target/peers/installed")).unwrap_or_default();
    let wanted = concat!(include_str!("peers/requirements.txt"), include_str!("peers/packages.txt"));
    assert!(
        installed.starts_with(wanted),
        "what tests/peers names is not in target/peers: run scripts/install-test-deps"
    );

    let started = program.current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut peer = started.unwrap_or_else(|e| panic!("{program:?}: {e}; run scripts/install-test-deps"));
    let mut stdin = peer.stdin.take().unwrap();
    let lines: String = questions.iter().map(|question| format!("{question}\n")).collect();
    // It answers while it is asked; neither pipe holds all of it.
    let asking = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let answers: Vec<Value> = BufReader::new(peer.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    let asked = asking.join().unwrap();
    let status = peer.wait().unwrap();
    assert!(
        status.success() && asked.is_ok() && answers.len() == questions.len(),
        "{program:?} ended ({status}) after {} of {} answers; if it lacks a module: run scripts/install-test-deps",
        answers.len(),
        questions.len()
    );
    answers
}

/// What an answer says.
fn is(answer: &Value) -> &Value {
    answer.get("is").unwrap_or_else(|| panic!("{answer}"))
}

/// The same, of a text.
fn text(answer: &Value) -> &str {
    is(answer).as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// All characters of GSM 03.38, by code, those of the extension last.
fn alphabet() -> Vec<char> {
    let basic = (0u8..).zip(gsm7::BASIC).filter(|(code, _)| *code != gsm7::ESCAPE);
    basic.map(|(_, c)| c).chain(gsm7::EXTENSION.map(|(_, c)| c)).collect()
}

/// A text of so many of these characters; one of a second sort now and then.
fn random(rng: &mut fastrand::Rng, count: usize, usual: &[char], rare: &[char]) -> String {
    let mut one = || {
        let of = if rng.u8(..) < 32 && !rare.is_empty() { rare } else { usual };
        rng.choice(of).copied().unwrap()
    };
    (0..count).map(|_| one()).collect()
}

/// Texts in GSM 03.38: each character alone, all of them, and random ones of 1 to 500.
fn gsm7_texts(rng: &mut fastrand::Rng, count: usize) -> Vec<String> {
    let all = alphabet();
    let (basic, extension) = all.split_at(127);
    let mut texts: Vec<String> = all.iter().map(char::to_string).collect();
    texts.push(all.iter().collect());
    texts.extend((0..count).map(|n| match n % 3 {
        // Around the limits of one segment and two.
        0 => random(rng, 140 + n % 180, basic, extension),
        1 => {
            let length = rng.usize(1..=40);
            random(rng, length, basic, extension)
        }
        _ => {
            let length = rng.usize(1..=500);
            random(rng, length, basic, extension)
        }
    }));
    texts
}

/// Texts in UCS-2 without characters past U+FFFF. Each character is a grapheme cluster, so that parts are full.
fn ucs2_texts(rng: &mut fastrand::Rng, count: usize) -> Vec<String> {
    let usual: Vec<char> =
        ['а'..='я', 'א'..='ת', '一'..='丿', '가'..='갟', ' '..='~'].into_iter().flatten().collect();
    let rare: Vec<char> = ['\u{FFFD}', '\u{E000}', '\u{FFEE}', '’', '…', '€', '\u{80}', '\u{A0}'].into();
    let mut texts = vec!["漢".to_owned()];
    texts.extend((0..count).map(|n| {
        let length = if n % 2 == 0 { 60 + n % 80 } else { rng.usize(1..=300) };
        // One that GSM 03.38 lacks at least.
        format!("ж{}", random(rng, length - 1, &usual, &rare))
    }));
    texts
}
