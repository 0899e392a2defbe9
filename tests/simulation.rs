//! The real engine in a simulated world: paused time, one thread, everything from one seed.
//!
//! `make simulate SEEDS=20000` runs many seeds; `SMSD_SIM_SEED=42 …` runs one and tells its story.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "test helpers fail by panicking, and are nobody's interface"
)]

#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/past.rs"]
mod past;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/process.rs"]
mod process;
#[path = "simulation/world.rs"]
mod world;

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use world::{Outcome, run};

/// CI's seeds start here.
const BASE: u64 = 1_000_000;
/// CI runs at least so many, and more as long as there is time.
const LEAST: u64 = 300;
const TIME: Duration = Duration::from_secs(60);

#[test]
fn no_seed_breaks_what_must_hold() {
    let env = |key: &str| std::env::var(key).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = env("SMSD_SIM_SEED") {
        let outcome = run(seed, true);
        println!("{}", story(seed, &outcome, true));
        assert_eq!(outcome.violation, None);
        return;
    }
    let (from, least, time) = match env("SMSD_SIM_SEEDS") {
        Some(seeds) => (env("SMSD_SIM_FROM").unwrap_or(0), seeds, Duration::ZERO),
        None => (BASE, LEAST, TIME),
    };
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let (failed, simulated) = (std::sync::Mutex::new(Vec::new()), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if (n >= least && start.elapsed() >= time) || failed.lock().unwrap().len() >= 10 {
                        break;
                    }
                    let outcome = run(from + n, false);
                    simulated.fetch_add(outcome.span.as_secs(), Ordering::Relaxed);
                    if let Some(violation) = &outcome.violation {
                        println!("seed {}: {}", from + n, violation.what);
                        failed.lock().unwrap().push(from + n);
                    }
                    if (n + 1).is_multiple_of(500) {
                        let rate = (n + 1) as f64 / start.elapsed().as_secs_f64();
                        println!("{} seeds, {rate:.0} a second", n + 1);
                    }
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let seeds = next.load(Ordering::Relaxed).saturating_sub(threads as u64);
    println!(
        "{seeds} seeds from {from} in {seconds:.0} s ({:.0} a second): {:.0} simulated hours",
        seeds as f64 / seconds,
        simulated.load(Ordering::Relaxed) as f64 / 3600.0
    );
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    if let Some(seed) = failed.first() {
        panic!("seeds {failed:?} failed; the first:\n{}", story(*seed, &run(*seed, true), false));
    }
}

#[test]
fn a_seed_is_the_same_history_to_the_letter() {
    for seed in BASE..BASE + 20 {
        let (one, two) = (run(seed, true), run(seed, true));
        for (a, b) in one.log.iter().zip(&two.log) {
            assert_eq!(a, b, "seed {seed}");
        }
        assert_eq!(one, two, "seed {seed}");
        assert_eq!(run(seed, false).hash, one.hash, "seed {seed}: to look at it changes it");
    }
}

/// Each known fault is found within so many seeds.
#[cfg(feature = "seeded-bugs")]
#[test]
fn seeded_bugs_are_found() {
    use smsd::seeded::{Bug, choose};

    const SEEDS: u64 = 600;
    let (next, hidden) = (AtomicU64::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    choose(Some(*bug));
                    let start = Instant::now();
                    let found =
                        (0..SEEDS).find_map(|n| run(BASE + n, false).violation.map(|v| (n + 1, v.what)));
                    let seconds = start.elapsed().as_secs_f64();
                    match found {
                        Some((n, what)) => println!("{bug:?}: seed {n} in {seconds:.1} s: {what}"),
                        None => {
                            println!("{bug:?}: NOT FOUND in {SEEDS} seeds, {seconds:.1} s");
                            hidden.lock().unwrap().push(*bug);
                        }
                    }
                }
            });
        }
    });
    let hidden = hidden.into_inner().unwrap();
    assert!(hidden.is_empty(), "the simulation does not find {hidden:?}: mend the simulation");
}

/// What was wrong, how to see it again, and what happened to the alert or attempt that it is about.
fn story(seed: u64, outcome: &Outcome, whole: bool) -> String {
    let mut out = String::new();
    let Some(violation) = &outcome.violation else {
        return format!(
            "{}\nseed {seed}: all holds",
            if whole { outcome.log.join("\n") } else { String::new() }
        );
    };
    let mut words = Vec::new();
    if let Some(id) = violation.alert {
        words.extend([format!("<a{:05}>", id.0), format!("AlertId({})", id.0), format!("alert {} ", id.0)]);
    }
    if let Some(id) = violation.attempt {
        words.push(format!("{:.8}", id.to_string()));
    }
    for (n, line) in outcome.log.iter().enumerate() {
        if whole || n == 0 || words.iter().any(|word| line.contains(word)) {
            let _ = writeln!(out, "{line}");
        }
    }
    let _ = writeln!(out, "seed {seed}: {} ({:?}, {:?})", violation.what, violation.alert, violation.attempt);
    let _ =
        write!(out, "replay: SMSD_SIM_SEED={seed} cargo nextest run --no-capture --test simulation no_seed");
    out
}
