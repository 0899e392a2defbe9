//! `smsd db …`: the ledger's schema in the queue's database.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::{json, print, shown};
use super::{FAILED, Globals, Session, Stop, block_on, exit};

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create what is missing; what is there is kept
    Init {
        /// Also what makes new alerts known at once: with NAV, a trigger and a partial index on its table
        #[arg(long)]
        notify: bool,
    },
    /// What is there; exit 1 if anything is missing
    Status(Json),
    /// The SQL that `init` would run, for a DBA
    Sql {
        /// With what makes new alerts known at once
        #[arg(long)]
        notify: bool,
    },
    /// Remove all that `init` created: the ledger, with the record of who was sent what
    Drop {
        /// Yes, really
        #[arg(long)]
        yes: bool,
    },
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Json {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        if let Command::Drop { yes: false } = self {
            let message =
                "drop removes the record of every SMS that was sent; add --yes if that is what you want";
            return Err(Stop::Usage(message.to_owned()).into());
        }
        let session = Session::load(globals)?;
        block_on(async {
            let schema = session.open().await?.schema;
            match self {
                Command::Init { notify } => {
                    schema.init(notify).await?;
                    let status = schema.status().await?;
                    session.say(format_args!("the ledger stands in {}", shown(&status.location, 256)));
                }
                Command::Status(form) => {
                    let status = schema.status().await?;
                    let current = status.version == Some(status.wanted);
                    if form.json {
                        json(&status)?;
                    } else {
                        let version =
                            status.version.map_or_else(|| "none".to_owned(), |v| format!("version {v}"));
                        let at_once = if status.notify { "at once" } else { "by looking (`poll_interval`)" };
                        print(&format!(
                            "queue   {}\nledger  {version}, wanted {}\nnew alerts are noticed {at_once}\n",
                            shown(&status.location, 256),
                            status.wanted,
                        ))?;
                        if !current {
                            session.say(format_args!("create or update the ledger with `smsd db init`"));
                        }
                    }
                    return Ok(if current { ExitCode::SUCCESS } else { exit(FAILED) });
                }
                Command::Sql { notify } => {
                    let mut sql = schema.sql(notify);
                    if !sql.ends_with('\n') {
                        sql.push('\n');
                    }
                    print(&sql)?;
                }
                Command::Drop { .. } => {
                    schema.remove().await?;
                    session.say(format_args!("the ledger is gone; `smsd db init` makes a new one"));
                }
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}
