//! Whatever comes in: a clear message or a right SMS, and nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use super::bench::{Said, Site, gateway, until, until_within, ways};
use smsd::demo::gateway::Behaviour;

#[test]
fn wrong_values_stop_the_start_and_are_named_with_file_line_and_key() {
    let gateway = gateway();
    let site = Site::nav(
        "delay: soon\nretrylimitaction: explode\nconcurrency: 0",
        &ways(&[gateway.addr], "timeout: 5 parsecs"),
    );
    for args in [&[][..], &["-f"], &["-t", "+4790000001"], &["queue", "list"]] {
        let said = site.run(args);
        assert_eq!((said.code, &*said.out), (4, ""), "{said:?}");
        said.names(&["smsd.conf:4", "delay", "soon", "smsd.conf:5", "retrylimitaction", "explode"]);
        said.names(&["smsd.conf:6", "concurrency", "smsd.conf:12", "timeout", "5 parsecs"]);
    }
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    site.write("db.conf", "dbhost=127.0.0.1\ndbport=many\ndb_nav=nav\nscript_default=nav\n");
    let said = site.run(&["-f"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.names(&["db.conf:2", "dbport", "many"]);
}

#[test]
fn files_that_can_not_be_read_are_named() {
    let gateway = gateway();
    for name in ["smsd.conf", "db.conf", "nav.conf"] {
        let site = Site::nav("", &ways(&[gateway.addr], ""));
        fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o000)).unwrap();
        let said = Said::of(site.command_as_nobody(&["-f"]).output().unwrap());
        assert_eq!((said.code, &*said.out), (4, ""), "{said:?}");
        said.names(&[name, "ermission denied"]);

        fs::remove_file(site.path(name)).unwrap();
        fs::create_dir(site.path(name)).unwrap();
        let said = site.run(&["-f"]);
        assert_eq!(said.code, 4, "a folder: {said:?}");
        said.names(&[name, "directory"]);
    }
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    fs::write(site.path("smsd.conf"), b"[main]\n# Bl\xe5b\xe6r\ndelay: 3\xff0\n").unwrap();
    let said = site.run(&["-f"]);
    assert_eq!(said.code, 4, "{said:?}");
    said.names(&["smsd.conf", "UTF-8"]);
}

#[test]
fn a_table_without_rights_is_told_with_what_to_grant_and_the_daemon_recovers_after_that() {
    let gateway = gateway();
    let site = Site::nav("delay: 1", &ways(&[gateway.addr], ""));
    site.log_in_as("nobody", "");
    site.insert("+4790000001", "waits for a GRANT", None);
    let daemon = site.start().up();

    // Whoever does what the message says, word for word, is done after a few.
    let mut granted = String::new();
    let mut done = 0;
    while site.counts() != [0, 1, 0] {
        let advice = until_within(15, "it says what to grant, or sends", || {
            if site.counts() == [0, 1, 0] {
                return Some(Vec::new());
            }
            let log = daemon.log();
            let grants: Vec<String> = log
                .split("GRANT ")
                .skip(1)
                .map(|rest| format!("GRANT {};", rest.split(';').next().unwrap()))
                .filter(|grant| !granted.contains(grant.as_str()))
                .collect();
            (!grants.is_empty()).then_some(grants)
        });
        for grant in advice {
            site.sql(&grant);
            granted += &grant;
            done += 1;
        }
        assert!(done < 10, "{granted}");
    }
    assert!(done >= 2, "the schema and the table: {granted}");
    assert!(granted.contains("ON smsq TO nobody"), "{granted}");
    assert_eq!(gateway.accepted_count(), 1);
    daemon.stop();
}

#[test]
fn rights_that_are_taken_away_are_told_once_and_nothing_is_lost() {
    let gateway = gateway();
    let site = Site::nav("delay: 1", &ways(&[gateway.addr], ""));
    let db = &site.db().name;
    site.sql(&format!("GRANT CREATE ON DATABASE {db} TO nobody; GRANT SELECT, UPDATE ON smsq TO nobody"));
    site.log_in_as("nobody", "");
    let daemon = site.start();
    site.insert("+4790000001", "before", None);
    until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    site.sql("REVOKE UPDATE ON smsq FROM nobody");
    site.insert("+4790000002", "meanwhile", None);
    until("it is told", || {
        daemon.log().contains("GRANT SELECT, INSERT, UPDATE ON smsq TO nobody").then_some(())
    });
    std::thread::sleep(Duration::from_secs(7));
    assert_eq!(daemon.said("the outcome of one SMS can not be written"), 1, "told once");
    assert_eq!(site.counts(), [1, 1, 0], "it does not stand as sent");
    assert!(gateway.targets().len() <= 2, "it is not sent again and again");
    site.sql("GRANT UPDATE ON smsq TO nobody");
    until("it is sent", || (site.counts() == [0, 2, 0]).then_some(()));
    assert_eq!(gateway.accepted_count(), 2);
    site.audit();
    daemon.stop();
}

#[test]
fn a_number_that_is_none_is_ignored_with_the_reason_and_holds_up_nobody() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    const BAD: [&str; 7] =
        ["+47 abc; DROP", "", "12", "++4790000001", "+47\n900", "'; DROP TABLE", "٤٧٩٠٠٠٠٠٠١"];
    for number in BAD {
        site.insert(number, "for nobody", Some(1));
    }
    site.insert("+47 900-00 (01)", "for someone", Some(5));
    let daemon = site.start();
    until("all has ended", || (site.counts() == [0, 1, BAD.len()]).then_some(()));
    assert_eq!(gateway.accepted()[0].phone, "+479000001");
    assert_eq!(gateway.targets().len(), 1, "nothing of the others reaches the gateway");
    for (n, number) in BAD.iter().enumerate() {
        let show = site.json(&["queue", "show", &(n + 1).to_string()]);
        assert_eq!(
            (&show["alert"]["to"], &show["alert"]["reason"]),
            (&(*number).into(), &"rejected".into()),
            "{show}"
        );
    }
    assert_eq!(daemon.said("the number can not be texted"), BAD.len(), "each is told once");
    assert!(!daemon.log().contains("+47\n900"), "no line of the log is forged");
    site.audit();
    daemon.stop();
}

#[test]
fn a_text_with_nul_and_control_characters_loses_them_and_nothing_else() {
    let gateway = gateway();
    let text = "up\0 and\x07 \x1b[31mred\x1b[0m\r\nline two\u{202e}\x7f\u{9b} end\n";
    let site = Site::embedded("", &ways(&[gateway.addr], ""));
    site.write("text", text);
    let input = fs::File::open(site.path("text")).unwrap();
    let mut send = site.command(&["send", "--to", "+4790000001", "-"]);
    let said = Said::of(send.stdin(Stdio::from(input)).output().unwrap());
    assert_eq!(said.code, 0, "{said:?}");
    let daemon = site.start();
    until("it is sent", || (gateway.accepted_count() == 1).then_some(()));
    arrived(&gateway.accepted()[0]);
    daemon.stop();

    // PostgreSQL can not hold NUL; the rest comes the same way.
    let gateway = super::bench::gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    site.insert("+4790000001", &text.replace('\0', ""), None);
    let daemon = site.start();
    until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    arrived(&gateway.accepted()[0]);
    daemon.stop();

    fn arrived(sms: &smsd::demo::gateway::Accepted) {
        let text = sms.text.trim_end().replace('\u{202e}', "");
        assert_eq!(text, "up and [31mred[0m\nline two end");
        assert!(!sms.text.contains(|c: char| c.is_control() && c != '\n'), "{:?}", sms.text);
        assert!(!sms.target.contains(['\r', '\n', '\x1b']) && !sms.target.contains("%00"), "{}", sms.target);
    }
}

#[test]
fn a_text_that_is_empty_or_of_control_characters_only_ends_with_a_reason() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    site.insert("+4790000001", "", None);
    site.insert("+4790000002", "\u{1}\u{2}\u{7f}", None);
    site.insert("+4790000003", "   ", None);
    site.insert("+4790000004", "after them", None);
    let daemon = site.start();
    until("nothing waits", || (site.counts()[0] == 0).then_some(()));
    assert!(gateway.accepted().iter().any(|sms| sms.text == "after them"));
    site.audit();
    daemon.stop();
}

#[test]
fn a_text_of_145_characters_that_heads_two_others_is_sent_and_they_are_counted() {
    let gateway = gateway();
    for severity in [Some(1), None] {
        let site = Site::nav("", &ways(&[gateway.addr], ""));
        let long = format!("{}!", "x".repeat(144));
        let first = site.insert("+4790000001", &long, severity);
        site.insert("+4790000001", "second", Some(2));
        site.insert("+4790000001", "third", Some(3));
        let before = gateway.accepted_count();
        let daemon = site.start();
        until("nothing waits", || (site.counts()[0] == 0).then_some(()));
        let taken = gateway.accepted();
        assert_eq!(taken.len(), before + 1, "one SMS");
        let text = &taken[before].text;
        match severity {
            // NAV loses all three.
            Some(_) => {
                assert_eq!(site.counts(), [0, 1, 2]);
                assert!(text.starts_with("xxxxxxxxxxxx") && text.ends_with(" +2 see web."), "{text}");
            }
            // It comes last here, and does not fit any more.
            None => {
                assert_eq!(text, "1: second; 2: third +1 see web.");
                assert_eq!(site.counts(), [0, 2, 1]);
                let show = site.json(&["queue", "show", &first.to_string()]);
                assert_eq!(show["alert"]["reason"], "squeezed", "{show}");
            }
        }
        assert!(text.chars().count() <= 160, "{text}");
        site.audit();
        daemon.stop();
    }
}

#[test]
fn answers_that_are_no_answers_lose_nothing() {
    use smsd::demo::gateway::Answer;
    let gateway = gateway();
    let faults = [
        Answer::Raw(b"HTTP/9.9 banana\r\n\r\n".to_vec()),
        Answer::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        Answer::Reset,
        Answer::Close,
        Answer::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 4096]),
    ];
    for (n, answer) in faults.iter().enumerate() {
        gateway.set_for(&format!("+4790000{:03}", n + 1), Behaviour::answering(answer.clone()));
    }
    let site = Site::nav("", &ways(&[gateway.addr], "timeout: 2s\ngrace: 0.5s"));
    site.insert_many(1, 50);
    let daemon = site.start();
    until_within(20, "those without a fault are sent", || (gateway.accepted_count() >= 45).then_some(()));
    for n in 1..=faults.len() {
        gateway.set_for(&format!("+4790000{n:03}"), Behaviour::ok());
    }
    until_within(30, "the others are sent, or wait for a person", || {
        let stats = site.json(&["queue", "stats"]);
        (stats["waiting"] == stats["held"]).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(site.counts()[2], 0, "nothing is given up");
    site.audit();
    daemon.stop();
}
