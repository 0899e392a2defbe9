//! `make bench`: how fast texts become octets, and a storm one SMS, on one core and without any I/O.
//!
//! Each figure is the median of [`ROUNDS`] rounds, in the thread's own processor time. What else the machine does can only
//! slow a round down, so a bound is missed if the fastest round misses it: then the exit status is 1.
#![allow(missing_docs, clippy::expect_used, reason = "a program that measures")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use smsd::alert::AlertId;
use smsd::compose::{Shape, compose};
use smsd::config::Style;
use smsd::sms::choice::{Means, choose};
use smsd::sms::coding::segments;
use smsd::sms::udh::Reference;

const ROUNDS: usize = 21;
/// How long a round lasts at least.
const ROUND: Duration = Duration::from_millis(20);
/// Texts in 7 bit that one core must encode in a second.
const TEXTS: f64 = 1e6;
/// In what time a storm must be composed.
const STORM: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    // `cargo test` and `cargo nextest list` run benches too; they have nothing to measure.
    if !std::env::args().any(|a| a == "--bench") {
        return ExitCode::SUCCESS;
    }
    // Filled by the number of the text, so that no two are the same.
    let plain =
        "boxDown: sw{n}-trd.example.org does not answer since 03:12, 14 boxes behind it are in shadow";
    let escaped = "[CRITICAL] {if}=Gi1/0/{n} ~ 96 % of 10 Gbit/s | cost 20 €/h \\ see [runbook {n}]";
    let norwegian =
        "Temperatur på måler {n} i kjølerom B er for høy: 31,5 grader. Åpne døra og ring vakta på Røros";
    let wide = "Температура датчика {n} слишком высокая: 31,5 °C, срочно";
    let numbered =
        |text: &str| (0..1_000).map(|n| text.replace("{n}", &format!("{n:03}"))).collect::<Vec<_>>();
    let of = [plain, escaped, norwegian, wide].map(numbered);
    let mut all_hold = true;
    for (what, texts, bound) in [
        ("text to octets, plain ASCII", &of[0], Some(TEXTS)),
        ("the same with escaped characters", &of[1], Some(TEXTS)),
        ("the same, Norwegian", &of[2], Some(TEXTS)),
        ("the same in UCS-2", &of[3], None),
    ] {
        let times = rounds(|| encode(texts));
        let per_second = |time: Duration| texts.len() as f64 / time.as_secs_f64();
        let holds = bound.is_none_or(|bound| per_second(times.fastest) >= bound);
        all_hold &= holds;
        let bound = bound.map_or(String::new(), |bound| format!(", at least {bound:.0}"));
        say(what, format!("{:>10.0} texts/s{bound}", per_second(times.median)), holds);
    }
    for (what, texts, style) in [
        ("a storm of 1,000 alerts, compose: nav", &of[0], Style::Nav),
        ("the same, compose: digest", &of[0], Style::Digest),
        ("the same in UCS-2, compose: nav", &of[3], Style::Nav),
        ("the same in UCS-2, compose: digest", &of[3], Style::Digest),
    ] {
        let alerts: Vec<_> = (1..).map(AlertId).zip(texts.iter().map(String::as_str)).collect();
        let shape = Shape { style, ..Shape::default() };
        let times = rounds(|| {
            black_box(compose(black_box(&alerts), &shape));
        });
        let holds = times.fastest < STORM;
        all_hold &= holds;
        let micros = times.median.as_secs_f64() * 1e6;
        say(what, format!("{micros:>10.1} µs, less than {}", STORM.as_micros()), holds);
    }
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From text to the octets of its segments.
fn encode(texts: &[String]) {
    let means = Means::default();
    for text in texts {
        let choice = choose(black_box(text), &means);
        let segments = segments(&choice.text, choice.coding, Reference::Short(0));
        assert!(black_box(segments).is_ok_and(|segments| segments.len() == 1));
    }
}

/// How long something takes.
struct Times {
    median: Duration,
    fastest: Duration,
}

fn rounds(work: impl Fn()) -> Times {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let (started, mut times) = (now(), 0);
            while now() - started < ROUND {
                work();
                times += 1;
            }
            (now() - started) / times
        })
        .collect();
    times.sort();
    Times { median: times[ROUNDS / 2], fastest: times[0] }
}

/// The processor time of this thread.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock").into()
}

fn say(what: &str, figure: String, holds: bool) {
    println!("{what:<38} {figure}{}", if holds { "" } else { "  MISSED" });
}
