//! Several daemons on one database that is rolled back: what one of them sent, none of them sends again
//! unmarked. And what is no rollback holds up nobody.

use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::bench::{
    Daemon, Gateway, Site, gateway, gateway_at, give, nobody_listens, until, until_within, ways,
};
use crate::postgres::{Server, Standby};

/// What one daemon sends while the other has nothing to do.
const SENT: usize = 20;

/// Two daemons on one database, each with a gateway of its own.
struct Two {
    server: Arc<Server>,
    sites: [Site; 2],
    gateways: [Gateway; 2],
}

impl Two {
    fn new() -> Two {
        let server = Arc::new(Server::own("-F"));
        let db = Arc::new(server.database());
        let gateways = [gateway(), gateway()];
        let site = |gateway: &Gateway| {
            Site::on(db.clone(), "delay: 2\nlog_level: debug", &ways(&[gateway.addr], "grace: 1s"))
        };
        let sites = [site(&gateways[0]), site(&gateways[1])];
        assert_eq!(sites[0].run(&["db", "init"]).code, 0);
        Two { server, sites, gateways }
    }

    /// Both, as soon as they know of each other.
    fn start(&self) -> [Daemon; 2] {
        let daemons = [self.sites[0].start(), self.sites[1].start()];
        until_within(60, "each knows of both", || {
            daemons.iter().all(|daemon| daemon.log().contains("instances=2")).then_some(())
        });
        daemons
    }

    /// Both stand still while there is something to be sent and a copy is made. Then the second one sends
    /// it alone, and the first one, which has nothing to do, looks on for a moment.
    fn second_sends<T>(&self, [first, second]: [&Daemon; 2], copy: impl FnOnce() -> T) -> T {
        first.signal(Signal::SIGSTOP);
        second.signal(Signal::SIGSTOP);
        self.sites[0].insert_many(1, SENT);
        let copy = copy();
        second.signal(Signal::SIGCONT);
        until_within(60, "all are sent by the second", || {
            (self.gateways[1].accepted_count() == SENT && self.sites[0].counts()[0] == 0).then_some(())
        });
        first.signal(Signal::SIGCONT);
        sleep(Duration::from_secs(1));
        assert_eq!(self.gateways[0].accepted_count(), 0, "the test tests");
        copy
    }

    /// Nothing goes out again by itself; what is new does.
    fn nothing_goes_out_again(&self, daemons: &[Daemon]) {
        let site = &self.sites[0];
        until_within(60, "what is suspect is held", || {
            assert!(daemons.iter().all(Daemon::runs));
            (site.json(&["queue", "stats"])["held"].as_u64() > Some(0)).then_some(())
        });
        // Longer than any of them waits for what the other may know.
        sleep(Duration::from_secs(10));
        let counts = || [self.gateways[0].accepted_count(), self.gateways[1].accepted_count()];
        assert_eq!(counts(), [0, SENT], "sent again");
        let stats = site.json(&["queue", "stats"]);
        assert_eq!((&stats["held_by_guard"], &stats["waiting"]), (&SENT.into(), &SENT.into()), "{stats}");
        site.sql("INSERT INTO smsq (accountid, time, phone, msg) VALUES (1, now(), '+4799999999', 'new')");
        until_within(60, "a new alert goes out", || (counts().iter().sum::<usize>() > SENT).then_some(()));
        site.audit();
    }
}

/// The backup is so young that the idle daemon's own commits are all in it: only its witness of the
/// other's tells.
#[test]
fn an_idle_daemon_does_not_send_again_what_its_neighbour_sent_when_a_backup_comes_back_under_both() {
    let two = Two::new();
    let daemons = two.start();
    let backup = two.second_sends([&daemons[0], &daemons[1]], || two.server.back_up());
    two.server.put_back(&backup);
    two.nothing_goes_out_again(&daemons);
    daemons.into_iter().for_each(Daemon::stop);
}

#[test]
fn an_idle_daemon_that_starts_first_after_a_restore_does_not_send_what_its_neighbour_sent() {
    let two = Two::new();
    let [first, second] = two.start();
    let backup = two.second_sends([&first, &second], || two.server.back_up());
    // It was restarted in between, and all that it has done since is to join.
    first.stop();
    let first = two.sites[0].start().up();
    until_within(60, "it has heard of the other", || (first.said("instances=2") > 0).then_some(()));
    sleep(Duration::from_secs(1));
    first.stop();
    second.stop();
    two.server.put_back(&backup);
    let first = two.sites[0].start();
    sleep(Duration::from_secs(3));
    let daemons = [first, two.sites[1].start()];
    two.nothing_goes_out_again(&daemons);
    daemons.into_iter().for_each(Daemon::stop);
}

#[test]
fn an_idle_daemon_does_not_send_again_what_a_standby_that_lagged_has_lost() {
    let two = Two::new();
    let standby: Standby = two.server.standby();
    let daemons = two.start();
    two.second_sends([&daemons[0], &daemons[1]], || {
        standby.catch_up(&two.server);
        standby.lose_touch();
    });
    two.server.stop();
    standby.take_over(&two.server);
    two.nothing_goes_out_again(&daemons);
    daemons.into_iter().for_each(Daemon::stop);
}

/// One file, two daemons: the first start after the older copy came back is that of the idle one.
#[test]
fn an_idle_daemon_on_one_file_with_another_does_not_send_again_what_that_one_sent() {
    let gateways = [gateway(), gateway()];
    let sending = Site::embedded("delay: 2", &ways(&[gateways[1].addr], "grace: 1s"));
    let queue = format!("[queue]\ntype: SqliteQueue\npath: {}\n", sending.path("queue.db").display());
    let idle = Site::embedded("delay: 2", &format!("{queue}{}", ways(&[gateways[0].addr], "grace: 1s")));
    // The file is made.
    sending.start().up().stop();
    let mut args = vec!["send", "-q"];
    let numbers: Vec<String> = (1..=SENT).map(|n| format!("+47{}", 90_000_000 + n)).collect();
    args.extend(numbers.iter().flat_map(|n| ["--to", n]));
    args.push("an alert");
    assert_eq!(sending.run(&args).code, 0);
    let files = ["queue.db", "queue.db-wal"].map(|name| {
        let path = sending.path(name);
        (path.clone(), fs::read(path).ok())
    });
    let daemon = sending.start();
    until_within(60, "all are sent", || (gateways[1].accepted_count() == SENT).then_some(()));
    until("all is written", || (sending.json(&["queue", "stats"])["waiting"] == 0).then_some(()));
    // The idle one looks, and goes.
    let looks = idle.start().up();
    until("it has written its record", || (!idle.read("guard").is_empty()).then_some(()));
    sleep(Duration::from_secs(1));
    looks.stop();
    daemon.stop();
    let _ = fs::remove_file(sending.path("queue.db-shm"));
    for (path, copy) in files {
        let _ = fs::remove_file(&path);
        if let Some(copy) = copy {
            fs::write(&path, copy).unwrap();
            give(&path);
        }
    }
    for _ in 0..2 {
        let daemon = idle.start();
        until_within(60, "all are held", || {
            (idle.json(&["queue", "stats"])["held_by_guard"] == SENT).then_some(())
        });
        sleep(Duration::from_secs(7));
        assert_eq!(gateways[0].accepted_count(), 0, "{}", daemon.log());
        daemon.stop();
    }
}

/// Waits until the instance's lease has just been renewed.
fn just_renewed(site: &Site) {
    let lease = || site.sql("SELECT max(lease_until) FROM smsd.instance");
    let before = lease();
    until("the lease is renewed", || (lease() != before).then_some(()));
}

/// No commit that can have sent anything was lost: the database may lose what is not said to be durable.
#[test]
fn a_crash_of_a_database_that_syncs_late_holds_up_nobody() {
    let server = Arc::new(Server::own("-c synchronous_commit=off -c wal_writer_delay=10s"));
    let address = nobody_listens();
    let db = Arc::new(server.database());
    let site = Site::on(db, "delay: 2", &ways(&[address], "grace: 1s"));
    assert_eq!(site.run(&["db", "init"]).code, 0);
    site.insert_many(1, 100);
    site.sql("CHECKPOINT");
    let daemon = site.start().up();
    for _ in 0..2 {
        just_renewed(&site);
        // Rows that nobody has said to be durable.
        site.sql("CREATE TABLE IF NOT EXISTS other (n int)");
        site.sql("INSERT INTO other SELECT generate_series(1, 1000)");
        server.stop();
        server.start();
        just_renewed(&site);
    }
    sleep(Duration::from_secs(1));
    assert_eq!(daemon.said("from the past"), 0, "{}", daemon.log());
    let stats = site.json(&["queue", "stats"]);
    assert_eq!((&stats["held_by_guard"], &stats["waiting"]), (&0.into(), &100.into()), "{stats}");
    let gateway = gateway_at(address);
    until_within(90, "all are sent", || (gateway.accepted_count() == 100).then_some(()));
    daemon.stop();
}

/// What a database's owner does to it is no rollback.
#[test]
fn maintenance_of_the_database_holds_up_nobody() {
    let (gateway, server) = (gateway(), Arc::new(Server::own("-F")));
    let site = Site::on(Arc::new(server.database()), "delay: 2", &ways(&[gateway.addr], "grace: 1s"));
    assert_eq!(site.run(&["db", "init"]).code, 0);
    site.insert_many(1, 10);
    let mut daemon = site.start();
    let mut sent = 10;
    until_within(60, "all are sent", || {
        (gateway.accepted_count() == sent && site.counts()[0] == 0).then_some(())
    });
    let works = |site: &Site, daemon: &Daemon, sent: &mut usize| {
        just_renewed(site);
        *sent += 1;
        site.sql(
            "INSERT INTO smsq (id, accountid, time, phone, msg) VALUES \
             ((SELECT coalesce(max(id), 0) + 1000 FROM smsq), 1, now(), '+4799999999', 'new')",
        );
        until_within(60, "a new alert goes out", || {
            assert!(daemon.runs());
            (gateway.accepted_count() == *sent).then_some(())
        });
        assert_eq!(daemon.said("from the past"), 0, "{}", daemon.log());
        assert_eq!(site.json(&["queue", "stats"])["held"], 0);
    };
    for maintenance in
        ["VACUUM FULL", "REINDEX SCHEMA smsd", "TRUNCATE smsq RESTART IDENTITY", "TRUNCATE smsq"]
    {
        site.sql(maintenance);
        works(&site, &daemon, &mut sent);
        daemon.stop();
        daemon = site.start();
        works(&site, &daemon, &mut sent);
    }
    daemon.stop();
    // On to a new server, with the ledger. Its log has just begun.
    let new = Arc::new(Server::own("-F"));
    let db = new.database();
    server.dump_into(&site.db().name, &new, &db.name);
    let moved = site.moved_to(db);
    let daemon = moved.start();
    works(&moved, &daemon, &mut sent);
    daemon.stop();
}

/// Ordinary roles may be kept from looking at the log: smsd goes on without.
#[test]
fn a_role_that_may_not_look_at_the_log_still_sends() {
    let (gateway, server) = (gateway(), Arc::new(Server::own("-F")));
    let site = Site::on(Arc::new(server.database()), "delay: 2", &ways(&[gateway.addr], "grace: 1s"));
    site.sql("CREATE ROLE plain LOGIN; GRANT ALL ON smsq, smsq_id_seq, account TO plain");
    site.sql(&format!("GRANT CREATE ON DATABASE {} TO plain", site.db().name));
    site.log_in_as("plain", "");
    assert_eq!(site.run(&["db", "init"]).code, 0);
    site.insert_many(1, 5);
    let daemon = site.start();
    until_within(60, "all are sent", || (gateway.accepted_count() == 5).then_some(()));
    assert_eq!(daemon.said("does not show where its log ends"), 0, "an ordinary role may: {}", daemon.log());
    assert!(site.read("guard").split(' ').any(|word| word.split(':').count() == 3), "it is in the record");
    site.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    site.insert_many(6, 5);
    until_within(60, "the right is taken away under it", || (gateway.accepted_count() == 10).then_some(()));
    daemon.stop();
    let daemon = site.start();
    site.insert_many(11, 5);
    until_within(60, "it starts without", || (gateway.accepted_count() == 15).then_some(()));
    assert_eq!(daemon.said("does not show where its log ends"), 1, "{}", daemon.log());
    assert_eq!(daemon.said("from the past"), 0, "{}", daemon.log());
    daemon.stop();
}
