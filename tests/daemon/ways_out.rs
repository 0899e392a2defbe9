//! A phone, an HTTP gateway and a mail gateway in one configuration of NAV's: what one can not send the next one does.

use std::collections::HashMap;
use std::thread::sleep;
use std::time::Duration;

use smsd::demo::gateway::Behaviour;

use super::bench::{Site, gateway, until, until_within};
use super::gammu::{command, gammurc, with_a_phone};
use crate::peers::Peer;

#[test]
fn the_phone_is_unplugged_in_mid_drain_then_the_gateway_fails_and_nothing_is_lost_or_doubled() {
    const EACH: usize = 40;
    let (gateway, mut mail) = (gateway(), Peer::start("smtp_server.py", &["plain"]));
    let ways = format!(
        "[dispatcher]\ndispatcher1: GammuDispatcher\ndispatcher2: HttpGetDispatcher\n\
         dispatcher3: UninettMailDispatcher\n\n[GammuDispatcher]\n\n\
         [HttpGetDispatcher]\nurl: http://{}/send?to=%(phone)s&text=%(sms)s\n\n\
         [UninettMailDispatcher]\nmailaddr: sms@gateway.example\n",
        gateway.addr
    );
    let site = with_a_phone(Site::nav("", &ways));
    let nav = site.read("nav.conf");
    site.write("nav.conf", &format!("{nav}EMAIL_HOST=127.0.0.1\nEMAIL_PORT={}\n", mail.port));
    let sound = site.read("gammu/config");

    let sent = |n: usize| site.counts() == [0, n, 0];
    site.insert_many(1, EACH);
    let daemon = site.spawn(command(&site, &["-f"])).up();
    until_within(30, "the phone is in mid-drain", || (site.counts()[1] > EACH / 4).then_some(()));
    assert!(site.counts()[1] < EACH, "the drain was over too soon to be disturbed");
    site.write("gammu/config", &gammurc(&site, "connection = at115200\nport = @DIR@/unplugged\n"));
    until_within(60, "the gateway has sent the rest", || sent(EACH).then_some(()));
    assert!(gateway.accepted_count() > 0);

    gateway.set(Behaviour::status(503));
    site.insert_many(EACH + 1, EACH);
    until_within(60, "the mail gateway has sent them", || sent(2 * EACH).then_some(()));

    site.write("gammu/config", &sound);
    // A probe finds it out, and the next SMS is its trial.
    let by_phone =
        || site.sql("SELECT count(*) FROM smsd.attempt WHERE state = 'accepted' AND dispatcher ~ 'Gammu'");
    let (before, mut inserted) = (by_phone(), 2 * EACH);
    until_within(90, "the phone is used again", || {
        inserted += 1;
        site.insert_many(inserted, 1);
        until("it is sent", || sent(inserted).then_some(()));
        sleep(Duration::from_millis(200));
        (by_phone() != before).then_some(())
    });

    let rows = site.sql("SELECT dispatcher, count(*) FROM smsd.attempt WHERE state = 'accepted' GROUP BY 1");
    let by: HashMap<&str, usize> = rows
        .lines()
        .map(|row| row.split_once('|').unwrap())
        .map(|(name, n)| (name, n.parse().unwrap()))
        .collect();
    assert_eq!((by.len(), by.values().sum::<usize>()), (3, inserted), "each once: {by:?}");
    assert_eq!(by["HttpGetDispatcher"], gateway.accepted_count(), "{by:?}");
    let mailed = by["UninettMailDispatcher"];
    assert!(mailed >= EACH, "{by:?}");
    let mut subjects: Vec<String> =
        (0..mailed).map(|_| mail.line()["headers"]["Subject"].to_string()).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), mailed, "another number each: {subjects:?}");
    assert_eq!(site.audit()["possible_duplicates"], 0);
    daemon.stop();
}
