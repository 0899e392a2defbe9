//! One answer is evidence and no verdict: what a gateway says of one SMS ends no alert, and no SMS goes out again and again.

use std::time::Duration;

use super::bench::{Gateway, Site, gateway, gateway_that, until, until_within, ways};
use smsd::demo::gateway::Behaviour;

const PHONES: [&str; 3] = ["+4790000001", "+4790000002", "+4790000003"];

/// Three alerts for each of three phones.
fn nine(site: &Site) {
    for phone in PHONES {
        (1..=3).for_each(|severity| _ = site.insert(phone, "down", Some(severity)));
    }
}

#[test]
fn nine_alerts_to_three_phones_outlive_a_gateway_that_refuses_everybody() {
    // 401 to 404 say that a person is needed, the others that the number or text is wrong.
    for statuses in [[400, 401, 413], [402, 422, 451], [403, 404, 418]] {
        std::thread::scope(|scope| {
            for status in statuses {
                scope.spawn(move || outlive(status));
            }
        });
    }
}

fn outlive(status: u16) {
    let gateway = gateway_that(Behaviour::status(status).body("sender blocked"));
    let site = Site::nav("delay: 1\nretrylimit: 2", &ways(&[gateway.addr], ""));
    nine(&site);
    let daemon = site.start().up();
    until("each was refused", || (gateway.targets().len() >= 3).then_some(()));
    until("it is told", || (daemon.said("no dispatcher works") == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(6));
    assert!(daemon.runs(), "{status}: {}", daemon.log());
    assert_eq!(site.counts(), [9, 0, 0], "{status}: nothing is given up");
    gateway.set(Behaviour::ok());
    // One that needs a person is asked after 30 s, and sooner after a reload.
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    until_within(40, "all leave when it is mended", || (site.counts() == [0, 9, 0]).then_some(()));
    assert_eq!(gateway.accepted_count(), 3, "one SMS for each");
    site.audit();
    daemon.stop();
}

#[test]
fn why_says_who_refused_what_waits_and_when_the_next_try_is_due() {
    let gateway = gateway_that(Behaviour::status(400).body("sender blocked"));
    let site = Site::nav("delay: 60", &ways(&[gateway.addr], ""));
    let id = site.insert(PHONES[0], "down", Some(1)).to_string();
    let daemon = site.start().up();
    until("it was refused", || (daemon.said("refused by every way out; the alerts wait") == 1).then_some(()));
    let why = site.run(&["why", &id]).out;
    for part in ["WAITING", "refused by every way out", "sender blocked", "The next try is due at"] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let json = site.json(&["why", &id]);
    assert_eq!(json["waits"]["why"], "refused", "{json}");
    assert!(
        json["waits"]["next_try_at"].is_string()
            && json["alert"]["id"].as_i64().is_some_and(|found| found.to_string() == id),
        "{json}"
    );
    assert_eq!(
        daemon.said("refused by every way out; the alerts wait"),
        1,
        "a change is told, and not each retry"
    );
    daemon.stop();
}

#[test]
fn one_bad_number_among_three_ends_at_its_own_limit_and_alone() {
    let gateway = gateway();
    gateway.set_for(PHONES[0], Behaviour::status(400).body("no such number"));
    let site =
        Site::nav("delay: 0.2\ndelayfactor: 1\nretrylimit: 3\ngroup_interval: 0", &ways(&[gateway.addr], ""));
    let bad = site.insert(PHONES[0], "down", Some(1));
    let daemon = site.start().up();
    let mut others = 0;
    until_within(60, "it has met its limit", || {
        PHONES[1..].iter().for_each(|phone| _ = site.insert(phone, "down", Some(3)));
        others += 2;
        std::thread::sleep(Duration::from_millis(100));
        (site.counts()[2] == 1).then_some(())
    });
    until("the others are sent", || (site.counts() == [0, others, 1]).then_some(()));
    let story = site.json(&["why", &bad.to_string()]);
    assert_eq!(story["alert"]["reason"], "rejected", "{story}");
    let attempts = story["attempts"].as_array().unwrap().len();
    assert!((3..=4).contains(&attempts), "three that count, and at most one that proved nothing: {story}");
    assert_eq!(daemon.said("dispatcher out of rotation"), 0, "{}", daemon.log());
    site.audit();
    daemon.stop();
}

/// How often an SMS was taken for this phone.
fn copies(gateway: &Gateway, phone: &str) -> usize {
    gateway.accepted().iter().filter(|sms| sms.phone == phone).count()
}

#[test]
fn a_gateway_that_sends_and_answers_500_texts_nobody_more_than_five_times_in_ten_minutes() {
    for status in [500, 502, 504] {
        let gateway = gateway_that(Behaviour::status(status).taking());
        let site = Site::nav("delay: 0.1\ndelayfactor: 1\ngroup_interval: 0", &ways(&[gateway.addr], ""));
        let id = site.insert(PHONES[0], "down", Some(1));
        let daemon = site.start().up();
        until("it went out five times", || (copies(&gateway, PHONES[0]) == 5).then_some(()));
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(copies(&gateway, PHONES[0]), 5, "{status}");
        let story = site.json(&["why", &id.to_string()]);
        let marked = |a: &&serde_json::Value| a["possible_duplicate"] == true;
        assert_eq!(
            story["attempts"].as_array().unwrap().iter().filter(marked).count(),
            4,
            "all on record: {story}"
        );
        assert_eq!(daemon.said("a second copy may have gone out"), 1, "told once, of the second");
        // What is new does not wait for it.
        gateway.set(Behaviour::ok());
        site.insert(PHONES[0], "another", Some(5));
        until_within(20, "the new one is sent", || (site.counts() == [1, 1, 0]).then_some(()));
        site.audit();
        daemon.stop();
    }
}
