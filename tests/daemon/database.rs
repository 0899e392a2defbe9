//! A PostgreSQL that goes away and comes back, or is not there yet, and two daemons on one table.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::bench::{Site, gateway, gateway_that, runtime, until, until_within, ways};
use crate::postgres::Server;
use smsd::demo::gateway::Behaviour;
use tokio_postgres::NoTls;

const GATEWAY_DELAY: Duration = Duration::from_millis(5);

#[test]
fn two_daemons_on_one_table_send_each_alert_once() {
    let gateway = gateway_that(Behaviour::ok().delay(GATEWAY_DELAY));
    let one = Site::nav("", &ways(&[gateway.addr], ""));
    let two = Site::on(one.db.clone().unwrap(), "", &ways(&[gateway.addr], ""));
    let daemons = [one.start().up(), two.start().up()];
    one.insert_many(1, 1000);
    until_within(60, "all are sent", || (one.counts() == [0, 1000, 0]).then_some(()));
    assert_eq!(gateway.accepted_count(), 1000);
    assert_eq!(one.account(&gateway.accepted()), 0, "nothing twice");
    assert_eq!(one.audit()["possible_duplicates"], 0);
    let shares = one.sql("SELECT count(*) FROM smsd.attempt GROUP BY instance");
    assert_eq!(shares.lines().count(), 2, "both worked: {shares}");
    for daemon in daemons {
        daemon.stop();
    }
}

#[test]
fn two_daemons_share_the_alerts_of_few_people_too() {
    let gateway = gateway_that(Behaviour::ok().delay(GATEWAY_DELAY));
    let one = Site::nav("delay: 1", &ways(&[gateway.addr], ""));
    let two = Site::on(one.db.clone().unwrap(), "delay: 1", &ways(&[gateway.addr], ""));
    let daemons = [one.start().up(), two.start().up()];
    for round in 0..5 {
        one.sql(&format!(
            "INSERT INTO smsq (accountid, time, phone, msg) \
             SELECT 1, now(), '+479000000' || n % 5, 'r{round}n' || n FROM generate_series(1, 20) n"
        ));
        sleep(Duration::from_millis(300));
    }
    until_within(60, "nothing waits", || (one.counts()[0] == 0).then_some(()));
    let taken = gateway.accepted();
    assert!(taken.iter().all(|sms| !sms.text.is_empty()));
    let rows = one.sql("SELECT id || ' ' || phone || ' ' || msg || ' ' || sent FROM smsq");
    for row in rows.lines() {
        let [_, phone, msg, sent] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let carries = |text: &str| {
            text.split("; ").any(|part| {
                let part = part.split_once(": ").map_or(part, |(_, part)| part);
                part.split(" +").next() == Some(msg)
            })
        };
        let times = taken.iter().filter(|sms| sms.phone == phone && carries(&sms.text)).count();
        assert_eq!(times, usize::from(sent == "Y"), "{row} in {taken:?}");
    }
    one.audit();
    for daemon in daemons {
        daemon.stop();
    }
}

/// PostgreSQL is stopped hard in mid-drain and started again after a while.
fn the_database_is_away_for(away: Duration) {
    let gateway = gateway_that(Behaviour::ok().delay(GATEWAY_DELAY));
    let server = Arc::new(Server::own(""));
    let site = Site::on(Arc::new(server.database()), "", &ways(&[gateway.addr], ""));
    site.insert_many(1, 3000);
    let daemon = site.start();
    until("the drain is under way", || (gateway.accepted_count() > 300).then_some(()));
    server.stop();
    let drained = gateway.accepted_count();
    assert!(drained < 2900, "the drain was over too soon to be disturbed: {drained}");
    sleep(away);
    let meanwhile = gateway.accepted_count() - drained;
    assert!(meanwhile <= 1000, "what was begun may be submitted, and no more: {meanwhile}");
    server.start();
    let drained = gateway.accepted_count();
    until_within(5, "it works again", || (gateway.accepted_count() > drained).then_some(()));
    until_within(60, "all are sent", || (site.counts() == [0, 3000, 0]).then_some(()));
    assert!(daemon.runs());
    assert_eq!(daemon.said("the queue does not answer"), 1, "told once");
    assert_eq!(daemon.said("the queue answers again"), 1, "told once");
    let twice = site.account(&gateway.accepted());
    let audit = site.audit();
    assert!(audit["possible_duplicates"].as_u64().unwrap() >= twice as u64, "{audit}");
    assert_eq!(twice, 0, "a lost database is no reason to resend");
    site.insert_many(3001, 10);
    until("the next ones are sent", || (site.counts() == [0, 3010, 0]).then_some(()));
    daemon.stop();
}

#[test]
fn postgresql_stopped_hard_for_two_seconds_costs_nothing() {
    the_database_is_away_for(Duration::from_secs(2));
}

#[test]
fn postgresql_stopped_hard_for_a_minute_costs_nothing() {
    the_database_is_away_for(Duration::from_secs(60));
}

#[test]
fn a_database_that_is_not_there_at_the_start_is_waited_for() {
    let gateway = gateway();
    let server = Arc::new(Server::own("-F"));
    let site = Site::on(Arc::new(server.database()), "", &ways(&[gateway.addr], ""));
    site.insert("+4790000001", "queued before", None);
    server.stop();
    let daemon = site.start().up();
    until("the reason is told", || (daemon.said("the queue does not answer") > 0).then_some(()));
    sleep(Duration::from_secs(4));
    assert_eq!(daemon.said("the queue does not answer"), 1, "once");
    assert!(daemon.log().contains(&format!("127.0.0.1:{}", server.port)), "it says which: {}", daemon.log());
    let stats = site.run(&["queue", "stats"]);
    assert_eq!(stats.code, 1, "a command says so at once: {stats:?}");
    server.start();
    until_within(10, "it is sent", || (gateway.accepted_count() == 1).then_some(()));
    until("it says so", || (daemon.said("the queue answers again") == 1).then_some(()));
    daemon.stop();
}

/// `VACUUM FULL`, `ALTER TABLE`: for 25 s nothing of NAV's table can be read or written, and meanwhile a
/// gateway refuses an SMS after 20 s. What it did not take is not in doubt.
#[test]
fn a_table_that_is_locked_for_25_s_costs_no_lease_and_leaves_no_doubt() {
    let gateway = gateway_that(Behaviour::status(503).delay(Duration::from_secs(20)));
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    let daemon = site.start().up();
    let id = site.insert("+4790000001", "while the table is locked", None);
    until("it is at the gateway", || (gateway.targets().len() == 1).then_some(()));
    let (port, name) = (site.db().server.port, &site.db().name);
    let address = format!("host=127.0.0.1 port={port} dbname={name} user=postgres");
    runtime().block_on(async {
        let (session, driver) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(driver);
        session.batch_execute("BEGIN; LOCK TABLE smsq IN ACCESS EXCLUSIVE MODE").await.unwrap();
        tokio::time::sleep(Duration::from_secs(25)).await;
        session.batch_execute("COMMIT").await.unwrap();
    });
    gateway.set(Behaviour::ok());
    until_within(90, "it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
    assert_eq!(daemon.said("the lease ran out"), 0, "{}", daemon.log());
    let story = site.json(&["queue", "show", &id.to_string()]);
    let attempts = story["attempts"].as_array().unwrap();
    assert_eq!(attempts[0]["state"], "failed", "{story}");
    assert!(attempts.iter().all(|attempt| attempt["possible_duplicate"] == false), "{story}");
    assert_eq!(site.audit()["possible_duplicates"], 0);
    daemon.stop();
}

/// NAV writes local times; the database is in UTC, as in a container.
#[test]
fn a_fresh_alert_of_navs_in_new_york_is_not_too_old_for_a_database_in_utc() {
    let gateway = gateway();
    let site = Site::nav("autocancel: 1 hour", &ways(&[gateway.addr], ""));
    site.sql(&format!("ALTER DATABASE {} SET timezone = 'UTC'", site.db().name));
    let nav_conf = site.read("nav.conf").replace("TIME_ZONE=UTC", "TIME_ZONE=America/New_York");
    site.write("nav.conf", &nav_conf);
    assert_eq!(site.run(&["db", "init"]).code, 0);
    let local = "now() AT TIME ZONE 'America/New_York'";
    let id = site.sql(&format!(
        "INSERT INTO smsq (accountid, time, phone, msg) VALUES (1, {local}, '+4790000001', 'fresh') RETURNING id"
    ));
    let old = site.sql(&format!(
        "INSERT INTO smsq (accountid, time, phone, msg) \
         VALUES (1, {local} - interval '61 minutes', '+4790000002', 'old') RETURNING id"
    ));
    let daemon = site.start();
    until("the fresh one is sent", || (gateway.accepted_count() == 1).then_some(()));
    until("the old one is not", || (site.counts() == [0, 1, 1]).then_some(()));
    let alert = |id: &str| site.json(&["queue", "show", id])["alert"].clone();
    assert_eq!((&alert(&id)["state"], &alert(&old)["reason"]), (&"sent".into(), &"expired".into()));
    let queued_at: jiff::Timestamp = alert(&id)["queued_at"].as_str().unwrap().parse().unwrap();
    let ago = queued_at.duration_until(jiff::Timestamp::now());
    assert!(ago.as_secs() < 60, "it is shown as it was: {ago}");
    let timesent = format!("SELECT {local} - timesent < interval '1 minute' FROM smsq WHERE id = {id}");
    assert_eq!(site.sql(&timesent), "t", "NAV reads when it was sent");
    daemon.stop();

    let said = site.run(&["check", "--probe"]);
    assert!(said.out.contains("America/New_York"), "{said:?}");
    assert!(said.err.contains("UTC"), "the database's own is another: {said:?}");
    site.write("nav.conf", &nav_conf.replace("America/New_York", "Europe/Atlantis"));
    let said = site.run(&["check", "--probe"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("TIME_ZONE") && said.out.contains("Europe/Atlantis"), "{said:?}");
}
