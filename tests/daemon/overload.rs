//! More alerts than can leave at once, and numbers and gateways that fail: who must not notice it, in figures.
//!
//! `make overload` runs this at length (`benches/overload.rs`), the tests at the end of this file in short.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use smsd::demo::gateway::{Accepted, Answer, Behaviour};
use tokio_postgres::NoTls;

use super::bench::{Gateway, Site, gateway, runtime, until_within, ways};
use crate::postgres::Server;

/// What the first urgent SMS of a storm may take, and every other.
const URGENT: Duration = Duration::from_secs(2);
/// What the daemon may take of memory.
const PEAK_MIB: u64 = 128;
/// How long it may take to notice that a gateway no longer answers: two seconds with every place before it taken.
const NOTICED: Duration = Duration::from_secs(3);
/// Between two urgent alerts.
const PACE: Duration = Duration::from_secs(2);

/// A storm: so many alerts to so many phones within so long, to a gateway that takes its time.
#[derive(Clone, Copy)]
pub struct Storm {
    pub embedded: bool,
    pub alerts: usize,
    pub phones: usize,
    pub lasts: Duration,
    pub answers_in: Duration,
}

/// What came of it: a line of the table.
#[derive(Debug, Default)]
pub struct Line {
    pub name: String,
    pub figures: Vec<String>,
    pub faults: Vec<String>,
}

impl Storm {
    /// Has the storm, with an urgent alert every two seconds, each to a phone of its own.
    pub fn run(self) -> Line {
        let gateway = gateway();
        gateway.set(Behaviour::ok().delay(self.answers_in));
        let main = "concurrency: 32\ndelay: 10\nurgent_severity: 1\nlog_level: error";
        let rest = ways(&[gateway.addr], "");
        let site = match self.embedded {
            true => Site::embedded(main, &rest),
            // A server of its own, that syncs to the disk as in production.
            false => Site::on(Arc::new(Arc::new(Server::own("")).database()), main, &rest),
        };
        assert_eq!(site.run(&["db", "init"]).code, 0);
        let source = Source::of(&site);
        let daemon = site.start().up();
        let (mut inserted, mut urgent) = (0, Vec::new());
        let begun = Instant::now();
        let mut source_took = Duration::ZERO;
        while inserted < self.alerts || source.waiting() > 0 {
            assert!(daemon.runs(), "it ended by itself");
            assert!(begun.elapsed() < self.lasts + Duration::from_secs(200), "it does not come to an end");
            let due =
                (begun.elapsed().as_secs_f64() / self.lasts.as_secs_f64() * self.alerts as f64) as usize;
            if inserted < due.min(self.alerts) {
                let upto = due.min(self.alerts);
                source.storm(inserted, upto, self.phones);
                inserted = upto;
                source_took = begun.elapsed();
            }
            if begun.elapsed() >= PACE * urgent.len() as u32 + PACE / 2 {
                urgent.push(Timestamp::now());
                source.urgent(urgent.len());
            }
            sleep(Duration::from_millis(if inserted < self.alerts { 100 } else { 250 }));
        }
        let took = begun.elapsed();
        let (_, peak) = daemon.memory();
        daemon.stop();
        site.audit();

        let taken = gateway.accepted();
        let mut waits: Vec<Duration> = Vec::new();
        for (n, at) in urgent.iter().enumerate() {
            let sms =
                taken.iter().find(|sms| sms.text == urgent_text(n + 1)).expect("every urgent alert goes out");
            waits.push(since(*at, sms.at));
        }
        let [sent, squeezed, wrong] = source.account(&taken);
        let all = self.alerts + urgent.len();
        let mut faults = Vec::new();
        if sent + squeezed != all || wrong != 0 {
            faults.push(format!("{sent} sent + {squeezed} squeezed of {all}, {wrong} not exactly once"));
        }
        waits.sort();
        let most = waits.last().copied().unwrap_or_default();
        if most > URGENT {
            faults.push(format!("an urgent alert took {most:.1?}"));
        }
        let peak = peak.div_ceil(1024);
        if peak > PEAK_MIB {
            faults.push(format!("{peak} MiB of memory"));
        }
        let figures = vec![
            format!("{all}"),
            format!("{:.0} s", source_took.as_secs_f64()),
            format!("{:.0} s", took.as_secs_f64()),
            format!("{}", taken.len()),
            format!("{squeezed}"),
            format!("{:.2} s", waits[waits.len() / 2].as_secs_f64()),
            format!("{:.2} s", most.as_secs_f64()),
            format!("{peak} MiB"),
        ];
        Line { name: self.name(), figures, faults }
    }

    pub fn name(&self) -> String {
        format!("{} phones, {}", self.phones, if self.embedded { "SQLite" } else { "PostgreSQL" })
    }
}

/// The heads of a storm's figures.
pub const STORM: [&str; 8] =
    ["alerts", "came in", "gone after", "SMS", "squeezed", "urgent: median", "most", "memory"];

/// Where a storm comes from: a connection of its own to the queue's database.
enum Source {
    Postgres(tokio_postgres::Client),
    Sqlite(rusqlite::Connection),
}

impl Source {
    fn of(site: &Site) -> Source {
        if site.db.is_none() {
            let file = rusqlite::Connection::open(site.path("queue.db")).unwrap();
            file.busy_timeout(Duration::from_secs(30)).unwrap();
            return Source::Sqlite(file);
        }
        let db = site.db();
        let place = format!("host=127.0.0.1 port={} user=postgres dbname={}", db.server.port, db.name);
        let (client, connection) = runtime().block_on(tokio_postgres::connect(&place, NoTls)).unwrap();
        runtime().spawn(connection);
        Source::Postgres(client)
    }

    /// The alerts from the one to the other, in turn to each of the phones.
    fn storm(&self, from: usize, to: usize, phones: usize) {
        let last = to - 1;
        match self {
            Source::Postgres(_) => self.execute(&format!(
                "INSERT INTO smsq (accountid, time, phone, msg, severity) \
                 SELECT 1, now(), '+47' || 40000000 + n % {phones}, 'storm ' || n || ': sw' || n || ' does not answer', \
                    2 + n % 4 FROM generate_series({from}, {last}) n"
            )),
            Source::Sqlite(_) => self.execute(&format!(
                "INSERT INTO alert (phone, text, severity) WITH RECURSIVE c (n) AS \
                    (SELECT {from} UNION ALL SELECT n + 1 FROM c WHERE n < {last}) \
                 SELECT '+47' || (40000000 + n % {phones}), 'storm ' || n || ': sw' || n || ' does not answer', \
                    2 + n % 4 FROM c"
            )),
        }
    }

    fn urgent(&self, n: usize) {
        let row = format!("'+47{}', '{}', 1", 90_000_000 + n, urgent_text(n));
        self.execute(&match self {
            Source::Postgres(_) => {
                format!("INSERT INTO smsq (accountid, time, phone, msg, severity) VALUES (1, now(), {row})")
            }
            Source::Sqlite(_) => format!("INSERT INTO alert (phone, text, severity) VALUES ({row})"),
        });
    }

    fn waiting(&self) -> usize {
        self.count(match self {
            Source::Postgres(_) => "SELECT count(*) FROM smsq WHERE sent = 'N'",
            Source::Sqlite(_) => "SELECT count(*) FROM alert WHERE state = 'waiting'",
        })
    }

    /// How many are sent, how many ignored as squeezed, and of how many that is not borne out by exactly one SMS that
    /// was accepted, or by the gateway.
    fn account(&self, taken: &[Accepted]) -> [usize; 3] {
        let (alerts, ended, one) = match self {
            Source::Postgres(_) => (
                "smsq q",
                ["q.sent = 'Y'", "q.sent = 'I'"],
                "SELECT count(*) FROM smsd.attempt_alert l JOIN smsd.attempt a ON a.id = l.attempt \
                 WHERE l.alert = q.id AND a.state = 'accepted' AND l.carried = (q.sent = 'Y')",
            ),
            Source::Sqlite(_) => (
                "alert q",
                ["q.state = 'sent'", "q.state = 'ignored' AND q.reason = 'squeezed'"],
                "SELECT count(*) FROM attempt_alert l JOIN attempt a ON a.seq = l.attempt \
                 WHERE l.alert = q.id AND a.state = 'accepted' AND l.counted = (q.state = 'ignored')",
            ),
        };
        let [sent, squeezed] =
            ended.map(|is| self.count(&format!("SELECT count(*) FROM {alerts} WHERE {is}")));
        let mut wrong = self.count(&format!("SELECT count(*) FROM {alerts} WHERE ({one}) <> 1"));
        // What the gateway took is what the ledger has accepted, SMS by SMS.
        let mut balance: HashMap<(&str, &str), i64> = HashMap::new();
        let ledger = self.sms();
        for (to, text) in &ledger {
            *balance.entry((to, text)).or_default() += 1;
        }
        for sms in taken {
            *balance.entry((&sms.phone, &sms.text)).or_default() -= 1;
        }
        wrong += balance.values().filter(|n| **n != 0).count();
        [sent, squeezed, wrong]
    }

    fn sms(&self) -> Vec<(String, String)> {
        match self {
            Source::Postgres(client) => {
                let sql = "SELECT recipient, text FROM smsd.attempt WHERE state = 'accepted'";
                let rows = runtime().block_on(client.query(sql, &[])).unwrap();
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
            Source::Sqlite(file) => {
                let sql = "SELECT recipient, text FROM attempt WHERE state = 'accepted'";
                let mut rows = file.prepare(sql).unwrap();
                let rows = rows.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
                rows.map(Result::unwrap).collect()
            }
        }
    }

    fn execute(&self, sql: &str) {
        match self {
            Source::Postgres(client) => runtime().block_on(client.batch_execute(sql)).unwrap(),
            Source::Sqlite(file) => file.execute_batch(sql).unwrap(),
        }
    }

    fn count(&self, sql: &str) -> usize {
        let count: i64 = match self {
            Source::Postgres(client) => runtime().block_on(client.query_one(sql, &[])).unwrap().get(0),
            Source::Sqlite(file) => file.query_row(sql, (), |row| row.get(0)).unwrap(),
        };
        usize::try_from(count).unwrap()
    }
}

fn urgent_text(n: usize) -> String {
    format!("urgent {n} end")
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// Who fails, among a thousand numbers and three gateways.
#[derive(Clone, Copy, Debug)]
pub enum Failing {
    /// One number, at every gateway.
    Number,
    /// The first gateway.
    Gateway,
}

/// How.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// It never answers.
    Hangs,
    /// A byte a second.
    Drips,
    /// Status 500.
    Answers500,
}

impl How {
    fn behaviour(self) -> Behaviour {
        match self {
            How::Hangs => Behaviour::answering(Answer::Hang),
            How::Drips => Behaviour::answering(Answer::Drip {
                first: b"HTTP/1.1 2".to_vec(),
                then: b"00 OK\r\nContent-Length: 0\r\n\r\n".repeat(100),
                every: Duration::from_secs(1),
            }),
            How::Answers500 => Behaviour::status(500),
        }
    }
}

/// The heads of the figures of a failure.
pub const FAILURE: [&str; 8] =
    ["alerts", "p99 before", "at first: most", "p99 beside", "all: p99", "in vain", "in doubt", "most asked"];

/// An alert each 20 ms to a phone of its own: so long with everybody well, then so long beside who fails. Those whom
/// the failing gateway was not asked to serve must not notice, but for the moment in which it is found out. What the
/// failing one was asked is counted: few before the breaker opens, then trials, and nobody goes round in circles. A 99th
/// percentile below the noise is the machine's.
pub fn failure(who: Failing, how: How, [well, failing]: [Duration; 2], noise: Duration) -> Line {
    const EVERY: Duration = Duration::from_millis(20);
    const CONCURRENCY: usize = 16;
    let gateways: Vec<Gateway> = (0..3).map(|_| gateway()).collect();
    let good = Behaviour::ok().delay(Duration::from_millis(20));
    gateways.iter().for_each(|gateway| gateway.set(good.clone()));
    let addrs: Vec<_> = gateways.iter().map(|gateway| gateway.addr).collect();
    let main = format!("concurrency: {CONCURRENCY}\ndelay: 2\nsubmit_timeout: 4\nlog_level: error");
    let site = Site::on(Arc::new(Arc::new(Server::own("")).database()), &main, &ways(&addrs, "grace: 2s"));
    assert_eq!(site.run(&["db", "init", "--notify"]).code, 0);
    let source = Source::of(&site);
    let daemon = site.start().up();

    let bad = "+4741000000";
    let mut inserted = Vec::new();
    let begun = Instant::now();
    let mut failed_from = None;
    while begun.elapsed() < well + failing {
        if begun.elapsed() >= well && failed_from.is_none() {
            failed_from = Some(inserted.len());
            match who {
                Failing::Gateway => gateways[0].set(how.behaviour()),
                Failing::Number => gateways.iter().for_each(|g| g.set_for(bad, how.behaviour())),
            }
        }
        let n = inserted.len() + 1;
        inserted.push(Timestamp::now());
        source.urgent(n);
        // One of a thousand, and again and again.
        if failed_from.is_some() && matches!(who, Failing::Number) && n % 50 == 0 {
            source.execute(&format!(
                "INSERT INTO smsq (accountid, time, phone, msg, severity) VALUES (1, now(), '{bad}', 'bad {n}', 1)"
            ));
        }
        sleep((EVERY * n as u32).saturating_sub(begun.elapsed()));
    }
    let first_failed = failed_from.unwrap_or_default();
    let all = format!("SELECT count(*) FROM smsq WHERE sent = 'N' AND phone <> '{bad}'");
    until_within(90, "all but the bad number's are sent", || {
        assert!(daemon.runs(), "it ended by itself");
        sleep(Duration::from_millis(100));
        (source.count(&all) == 0).then_some(())
    });
    daemon.stop();
    site.audit();

    // Who was not in the hands of the one that failed.
    let touched = site.sql("SELECT DISTINCT recipient FROM smsd.attempt WHERE state <> 'accepted'");
    let touched: std::collections::HashSet<&str> = touched.lines().collect();
    let taken: Vec<Accepted> = gateways.iter().flat_map(|gateway| gateway.accepted()).collect();
    let at: HashMap<&str, Timestamp> = taken.iter().rev().map(|sms| (&*sms.text, sms.at)).collect();
    let (mut before, mut at_first, mut beside, mut everybody) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut faults = Vec::new();
    for (n, from) in inserted.iter().enumerate() {
        let Some(at) = at.get(&*urgent_text(n + 1)) else {
            faults.push(format!("alert {} is lost", n + 1));
            continue;
        };
        let took = since(*from, *at);
        let healthy = !touched.contains(&*format!("+47{}", 90_000_000 + n + 1));
        if n < first_failed {
            before.extend(healthy.then_some(took));
            continue;
        }
        everybody.push(took);
        if healthy {
            let early = since(inserted[first_failed], *from) < NOTICED;
            if early { at_first.push(took) } else { beside.push(took) }
        }
    }
    let at_first = at_first.into_iter().max().unwrap_or_default();
    if at_first > NOTICED {
        faults.push(format!("until it was noticed somebody waited {at_first:.1?}"));
    }
    let [p_before, p_beside, p_all] = [before, beside, everybody].map(p99);
    if p_beside > 2 * p_before.max(noise) {
        faults.push(format!("p99 of the healthy is {p_beside:.0?}, before it was {p_before:.0?}"));
    }
    let in_vain = source.count(
        "SELECT count(*) FROM smsd.attempt WHERE state <> 'accepted' AND detail NOT LIKE 'not submitted%'",
    );
    let doubts = source.count("SELECT count(*) FROM smsd.attempt WHERE doubt_since IS NOT NULL");
    let most = source.count(
        "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM smsd.attempt a \
        WHERE recipient <> '+4741000000' GROUP BY recipient) one",
    );
    // One attempt, one at each other gateway, one resend.
    if most > 4 {
        faults.push(format!("an SMS was tried {most} times"));
    }
    let bound = match who {
        // What is in the air when it begins to fail, the five that open the breaker, and a trial now and then.
        Failing::Gateway => CONCURRENCY + 5 + failing.as_secs() as usize / 4,
        Failing::Number => usize::MAX,
    };
    if in_vain > bound {
        faults.push(format!("the one that fails was asked {in_vain} times"));
    }
    let ms = |d: Duration| format!("{:.0} ms", d.as_secs_f64() * 1e3);
    let figures = vec![
        format!("{}", inserted.len()),
        ms(p_before),
        ms(at_first),
        ms(p_beside),
        ms(p_all),
        format!("{in_vain}"),
        format!("{doubts}"),
        format!("{most}"),
    ];
    Line { name: failure_name(who, how), figures, faults }
}

pub fn failure_name(who: Failing, how: How) -> String {
    format!("a {who:?} that {how:?}").to_lowercase()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

/// The lines as a table.
pub fn table(heads: &[&str], lines: &[Line]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([&[""], heads].concat());
    for line in lines {
        table.add_row([std::slice::from_ref(&line.name), &line.figures[..]].concat());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let faults = lines
        .iter()
        .flat_map(|line| line.faults.iter().map(|fault| format!("\nFAULT  {}: {fault}", line.name)));
    table.to_string() + &faults.collect::<String>()
}

/// Each in short.
#[cfg(test)]
mod in_short {
    use super::*;

    #[track_caller]
    fn holds(heads: &[&str], line: Line) {
        eprintln!("{}", table(heads, std::slice::from_ref(&line)));
        assert_eq!(line.faults, [""; 0]);
    }

    fn storm(embedded: bool, phones: usize) {
        let (lasts, answers_in) = (Duration::from_secs(4), Duration::from_millis(10));
        holds(&STORM, Storm { embedded, alerts: 10_000, phones, lasts, answers_in }.run());
    }

    /// Among other tests, whose noise is louder than a 99th percentile: what is held up is so for seconds.
    fn fails(who: Failing, how: How) {
        let lasts = [4, 8].map(Duration::from_secs);
        holds(&FAILURE, failure(who, how, lasts, Duration::from_millis(500)));
    }

    #[test]
    fn a_storm_to_ten_phones_does_not_delay_what_is_urgent() {
        storm(false, 10);
    }

    #[test]
    fn a_storm_to_five_thousand_phones_does_not_delay_what_is_urgent() {
        storm(true, 5_000);
    }

    #[test]
    fn nobody_notices_a_gateway_that_hangs_for_long() {
        fails(Failing::Gateway, How::Hangs);
    }

    #[test]
    fn nobody_notices_a_gateway_that_answers_500() {
        fails(Failing::Gateway, How::Answers500);
    }

    #[test]
    fn nobody_notices_a_number_for_which_every_answer_drips() {
        fails(Failing::Number, How::Drips);
    }
}
