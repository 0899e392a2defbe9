//! `make torture`: what a crash costs, counted. The daemon is killed a thousand times on each queue, and its
//! PostgreSQL is hurt in every way, while alerts keep coming; the table at the end has what came of it.
//!
//! `KILLS` (for each queue), `POWER` (power cuts), `RESTARTS`, `SESSIONS` (ends of all sessions, one every 100 ms),
//! `PAUSES`, `CUTS`, `MEDDLING` (alerts changed by others, on each queue), `MACHINE` (each other fault of the machine),
//! `ROWS` (shared by 2, 3 and 5 instances), `STOPS` (rounds of four instances of five stopped past their lease) and `SEED`
//! set how much. A seed gives the same moments again, though not the same state of the machine in them.
//! `ONLY` names a part of the scenario's name. Exit 1 if anything is lost, doubled unknown, or else as it must not be.
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
#[path = "../tests/support/faults.rs"]
mod faults;
#[path = "../tests/daemon/instances.rs"]
mod instances;
#[path = "../tests/support/postgres.rs"]
mod postgres;
#[path = "../tests/daemon/machine.rs"]
mod machine;
#[path = "../tests/daemon/power.rs"]
mod power;
#[path = "../tests/support/proxy.rs"]
mod proxy;
#[path = "../tests/daemon/torture.rs"]
mod torture;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres::Server;
use torture::{Kind, Line};

fn main() -> ExitCode {
    // `cargo test` and `cargo nextest list` run benches too; the tests have a torture of their own.
    if !std::env::args().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    let seed = amount("SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let of = |name, default| amount(name).map_or(default, |n| n as usize);
    let (kills, restarts) = (of("KILLS", 1000), of("RESTARTS", 50));
    let (sessions, pauses, cuts) = (of("SESSIONS", 300), of("PAUSES", 3), of("CUTS", 300));
    let (power, others) = (of("POWER", 60), of("MACHINE", 6));
    let (meddling, rows, stops) = (of("MEDDLING", 300), of("ROWS", 20_000), of("STOPS", 2));
    println!(
        "SEED={seed} KILLS={kills} POWER={power} MACHINE={others} RESTARTS={restarts} SESSIONS={sessions}"
    );
    println!("PAUSES={pauses} CUTS={cuts} MEDDLING={meddling} ROWS={rows} STOPS={stops}");

    type Scenario = (&'static str, Box<dyn Fn(u64) -> Line>);
    let half = kills / 2;
    let scenarios: [Scenario; 22] = [
        ("kill -9, PostgreSQL, 4 at once", Box::new(move |s| torture::kills(Kind::PostgreSql, half, 4, s))),
        (
            "kill -9, PostgreSQL, 32 at once",
            Box::new(move |s| torture::kills(Kind::PostgreSql, kills - half, 32, s)),
        ),
        ("kill -9, SQLite, 4 at once", Box::new(move |s| torture::kills(Kind::Sqlite, half, 4, s))),
        ("kill -9, SQLite, 32 at once", Box::new(move |s| torture::kills(Kind::Sqlite, kills - half, 32, s))),
        ("power cut, SQLite", Box::new(move |s| power::cuts(power, 16, s, None))),
        ("power cut, new SQLite queue", Box::new(move |s| power::first_alerts(power, s))),
        ("PostgreSQL restarted hard", Box::new(move |s| torture::restarts(restarts, s))),
        ("PostgreSQL's sessions ended", Box::new(move |s| torture::ended_sessions(sessions, s))),
        ("PostgreSQL paused", Box::new(move |s| torture::pauses(pauses, 0.0..8.0, s))),
        ("PostgreSQL paused past the lease", Box::new(move |s| torture::pauses(pauses, 16.0..30.0, s))),
        ("commits cut", Box::new(move |s| torture::cuts(cuts, s))),
        ("disk full, SQLite", Box::new(move |s| machine::full_disks(others, s))),
        ("no descriptors, SQLite", Box::new(move |s| machine::no_descriptors(others, s))),
        ("clock jumps, SQLite", Box::new(move |s| machine::clock_jumps(Kind::Sqlite, others, s))),
        ("clock jumps, PostgreSQL", Box::new(move |s| machine::clock_jumps(Kind::PostgreSql, others, s))),
        ("log blocked", Box::new(move |s| machine::blocked_logs(others, s))),
        (
            "alerts meddled with, PostgreSQL",
            Box::new(move |s| torture::meddling(Kind::PostgreSql, meddling, s)),
        ),
        ("alerts meddled with, SQLite", Box::new(move |s| torture::meddling(Kind::Sqlite, meddling, s))),
        ("shared by 2", Box::new(move |_| share(2, rows))),
        ("shared by 3", Box::new(move |_| share(3, rows))),
        ("shared by 5", Box::new(move |_| share(5, rows))),
        ("4 of 5 stopped past their lease", Box::new(move |s| instances::stops(5, stops, s))),
    ];
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut lines, started) = (Vec::new(), Instant::now());
    for (n, (name, scenario)) in scenarios.iter().enumerate().filter(|(_, (name, _))| name.contains(&only)) {
        println!("\n{name}");
        let ran = catch_unwind(AssertUnwindSafe(|| scenario(seed + n as u64)));
        let broken =
            || Line { complaints: vec!["it did not come to an end, see above".into()], ..Line::default() };
        lines.push(Line { name: (*name).into(), ..ran.unwrap_or_else(|_| broken()) });
    }
    println!("\n{}", torture::table(&lines));
    println!(
        "\nlies: marked sent, but not taken. unknown: doubled, and the ledger does not say so. in doubt: attempts; by \
         one: by the worst kill. copies: most of one alert. back in: slowest return to work after a fault."
    );
    let found: usize = lines.iter().map(|line| line.faults_found().len()).sum();
    println!("\n{found} faults in {} s, SEED={seed}", started.elapsed().as_secs());
    if found == 0 && !lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn share(instances: usize, rows: usize) -> Line {
    instances::sharing(Arc::new(Server::own("")), instances, rows, Duration::from_millis(4))
}

fn amount(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: expected a number")))
}
