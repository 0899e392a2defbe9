//! The ways out: `[dispatcher]` names them in order of priority, each has a section of its own.
//!
//! A type that this version does not have stops the start, even if other ways out are there: an operator
//! must not learn in an outage that the last resort was never there. The keys of each type are a file of their own.

mod boost;
mod debug;
mod exec;
mod gammu;
mod http;
mod http_get;
pub(super) mod mail;
mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;
use sha2::{Digest, Sha256};

use super::fault::{Fault, Severity};
use super::ini::Entry;
use super::section::{Reader, Section};
use super::smsd_conf::{HOUR, MS};
use super::value::{self, Parsed, Wrong, clipped, wrong};
use super::{DispatcherConfig, DispatcherKind};
use crate::dispatch::gammu::codes::Code;
use crate::dispatch::http_get::success_rule;
use crate::dispatch::status::Status;

/// Reads `[dispatcher]` and the sections that it names. Disabled ways out are left out.
pub(super) fn read(reader: &mut Reader<'_>) -> Vec<DispatcherConfig> {
    let named = named(reader.section("dispatcher"));
    let read: Vec<WayOut> = named.iter().map(|(name, entry)| way_out(reader, name, entry)).collect();
    if !read.is_empty() && read.iter().all(|w| matches!(w, WayOut::Disabled)) {
        nothing_could_be_sent(reader, "every dispatcher is disabled", "one of them needs enabled: yes");
    }
    let enabled = |w| if let WayOut::Enabled(config) = w { Some(*config) } else { None };
    read.into_iter().filter_map(enabled).collect()
}

/// The types of this version and those of a later one.
pub(super) fn types<'t>() -> impl Iterator<Item = &'t str> {
    TYPES.iter().map(|(word, _)| *word).chain(LATER_TYPES)
}

/// The types of this version.
pub(super) fn built_types() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(word, _)| *word)
}

const TYPES: [(&str, Type); 8] = [
    ("HttpGetDispatcher", Type::HttpGet),
    ("HttpDispatcher", Type::Http),
    ("GammuDispatcher", Type::Gammu),
    ("BoostDispatcher", Type::Boost),
    ("UninettMailDispatcher", Type::Mail),
    ("ExecDispatcher", Type::Exec),
    ("PythonDispatcher", Type::Python),
    ("DebugDispatcher", Type::Debug),
];

#[derive(Clone, Copy, PartialEq)]
enum Type {
    HttpGet,
    Gammu,
    Boost,
    Mail,
    Http,
    Exec,
    Python,
    Debug,
}

impl Type {
    /// Is this a code of that type's? If not: what is expected, and an example.
    fn code(self, code: &str) -> Result<(), (&'static str, &'static str)> {
        match self {
            Type::HttpGet | Type::Http if value::integer(100..=599)(code).is_err() => {
                Err(("an HTTP status from 100 to 599", "class.500: DTMP"))
            }
            Type::Gammu if Code::parse(code).is_none() => Err((
                "a code of gammu's (its exit code less 100) or of the network's",
                "class.ERR_TIMEOUT: DTMP, or class.14, or class.CMS 38",
            )),
            Type::Boost if !boost::is_code(code) => Err((
                "an HTTP status from 100 to 599 or the code of a fault",
                "class.client.authentication: DPERM",
            )),
            Type::Mail if !mail::is_code(code) => {
                Err(("a code of SMTP, such as 550, or an enhanced one", "class.5.7.1: MSG"))
            }
            _ => Ok(()),
        }
    }
}

/// The types that the reference names and this version does not have.
const LATER_TYPES: [&str; 3] = ["SmppDispatcher", "ModemDispatcher", "ModemManagerDispatcher"];

enum WayOut {
    Enabled(Box<DispatcherConfig>),
    Disabled,
    /// The fault is told.
    Faulty,
}

/// The names that `dispatcher1`, `dispatcher2`, … give, by their numbers; gaps are allowed.
fn named<'a>(mut s: Section<'_, 'a>) -> Vec<(String, &'a Entry)> {
    let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse::<u32>().ok())?;
    let mut numbered = s.prefixed("dispatcher", number);
    numbered.sort_by_key(|(number, entry)| (*number, entry.span.start));
    // After an error of the dialect the names may be lost only to us.
    if numbered.is_empty() && s.reader.ini.errors.is_empty() {
        let hint = "[dispatcher] needs dispatcher1: and the name of one";
        nothing_could_be_sent(s.reader, "no dispatcher is configured", hint);
    }

    let mut named: Vec<(String, &Entry)> = Vec::new();
    let mut before = None;
    for (number, entry) in numbered {
        if before.replace(number) == Some(number) {
            s.fault_at(entry, format!("{}: there is a dispatcher{number} already", entry.key), None);
        }
        let Some(name) = s.parse(entry, value::line) else { continue };
        match named.iter().find(|(known, _)| *known == name) {
            Some((_, first)) => s.fault(entry, format!("{}: {} is the same", entry.key, first.key), None),
            None => named.push((name, entry)),
        }
    }
    s.close();
    named
}

/// The way out that `entry` names.
fn way_out(reader: &mut Reader<'_>, name: &str, entry: &Entry) -> WayOut {
    let mut s = reader.section(name);
    let enabled = s.get("enabled", value::boolean).unwrap_or(true);
    let Some(kind) = kind(&mut s, name, entry, enabled) else {
        return if enabled { WayOut::Faulty } else { WayOut::Disabled };
    };
    let mut settings = match kind {
        Type::HttpGet => http_get::read(&mut s, entry).map(DispatcherKind::HttpGet),
        Type::Gammu => Some(DispatcherKind::Gammu(gammu::read(&mut s))),
        Type::Boost => boost::read(&mut s, entry).map(DispatcherKind::Boost),
        Type::Mail => mail::read(&mut s, entry).map(DispatcherKind::Mail),
        Type::Http => http::read(&mut s, entry).map(|settings| DispatcherKind::Http(Box::new(settings))),
        Type::Exec => exec::read(&mut s, entry).map(DispatcherKind::Exec),
        Type::Python => python::read(&mut s, entry).map(DispatcherKind::Python),
        Type::Debug => Some(DispatcherKind::Debug(debug::read(&mut s))),
    };
    let mut config = DispatcherConfig::new(name, DispatcherKind::Debug(Default::default()));
    config.concurrency = s.get("concurrency", value::integer(1..=4096));
    config.rate = s.get("rate", value::rate);
    config.timeout = s.get("timeout", value::duration(100 * MS..=HOUR));
    config.grace = s.get("grace", value::duration(Duration::ZERO..=24 * HOUR));
    config.max_segments = s.get("max_segments", value::integer(1..=255));
    config.probe_interval = s.get("probe_interval", probe_interval).flatten();
    config.classes = classes(&mut s, kind);
    config.files =
        settings.iter().flat_map(read_when_built).map(|path| (path.clone(), digest(path))).collect();
    if let Some(DispatcherKind::Python(settings)) = &mut settings {
        python::hand_on(&mut s, settings);
    }
    s.close();
    match settings {
        _ if !enabled => WayOut::Disabled,
        Some(settings) => WayOut::Enabled(Box::new(DispatcherConfig { kind: settings, ..config })),
        None => WayOut::Faulty,
    }
}

/// The files that are read when a way out is built, and not with the configuration.
fn read_when_built(kind: &DispatcherKind) -> Option<&PathBuf> {
    if let DispatcherKind::Mail(settings) = kind { settings.tls_ca.as_ref() } else { None }
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    Some(Sha256::digest(std::fs::read(path).ok()?).into())
}

/// The type of a way out: its `type`, else its name. `None` if this version has none of that type, which is
/// a fault unless the way out is disabled.
fn kind(s: &mut Section<'_, '_>, name: &str, named_by: &Entry, enabled: bool) -> Option<Type> {
    let typed = s.entry("type");
    let word = typed.map_or(name, |t| t.value.text.trim());
    if let Some((_, kind)) = TYPES.iter().find(|(known, _)| *known == word) {
        return Some(*kind);
    }
    if !enabled {
        return None;
    }
    let have = value::or(&TYPES.map(|(word, _)| word));
    if LATER_TYPES.contains(&word) {
        let without = format!("it has {have}; to go without this one, remove the line {}", named_by.key);
        s.fault(typed.unwrap_or(named_by), format!("this version has no {word}"), without);
        return None;
    }
    let section_exists = s.reader.ini.sections.iter().any(|section| section.name == name);
    let suggest = |near: &str| format!("did you mean {near:?}?");
    match typed {
        Some(entry) => {
            let near = value::nearest(word, types()).map(suggest);
            s.fault(entry, format!("type: found \"{}\", expected {have}", clipped(word)), near);
        }
        None if section_exists => {
            let near = value::nearest(name, types()).map(suggest);
            s.fault_section(named_by, format!("[{}] has no type, expected {have}", clipped(name)), near);
        }
        None => {
            let sections = s.reader.ini.sections.iter().map(|section| section.name.as_str());
            let near = value::nearest(name, sections.chain(types())).map(suggest);
            let message = format!("there is no section [{0}], and no type {0}", clipped(name));
            s.fault(named_by, message, near);
        }
    }
    None
}

/// `class.CODE: CLASS`.
fn classes(s: &mut Section<'_, '_>, kind: Type) -> BTreeMap<String, Status> {
    let mut classes = BTreeMap::new();
    for (code, entry) in s.prefixed("class.", |code| (!code.is_empty()).then_some(code)) {
        if let Err((expected, example)) = kind.code(code) {
            let message = format!("{}: expected {expected}", clipped(&entry.key));
            s.fault_at(entry, message, format!("such as {example}"));
        } else if let Some(status) = s.parse(entry, class) {
            classes.insert(code.to_owned(), status);
        }
    }
    classes
}

fn nothing_could_be_sent(reader: &mut Reader<'_>, why: &str, hint: &str) {
    let path = &reader.source.path;
    reader.faults.push(Severity::Fault, |s| {
        Fault::new(s, format!("{why}: nothing could be sent")).file(path).hint(hint.to_owned())
    });
}

fn class(text: &str) -> Parsed<Status> {
    let words = ["OK", "RCPT", "MSG", "BUG", "RTMP", "DTMP", "THR", "DPERM", "ERR", "AMB"];
    Status::from_word(&text.to_ascii_uppercase()).map_or_else(|| wrong(value::or(&words)), Ok)
}

/// `0` is none.
fn probe_interval(text: &str) -> Parsed<Option<Duration>> {
    match value::duration(Duration::ZERO..=24 * HOUR)(text)? {
        Duration::ZERO => Ok(None),
        d if d < 1000 * MS => wrong("1 s or more, or 0 for none"),
        d => Ok(Some(d)),
    }
}

/// A rule on what a gateway says.
fn regex(text: &str) -> Parsed<Regex> {
    if text.is_empty() || text.contains('\n') {
        return wrong("a regular expression on one line");
    }
    success_rule(text).map_err(|e| Wrong {
        expected: "a regular expression".to_owned(),
        part: None,
        hint: e.to_string().lines().last().map(|l| l.trim_start_matches("error: ").to_owned()),
    })
}
