//! `smsd token …`: who may ask over HTTP.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::output::{self, Table, print};
use super::{Globals, Session, Stop, eprintln_quietly};
use crate::config::Token;
use crate::config::http::{Rights, bound, token_name};
use crate::web::access::{Bounds, Hash, Scope, random_token};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token, show it once, and the line for smsd.conf, which holds only its hash
    New(New),
    /// Show who may ask, and what is allowed to whom
    List(List),
    /// Make another token for somebody who has one, who may use both until the old one is removed
    Rotate(Rotate),
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// What it may: send, read, operate
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "send")]
    scope: Vec<Scope>,
    /// Only this webhook may be posted to; may be given again
    #[arg(long, value_name = "WEBHOOK")]
    webhook: Vec<String>,
    /// Hand in nothing more severe than this, 1 to 5
    #[arg(long, value_name = "N")]
    severity: Option<String>,
    /// Only this number or group:NAME may be told; may be given again
    #[arg(long, value_name = "WHO")]
    to: Vec<String>,
    /// Alerts, such as 30/m
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// The last day, such as 2027-06-30
    #[arg(long, value_name = "DAY")]
    until: Option<String>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// What its actions are recorded under
    #[arg(value_name = "NAME", value_parser = token_name)]
    name: String,
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
pub(crate) struct Rotate {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Whose it is
    #[arg(value_name = "NAME", value_parser = token_name)]
    name: String,
}

impl Command {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        match self {
            Command::New(new) => new.run(),
            Command::List(list) => list.run(globals),
            Command::Rotate(rotate) => rotate.run(globals),
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut bounds = Bounds { webhooks: self.webhook.into_iter().collect(), ..Bounds::default() };
        let said = self.to.iter().map(|to| ("to", to));
        let said = said.chain(self.severity.iter().map(|severity| ("severity", severity)));
        let said = said.chain(self.rate.iter().map(|rate| ("rate", rate)));
        for (key, value) in said.chain(self.until.iter().map(|until| ("until", until))) {
            bound(&mut bounds, key, value).map_err(|expected| {
                Stop::Usage(format!(
                    "--{key} {value}: expected {}",
                    expected.trim_start_matches(&format!("{key}="))
                ))
            })?;
        }
        let rights = Rights { scopes: self.scope.into_iter().collect(), bounds, hashes: Vec::new() };
        show(&self.name, rights, self.json, "Put this line into [http] of smsd.conf, then reload smsd:")
    }
}

impl Rotate {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let session = Session::load(globals)?;
        let tokens = &session.config.http.tokens;
        let old: Vec<&Token> = tokens.iter().filter(|token| token.name == self.name).collect();
        let [.., last] = old.as_slice() else {
            let message = format!("[http] of smsd.conf has no token.{}; it has {}", self.name, names(tokens));
            return Err(Stop::Usage(message).into());
        };
        let bounds = Bounds::clone(&last.bounds);
        let rights = Rights { scopes: last.scopes, bounds, hashes: vec![last.hash] };
        let what = "In [http] of smsd.conf, put this line in the place of the old one, then reload smsd. Both tokens are good until \
            you take the first hash out of it:";
        show(&self.name, rights, self.json, what)
    }
}

/// Makes a token with these rights, and shows it.
fn show(name: &str, mut rights: Rights, as_json: bool, what: &str) -> anyhow::Result<ExitCode> {
    let token = random_token().context("the system has no random bits to give")?;
    rights.hashes.push(Hash::of(&token));
    let line = format!("token.{name}: {rights}");
    if as_json {
        let scopes: Vec<&str> = rights.scopes.iter().map(Scope::as_str).collect();
        output::json(&json!({ "name": name, "scopes": scopes, "token": token, "line": line }))?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{token}\n"))?;
    eprintln_quietly(format_args!("smsd: this is the token; it is shown this once. {what}\n\n{line}"));
    Ok(ExitCode::SUCCESS)
}

impl List {
    fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let session = Session::load(globals)?;
        let (tokens, now) = (&session.config.http.tokens, Timestamp::now());
        let rights = |token: &Token| {
            let bounds = Bounds { until: None, ..Bounds::clone(&token.bounds) };
            Rights { scopes: token.scopes, bounds, hashes: Vec::new() }.to_string()
        };
        if self.json {
            let shown = tokens.iter().map(|token| {
                let scopes: Vec<&str> = token.scopes.iter().map(Scope::as_str).collect();
                json!({
                    "name": token.name, "scopes": scopes, "rights": rights(token),
                    "until": token.bounds.until.map(|day| day.to_string()), "ended": token.bounds.are_over(now),
                })
            });
            output::json(&shown.collect::<Vec<_>>())?;
            return Ok(ExitCode::SUCCESS);
        }
        if tokens.is_empty() {
            eprintln_quietly(format_args!(
                "smsd: no token is configured: this machine may ask, and no other; smsd token new makes one"
            ));
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(&["name", "may", "until"]);
        for token in tokens {
            let until = match token.bounds.until {
                Some(day) if token.bounds.are_over(now) => format!("{day} (ended)"),
                Some(day) => day.to_string(),
                None => "-".to_owned(),
            };
            table.row(vec![token.name.clone(), rights(token), until]);
        }
        table.print()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn names(tokens: &[Token]) -> String {
    let names: Vec<&str> = tokens.iter().map(|token| token.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
