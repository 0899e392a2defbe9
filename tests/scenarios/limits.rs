use smsd::alert::Reason;
use smsd::config::LimitAction;
use smsd::dispatch::Class;
use smsd::engine::core::Stop;
use smsd::queue::{Age, AlertState};
use smsd::telemetry::Event;

use super::bench::*;

#[tokio::test(start_paused = true)]
async fn the_back_off_grows_as_configured() {
    let gateway = Gateway::refusing(Class::Deferred);
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main.retrylimit = 0;
        o.main.delay = secs(10);
        o.main.delayfactor = 2.0;
        o.main.maxdelay = secs(60);
    });
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(600)).await;
    let asked = gateway.asked();
    let gaps: Vec<f64> = asked.windows(2).map(|w| (w[1].0 - w[0].0).as_secs_f64()).collect();
    for (gap, want) in gaps.iter().zip([10.0, 20.0, 40.0, 60.0, 60.0, 60.0]) {
        assert!((want * 0.79..want * 1.21).contains(gap), "{gaps:?}");
    }
    assert!(gaps.len() >= 6);
    assert_eq!(bench.state(id).await, AlertState::Waiting, "a limit of 0 is none");
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_only_the_alerts_that_failed_so_often_are_ignored() {
    let gateway = Gateway::new(|sms| match sms.recipient.as_str() == phone(1) {
        true => Answer::Refuse(Class::Deferred),
        false => Answer::Take,
    });
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| o.main.retrylimit = 3);
    let old = bench.alert(&phone(1), "old", 1);
    pass(secs(1)).await;
    bench.alert(&phone(2), "served", 1);
    pass(secs(60)).await;
    assert_eq!(gateway.asked_for(&phone(1)), 2, "one that proves nothing, one that counts");
    let young = bench.alert(&phone(1), "young", 1);
    pass(secs(140)).await;
    assert_eq!(bench.row(old).await.reason, Some(Reason::RetryLimit));
    assert_eq!(bench.state(young).await, AlertState::Waiting);
    pass(secs(1000)).await;
    assert_eq!(bench.row(young).await.reason, Some(Reason::RetryLimit));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_stops_the_daemon_with_everything_waiting() {
    let gateway = Gateway::refusing(Class::Deferred);
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main.retrylimit = 2;
        o.main.retrylimitaction = LimitAction::Shutdown;
    });
    let queue = bench.queue.clone();
    bench.alert(&phone(1), "down", 1);
    assert!(matches!(bench.ended().await, Err(Stop::RetryLimit { failures: 2, .. })));
    let stats = smsd::queue::Queue::stats(&*queue).await.unwrap();
    assert_eq!((stats.waiting, stats.open, stats.in_doubt), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn when_every_gateway_needs_a_person_the_daemon_stops_unless_told_not_to() {
    let gateway = Gateway::refusing(Class::Misconfigured);
    let bench = Bench::start(&[&gateway]);
    for n in [1, 2] {
        bench.alert(&phone(n), "down", 1);
    }
    pass(secs(590)).await;
    assert_eq!(bench.ended().await, Err(Stop::AllMisconfigured));

    let gateway = Gateway::refusing(Class::Misconfigured);
    let bench =
        Bench::start_with(Default::default(), &[&gateway], |o| o.main.exit_on_permanent_error = false);
    let ids = [1, 2].map(|n| bench.alert(&phone(n), "down", 1));
    pass(secs(3300)).await;
    assert_eq!(gateway.asked().len(), 10, "two numbers; after 30 s, 1, 2, 5, 10 minutes, and each ten");
    gateway.now(|_| Answer::Take);
    pass(secs(620)).await;
    for id in ids {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_cancelled_before_anything_is_sent_and_all_the_time() {
    let gateway = Gateway::good();
    let queue: std::sync::Arc<smsd::queue::memory::MemoryQueue> = Default::default();
    let day_ago = queue.now().checked_sub(secs(86_400)).unwrap();
    let old = queue.insert(&phone(1), "old", Default::default(), day_ago);
    let bench = Bench::start_with(queue, &[&gateway], |o| {
        o.main.autocancel = Some(Age { text: "1 hour".into(), duration: secs(3600) });
    });
    pass(secs(2)).await;
    assert_eq!(bench.row(old).await.reason, Some(Reason::Expired));
    gateway.now(|_| Answer::Refuse(Class::Unavailable));
    let next = bench.alert(&phone(2), "next", 1);
    pass(secs(3700)).await;
    assert_eq!(bench.row(next).await.reason, Some(Reason::Expired));
    assert!(gateway.taken().is_empty());
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_number_is_rejected_with_the_reason_and_holds_up_nobody() {
    let gateway = Gateway::good();
    let bench = Bench::start(&[&gateway]);
    let bad = bench.alert("+47 abc; DROP", "down", 1);
    let good = bench.alert(&phone(1), "down", 5);
    pass(secs(1)).await;
    assert_eq!(bench.row(bad).await.reason, Some(Reason::Rejected));
    assert_eq!(bench.state(good).await, AlertState::Sent);
    let told = |bench: &Bench| bench.count_events(|e| matches!(e, Event::BadNumber { .. }));
    assert_eq!(told(&bench), 1);
    smsd::queue::Queue::requeue(&*bench.queue, &[bad], "ann").await.unwrap();
    pass(secs(31)).await;
    assert_eq!(
        (bench.row(bad).await.reason, told(&bench)),
        (Some(Reason::Rejected), 2),
        "it is judged again"
    );
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn numbers_that_may_not_be_texted_wait_and_are_told_once() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| o.main.deny = vec!["+4782".into()]);
    let dear = bench.alert("+47820000", "down", 1);
    let good = bench.alert(&phone(1), "down", 5);
    pass(secs(600)).await;
    assert_eq!((bench.state(dear).await, bench.state(good).await), (AlertState::Waiting, AlertState::Sent));
    assert_eq!(bench.count_events(|e| matches!(e, Event::Barred { .. })), 1);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_counts_an_outage_of_all_dispatchers_too_although_nobody_is_asked() {
    let gateway = Gateway::refusing(Class::Unavailable);
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main.retrylimit = 4;
        o.main.delay = secs(5);
        o.main.retrylimitaction = LimitAction::Shutdown;
    });
    let queue = bench.queue.clone();
    for n in 1..=8 {
        bench.alert(&phone(n), "down", 1);
    }
    assert!(matches!(bench.ended().await, Err(Stop::RetryLimit { failures: 4, .. })));
    let stats = smsd::queue::Queue::stats(&*queue).await.unwrap();
    assert_eq!((stats.waiting, stats.open, stats.in_doubt), (8, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_phone_has_one_hour_however_its_number_is_spelled() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main.max_per_hour = 2;
        o.main.group_interval = Some(secs(0));
    });
    let spelled = ["+4790000001", "4790000001", "004790000001"];
    for number in spelled {
        (0..3).for_each(|_| _ = bench.alert(number, "down", 3));
    }
    pass(secs(10)).await;
    for number in spelled {
        bench.alert(number, "again", 3);
    }
    pass(secs(60)).await;
    assert_eq!(gateway.taken().len(), 2, "{:?}", gateway.taken());
    let other = bench.alert(&phone(7), "another", 3);
    pass(secs(10)).await;
    assert_eq!(bench.state(other).await, AlertState::Sent);
    pass(secs(3600)).await;
    assert_eq!(gateway.taken().len(), 5, "with the next hour the next two go");
    bench.audit().await;
    bench.stop().await.unwrap();
}

/// A flood, or a fault of whatever watches, texts nobody a hundred times an hour; and no alert is lost for it.
#[tokio::test(start_paused = true)]
async fn what_is_more_than_max_per_hour_waits_is_told_once_and_goes_out_when_there_is_room() {
    let gateway = Gateway::good();
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main.max_per_hour = 3;
        o.main.group_interval = Some(secs(60));
        o.main.urgent_severity = 1;
        o.main.overflow = smsd::config::Overflow::Next;
    });
    for n in 0..40 {
        bench.alert(&phone(1), &format!("alert {n:02}"), 3);
        pass(secs(60)).await;
    }
    let other = bench.alert(&phone(2), "another number", 3);
    pass(secs(60)).await;
    let sent = |n: usize| gateway.taken().iter().filter(|(_, to, _)| *to == phone(n)).count();
    assert_eq!((sent(1), sent(2)), (3, 1), "it is one number's bound");
    assert_eq!(bench.state(other).await, AlertState::Sent);
    assert_eq!(bench.count_events(|e| matches!(e, Event::HeldBack { .. })), 1);

    // What is urgent goes out all the same.
    let urgent = bench.alert(&phone(1), "urgent", 1);
    pass(secs(2)).await;
    assert_eq!((sent(1), bench.state(urgent).await), (4, AlertState::Sent));

    // All the others, with what comes meanwhile, in hours of three SMS; the urgent one was one of them.
    for _ in 0..18 {
        pass(secs(600)).await;
    }
    let taken: Vec<_> = gateway.taken().into_iter().filter(|(_, to, _)| *to == phone(1)).collect();
    for hour in taken.windows(4).filter(|four| four.iter().all(|(_, _, text)| !text.contains("urgent"))) {
        assert!(hour[3].0 - hour[0].0 >= secs(3600), "{hour:?}");
    }
    for n in 0..40 {
        assert!(taken.iter().any(|(_, _, text)| text.contains(&format!("alert {n:02}"))), "alert {n}");
    }
    bench.audit().await;
    bench.stop().await.unwrap();
}
