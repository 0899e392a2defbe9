//! `smsd queue …`: what waits, what was sent, what a person may do about it, and the proof that nothing is lost.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;

use super::output::{Table, age, count, json, paint, print, shown, span, tinted};
use super::{FAILED, Globals, Session, block_on, eprintln_quietly, exit, login, story};
use crate::alert::{AlertId, Phone};
use crate::queue::{AlertRow, AlertState, Decision, Filter, Queue, Stats, Which};
use crate::telemetry::clip;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Alerts, newest first
    List(List),
    /// All that happened to one alert
    Show(story::Show),
    /// Mark waiting alerts ignored
    Cancel(Decided),
    /// Say of SMS in doubt or held that they came: their alerts are sent
    Accept(Decided),
    /// Say of SMS in doubt or held that they did not come: their alerts wait again, as possible duplicates
    Release(Decided),
    /// Make sent or ignored alerts wait again
    Requeue(Ids),
    /// Prove that every alert is accounted for: exit 0 and the counts, 1 with the offenders
    Audit(Json),
    /// Depth, age and totals
    Stats(Json),
}

impl Command {
    pub(crate) fn run(self, globals: &Globals) -> anyhow::Result<ExitCode> {
        let session = match self {
            Command::Show(show) => return show.run(globals),
            _ => Session::load(globals)?,
        };
        block_on(async {
            let queue = session.queue().await?;
            match self {
                Command::List(list) => list.run(&session, &*queue).await,
                Command::Cancel(which) => which.run(&session, &*queue, None).await,
                Command::Accept(which) => which.run(&session, &*queue, Some(Decision::Accept)).await,
                Command::Release(which) => which.run(&session, &*queue, Some(Decision::Resend)).await,
                Command::Requeue(ids) => ids.requeue(&session, &*queue).await,
                Command::Audit(form) => audit(&session, &*queue, form.json).await,
                Command::Stats(form) => stats(&*queue, form.json).await,
                Command::Show(_) => Ok(ExitCode::SUCCESS),
            }
        })
    }
}

/// Which alerts to list.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// waiting, in-doubt, held, sent or ignored
    #[arg(long, value_name = "STATE")]
    state: Option<AlertState>,
    /// To this number only
    #[arg(long, value_name = "PHONE")]
    to: Option<Phone>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Older than this alert: the next page
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// One JSON array on stdout
    #[arg(long)]
    json: bool,
}

/// Alerts by id.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// Ids of alerts
    #[arg(required = true, value_name = "ID")]
    ids: Vec<i64>,
    /// Who says so, for the record [default: your login]
    #[arg(long, value_name = "NAME", value_parser = named)]
    by: Option<String>,
    /// JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Alerts by id, or all that the storm guard holds.
#[derive(Debug, Args)]
pub(crate) struct Decided {
    /// Ids of alerts
    #[arg(required_unless_present = "held_by_guard", conflicts_with = "held_by_guard", value_name = "ID")]
    ids: Vec<i64>,
    /// All that is held since the queue came back from the past
    #[arg(long)]
    held_by_guard: bool,
    /// Who says so, for the record [default: your login]
    #[arg(long, value_name = "NAME", value_parser = named)]
    by: Option<String>,
    /// JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Nothing but the form of the answer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Json {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self, session: &Session, queue: &dyn Queue) -> anyhow::Result<ExitCode> {
        let before = self.before.map(AlertId);
        let filter = Filter { state: self.state, to: self.to, limit: self.limit, before };
        let rows = queue.list(&filter).await?;
        if self.json {
            json(&rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        if rows.is_empty() {
            session.say(format_args!("no such alerts"));
            return Ok(ExitCode::SUCCESS);
        }
        let now = Timestamp::now();
        let mut table = Table::new(&["id", "state", "sev", "to", "age", "ended", "text"]);
        for row in &rows {
            let ended = row.ended_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", age(at, now)));
            table.line([
                Cell::new(row.id),
                tinted(&state_and_reason(row), row.state.into()),
                Cell::new(row.severity.0.map_or_else(|| "-".to_owned(), |s| s.to_string())),
                Cell::new(shown(&row.to, 32)),
                Cell::new(row.queued_at.map_or_else(|| "-".to_owned(), |at| age(at, now))),
                Cell::new(ended),
                Cell::new(shown(&row.text, 160)),
            ]);
        }
        table.print()?;
        if let (true, Some(last)) = (rows.len() == filter.limit, rows.last()) {
            session.say(format_args!("there may be more: --before {}", last.id));
        }
        if self.state == Some(AlertState::Held) {
            session.say(format_args!(
                "ask the recipients. It came: `smsd queue accept ID`; it did not: `smsd queue release ID`; \
                 it no longer matters: `smsd queue cancel ID`"
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Held attempts that are decided in one transaction.
const AT_ONCE: usize = 100;

impl Decided {
    /// Without a decision they are cancelled.
    async fn run(
        self,
        session: &Session,
        queue: &dyn Queue,
        decision: Option<Decision>,
    ) -> anyhow::Result<ExitCode> {
        let Decided { ids, held_by_guard, by, json: as_json } = self;
        if !held_by_guard {
            let ids = Ids { ids, by, json: as_json };
            return match decision {
                None => ids.cancel(session, queue).await,
                Some(decision) => ids.resolve(session, queue, decision).await,
            };
        }
        let by = by.unwrap_or_else(login);
        let (mut decided, mut before) = (0, Vec::new());
        loop {
            let ids = queue.suspected(AT_ONCE).await?;
            // A page may be all of alerts that are gone: their attempts are decided, and there is no alert to count. One
            // that comes again unchanged can not be decided, and is not asked for without end.
            if ids.is_empty() || ids == before {
                break;
            }
            decided += match decision {
                None => queue.cancel(&Which::Ids(ids.clone()), &by).await?.cancelled.len(),
                Some(decision) => queue.resolve(&ids, decision, &by).await?.decided.len(),
            };
            before = ids;
        }
        if as_json {
            json(&serde_json::json!({ "decided": decided }))?;
        } else {
            print(&format!("{} {}\n", count(decided, "alert"), done_to(decision)))?;
        }
        if decided == 0 {
            session.say(format_args!("the storm guard holds nothing"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn done_to(decision: Option<Decision>) -> &'static str {
    match decision {
        None => "cancelled",
        Some(Decision::Accept) => "accepted",
        Some(Decision::Resend) => "made to wait again, as possible duplicates",
    }
}

impl Ids {
    async fn cancel(self, session: &Session, queue: &dyn Queue) -> anyhow::Result<ExitCode> {
        let ids = self.alert_ids();
        let done = queue.cancel(&Which::Ids(ids.clone()), &self.by()).await?;
        if self.json {
            json(&done)?;
        } else {
            print(&format!("{} cancelled\n", count(done.cancelled.len(), "alert")))?;
        }
        if !done.in_flight.is_empty() {
            let left = list(&done.in_flight);
            session.say(format_args!("being sent right now, so left alone: {left}; see `smsd why ID`"));
        }
        let others = |id: &&AlertId| !done.cancelled.contains(id) && !done.in_flight.contains(id);
        let not_waiting: Vec<AlertId> = ids.iter().filter(others).copied().collect();
        Ok(self.finish(session, &not_waiting, "not waiting, so nothing to cancel", done.in_flight.is_empty()))
    }

    async fn resolve(
        self,
        session: &Session,
        queue: &dyn Queue,
        decision: Decision,
    ) -> anyhow::Result<ExitCode> {
        let ids = self.alert_ids();
        let done = queue.resolve(&ids, decision, &self.by()).await?;
        if self.json {
            json(&done)?;
        } else {
            print(&format!("{} {}\n", count(done.decided.len(), "alert"), done_to(Some(decision))))?;
        }
        let others: Vec<AlertId> = done.decided.iter().filter(|id| !ids.contains(id)).copied().collect();
        if !others.is_empty() {
            session.say(format_args!("they were in the same SMS, so decided too: {}", list(&others)));
        }
        Ok(self.finish(session, &done.untouched, "in no SMS in doubt or held, so nothing to decide", true))
    }

    async fn requeue(self, session: &Session, queue: &dyn Queue) -> anyhow::Result<ExitCode> {
        let ids = self.alert_ids();
        let done = queue.requeue(&ids, &self.by()).await?;
        if self.json {
            json(&serde_json::json!({ "requeued": done }))?;
        } else {
            print(&format!("{} made to wait again\n", count(done.len(), "alert")))?;
        }
        let left: Vec<AlertId> = ids.iter().filter(|id| !done.contains(id)).copied().collect();
        Ok(self.finish(session, &left, "neither sent nor ignored, or unknown", true))
    }

    fn by(&self) -> String {
        self.by.clone().unwrap_or_else(login)
    }

    fn alert_ids(&self) -> Vec<AlertId> {
        self.ids.iter().copied().map(AlertId).collect()
    }

    /// Names what was left; exit 1 if anything was.
    fn finish(&self, session: &Session, left: &[AlertId], why: &str, otherwise_well: bool) -> ExitCode {
        if !left.is_empty() {
            session.say(format_args!("{why}: {}", list(left)));
        }
        if left.is_empty() && otherwise_well { ExitCode::SUCCESS } else { exit(FAILED) }
    }
}

async fn audit(session: &Session, queue: &dyn Queue, as_json: bool) -> anyhow::Result<ExitCode> {
    let audit = queue.audit().await?;
    let sound = audit.offenders.is_empty();
    let code = if sound { ExitCode::SUCCESS } else { exit(FAILED) };
    if as_json {
        json(&audit)?;
        return Ok(code);
    }
    for (n, what) in [
        (audit.alerts, "alerts in the queue"),
        (audit.sent, "sent, each by an accepted attempt"),
        (audit.ignored, "ignored, each with its reason"),
        (audit.waiting, "waiting"),
        (audit.before_ledger, "ended before the ledger was there"),
        (audit.unresolved, "attempts in doubt or held"),
        (audit.possible_duplicates, "alerts that may have reached a phone twice, all on record"),
    ] {
        print(&format!("{n:>10}  {what}\n"))?;
    }
    for o in &audit.offenders {
        let who = match (o.alert, o.attempt) {
            (Some(alert), _) => format!("alert {alert}"),
            (None, Some(attempt)) => format!("attempt {attempt}"),
            (None, None) => "the queue".to_owned(),
        };
        eprintln_quietly(format_args!("smsd: {who}: {}", shown(&o.what, 512)));
    }
    if sound {
        session.say(format_args!("every alert is accounted for"));
    } else {
        let n = count(audit.offenders.len(), "offender");
        eprintln_quietly(format_args!(
            "smsd: {n}; look at each with `smsd why ID` before anything is sent again"
        ));
    }
    Ok(code)
}

async fn stats(queue: &dyn Queue, as_json: bool) -> anyhow::Result<ExitCode> {
    let stats = queue.stats().await?;
    if as_json {
        json(&stats)?
    } else {
        print(&account(&stats))?
    }
    Ok(ExitCode::SUCCESS)
}

/// Depth, age and totals, a line each.
pub(crate) fn account(s: &Stats) -> String {
    let age = s.oldest_waiting_seconds.map_or_else(String::new, |age| {
        let millis = i64::try_from(age).unwrap_or(i64::MAX).saturating_mul(1000);
        format!(", the oldest for {}", span(millis))
    });
    let mut lines = vec![
        format!("{:>10}  waiting{age}", s.waiting),
        format!("{:>10}  being sent now", s.open),
        format!("{:>10}  sent, in {} SMS", s.sent, s.sms),
        format!("{:>10}  ignored", s.ignored),
    ];
    let doubt = [
        (s.in_doubt, "SMS in doubt: nobody knows whether they were taken"),
        (s.held, "SMS held for a person: see `smsd queue list --state held`"),
        (
            s.held_by_guard,
            "of these held by the storm guard, since they may have been sent before the queue came back from the \
             past: `smsd queue release`, `accept` or `cancel --held-by-guard`",
        ),
        (s.possible_duplicates, "SMS marked possible duplicates"),
    ];
    for (n, what) in doubt {
        let line = format!("{n:>10}  {what}");
        lines.push(if n > 0 { paint(&line, super::output::Tint::Bad) } else { line });
    }
    lines.join("\n") + "\n"
}

fn state_and_reason(row: &AlertRow) -> String {
    match row.reason {
        Some(reason) => format!("{} ({})", row.state, reason.as_str().replace('_', " ")),
        None => row.state.to_string().replace('_', " "),
    }
}

/// A name for the record.
fn named(name: &str) -> Result<String, String> {
    let mut name = name.trim().to_owned();
    if name.is_empty() {
        return Err("expected a name".to_owned());
    }
    clip(&mut name, 64);
    Ok(name)
}

/// Ids as people read them, cut after 20.
pub(crate) fn list(ids: &[AlertId]) -> String {
    let mut text = ids.iter().take(20).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if ids.len() > 20 {
        text += &format!(" and {} more", ids.len() - 20);
    }
    text
}
