use smsd::alert::{AlertId, Reason};
use smsd::queue::AlertState;

use super::bench::*;

#[tokio::test(start_paused = true)]
async fn the_first_alert_leaves_at_once_and_a_storm_leaves_as_one_sms_after_the_interval() {
    let gateway = Gateway::good();
    let bench = Bench::start(&[&gateway]);
    pass(secs(1)).await;
    let first = bench.alert(&phone(1), "first", 3);
    pass(millis(300)).await;
    assert_eq!(gateway.texts(), ["first"]);
    for n in 0..3 {
        bench.alert(&phone(1), &format!("more {n}"), 3 - n);
        pass(secs(5)).await;
    }
    assert_eq!(gateway.texts().len(), 1, "the rest is collected");
    pass(secs(20)).await;
    assert_eq!(gateway.texts()[1..], ["1: more 2; 2: more 1; 3: more 0"], "most severe first");
    let taken = gateway.taken();
    let gap = taken[1].0 - taken[0].0;
    assert!(gap >= secs(30) && gap < secs(31), "{gap:?}");
    assert_eq!(bench.state(first).await, AlertState::Sent);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn urgent_alerts_do_not_wait_for_the_interval() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| o.main.urgent_severity = 1);
    bench.alert(&phone(1), "first", 3);
    pass(secs(1)).await;
    bench.alert(&phone(1), "later", 2);
    bench.alert(&phone(1), "urgent", 1);
    pass(secs(1)).await;
    assert_eq!(gateway.texts(), ["first", "1: urgent; 2: later"]);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn group_wait_collects_before_the_first() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| o.main.group_wait = secs(10));
    bench.alert(&phone(1), "a", 3);
    pass(secs(5)).await;
    bench.alert(&phone(1), "b", 3);
    pass(secs(4)).await;
    assert!(gateway.texts().is_empty());
    pass(secs(2)).await;
    assert_eq!(gateway.texts(), ["1: a; 2: b"]);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_most_severe_recipients_go_first_then_the_longest_waiting_and_none_last() {
    let gateway = Gateway::good();
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    let before = queue.now();
    for (n, severity) in [(1, None), (2, Some(5)), (3, Some(1)), (4, Some(5)), (5, Some(2))] {
        queue.insert(&phone(n), &format!("{severity:?}"), smsd::alert::Severity(severity), before);
    }
    let bench = Bench::start_with(queue, &[&gateway], |o| o.concurrency = 1);
    pass(secs(2)).await;
    let order: Vec<String> = gateway.taken().into_iter().map(|(_, to, _)| to).collect();
    assert_eq!(order, [phone(3), phone(5), phone(2), phone(4), phone(1)]);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_counted_and_ignored() {
    let gateway = Gateway::good();
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    let ids: Vec<AlertId> = (0..40)
        .map(|n| queue.insert(&phone(1), &format!("alert number {n}"), Default::default(), queue.now()))
        .collect();
    let bench = Bench::start_with(queue, &[&gateway], |_| {});
    pass(secs(2)).await;
    let texts = gateway.texts();
    assert_eq!(texts.len(), 1);
    let squeezed = 40 - texts[0].matches("alert number").count();
    assert!(texts[0].ends_with(&format!(" +{squeezed} see web.")), "{texts:?}");
    assert_eq!(bench.states().await[&AlertState::Ignored], squeezed);
    assert_eq!(bench.row(ids[39]).await.reason, Some(Reason::Squeezed));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_numbers_are_served_in_batches() {
    let gateway = Gateway::good();
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    for n in 0..30_000 {
        queue.insert(&phone(n), "down", Default::default(), queue.now());
    }
    let bench = Bench::start_with(queue, &[&gateway], |o| o.concurrency = 256);
    pass(secs(20)).await;
    assert_eq!(gateway.taken().len(), 30_000);
    assert_eq!(bench.states().await[&AlertState::Sent], 30_000);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_is_on_its_way_and_begins_nothing_new() {
    let gateway = Gateway::new(|_| Answer::Take);
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    for n in 0..100 {
        queue.insert(&phone(n), "down", Default::default(), queue.now());
    }
    let bench = Bench::start_with(queue.clone(), &[&gateway], |o| o.concurrency = 4);
    pass(millis(12)).await;
    bench.stop().await.unwrap();
    let taken = gateway.taken().len();
    let stats = smsd::queue::Queue::stats(&*queue).await.unwrap();
    assert!(taken > 0 && taken < 100, "{taken}");
    assert_eq!(
        (stats.sent, stats.waiting, stats.in_doubt, stats.open),
        (taken as u64, 100 - taken as u64, 0, 0)
    );
}
