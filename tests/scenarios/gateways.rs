use smsd::alert::{AlertId, Reason};
use smsd::config::OnUnknown;
use smsd::dispatch::{Class, Sms};
use smsd::failover::Cause;
use smsd::queue::{AlertState, AttemptState, Decision, Queue};
use smsd::telemetry::Event;

use super::bench::*;

#[tokio::test(start_paused = true)]
async fn the_second_takes_over_when_the_first_is_down() {
    let (first, second) = (Gateway::refusing(Class::Unavailable), Gateway::good());
    let bench = Bench::start(&[&first, &second]);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(1)).await;
    assert_eq!(second.texts(), ["down"]);
    let story = bench.queue.show(id).await.unwrap().unwrap();
    let states: Vec<_> = story.attempts.iter().map(|a| (a.dispatcher.as_str(), a.state, a.number)).collect();
    assert_eq!(states, [("gw1", AttemptState::Failed, 1), ("gw2", AttemptState::Accepted, 2)]);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_everything_costs_nothing_and_all_leaves_when_it_ends() {
    let gateway = Gateway::refusing(Class::Unavailable);
    let bench = Bench::start(&[&gateway]);
    for n in 0..200 {
        bench.alert(&phone(n), "down", 1 + (n % 5) as i32);
    }
    pass(secs(6 * 3600)).await;
    let asked = gateway.asked().len();
    assert!(asked <= 32, "nothing is submitted while it is down, but {asked} were");
    assert_eq!(bench.states().await[&AlertState::Waiting], 200);
    assert_eq!(bench.count_events(|e| matches!(e, Event::AllDown { .. })), 1, "the admin is told once");
    assert_eq!(bench.count_events(|e| matches!(e, Event::DispatcherDown { .. })), 1);
    gateway.now(|_| Answer::Take);
    pass(secs(65)).await;
    assert_eq!(bench.states().await[&AlertState::Sent], 200);
    assert!(gateway.taken()[0].2.contains("down"));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_phone_alone_outlives_the_outage_too() {
    let gateway = Gateway::refusing(Class::Failed);
    let bench = Bench::start(&[&gateway]);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(3600)).await;
    assert_eq!(bench.state(id).await, AlertState::Waiting);
    assert!(gateway.asked().len() <= 10, "{}", gateway.asked().len());
    gateway.now(|_| Answer::Take);
    pass(secs(3600 * 6 / 5)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    let story = bench.queue.show(id).await.unwrap().unwrap();
    assert!(story.attempts.last().unwrap().possible_duplicate, "500 may have meant yes");
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_bad_number_delays_nobody_and_meets_its_own_limit() {
    let bad = phone(77);
    let script_bad = bad.clone();
    let gateway = Gateway::new(move |sms| {
        if sms.recipient.as_str() == script_bad { Answer::Refuse(Class::Failed) } else { Answer::Take }
    });
    let bench = Bench::start(&[&gateway]);
    let ids: Vec<_> = (0..200).map(|n| bench.alert(&phone(n), "down", 3)).collect();
    pass(secs(2)).await;
    let states = bench.states().await;
    assert_eq!(
        (states[&AlertState::Sent], states[&AlertState::Waiting]),
        (199, 1),
        "everybody else is served"
    );
    pass(secs(1200)).await;
    let row = bench.row(ids[77]).await;
    assert_eq!((row.state, row.reason), (AlertState::Ignored, Some(Reason::RetryLimit)));
    assert!(!bench.has_event(|e| matches!(e, Event::DispatcherDown { .. })));
    assert_eq!(gateway.asked_for(&bad), 6, "once to find out whose fault it is, then five of its own");
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_gateway_holds_up_nobody_while_another_works() {
    let (first, second) = (Gateway::new(|_| Answer::Hang), Gateway::good());
    let bench = Bench::start_with(Default::default(), &[&first, &second], |o| o.concurrency = 4);
    for n in 0..100 {
        bench.alert(&phone(n), "down", 3);
    }
    pass(secs(5)).await;
    assert_eq!(second.taken().len(), 96, "all but the four that hang");
    pass(secs(90)).await;
    assert_eq!(second.taken().len(), 100, "and those after their time and their grace");
    assert_eq!(first.asked().len(), 4, "the breaker keeps it out");
    let attempts = bench.queue.recent(None, 1_000).await.unwrap();
    let mut marked: Vec<String> =
        attempts.iter().filter(|a| a.possible_duplicate).map(|a| a.recipient.to_string()).collect();
    let mut hung: Vec<String> = first.asked().into_iter().map(|(_, to)| to).collect();
    marked.sort();
    hung.sort();
    assert_eq!(marked, hung, "what may have been taken is marked when it is sent again, and nothing else");
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_first_and_a_second_that_hangs_for_one_number_delay_that_number_alone() {
    let first = Gateway::refusing(Class::Unavailable);
    let second =
        Gateway::new(|sms| if sms.recipient.as_str() == phone(3) { Answer::Hang } else { Answer::Take });
    let bench = Bench::start(&[&first, &second]);
    for n in 0..50 {
        bench.alert(&phone(n), "down", 3);
    }
    pass(secs(3)).await;
    assert_eq!(second.taken().len(), 49);
    bench.audit().await;
    bench.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_gateway_is_waited_for_and_nothing_is_counted() {
    let gateway = Gateway::refusing(Class::Throttled { retry_after: secs(20) });
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| o.main.retrylimit = 1);
    let id = bench.alert(&phone(1), "down", 3);
    pass(secs(100)).await;
    assert_eq!(bench.state(id).await, AlertState::Waiting);
    assert!((5..=6).contains(&gateway.asked().len()), "{:?}", gateway.asked());
    gateway.now(|_| Answer::Take);
    pass(secs(21)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_doubt_resent_once_after_the_grace_and_marked() {
    let gateway = Gateway::new(|_| Answer::TakeAndHang);
    let bench = Bench::start(&[&gateway]);
    let id = bench.alert(&phone(1), "down", 3);
    pass(secs(32)).await;
    assert_eq!(bench.state(id).await, AlertState::InDoubt);
    gateway.now(|_| Answer::Take);
    pass(secs(20)).await;
    assert_eq!(gateway.taken().len(), 1, "not before the grace is over");
    pass(secs(15)).await;
    assert_eq!(gateway.texts(), ["down", "down"]);
    let story = bench.queue.show(id).await.unwrap().unwrap();
    let [first, second] = &story.attempts[..] else { panic!("{story:#?}") };
    assert_eq!((first.state, second.state), (AttemptState::Resent, AttemptState::Accepted));
    assert!(second.possible_duplicate && second.resend_of == Some(first.id));
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_silence_is_held_for_a_person_and_new_alerts_go_on() {
    let gateway = Gateway::new(|_| Answer::TakeAndHang);
    let bench = Bench::start(&[&gateway]);
    let id = bench.alert(&phone(1), "down", 3);
    pass(secs(200)).await;
    assert_eq!(bench.state(id).await, AlertState::Held);
    assert_eq!(gateway.taken().len(), 2, "at most two copies without a person");
    gateway.now(|_| Answer::Take);
    let next = bench.alert(&phone(1), "up again", 3);
    pass(secs(40)).await;
    assert_eq!(bench.state(next).await, AlertState::Sent);
    assert_eq!(bench.state(id).await, AlertState::Held);
    bench.audit().await;
    bench.stop().await.unwrap();
}

/// Between the silence and the end of the grace a person decides: the engine repeats nothing past that.
#[tokio::test(start_paused = true)]
async fn what_a_person_decided_of_a_doubt_the_engine_does_not_resend() {
    for (decision, copies) in [(Decision::Accept, 1), (Decision::Resend, 2)] {
        let gateway = Gateway::new(|_| Answer::TakeAndHang);
        let bench = Bench::start(&[&gateway]);
        let id = bench.alert(&phone(1), "down", 3);
        pass(secs(32)).await;
        assert_eq!(bench.state(id).await, AlertState::InDoubt);
        gateway.now(|_| Answer::Take);
        let done = bench.queue.resolve(&[id], decision, "ann").await.unwrap();
        assert_eq!(done.decided, [id]);
        pass(secs(600)).await;
        assert_eq!(gateway.taken().len(), copies, "{decision:?}");
        assert_eq!(bench.state(id).await, AlertState::Sent);
        let story = bench.queue.show(id).await.unwrap().unwrap();
        assert_eq!(story.attempts.len(), copies);
        assert_eq!(story.attempts[copies - 1].possible_duplicate, decision == Decision::Resend);
        assert!(!bench.has_event(|e| matches!(e, Event::Held { .. })), "nobody is asked again");
        bench.audit().await;
        bench.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn urgent_doubts_fail_over_at_once() {
    let (first, second) = (Gateway::new(|_| Answer::TakeAndHang), Gateway::good());
    let bench = Bench::start_with(Default::default(), &[&first, &second], |o| o.main.urgent_severity = 1);
    bench.alert(&phone(1), "urgent", 1);
    bench.alert(&phone(2), "not so", 2);
    pass(secs(33)).await;
    assert_eq!(second.texts(), ["urgent"]);
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn on_unknown_hold_waits_for_a_person() {
    let gateway = Gateway::new(|_| Answer::TakeAndHang);
    let bench = Bench::start_with(Default::default(), &[&gateway], |o| o.main.on_unknown = OnUnknown::Hold);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(600)).await;
    assert_eq!(bench.state(id).await, AlertState::Held);
    assert_eq!(gateway.taken().len(), 1);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_was_meant_for_a_gateway_that_begins_to_hang_is_served_by_the_next() {
    let (first, second) = (Gateway::good(), Gateway::good());
    let bench = Bench::start_with(Default::default(), &[&first, &second], |o| o.concurrency = 8);
    for n in 0..400 {
        bench.alert(&phone(n), "down", 3);
    }
    pass(millis(30)).await;
    let before = first.taken().len();
    assert!(before > 8 && before < 350, "{before}: it works");
    first.now(|_| Answer::Hang);
    pass(secs(4)).await;
    assert_eq!(
        second.taken().len(),
        400 - before - 8 - (first.taken().len() - before),
        "all but the eight that hang"
    );
    bench.audit().await;
    bench.kill().await;
}

#[tokio::test(start_paused = true)]
async fn refused_by_one_while_the_other_is_down_is_no_refusal_by_all() {
    let (first, second) = (Gateway::refusing(Class::Rejected), Gateway::refusing(Class::Unavailable));
    let bench = Bench::start(&[&first, &second]);
    let id = bench.alert(&phone(1), "down", 1);
    pass(secs(3 * 3600)).await;
    assert_eq!(bench.state(id).await, AlertState::Waiting);
    second.now(|_| Answer::Take);
    pass(secs(61)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_number_that_is_always_refused_does_not_keep_a_gateway_from_coming_back() {
    let gateway = Gateway::refusing(Class::Rejected);
    let bench = Bench::start(&[&gateway]);
    let bad = bench.alert(&phone(1), "down", 1);
    let good: Vec<AlertId> = (2..8).map(|n| bench.alert(&phone(n), "down", 5)).collect();
    pass(secs(20)).await;
    assert!(bench.has_event(|e| matches!(e, Event::DispatcherDown { .. })));
    gateway.now(|sms| match sms.recipient.as_str() == phone(1) {
        true => Answer::Refuse(Class::Rejected),
        false => Answer::Take,
    });
    pass(secs(120)).await;
    for id in good {
        assert_eq!(bench.state(id).await, AlertState::Sent);
    }
    pass(secs(600)).await;
    assert_eq!(bench.state(bad).await, AlertState::Ignored);
    bench.audit().await;
    bench.stop().await.unwrap();
}

/// Found by the simulation: the other gateway's refusals counted for nobody, so that the same number had each trial.
#[tokio::test(start_paused = true)]
async fn a_number_that_both_refuse_does_not_keep_one_from_coming_back_for_another_that_needs_it() {
    let refuse = |who: &'static [usize]| {
        move |sms: &Sms| match who.iter().any(|n| sms.recipient.as_str() == phone(*n)) {
            true => Answer::Refuse(Class::Rejected),
            false => Answer::Take,
        }
    };
    let (first, second) = (Gateway::refusing(Class::Rejected), Gateway::new(refuse(&[1, 2])));
    let bench = Bench::start(&[&first, &second]);
    (3..9).for_each(|n| _ = bench.alert(&phone(n), "down", 5));
    pass(millis(600)).await;
    assert!(bench.has_event(|e| matches!(e, Event::DispatcherDown { cause: Cause::Refusals, .. })));
    let (_refused_by_both, refused_by_one) =
        (bench.alert(&phone(1), "down", 1), bench.alert(&phone(2), "down", 5));
    first.now(refuse(&[1]));
    pass(secs(600)).await;
    assert_eq!(bench.state(refused_by_one).await, AlertState::Sent);
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_one_submit_puts_that_attempt_in_doubt_and_ends_nothing_else() {
    let struck = phone(7);
    let bad = struck.clone();
    let gateway =
        Gateway::new(move |sms| if sms.recipient.as_str() == bad { Answer::Panic } else { Answer::Take });
    let bench = Bench::start(&[&gateway]);
    let ids: Vec<_> = (0..50).map(|n| bench.alert(&phone(n), "down", 3)).collect();
    pass(secs(2)).await;
    let story = bench.queue.show(ids[7]).await.unwrap().unwrap();
    assert_eq!(story.attempts[0].state, AttemptState::InDoubt, "{story:#?}");
    let states = bench.states().await;
    assert_eq!(
        (states[&AlertState::Sent], states[&AlertState::InDoubt]),
        (49, 1),
        "everybody else is served"
    );

    let again = bench.alert(&phone(8), "later", 1);
    gateway.now(|_| Answer::Take);
    pass(secs(120)).await;
    assert_eq!(bench.state(again).await, AlertState::Sent);
    assert_eq!(bench.state(ids[7]).await, AlertState::Sent, "resent after its grace");
    let story = bench.queue.show(ids[7]).await.unwrap().unwrap();
    assert!(story.attempts.last().unwrap().possible_duplicate, "and on record");
    bench.audit().await;
    bench.stop().await.unwrap();
}
