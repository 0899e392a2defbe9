//! Numbers that fail for ever and have more alerts than the engine knows at once, and who must not notice.

use std::sync::Arc;

use smsd::alert::{AlertId, Reason, Severity};
use smsd::dispatch::Class;
use smsd::engine::Sizes;
use smsd::queue::memory::{MemoryQueue, Standing};
use smsd::queue::{AlertState, Queue};

use super::bench::*;

/// `phones` numbers with `each` alerts; the gateway defers whoever has a number below `phones`.
fn deferred(phones: usize, each: usize) -> (Arc<MemoryQueue>, Arc<Gateway>) {
    let queue = Arc::new(MemoryQueue::new());
    for n in 0..phones * each {
        queue.insert(&phone(n % phones), &format!("flap {n}"), Severity(Some(1)), queue.now());
    }
    let gateway =
        Gateway::new(move |sms| match sms.recipient.as_str()[6..].parse::<usize>().unwrap() < phones {
            true => Answer::Refuse(Class::Deferred),
            false => Answer::Take,
        });
    (queue, gateway)
}

/// Waits until a requeued alert of somebody else is sent: it is not new, and last in the order.
async fn requeue_is_served(bench: &Bench, old: AlertId) {
    bench.queue.requeue(&[old], "somebody").await.unwrap();
    pass(millis(600)).await;
    assert_eq!(bench.state(old).await, AlertState::Sent);
}

#[tokio::test(start_paused = true)]
async fn numbers_that_are_deferred_for_ever_leave_room_for_whoever_can_be_served() {
    for (phones, each) in [(320, 16), (400, 17)] {
        let (queue, gateway) = deferred(phones, each);
        let old: Vec<AlertId> = (0..2)
            .map(|n| queue.insert(&phone(90_000 + n), "again", Severity(Some(5)), queue.now()))
            .collect();
        old.iter().for_each(|id| queue.overwrite(*id, Standing::Ignored));
        let bench = Bench::start_with(queue, &[&gateway], |o| {
            (o.main.retrylimit, o.concurrency) = (0, 64);
        });
        for id in old {
            // Most of them back off.
            pass(secs(600)).await;
            requeue_is_served(&bench, id).await;
            let new = bench.alert(&phone(80_000), "new", 5);
            pass(secs(1)).await;
            assert_eq!(bench.state(new).await, AlertState::Sent, "{phones} x {each}");
            bench.queue.delete(new);
        }
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

/// The window is full of people who can be served, by a gateway that is slow: then only the head is looked at, and those
/// who are deferred stand there.
#[tokio::test(start_paused = true)]
async fn those_who_are_deferred_do_not_hide_the_most_urgent_from_a_look_at_the_head() {
    let (queue, gateway) = deferred(900, 1);
    for n in 0..8_000 {
        queue.insert(&phone(10_000 + n), "slow", Severity(Some(3)), queue.now());
    }
    let old = queue.insert(&phone(90_000), "again", Severity(Some(2)), queue.now());
    queue.overwrite(old, Standing::Ignored);
    let bench = Bench::start_with(queue, &[&gateway], |o| {
        (o.main.retrylimit, o.main.delay, o.concurrency) = (0, secs(600), 64);
        o.rate = Some(10.0);
    });
    pass(secs(120)).await;
    assert!(bench.states().await[&AlertState::Waiting] > 6_000, "there is no room");
    bench.queue.requeue(&[old], "somebody").await.unwrap();
    pass(secs(3)).await;
    assert_eq!(bench.state(old).await, AlertState::Sent);
    bench.kill().await;
}

/// The engine lets go of their alerts, and not of how often they failed.
#[tokio::test(start_paused = true)]
async fn a_bad_number_meets_its_limit_though_there_is_no_room_for_its_alerts() {
    let (queue, gateway) = deferred(30, 6);
    let bench = Bench::start_with(queue, &[&gateway], |o| {
        (o.main.retrylimit, o.main.maxdelay) = (4, secs(60));
        o.sizes = Sizes { window: 40, share: 4, page: 30, walk_room: 20, peek_page: 10, ..Sizes::default() };
    });
    // Others are served: so the failures are those of the numbers.
    for _ in 0..120 {
        bench.alert(&phone(9_999), "served", 1);
        pass(secs(60)).await;
    }
    let states = bench.states().await;
    assert_eq!(states.get(&AlertState::Ignored), Some(&180), "{states:?}");
    // One page of alerts makes more SMS than all of them would, but not without a bound.
    let asked = gateway.asked().len() - gateway.asked_for(&phone(9_999));
    assert!(asked <= 180 * 5, "{asked} submits");
    for id in 1..=180 {
        assert_eq!(bench.row(AlertId(id)).await.reason, Some(Reason::RetryLimit));
        let attempts = bench.attempts(AlertId(id)).await;
        assert!((4..=9).contains(&attempts), "{attempts} attempts");
    }
    bench.audit().await;
    bench.stop().await.unwrap();
}

/// 10,000 alerts of 64 KiB are not held in memory all at once, and all of them are sent.
#[tokio::test(start_paused = true)]
async fn long_texts_are_known_only_as_far_as_there_is_memory_for_them() {
    let queue = Arc::new(MemoryQueue::new());
    let text = "x".repeat(64 << 10);
    for n in 0..300 {
        queue.insert(&phone(n % 100), &text, Severity(Some(3)), queue.now());
    }
    let gateway = Gateway::good();
    let bench = Bench::start_with(queue, &[&gateway], |o| {
        o.sizes = Sizes { window_bytes: 1 << 20, ..Sizes::default() };
    });
    pass(secs(600)).await;
    assert!(!bench.states().await.contains_key(&AlertState::Waiting));
    bench.audit().await;
    bench.stop().await.unwrap();
}
