//! NAV's `db.conf` and `nav.conf`: one `key = value` a line.
//!
//! Read as NAV reads them: a `#` ends the line wherever it stands, in a password too; the last of two equal
//! keys counts; keys that do not concern us are left alone. A line without `=` makes NAV complain and go on,
//! and so do we.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use super::fault::{Collector, Fault, Severity};
use super::ini::is_space;
use super::source::Source;
use super::value::{self, Parsed};
use super::{NavConf, PostgresTarget, Secret};

/// Where NAV's database is.
pub(super) fn db_conf(source: &Source, faults: &mut Collector) -> PostgresTarget {
    let flat = Flat::read(source, faults);
    let database = flat.first(&["db_navprofile", "db_nav"]);
    let user = flat.first(&["script_smsd", "script_default"]);
    for (found, keys) in [(database, "db_nav"), (user, "script_default")] {
        if found.is_none() {
            flat.missing(faults, keys);
        }
    }
    PostgresTarget {
        url: None,
        host: flat.text("dbhost"),
        port: flat.parse("dbport", value::integer(1..=u16::MAX), faults),
        password: user.and_then(|u| flat.text(&format!("userpw_{u}"))).map(Secret::new),
        database: database.map(str::to_owned),
        user: user.map(str::to_owned),
        time_zone: None,
    }
}

/// The zone that NAV writes its times in where nav.conf has no `TIME_ZONE`.
pub(crate) const DEFAULT_TIME_ZONE: &str = "Europe/Oslo";

/// What all of NAV's programs share.
pub(super) fn nav_conf(source: &Source, faults: &mut Collector) -> NavConf {
    let flat = Flat::read(source, faults);
    let time_zone = flat.parse("TIME_ZONE", time_zone, faults);
    if let Some(zone) = &time_zone {
        flat.check_zone(zone, faults);
    }
    NavConf {
        time_zone,
        nav_user: flat.text("NAV_USER"),
        pid_dir: flat.text("PID_DIR").map(PathBuf::from),
        log_dir: flat.text("LOG_DIR").map(PathBuf::from),
        admin_mail: flat.text("ADMIN_MAIL"),
        default_from_email: flat.text("DEFAULT_FROM_EMAIL"),
        email_host: flat.text("EMAIL_HOST"),
        email_port: flat.parse("EMAIL_PORT", value::integer(1..=u16::MAX), faults),
        email_host_user: flat.text("EMAIL_HOST_USER"),
        email_host_password: flat.text("EMAIL_HOST_PASSWORD").map(Secret::new),
        email_use_tls: flat.parse("EMAIL_USE_TLS", value::boolean, faults).unwrap_or(false),
    }
}

/// A zone's name, as far as its letters tell.
fn time_zone(text: &str) -> Parsed<String> {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
    match text.len() <= 64 && text.chars().all(of_a_name) {
        true => Ok(text.to_owned()),
        false => value::wrong("the name of a time zone, such as Europe/Oslo"),
    }
}

/// The first line that holds a secret, to judge who may read the file.
pub(super) fn secret_line(source: &Source) -> Option<Range<usize>> {
    let flat = Flat::read(source, &mut Collector::default());
    let secrets = flat.entries.iter().filter(|(key, e)| is_secret(key) && !e.value.is_empty());
    secrets.map(|(_, e)| e.key.clone()).min_by_key(|k| k.start)
}

struct Flat<'a> {
    source: &'a Source,
    entries: HashMap<&'a str, FlatEntry<'a>>,
}

struct FlatEntry<'a> {
    key: Range<usize>,
    value: &'a str,
    span: Range<usize>,
}

impl<'a> Flat<'a> {
    fn read(source: &'a Source, faults: &mut Collector) -> Flat<'a> {
        let mut entries = HashMap::new();
        let mut at = 0;
        for raw in source.text.split_inclusive('\n') {
            let line = raw.trim_start_matches(|c| is_space(c) || c == '\u{feff}');
            let start = at + raw.len() - line.len();
            at += raw.len();
            let line = line.trim_end_matches(is_space);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, rest)) = line.split_once('=') else {
                faults.push(Severity::Flaw, |s| {
                    let span = start..start + line.len();
                    source.fault(s, span, start, "found no \"=\", expected key = value; NAV skips this line")
                });
                continue;
            };
            let key = key.trim_end_matches(is_space);
            let value = rest.split('#').next().unwrap_or_default();
            let lead = value.len() - value.trim_start_matches(is_space).len();
            let value = value.trim_matches(is_space);
            let from = start + line.len() - rest.len() + lead;
            let key_span = start..start + key.len();
            entries.insert(key, FlatEntry { key: key_span, value, span: from..from + value.len() });
        }
        Flat { source, entries }
    }

    /// The value of a key; an empty one is none.
    fn text(&self, key: &str) -> Option<String> {
        self.first(&[key]).map(str::to_owned)
    }

    fn first(&self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().filter_map(|k| self.entries.get(k)).map(|e| e.value).find(|v| !v.is_empty())
    }

    /// None of these keys is secret, so a wrong value may be shown.
    fn parse<T>(&self, key: &str, parse: impl Fn(&str) -> Parsed<T>, faults: &mut Collector) -> Option<T> {
        let entry = self.entries.get(key).filter(|e| !e.value.is_empty())?;
        parse(entry.value)
            .map_err(|wrong| {
                faults.push(Severity::Fault, |s| {
                    let message = format!(
                        "{key}: found \"{}\", expected {}",
                        value::clipped(entry.value),
                        wrong.expected
                    );
                    self.source.fault(s, entry.span.clone(), entry.span.end, message).hint(wrong.hint)
                });
            })
            .ok()
    }

    /// The database decides whether it knows the zone, and may know more than this machine.
    fn check_zone(&self, zone: &str, faults: &mut Collector) {
        let zones = jiff::tz::db();
        if let Some(entry) = self.entries.get("TIME_ZONE")
            && !zones.is_definitively_empty()
            && zones.get(zone).is_err()
        {
            faults.push(Severity::Flaw, |s| {
                let message = format!("TIME_ZONE: found \"{zone}\", which this machine has no time zone for");
                self.source
                    .fault(s, entry.span.clone(), entry.span.end, message)
                    .hint("NAV's times are read in this zone: expected a name such as Europe/Oslo".to_owned())
            });
        }
    }

    fn missing(&self, faults: &mut Collector, key: &str) {
        faults.push(Severity::Fault, |s| {
            Fault::new(s, format!("no {key}, which says how to reach NAV's database")).file(&self.source.path)
        });
    }
}

/// The keys of `db.conf` and of `nav.conf` that hold secrets; `*` is for any name. The last is none of ours, and still
/// nobody else's.
pub(super) const SECRET_KEYS: [(&str, &str); 3] =
    [("db.conf", "userpw_*"), ("nav.conf", "EMAIL_HOST_PASSWORD"), ("nav.conf", "SECRET_KEY")];

fn is_secret(key: &str) -> bool {
    SECRET_KEYS
        .iter()
        .any(|(_, secret)| secret.strip_suffix('*').map_or(key == *secret, |p| key.starts_with(p)))
}
