//! Few descriptors: `ulimit -n 32`, and none at all for a while.

use std::process::{Command, Stdio};
use std::time::Duration;

use smsd::demo::gateway::Behaviour;

use super::bench::{Gateway, Site, gateway_that, until, until_within, ways};
use crate::faults::Faults;

const ALERTS: usize = 400;

#[test]
fn thirty_two_descriptors_are_enough_for_the_embedded_queue() {
    let gateway = slow_gateway();
    let site = Site::embedded("concurrency: 64", &ways(&[gateway.addr], ""));
    send(&site, 1, ALERTS);
    drains(&site, &gateway);
}

#[test]
fn thirty_two_descriptors_are_enough_for_postgresql() {
    let gateway = slow_gateway();
    let site = Site::nav("concurrency: 64", &ways(&[gateway.addr], ""));
    site.insert_many(1, ALERTS);
    drains(&site, &gateway);
}

/// More at once are wanted than there are descriptors.
fn drains(site: &Site, gateway: &Gateway) {
    let daemon = site.spawn(limited(site, 32));
    until_within(60, "all are sent", || {
        assert!(daemon.runs(), "{}", daemon.log());
        (site.json(&["queue", "stats"])["sent"] == ALERTS).then_some(())
    });
    assert_eq!(gateway.accepted_count(), ALERTS, "each once");
    assert_eq!(daemon.said("lower `concurrency`"), 1, "it says so once");
    for fault in ["out of rotation", "does not answer", "Too many open files"] {
        assert_eq!(daemon.said(fault), 0, "{}", daemon.log());
    }
    site.audit();
    daemon.stop();
}

#[test]
fn with_too_few_it_says_how_many_it_needs() {
    let site = Site::embedded("", &ways(&[slow_gateway().addr], ""));
    for descriptors in [12, 20, 26] {
        let mut daemon = site.spawn(limited(&site, descriptors));
        assert_eq!(daemon.ended_within(20), Some(1), "{}", daemon.log());
        assert!(daemon.log().contains("smsd needs more than 26"), "{}", daemon.log());
    }
}

#[test]
fn the_embedded_queue_outlives_a_time_without_descriptors() {
    let gateway = slow_gateway();
    let site = Site::embedded("delay: 1", &ways(&[gateway.addr], ""));
    there_are_none(&site, &gateway, |from, count| send(&site, from, count));
}

#[test]
fn postgresql_outlives_a_time_without_descriptors() {
    let gateway = slow_gateway();
    let site = Site::nav("delay: 1", &ways(&[gateway.addr], ""));
    there_are_none(&site, &gateway, |from, count| site.insert_many(from, count));
}

/// Those that are open stay so, and no more can be had: no connection to the gateway, nor to the database.
fn there_are_none(site: &Site, gateway: &Gateway, put_in: impl Fn(usize, usize)) {
    let faults = Faults::new();
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, None);
    let daemon = site.spawn(command).up();
    until("it has begun", || (daemon.said("started") == 1).then_some(()));
    faults.set_no_descriptors(true);
    put_in(1, 50);
    until("it is told", || {
        let told = ["out of rotation", "the queue does not answer"].map(|what| daemon.said(what));
        (told != [0, 0]).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.runs(), "{}", daemon.log());
    assert_eq!(gateway.accepted_count(), 0, "how could it");
    faults.set_no_descriptors(false);
    put_in(51, 50);
    until_within(60, "all are sent", || (site.json(&["queue", "stats"])["sent"] == 100).then_some(()));
    assert_eq!(gateway.accepted_count(), 100, "each once");
    assert_eq!(site.audit()["possible_duplicates"], 0, "nothing was in doubt");
    daemon.stop();
}

/// The daemon with so many descriptors.
fn limited(site: &Site, descriptors: usize) -> Command {
    let plain = site.command(&["-f"]);
    let mut command = Command::new("sh");
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["-c", "ulimit -n $0 && exec \"$@\"", &descriptors.to_string()]).arg(plain.get_program());
    command.args(plain.get_args());
    command
}

fn send(site: &Site, from: usize, count: usize) {
    let mut command = site.command(&["send", "an alert"]);
    command.args((from..from + count).flat_map(|n| ["--to".into(), format!("+47{}", 90_000_000 + n)]));
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

fn slow_gateway() -> Gateway {
    gateway_that(Behaviour::ok().delay(Duration::from_millis(50)))
}
