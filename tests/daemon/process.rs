//! The daemon as a process: background, pid file, signals, NAV's flags, the policies that end it.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::bench::{Daemon, Gateway, Site, gateway, gateway_that, nobody_listens, until, until_within, ways};
use crate::faults::Faults;
use smsd::demo::gateway::{Answer, Behaviour};

#[test]
fn it_goes_to_the_background_with_its_pid_in_the_pid_file_and_a_second_start_exits_3() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    let mut daemon = site.start_in_background();
    let pid = daemon.pid.to_string();
    assert_eq!(site.read("smsd.pid").trim(), pid);
    for args in [&[][..], &["-f"]] {
        let said = site.run(args);
        assert_eq!(said.code, 3, "{said:?}");
        said.names(&[&pid, "smsd.pid"]);
    }
    assert_eq!(site.read("smsd.pid").trim(), pid, "it is left as it was");
    site.insert("+4790000001", "from the background", None);
    until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    assert_eq!(daemon.said("SMS accepted"), 1, "the log stands in LOG_DIR");
    daemon.signal(Signal::SIGTERM);
    daemon.ended_within(10);
    assert!(!site.path("smsd.pid").exists());
    assert_eq!(daemon.said("stopped"), 1);
}

#[test]
fn a_faulty_file_changes_nothing_on_sighup_and_a_good_one_everything() {
    let (old, new) = (gateway(), gateway());
    let site = Site::nav("", &ways(&[old.addr], ""));
    let daemon = site.start().up();
    site.insert("+4790000001", "by the old one", None);
    until("it is sent", || (old.accepted_count() == 1).then_some(()));

    site.configure("delay: soon", &ways(&[new.addr], ""));
    daemon.signal(Signal::SIGHUP);
    until("it is refused", || (daemon.said("the old one stays") == 1).then_some(()));
    assert!(daemon.log().contains("smsd.conf:4") && daemon.log().contains("delay"), "{}", daemon.log());
    site.insert("+4790000002", "still by the old one", None);
    until("it is sent", || (old.accepted_count() == 2).then_some(()));
    assert_eq!(daemon.said("the old one stays"), 1, "told once");

    site.configure("", &ways(&[new.addr], ""));
    daemon.signal(Signal::SIGHUP);
    until("it is taken", || (daemon.said("configuration reread") == 1).then_some(()));
    site.insert("+4790000003", "by the new one", None);
    until("it is sent", || (new.accepted_count() == 1).then_some(()));
    assert_eq!(old.accepted_count(), 2);
    daemon.stop();
}

#[test]
fn a_renamed_log_is_left_and_a_new_one_opened_on_sighup() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    let daemon = site.start_in_background();
    until("it is up", || (daemon.said("started") == 1).then_some(()));
    fs::rename(site.path("smsd.log"), site.path("smsd.log.1")).unwrap();
    site.insert("+4790000001", "into the old one", None);
    until("it is logged", || site.read("smsd.log.1").contains("+4790000001").then_some(()));
    daemon.signal(Signal::SIGHUP);
    until("a new log is there", || site.path("smsd.log").exists().then_some(()));
    site.insert("+4790000002", "into the new one", None);
    until("it is logged", || site.read("smsd.log").contains("+4790000002").then_some(()));
    assert!(!site.read("smsd.log.1").contains("+4790000002"));
    daemon.signal(Signal::SIGTERM);
    until("it is gone", || (!site.path("smsd.pid").exists()).then_some(()));
}

#[test]
fn sigterm_in_mid_drain_finishes_what_is_on_its_way_and_nothing_more() {
    let gateway = gateway_that(Behaviour::ok().delay(Duration::from_millis(300)));
    let site = Site::nav("concurrency: 8", &ways(&[gateway.addr], ""));
    site.insert_many(1, 500);
    let mut daemon = site.start();
    until("the drain is under way", || (gateway.accepted_count() >= 16).then_some(()));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended_within(10), Some(0));
    let taken = gateway.accepted_count();
    assert!((16..=16 + 24).contains(&taken), "no new work: {taken}");
    assert_eq!(site.counts(), [500 - taken, taken, 0], "what was taken is settled");
    let stats = site.json(&["queue", "stats"]);
    assert_eq!([&stats["open"], &stats["in_doubt"], &stats["held"]], [0, 0, 0], "{stats}");
    assert_eq!(site.account(&gateway.accepted()), 0);
    site.audit();
    gateway.set(Behaviour::ok());
    let daemon = site.start();
    until("the rest is sent", || (site.counts() == [0, 500, 0]).then_some(()));
    assert_eq!(gateway.accepted_count(), 500, "nothing twice");
    daemon.stop();
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_what_was_on_its_way_is_in_doubt() {
    let gateway = gateway_that(Behaviour::answering(Answer::Hang).taking());
    let site = Site::nav("", &ways(&[gateway.addr], "grace: 0.2s"));
    site.insert("+4790000001", "hangs", None);
    let mut daemon = site.start();
    until("it is on its way", || (gateway.accepted_count() == 1).then_some(()));
    daemon.signal(Signal::SIGTERM);
    until("it stops in peace", || (daemon.said("stopping") == 1).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    assert!(daemon.runs(), "it waits for what is on its way");
    let again = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.ended_within(5);
    assert!(again.elapsed() < Duration::from_secs(2), "{:?}", again.elapsed());
    assert_eq!(site.counts(), [1, 0, 0]);
    site.audit();

    gateway.set(Behaviour::ok());
    let daemon = site.start();
    until("it is resent", || (site.counts() == [0, 1, 0]).then_some(()));
    assert_eq!(site.account(&gateway.accepted()), 1, "twice, and on record");
    daemon.stop();
}

#[test]
fn cancel_ignores_all_that_waits_and_says_how_many() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    site.insert_many(1, 7);
    let said = site.run(&["-c"]);
    assert_eq!((said.code, &*said.out), (0, "7 alerts cancelled\n"), "{}", said.err);
    assert_eq!(site.counts(), [0, 0, 7]);
    assert_eq!(site.sql("SELECT count(*) FROM smsq WHERE timesent IS NULL"), "0");
    let daemon = site.start();
    site.insert("+4790000099", "after that", None);
    until("it is sent", || (site.counts() == [0, 1, 7]).then_some(()));
    assert_eq!(gateway.accepted_count(), 1);
    site.audit();
    daemon.stop();
}

#[test]
fn a_test_message_goes_straight_through_or_into_the_queue() {
    let gateway = gateway_that(Behaviour::ok().body("42"));
    let site = Site::nav("", &ways(&[nobody_listens(), gateway.addr], ""));
    let said = site.run(&["-t", "+4790000001"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("gw2"), "{said:?}");
    said.names(&["gw1: unavailable"]);
    let taken = gateway.accepted();
    assert_eq!((&*taken[0].phone, &*taken[0].text), ("+4790000001", "This is a test message from NAV smsd."));
    assert_eq!(site.run(&["-t", "+4790000001", "--message", "ahoy, æ", "-u", "1"]).code, 0);
    assert_eq!(gateway.accepted()[1].text, "ahoy, æ");
    assert_eq!(site.counts(), [0, 0, 0], "nothing of this stands in the queue");

    let said = site.run(&["-T", "+4790000002"]);
    assert_eq!(said.code, 2, "{said:?}");
    said.names(&["-u"]);
    let said = site.run(&["-T", "+4790000002", "-u", "999"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.names(&["no such account"]);
    let said = site.run(&["-T", "+4790000002", "-u", "2", "--message", "queued"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(site.sql("SELECT accountid, phone, msg, sent, severity FROM smsq"), "2|+4790000002|queued|N|");
    let daemon = site.start();
    until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    daemon.stop();

    let none = Site::nav("", &ways(&[nobody_listens(), nobody_listens()], ""));
    let said = none.run(&["-t", "+4790000001"]);
    assert_eq!((said.code, &*said.out), (1, ""), "{said:?}");
    said.names(&["gw1: unavailable", "gw2: unavailable"]);
}

#[test]
fn retrylimitaction_shutdown_stops_with_everything_still_waiting() {
    let gateway = gateway();
    gateway.set_for("+4790000003", Behaviour::status(500));
    let keys = "delay: 0.2\ndelayfactor: 1\nretrylimit: 3\nretrylimitaction: shutdown";
    let site = Site::nav(keys, &ways(&[gateway.addr], ""));
    site.insert_many(1, 10);
    let mut daemon = site.start();
    assert_eq!(daemon.ended_within(30), Some(1), "{}", daemon.log());
    assert_eq!(site.counts(), [1, 9, 0]);
    assert!(daemon.log().contains("+4790000003"), "{}", daemon.log());
    assert!(!site.path("smsd.pid").exists());
    site.audit();

    // An outage of everything counts too, as in NAV.
    let site = Site::nav(keys, &ways(&[nobody_listens()], ""));
    site.insert_many(1, 3);
    let mut daemon = site.start();
    assert_eq!(daemon.ended_within(30), Some(1), "{}", daemon.log());
    assert_eq!(site.counts(), [3, 0, 0]);
}

#[test]
fn exit_on_permanent_error_says_whether_it_stays_when_every_dispatcher_needs_a_person() {
    let gateway = gateway_that(Behaviour::status(401));
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    site.insert_many(1, 3);
    let mut daemon = refused_for_ten_minutes(&site, &gateway);
    assert_eq!(daemon.ended_within(20), Some(1), "{}", daemon.log());
    assert_eq!(site.counts(), [3, 0, 0]);
    assert!(daemon.log().contains("gw1") && daemon.log().contains("401"), "{}", daemon.log());

    site.configure("exit_on_permanent_error: no", &ways(&[gateway.addr], ""));
    let daemon = refused_for_ten_minutes(&site, &gateway);
    until("it is told", || (daemon.said("it needs a person") == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.runs());
    assert_eq!(site.counts(), [3, 0, 0]);
    // SIGHUP after the repair, as an operator would: no need to wait for the next probe.
    gateway.set(Behaviour::ok());
    daemon.signal(Signal::SIGHUP);
    until_within(20, "all are sent", || (site.counts() == [0, 3, 0]).then_some(()));
    daemon.stop();
}

/// A daemon whose clock has gone on for more than ten minutes, with each probe and each SMS on trial in its time.
fn refused_for_ten_minutes(site: &Site, gateway: &Gateway) -> Daemon {
    let faults = Faults::new();
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, None);
    let daemon = site.spawn(command);
    let mut ahead = 0;
    until("it needs a person", || (daemon.said("it needs a person") == 1).then_some(()));
    for pause in [31, 61, 121, 301, 100] {
        assert!(daemon.runs(), "too soon, after {ahead} s: {}", daemon.log());
        let before = gateway.targets().len();
        ahead += pause;
        faults.set_uptime_ahead(ahead);
        if pause != 100 {
            until("it is tried again", || (gateway.targets().len() > before).then_some(()));
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    daemon
}

#[test]
fn why_it_ended_in_the_background_stands_in_the_log() {
    let site = Site::embedded("", &ways(&[nobody_listens()], ""));
    site.write("queue.db", &"this is no database at all. ".repeat(100));
    assert_eq!(site.run(&[]).code, 0, "the terminal is left before the queue is opened");
    until("the log says why", || site.read("smsd.log").contains("the queue can not be opened").then_some(()));

    let gateway = gateway_that(Behaviour::status(503));
    let site = Site::embedded("retrylimit: 1\nretrylimitaction: shutdown", &ways(&[gateway.addr], ""));
    let mut daemon = site.start_in_background();
    assert_eq!(site.run(&["send", "--to", "+4790000001", "down"]).code, 0);
    until("the log says why", || (daemon.said("retrylimitaction is shutdown") > 0).then_some(()));
    daemon.ended_within(10);
}
