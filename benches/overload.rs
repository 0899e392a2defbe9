//! `make overload`: a hundred thousand alerts within a minute, and numbers and gateways that fail, to the real daemon.
//! Two tables at the end have what came of it: what the storms took, and what the healthy noticed of the others.
//!
//! `ALERTS` and `SECONDS` set the storms; `ONLY` names a part of a line's name. Exit 1 if a figure is not reached.
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
#[path = "../tests/daemon/overload.rs"]
mod overload;
#[path = "../tests/support/postgres.rs"]
mod postgres;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use overload::{FAILURE, Failing, How, Line, STORM, Storm, failure, table};

/// What a percentile may differ by on a machine that does nothing else.
const NOISE: Duration = Duration::from_millis(60);

fn main() -> ExitCode {
    // `cargo test` and `cargo nextest list` run benches too; the tests have storms of their own.
    if !std::env::args().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    let (alerts, seconds) = (amount("ALERTS").unwrap_or(100_000), amount("SECONDS").unwrap_or(60));
    let only = std::env::var("ONLY").unwrap_or_default();
    let started = Instant::now();
    let storm = |embedded, phones| Storm {
        embedded,
        alerts,
        phones,
        lasts: Duration::from_secs(seconds as u64),
        answers_in: Duration::from_millis(10),
    };
    let storms =
        [storm(false, 1), storm(false, 10), storm(false, 1_000), storm(false, 50_000), storm(true, 50_000)];
    let mut stormed = Vec::new();
    for storm in storms.into_iter().filter(|storm| storm.name().contains(&only)) {
        stormed.push(line(storm.name(), || storm.run()));
    }
    let mut failed = Vec::new();
    for who in [Failing::Number, Failing::Gateway] {
        for how in [How::Hangs, How::Drips, How::Answers500] {
            let name = overload::failure_name(who, how);
            if name.contains(&only) {
                failed.push(line(name, || failure(who, how, [8, 18].map(Duration::from_secs), NOISE)));
            }
        }
    }
    println!("\n{}\n\n{}", table(&STORM, &stormed), table(&FAILURE, &failed));
    println!(
        "\nbefore: everybody is well. at first: within 3 s of the failure. beside: after that, those whom the failing one \
         was not asked to serve. in vain: submits to it. most asked: attempts of one SMS to a healthy number."
    );
    let faults: usize = stormed.iter().chain(&failed).map(|line| line.faults.len()).sum();
    println!("\n{faults} faults in {} s", started.elapsed().as_secs());
    if faults == 0 && stormed.len() + failed.len() > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn line(name: String, run: impl FnOnce() -> Line) -> Line {
    let line = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Line {
        name,
        faults: vec!["it did not come to an end, see above".into()],
        ..Line::default()
    });
    println!("{}: {}", line.name, line.figures.join("  "));
    line
}

fn amount(name: &str) -> Option<usize> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: expected a number")))
}
