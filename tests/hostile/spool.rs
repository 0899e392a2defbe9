//! Files: for thousands of numbers each, under a name that is taken a thousand times, and not to be moved.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::place::{Place, account};
use crate::bench::{Daemon, give, until, until_within};
use crate::faults::Faults;

const SPOOL: &str = "[spool]\nfolder: spool\npoll_interval: 100ms\n";

#[test]
fn files_for_thousands_of_numbers_go_to_failed_and_harm_nobody() {
    files_for_thousands(12, 64);
}

#[test]
#[ignore = "make attack"]
fn hundreds_of_files_for_thousands_of_numbers() {
    files_for_thousands(600, 256);
}

/// Files of 64 KiB, each with 2,700 numbers.
fn files_for_thousands(files: usize, mib: u64) {
    let place = Place::new("", SPOOL);
    let daemon = started(&place);
    let begun = Instant::now();
    let attack = || {
        for file in 0..files {
            let to: String = (file..file + 2_700).map(|n| format!("To: s{n:05}\n")).collect();
            let text = "y".repeat(64 * 1024 - 1 - to.len());
            put(&place, &format!("bomb.{file}"), &format!("{to}\n{text}"));
            if file == files / 2 {
                put(&place, "honest", "To: 4790000009\n\nstill here");
            }
        }
        until_within(60, "all are put aside", || (names(&place, "failed").len() == files).then_some(()));
    };
    let urgent = place.while_honest(attack, || {});
    account("files for 2,700 numbers", files, begun, &daemon, urgent, mib);
    let words = "Fail_reason: more than 1000 numbers";
    until("each has its reason", || {
        let has = |n: usize| place.site.read(&format!("spool/failed/bomb.{n}")).contains(words);
        (0..files).all(has).then_some(())
    });
    assert!(place.is_sent("still here"));
    assert_eq!((names(&place, "outgoing").len(), names(&place, "sent")), (0, vec!["honest".to_owned()]));
    daemon.stop();
}

#[test]
fn a_name_that_is_taken_a_thousand_times_is_taken_once_more() {
    let place = Place::new("", SPOOL);
    let daemon = started(&place);
    fs::write(place.site.path("spool/sent/n"), "old").unwrap();
    for n in 1..1_000 {
        fs::write(place.site.path(&format!("spool/sent/n.{n}")), "old").unwrap();
    }
    for round in 0..3 {
        put(&place, "n", &format!("To: 4790000009\n\nround {round}"));
        until("it is sent and moved", || {
            let moved = names(&place, "sent").len() == 1_001 + round && names(&place, "outgoing").is_empty();
            (moved && place.is_sent(&format!("round {round}"))).then_some(())
        });
    }
    assert_eq!(place.ask("GET", "/readyz", "", "").status, 200);
    daemon.stop();
}

#[test]
fn what_can_not_be_moved_keeps_no_other_file_waiting_and_readyz_tells() {
    let place = Place::new("", SPOOL);
    let faults = Faults::new();
    let mut command = place.site.command(&["-f"]);
    faults.befall(&mut command, None);
    let daemon = folders(&place, place.up(place.site.spawn(command)));
    let may_write = |folder: &str, mode| {
        fs::set_permissions(place.site.path("spool").join(folder), Permissions::from_mode(mode)).unwrap();
    };
    may_write("sent", 0o550);
    may_write("failed", 0o550);
    put(&place, "bad", "no header, no number\n");
    put(&place, "first", "To: 4790000009\n\nfirst");
    until("the first is sent", || place.is_sent("first").then_some(()));
    until("it is told", || (place.ask("GET", "/readyz", "", "").status == 503).then_some(()));
    put(&place, "second", "To: 4790000009\n\nsecond");
    until("the second is sent, too", || place.is_sent("second").then_some(()));
    place.urgent();
    assert_eq!(place.ask("GET", "/readyz", "", "").status, 503);
    assert_eq!(names(&place, "outgoing"), ["bad", "first", "second"]);
    // Once, and perhaps of another one since.
    assert!((1..=3).contains(&daemon.said("can not be taken out of outgoing/")), "{}", daemon.log());

    may_write("sent", 0o750);
    may_write("failed", 0o750);
    faults.set_uptime_ahead(31);
    until("it is ready again", || (place.ask("GET", "/readyz", "", "").status == 200).then_some(()));
    assert_eq!(names(&place, "outgoing"), [""; 0]);
    assert_eq!((names(&place, "sent").len(), names(&place, "failed").len()), (2, 1));
    assert_eq!(place.gateway.accepted_count(), 3, "each once");
    daemon.stop();
}

fn started(place: &Place) -> Daemon {
    folders(place, place.start())
}

/// Waits for the folders.
fn folders(place: &Place, daemon: Daemon) -> Daemon {
    until("the folders are there", || place.site.path("spool/failed").exists().then_some(()));
    daemon
}

/// As careful scripts do.
fn put(place: &Place, name: &str, content: &str) {
    let aside = place.site.path(&format!("{name}.aside"));
    fs::write(&aside, content).unwrap();
    fs::set_permissions(&aside, Permissions::from_mode(0o644)).unwrap();
    give(&aside);
    fs::rename(aside, place.site.path("spool/outgoing").join(name)).unwrap();
}

fn names(place: &Place, folder: &str) -> Vec<String> {
    let read = fs::read_dir(place.site.path("spool").join(folder)).unwrap();
    let names = read.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}
