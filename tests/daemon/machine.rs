//! A drain on a machine that lacks this or that again and again: the long forms of `full.rs`, `descriptors.rs`,
//! `clock.rs` and `log.rs`, for `make torture`. The oracle is that of `torture.rs`.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use smsd::demo::gateway::Behaviour;

use super::bench::{Site, give};
use super::power::apart;
use super::torture::{Drain, Kind, Line, USUAL};
use crate::faults::Faults;
use crate::postgres::Server;

/// How long something lacks at most.
const LACK: Duration = Duration::from_secs(2);
const HOUR: i64 = 3600;
const TEN_YEARS: i64 = 87_660 * HOUR;

/// The disk of the embedded queue is full.
pub fn full_disks(times: usize, seed: u64) -> Line {
    let (faults, mut drain) = (Faults::new(), Drain::new(USUAL, seed, apart));
    let command = command(&drain, &faults);
    let daemon = drain.begin_with(command);
    for n in 0..times {
        drain.run_for_a_while();
        faults.set_disk_full(true);
        sleep(drain.random_up_to(LACK));
        faults.set_disk_full(false);
        drain.works_again(&daemon);
        drain.progress("full disk", n + 1, times);
    }
    let mut line = drain.account(daemon, times, 0);
    if faults.refused() == 0 {
        line.complaints.push("the disk was never full: it tests nothing".into());
    }
    line
}

/// No descriptors, and the gateway wants a connection for each SMS.
pub fn no_descriptors(times: usize, seed: u64) -> Line {
    let (faults, mut drain) = (Faults::new(), Drain::on_sqlite(USUAL, seed));
    drain.gateway.set(Behaviour::ok().delay(Duration::from_millis(15)).header("Connection", "close"));
    let command = command(&drain, &faults);
    let daemon = drain.begin_with(command);
    for n in 0..times {
        drain.run_for_a_while();
        faults.set_no_descriptors(true);
        sleep(drain.random_up_to(LACK));
        faults.set_no_descriptors(false);
        drain.works_again(&daemon);
        drain.progress("time without descriptors", n + 1, times);
    }
    drain.account(daemon, times, 0)
}

/// The clock is set to any time within ten years, under the daemon and its database.
pub fn clock_jumps(kind: Kind, times: usize, seed: u64) -> Line {
    let faults = Faults::new();
    let mut drain = Drain::new(USUAL, seed, |main, rest| {
        let main = format!("{main}\nautocancel: 1 hour");
        if kind == Kind::Sqlite {
            return Site::embedded(&main, rest);
        }
        let env: [(&str, PathBuf); 2] = faults.env();
        Site::on(Arc::new(Arc::new(Server::own_with("", &env)).database()), &main, rest)
    });
    let command = command(&drain, &faults);
    let daemon = drain.begin_with(command);
    for n in 0..times {
        drain.run_for_a_while();
        let span = *drain.random.choice(&[HOUR, TEN_YEARS]).unwrap();
        // What is put in bears the time of the test, to which the clock comes back each time.
        let ahead = if n % 2 == 0 { drain.random.i64(-span..=span) } else { 0 };
        faults.set_clock_ahead(ahead);
        drain.works_again(&daemon);
        drain.progress("jump", n + 1, times);
    }
    faults.set_clock_ahead(0);
    // By the database's clock our lease may be over each time, and what is on its way in doubt.
    let bound = if kind == Kind::Sqlite { 0 } else { times * USUAL };
    drain.account(daemon, times, bound)
}

/// Nobody reads the log, which is opened anew.
pub fn blocked_logs(times: usize, seed: u64) -> Line {
    let mut reader = None;
    let mut drain = Drain::new(USUAL, seed, |main, rest| {
        let site = Site::embedded("", "");
        let fifo = site.path("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        give(&fifo);
        // Both ends, so that it can be opened.
        reader = Some(File::options().read(true).write(true).open(&fifo).unwrap());
        site.configure(&format!("{main}\nlog_file: {}", fifo.display()), rest);
        site
    });
    let command = command(&drain, &Faults::new());
    let daemon = drain.begin_with(command);
    for n in 0..times {
        drain.run_for_a_while();
        daemon.signal(Signal::SIGHUP);
        drain.works_again(&daemon);
        drain.progress("opening of the log", n + 1, times);
    }
    drain.account(daemon, times, 0)
}

/// The daemon, befallen; its queue is there.
fn command(drain: &Drain, faults: &Faults) -> Command {
    let said = drain.site.run(&["db", "init"]);
    assert_eq!(said.code, 0, "{said:?}");
    let mut command = drain.site.command(&["-f"]);
    faults.befall(&mut command, Some(&drain.state_dir()));
    command
}

/// Some 20 s.
#[cfg(test)]
#[allow(unused_imports, reason = "the bench has no tests")]
mod in_short {
    use super::super::torture::nothing_is_lost;
    use super::*;

    #[test]
    fn a_drain_under_full_disks_loses_nothing() {
        nothing_is_lost(full_disks(1, fastrand::u64(..1000)));
    }

    #[test]
    fn a_drain_without_descriptors_loses_nothing() {
        nothing_is_lost(no_descriptors(1, fastrand::u64(..1000)));
    }

    #[test]
    fn a_drain_on_sqlite_under_a_jumping_clock_loses_nothing() {
        nothing_is_lost(clock_jumps(Kind::Sqlite, 2, fastrand::u64(..1000)));
    }

    #[test]
    fn a_drain_on_postgresql_under_a_jumping_clock_loses_nothing() {
        nothing_is_lost(clock_jumps(Kind::PostgreSql, 3, fastrand::u64(..1000)));
    }

    #[test]
    fn a_drain_with_a_blocked_log_loses_nothing() {
        nothing_is_lost(blocked_logs(2, fastrand::u64(..1000)));
    }
}
