//! The configuration as operators meet it: Python's dialect, NAV's files, every fault in its place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use smsd::config::{self, Config, DispatcherKind, Env, Faults, Loaded, LogLevel, QueueKind, Severity, ini};
use smsd::dispatch::exec::Mode;
use smsd::dispatch::{Class, smtp::Tls, status::Status};
use tempfile::TempDir;

// -- the dialect -------------------------------------------------------------------------------

/// Every file of the corpus, and some hundreds made by chance from awkward pieces, mean to us what they mean
/// to the real Python.
#[test]
fn the_dialect_is_pythons() {
    let dir = TempDir::new().unwrap();
    let mut files = files_in("ini", "ini");
    assert!(files.len() > 60, "{} files in the corpus", files.len());
    let mut chance = Chance(0x5eed);
    for n in 0..1500 {
        let path = dir.path().join(format!("{n}.ini"));
        fs::write(&path, chance.file()).unwrap();
        files.push(path);
    }
    let python = python(&files);
    assert_eq!(python.len(), files.len());
    let mut refused = BTreeSet::new();
    for (file, python) in files.iter().zip(python) {
        let bytes = fs::read(file).unwrap();
        let ours = ours(&bytes);
        refused.insert(python["refused"].clone().to_string());
        let shown = String::from_utf8_lossy(&bytes);
        assert_eq!(ours["refused"], !python["refused"].is_null(), "{file:?}\n{shown}\n{ours}\n{python}");
        assert_eq!(ours["sections"], python["sections"], "{file:?}\n{shown}");
        assert_eq!(ours["defaults"], python["defaults"], "{file:?}\n{shown}");
    }
    // The corpus reaches every way in which Python refuses a file, and files that it takes.
    let expected = [
        "\"DuplicateOptionError\"",
        "\"DuplicateSectionError\"",
        "\"MissingSectionHeaderError\"",
        "\"ParsingError\"",
        "\"UnicodeDecodeError\"",
        "null",
    ];
    assert_eq!(refused.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn spaces_are_pythons() {
    let out = Command::new("python3")
        .args(["-c", "print([c for c in range(0x110000) if chr(c).isspace()])"])
        .output()
        .unwrap();
    let python: Vec<u32> = serde_json::from_slice(&out.stdout).unwrap();
    let ours: Vec<u32> = (0..0x11_0000).filter(|c| char::from_u32(*c).is_some_and(ini::is_space)).collect();
    assert_eq!(ours, python);
}

#[test]
fn every_error_of_the_dialect_is_told_at_once_and_in_its_place() {
    let text = "x: 1\n[a]\nb\n  swallowed: 1\n: 2\nc: 3\nC: 4\n[a]\nd: 5\ne\n";
    let ini = ini::parse(text);
    let errors: Vec<(String, &str)> = ini
        .errors
        .iter()
        .map(|e| {
            let kind = format!("{:?}", e.kind);
            (kind.split('(').next().unwrap().to_owned(), &text[e.span.clone()])
        })
        .collect();
    let expected = [
        ("NoSection", "x: 1"),
        ("NoDelimiter", "b"),
        ("NoKey", ": 2"),
        ("DuplicateKey", "C"),
        ("DuplicateSection", "[a]"),
        ("NoDelimiter", "e"),
    ];
    assert_eq!(errors, expected.map(|(kind, span)| (kind.to_owned(), span)));
}

proptest! {
    #[test]
    fn the_reader_takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (text, _) = ini::decode(&bytes);
        check_spans(&text);
    }

    #[test]
    fn the_reader_takes_any_text(text in "([\\[\\]=:#; \\t\\n\\r\u{a0}aæ😀]|DEFAULT|\\PC){0,60}") {
        let (text, error) = ini::decode(text.as_bytes());
        prop_assert!(error.is_none());
        check_spans(&text);
    }

    /// Whatever stands in a file, it is read or refused, and every fault can be shown.
    #[test]
    fn loading_takes_any_text(text in "(\\[(main|queue|dispatcher|DEFAULT|HttpGetDispatcher|x)\\]|delay|url|type|dispatcher1|[=: \\n#\"%]|\\PC){0,40}") {
        let site = Site::new(&text);
        match site.load() {
            Ok(loaded) => drop(show(&Faults(loaded.warnings))),
            Err(faults) => drop(show(&faults)),
        }
    }
}

/// Every span is a piece of the text, and a value's is where its first line stands.
fn check_spans(text: &str) {
    let ini = ini::parse(text);
    for entry in ini.defaults.iter().chain(ini.sections.iter().flat_map(|s| &s.entries)) {
        assert_eq!(text[entry.span.clone()].to_lowercase(), entry.key);
        let first = entry.value.text.trim_start_matches('\n').lines().next().unwrap_or_default();
        assert_eq!(&text[entry.value.span()], first, "{text:?}");
    }
    for error in &ini.errors {
        assert!(text.get(error.span.clone()).is_some());
    }
}

fn ours(bytes: &[u8]) -> serde_json::Value {
    let (text, undecodable) = ini::decode(bytes);
    let ini = ini::parse(&text);
    if undecodable.is_some() || !ini.errors.is_empty() {
        return serde_json::json!({"refused": true, "sections": [], "defaults": {}});
    }
    let pairs = |entries: &[ini::Entry]| -> BTreeMap<String, String> {
        entries.iter().map(|e| (e.key.clone(), e.value.text.clone())).collect()
    };
    let defaults = pairs(&ini.defaults);
    let sections: Vec<_> = ini
        .sections
        .iter()
        .map(|s| {
            let mut all = defaults.clone();
            all.extend(pairs(&s.entries));
            (s.name.clone(), all)
        })
        .collect();
    serde_json::json!({"refused": false, "sections": sections, "defaults": defaults})
}

fn python(files: &[PathBuf]) -> Vec<serde_json::Value> {
    let mut child = Command::new("python3")
        .arg(vectors().join("ini/read.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for this test");
    let mut input = child.stdin.take().unwrap();
    for file in files {
        writeln!(input, "{}", file.display()).unwrap();
    }
    drop(input);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let lines = String::from_utf8(out.stdout).unwrap();
    lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Files from awkward pieces, the same ones every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        // xorshift64: good enough to shuffle lines.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn file(&mut self) -> String {
        const INDENTS: [&str; 7] = ["", "", "", " ", "  ", "\t", "\u{2003}"];
        const LINES: [&str; 26] = [
            "[a]",
            "[a]",
            "[b]",
            "[c]",
            "[DEFAULT]",
            "[x] y]",
            "[",
            "[]",
            "a: 1",
            "b = 2",
            "c=",
            "D:d",
            "e : = f",
            "g",
            "",
            "",
            "  ",
            "#a: 1",
            "; [z]",
            "h: 1 # x",
            "i=[j]",
            ": k",
            "%(l)s: %",
            "m\u{a0}:\u{a0}n",
            "o: p",
            "q=r",
        ];
        const ENDS: [&str; 6] = ["\n", "\n", "\n", "\r\n", "\r", " \n"];
        let mut text = if self.below(8) > 0 { "[s]\n".to_owned() } else { String::new() };
        for _ in 0..self.below(9) {
            text.push_str(INDENTS[self.below(INDENTS.len())]);
            text.push_str(LINES[self.below(LINES.len())]);
            text.push_str(ENDS[self.below(ENDS.len())]);
        }
        text
    }
}

/// What it says is not known, so nothing is sent by a DebugDispatcher that would call it sent.
#[test]
fn a_folder_that_can_not_be_looked_into_may_hold_the_configuration() {
    let site = Site::empty();
    fs::create_dir_all(site.dir.path().join("etc")).unwrap();
    let folder = site.dir.path().join("etc/smsd");
    std::os::unix::fs::symlink(&folder, &folder).unwrap();
    let said = site.load().unwrap_err().to_string();
    assert!(said.contains("etc/smsd/smsd.conf"), "{said}");
    site.write("etc/nav/smsd.conf", HTTP);
    assert!(site.load().is_ok(), "one that is found counts");
}

// -- a site: a directory with files and an environment ------------------------------------------

struct Site {
    dir: TempDir,
    env: Env,
}

impl Site {
    fn empty() -> Site {
        let dir = TempDir::new().unwrap();
        let env = Env::empty(dir.path());
        Site { dir, env }
    }

    /// With this smsd.conf in `/etc/nav`, which only its owner may read.
    fn new(smsd_conf: &str) -> Site {
        let site = Site::empty();
        site.write("etc/nav/smsd.conf", smsd_conf);
        site
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(self.dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env = self.env.clone().with(name, value);
    }

    fn load(&self) -> Result<Loaded, Faults> {
        config::load(None, &self.env)
    }

    /// Loads what must be without a fault or a warning.
    fn clean(&self) -> Config {
        let loaded = self.load().unwrap_or_else(|f| panic!("{f}"));
        assert!(loaded.warnings.is_empty(), "{}", Faults(loaded.warnings));
        loaded.config
    }

    /// `line: message` of everything that is wrong, warnings included.
    fn complaints(&self) -> Vec<String> {
        let faults = match self.load() {
            Ok(loaded) => loaded.warnings,
            Err(faults) => faults.0,
        };
        faults.iter().map(|f| format!("{}: {}", f.line.unwrap_or(0), f.message)).collect()
    }
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/config")
}

fn files_in(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(vectors().join(dir))
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|f| f.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

/// Every form in which faults reach people.
fn show(faults: &Faults) -> String {
    let json = serde_json::to_string(faults).unwrap();
    format!("{faults}\n{}\n{}\n{json}\n{faults:?}", faults.render(false), faults.render(true))
}

const HTTP: &str = "[dispatcher]\ndispatcher1: HttpGetDispatcher\n[HttpGetDispatcher]\n\
                    url: https://gw.example/send?to=%(phone)s&text=%(sms)s&pass=%20x\n";

// -- what is said -------------------------------------------------------------------------------

/// The keys of [main] are those that the example explains, which are those that its reader asks for.
#[test]
fn every_key_of_main_is_read_as_it_is_written() {
    let said = format!(
        "{HTTP}[main]\nusername: nav\ndelay: 1.5\ndelayfactor: 2\nmaxdelay: 1h\nretrylimit: 0\n\
         retrylimitaction: Shutdown\nexit_on_permanent_error: off\nautocancel: 1 day 12 hours\n\
         mailwarnlevel: critical\nmailserver: mx\nmailaddr: a@b\nfromaddr: c@d\ngroup_interval: 2m\n\
         group_wait: 250ms\nurgent_severity: 2\nmax_segments: 3\ncompose: digest\noverflow: next\nencoding: gsm7\n\
         severe: 3\nsevere_sms: 0\nweb_address: https://sms.example/\n\
         transliterate: none\nprefix: \"NAV: \"\non_unknown: hold\nconcurrency: 4\nsubmit_timeout: 5\n\
         allow: +47, 0046 (0)\n  +45\ndeny: 829\nmax_per_hour: 30\nmemory: 64\nlog_level: debug\nlog_format: json\n\
         log_texts: yes\nlog_file: x.log\n\
         state_dir: /s\nshutdown_timeout: 0\n"
    );
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/dist/smsd.conf")).unwrap();
    let main = example.split("\n[main]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let key = |line: &str| Some(line.strip_prefix('#').unwrap_or(line).split_once(": ")?.0.to_owned());
    let is_key = |key: &String| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let keys: Vec<String> = main.lines().filter_map(key).filter(is_key).collect();
    assert!(keys.len() > 30, "{keys:?}");
    for key in keys {
        assert!(said.contains(&format!("\n{key}: ")), "{key} is a key of [main], and is not looked at here");
    }
    let config = Site::new(&said).clean();
    let main = &config.main;
    let seconds = Duration::from_secs_f64;
    assert_eq!(main.username.as_deref(), Some("nav"));
    assert_eq!((main.delay, main.maxdelay, main.delayfactor), (seconds(1.5), seconds(3600.0), 2.0));
    assert_eq!((main.retrylimit, main.retrylimitaction), (0, config::LimitAction::Shutdown));
    assert!(!main.exit_on_permanent_error);
    let age = main.autocancel.as_ref().unwrap();
    assert_eq!((age.text.as_str(), age.duration), ("1 day 12 hours", seconds(36.0 * 3600.0)));
    let mail = [&main.mail.level, &main.mail.server, &main.mail.to, &main.mail.from];
    assert_eq!(mail.map(|m| m.as_deref().unwrap()), ["CRITICAL", "mx", "a@b", "c@d"]);
    assert!(main.log_texts);
    assert_eq!((main.memory, main.memory(config::Memory::Texts)), (64, 16 << 20));
    assert_eq!((main.group_interval(), main.group_wait), (seconds(120.0), seconds(0.25)));
    assert_eq!((main.urgent_severity, main.max_segments, main.concurrency), (2, 3, 4));
    assert_eq!(main.compose, config::Style::Digest);
    assert_eq!(main.overflow, config::Overflow::Next);
    assert_eq!((main.severe, main.severe_sms, &*main.web_address), (3, 0, "https://sms.example/"));
    assert_eq!(main.encoding, config::EncodingChoice::Gsm7);
    assert_eq!(main.transliterate, config::Transliterate::None);
    assert_eq!(main.prefix, "NAV: ");
    assert_eq!(main.on_unknown, config::OnUnknown::Hold);
    assert_eq!((main.submit_timeout, main.shutdown_timeout), (seconds(5.0), Duration::ZERO));
    assert_eq!(main.allow, ["+47", "00460", "+45"]);
    assert_eq!((&main.deny[..], main.max_per_hour), (&["829".to_owned()][..], 30));
    assert_eq!((main.log_level, main.log_format), (LogLevel::Debug, config::LogFormat::Json));
    let file = config.files[0].with_file_name("x.log");
    assert_eq!(config.log_file(), Some(file), "a relative path starts at the file's directory");
    assert_eq!(main.state_dir, Some("/s".into()));
}

#[test]
fn a_token_says_what_it_may_and_what_bounds_that() {
    let hash = "0".repeat(64);
    let site = |line: &str| Site::new(&format!("{HTTP}[groups]\nnoc: 112\n[http]\n{line}\n"));
    let bounded = format!(
        "token.am: send:alertmanager, send:icinga read severity=2 to=group:noc to=+4790000001 rate=30/m \
         until=2027-06-30 sha256:{hash} sha256:{}",
        "1".repeat(64)
    );
    let config = site(&bounded).clean();
    let [old, new] = &config.http.tokens[..] else { panic!("{:?}", config.http.tokens) };
    assert_eq!((&*old.name, old.scopes.to_string()), ("am", "send, read".to_owned()));
    assert!(old.hash != new.hash && old.bounds == new.bounds);
    let bounds = &old.bounds;
    assert_eq!(bounds.webhooks.iter().collect::<Vec<_>>(), ["alertmanager", "icinga"]);
    assert_eq!((bounds.severity, bounds.rate), (Some(2), Some(0.5)));
    assert_eq!(
        (&bounds.to[..], bounds.until),
        (&["group:noc".to_owned(), "+4790000001".to_owned()][..], Some(jiff::civil::date(2027, 6, 30)))
    );
    for (words, want) in [
        ("send severity=9", "severity=N with N from 1 to 5"),
        ("send rate=30", "more than 0 per second, minute or hour"),
        ("send until=tomorrow", "a day such as 2027-06-30"),
        ("send to=group:nok", "no such group"),
        ("send colour=red", "expected severity=3, to=group:NAME"),
        ("severity=3", "expected scopes"),
        ("operate to=112", "may only send and read"),
    ] {
        let complaints = site(&format!("token.x: {words} sha256:{hash}")).complaints().join("; ");
        assert!(complaints.contains(want), "{words}: {complaints}");
        assert!(!complaints.contains(&hash), "{complaints}");
    }
    let short = |listen: &str| site(&format!("listen: {listen}\ntoken: sms")).complaints().join("; ");
    assert!(short("127.0.0.1:1").contains("can be guessed") && !short("127.0.0.1:1").contains("reached"));
    assert!(short("0.0.0.0:1").contains("can be guessed, and 0.0.0.0:1 can be reached from other machines"));
}

/// Where NAV writes the alerts, its people know its SMS; elsewhere many may write for one phone.
#[test]
fn what_is_told_when_not_all_fits_depends_on_the_queue() {
    use config::{Overflow, Style};
    let told = |queue: &str, keys: &str| {
        let main = Site::new(&format!("{HTTP}[main]\n{keys}[queue]\n{queue}")).clean().main;
        (main.compose, main.overflow)
    };
    assert_eq!(told("type: SqliteQueue\n", ""), (Style::Digest, Overflow::Severe));
    assert_eq!(told("", ""), (Style::Digest, Overflow::Severe));
    assert_eq!(told("", "compose: nav\noverflow: ignore\n"), (Style::Nav, Overflow::Ignore));
    assert_eq!(told("", "overflow: next\n"), (Style::Digest, Overflow::Next));
    for navs in
        ["type: NAVDBQueue\nurl: postgresql://nav@db/nav\n", "type: PythonQueue\nmodule: m\nclass: Q\n"]
    {
        assert_eq!(told(navs, ""), (Style::Nav, Overflow::Ignore), "{navs}");
        assert_eq!(told(navs, "overflow: severe\n"), (Style::Nav, Overflow::Severe), "{navs}");
    }
    let long = format!("web_address: {}", "x".repeat(61));
    assert!(Site::new(&format!("{HTTP}[main]\n{long}\n")).complaints()[0].contains("at most 60"));
}

#[test]
fn dispatchers_come_by_number_with_gaps_and_under_their_own_names() {
    let config = Site::new(
        "[DEFAULT]\ntimeout: 7\n[dispatcher]\ndispatcher10: DebugDispatcher\ndispatcher2: gw\ndispatcher5: off\n\
         [gw]\ntype: HttpGetDispatcher\nurl: http://h/%(phone)s?%(sms)s\nsuccess: ^(OK|ID)\nconcurrency: 2\n\
         rate: 30/m\ngrace: 0\nmax_segments: 4\nprobe_interval: 1m\nclass.500: rtmp\nclass.418: OK\n\
         [off]\ntype: SmppDispatcher\nenabled: no\n\
         [DebugDispatcher]\nresult: permanent\nlatency: 5ms\nfail_rate: 0.5\nreject: +47 900 00 001, 112\nlog: l\n",
    )
    .clean();
    let [gw, debug] = &config.dispatchers[..] else { panic!("{:?}", config.dispatchers) };
    assert_eq!((gw.name.as_str(), gw.kind.as_str()), ("gw", "HttpGetDispatcher"));
    assert_eq!((gw.concurrency, gw.rate, gw.max_segments), (Some(2), Some(0.5), Some(4)));
    assert_eq!((gw.grace, gw.timeout), (Some(Duration::ZERO), Some(Duration::from_secs(7))));
    assert_eq!(gw.probe_interval, Some(Duration::from_secs(60)));
    assert_eq!(gw.classes["500"], Status::Refused(Class::Deferred));
    assert_eq!(gw.classes["418"], Status::Accepted);
    let DispatcherKind::HttpGet(http) = &gw.kind else { panic!() };
    assert_eq!(http.url.reveal(), "http://h/%(phone)s?%(sms)s");
    assert!(http.success.as_ref().unwrap().is_match("OK 1"));

    assert_eq!(debug.name, "DebugDispatcher");
    let DispatcherKind::Debug(settings) = &debug.kind else { panic!() };
    assert_eq!(settings.result, smsd::dispatch::debug::Outcome::Permanent);
    assert_eq!((settings.latency, settings.fail_rate), (Duration::from_millis(5), 0.5));
    assert_eq!(settings.reject.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["+4790000001", "112"]);
    assert_eq!(settings.log, Some(config.files[0].with_file_name("l")));
}

#[test]
fn a_phone_needs_no_key_and_its_commands_are_names_or_paths() {
    let site = Site::new(
        "[main]\nconcurrency: 9\n[dispatcher]\ndispatcher1: GammuDispatcher\ndispatcher2: second\n\
         [second]\ntype: GammuDispatcher\nconfig: second.rc\nsection: 2\ncommand: bin/gammu\nclass.CMS 500: AMB\n",
    );
    let gammurc = site.write("etc/nav/second.rc", "");
    let config = site.clean();
    let [first, second] = &config.dispatchers[..] else { panic!("{:?}", config.dispatchers) };
    let DispatcherKind::Gammu(settings) = &first.kind else { panic!() };
    assert_eq!(*settings, smsd::dispatch::gammu::Settings::default());
    assert_eq!((first.kind.concurrency(), first.kind.grace()), (Some(1), Duration::from_secs(30)));
    let DispatcherKind::Gammu(settings) = &second.kind else { panic!() };
    assert_eq!((settings.config.as_ref(), settings.section), (Some(&gammurc), Some(2)));
    assert_eq!(settings.command, gammurc.with_file_name("bin/gammu"));
    assert_eq!(second.classes["cms 500"], Status::Refused(Class::Unknown));
}

#[test]
fn groups_are_lists_of_numbers() {
    let config =
        Site::new(&format!("[DEFAULT]\ndelay: 5\n{HTTP}[groups]\nNOC: +47 900, 112,\n  +47900\n")).clean();
    let noc: Vec<&str> = config.groups["noc"].iter().map(|p| p.as_str()).collect();
    assert_eq!(noc, ["+47900", "112"]);
    assert_eq!(config.groups.len(), 1, "what [DEFAULT] says is no group");
    assert_eq!(config.main.delay, Duration::from_secs(5));
}

#[test]
fn navs_own_files_are_read_as_nav_reads_them() {
    let site = Site::new(include_str!("vectors/config/nav/smsd.conf"));
    site.write("etc/nav/db.conf", include_str!("vectors/config/nav/db.conf"));
    site.write("etc/nav/nav.conf", include_str!("vectors/config/nav/nav.conf"));
    let config = site.clean();
    let QueueKind::NavDb(db) = &config.queue.kind else { panic!("{:?}", config.queue) };
    assert_eq!((db.host.as_deref(), db.port), (Some("db.example.org"), Some(5433)));
    assert_eq!((db.database.as_deref(), db.user.as_deref()), (Some("profiles"), Some("sms")));
    assert_eq!(db.password.as_ref().unwrap().reveal(), "pa=ss word", "a # ends the line, an = does not");
    let nav = &config.nav;
    assert_eq!(nav.pid_dir, Some("/run/nav".into()));
    assert_eq!(nav.email_host_password.as_ref().unwrap().reveal(), "relay");
    assert_eq!((nav.email_port, nav.email_use_tls), (Some(587), true));
    assert_eq!(config.username(), "nav");
    assert_eq!(config.pid_file(&site.env), Path::new("/run/nav/smsd.pid"));
    assert_eq!(config.log_file(), Some("/var/log/nav/smsd.log".into()));
    let mail = config.mail();
    assert_eq!(mail.level.as_deref(), Some("ERROR"));
    assert_eq!(mail.server.as_deref(), Some("mx.example.org"));
    assert_eq!(mail.to.as_deref(), Some("admin@example.org"));
    assert_eq!(mail.from.as_deref(), Some("nav@example.org"));
    assert_eq!(config.files.len(), 3);
}

#[test]
fn db_conf_needs_a_database_and_a_user_and_a_port_that_is_one() {
    let site = Site::new(HTTP);
    site.write("etc/nav/db.conf", "dbhost=localhost\nthis line is none\ndbport=x\nscript_smsd=\n");
    let expected = [
        "0: no db_nav, which says how to reach NAV's database",
        "0: no script_default, which says how to reach NAV's database",
        "2: found no \"=\", expected key = value; NAV skips this line",
        "3: dbport: found \"x\", expected a whole number from 1 to 65535",
    ];
    assert_eq!(site.complaints(), expected);
}

#[test]
fn the_queue_is_navs_where_its_db_conf_stands_and_embedded_elsewhere() {
    let site = Site::new(HTTP);
    assert!(matches!(site.clean().queue.kind, QueueKind::Sqlite { path: None }));
    assert_eq!(site.clean().queue.poll_interval, Duration::from_millis(250));

    site.write("etc/nav/db.conf", "db_nav=nav\nscript_default=nav\n");
    assert!(matches!(site.clean().queue.kind, QueueKind::NavDb(_)));

    site.write("etc/nav/smsd.conf", &format!("{HTTP}[queue]\ntype: SqliteQueue\npath: q.db\nsetup: off\n"));
    let queue = site.clean().queue;
    let path = site.dir.path().join("etc/nav/q.db");
    assert!(matches!(queue.kind, QueueKind::Sqlite { path: Some(p) } if p == path) && !queue.setup);

    site.write("etc/nav/smsd.conf", &format!("{HTTP}[queue]\nurl: postgresql://u:p@h/d\n"));
    let QueueKind::NavDb(db) = site.clean().queue.kind else { panic!() };
    assert_eq!(db.url.unwrap().reveal(), "postgresql://u:p@h/d");
    assert_eq!(db.database, None, "url wins, and db.conf is not read");
}

#[test]
fn navs_queue_by_name_finds_navs_db_conf_and_says_when_there_is_none() {
    let mut site = Site::empty();
    site.write("own/smsd.conf", &format!("{HTTP}[queue]\ntype: NAVDBQueue\n"));
    site.set("NAV_CONFIG_DIR", site.dir.path().join("own").to_str().unwrap().to_owned().as_str());
    let why = "0: NAVDBQueue has no db.conf and no url: the PG* variables say where NAV's database is";
    assert_eq!(site.complaints(), [why]);
    site.write("etc/nav/db.conf", "db_nav=nav\nscript_default=u\n");
    let QueueKind::NavDb(db) = site.clean().queue.kind else { panic!() };
    assert_eq!(db.user.as_deref(), Some("u"));
}

// -- where it is found --------------------------------------------------------------------------

#[test]
fn the_first_file_in_the_order_of_the_reference_counts() {
    let mut site = Site::empty();
    let home = site.dir.path().join("home");
    site.env.home = Some(home.clone());
    let nav_config_dir = site.dir.path().join("navdir");
    let by_variable = site.write("variable.conf", HTTP);
    let explicit = site.write("explicit.conf", HTTP);
    let first = |site: &Site| site.clean().files[0].clone();

    // From the last place to the first: each new file goes before those that are there.
    site.set("NAV_CONFIG_DIR", nav_config_dir.to_str().unwrap());
    let places =
        ["etc/smsd", "etc/nav", "home/.config/nav", "home/.local/etc", "home/.local/etc/nav", "navdir"];
    for place in places {
        let file = site.write(&format!("{place}/smsd.conf"), HTTP);
        assert_eq!(first(&site), file);
    }
    site.set("SMSD_CONFIG", by_variable.to_str().unwrap());
    assert_eq!(first(&site), by_variable);
    let loaded = config::load(Some(&explicit), &site.env).unwrap();
    assert_eq!(loaded.config.files, [explicit]);

    // Tests run in the directory of the package.
    let relative = Path::new("tests/vectors/config/nav/smsd.conf");
    let files = config::load(Some(relative), &Env::empty(Path::new("/none"))).unwrap().config.files;
    assert_eq!(files[0], vectors().join("nav/smsd.conf"), "a daemon changes its directory and reads again");
}

#[test]
fn without_any_file_nothing_leaves_this_machine() {
    let loaded = Site::empty().load().unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].severity, Severity::Warning);
    assert!(loaded.warnings[0].message.contains("nothing leaves this machine"));
    assert!(matches!(loaded.config.queue.kind, QueueKind::Sqlite { path: None }));
    assert_eq!(loaded.config.dispatchers.len(), 1);
    assert_eq!(loaded.config.dispatchers[0].kind.as_str(), "DebugDispatcher");
    assert!(loaded.config.files.is_empty());
}

#[test]
fn a_file_that_can_not_be_read_is_said_with_its_reason() {
    let site = Site::empty();
    let load = |path: &Path| config::load(Some(path), &site.env).unwrap_err().to_string();
    let missing = site.dir.path().join("none.conf");
    assert!(load(&missing).contains("none.conf: can not read the file: No such file"), "{}", load(&missing));
    assert!(load(site.dir.path()).contains("Is a directory"));
    let big = site.write("big.conf", &"#".repeat((1 << 20) + 1));
    assert!(load(&big).contains("more than 1 MiB"));
    assert!(load(Path::new("/dev/zero")).contains("more than 1 MiB"));
}

#[test]
fn pid_file_log_and_state_have_their_places() {
    let mut site = Site::new(HTTP);
    let config = site.clean();
    let root = site.dir.path().to_owned();
    assert_eq!(config.log_file(), None);

    site.env.home = Some(root.join("home"));
    assert_eq!(config.state_dir(&site.env), root.join("home/.local/state/smsd"));
    assert_eq!(config.pid_file(&site.env), root.join("home/.local/state/smsd/smsd.pid"));
    site.env.root = true;
    assert_eq!(config.state_dir(&site.env), root.join("var/lib/smsd"));
    assert_eq!(config.pid_file(&site.env), root.join("run/smsd/smsd.pid"));
    site.env.root = false;
    fs::create_dir_all(root.join("var/lib/smsd")).unwrap();
    assert_eq!(config.state_dir(&site.env), root.join("var/lib/smsd"), "we may write there");
    site.set("STATE_DIRECTORY", "/a:/b");
    site.set("RUNTIME_DIRECTORY", "/run/x");
    assert_eq!(config.state_dir(&site.env), Path::new("/a"));
    assert_eq!(config.pid_file(&site.env), Path::new("/run/x/smsd.pid"));
    site.set("SMSD_STATE_DIR", "/c");
    assert_eq!(config.state_dir(&site.env), Path::new("/c"));
}

// -- the example file ---------------------------------------------------------------------------

const EXAMPLE: &str = include_str!("../dist/smsd.conf");

/// The example without the `#` of the lines that show a default, and, if asked, of those that show an example. Of the
/// keys that one type of queue has, those of `queue`.
fn uncommented(examples_too: bool, queue: &str) -> String {
    let mut is_example = false;
    let mut is_of_another = false;
    let mut was_comment = false;
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let shown = |c: char| c.is_ascii_lowercase() || (examples_too && c == '[');
        let key = line.strip_prefix('#').filter(|l| l.starts_with(shown));
        match key {
            Some(key) if !is_of_another && (examples_too || !is_example) => text.push_str(key),
            _ => text.push_str(line),
        }
        text.push('\n');
        if key.is_none() {
            let is_comment = line.starts_with("# ");
            is_example = is_comment && (is_example || line.contains("(example)"));
            let of = line.strip_prefix("# ").and_then(|l| l.split_once(": ")).map_or("", |(of, _)| of);
            is_of_another = is_comment
                && if was_comment { is_of_another } else { of.ends_with("Queue") && !of.contains(queue) };
        }
        was_comment = key.is_none() && line.starts_with("# ");
    }
    text
}

#[test]
fn each_type_of_queue_has_the_keys_that_the_example_says() {
    for queue in ["SqliteQueue", "NAVDBQueue", "PythonQueue"] {
        let text = uncommented(true, queue);
        let text = &text[text.find("\n[queue]").unwrap()..text.find("\n[groups]").unwrap()];
        let text = text.replace("type: SqliteQueue", &format!("type: {queue}"));
        let config = Site::new(&format!("[dispatcher]\ndispatcher1: DebugDispatcher\n{text}")).clean();
        assert_eq!(config.queue.kind.as_str(), queue);
    }
}

#[test]
fn the_example_is_sound_and_shows_the_defaults() {
    /// What depends on other keys is compared as it works out.
    fn worked_out(mut config: Config) -> String {
        config.main.username = Some(config.username().to_owned());
        config.main.mail = config.mail();
        config.main.group_interval = Some(config.main.group_interval());
        for d in &mut config.dispatchers {
            d.grace = d.grace.or(Some(Duration::from_secs(30)));
        }
        config.files.clear();
        format!("{config:#?}")
    }
    let as_it_stands = Site::new(EXAMPLE).clean();
    let with_defaults = Site::new(&uncommented(false, "SqliteQueue")).clean();
    assert_eq!(worked_out(with_defaults), worked_out(as_it_stands.clone()));
    assert_eq!(format!("{:?}", as_it_stands.main), format!("{:?}", config::Main::embedded()));
}

#[test]
fn the_example_shows_every_key_once_and_its_examples_are_sound() {
    let text = format!("{}[backup-gw]\ntype: DebugDispatcher\n", uncommented(true, "SqliteQueue"));
    let whole = text.clone();
    // The files of its certificate are not there.
    let text: Vec<&str> = text.lines().filter(|line| !line.contains(": /etc/smsd/http.")).collect();
    let text = text.join("\n");
    let config = Site::new(&text).clean();
    assert_eq!((config.dispatchers.len(), config.groups.len()), (2, 1));
    // Its examples name files of certificates that are not there.
    let http = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: HttpDispatcher");
    // Nor is that of a body beside the body, and one login is enough.
    let http = http.replacen("username: me\npassword: secret\n", "", 1);
    let absent = |line: &&str| !line.starts_with("tls_") && !line.starts_with("body_file:");
    let http: Vec<&str> = http.lines().filter(absent).collect();
    let http = Site::new(&http.join("\n")).clean().dispatchers.swap_remove(0).kind;
    assert!(matches!(http, DispatcherKind::Http(_)) && http.remembers() == Duration::from_secs(86_400));
    let debug = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: DebugDispatcher");
    assert!(matches!(Site::new(&debug).clean().dispatchers[0].kind, DispatcherKind::Debug(_)));
    let gammu = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: GammuDispatcher");
    let site = Site::new(&gammu.replace("config: /etc/gammurc", "config: gammurc"));
    let gammurc = site.write("etc/nav/gammurc", "");
    let DispatcherKind::Gammu(gammu) = &site.clean().dispatchers[0].kind else { panic!() };
    assert_eq!((&gammu.config, gammu.section), (&Some(gammurc), Some(0)));
    let exec = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: ExecDispatcher");
    assert!(matches!(Site::new(&exec).clean().dispatchers[0].kind, DispatcherKind::Exec(_)));
    let python = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: PythonDispatcher");
    assert!(matches!(Site::new(&python).clean().dispatchers[0].kind, DispatcherKind::Python(_)));

    // Every field of the typed configuration is a key of the example; the other way round, a key that nobody
    // reads would have been a warning above.
    let section = |from: &str| -> BTreeSet<String> {
        let text = text.split(from).nth(1).unwrap().split("\n[").next().unwrap();
        let keys = text.lines().filter(|l| l.starts_with(|c: char| c.is_ascii_lowercase()));
        keys.filter_map(|l| l.split_once(':')).map(|(key, _)| key.to_owned()).collect()
    };
    let mut main = fields(&config::Main::default());
    main.remove("mail");
    main.extend(["mailwarnlevel", "mailserver", "mailaddr", "fromaddr"].map(str::to_owned));
    assert_eq!(section("\n[main]"), main);

    let http = whole.split("\n[http]").nth(1).unwrap().split("\n[").next().unwrap().lines();
    let http: Vec<&str> =
        http.filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.split_once(':')?.0)).collect();
    assert_eq!(http, ["listen", "token", "token.grafana", "tls_cert", "tls_key", "hosts"]);
    assert_eq!(fields(&config.http).len(), 4, "tokens and tls have two keys each");
    assert_eq!(config.http.tokens[1].scopes.to_string(), "send");

    let mut way_out = fields(&config.dispatchers[0]);
    for inner in ["name", "kind", "classes", "files"] {
        way_out.remove(inner);
    }
    way_out.extend(["url", "success", "class.400", "type", "enabled"].map(str::to_owned));
    assert_eq!(section("\n[HttpGetDispatcher]"), way_out);
    let boost = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: BoostDispatcher");
    let boost = Site::new(&boost).clean().dispatchers.swap_remove(0);
    let DispatcherKind::Boost(settings) = &boost.kind else { panic!("{boost:?}") };
    let mut keys = fields(settings);
    keys.insert("class.server.userexception".to_owned());
    assert_eq!(section("\n[BoostDispatcher]"), keys);
    assert_eq!(settings.parameters, smsd::dispatch::boost::default_parameters());
    let mail = text.replace("dispatcher1: HttpGetDispatcher", "dispatcher1: UninettMailDispatcher");
    let mail = Site::new(&mail).clean().dispatchers.swap_remove(0);
    let DispatcherKind::Mail(settings) = &mail.kind else { panic!("{mail:?}") };
    let mut keys = fields(settings);
    keys.insert("class.5.7.1".to_owned());
    assert_eq!(section("\n[UninettMailDispatcher]"), keys);
    let exec = ["command", "mode", "directory", "probe", "env.API_KEY"].map(str::to_owned);
    assert_eq!(section("\n[ExecDispatcher]"), exec.into());
    let python = ["python", "path", "module", "class"].map(str::to_owned);
    assert_eq!(section("\n[PythonDispatcher]"), python.into());
    assert_eq!(section("\n[spool]"), fields(config.spool.as_ref().unwrap()));
    assert_eq!(section("\n[smtp]"), fields(config.smtp.as_ref().unwrap()));
    let debug = fields(&smsd::dispatch::debug::Settings::default());
    assert_eq!(section("\n[DebugDispatcher]"), debug);
    let mut gammu = fields(&smsd::dispatch::gammu::Settings::default());
    gammu.insert("class.CMS 500".to_owned());
    assert_eq!(section("\n[GammuDispatcher]"), gammu);
}

#[test]
fn the_admin_is_mailed_as_main_says_and_else_as_nav_conf_does() {
    let mailed = |main: &str, nav: &str| {
        let site = Site::new(&format!("{HTTP}[main]\n{main}\n"));
        site.write("etc/nav/nav.conf", nav);
        let mail = site.load().unwrap().config.admin_mail();
        mail.map(|mail| mail.map(|m| (m.level.as_str(), m.to.join(" "), m.relay.server, m.relay.username)))
    };
    let nav = "ADMIN_MAIL=nav@example.org\nEMAIL_HOST=mx.example.org\nEMAIL_PORT=587\nEMAIL_HOST_USER=relay\n\
               EMAIL_HOST_PASSWORD=secret\nEMAIL_USE_TLS=True\n";
    let own = "mailaddr: NOC <noc@example.org>, me@example.org\nmailserver: mail.example.org:2525\nmailwarnlevel: debug";
    let host = |name: &str, port| Some((name.to_owned(), port));
    assert_eq!(mailed("", ""), Ok(None));
    let navs = ("ERROR", "nav@example.org".into(), host("mx.example.org", Some(587)), Some("relay".into()));
    assert_eq!(mailed("", nav), Ok(Some(navs)));
    // What nav.conf logs in with goes to no other server.
    let owns = ("DEBUG", "noc@example.org me@example.org".into(), host("mail.example.org", Some(2525)), None);
    assert_eq!(mailed(own, nav), Ok(Some(owns.clone())));
    assert_eq!(mailed(own, ""), Ok(Some(owns)));
    assert_eq!(mailed("", "ADMIN_MAIL=root\n"), Err("ADMIN_MAIL: \"root\" is no mail address".to_owned()));
    let site = Site::new(HTTP);
    site.write("etc/nav/nav.conf", "ADMIN_MAIL=root\n");
    let warnings = site.load().unwrap().warnings;
    assert_eq!((warnings.len(), warnings[0].severity), (1, Severity::Warning));
    assert!(warnings[0].message.contains("no mail goes to the admin"), "{warnings:?}");
}

#[test]
fn navs_local_times_are_in_the_zone_that_nav_takes() {
    const NAVS: &str = "[queue]\ntype: NAVDBQueue\n";
    const URL: &str = "[queue]\ntype: NAVDBQueue\nurl: postgresql://h/nav\n";
    let zone = |conf: &str, files: &[(&str, &str)]| {
        let site = Site::new(&format!("{HTTP}{conf}"));
        for (file, text) in files {
            site.write(&format!("etc/nav/{file}"), text);
        }
        let QueueKind::NavDb(target) = site.load().unwrap().config.queue.kind else { panic!("{conf}") };
        target.time_zone
    };
    let db = ("db.conf", "dbhost=h\ndb_nav=nav\nscript_default=nav\nuserpw_nav=x\n");
    let new_york = ("nav.conf", "TIME_ZONE = America/New_York # as the house\n");
    assert_eq!(zone(NAVS, &[db, new_york]).as_deref(), Some("America/New_York"));
    assert_eq!(
        zone(URL, &[new_york]).as_deref(),
        Some("America/New_York"),
        "through a pooler it is NAV's, too"
    );
    assert_eq!(zone(NAVS, &[db, ("nav.conf", "")]).as_deref(), Some("Europe/Oslo"), "NAV's default");
    assert_eq!(zone(NAVS, &[db]).as_deref(), Some("Europe/Oslo"), "NAV's default");
    assert_eq!(zone(URL, &[]), None, "there is no NAV: the database's own");

    let site = Site::new(&format!("{HTTP}{NAVS}"));
    site.write("etc/nav/db.conf", db.1);
    site.write("etc/nav/nav.conf", "\nTIME_ZONE=UTC'; --\n");
    let faults = site.load().unwrap_err();
    let fault = faults.0.iter().find(|fault| fault.message.starts_with("TIME_ZONE")).unwrap();
    assert_eq!((fault.line, fault.severity), (Some(2), Severity::Fault), "{faults:?}");
    assert!(fault.message.contains("Europe/Oslo"), "{fault:?}");
    site.write("etc/nav/nav.conf", "TIME_ZONE=Europe/Atlantis\n");
    let warnings = site.load().unwrap().warnings;
    assert!(
        warnings.iter().any(|w| w.message.contains("Atlantis") && w.severity == Severity::Flaw),
        "{warnings:?}"
    );
}

#[test]
fn mail_goes_as_nav_conf_says_where_its_section_says_nothing() {
    let settings = |main: &str, own: &str, nav: &str| {
        let conf = format!(
            "[main]\n{main}\n[dispatcher]\ndispatcher1: UninettMailDispatcher\n[UninettMailDispatcher]\n\
             mailaddr: sms@example.org\n{own}\n"
        );
        let site = Site::new(&conf);
        site.write("etc/nav/nav.conf", nav);
        let DispatcherKind::Mail(settings) = site.clean().dispatchers.swap_remove(0).kind else { panic!() };
        settings
    };
    let nav = "EMAIL_HOST=mx.example.org\nEMAIL_PORT=587\nEMAIL_HOST_USER=nav\nEMAIL_HOST_PASSWORD=relay\n\
               EMAIL_USE_TLS=True\nDEFAULT_FROM_EMAIL=nav@example.org\n";
    let mx = |port| Some(("mx.example.org".to_owned(), port));

    let all = settings("", "", nav);
    assert_eq!((all.server, all.tls), (mx(Some(587)), Some(Tls::StartTls)));
    assert_eq!((all.username.as_deref(), all.password.unwrap().reveal().as_str()), (Some("nav"), "relay"));
    assert_eq!(all.fromaddr.as_deref(), Some("nav@example.org"));
    assert_eq!((all.mailaddr.as_str(), all.subject.as_str()), ("sms@example.org", "sms %(phone)s"));

    let own = settings("fromaddr: a@b", "tls: smtps\nusername: me\npassword: mine\nfromaddr: c@d", nav);
    assert_eq!((own.server, own.tls), (mx(Some(587)), Some(Tls::Smtps)));
    assert_eq!((own.username.as_deref(), own.password.unwrap().reveal().as_str()), (Some("me"), "mine"));
    assert_eq!(own.fromaddr.as_deref(), Some("c@d"));
    assert_eq!(settings("fromaddr: a@b", "", nav).fromaddr.as_deref(), Some("a@b"));

    // Another server gets nothing that is nav.conf's server's.
    for (main, key, nav, server) in [
        ("mailserver: other", "server: mail.example.org:2525", nav, Some(("mail.example.org", Some(2525)))),
        ("mailserver: other", "server: [::1]:26", nav, Some(("::1", Some(26)))),
        ("", "server: ::1", nav, Some(("::1", None))),
        ("mailserver: other", "", "EMAIL_HOST_PASSWORD=x\nEMAIL_HOST_USER=y", Some(("other", None))),
        ("", "", "", None),
    ] {
        let found = settings(main, key, nav);
        assert_eq!(found.server, server.map(|(host, port)| (host.to_owned(), port)), "{main} {key}");
        assert!(found.tls.is_none() && found.username.is_none() && found.password.is_none(), "{found:?}");
    }
}

/// The names of a struct's fields.
fn fields(value: &impl std::fmt::Debug) -> BTreeSet<String> {
    let text = format!("{value:#?}");
    let names = text.lines().filter_map(|l| l.strip_prefix("    ")?.split_once(':'));
    names.map(|(name, _)| name.to_owned()).filter(|n| !n.starts_with(' ')).collect()
}

#[test]
fn a_program_is_split_into_words_and_its_variables_keep_their_spelling() {
    let mut site = Site::new(
        "[DEFAULT]\nenv.LANG: C\n[dispatcher]\ndispatcher1: a\ndispatcher2: b\n\
         [a]\ntype: ExecDispatcher\ncommand: bin/send --name 'ttyUSB 0' \"a\\\"b\" $HOME *\n  --last\nmode: Stream\n\
         directory: work\nenv.Api_Key: MARKER 1\nenv.SSL_CERT_FILE: /etc/ssl/x\nenv.TOKEN_file: token\n\
         env.PIN_env: THE_PIN\nclass.E451: RTMP\n\
         [b]\ntype: ExecDispatcher\ncommand: send\nprobe: ./probe now\nclass.75: THR\n",
    );
    site.write("etc/nav/token", "MARKER 2\n");
    site.set("THE_PIN", "MARKER 3");
    let config = site.clean();
    assert!(!format!("{config:?}").contains("MARKER"));
    let [a, b] = &config.dispatchers[..] else { panic!("{:?}", config.dispatchers) };
    let (DispatcherKind::Exec(a), DispatcherKind::Exec(b)) = (&a.kind, &b.kind) else { panic!() };
    let home = config.files[0].parent().unwrap();
    assert_eq!((&a.program.path, a.mode), (&home.join("bin/send"), Mode::Stream));
    assert_eq!(a.program.args, ["--name", "ttyUSB 0", "a\"b", "$HOME", "*", "--last"]);
    assert_eq!(a.program.directory, Some(home.join("work")));
    let env: Vec<(&str, &str)> = a.program.env.iter().map(|(k, v)| (&**k, &**v.reveal())).collect();
    let want = [
        ("Api_Key", "MARKER 1"),
        ("LANG", "C"),
        ("PIN", "MARKER 3"),
        ("SSL_CERT_FILE", "/etc/ssl/x"),
        ("TOKEN", "MARKER 2"),
    ];
    assert_eq!(env, want);
    assert_eq!((b.program.path.to_str(), b.mode), (Some("send"), Mode::Oneshot));
    let probe = [home.join("./probe").to_str().unwrap().to_owned(), "now".to_owned()];
    assert_eq!(b.probe.as_deref(), Some(&probe[..]));
}

#[test]
fn a_class_of_nav_is_given_its_whole_section() {
    let site = Site::new(
        "[DEFAULT]\nsite: north\n[dispatcher]\ndispatcher1: ModemDispatcher\ndispatcher2: other\n\
         [ModemDispatcher]\ntype: PythonDispatcher\nUser: MARKER-1\npassword: MARKER: 2\n  and 3\ntimeout: 7\n\
         class.ValueError: DTMP\n\
         [other]\ntype: PythonDispatcher\npython: venv/bin/python\npath: plugins, /opt/sms\nmodule: my_site.sms\n\
         class: Sms_2\nconcurrency: 4\n",
    );
    let config = site.clean();
    assert!(!format!("{config:?}").contains("MARKER"));
    let [modem, other] = &config.dispatchers[..] else { panic!("{:?}", config.dispatchers) };
    assert_eq!((modem.concurrency(&config.main), other.concurrency(&config.main)), (1, 4));
    assert_eq!(modem.classes.get("valueerror"), Some(&Status::Refused(Class::Unavailable)));
    let (DispatcherKind::Python(modem), DispatcherKind::Python(other)) = (&modem.kind, &other.kind) else {
        panic!()
    };
    assert_eq!((&*modem.module, &*modem.class), ("nav.smsd.modemdispatcher", "ModemDispatcher"));
    assert_eq!((modem.python.to_str(), modem.path.len()), (Some("python3"), 0));
    let own: Vec<(&str, &str)> = modem.own.iter().map(|(k, v)| (&**k, &**v.reveal())).collect();
    assert_eq!(own, [("password", "MARKER: 2\nand 3"), ("site", "north"), ("user", "MARKER-1")]);
    let common: Vec<(&str, &str)> = modem.common.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(common, [("class.valueerror", "DTMP"), ("timeout", "7"), ("type", "PythonDispatcher")]);
    let home = config.files[0].parent().unwrap();
    assert_eq!(
        (&*other.module, &*other.class, &other.python),
        ("my_site.sms", "Sms_2", &home.join("venv/bin/python"))
    );
    assert_eq!(other.path, [home.join("plugins"), "/opt/sms".into()]);
    assert!(other.own.keys().eq(["site"]));
}

#[test]
fn what_only_a_class_knows_may_be_a_secret() {
    let text = "[dispatcher]\ndispatcher1: MyDispatcher\n[MyDispatcher]\ntype: PythonDispatcher\n";
    let open = Site::new(text);
    open.chmod("etc/nav/smsd.conf", 0o644);
    assert!(open.load().unwrap().warnings.is_empty());
    let secret = Site::new(&format!("{text}pin: 1234\n"));
    secret.chmod("etc/nav/smsd.conf", 0o644);
    let warnings = secret.load().unwrap().warnings;
    let told: Vec<String> = warnings.iter().map(said).collect();
    assert!(told.len() == 1 && told[0].contains("chmod"), "{told:?}");
}

// -- what is wrong ------------------------------------------------------------------------------

/// Each file of the folder is named after its fault; beside it stands what is said of it.
#[test]
fn every_bad_file_is_told_as_written_beside_it() {
    let files = files_in("bad", "conf");
    assert!(files.len() >= 60, "{}", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let site = Site::empty();
        let copy = site.write("etc/nav/smsd.conf", "");
        fs::write(copy, fs::read(&file).unwrap()).unwrap();
        let (loaded, faults) = match site.load() {
            Ok(loaded) => (true, Faults(loaded.warnings)),
            Err(faults) => (false, faults),
        };
        let said: String = faults.0.iter().map(said).collect();
        assert_eq!(loaded, !faults.is_fatal(), "{file:?}");
        assert!(!faults.0.is_empty(), "{file:?} has no fault");
        assert!(!show(&faults).contains("hunter2"), "{file:?} shows its secret:\n{}", show(&faults));
        if fs::read_to_string(file.with_extension("txt")).ok().as_ref() != Some(&said) {
            wrong.push(format!("== {}\n{said}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "not as written:\n\n{}", wrong.join("\n"));
}

/// `fault 3:8: message (hint)`, without the directory that the test happens to run in.
fn said(fault: &config::Fault) -> String {
    let word = match fault.severity {
        Severity::Fault => "fault",
        Severity::Flaw => "flaw",
        Severity::Warning => "warning",
    };
    let line = fault.to_string();
    let place = line.find("smsd.conf:").map_or(0, |at| at + "smsd.conf:".len());
    let line = line.split_at(place).1.trim_start();
    let line = match line.find("/tmp/").zip(line.find("/etc/nav")) {
        Some((from, to)) => line.replace(&line[from..to], ""),
        None => line.to_owned(),
    };
    format!("{word} {line}\n")
}

/// A file in which everything is wrong, with a secret wherever people put one.
const LEAKY: &str = "\
MARKER outside of any section
[DEFAULT]
token: MARKER
pasword: MARKER
[main]
delay: soon
  password: MARKER
retrylimit: 3
  password: MARKER
allow: +47
  password: MARKER
password MARKER
MARKER&recv=%(phone)s
mailserver: a b
passwd = MARKER
api_key: MARKER
  MARKER
[queue]
type: NAVDBQueue
url: postgresql://nav:MARKER@db/nav?x
url_env: MARKER-IS-NO-NAME
[dispatcher]
dispatcher1: gw
dispatcher2: boost
dispatcher3: other
dispatcher4: third
dispatcher5: fourth
  password: MARKER
dispatcher6: fourth
[gw]
type: HttpGetDispatcher
url: https://u:MARKER@gw/?pass=MARKER&to=%(phone)s
  MARKER
url: MARKER
secret: MARKER
[other]
type: HttpGetDispatcher
url: https://u:MARKER@gw/?pass=MARKER&to=%(phone)s&text=%(sms)s&x=%%
  rate: 3
[third]
type: HttpGetDispatcher
success: (
  password: MARKER
rate: x
  password: MARKER
class.500: x
  MARKER
url_env: GATEWAY
[fourth]
type: HtpGetDispatcher
  password: MARKER
[boost]
type: BoostDispatcher
username: MARKER
password: MARKER
: MARKER
[http]
listen: x
token: MARKER MARKER
[unknown]
password: MARKER
[unknown]
MARKER
";

#[test]
fn a_secret_never_shows() {
    let mut site = Site::new(LEAKY);
    site.write("etc/nav/db.conf", "db_nav=nav\nscript_default=nav\nuserpw_nav=MARKER\nMARKER\ndbport=x\n");
    site.write("etc/nav/nav.conf", "EMAIL_HOST_PASSWORD=MARKER\nMARKER\nEMAIL_PORT=x\n SECRET_KEY MARKER\n");
    site.set("GATEWAY", "https://gw/?pass=MARKER&to=%(phone)s");
    for mode in [0o640, 0o644] {
        for file in ["smsd.conf", "db.conf", "nav.conf"] {
            site.chmod(&format!("etc/nav/{file}"), mode);
        }
        let faults = site.load().unwrap_err();
        assert!(faults.0.len() > 20, "{}", faults.render(false));
        let shown = format!("{}\n{:?}", show(&faults.strict()), site.env);
        assert!(!shown.to_lowercase().contains("marker"), "{shown}");
    }
}

#[test]
fn a_secret_in_a_sound_configuration_shows_nowhere_either() {
    let mut site = Site::new(
        "[dispatcher]\ndispatcher1: gw\n[gw]\ntype: HttpGetDispatcher\nurl_env: GATEWAY\n\
         [queue]\ntype: NAVDBQueue\nurl_file: url\n[http]\ntoken: MARKERMARKERMARKER\n",
    );
    site.write("etc/nav/url", "postgresql://nav:MARKER@db/nav\n");
    site.write("etc/nav/nav.conf", "EMAIL_HOST_PASSWORD=MARKER\n");
    site.set("GATEWAY", "https://gw/?pass=MARKER&to=%(phone)s&text=%(sms)s");
    let config = site.clean();
    assert!(!format!("{config:?} {config:#?} {:?}", site.env).contains("MARKER"));
    let QueueKind::NavDb(db) = config.queue.kind else { panic!() };
    assert_eq!(db.url.unwrap().reveal(), "postgresql://nav:MARKER@db/nav", "without the line end");
    let DispatcherKind::HttpGet(http) = &config.dispatchers[0].kind else { panic!() };
    assert!(http.url.reveal().contains("MARKER"));
}

#[test]
fn a_secret_may_come_from_the_service_manager() {
    let text = "[dispatcher]\ndispatcher1: gw\n[gw]\ntype: HttpGetDispatcher\nurl_credential: gw.token\n";
    let mut site = Site::new(text);
    // What root types has no variable, and looks where our unit's credentials are.
    let faults = site.load().unwrap_err().0;
    let told = said(&faults[0]);
    assert!(told.starts_with("fault 5:1: url_credential: can not read"), "{told}");
    assert!(told.contains("/run/credentials/smsd.service/gw.token"), "{told}");
    assert!(told.contains("LoadCredential=gw.token:PATH"), "{told}");
    site.write(
        "run/credentials/smsd.service/gw.token",
        "https://gw/?to=%(phone)s&text=%(sms)s&pw=MARKER-of-our-unit\n",
    );
    let url = |site: &Site| {
        let config = site.clean();
        assert!(!format!("{config:?}").contains("MARKER"));
        let DispatcherKind::HttpGet(http) = &config.dispatchers[0].kind else { panic!() };
        http.url.reveal().clone()
    };
    assert!(url(&site).ends_with("MARKER-of-our-unit"));
    // The service has its own folder.
    site.write("credentials/gw.token", "https://gw/?to=%(phone)s&text=%(sms)s&pw=MARKER-of-this-one\n");
    let folder = site.dir.path().join("credentials");
    site.set("CREDENTIALS_DIRECTORY", folder.to_str().unwrap());
    assert!(url(&site).ends_with("MARKER-of-this-one"));
    for bad in ["../gw.token", "a/b", "", ".", "MARKER MARKER"] {
        site.write("etc/nav/smsd.conf", &text.replace("gw.token", bad));
        let faults = site.load().unwrap_err();
        assert!(show(&faults).contains("expected the name of a credential"), "{bad}: {}", show(&faults));
        assert!(!show(&faults).contains("MARKER"));
    }
}

#[test]
fn a_secret_that_others_can_read_is_a_flaw() {
    let site = Site::new(HTTP);
    site.write("etc/nav/db.conf", "db_nav=nav\nscript_default=nav\nuserpw_nav=x\n");
    site.chmod("etc/nav/smsd.conf", 0o644);
    site.chmod("etc/nav/db.conf", 0o604);
    let warnings = Faults(site.load().unwrap().warnings);
    let told: Vec<String> = warnings.0.iter().map(said).collect();
    let [conf, db] = &told[..] else { panic!("{told:?}") };
    assert!(
        conf.starts_with("flaw 4:1: everybody on this machine can read this secret (mode 0644)"),
        "{conf}"
    );
    assert!(db.contains("db.conf:3:1: everybody on this machine can read this secret (mode 0604)"), "{db}");
    assert!(!warnings.is_fatal() && warnings.strict().is_fatal());

    // So is one in a file of its own, and a private key.
    let site = Site::new(
        "[dispatcher]\ndispatcher1: gw\n[gw]\ntype: HttpGetDispatcher\nurl_file: url\n\
         [http]\ntls_cert: cert\ntls_key: key\n",
    );
    site.write("etc/nav/url", "https://gw/?pass=x&to=%(phone)s&text=%(sms)s\n");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    site.write("etc/nav/cert", &made.cert.pem());
    site.write("etc/nav/key", &made.signing_key.serialize_pem());
    site.chmod("etc/nav/cert", 0o644);
    site.clean();
    for file in ["url", "key"] {
        site.chmod(&format!("etc/nav/{file}"), 0o644);
    }
    let warnings = site.load().unwrap().warnings;
    let told: Vec<String> = warnings.iter().map(said).collect();
    let [url, key] = &told[..] else { panic!("{told:?}") };
    assert!(url.starts_with("flaw 5:1: url_file: everybody on this machine can read"), "{url}");
    assert!(url.contains("/url\" (mode 0644)") && url.contains("chmod o-r "), "{url}");
    assert!(key.starts_with("flaw 8:1: tls_key: everybody on this machine can read"), "{key}");

    // No secret, nothing to hide.
    let site = Site::new("[dispatcher]\ndispatcher1: DebugDispatcher\n");
    site.chmod("etc/nav/smsd.conf", 0o644);
    site.clean();
}

#[test]
fn a_fault_is_shown_with_its_line_and_a_mark() {
    let site = Site::new("[dispatcher]\ndispatcher1: DebugDispatcher\n[main]\n\tlog_level: wårn\n");
    let faults = site.load().unwrap_err();
    let file = site.dir.path().join("etc/nav/smsd.conf");
    let expected = format!(
        "\
fault: log_level: found \"wårn\", expected error, warn, info, debug or trace
 --> {}:4:13
  |
4 |  log_level: wårn
  |             ^^^^
  |
  = hint: did you mean \"warn\"?",
        file.display()
    );
    assert_eq!(faults.render(false), expected);
    assert!(!faults.render(false).contains('\x1b') && faults.render(true).contains('\x1b'));
    let json = serde_json::to_value(&faults).unwrap();
    let expected = serde_json::json!([{
        "file": file, "line": 4, "column": 13, "severity": "fault",
        "message": "log_level: found \"wårn\", expected error, warn, info, debug or trace",
        "hint": "did you mean \"warn\"?",
    }]);
    assert_eq!(json, expected);
}

#[test]
fn a_file_full_of_faults_is_told_up_to_a_bound_and_still_refused() {
    let unknown: String = (0..100_000).map(|n| format!("k{n}:\n")).collect();
    let site = Site::new(&format!("[dispatcher]\ndispatcher1: DebugDispatcher\n[main]\n{unknown}delay: x\n"));
    let faults = site.load().unwrap_err();
    assert_eq!(faults.0.len(), 102);
    assert_eq!(faults.0.last().unwrap().message, "and 99900 more");
}

#[test]
fn what_is_in_a_file_can_not_steer_a_terminal_or_flood_it() {
    let long = "x".repeat(5000);
    let site = Site::empty();
    let text = format!(
        "[dispatcher]\ndispatcher1: \x1b[2J\u{202e}gw\ndispatcher2: HttpGetDispatcher\ndispatcher3: {long}\n\
         [HttpGetDispatcher]\nurl_file: {long}\n[\x1b]0;x\u{9b}]\n[{long}]\n[main]\ndelay: \x1b]0;x\x07\n\
         maxdelay: {long}\nusername: a\x1b[2J b\nlog_level: {long}\n{long}: 1\n{long}\n",
    );
    let file = site.write("\x1b[2J.conf", &text);
    let faults = config::load(Some(&file), &site.env).unwrap_err();
    assert!(faults.0.len() > 8, "{faults}");
    let shown = format!("{faults}{}{}", faults.render(false), serde_json::to_string(&faults).unwrap());
    assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    let longest = shown.split("\",\"").flat_map(str::lines).map(str::len).max();
    assert!(longest < Some(1024), "{longest:?}");
}
