//! One row of NAV's table that somebody holds locked, or that the database will not change.

use std::thread;

use super::bench::{Site, gateway, until, until_within, ways};

/// A forgotten session, as of psql, holds the row of one of 20 alerts for 20 phones; there is one place at the gateway.
#[test]
fn one_locked_row_holds_up_nobody_else() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], "concurrency: 1"));
    site.insert_many(1, 20);
    let first = site.sql("SELECT min(id) FROM smsq");
    let db = site.db.clone().unwrap();
    let lock = format!("SELECT 1 FROM smsq WHERE id = {first} FOR UPDATE; SELECT pg_sleep(15)");
    let session = thread::spawn(move || db.sql(&lock));
    until("it is locked", || {
        (site.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != "0").then_some(())
    });
    let daemon = site.start().up();
    until_within(4, "the others are sent", || (site.counts() == [1, 19, 0]).then_some(()));
    assert!(!session.is_finished(), "it is still locked");
    let ids = site.sql("SELECT id FROM smsq WHERE sent = 'N'");
    assert_eq!(ids, first);
    session.join().unwrap();
    until_within(12, "the last one is settled", || (site.counts() == [0, 20, 0]).then_some(()));
    assert_eq!(gateway.accepted_count(), 20, "each once");
    site.audit();
    daemon.stop();
}

/// A trigger of the site's own refuses to change one row.
#[test]
fn one_row_that_the_database_refuses_to_change_holds_up_nobody_else() {
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], "concurrency: 1"));
    site.insert_many(1, 20);
    site.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$; \
         CREATE TRIGGER no BEFORE UPDATE ON smsq FOR EACH ROW WHEN (OLD.msg = 'alert 7') EXECUTE FUNCTION no()",
    );
    let daemon = site.start().up();
    until_within(4, "the others are sent", || (site.counts() == [1, 19, 0]).then_some(()));
    site.sql("DROP TRIGGER no ON smsq");
    until_within(12, "the last one is settled", || (site.counts() == [0, 20, 0]).then_some(()));
    assert_eq!(gateway.accepted_count(), 20, "each once");
    site.audit();
    daemon.stop();
}
