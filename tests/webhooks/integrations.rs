//! The examples of docs/integrations, taken out of the files themselves: what they configure, post, run and promise.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use axum::http::StatusCode;
use serde_json::Value;

use crate::bench::{Open, Place, Told, fixture, told};

/// A file of docs/integrations: its blocks by their language.
struct Example(Vec<(String, String)>);

impl Example {
    fn read(name: &str) -> Example {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations").join(name);
        let text = fs::read_to_string(path).unwrap();
        let mut blocks = Vec::new();
        let mut pieces = text.split("```");
        pieces.next();
        while let (Some(block), Some(_)) = (pieces.next(), pieces.next()) {
            let (language, body) = block.split_once('\n').unwrap();
            blocks.push((language.to_owned(), body.to_owned()));
        }
        assert!(!blocks.is_empty());
        Example(blocks)
    }

    fn all(&self, language: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == language).map(|(_, body)| body.as_str()).collect()
    }

    fn block(&self, language: &str, n: usize) -> &str {
        self.all(language)[n]
    }

    /// What the phone shows.
    fn shows(&self, n: usize) -> &str {
        self.block("text", n).trim_end()
    }

    /// smsd.conf, which must be without a complaint.
    fn place(&self) -> Place {
        let place = Place::new(self.block("ini", 0));
        let complaints = place.complaints();
        assert_eq!(complaints, [""; 0]);
        place
    }

    /// The same with one more key in its last section.
    fn place_with(&self, key: &str) -> Place {
        let place = Place::new(&format!("{}{key}", self.block("ini", 0)));
        assert_eq!(place.complaints(), [""; 0]);
        place
    }
}

async fn queued(open: &Open, name: &str, body: String) -> Vec<Told> {
    let before = open.queued().await.len();
    open.take(name, body).await;
    open.queued().await.split_off(before)
}

#[tokio::test]
async fn alertmanager() {
    let example = Example::read("alertmanager.md");
    let place = example.place();
    let open = place.open().await;
    let got = queued(&open, "alertmanager", fixture("alertmanager.json")).await;
    let db = "InstanceDown db1.example.org:9100: db1 does not answer its exporter";
    assert_eq!(
        got,
        [
            told("+4790000001", Some(1), example.shows(0)),
            told("+4790000002", Some(1), example.shows(0)),
            told("+4790000003", Some(3), db)
        ]
    );
    let got = queued(&open, "alertmanager", fixture("alertmanager_resolved.json")).await;
    assert_eq!(got[0], told("+4790000001", Some(1), example.shows(1)));

    let other = example.place_with(example.block("ini", 1));
    let open = other.open().await;
    let got = queued(&open, "alertmanager", fixture("alertmanager.json")).await;
    assert_eq!(got[0].2, "InstanceDown on web1.example.org:9100 since 2026-11-23T10:00:00.123Z");
}

#[tokio::test]
async fn grafana() {
    let example = Example::read("grafana.md");
    let place = example.place();
    let open = place.open().await;
    let got = queued(&open, "grafana", fixture("grafana.json")).await;
    let cpu = "High CPU usage: This alert was triggered for zone eu-1";
    assert_eq!(got, [told("+4790000001", Some(3), example.shows(0)), told("+4790000002", Some(3), cpu)]);
    let other = example.place_with(example.block("ini", 1));
    let got = queued(&other.open().await, "grafana", fixture("grafana.json")).await;
    assert_eq!(got[0].2, "High memory usage B=44.2");
}

/// The script of the media type runs with Zabbix's objects as Zabbix documents them.
#[tokio::test]
async fn zabbix() {
    let example = Example::read("zabbix.md");
    let given: Value = serde_json::from_str(&fixture("zabbix.json")).unwrap();
    let named: Vec<&str> =
        example.block("text", 0).lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(named.len(), given.as_object().unwrap().len());
    assert!(named.iter().all(|name| given.get(*name).is_some()), "{named:?}");
    let run = |status: u16| -> Output {
        let script = format!(
            "class HttpRequest {{ addHeader() {{}} getStatus() {{ return {status}; }} \
             post(url, body) {{ console.log(body); return 'words'; }} }}\n\
             const media = new Function('value', 'HttpRequest', {});\n\
             console.error(media({}, HttpRequest));",
            Value::from(example.block("javascript", 0)),
            Value::from(given.to_string()),
        );
        Command::new("node").arg("-e").arg(script).output().expect("scripts/install-test-deps installs node")
    };
    let output = run(200);
    assert!(output.status.success() && output.stderr == b"OK\n", "{output:?}");
    let posted = String::from_utf8(output.stdout).unwrap();
    let place = example.place();
    let open = place.open().await;
    let got = queued(&open, "zabbix", posted.clone()).await;
    assert_eq!(got, [told("+4790000001", Some(2), example.shows(1))]);
    assert_eq!(queued(&open, "zabbix", posted.clone()).await, [], "an attempt that is repeated");
    let recovered = posted.replace("\"recovered\":\"1\"", "\"recovered\":\"0\"");
    assert_ne!(recovered, posted);
    let got = queued(&open, "zabbix", recovered).await;
    assert_eq!(got[0].2, format!("RESOLVED {}", example.shows(1)));
    // Only what throws is tried again.
    let output = run(503);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("503: words"));
}

#[tokio::test]
async fn librenms() {
    let example = Example::read("librenms.md");
    let given: Value = serde_json::from_str(&fixture("librenms.json")).unwrap();
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for line in example.block("text", 0).lines() {
        let (name, value) = line.split_once('=').unwrap();
        let variable = value.trim_start_matches("{{ $").trim_end_matches(" }}");
        query.append_pair(name, given[variable].as_str().unwrap_or_else(|| panic!("no {variable}")));
    }
    let query = query.finish();
    let place = example.place();
    let open = place.open().await;
    for (query, severity, prefix) in
        [(query.clone(), 1, ""), (query.replace("state=1", "state=0"), 1, "RESOLVED ")]
    {
        let before = open.queued().await.len();
        let uri = format!("/api/v1/webhooks/librenms?{query}");
        let (status, answer) = open.post(&uri, "text/plain", "").await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let text = format!("{prefix}{}", example.shows(1));
        assert_eq!(open.queued().await[before..], [told("+4790000001", Some(severity), &text)]);
    }
}

#[tokio::test]
async fn uptime_kuma() {
    let example = Example::read("uptime-kuma.md");
    let place = example.place();
    let open = place.open().await;
    let down = fixture("uptime_kuma.json");
    let got = queued(&open, "kuma", down.clone()).await;
    assert_eq!(got, [told("+4790000001", Some(1), example.shows(0))]);
    let mut body: Value = serde_json::from_str(&down).unwrap();
    body["heartbeat"]["status"] = 1.into();
    body["heartbeat"]["msg"] = "200 - OK".into();
    let got = queued(&open, "kuma", body.to_string()).await;
    assert_eq!(got, [told("+4790000001", Some(5), "Website is UP: 200 - OK")]);
    body["heartbeat"]["status"] = 2.into();
    assert_eq!(queued(&open, "kuma", body.to_string()).await, [], "pending");
    let got = queued(&open, "kuma", fixture("uptime_kuma_test.json")).await;
    assert_eq!(got, [told("+4790000001", Some(1), "My Webhook Alert (1) Testing")]);
}

/// The command lines are run as they stand, but for the place of the program.
#[tokio::test]
async fn icinga_and_nagios() {
    let example = Example::read("icinga.md");
    let place = example.place();
    let program = env!("CARGO_BIN_EXE_smsd");
    let here = |command: &mut Command| {
        let output = command.env("SMSD_CONFIG", place.conf()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let macros = |name: &str| -> BTreeMap<String, String> { serde_json::from_str(&fixture(name)).unwrap() };
    let fill = |text: &str, values: &BTreeMap<String, String>| {
        let filled = values
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}$"), value));
        assert!(!filled.contains("$user.") && !filled.contains("$CONTACT"), "{filled}");
        filled
    };

    let values = macros("icinga.json");
    for block in example.block("icinga2", 0).split("command = ").skip(1) {
        let list = block.split_once("\n  ]").unwrap().0.to_owned() + "]";
        let words: Vec<String> = serde_json::from_str(&list).unwrap();
        assert_eq!(words[0], "/usr/bin/smsd");
        here(Command::new(program).args(words[1..].iter().map(|word| fill(word, &values))));
    }
    let nagios: Vec<&str> = example
        .block("nagios", 0)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("command_line"))
        .collect();
    for line in &nagios {
        let line = fill(line.trim(), &macros("nagios.json")).replace("/usr/bin/smsd", program);
        here(Command::new("sh").arg("-c").arg(line));
    }
    assert_eq!(nagios.len(), 2);

    let open = place.open().await;
    let host = "PROBLEM web1: DOWN PING CRITICAL - $(touch /tmp/owned); 100% loss";
    let both = |severity, text: &str| ["+4790000001", "+4790000002"].map(|to| told(to, Some(severity), text));
    let mut want: Vec<Told> = [both(1, host), both(2, example.shows(0))].concat();
    want.push(told("+4790000001", Some(2), "PROBLEM web1/disk: CRITICAL DISK CRITICAL - /var 99% full"));
    want.push(told("+4790000001", Some(1), "PROBLEM web1: DOWN PING CRITICAL - 100% loss"));
    assert_eq!(open.queued().await, want);
    assert!(!Path::new("/tmp/owned").exists());
}
