//! One run of the program per SMS: what it has to say, it says by its exit code and its output.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::unistd::{AccessFlags, access};
use tokio::process::Command;
use tokio::time::Instant;

use super::super::status::{Meaning, Protocol, Status, of_situation};
use super::super::{Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use super::answer::{Hidden, Word, Words};
use super::{Program, Request, exit_code, last_line, shown_end};
use crate::os::child::{self, Ended};

/// The longest time for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// See the module.
pub struct Oneshot {
    program: Program,
    probe: Option<Program>,
    overrides: BTreeMap<String, Status>,
    limits: Limits,
    secrets: Arc<[String]>,
}

impl Oneshot {
    /// A dispatcher that runs `program` for each SMS, and `probe` (program and arguments) to know whether it would work.
    pub fn new(
        program: Program,
        probe: Option<Vec<String>>,
        overrides: BTreeMap<String, Status>,
        limits: Limits,
    ) -> Oneshot {
        let probe = probe.and_then(|words| {
            let (path, args) = words.split_first()?;
            Some(Program { path: path.into(), args: args.to_vec(), ..program.clone() })
        });
        Oneshot { secrets: program.secrets(), program, probe, overrides, limits }
    }

    /// The program, told of the SMS in variables too, for shells. A text that has no place in a variable is on standard
    /// input alone.
    fn command(&self, request: &Request<'_>) -> Command {
        let mut command = self.program.command();
        command
            .env("SMSD_ID", &request.id)
            .env("SMSD_KEY", &request.key)
            .env("SMSD_TO", &request.to)
            .env("SMSD_TIMEOUT_MS", request.timeout_ms.to_string())
            .env("SMSD_SEGMENTS", request.segments.to_string())
            .env("SMSD_ENCODING", request.encoding.to_string());
        if !request.text.contains('\0') {
            command.env("SMSD_TEXT", request.text);
        }
        command
    }

    /// What a run means.
    fn judge(&self, program: &Program, run: &child::Run, text: &str) -> Result<Receipt, SubmitError> {
        let hidden = Hidden { secrets: &self.secrets, text };
        let by = format!("{}: {}", program.shown(), shown_end(run.ended));
        let Ended::Exit(code) = run.ended else {
            let situation =
                if run.ended == Ended::Late { "no end within the timeout" } else { "killed by a signal" };
            let class = match of_situation(Protocol::Sysexits, situation) {
                Some(Meaning::Answer(Status::Refused(class))) => class,
                _ => Class::Unknown,
            };
            return Err(SubmitError::new(class, with(by, &hidden.quote(last_line(&run.stderr)))));
        };
        let by_code = self.overrides.get(&code.to_string()).copied().unwrap_or_else(|| exit_code(code));
        let mut words = words(&run.stdout);
        if words.detail.is_none() && (code != 0 || words.class.is_some()) {
            words.detail = Some(String::from_utf8_lossy(last_line(&run.stderr)).into_owned());
        }
        let own_code = words.code.is_some();
        let judged = words.judge(Some(by_code), &self.overrides, &by, &hidden);
        judged.map_err(|error| if own_code { error } else { error.code(code.to_string()) })
    }
}

#[async_trait]
impl Dispatcher for Oneshot {
    fn limits(&self) -> Limits {
        self.limits
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        let deadline = Instant::now() + sms.timeout;
        let request = Request::of(sms);
        let run =
            child::run(&mut self.command(&request), &request.line(), deadline).await.map_err(|error| {
                let (class, words) = self.program.not_started(&error);
                SubmitError::new(class, words)
            })?;
        self.judge(&self.program, &run, &sms.text)
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        let Some(probe) = &self.probe else { return self.program.found() };
        let begun = Instant::now();
        let run = child::run(&mut probe.command(), b"", begun + PROBE_TIMEOUT).await.map_err(|error| {
            let (class, words) = probe.not_started(&error);
            SubmitError::new(class, words)
        })?;
        self.judge(probe, &run, "").map_err(|error| match error.class {
            // Nothing was to be sent.
            Class::Unknown => SubmitError { class: Class::Unavailable, ..error },
            _ => error,
        })?;
        Ok(Health(format!("{} answered in {} ms", probe.shown(), begun.elapsed().as_millis())))
    }
}

impl Program {
    /// Could it be started? Asked without doing so.
    fn found(&self) -> Result<Health, SubmitError> {
        let missing = |what: &Path, why: &str| {
            Err(SubmitError::new(Class::Misconfigured, format!("{} {why}", what.display())))
        };
        if let Some(directory) = self.directory.as_deref().filter(|directory| !directory.is_dir()) {
            return missing(directory, "is no folder");
        }
        let runs = |path: &PathBuf| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
        let named = self.path.as_os_str().as_bytes().contains(&b'/');
        let search = match self.env.get("PATH") {
            Some(path) => Some(path.reveal().into()),
            None => std::env::var_os("PATH"),
        };
        let found = if named {
            Some(self.directory.iter().fold(self.path.clone(), |path, directory| directory.join(path)))
                .filter(runs)
        } else {
            std::env::split_paths(&search.unwrap_or_default()).map(|dir| dir.join(&self.path)).find(runs)
        };
        match found {
            Some(path) => Ok(Health(format!("{} is there; no probe is configured", path.display()))),
            None => missing(&self.path, "is no program that can be started"),
        }
    }
}

/// What standard output says: the object of JSON that it begins with, else the reference in its first line. An object that is
/// not sound, or of which the end was not heard, may have said no.
fn words(stdout: &[u8]) -> Words {
    let stdout = stdout.trim_ascii();
    if stdout.starts_with(b"{") {
        let mut values = serde_json::Deserializer::from_slice(stdout).into_iter::<Words>();
        return match values.next() {
            // An object that is no answer, such as a gateway's own, is no reference either.
            Some(Ok(words)) => words,
            _ => Words { unclear: true, ..Words::default() },
        };
    }
    let first = stdout.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
    let reference = (!first.is_empty()).then(|| Word::Text(String::from_utf8_lossy(first).into_owned()));
    Words { reference, ..Words::default() }
}

fn with(by: String, detail: &str) -> String {
    if detail.is_empty() { by } else { format!("{by}: {detail}") }
}
