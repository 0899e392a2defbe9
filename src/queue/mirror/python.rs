//! A queue class in Python, in a process of its own that is asked one thing at a time.
//!
//! The process may hang, crash or say nonsense: then it is killed, and started anew when it is next needed.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use super::Foreign;
use crate::os::child::{Group, command};

/// What it runs.
const BRIDGE: &str = include_str!("bridge.py");
/// The longest wait for the next line of an answer: whoever waits longer for a database says so better by failing.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest line: a text of as many characters as the bridge lets through, each escaped.
const LINE_MAX: u64 = 2 << 20;

/// Which class, and where it is found.
#[derive(Clone, Debug, PartialEq)]
pub struct PythonClass {
    /// `module`, as Python imports it.
    pub module: String,
    /// `class` in that module; made without arguments, as NAV does.
    pub class: String,
    /// `python`: the interpreter.
    pub python: PathBuf,
    /// `python_path`: a folder in which modules are looked for first.
    pub path: Option<PathBuf>,
}

impl PythonClass {
    /// The class for people: `module.Class`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.module, self.class)
    }
}

/// The class at work.
#[derive(Debug)]
pub(super) struct Bridge {
    class: PythonClass,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Killed with us.
    _group: Group,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// One line of an answer.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Message {
        key: Value,
        phone: String,
        text: String,
        severity: Option<i64>,
        queued: Option<f64>,
    },
    Error {
        error: String,
    },
    /// An `Option` would take any line for the end of a listing.
    Done {
        done: Value,
    },
}

/// What goes wrong, in words for people.
#[derive(Debug, thiserror::Error)]
#[error("{class}: {what}")]
pub struct BridgeError {
    class: String,
    what: String,
}

impl Bridge {
    pub(super) fn new(class: PythonClass) -> Bridge {
        Bridge { class, running: None }
    }

    pub(super) fn class(&self) -> &PythonClass {
        &self.class
    }

    /// True if its process runs, as far as is known.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Starts a listing of all that waits; [`Bridge::next`] gives it alert by alert.
    pub(super) async fn list(&mut self) -> Result<(), BridgeError> {
        self.ask(&json!({"do": "waiting"})).await
    }

    /// The next alert of a listing; `None` at its end.
    pub(super) async fn next(&mut self) -> Result<Option<Foreign>, BridgeError> {
        match self.line().await? {
            Line::Message { key, phone, text, severity, queued } => {
                let severity = severity.and_then(|n| i32::try_from(n).ok());
                Ok(Some(Foreign { key: key.to_string(), phone, text, severity, queued_at: queued }))
            }
            Line::Done { .. } => Ok(None),
            Line::Error { error } => Err(self.broken(error)),
        }
    }

    /// `setsentstatus`; how many messages it says it has changed.
    pub(super) async fn tell(
        &mut self,
        key: &str,
        sent: &str,
        smsid: i32,
    ) -> Result<Option<i64>, BridgeError> {
        // It is our own writing of what came as JSON.
        let key: Value = serde_json::from_str(key).unwrap_or_default();
        self.ask(&json!({"do": "set", "key": key, "sent": sent, "smsid": smsid})).await?;
        self.done().await
    }

    /// `inserttestmsgs`; how many messages it says it has put in.
    pub(super) async fn test(
        &mut self,
        uid: i32,
        phone: &str,
        text: &str,
    ) -> Result<Option<i64>, BridgeError> {
        self.ask(&json!({"do": "test", "uid": uid, "phone": phone, "text": text})).await?;
        self.done().await
    }

    async fn done(&mut self) -> Result<Option<i64>, BridgeError> {
        match self.line().await? {
            Line::Done { done } => Ok(done.as_i64()),
            Line::Error { error } => Err(self.broken(error)),
            Line::Message { .. } => Err(self.broken("an alert came where none was asked for".into())),
        }
    }

    async fn ask(&mut self, request: &Value) -> Result<(), BridgeError> {
        if self.running.is_none() {
            self.running = Some(self.start().map_err(|what| self.error(what))?);
            self.done().await?;
        }
        let line = format!("{request}\n");
        let Some(running) = &mut self.running else { return Err(self.error("it does not run".into())) };
        match timeout(PATIENCE, running.requests.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.broken("it has ended".into())),
            Err(_) => Err(self.broken("it does not listen".into())),
        }
    }

    fn start(&self) -> Result<Running, String> {
        let PythonClass { module, class, python, path } = &self.class;
        let mut command = command(python);
        // No compiled module is left in folders that are others'.
        command.args(["-B", "-c", BRIDGE]).arg(path.as_deref().unwrap_or("".as_ref())).args([module, class]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let start = |e| format!("{} can not be started: {e}; set `python` in [queue]", python.display());
        let mut group = Group::spawn(&mut command).map_err(start)?;
        let (requests, answers) = (group.child.stdin.take(), group.child.stdout.take());
        let (Some(requests), Some(answers)) = (requests, answers) else {
            return Err("it has no pipes".into());
        };
        Ok(Running { _group: group, requests, answers: BufReader::new(answers) })
    }

    async fn line(&mut self) -> Result<Line, BridgeError> {
        let Some(running) = &mut self.running else { return Err(self.error("it does not run".into())) };
        let mut line = Vec::new();
        let mut bounded = (&mut running.answers).take(LINE_MAX);
        let read = timeout(PATIENCE, bounded.read_until(b'\n', &mut line)).await;
        let what = match read {
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            Ok(Err(e)) => e.to_string(),
            Ok(Ok(0)) => "it has ended without an answer".to_owned(),
            Ok(Ok(_)) => match serde_json::from_slice(&line) {
                Ok(line) => return Ok(line),
                Err(_) => "its answer can not be understood".to_owned(),
            },
        };
        Err(self.broken(what))
    }

    /// It is killed: the next request starts it anew.
    fn broken(&mut self, what: String) -> BridgeError {
        self.running = None;
        self.error(what)
    }

    fn error(&self, mut what: String) -> BridgeError {
        crate::telemetry::clip(&mut what, 400);
        BridgeError { class: self.class.name(), what }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A bridge to a program that does as the script says, whatever it is asked.
    fn saying(script: &str) -> (Bridge, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let python = dir.path().join("python");
        std::fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        let class = PythonClass { module: "site".into(), class: "Queue".into(), python, path: None };
        (Bridge::new(class), dir)
    }

    async fn listed(bridge: &mut Bridge) -> Result<usize, BridgeError> {
        bridge.list().await?;
        let mut count = 0;
        while bridge.next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[tokio::test]
    async fn whatever_it_says_ends_in_words_and_the_next_request_starts_it_anew() {
        let alert = r#"{"key": 1, "phone": "+47", "text": "x", "severity": null, "queued": null}"#;
        for (script, words) in [
            ("exit 0", "ended"),
            ("echo nonsense", "can not be understood"),
            ("echo '{\"done\": 0}'; read x; echo '{\"key\": 1}'", "can not be understood"),
            (&format!("echo '{alert}'"), "none was asked for"),
            ("echo '{\"error\": \"ImportError: no\"}'", "site.Queue: ImportError: no"),
            ("echo '{\"done\": 0}'; read x; exec yes x | tr -d '\\n'", "can not be understood"),
        ] {
            let (mut bridge, _dir) = saying(script);
            for _ in 0..2 {
                let error = listed(&mut bridge).await.unwrap_err().to_string();
                assert!(error.contains(words), "{script}: {error}");
                assert!(bridge.running.is_none(), "{script}");
            }
        }
        let fine = format!(
            "echo '{{\"done\": 0}}'; read x; echo '{alert}'; echo '{alert}'; echo '{{\"done\": 2}}'; read x"
        );
        let (mut bridge, _dir) = saying(&fine);
        assert_eq!(listed(&mut bridge).await.unwrap(), 2);
        let (mut bridge, dir) = saying("");
        drop(dir);
        let error = listed(&mut bridge).await.unwrap_err().to_string();
        assert!(error.contains("can not be started") && error.contains("set `python`"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_says_nothing_is_not_waited_for_for_ever() {
        let (mut bridge, _dir) = saying("exec sleep 987654");
        let error = listed(&mut bridge).await.unwrap_err().to_string();
        assert!(error.contains("no answer within 60 s"), "{error}");
        assert!(bridge.running.is_none());
    }
}
