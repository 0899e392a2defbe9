//! `smsd check`: is the configuration sound, and with `--probe`, does what it names answer?

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{self, count, json, print, shown};
use super::{FAILED, Globals, Session, block_on, dispatcher, exit};
use crate::config::{self, Config, Env, Fault, Faults, QueueKind, Severity};
use crate::dispatch::DispatcherStatus;
use crate::dispatch::mail::relay::Relay;
use crate::queue::Zones;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Connect to the queue and the mail server and probe each dispatcher, too
    #[arg(long)]
    probe: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Print the commented example of smsd.conf instead
    #[arg(long, conflicts_with_all = ["probe", "json"])]
    example: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    files: Vec<String>,
    faults: Faults,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<QueueProbe>,
    /// Of the times in NAV's table.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<TimeZone>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dispatchers: Option<Vec<DispatcherStatus>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_mail: Option<Mailed>,
    #[serde(skip)]
    nobody_mailed: bool,
}

/// In which zone the local times of NAV's table are read and written.
#[derive(Debug, Serialize)]
struct TimeZone {
    /// `None`: the database's own.
    name: Option<String>,
    /// False where it is NAV's default, since nav.conf names none.
    said: bool,
}

/// Who is mailed what.
#[derive(Debug, Serialize)]
struct Mailed {
    level: &'static str,
    to: Vec<String>,
    server: String,
    /// With `--probe`: whether the server would take a mail of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
}

/// What the queue answered.
#[derive(Debug, Serialize)]
struct QueueProbe {
    up: bool,
    location: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    zones: Option<Zones>,
}

impl Check {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if self.example {
            print(config::example::TEXT)?;
            return Ok(ExitCode::SUCCESS);
        }
        let env = Env::from_process();
        let (config, faults) = match config::load(globals.config.as_deref(), &env) {
            Ok(loaded) => (Some(loaded.config), Faults(loaded.warnings).strict()),
            Err(faults) => (None, faults.strict()),
        };
        let mut report = Report {
            sound: config.is_some() && !faults.is_fatal(),
            files: config.as_ref().map(files).unwrap_or_default(),
            faults,
            queue: None,
            time_zone: config.as_ref().and_then(TimeZone::by),
            dispatchers: None,
            admin_mail: config.as_ref().and_then(|config| Mailed::by(config).ok()).map(|(mailed, _)| mailed),
            nobody_mailed: false,
        };
        report.nobody_mailed = config.is_some() && report.admin_mail.is_none();
        if let (true, Some(config)) = (self.probe, config) {
            let session = Session { config, env, globals: globals.clone() };
            report.probe(&session)?;
        }
        if self.json {
            json(&report)?
        } else {
            report.show(globals)?
        }
        Ok(if report.sound { ExitCode::SUCCESS } else { exit(FAILED) })
    }
}

impl Report {
    fn probe(&mut self, session: &Session) -> anyhow::Result<()> {
        // Whether or not the queue opens, what is asked next is programs that the configuration names.
        session.drop_root()?;
        let (queue, dispatchers, mailed) = block_on(async {
            let queue = probe_queue(session).await;
            let dispatchers = dispatcher::probe_all(&session.config).await;
            Ok((queue, dispatchers, Mailed::probe(&session.config).await))
        })?;
        self.sound &= queue.up && dispatchers.iter().all(|d| d.state == "up");
        self.sound &= mailed.as_ref().is_none_or(|mailed| mailed.up == Some(true));
        self.admin_mail = mailed;
        if let Some(Zones { of_nav: Some(of_nav), of_server }) = &queue.zones
            && of_nav != of_server
        {
            let message = format!(
                "the database's own time zone is {of_server}: what reads smsq without NAV, psql for one, takes its \
                 times for times of that zone; smsd, as NAV, reads and writes them in {of_nav}"
            );
            self.faults.0.push(Fault::new(Severity::Warning, message));
        }
        self.queue = Some(queue);
        self.dispatchers = Some(dispatchers);
        Ok(())
    }

    /// Faults go to stderr, like everything that is said to people; what answers, to stdout.
    fn show(&self, globals: &Globals) -> anyhow::Result<()> {
        if !self.faults.0.is_empty() {
            super::eprintln_quietly(format_args!("{}\n", self.faults.render(output::colour_on_stderr())));
        }
        if let Some(queue) = &self.queue {
            let place = queue.location.as_deref().unwrap_or("queue");
            let answer = queue.reason.as_deref().unwrap_or("answers");
            print(&format!("queue {place}: {}\n", shown(answer, 512)))?;
        }
        if let Some(zone) = &self.time_zone {
            print(&format!("times in NAV's table {zone}\n"))?;
        }
        if let Some(dispatchers) = &self.dispatchers {
            dispatcher::table(dispatchers).print()?;
        }
        if let Some(mailed) = &self.admin_mail {
            let answer = mailed.answer.as_deref().map(|words| format!(": {}", shown(words, 512)));
            let answer = answer.unwrap_or_default();
            let Mailed { level, to, server, .. } = mailed;
            print(&format!("admin mail {level} and graver to {} through {server}{answer}\n", to.join(", ")))?;
        } else if self.nobody_mailed {
            print("admin mail to nobody: set mailaddr in [main]\n")?;
        }
        if self.sound {
            globals.say(format_args!("sound ({})", self.named()));
        } else {
            let faults = count(self.faults.0.len(), "fault");
            let next = if self.faults.0.is_empty() { "see what does not answer" } else { "mend" };
            globals.say(format_args!("not sound: {faults} ({}); {next} above and check again", self.named()));
        }
        Ok(())
    }

    fn named(&self) -> String {
        if self.files.is_empty() { "no smsd.conf could be used".to_owned() } else { self.files.join(", ") }
    }
}

impl TimeZone {
    /// As configured; `None` where there is no table of NAV's.
    fn by(config: &Config) -> Option<TimeZone> {
        let QueueKind::NavDb(target) = &config.queue.kind else { return None };
        Some(TimeZone { name: target.time_zone.clone(), said: config.nav.time_zone.is_some() })
    }
}

impl std::fmt::Display for TimeZone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, self.said) {
            (Some(name), true) => write!(f, "are in the zone {name} (TIME_ZONE in nav.conf)"),
            (Some(name), false) => {
                write!(f, "are taken to be in the zone {name}, NAV's default: nav.conf has no TIME_ZONE")
            }
            (None, _) => write!(f, "are taken to be in the database's own zone: there is no nav.conf"),
        }
    }
}

impl Mailed {
    /// As configured, with the server. Nobody: an error without words.
    fn by(config: &Config) -> Result<(Mailed, Relay), String> {
        let mail = config.admin_mail()?.ok_or_else(String::new)?;
        let relay = Relay::new(mail.relay).map_err(|e| e.to_string())?;
        let (level, server) = (mail.level.as_str(), relay.place());
        Ok((Mailed { level, to: mail.to, server, up: None, answer: None }, relay))
    }

    /// The same, and whether the server lets us in.
    async fn probe(config: &Config) -> Option<Mailed> {
        let (mailed, relay) = Mailed::by(config).ok()?;
        let (up, answer) = match relay.probe().await {
            Ok(words) => (true, words),
            Err(failure) => (false, relay.words(&failure, &[])),
        };
        Some(Mailed { up: Some(up), answer: Some(answer), ..mailed })
    }
}

/// The queue opens and tells its depth.
async fn probe_queue(session: &Session) -> QueueProbe {
    let opened = match session.open().await {
        Ok(opened) => opened,
        Err(e) => {
            return QueueProbe { up: false, location: None, reason: Some(format!("{e:#}")), zones: None };
        }
    };
    let (location, zones) = opened.schema.status().await.ok().map(|s| (s.location, s.zones)).unzip();
    let mut reason = opened.queue.stats().await.err().map(|e| e.to_string());
    if let (None, Some(mut mirror)) = (&reason, opened.mirror) {
        reason = mirror.probe().await.err().map(|e| e.to_string());
    }
    QueueProbe { up: reason.is_none(), location, reason, zones: zones.flatten() }
}

fn files(config: &Config) -> Vec<String> {
    config.files.iter().map(|f| f.display().to_string()).collect()
}
