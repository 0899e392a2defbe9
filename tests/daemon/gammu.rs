//! A phone through the real gammu: NAV's smsd.conf as it is, gammu's own configuration in its place, and its dummy phone.

use std::fs;
use std::process::Command;

use super::bench::{Said, Site, give, until};

/// As NAV's operators have it.
const NAVS: &str = "[dispatcher]\ndispatcher1: GammuDispatcher\n\n[GammuDispatcher]\n";

fn site() -> Site {
    with_a_phone(Site::nav("delay: 600", NAVS))
}

/// A site whose gammu finds a dummy phone.
pub fn with_a_phone(site: Site) -> Site {
    for folder in ["gammu", "phone"] {
        fs::create_dir(site.path(folder)).unwrap();
        give(&site.path(folder));
    }
    site.write("gammu/config", &gammurc(&site, "model = dummy\nconnection = none\nport = @DIR@/phone\n"));
    site
}

/// gammu's configuration for a phone; `@DIR@` is the site's folder.
pub fn gammurc(site: &Site, phone: &str) -> String {
    let rc = format!("[gammu]\n{phone}logformat = textall\nlogfile = @DIR@/sent\n");
    rc.replace("@DIR@", &site.dir.path().display().to_string())
}

/// The program where gammu is found, and gammu its configuration. (`~` is the home of the user that it becomes.)
pub fn command(site: &Site, args: &[&str]) -> Command {
    let mut command = site.command(args);
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("XDG_CONFIG_HOME", site.dir.path());
    command
}

#[test]
fn navs_file_unchanged_sends_through_the_phone() {
    let site = site();
    let said = Said::of(command(&site, &["check", "--probe"]).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("Gammu Dummy, signal 42 %") || said.out.contains("Gammu Dummy, signal 42 %"),
        "{said:?}"
    );

    let first = site.insert("+4790000001", "bb-gw æøå [€] is down", Some(1));
    site.insert("+4790000002", "-unicode", Some(2));
    let last = site.insert("+4790000003", "温度 61 ~", Some(3));
    let daemon = site.spawn(command(&site, &["-f"])).up();
    until("all are sent", || (site.counts() == [0, 3, 0]).then_some(()));

    for id in [first, last] {
        let show = site.json(&["queue", "show", &id.to_string()]);
        let attempt = &show["attempts"][0];
        assert_eq!(
            (&attempt["state"], &attempt["dispatcher"]),
            (&"accepted".into(), &"GammuDispatcher".into())
        );
        assert_eq!(attempt["references"], serde_json::json!(["255"]), "{show}");
    }
    let story = site.run(&["why", &last.to_string()]).out;
    assert!(story.contains("reference 255"), "{story}");
    assert_eq!(site.sql("SELECT DISTINCT smsid FROM smsq"), "255");
    // gammu begins its log anew with each SMS.
    let sent = site.read("sent");
    assert!(sent.contains("Recipient number \"+4790000003\"") && sent.contains("温度 61 ~"), "{sent}");
    daemon.stop();
}

#[test]
fn a_phone_that_is_not_there_costs_no_alert() {
    let site = site();
    let sound = site.read("gammu/config");
    site.write("gammu/config", &gammurc(&site, "connection = at115200\nport = @DIR@/unplugged\n"));
    let id = site.insert("+4790000001", "bb-gw is down", Some(1));
    let daemon = site.spawn(command(&site, &["-f"])).up();
    let show = || site.json(&["queue", "show", &id.to_string()]);
    let failed =
        until("it was tried", || Some(show()).filter(|show| show["attempts"][0]["state"] == "failed"));
    assert_eq!(failed["alert"]["state"], "waiting", "{failed}");
    let attempt = &failed["attempts"][0];
    assert_eq!((&attempt["class"], &attempt["code"]), (&"unavailable".into(), &"ERR_DEVICENOTEXIST".into()));

    site.write("gammu/config", &sound);
    until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    let sent = show();
    let attempts = sent["attempts"].as_array().unwrap();
    assert!(attempts.iter().all(|attempt| attempt["possible_duplicate"] == false), "{sent}");
    daemon.stop();
}
