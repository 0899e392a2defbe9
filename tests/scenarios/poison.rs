//! One row that can not be written: it costs the alerts of its own SMS, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smsd::alert::AlertId;
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{AlertState, QueueError};
use smsd::telemetry::Event;

use super::bench::*;
use super::wrapped::{Does, Wrapped};

/// How the queue says no.
type No = fn() -> Does;
const NOES: [(&str, No); 3] = [
    ("poisoned", || Does::Fail(QueueError::Poisoned("a row is locked".into()))),
    ("refused", || Does::Fail(QueueError::Refused("a trigger says no".into()))),
    ("panics", || Does::Panic),
];

struct Site {
    bench: Bench,
    gateway: Arc<Gateway>,
    cured: Arc<AtomicBool>,
    alerts: Vec<AlertId>,
}

/// 20 alerts to 20 phones; `verb` says no to whatever contains the eighth, until it is cured.
async fn site(verb: &'static str, no: No, concurrency: usize) -> Site {
    let memory = Arc::new(MemoryQueue::new());
    let cured = Arc::new(AtomicBool::new(false));
    let script = cured.clone();
    let queue = Wrapped::around(&memory, move |asked, alerts| {
        let spoilt = asked == verb && alerts.contains(&AlertId(8)) && !script.load(Ordering::Relaxed);
        if spoilt { no() } else { Does::Its }
    });
    let gateway = Gateway::good();
    let bench = Bench::start_on(queue, memory, &[&gateway], |o| o.concurrency = concurrency);
    pass(secs(1)).await;
    let alerts: Vec<AlertId> = (1..=20).map(|n| bench.alert(&phone(n), "down", 3)).collect();
    Site { bench, gateway, cured, alerts }
}

#[tokio::test(start_paused = true)]
async fn one_row_that_can_not_be_settled_holds_up_nobody_else() {
    for ((how, no), concurrency) in NOES.into_iter().flat_map(|no| [(no, 1), (no, 16)]) {
        let Site { bench, gateway, cured, alerts } = site("settle", no, concurrency).await;
        pass(secs(2)).await;
        let states = bench.states().await;
        assert_eq!(states.get(&AlertState::Sent), Some(&19), "{how}, {concurrency}: {states:?}");
        // Later ones as well, at once; and the same phone is not texted twice.
        for n in 30..60 {
            let id = bench.alert(&phone(n), "down", 3);
            pass(secs(2)).await;
            assert_eq!(bench.state(id).await, AlertState::Sent, "{how}, {concurrency}: phone {n}");
        }
        assert_eq!(bench.count_events(|e| matches!(e, Event::QueueLost { .. })), 0, "{how}");
        let told = |e: &Event| matches!(e, Event::Stuck { attempt: Some(_), alerts, begun: true, .. } if alerts == &[AlertId(8)]);
        assert_eq!(bench.count_events(told), 1, "{how}: told once");
        cured.store(true, Ordering::Relaxed);
        pass(secs(11)).await;
        assert_eq!(bench.state(alerts[7]).await, AlertState::Sent, "{how}");
        assert_eq!(gateway.asked().len(), 50, "{how}: each once");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_row_that_can_not_be_begun_holds_up_nobody_else() {
    for ((how, no), concurrency) in NOES.into_iter().flat_map(|no| [(no, 1), (no, 16)]) {
        let Site { bench, gateway, cured, alerts } = site("begin", no, concurrency).await;
        pass(secs(2)).await;
        let states = bench.states().await;
        assert_eq!(states.get(&AlertState::Sent), Some(&19), "{how}, {concurrency}: {states:?}");
        pass(secs(300)).await;
        let told = |e: &Event| matches!(e, Event::Stuck { alerts, .. } if alerts == &[AlertId(8)]);
        assert_eq!(bench.count_events(told), 1, "{how}: told once");
        assert_eq!(bench.state(alerts[7]).await, AlertState::Waiting);
        cured.store(true, Ordering::Relaxed);
        pass(secs(31)).await;
        assert_eq!(bench.state(alerts[7]).await, AlertState::Sent, "{how}");
        assert_eq!(gateway.asked().len(), 20, "{how}: each once");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

/// What a begin whose reply was lost may have written is not given back for a lock that came later: under our own
/// name it would wait for ever.
#[tokio::test(start_paused = true)]
async fn a_begin_that_may_have_been_written_is_asked_for_until_that_is_known() {
    let memory = Arc::new(MemoryQueue::new());
    let cured = Arc::new(AtomicBool::new(false));
    let (script, first) = (cured.clone(), AtomicBool::new(true));
    let queue = Wrapped::around(&memory, move |asked, _| match asked {
        "begin" if first.swap(false, Ordering::Relaxed) => Does::ItsAndPanic,
        "begin" if !script.load(Ordering::Relaxed) => {
            Does::Fail(QueueError::Poisoned("a row is locked".into()))
        }
        _ => Does::Its,
    });
    let gateway = Gateway::good();
    let bench = Bench::start_on(queue, memory, &[&gateway], |_| {});
    let id = bench.alert(&phone(1), "down", 3);
    pass(secs(20)).await;
    cured.store(true, Ordering::Relaxed);
    pass(secs(11)).await;
    assert_eq!((bench.state(id).await, gateway.asked().len()), (AlertState::Sent, 1));
    assert_eq!(bench.attempts(id).await, 1);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_verb_that_is_refused_for_everybody_is_told_and_asked_again_with_pauses() {
    for verb in ["begin", "settle"] {
        let memory = Arc::new(MemoryQueue::new());
        let cured = Arc::new(AtomicBool::new(false));
        let (script, calls) = (cured.clone(), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        let counted = calls.clone();
        let queue = Wrapped::around(&memory, move |asked, _| {
            if asked != verb || script.load(Ordering::Relaxed) {
                return Does::Its;
            }
            counted.fetch_add(1, Ordering::Relaxed);
            Does::Fail(QueueError::Refused("permission denied".into()))
        });
        let gateway = Gateway::good();
        let bench = Bench::start_on(queue, memory, &[&gateway], |_| {});
        for n in 0..100 {
            bench.alert(&phone(n), "down", 3);
        }
        pass(secs(60)).await;
        assert_eq!(bench.count_events(|e| matches!(e, Event::QueueLost { .. })), 1, "{verb}");
        assert!(bench.count_events(|e| matches!(e, Event::Stuck { .. })) <= 2, "{verb}");
        let calls = calls.load(Ordering::Relaxed);
        assert!(calls < 500, "{verb}: {calls} calls in a minute");
        assert!(gateway.asked().len() <= 16 + 2, "{verb}: {}", gateway.asked().len());
        cured.store(true, Ordering::Relaxed);
        pass(secs(40)).await;
        assert_eq!(bench.states().await.get(&AlertState::Sent), Some(&100), "{verb}");
        assert_eq!(gateway.asked().len(), 100, "{verb}");
        assert_eq!(bench.count_events(|e| matches!(e, Event::QueueBack { .. })), 1, "{verb}");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

/// What is not needed to send may be refused for ever.
#[tokio::test(start_paused = true)]
async fn expire_and_doubts_that_are_refused_do_not_stop_sending() {
    for verb in ["expire", "doubts", "peers"] {
        let memory = Arc::new(MemoryQueue::new());
        let queue = Wrapped::around(&memory, move |asked, _| match asked == verb {
            true => Does::Fail(QueueError::Refused("permission denied".into())),
            false => Does::Its,
        });
        let bench = Bench::start_on(queue, memory, &[&Gateway::good()], |o| {
            o.main.autocancel = Some(smsd::queue::Age { text: "1 day".into(), duration: secs(86_400) });
        });
        for n in 0..5 {
            let id = bench.alert(&phone(n), "down", 3);
            pass(secs(1)).await;
            assert_eq!(bench.state(id).await, AlertState::Sent, "{verb}");
        }
        bench.stop().await.unwrap();
    }
}
