//! `smsd send`: an alert into the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::output::{self, between, print, shown, time};
use super::{FAILED, Globals, Session, Stop, block_on, eprintln_quietly, exit};
use crate::alert::{AlertId, Phone, Severity};
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
        let recipients = recipients(&self.to, &session.config.groups)?;
        let text = self.text()?;
        let alerts: Vec<NewAlert> = recipients
            .into_iter()
            .map(|to| NewAlert {
                to,
                text: text.clone(),
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
            let read = std::io::stdin().take(TEXT_MAX + 1).read_to_string(&mut text);
            read.context("the text on stdin can not be read; expected UTF-8")?;
            if text.len() as u64 > TEXT_MAX {
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

/// The numbers that `--to` names, each once, in order: all of them, or an error that names the first bad one.
fn recipients(to: &[String], groups: &BTreeMap<String, Vec<Phone>>) -> Result<Vec<Phone>, Stop> {
    let mut phones = Vec::new();
    for word in to.iter().map(|w| w.trim()) {
        match word.strip_prefix("group:") {
            Some(name) => phones.extend_from_slice(groups.get(name).ok_or_else(|| no_group(name, groups))?),
            None => {
                phones.push(Phone::parse(word).map_err(|e| {
                    Stop::Usage(format!("--to {:?}: {e}; nothing was queued", shown(word, 64)))
                })?)
            }
        }
    }
    let mut seen = BTreeSet::new();
    phones.retain(|p| seen.insert(p.clone()));
    if phones.is_empty() {
        return Err(Stop::Usage("--to names nobody; nothing was queued".to_owned()));
    }
    Ok(phones)
}

fn no_group(name: &str, groups: &BTreeMap<String, Vec<Phone>>) -> Stop {
    let known = match groups.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "[groups] of smsd.conf has none".to_owned(),
        some => format!("[groups] of smsd.conf has {some}"),
    };
    Stop::Usage(format!("--to group:{}: no such group; {known}; nothing was queued", shown(name, 64)))
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

/// The longest text that is read from stdin, in bytes: far above what any number of segments carries.
const TEXT_MAX: u64 = 64 * 1024;

/// Time between looks while waiting.
const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_or_none_each_once() {
        let phone = |s| Phone::parse(s).unwrap();
        let groups = BTreeMap::from([("noc".to_owned(), vec![phone("+4790000001"), phone("+4790000002")])]);
        let to =
            |words: &[&str]| recipients(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>(), &groups);
        assert_eq!(
            to(&["+47 90 00 00 02", "group:noc", "112"]).unwrap(),
            [phone("+4790000002"), phone("+4790000001"), phone("112")]
        );
        for bad in [&["112", "+47 abc"][..], &["group:nok"], &[""], &["112", "group:"]] {
            assert!(matches!(to(bad), Err(Stop::Usage(_))), "{bad:?}");
        }
        assert!(to(&["group:nok"]).unwrap_err().to_string().contains("noc"));
    }
}
