use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::*;
use crate::telemetry::journal::Fields;
use crate::telemetry::samples;

/// What moves the cursor, ends a line, reorders it, or ends a string; and far too much of it.
fn hostile() -> String {
    format!(
        "\x1b[2J\r\n2026-01-01T00:00:00Z INFO all is well\0\x07\u{9b}31m\u{202e}\u{2066}{}",
        "å".repeat(5_000)
    )
}

#[derive(Clone, Default)]
struct Out(Arc<Mutex<Vec<Vec<u8>>>>);

impl Write for Out {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().push(line.to_vec());
        Ok(line.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is written of the event as text, as JSON and for the journal.
fn logged(event: &Event) -> [String; 3] {
    let out = [(); 3].map(|()| Out::default());
    let [text, json, fields] = out.clone();
    let layer = || fmt::layer::<Registry>().with_target(false).with_ansi(false);
    let layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![
        layer().with_writer(move || text.clone()).boxed(),
        layer().json().flatten_event(true).with_writer(move || json.clone()).boxed(),
        Fields(move || fields.clone()).boxed(),
    ];
    let all = tracing_subscriber::registry().with(layers);
    tracing::subscriber::with_default(all, || event.log());
    out.map(|out| {
        let lines = std::mem::take(&mut *out.0.lock().unwrap());
        assert_eq!(lines.len(), 1, "one line: {event:?}");
        String::from_utf8_lossy(&lines[0]).into_owned()
    })
}

#[test]
fn nothing_foreign_gets_out_of_its_place_in_any_line() {
    let faulty = |event: &Event| matches!(event, Event::ReloadRefused { .. });
    for event in samples::all(&hostile()) {
        let [text, json, fields] = logged(&event);
        // The faults of a configuration have a line each, as people read them.
        let lines = if faulty(&event) { 3 } else { 1 };
        assert_eq!(text.lines().count(), lines, "{text}");
        assert_eq!(json.lines().count(), 1, "{json}");
        for line in [&text, &json] {
            // Two words from outside, at most, beside our own.
            assert!(line.len() < 2 * FOREIGN + 700, "{} bytes: {line}", line.len());
        }
        for shown in [&text, &json, &fields] {
            let odd = |c: char| {
                (c.is_control() && c != '\n')
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            };
            // The journal's lengths are bytes, in a message of several lines.
            assert!(faulty(&event) && *shown == fields || !shown.contains(odd), "{shown:?}");
        }
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    }
}

#[test]
fn no_line_has_a_text_but_the_one_that_was_asked_for() {
    for event in samples::all("just words") {
        if let Event::Wording { attempt, recipient, .. } = &event {
            let text = "a text of an alert".into();
            let [line, ..] =
                logged(&Event::Wording { attempt: *attempt, recipient: recipient.clone(), text });
            assert!(line.contains("DEBUG") && line.contains("text=\"a text of an alert\""), "{line}");
        }
    }
}

#[test]
fn an_sms_has_its_line_with_all_that_is_known_of_it() {
    let accepted = |event: &Event| matches!(event, Event::Accepted { .. });
    let event = samples::all("ref").into_iter().find(accepted).unwrap();
    let [text, json, fields] = logged(&event);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["segments"], &json["ms"], &json["dispatcher"]), (&3.into(), &5.0.into(), &"gw".into()));
    assert_eq!(json["attempt"], "00000000-0000-0000-0000-000000000000");
    assert_eq!(json["message"], "SMS accepted");
    let queued = json["queued_ms"].as_i64().unwrap();
    assert!((3_000..10_000).contains(&queued), "of the oldest: {queued}");
    assert!(text.contains("SMS accepted attempt=") && text.contains("segments=3"), "{text}");
    for field in
        ["SMSD_EVENT=accepted\n", "SMSD_TO=+4799999999\n", "SMSD_SEGMENTS=3\n", "PRIORITY=6\n", "MESSAGE_ID="]
    {
        assert!(fields.contains(field), "{field}: {fields}");
    }
}
