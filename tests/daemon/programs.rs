//! Programs as ways out: one that dies in mid-drain, and a class of NAV's.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use smsd::demo::gateway::Accepted;

use super::bench::{Site, give, until, until_within};

/// What a program has written down of what it was told, under its home.
fn taken(site: &Site) -> Vec<Accepted> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let seen = site.read("seen");
    // The last line may be half written.
    let whole = seen.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let at = jiff::Timestamp::UNIX_EPOCH;
    lines
        .map(|sms| Accepted { phone: word(&sms["to"]), text: word(&sms["text"]), target: String::new(), at })
        .collect()
}

fn starts(site: &Site) -> Vec<Pid> {
    site.read("starts").lines().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

#[test]
fn a_program_killed_in_mid_drain_loses_nothing_and_what_it_was_told_of_is_marked() {
    let site = Site::nav("delay: 1", "");
    let home = site.dir.path().display().to_string();
    site.configure(
        "delay: 1",
        &format!(
            "[dispatcher]\ndispatcher1: prog\n[prog]\ntype: ExecDispatcher\nmode: stream\nconcurrency: 8\ngrace: 0.2\n\
             timeout: 20\ncommand: python3 stream.py {home}\ndirectory: {home}\n"
        ),
    );
    site.write("stream.py", include_str!("../fixtures/exec/stream.py"));
    site.write("play", r#"{"say": ["{\"id\":\"$ID\",\"ok\":true,\"reference\":7}"], "after": 0.05}"#);
    site.insert_many(1, 400);
    let daemon = site.start();
    for (killed, share) in [50, 150, 250].into_iter().enumerate() {
        until_within(60, "the drain is under way", || (taken(&site).len() >= share).then_some(()));
        let pid = *starts(&site).last().unwrap();
        kill(pid, Signal::SIGKILL).unwrap();
        until_within(60, "it is started again", || (starts(&site).len() > killed + 1).then_some(()));
    }
    until_within(120, "all are sent", || (site.counts() == [0, 400, 0]).then_some(()));
    let twice = site.account(&taken(&site));
    // What it had when it died: at most what it may have at once, each time.
    assert!((1..=3 * 8).contains(&twice), "{twice} went out twice");
    assert_eq!(site.sql("SELECT DISTINCT smsid FROM smsq"), "7");
    site.audit();
    let last = *starts(&site).last().unwrap();
    daemon.stop();
    until("it ends with the daemon", || kill(last, None).is_err().then_some(()));
}

#[test]
fn a_class_of_navs_sends_as_its_smsd_conf_says() {
    let site = Site::nav("", "");
    let home = site.dir.path().display().to_string();
    // As NAV's smsd.conf names it, and the line that says what it is; the class stands where NAV has its own.
    site.configure(
        "exit_on_permanent_error: yes\nretrylimitaction: ignore",
        &format!(
            "[dispatcher]\ndispatcher1: ModemDispatcher\ndispatcher2: backup\n\
             [ModemDispatcher]\ntype: PythonDispatcher\npath: {home}\ncommand: {home}/modem\npin: 1234\n\
             [backup]\ntype: DebugDispatcher\n"
        ),
    );
    for folder in ["nav", "nav/smsd"] {
        std::fs::create_dir(site.path(folder)).unwrap();
        give(&site.path(folder));
    }
    site.write("nav/smsd/modemdispatcher.py", include_str!("../fixtures/nav_plugin/modemdispatcher.py"));
    site.write(
        "modem",
        "#!/bin/sh\nread -r text\necho \"$1 $text\" >> \"${0%/*}/sent\"\n[ ! -e \"${0%/*}/broken\" ]\n",
    );
    std::fs::set_permissions(site.path("modem"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    let first = site.insert("+4790000001", "first", Some(1));
    let daemon = site.start();
    until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    assert_eq!(site.read("sent"), "+4790000001 first\n");
    assert_eq!(site.sql("SELECT smsid FROM smsq"), "4711");
    let attempt = &site.json(&["queue", "show", &first.to_string()])["attempts"][0];
    assert_eq!(attempt["dispatcher"], "ModemDispatcher", "{attempt}");

    // It returns false: as in NAV the next one takes over, and here it is on record that both may have sent it.
    site.write("broken", "");
    let second = site.insert("+4790000002", "second", Some(1));
    until("it is sent", || (site.counts() == [0, 2, 0]).then_some(()));
    let story = site.json(&["queue", "show", &second.to_string()]);
    let attempts = story["attempts"].as_array().unwrap();
    let told: Vec<(&Value, &Value)> =
        attempts.iter().map(|a| (&a["dispatcher"], &a["possible_duplicate"])).collect();
    assert!(told.contains(&(&"ModemDispatcher".into(), &false.into())), "{story}");
    assert!(told.contains(&(&"backup".into(), &true.into())), "{story}");
    assert!(!format!("{story} {}", daemon.log()).contains("1234"), "{story}");
    site.audit();
    daemon.stop();
}
