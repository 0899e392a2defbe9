//! No room: the disk of the queue is full in mid-drain.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::Duration;

use smsd::demo::gateway::Behaviour;

use super::bench::{Daemon, Gateway, Site, gateway_that, until, until_within, ways};
use super::power::apart;
use crate::faults::Faults;

const ALERTS: usize = 600;
const CONCURRENCY: usize = 8;

#[test]
fn the_disk_of_the_embedded_queue_is_full_for_a_while() {
    embedded(Duration::from_secs(2));
}

/// The lease runs out meanwhile.
#[test]
fn the_disk_of_the_embedded_queue_is_full_for_longer_than_a_lease() {
    embedded(Duration::from_secs(20));
}

#[test]
fn nothing_is_submitted_while_no_attempt_can_be_written() {
    full_from_the_start(None);
}

#[cfg(feature = "seeded-bugs")]
#[test]
#[should_panic(expected = "submitted without an attempt on the disk")]
fn seeded_a_begin_that_is_not_waited_for_is_found() {
    full_from_the_start(Some("BegunBeforeDurable"));
}

/// The disk is full before there is anything to send; then alerts come from a program that has found room. `bug` is a
/// known fault to switch on (`src/seeded.rs`).
fn full_from_the_start(bug: Option<&str>) {
    const FEW: usize = 20;
    let (faults, gateway) = (Faults::new(), slow_gateway());
    let site = apart(&keys(), &ways(&[gateway.addr], ""));
    let state = site.path("state");
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, Some(&state));
    command.envs(bug.map(|bug| ("SMSD_SEEDED_BUG", bug)));
    let daemon = site.spawn(command).up();
    until("it has begun", || (daemon.said("started") == 1).then_some(()));
    let file = rusqlite::Connection::open(state.join("queue.db")).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    // Who has no lease begins nothing, so it must have got one while there was room.
    let leases = || file.query_row("SELECT count(*) FROM instance", (), |row| row.get::<_, i64>(0)).unwrap();
    until("it may begin", || (leases() == 1).then_some(()));
    faults.set_disk_full(true);
    for n in 1..=FEW {
        let row = (format!("+47{}", 90_000_000 + n), "an alert");
        file.execute("INSERT INTO alert (phone, text) VALUES (?1, ?2)", row).unwrap();
    }
    until("it is told", || (daemon.said("the queue does not answer") == 1).then_some(()));
    sleep(Duration::from_secs(1));
    assert_eq!(gateway.accepted_count(), 0, "submitted without an attempt on the disk");
    faults.set_disk_full(false);
    until_within(30, "all are sent", || (site.json(&["queue", "stats"])["sent"] == FEW).then_some(()));
    assert_eq!(gateway.accepted_count(), FEW, "each once");
    site.audit();
    daemon.stop();
}

fn embedded(time: Duration) {
    let (faults, gateway) = (Faults::new(), slow_gateway());
    let site = apart(&keys(), &ways(&[gateway.addr], ""));
    let state = site.path("state");
    let send = |from: usize, count: usize| {
        let numbers: Vec<String> = (from..from + count).map(|n| format!("+47{}", 90_000_000 + n)).collect();
        let mut command = site.command(&["send", "an alert"]);
        command.args(numbers.iter().flat_map(|n| ["--to", n]));
        faults.befall(&mut command, Some(&state));
        super::bench::Said::of(command.output().unwrap())
    };
    assert_eq!(send(1, ALERTS).code, 0);
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, Some(&state));
    let daemon = site.spawn(command);
    let begun = || {
        let file = rusqlite::Connection::open(state.join("queue.db")).unwrap();
        let mut found = file.prepare("SELECT recipient FROM attempt").unwrap();
        found.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let full = |full| {
        faults.set_disk_full(full);
        if full {
            until("it meets the end of the disk", || (faults.refused() > 0).then_some(()));
            let refused = send(ALERTS + 1, 1);
            assert_eq!((refused.code, &*refused.out), (1, ""), "{refused:?}");
            refused.names(&["full"]);
        }
    };
    is_full(&site, &daemon, &gateway, time, full, begun);
    daemon.stop();
}

/// "The disk is full" is an alert, too: what was kept for that hour lets it and some thousand others out.
#[test]
fn the_room_that_is_kept_for_a_full_disk_lets_alerts_out() {
    let (faults, gateway) = (Faults::new(), slow_gateway());
    let site = apart(&keys(), &ways(&[gateway.addr], ""));
    let state = site.path("state");
    let send = |numbers: std::ops::Range<usize>| {
        let mut command = site.command(&["send", "an alert"]);
        command.args(numbers.flat_map(|n| ["--to".to_owned(), format!("+47{}", 90_000_000 + n)]));
        faults.befall(&mut command, Some(&state));
        super::bench::Said::of(command.output().unwrap())
    };
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, Some(&state));
    let daemon = site.spawn(command);
    let ballast = state.join("queue.db-ballast");
    let is_there = || std::fs::metadata(&ballast).is_ok_and(|found| found.len() >= 8 << 20);
    until("there is room to give up", || is_there().then_some(()));

    faults.set_disk_full_but_for_room();
    for n in 0..10 {
        let said = send(100 * n..100 * (n + 1));
        assert_eq!(said.code, 0, "{said:?}");
    }
    until_within(60, "all are sent", || (site.json(&["queue", "stats"])["sent"] == 1_000).then_some(()));
    assert!(faults.refused() > 0 && !is_there(), "the disk was full, and the room is used");
    until("it is told", || (daemon.said("the disk of the queue is full") == 1).then_some(()));
    assert_eq!(daemon.said("the queue does not answer"), 0, "{}", daemon.log());

    faults.set_disk_full(false);
    until_within(30, "it is put back", || is_there().then_some(()));
    until("that is told", || (daemon.said("has room again") == 1).then_some(()));
    assert_eq!(daemon.said("the disk of the queue is full"), 1, "told once: {}", daemon.log());
    assert_eq!(gateway.accepted_count(), 1_000, "each once");
    site.audit();
    daemon.stop();
}

/// PostgreSQL says so to whoever writes, and lets everybody read.
#[test]
fn the_disk_of_postgresql_is_full_for_a_while() {
    let gateway = slow_gateway();
    let site = Site::nav(&keys(), &ways(&[gateway.addr], ""));
    site.insert_many(1, ALERTS);
    let daemon = site.start();
    let begun = || site.sql("SELECT recipient FROM smsd.attempt").lines().map(String::from).collect();
    let full = |full| {
        let tables = ["smsq", "smsd.attempt", "smsd.instance", "smsd.note"];
        let mut sql = String::new();
        if full {
            sql += "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; \
                    END $$;";
            for table in tables {
                sql += &format!(
                    "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION full_disk();"
                );
            }
        } else {
            sql += "DROP FUNCTION full_disk CASCADE";
        }
        site.sql(&sql);
    };
    is_full(&site, &daemon, &gateway, Duration::from_secs(2), full, begun);
    daemon.stop();
}

fn is_full(
    site: &Site,
    daemon: &Daemon,
    gateway: &Gateway,
    time: Duration,
    full: impl Fn(bool),
    begun: impl Fn() -> HashSet<String>,
) {
    until_within(60, "the drain is under way", || (gateway.accepted_count() > 100).then_some(()));
    full(true);
    let before = gateway.accepted_count();
    assert!(before < ALERTS - 100, "the drain was over too soon to be disturbed: {before}");
    until("it is told", || (daemon.said("the queue does not answer") == 1).then_some(()));
    sleep(time);
    // What was begun may be submitted, and nothing else.
    let begun = begun();
    for sms in gateway.accepted() {
        assert!(begun.contains(&sms.phone), "submitted without an attempt on the disk: {sms:?}");
    }
    let meanwhile = gateway.accepted_count();
    assert!(meanwhile - before <= CONCURRENCY, "{before} before, {meanwhile} now");
    assert!(daemon.runs(), "{}", daemon.log());
    assert_eq!(daemon.said("the queue does not answer"), 1, "told once: {}", daemon.log());

    full(false);
    until_within(10, "it works again", || (gateway.accepted_count() > meanwhile + CONCURRENCY).then_some(()));
    until_within(60, "all are sent", || (site.json(&["queue", "stats"])["sent"] == ALERTS).then_some(()));
    assert_eq!(daemon.said("the queue answers again"), 1, "told once: {}", daemon.log());
    assert_eq!(gateway.accepted_count(), ALERTS, "each once");
    assert_eq!(site.audit()["alerts"], ALERTS);
}

fn slow_gateway() -> Gateway {
    gateway_that(Behaviour::ok().delay(Duration::from_millis(15)))
}

fn keys() -> String {
    format!("concurrency: {CONCURRENCY}")
}
