//! NAV's own tables and files, and a real HTTP server: what an operator relies on who changes from NAV's smsd.

use super::bench::{Site, gateway, gateway_that, until, ways};
use smsd::demo::gateway::Behaviour;

#[test]
fn rows_as_nav_inserts_them_leave_as_sms_and_end_sent() {
    let gateway = gateway_that(Behaviour::ok().body("4711"));
    let site = Site::nav("delay: 5\nconcurrency: 1", &ways(&[gateway.addr], ""));
    site.insert("+4790000001", "bb-gw.example.org is down", Some(2));
    site.insert("+4790000001", "the whole rack is down", Some(1));
    site.insert("+4790000001", "a line is slow", None);
    site.insert("+4790000002", "alone", Some(3));
    let daemon = site.start();
    until("all are sent", || (site.counts() == [0, 4, 0]).then_some(()));

    let taken = gateway.accepted();
    let texts: Vec<(&str, &str)> = taken.iter().map(|sms| (&*sms.phone, &*sms.text)).collect();
    assert_eq!(
        texts,
        [
            ("+4790000001", "1: the whole rack is down; 2: bb-gw.example.org is down; 3: a line is slow"),
            ("+4790000002", "alone"),
        ],
        "most severe first, within an SMS and between them"
    );
    let odd = site.sql(
        "SELECT count(*) FROM smsq WHERE timesent IS NULL OR timesent < time - interval '1 s' \
         OR timesent > localtimestamp + interval '1 s' OR smsid IS NULL",
    );
    assert_eq!(odd, "0", "{}", site.sql("SELECT * FROM smsq"));
    daemon.stop();
}

#[test]
fn the_gateways_reference_is_the_smsid_when_it_fits() {
    for (answer, smsid) in [("", "0"), ("OK", "0"), ("99999999999", "0")] {
        let gateway = gateway_that(Behaviour::ok().body(answer));
        let site = Site::nav("", &ways(&[gateway.addr], ""));
        site.insert("+4790000001", "one", None);
        let daemon = site.start();
        until("it is sent", || (site.counts() == [0, 1, 0]).then_some(()));
        assert_eq!(site.sql("SELECT smsid FROM smsq"), smsid, "answer {answer:?}");
        daemon.stop();
    }
}

#[test]
fn the_most_severe_leave_first_and_those_without_a_severity_last() {
    let gateway = gateway();
    let site = Site::nav("concurrency: 1", &ways(&[gateway.addr], ""));
    for (n, severity) in [None, Some(5), Some(1), Some(3), None, Some(2), Some(4), Some(1)].iter().enumerate()
    {
        site.insert(&format!("+479000000{n}"), &format!("severity {}", severity.unwrap_or(9)), *severity);
    }
    let daemon = site.start();
    until("all are sent", || (gateway.accepted_count() == 8).then_some(()));
    let order: Vec<String> =
        gateway.accepted().iter().map(|sms| format!("{} {}", sms.text, sms.phone)).collect();
    let want = [(1, 2), (1, 7), (2, 5), (3, 3), (4, 6), (5, 1), (9, 0), (9, 4)]
        .map(|(severity, n)| format!("severity {severity} +479000000{n}"));
    assert_eq!(order, want);
    daemon.stop();
}

#[test]
fn what_a_url_could_mistake_arrives_as_it_was_written() {
    const HARD: [(&str, &str); 5] = [
        ("æøå ÆØÅ €", "%C3%A6%C3%B8%C3%A5%20%C3%86%C3%98%C3%85%20%E2%82%AC"),
        (
            "a & b = c # d % e + f ? g / h",
            "a%20%26%20b%20%3D%20c%20%23%20d%20%25%20e%20%2B%20f%20%3F%20g%20%2F%20h",
        ),
        ("100% %20 %(phone)s %(sms)s", "100%25%20%2520%20%25%28phone%29s%20%25%28sms%29s"),
        ("&to=+4712345678&text=x", "%26to%3D%2B4712345678%26text%3Dx"),
        (r#"'; DROP TABLE smsq; -- "\ $1"#, "%27%3B%20DROP%20TABLE%20smsq%3B%20--%20%22%5C%20%241"),
    ];
    let gateway = gateway();
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    for (n, (text, _)) in HARD.iter().enumerate() {
        site.insert(&format!("+479000000{n}"), text, Some(1));
    }
    let daemon = site.start();
    until("all are sent", || (site.counts() == [0, HARD.len(), 0]).then_some(()));
    let taken = gateway.accepted();
    for (n, (text, encoded)) in HARD.iter().enumerate() {
        let sms = taken.iter().find(|sms| sms.phone == format!("+479000000{n}")).expect(text);
        assert_eq!(sms.text, *text);
        // Percent-encoding may leave or encode what RFC 3986 calls unreserved and sub-delims; it must decode alike,
        // and what separates or opens something must be encoded.
        let raw = sms.target.strip_prefix(&format!("/send?to=%2B479000000{n}&text=")).expect(&sms.target);
        assert_eq!(raw, *encoded);
    }
    assert_eq!(gateway.targets().len(), HARD.len());
    daemon.stop();
}

#[test]
fn the_commands_agree_with_the_table_and_the_gateway() {
    let gateway = gateway();
    let site = Site::nav("delay: 600", &ways(&[gateway.addr], ""));
    let long = "x".repeat(140);
    let carried = site.insert("+4790000001", &long, Some(1));
    let squeezed = site.insert("+4790000001", &"y".repeat(140), Some(2));
    let daemon = site.start();
    until("the first SMS is sent", || (site.counts() == [0, 1, 1]).then_some(()));
    let waiting = site.insert("+4790000001", "within the interval", Some(2));
    let sms = format!("{long} +1 see web.");
    assert_eq!(gateway.accepted()[0].text, sms);

    let show = site.json(&["queue", "show", &carried.to_string()]);
    let attempt = &show["attempts"][0];
    assert_eq!((&show["alert"]["state"], &attempt["state"]), (&"sent".into(), &"accepted".into()), "{show}");
    assert_eq!((&attempt["text"], &attempt["dispatcher"]), (&sms.into(), &"gw1".into()), "{show}");
    assert_eq!(attempt["carried"], serde_json::json!([carried]), "{show}");
    assert_eq!(attempt["counted"], serde_json::json!([squeezed]), "{show}");
    let why = site.run(&["why", &squeezed.to_string()]).out;
    assert!(why.contains("IGNORED") && why.contains("gw1"), "{why}");
    let ignored = site.json(&["queue", "list", "--state", "ignored"]);
    assert_eq!(
        (&ignored[0]["id"], &ignored[0]["reason"]),
        (&squeezed.into(), &"squeezed".into()),
        "{ignored}"
    );
    let list = site.json(&["queue", "list", "--state", "waiting"]);
    assert_eq!((list.as_array().unwrap().len(), &list[0]["id"]), (1, &waiting.into()), "{list}");

    let stats = site.json(&["queue", "stats"]);
    assert_eq!([&stats["waiting"], &stats["sent"], &stats["ignored"]], [1, 1, 1], "{stats}");
    let audit = site.audit();
    assert_eq!(
        [&audit["alerts"], &audit["waiting"], &audit["sent"], &audit["ignored"]],
        [3, 1, 1, 1],
        "{audit}"
    );
    assert_eq!(audit["possible_duplicates"], 0, "{audit}");

    // What is not accounted for is found: someone marks a row sent that nobody sent.
    site.sql(&format!("UPDATE smsq SET sent = 'Y' WHERE id = {waiting}"));
    let said = site.run(&["queue", "audit"]);
    assert_eq!(said.code, 1, "{said:?}");
    said.names(&[&format!("alert {waiting}")]);
    daemon.stop();
}

#[test]
fn what_nav_sent_long_ago_and_what_is_deleted_under_us_is_left_alone() {
    let gateway = gateway_that(Behaviour::ok().delay(std::time::Duration::from_millis(700)));
    let site = Site::nav("", &ways(&[gateway.addr], ""));
    site.sql(
        "INSERT INTO smsq (accountid, time, phone, msg, sent, smsid, timesent) \
         SELECT 1, now() - interval '1 year', '+4790000001', 'old', CASE n % 2 WHEN 0 THEN 'Y' ELSE 'I' END, 0, \
         now() - interval '1 year' FROM generate_series(1, 1000) n",
    );
    site.insert("+4790000002", "deleted while on its way", None);
    let daemon = site.start();
    until("it is on its way", || (gateway.targets().len() == 1).then_some(()));
    site.sql("DELETE FROM smsq WHERE sent = 'N'");
    until("it is told", || (daemon.said("removed or changed by others") == 1).then_some(()));
    let id = site.insert("+4790000003", "after that", None);
    until("it is sent", || {
        (site.sql(&format!("SELECT sent FROM smsq WHERE id = {id}")) == "Y").then_some(())
    });
    assert_eq!(gateway.accepted_count(), 2);
    assert_eq!(site.audit()["before_ledger"], 1000);
    daemon.stop();
}
