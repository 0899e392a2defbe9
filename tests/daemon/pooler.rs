//! The main job through a real pooler, PgBouncer in transaction mode.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smsd::demo::gateway::Behaviour;

use super::bench::{Site, gateway_that, until, until_within, ways};
use crate::pgbouncer::PgBouncer;
use crate::postgres::Server;

/// A site that reaches its database through a pooler.
fn through(bouncer: &PgBouncer, site: Site) -> Site {
    let direct = format!("dbport={}", site.db().server.port);
    let conf = site.read("db.conf");
    assert!(conf.contains(&direct));
    site.write("db.conf", &conf.replace(&direct, &format!("dbport={}", bouncer.port)));
    site
}

#[test]
fn the_main_job_goes_through_a_pooler_in_transaction_mode() {
    let gateway = gateway_that(Behaviour::ok().delay(Duration::from_millis(5)));
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    let bouncer = PgBouncer::start(&site.db().server);
    let site = through(&bouncer, site);
    assert_eq!(site.run(&["check"]).code, 0);
    site.insert_many(1, 500);
    let daemon = site.start();
    until_within(60, "all are sent", || (site.counts() == [0, 500, 0]).then_some(()));
    assert_eq!(site.account(&gateway.accepted()), 0, "nothing twice");
    assert_eq!(daemon.said("the queue does not answer"), 0, "{}", daemon.log());
    site.insert("+4790001000", "the next one", None);
    until("it is sent", || (site.counts() == [0, 501, 0]).then_some(()));
    site.audit();
    daemon.stop();
}

#[test]
fn kill_9_and_restarts_of_the_pooler_and_of_the_database_behind_it_cost_nothing() {
    let gateway = gateway_that(Behaviour::ok().delay(Duration::from_millis(5)));
    let server = Arc::new(Server::own(""));
    let keys = ways(&[gateway.addr], "grace: 1s");
    let site = Site::on(Arc::new(server.database()), "concurrency: 8\ndelay: 2", &keys);
    let mut bouncer = PgBouncer::start(&server);
    let site = through(&bouncer, site);
    let alerts = 2500;
    site.insert_many(1, alerts);
    let goes_on = |seconds| {
        let target = gateway.accepted_count() + 300;
        until_within(seconds, "the drain goes on", || (gateway.accepted_count() >= target).then_some(()));
    };
    let daemon = site.start();
    goes_on(30);
    daemon.kill();
    let daemon = site.start();
    goes_on(30);
    bouncer.restart();
    goes_on(10);
    server.stop();
    std::thread::sleep(Duration::from_millis(500));
    server.start();
    goes_on(10);
    assert!(gateway.accepted_count() < alerts, "the drain was over too soon to be disturbed");
    until_within(60, "all are sent", || (site.counts() == [0, alerts, 0]).then_some(()));
    assert!(daemon.runs());
    let twice = site.account(&gateway.accepted());
    assert!(twice <= 8, "only what the kill left in doubt: {twice}");
    site.audit();
    daemon.stop();
}

#[test]
fn notifications_are_believed_in_only_where_they_arrive() {
    const DO_NOT: &str = "do not arrive";
    let gateway = gateway_that(Behaviour::ok());
    let site = Site::nav("poll_interval: 8", &ways(&[gateway.addr], ""));
    let mut bouncer = PgBouncer::start(&site.db().server);
    let site = through(&bouncer, site);
    assert_eq!(site.run(&["db", "init", "--notify"]).code, 0);
    let daemon = site.start();
    until("the echo is missed", || (daemon.said(DO_NOT) == 1).then_some(()));
    // Looking finds it.
    site.insert("+4790000001", "found", None);
    until("it is sent", || (gateway.accepted_count() == 1).then_some(()));

    bouncer.restart_in_session_mode();
    until("it is heard", || (daemon.said("notifications from database") == 2).then_some(()));
    assert_eq!(daemon.said(DO_NOT), 1, "{}", daemon.log());
    let mut fastest = Duration::MAX;
    for n in 2..5 {
        let inserted = Instant::now();
        site.insert(&format!("+479000000{n}"), "notified", None);
        until("it is sent", || (gateway.accepted_count() == n).then_some(()));
        fastest = fastest.min(inserted.elapsed());
    }
    assert!(fastest < Duration::from_secs(1), "as soon as it is there, without a look: {fastest:?}");
    daemon.stop();
}
