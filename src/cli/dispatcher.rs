//! `smsd dispatcher …`: the ways out, one by one.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::output::{Table, Tint, json, print, shown, span, tinted};
use super::{FAILED, Globals, Session, Stop, block_on, eprintln_quietly, exit, shape};
use crate::alert::Phone;
use crate::config::{Config, DispatcherConfig, Main};
use crate::dispatch::http::presets::{self, Preset};
use crate::dispatch::{self, Class, DispatcherStatus, Receipt, Sms};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Those that are configured, in order of priority
    List(List),
    /// Ask each whether it is alive, without sending an SMS
    Probe(Probe),
    /// Send one SMS through this one
    Test(Test),
    /// Gateways that HttpDispatcher knows (`preset:`), and what each needs
    Presets(Presets),
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// One JSON array on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// Only this one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// One JSON array on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The dispatcher: the name of its section
    #[arg(value_name = "NAME")]
    name: String,
    /// Whom the SMS is for
    #[arg(long, value_name = "PHONE")]
    to: Phone,
    /// What it says
    #[arg(long, value_name = "TEXT", default_value = "This is a test message from smsd.")]
    message: String,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Presets {
    /// One JSON array on stdout
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match self {
            Command::List(list) => list.run(&Session::load(globals)?),
            Command::Probe(probe) => probe.run(Session::load(globals)?),
            Command::Test(test) => test.run(&Session::load(globals)?),
            Command::Presets(presets) => presets.run(),
        }
    }
}

/// A dispatcher as it is configured. No key of its type is shown, since some are secret.
#[derive(Debug, Serialize)]
struct Configured<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    priority: usize,
    concurrency: usize,
    rate_per_second: Option<f64>,
    timeout_seconds: f64,
}

impl List {
    fn run(self, session: &Session) -> anyhow::Result<ExitCode> {
        let main = &session.config.main;
        let all: Vec<Configured<'_>> = session
            .config
            .dispatchers
            .iter()
            .zip(1..)
            .map(|(d, priority)| Configured {
                name: &d.name,
                kind: d.kind.as_str(),
                priority,
                concurrency: d.concurrency(main),
                rate_per_second: d.rate,
                timeout_seconds: d.timeout.unwrap_or(main.submit_timeout).as_secs_f64(),
            })
            .collect();
        if self.json {
            json(&all)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(&["", "name", "type", "at once", "per second", "timeout"]);
        for d in &all {
            table.row([
                d.priority.to_string(),
                shown(d.name, 64),
                d.kind.to_owned(),
                d.concurrency.to_string(),
                d.rate_per_second.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}")),
                format!("{} s", d.timeout_seconds),
            ]);
        }
        table.print()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Probe {
    fn run(self, mut session: Session) -> anyhow::Result<ExitCode> {
        if let Some(name) = &self.name {
            named(&session.config, name)?;
            session.config.dispatchers.retain(|d| d.name == *name);
        }
        session.drop_root()?;
        let all = block_on(async { Ok(probe_all(&session.config).await) })?;
        if self.json {
            json(&all)?
        } else {
            table(&all).print()?
        }
        let up = all.iter().all(|d| d.state == UP);
        Ok(if up { ExitCode::SUCCESS } else { exit(FAILED) })
    }
}

impl Test {
    fn run(self, session: &Session) -> anyhow::Result<ExitCode> {
        let configured = named(&session.config, &self.name)?;
        permitted(&session.config.main, &self.to)?;
        session.drop_root()?;
        let main = &session.config.main;
        let text = shape::composed(main, &self.message);
        let sms = Sms::new(self.to.clone(), text, configured.timeout.unwrap_or(main.submit_timeout));
        let result = block_on(async { Ok(submit_once(configured, &session.config.main, &sms).await) })?;
        if self.json {
            json(&match &result {
                Ok(taken) => serde_json::json!({
                    "dispatcher": taken.dispatcher, "accepted": true, "references": taken.receipt.references,
                }),
                Err(why) => serde_json::json!({
                    "dispatcher": configured.name, "accepted": false, "class": why.class.map(Class::as_str),
                    "code": why.code, "detail": why.detail,
                }),
            })?;
        } else if let Ok(taken) = &result {
            print(&format!("{taken}\n"))?;
        }
        if let Err(why) = &result {
            eprintln_quietly(format_args!("smsd: {}: {why}", shown(&configured.name, 64)));
            return Ok(exit(FAILED));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A preset as it is shown.
#[derive(Debug, Serialize)]
struct Known {
    name: &'static str,
    needs: Vec<String>,
    optional: &'static [&'static str],
    documentation: &'static str,
}

impl Presets {
    fn run(self) -> anyhow::Result<ExitCode> {
        let known = |preset: &'static Preset| Known {
            name: preset.name,
            needs: preset.needs(),
            optional: &preset.optional,
            documentation: preset.documentation,
        };
        let all: Vec<Known> = presets::all().iter().map(known).collect();
        if self.json {
            json(&all)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(&["preset", "needs", "may have", "documentation"]);
        for known in &all {
            let (needs, optional) = (known.needs.join(", "), known.optional.join(", "));
            table.row([known.name, &needs, &optional, known.documentation]);
        }
        table.print()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A submit that a dispatcher accepted.
pub(crate) struct Taken {
    dispatcher: String,
    receipt: Receipt,
    took: Duration,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = match self.receipt.references.join(", ") {
            none if none.is_empty() => "it gives no reference".to_owned(),
            some => format!("reference {}", shown(&some, 256)),
        };
        let took = span(i64::try_from(self.took.as_millis()).unwrap_or(i64::MAX));
        write!(f, "{} took it in {took}; {reference}", shown(&self.dispatcher, 64))
    }
}

/// Why a dispatcher did not accept, for people.
pub(crate) struct NotTaken {
    class: Option<Class>,
    code: Option<String>,
    detail: String,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.map_or_else(|| "can not be used".to_owned(), |c| c.to_string());
        let code = self.code.as_deref().map_or_else(String::new, |c| format!(" ({})", shown(c, 64)));
        let doubt = match self.class {
            Some(Class::Unknown | Class::Failed) => "; the SMS may arrive all the same",
            _ => "",
        };
        write!(f, "{class}{code}: {}{doubt}", shown(&self.detail, 512))
    }
}

/// Builds one dispatcher and hands it one SMS, once.
pub(crate) async fn submit_once(
    configured: &DispatcherConfig,
    main: &Main,
    sms: &Sms,
) -> Result<Taken, NotTaken> {
    let unusable = |detail| NotTaken { class: None, code: None, detail };
    let dispatcher = dispatch::build(configured, main).map_err(|e| unusable(e.to_string()))?;
    let begun = Instant::now();
    match dispatcher.submit(sms).await {
        Ok(receipt) => Ok(Taken { dispatcher: configured.name.clone(), receipt, took: begun.elapsed() }),
        Err(e) => Err(NotTaken { class: Some(e.class), code: e.code, detail: e.detail }),
    }
}

/// Asks each dispatcher, all at once, whether it is alive.
pub(crate) async fn probe_all(config: &Config) -> Vec<DispatcherStatus> {
    join_all(config.dispatchers.iter().map(|d| probe(d, &config.main))).await
}

/// Their answers as a table.
pub(crate) fn table(all: &[DispatcherStatus]) -> Table {
    let mut table = Table::new(&["name", "type", "state", "why"]);
    for d in all {
        let tint = if d.state == UP { Tint::Good } else { Tint::Bad };
        table.row([
            Cell::new(shown(&d.name, 64)),
            Cell::new(&d.kind),
            tinted(&d.state, tint),
            Cell::new(d.reason.as_deref().map_or_else(String::new, |r| shown(r, 512))),
        ]);
    }
    table
}

/// `allow` and `deny` hold for tests, too.
pub(crate) fn permitted(main: &Main, phone: &Phone) -> Result<(), Stop> {
    let starts = |prefixes: &[String]| prefixes.iter().any(|p| phone.as_str().starts_with(p.as_str()));
    if starts(&main.deny) || !(main.allow.is_empty() || starts(&main.allow)) {
        return Err(Stop::Usage(format!("{phone} may not be texted: see `allow` and `deny` in [main]")));
    }
    Ok(())
}

async fn probe(configured: &DispatcherConfig, main: &Main) -> DispatcherStatus {
    let status = |state: &str, reason: Option<String>| DispatcherStatus {
        name: configured.name.clone(),
        kind: configured.kind.as_str().to_owned(),
        state: state.to_owned(),
        reason,
        since: None,
    };
    let dispatcher = match dispatch::build(configured, main) {
        Ok(dispatcher) => dispatcher,
        Err(e) => return status("misconfigured", Some(e.to_string())),
    };
    let limit = configured.timeout.unwrap_or(main.submit_timeout);
    match timeout(limit, dispatcher.probe()).await {
        Ok(Ok(health)) => status(UP, Some(health.0).filter(|words| !words.is_empty())),
        Ok(Err(e)) => status(
            match e.class {
                Class::Misconfigured => "misconfigured",
                Class::Throttled { .. } => "throttled",
                _ => "down",
            },
            Some(e.detail),
        ),
        Err(_) => status("down", Some(format!("no answer within {} s", limit.as_secs_f64()))),
    }
}

fn named<'a>(config: &'a Config, name: &str) -> Result<&'a DispatcherConfig, Stop> {
    config.dispatchers.iter().find(|d| d.name == name).ok_or_else(|| {
        let known = config.dispatchers.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
        Stop::Usage(format!("{:?} is no configured dispatcher; there are: {known}", shown(name, 64)))
    })
}

const UP: &str = "up";
