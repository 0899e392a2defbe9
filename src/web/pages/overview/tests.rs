//! The page in the states that matter, from made-up data.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::alert::Severity;
use crate::queue::Depth;
use crate::telemetry::board::Answering;
use crate::telemetry::history::Bucket;

const NOW: i64 = 1_900_000_000;

fn at(seconds_ago: i64) -> Timestamp {
    Timestamp::from_second(NOW - seconds_ago).unwrap()
}

fn attempt(n: i64, state: AttemptState) -> AttemptRow {
    let texts =
        ["osl-gw1 is down", "Link to trd-sw4 lost: no light on port 12", "UPS in room B at 18 % battery"];
    AttemptRow {
        id: Uuid::from_u128(n as u128),
        number: 1,
        recipient: format!("+4790000{n:03}"),
        text: texts[n as usize % 3].to_owned(),
        dispatcher: if n % 4 == 3 { "phone" } else { "gateway" }.to_owned(),
        state,
        begun_at: at(n * 7 + 5),
        ended_at: Some(at(n * 7 + 4)),
        class: None,
        code: None,
        detail: None,
        references: vec![],
        possible_duplicate: n % 7 == 6,
        resend_of: None,
        delivery: (n % 5 == 0).then(|| "delivered".to_owned()),
        instance: "host 1".to_owned(),
        carried: vec![AlertId(100 + n)],
        counted: vec![],
    }
}

fn day(dispatcher: &str, busy: u64) -> Course {
    let bucket = |n: u64| {
        let accepted = if (n + busy).is_multiple_of(5) { 0 } else { n * busy % 17 };
        Bucket {
            from: at((96 - n as i64) * 900),
            accepted,
            failed: if (60..64).contains(&n) { busy } else { 0 },
            accepted_millis: accepted * (200 + n * 37 % 300),
            slowest_millis: 900,
        }
    };
    Course { dispatcher: dispatcher.into(), buckets: (0..96).map(bucket).collect() }
}

fn view() -> View {
    let names: [(Arc<str>, &'static str); 2] =
        [("gateway".into(), "HttpDispatcher"), ("phone".into(), "GammuDispatcher")];
    let mut board = Board::new(names, at(90_000));
    board.dispatchers[0].last_accepted_at = Some(at(5));
    let recent = (0..20).map(|n| attempt(n, AttemptState::Accepted)).collect();
    View {
        now: at(0),
        board,
        sample: Arc::new(Sample { at: Some(at(2)), recent, ..Sample::default() }),
        courses: vec![day("gateway", 13), day("phone", 2)],
        operate: true,
        wall: false,
    }
}

fn depth(layers: &[(i32, u64, i64)]) -> Depth {
    let layer = |&(severity, alerts, oldest): &(i32, u64, i64)| Layer {
        severity: Severity((severity > 0).then_some(severity)),
        alerts,
        oldest: Some(at(oldest)),
    };
    Depth { waiting: layers.iter().map(layer).collect(), open: 16, in_doubt: 0, held: 0 }
}

/// Each scene with words that must stand on it.
fn scenes() -> Vec<(&'static str, View, &'static [&'static str])> {
    let calm = view();
    let fresh = View {
        board: Board::new(calm.board.dispatchers.iter().map(|d| (Arc::clone(&d.name), d.kind)), at(3)),
        sample: Arc::new(Sample { at: Some(at(1)), ..Sample::default() }),
        courses: calm.courses.iter().map(|c| Course { buckets: vec![], ..c.clone() }).collect(),
        ..calm.clone()
    };
    let mut storm = calm.clone();
    let mut sample = Sample::clone(&storm.sample);
    sample.depth = depth(&[(1, 212, 4), (2, 1_840, 31), (3, 9_077, 44), (5, 310, 60), (0, 12, 71)]);
    for (n, row) in sample.recent.iter_mut().enumerate() {
        match n {
            0..=2 => (row.state, row.ended_at) = (AttemptState::Open, None),
            4 => (row.state, row.detail) = (AttemptState::Failed, Some("HTTP 503: busy, try later".into())),
            8 => (row.state, row.detail) = (AttemptState::Rejected, Some("unknown subscriber".into())),
            9 => row.delivery = Some("undelivered".into()),
            _ => {}
        }
    }
    storm.sample = Arc::new(sample);
    let light = &mut storm.board.dispatchers[1];
    (light.up, light.cause, light.since) = (false, Some("misconfigured"), at(4000));
    light.reason =
        Some("gammu: error opening device /dev/ttyUSB0 (no such file); is the phone plugged in?".into());

    let mut down = storm.clone();
    let light = &mut down.board.dispatchers[0];
    (light.up, light.cause, light.since) = (false, Some("trouble"), at(1300));
    light.reason = Some("connection to gateway.example refused".into());
    down.board.all_down_since = Some(at(1300));

    let mut held = calm.clone();
    let mut sample = Sample::clone(&held.sample);
    let mut doubtful = attempt(42, AttemptState::Held);
    doubtful.detail = Some("no answer within 30 s after the text was sent".to_owned());
    let suspect = AttemptRow { class: Some(FROM_THE_PAST.into()), ..attempt(43, AttemptState::Held) };
    sample.undecided = vec![doubtful, suspect, attempt(44, AttemptState::InDoubt)];
    sample.depth = Depth { held: 2, in_doubt: 1, ..depth(&[(1, 1, 40), (3, 2, 900)]) };
    held.sample = Arc::new(sample);

    let mut lost = calm.clone();
    lost.board.queue =
        Answering { up: false, since: at(480), reason: Some("connection to db.example:5432 refused".into()) };
    let wall = View { wall: true, operate: false, ..storm.clone() };
    vec![
        ("calm", calm, &["Alerts get out", "Nothing waits.", "98.6 %"]),
        ("fresh", fresh, &["Ready to send", "None yet."]),
        ("storm", storm, &["11,451 alerts wait", "needs a person", "not delivered"]),
        ("down", down, &["11,451 alerts wait, no way out since"]),
        ("held", held, &["2 SMS wait for you", "/alerts/142/accept", "came back from the past"]),
        ("lost", lost, &["The queue does not answer since", "db.example"]),
        ("wall", wall, &["Alerts get out"]),
    ]
}

#[test]
fn each_state_says_what_matters() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots/pages");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, view, words) in scenes() {
        let title = view.verdict().line;
        let viewer = crate::web::pages::layout::Viewer { operate: true, ..Default::default() };
        let page = crate::web::pages::layout::Page {
            title: &title,
            here: crate::web::pages::layout::Here::Overview,
            live: true,
            wall: view.wall,
            viewer: Some(&viewer),
            flash: None,
            above: html! {},
            body: view.render(),
        };
        let shown = page.render().into_string();
        for part in words {
            assert!(shown.contains(part), "{name} lacks {part:?}");
        }
        assert!(!shown.contains("style=") && shown.len() < 40_000, "{name}: {} bytes", shown.len());
        // For people who work on the pages: tests/browser/scenes.js makes pictures of them.
        std::fs::write(folder.join(format!("{name}.html")), shown).unwrap();
    }
}

#[test]
fn without_the_right_to_act_nothing_to_act_with_is_shown() {
    for (name, view, _) in scenes() {
        let shown = View { operate: false, ..view }.render().into_string();
        assert!(!shown.contains("/accept") && !shown.contains("/cancel"), "{name}");
    }
}

#[test]
fn what_others_wrote_starts_nothing() {
    let bad = "<script>window.hit=1</script><img src=x onerror=hit()>\u{202e}";
    let mut view = view();
    let mut sample = Sample::clone(&view.sample);
    let row = AttemptRow {
        recipient: bad.into(),
        text: bad.into(),
        dispatcher: bad.into(),
        detail: Some(bad.into()),
        code: Some(bad.into()),
        ..attempt(1, AttemptState::Held)
    };
    (sample.recent, sample.undecided, sample.error) = (vec![row.clone()], vec![row], Some(bad.into()));
    view.sample = Arc::new(sample);
    view.board.dispatchers[0] =
        Light { reason: Some(bad.into()), up: false, name: bad.into(), ..view.board.dispatchers[0].clone() };
    view.courses[0].dispatcher = bad.into();
    let shown = view.render().into_string();
    assert!(!shown.contains("<script") && !shown.contains("<img") && !shown.contains('\u{202e}'));
    assert!(shown.matches("&lt;script&gt;").count() > 6);
}
