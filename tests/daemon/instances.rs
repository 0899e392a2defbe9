//! Several daemons on one table: who sends how much, what they get in each other's way, and what becomes of the
//! work of one that stands still.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use smsd::demo::gateway::Behaviour;

use nix::sys::signal::Signal;
use smsd::engine::LEASE;

use super::bench::{Daemon, Gateway, Site, gateway_that, until_within, ways};
use super::torture::{Drain, Line};
use crate::postgres::{Database, Server};

/// SMS at once of each instance under torture.
const CONCURRENCY: usize = 8;

/// How far an instance's share may be from the others'.
const FAIR: f64 = 0.3;

/// Daemons of equal configuration on one table, each with a gateway of its own.
pub struct Instances {
    pub sites: Vec<Site>,
    pub gateways: Vec<Gateway>,
    pub daemons: Vec<Daemon>,
}

impl Instances {
    pub fn start(n: usize, db: &Arc<Database>, delay: Duration, main: &str) -> Instances {
        let gateways: Vec<Gateway> = (0..n).map(|_| gateway_that(Behaviour::ok().delay(delay))).collect();
        let main = format!("log_level: debug\n{main}");
        let site = |gateway: &Gateway| Site::on(db.clone(), &main, &ways(&[gateway.addr], "grace: 2s"));
        let sites: Vec<Site> = gateways.iter().map(site).collect();
        let daemons: Vec<Daemon> = sites.iter().map(Site::start).collect();
        let all = Instances { sites, gateways, daemons };
        let heard = |daemon: &Daemon| daemon.log().contains(&format!("instances={n}"));
        until_within(60, "each knows of all", || (n == 1 || all.daemons.iter().all(heard)).then_some(()));
        all
    }

    /// Who has sent how much.
    pub fn shares(&self) -> Vec<usize> {
        self.gateways.iter().map(|gateway| gateway.accepted_count()).collect()
    }

    /// SMS that they could not begin since another was first.
    pub fn outrun(&self) -> usize {
        let logs = self.daemons.iter().map(Daemon::log).collect::<String>();
        let lines = logs.lines().filter(|line| line.contains("another instance was first"));
        lines.map(|line| line.split("attempts=").nth(1).unwrap().trim().parse::<usize>().unwrap()).sum()
    }

    pub fn stop(self) {
        self.daemons.into_iter().for_each(Daemon::stop);
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Sharing {
    pub shares: Vec<usize>,
    pub outrun: usize,
    pub took: Duration,
}

impl Sharing {
    /// All that must not be.
    pub fn faults_found(&self) -> Vec<String> {
        let (instances, sent) = (self.shares.len(), self.shares.iter().sum::<usize>());
        let fair = sent as f64 / instances as f64;
        let mut found = Vec::new();
        if self.shares.iter().any(|share| (*share as f64 / fair - 1.0).abs() > FAIR) {
            found.push(format!("unfair: {:?}", self.shares));
        }
        // If each tried all, it would be twice as much.
        if self.outrun > sent * (instances - 1) / 2 {
            found.push(format!("{} of {sent} were tried in vain", self.outrun));
        }
        found
    }
}

/// Rows, one to a number, worked off by some instances. The gateways' `pace` is that of one alone.
fn share(db: &Arc<Database>, instances: usize, rows: usize, pace: Duration) -> Sharing {
    let all = Instances::start(instances, db, pace * instances as u32, "");
    let started = Instant::now();
    all.sites[0].insert_many(1, rows);
    until_within(60 + rows as u64 / 50, "all are sent", || {
        sleep(Duration::from_millis(20));
        (all.gateways.iter().map(|g| g.accepted_count()).sum::<usize>() >= rows).then_some(())
    });
    let took = started.elapsed();
    let sharing = Sharing { shares: all.shares(), outrun: all.outrun(), took };
    eprintln!("{sharing:?}, {:.2} of all in vain", sharing.outrun as f64 / rows as f64);
    let site = &all.sites[0];
    until_within(30, "all is settled", || (site.counts() == [0, rows, 0]).then_some(()));
    assert_eq!(all.shares().iter().sum::<usize>(), rows, "nothing twice");
    assert_eq!(site.audit()["possible_duplicates"], 0);
    all.stop();
    sharing
}

/// The same as a line of the table.
pub fn sharing(server: Arc<Server>, instances: usize, rows: usize, pace: Duration) -> Line {
    let sharing = share(&Arc::new(server.database()), instances, rows, pace);
    let taken = sharing.shares.iter().sum();
    Line { alerts: rows, taken, took: sharing.took, complaints: sharing.faults_found(), ..Line::default() }
}

/// All but one of some instances stopped (SIGSTOP) past their lease, one after the other, and continued. The line's
/// slowest is how long after its lease what a stopped one had on its way was resolved by others.
pub fn stops(instances: usize, rounds: usize, seed: u64) -> Line {
    let mut drain = Drain::on_postgresql(CONCURRENCY, seed);
    // The first one makes the ledger.
    drain.begin().stop();
    let mut takeover = Duration::ZERO;
    let same = || {
        let site = Site::on(drain.site.db.clone().unwrap(), "", "");
        site.write(
            "smsd.conf",
            &drain.site.read("smsd.conf").replace(
                &drain.site.dir.path().display().to_string(),
                &site.dir.path().display().to_string(),
            ),
        );
        site
    };
    let sites: Vec<Site> = (1..instances).map(|_| same()).collect();
    let last = drain.site.start().up();
    let mut others: Vec<Daemon> = sites.iter().map(|site| site.start().up()).collect();
    for n in 0..rounds {
        drain.works_again(&last);
        drain.slowest = Duration::ZERO;
        let mut stopped = Vec::new();
        for daemon in &others {
            sleep(drain.random_up_to(Duration::from_millis(500)));
            drain.feed();
            // It may not have anything on its way at the very moment.
            until_within(30, "it has something on its way", || {
                daemon.signal(Signal::SIGSTOP);
                let busy = unresolved(&drain, daemon) > 0;
                if !busy {
                    daemon.signal(Signal::SIGCONT);
                }
                busy.then_some(())
            });
            stopped.push((daemon, Instant::now()));
        }
        for (daemon, since) in &stopped {
            until_within(60, "others have resolved what it had on its way", || {
                sleep(Duration::from_millis(50));
                drain.feed();
                (unresolved(&drain, daemon) == 0).then_some(())
            });
            let took = since.elapsed().saturating_sub(LEASE);
            takeover = takeover.max(took);
        }
        sleep(drain.random_up_to(Duration::from_secs(2)));
        for (daemon, _) in &stopped {
            daemon.signal(Signal::SIGCONT);
        }
        drain.progress("round of stops", n + 1, rounds);
    }
    drain.works_again(&last);
    assert!(others.iter().all(Daemon::runs), "none ended by itself");
    others.drain(..).for_each(Daemon::stop);
    drain.slowest = takeover;
    let stops = rounds * (instances - 1);
    drain.account(last, stops, stops * CONCURRENCY)
}

/// SMS that a daemon has on its way, as the ledger sees it.
fn unresolved(drain: &Drain, daemon: &Daemon) -> usize {
    let sql = format!(
        "SELECT count(*) FROM smsd.attempt a JOIN smsd.instance i ON i.id = a.instance \
         WHERE i.name LIKE '% {}' AND a.state IN ('open', 'in_doubt')",
        daemon.pid
    );
    drain.site.sql(&sql).parse().unwrap()
}

/// Several instances in short, some 30 s.
#[cfg(test)]
mod in_short {
    use super::*;

    fn share_alike(instances: usize, rows: usize) {
        let line = sharing(Server::shared(), instances, rows, Duration::from_millis(25));
        assert_eq!(line.faults_found(), [""; 0]);
    }

    #[test]
    fn two_instances_share_alike() {
        share_alike(2, 3000);
    }

    #[test]
    fn five_instances_share_alike() {
        share_alike(5, 4000);
    }

    #[test]
    fn instances_stopped_past_their_lease_and_continued_double_nothing_unknown() {
        let line = stops(3, 1, fastrand::u64(..1000));
        eprintln!("{line:?}");
        assert_eq!(line.faults_found(), [""; 0]);
    }

    /// The recipients of all instances, and one that lives.
    #[test]
    fn nobody_waits_for_an_instance_that_stands_still_or_is_dead() {
        let db = Arc::new(Server::shared().database());
        let mut all = Instances::start(3, &db, Duration::ZERO, "");
        let dead = all.daemons.pop().unwrap();
        all.daemons[1].signal(Signal::SIGSTOP);
        dead.kill();
        let mut slowest = Duration::ZERO;
        for n in 1..=15 {
            let inserted = Instant::now();
            all.sites[0].insert_many(n, 1);
            until_within(10, "it is sent", || (all.gateways[0].accepted_count() == n).then_some(()));
            slowest = slowest.max(inserted.elapsed());
        }
        assert!(slowest < Duration::from_secs(3), "within a moment: {slowest:?}");
        all.daemons[1].signal(Signal::SIGCONT);
        all.sites[0].insert_many(16, 100);
        until_within(30, "all are sent", || (all.sites[0].counts() == [0, 115, 0]).then_some(()));
        assert_eq!(all.shares().iter().sum::<usize>(), 115, "nothing twice");
        all.stop();
    }
}
