//! `make bench`: the figures of the README, each beside the limit measured in the same run.
//!
//! The real daemon drains NAV's table in a PostgreSQL of its own, everything on this one machine. The limits are
//! the ledger's writes in plain SQL in batches (S), and `wrk` on the same nginx (W). `SMSD_BENCH_ROWS` sets the
//! number of rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test helpers fail by panicking, and are nobody's interface"
)]

#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use postgres::{Database, Server};

const OLD_ROWS: usize = 100_000;
const BATCH: usize = 256;

fn main() {
    // `cargo test` and `cargo nextest list` run benches too; they have nothing to measure.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let rows: usize = std::env::var("SMSD_BENCH_ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(30_000);
    let server = std::sync::Arc::new(Server::own(""));
    say(&format!(
        "{rows} rows, one per number; {OLD_ROWS} old rows in the table; everything on this machine\n"
    ));

    let sql = plain_sql(&server, rows);
    say(&format!("S  the ledger's writes in plain SQL, batches of {BATCH}   {sql:>8.0} alerts/s\n"));
    let web = Nginx::start();
    let wrk = web.wrk();
    say(&format!("W  wrk on the same nginx                               {wrk:>8.0} requests/s\n\n"));

    let debug = drain(
        &server,
        rows,
        "[dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\nconcurrency: 512\n",
    );
    debug.report("DebugDispatcher", "alerts/s", sql, "S");
    let both = 1.0 / (1.0 / wrk + 1.0 / sql);
    let conf = format!(
        "[dispatcher]\ndispatcher1: HttpGetDispatcher\n[HttpGetDispatcher]\nconcurrency: 512\n\
         url: http://127.0.0.1:{}/send?to=%(phone)s&text=%(sms)s\n",
        web.port
    );
    let http = drain(&server, rows, &conf);
    http.report("HttpGetDispatcher to nginx", "SMS/s", both, "1/(1/W+1/S)");
    drain(&server, rows, &conf.replace("concurrency: 512\n", "")).report(
        "the same, concurrency as by default",
        "SMS/s",
        both,
        "1/(1/W+1/S)",
    );
    say("\n");

    latency(&server, false);
    latency(&server, true);
}

/// One drain.
struct Drain {
    rate: f64,
    peak_mib: f64,
}

impl Drain {
    fn report(&self, what: &str, unit: &str, limit: f64, name: &str) {
        say(&format!(
            "{what:<38} {:>8.0} {unit:<9} {:>4.0} % of {name}, peak memory {:.0} MiB\n",
            self.rate,
            100.0 * self.rate / limit,
            self.peak_mib
        ));
    }
}

/// From the first attempt to the last settlement, as the ledger has it.
fn drain(server: &std::sync::Arc<Server>, rows: usize, dispatchers: &str) -> Drain {
    let database = server.database();
    fill(&database, rows);
    let daemon = Daemon::start(&database, dispatchers);
    let deadline = Instant::now() + Duration::from_secs(120);
    // The index keeps what is asked here from costing the drain anything.
    while database.sql("SELECT count(*) FROM smsq WHERE id > 100000 AND sent = 'N'") != "0" {
        assert!(Instant::now() < deadline, "the drain does not end:\n{}", daemon.log());
        std::thread::sleep(Duration::from_millis(250));
    }
    let seconds: f64 = database
        .sql("SELECT extract(epoch FROM max(ended_at) - min(begun_at)) FROM smsd.attempt")
        .parse()
        .unwrap();
    let sent: usize =
        database.sql("SELECT count(*) FROM smsq WHERE id > 100000 AND sent = 'Y'").parse().unwrap();
    assert_eq!(sent, rows, "{}", daemon.log());
    let peak_mib = daemon.peak_mib();
    daemon.stop();
    Drain { rate: rows as f64 / seconds, peak_mib }
}

fn fill(database: &Database, rows: usize) {
    database.sql(&format!(
        "INSERT INTO smsq (accountid, time, phone, msg, sent, smsid, timesent, severity)
            SELECT 1, now() - interval '1 day', '+4790000000', 'old', 'Y', 0, now() - interval '1 day', 3
            FROM generate_series(1, {OLD_ROWS});
         INSERT INTO smsq (accountid, time, phone, msg, severity)
            SELECT 1, now(), '+47' || 40000000 + n, 'boxDown: sw' || n || '.example.org does not answer', 1 + n % 5
            FROM generate_series(1, {rows}) n;
         ANALYZE smsq"
    ));
}

/// What the ledger costs by itself: the same rows written and closed by SQL alone, in the same batches.
fn plain_sql(server: &std::sync::Arc<Server>, rows: usize) -> f64 {
    let database = server.database();
    fill(&database, rows);
    database.sql(include_str!("../src/queue/migrations/postgres.sql"));
    let mut script = String::new();
    for first in (1..=rows).step_by(BATCH) {
        let last = (first + BATCH - 1).min(rows);
        script.push_str(&format!(
            "\\set f {first}
             \\set l {last}
             BEGIN;
             INSERT INTO smsd.open SELECT '+47' || 40000000 + n, lpad(to_hex(n), 32, '0')::uuid
                FROM generate_series(:f, :l) n ON CONFLICT DO NOTHING;
             INSERT INTO smsd.unresolved SELECT {OLD_ROWS} + n, lpad(to_hex(n), 32, '0')::uuid
                FROM generate_series(:f, :l) n ON CONFLICT DO NOTHING;
             INSERT INTO smsd.attempt (id, instance, deadline, number, possible_duplicate, state, recipient, text,
                    dispatcher, carried, counted)
                SELECT lpad(to_hex(id - {OLD_ROWS}), 32, '0')::uuid, '00000000-0000-0000-0000-000000000000', now(), 1,
                    false, 'open', phone, msg, 'd', ARRAY[id], '{{}}'
                FROM smsq WHERE id BETWEEN {OLD_ROWS} + :f AND {OLD_ROWS} + :l AND sent = 'N';
             INSERT INTO smsd.attempt_alert SELECT {OLD_ROWS} + n, lpad(to_hex(n), 32, '0')::uuid, true
                FROM generate_series(:f, :l) n;
             COMMIT;
             BEGIN;
             UPDATE smsd.attempt SET state = 'accepted', class = 'accepted', ended_at = now(), detail = ''
                WHERE id = ANY (ARRAY(SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(:f, :l) n))
                AND state = 'open';
             DELETE FROM smsd.open WHERE recipient = ANY (ARRAY(SELECT '+47' || 40000000 + n
                FROM generate_series(:f, :l) n));
             DELETE FROM smsd.unresolved WHERE alert BETWEEN {OLD_ROWS} + :f AND {OLD_ROWS} + :l;
             UPDATE smsq SET sent = 'Y', smsid = 0, timesent = now()
                WHERE id BETWEEN {OLD_ROWS} + :f AND {OLD_ROWS} + :l AND sent = 'N';
             COMMIT;\n"
        ));
    }
    let file = server.dir.join("plain.sql");
    fs::write(&file, script).unwrap();
    let started = Instant::now();
    let status = Command::new("psql")
        .args([
            "-qAtX",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            &database.name,
            "-p",
            &server.port.to_string(),
        ])
        .arg("-h")
        .arg(&server.dir)
        .arg("-f")
        .arg(&file)
        .env("PGOPTIONS", "-c client_min_messages=warning -c enable_seqscan=off")
        .status()
        .unwrap();
    let rate = rows as f64 / started.elapsed().as_secs_f64();
    assert!(status.success());
    assert_eq!(database.sql("SELECT count(*) FROM smsq WHERE sent = 'N'"), "0");
    rate
}

/// From a row's insert to the gateway, 200 rows at odd moments; and what the daemon costs while nothing happens.
fn latency(server: &std::sync::Arc<Server>, notify: bool) {
    let database = server.database();
    let log = server.dir.join("sms.jsonl");
    let _ = fs::remove_file(&log);
    let conf =
        format!("[dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\nlog: {}\n", log.display());
    if notify {
        let daemon = Daemon::start(&database, &conf);
        daemon.command(&["db", "init", "--notify"]);
        daemon.stop();
    }
    let first = "INSERT INTO smsq (accountid, time, phone, msg, severity) VALUES (1, now(), '+4799999998', 'first', 1)";
    database.sql(first);
    let started = Instant::now();
    let daemon = Daemon::start(&database, &conf);
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("first")) {
        std::thread::sleep(Duration::from_millis(1));
        assert!(started.elapsed() < Duration::from_secs(20), "{}", daemon.log());
    }
    let start_to_first = started.elapsed();
    let mut took = Vec::new();
    for n in 0..200u64 {
        std::thread::sleep(Duration::from_millis(5 + n * 37 % 60));
        let (phone, text) = (format!("+47{}", 41_000_000 + n), format!("latency {n} end"));
        let sql = format!(
            "INSERT INTO smsq (accountid, time, phone, msg, severity) VALUES (1, now(), '{phone}', '{text}', 1)"
        );
        database.sql(&sql);
        let inserted = Instant::now();
        while !fs::read_to_string(&log).unwrap().contains(&text) {
            std::thread::sleep(Duration::from_micros(500));
            assert!(inserted.elapsed() < Duration::from_secs(20), "{}", daemon.log());
        }
        took.push(inserted.elapsed());
    }
    took.sort();
    let cpu_before = daemon.cpu();
    std::thread::sleep(Duration::from_secs(10));
    let cpu = (daemon.cpu() - cpu_before) / 10.0 * 100.0;
    let resident = daemon.memory("VmRSS");
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    say(&format!(
        "{:<38} median {:.1} ms, p99 {:.1} ms; start to first SMS {:.0} ms; idle {cpu:.2} % of a core, {:.1} MiB\n",
        if notify { "insert to gateway, with --notify" } else { "insert to gateway, table untouched" },
        ms(took[took.len() / 2]),
        ms(took[took.len() * 99 / 100]),
        ms(start_to_first),
        resident
    ));
    assert!(resident < 24.0, "{resident} MiB resident when idle");
    daemon.stop();
}

/// A running daemon in a folder of its own.
struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    fn start(database: &Database, dispatchers: &str) -> Daemon {
        let dir = std::env::temp_dir().join(format!("smsd-bench-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir(&dir).unwrap();
        let user = User::from_name("nobody").unwrap().filter(|_| geteuid().is_root());
        let username = user.as_ref().map_or(String::new(), |u| format!("username: {}\n", u.name));
        let (socket, port) = (database.server.dir.display(), database.server.port);
        fs::write(
            dir.join("smsd.conf"),
            format!("[main]\nlog_level: error\nstate_dir: {}\n{username}{dispatchers}", dir.display()),
        )
        .unwrap();
        fs::write(dir.join("nav.conf"), format!("PID_DIR = {0}\nLOG_DIR = {0}\n", dir.display())).unwrap();
        fs::write(
            dir.join("db.conf"),
            format!(
                "dbhost = {socket}\ndbport = {port}\ndb_nav = {}\nscript_smsd = postgres\n",
                database.name
            ),
        )
        .unwrap();
        if let Some(user) = user {
            for file in ["", "smsd.conf", "nav.conf", "db.conf"] {
                chown(&dir.join(file), Some(user.uid), Some(user.gid)).unwrap();
            }
            // The server's folder is its own user's; its sockets are for everybody, and so is the SMS log.
            fs::set_permissions(&database.server.dir, std::os::unix::fs::PermissionsExt::from_mode(0o777))
                .unwrap();
        }
        let child =
            Self::program(&dir, &["-f"]).stderr(fs::File::create(dir.join("log")).unwrap()).spawn().unwrap();
        Daemon { child, dir }
    }

    fn program(dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smsd"));
        command
            .arg("-C")
            .arg(dir.join("smsd.conf"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) {
        assert!(Self::program(&self.dir, arguments).status().unwrap().success(), "{arguments:?}");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn memory(&self, what: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(what)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    fn peak_mib(&self) -> f64 {
        self.memory("VmHWM")
    }

    /// Seconds of processor time so far.
    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / 100.0
    }

    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success(), "{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A gateway that answers as fast as one can.
struct Nginx {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Nginx {
    fn start() -> Nginx {
        let dir = std::env::temp_dir().join(format!("smsd-nginx-{}", uuid::Uuid::now_v7().simple()));
        fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let d = dir.display();
        let conf = format!(
            "daemon off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
             events {{ worker_connections 1024; }}
             http {{ access_log off; keepalive_requests 100000000;
               client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;
               server {{ listen 127.0.0.1:{port}; location / {{ return 200 'OK'; }} }} }}"
        );
        fs::write(dir.join("nginx.conf"), conf).unwrap();
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("nginx")
            .env("PATH", path)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "nginx does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Nginx { child, port, dir }
    }

    fn wrk(&self) -> f64 {
        let url = format!("http://127.0.0.1:{}/send?to=%2B4799999999&text=boxDown", self.port);
        let out = Command::new("wrk").args(["-t1", "-c64", "-d5s", &url]).output().unwrap();
        let text = BufReader::new(&out.stdout[..])
            .lines()
            .map(Result::unwrap)
            .find(|l| l.starts_with("Requests/sec"))
            .unwrap();
        text.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
