//! A program of the site's own as a way out: started for each SMS, or once and spoken to in lines of JSON.
//!
//! `docs/exec.md` is the contract with the program. What it can say is an [`answer`]; who starts it for each SMS is
//! [`oneshot`], who keeps one running [`stream`]. Deliberately absent: a shell. What stands in a text or a number is
//! data on standard input or the value of a variable, never an argument.

pub mod answer;
mod lines;
pub mod oneshot;
mod process;
pub mod stream;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::process::Command;

use super::status::{Meaning, Protocol, Status, of_code, table};
use super::{Class, Sms};
use crate::config::Secret;
use crate::os::child;
use crate::sms::{Encoding, measure};

/// Its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `command`, `directory` and `env.…`.
    pub program: Program,
    /// `mode`.
    pub mode: Mode,
    /// `probe`: what is run to ask whether the way out is alive. Only with [`Mode::Oneshot`].
    pub probe: Option<Vec<String>>,
}

/// How often the program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// For each SMS.
    Oneshot,
    /// Once, for all of them.
    Stream,
}

/// What is started, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program, by its path or to be found in `PATH`.
    pub path: PathBuf,
    /// Its arguments. Everybody on the machine can see them: no secrets.
    pub args: Vec<String>,
    /// Variables beyond the short list that every child has. Any may be a secret, so all are taken for one.
    pub env: BTreeMap<String, Secret<String>>,
    /// Its working directory; `None`: `/`.
    pub directory: Option<PathBuf>,
}

impl Program {
    /// A program without arguments.
    pub fn new(path: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), args: Vec::new(), env: BTreeMap::new(), directory: None }
    }

    /// The command that runs it.
    fn command(&self) -> Command {
        let mut command = child::command(&self.path);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value.reveal())));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// What people know it by.
    fn shown(&self) -> String {
        let mut name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        crate::telemetry::clip(&mut name, 40);
        name
    }

    fn secrets(&self) -> Arc<[String]> {
        self.env.values().map(|value| value.reveal().clone()).collect()
    }

    /// What it means that the program could not be started. What a person must mend is told from what may pass.
    fn not_started(&self, error: &io::Error) -> (Class, String) {
        use io::ErrorKind::{InvalidInput, NotADirectory, NotFound, PermissionDenied};
        let not_a_program = error.raw_os_error() == Some(nix::errno::Errno::ENOEXEC as i32);
        let class = match error.kind() {
            // It was started, and nobody can tell how it ended.
            _ if error.raw_os_error() == Some(nix::errno::Errno::ECHILD as i32) => Class::Unknown,
            NotFound | PermissionDenied | NotADirectory | InvalidInput => Class::Misconfigured,
            _ if not_a_program => Class::Misconfigured,
            _ => Class::Unavailable,
        };
        let missing = self.directory.as_deref().filter(|directory| !directory.is_dir());
        let what = missing.unwrap_or(&self.path).display();
        (class, format!("{what} can not be {}: {error}", missing.map_or("started", |_: &Path| "entered")))
    }
}

/// What a program is told of an SMS.
#[derive(Debug, Serialize)]
struct Request<'a> {
    /// The attempt.
    id: String,
    /// What a gateway may know the SMS by: the same when it is sent again.
    key: String,
    to: String,
    text: &'a str,
    timeout_ms: u64,
    segments: usize,
    encoding: Encoding,
}

impl Request<'_> {
    fn of(sms: &Sms) -> Request<'_> {
        let measure = measure(&sms.text);
        Request {
            id: sms.attempt.to_string(),
            key: sms.key.to_string(),
            to: sms.recipient.to_string(),
            text: &sms.text,
            timeout_ms: u64::try_from(sms.timeout.as_millis()).unwrap_or(u64::MAX),
            segments: measure.segments,
            encoding: measure.encoding,
        }
    }

    /// The request as a line of JSON.
    fn line(&self) -> Vec<u8> {
        // Strings and numbers alone: it can not fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// What an exit code means by the table alone. Total: any code means something.
pub fn exit_code(code: i32) -> Status {
    match u32::try_from(code).ok().and_then(|code| of_code(Protocol::Sysexits, code)) {
        Some(Meaning::Answer(status)) => status,
        _ => Status::Refused(Class::Failed),
    }
}

/// `exit 75 (EX_TEMPFAIL)`, or what else a program has come to.
fn shown_end(ended: child::Ended) -> String {
    match ended {
        child::Ended::Exit(code) => {
            let named = |row: &&super::status::Row| {
                row.protocol == Protocol::Sysexits && !row.name.is_empty() && row.code == code.to_string()
            };
            match table().iter().find(named) {
                Some(row) => format!("exit {code} ({})", row.name),
                None => format!("exit {code}"),
            }
        }
        child::Ended::Signal(signal) => format!("killed by signal {signal}"),
        child::Ended::Late => "no end within its time".to_owned(),
    }
}

/// The last line that is not empty: where programs say what went wrong.
fn last_line(bytes: &[u8]) -> &[u8] {
    let mut lines = bytes.rsplit(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    lines.find(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sysexits(3), FreeBSD and the GNU C library alike.
    #[test]
    fn every_exit_code_means_something() {
        use Class::*;
        for (code, want) in [
            (0, Status::Accepted),
            (1, Status::Refused(Failed)),
            (2, Status::Refused(Failed)),
            (63, Status::Refused(Failed)),
            (64, Status::Refused(Misconfigured)),
            (65, Status::Refused(Rejected)),
            (66, Status::Refused(Misconfigured)),
            (67, Status::Refused(Rejected)),
            (68, Status::Refused(Unavailable)),
            (69, Status::Refused(Unavailable)),
            (70, Status::Refused(Failed)),
            (71, Status::Refused(Failed)),
            (72, Status::Refused(Misconfigured)),
            (73, Status::Refused(Failed)),
            (74, Status::Refused(Failed)),
            (75, Status::Refused(Unavailable)),
            (76, Status::Refused(Failed)),
            (77, Status::Refused(Misconfigured)),
            (78, Status::Refused(Misconfigured)),
            (79, Status::Refused(Failed)),
            (126, Status::Refused(Failed)),
            (127, Status::Refused(Failed)),
            (255, Status::Refused(Failed)),
            (-1, Status::Refused(Failed)),
        ] {
            assert_eq!(exit_code(code), want, "{code}");
        }
        assert_eq!(shown_end(child::Ended::Exit(75)), "exit 75 (EX_TEMPFAIL)");
        assert_eq!(shown_end(child::Ended::Exit(1)), "exit 1");
    }

    #[test]
    fn what_can_not_be_started_is_a_persons_or_the_moments() {
        let program = Program::new("/opt/sms/send");
        let errno = |errno| io::Error::from_raw_os_error(errno as i32);
        use nix::errno::Errno::*;
        for (error, want) in [
            (ENOENT, Class::Misconfigured),
            (EACCES, Class::Misconfigured),
            (EPERM, Class::Misconfigured),
            (ENOTDIR, Class::Misconfigured),
            (ENOEXEC, Class::Misconfigured),
            (EAGAIN, Class::Unavailable),
            (ENOMEM, Class::Unavailable),
            (EMFILE, Class::Unavailable),
            (ENFILE, Class::Unavailable),
            (ETXTBSY, Class::Unavailable),
            (ECHILD, Class::Unknown),
        ] {
            assert_eq!(program.not_started(&errno(error)).0, want, "{error}");
        }
        let lost = Program { directory: Some("/no/such/folder".into()), ..program };
        assert!(lost.not_started(&errno(ENOENT)).1.starts_with("/no/such/folder can not be entered"));
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line(b"Traceback\n  x\nOSError: gone\n\n  \r\n"), b"OSError: gone");
        assert_eq!(last_line(b""), b"");
        assert_eq!(last_line(b"one"), b"one");
    }
}
