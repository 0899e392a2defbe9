//! Mails to the admin, at a mail server that others wrote, and at some that misbehave.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use smsd::demo::gateway::Behaviour;

use super::bench::{Site, gateway, gateway_at, nobody_listens, until, until_within, ways};
use crate::peers::Peer;

/// The mails that the server has taken, as they come.
pub(super) struct Mails {
    taken: Receiver<Value>,
    pub(super) port: u16,
    _server: Peer,
}

impl Mails {
    pub(super) fn server(args: &[&str]) -> Mails {
        let mut peer = Peer::start("smtp_server.py", args);
        let (to, mails) = channel();
        let said = peer.said.take().unwrap();
        // Ends with the server.
        std::thread::spawn(move || {
            for line in said.map_while(Result::ok) {
                let _ = to.send(serde_json::from_str(&line).unwrap());
            }
        });
        Mails { taken: mails, port: peer.port, _server: peer }
    }

    #[track_caller]
    pub(super) fn next(&self) -> Value {
        self.taken.recv_timeout(Duration::from_secs(30)).expect("a mail")
    }

    fn none_within(&self, time: Duration) {
        let mail = self.taken.recv_timeout(time);
        assert!(mail.is_err(), "{mail:?}");
    }
}

pub(super) fn subject(mail: &Value) -> &str {
    mail["headers"]["Subject"].as_str().unwrap()
}

fn text(mail: &Value) -> &str {
    mail["text"].as_str().unwrap()
}

/// Keys of [main].
pub(super) fn keys(port: u16, more: &str) -> String {
    format!(
        "mailserver: 127.0.0.1:{port}\nmailaddr: noc@example.org\nfromaddr: smsd <smsd@example.org>\n{more}"
    )
}

#[test]
fn a_gateway_that_is_down_is_one_mail_at_once_and_what_follows_waits_for_the_minute() {
    let mails = Mails::server(&["plain"]);
    let addr = nobody_listens();
    let site = Site::embedded(&keys(mails.port, "delay: 0.2"), &ways(&[addr], ""));
    let mut command = site.command(&["send", "a word of an alert"]);
    // As many as it takes to see that it is not theirs.
    let numbers: Vec<String> = (1..=5).map(|n| format!("+479000000{n}")).collect();
    command.args(numbers.iter().flat_map(|number| ["--to", number]));
    assert!(command.stdout(std::process::Stdio::null()).status().unwrap().success());
    let daemon = site.start().up();
    until("it is down", || (daemon.said("no dispatcher works") == 1).then_some(()));
    let begun = Instant::now();
    let mail = mails.next();
    assert!(begun.elapsed() < Duration::from_secs(5), "at once: {:?}", begun.elapsed());
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert!(subject(&mail).starts_with(&format!("smsd {host}: no dispatcher works")), "{mail}");
    assert!(subject(&mail).ends_with(" (+1 more)"), "{mail}");
    assert!(text(&mail).contains("dispatcher gw1 is down"), "{mail}");
    assert!(!mail.to_string().contains("a word of an alert"), "it was not given up: {mail}");
    let head = &mail["headers"];
    assert_eq!((&head["To"], &head["Auto-Submitted"]), (&"noc@example.org".into(), &"auto-generated".into()));
    assert_eq!(
        (&head["From"], &mail["sender"]),
        (&"smsd <smsd@example.org>".into(), &"smsd@example.org".into())
    );
    assert!(head["Message-ID"].as_str().unwrap().ends_with("@example.org>"), "{mail}");
    let date =
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(head["Date"].as_str().unwrap()).unwrap();
    assert!(jiff::Timestamp::now().duration_since(date).as_secs().abs() < 60, "{mail}");

    // It comes back; that is told, but not before the minute is over.
    let back = gateway_at(addr);
    until("it is sent", || (back.accepted_count() == 5).then_some(()));
    until("it works again", || (daemon.said("dispatcher works again") == 1).then_some(()));
    mails.none_within(Duration::from_secs(20));
    let mail = mails.taken.recv_timeout(Duration::from_secs(50)).expect("the second mail");
    assert!(begun.elapsed() > Duration::from_secs(55), "{:?}", begun.elapsed());
    assert!(
        subject(&mail).contains("a dispatcher works again") && text(&mail).contains("gw1 works again"),
        "{mail}"
    );
    daemon.stop();
}

#[test]
fn an_alert_that_is_given_up_is_mailed_with_its_text_and_the_name_of_its_account() {
    let gateway = gateway();
    gateway.set_for("+4791999999", Behaviour::status(500));
    gateway.set_for("+4791999998", Behaviour::status(400));
    let mails = Mails::server(&["plain"]);
    let main = keys(mails.port, "delay: 0.2\ndelayfactor: 1\nretrylimit: 2");
    let site = Site::nav(&main, &ways(&[gateway.addr], "class.400: RCPT"));
    let daemon = site.start().up();
    // Others are served while it fails, so its failures are its own.
    let id = site.insert("+4791999999", "boxDown bb-gw: på linja\r\nSubject: x", Some(1));
    site.insert("+4791999998", "no such number", Some(2));
    site.insert("12x", "no number at all", Some(2));
    let mut n = 0;
    until("it is given up", || {
        n += 1;
        site.insert(&format!("+47900{n:05}"), "another", None);
        std::thread::sleep(Duration::from_millis(100));
        (site.counts()[2] == 3).then_some(())
    });
    // The first mail went when the first of them was given up; the others wait for the minute, or the stop.
    let log = daemon.log();
    daemon.stop();
    let mut told = vec![mails.next()];
    while let Ok(mail) = mails.taken.recv_timeout(Duration::from_secs(2)) {
        told.push(mail);
    }
    let all: String = told.iter().map(text).collect::<Vec<_>>().join("\n");
    assert!(
        all.contains(&format!(
            r#"{id}: "boxDown bb-gw: på linja\r\nSubject: x" --> Ann Admin (admin), +4791999999"#
        )),
        "{all}"
    );
    for what in [
        r#""no such number" --> Ann Admin (admin), +4791999998"#,
        r#""no number at all" --> Ann"#,
        "retry limit",
    ] {
        assert!(all.contains(what), "{what}: {all}");
    }
    assert!(!all.contains("\"another\""), "what was sent is nobody's business: {all}");
    assert!(!log.contains("boxDown"), "{log}");
}

#[test]
fn a_held_sms_and_a_stop_at_the_retry_limit_are_mailed() {
    let gateway = gateway();
    gateway.set_for("+4791999999", Behaviour::status(500));
    gateway.set_for("+4791999998", Behaviour::answering(smsd::demo::gateway::Answer::Hang));
    let mails = Mails::server(&["plain"]);
    let more = "delay: 0.2\ndelayfactor: 1\nretrylimit: 2\nretrylimitaction: shutdown\non_unknown: hold\nsubmit_timeout: 1";
    let site = Site::embedded(&keys(mails.port, more), &ways(&[gateway.addr], ""));
    let mut daemon = site.start().up();
    assert_eq!(site.run(&["send", "--to", "+4791999998", "in doubt"]).code, 0);
    let mail = mails.next();
    assert!(
        text(&mail).contains("an SMS to +4791999998 is held: a person must say whether it came"),
        "{mail}"
    );
    assert!(!text(&mail).contains("in doubt\""), "{mail}");

    // The minute is not over: what waits is told when smsd stops.
    assert_eq!(site.run(&["send", "--to", "+4791999999", "fails"]).code, 0);
    let mut n = 0;
    until("it stops", || {
        n += 1;
        site.run(&["send", "--to", &format!("+47900{n:05}"), "another"]);
        (!daemon.runs()).then_some(())
    });
    assert_eq!(daemon.ended_within(10), Some(1));
    let mail = mails.next();
    assert!(subject(&mail).contains("smsd stops: +4791999999 has failed"), "{mail}");
}

#[test]
fn a_storm_of_5000_ignored_alerts_is_a_few_mails_with_all_of_them_counted() {
    let gateway = gateway();
    let mails = Mails::server(&["plain"]);
    let site = Site::nav(&keys(mails.port, "autocancel: 1 hour"), &ways(&[gateway.addr], ""));
    site.sql(
        "INSERT INTO smsq (accountid, time, phone, msg) \
         SELECT 1, now(), 'nobody ' || n, 'alert ' || n FROM generate_series(1, 5000) n",
    );
    let daemon = site.start().up();
    until_within(60, "all are ignored", || (site.counts() == [0, 0, 5000]).then_some(()));
    let asked = Instant::now();
    daemon.stop();
    assert!(asked.elapsed() < Duration::from_secs(10));
    let (mut told, mut count) = (Vec::new(), 0);
    while let Ok(mail) = mails.taken.recv_timeout(Duration::from_secs(2)) {
        let words = subject(&mail).split_once(": ").unwrap().1.split(' ').next().unwrap().to_owned();
        count += words.parse::<u32>().unwrap_or(1);
        assert!(text(&mail).len() < 32 * 1024, "{}", text(&mail).len());
        told.push(mail);
    }
    assert_eq!(count, 5000, "{told:?}");
    assert!(told.len() <= 2, "the first, and the rest at the end: {}", told.len());
    assert!(text(&told[0]).contains(" --> Ann Admin (admin), nobody "), "{}", told[0]);
    assert_eq!(gateway.accepted_count(), 0);
}

/// A mail server that says so much and no more, for each connection.
fn server_that_says(lines: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut lines: VecDeque<&str> = lines.iter().copied().collect();
                let mut said = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(line) = lines.pop_front() {
                    if stream.write_all(format!("{line}\r\n").as_bytes()).is_err() {
                        return;
                    }
                    said.next();
                }
                // And now it is silent.
                for _ in said {}
            });
        }
    });
    addr
}

#[test]
fn a_mail_server_that_is_away_or_silent_or_refuses_is_told_once_and_holds_up_nothing() {
    let refusing: &[&str] = &["220 hi", "250 hi", "550 5.7.1 not from you"];
    for (addr, why) in [
        (nobody_listens(), "refused"),
        (server_that_says(&[]), "no answer in time"),
        (server_that_says(refusing), "550 5.7.1 not from you"),
    ] {
        let gateway = gateway();
        gateway.set_for("+4791999998", Behaviour::status(400));
        let site =
            Site::embedded(&keys(addr.port(), "delay: 0.2"), &ways(&[gateway.addr], "class.400: RCPT"));
        let daemon = site.start().up();
        assert_eq!(site.run(&["send", "--to", "+4791999998", "no such number"]).code, 0);
        until("it is refused", || (daemon.said("the alerts wait") == 1).then_some(()));
        std::thread::sleep(Duration::from_millis(1_500));
        let begun = Instant::now();
        for n in 0..20 {
            assert_eq!(site.run(&["send", "--to", &format!("+479000000{n:02}"), "goes"]).code, 0);
        }
        until("all are sent", || (gateway.accepted_count() == 20).then_some(()));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        if why != "no answer in time" {
            until("it is told", || (daemon.said("a mail to the admin was not taken") == 1).then_some(()));
            assert!(daemon.log().contains(why), "{}", daemon.log());
            // It is tried again after ten seconds, and not told again.
            if why == "refused" {
                std::thread::sleep(Duration::from_secs(12));
            }
            assert_eq!(daemon.said("a mail to the admin was not taken"), 1);
            // Through another server all of it is told at once.
            let mails = Mails::server(&["plain"]);
            site.configure(&keys(mails.port, "delay: 0.2"), &ways(&[gateway.addr], "class.400: RCPT"));
            daemon.signal(Signal::SIGHUP);
            let mail = mails.next();
            assert!(text(&mail).contains("\"no such number\" --> +4791999998"), "{mail}");
            until("that is told", || (daemon.said("mails to the admin are taken again") == 1).then_some(()));
        }
        let asked = Instant::now();
        daemon.stop();
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    }
}

#[test]
fn a_reload_changes_where_mails_go_and_a_refused_one_is_mailed() {
    let (gateway, mails) = (gateway(), Mails::server(&["plain", "login"]));
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    let said = site.run(&["check"]);
    assert!(said.out.contains("admin mail to nobody: set mailaddr in [main]"), "{said:?}");
    let daemon = site.start().up();
    until("it sends", || (daemon.said("started") == 1).then_some(()));
    // Nobody is mailed so far.
    site.configure("delay: many", "");
    daemon.signal(Signal::SIGHUP);
    until("it is refused", || (daemon.said("the old one stays") == 1).then_some(()));
    mails.none_within(Duration::from_secs(2));

    let nav = site.read("nav.conf");
    let login = "EMAIL_HOST_USER=alerter\nEMAIL_HOST_PASSWORD=secret\n";
    let server = format!("ADMIN_MAIL=admin@example.org\nEMAIL_HOST=127.0.0.1\nEMAIL_PORT={}\n", mails.port);
    site.write("nav.conf", &format!("{nav}{server}{login}DEFAULT_FROM_EMAIL=nav@example.org\n"));
    site.configure("mailwarnlevel: ERROR", &ways(&[gateway.addr], ""));
    let said = site.run(&["check", "--probe"]);
    let want = format!(
        "admin mail ERROR and graver to admin@example.org through 127.0.0.1:{}: logged in",
        mails.port
    );
    assert!(said.code == 0 && said.out.contains(&want), "{said:?}");
    daemon.signal(Signal::SIGHUP);
    until("it is read", || (daemon.said("configuration reread") == 1).then_some(()));
    site.configure("delay: many", "");
    daemon.signal(Signal::SIGHUP);
    let mail = mails.next();
    assert!(subject(&mail).ends_with(": the new configuration is faulty, the old one stays"), "{mail}");
    assert_eq!((&mail["user"], &mail["to"]), (&"alerter".into(), &serde_json::json!(["admin@example.org"])));
    assert!(!mail.to_string().contains("many"), "{mail}");
    daemon.stop();

    // Without the login nobody gets in, and check says so before a night does.
    site.write(
        "nav.conf",
        &format!("{nav}{server}EMAIL_HOST_USER=alerter\nEMAIL_HOST_PASSWORD=wr0ngs3cret\n"),
    );
    site.configure("", &ways(&[gateway.addr], ""));
    let said = site.run(&["check", "--probe"]);
    assert!(said.code != 0 && said.out.contains("535"), "{said:?}");
    assert!(!format!("{said:?}").contains("wr0ngs3cret"), "{said:?}");
    let probed = site.json(&["check", "--probe"]);
    assert_eq!((&probed["sound"], &probed["admin_mail"]["up"]), (&false.into(), &false.into()), "{probed}");
}
