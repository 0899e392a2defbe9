//! A fault in the queue's own code: a panic in one call. It costs that call, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use smsd::alert::{Phone, Severity};
use smsd::config::Main;
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{Age, AlertState, NewAlert, Queue, QueueError};
use smsd::telemetry::Event;

use super::bench::*;
use super::wrapped::{Does, Wrapped};

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_verb_submits_what_another_is_writing_only_once() {
    let memory = Arc::new(MemoryQueue::new());
    let armed = Arc::new(AtomicBool::new(false));
    let script = armed.clone();
    let queue = Wrapped::around(&memory, move |verb, _| match verb {
        "peers" if script.swap(false, Ordering::Relaxed) => Does::Panic,
        "begin" => Does::ItsAfter(secs(1)),
        "settle" => Does::ItsAfter(secs(2)),
        _ => Does::Its,
    });
    let gateway = Gateway::good();
    let bench = Bench::start_on(queue, memory, &[&gateway], |_| {});
    // The instances are counted with each renewal, at 5 s: the begin is under way then.
    pass(millis(4_500)).await;
    armed.store(true, Ordering::Relaxed);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(10)).await;
    assert!(!armed.load(Ordering::Relaxed), "there was a panic");
    assert_eq!(bench.attempts(id).await, 1);
    assert_eq!(gateway.asked().len(), 1, "one attempt, one submit");
    assert_eq!(bench.state(id).await, AlertState::Sent);
    // Nothing is left busy by it.
    let next = bench.alert(&phone(2), "down", 1);
    pass(secs(4)).await;
    assert_eq!(bench.state(next).await, AlertState::Sent);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_verb_that_panics_now_and_then_stops_the_engine_or_doubles_an_sms() {
    let verbs = [
        "join",
        "renew",
        "peers",
        "newest",
        "claim",
        "claim new",
        "begin",
        "settle",
        "doubts",
        "expire",
        "wait",
    ];
    for (verb, done) in verbs.iter().flat_map(|verb| [(*verb, false), (*verb, true)]) {
        let memory = Arc::new(MemoryQueue::new());
        let left = Arc::new(AtomicUsize::new(3));
        let script = left.clone();
        let queue = Wrapped::around(&memory, move |asked, _| {
            let one_less = |n: usize| n.checked_sub(1);
            match asked == verb && script.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
            {
                true if done => Does::ItsAndPanic,
                true => Does::Panic,
                false => Does::Its,
            }
        });
        let age = Some(Age { text: "1 day".into(), duration: secs(86_400) });
        let gateway = Gateway::good();
        let bench = Bench::start_on(queue, memory, &[&gateway], |o| {
            o.main = Main { autocancel: age, ..Main::default() };
        });
        for n in 0..20 {
            let (to, text, severity) = (Phone::parse(&phone(n)).unwrap(), "down".into(), Severity(Some(3)));
            // Every second one makes itself known.
            match n % 2 {
                0 => _ = bench.alert(to.as_str(), "down", 3),
                _ => _ = bench.queue.submit(&[NewAlert { to, text, severity, account: None }]).await.unwrap(),
            }
            pass(secs(2)).await;
        }
        pass(secs(60)).await;
        assert_eq!(left.load(Ordering::Relaxed), 0, "{verb} was asked again after each panic");
        assert_eq!(bench.states().await.get(&AlertState::Sent), Some(&20), "{verb}, done: {done}");
        assert_eq!(gateway.asked().len(), 20, "{verb}, done: {done}");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_suspects_are_held_does_not_stop_all_sending() {
    let memory = Arc::new(MemoryQueue::new());
    let left = Arc::new(AtomicUsize::new(3));
    let script = left.clone();
    let queue = Wrapped::around(&memory, move |verb, _| {
        let one_less = |n: usize| n.checked_sub(1);
        match verb == "hold" && script.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            true => Does::Panic,
            false => Does::Its,
        }
    });
    let gateway = Gateway::good();
    let bench = Bench::start_on(queue, memory, &[&gateway], |_| {});
    let backup = bench.queue.backup();
    bench.alert(&phone(1), "down", 1);
    pass(secs(60)).await;
    bench.queue.restore(&backup, false);
    pass(secs(30)).await;
    assert!(bench.has_event(|e| matches!(e, Event::FromThePast { .. })));
    assert!(bench.has_event(|e| matches!(e, Event::Suspected { .. })), "it was held in the end");
    assert_eq!(left.load(Ordering::Relaxed), 0);
    let id = bench.alert(&phone(2), "new", 1);
    pass(secs(5)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    bench.stop().await.unwrap();
}

/// A queue that is down is no reason to start the daemon anew; one whose every call ends in a fault of ours may be.
#[tokio::test(start_paused = true)]
async fn the_watchdog_starves_if_what_must_run_does_nothing_but_panic_for_minutes() {
    for verb in ["claim", "begin", "settle", "renew"] {
        for panics in [true, false] {
            let memory = Arc::new(MemoryQueue::new());
            let queue = Wrapped::around(&memory, move |asked, _| match asked {
                _ if !asked.starts_with(verb) => Does::Its,
                _ if panics => Does::Panic,
                _ => Does::Fail(QueueError::Unavailable("gone".into())),
            });
            let bench = Bench::start_on(queue, memory, &[&Gateway::good()], |_| {});
            bench.alert(&phone(1), "down", 1);
            pass(secs(30)).await;
            let before = bench.pulse.beats();
            assert!(before >= 30, "{verb}: {before} beats; a panic or two are no reason");
            pass(secs(120)).await;
            let (half, later) = (bench.pulse.beats(), secs(300));
            pass(later).await;
            assert_eq!(bench.pulse.beats() == half, panics, "{verb}, panics: {panics}");
            bench.kill().await;
        }
    }
}
