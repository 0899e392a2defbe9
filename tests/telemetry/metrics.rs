//! `/metrics` of a real daemon after real SMS, judged by Prometheus's own tool; and what is shipped for it names nothing
//! that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;
use serde_json::Value;

use crate::daemon::{Daemon, until};

const WAYS: &str = "[dispatcher]\ndispatcher1: down\ndispatcher2: works\n[down]\ntype: DebugDispatcher\nresult: fail\n\
    [works]\ntype: DebugDispatcher\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Where scripts/install-test-deps puts it, or where Debian does.
fn promtool() -> Command {
    let ours = root().join("target/peers/prometheus/promtool");
    Command::new(if ours.exists() { ours } else { PathBuf::from("promtool") })
}

fn judged(command: &mut Command, stdin: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not there: scripts/install-test-deps");
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

/// After one SMS that failed over, in the classic format.
fn scraped() -> (Daemon, String) {
    let daemon = Daemon::start(WAYS);
    let sent = daemon.command(&["send", "--wait", "--to", "+4790123456", "a word"]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    let answer = until("the SMS is counted", || {
        let answer = daemon.get("/metrics", "")?;
        answer.contains("smsd_alerts_total{state=\"sent\"} 1\n").then_some(answer)
    });
    (daemon, answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// The names as queries use them: of a histogram, those of its parts.
fn names(metrics: &str) -> BTreeSet<String> {
    let line = Regex::new(r"(?m)^([a-z_0-9]+)[{ ]").unwrap();
    line.captures_iter(metrics).map(|c| c[1].to_owned()).collect()
}

#[test]
fn a_daemon_that_sent_an_sms_tells_prometheus_so() {
    let (daemon, answer) = scraped();
    assert!(answer.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    for series in [
        "smsd_attempts_total{dispatcher=\"down\",outcome=\"unavailable\"} 1",
        "smsd_attempts_total{dispatcher=\"works\",outcome=\"accepted\"} 1",
        "smsd_submit_seconds_count{dispatcher=\"works\"} 1",
        "smsd_queue_seconds_count 1",
        "smsd_queue_up 1",
        "smsd_instances 1",
        "smsd_possible_duplicates_total 0",
    ] {
        assert!(answer.contains(&format!("\n{series}\n")), "no {series} in {answer}");
    }
    assert!(!answer.contains("4790123456") && !answer.contains("a word"));
    judged(promtool().args(["check", "metrics"]), body(&answer));

    let open = daemon
        .get("/metrics", "Accept: application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1\r\n")
        .unwrap();
    assert!(
        open.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n")
    );
    assert!(open.ends_with("\n# EOF\n"));
    assert_eq!(names(body(&open)), names(body(&answer)));
}

#[test]
fn each_series_is_documented_as_it_is_served() {
    let (_daemon, answer) = scraped();
    let metrics = body(&answer);
    let row = Regex::new(r"(?m)^\| `([a-z_]+)` \| (\w+) \| ([^|]*)\| (.*) \|$").unwrap();
    let docs = read("docs/metrics.md");
    let documented: BTreeSet<[String; 3]> =
        row.captures_iter(&docs).map(|c| [c[1].to_owned(), c[2].to_owned(), c[4].to_owned()]).collect();
    let kind = |name: &str| {
        let kind = Regex::new(&format!("(?m)^# TYPE {name} (\\w+)$")).unwrap();
        kind.captures(metrics).unwrap()[1].to_owned()
    };
    let help = Regex::new(r"(?m)^# HELP (\S+) (.*)$").unwrap();
    let served: BTreeSet<[String; 3]> =
        help.captures_iter(metrics).map(|c| [c[1].to_owned(), kind(&c[1]), c[2].to_owned()]).collect();
    assert_eq!(documented, served);

    // Each word that a label takes is in its row, and no other.
    for c in row.captures_iter(&docs) {
        let (name, labels) = (&c[1], &c[3]);
        let part = if &c[2] == "histogram" { format!("{name}_count") } else { name.to_owned() };
        for group in labels.split(';').filter(|group| group.contains('`')) {
            // Of several labels, the words are the last one's; the others take names.
            let (names, words) = group.split_once(':').unwrap_or((group, ""));
            let named: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
            for label in &named {
                let found = Regex::new(&format!("(?m)^{part}\\{{(?:.*,)?{label}=\"([^\"]*)\"")).unwrap();
                let found: BTreeSet<&str> =
                    found.captures_iter(metrics).map(|c| c.get(1).unwrap().as_str()).collect();
                assert!(!found.is_empty(), "{name} has no {label}");
                if named.last() == Some(label) && !words.is_empty() {
                    let words: BTreeSet<&str> = words.split(',').map(str::trim).collect();
                    assert_eq!(words, found, "{name}: {label}");
                } else {
                    assert!(
                        found.iter().all(|name| ["down", "works", env!("CARGO_PKG_VERSION")].contains(name)),
                        "{found:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn rules_and_dashboard_ask_for_what_is_served() {
    let (_daemon, answer) = scraped();
    let served = names(body(&answer));
    let asked = Regex::new(r"\b(?:smsd|process)_[a-z_0-9]+\b").unwrap();
    let dashboard: Value = serde_json::from_str(&read("dist/grafana/smsd.json")).unwrap();
    let expressions: Vec<&str> = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(expressions.len() > 15);
    let rules = read("dist/prometheus/smsd.rules.yml");
    let rules = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut seen = BTreeSet::new();
    for expression in expressions.into_iter().chain(rules) {
        for name in asked.find_iter(expression) {
            assert!(served.contains(name.as_str()), "{name:?} in {expression:?} is not served");
            seen.insert(name.as_str().to_owned());
        }
    }
    assert!(seen.len() > 12, "{seen:?}");

    // Whoever imports the dashboard chooses the data source; nothing rests on the name of one of ours.
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|v| v["name"] == "datasource" && v["type"] == "datasource"));
}

#[test]
fn the_rules_fire_when_they_should_and_only_then() {
    let rules = root().join("dist/prometheus/smsd.rules.yml");
    judged(promtool().args(["check", "rules"]).arg(&rules), "");
    let dir = tempfile::tempdir().unwrap();
    let cases = dir.path().join("test.yml");
    let text = read("tests/telemetry/smsd.rules.test.yml").replace("RULES", rules.to_str().unwrap());
    fs::write(&cases, text).unwrap();
    judged(promtool().args(["test", "rules"]).arg(&cases), "");
}

#[test]
fn each_rule_names_a_command_that_there_is() {
    let help = Daemon::configured(WAYS).command(&["--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let rules = read("dist/prometheus/smsd.rules.yml");
    let named = Regex::new(r"`smsd (\w+)").unwrap();
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 8);
    for alert in alerts {
        let commands: Vec<&str> = named.captures_iter(alert).map(|c| c.get(1).unwrap().as_str()).collect();
        assert!(!commands.is_empty(), "what is to be done? {alert}");
        for command in commands {
            assert!(help.contains(&format!("\n  {command} ")), "there is no smsd {command}");
        }
    }
}
