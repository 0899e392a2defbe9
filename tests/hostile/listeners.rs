//! Who listens takes no place from who hands in, and no longer than it may.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::place::{Answer, Place, account, bearer, token};
use crate::bench::until;

/// A stream of events by a bearer or a cookie; the head of its answer is read.
fn listen(place: &Place, path: &str, credential: &str) -> (u16, TcpStream) {
    let mut stream = place.connect();
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{credential}\r\n", place.address);
    stream.write_all(head.as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), stream)
}

#[test]
fn listeners_leave_places_for_who_hands_in() {
    let place = Place::new("", "");
    let plain = place.site.command(&["-f"]);
    let mut command = Command::new("sh");
    command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .args(["-c", "ulimit -n 1024 && exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    let daemon = place.up(place.site.spawn(command));
    let begun = Instant::now();
    let mut open = Vec::new();
    let attack = || {
        for n in 0..256 {
            let path = if n % 4 == 0 { "/api/v1/events" } else { "/live" };
            let (status, stream) = listen(&place, path, &bearer("screen"));
            assert!([200, 503].contains(&status), "{status}");
            open.push((status, stream));
        }
    };
    let mut urgent = place.while_honest(attack, || {});
    let listening = open.iter().filter(|(status, _)| *status == 200).count();
    assert!((8..=64).contains(&listening), "{listening} of 256 places");
    assert_eq!(listen(&place, "/api/v1/events", &bearer("boss")).0, 200, "another caller may listen, too");
    for _ in 0..5 {
        urgent = urgent.max(place.urgent());
    }
    account("listeners, 1,024 descriptors", 256, begun, &daemon, urgent, 64);
    assert_eq!(daemon.said("turned away: more comes at once than there is room for"), 1, "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_token_that_is_taken_back_is_told_nothing_more() {
    let place = Place::new("", "");
    let daemon = place.start();
    let session = format!("Cookie: {}\r\n", place.log_in(&token("screen")).session());
    let (_, mut events) = listen(&place, "/api/v1/events", &bearer("screen"));
    let (_, by_session) = listen(&place, "/api/v1/events", &session);
    let (_, live) = listen(&place, "/live", &session);
    let (_, mut other) = listen(&place, "/api/v1/events", &bearer("boss"));
    place.queued("icinga", "+4790000001", "before", 1);
    told(&mut events, "+4790000001");

    place.revoke("", "screen");
    daemon.signal(Signal::SIGHUP);
    until("the token is gone", || (place.get("screen", "/api/v1/status").status == 401).then_some(()));
    place.queued("icinga", "+4790000002", "after", 1);
    told(&mut other, "+4790000002");
    for stream in [events, by_session, live] {
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut rest = String::new();
        let end = Read::take(&stream, 1 << 20).read_to_string(&mut rest);
        assert!(end.is_ok(), "it goes on: {rest}");
        assert!(!rest.contains("+4790000002"), "{rest}");
    }
    let again = place.ask("GET", "/api/v1/status", &session, "");
    assert_eq!(again.status, 401, "{again:?}");
    daemon.stop();
}

/// Reads on until it is told of this number.
#[track_caller]
fn told(stream: &mut TcpStream, number: &str) {
    let (mut all, mut some) = (String::new(), [0; 4096]);
    while !all.contains(number) {
        let n = stream.read(&mut some).unwrap();
        assert!(n > 0, "it ended: {all}");
        all.push_str(&String::from_utf8_lossy(&some[..n]));
    }
}

#[test]
fn a_thousand_who_ask_whether_it_is_ready_are_one() {
    let place = Place::new("allow: +4791\n", "");
    let daemon = place.start();
    // 20,000 alerts that wait.
    for batch in 0..20 {
        let to: Vec<String> = (0..1_000).map(|n| format!("+99{batch:03}{n:06}")).collect();
        let body = serde_json::json!({"to": to, "text": "waits", "severity": 5}).to_string();
        assert_eq!(place.post("printer", "/api/v1/alerts", &body).status, 202);
    }
    let ask = |times: usize| {
        let begun = Instant::now();
        let mut stream = place.connect();
        let head = format!("GET /readyz HTTP/1.1\r\nHost: {}\r\n", place.address);
        let asked = format!("{head}\r\n").repeat(times - 1) + &head + "Connection: close\r\n\r\n";
        stream.write_all(asked.as_bytes()).unwrap();
        let answers = Answer::whole(stream);
        let all = format!("{}\n{}", answers.head, answers.body.to_lowercase());
        assert_eq!(all.matches("http/1.1 200").count(), times, "{all}");
        begun.elapsed()
    };
    ask(1);
    let (before, begun) = (daemon.cpu(), Instant::now());
    let took = ask(1_000);
    let cost = daemon.cpu() - before;
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(cost < Duration::from_millis(1_500), "{cost:?}");
    account("asks whether it is ready", 1_000, begun, &daemon, place.urgent(), 64);
    daemon.stop();
}
