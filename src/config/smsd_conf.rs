//! The sections and keys of smsd.conf. Each key stands here once, with its type and bounds.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::age::age;
use super::dispatchers;
use super::fault::{Collector, Severity};
use super::http;
use super::ini;
use super::keys::Keys;
use super::section::{Reader, Section};
use super::source::Source;
use super::value::{self, Parsed, clipped, wrong};
use super::webhooks;
use super::{
    Config, EncodingChoice, Env, LimitAction, LogFormat, LogLevel, Main, NavConf, OnUnknown, Overflow,
    PostgresTarget, QueueConfig, QueueKind, Style, Transliterate,
};
use super::{smtp, spool};
use crate::alert::Phone;
use crate::intake::alertmanager::{self, ALERTMANAGER};
use crate::intake::grafana::{self, GRAFANA};
use crate::queue::mirror::PythonClass;

/// Reads smsd.conf; `db_conf`: NAV's stands beside it.
pub(super) fn read(source: &Source, env: &Env, db_conf: bool, faults: &mut Collector) -> Config {
    read_and_note(source, env, db_conf, faults, &mut Keys::default())
}

/// The same, and takes down which keys were asked for.
pub(super) fn read_and_note(
    source: &Source,
    env: &Env,
    db_conf: bool,
    faults: &mut Collector,
    keys: &mut Keys,
) -> Config {
    let ini = ini::parse(&source.text);
    let mut reader = Reader::new(source, &ini, env, std::mem::take(faults));
    let (mut main, said) = main(reader.section("main"));
    let queue = queue(reader.section("queue"), db_conf);
    if !queue.kind.is_navs() {
        said.complete(&mut main);
    }
    let dispatchers = dispatchers::read(&mut reader);
    let groups = groups(reader.section("groups"));
    let http = http::read(reader.section("http"), &groups);
    let spool = spool::read(reader.section("spool"));
    let smtp = smtp::read(reader.section("smtp"));
    let listens = !http.listen.is_empty();
    let mut sent =
        |sender, remember| webhooks::notifications(&mut reader, sender, remember, &groups, listens);
    let alertmanager = sent(&ALERTMANAGER, alertmanager::REMEMBER);
    let grafana = sent(&GRAFANA, grafana::REMEMBER);
    let webhooks = webhooks::hooks(&mut reader, &groups, listens);
    unused_sections(&mut reader);
    if let Some(span) = reader.inline_secret.clone() {
        source.check_mode(span, &mut reader.faults);
    }
    keys.note(&reader);
    let secret_keys = std::mem::take(&mut reader.secret_keys);
    *faults = reader.finish();
    let nav = NavConf::default();
    Config {
        main,
        queue,
        dispatchers,
        nav,
        groups,
        http,
        alertmanager,
        grafana,
        webhooks,
        spool,
        smtp,
        secret_keys,
        files: Vec::new(),
    }
}

/// The sections that are not dispatchers.
const SECTIONS: [&str; 9] =
    ["main", "queue", "dispatcher", "http", "groups", "alertmanager", "grafana", "spool", "smtp"];
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Which keys were said whose defaults depend on the queue.
struct Said {
    compose: bool,
    overflow: bool,
}

impl Said {
    /// The defaults where the queue is not NAV's.
    fn complete(&self, main: &mut Main) {
        let embedded = Main::embedded();
        if !self.compose {
            main.compose = embedded.compose;
        }
        if !self.overflow {
            main.overflow = embedded.overflow;
        }
    }
}

fn main(mut s: Section<'_, '_>) -> (Main, Said) {
    let said = Said { compose: s.entry("compose").is_some(), overflow: s.entry("overflow").is_some() };
    let mut main = Main { username: s.get("username", value::word), ..Main::default() };
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
    s.set("autocancel", &mut main.autocancel, age);

    let levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"].map(|level| (level, level));
    main.mail.level = s.get("mailwarnlevel", value::one_of(&levels)).map(str::to_owned);
    let as_it_stands = |text: &str| text.to_owned();
    main.mail.server =
        s.get("mailserver", |text| dispatchers::mail::server(text).map(|_| as_it_stands(text)));
    main.mail.to = s.get("mailaddr", |text| {
        value::list(dispatchers::mail::from)(text).map(|addresses| addresses.join(", "))
    });
    main.mail.from = s.get("fromaddr", dispatchers::mail::from);

    main.group_interval = s.get("group_interval", value::duration(Duration::ZERO..=YEAR));
    s.set("group_wait", &mut main.group_wait, value::duration(Duration::ZERO..=HOUR));
    s.set("urgent_severity", &mut main.urgent_severity, value::integer(0..=i32::MAX));
    s.set("max_segments", &mut main.max_segments, value::integer(1..=255));
    s.set("compose", &mut main.compose, value::one_of(&[("nav", Style::Nav), ("digest", Style::Digest)]));
    let overflows = [("ignore", Overflow::Ignore), ("severe", Overflow::Severe), ("next", Overflow::Next)];
    s.set("overflow", &mut main.overflow, value::one_of(&overflows));
    s.set("severe", &mut main.severe, value::integer(0..=i32::MAX));
    s.set("severe_sms", &mut main.severe_sms, value::integer(0..=u32::MAX));
    s.set("web_address", &mut main.web_address, web_address);
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
    s.set("max_per_hour", &mut main.max_per_hour, value::integer(0..=3600));
    s.set("memory", &mut main.memory, value::integer(64..=65_536));

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
        value::one_of(&[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)]),
    );
    s.set("log_texts", &mut main.log_texts, value::boolean);
    main.log_file = s.path("log_file");
    main.state_dir = s.path("state_dir");
    s.close();
    (main, said)
}

fn queue(mut s: Section<'_, '_>, db_conf: bool) -> QueueConfig {
    let mut queue = QueueConfig::default();
    let named = s.entry("type").filter(|entry| entry.value.text.trim() == "PostgresQueue");
    if let Some(entry) = named {
        let hint = "it has NAVDBQueue, SqliteQueue and PythonQueue".to_owned();
        s.fault(entry, "this version has no PostgresQueue", hint);
        s.secret("url", value::line);
    } else {
        let default = if db_conf { Type::NavDb } else { Type::Sqlite };
        match s.get("type", value::one_of(&QUEUE_TYPES)).unwrap_or(default) {
            Type::NavDb => {
                let url = s.secret("url", value::line);
                queue.kind = QueueKind::NavDb(PostgresTarget { url, ..PostgresTarget::default() });
            }
            Type::Sqlite => queue.kind = QueueKind::Sqlite { path: s.path("path") },
            Type::Python => {
                let class = python_class(&mut s);
                let path = s.path("path");
                let mut look_interval = Duration::from_secs(1);
                s.set("poll_interval", &mut look_interval, value::duration(10 * MS..=HOUR));
                if let Some(class) = class {
                    queue.kind = QueueKind::Python { class, path, look_interval };
                }
            }
        }
    }
    s.set("setup", &mut queue.setup, value::one_of(&[("auto", true), ("off", false)]));
    if !matches!(queue.kind, QueueKind::Python { .. }) {
        s.set("poll_interval", &mut queue.poll_interval, value::duration(10 * MS..=HOUR));
    }
    s.close();
    queue
}

/// Room for more would be taken from what is told.
fn web_address(text: &str) -> Parsed<String> {
    match value::word(text) {
        Ok(word) if word.len() <= WEB_ADDRESS_MAX => Ok(word),
        Ok(_) => wrong(format!("at most {WEB_ADDRESS_MAX} characters")),
        Err(error) => Err(error),
    }
}

const WEB_ADDRESS_MAX: usize = 60;

/// The types of queues.
pub(super) fn queue_types<'t>() -> impl Iterator<Item = &'t str> {
    QUEUE_TYPES.iter().map(|(word, _)| *word)
}

const QUEUE_TYPES: [(&str, Type); 3] =
    [("NAVDBQueue", Type::NavDb), ("SqliteQueue", Type::Sqlite), ("PythonQueue", Type::Python)];

#[derive(Clone, Copy)]
enum Type {
    NavDb,
    Sqlite,
    Python,
}

/// `module` and `class` must be there; what else there is says where they are found.
fn python_class(s: &mut Section<'_, '_>) -> Option<PythonClass> {
    let named_by = s.entry("type")?;
    let missing = ["module", "class"].into_iter().filter(|key| s.entry(key).is_none()).collect::<Vec<_>>();
    if !missing.is_empty() {
        let message = format!("PythonQueue has no {}", missing.join(" and no "));
        let hint = "such as module: my_site.myqueue and class: MyQueue".to_owned();
        s.fault_section(named_by, message, hint);
    }
    let (module, class) = (s.get("module", value::word), s.get("class", value::word));
    let python = s.get("python", value::path).unwrap_or_else(|| "python3".into());
    let path = s.path("python_path");
    Some(PythonClass { module: module?, class: class?, python, path })
}

fn groups(mut s: Section<'_, '_>) -> BTreeMap<String, Vec<Phone>> {
    let mut groups = BTreeMap::new();
    for entry in s.all() {
        match s.parse(entry, value::list(value::phone)) {
            Some(numbers) if numbers.is_empty() => {
                s.fault_at(entry, format!("the group {:?} is empty", clipped(&entry.key)), None);
            }
            Some(mut numbers) => {
                let mut seen = HashSet::new();
                numbers.retain(|n| seen.insert(n.clone()));
                groups.insert(entry.key.clone(), numbers);
            }
            None => {}
        }
    }
    s.close();
    groups
}

/// Sections that nobody opened: dispatchers that wait to be named are left alone, all others are unknown.
fn unused_sections(reader: &mut Reader<'_>) {
    let (ini, source) = (reader.ini, reader.source);
    for section in &ini.sections {
        let name = section.name.as_str();
        if reader.is_open(name) || dispatchers::types().any(|t| t == name) {
            continue;
        }
        if section.entries.iter().any(|e| e.key == "type") {
            reader.faults.push(Severity::Warning, |s| {
                let message =
                    format!("[{}] is not used: no dispatcherN in [dispatcher] names it", clipped(name));
                source.fault(s, section.span.clone(), section.span.end, message)
            });
            continue;
        }
        reader.faults.push(Severity::Flaw, |s| {
            let near = value::nearest(name, SECTIONS.into_iter().chain(dispatchers::types()));
            source
                .fault(
                    s,
                    section.span.clone(),
                    section.span.end,
                    format!("there is no section [{}]", clipped(name)),
                )
                .hint(near.map(|n| format!("did you mean [{n}]?")))
        });
    }
}
