//! Another program writes in the file of the embedded queue, and takes its time.

use std::time::{Duration, Instant};

use smsd::demo::gateway::Behaviour;

use super::bench::{Site, gateway_that, until, until_within, ways};

/// As a `VACUUM` does, or an operator who went to lunch in mid-transaction.
const LOCKED: Duration = Duration::from_secs(20);
const REFUSED_AFTER: Duration = Duration::from_secs(18);

/// An SMS is at a gateway that refuses it while the file is locked, for longer than a lease lasts.
#[test]
fn a_file_that_is_locked_for_longer_than_a_lease_costs_no_lease_and_leaves_no_doubt() {
    let gateway = gateway_that(Behaviour::ok());
    gateway.set_for("+4790000001", Behaviour::status(503).delay(REFUSED_AFTER));
    let site = Site::embedded("delay: 300", &ways(&[gateway.addr], "timeout: 40\nclass.503: RTMP"));
    let daemon = site.start();
    assert_eq!(site.run(&["send", "--to", "+4790000001", "is refused in a while"]).code, 0);
    until("it is at the gateway", || (gateway.targets().len() == 1).then_some(()));

    let mut file = rusqlite::Connection::open(site.path("queue.db")).unwrap();
    file.busy_timeout(Duration::from_secs(10)).unwrap();
    let held = file.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    for n in 2..=6 {
        let sql = "INSERT INTO alert (phone, text) VALUES (?1, 'another')";
        held.execute(sql, [format!("+479000000{n}")]).unwrap();
    }
    std::thread::sleep(LOCKED);
    held.commit().unwrap();
    let freed = Instant::now();
    until_within(10, "the others leave", || (gateway.accepted_count() == 5).then_some(()));
    assert!(freed.elapsed() < Duration::from_secs(2), "they left after {:?}", freed.elapsed());
    let attempts = || site.json(&["why", "1"])["attempts"].as_array().unwrap().clone();
    until("its refusal is written", || (attempts()[0]["state"] != "open").then_some(()));
    assert_eq!(attempts()[0]["state"], "failed", "{:?}", attempts());
    assert_eq!(daemon.said("the lease ran out"), 0, "{}", daemon.log());
    let stats = site.json(&["queue", "stats"]);
    assert_eq!((&stats["in_doubt"], &stats["possible_duplicates"]), (&0.into(), &0.into()), "{stats}");
    site.audit();
    daemon.stop();
}
