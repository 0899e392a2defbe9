//! A queue class that a site wrote for NAV's smsd, unchanged: mirrored, with everything that the embedded queue has.

use std::fs;
use std::time::Duration;

use rusqlite::Connection;
use smsd::demo::gateway::Behaviour;

use super::admin_mail::{Mails, keys, subject};
use super::bench::{Gateway, Site, gateway_that, give, until, until_within, ways};

const CLASS: &str = include_str!("python_queue/file_queue.py");

/// A site whose alerts wait in the class's file.
struct Elsewhere {
    site: Site,
    file: Connection,
}

impl Elsewhere {
    fn new(main: &str, gateway: &Gateway, way: &str) -> Elsewhere {
        let queue = "[queue]\ntype: PythonQueue\nmodule: file_queue\nclass: FileQueue\npython_path: .\npoll_interval: 50ms\n";
        let site = Site::embedded(main, &format!("{queue}{}", ways(&[gateway.addr], way)));
        site.write("file_queue.py", CLASS);
        let file = Connection::open(site.path("messages.db")).unwrap();
        file.busy_timeout(Duration::from_secs(30)).unwrap();
        file.execute_batch(
            "PRAGMA journal_mode = WAL;
            CREATE TABLE smsq (id PRIMARY KEY, accountid, phone, msg, severity, smsid,
                sent DEFAULT 'N', time DEFAULT (strftime('%Y-%m-%d %H:%M', 'now')))",
        )
        .unwrap();
        for name in ["messages.db", "messages.db-wal", "messages.db-shm"] {
            give(&site.path(name));
        }
        Elsewhere { site, file }
    }

    fn insert(&self, id: &str, phone: &str, msg: &str, severity: Option<i32>) {
        let sql = "INSERT INTO smsq (id, phone, msg, severity) VALUES (?, ?, ?, ?)";
        self.file.execute(sql, (id, phone, msg, severity)).unwrap();
    }

    fn insert_many(&mut self, count: usize) {
        let all = self.file.transaction().unwrap();
        for n in 1..=count {
            let sql = "INSERT INTO smsq (id, phone, msg) VALUES (?, ?, ?)";
            all.execute(sql, (n as i64, format!("+47{}", 90_000_000 + n), format!("alert {n}"))).unwrap();
        }
        all.commit().unwrap();
    }

    fn set(&self, sql: &str) {
        assert!(self.file.execute(sql, ()).unwrap() > 0, "{sql}");
    }

    /// `sent` and `smsid` of one.
    fn told(&self, id: &str) -> (String, Option<i64>) {
        let sql = "SELECT sent, smsid FROM smsq WHERE id = ?";
        self.file.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    fn count(&self, sent: &str) -> usize {
        let sql = "SELECT count(*) FROM smsq WHERE sent = ?";
        self.file.query_row(sql, [sent], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
    }
}

#[test]
fn what_waits_in_the_class_goes_out_and_the_class_is_told() {
    let gateway = gateway_that(Behaviour::ok().body("OK 4711"));
    let place = Elsewhere::new("", &gateway, "success: OK (.*)");
    place.insert("minor", "+4799999901", "second", Some(4));
    place.insert("major", "+4799999901", "first", Some(1));
    place.insert("long", "+4799999902", &"x".repeat(159), None);
    place.insert("squeezed", "+4799999902", "y", Some(2));
    place.insert("nobody", "abc", "no number", None);
    let daemon = place.site.start();
    until("all are told", || (place.count("N") == 0).then_some(()));
    let texts: Vec<String> = gateway.accepted().iter().map(|sms| sms.text.clone()).collect();
    assert!(texts.contains(&"1: first; 2: second".to_owned()), "{texts:?}");
    assert!(texts.contains(&"y +1 see web.".to_owned()), "{texts:?}");
    assert_eq!(texts.len(), 2);
    let yes = ("Y".to_owned(), Some(4711));
    assert_eq!(
        [place.told("minor"), place.told("major"), place.told("squeezed")],
        [yes.clone(), yes.clone(), yes]
    );
    assert_eq!((place.told("long").0, place.told("nobody").0), ("I".to_owned(), "I".to_owned()));
    // What is put in later goes out, too, under a key of any type.
    place.file.execute("INSERT INTO smsq (id, phone, msg) VALUES (17, '+4799999903', 'later')", ()).unwrap();
    until("it is told", || (place.count("N") == 0).then_some(()));
    assert_eq!(gateway.accepted().last().unwrap().text, "later");
    place.site.audit();
    daemon.stop();
}

#[test]
fn killed_at_random_moments_it_loses_nothing_and_tells_everything() {
    const ALERTS: usize = 600;
    let gateway = gateway_that(Behaviour::ok().delay(Duration::from_millis(10)));
    let mut place = Elsewhere::new("concurrency: 8\ndelay: 2", &gateway, "grace: 0.2s");
    place.insert_many(ALERTS);
    for n in 1..=6 {
        let daemon = place.site.start();
        let target = gateway.accepted_count() + fastrand::usize(1..ALERTS / 8);
        until_within(30, "so many are sent", || (gateway.accepted_count() >= target).then_some(()));
        daemon.kill();
        assert!(gateway.accepted_count() < ALERTS, "kill {n} came too late");
    }
    let daemon = place.site.start();
    // One that two kills in a row have left in doubt waits for a person.
    let held = || place.site.json(&["queue", "list", "--state", "held"]).as_array().unwrap().len();
    until_within(60, "all are told", || (place.count("Y") + held() == ALERTS).then_some(()));
    assert_eq!(place.site.audit()["alerts"], ALERTS, "each was taken over once");
    let twice = place.site.account(&gateway.accepted());
    assert!(twice <= 6 * 8, "{twice}");
    daemon.stop();
}

#[test]
fn a_class_that_fails_is_told_once_and_what_was_taken_over_goes_out() {
    let gateway = gateway_that(Behaviour::status(503));
    let place = Elsewhere::new("", &gateway, "");
    place.insert("a", "+4799999901", "an alert", None);
    let daemon = place.site.start();
    let stats = || place.site.json(&["queue", "stats"]);
    until("it is taken over", || (stats()["waiting"] == 1).then_some(()));
    place.site.write("gone", "");
    until("it is said", || (daemon.said("gone fishing") == 1).then_some(()));
    gateway.set(Behaviour::ok());
    until_within(30, "it is sent", || (stats()["sent"] == 1).then_some(()));
    assert_eq!(place.told("a").0, "N", "nobody can be told");
    assert_eq!(daemon.said("gone fishing"), 1, "once: {}", daemon.log());
    fs::remove_file(place.site.path("gone")).unwrap();
    until("it is told", || (place.told("a").0 == "Y").then_some(()));
    until("that is said", || (daemon.said("the queue elsewhere answers again") == 1).then_some(()));
    daemon.stop();
}

#[test]
fn that_a_class_fails_is_mailed() {
    let (gateway, mails) = (gateway_that(Behaviour::ok()), Mails::server(&["plain"]));
    let place = Elsewhere::new(&keys(mails.port, ""), &gateway, "");
    place.site.write("gone", "");
    let daemon = place.site.start();
    let mail = mails.next();
    assert!(subject(&mail).ends_with("the queue elsewhere does not answer"), "{mail}");
    daemon.stop();
}

#[test]
fn what_people_do_on_either_side_is_done_on_the_other() {
    let gateway = gateway_that(Behaviour::status(503));
    let place = Elsewhere::new("delay: 1", &gateway, "");
    for id in ["there", "deleted", "here", "sent"] {
        place.insert(id, &format!("+479999990{}", id.len()), id, None);
    }
    let daemon = place.site.start();
    let list =
        |state: &str| place.site.json(&["queue", "list", "--state", state]).as_array().unwrap().clone();
    let texts = |state: &str| -> Vec<String> {
        let mut texts: Vec<String> =
            list(state).iter().map(|a| a["text"].as_str().unwrap().to_owned()).collect();
        texts.sort();
        texts
    };
    until("all are taken over", || (list("waiting").len() == 4).then_some(()));
    place.set("UPDATE smsq SET sent = 'I' WHERE id = 'there'");
    place.set("DELETE FROM smsq WHERE id = 'deleted'");
    until("both are cancelled here", || (texts("ignored") == ["deleted", "there"]).then_some(()));
    // A class that could not look, and said that nothing waits, takes no alert with it.
    place.set("UPDATE smsq SET sent = 'N' WHERE id = 'there'");
    until("it waits again", || (list("waiting").len() == 3).then_some(()));
    place.set("UPDATE smsq SET sent = 'I' WHERE id = 'there'");
    until("it is cancelled again", || (texts("ignored") == ["deleted", "there", "there"]).then_some(()));
    let here = list("waiting").iter().find(|a| a["text"] == "here").unwrap()["id"].to_string();
    assert_eq!(place.site.run(&["queue", "cancel", &here]).code, 0);
    until("it is cancelled there", || (place.told("here").0 == "I").then_some(()));
    gateway.set(Behaviour::ok());
    until_within(30, "the last one is sent", || (place.told("sent").0 == "Y").then_some(()));

    // It waits again there as well before it is sent again.
    gateway.set(Behaviour::status(503));
    assert_eq!(place.site.run(&["queue", "requeue", &here]).code, 0);
    until("it waits there", || (place.told("here").0 == "N").then_some(()));
    gateway.set(Behaviour::ok());
    until_within(30, "it is sent", || (place.told("here").0 == "Y").then_some(()));
    assert_eq!(gateway.accepted_count(), 2);

    // A class that forgets what it was told makes no storm; a key that is another alert's by now is that alert's.
    place.set("UPDATE smsq SET sent = 'N' WHERE id = 'sent'");
    until("it is said", || (daemon.said("was told how this alert ended") == 1).then_some(()));
    place.set("UPDATE smsq SET sent = 'N', msg = 'another' WHERE id = 'here'");
    until_within(30, "the other is sent", || (place.told("here").0 == "Y").then_some(()));
    let sent: Vec<String> = gateway.accepted().iter().map(|sms| sms.text.clone()).collect();
    assert_eq!(sent, ["sent", "here", "another"]);
    assert_eq!(daemon.said("was told how this alert ended"), 1, "once");
    place.site.audit();
    daemon.stop();
}

#[test]
fn alerts_of_which_the_class_will_not_hear_hold_up_no_other() {
    let gateway = gateway_that(Behaviour::ok());
    let place = Elsewhere::new("", &gateway, "");
    for n in 1..=5 {
        place.insert(&format!("poison{n}"), &format!("+479999990{n}"), "an alert", None);
    }
    let daemon = place.site.start();
    until("they are sent", || (gateway.accepted_count() == 5).then_some(()));
    place.insert("good", "+4799999909", "another", None);
    until("it is sent and told", || (place.told("good").0 == "Y").then_some(()));
    assert_eq!((gateway.accepted_count(), place.count("N")), (6, 5));
    assert_eq!(daemon.said("KeyError"), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn navs_flags_reach_the_class() {
    let gateway = gateway_that(Behaviour::ok());
    let place = Elsewhere::new("", &gateway, "");
    let said = place.site.run(&["-T", "+4799999901", "-u", "7", "--message", "a test"]);
    assert_eq!(said.code, 0, "{said:?}");
    let sql = "SELECT accountid, phone, msg FROM smsq";
    let row: (i64, String, String) =
        place.file.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(row, (7, "+4799999901".into(), "a test".into()));
    place.insert("more", "+4799999902", "more", None);
    let said = place.site.run(&["-c"]);
    assert_eq!((said.code, &*said.out), (0, "2 alerts cancelled\n"), "{said:?}");
    assert_eq!(place.count("I"), 2);
    let probed = place.site.json(&["check", "--probe"]);
    assert_eq!(probed["queue"]["up"], true, "{probed}");
    place.site.write("gone", "");
    let probed = place.site.json(&["check", "--probe"]);
    assert_eq!(probed["queue"]["up"], false, "{probed}");
    assert!(probed["queue"]["reason"].as_str().unwrap().contains("gone fishing"), "{probed}");
    let said = place.site.run(&["-T", "+4799999901"]);
    assert_eq!(said.code, 1);
    said.names(&["file_queue.FileQueue", "gone fishing"]);
    place.site.write("file_queue.py", "import nowhere\n");
    let said = place.site.run(&["-c"]);
    assert_eq!(said.code, 1);
    said.names(&["file_queue.FileQueue", "nowhere"]);
}

#[test]
fn what_the_class_forgot_and_lists_again_is_marked_when_it_is_sent_again() {
    let gateway = gateway_that(Behaviour::ok());
    let place = Elsewhere::new("delay: 1", &gateway, "");
    place.insert("a", "+4799999901", "an alert", None);
    let daemon = place.site.start();
    until("it is told", || (place.told("a").0 == "Y").then_some(()));
    // An hour later.
    let queue = Connection::open(place.site.path("queue.db")).unwrap();
    queue.busy_timeout(Duration::from_secs(30)).unwrap();
    queue.execute("UPDATE origin SET taken_at = 1", ()).unwrap();
    place.set("UPDATE smsq SET sent = 'N'");
    until_within(30, "it is sent again", || (gateway.accepted_count() == 2).then_some(()));
    until("it is told again", || (place.told("a").0 == "Y").then_some(()));
    let stories = [place.site.json(&["why", "1"]), place.site.json(&["why", "2"])];
    let marked = |story: &serde_json::Value| story["attempts"][0]["possible_duplicate"].clone();
    assert_eq!(stories.each_ref().map(marked), [false.into(), serde_json::Value::from(true)], "{stories:?}");
    for (story, other) in stories.iter().zip(["alert 2", "alert 1"]) {
        let note = story["notes"][0]["detail"].as_str().unwrap();
        assert!(note.contains(other), "each story leads to the other: {note}");
    }
    assert_eq!(place.site.json(&["queue", "stats"])["possible_duplicates"], 1);
    place.site.audit();
    daemon.stop();
}

#[test]
fn a_class_that_hangs_on_hearing_delays_no_new_alert() {
    let gateway = gateway_that(Behaviour::ok());
    let place = Elsewhere::new("", &gateway, "");
    let hears = "    def setsentstatus(self, identifier, sent, smsid=0):\n";
    let hangs =
        "        while str(identifier).startswith(\"hang\"):\n            __import__(\"time\").sleep(1)\n";
    assert!(CLASS.contains(hears));
    place.site.write("file_queue.py", &CLASS.replace(hears, &format!("{hears}{hangs}")));
    place.insert("hang", "+4799999901", "an alert", None);
    let daemon = place.site.start();
    until_within(30, "it is sent", || (gateway.accepted_count() == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    place.insert("new", "+4799999902", "another", None);
    until_within(15, "the new one is sent", || (gateway.accepted_count() == 2).then_some(()));
    assert_eq!(
        (place.told("hang").0, place.told("new").0),
        ("N".to_owned(), "N".to_owned()),
        "it still hangs"
    );
    place.insert("newer", "+4799999903", "another", None);
    until_within(15, "the newer one is sent", || (gateway.accepted_count() == 3).then_some(()));
    daemon.stop();
}
