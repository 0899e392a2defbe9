//! `smsd encode`: what a text becomes on its way to a phone, down to the octets.

use std::fmt::Write;
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::shape::{EncodingWord, TransliterateWord};
use super::{Stop, output};
use crate::config::EncodingChoice;
use crate::sms::choice::{Choice, Means, choose};
use crate::sms::coding::{Coding, Segment, segments};
use crate::sms::language::{Alphabet, Language};
use crate::sms::pdu::{Address, Class, Submit, hex};
use crate::sms::transliterate::Transliterate;
use crate::sms::udh::Reference;
use crate::sms::{self, Encoding};

/// The longest text that is read: 255 parts of four octets a character are far less.
const TEXT_MAX: u64 = 1 << 20;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Encode {
    /// To this number: then the PDUs are made, too
    #[arg(long, value_name = "PHONE")]
    to: Option<String>,
    /// Which encodings may be used
    #[arg(long, value_enum, default_value = "auto")]
    encoding: EncodingWord,
    /// What may be replaced to save segments
    #[arg(long, value_enum, default_value = "punctuation")]
    transliterate: TransliterateWord,
    /// National languages whose tables may be used, such as turkish,hindi; `all` for every one
    #[arg(long, value_name = "LANGUAGES", value_delimiter = ',', value_parser = languages)]
    languages: Vec<Languages>,
    /// The reference of the parts of a longer SMS; beyond 255 it takes 16 bits
    #[arg(long, value_name = "N", default_value_t = 1)]
    reference: u16,
    /// Shown at once and not kept by the phone (class 0)
    #[arg(long)]
    flash: bool,
    /// For how long the network shall try, in seconds
    #[arg(long, value_name = "SECONDS")]
    validity: Option<u64>,
    /// With a status report asked for
    #[arg(long)]
    report: bool,
    /// Replaces the last SMS of this type on the phone
    #[arg(long, value_name = "TYPE", value_parser = clap::value_parser!(u8).range(1..=7))]
    replaces: Option<u8>,
    /// By this service centre rather than the one that the SIM knows
    #[arg(long, value_name = "PHONE")]
    smsc: Option<String>,
    /// One JSON value
    #[arg(long)]
    json: bool,
}

/// One language, or all.
type Languages = Option<Language>;

fn languages(word: &str) -> Result<Languages, String> {
    let is = |language: &&Language| language.to_string().eq_ignore_ascii_case(word.trim());
    match Language::ALL.iter().find(is) {
        Some(language) => Ok(Some(*language)),
        None if word.eq_ignore_ascii_case("all") => Ok(None),
        None => {
            let all: Vec<String> = Language::ALL.iter().map(|l| l.to_string().to_lowercase()).collect();
            Err(format!("there is no table for it; there are: {}, or all", all.join(", ")))
        }
    }
}

/// What is said.
#[derive(Debug, Serialize)]
struct Encoded<'a> {
    encoding: Encoding,
    /// The table in place of the default alphabet.
    #[serde(skip_serializing_if = "Option::is_none")]
    locking: Option<String>,
    /// The table in place of the extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<String>,
    segments: usize,
    units: usize,
    text: &'a str,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    /// `TP-UDL`.
    length: u8,
    has_header: bool,
    /// `TP-UD`, in hexadecimal.
    user_data: String,
    /// The SMS-SUBMIT with the service centre's address before it, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pdu: Option<String>,
    /// What `AT+CMGS` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pdu_length: Option<usize>,
}

impl Encode {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut text = String::new();
        io::stdin().take(TEXT_MAX).read_to_string(&mut text).context("stdin can not be read as UTF-8")?;
        // What a shell's echo adds.
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let cleaned = sms::clean(text);
        let choice = self.choose(&cleaned)?;
        let segments = segments(&choice.text, choice.coding, self.reference())?;
        let (to, smsc) = (address(self.to.as_deref())?, address(self.smsc.as_deref())?);
        let parts = segments.iter().map(|segment| self.part(segment, to.as_ref(), smsc.as_ref())).collect();
        let alphabet = match choice.coding {
            Coding::Gsm7(alphabet) => alphabet,
            Coding::Ucs2 => Alphabet::DEFAULT,
        };
        let name = |language: Option<Language>| language.map(|l| l.to_string().to_lowercase());
        let encoded = Encoded {
            encoding: choice.measure.encoding,
            locking: name(alphabet.locking()),
            shift: name(alphabet.shift()),
            segments: segments.len(),
            units: choice.measure.units,
            text: &choice.text,
            parts,
        };
        match self.json {
            true => output::json(&encoded)?,
            false => output::print(&told(&encoded))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn reference(&self) -> Reference {
        match u8::try_from(self.reference) {
            Ok(short) => Reference::Short(short),
            Err(_) => Reference::Long(self.reference),
        }
    }

    fn choose<'t>(&self, text: &'t str) -> anyhow::Result<Choice<'t>> {
        let transliterate: Transliterate = self.transliterate.into();
        let all = self.languages.contains(&None);
        let some: Vec<Language> = self.languages.iter().copied().flatten().collect();
        let languages = if all { &Language::ALL[..] } else { &some };
        let means = Means { transliterate, languages, reference: self.reference() };
        let only = match EncodingChoice::from(self.encoding) {
            EncodingChoice::Auto => return Ok(choose(text, &means)),
            EncodingChoice::Gsm7 => Encoding::Gsm7,
            EncodingChoice::Ucs2 => Encoding::Ucs2,
        };
        let text = match only {
            Encoding::Gsm7 => {
                let near = transliterate.of(text).into_owned();
                let forced = sms::gsm7::force(&near).into_owned();
                forced.into()
            }
            Encoding::Ucs2 => transliterate.of(text),
        };
        let measure = sms::measure_as(&text, only).context("the text can not be measured")?;
        Ok(Choice { text, coding: only.into(), measure })
    }

    fn part(&self, segment: &Segment, to: Option<&Address>, smsc: Option<&Address>) -> Part {
        let pdu = to.map(|to| {
            let mut submit = Submit::to(to);
            if let Some(smsc) = smsc {
                submit = submit.by(smsc);
            }
            if let Some(seconds) = self.validity {
                submit = submit.valid_for(Duration::from_secs(seconds));
            }
            if self.flash {
                submit = submit.class(Class::Flash);
            }
            if let Some(kind) = self.replaces {
                submit = submit.replacing(kind);
            }
            if self.report {
                submit = submit.reported();
            }
            submit.write(segment)
        });
        Part {
            length: segment.length,
            has_header: segment.has_header,
            user_data: hex(&segment.octets),
            pdu: pdu.as_ref().map(|pdu| pdu.hex()),
            pdu_length: pdu.as_ref().map(|pdu| pdu.length()),
        }
    }
}

fn address(number: Option<&str>) -> Result<Option<Address>, Stop> {
    let Some(number) = number else { return Ok(None) };
    let phone = crate::alert::Phone::parse(number).map_err(|e| Stop::Usage(e.to_string()))?;
    Ok(Address::of_number(phone.as_str()))
}

fn told(encoded: &Encoded<'_>) -> String {
    let tables = [("locking", &encoded.locking), ("shift", &encoded.shift)];
    let tables: Vec<String> =
        tables.iter().filter_map(|(kind, name)| Some(format!("{} {kind} table", name.as_ref()?))).collect();
    let tables = if tables.is_empty() { String::new() } else { format!(" ({})", tables.join(", ")) };
    let mut said = format!(
        "encoding  {}{tables}\nsegments  {}\nunits     {}\ntext      {}\n",
        encoded.encoding,
        encoded.segments,
        encoded.units,
        encoded.text.replace('\n', "\n          ")
    );
    for (n, part) in (1..).zip(&encoded.parts) {
        // Writing to a String never fails.
        let _ = match (&part.pdu, part.pdu_length) {
            (Some(pdu), Some(length)) => writeln!(said, "{n:>8}  AT+CMGS={length} {pdu}"),
            _ => writeln!(said, "{n:>8}  UDL {} {}", part.length, part.user_data),
        };
    }
    said
}
