//! An engine that has nothing to do does nothing. Every turn of its loop reads the boot clock once or twice.

use std::sync::Arc;

use smsd::config::Main;
use smsd::queue::Age;
use smsd::queue::memory::MemoryQueue;

use super::bench::*;
use super::wrapped::{Does, Wrapped};

/// In an idle second it looks at the queue four times, and an answer is a turn of its own.
const TURNS_A_SECOND: usize = 30;

#[tokio::test(start_paused = true)]
async fn an_idle_engine_looks_at_its_queue_and_does_nothing_else() {
    let bench = Bench::start(&[&Gateway::good()]);
    pass(secs(10)).await;
    let before = bench.turns();
    pass(secs(60)).await;
    let turns = bench.turns() - before;
    assert!(turns > 60, "it does look: {turns}");
    assert!(turns < 60 * TURNS_A_SECOND, "{turns} turns in a minute");
    bench.stop().await.unwrap();
}

/// The daemon was once seen to spin until the first look was over.
#[tokio::test(start_paused = true)]
async fn an_engine_that_waits_for_its_queue_does_nothing_meanwhile() {
    for autocancel in [None, Some(Age { text: "1 day".into(), duration: secs(86_400) })] {
        for slow in [Slow::JOIN, Slow::NEWEST, Slow::CLAIM, Slow::EXPIRE, Slow::DOUBTS, Slow::ALL] {
            let memory = Arc::new(MemoryQueue::new());
            let queue = Wrapped::around(&memory, move |verb, _| match slow.0.contains(&verb) {
                true => Does::ItsAfter(secs(9)),
                false => Does::Its,
            });
            let main = Main { autocancel: autocancel.clone(), ..Main::default() };
            let gateway = Gateway::good();
            let bench = Bench::start_on(queue, memory, &[&gateway], |options| options.main = main);
            bench.alert(&phone(1), "it waits", 3);
            pass(secs(10)).await;
            let turns = bench.turns();
            assert!(turns < 10 * TURNS_A_SECOND, "{slow:?} {autocancel:?}: {turns} turns");
            pass(secs(600)).await;
            assert_eq!(gateway.texts(), ["it waits"], "{slow:?} {autocancel:?}");
            bench.kill().await;
        }
    }
}

/// Which verbs take their time.
#[derive(Clone, Copy, Debug)]
struct Slow(&'static [&'static str]);

impl Slow {
    const JOIN: Slow = Slow(&["join"]);
    const NEWEST: Slow = Slow(&["newest"]);
    const CLAIM: Slow = Slow(&["claim", "claim new"]);
    const EXPIRE: Slow = Slow(&["expire"]);
    const DOUBTS: Slow = Slow(&["doubts"]);
    const ALL: Slow = Slow(&["join", "newest", "claim", "claim new", "expire", "doubts", "begin", "settle"]);
}
