//! `smsd token …`: who may ask over HTTP.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::eprintln_quietly;
use super::output::{self, print};
use crate::config::http::token_name;
use crate::web::access::{Hash, Scope, Scopes, random_token};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a token, show it once, and the line for smsd.conf, which holds only its hash
    New(New),
}

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// What it may: send, read, operate
    #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "send")]
    scope: Vec<Scope>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// What its actions are recorded under
    #[arg(value_name = "NAME", value_parser = token_name)]
    name: String,
}

impl Command {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let Command::New(new) = self;
        let token = random_token().context("the system has no random bits to give")?;
        let scopes: Scopes = new.scope.into_iter().collect();
        let line = format!("token.{}: {scopes} sha256:{}", new.name, Hash::of(&token).to_hex());
        if new.json {
            let scopes: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
            output::json(&json!({ "name": new.name, "scopes": scopes, "token": token, "line": line }))?;
            return Ok(ExitCode::SUCCESS);
        }
        print(&format!("{token}\n"))?;
        eprintln_quietly(format_args!(
            "smsd: this is the token; it is shown this once. Put this line into [http] of smsd.conf, then reload smsd:\n\n{line}"
        ));
        Ok(ExitCode::SUCCESS)
    }
}
