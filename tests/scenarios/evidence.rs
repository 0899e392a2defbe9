//! One answer is evidence and no verdict: who is to blame when a number is refused, and how often an SMS may be repeated
//! that may have been sent. The sites that matter have one to four phones.

use smsd::alert::{AlertId, Reason, Severity};
use smsd::config::Main;
use smsd::dispatch::Class;
use smsd::engine::core::Stop;
use smsd::failover::Cause;
use smsd::queue::{AlertState, Queue};
use smsd::telemetry::{Event, Why};

use super::bench::*;

const REFUSALS: [Class; 3] = [Class::Rejected, Class::Misconfigured, Class::Deferred];

fn patient(options: &mut Options) {
    options.main.exit_on_permanent_error = false;
}

/// Three alerts each for so many phones.
fn nine(bench: &Bench, phones: usize) -> Vec<AlertId> {
    (0..phones)
        .flat_map(|n| (1..=3).map(move |severity| (n, severity)))
        .map(|(n, severity)| bench.alert(&phone(n), "down", severity))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn no_alert_ends_while_the_only_gateway_refuses_everybody_for_a_minute_or_a_day() {
    for class in REFUSALS {
        for (phones, time) in [(1, 60), (2, 60), (3, 60), (4, 60), (20, 60), (1, 8000), (2, 8000), (3, 8000)]
        {
            {
                let gateway = Gateway::refusing(class);
                let bench = Bench::start_with(Default::default(), &[&gateway], patient);
                let ids = nine(&bench, phones);
                pass(secs(time)).await;
                let waiting = bench.states().await.get(&AlertState::Waiting).copied();
                assert_eq!(waiting, Some(ids.len()), "{class}, {phones} phones, {time} s");
                let refused_by_all = |e: &Event| matches!(e, Event::Waits { first: true, .. });
                assert!(
                    bench.count_events(refused_by_all) <= phones,
                    "each is told once: {class}, {phones} phones"
                );
                // However long it lasted: what a suspect dispatcher refused is tried within a minute, what one number
                // alone has met after its own back-off.
                gateway.now(|_| Answer::Take);
                pass(secs(if phones == 1 || class == Class::Deferred { 2 * 3600 } else { 1300 })).await;
                assert_eq!(
                    bench.states().await.get(&AlertState::Sent),
                    Some(&ids.len()),
                    "{class}, {phones} phones, {time} s"
                );
                assert_eq!(gateway.taken().len(), phones, "each phone once");
                bench.audit().await;
                bench.stop().await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_refuses_three_phones_is_suspect_and_is_asked_less_than_twice_a_minute() {
    let gateway = Gateway::refusing(Class::Rejected);
    let bench = Bench::start(&[&gateway]);
    nine(&bench, 3);
    pass(secs(5)).await;
    assert!(bench.has_event(|e| matches!(e, Event::DispatcherDown { cause: Cause::Refusals, .. })));
    assert!(bench.has_event(|e| matches!(e, Event::AllDown { .. })));
    let before = gateway.asked().len();
    pass(secs(3600)).await;
    assert!(gateway.asked().len() - before <= 70, "{}", gateway.asked().len() - before);
    gateway.now(|_| Answer::Take);
    pass(secs(62)).await;
    assert_eq!(bench.states().await[&AlertState::Sent], 9);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_bad_number_among_three_ends_at_its_own_limit_and_alone() {
    for class in REFUSALS {
        let gateway = Gateway::new(move |sms| match sms.recipient.as_str() == phone(1) {
            true => Answer::Refuse(class),
            false => Answer::Take,
        });
        let bench = Bench::start(&[&gateway]);
        let bad = bench.alert(&phone(1), "down", 1);
        for _ in 0..20 {
            for n in [2, 3] {
                let good = bench.alert(&phone(n), "down", 3);
                pass(secs(45)).await;
                assert_eq!(bench.state(good).await, AlertState::Sent, "{class}: the others are served");
            }
        }
        let row = bench.row(bad).await;
        let reason = if class == Class::Deferred { Reason::RetryLimit } else { Reason::Rejected };
        assert_eq!((row.state, row.reason), (AlertState::Ignored, Some(reason)), "{class}");
        assert_eq!(gateway.asked_for(&phone(1)), 6, "{class}: one that proves nothing, and five that count");
        assert!(!bench.has_event(|e| matches!(e, Event::DispatcherDown { .. })), "{class}");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_tried_through_the_other_dispatchers_at_once_and_then_waits() {
    let (first, second) = (Gateway::refusing(Class::Rejected), Gateway::refusing(Class::Rejected));
    let bench = Bench::start(&[&first, &second]);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(1)).await;
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
    let waits = |e: &Event| matches!(e, Event::Waits { why: Why::Refused, first: true, alerts, .. } if alerts == &[id]);
    assert_eq!(bench.count_events(waits), 1);
    pass(secs(6 * 3600)).await;
    assert_eq!(bench.state(id).await, AlertState::Waiting);
    assert_eq!(bench.count_events(waits), 1, "told once");
    let tries = first.asked().len();
    assert!((13..=20).contains(&tries), "each maxdelay at the latest: {tries}");
    second.now(|_| Answer::Take);
    pass(secs(3600 * 6 / 5)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_bad_numbers_in_a_row_hold_up_nobody_else_for_longer_than_two_seconds() {
    let gateway = Gateway::new(|sms| match [phone(1), phone(2)].contains(&sms.recipient.to_string()) {
        true => Answer::Refuse(Class::Rejected),
        false => Answer::Take,
    });
    let bench = Bench::start(&[&gateway]);
    for n in [1, 2] {
        bench.alert(&phone(n), "down", 1);
    }
    pass(secs(3600)).await;
    assert!(bench.has_event(|e| matches!(e, Event::DispatcherDown { cause: Cause::Refusals, .. })));
    for n in 3..20 {
        let good = bench.alert(&phone(n), "down", 5);
        pass(secs(2)).await;
        assert_eq!(bench.state(good).await, AlertState::Sent, "phone {n}");
        pass(secs(400)).await;
    }
    assert_eq!(bench.states().await.get(&AlertState::Waiting), None, "the two have met their limit");
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kill_or_a_stop_while_everybody_is_refused_costs_nothing() {
    for stopped in [true, false] {
        let gateway = Gateway::refusing(Class::Rejected);
        let mut queue = std::sync::Arc::new(smsd::queue::memory::MemoryQueue::new());
        for life in 0..20 {
            let bench = Bench::start_with(queue.clone(), &[&gateway], |o| o.seed = life);
            if life == 0 {
                nine(&bench, 4);
            }
            pass(millis(300 + 1700 * life)).await;
            queue = match stopped {
                true => {
                    let queue = bench.queue.clone();
                    bench.stop().await.unwrap();
                    queue
                }
                false => bench.kill().await,
            };
        }
        gateway.now(|_| Answer::Take);
        let bench = Bench::start_with(queue, &[&gateway], |_| {});
        pass(secs(90)).await;
        assert_eq!(bench.states().await.get(&AlertState::Sent), Some(&12));
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_daemon_stops_only_after_ten_minutes_and_three_probes_of_a_gateway_that_needs_a_person() {
    let keen = |o: &mut Options| o.main.exit_on_permanent_error = true;
    let gateway = Gateway::refusing(Class::Misconfigured);
    let bench = Bench::start_with(Default::default(), &[&gateway], keen);
    nine(&bench, 3);
    pass(secs(599)).await;
    assert!(!bench.has_event(|e| matches!(e, Event::GaveUp { .. })));
    assert_eq!(bench.states().await[&AlertState::Waiting], 9);
    let queue = bench.queue.clone();
    assert_eq!(bench.ended().await, Err(Stop::AllMisconfigured));
    assert_eq!(queue.stats().await.unwrap().waiting, 9);

    // A deploy of five minutes, a rate limit answered by 402: no reason to stop alerting.
    let bench = Bench::start_with(queue, &[&gateway], keen);
    pass(secs(300)).await;
    gateway.now(|_| Answer::Take);
    pass(secs(600)).await;
    assert_eq!(bench.states().await.get(&AlertState::Sent), Some(&9));
    bench.stop().await.unwrap();

    // One number alone proves nothing of the gateway.
    let gateway = Gateway::refusing(Class::Misconfigured);
    let bench = Bench::start_with(Default::default(), &[&gateway], keen);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(2 * 3600)).await;
    assert_eq!(bench.state(id).await, AlertState::Waiting);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn copies_of_one_alert_are_at_most_five_in_ten_minutes_and_ten_in_an_hour_whatever_the_gateways_do() {
    for class in [Class::Failed, Class::Unknown] {
        for gateways in [1, 2, 7] {
            for phones in [1, 3] {
                let all: Vec<_> = (0..gateways).map(|_| Gateway::refusing(class)).collect();
                let bench = Bench::start_with(Default::default(), &all.iter().collect::<Vec<_>>(), |o| {
                    o.main = Main {
                        delay: secs(1),
                        delayfactor: 1.0,
                        maxdelay: secs(2),
                        group_interval: Some(secs(0)),
                        ..Main::default()
                    };
                });
                let ids: Vec<_> = (0..phones).map(|n| bench.alert(&phone(n), "down", 1)).collect();
                pass(secs(2 * 3600)).await;
                for (n, id) in ids.iter().enumerate() {
                    let mut copies: Vec<_> = all
                        .iter()
                        .flat_map(|g| g.asked())
                        .filter(|(_, to)| *to == phone(n))
                        .map(|(at, _)| at)
                        .collect();
                    copies.sort();
                    for (most, within) in [(5, secs(600)), (10, secs(3600))] {
                        let worst = copies.iter().map(|from| {
                            copies.iter().filter(|at| **at >= *from && **at - *from < within).count()
                        });
                        assert!(
                            worst.max() <= Some(most),
                            "{class}, {gateways} gateways, {phones} phones, {within:?}"
                        );
                    }
                    let story = bench.queue.show(*id).await.unwrap().unwrap();
                    assert_eq!(story.attempts.len(), copies.len(), "all on record");
                    assert!(story.attempts[1..].iter().all(|a| a.possible_duplicate), "and marked");
                }
                let told = bench.count_events(|e| matches!(e, Event::Copied { .. }));
                assert_eq!(told, if class == Class::Failed { phones } else { 0 }, "told once, of the second");
                bench.audit().await;
                bench.kill().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_alert_does_not_wait_for_one_that_has_gone_out_often_enough() {
    let gateway = Gateway::refusing(Class::Failed);
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main = Main { delay: secs(1), delayfactor: 1.0, group_interval: Some(secs(0)), ..Main::default() };
    });
    let old = bench.alert(&phone(1), "old", 1);
    pass(secs(120)).await;
    assert_eq!(gateway.asked().len(), 5);
    gateway.now(|_| Answer::Take);
    let new = bench.alert(&phone(1), "new", 5);
    pass(secs(62)).await;
    assert_eq!((bench.state(old).await, bench.state(new).await), (AlertState::Waiting, AlertState::Sent));
    assert_eq!(gateway.texts(), ["new"]);
    pass(secs(600)).await;
    assert_eq!(gateway.texts(), ["new", "old"]);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_may_have_sent_goes_at_once_by_another_that_comes_back_and_not_by_the_same() {
    let (first, second) = (Gateway::refusing(Class::Failed), Gateway::refusing(Class::Unavailable));
    let bench = Bench::start(&[&first, &second]);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(600)).await;
    let before = first.asked().len();
    assert!(before <= 5, "{before}");
    // The second is down by its breaker, and is found to be back within a minute.
    second.now(|_| Answer::Take);
    pass(secs(62)).await;
    assert_eq!((bench.state(id).await, second.texts().len()), (AlertState::Sent, 1));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_may_have_gone_out_counts_in_max_per_hour() {
    let gateway = Gateway::refusing(Class::Failed);
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| {
        o.main = Main { max_per_hour: 2, delay: secs(1), delayfactor: 1.0, ..Main::default() };
    });
    bench.alert(&phone(1), "down", 3);
    pass(secs(3000)).await;
    assert_eq!(gateway.asked().len(), 2);
    assert_eq!(bench.count_events(|e| matches!(e, Event::HeldBack { .. })), 1);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_trial_goes_to_whoever_may_have_got_the_fewest_copies() {
    let gateway = Gateway::refusing(Class::Failed);
    let bench = Bench::start(&[&gateway]);
    for n in 0..20 {
        bench.alert(&phone(n), "down", 3);
    }
    pass(secs(1800)).await;
    let copies: Vec<usize> = (0..20).map(|n| gateway.asked_for(&phone(n))).collect();
    let (least, most) = (copies.iter().min().unwrap(), copies.iter().max().unwrap());
    assert!(most - least <= 1 && *least >= 1, "{copies:?}");
    bench.audit().await;
    bench.stop().await.unwrap();
}

/// The refusals of a whole day; `no_alert_ends_…` has the other lengths and numbers of phones.
#[tokio::test(start_paused = true)]
async fn no_alert_ends_by_a_day_of_refusals() {
    let gateway = Gateway::refusing(Class::Rejected);
    let bench = Bench::start(&[&gateway]);
    let ids = nine(&bench, 3);
    pass(secs(24 * 3600)).await;
    assert_eq!(bench.states().await.get(&AlertState::Waiting), Some(&ids.len()));
    gateway.now(|_| Answer::Take);
    pass(secs(62)).await;
    assert_eq!(bench.states().await.get(&AlertState::Sent), Some(&ids.len()));
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_bad_number_ends_at_its_limit_though_the_daemon_starts_anew_all_the_time() {
    for stopped in [true, false] {
        let gateway = Gateway::new(|sms| match sms.recipient.as_str() == phone(1) {
            true => Answer::Refuse(Class::Rejected),
            false => Answer::Take,
        });
        let mut queue = std::sync::Arc::new(smsd::queue::memory::MemoryQueue::new());
        let bad = queue.insert(&phone(1), "down", Severity(Some(1)), queue.now());
        let (mut lives, mut asked) = (0, Vec::new());
        loop {
            let bench = Bench::start_with(queue.clone(), &[&gateway], |o| {
                o.seed = lives;
                o.main.delay = secs(20);
                o.main.delayfactor = 1.0;
            });
            for n in 2..4 {
                let good = bench.alert(&phone(n), "down", 1);
                pass(secs(15)).await;
                assert_eq!(bench.state(good).await, AlertState::Sent, "the others are served");
            }
            let row = bench.row(bad).await;
            asked.push(gateway.asked_for(&phone(1)));
            bench.audit().await;
            queue = bench.queue.clone();
            match stopped {
                true => bench.stop().await.unwrap(),
                false => drop(bench.kill().await),
            }
            if row.state != AlertState::Waiting {
                assert_eq!((row.state, row.reason), (AlertState::Ignored, Some(Reason::Rejected)));
                break;
            }
            lives += 1;
            assert!(lives < 20, "it goes on for ever: {asked:?}");
        }
        let story = queue.show(bad).await.unwrap().unwrap();
        let numbers: Vec<u32> = story.attempts.iter().map(|a| a.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>(), "each attempt has its number");
        // Five that count, and one in each life that proves nothing.
        assert!(numbers.len() <= 6 + lives as usize, "{asked:?}");
        assert!(lives >= 3, "the back-off outlives the process: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_start_allows_no_further_copies() {
    let gateway = Gateway::refusing(Class::Failed);
    let mut queue = std::sync::Arc::new(smsd::queue::memory::MemoryQueue::new());
    let id = queue.insert(&phone(1), "down", Severity(Some(1)), queue.now());
    for life in 0..240 {
        let bench = Bench::start_with(queue, &[&gateway], |o| {
            o.seed = life;
            o.main = Main { delay: secs(1), delayfactor: 1.0, maxdelay: secs(2), ..Main::default() };
        });
        pass(secs(30)).await;
        queue = bench.kill().await;
    }
    let copies: Vec<_> = gateway.asked().into_iter().map(|(at, _)| at).collect();
    for (most, within) in [(5, secs(600)), (10, secs(3600))] {
        let of = |from: &tokio::time::Instant| {
            copies.iter().filter(|at| *at >= from && **at - *from < within).count()
        };
        assert!(copies.iter().map(of).max() <= Some(most), "{copies:?}");
    }
    assert!(copies.len() >= 15, "and it is tried for as long as it may: {copies:?}");
    let story = queue.show(id).await.unwrap().unwrap();
    assert!(story.attempts.len() == copies.len() && story.attempts[1..].iter().all(|a| a.possible_duplicate));
}

#[tokio::test(start_paused = true)]
async fn a_new_start_after_a_shutdown_at_the_limit_begins_anew() {
    let gateway = Gateway::refusing(Class::Rejected);
    let mut queue = std::sync::Arc::new(smsd::queue::memory::MemoryQueue::new());
    let id = queue.insert(&phone(1), "down", Severity(Some(1)), queue.now());
    for life in 1..=3 {
        let bench = Bench::start_with(queue, &[&gateway], |o| {
            o.main.retrylimitaction = smsd::config::LimitAction::Shutdown;
            o.main.delay = secs(1);
            o.main.maxdelay = secs(2);
        });
        queue = bench.queue.clone();
        assert!(matches!(bench.ended().await, Err(Stop::RetryLimit { .. })));
        assert_eq!(gateway.asked_for(&phone(1)), 5 * life, "each life has its own five");
    }
    gateway.now(|_| Answer::Take);
    let bench = Bench::start_with(queue, &[&gateway], |_| {});
    pass(secs(1)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent, "at once, without a back-off from before");
    bench.stop().await.unwrap();
}
