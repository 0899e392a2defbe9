//! NAV's UninettMailDispatcher, unchanged, with nav.conf's mail server.

use std::time::Duration;

use super::bench::{Site, nobody_listens, until, until_within};
use crate::peers::Peer;

#[test]
fn a_nav_configuration_with_mail_sends_through_the_server_of_nav_conf() {
    let mut server = Peer::start("smtp_server.py", &["plain", "login"]);
    let site = Site::nav("delay: 5", &way_out("sms@gateway.example"));
    let nav = site.read("nav.conf");
    site.write(
        "nav.conf",
        &format!(
            "{nav}EMAIL_HOST=127.0.0.1\nEMAIL_PORT={}\nEMAIL_HOST_USER=alerter\nEMAIL_HOST_PASSWORD=secret\n\
         DEFAULT_FROM_EMAIL=nav@example.org\n",
            server.port
        ),
    );
    site.insert("+4790000001", "bb-gw.example.org is down: på linja", Some(2));
    site.insert("+4790000001", "the whole rack is down", Some(1));
    site.insert("+4790000002", "alone", None);
    let daemon = site.start();
    until("all are sent", || (site.counts() == [0, 3, 0]).then_some(()));
    let mut mails = [server.line(), server.line()];
    mails.sort_by_key(|mail| mail["headers"]["Subject"].to_string());
    let want = [
        ("sms +4790000001", "1: the whole rack is down; 2: bb-gw.example.org is down: på linja"),
        ("sms +4790000002", "alone"),
    ];
    for (mail, (subject, text)) in mails.iter().zip(want) {
        assert_eq!((&mail["headers"]["Subject"], &mail["text"]), (&subject.into(), &text.into()));
        assert_eq!((&mail["sender"], &mail["user"]), (&"nav@example.org".into(), &"alerter".into()));
        assert_eq!(mail["to"], serde_json::json!(["sms@gateway.example"]));
    }
    let probed = site.json(&["dispatcher", "probe"]);
    assert!(probed.to_string().contains("logged in at 127.0.0.1"), "{probed}");
    site.audit();
    daemon.stop();
}

#[test]
fn a_mail_server_that_is_not_there_or_refuses_costs_nothing() {
    let server = Peer::start("smtp_server.py", &["plain"]);
    let nobody = format!("server: {}", nobody_listens());
    let refusing = format!("server: 127.0.0.1:{}", server.port);
    let two = format!(
        "[dispatcher]\ndispatcher1: gone\ndispatcher2: refusing\n\
         [gone]\ntype: UninettMailDispatcher\nmailaddr: sms@gateway.example\n{nobody}\n\
         [refusing]\ntype: UninettMailDispatcher\nmailaddr: reject@gateway.example\n{refusing}\n"
    );
    let main = "exit_on_permanent_error: no\ndelay: 0.2\nretrylimit: 2";
    let site = Site::nav(main, &two);
    let id = site.insert("+4790000001", "waits", None);
    let daemon = site.start().up();
    until("both have failed", || (daemon.said("550 5.1.1 no such user") >= 1).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(site.counts(), [1, 0, 0], "the gateway's address is not the number's fault");
    let why = site.run(&["why", &id.to_string()]).out;
    assert!(why.contains("550 5.1.1 no such user"), "{why}");
    daemon.stop();

    site.configure(main, &two.replace("reject@", "sms@"));
    let daemon = site.start();
    until_within(60, "it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    assert_eq!(site.audit()["possible_duplicates"], 0);
    daemon.stop();
}

fn way_out(mailaddr: &str) -> String {
    format!(
        "[dispatcher]\ndispatcher1: UninettMailDispatcher\n\n[UninettMailDispatcher]\nmailaddr: {mailaddr}\n"
    )
}
