//! As `nav start smsd`, `nav status` and `nav stop smsd` do it. What NAV does, as far as it concerns us (NAV 5,
//! python/nav/startstop.py and daemons.yml):
//!
//! * It runs `smsd` without arguments, as its own user, and takes exit code 0 for a start.
//! * It knows a daemon by the first line of smsd.pid: digits, and a process of that number that takes signal 0.
//! * It stops one by SIGTERM, up to three times: it waits 2 s after the first and 4 s after the second, and looks
//!   whether the process is gone each time that it sends the next. So a stop that takes longer is hurried on.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smsd::demo::gateway::{Answer, Behaviour};

use super::bench::{Site, gateway_that, until, ways};

/// NAV's view of a daemon.
struct Nav<'a> {
    site: &'a Site,
    pidfile: PathBuf,
}

impl Nav<'_> {
    fn of(site: &Site) -> Nav<'_> {
        Nav { site, pidfile: site.path("smsd.pid") }
    }

    fn pid(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(&self.pidfile).ok()?;
        let line = text.lines().next()?.trim();
        line.parse().ok().map(Pid::from_raw)
    }

    fn is_up(&self) -> bool {
        self.pid().is_some_and(|pid| kill(pid, None) != Err(Errno::ESRCH))
    }

    /// As root NAV becomes its user first.
    fn start(&self) -> bool {
        if self.is_up() {
            return false;
        }
        self.site.command_as_nobody(&[]).status().unwrap().success()
    }

    fn stop(&self) -> bool {
        let Some(pid) = self.pid().filter(|_| self.is_up()) else { return false };
        for attempt in 1..=3 {
            if kill(pid, Signal::SIGTERM) == Err(Errno::ESRCH) {
                return true;
            }
            if kill(pid, None).is_ok() {
                sleep(Duration::from_secs(attempt * 2));
            }
        }
        false
    }
}

#[test]
fn nav_starts_it_sees_it_and_stops_it() {
    let gateway = gateway_that(Behaviour::ok().delay(Duration::from_millis(500)));
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    let nav = Nav::of(&site);
    assert!(!nav.is_up() && !nav.stop(), "nothing runs");
    assert!(nav.start());
    let pid =
        until("it is up", || nav.pid().filter(|_| nav.is_up() && site.read("smsd.log").contains("started")));
    assert!(!nav.start(), "it runs already");
    assert_eq!(nav.pid(), Some(pid));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "also if it never was root: {status}");

    // A stop with an SMS on its way: that one ends well.
    site.insert("+4790000001", "on its way", None);
    until("it is on its way", || (gateway.targets().len() == 1).then_some(()));
    assert!(nav.stop());
    assert!(!nav.is_up() && !site.path("smsd.pid").exists());
    assert_eq!(site.counts(), [0, 1, 0]);
    let stats = site.json(&["queue", "stats"]);
    assert_eq!([&stats["open"], &stats["in_doubt"]], [0, 0], "{stats}");

    assert!(nav.start(), "and again");
    site.insert("+4790000002", "after the restart", None);
    until("it is sent", || (site.counts() == [0, 2, 0]).then_some(()));
    assert!(nav.stop() && gateway.accepted_count() == 2);
    site.audit();
}

#[test]
fn a_gateway_that_hangs_makes_navs_stop_a_quick_one_and_the_doubt_is_on_record() {
    let gateway = gateway_that(Behaviour::answering(Answer::Hang).taking());
    let site = Site::nav("", &ways(&[gateway.addr], "grace: 0.2s"));
    let nav = Nav::of(&site);
    assert!(nav.start());
    site.insert("+4790000001", "hangs", None);
    until("it is on its way", || (gateway.accepted_count() == 1).then_some(()));
    let asked = Instant::now();
    assert!(nav.stop(), "NAV would say that it failed");
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    assert!(!nav.is_up());
    assert_eq!(site.counts(), [1, 0, 0]);
    gateway.set(Behaviour::ok());
    assert!(nav.start());
    until("it is resent", || (site.counts() == [0, 1, 0]).then_some(()));
    assert_eq!(site.account(&gateway.accepted()), 1, "twice, and on record");
    assert!(nav.stop());
}
