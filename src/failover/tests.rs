use super::*;

fn way(name: &str, concurrency: usize) -> WayConfig {
    WayConfig {
        name: name.into(),
        concurrency,
        rate: None,
        timeout: Duration::from_secs(30),
        grace: Duration::from_secs(30),
        remembers: Duration::ZERO,
    }
}

fn phone(n: usize) -> Phone {
    Phone::parse(&format!("+47999{n:05}")).unwrap()
}

fn two() -> (Failover, WayId, WayId, Instant) {
    let now = Instant::now();
    let failover = Failover::new(vec![way("first", 4), way("second", 4)], now);
    let [first, second] = *failover.order() else { unreachable!() };
    (failover, first, second, now)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_first_that_works_is_taken_and_a_full_one_is_waited_for() {
    let (mut failover, first, second, now) = two();
    for _ in 0..4 {
        assert_eq!(failover.choose(&[], now), Choice::Take(first));
        failover.taken(first, now);
    }
    assert_eq!(failover.choose(&[], now), Choice::Busy);
    assert_eq!(failover.choose(&[first], now), Choice::Take(second));
    assert_eq!(failover.choose(&[first, second], now), Choice::Down);
    failover.released(first);
    failover.settled(first);
    assert_eq!(failover.choose(&[], now), Choice::Take(first));
}

#[test]
fn a_full_one_that_answers_nothing_is_passed_over() {
    let (mut failover, first, second, now) = two();
    for _ in 0..4 {
        failover.taken(first, now);
        failover.submit_begins(first, now);
    }
    assert_eq!(failover.next_wake(now), Some(now + STALL));
    assert_eq!(failover.choose(&[], now + STALL), Choice::Take(second));
    assert!(failover.is_closed(first, now + STALL), "and what was meant for it is not given to it");
    failover.submit_ended(first);
    failover.succeeded(first, now + STALL);
    failover.settled(first);
    assert_eq!(failover.choose(&[], now + STALL), Choice::Take(first));
}

#[test]
fn five_failures_open_the_breaker_and_a_probe_and_one_sms_close_it_slowly() {
    let (mut failover, first, second, mut now) = two();
    for n in 0..5 {
        failover.taken(first, now);
        let change = failover.troubled(first, now);
        failover.settled(first);
        assert_eq!(change.is_some(), n == 4, "the fifth in a row");
    }
    assert_eq!(failover.choose(&[], now), Choice::Take(second));
    assert!(failover.probes(now).is_empty(), "not before its pause is over");
    assert_eq!(failover.next_wake(now), Some(now + secs(1)));

    now += secs(1);
    assert_eq!(failover.probes(now), [first]);
    assert!(failover.probes(now).is_empty(), "one probe at a time");
    failover.probed(first, Err(Cause::Trouble), now);
    assert_eq!(failover.next_wake(now), Some(now + secs(2)), "the pause doubles");

    now += secs(2);
    assert_eq!(failover.probes(now), [first]);
    failover.probed(first, Ok(()), now);
    assert_eq!(failover.choose(&[], now), Choice::Take(first), "one SMS tries it");
    failover.taken(first, now);
    assert_eq!(failover.choose(&[], now), Choice::Take(second), "only one");
    assert_eq!(failover.succeeded(first, now), Some(Change::Up(first)));
    failover.settled(first);
    for _ in 0..2 {
        assert_eq!(failover.choose(&[], now), Choice::Take(first));
        failover.taken(first, now);
    }
    assert_eq!(failover.choose(&[], now), Choice::Busy, "it starts slowly");
    assert_eq!(failover.succeeded(first, now), None);
    assert_eq!(failover.choose(&[], now), Choice::Take(first), "and grows with each success");
}

#[test]
fn the_pause_grows_to_a_minute_and_no_further() {
    let (mut failover, first, _, mut now) = two();
    (0..5).for_each(|_| _ = failover.troubled(first, now));
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let wake = failover.next_wake(now).unwrap();
        pauses.push((wake - now).as_secs());
        now = wake;
        assert_eq!(failover.probes(now), [first]);
        failover.probed(first, Err(Cause::Trouble), now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn a_success_between_ends_the_row() {
    let (mut failover, first, _, now) = two();
    for n in 0..40 {
        assert_eq!(failover.troubled(first, now), None);
        if n % 4 == 3 {
            failover.succeeded(first, now);
        }
    }
}

#[test]
fn two_different_numbers_refused_in_a_row_make_it_suspect_and_one_alone_never_does() {
    let (mut failover, first, _, now) = two();
    for _ in 0..20 {
        assert_eq!(failover.refused(first, &phone(0), now), None, "one bad number proves nothing");
    }
    assert!(!failover.refusal_is_its_own(first, &phone(0)), "a number that was refused before adds nothing");
    failover.succeeded(first, now);
    assert_eq!(failover.refused(first, &phone(1), now), None, "it has served another one between");
    assert!(failover.refusal_is_its_own(first, &phone(2)));
    assert_eq!(
        failover.refused(first, &phone(2), now),
        Some(Change::Down { way: first, cause: Cause::Refusals })
    );
    let now = now + secs(1);
    failover.probes(now);
    failover.probed(first, Ok(()), now);
    assert!(
        failover.refusal_is_its_own(first, &phone(9)),
        "a refused trial is not the recipient's fault either"
    );
    failover.refused(first, &phone(9), now);
    assert_eq!(failover.next_wake(now), Some(now + secs(2)));
}

#[test]
fn a_number_that_a_suspect_one_has_not_refused_is_tried_after_a_second() {
    let now = Instant::now();
    let mut failover = Failover::new(vec![way("only", 4)], now);
    let [only] = *failover.order() else { unreachable!() };
    let mut at = now;
    failover.refused(only, &phone(1), at);
    failover.refused(only, &phone(2), at);
    // Two bad numbers have each trial, until the pause is long.
    for _ in 0..6 {
        at = failover.next_wake(at).unwrap();
        assert_eq!(failover.probes(at), [only]);
        failover.probed(only, Ok(()), at);
        failover.refused(only, &phone(1), at);
    }
    assert_eq!(failover.next_wake(at), Some(at + secs(60)));
    failover.hurry(&phone(2));
    assert_eq!(failover.next_wake(at), Some(at + secs(60)), "that one has had its answer");
    failover.hurry(&phone(3));
    assert_eq!(failover.next_wake(at), Some(at + secs(1)));
    // When so many are refused, no further one says more.
    for n in 3..10 {
        at += secs(61);
        failover.probes(at);
        failover.probed(only, Ok(()), at);
        failover.refused(only, &phone(n), at);
    }
    failover.hurry(&phone(99));
    assert_eq!(failover.next_wake(at), Some(at + secs(60)));
}

#[test]
fn an_answer_to_one_sms_does_not_make_a_dispatcher_need_a_person_but_a_probe_or_a_second_number_does() {
    let (mut failover, first, second, now) = two();
    for _ in 0..20 {
        assert_eq!(failover.misconfigured(first, &phone(1), now), None, "403 is often one number's country");
    }
    assert_eq!(failover.choose(&[], now), Choice::Take(first));
    assert_eq!(failover.probes(now), [first], "a probe is to tell");
    assert_eq!(failover.probed(first, Ok(()), now), None);
    assert!(failover.probes(now).is_empty() && failover.choose(&[], now) == Choice::Take(first));
    failover.misconfigured(first, &phone(1), now);
    assert_eq!(failover.probes(now), [first]);
    let down = |way| Some(Change::Down { way, cause: Cause::Misconfigured });
    assert_eq!(failover.probed(first, Err(Cause::Misconfigured), now), down(first));
    failover.misconfigured(second, &phone(1), now);
    assert_eq!(failover.misconfigured(second, &phone(2), now), down(second));
    assert!(failover.all_down());
}

#[test]
fn one_that_needs_a_person_is_probed_after_30_s_1_2_5_and_each_10_minutes() {
    let now = Instant::now();
    let mut failover = Failover::new(vec![way("only", 4)], now);
    let [only] = *failover.order() else { unreachable!() };
    failover.misconfigured(only, &phone(1), now);
    failover.misconfigured(only, &phone(2), now);
    let (mut at, mut pauses, mut for_good) = (now, Vec::new(), None);
    while pauses.len() < 6 {
        let last = at;
        at = failover.next_wake(at).unwrap();
        for_good = for_good.or(failover.all_misconfigured_for_good(at).then_some((at - now).as_secs()));
        if failover.probes(at) == [only] {
            pauses.push((at - last).as_secs());
            failover.probed(only, Ok(()), at);
            assert!(!failover.all_misconfigured_for_good(at), "it is being tried just now");
            failover.misconfigured(only, &phone(1), at);
        }
    }
    assert_eq!(for_good, Some(600), "ten minutes, and three probes");
    assert_eq!(pauses, [30, 60, 120, 300, 510, 600], "of 600 s, 90 had passed when it was for good");
    failover.probes(at + secs(600));
    failover.probed(only, Err(Cause::Trouble), at + secs(600));
    assert!(!failover.all_misconfigured_for_good(at + secs(9000)), "merely down is something else");
}

#[test]
fn a_throttled_one_is_left_alone_for_as_long_as_it_asked() {
    let (mut failover, first, second, now) = two();
    failover.throttled(first, secs(30), now);
    assert_eq!(failover.choose(&[], now), Choice::Take(second));
    assert_eq!(failover.choose(&[second], now), Choice::Down);
    assert_eq!(failover.state(first, now), State::Throttled);
    assert_eq!(failover.choose(&[], now + secs(30)), Choice::Take(first));
}

#[test]
fn a_new_configuration_keeps_the_state_of_what_keeps_its_name() {
    let (mut failover, first, second, now) = two();
    (0..5).for_each(|_| _ = failover.troubled(first, now));
    let order = failover.reconfigure(vec![way("third", 1), way("first", 4)], now);
    assert_eq!(order.len(), 2);
    assert_eq!(order[1], first);
    assert!(order[0] != second, "a new one has a place of its own");
    assert_eq!(failover.choose(&[order[0]], now), Choice::Down, "still down");
    assert!(failover.probes(now).is_empty(), "a reload is no reason to ask it");
    failover.rebuilt(first, now);
    assert_eq!(failover.probes(now), [first], "but what was changed may be what was wrong");
    failover.succeeded(second, now);
}

#[test]
fn a_reload_fills_no_bucket_ends_no_slow_start_and_asks_one_that_needs_a_person() {
    let now = Instant::now();
    let rated = || WayConfig { rate: Some(1.0), ..way("rated", 4) };
    let mut failover = Failover::new(vec![rated(), way("slow", 8), way("broken", 4)], now);
    let [fast, slow, broken] = *failover.order() else { unreachable!() };
    failover.taken(fast, now);
    (0..5).for_each(|_| _ = failover.troubled(slow, now));
    assert_eq!(failover.probes(now + secs(1)), [slow]);
    failover.probed(slow, Ok(()), now);
    failover.taken(slow, now);
    failover.succeeded(slow, now);
    failover.settled(slow);
    failover.misconfigured(broken, &phone(1), now);
    failover.misconfigured(broken, &phone(2), now);

    failover.reconfigure(vec![rated(), way("slow", 8), way("broken", 4)], now);
    assert_eq!(failover.choose(&[slow, broken], now), Choice::Busy, "no second token");
    for _ in 0..2 {
        assert_eq!(failover.choose(&[fast, broken], now), Choice::Take(slow));
        failover.taken(slow, now);
    }
    assert_eq!(failover.choose(&[fast, broken], now), Choice::Busy, "two at once after a return");
    assert_eq!(failover.probes(now), [broken]);
}

#[test]
fn one_that_is_gone_is_over_when_its_last_sms_is_settled() {
    let (mut failover, first, second, now) = two();
    failover.taken(second, now);
    failover.submit_begins(second, now);
    failover.reconfigure(vec![way("first", 4)], now);
    assert!(!failover.is_over(second));
    failover.submit_ended(second);
    assert!(!failover.is_over(second), "its outcome is not written yet");
    failover.settled(second);
    assert!(failover.is_over(second) && !failover.is_over(first));
}

#[test]
fn a_trial_does_not_wait_for_old_sms_that_hang() {
    let (mut failover, first, second, mut now) = two();
    for _ in 0..4 {
        failover.taken(first, now);
        failover.submit_begins(first, now);
    }
    (0..5).for_each(|_| _ = failover.troubled(first, now));
    now += secs(3);
    assert_eq!(failover.probes(now), [first]);
    failover.probed(first, Ok(()), now);
    assert_eq!(failover.choose(&[second], now), Choice::Take(first));
    assert!(!failover.is_closed(first, now), "what is admitted is given to it");
}

#[test]
fn what_is_not_settled_is_bounded() {
    let (mut failover, first, _, now) = two();
    let mut taken = 0;
    while failover.choose(&[], now) == Choice::Take(first) {
        failover.taken(first, now);
        failover.succeeded(first, now);
        taken += 1;
    }
    assert_eq!((taken, failover.choose(&[], now)), (4, Choice::Busy), "however fast it answers");
    failover.settled(first);
    assert_eq!(failover.choose(&[], now), Choice::Take(first));
}

#[test]
fn one_that_comes_back_and_refuses_as_many_again_is_believed_by_and_by() {
    let now = Instant::now();
    let mut failover = Failover::new(vec![way("only", 4)], now);
    let [only] = *failover.order() else { unreachable!() };
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.extend((1..1000).find(|n| failover.refused(only, &phone(*n), now).is_some()));
        failover.probes(now + secs(3600));
        failover.probed(only, Ok(()), now);
        failover.succeeded(only, now);
    }
    assert_eq!(runs, [2, 2, 3, 5, 9]);
    for n in 0..100 {
        failover.succeeded(only, now + secs(n));
    }
    let run = (1..1000).find(|n| failover.refused(only, &phone(*n), now).is_some());
    assert_eq!(run, Some(SUSPECT), "who serves everybody is not believed when it refuses everybody");
}
