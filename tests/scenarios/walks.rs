//! Looks that go over more than one page can show, by a queue that takes its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smsd::alert::{AlertId, Severity};
use smsd::dispatch::Class;
use smsd::engine::Sizes;
use smsd::queue::memory::{MemoryQueue, Standing};
use smsd::queue::{Age, AlertState, EXPIRED_AT_ONCE, QueueError};
use smsd::telemetry::Event;

use super::bench::*;
use super::wrapped::{Does, Wrapped};

/// A storm of 30,000 to one number that is deferred for ever, and 18 others behind it who waited before the start.
fn behind_a_storm() -> (Arc<MemoryQueue>, Arc<Gateway>, Vec<AlertId>) {
    let (memory, bad) = (Arc::new(MemoryQueue::new()), phone(1));
    for n in 0..30_000 {
        memory.insert(&bad, &format!("flap {n}"), Severity(Some(1)), memory.now());
    }
    let others = (2..20).map(|n| memory.insert(&phone(n), "down", Severity(Some(5)), memory.now())).collect();
    let gateway = Gateway::new(move |sms| match sms.recipient.as_str() == bad {
        true => Answer::Refuse(Class::Deferred),
        false => Answer::Take,
    });
    (memory, gateway, others)
}

#[tokio::test(start_paused = true)]
async fn a_walk_that_takes_longer_than_delay_comes_to_its_end() {
    let (memory, gateway, others) = behind_a_storm();
    let queue = Wrapped::around(&memory, |verb, _| match verb {
        "claim" | "claim new" => Does::ItsAfter(secs(9)),
        _ => Does::Its,
    });
    let bench = Bench::start_on(queue, memory, &[&gateway], |o| o.main.retrylimit = 0);
    pass(secs(180)).await;
    for id in others {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    // Meanwhile new ones are seen between two pages.
    let id = bench.alert(&phone(50), "down", 5);
    pass(secs(30)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    bench.kill().await;
}

/// Whatever asks for all that waits, again and again, asks for the walk after this one.
#[tokio::test(start_paused = true)]
async fn no_wish_for_a_walk_starts_the_present_one_over() {
    let (memory, gateway, others) = behind_a_storm();
    let queue = Wrapped::around(&memory, |verb, _| match verb {
        "claim" => Does::ItsAfter(secs(1)),
        _ => Does::Its,
    });
    let bench = Bench::start_on(queue, memory.clone(), &[&gateway], |o| {
        (o.main.retrylimit, o.sizes) = (0, Sizes { page: 1_000, ..Sizes::default() });
    });
    for n in 0..60 {
        // Somebody requeues one alert after the other.
        let id = memory.insert(&phone(100 + n), "again", Severity(Some(5)), memory.now());
        memory.overwrite(id, Standing::Ignored);
        smsd::queue::Queue::requeue(&*memory, &[id], "somebody").await.unwrap();
        pass(secs(1)).await;
    }
    for id in others {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    bench.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_walk_that_breaks_off_now_and_then_goes_on_where_it_was() {
    let (memory, gateway, others) = behind_a_storm();
    let calls = AtomicUsize::new(0);
    let queue = Wrapped::around(&memory, move |verb, _| match verb {
        "claim" if calls.fetch_add(1, Ordering::Relaxed) % 4 == 3 => {
            Does::Fail(QueueError::Unavailable("gone".into()))
        }
        _ => Does::Its,
    });
    let bench = Bench::start_on(queue, memory, &[&gateway], |o| o.main.retrylimit = 0);
    pass(secs(20)).await;
    for id in others {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    bench.kill().await;
}

#[tokio::test(start_paused = true)]
async fn an_urgent_alert_does_not_wait_until_all_that_is_too_old_is_ignored() {
    let memory = Arc::new(MemoryQueue::new());
    let old = memory.now();
    for n in 0..100_000 {
        memory.insert(&phone(n), "old", Severity(Some(1)), old);
    }
    pass(secs(7200)).await;
    let urgent = memory.insert(&phone(99_999), "urgent", Severity(Some(2)), memory.now());
    // Each page takes its time.
    let queue = Wrapped::around(&memory, |verb, _| match verb {
        "expire" => Does::ItsAfter(secs(1)),
        _ => Does::Its,
    });
    let gateway = Gateway::good();
    let age = Age { text: "1 hour".into(), duration: secs(3600) };
    let bench = Bench::start_on(queue, memory, &[&gateway], |o| o.main.autocancel = Some(age));
    pass(millis(100)).await;
    assert_eq!(bench.state(urgent).await, AlertState::Sent);
    pass(secs(20)).await;
    let id = bench.alert(&phone(1), "new", 5);
    pass(millis(500)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent, "while it goes on");
    pass(secs(60)).await;
    assert_eq!(bench.states().await[&AlertState::Ignored], 100_000);
    assert_eq!(gateway.texts(), ["urgent", "new"], "nothing that was too old");
    let mut pages = Vec::new();
    for event in bench.events.lock().unwrap().iter() {
        if let Event::Expired { alerts } = event {
            pages.push(alerts.len());
        }
    }
    assert_eq!(pages, vec![EXPIRED_AT_ONCE; 50], "told page by page");
    bench.audit().await;
    bench.stop().await.unwrap();
}
