//! The configuration as operators meet it: Python's dialect, NAV's files, every fault in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use smsd::config::{self, Config, DispatcherKind, Env, Faults, Loaded, LogLevel, QueueKind, Severity, ini};
use smsd::dispatch::{Class, status::Status};
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
