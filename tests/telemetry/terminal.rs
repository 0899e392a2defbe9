//! `smsd status`, its `--watch` and `smsd queue list` as a person at a terminal sees them, and as programs read them.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::daemon::{Daemon, until};

const WAYS: &str = "[dispatcher]\ndispatcher1: down\ndispatcher2: works\n[down]\ntype: DebugDispatcher\nresult: fail\n\
    [works]\ntype: DebugDispatcher\n";

/// What came of a command on a terminal of its own.
struct Seen(Value);

impl Seen {
    fn of(command: &Command, size: (u16, u16), steps: Value) -> Seen {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/terminal.py");
        let mut python = Command::new("python3");
        python.env_clear().env("PATH", "/usr/bin:/bin").env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            python.env(name, value.unwrap());
        }
        python.arg(script).args([size.0.to_string(), size.1.to_string(), steps.to_string()]);
        python.arg(command.get_program()).args(command.get_args());
        let output = python.output().unwrap();
        let seen = Seen(serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!(
                "{e}: {} {}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        }));
        assert_eq!(seen.0["failed"], Value::Null, "{:#}", seen.0);
        seen
    }

    fn raw(&self) -> &str {
        self.0["raw"].as_str().unwrap()
    }

    fn lines(&self, when: &str) -> Vec<&str> {
        self.0[when].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect()
    }

    /// It ended well and left the terminal as it was.
    fn ended_well(&self) {
        assert_eq!((&self.0["code"], &self.0["restored"]), (&json!(0), &json!(true)), "{:#}", self.0);
        let last = |sequence: &str| self.raw().rfind(sequence).unwrap_or_else(|| panic!("no {sequence:?}"));
        assert!(last("\x1b[?1049l") > last("\x1b[?1049h"), "the first screen is back");
        assert!(last("\x1b[?25h") > last("\x1b[?25l"), "the cursor is back");
    }
}

fn send(daemon: &Daemon, text: &str) {
    let sent = daemon.command(&["send", "--wait", "--to", "+4790123456", text]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
}

/// Names of fields, sorted.
fn fields(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn watch_shows_what_is_sent_while_it_is_sent_and_gives_the_terminal_back() {
    let daemon = Daemon::start(WAYS);
    send(&daemon, "before-it");
    let helper = daemon.command(&["send", "--to", "+4790123457", "while-it-looks"]);
    let mut watch = Command::new("/bin/sh");
    watch.env_clear();
    for (name, value) in helper.get_envs() {
        watch.env(name, value.unwrap());
    }
    // The one SMS is sent once the picture is there: sent from beside it, without a word on its terminal.
    let quoted = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ")
    };
    let script = format!(
        "(sleep 1; {} >/dev/null 2>&1 </dev/null) & exec {}",
        quoted(&helper),
        quoted(&daemon.command(&["status", "--watch"]))
    );
    watch.arg("-c").arg(script);
    let steps = json!([
        ["see", "before-it"],
        ["see", "while-it-looks"],
        ["see", "SMS a minute  2.0 taken, 2.0 not"],
        ["see", "0 waiting; 0 being sent now"],
        ["resize", [120, 40]],
        ["see", "LAST SMS 1 to 4 of 4"],
        ["type", "q"],
    ]);
    let seen = Seen::of(&watch, (80, 24), steps);
    seen.ended_well();
    assert!(seen.raw().contains("\x1b[38;5;") || seen.raw().contains("\x1b[3"), "in colour");
    let lines = seen.lines("before");
    let line = |text: &str| {
        lines.iter().find(|l| l.contains(text)).unwrap_or_else(|| panic!("no {text:?} in {lines:#?}"))
    };
    assert!(line("smsd runs, pid ").contains(&format!("version {}", env!("CARGO_PKG_VERSION"))));
    assert!(line("while-it-looks").contains("+4790123457"));
    assert!(line("down  ").contains("result is fail"), "{lines:#?}");
}

#[test]
fn watch_stays_while_daemon_and_queue_are_away_and_minds_every_way_to_end() {
    let mut daemon = Daemon::start(WAYS);
    send(&daemon, "once-seen");
    let watch = daemon.command(&["status", "--watch"]);
    for (size, end) in [((80, 24), json!(["type", "\u{3}"])), ((120, 40), json!(["signal", "TERM"]))] {
        Seen::of(&watch, size, json!([["see", "once-seen"], end])).ended_well();
    }
    let mut plain = daemon.command(&["status", "--watch"]);
    plain.env("NO_COLOR", "1");
    let seen = Seen::of(&plain, (80, 24), json!([["see", "once-seen"], ["type", "\u{1b}"]]));
    seen.ended_well();
    for colour in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[38;"] {
        assert!(!seen.raw().contains(colour), "{colour:?}");
    }

    // A daemon that hangs, then one that is gone: what is in the queue is shown all the same.
    let pid = Pid::from_raw(daemon.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    let steps = json!([["see", "does not answer within 2 s"], ["see", "once-seen"], ["type", "q"]]);
    Seen::of(&watch, (80, 24), steps).ended_well();
    kill(pid, Signal::SIGCONT).unwrap();
    daemon.stop();
    let steps = json!([["see", "smsd does not run"], ["see", "once-seen"], ["type", "q"]]);
    Seen::of(&watch, (80, 24), steps).ended_well();

    let piped = daemon.command(&["status", "--watch"]).output().unwrap();
    assert_eq!((piped.status.code(), &*piped.stdout), (Some(2), &b""[..]));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("needs a terminal"));
}

#[test]
fn status_tells_programs_exactly_and_people_in_colour_on_a_terminal_only() {
    let mut daemon = Daemon::start(WAYS);
    send(&daemon, "x");
    let ask = |args: &[&str]| {
        let output = daemon.command(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let status = until("the daemon has told of the failure", || {
        let (code, out) = ask(&["status", "--json"]);
        assert_eq!((code, out.matches('\n').count()), (Some(0), 1), "{out}");
        let status: Value = serde_json::from_str(&out).unwrap();
        status["dispatchers"][1]["last_accepted_at"].is_string().then_some(status)
    });
    assert_eq!(fields(&status), ["daemon", "dispatchers", "pid", "queue", "running", "waiting"]);
    let about = ["all_down_since", "instances", "queue", "started_at", "stopping", "version"];
    assert_eq!(fields(&status["daemon"]), about);
    assert_eq!(fields(&status["daemon"]["queue"]), ["reason", "since", "up"]);
    let stats = [
        "held",
        "held_by_guard",
        "ignored",
        "in_doubt",
        "oldest_waiting_seconds",
        "open",
        "possible_duplicates",
        "sent",
        "sms",
        "waiting",
    ];
    assert_eq!(fields(&status["queue"]), stats);
    let way = ["cause", "last_accepted_at", "name", "reason", "since", "type", "up"];
    assert_eq!(fields(&status["dispatchers"][0]), way);
    assert_eq!((&status["running"], &status["pid"]), (&json!(true), &json!(daemon.pid())));
    assert_eq!(status["dispatchers"][1]["up"], true);
    assert!(status["dispatchers"][0]["reason"].is_string(), "{status}");

    let (_, piped) = ask(&["status"]);
    assert!(!piped.contains('\x1b') && piped.contains("DISPATCHER"), "{piped}");
    let command = daemon.command(&["status"]);
    assert!(Seen::of(&command, (80, 24), json!([])).raw().contains("\x1b[32msmsd runs"));
    let mut command = daemon.command(&["status"]);
    command.env("NO_COLOR", "1");
    let plain = Seen::of(&command, (80, 24), json!([]));
    assert!(!plain.raw().contains('\x1b'), "{:?}", plain.raw());

    daemon.stop();
    let output = daemon.command(&["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!((&status["running"], &status["daemon"]), (&json!(false), &Value::Null));
    assert_eq!(fields(&status["dispatchers"][0]), way, "the same shape");
    assert_eq!(status["dispatchers"][0]["up"], Value::Null);
}

#[test]
fn queue_list_is_one_line_each_whatever_the_texts_say() {
    let daemon = Daemon::configured(WAYS);
    let long = "very ".repeat(60);
    let wide = "漢字".repeat(80);
    let unbroken = "x".repeat(300);
    for text in [&*long, &wide, &unbroken, "two\nlines\r\x1b[2J\u{202e}\tend", "e\u{301}👩‍👩‍👧‍👦 ok"]
    {
        let sent =
            daemon.command(&["send", "--to", "+479012345678901", "--severity", "2", text]).output().unwrap();
        assert!(sent.status.success(), "{sent:?}");
    }
    assert!(daemon.command(&["queue", "cancel", "1"]).output().unwrap().status.success());
    for columns in [80, 120] {
        let command = daemon.command(&["queue", "list"]);
        let seen = Seen::of(&command, (columns, 24), json!([]));
        assert!(seen.raw().contains("\x1b[31m") || seen.raw().contains("\x1b[38;5;9m"), "{:?}", seen.raw());
        assert!(!seen.raw().contains("\x1b[2J") && !seen.raw().contains('\u{202e}'));
        let lines = seen.lines("screen");
        assert_eq!(lines.len(), 6, "a head and five alerts: {lines:#?}");
        assert!(lines[0].contains("ID") && lines[0].contains("AGE") && lines[0].contains("TEXT"));
        for line in &lines {
            // Each wide character stands in two places of the screen, the second of them empty.
            assert!(line.chars().count() <= usize::from(columns), "{line:?}");
        }
        assert!(lines[5].contains("ignored (cancelled)") && lines[5].contains("s ago"), "{lines:#?}");
        for line in &lines[3..] {
            assert!(line.ends_with('…'), "cut, and said to be: {lines:#?}");
        }
    }
    let mut command = daemon.command(&["queue", "list"]);
    command.env("NO_COLOR", "1");
    assert!(!Seen::of(&command, (80, 24), json!([])).raw().contains('\x1b'));
    let piped = daemon.command(&["queue", "list"]).output().unwrap();
    assert!(!piped.stdout.contains(&0x1b));

    let listed = daemon.command(&["queue", "list", "--json", "--limit", "1"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let row = ["ended_at", "id", "queued_at", "reason", "severity", "state", "text", "to"];
    assert_eq!(fields(&listed[0]), row);
    assert_eq!(listed[0]["text"], "e\u{301}👩‍👩‍👧‍👦 ok");
}
