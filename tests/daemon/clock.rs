//! The wall clock jumps by hours and years, under the daemon and under its database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smsd::alert::{Phone, Severity};
use smsd::queue::{Key, NewAlert, Queue, QueueError, Submission, navdb};

use super::bench::{Daemon, Gateway, Site, gateway, runtime, until_within, ways};
use crate::faults::Faults;
use crate::postgres::Server;

const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 87_660 * HOUR;
const DECADES: i64 = 2 * TEN_YEARS;

#[test]
fn a_clock_that_jumps_costs_nothing_with_the_embedded_queue() {
    let (faults, gateway) = (Faults::new(), gateway());
    let site = Site::embedded(KEYS, &ways(&[gateway.addr], ""));
    let mut house = House { faults, gateway, site, asked: 0, from_before: Vec::new() };
    let daemon = house.jumps();
    assert_eq!(daemon.said("the lease ran out"), 0, "it is not by that clock");
    daemon.stop();
}

#[test]
fn a_clock_that_jumps_costs_nothing_with_postgresql() {
    let (faults, gateway) = (Faults::new(), gateway());
    let env: [(&str, PathBuf); 2] = faults.env();
    let db = Arc::new(Arc::new(Server::own_with("-F", &env)).database());
    let site = Site::on(db, KEYS, &ways(&[gateway.addr], ""));
    let mut house = House { faults, gateway, site, asked: 0, from_before: Vec::new() };
    let daemon = house.jumps();
    // The database's clock is what all instances have in common: ours is dead by it when it jumps ahead, once each.
    let ahead = JUMPS.windows(2).filter(|pair| pair[1] > pair[0]).count() + usize::from(JUMPS[0] > 0);
    assert!(daemon.said("the lease ran out") <= ahead, "{}", daemon.log());
    daemon.stop();
}

/// PostgreSQL's clock is set while an alert comes in: it is too late by that clock, and was not queued. It is
/// not told to be one that can never be queued, for then nobody would hand it in again.
#[test]
fn a_clock_that_jumps_while_an_alert_comes_in_is_no_fault_of_the_alert() {
    const SLOW: &str = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
        $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$; \
        CREATE TRIGGER slow AFTER INSERT ON smsq FOR EACH STATEMENT EXECUTE FUNCTION slow()";
    const SLEEPS: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let faults = Faults::new();
    let database = Arc::new(Server::own_with("-F", &faults.env())).database();
    let alert = Submission {
        key: Key { name: "one".into(), kept: Duration::from_secs(60) },
        alerts: vec![NewAlert {
            to: Phone::parse("+4790000001").unwrap(),
            text: "by the clock".into(),
            severity: Severity(None),
            account: None,
        }],
    };
    let queued = runtime().block_on(async {
        let queue = navdb::open(&database.target(), true).await.unwrap();
        queue.newest().await.unwrap();
        database.sql(SLOW);
        let jump = async {
            until_within(10, "it is being queued", || (database.sql(SLEEPS) == "1").then_some(()));
            faults.set_clock_ahead(HOUR);
        };
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let alerts = [alert];
        let enqueue = tokio::spawn(async move { queue.enqueue_by(&alerts, until).await });
        jump.await;
        enqueue.await.unwrap()
    });
    assert!(matches!(&queued, Err(QueueError::Unavailable(_))), "{queued:?}");
    assert_eq!(database.sql("SELECT count(*) FROM smsq"), "0");
}

/// One who may not be texted: what is for them waits, and grows old.
const KEYS: &str = "autocancel: 30 minutes\ndelay: 1\ndeny: +4780";
const WAITS: &str = "+4780000000";
/// How far it is ahead, one after the other.
const JUMPS: [i64; 5] = [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, 0];

struct House {
    faults: Faults,
    gateway: Gateway,
    site: Site,
    asked: usize,
    /// Those that have waited since before the daemon's start.
    from_before: Vec<i64>,
}

impl House {
    fn jumps(&mut self) -> Daemon {
        assert_eq!(self.site.run(&["db", "init"]).code, 0);
        self.from_before = (0..JUMPS.len() + 2).map(|_| self.insert(WAITS)).collect();
        // The clock of whoever queued it need not be the queue's.
        let ahead_of_us = self.insert(WAITS);
        self.bears(ahead_of_us, 40);
        let mut waiting = vec![ahead_of_us];
        let mut command = self.site.command(&["-f"]);
        self.faults.befall(&mut command, None);
        let daemon = self.site.spawn(command).up();
        self.sends_one();
        self.turns();
        for ahead in JUMPS {
            waiting.push(self.insert(WAITS));
            self.faults.set_clock_ahead(ahead);
            // By a setting of the clock that nobody has seen.
            let unseen = self.insert(WAITS);
            self.bears(unseen, -DECADES);
            waiting.push(unseen);
            self.sends_one();
            waiting.push(self.insert(WAITS));
            self.turns();
            for id in waiting.iter().chain(&self.from_before) {
                assert_eq!(self.state(*id), "waiting", "{ahead} s ahead, alert {id}: {}", daemon.log());
            }
        }
        // And yet what is old does go.
        self.turns();
        for id in waiting {
            assert_eq!(self.state(id), "waiting");
        }
        assert_eq!(self.gateway.accepted_count(), self.asked, "each one once");
        self.site.audit();
        daemon
    }

    /// A new alert goes out whatever the clock says.
    fn sends_one(&mut self) {
        self.asked += 1;
        self.insert(&format!("+47900000{:02}", self.asked));
        until_within(10, "it is sent", || (self.gateway.accepted_count() == self.asked).then_some(()));
    }

    /// Until it has certainly looked for what is too old: one that is so is gone.
    fn turns(&mut self) {
        let old = self.from_before.pop().unwrap();
        self.bears(old, -DECADES);
        until_within(20, "it has expired", || (self.state(old) == "ignored").then_some(()));
    }

    fn insert(&self, to: &str) -> i64 {
        if self.site.db.is_some() {
            return self.site.insert(to, "by the clock", None);
        }
        let mut command = self.site.command(&["send", "--to", to, "by the clock"]);
        self.faults.befall(&mut command, None);
        let said = super::bench::Said::of(command.output().unwrap());
        assert_eq!(said.code, 0, "{said:?}");
        said.out.trim().parse().unwrap()
    }

    /// What is queued so many seconds from now, by the clock of now; decades ago is so by any other.
    fn bears(&self, id: i64, seconds: i64) {
        if self.site.db.is_some() {
            let sql = format!("UPDATE smsq SET time = now() + interval '{seconds} seconds' WHERE id = {id}");
            self.site.sql(&sql);
        } else {
            let file = rusqlite::Connection::open(self.site.path("queue.db")).unwrap();
            file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
            let sql = "UPDATE alert SET queued_at = queued_at + ?2 * 1000000 WHERE id = ?1";
            file.execute(sql, [id, seconds]).unwrap();
        }
    }

    fn state(&self, id: i64) -> String {
        let story = self.site.json(&["queue", "show", &id.to_string()]);
        story["alert"]["state"].as_str().or(story["state"].as_str()).unwrap().to_owned()
    }
}
