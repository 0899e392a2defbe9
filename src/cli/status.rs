//! `smsd status`: does the daemon run, how deep is the queue, which ways out work.
//!
//! The queue is asked here; what only the daemon knows, it is asked over its socket. Without an answer the rest is shown
//! all the same, and the ways out as the configuration has them.

use std::process::ExitCode;

use clap::Args;
use comfy_table::Cell;
use jiff::Timestamp;
use serde::Serialize;

use super::ask::{Answering, AskError, Daemon, Live, Way};
use super::output::{Table, Tint, age, between, count, json, paint, print, shown, tinted};
use super::{FAILED, Globals, Session, block_on, exit, queue, watch};
use crate::os::PidFile;
use crate::queue::{Layer, Stats};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Go on showing it, with the last SMS, until q
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// What runs.
#[derive(Debug, Serialize)]
struct Report {
    running: bool,
    pid: Option<u32>,
    /// What the daemon says of itself; `None`: it does not answer.
    daemon: Option<About>,
    queue: Stats,
    /// What waits, by severity.
    waiting: Vec<Layer>,
    dispatchers: Vec<Way>,
}

/// What a daemon says of itself.
#[derive(Debug, Serialize)]
struct About {
    version: String,
    started_at: Timestamp,
    instances: u32,
    stopping: bool,
    all_down_since: Option<Timestamp>,
    queue: Answering,
}

impl Status {
    /// Exit 0 if the daemon runs, 1 if not.
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if self.watch {
            return watch::run(globals);
        }
        let session = Session::load(globals)?;
        let pidfile = session.config.pid_file(&session.env);
        let holder = PidFile::holder(&pidfile);
        let (live, queue, depth) = block_on(async {
            let live = Daemon::of(&session).status().await;
            let queue = session.queue().await?;
            Ok((live, queue.stats().await?, queue.depth().await?))
        })?;
        let (daemon, dispatchers) = match live {
            Ok(live) => About::of(live),
            Err(why) => {
                if holder.is_some() && !matches!(why, AskError::Nobody(_)) {
                    session.say(format_args!("less is known than could be: {why}"));
                }
                (None, Way::configured(&session))
            }
        };
        let pid = holder.and_then(|h| h.pid);
        let running = holder.is_some();
        let report = Report { running, pid, daemon, queue, waiting: depth.waiting, dispatchers };
        if self.json {
            json(&report)?;
        } else {
            print(&report.text(Timestamp::now()))?;
            if !report.running {
                let path = pidfile.display();
                session.say(format_args!("nobody holds {path}: nothing is sent until smsd is started"));
            }
        }
        Ok(if report.running { ExitCode::SUCCESS } else { exit(FAILED) })
    }
}

impl About {
    fn of(live: Live) -> (Option<About>, Vec<Way>) {
        let Live { version, started_at, dispatchers, queue, all_down_since, instances, stopping, depth: _ } =
            live;
        (Some(About { version, started_at, instances, stopping, all_down_since, queue }), dispatchers)
    }
}

impl Report {
    fn text(&self, now: Timestamp) -> String {
        let mut text = self.daemon(now) + "\n" + &queue::account(&self.queue);
        let layers: Vec<&Layer> = self.waiting.iter().filter(|layer| layer.alerts > 0).collect();
        if !layers.is_empty() {
            let mut table = Table::new(&["severity", "waiting", "oldest"]);
            for layer in layers {
                table.line([
                    Cell::new(layer.severity.0.map_or_else(|| "-".to_owned(), |s| s.to_string())),
                    Cell::new(layer.alerts),
                    Cell::new(layer.oldest.map_or_else(|| "-".to_owned(), |at| age(at, now))),
                ]);
            }
            text += &format!("\n{}", table.text());
        }
        text + "\n" + &self.ways(now)
    }

    fn daemon(&self, now: Timestamp) -> String {
        let mut words = match (self.running, self.pid) {
            (true, Some(pid)) => format!("smsd runs, pid {pid}"),
            (true, None) => "smsd runs".to_owned(),
            (false, _) => return paint("smsd does not run", Tint::Bad),
        };
        let Some(about) = &self.daemon else { return paint(&words, Tint::Good) };
        words += &format!(", version {}, for {}", shown(&about.version, 32), between(about.started_at, now));
        if about.instances > 1 {
            words += &format!(", one of {} on this queue", about.instances);
        }
        let mut lines = vec![paint(&words, Tint::Good)];
        if about.stopping {
            lines.push(paint("it is stopping", Tint::Pending));
        }
        if let Answering { up: false, since, reason } = &about.queue {
            let reason = shown(reason.as_deref().unwrap_or("no reason given"), 300);
            let line = format!("it has not reached the queue for {}: {reason}", between(*since, now));
            lines.push(paint(&line, Tint::Bad));
        }
        if let Some(since) = about.all_down_since {
            let line = format!("no dispatcher works for {}: alerts wait", between(since, now));
            lines.push(paint(&line, Tint::Bad));
        }
        lines.join("\n")
    }

    fn ways(&self, now: Timestamp) -> String {
        if self.dispatchers.is_empty() {
            return format!("{}\n", count(0, "dispatcher"));
        }
        let mut table = Table::new(&["dispatcher", "type", "state", "for", "last accepted", "reason"]);
        for way in &self.dispatchers {
            let state = match way.up {
                Some(true) => tinted("up", Tint::Good),
                Some(false) => tinted("down", Tint::Bad),
                None => Cell::new("-"),
            };
            let last = way.last_accepted_at.map(|at| format!("{} ago", age(at, now)));
            table.wrapped([
                Cell::new(shown(&way.name, 64)),
                Cell::new(shown(&way.kind, 32)),
                state,
                Cell::new(way.since.map_or_else(|| "-".to_owned(), |at| age(at, now))),
                Cell::new(last.unwrap_or_else(|| "-".to_owned())),
                Cell::new(shown(way.reason.as_deref().unwrap_or("-"), 300)),
            ]);
        }
        table.text()
    }
}
