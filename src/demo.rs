//! `smsd demo`: the main job on this machine, with nothing but this program.
//!
//! The daemon that is shown is the real one, a process of its own on a configuration file in a temporary folder.
//! Only the two gateways are simulated, here, on loopback; what they have taken is what the closing account is
//! checked against, not what the daemon says of itself.

pub mod gateway;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use self::gateway::{Accepted, Behaviour, Gateway};
use crate::alert::{Phone, Severity};
use crate::queue::sqlite::SqliteQueue;
use crate::queue::{AlertRow, AlertState, Audit, Filter, NewAlert, Queue};

const ALERTS: usize = 2_000;
const PHONES: usize = 50;
/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(5);
/// When the first gateway fails, and for how long.
const OUTAGE: (Duration, Duration) = (Duration::from_millis(1_500), Duration::from_millis(2_500));
/// Past this the demonstration ends with what it has.
const LIMIT: Duration = Duration::from_secs(14);

/// Shows the main job and gives its account; exit code 1 if an alert was lost.
///
/// # Errors
/// What kept the demonstration from running: no temporary folder, no loopback, a daemon that does not start.
pub async fn run() -> anyhow::Result<ExitCode> {
    let folder = Folder::new()?;
    let (first, second) = (Gateway::start(answering()).await?, Gateway::start(answering()).await?);
    folder.configure(&first, &second)?;
    let queue = SqliteQueue::open(&folder.path.join("queue.db"), Duration::from_millis(100), true)
        .await
        .context("the demonstration's queue can not be made")?;
    folder.give_away()?;
    let mut daemon = start_daemon(&folder.path)?;

    say(&format!(
        "{ALERTS} alerts to {PHONES} numbers; gateway `first` fails on the way, `second` takes over.\n"
    ));
    let started = Instant::now();
    let show = Show::new();
    let mut queued: HashMap<String, Timestamp> = HashMap::new();
    let mut sent_in = 0;
    loop {
        let elapsed = started.elapsed();
        let outage = elapsed >= OUTAGE.0 && elapsed < OUTAGE.0 + OUTAGE.1;
        first.set(if outage { Behaviour::status(503).body("out of order") } else { answering() });
        let due = ((elapsed.as_secs_f64() / STORM.as_secs_f64()).min(1.0) * ALERTS as f64) as usize;
        if due > sent_in {
            let alerts: Vec<NewAlert> = (sent_in..due).map(alert).collect::<Result<_, _>>()?;
            let now = Timestamp::now();
            for alert in &alerts {
                queued.entry(alert.to.to_string()).or_insert(now);
            }
            queue.submit(&alerts).await?;
            sent_in = due;
        }
        let stats = queue.stats().await?;
        show.step(sent_in, &stats, first.accepted_count(), second.accepted_count(), outage);
        let over = sent_in == ALERTS && stats.waiting == 0;
        if over || elapsed > LIMIT {
            break;
        }
        if let Some(status) = daemon.try_wait()? {
            bail!("the daemon ended with {status}:\n{}", tail(&folder.path.join("daemon.log")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    show.end();
    stop(&mut daemon).await?;

    let mut taken = first.accepted();
    let by_second = second.accepted_count();
    taken.extend(second.accepted());
    let alerts = queue.list(&Filter { state: None, to: None, limit: ALERTS + 1, before: None }).await?;
    let audit = queue.audit().await?;
    let account = Account::draw(&alerts, &taken, &queued, by_second, started.elapsed());
    say(&account.to_string());
    say(&audit_line(&audit));
    let sound = account.lost == 0 && audit.offenders.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The closing account.
struct Account {
    alerts: usize,
    sms: usize,
    carried: usize,
    squeezed: usize,
    waiting: usize,
    by_second: usize,
    /// Marked sent though no gateway took their text, or ignored without being squeezed out, or gone.
    lost: usize,
    twice: usize,
    slowest_first: Duration,
    took: Duration,
}

impl Account {
    fn draw(
        alerts: &[AlertRow],
        taken: &[Accepted],
        queued: &HashMap<String, Timestamp>,
        by_second: usize,
        took: Duration,
    ) -> Account {
        let mut words = HashMap::<&str, usize>::new();
        for word in taken.iter().flat_map(|sms| sms.text.split_whitespace()).filter(|w| w.starts_with('#')) {
            *words.entry(word.trim_end_matches(';')).or_default() += 1;
        }
        let tag = |row: &AlertRow| row.text.split_whitespace().next().unwrap_or_default().to_owned();
        let count = |state| alerts.iter().filter(|row| row.state == state).count();
        let reached = |row: &AlertRow| words.contains_key(tag(row).as_str());
        let unsent = alerts.iter().filter(|row| row.state == AlertState::Sent && !reached(row)).count();
        let unexplained =
            alerts.iter().filter(|row| row.state == AlertState::Ignored && row.reason.is_none()).count();
        let first: HashMap<&str, Timestamp> = taken.iter().rev().fold(HashMap::new(), |mut first, sms| {
            let at = first.entry(sms.phone.as_str()).or_insert(sms.at);
            *at = (*at).min(sms.at);
            first
        });
        let slowest_first = queued
            .iter()
            .filter_map(|(phone, at)| first.get(phone.as_str())?.duration_since(*at).try_into().ok())
            .max()
            .unwrap_or_default();
        Account {
            alerts: alerts.len(),
            sms: taken.len(),
            carried: count(AlertState::Sent),
            squeezed: count(AlertState::Ignored),
            waiting: alerts.len() - count(AlertState::Sent) - count(AlertState::Ignored),
            by_second,
            lost: unsent + unexplained + ALERTS.saturating_sub(alerts.len()),
            twice: words.values().filter(|n| **n > 1).count(),
            slowest_first,
            took,
        }
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\nalerts in             {:>6}", self.alerts)?;
        writeln!(f, "SMS out               {:>6}", self.sms)?;
        writeln!(
            f,
            "  by `second`         {:>6}  (failover while `first` was out of order)",
            self.by_second
        )?;
        writeln!(f, "alerts told in full   {:>6}", self.carried)?;
        writeln!(f, "squeezed              {:>6}  (counted as `+N see web.`, as NAV does)", self.squeezed)?;
        writeln!(f, "waiting               {:>6}", self.waiting)?;
        writeln!(f, "sent twice            {:>6}", self.twice)?;
        writeln!(f, "lost                  {:>6}", self.lost)?;
        writeln!(f, "slowest first alert   {:>6} ms", self.slowest_first.as_millis())?;
        writeln!(f, "took                  {:>6.1} s", self.took.as_secs_f64())
    }
}

fn audit_line(audit: &Audit) -> String {
    match audit.offenders.len() {
        0 => format!("The ledger's own audit: all {} alerts accounted for.\n", audit.alerts),
        n => format!("The ledger's own audit: {n} alerts are not accounted for.\n"),
    }
}

/// Progress: a bar on a terminal, else a line a second.
struct Show {
    bar: Option<ProgressBar>,
    told: std::cell::Cell<u64>,
    started: Instant,
}

impl Show {
    fn new() -> Show {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(ALERTS as u64);
            if let Ok(style) =
                ProgressStyle::with_template("{elapsed:>4} [{bar:40}] {pos}/{len} settled  {msg}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Show { bar, told: std::cell::Cell::new(0), started: Instant::now() }
    }

    fn step(&self, alerts: usize, stats: &crate::queue::Stats, first: usize, second: usize, outage: bool) {
        let settled = stats.sent + stats.ignored;
        let state = if outage { "  `first` is out of order" } else { "" };
        let message = format!("{alerts} in, {first} SMS by first, {second} by second{state}");
        match &self.bar {
            Some(bar) => {
                bar.set_position(settled);
                bar.set_message(message);
            }
            None => {
                let second = self.started.elapsed().as_secs();
                if second > self.told.replace(second) {
                    say(&format!("{second:>3} s  {settled:>4}/{ALERTS} settled  {message}\n"));
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// The temporary folder; gone when it is dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("smsd-demo-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&path).with_context(|| format!("can not make {}", path.display()))?;
        Ok(Folder { path })
    }

    /// Writes the configuration that the daemon reads, as an operator would.
    fn configure(&self, first: &Gateway, second: &Gateway) -> anyhow::Result<()> {
        let dir = self.path.display();
        let mut conf = String::from("[main]\n");
        writeln!(conf, "group_interval: 2s\nstate_dir: {dir}")?;
        if let Some(user) = unprivileged() {
            writeln!(conf, "username: {}", user.name)?;
        }
        writeln!(conf, "\n[queue]\ntype: SqliteQueue\npath: {dir}/queue.db\npoll_interval: 100ms")?;
        writeln!(conf, "\n[dispatcher]\ndispatcher1: first\ndispatcher2: second")?;
        for (name, gateway) in [("first", first), ("second", second)] {
            writeln!(conf, "\n[{name}]\ntype: HttpGetDispatcher")?;
            writeln!(conf, "url: http://{}/send?to=%(phone)s&text=%(sms)s", gateway.addr)?;
        }
        std::fs::write(self.path.join("smsd.conf"), conf)?;
        std::fs::write(self.path.join("nav.conf"), format!("PID_DIR = {dir}\nLOG_DIR = {dir}\n"))?;
        Ok(())
    }

    /// As root, lets the daemon's user have what is in it.
    fn give_away(&self) -> anyhow::Result<()> {
        let Some(user) = unprivileged() else { return Ok(()) };
        chown(&self.path, Some(user.uid), Some(user.gid))?;
        for entry in std::fs::read_dir(&self.path)? {
            chown(&entry?.path(), Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The user that a daemon started by root becomes here; `None` when we are not root.
fn unprivileged() -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    User::from_name("nobody").ok().flatten()
}

fn start_daemon(folder: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::create(folder.join("daemon.log"))?;
    let program = std::env::current_exe().context("can not tell where this program is")?;
    Command::new(program)
        .arg("-f")
        .arg("--config")
        .arg(folder.join("smsd.conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("the daemon can not be started")
}

async fn stop(daemon: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = daemon.id().and_then(|id| i32::try_from(id).ok()) {
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    }
    let status = tokio::time::timeout(Duration::from_secs(10), daemon.wait()).await;
    match status {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(status) => bail!("the daemon did not stop well: {status:?}"),
        Err(_) => bail!("the daemon did not stop within 10 s"),
    }
}

fn answering() -> Behaviour {
    Behaviour::ok().delay(Duration::from_millis(15))
}

/// Alert `n` of the storm: a network that goes down bit by bit.
fn alert(n: usize) -> Result<NewAlert, crate::alert::PhoneError> {
    const WHAT: [&str; 4] = [
        "boxDown: oslo-gw1 does not answer",
        "linkDown: Gi1/0/24 to trd-sw3",
        "psuNotOK: PSU 2 on bgo-core",
        "tempHigh: 61C in rack 7",
    ];
    let text = format!("#{n} {}", WHAT.get(n % WHAT.len()).copied().unwrap_or_default());
    Ok(NewAlert {
        to: Phone::parse(&format!("+479990{:04}", n % PHONES))?,
        text: text.into(),
        severity: Severity(i32::try_from(1 + n / PHONES % 5).ok()),
        account: None,
    })
}

/// To stdout; whoever reads it may have left.
fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{AlertId, Reason};

    fn row(id: i64, state: AlertState, reason: Option<Reason>) -> AlertRow {
        AlertRow {
            id: AlertId(id),
            to: "+4799900000".into(),
            text: format!("#{id} down"),
            severity: Severity(Some(1)),
            state,
            reason,
            queued_at: None,
            ended_at: None,
        }
    }

    fn sms(text: &str) -> Accepted {
        Accepted {
            phone: "+4799900000".into(),
            text: text.into(),
            target: String::new(),
            at: Timestamp::now(),
        }
    }

    #[test]
    fn the_account_believes_the_gateways_and_not_the_queue() {
        let alerts = [
            row(1, AlertState::Sent, None),
            row(2, AlertState::Sent, None),
            row(3, AlertState::Ignored, Some(Reason::Squeezed)),
            row(4, AlertState::Ignored, None),
            row(5, AlertState::Waiting, None),
        ];
        let taken = [sms("1: #1 down; 2: #9 down +1 see web."), sms("#9 down")];
        let account = Account::draw(&alerts, &taken, &HashMap::new(), 1, Duration::ZERO);
        assert_eq!((account.carried, account.squeezed, account.waiting), (2, 2, 1));
        assert_eq!(account.lost, 2 + (ALERTS - 5), "2 was never taken, 4 has no reason, the rest is missing");
        assert_eq!(account.twice, 1);
    }
}
