//! The keys of ExecDispatcher.

use std::path::Path;

use super::super::ini::Entry;
use super::super::section::Section;
use super::super::value::{self, Parsed, Wrong, clipped, wrong};
use crate::dispatch::exec::{Mode, Program, Settings};

pub(super) fn read(s: &mut Section<'_, '_>, named_by: &Entry) -> Option<Settings> {
    let home = s.directory();
    let command = s.get("command", |text| words(text, home));
    if s.entry("command").is_none() {
        let hint = "such as command: /usr/local/bin/send-sms --modem 1".to_owned();
        s.fault_section(named_by, format!("[{}] has no command", clipped(&s.name)), hint);
    }
    let mode = s
        .get("mode", value::one_of(&[("oneshot", Mode::Oneshot), ("stream", Mode::Stream)]))
        .unwrap_or(Mode::Oneshot);
    let probe = s.get("probe", |text| words(text, home));
    if let (Mode::Stream, Some(entry)) = (mode, s.entry("probe")) {
        let hint = "a program that is spoken to in lines is asked itself; remove the key".to_owned();
        s.fault_at(entry, "probe: only with mode: oneshot", hint);
    }
    let directory = s.path("directory");
    let env = s.secrets("env.", variable, without_nul);
    let (path, args) = command?.split_first().map(|(path, args)| (path.into(), args.to_vec()))?;
    Some(Settings { program: Program { path, args, env, directory }, mode, probe })
}

/// A program and its arguments, split as a shell splits them; a path with a slash starts at `home` unless it is
/// absolute.
fn words(text: &str, home: &Path) -> Parsed<Vec<String>> {
    if text.contains('\0') {
        return wrong("a program and its arguments");
    }
    let mut words = shlex::split(text).ok_or_else(|| Wrong {
        expected: "a program and its arguments".to_owned(),
        part: None,
        hint: Some("a quote is not closed, or a backslash stands at the end".to_owned()),
    })?;
    match words.first_mut() {
        Some(program) if program.contains('/') => {
            if let Some(path) = home.join(&*program).to_str() {
                *program = path.to_owned();
            }
        }
        Some(program) if !program.is_empty() => {}
        _ => return wrong("a program and its arguments"),
    }
    Ok(words)
}

/// The name of a variable, which is not one of those by which an SMS is told.
fn variable(name: &str) -> Parsed<String> {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let is_name =
        name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b.is_ascii_digit());
    if !is_name || name.starts_with("SMSD_") {
        return wrong("the name of an environment variable that does not begin with SMSD_, after env.");
    }
    Ok(name.to_owned())
}

fn without_nul(text: &str) -> Parsed<String> {
    if text.contains('\0') { wrong("a value without NUL") } else { Ok(text.to_owned()) }
}
