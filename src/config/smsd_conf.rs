//! The sections and keys of smsd.conf. Each key stands here once, with its type and bounds.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use url::Url;

use super::fault::{Collector, Fault, Severity};
use super::ini::{self, Entry};
use super::section::{Reader, Section};
use super::source::Source;
use super::value::{self, Parsed, Wrong, wrong};
use super::{
    Config, DispatcherConfig, DispatcherKind, EncodingChoice, Env, HttpConfig, LimitAction, LogFormat,
    LogLevel, Main, NavConf, OnUnknown, Overflow, PostgresTarget, QueueConfig, QueueKind, Transliterate,
};
use crate::alert::Phone;
use crate::dispatch::status::Status;
use crate::dispatch::{debug, http_get};

/// Reads smsd.conf; `db_conf`: NAV's stands beside it.
pub(super) fn read(source: &Source, env: &Env, db_conf: bool, faults: &mut Collector) -> Config {
    let ini = ini::parse(&source.text);
    let mut reader = Reader::new(source, &ini, env, std::mem::take(faults));
    let main = main(reader.section("main"));
    let queue = queue(reader.section("queue"), db_conf);
    let dispatchers = dispatchers(&mut reader);
    let groups = groups(reader.section("groups"));
    let http = http(reader.section("http"));
    let alertmanager = verbatim(reader.section("alertmanager"));
    let grafana = verbatim(reader.section("grafana"));
    unused_sections(&mut reader);
    if let Some(span) = reader.inline_secret.clone() {
        source.check_mode(span, &mut reader.faults);
    }
    *faults = reader.finish();
    let nav = NavConf::default();
    Config { main, queue, dispatchers, nav, groups, http, alertmanager, grafana, files: Vec::new() }
}

/// The sections that are not dispatchers.
const SECTIONS: [&str; 7] = ["main", "queue", "dispatcher", "http", "groups", "alertmanager", "grafana"];
/// The types of dispatchers of this version.
const TYPES: [&str; 2] = ["HttpGetDispatcher", "DebugDispatcher"];
/// The types that the reference names and this version does not have.
const LATER_TYPES: [&str; 9] = [
    "GammuDispatcher",
    "BoostDispatcher",
    "UninettMailDispatcher",
    "HttpDispatcher",
    "SmppDispatcher",
    "ModemDispatcher",
    "ModemManagerDispatcher",
    "ExecDispatcher",
    "PythonDispatcher",
];

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn main(mut s: Section<'_, '_>) -> Main {
    let mut main = Main::default();
    main.username = s.get("username", value::word);
    s.set("delay", &mut main.delay, value::duration(10 * MS..=YEAR));
    s.set("delayfactor", &mut main.delayfactor, value::decimal(1.0..=1000.0));
    s.set("maxdelay", &mut main.maxdelay, value::duration(10 * MS..=YEAR));
    s.set("retrylimit", &mut main.retrylimit, value::integer(0..=u32::MAX));
    s.set(
        "retrylimitaction",
        &mut main.retrylimitaction,
        value::one_of(&[("ignore", LimitAction::Ignore), ("shutdown", LimitAction::Shutdown)]),
    );
    s.set("exit_on_permanent_error", &mut main.exit_on_permanent_error, value::boolean);
    s.set("autocancel", &mut main.autocancel, value::age);

    let levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"].map(|level| (level, level));
    main.mail.level = s.get("mailwarnlevel", value::one_of(&levels)).map(str::to_owned);
    main.mail.server = s.get("mailserver", value::word);
    main.mail.to = s.get("mailaddr", value::line);
    main.mail.from = s.get("fromaddr", value::line);

    main.group_interval = s.get("group_interval", value::duration(Duration::ZERO..=YEAR));
    s.set("group_wait", &mut main.group_wait, value::duration(Duration::ZERO..=HOUR));
    s.set("urgent_severity", &mut main.urgent_severity, value::integer(0..=i32::MAX));
    s.set("max_segments", &mut main.max_segments, value::integer(1..=255));
    s.set(
        "overflow",
        &mut main.overflow,
        value::one_of(&[("ignore", Overflow::Ignore), ("next", Overflow::Next)]),
    );
    s.set(
        "encoding",
        &mut main.encoding,
        value::one_of(&[
            ("auto", EncodingChoice::Auto),
            ("gsm7", EncodingChoice::Gsm7),
            ("ucs2", EncodingChoice::Ucs2),
        ]),
    );
    s.set(
        "transliterate",
        &mut main.transliterate,
        value::one_of(&[
            ("punctuation", Transliterate::Punctuation),
            ("full", Transliterate::Full),
            ("none", Transliterate::None),
        ]),
    );
    s.set("prefix", &mut main.prefix, value::quoted);
    s.set(
        "on_unknown",
        &mut main.on_unknown,
        value::one_of(&[
            ("resend", OnUnknown::Resend),
            ("failover", OnUnknown::Failover),
            ("hold", OnUnknown::Hold),
        ]),
    );
    s.set("concurrency", &mut main.concurrency, value::integer(1..=4096));
    s.set("submit_timeout", &mut main.submit_timeout, value::duration(100 * MS..=HOUR));
    s.set("shutdown_timeout", &mut main.shutdown_timeout, value::duration(Duration::ZERO..=HOUR));
    s.set("allow", &mut main.allow, value::list(value::prefix));
    s.set("deny", &mut main.deny, value::list(value::prefix));

    s.set(
        "log_level",
        &mut main.log_level,
        value::one_of(&[
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ]),
    );
    s.set(
        "log_format",
        &mut main.log_format,
        value::one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)]),
    );
    main.log_file = s.path("log_file");
    main.state_dir = s.path("state_dir");
    s.close();
    main
}

fn queue(mut s: Section<'_, '_>, db_conf: bool) -> QueueConfig {
    #[derive(Clone, Copy, PartialEq)]
    enum Type {
        NavDb,
        Sqlite,
        Later,
    }
    let types = [("NAVDBQueue", Type::NavDb), ("SqliteQueue", Type::Sqlite), ("PostgresQueue", Type::Later)];
    let kind =
        s.get("type", value::one_of(&types)).unwrap_or(if db_conf { Type::NavDb } else { Type::Sqlite });
    if kind == Type::Later
        && let Some(entry) = s.entry("type")
    {
        let hint = "it has NAVDBQueue and SqliteQueue".to_owned();
        s.fault(entry, "this version has no PostgresQueue", hint);
    }
    let mut queue = QueueConfig {
        kind: match kind {
            Type::Sqlite => QueueKind::Sqlite { path: s.path("path") },
            Type::NavDb | Type::Later => QueueKind::NavDb(PostgresTarget {
                url: s.secret("url", value::line),
                ..PostgresTarget::default()
            }),
        },
        ..QueueConfig::default()
    };
    s.set("setup", &mut queue.setup, value::one_of(&[("auto", true), ("off", false)]));
    s.set("poll_interval", &mut queue.poll_interval, value::duration(10 * MS..=HOUR));
    s.close();
    queue
}

/// The ways out that `[dispatcher]` names, by their numbers.
fn dispatchers(reader: &mut Reader<'_>) -> Vec<DispatcherConfig> {
    let mut s = reader.section("dispatcher");
    let number = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse::<u32>().ok())?;
    let mut numbered = s.prefixed("dispatcher", number);
    numbered.sort_by_key(|(number, entry)| (*number, entry.span.start));

    let mut named: Vec<(String, &Entry)> = Vec::new();
    for (number, &(n, entry)) in numbered.iter().enumerate() {
        if number > 0 && numbered.get(number - 1).is_some_and(|(before, _)| *before == n) {
            s.fault_at(entry, format!("{}: there is a dispatcher{n} already", entry.key), None);
        }
        if let Some(name) = s.parse(entry, value::line) {
            match named.iter().find(|(known, _)| *known == name) {
                Some((_, first)) => {
                    s.fault(entry, format!("{}: {} names the same dispatcher", entry.key, first.key), None)
                }
                None => named.push((name, entry)),
            }
        }
    }
    s.close();

    if numbered.is_empty() && reader.ini.errors.is_empty() {
        no_way_out(
            reader,
            "no dispatcher is configured",
            "[dispatcher] needs dispatcher1: and the name of one",
        );
    }
    let mut all_disabled = !named.is_empty();
    let mut ways_out = Vec::new();
    for (name, entry) in named {
        match dispatcher(reader, &name, entry) {
            Ok(way_out) => {
                all_disabled = false;
                ways_out.extend(way_out);
            }
            Err(Disabled) => {}
        }
    }
    if all_disabled {
        no_way_out(reader, "every dispatcher is disabled", "enabled: yes in the section of one");
    }
    ways_out
}

/// `enabled: no`.
struct Disabled;

/// One way out; `None` if it can not be used, which is then a fault. `entry` is the line that names it.
fn dispatcher(
    reader: &mut Reader<'_>,
    name: &str,
    entry: &Entry,
) -> Result<Option<DispatcherConfig>, Disabled> {
    let exists = reader.ini.sections.iter().any(|s| s.name == name);
    let mut s = reader.section(name);
    let enabled = s.get("enabled", value::boolean).unwrap_or(true);
    let type_entry = s.entry("type").unwrap_or(entry);
    let kind = type_entry.value.text.trim();
    let all_types = || TYPES.into_iter().chain(LATER_TYPES);

    if LATER_TYPES.contains(&kind) {
        if !enabled {
            return Err(Disabled);
        }
        let hint = format!("it has {}; without this one, remove the line {}", value::or(&TYPES), entry.key);
        s.fault(type_entry, format!("this version has no {kind}"), hint);
        return Ok(None);
    }
    if !TYPES.contains(&kind) {
        let sections = s.reader.ini.sections.iter().map(|s| s.name.as_str());
        let near = if std::ptr::eq(type_entry, entry) {
            value::nearest(kind, all_types().chain(sections.filter(|n| exists || *n != name)))
        } else {
            value::nearest(kind, all_types())
        };
        let near = near.filter(|n| *n != kind).map(|n| format!("did you mean {n:?}?"));
        let shown = show(kind);
        let message = match (exists, std::ptr::eq(type_entry, entry)) {
            (_, false) => format!("type: found \"{shown}\", expected {}", value::or(&TYPES)),
            (true, true) => format!("[{shown}] has no type, expected {}", value::or(&TYPES)),
            (false, true) => format!("there is no section [{shown}], and no dispatcher of that type"),
        };
        let hint = near.or_else(|| exists.then(|| format!("write type: {} into [{shown}]", TYPES[0])));
        s.fault(type_entry, message, hint);
        return Ok(None);
    }

    let kind = if kind == "DebugDispatcher" {
        Some(DispatcherKind::Debug(debug_settings(&mut s)))
    } else {
        http_get_settings(&mut s).map(DispatcherKind::HttpGet)
    };
    let http = kind_is_http(type_entry);
    let concurrency = s.get("concurrency", value::integer(1..=4096));
    let rate = s.get("rate", value::rate);
    let timeout = s.get("timeout", value::duration(100 * MS..=HOUR));
    let grace = s.get("grace", value::duration(Duration::ZERO..=24 * HOUR));
    let max_segments = s.get("max_segments", value::integer(1..=255));
    let probe_interval = s.get("probe_interval", probe_interval).flatten();
    let classes = classes(&mut s, http);
    s.close();
    let made = kind.map(|kind| DispatcherConfig {
        name: name.to_owned(),
        kind,
        concurrency,
        rate,
        timeout,
        grace,
        max_segments,
        probe_interval,
        classes,
    });
    if enabled { Ok(made) } else { Err(Disabled) }
}

fn debug_settings(s: &mut Section<'_, '_>) -> debug::Settings {
    let mut settings = debug::Settings::default();
    s.set(
        "result",
        &mut settings.result,
        value::one_of(&[
            ("success", debug::Outcome::Success),
            ("fail", debug::Outcome::Fail),
            ("permanent", debug::Outcome::Permanent),
            ("error", debug::Outcome::Error),
        ]),
    );
    s.set("latency", &mut settings.latency, value::duration(Duration::ZERO..=HOUR));
    s.set("fail_rate", &mut settings.fail_rate, value::decimal(0.0..=1.0));
    s.set("reject", &mut settings.reject, value::list(value::phone));
    settings.log = s.path("log");
    settings
}

fn http_get_settings(s: &mut Section<'_, '_>) -> Option<http_get::Settings> {
    let success = s.get("success", regex);
    let url = s.secret("url", gateway_url);
    if url.is_none() && ["url", "url_file", "url_env"].iter().all(|key| s.entry(key).is_none()) {
        let message = format!("[{}] has no url", s.name);
        let hint = "url: https://gateway.example/send?to=%(phone)s&text=%(sms)s".to_owned();
        s.fault_section(message, hint);
    }
    let url = url?;
    if url.reveal().contains("%%")
        && let Some(entry) = s.entry("url")
    {
        let hint =
            "NAV wants %% for a percent sign in this URL; here % is enough, and %% stays %%".to_owned();
        s.warning_at(entry, "url: found %%", hint);
    }
    Some(http_get::Settings { url, success })
}

/// `class.CODE: CLASS`.
fn classes(s: &mut Section<'_, '_>, http: bool) -> BTreeMap<String, Status> {
    let mut classes = BTreeMap::new();
    for (code, entry) in s.prefixed("class.", |code| (!code.is_empty()).then_some(code)) {
        if http && !code.parse::<u16>().is_ok_and(|c| (100..=599).contains(&c)) {
            let message = format!("{}: expected an HTTP status from 100 to 599", show(&entry.key));
            s.fault_at(entry, message, "such as class.500: DTMP".to_owned());
        } else if let Some(status) = s.parse(entry, class) {
            classes.insert(code.to_owned(), status);
        }
    }
    classes
}

fn groups(mut s: Section<'_, '_>) -> BTreeMap<String, Vec<Phone>> {
    let mut groups = BTreeMap::new();
    for entry in s.all() {
        match s.parse(entry, value::list(value::phone)) {
            Some(numbers) if numbers.is_empty() => {
                s.fault_at(entry, format!("the group {:?} is empty", show(&entry.key)), None);
            }
            Some(mut numbers) => {
                let mut seen = std::collections::HashSet::new();
                numbers.retain(|n| seen.insert(n.clone()));
                groups.insert(entry.key.clone(), numbers);
            }
            None => {}
        }
    }
    s.close();
    groups
}

fn http(mut s: Section<'_, '_>) -> HttpConfig {
    let http = HttpConfig {
        listen: s.get("listen", value::word),
        token: s.secret("token", value::word),
        tls_cert: s.path("tls_cert"),
        tls_key: s.path("tls_key"),
    };
    if let Some(entry) = s.entry("listen") {
        s.warning_at(entry, "this version has no HTTP interface: [http] is not used", None);
    }
    s.close();
    http
}

/// A section that a later version reads.
fn verbatim(mut s: Section<'_, '_>) -> BTreeMap<String, String> {
    let entries = s.all();
    if let Some(first) = entries.first() {
        let message = format!("this version does not receive alerts over HTTP: [{}] is not used", s.name);
        s.warning_at(first, message, None);
    }
    s.close();
    entries.into_iter().map(|e| (e.key.clone(), e.value.text.clone())).collect()
}

/// Sections that nobody opened: dispatchers that wait to be named are left alone, all others are unknown.
fn unused_sections(reader: &mut Reader<'_>) {
    let types = || TYPES.into_iter().chain(LATER_TYPES);
    let (ini, source) = (reader.ini, reader.source);
    for section in &ini.sections {
        let name = section.name.as_str();
        if reader.is_open(name) || types().any(|t| t == name) {
            continue;
        }
        if section.entries.iter().any(|e| e.key == "type") {
            reader.faults.push(Severity::Warning, |s| {
                let message =
                    format!("[{}] is not used: no dispatcherN in [dispatcher] names it", show(name));
                source.fault(s, section.span.clone(), section.span.end, message)
            });
            continue;
        }
        reader.faults.push(Severity::Flaw, |s| {
            let near = value::nearest(name, SECTIONS.into_iter().chain(types()));
            source
                .fault(
                    s,
                    section.span.clone(),
                    section.span.end,
                    format!("there is no section [{}]", show(name)),
                )
                .hint(near.map(|n| format!("did you mean [{n}]?")))
        });
    }
}

fn no_way_out(reader: &mut Reader<'_>, message: &str, hint: &str) {
    let path = &reader.source.path;
    reader.faults.push(Severity::Fault, |s| {
        Fault::new(s, format!("{message}: nothing could be sent")).file(path).hint(hint.to_owned())
    });
}

fn kind_is_http(type_entry: &Entry) -> bool {
    type_entry.value.text.trim() == "HttpGetDispatcher"
}

/// A URL for GET. It is secret: what is expected is said without a piece of it.
fn gateway_url(text: &str) -> Parsed<String> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return wrong("a URL without spaces");
    }
    if let Some(lost) = ["%(phone)s", "%(sms)s"].into_iter().find(|p| !text.contains(p)) {
        return wrong(format!("{lost} in the URL"));
    }
    let example = text.replace("%(phone)s", "4799999999").replace("%(sms)s", "test");
    let is_http = |u: &Url| matches!(u.scheme(), "http" | "https") && u.has_host();
    if !Url::parse(&example).is_ok_and(|u| is_http(&u)) {
        return wrong("an http or https URL");
    }
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, rest) = rest.split_at(host_end);
    let fragment = rest.split_once('#').map_or("", |(_, fragment)| fragment);
    if host.contains("%(") || fragment.contains("%(") {
        return wrong("%(phone)s and %(sms)s in the path or the query of the URL");
    }
    Ok(text.to_owned())
}

fn regex(text: &str) -> Parsed<Regex> {
    if text.is_empty() {
        return wrong("a regular expression");
    }
    RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|e| Wrong {
        expected: "a regular expression".to_owned(),
        part: None,
        hint: e.to_string().lines().last().map(|l| l.trim_start_matches("error: ").to_owned()),
    })
}

fn class(text: &str) -> Parsed<Status> {
    let words = ["OK", "RCPT", "MSG", "BUG", "RTMP", "DTMP", "THR", "DPERM", "ERR", "AMB"];
    Status::from_word(&text.to_ascii_uppercase()).map_or_else(|| wrong(value::or(&words)), Ok)
}

/// `0` is none.
fn probe_interval(text: &str) -> Parsed<Option<Duration>> {
    match value::duration(Duration::ZERO..=24 * HOUR)(text)? {
        Duration::ZERO => Ok(None),
        d if d < SECOND => wrong("1 s or more, or 0 for none"),
        d => Ok(Some(d)),
    }
}

/// A name from the file for a message.
fn show(name: &str) -> String {
    let mut name = name.to_owned();
    crate::telemetry::clip(&mut name, 60);
    name
}
