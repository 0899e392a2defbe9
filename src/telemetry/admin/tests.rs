use std::sync::Arc;

use super::*;
use crate::alert::Phone;
use crate::queue::{Account, Mention};
use crate::telemetry::samples;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn collector(from: Gravity) -> Collector {
    let mut collector = Collector::default();
    collector.collect_from(Some(from));
    collector
}

fn sender() -> Sender {
    Sender { host: "noc1".to_owned(), pid: 4711 }
}

fn letter(batch: &Batch) -> Letter {
    let mention = |id: &AlertId| Mention {
        id: *id,
        to: "+4790000001".to_owned(),
        text: format!("text of {id}"),
        account: Some(Account { name: "Ann Admin".to_owned(), login: "admin".to_owned() }),
    };
    Letter::of(batch, &Ok(batch.named().iter().map(mention).collect()), &sender())
}

fn down(dispatcher: &str) -> Event {
    let (cause, reason) = (crate::failover::Cause::Trouble, "connection refused".to_owned());
    Event::DispatcherDown { dispatcher: dispatcher.into(), cause, reason }
}

fn ignored(id: i64) -> Event {
    let recipient = Phone::parse("+4790000001").unwrap();
    Event::Ignored {
        recipient,
        alerts: vec![AlertId(id)],
        reason: Reason::RetryLimit,
        detail: "500".to_owned(),
    }
}

#[test]
fn only_what_is_grave_enough_is_told() {
    let count = |from| {
        let mut collector = collector(from);
        samples::all("w").iter().filter(|event| collector.learn(event, at(0))).count()
    };
    let counts = Gravity::ALL.map(count);
    assert_eq!(counts[0], samples::all("w").len());
    assert!(counts.is_sorted_by(|a, b| a > b), "each level tells less: {counts:?}");
    let mut nobody = Collector::default();
    assert!(!nobody.learn(&Event::AllDown { waiting: 1 }, at(0)) && !nobody.waits());
}

#[test]
fn who_is_told_of_trouble_is_told_that_it_is_over() {
    for [trouble, over] in [
        [down("gw"), Event::DispatcherUp { dispatcher: "gw".into() }],
        [Event::AllDown { waiting: 1 }, Event::WayOut],
        [Event::QueueLost { reason: "x".into() }, Event::QueueBack { after: Default::default() }],
        [Event::DiskFull { place: "x".into() }, Event::DiskRoom],
        [Event::ElsewhereLost { reason: "x".into() }, Event::ElsewhereBack { after: Default::default() }],
    ] {
        assert_eq!(words::kind(&trouble), words::kind(&over));
        let mut collector = collector(Gravity::Error);
        assert!(collector.learn(&trouble, at(0)) && collector.learn(&over, at(1)));
        let told = letter(&collector.take());
        assert!(told.subject.contains("again") && told.subject.ends_with("(+1 more)"), "{}", told.subject);
    }
}

#[test]
fn the_subject_is_the_gravest_and_the_body_tells_all_in_order() {
    let mut collector = collector(Gravity::Error);
    collector.learn(&down("gw"), at(0));
    collector.learn(&Event::AllDown { waiting: 3 }, at(1));
    collector.learn(&Event::ReloadRefused { faults: "password: hunter2".into() }, at(2));
    let told = letter(&collector.take());
    assert_eq!(told.subject, "smsd noc1: no dispatcher works, 3 alerts wait (+2 more)");
    let lines: Vec<&str> = told.body.lines().filter(|line| line.starts_with('[')).collect();
    let want =
        ["[ERROR] dispatcher gw is down: connection refused", "[CRITICAL] no dispatcher", "[ERROR] the new"];
    assert_eq!(lines.len(), 3);
    for (line, want) in lines.iter().zip(want) {
        assert!(line.contains(want), "{line}");
    }
    assert!(!told.body.contains("hunter2"), "{}", told.body);
}

#[test]
fn an_ignored_alert_is_told_with_its_text_and_whose_it_was() {
    let mut collector = collector(Gravity::Error);
    collector.learn(&ignored(17), at(0));
    let batch = collector.take();
    assert_eq!(batch.named(), [AlertId(17)]);
    let told = letter(&batch);
    assert_eq!(told.subject, "smsd noc1: 1 alert to +4790000001 ignored: retry limit reached");
    assert!(told.body.contains("17: \"text of 17\" --> Ann Admin (admin), +4790000001\n"), "{}", told.body);
    let silent = Letter::of(&batch, &Err("the queue does not answer".to_owned()), &sender());
    assert!(
        silent.body.contains("What they said is not known: the queue does not answer"),
        "{}",
        silent.body
    );
    let gone = Letter::of(&batch, &Ok(vec![]), &sender());
    assert!(gone.body.contains("No longer in the queue: 17"), "{}", gone.body);
}

#[test]
fn a_storm_is_counted_and_not_kept() {
    let mut collector = collector(Gravity::Error);
    collector.learn(&down("gw"), at(0));
    for id in 0..5_000 {
        collector.learn(&ignored(id), at(id));
    }
    let batch = collector.take();
    assert!(batch.0.values().all(|heap| heap.last.len() <= SHOWN));
    assert!(batch.named().len() <= TEXTS);
    let told = letter(&batch);
    assert_eq!(told.subject, "smsd noc1: 5000 alerts ignored: retry limit reached (+1 more)");
    assert!(told.body.contains("dispatcher gw is down"), "the storm pushes nothing out: {}", told.body);
    assert!(told.body.contains(&format!("({SHOWN} of 5000)")), "{}", told.body);
    assert!(told.body.len() < 16 * 1024, "{} bytes", told.body.len());
}

#[test]
fn what_could_not_be_mailed_is_told_with_what_came_meanwhile() {
    let mut collector = collector(Gravity::Error);
    for id in 0..15 {
        collector.learn(&ignored(id), at(id));
    }
    let batch = collector.take();
    for id in 15..30 {
        collector.learn(&ignored(id), at(id));
    }
    collector.give_back(batch);
    let batch = collector.take();
    let ids = batch.named();
    assert_eq!((ids.len(), ids.last()), (SHOWN, Some(&AlertId(29))));
    assert!(letter(&batch).subject.contains("30 alerts ignored"));
    collector.collect_from(None);
    collector.give_back(batch);
    assert!(!collector.waits(), "nobody wants it any more");
}

#[test]
fn no_mail_holds_what_is_odd_or_long_or_secret() {
    let hostile = format!("\x1b[2J\r\nBcc: x@example.org\r\n\u{202e}{}", "x".repeat(5_000));
    let mut collector = collector(Gravity::Debug);
    for event in samples::all(&hostile) {
        collector.learn(&event, at(0));
        let told = letter(&collector.take());
        assert!(told.subject.len() <= 180, "{}", told.subject);
        assert!(!told.subject.contains(char::is_control), "{:?}", told.subject);
        assert!(!told.body.contains(|c: char| c.is_control() && c != '\n'), "{:?}", told.body);
        assert!(!told.body.lines().any(|line| line.starts_with("Bcc")), "{}", told.body);
        assert!(told.body.len() < 4_000, "{}", told.body);
    }
    for event in [
        Event::Wording {
            attempt: uuid::Uuid::nil(),
            recipient: Phone::parse("112").unwrap(),
            text: "hunter2".into(),
        },
        Event::Overheard { dispatcher: Arc::from("gw"), words: "hunter2".into() },
    ] {
        collector.learn(&event, at(0));
        assert!(!letter(&collector.take()).body.contains("hunter2"), "{event:?}");
    }
}
