//! One section as its reader sees it: keys are taken by name, and what nobody took is unknown.
//!
//! So the names, types and bounds of the keys stand once, where they are read, and no second list of
//! known keys can fall behind.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::env::Env;
use super::fault::{Collector, Fault, Severity};
use super::ini::{self, Entry, Ini};
use super::secret::Secret;
use super::source::{Source, readable_by_others};
use super::value::{self, Parsed, Wrong, clipped};

/// smsd.conf while it is being read.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) ini: &'a Ini,
    pub(super) env: &'a Env,
    pub(super) faults: Collector,
    /// The sections that were opened.
    opened: BTreeSet<String>,
    /// Key → the sections that know it.
    pub(super) known: BTreeMap<String, BTreeSet<String>>,
    /// Sections, how keys begin whose end is the operator's own, and whether these are secret.
    pub(super) prefixes: BTreeSet<(String, String, bool)>,
    /// Keys of `[DEFAULT]` that a section knows.
    inherited: HashSet<&'a str>,
    /// Where the first secret stands in the file itself.
    pub(super) inline_secret: Option<Range<usize>>,
    /// Where secrets may stand: see [`super::Config::secret_keys`].
    pub(super) secret_keys: BTreeSet<(String, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, ini: &'a Ini, env: &'a Env, faults: Collector) -> Reader<'a> {
        Reader {
            source,
            ini,
            env,
            faults,
            opened: BTreeSet::new(),
            known: BTreeMap::new(),
            prefixes: BTreeSet::new(),
            inherited: HashSet::new(),
            inline_secret: None,
            secret_keys: BTreeSet::new(),
        }
    }

    /// Opens a section. One that does not stand in the file has the keys of `[DEFAULT]`.
    pub(super) fn section(&mut self, name: &str) -> Section<'_, 'a> {
        let ini = self.ini;
        self.opened.insert(name.to_owned());
        let own = ini.sections.iter().find(|s| s.name == name);
        let own: &[Entry] = own.map_or(&[], |s| &s.entries);
        let keys: HashSet<&str> = own.iter().map(|e| e.key.as_str()).collect();
        let inherited = ini.defaults.iter().filter(|e| !keys.contains(e.key.as_str())).collect();
        Section {
            name: name.to_owned(),
            own: own.iter().collect(),
            inherited,
            asked: BTreeSet::new(),
            reader: self,
        }
    }

    /// True if the section has a reader.
    pub(super) fn is_open(&self, name: &str) -> bool {
        self.opened.contains(name)
    }

    /// What Python refuses, and the keys of `[DEFAULT]` that no section knows. Comes last, since what may be
    /// shown of a broken line depends on which keys are known.
    pub(super) fn finish(mut self) -> Collector {
        for error in &self.ini.errors {
            let known = &self.known;
            self.faults
                .push(Severity::Fault, |_| syntax_fault(self.source, error, |word| known.contains_key(word)));
        }
        for entry in &self.ini.defaults {
            if !self.inherited.contains(entry.key.as_str()) {
                let known = self.known.keys().map(String::as_str);
                self.faults.push(Severity::Flaw, |severity| {
                    let near = value::nearest(&entry.key, known).map(|n| format!("did you mean {n:?}?"));
                    unknown_key(self.source, severity, "DEFAULT", entry, near)
                });
            }
        }
        self.faults
    }
}

/// One section. [`Section::close`] reports the keys that nobody asked for.
pub(super) struct Section<'r, 'a> {
    pub(super) name: String,
    own: Vec<&'a Entry>,
    inherited: Vec<&'a Entry>,
    asked: BTreeSet<String>,
    pub(super) reader: &'r mut Reader<'a>,
}

impl<'a> Section<'_, 'a> {
    /// Sets `target` if the key is there and its value is good.
    pub(super) fn set<T>(&mut self, key: &str, target: &mut T, parse: impl Fn(&str) -> Parsed<T>) {
        if let Some(value) = self.get(key, parse) {
            *target = value;
        }
    }

    /// The value of a key; `None` if it is not there, or not good, which is then a fault.
    pub(super) fn get<T>(&mut self, key: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let entry = self.entry(key)?;
        self.parse(entry, parse)
    }

    /// The same for an entry at hand.
    pub(super) fn parse<T>(&mut self, entry: &'a Entry, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        parse(entry.value.text.trim())
            .map_err(|wrong| self.wrong_value(entry, wrong, |text| parse(text.trim()).is_ok()))
            .ok()
    }

    /// A path; a relative one starts at the directory of the file.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.get(key, value::path).map(|p| self.directory().join(p))
    }

    /// A secret: `key`, or a file's content by `key_file`, or a variable's by `key_env`, or what systemd was given to
    /// hand on by `key_credential`. What is wrong with it is said without showing it: `parse` must not quote the value
    /// in what it expects.
    pub(super) fn secret<T>(&mut self, key: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<Secret<T>> {
        self.may_be_secret(key);
        let mut given = Vec::new();
        for form in SECRET_FORMS {
            given.extend(self.entry(&format!("{key}{form}")).map(|entry| (form, entry)));
        }
        let (form, entry) = match given[..] {
            [] => return None,
            [one] => one,
            [(_, first), (_, second), ..] => {
                self.fault_at(
                    second,
                    format!("{} and {} are both set, expected one", first.key, second.key),
                    None,
                );
                return None;
            }
        };
        self.secret_of(form, entry, parse)
    }

    /// Secrets by the name that follows `prefix`, spelled as it stands in the file; each in one of the forms of
    /// [`Section::secret`]. Since names are told apart from forms by their case, `X_FILE` is a name and `X_file` a form.
    pub(super) fn secrets<T>(
        &mut self,
        prefix: &str,
        name: impl Fn(&str) -> Parsed<String>,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> BTreeMap<String, Secret<T>> {
        self.are_secret(prefix);
        let mut found = BTreeMap::new();
        for (_, entry) in self.prefixed(prefix, Some) {
            let spelled = self.spelled(entry).get(prefix.len()..).unwrap_or_default();
            let form =
                SECRET_FORMS.into_iter().rev().find(|form| spelled.ends_with(form)).unwrap_or_default();
            let key = match name(spelled.strip_suffix(form).unwrap_or(spelled)) {
                Ok(key) => key,
                Err(wrong) => {
                    let message = format!("{}: expected {}", clipped(&entry.key), wrong.expected);
                    self.fault_at(entry, message, wrong.hint);
                    continue;
                }
            };
            let Some(secret) = self.secret_of(form, entry, &parse) else { continue };
            if found.insert(key.clone(), secret).is_some() {
                let message = format!("{prefix}{} is set twice, expected once", clipped(&key));
                self.fault_at(entry, message, None);
            }
        }
        found
    }

    fn secret_of<T>(
        &mut self,
        form: &str,
        entry: &'a Entry,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<Secret<T>> {
        let text = entry.value.text.trim();
        let found = match form {
            "_file" => {
                let path = self.directory().join(text);
                self.check_readers(entry, &path);
                // What is no path may be the secret itself, put behind the wrong key.
                let absolute = text.starts_with('/') && !text.contains([':', '@', '?', '=']);
                let near = text.contains('/') && path.parent().is_some_and(Path::exists);
                let is_path = absolute || near || path.exists();
                secret_file(&path, if is_path { Some(&path) } else { None })
            }
            "_env" => self.variable(text),
            "_credential" => self.credential(text),
            _ => {
                self.reader.inline_secret.get_or_insert(entry.span.clone());
                Ok(text.to_owned())
            }
        };
        let judged = found.map_err(|why| (why, None)).and_then(|text| {
            let not_shown =
                |w: Wrong| (format!("expected {} (what was found is secret)", w.expected), w.hint);
            parse(&text).map_err(not_shown)
        });
        judged
            .map_err(|(why, hint)| self.fault_at(entry, format!("{}: {why}", entry.key), hint))
            .ok()
            .map(Secret::new)
    }

    /// True if [`Section::secret`] has found the key in one of its forms, be it good or not.
    pub(super) fn has_secret(&mut self, key: &str) -> bool {
        self.secret_entry(key).is_some()
    }

    /// A secret's entry, in whichever form it stands.
    pub(super) fn secret_entry(&mut self, key: &str) -> Option<&'a Entry> {
        SECRET_FORMS.iter().find_map(|form| self.entry(&format!("{key}{form}")))
    }

    /// The path of a file that is a secret as a whole, such as a private key.
    pub(super) fn secret_path(&mut self, key: &str) -> Option<PathBuf> {
        self.may_be_secret(key);
        let path = self.path(key)?;
        if let Some(entry) = self.entry(key) {
            self.check_readers(entry, &path);
        }
        Some(path)
    }

    /// Says so if others can read what a secret comes from.
    fn check_readers(&mut self, entry: &'a Entry, path: &Path) {
        if let Some(mode) = readable_by_others(path) {
            let message = format!(
                "{}: everybody on this machine can read {path:?} (mode {mode:04o})",
                clipped(&entry.key)
            );
            self.flaw_at(entry, message, format!("chmod o-r {}", path.display()));
        }
    }

    fn may_be_secret(&mut self, key: &str) {
        self.reader.secret_keys.insert((self.name.clone(), key.to_owned()));
    }

    /// The keys that are `prefix` and something that `accept` makes sense of.
    pub(super) fn prefixed<T>(
        &mut self,
        prefix: &str,
        accept: impl Fn(&'a str) -> Option<T>,
    ) -> Vec<(T, &'a Entry)> {
        self.reader.prefixes.insert((self.name.clone(), prefix.to_owned(), false));
        let all = self.own.iter().chain(&self.inherited);
        let found: Vec<(T, &Entry)> =
            all.filter_map(|e| Some((accept(e.key.strip_prefix(prefix)?)?, *e))).collect();
        for (_, entry) in &found {
            self.ask(&entry.key);
        }
        found
    }

    /// Notes that the keys that begin with `prefix` are secret.
    pub(super) fn are_secret(&mut self, prefix: &str) {
        self.may_be_secret(&format!("{prefix}*"));
        self.reader.prefixes.insert((self.name.clone(), prefix.to_owned(), true));
    }

    /// A key as it stands in the file, where case is told apart.
    pub(super) fn spelled(&self, entry: &'a Entry) -> &'a str {
        self.reader.source.text.get(entry.span.clone()).unwrap_or(&entry.key)
    }

    /// True if no key stands in the section itself.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty()
    }

    /// The section's own keys, whatever their names, and not those of `[DEFAULT]`.
    pub(super) fn all(&mut self) -> Vec<&'a Entry> {
        self.reader.prefixes.insert((self.name.clone(), String::new(), false));
        let own = self.own.clone();
        for entry in &own {
            self.ask(&entry.key);
        }
        own
    }

    /// True if the key stands in the section itself.
    pub(super) fn has_own(&self, key: &str) -> bool {
        self.own.iter().any(|entry| entry.key == key)
    }

    /// Puts keys under those of the section: they hold where it says nothing, in no form of the key. They are no part
    /// of the file, so that no fault may be told of them.
    pub(super) fn lay_under(&mut self, entries: &[&'a Entry]) {
        let said = |key: &str| SECRET_FORMS.iter().any(|form| self.has_own(&format!("{key}{form}")));
        let under: Vec<&Entry> = entries.iter().filter(|entry| !said(&entry.key)).copied().collect();
        self.inherited.retain(|entry| under.iter().all(|laid| laid.key != entry.key));
        self.inherited.splice(0..0, under);
    }

    /// All keys, and those of `[DEFAULT]`; true with each that nobody has asked for yet, which then counts as known. It
    /// may be a secret.
    pub(super) fn every(&mut self) -> Vec<(&'a str, &'a Entry, bool)> {
        self.may_be_secret("*");
        let all: Vec<&'a Entry> = self.own.iter().chain(&self.inherited).copied().collect();
        let mut every = Vec::new();
        for entry in all {
            let unknown = !self.asked.contains(&entry.key);
            if unknown {
                self.reader.inline_secret.get_or_insert(entry.span.clone());
                self.ask(&entry.key);
            }
            every.push((entry.key.as_str(), entry, unknown));
        }
        every
    }

    /// An entry as it stands.
    pub(super) fn entry(&mut self, key: &str) -> Option<&'a Entry> {
        self.ask(key);
        self.own.iter().chain(&self.inherited).find(|e| e.key == key).copied()
    }

    /// A fault of a value that was read: key and value are shown.
    pub(super) fn fault(
        &mut self,
        entry: &Entry,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let span = entry.value.span();
        self.fault_in(span.clone(), span.end, message, hint);
    }

    /// A fault of a key: its value is not shown.
    pub(super) fn fault_at(
        &mut self,
        entry: &Entry,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        self.fault_in(entry.span.clone(), entry.span.end, message, hint);
    }

    /// A fault in a line of a value, counted from 1 and without the empty lines before it: the line is not shown.
    pub(super) fn fault_in_line(
        &mut self,
        entry: &Entry,
        line: Option<usize>,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let text = entry.value.text.as_str();
        let lead = text.len() - text.trim_start().len();
        let skipped = text.get(..lead).unwrap_or_default().matches('\n').count();
        let wanted = line.map_or(0, |line| skipped + line - 1);
        match text.split('\n').take(wanted).map(|line| line.len() + 1).sum::<usize>() {
            start if wanted > 0 && start < text.len() => {
                let span = entry.value.locate(start..text.len());
                self.fault_in(span.clone(), span.start, message, hint);
            }
            _ => self.fault_at(entry, message, hint),
        }
    }

    /// A fault of the section as a whole, told where it begins; if it does not stand in the file, at the value
    /// that names it.
    pub(super) fn fault_section(
        &mut self,
        named_by: &Entry,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let header = self.reader.ini.sections.iter().find(|s| s.name == self.name);
        let span = header.map_or_else(|| named_by.value.span(), |s| s.span.clone());
        self.fault_in(span.clone(), span.end, message, hint);
    }

    /// A warning about a key: its value is not shown.
    pub(super) fn warning_at(
        &mut self,
        entry: &Entry,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let source = self.reader.source;
        let span = entry.span.clone();
        self.reader
            .faults
            .push(Severity::Warning, |s| source.fault(s, span.clone(), span.end, message).hint(hint));
    }

    /// A flaw of a key: its value is not shown.
    pub(super) fn flaw_at(
        &mut self,
        entry: &Entry,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let source = self.reader.source;
        let span = entry.span.clone();
        self.reader
            .faults
            .push(Severity::Flaw, |s| source.fault(s, span.clone(), span.end, message).hint(hint));
    }

    /// Reports what nobody asked for.
    pub(super) fn close(self) {
        let Section { name, own, asked, reader, .. } = self;
        for entry in own.iter().filter(|e| !asked.contains(&e.key)) {
            let known = &reader.known;
            reader.faults.push(Severity::Flaw, |severity| {
                let near = value::nearest(&entry.key, asked.iter().map(String::as_str));
                let near = near.map(|n| format!("did you mean {n:?}?"));
                let elsewhere =
                    || known.get(&entry.key)?.first().map(|s| format!("[{s}] has a key of that name"));
                unknown_key(reader.source, severity, &name, entry, near.or_else(elsewhere))
            });
        }
    }

    fn ask(&mut self, key: &str) {
        if !self.asked.insert(key.to_owned()) {
            return;
        }
        self.reader.known.entry(key.to_owned()).or_default().insert(self.name.clone());
        if let Some(entry) = self.inherited.iter().find(|e| e.key == key) {
            self.reader.inherited.insert(&entry.key);
        }
    }

    fn wrong_value(&mut self, entry: &Entry, wrong: Wrong, good: impl Fn(&str) -> bool) {
        let text = entry.value.text.as_str();
        let lead = text.len() - text.trim_start().len();
        let whole = wrong.part.is_none();
        let mut part = wrong.part.map_or(lead..text.len(), |p| lead + p.start..lead + p.end);
        // An item that looks like a key was swallowed by the indentation: what is behind it may be a secret.
        if let Some(delimiter) = text.get(part.clone()).and_then(|t| t.find([':', '=']))
            && !whole
        {
            part.end = part.start + delimiter;
        }
        let found = clipped(text.get(part.clone()).unwrap_or_default());
        let found = if found.is_empty() { "nothing".to_owned() } else { format!("\"{found}\"") };

        let cut = |marks: [&str; 2]| {
            let at = marks.iter().filter_map(|m| text.find(m)).min()?;
            text.get(..at).filter(|rest| good(rest))
        };
        let hint = if cut([" #", " ;"]).is_some() {
            Some("a comment must stand on a line of its own".to_owned())
        } else if whole && text.lines().next().is_some_and(&good) {
            let next = entry.value.locate(text.find('\n').map_or(0, |i| i + 1)..text.len());
            let line = self.reader.source.line(next.start);
            Some(format!("line {line} is indented, and so continues this value"))
        } else {
            wrong.hint
        };
        let span = if part.is_empty() { entry.span.clone() } else { entry.value.locate(part) };
        self.fault_in(
            span.clone(),
            span.end,
            format!("{}: found {found}, expected {}", entry.key, wrong.expected),
            hint,
        );
    }

    fn fault_in(
        &mut self,
        span: Range<usize>,
        shown: usize,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let source = self.reader.source;
        self.reader.faults.push(Severity::Fault, |s| source.fault(s, span, shown, message).hint(hint));
    }

    fn variable(&self, name: &str) -> Result<String, String> {
        // What is no name may be the secret itself, put behind the wrong key.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("expected the name of an environment variable".to_owned());
        }
        self.reader.env.var(name).ok_or_else(|| format!("the variable {name:?} is not set"))
    }

    /// What the service manager was given to hand on (`LoadCredential=` in systemd's unit): a file in
    /// `$CREDENTIALS_DIRECTORY`. Commands of root's have no such variable, and look where our unit's are.
    fn credential(&self, name: &str) -> Result<String, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        // What is no name may be the secret itself, put behind the wrong key.
        if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(plain) {
            return Err("expected the name of a credential: letters, digits and . - _".to_owned());
        }
        let env = self.reader.env;
        let folder = env.path("CREDENTIALS_DIRECTORY").unwrap_or_else(|| env.system.join(OUR_CREDENTIALS));
        let path = folder.join(name);
        secret_file(&path, Some(&path))
            .map_err(|why| format!("{why}; LoadCredential={name}:PATH in the unit"))
    }

    /// The directory of the file, where relative paths start.
    pub(super) fn directory(&self) -> &'a Path {
        self.reader.source.path.parent().unwrap_or(Path::new(""))
    }
}

/// The content of a secret's file without its last line end; `shown` is what may be said of its path.
fn secret_file(path: &Path, shown: Option<&Path>) -> Result<String, String> {
    let shown =
        shown.map_or_else(|| "the file (what was found may be secret)".to_owned(), |p| format!("{p:?}"));
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(SECRET_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(n) if n as u64 > SECRET_MAX => Err(format!("{shown} holds more than {SECRET_MAX} bytes")),
        Ok(_) => Ok(text
            .strip_suffix('\n')
            .map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t))
            .to_owned()),
        Err(e) => Err(format!("can not read {shown}: {e}")),
    }
}

fn syntax_fault(source: &Source, error: &ini::Error, is_key: impl Fn(&str) -> bool) -> Fault {
    use ini::ErrorKind::*;
    let span = error.span.clone();
    let text = source.text.get(span.clone()).unwrap_or_default();
    let first = |r: &Range<usize>| format!("the first stands in line {}", source.line(r.start));
    // The line may be anything, a torn piece of a password too: only a word that we know is shown.
    let word = text.split(ini::is_space).next().unwrap_or_default();
    let is_known = is_key(&word.to_lowercase());
    let shown = if is_known { span.start + word.len() } else { span.start };
    let (shown, message, hint) = match &error.kind {
        NotUtf8 => (span.start, "found bytes that are not UTF-8".to_owned(), None),
        ByteOrderMark => (
            0,
            "the file begins with a byte order mark, which NAV's programs refuse".to_owned(),
            Some("save the file as UTF-8 without it".to_owned()),
        ),
        NoSection => (
            shown,
            "found text before the first section".to_owned(),
            Some("the first line that is no comment must be a section such as [main]".to_owned()),
        ),
        NoDelimiter => (
            shown,
            "found neither \":\" nor \"=\", expected key: value".to_owned(),
            Some(if is_known {
                format!("put a colon after {word:?}")
            } else {
                "a line that continues a value must be indented".to_owned()
            }),
        ),
        NoKey => (span.start, "found no key before \":\" or \"=\"".to_owned(), None),
        DuplicateSection(r) => {
            (span.end, format!("the section {} stands twice", clipped(text)), Some(first(r)))
        }
        DuplicateKey(r) if is_name(text) => {
            (span.end, format!("the key \"{}\" stands twice", clipped(text)), Some(first(r)))
        }
        DuplicateKey(r) => (span.start, "a key stands twice".to_owned(), Some(first(r))),
    };
    source.fault(Severity::Fault, span, shown, message).hint(hint)
}

fn unknown_key(
    source: &Source,
    severity: Severity,
    section: &str,
    entry: &Entry,
    hint: Option<String>,
) -> Fault {
    let section = clipped(section);
    if !is_name(&entry.key) {
        return source
            .fault(severity, entry.span.clone(), entry.span.start, format!("[{section}] has no such key"))
            .hint("a line that continues a value must be indented".to_owned());
    }
    let message = format!("[{section}] has no key \"{}\"", clipped(&entry.key));
    source.fault(severity, entry.span.clone(), entry.span.end, message).hint(hint)
}

/// Could this have been meant as a key? If not, it is a torn piece of a value, perhaps of a secret.
fn is_name(key: &str) -> bool {
    key.len() <= 60 && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
}

/// A key without the ending that says where the secret is.
pub(super) fn bare(key: &str) -> &str {
    SECRET_FORMS.into_iter().rev().find_map(|form| key.strip_suffix(form)).unwrap_or(key)
}

/// How a secret's key may end, and where the secret is then: in the line, in a file, in a variable, with systemd.
pub(super) const SECRET_FORMS: [&str; 4] = ["", "_file", "_env", "_credential"];
/// Where systemd puts the credentials of `smsd.service`, below the root.
const OUR_CREDENTIALS: &str = "run/credentials/smsd.service";
/// Bytes of a secret at most.
const SECRET_MAX: u64 = 64 * 1024;
