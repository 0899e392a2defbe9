//! The power is cut in mid-drain, with the embedded queue: what was not synced is gone, in part, or torn. Meanwhile
//! alerts are put in by `smsd send` and by another program; one counts as put in when that program has ended well.
//! The oracle is that of `torture.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use smsd::demo::gateway::Behaviour;

use super::bench::{Site, give, nobody_listens, ways};
use super::torture::{Drain, Line, number, text};
use crate::faults::{Disk, Faults};

/// As a disk that is worth the name.
const SYNC: Duration = Duration::from_millis(3);

/// The power is cut so often. `bug` is a known fault to switch on (`src/seeded.rs`).
pub fn cuts(cuts: usize, concurrency: usize, seed: u64, bug: Option<&str>) -> Line {
    let mut house = House::new(concurrency, seed, bug);
    let birth = Instant::now();
    house.live(Duration::from_secs(1));
    let longest = (birth.elapsed() + Duration::from_millis(250)).min(Duration::from_millis(1500));
    for n in 1..cuts {
        let life = house.drain.random_up_to(longest);
        house.live(life);
        house.drain.progress("power cut", n + 1, cuts);
    }
    house.account(cuts)
}

/// The power is cut when the first alert of a new queue has just been put in.
pub fn first_alerts(cuts: usize, seed: u64) -> Line {
    let mut line = Line { faults: cuts, copies: 1, ..Line::default() };
    let began = Instant::now();
    let mut house = House::new(1, seed, None);
    for n in 1..=cuts {
        house.drain.inserted = n;
        line.alerts +=
            usize::from(house.put_in_one(n).is_some_and(|mut child| child.wait().unwrap().success()));
        house.cut();
        let file = rusqlite::Connection::open(house.drain.state_dir().join("queue.db")).unwrap();
        let waiting =
            file.query_row("SELECT count(*) FROM alert WHERE state = 'waiting'", (), |row| row.get(0));
        line.lost += usize::from(waiting != Ok(1));
        drop(file);
        // The next one finds an empty folder again.
        house.disk = Disk::default();
        house.disk.cut(&house.faults, &house.drain.state_dir(), &mut house.drain.random);
    }
    line.complaints.extend(house.complaints);
    if line.alerts != cuts {
        line.complaints.push(format!("only {} of {cuts} alerts could be put in", line.alerts));
    }
    line.took = began.elapsed();
    line
}

/// A site in a house whose power fails.
struct House {
    drain: Drain,
    faults: Faults,
    disk: Disk,
    bug: Option<String>,
    /// Where a copy of the queue is looked at, so that the look changes nothing.
    mirror: Site,
    complaints: Vec<String>,
}

impl House {
    fn new(concurrency: usize, seed: u64, bug: Option<&str>) -> House {
        let mirror = Site::embedded("", &ways(&[nobody_listens()], ""));
        let drain = Drain::new(concurrency, seed, apart);
        let faults = Faults::with_journal();
        faults.set_slow_sync(SYNC);
        let bug = bug.map(str::to_owned);
        House { drain, faults, disk: Disk::default(), bug, mirror, complaints: Vec::new() }
    }

    /// Starts the daemon, lets it work, and cuts the power.
    fn live(&mut self, life: Duration) {
        let delay = self.drain.random_up_to(Duration::from_millis(60));
        self.drain.gateway.set(Behaviour::ok().delay(delay));
        let daemon = self.drain.site.spawn(self.darkly(self.drain.site.command(&["-f"])));
        let (dark, asked) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let house = &*self;
        std::thread::scope(|scope| {
            scope.spawn(|| house.put_in_until(&dark, &asked));
            sleep(life);
            assert!(daemon.runs(), "it ended by itself: {}", daemon.log());
            daemon.kill();
            dark.store(true, Ordering::Relaxed);
        });
        for (from, count, confirmed) in asked.into_inner().unwrap() {
            self.drain.inserted = from + count - 1;
            if !confirmed {
                self.drain.unconfirmed.extend(from..from + count);
            }
        }
        self.cut();
    }

    /// Puts alerts in, as (first, how many, whether they are in for certain).
    fn put_in_until(&self, dark: &AtomicBool, asked: &Mutex<Vec<(usize, usize, bool)>>) {
        let mut next = self.drain.inserted + 1;
        let mut many = true;
        while !dark.load(Ordering::Relaxed) {
            let waits = (next - 1).saturating_sub(self.drain.gateway.accepted_count());
            let (count, child) = match many && waits < 600 {
                true => (200, self.put_in_many(next, 200)),
                false => (1, self.put_in_one(next)),
            };
            many = !many;
            let Some(mut child) = child else { continue };
            let status = loop {
                if dark.load(Ordering::Relaxed) {
                    let _ = child.kill();
                }
                match child.try_wait().unwrap() {
                    Some(status) => break status,
                    None => sleep(Duration::from_millis(2)),
                }
            };
            asked.lock().unwrap().push((next, count, status.success()));
            next += count;
            // A flood of programs would keep the daemon from working on two cores.
            sleep(Duration::from_millis(20));
        }
    }

    /// `smsd send`.
    fn put_in_one(&self, n: usize) -> Option<std::process::Child> {
        let (number, text) = (number(n), text(n));
        let mut command = self.darkly(self.drain.site.command(&["send", "--to", &number, &text]));
        Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// A program of somebody's; none if there is no queue yet.
    fn put_in_many(&self, from: usize, count: usize) -> Option<std::process::Child> {
        let file = self.drain.state_dir().join("queue.db");
        if fs::metadata(&file).map_or(0, |found| found.len()) == 0 {
            return None;
        }
        let values: Vec<String> = (from..from + count)
            .map(|n| format!("('{}', '{}', {})", number(n), text(n), n % 5 + 1))
            .collect();
        let sql = format!("INSERT INTO alert (phone, text, severity) VALUES {};", values.join(", "));
        let mut command = Command::new("sqlite3");
        command.arg("-bail").arg(file).args([".timeout 30000", "PRAGMA synchronous = FULL;", &sql]);
        Some(self.darkly(command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn darkly(&self, mut command: Command) -> Command {
        self.faults.befall(&mut command, Some(&self.drain.state_dir()));
        if let Some(bug) = &self.bug {
            command.env("SMSD_SEEDED_BUG", bug);
        }
        command.stdin(Stdio::null());
        command
    }

    /// The power is cut: the folder becomes what the disk holds of it, and that must be sound.
    fn cut(&mut self) {
        let state = self.drain.state_dir();
        self.disk.cut(&self.faults, &state, &mut self.drain.random);
        if fs::metadata(state.join("queue.db")).map_or(0, |found| found.len()) == 0 {
            return;
        }
        for name in ["queue.db", "queue.db-wal", "queue.db-shm", "queue.db-journal"] {
            let _ = fs::remove_file(self.mirror.path(name));
            if fs::copy(state.join(name), self.mirror.path(name)).is_ok() {
                give(&self.mirror.path(name));
            }
        }
        let file = rusqlite::Connection::open(self.mirror.path("queue.db")).unwrap();
        let integrity = file.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0));
        let tables = file.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get::<_, i64>(0));
        if integrity != Ok("ok".into()) {
            self.complaints.push(format!("the queue after a cut: {integrity:?}"));
        }
        drop(file);
        // A queue that nothing was put into may not be one yet.
        if tables != Ok(0) {
            let audit = self.mirror.run(&["queue", "audit"]);
            if audit.code != 0 {
                self.complaints.push(format!("the audit after a cut: {audit:?}"));
            }
        }
    }

    fn account(mut self, cuts: usize) -> Line {
        self.drain.gateway.set(Behaviour::ok());
        let last = self.drain.site.start();
        let bound = cuts * self.drain.concurrency;
        let mut line = self.drain.account(last, cuts, bound);
        line.complaints.append(&mut self.complaints);
        eprintln!("{} of {} unsynced deeds lost or torn", self.disk.lost, self.disk.unsynced);
        if self.disk.lost == 0 || self.disk.lost == self.disk.unsynced {
            line.complaints.push("no cut lost a part of what was not synced: it tests nothing".into());
        }
        line
    }
}

/// A site whose queue has a folder of its own.
pub(super) fn apart(main: &str, rest: &str) -> Site {
    let site = Site::embedded("", "");
    let state = site.path("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    give(&state);
    let dir = state.display();
    site.write("smsd.conf", &format!("[main]\nusername: nobody\nstate_dir: {dir}\n{main}\n{rest}\n"));
    site
}

/// Some 25 s.
#[cfg(test)]
#[allow(unused_imports, reason = "the bench has no tests")]
mod in_short {
    use super::super::torture::nothing_is_lost;
    use super::*;

    /// A random one, or that of an earlier run; what a test prints is shown when it fails.
    fn seed() -> u64 {
        let seed = std::env::var("POWER_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| fastrand::u64(..1000));
        eprintln!("the same cuts again: POWER_SEED={seed}");
        seed
    }

    #[test]
    fn twenty_power_cuts_on_sqlite_lose_nothing() {
        nothing_is_lost(cuts(20, 16, seed(), None));
    }

    #[test]
    fn the_first_alert_of_a_new_queue_survives_a_power_cut() {
        nothing_is_lost(first_alerts(10, seed()));
    }

    /// Without a sync at each commit, what was acknowledged and what was begun is gone.
    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn seeded_commits_that_are_not_synced_are_found() {
        let line = cuts(20, 16, seed(), Some("CommitsNotSynced"));
        eprintln!("{}", super::super::torture::table(std::slice::from_ref(&line)));
        assert!(line.lost + line.lies + line.unknown > 0, "the power cuts do not find it: mend them");
    }
}
