//! Gateways that fail: one number's trouble is its own, and an outage costs nothing.

use std::time::{Duration, Instant};

use super::bench::{Site, gateway, gateway_at, nobody_listens, until, until_within, ways};
use smsd::demo::gateway::{Answer, Behaviour};

/// Three failures within about a second.
const SHORT: &str = "delay: 0.2\ndelayfactor: 1\nretrylimit: 3\n";

#[test]
fn one_number_answered_500_for_ever_delays_nobody_and_is_ignored_after_its_own_limit() {
    let gateway = gateway();
    gateway.set_for("+4790000007", Behaviour::status(500));
    let site = Site::nav(SHORT, &ways(&[gateway.addr], ""));
    site.insert_many(1, 200);
    let started = Instant::now();
    let daemon = site.start();
    until_within(10, "all others are sent", || (gateway.accepted_count() == 199).then_some(()));
    assert!(started.elapsed() < Duration::from_secs(5), "nobody waits for it: {:?}", started.elapsed());
    until_within(60, "it is ignored", || (site.counts() == [0, 199, 1]).then_some(()));
    let id = site.sql("SELECT id FROM smsq WHERE sent = 'I'");
    let show = site.json(&["queue", "show", &id]);
    assert_eq!(
        (&show["alert"]["to"], &show["alert"]["reason"]),
        (&"+4790000007".into(), &"retry_limit".into())
    );
    assert!(show["attempts"].as_array().unwrap().len() >= 3, "{show}");
    assert_eq!(daemon.said("alerts ignored: "), 1);
    // The dispatcher is not blamed: the next ones leave at once.
    site.insert("+4790000500", "the next", None);
    until("the next is sent", || (gateway.accepted_count() == 200).then_some(()));
    site.audit();
    daemon.stop();
}

#[test]
fn a_gateway_down_for_longer_than_the_retry_limit_costs_nothing() {
    let addr = nobody_listens();
    let site = Site::nav(SHORT, &ways(&[addr], ""));
    site.insert_many(1, 200);
    let daemon = site.start().up();
    until("it is told", || (daemon.said("no dispatcher works") == 1).then_some(()));
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(site.counts(), [200, 0, 0], "nothing is given up");
    site.insert_many(201, 50);
    let gateway = gateway_at(addr);
    until_within(20, "all are sent", || (site.counts() == [0, 250, 0]).then_some(()));
    assert_eq!(site.account(&gateway.accepted()), 0);
    assert_eq!(daemon.said("no dispatcher works"), 1, "told once");
    assert_eq!(daemon.said("dispatcher works again"), 1, "told once");
    site.audit();
    daemon.stop();
}

#[test]
fn a_gateway_that_answers_everybody_503_for_longer_than_the_retry_limit_costs_nothing() {
    let gateway = gateway();
    gateway.set(Behaviour::status(503));
    let site = Site::nav(SHORT, &ways(&[gateway.addr], ""));
    site.insert_many(1, 200);
    let daemon = site.start().up();
    until("it is told", || (daemon.said("no dispatcher works") >= 1).then_some(()));
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(site.counts(), [200, 0, 0], "nothing is given up");
    let knocked = gateway.targets().len();
    assert!(knocked < 60, "it is left in peace: {knocked} requests");
    assert_eq!(daemon.said("no dispatcher works"), 1, "told once");
    gateway.set(Behaviour::ok());
    until_within(70, "all are sent", || (site.counts() == [0, 200, 0]).then_some(()));
    assert_eq!(site.account(&gateway.accepted()), 0);
    site.audit();
    daemon.stop();
}

#[test]
fn failover_when_the_primary_refuses_and_the_secondary_hangs_for_one_number() {
    let secondary = gateway();
    secondary.set_for("+4790000005", Behaviour::answering(Answer::Hang));
    let site = Site::nav("delay: 0.2", &ways(&[nobody_listens(), secondary.addr], "timeout: 3s\ngrace: 1s"));
    site.insert_many(1, 100);
    let started = Instant::now();
    let daemon = site.start();
    until_within(10, "all others are sent", || (secondary.accepted_count() == 99).then_some(()));
    assert!(started.elapsed() < Duration::from_secs(4), "within seconds: {:?}", started.elapsed());
    // What the hanging one means is not known: repeated once, marked as a possible duplicate, then it is a person's.
    until_within(30, "a person is asked", || (site.json(&["queue", "stats"])["held"] == 1).then_some(()));
    assert_eq!(site.counts(), [1, 99, 0]);
    let hanging = secondary.targets().iter().filter(|t| t.contains("4790000005")).count();
    assert_eq!(hanging, 2, "once and once more");
    assert_eq!(site.account(&secondary.accepted()), 0);
    let held = site.json(&["queue", "list", "--state", "held"]);
    assert_eq!(held[0]["to"], "+4790000005", "{held}");
    site.insert("+4790000005", "new alerts for it go on", None);
    secondary.set_for("+4790000005", Behaviour::ok());
    until("the new one is sent", || (secondary.accepted_count() == 100).then_some(()));
    site.audit();
    daemon.stop();
}

/// Asked again, it says what it said the first time, and sends nothing.
#[test]
fn a_gateway_that_knows_the_key_is_asked_again_byte_for_byte_before_any_other() {
    let (keyed, other) = (gateway(), gateway());
    let ways = format!(
        "[dispatcher]\ndispatcher1: keyed\ndispatcher2: gw\n\
         [keyed]\ntype: HttpDispatcher\nurl: http://{}/sms\nbody: {{\"to\": \"{{{{ phone }}}}\", \"text\": \"{{{{ text }}}}\"}}\n\
         idempotency: header Idempotency-Key\nidempotency_window: 1h\ntimeout: 0.5s\ngrace: 0.3s\n\
         [gw]\ntype: HttpGetDispatcher\nurl: http://{}/send?to=%(phone)s&text=%(sms)s\n",
        keyed.addr, other.addr
    );
    keyed.set(Behaviour::answering(Answer::Hang).taking());
    let site = Site::nav("", &ways);
    site.insert("+4790000001", "an alert", None);
    let daemon = site.start();
    until("it has heard it", || (keyed.heads().len() == 1).then_some(()));
    keyed.set(Behaviour::ok());
    until_within(30, "it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    let (heads, bodies) = (keyed.heads(), keyed.bodies());
    assert_eq!((heads.len(), &heads[0], &bodies[0]), (2, &heads[1], &bodies[1]));
    assert!(heads[0].to_lowercase().contains("idempotency-key: "), "{heads:?}");
    assert_eq!(other.accepted_count(), 0, "it would have been doubled there");
    assert_eq!(site.audit()["possible_duplicates"], 1, "all the same it is on record");
    daemon.stop();
}
