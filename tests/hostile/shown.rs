//! What is written and shown, to whom: the log's mode, and what a terminal makes of `--json`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use super::place::Place;
use crate::bench::until;

#[test]
fn the_log_is_nobody_elses_whatever_the_umask() {
    let place = Place::new("", "");
    let log = place.site.path("of-its-own.log");
    let conf =
        place.site.read("smsd.conf").replace("[main]\n", &format!("[main]\nlog_file: {}\n", log.display()));
    place.site.write("smsd.conf", &conf);
    let plain = place.site.command(&["-f"]);
    let mut command = Command::new("sh");
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["-c", "umask 000 && exec \"$@\"", "sh"]).arg(plain.get_program()).args(plain.get_args());
    let daemon = place.up(place.site.spawn(command));
    place.urgent();
    let said = until("it logs", || {
        fs::read_to_string(&log).ok().filter(|said| said.contains("urgent") || said.contains("accepted"))
    });
    assert!(!said.is_empty());
    for (name, most) in [("of-its-own.log", 0o640), ("queue.db", 0o600), ("smsd.pid", 0o644)] {
        let mode = fs::metadata(place.site.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !most, 0, "{name} has {mode:o}");
    }
    daemon.stop();
}

#[test]
fn json_on_a_terminal_is_exact_and_moves_no_cursor() {
    let place = Place::new("allow: +4791\n", "");
    let daemon = place.start();
    let text = "\u{9b}31mred \u{202e}desrever\u{202c} \u{2066}apart\u{2069} \u{200f}\u{7f}\u{85} æ 👍 \"\\";
    let id = place.queued("icinga", "+4790000001", text, 3);
    let (why, list) =
        (place.site.run(&["why", &id.to_string(), "--json"]), place.site.run(&["queue", "list", "--json"]));
    let why_json: Value = serde_json::from_str(&why.out).unwrap();
    let list_json: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!((why.code, &why_json["alert"]["text"]), (0, &Value::from(text)));
    assert_eq!((list.code, &list_json[0]["text"]), (0, &Value::from(text)));
    for said in [&why.out, &list.out] {
        for c in ['\u{9b}', '\u{85}', '\u{7f}', '\u{202e}', '\u{202c}', '\u{2066}', '\u{2069}', '\u{200f}'] {
            assert!(!said.contains(c), "{c:?} in {said:?}");
        }
        assert!(said.contains("æ 👍"), "{said}");
    }
    daemon.stop();
}
