//! A drain that goes on while the daemon is killed or its database is hurt: new alerts keep coming, every one to a
//! number of its own. The oracle is the gateway's list of what it took beside the list of what was inserted.
//!
//! `make torture` runs this at length (`benches/torture.rs`), the tests at the end of this file in short.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smsd::demo::gateway::Behaviour;

use super::bench::{Daemon, Gateway, Site, gateway, runtime, until_within, ways};
use crate::postgres::Server;
use crate::proxy::{Cut, Proxy};

/// How long a doubt waits before it is resolved: over some lives of the daemon.
const GRACE: Duration = Duration::from_secs(2);
/// SMS at once where the database is what suffers: the default.
const USUAL: usize = 16;
/// A database that is back must be made use of within so long. Most of it is a busy machine's.
const BACK_TO_WORK: Duration = Duration::from_secs(10);

/// The queue under torture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    PostgreSql,
    Sqlite,
}

/// What was done, and what came of it: a line of the table.
#[derive(Debug, Default)]
pub struct Line {
    pub name: String,
    /// Kills, restarts, pauses, cuts.
    pub faults: usize,
    pub alerts: usize,
    /// SMS that the gateway took.
    pub taken: usize,
    /// Alerts at the end neither sent nor held for a person.
    pub lost: usize,
    /// Alerts marked sent of which the gateway knows nothing.
    pub lies: usize,
    /// Alerts that the gateway took more than once.
    pub doubled: usize,
    /// Of these, those of which the ledger does not say so; and what was submitted without an attempt.
    pub unknown: usize,
    /// Attempts that came in doubt, and how many may.
    pub doubts: usize,
    pub bound: usize,
    /// Most that came in doubt by the end of one daemon.
    pub most: usize,
    /// Attempts that waited for a person at the end, who cancelled them.
    pub held: usize,
    /// Most copies of one alert.
    pub copies: usize,
    /// Slowest return to work after a fault.
    pub slowest: Duration,
    pub took: Duration,
    /// What else is wrong.
    pub complaints: Vec<String>,
}

impl Line {
    /// All that must not be.
    pub fn faults_found(&self) -> Vec<String> {
        let mut found = self.complaints.clone();
        let must_be_none = [
            (self.lost, "lost"),
            (self.lies, "marked sent, but not taken"),
            (self.unknown, "duplicates unknown to the ledger"),
            (self.doubts.saturating_sub(self.bound), "doubts beyond the bound"),
            (self.doubled.saturating_sub(self.doubts), "duplicates beyond the doubts"),
            (self.copies.saturating_sub(2), "copies of one alert beyond two"),
        ];
        found.extend(must_be_none.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")));
        if self.slowest > BACK_TO_WORK {
            found.push(format!("{:.1} s until it worked again", self.slowest.as_secs_f64()));
        }
        found
    }
}

/// kill -9 of the daemon at random moments of its life, from its first instruction on.
pub fn kills(kind: Kind, kills: usize, concurrency: usize, seed: u64) -> Line {
    let mut drain = match kind {
        Kind::PostgreSql => Drain::on_postgresql(concurrency, seed),
        Kind::Sqlite => Drain::on_sqlite(concurrency, seed),
    };
    // The first one makes the ledger.
    drain.begin().stop();
    // How long a life must be to send anything depends on the build and the machine.
    let birth = Instant::now();
    drain.begin().stop();
    let longest = (birth.elapsed() + Duration::from_millis(250)).min(Duration::from_secs(1));
    drain.started = Instant::now();
    for n in 0..kills {
        let daemon = drain.site.start();
        let life = drain.random_up_to(longest);
        let born = Instant::now();
        // From here the gateway's answer, our commit or nothing at all may be what a kill falls into.
        let delay = drain.random_up_to(Duration::from_millis(60));
        drain.gateway.set(Behaviour::ok().delay(delay));
        drain.feed();
        sleep(life.saturating_sub(born.elapsed()));
        assert!(daemon.runs(), "it ended by itself");
        daemon.kill();
        if n % 100 == 99 {
            // Every alert is accounted for at any moment, also with attempts open that nobody works on.
            drain.site.audit();
        }
        drain.progress("kill", n + 1, kills);
    }
    drain.gateway.set(Behaviour::ok());
    let last = drain.site.start();
    let mut line = drain.account(last, kills, kills * concurrency);
    if kills >= 20 && line.doubled == 0 {
        let nothing = "no kill fell between the gateway's yes and our commit: it tests nothing";
        line.complaints.push(nothing.into());
    }
    line
}

/// PostgreSQL ended without a checkpoint in mid-drain, and started again.
pub fn restarts(restarts: usize, seed: u64) -> Line {
    let mut drain = Drain::on_postgresql(USUAL, seed);
    let server = drain.server();
    let daemon = drain.begin();
    for n in 0..restarts {
        drain.run_for_a_while();
        server.stop();
        sleep(drain.random_up_to(Duration::from_millis(500)));
        server.start();
        drain.works_again(&daemon);
        drain.progress("restart", n + 1, restarts);
    }
    drain.account(daemon, restarts, 0)
}

/// All connections to the database ended every 100 ms.
pub fn ended_sessions(rounds: usize, seed: u64) -> Line {
    let mut drain = Drain::on_postgresql(USUAL, seed);
    let daemon = drain.begin();
    for n in 0..rounds {
        drain.feed();
        drain.site.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        sleep(Duration::from_millis(100));
        drain.progress("end of all sessions", n + 1, rounds);
    }
    drain.works_again(&daemon);
    drain.account(daemon, rounds, 0)
}

/// All of PostgreSQL stopped (SIGSTOP) for up to so long, and continued.
pub fn pauses(pauses: usize, longest: Duration, seed: u64) -> Line {
    let mut drain = Drain::on_postgresql(USUAL, seed);
    let server = drain.server();
    let daemon = drain.begin();
    for n in 0..pauses {
        drain.run_for_a_while();
        let paused = Paused::all_of(&server);
        sleep(drain.random_up_to(longest));
        drop(paused);
        drain.works_again(&daemon);
        drain.progress("pause", n + 1, pauses);
    }
    drain.account(daemon, pauses, 0)
}

/// The connection cut at a commit, which was done without our hearing of it, or was never heard of.
pub fn cuts(cuts: usize, seed: u64) -> Line {
    let mut drain = Drain::on_postgresql(USUAL, seed);
    let proxy = runtime().block_on(Proxy::start(drain.server().port));
    let conf = drain.site.read("db.conf");
    let direct = format!("dbport={}", drain.server().port);
    // The proxy reads what passes.
    drain.site.write("db.conf", &conf.replace(&direct, &format!("dbport={}", proxy.port)));
    drain.feed();
    let mut command = drain.site.command(&["-f"]);
    command.env("PGSSLMODE", "disable");
    let daemon = drain.site.spawn(command);
    drain.works_again(&daemon);
    drain.slowest = Duration::ZERO;
    for n in 0..cuts {
        drain.feed();
        proxy.cut_next(if drain.random.bool() { Cut::AfterCommit } else { Cut::BeforeCommit });
        until_within(30, "a commit is cut", || proxy.has_cut().then_some(()));
        sleep(drain.random_up_to(Duration::from_millis(30)));
        drain.progress("commit cut", n + 1, cuts);
    }
    drain.works_again(&daemon);
    drain.account(daemon, cuts, 0)
}

/// A site whose queue never runs dry.
struct Drain {
    site: Site,
    gateway: Gateway,
    concurrency: usize,
    random: fastrand::Rng,
    inserted: usize,
    started: Instant,
    told: Instant,
    slowest: Duration,
}

impl Drain {
    fn on_postgresql(concurrency: usize, seed: u64) -> Drain {
        // A server of its own, that syncs to the disk as in production.
        let db = Arc::new(Arc::new(Server::own("")).database());
        Drain::new(concurrency, seed, |main, rest| Site::on(db, main, rest))
    }

    fn on_sqlite(concurrency: usize, seed: u64) -> Drain {
        let drain = Drain::new(concurrency, seed, Site::embedded);
        let said = drain.site.run(&["db", "init"]);
        assert_eq!(said.code, 0, "{said:?}");
        drain
    }

    fn new(concurrency: usize, seed: u64, site: impl FnOnce(&str, &str) -> Site) -> Drain {
        let gateway = gateway();
        gateway.set(Behaviour::ok().delay(Duration::from_millis(15)));
        let main = format!("concurrency: {concurrency}\ndelay: 2");
        let site = site(&main, &ways(&[gateway.addr], &format!("grace: {}s", GRACE.as_secs())));
        Drain {
            site,
            gateway,
            concurrency,
            random: fastrand::Rng::with_seed(seed),
            inserted: 0,
            started: Instant::now(),
            told: Instant::now(),
            slowest: Duration::ZERO,
        }
    }

    fn server(&self) -> Arc<Server> {
        self.site.db().server.clone()
    }

    /// Starts the daemon; it works.
    fn begin(&mut self) -> Daemon {
        self.feed();
        let daemon = self.site.start();
        self.works_again(&daemon);
        self.slowest = Duration::ZERO;
        daemon
    }

    /// Sees to it that more waits than can be sent until the next time.
    fn feed(&mut self) {
        if self.inserted.saturating_sub(self.gateway.accepted_count()) > 1500 {
            return;
        }
        let (from, count) = (self.inserted + 1, self.random.usize(500..1500));
        if self.site.db.is_some() {
            self.site.insert_many(from, count);
        } else {
            // Closed again, so that the daemon's death leaves a file that nobody has open.
            let mut file = self.sqlite();
            let inserting = file.transaction().unwrap();
            for n in from..from + count {
                let row = (number(n), text(n), (n % 5 + 1) as i64);
                let sql = "INSERT INTO alert (phone, text, severity) VALUES (?1, ?2, ?3)";
                inserting.prepare_cached(sql).unwrap().execute(row).unwrap();
            }
            inserting.commit().unwrap();
        }
        self.inserted += count;
    }

    fn sqlite(&self) -> rusqlite::Connection {
        let file = rusqlite::Connection::open(self.site.path("queue.db")).unwrap();
        file.busy_timeout(Duration::from_secs(30)).unwrap();
        file
    }

    fn random_up_to(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.f64())
    }

    /// Until a random number of SMS later.
    fn run_for_a_while(&mut self) {
        self.feed();
        let target = self.gateway.accepted_count() + self.random.usize(10..400);
        until_within(30, "the drain goes on", || (self.gateway.accepted_count() >= target).then_some(()));
        sleep(self.random_up_to(Duration::from_millis(20)));
    }

    /// Until more is sent than may have been written down before the fault.
    fn works_again(&mut self, daemon: &Daemon) {
        let back = Instant::now();
        let target = self.gateway.accepted_count() + 2 * self.concurrency + 1;
        self.feed();
        until_within(60, "it works again", || {
            assert!(daemon.runs(), "it ended by itself");
            (self.gateway.accepted_count() >= target).then_some(())
        });
        self.slowest = self.slowest.max(back.elapsed());
    }

    fn progress(&mut self, what: &str, n: usize, of: usize) {
        if n == of || self.told.elapsed() > Duration::from_secs(10) {
            self.told = Instant::now();
            let (taken, seconds) = (self.gateway.accepted_count(), self.started.elapsed().as_secs());
            eprintln!("{:>4} s  {what} {n} of {of}, {taken} SMS taken", seconds);
        }
    }

    /// Lets the daemon finish, then holds what the gateway took against what the ledger says.
    fn account(self, daemon: Daemon, faults: usize, bound: usize) -> Line {
        let site = &self.site;
        until_within(120, "nothing waits but what is held", || {
            assert!(daemon.runs(), "it ended by itself");
            sleep(Duration::from_millis(100));
            let stats = site.json(&["queue", "stats"]);
            let resolved = stats["open"] == 0 && stats["in_doubt"] == 0;
            (resolved && stats["waiting"] == stats["held"]).then_some(())
        });
        daemon.stop();
        site.audit();

        let taken = self.gateway.accepted();
        let mut copies: HashMap<&str, usize> = HashMap::new();
        let mut line =
            Line { faults, bound, slowest: self.slowest, alerts: self.inserted, ..Line::default() };
        line.taken = taken.len();
        for sms in &taken {
            *copies.entry(&sms.phone).or_default() += 1;
        }
        let ledger = self.ledger();
        let mut held = Vec::new();
        for n in 1..=self.inserted {
            let phone = number(n);
            let times = copies.remove(&*phone).unwrap_or_default();
            let entry = ledger.get(&phone);
            line.copies = line.copies.max(times);
            line.doubled += usize::from(times > 1);
            match entry {
                Some(entry) => {
                    line.lies += usize::from(entry.sent && times == 0);
                    line.lost += usize::from(!entry.sent && !entry.held);
                    line.unknown += usize::from(times > 1 && !entry.marked || times > entry.attempts);
                    line.doubts += entry.doubts;
                    held.extend(entry.held.then(|| entry.id.clone()));
                }
                None => line.lost += 1,
            }
        }
        if let Some(phone) = copies.keys().next() {
            line.complaints.push(format!("{} numbers that nobody asked for, such as {phone}", copies.len()));
        }
        if let Some(sms) = taken.iter().find(|sms| Some(&sms.text) != text_for(&sms.phone).as_ref()) {
            line.complaints.push(format!("a text that nobody wrote: {sms:?}"));
        }
        line.most = self.most_doubts_of_one_daemon();
        line.held = held.len();
        for ids in held.chunks(100) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let said = site.run(&[&["queue", "cancel"], &ids[..]].concat());
            assert_eq!(said.code, 0, "{said:?}");
        }
        let audit = site.audit();
        if audit["waiting"] != 0 || audit["ignored"] != line.held || audit["alerts"] != line.alerts {
            line.complaints.push(format!("the audit at the end: {audit}"));
        }
        line.took = self.started.elapsed();
        line
    }

    /// Each daemon is an instance.
    fn most_doubts_of_one_daemon(&self) -> usize {
        let sql = |attempt| {
            format!(
                "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM {attempt} \
                 WHERE doubt_since IS NOT NULL GROUP BY instance) one"
            )
        };
        if self.site.db.is_some() {
            return self.site.sql(&sql("smsd.attempt")).parse().unwrap();
        }
        self.sqlite().query_row(&sql("attempt"), (), |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    /// What the ledger says, by number.
    fn ledger(&self) -> HashMap<String, Entry> {
        let mut ledger = HashMap::new();
        let mut add = |f: [String; 7]| {
            let count = |n: &str| n.parse().unwrap();
            let [id, phone, sent, held, marked, attempts, doubts] = f;
            let [sent, held, marked] = [sent, held, marked].map(|n| n == "1");
            let (attempts, doubts) = (count(&attempts), count(&doubts));
            ledger.insert(phone, Entry { id, sent, held, marked, attempts, doubts });
        };
        if self.site.db.is_some() {
            let rows = self.site.sql(
                "SELECT q.id, q.phone, (q.sent = 'Y')::int, coalesce(max((a.state = 'held')::int), 0), \
                    coalesce(max(a.possible_duplicate::int), 0), count(a.id), count(a.doubt_since) \
                 FROM smsq q LEFT JOIN smsd.attempt_alert l ON l.alert = q.id \
                 LEFT JOIN smsd.attempt a ON a.id = l.attempt GROUP BY q.id",
            );
            for row in rows.lines() {
                let fields: Vec<String> = row.split('|').map(String::from).collect();
                add(fields.try_into().unwrap());
            }
        } else {
            let file = self.sqlite();
            let mut rows = file
                .prepare(
                    "SELECT q.id, q.phone, q.state = 'sent', coalesce(max(a.state = 'held'), 0), \
                        coalesce(max(a.possible_duplicate), 0), count(a.seq), count(a.doubt_since) \
                     FROM alert q LEFT JOIN attempt_alert l ON l.alert = q.id \
                     LEFT JOIN attempt a ON a.seq = l.attempt GROUP BY q.id",
                )
                .unwrap();
            let mut rows = rows.query(()).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let field = |n| match row.get::<_, rusqlite::types::Value>(n).unwrap() {
                    rusqlite::types::Value::Integer(n) => n.to_string(),
                    rusqlite::types::Value::Text(text) => text,
                    other => panic!("{other:?}"),
                };
                add([0, 1, 2, 3, 4, 5, 6].map(field));
            }
        }
        ledger
    }
}

/// What the ledger says of one alert.
struct Entry {
    id: String,
    sent: bool,
    held: bool,
    /// On record as a possible duplicate.
    marked: bool,
    attempts: usize,
    doubts: usize,
}

/// A PostgreSQL that stands still until this goes.
struct Paused(Vec<Pid>);

impl Paused {
    fn all_of(server: &Server) -> Paused {
        let pidfile = std::fs::read_to_string(server.dir.join("data/postmaster.pid")).unwrap();
        let postmaster: i32 = pidfile.lines().next().unwrap().parse().unwrap();
        // The parent first: then it has no more children.
        kill(Pid::from_raw(postmaster), Signal::SIGSTOP).unwrap();
        let mut paused = Paused(vec![Pid::from_raw(postmaster)]);
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse() else { continue };
            let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
            if parent == Some(postmaster) && kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() {
                paused.0.push(Pid::from_raw(pid));
            }
        }
        paused
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in self.0.iter().rev() {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

// As `Site::insert_many` has them.
fn number(n: usize) -> String {
    format!("+47{}", 90_000_000 + n)
}

fn text(n: usize) -> String {
    format!("alert {n}")
}

fn text_for(number: &str) -> Option<String> {
    let n: usize = number.strip_prefix("+47")?.parse().ok()?;
    Some(text(n.checked_sub(90_000_000)?))
}

/// The lines as a table.
pub fn table(lines: &[Line]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "", "faults", "alerts", "taken", "lost", "lies", "doubled", "unknown", "in doubt", "bound", "by one",
        "held", "copies", "back in", "took",
    ]);
    for line in lines {
        let numbers = [
            line.faults,
            line.alerts,
            line.taken,
            line.lost,
            line.lies,
            line.doubled,
            line.unknown,
            line.doubts,
            line.bound,
            line.most,
            line.held,
            line.copies,
        ];
        let mut row = vec![line.name.clone()];
        row.extend(numbers.iter().map(usize::to_string));
        row.push(match line.slowest {
            Duration::ZERO => "-".into(),
            slowest => format!("{:.1} s", slowest.as_secs_f64()),
        });
        row.push(format!("{} s", line.took.as_secs()));
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let mut text = table.to_string();
    for line in lines {
        for fault in line.faults_found() {
            let _ = write!(text, "\nFAULT  {}: {fault}", line.name);
        }
    }
    text
}

/// Each in short, some 20 s.
#[cfg(test)]
mod in_short {
    use super::*;

    #[track_caller]
    fn nothing_is_lost(line: Line) {
        eprintln!("{}", table(std::slice::from_ref(&line)));
        assert_eq!(line.faults_found(), [""; 0]);
    }

    #[test]
    fn twenty_kills_on_postgresql_with_32_in_flight_lose_nothing() {
        nothing_is_lost(kills(Kind::PostgreSql, 20, 32, fastrand::u64(..1000)));
    }

    #[test]
    fn twenty_kills_on_sqlite_with_4_in_flight_lose_nothing() {
        nothing_is_lost(kills(Kind::Sqlite, 20, 4, fastrand::u64(..1000)));
    }

    #[test]
    fn postgresql_restarted_hard_again_and_again_costs_nothing() {
        nothing_is_lost(restarts(2, fastrand::u64(..1000)));
    }

    #[test]
    fn postgresql_paused_for_a_while_costs_nothing() {
        nothing_is_lost(pauses(2, Duration::from_secs(3), fastrand::u64(..1000)));
    }

    #[test]
    fn sessions_ended_every_100_ms_cost_nothing() {
        nothing_is_lost(ended_sessions(30, fastrand::u64(..1000)));
    }

    #[test]
    fn commits_whose_reply_is_lost_cost_nothing() {
        nothing_is_lost(cuts(20, fastrand::u64(..1000)));
    }
}
