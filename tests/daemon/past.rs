//! A database that comes back from the past: nothing that went out goes out again by itself.

use std::fs;
use std::sync::Arc;

use super::bench::{Daemon, Gateway, Site, gateway, give, until, until_within, ways};
use crate::postgres::Server;

/// More than what is suspect when the database comes back: `smsd::engine` allows for what another instance has sent.
const LATER: &str = "now() + interval '10 s'";

const ALERTS: usize = 120;

fn site(server: &Arc<Server>, gateway: &Gateway) -> Site {
    let site = Site::on(Arc::new(server.database()), "delay: 2", &ways(&[gateway.addr], "grace: 1s"));
    let said = site.run(&["db", "init"]);
    assert_eq!(said.code, 0, "{said:?}");
    site
}

/// The alerts from before are held, and nothing of them went out; what is queued now goes out; a person has all of
/// them sent, and they are marked.
fn the_guard_holds(site: &Site, gateway: &Gateway, daemon: &Daemon, new_alert: impl Fn() -> String) {
    let before = gateway.accepted_count();
    until_within(60, "what is suspect is held", || {
        assert!(daemon.runs());
        (daemon.said("what waits since before is held") == 1).then_some(())
    });
    let number = new_alert();
    until("a new alert goes out at once", || (gateway.accepted_count() > before).then_some(()));
    let taken = gateway.accepted();
    assert!(taken[before..].iter().all(|sms| sms.phone == number), "{:?}", &taken[before..]);
    until("it is written", || (site.json(&["queue", "stats"])["open"] == 0).then_some(()));
    let stats = site.json(&["queue", "stats"]);
    assert_eq!((&stats["held_by_guard"], &stats["waiting"]), (&ALERTS.into(), &ALERTS.into()), "{stats}");
    assert_eq!(daemon.said("has come back from the past"), 1, "told once: {}", daemon.log());
    assert!(daemon.log().contains(&format!("alerts={ALERTS}")), "{}", daemon.log());
    let held = site.json(&["queue", "list", "--state", "held", "--limit", "1000"]);
    assert_eq!(held.as_array().unwrap().len(), ALERTS);
    let why = site.run(&["why", &held[0]["id"].to_string()]);
    assert!(
        why.out.contains("The storm guard holds it") && why.out.contains("came back from the past"),
        "{why:?}"
    );
    let stats = site.run(&["queue", "stats"]);
    assert!(stats.out.contains("--held-by-guard"), "{stats:?}");
    site.audit();

    let said = site.run(&["queue", "release", "--held-by-guard", "--by", "ann"]);
    assert_eq!((said.code, said.out.trim()), (0, "120 alerts made to wait again, as possible duplicates"));
    until_within(60, "all are sent again", || (site.json(&["queue", "stats"])["waiting"] == 0).then_some(()));
    assert_eq!(gateway.accepted_count(), before + 1 + ALERTS, "each once");
    let audit = site.audit();
    assert_eq!(audit["possible_duplicates"], ALERTS, "{audit}");
    let said = site.run(&["queue", "release", "--held-by-guard", "--by", "ann"]);
    assert_eq!((said.code, said.out.trim()), (0, "0 alerts made to wait again, as possible duplicates"));
}

fn drained(site: &Site, gateway: &Gateway, count: usize) {
    until_within(60, "all are sent", || (site.json(&["queue", "stats"])["waiting"] == 0).then_some(()));
    assert_eq!(gateway.accepted_count(), count);
}

fn new_row(site: &Site) -> String {
    site.sql(&format!(
        "INSERT INTO smsq (accountid, time, phone, msg) VALUES (1, {LATER}, '+4799999999', 'new')"
    ));
    "+4799999999".into()
}

#[test]
fn a_backup_of_postgresql_put_back_while_smsd_is_stopped() {
    let (gateway, server) = (gateway(), Arc::new(Server::own("-F")));
    let site = site(&server, &gateway);
    site.insert_many(1, ALERTS);
    let backup = server.back_up();
    let daemon = site.start();
    drained(&site, &gateway, ALERTS);
    daemon.stop();
    server.put_back(&backup);
    assert_eq!(site.counts(), [ALERTS, 0, 0], "all wait again");
    let daemon = site.start();
    the_guard_holds(&site, &gateway, &daemon, || new_row(&site));
    daemon.stop();
    // What has been seen to is no news.
    let daemon = site.start().up();
    site.insert("+4799999998", "and on", None);
    until("it goes out", || (gateway.accepted_count() == 2 * ALERTS + 2).then_some(()));
    assert_eq!(daemon.said("from the past"), 0, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_backup_of_postgresql_put_back_while_smsd_runs() {
    let (gateway, server) = (gateway(), Arc::new(Server::own("-F")));
    let site = site(&server, &gateway);
    site.insert_many(1, ALERTS);
    let backup = server.back_up();
    let daemon = site.start();
    drained(&site, &gateway, ALERTS);
    server.put_back(&backup);
    the_guard_holds(&site, &gateway, &daemon, || new_row(&site));
    daemon.stop();
}

/// The standby has everything up to the moment when it lost touch with the primary.
#[test]
fn a_standby_that_lagged_is_promoted() {
    let (gateway, server) = (gateway(), Arc::new(Server::own("-F")));
    let site = site(&server, &gateway);
    let standby = server.standby();
    site.insert_many(1, ALERTS);
    standby.catch_up(&server);
    standby.lose_touch();
    let daemon = site.start();
    drained(&site, &gateway, ALERTS);
    server.stop();
    standby.take_over(&server);
    the_guard_holds(&site, &gateway, &daemon, || new_row(&site));
    daemon.stop();
}

#[test]
fn an_older_copy_of_the_embedded_queue_put_back() {
    let gateway = gateway();
    let site = Site::embedded("delay: 2", &ways(&[gateway.addr], "grace: 1s"));
    let numbers: Vec<String> = (1..=ALERTS).map(|n| format!("+47{}", 90_000_000 + n)).collect();
    let mut args = vec!["send", "-q"];
    args.extend(numbers.iter().flat_map(|n| ["--to", n]));
    args.push("an alert");
    assert_eq!(site.run(&args).code, 0);
    // Nobody has it open; what is not yet in the file stands in its log.
    let files = ["queue.db", "queue.db-wal"].map(|name| (site.path(name), fs::read(site.path(name)).ok()));
    let daemon = site.start();
    drained(&site, &gateway, ALERTS);
    daemon.stop();
    let _ = fs::remove_file(site.path("queue.db-shm"));
    for (path, copy) in files {
        let _ = fs::remove_file(&path);
        if let Some(copy) = copy {
            fs::write(&path, copy).unwrap();
            give(&path);
        }
    }
    let daemon = site.start();
    the_guard_holds(&site, &gateway, &daemon, || {
        // The guard allows for what another instance may have sent last.
        std::thread::sleep(std::time::Duration::from_secs(6));
        assert_eq!(site.run(&["send", "--to", "+4799999999", "new"]).code, 0);
        "+4799999999".into()
    });
    daemon.stop();
}

#[test]
fn a_record_that_is_damaged_or_can_not_be_written_stops_nothing() {
    let gateway = gateway();
    let site = Site::embedded("", &ways(&[gateway.addr], ""));
    site.write("guard", "rubbish");
    let daemon = site.start().up();
    assert_eq!(site.run(&["send", "--wait", "--to", "+4799999999", "first"]).code, 0);
    assert_eq!(daemon.said("no whole record in it"), 1, "{}", daemon.log());
    daemon.stop();
    assert!(site.read("guard").starts_with("smsd-guard-2 "), "it is written anew");
    fs::remove_file(site.path("guard")).unwrap();
    fs::create_dir(site.path("guard")).unwrap();
    let daemon = site.start().up();
    assert_eq!(site.run(&["send", "--wait", "--to", "+4799999998", "second"]).code, 0);
    assert!(daemon.log().contains("sending goes on"), "{}", daemon.log());
    assert_eq!(gateway.accepted_count(), 2);
    daemon.stop();
}
