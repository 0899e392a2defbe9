//! The real Alertmanager with the configuration of docs/integrations, and the real daemon: from `amtool` to the phone.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::bench::{Daemon, Said, Site, give, until, until_within};

/// A port that nobody listens on, for as long as nobody takes it.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An Alertmanager that runs until it is dropped.
struct Alertmanager {
    child: Child,
    url: String,
}

impl Alertmanager {
    /// As the documentation has it, but for the times, the port of smsd, and a token.
    fn start(site: &Site, smsd: u16) -> Alertmanager {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations/alertmanager.md");
        let docs = fs::read_to_string(docs).unwrap();
        let (_, yaml) = docs.split_once("```yaml\n").unwrap();
        let yaml = yaml.split("```").next().unwrap();
        let mut told = yaml.to_owned();
        let url = format!("127.0.0.1:{smsd}/api/v1/webhooks/alertmanager");
        for (from, to) in [
            ("group_wait: 10s", "group_wait: 100ms"),
            ("group_interval: 5m", "group_interval: 1s"),
            (
                "127.0.0.1:8465/api/v1/webhooks/alertmanager",
                &format!("{url}\n        http_config: {{authorization: {{credentials: {TOKEN}}}}}"),
            ),
        ] {
            assert!(told.contains(from), "{from} in {yaml}");
            told = told.replace(from, to);
        }
        site.write("alertmanager.yml", &told);
        let listen = format!("127.0.0.1:{}", free_port());
        let log = fs::File::create(site.path("alertmanager.log")).unwrap();
        let child = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", site.path("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", site.path("alertmanager").display()))
            .arg(format!("--web.listen-address={listen}"))
            .args(["--cluster.listen-address=", "--log.level=debug"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("scripts/install-test-deps installs it");
        let alertmanager = Alertmanager { child, url: format!("http://{listen}") };
        until("Alertmanager answers", || alertmanager.amtool(&["alert", "query"]));
        alertmanager
    }

    fn amtool(&self, args: &[&str]) -> Option<()> {
        let url = format!("--alertmanager.url={}", self.url);
        let output = Command::new("amtool").arg(url).args(args).stdin(Stdio::null()).output().unwrap();
        output.status.success().then_some(())
    }

    /// An alert that fires, or that has ended.
    fn add(&self, name: &str, ended: bool) {
        let (start, end) = ("--start=2026-01-01T00:00:00Z", "--end=2026-01-01T00:00:01Z");
        let labels = [&format!("alertname={name}"), "instance=web1", "severity=critical"];
        let mut args = vec!["alert", "add"];
        args.extend(labels);
        args.extend(["--annotation=summary=it does not answer", start]);
        args.extend(ended.then_some(end));
        self.amtool(&args).expect("amtool adds an alert");
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The texts that went out.
fn sent(site: &Site) -> Vec<String> {
    let lines = site.read("sms.jsonl");
    let line = |line: &str| serde_json::from_str::<Value>(line).ok()?["text"].as_str().map(str::to_owned);
    lines.lines().filter_map(line).collect()
}

#[test]
fn an_alert_that_was_pushed_while_smsd_was_down_arrives_once() {
    let port = free_port();
    let site = Site::embedded("group_interval: 0", "");
    let log = site.path("sms.jsonl");
    let rest = format!(
        "[http]\nlisten: 127.0.0.1:{port}\ntoken: {TOKEN}\n[alertmanager]\nto: +4790000001\n\
         [dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\nlog: {}\n",
        log.display()
    );
    site.configure("group_interval: 0", &rest);
    fs::create_dir(site.path("alertmanager")).unwrap();
    give(&site.path("alertmanager"));
    let daemon: Daemon = site.start().up();
    let alertmanager = Alertmanager::start(&site, port);

    let firing = "InstanceDown web1: it does not answer".to_owned();
    let resolved = format!("RESOLVED {firing}");
    alertmanager.add("InstanceDown", false);
    until("the alert arrives", || (sent(&site) == [firing.clone()]).then_some(()));
    alertmanager.add("InstanceDown", true);
    until("its end arrives", || (sent(&site) == [firing.clone(), resolved.clone()]).then_some(()));

    daemon.stop();
    alertmanager.add("DiskFull", false);
    let refused = || site.read("alertmanager.log").contains("connection refused").then_some(());
    until("Alertmanager has tried in vain", refused);
    let daemon = site.start().up();
    let third = "DiskFull web1: it does not answer".to_owned();
    until_within(100, "the third arrives", || (sent(&site).last() == Some(&third)).then_some(()));
    // What Alertmanager thinks that it still has to send, it would have sent by its next interval.
    alertmanager.add("Last", false);
    let last = "Last web1: it does not answer".to_owned();
    until("the last arrives", || (sent(&site).last() == Some(&last)).then_some(()));
    assert_eq!(sent(&site), [firing, resolved, third, last], "{}", daemon.log());
    let audit = Said::of(site.command(&["queue", "audit"]).output().unwrap());
    assert_eq!(audit.code, 0, "{audit:?}");
    daemon.stop();
}
