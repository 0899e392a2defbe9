//! More alerts than can leave at once, and who must not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use smsd::alert::{AlertId, Severity};
use smsd::dispatch::Class;
use smsd::queue::memory::MemoryQueue;
use smsd::queue::{AlertState, Queue, QueueError};
use smsd::telemetry::Event;
use tokio::time::Instant;

use super::bench::*;
use super::wrapped::{Does, Wrapped};

const STORM: usize = 30_000;

/// A queue in which more alerts wait for one phone than the engine knows at once.
fn stormy(to: &str, severity: i32) -> Arc<MemoryQueue> {
    let queue: Arc<MemoryQueue> = Arc::default();
    storm(&queue, to, severity);
    queue
}

fn storm(queue: &MemoryQueue, to: &str, severity: i32) {
    for n in 0..STORM {
        queue.insert(to, &format!("flap {n}"), Severity(Some(severity)), queue.now());
    }
}

/// How long it took from here until the alert was sent.
async fn wait_for(bench: &Bench, id: AlertId) -> std::time::Duration {
    let begun = Instant::now();
    within(secs(120), async {
        while bench.state(id).await != AlertState::Sent {
            pass(millis(50)).await;
        }
    })
    .await;
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_storm_to_one_phone_delays_nobody_else() {
    let gateway = Gateway::good();
    let bench = Bench::start(&[&gateway]);
    // It has begun, so what comes now is new to it.
    pass(secs(1)).await;
    storm(&bench.queue, &phone(1), 1);
    pass(secs(3)).await;
    for n in 2..20 {
        let id = bench.alert(&phone(n), "less severe, and for somebody else", 5);
        assert!(wait_for(&bench, id).await < secs(1), "phone {n}");
    }
    pass(secs(1800)).await;
    assert!(!bench.states().await.contains_key(&AlertState::Waiting));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_storm_to_one_phone_at_the_start_does_not_wait_for_it() {
    let queue = stormy(&phone(1), 1);
    let others: Vec<AlertId> =
        (2..20).map(|n| queue.insert(&phone(n), "down", Severity(Some(5)), queue.now())).collect();
    let gateway = Gateway::good();
    let bench = Bench::start_with(queue, &[&gateway], |_| {});
    pass(secs(2)).await;
    for id in others {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bad_number_with_more_alerts_than_the_engine_knows_delays_nobody() {
    let bad = phone(1);
    let queue = stormy(&bad, 1);
    queue.insert(&phone(2), "down", Severity(Some(5)), queue.now());
    let gateway = Gateway::new(move |sms| match sms.recipient.as_str() == bad {
        true => Answer::Refuse(Class::Deferred),
        false => Answer::Take,
    });
    let bench = Bench::start_with(queue, &[&gateway], |o| {
        (o.main.retrylimit, o.main.delay) = (0, secs(300));
    });
    pass(secs(2)).await;
    assert_eq!(gateway.texts(), ["down"]);
    for n in 3..6 {
        pass(secs(900)).await;
        let id = bench.alert(&phone(n), "down", 5);
        assert!(wait_for(&bench, id).await < secs(1));
    }
    assert_eq!(bench.states().await[&AlertState::Waiting], STORM);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn urgent_alerts_overtake_a_storm_to_many_phones() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Arc::default(), &[&gateway], |o| {
        (o.concurrency, o.main.urgent_severity) = (2, 1);
    });
    for n in 0..STORM {
        bench.alert(&phone(n), "down", 3);
    }
    for n in 0..10 {
        let id = bench.alert(&phone(STORM + n), "urgent", 1);
        assert!(wait_for(&bench, id).await < secs(1));
        pass(secs(2)).await;
    }
    assert!(bench.states().await[&AlertState::Waiting] > STORM / 2, "the storm was still on");
    bench.stop().await.unwrap();
}

/// What is known anew costs no pause: all leave about as fast as the gateway takes them.
#[tokio::test(start_paused = true)]
async fn what_was_pushed_out_is_found_again_as_soon_as_there_is_room() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Arc::default(), &[&gateway], |o| o.concurrency = 64);
    for n in 0..2 * STORM {
        bench.alert(&phone(n), "down", 1 + (n % 5) as i32);
    }
    let begun = Instant::now();
    within(secs(600), async {
        while gateway.taken().len() < 2 * STORM {
            pass(millis(100)).await;
        }
    })
    .await;
    // 64 at once, 5 ms each: 12,800 a second at best.
    assert!(begun.elapsed() < secs(15), "{:?}", begun.elapsed());
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_goes_away_in_mid_walk_is_not_asked_without_pause() {
    let memory = stormy(&phone(1), 1);
    let (claims, back) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (asked, is_back) = (claims.clone(), back.clone());
    let queue = Wrapped::around(&memory, move |verb, _| {
        let refused = verb.starts_with("claim")
            && asked.fetch_add(1, Ordering::Relaxed) >= 2
            && !is_back.load(Ordering::Relaxed);
        match refused {
            true => Does::Fail(QueueError::Unavailable("no claim is answered".into())),
            false => Does::Its,
        }
    });
    let bench = Bench::start_on(queue, memory, &[&Gateway::good()], |_| {});
    pass(secs(20)).await;
    let refused = claims.load(Ordering::Relaxed) - 2;
    assert!((5..=20).contains(&refused), "asked {refused} times in 20 s");
    back.store(true, Ordering::Relaxed);
    pass(secs(600)).await;
    assert!(!bench.states().await.contains_key(&AlertState::Waiting));
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_six_hours_without_any_gateway_all_leaves_most_severe_first() {
    const WAITING: usize = 20_000;
    let gateway = Gateway::refusing(Class::Unavailable);
    let age = smsd::queue::Age { text: "5 hours".into(), duration: secs(5 * 3600) };
    let bench = Bench::start_with(Arc::default(), &[&gateway], |o| {
        (o.concurrency, o.main.autocancel, o.main.delay) = (32, Some(age), secs(300));
    });
    let old: Vec<AlertId> = (0..500).map(|n| bench.alert(&phone(n), "old", 1)).collect();
    for hour in 0..6 {
        for n in (hour..WAITING).step_by(6).filter(|_| hour > 1) {
            bench.alert(&phone(1000 + n), "down", 1 + (n % 5) as i32);
        }
        pass(secs(3600)).await;
    }
    for n in (0..WAITING).filter(|n| n % 6 < 2) {
        bench.alert(&phone(1000 + n), "down", 1 + (n % 5) as i32);
    }
    pass(secs(301)).await;
    let states = bench.states().await;
    assert_eq!((states[&AlertState::Waiting], states[&AlertState::Ignored]), (WAITING, old.len()));
    let reported: usize = bench
        .events
        .lock()
        .unwrap()
        .iter()
        .map(|event| if let Event::Expired { alerts } = event { alerts.len() } else { 0 })
        .sum();
    assert_eq!(reported, old.len(), "what expired is told");
    assert_eq!(bench.count_events(|e| matches!(e, Event::AllDown { .. })), 1);
    let before = gateway.asked().len();
    // What was in the air when it went down, and since then probes alone.
    assert!(before <= 32, "{before} submits to a gateway that was down");
    assert!(bench.queue.stats().await.unwrap().open == 0);

    let back = Instant::now();
    gateway.now(|_| Answer::Take);
    pass(secs(180)).await;
    assert_eq!(bench.states().await[&AlertState::Sent], WAITING);
    let asked = gateway.asked().split_off(before);
    assert_eq!(asked.len(), WAITING, "each of them once");
    assert!(asked[0].0 - back <= secs(61), "the probe finds it within a minute");
    // One on trial, then two, then twice as many with each round: nobody is hit by all at once.
    let within_round = |n: u32| asked.iter().filter(|(at, _)| *at < asked[0].0 + millis(5) * n).count();
    assert_eq!(within_round(1), 1, "one SMS on trial");
    assert!((2..=4).contains(&within_round(2)), "{}", within_round(2));
    assert!(within_round(3) <= 1 + 2 + 8, "{}", within_round(3));

    let severities: Vec<usize> = (gateway.taken().iter())
        .map(|(_, to, _)| 1 + (to[6..].parse::<usize>().unwrap() - 1000) % 5)
        .collect();
    assert!(severities.is_sorted(), "most severe first");
    assert_eq!(bench.count_events(|e| matches!(e, Event::WayOut)), 1);
    bench.audit().await;
    bench.stop().await.unwrap();
}
