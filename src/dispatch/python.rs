//! A dispatcher class of NAV's smsd, unchanged: a Python process that loads it once and speaks for it.
//!
//! The process is a program of [`super::exec::stream`], and `bridge.py` its side of `docs/exec.md`. It is handed to
//! Python through standard input with everything that may be secret, so that nothing of it stands in a process list.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::exec::Program;
use super::exec::stream::Spec;
use super::status::Status;
use crate::config::Secret;

/// Its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `python`: the interpreter.
    pub python: PathBuf,
    /// `module`, such as `nav.smsd.mydispatcher`.
    pub module: String,
    /// `class` in it.
    pub class: String,
    /// `path`: folders in which Python looks for modules first.
    pub path: Vec<PathBuf>,
    /// The keys of the section that smsd knows, for the class.
    pub common: BTreeMap<String, String>,
    /// Those that only the class knows; any may be a secret.
    pub own: BTreeMap<String, Secret<String>>,
}

/// What reads the bridge from standard input, where the class does not get at it. Nothing is loaded from the folder in which
/// Python happens to work.
const LOADER: &str = "import sys; sys.path[:] = [p for p in sys.path if p]; import json, os; lines = os.fdopen(os.dup(0), 'rb'); setup = json.loads(lines.readline()); \
    exec(compile(setup['bridge'], 'smsd', 'exec'))";

/// The program that speaks for the class, `window` SMS at a time.
pub fn spec(name: &str, settings: Settings, window: usize, overrides: BTreeMap<String, Status>) -> Spec {
    let Settings { python, module, class, path, common, own } = settings;
    let own_keys = own.iter().map(|(key, value)| (key.clone(), value.reveal().clone()));
    let config: BTreeMap<String, String> = common.into_iter().chain(own_keys).collect();
    let setup = json!({
        "bridge": include_str!("python/bridge.py"),
        "module": module,
        "class": class,
        "path": path,
        "config": config,
        "threads": window,
    });
    let secrets: Arc<[String]> = own.values().map(|value| value.reveal().clone()).collect();
    let program = Program { args: ["-B", "-c", LOADER].map(str::to_owned).to_vec(), ..Program::new(python) };
    let preamble = Secret::new(format!("{setup}\n").into_bytes());
    Spec { shown: class, preamble, secrets, ..Spec::new(name, program, window, overrides) }
}
