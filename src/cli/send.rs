//! `smsd send`: an alert into the queue.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::output::{self, between, print, shown, time};
use super::{FAILED, Globals, Session, Stop, block_on, eprintln_quietly, exit};
use crate::alert::{AlertId, Severity};
use crate::intake::{TEXT_MAX, recipients};
use crate::queue::{AlertRow, AlertState, NewAlert, Queue};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Number, several with commas, or group:NAME; may be given again
    #[arg(long, required = true, value_name = "PHONE", value_delimiter = ',')]
    to: Vec<String>,
    /// How severe: 1 is most severe
    #[arg(long, value_name = "1..5", value_parser = clap::value_parser!(i32).range(1..=5))]
    severity: Option<i32>,
    /// NAV: the account that the alert belongs to
    #[arg(long, value_name = "ACCOUNT")]
    uid: Option<i32>,
    /// Wait until each alert is sent or ignored; exit 1 unless all are sent
    #[arg(long)]
    wait: bool,
    /// Wait so many seconds at most
    #[arg(long, requires = "wait", value_name = "SECONDS")]
    timeout: Option<u32>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
    /// What to say; `-` reads it from stdin
    #[arg(value_name = "TEXT", allow_hyphen_values = false)]
    text: String,
}

impl Send {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let session = Session::load(globals)?;
        let recipients = recipients(self.to.iter().map(String::as_str), &session.config.groups)
            .map_err(|e| Stop::Usage(format!("--to {e}; nothing was queued")))?;
        let text: Arc<str> = self.text()?.into();
        let alerts: Vec<NewAlert> = recipients
            .into_iter()
            .map(|to| NewAlert {
                to,
                text: Arc::clone(&text),
                severity: Severity(self.severity),
                account: self.uid,
            })
            .collect();
        block_on(async {
            let queue = session.queue().await?;
            let ids = queue.submit(&alerts).await?;
            if !self.json {
                print(&ids.iter().map(|id| format!("{id}\n")).collect::<String>())?;
            }
            if !self.wait {
                if self.json {
                    output::json(&json!({ "ids": ids }))?;
                }
                return Ok(ExitCode::SUCCESS);
            }
            let rows = self.settled(&*queue, &ids).await?;
            if self.json {
                output::json(&json!({ "ids": ids, "alerts": rows }))?;
            }
            for row in &rows {
                eprintln_quietly(format_args!("smsd: {}", ending(row)));
            }
            let all_sent = rows.iter().all(|r| r.state == AlertState::Sent);
            Ok(if all_sent && rows.len() == ids.len() { ExitCode::SUCCESS } else { exit(FAILED) })
        })
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut text = self.text.clone();
        if text == "-" {
            text.clear();
            let read = std::io::stdin().take(TEXT_MAX as u64 + 1).read_to_string(&mut text);
            read.context("the text on stdin can not be read; expected UTF-8")?;
            if text.len() > TEXT_MAX {
                let message = format!("the text on stdin is longer than {TEXT_MAX} bytes");
                return Err(Stop::Usage(message).into());
            }
            text.truncate(text.trim_end_matches(['\n', '\r']).len());
        }
        if text.trim().is_empty() {
            return Err(Stop::Usage("the text is empty; say what happened".to_owned()).into());
        }
        Ok(text)
    }

    /// Waits until each alert has ended, or the time is over; returns how they stand.
    async fn settled(&self, queue: &dyn Queue, ids: &[AlertId]) -> anyhow::Result<Vec<AlertRow>> {
        let end = self.timeout.map(|s| Instant::now() + Duration::from_secs(s.into()));
        let mut rows: BTreeMap<AlertId, AlertRow> = BTreeMap::new();
        loop {
            for id in ids {
                let ended = |r: &AlertRow| matches!(r.state, AlertState::Sent | AlertState::Ignored);
                if rows.get(id).is_some_and(ended) {
                    continue;
                }
                // A row that is gone was deleted by its owner: it will not be sent.
                let Some(story) = queue.show(*id).await? else {
                    anyhow::bail!("alert {id} was deleted while we waited");
                };
                rows.insert(*id, story.alert);
            }
            let waits = rows.values().any(|r| !matches!(r.state, AlertState::Sent | AlertState::Ignored));
            if !waits || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(rows.into_values().collect());
            }
            sleep(LOOK).await;
        }
    }
}

/// How an alert ended, in a sentence.
fn ending(row: &AlertRow) -> String {
    let (id, to) = (row.id, shown(&row.to, 32));
    match (row.state, row.ended_at) {
        (AlertState::Sent, Some(at)) => {
            let after = row.queued_at.map(|q| format!(", {} after it was queued", between(q, at)));
            format!("alert {id} to {to} was sent at {}{}", time(at), after.unwrap_or_default())
        }
        (AlertState::Sent, None) => format!("alert {id} to {to} was sent"),
        (AlertState::Ignored, _) => {
            let why = row.reason.map_or_else(|| "reason unknown".to_owned(), |r| r.to_string());
            format!("alert {id} to {to} was ignored: {why}; see `smsd why {id}`")
        }
        (AlertState::Waiting, _) => {
            format!("alert {id} to {to} still waits; it stays queued, see `smsd why {id}`")
        }
        (AlertState::InDoubt | AlertState::Held, _) => {
            format!("alert {id} to {to} may have been sent; see `smsd why {id}`")
        }
    }
}

/// Time between looks while waiting.
const LOOK: Duration = Duration::from_millis(100);
