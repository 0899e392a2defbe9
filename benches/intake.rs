//! `make bench`: durable posts by HTTP, each figure beside what bounds it on this machine in the same run.
//!
//! The real daemon takes what `wrk` posts by 64 connections that it keeps, everything on this one machine. The alerts
//! are for a thousand phones and are collected for an hour after the first SMS to each, so that sending goes on and is
//! not what is measured. The bounds are the same alerts handed in at the desk without HTTP (D), HTTP without an alert
//! (H: `GET /healthz`), and what it costs to sync 4 KiB (F). Median of `RUNS` (3) runs of `SECONDS` (10).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "test helpers fail by panicking, and are nobody's interface; not all of them are used here"
)]

#[path = "../tests/daemon/bench.rs"]
mod bench;
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::{Site, nobody_listens, until};
use postgres::Server;
use smsd::alert::{Phone, Severity};
use smsd::intake::desk;
use smsd::queue::{Key, NewAlert, Queue, Schema, Submission, navdb, sqlite::SqliteQueue};
use tokio_util::sync::CancellationToken;

/// Clients at once.
const CLIENTS: usize = 64;
/// What is promised: durable posts per second, and the 99th percentile in milliseconds.
const PROMISED: (f64, f64) = (5_000.0, 100.0);

/// What `wrk` asks. With KEYS, each alert has an idempotency key.
const POSTS: &str = r#"
local n = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer a-token-of-the-bench-0123456789"
local run, keys = os.getenv("RUN"), os.getenv("KEYS") == "1"
function request()
    n = n + 1
    local key = keys and string.format(',"idempotency_key":"%s-%d"', run, n) or ""
    local body = string.format('{"to":"+47%d","text":"boxDown: %s %d does not answer","severity":3,"account":1%s}',
        40000000 + n % 1000, run, n, key)
    return wrk.format(nil, nil, nil, body)
end
"#;
const REPORT: &str = r#"
function done(summary, latency)
    local e = summary.errors
    print(string.format("FIGURES %d %d %d %f %f %f", summary.requests, e.status,
        e.connect + e.read + e.write + e.timeout, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"#;

fn main() -> ExitCode {
    // `cargo test` and `cargo nextest list` run benches too; they have nothing to measure.
    if !std::env::args().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    let synced = sync_cost(&std::env::temp_dir());
    say(&format!("F  write and sync of 4 KiB here   median {:.2} ms\n", synced.as_secs_f64() * 1e3));
    let mut reached = true;
    for kind in [Kind::Sqlite, Kind::PostgreSql] {
        reached &= measure(kind);
    }
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sqlite,
    PostgreSql,
}

/// What one run of `wrk` came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    rate: f64,
    median_ms: f64,
    p99_ms: f64,
    answered: usize,
}

/// Both ways of posting on one kind of queue; true if each is as promised.
fn measure(kind: Kind) -> bool {
    let desk = without_http(kind);
    say(&format!("\n{kind:?}\nD  handed in at the desk, {CLIENTS} at once     {desk:>7.0} alerts/s\n"));
    let at = nobody_listens();
    let rest = format!(
        "[dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\n[http]\nlisten: {at}\n\
         token: a-token-of-the-bench-0123456789\n"
    );
    let main = "log_level: error\ndelay: 30\ngroup_interval: 1h";
    let site = match kind {
        Kind::Sqlite => Site::embedded(main, &rest),
        Kind::PostgreSql => Site::on(Arc::new(Arc::new(Server::own("")).database()), main, &rest),
    };
    let daemon = site.start();
    until("it listens", || {
        assert!(daemon.runs(), "{}", daemon.log());
        TcpStream::connect(at).ok()
    });
    let health = wrk(&site, at, "/healthz", "", &[]);
    say(&format!("H  GET /healthz                          {:>7.0} requests/s\n", health.rate));
    let mut reached = true;
    for (what, keys) in [("POST /api/v1/alerts", "0"), ("the same with idempotency keys", "1")] {
        let mut runs: Vec<Run> = (0..amount("RUNS", 3))
            .map(|n| {
                let before = rows(&site);
                let run = wrk(
                    &site,
                    at,
                    "/api/v1/alerts",
                    POSTS,
                    &[("RUN", &format!("{keys}-{n}")), ("KEYS", keys)],
                );
                let queued = rows(&site) - before;
                assert!(queued >= run.answered, "{} were accepted and {queued} are queued", run.answered);
                let in_flight = queued - run.answered;
                assert!(in_flight <= CLIENTS, "{in_flight} are queued that nobody was told of");
                run
            })
            .collect();
        runs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let run = runs[runs.len() / 2];
        let bound = 1.0 / (1.0 / desk + 1.0 / health.rate);
        say(&format!(
            "{what:<38} {:>9.0} alerts/s, median {:.1} ms, p99 {:.1} ms, {:.0} % of 1/(1/D+1/H); every 202 is in the queue\n",
            run.rate,
            run.median_ms,
            run.p99_ms,
            100.0 * run.rate / bound
        ));
        reached &= run.rate >= PROMISED.0 && run.p99_ms < PROMISED.1;
    }
    let (now, most) = daemon.memory();
    say(&format!("memory {:.0} MiB, at most {:.0} MiB\n", now as f64 / 1024.0, most as f64 / 1024.0));
    daemon.stop();
    site.audit();
    reached
}

/// All alerts that were ever queued.
fn rows(site: &Site) -> usize {
    if site.db.is_some() {
        return site.sql("SELECT count(*) FROM smsq").parse().unwrap();
    }
    let file = rusqlite::Connection::open(site.path("queue.db")).unwrap();
    file.query_row("SELECT count(*) FROM alert", (), |row| row.get::<_, i64>(0)).unwrap() as usize
}

/// Nothing but 2xx may be answered.
fn wrk(site: &Site, at: SocketAddr, path: &str, posts: &str, env: &[(&str, &str)]) -> Run {
    let script = site.path("posts.lua");
    std::fs::write(&script, format!("{posts}{REPORT}")).unwrap();
    let out = Command::new("wrk")
        .args([
            "-t1",
            &format!("-c{CLIENTS}"),
            &format!("-d{}s", amount("SECONDS", 10)),
            "--timeout",
            "10s",
            "-s",
        ])
        .arg(&script)
        .arg(format!("http://{at}{path}"))
        .envs(env.iter().copied())
        .output()
        .expect("wrk: run scripts/install-test-deps");
    let text = String::from_utf8(out.stdout).unwrap();
    let line =
        text.lines().find_map(|l| l.strip_prefix("FIGURES ")).unwrap_or_else(|| panic!("wrk says {text}"));
    let figures: Vec<f64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
    let [requests, refused, failed, seconds, median_ms, p99_ms] = figures[..] else {
        panic!("wrk says {line}")
    };
    assert_eq!((refused, failed), (0.0, 0.0), "refused or failed: {line}");
    Run { rate: requests / seconds, median_ms, p99_ms, answered: requests as usize }
}

/// What the desk and the queue do by themselves, in this process, with nothing that sends.
fn without_http(kind: Kind) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        match kind {
            Kind::Sqlite => {
                let queue =
                    SqliteQueue::open(&dir.path().join("queue.db"), Duration::from_secs(1), true).await;
                hand_in(Arc::new(queue.unwrap())).await
            }
            Kind::PostgreSql => {
                let database = Arc::new(Server::own("")).database();
                let queue = navdb::open(&database.target(), true).await.unwrap();
                queue.init(false).await.unwrap();
                hand_in(Arc::new(queue)).await
            }
        }
    })
}

async fn hand_in(queue: Arc<dyn Queue>) -> f64 {
    let (desk, mut clerk) = desk(queue);
    let over = CancellationToken::new();
    let clerk = {
        let over = over.clone();
        tokio::spawn(async move { clerk.work(over).await })
    };
    let (began, lasts) = (Instant::now(), Duration::from_secs(amount("SECONDS", 10) as u64 / 2));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let desk = desk.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while began.elapsed() < lasts {
                    let to = Phone::parse(&format!("+47{}", 40_000_000 + done % 1000)).unwrap();
                    let text = format!("boxDown: {client} {done} does not answer");
                    let new =
                        NewAlert { to, text: text.into(), severity: Severity(Some(3)), account: Some(1) };
                    desk.hand_in(Submission { key: Key::own(), alerts: vec![new] }).await.unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.await.unwrap();
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    over.cancel();
    clerk.await.unwrap();
    rate
}

/// The median of 200.
fn sync_cost(folder: &Path) -> Duration {
    let path = folder.join(format!("smsd-sync-{}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[0x5a; 4096]).unwrap();
            file.sync_data().unwrap();
            began.elapsed()
        })
        .collect();
    let _ = std::fs::remove_file(&path);
    took.sort();
    took[took.len() / 2]
}

fn amount(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
