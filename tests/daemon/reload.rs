//! SIGHUP: all of the new configuration or nothing, and what did not change goes on as if nothing had been.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smsd::demo::gateway::Behaviour;

use super::bench::{Daemon, Site, gateway, gateway_that, until, until_within, ways};

/// A program that is spoken to for as long as it lives, and tells of each start.
fn program(site: &Site, name: &str, keys: &str) -> String {
    let folder = site.path(name);
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        super::bench::give(&folder);
        site.write("stream.py", include_str!("../fixtures/exec/stream.py"));
    }
    let home = site.dir.path().display();
    format!(
        "[{name}]\ntype: ExecDispatcher\nmode: stream\ncommand: python3 {home}/stream.py {home}/{name}\n{keys}\n"
    )
}

fn starts(site: &Site, name: &str) -> Vec<Pid> {
    let starts = site.read(&format!("{name}/starts"));
    starts.lines().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// The dispatchers, in order, then what they are.
fn conf(names: &[&str], sections: &[String]) -> String {
    let mut text = "[dispatcher]\n".to_owned();
    for (n, name) in names.iter().enumerate() {
        text += &format!("dispatcher{}: {name}\n", n + 1);
    }
    text + &sections.concat()
}

fn reload(daemon: &Daemon) {
    let before = daemon.said("configuration reread");
    daemon.signal(Signal::SIGHUP);
    until("the new configuration holds", || (daemon.said("configuration reread") > before).then_some(()));
}

/// Sends through one of them alone.
fn send(site: &Site, n: usize) {
    let said = site.run(&["send", "--to", &format!("+47900000{n:02}"), "--wait", "a test"]);
    assert_eq!(said.code, 0, "{said:?}");
}

fn is_gone(pid: Pid) -> Option<()> {
    kill(pid, None).is_err().then_some(())
}

#[test]
fn a_program_goes_on_over_reloads_until_its_own_section_changes_or_is_gone() {
    let site = Site::embedded("", "");
    let gateway = gateway();
    let http = |keys: &str| {
        format!(
            "[http-gw]\ntype: HttpGetDispatcher\nurl: http://{}/send?to=%(phone)s&text=%(sms)s\n{keys}\n",
            gateway.addr
        )
    };
    site.write("token", "first\n");
    let prog = |keys: &str| program(&site, "prog", &format!("env.TOKEN_file: token\n{keys}"));
    site.configure("", &conf(&["prog", "http-gw"], &[prog(""), http("")]));
    let daemon = site.start();
    send(&site, 1);
    let [first] = starts(&site, "prog")[..] else { panic!("started {} times", starts(&site, "prog").len()) };

    // Another one changes, the order, and [main].
    site.configure("delay: 20", &conf(&["prog", "http-gw"], &[prog(""), http("timeout: 7")]));
    reload(&daemon);
    send(&site, 2);
    site.configure("delay: 20", &conf(&["http-gw", "prog"], &[http("timeout: 7\nenabled: no"), prog("")]));
    reload(&daemon);
    send(&site, 3);
    assert_eq!(starts(&site, "prog"), [first], "the same program has sent all three");
    assert_eq!(gateway.accepted_count(), 0);

    // Its own section changes; a file that it names; how much it is given at once by [main].
    let mut last = first;
    let changes: [(&str, &dyn Fn()); 3] = [
        ("its timeout", &|| site.configure("", &conf(&["prog"], &[prog("timeout: 9")]))),
        ("what its file holds", &|| site.write("token", "second\n")),
        ("the window", &|| site.configure("concurrency: 3", &conf(&["prog"], &[prog("timeout: 9")]))),
    ];
    for (n, (what, change)) in changes.iter().enumerate() {
        change();
        reload(&daemon);
        until("the old one ends", || is_gone(last));
        send(&site, 4 + n);
        let all = starts(&site, "prog");
        assert_eq!(all.len(), 2 + n, "{what} changed");
        last = all[1 + n];
    }

    // It is gone, and so is the program.
    site.configure("", &conf(&["http-gw"], &[http("")]));
    reload(&daemon);
    until("it ends", || is_gone(last));
    send(&site, 9);
    assert_eq!(gateway.accepted_count(), 1);
    site.run(&["queue", "audit"]);
    daemon.stop();
}

#[test]
fn one_that_is_gone_ends_what_it_has_on_its_way() {
    let site = Site::embedded("", "");
    let gateway = gateway();
    let prog = program(&site, "prog", "");
    site.write("prog/play", r#"{"say": ["{\"id\":\"$ID\",\"ok\":true,\"reference\":7}"], "after": 2}"#);
    site.configure("", &conf(&["prog"], &[prog]));
    let daemon = site.start();
    assert_eq!(site.run(&["send", "--to", "+4790000001", "on its way"]).code, 0);
    until("it is on its way", || (!site.read("prog/seen").is_empty()).then_some(()));
    let pid = starts(&site, "prog")[0];
    site.configure("", &ways(&[gateway.addr], ""));
    reload(&daemon);
    send(&site, 2);
    assert!(kill(pid, None).is_ok(), "it is let finish");
    until("both are sent", || (site.json(&["queue", "stats"])["sent"] == 2).then_some(()));
    until("it ends", || is_gone(pid));
    assert_eq!(gateway.accepted_count(), 1);
    let story = site.json(&["queue", "show", "1"]);
    assert_eq!(story["attempts"][0]["state"], "accepted", "{story}");
    assert_eq!(story["attempts"].as_array().unwrap().len(), 1, "{story}");
    daemon.stop();
}

#[test]
fn a_connection_stays_open_over_a_reload_that_changes_something_else() {
    let gateway = gateway();
    let site = Site::embedded("", &ways(&[gateway.addr], ""));
    let daemon = site.start();
    send(&site, 1);
    let connections = gateway.connections();
    for n in 0..5 {
        site.configure(&format!("delay: {}", 10 + n), &ways(&[gateway.addr], ""));
        reload(&daemon);
        send(&site, 2 + n);
    }
    assert_eq!((gateway.accepted_count(), gateway.connections()), (6, connections));
    site.configure("", &ways(&[gateway.addr], "max_segments: 1"));
    reload(&daemon);
    send(&site, 9);
    assert_eq!(gateway.connections(), connections + 1, "what changed is built anew");
    daemon.stop();
}

#[test]
fn a_way_out_that_is_down_is_not_asked_because_of_a_reload_unless_its_section_changed() {
    let site = Site::embedded("", "");
    let home = site.dir.path().display().to_string();
    // It can not be used for now, and says so to SMS and probe.
    site.write("down.sh", &format!("echo \"$1\" >> {home}/asked\nexit 75\n"));
    let conf = |keys: &str| {
        let down = format!(
            "[down]\ntype: ExecDispatcher\nmode: oneshot\ncommand: sh {home}/down.sh sms\nprobe: sh {home}/down.sh probe\n\
             {keys}\n"
        );
        conf(&["down", "works"], &[down, "[works]\ntype: DebugDispatcher\n".to_owned()])
    };
    site.configure("", &conf(""));
    let daemon = site.start();
    for n in 0..5 {
        send(&site, n);
    }
    until("the breaker opens", || (daemon.said("out of rotation") > 0).then_some(()));
    // The pause doubles with each probe: 1, 2, 4, 8 s.
    until_within(60, "it is left alone for 8 s", || {
        (site.read("asked").matches("probe").count() == 3).then_some(())
    });
    let before = site.read("asked");
    for n in 0..10 {
        site.configure(&format!("delay: {}", 10 + n), &conf(""));
        reload(&daemon);
    }
    send(&site, 10);
    assert_eq!(site.read("asked"), before, "nobody asked it");
    let status = site.json(&["status"]);
    assert_eq!(status["dispatchers"][0]["up"], false, "{status}");

    site.configure("", &conf("timeout: 9"));
    reload(&daemon);
    until_within(2, "what changed is asked", || (site.read("asked") != before).then_some(()));
    daemon.stop();
}

#[test]
fn two_hundred_faulty_reloads_in_a_drain_change_nothing_and_each_is_said_once() {
    let gateway = gateway_that(Behaviour::ok().delay(Duration::from_millis(100)));
    let other = super::bench::gateway();
    let site = Site::nav("concurrency: 4", &ways(&[gateway.addr], ""));
    site.insert_many(1, 800);
    let daemon = site.start();
    until("the drain is under way", || (gateway.accepted_count() >= 8).then_some(()));
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid)).unwrap().count();
    let (connections, open) = (gateway.connections(), descriptors());
    let faulty: [(&str, String); 4] = [
        ("delay: soon", ways(&[other.addr], "")),
        ("", ways(&[other.addr], "rate: many")),
        ("", conf(&["other", "nowhere"], &[])),
        ("", "[dispatcher\n".to_owned()),
    ];
    for n in 1..=200 {
        let (main, rest) = &faulty[n % faulty.len()];
        site.configure(&format!("concurrency: 4\n{main}"), rest);
        daemon.signal(Signal::SIGHUP);
        until("it is refused", || (daemon.said("the old one stays") == n).then_some(()));
    }
    assert!(site.counts()[0] > 0, "the drain was over before it was disturbed");
    gateway.set(Behaviour::ok());
    until_within(60, "all are sent", || (site.counts() == [0, 800, 0]).then_some(()));
    assert_eq!((gateway.accepted_count(), other.accepted_count()), (800, 0));
    let more = gateway.connections() - connections;
    assert!(more <= 4, "{more} connections more: not by those that were open");
    assert!(descriptors() <= open + 2, "{} descriptors, {open} before", descriptors());
    assert_eq!((daemon.said("the old one stays"), daemon.said("configuration reread")), (200, 0));
    site.configure("", &ways(&[gateway.addr], ""));
    site.audit();
    daemon.stop();
}

#[test]
fn what_takes_a_restart_is_said_by_name_and_the_rest_holds() {
    let gateway = gateway();
    let site = Site::embedded("", &ways(&[gateway.addr], ""));
    let daemon = site.start();
    send(&site, 1);
    let elsewhere = site.path("elsewhere").display().to_string();
    let text = format!(
        "[main]\nusername: nobody\nstate_dir: {elsewhere}\nlog_level: debug\nprefix: NOC:\n[queue]\ntype: SqliteQueue\n\
         path: {elsewhere}/queue.db\n{}",
        ways(&[gateway.addr], "")
    );
    let dir = site.dir.path().display();
    site.write("nav.conf", &format!("NAV_USER=nobody\nTIME_ZONE=UTC\nPID_DIR={elsewhere}\nLOG_DIR={dir}\n"));
    let before = site.read("smsd.conf");
    site.write("smsd.conf", &text);
    reload(&daemon);
    let said = daemon.log();
    let line = said.lines().find(|line| line.contains("takes a restart")).expect("it is said");
    for name in ["[queue]", "state_dir", "PID_DIR", "log_level"] {
        assert!(line.contains(name), "{name} in {line}");
    }
    assert!(!line.contains("username"), "{line}");

    // The same queue, and the new prefix. A command would look where the file says.
    site.write("smsd.conf", &before);
    site.write("nav.conf", &format!("NAV_USER=nobody\nTIME_ZONE=UTC\nPID_DIR={dir}\nLOG_DIR={dir}\n"));
    send(&site, 2);
    assert!(gateway.accepted()[1].text.starts_with("NOC:"), "{:?}", gateway.accepted());
    reload(&daemon);
    assert_eq!(daemon.said("takes a restart"), 1);
    daemon.stop();
}
