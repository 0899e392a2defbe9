use smsd::alert::{Alert, AlertId, Tried};
use smsd::dispatch::Class;
use smsd::engine::Sizes;
use smsd::engine::core::Core;
use smsd::engine::policy::Policy;
use smsd::failover::WayConfig;
use smsd::queue::{AlertState, Queue};

use super::bench::*;

#[tokio::test(start_paused = true)]
async fn kill_9_loses_nothing_and_every_possible_duplicate_is_on_record() {
    let gateway = Gateway::good();
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    for n in 0..2000 {
        queue.insert(&phone(n), "down", Default::default(), queue.now());
    }
    let mut queue = queue;
    for kill in 0..20 {
        let bench = Bench::start_with(queue, &[&gateway], |o| o.grace = secs(5));
        pass(millis(3 + kill * 7 % 40)).await;
        queue = bench.kill().await;
    }
    let bench = Bench::start_with(queue, &[&gateway], |o| o.grace = secs(5));
    pass(secs(60)).await;
    assert_eq!(bench.states().await[&AlertState::Sent], 2000);
    let mut copies = std::collections::HashMap::<String, usize>::new();
    for (_, to, _) in gateway.taken() {
        *copies.entry(to).or_default() += 1;
    }
    assert_eq!(copies.len(), 2000, "nothing is lost");
    assert!(copies.values().all(|n| *n <= 2));
    for (n, copies) in (0..2000).map(|n| (n, copies[&phone(n)])) {
        let story = bench.queue.show(AlertId(n as i64 + 1)).await.unwrap().unwrap();
        let marked = story.attempts.iter().any(|a| a.possible_duplicate);
        assert!(copies == 1 || marked, "{n} went out twice unknown: {story:#?}");
    }
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_engines_on_one_queue_send_each_alert_once() {
    let gateway = Gateway::good();
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    for n in 0..1000 {
        queue.insert(&phone(n), "down", Default::default(), queue.now());
    }
    let one = Bench::start_with(queue.clone(), &[&gateway], |o| o.lock = "one".into());
    let two = Bench::start_with(queue.clone(), &[&gateway], |o| o.lock = "two".into());
    pass(secs(60)).await;
    assert_eq!(gateway.taken().len(), 1000);
    assert_eq!(one.states().await[&AlertState::Sent], 1000);
    one.audit().await;
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_work_of_a_dead_engine_is_taken_over_when_its_lease_has_run_out() {
    let gateway = Gateway::new(|_| Answer::TakeAndHang);
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    let one = Bench::start_with(queue.clone(), &[&gateway], |o| o.lock = "one".into());
    let id = one.alert(&phone(1), "down", 1);
    pass(secs(1)).await;
    one.kill().await;
    gateway.now(|_| Answer::Take);
    let two = Bench::start_with(queue, &[&gateway], |o| o.lock = "two".into());
    pass(secs(10)).await;
    assert_eq!(two.state(id).await, AlertState::Waiting, "its lease may still be good");
    pass(secs(90)).await;
    assert_eq!(two.state(id).await, AlertState::Sent);
    assert_eq!(gateway.taken().len(), 2);
    two.audit().await;
    two.stop().await.unwrap();
}

/// A gateway that heeds keys must take a resend for what it is, whichever dispatcher makes it and however often.
#[tokio::test(start_paused = true)]
async fn a_resend_has_the_key_of_what_it_repeats() {
    let keys: std::sync::Arc<std::sync::Mutex<Vec<_>>> = Default::default();
    let gateway = |answer: fn() -> Answer| {
        let keys = keys.clone();
        Gateway::new(move |sms| {
            keys.lock().unwrap().push((sms.attempt, sms.key));
            answer()
        })
    };
    let silent = gateway(|| Answer::Hang);
    let down = gateway(|| Answer::Refuse(Class::Unavailable));
    let good = gateway(|| Answer::Take);
    let bench = Bench::start_with(Default::default(), &[&silent, &down, &good], |o| o.grace = secs(5));
    bench.alert(&phone(1), "down", 1);
    pass(secs(60)).await;
    let asked = keys.lock().unwrap().clone();
    let [(a, first), (b, resent), (c, failed_over)] = asked[..] else { panic!("{asked:?}") };
    assert!(a != b && b != c, "each attempt has an id of its own");
    assert_eq!([first, resent, failed_over], [a, a, a]);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_resend_goes_to_the_gateway_that_knows_its_key_while_it_does() {
    // The first submit is given up after 31 s, and the resend follows 5 s later.
    for (remembers, works, by_the_first) in
        [(secs(3600), true, 2), (secs(3600), false, 1), (secs(60), true, 1), (secs(0), true, 1)]
    {
        let [low, first, good] =
            [Gateway::refusing(Class::Unavailable), Gateway::new(|_| Answer::TakeAndHang), Gateway::good()];
        let bench = Bench::start_with(Default::default(), &[&low, &first, &good], |o| {
            (o.grace, o.remembers, o.main.submit_timeout) = (secs(5), remembers, secs(30));
        });
        bench.alert(&phone(1), "down", 1);
        pass(secs(20)).await;
        first.now(move |_| if works { Answer::Take } else { Answer::Refuse(Class::Unavailable) });
        pass(secs(60)).await;
        let asked = (first.asked_for(&phone(1)), good.asked_for(&phone(1)));
        assert_eq!(asked.0 + asked.1, 2 + usize::from(!works && remembers > secs(60)), "{remembers:?}");
        assert_eq!(first.taken().len(), by_the_first, "{remembers:?}, works: {works}");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

/// The reply to `begin` came so late that our lease had run out and we had joined anew: the attempt is in doubt by
/// now, and another instance may be resending it.
#[tokio::test(start_paused = true)]
async fn what_was_written_under_a_lost_lease_is_not_submitted_under_the_next() {
    let now = tokio::time::Instant::now();
    let way = WayConfig {
        name: "gw".into(),
        concurrency: 1,
        rate: None,
        timeout: secs(30),
        grace: secs(30),
        remembers: secs(0),
    };
    let ids = Box::new(uuid::Uuid::now_v7);
    let policy = Policy::new(&smsd::config::Main::default());
    let mut core = Core::new(policy.clone(), Default::default(), Sizes::default(), ids, 1, now);
    core.reconfigure(policy, Default::default(), vec![way], now);
    let (before, after) = (core.new_id(), core.new_id());
    core.joined(before);
    let alert = |id| Alert {
        id: AlertId(id),
        phone: phone(id as usize),
        text: "down".into(),
        severity: Default::default(),
        queued_at: Default::default(),
        maybe_sent: false,
        tried: Tried::default(),
    };
    core.learn(vec![alert(1)], now);
    core.step(true, now);
    let asked: Vec<uuid::Uuid> = core.take_out().begins.iter().map(|new| new.id).collect();
    assert_eq!(asked.len(), 1);
    core.joined(after);
    core.begun(before, &asked, &asked, true, now);
    core.step(true, now);
    let out = core.take_out();
    assert!(out.submits.is_empty(), "{:?}", out.submits);
    assert_eq!(out.settlements[0].0, before, "it is told by the name under which it was written");
}

#[tokio::test(start_paused = true)]
async fn rows_deleted_under_us_are_an_event_and_no_fault() {
    let gateway = Gateway::good();
    let bench = Bench::start(&[&gateway]);
    let gone = bench.alert(&phone(1), "first", 1);
    pass(millis(252)).await;
    bench.queue.delete(gone);
    let kept = bench.alert(&phone(2), "second", 1);
    pass(secs(2)).await;
    assert_eq!(bench.state(kept).await, AlertState::Sent);
    bench.stop().await.unwrap();
}
