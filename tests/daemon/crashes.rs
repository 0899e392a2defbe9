//! kill -9 at random moments: the gateway's own list is the oracle.

use super::bench::{Gateway, Site, gateway_that, until, until_within, ways};
use smsd::demo::gateway::Behaviour;
use std::collections::HashMap;
use std::time::Duration;

const KILLS: usize = 10;
const ALERTS: usize = 2000;
const CONCURRENCY: usize = 8;

/// What a gateway needs to think: long enough for a kill to fall between its yes and our commit.
const DELAY: Duration = Duration::from_millis(15);

#[test]
fn kill_9_at_ten_random_moments_of_a_drain_from_postgresql() {
    let gateway = slow_gateway();
    let site = Site::nav(&keys(), &ways(&[gateway.addr], "grace: 0.2s"));
    site.insert_many(1, ALERTS);
    is_killed_ten_times(&site, &gateway);
}

#[test]
fn kill_9_at_ten_random_moments_of_a_drain_from_the_embedded_queue() {
    let gateway = slow_gateway();
    let site = Site::embedded(&keys(), &ways(&[gateway.addr], "grace: 0.2s"));
    let numbers: Vec<String> = (1..=ALERTS).map(|n| format!("+47{}", 90_000_000 + n)).collect();
    let mut args = vec!["send", "-q"];
    args.extend(numbers.iter().flat_map(|n| ["--to", n]));
    args.push("an alert");
    let said = site.run(&args);
    assert_eq!((said.code, said.out.lines().count()), (0, ALERTS), "{}", said.err);
    is_killed_ten_times(&site, &gateway);
}

fn slow_gateway() -> Gateway {
    gateway_that(Behaviour::ok().delay(DELAY))
}

fn keys() -> String {
    // A full look is what finds an alert that a person made to wait again.
    format!("concurrency: {CONCURRENCY}\ndelay: 2")
}

fn is_killed_ten_times(site: &Site, gateway: &Gateway) {
    let mut random = fastrand::Rng::new();
    let seed = random.get_seed();
    for n in 0..KILLS {
        let daemon = site.start();
        let target = gateway.accepted_count() + random.usize(1..ALERTS / KILLS * 9 / 10);
        until_within(30, "so many are sent", || {
            assert!(daemon.runs(), "it ended by itself");
            (gateway.accepted_count() >= target).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
        daemon.kill();
        assert!(gateway.accepted_count() < ALERTS, "kill {n} came too late, seed {seed}");
        if n % 3 == 0 {
            // Every alert is accounted for at any moment, also with attempts open that nobody works on.
            site.audit();
        }
    }
    let daemon = site.start();
    until_within(60, "nothing waits but what is held", || {
        let stats = site.json(&["queue", "stats"]);
        (stats["waiting"] == stats["held"] && stats["open"] == 0).then_some(())
    });
    site.audit();
    // One that was killed twice between yes and commit is a person's, who sends it anew.
    let held = site.json(&["queue", "list", "--state", "held", "--limit", "100"]);
    let mut twice = site.account(&gateway.accepted());
    for row in held.as_array().unwrap() {
        let id = row["id"].to_string();
        for verb in ["cancel", "requeue"] {
            let said = site.run(&["queue", verb, &id]);
            assert_eq!(said.code, 0, "{said:?}");
        }
    }
    until("nothing waits", || (site.json(&["queue", "stats"])["waiting"] == 0).then_some(()));
    let taken = gateway.accepted();
    if held.as_array().unwrap().is_empty() {
        twice = site.account(&taken);
    }
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for sms in &taken {
        *numbers.entry(&sms.phone).or_default() += 1;
    }
    assert_eq!(numbers.len(), ALERTS, "nothing is lost, seed {seed}");
    let audit = site.audit();
    assert_eq!([&audit["sent"], &audit["waiting"]], [ALERTS, 0], "{audit}");
    let on_record = audit["possible_duplicates"].as_u64().unwrap() as usize;
    assert!(twice <= on_record, "{twice} went out twice, {on_record} are on record, seed {seed}");
    // On its way is what is written and not settled, at most `concurrency`: any of it may go out twice.
    assert!(on_record <= KILLS * CONCURRENCY, "{on_record} doubts are too many, seed {seed}");
    assert!(twice > 0, "ten kills hit no SMS between yes and commit: the test does not test");
    let held = held.as_array().unwrap().len();
    eprintln!("{KILLS} kills: {twice} went out twice, {on_record} on record, {held} were held for a person");
    daemon.stop();
}
