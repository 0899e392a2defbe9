//! `smsd status`: does the daemon run, how deep is the queue, which ways out are configured.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{Tint, count, json, paint, print, shown};
use super::{FAILED, Globals, Session, block_on, exit, queue};
use crate::os::PidFile;
use crate::queue::Stats;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What runs.
#[derive(Debug, Serialize)]
struct Report {
    running: bool,
    pid: Option<u32>,
    queue: Stats,
    dispatchers: Vec<Dispatcher>,
}

/// A way out, as configured.
#[derive(Debug, Serialize)]
struct Dispatcher {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl Status {
    /// Exit 0 if the daemon runs, 1 if not.
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let session = Session::load(globals)?;
        let pidfile = session.config.pid_file(&session.env);
        let holder = PidFile::holder(&pidfile);
        let report = Report {
            running: holder.is_some(),
            pid: holder.and_then(|h| h.pid),
            queue: block_on(async { Ok(session.queue().await?.stats().await?) })?,
            dispatchers: session
                .config
                .dispatchers
                .iter()
                .map(|d| Dispatcher { name: d.name.clone(), kind: d.kind.as_str() })
                .collect(),
        };
        if self.json {
            json(&report)?;
        } else {
            print(&report.text())?;
            if !report.running {
                let path = pidfile.display();
                session.say(format_args!("nobody holds {path}: nothing is sent until smsd is started"));
            }
        }
        Ok(if report.running { ExitCode::SUCCESS } else { exit(FAILED) })
    }
}

impl Report {
    fn text(&self) -> String {
        let daemon = match (self.running, self.pid) {
            (true, Some(pid)) => paint(&format!("smsd runs, pid {pid}"), Tint::Good),
            (true, None) => paint("smsd runs", Tint::Good),
            (false, _) => paint("smsd does not run", Tint::Bad),
        };
        let names: Vec<String> =
            self.dispatchers.iter().map(|d| format!("{} ({})", shown(&d.name, 64), d.kind)).collect();
        format!(
            "{daemon}\n{}{}: {}\n",
            queue::account(&self.queue),
            count(names.len(), "dispatcher"),
            names.join(", ")
        )
    }
}
