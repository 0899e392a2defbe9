//! The queue goes back in time under a running engine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use smsd::alert::AlertId;
use smsd::engine::guard::{Keep, Record};
use smsd::queue::memory::{MemoryQueue, Restored};
use smsd::queue::{AlertState, Decision, Queue};
use smsd::telemetry::Event;

use super::bench::*;

/// A record that the test holds on to.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Record>>>);

impl Keep for Kept {
    fn load(&mut self) -> Result<Option<Record>, String> {
        Ok(*self.0.lock().unwrap())
    }

    fn save(&mut self, record: &Record) -> Result<(), String> {
        *self.0.lock().unwrap() = Some(*record);
        Ok(())
    }
}

fn suspected(bench: &Bench) -> Option<(u64, u64)> {
    bench.events.lock().unwrap().iter().find_map(|e| match e {
        Event::Suspected { alerts, doubts, .. } => Some((*alerts, *doubts)),
        _ => None,
    })
}

/// New rows are given the keys of rows that were sent, refused, barred or on their way before: none of
/// them is taken for the old one, and no old text goes out under its key.
#[tokio::test(start_paused = true)]
async fn keys_that_are_given_again_are_other_alerts() {
    let gateway = Gateway::good();
    let bench = Bench::start(&[&gateway]);
    pass(secs(1)).await;
    let backup = bench.queue.backup();
    let sent = bench.alert(&phone(1), "sent", 1);
    let bad = bench.alert("nobody", "bad", 1);
    pass(secs(1)).await;
    gateway.now(|sms| if &*sms.text == "hangs" { Answer::TakeAndHang } else { Answer::Take });
    let hangs = bench.alert(&phone(2), "hangs", 1);
    // Collected for the end of the interval: planned, and not begun.
    let planned = bench.alert(&phone(1), "planned", 1);
    pass(secs(1)).await;
    assert_eq!(bench.state(sent).await, AlertState::Sent);
    assert_eq!(bench.state(bad).await, AlertState::Ignored);
    bench.queue.restore(&backup, true);
    pass(secs(7)).await;
    let again = [(3, "new one"), (4, "new two"), (5, "new three"), (6, "new four")];
    let ids: Vec<AlertId> = again.iter().map(|(n, text)| bench.alert(&phone(*n), text, 1)).collect();
    assert_eq!(ids, [sent, bad, hangs, planned], "the test tests");
    pass(secs(120)).await;
    for id in ids {
        assert_eq!(bench.state(id).await, AlertState::Sent, "alert {id}");
    }
    let mut texts = gateway.texts();
    texts.sort();
    assert_eq!(texts, ["hangs", "new four", "new one", "new three", "new two", "sent"]);
    assert_eq!(suspected(&bench), Some((0, 0)), "nothing that waited was from before");
    bench.audit().await;
    bench.stop().await.unwrap();
}

/// What was sent after the backup is held, what is queued after the restore goes out, and a person decides.
async fn what_was_sent_is_held(restart: bool) {
    let gateway = Gateway::good();
    let queue: Arc<MemoryQueue> = Arc::default();
    let kept = Kept::default();
    let start =
        |queue: Arc<MemoryQueue>| Bench::start_with(queue, &[&gateway], |o| o.keep = Box::new(kept.clone()));
    for n in 0..100 {
        queue.insert(&phone(n), "old", Default::default(), queue.now());
    }
    let backup = queue.backup();
    let mut bench = start(queue);
    pass(secs(10)).await;
    assert_eq!(bench.states().await[&AlertState::Sent], 100);
    if restart {
        let queue = bench.kill().await;
        queue.restore(&backup, false);
        pass(secs(60)).await;
        bench = start(queue);
    } else {
        bench.queue.restore(&backup, false);
    }
    pass(secs(10)).await;
    assert_eq!(gateway.taken().len(), 100, "nothing again by itself");
    assert_eq!(bench.states().await[&AlertState::Held], 100);
    assert_eq!(suspected(&bench), Some((100, 0)));
    assert_eq!(bench.count_events(|e| matches!(e, Event::FromThePast { .. })), 1);
    let new = bench.alert(&phone(7), "new", 1);
    pass(secs(60)).await;
    assert_eq!(bench.state(new).await, AlertState::Sent);

    // The same backup once more: that is noticed too, though nothing but the one alert was begun since.
    bench.queue.restore(&backup, false);
    pass(secs(20)).await;
    assert_eq!(bench.states().await[&AlertState::Held], 100);
    assert_eq!(gateway.taken().len(), 101);

    let ids = bench.queue.suspected(1000).await.unwrap();
    bench.queue.resolve(&ids, Decision::Resend, "ann").await.unwrap();
    pass(secs(60)).await;
    assert_eq!(bench.states().await[&AlertState::Sent], 100);
    assert_eq!(gateway.taken().len(), 201);
    assert_eq!(bench.queue.stats().await.unwrap().possible_duplicates, 100, "each is marked");
    bench.audit().await;
    bench.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_held_when_the_queue_goes_back_under_us() {
    what_was_sent_is_held(false).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_held_when_the_queue_went_back_between_two_lives() {
    what_was_sent_is_held(true).await;
}

/// Both have worked, and both notice.
#[tokio::test(start_paused = true)]
async fn two_engines_hold_each_alert_once() {
    let gateway = Gateway::good();
    let queue: Arc<MemoryQueue> = Arc::default();
    for n in 0..500 {
        queue.insert(&phone(n), "old", Default::default(), queue.now());
    }
    let backup = queue.backup();
    let one = Bench::start_with(queue.clone(), &[&gateway], |o| o.lock = "one".into());
    let two = Bench::start_with(queue.clone(), &[&gateway], |o| (o.lock, o.seed) = ("two".into(), 2));
    pass(secs(30)).await;
    assert_eq!(gateway.taken().len(), 500);
    queue.restore(&backup, false);
    pass(secs(30)).await;
    assert_eq!(gateway.taken().len(), 500);
    let held = suspected(&one).unwrap().0 + suspected(&two).unwrap().0;
    assert_eq!((held, one.states().await[&AlertState::Held]), (500, 500));
    assert_eq!(queue.stats().await.unwrap().held_by_guard, 500);
    one.audit().await;
    one.stop().await.unwrap();
    two.stop().await.unwrap();
}

/// Another queue under the same name: new alerts go out, and nobody is bothered with what is not there.
#[tokio::test(start_paused = true)]
async fn a_fresh_queue_in_the_place_of_the_old_one_is_told_once() {
    let gateway = Gateway::good();
    let kept = Kept::default();
    let record = Record {
        queue: uuid::Uuid::from_u128(7),
        begun: Some(uuid::Uuid::from_u128(8)),
        seen: None,
        log: None,
        whole: MemoryQueue::new().now(),
    };
    *kept.0.lock().unwrap() = Some(record);
    let bench = Bench::start_with(Arc::default(), &[&gateway], |o| o.keep = Box::new(kept.clone()));
    pass(secs(10)).await;
    let id = bench.alert(&phone(1), "new", 1);
    pass(secs(10)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    assert_eq!(suspected(&bench), Some((0, 0)));
    let queue = bench.kill().await;
    let bench = Bench::start_with(queue, &[&gateway], |o| o.keep = Box::new(kept.clone()));
    pass(secs(10)).await;
    assert!(!bench.has_event(|e| matches!(e, Event::FromThePast { .. })), "once");
    bench.stop().await.unwrap();
}

/// Two engines with a gateway each, and the numbers that the second one serves.
async fn two(
    queue: &Arc<MemoryQueue>,
    gateways: &[Arc<Gateway>; 2],
    kept: &[Kept; 2],
) -> ([Bench; 2], Vec<usize>) {
    let start = |n: usize| {
        let kept = kept[n].clone();
        Bench::start_with(queue.clone(), &[&gateways[n]], move |o| {
            (o.lock, o.seed, o.keep) = (n.to_string(), n as u64 + 1, Box::new(kept));
        })
    };
    let benches = [start(0), start(1)];
    pass(secs(10)).await;
    for n in 0..40 {
        queue.insert(&phone(n), "whose", Default::default(), queue.now());
    }
    pass(secs(130)).await;
    let taken = gateways[1].taken();
    let theirs: Vec<usize> = (0..40).filter(|n| taken.iter().any(|(_, to, _)| *to == phone(*n))).collect();
    assert!(theirs.len() > 5 && theirs.len() < 35, "{theirs:?}");
    (benches, theirs)
}

/// Nobody but the second engine can know what it sent in its last moment. It dies with the database, and
/// is back when the first one has long found the standby.
#[tokio::test(start_paused = true)]
async fn what_one_instance_alone_knows_to_be_lost_waits_for_it_after_a_promotion() {
    let gateways = [Gateway::good(), Gateway::good()];
    let (queue, kept): (Arc<MemoryQueue>, _) = (Arc::default(), [Kept::default(), Kept::default()]);
    let ([first, second], theirs) = two(&queue, &gateways, &kept).await;
    let before = [gateways[0].taken().len(), gateways[1].taken().len()];
    for n in &theirs {
        queue.insert(&phone(*n), "lost", Default::default(), queue.now());
    }
    let backup = queue.backup();
    // As soon as the second one has sent them: the first one has not looked since.
    while gateways[1].taken().len() == before[1] {
        pass(Duration::from_millis(1)).await;
    }
    pass(Duration::from_millis(20)).await;
    assert_eq!(gateways[1].taken().len(), before[1] + theirs.len(), "the test tests");
    second.kill().await;
    queue.restore_on(&backup, false, Restored::Standby);
    pass(secs(3)).await;
    let second = Bench::start_with(queue.clone(), &[&gateways[1]], |o| {
        (o.lock, o.seed, o.keep) = ("1".into(), 3, Box::new(kept[1].clone()));
    });
    pass(secs(30)).await;
    assert_eq!(gateways[0].taken().len(), before[0], "sent again");
    assert_eq!(gateways[1].taken().len(), before[1] + theirs.len(), "sent again");
    assert_eq!(first.states().await[&AlertState::Held], theirs.len());
    let new = first.alert(&phone(1), "new", 1);
    pass(secs(30)).await;
    assert_eq!(first.state(new).await, AlertState::Sent);
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_instance_holds_what_another_one_sent_that_is_gone() {
    for server in [Restored::Here, Restored::Standby, Restored::Elsewhere] {
        let gateways = [Gateway::good(), Gateway::good()];
        let (queue, kept): (Arc<MemoryQueue>, _) = (Arc::default(), [Kept::default(), Kept::default()]);
        let ([first, second], theirs) = two(&queue, &gateways, &kept).await;
        for n in &theirs {
            queue.insert(&phone(*n), "lost", Default::default(), queue.now());
        }
        let backup = queue.backup();
        pass(secs(1)).await;
        let before = gateways[0].taken().len();
        second.kill().await;
        queue.restore_on(&backup, false, server);
        pass(secs(60)).await;
        assert_eq!(gateways[0].taken().len(), before, "sent again: {server:?}");
        assert_eq!(first.states().await[&AlertState::Held], theirs.len(), "{server:?}");
        first.stop().await.unwrap();
    }
}

/// A failover that loses nothing costs a pause, and no person's time.
#[tokio::test(start_paused = true)]
async fn a_promotion_that_lost_nothing_holds_nothing() {
    let gateway = Gateway::good();
    let bench = Bench::start(&[&gateway]);
    pass(secs(10)).await;
    let id = bench.alert(&phone(1), "before", 1);
    pass(secs(1)).await;
    assert_eq!(bench.state(id).await, AlertState::Sent);
    for (n, server) in [Restored::Standby, Restored::Elsewhere].into_iter().enumerate() {
        let backup = bench.queue.backup();
        bench.queue.restore_on(&backup, false, server);
        let id = bench.alert(&phone(2 + n), "after", 1);
        pass(secs(5)).await;
        assert_eq!(bench.state(id).await, AlertState::Waiting, "{server:?}");
        pass(secs(5)).await;
        assert_eq!(bench.state(id).await, AlertState::Sent, "{server:?}");
    }
    assert!(!bench.has_event(|e| matches!(e, Event::FromThePast { .. })));
    bench.audit().await;
    bench.stop().await.unwrap();
}
