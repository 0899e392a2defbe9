//! What it survives.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, JSON, read, token};
use smsd::web::access::Scope;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_make_no_sense_are_refused_and_queue_nothing() {
    let bench = Bench::start(vec![]).await;
    let deep = format!("{{\"to\":{}1{},\"text\":\"x\"}}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!(r#"{{"to":"112","text":"{}"}}"#, "x".repeat(64 * 1024 + 1));
    let many = format!(
        r#"{{"to":[{}],"text":"x"}}"#,
        (0..1001).map(|n| format!("\"{}\"", 1000 + n)).collect::<Vec<_>>().join(",")
    );
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "{",
        &deep,
        &long,
        &many,
        r#"{"to":"112","text":"x","text":"y"}"#,
        r#"{"to":"112","text":"x","unknown":1}"#,
        r#"{"to":"112","text":" \n"}"#,
        r#"{"to":"112","text":"a\u0000b"}"#,
        r#"{"to":"112","text":"\ud800"}"#,
        r#"{"to":[],"text":"x"}"#,
        r#"{"to":"abc","text":"x"}"#,
        r#"{"to":"group:nobody","text":"x"}"#,
        r#"{"to":"112","text":"x","severity":0}"#,
        r#"{"to":"112","text":"x","severity":6}"#,
        r#"{"to":"112","text":"x","severity":"1"}"#,
        r#"{"to":"112","text":"x","idempotency_key":""}"#,
        r#"{"to":"112","text":"x","idempotency_key":"a\nb"}"#,
    ] {
        let answer = bench.post("/api/v1/alerts", body).await;
        assert_eq!(answer.status, 400, "{body:.80}: {answer:?}");
        assert!(answer.head.contains("application/problem+json"), "{answer:?}");
    }
    let host = bench.addr;
    let mut bytes =
        format!("POST /api/v1/alerts HTTP/1.1\r\nHost: {host}\r\n{JSON}Content-Length: 24\r\n\r\n")
            .into_bytes();
    bytes.extend(b"{\"to\":\"112\",\"text\":\"\xff\xfe\"}");
    assert_eq!(bench.raw(bytes).await.status, 400);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(bench.ask("POST", "/api/v1/alerts", form, r#"{"to":"112","text":"x"}"#).await.status, 415);
    assert_eq!(bench.ask("PUT", "/api/v1/alerts", "", "").await.status, 405);
    assert_eq!(bench.get("/nothing").await.status, 404);

    // Too much, announced or not; the answer comes all the same.
    let announced =
        format!("POST /api/v1/alerts HTTP/1.1\r\nHost: {host}\r\n{JSON}Content-Length: 9999999\r\n\r\n");
    assert_eq!(bench.raw(announced + &"x".repeat(500_000)).await.status, 413);
    let chunks = format!("40000\r\n{}\r\n", "x".repeat(0x40000)).repeat(2);
    let chunked = format!(
        "POST /api/v1/alerts HTTP/1.1\r\nHost: {host}\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{chunks}"
    );
    assert_eq!(bench.raw(chunked).await.status, 413);
    assert_eq!(bench.queue.depth().await.unwrap().alerts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_two_lengths_is_the_last_of_its_connection() {
    let bench = Bench::start(vec![]).await;
    let host = bench.addr;
    let hidden = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        let mut stream = bench.connect().await;
        let request = format!(
            "POST /api/v1/alerts HTTP/1.1\r\nHost: {host}\r\n{JSON}{lengths}\r\n17\r\n{{\"to\":\"112\",\"text\":\"x\"}}\r\n0\r\n\r\n{hidden}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut all)).await.expect("it is closed");
        let all = String::from_utf8_lossy(&all).to_lowercase();
        let status = if lengths.contains("chunked") { "http/1.1 202" } else { "http/1.1 400" };
        assert!(all.starts_with(status), "{lengths}: {all}");
        assert_eq!(all.matches("http/1.1 ").count(), 1, "{lengths}: {all}");
    }
    let headers: String = (0..70).map(|n| format!("X-{n}: y\r\n")).collect();
    assert_eq!(bench.ask("GET", "/healthz", &headers, "").await.status, 431);
    let long = format!("X: {}\r\n", "y".repeat(20_000));
    assert_eq!(bench.ask("GET", "/healthz", &long, "").await.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_who_only_connect_keep_nobody_out() {
    let bench = Bench::start(vec![]).await;
    let mut idle = Vec::new();
    let mut times = Vec::new();
    for n in 0..2_000 {
        let mut stream = bench.connect().await;
        if n % 2 == 0 {
            let _ = stream.write_all(b"POST /api/v1/alerts HTTP/1.1\r\nHost:").await;
        }
        idle.push(stream);
        if n % 10 == 0 {
            let started = Instant::now();
            let answer = bench.post("/api/v1/alerts", r#"{"to":"112","text":"good"}"#).await;
            assert_eq!(answer.status, 202);
            times.push(started.elapsed());
        }
    }
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(200), "{p99:?}");
    // The others had to make way; the last of them may still be on their way out.
    let mut byte = [0; 1];
    let open = |s: &TcpStream, byte: &mut [u8]| {
        s.try_read(byte).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    };
    let left = idle.iter().filter(|s| open(s, &mut byte)).count();
    assert!((1..=1_100).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let bench = Bench::start(vec![]).await;
    let mut slow = bench.connect().await;
    let started = Instant::now();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nX: ").await.unwrap();
    let (mut reader, mut writer) = slow.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut all = Vec::new();
    let _ = timeout(Duration::from_secs(10), reader.read_to_end(&mut all)).await.expect("it is closed");
    assert!((4..8).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    drip.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_wrong_tokens_cost_little() {
    let bench = Bench::start(vec![token("a", "right", &[Scope::Read])]).await;
    let mut stream = bench.connect().await;
    // Somebody with a right token asks meanwhile, and is answered as soon as ever.
    let (over, addr) = (CancellationToken::new(), bench.addr);
    let ended = over.clone();
    let good = tokio::spawn(async move {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut times = Vec::new();
        while !ended.is_cancelled() {
            let started = Instant::now();
            let request = b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\n\r\n";
            stream.write_all(request).await.unwrap();
            assert_eq!(read(&mut stream).await.status, 200);
            times.push(started.elapsed());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times
    });
    let held = anonymous_memory();
    let started = Instant::now();
    for n in 0..100 {
        let request =
            format!("GET /api/v1/alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong{n}\r\n\r\n");
        stream.write_all(request.repeat(100).as_bytes()).await.unwrap();
        let mut got = String::new();
        while got.matches("HTTP/1.1 401").count() < 100 {
            let mut some = [0; 65_536];
            let n = timeout(Duration::from_secs(5), stream.read(&mut some)).await.unwrap().unwrap();
            assert!(n > 0, "it goes on");
            got.push_str(&String::from_utf8_lossy(&some[..n]));
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    over.cancel();
    let mut times = good.await.unwrap();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    assert!(times.len() > 20 && p99 < Duration::from_millis(200), "{} asked, p99 {p99:?}", times.len());
    let grown = anonymous_memory().saturating_sub(held);
    assert!(grown < 16 * 1024, "{grown} KiB more than before");
    stream
        .write_all(b"GET /api/v1/alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\n\r\n")
        .await
        .unwrap();
    assert!(loop {
        let answer = read(&mut stream).await;
        if answer.status == 200 {
            break true;
        }
        assert_eq!(answer.status, 401);
    });
}

/// KiB that this process holds, the interface in it.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_user_has_a_socket_and_a_stop_takes_no_longer_than_it_must() {
    let mut bench = Bench::start(vec![token("a", "right", &[Scope::Read])]).await;
    let path = bench.dir.path().join("smsd.sock");
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert!(all.starts_with("HTTP/1.1 200"), "{all}");

    // Somebody listens to events, somebody says nothing.
    let mut events = TcpStream::connect(bench.addr).await.unwrap();
    events
        .write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer right\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read(&mut events).await.status, 200);
    let _silent = bench.connect().await;
    let started = Instant::now();
    bench.over.cancel();
    while bench.tasks.join_next().await.is_some() {}
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(!path.exists(), "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_may_listen_and_who_leaves_makes_room() {
    let bench = Bench::start(vec![]).await;
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", bench.addr);
    let mut listeners = Vec::new();
    for _ in 0..64 {
        let mut stream = bench.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read(&mut stream).await.status, 200);
        listeners.push(stream);
    }
    let full = bench.raw(&request).await;
    assert_eq!(full.status, 503);
    assert!(full.head.contains("retry-after: "), "{}", full.head);
    listeners.pop();
    let started = Instant::now();
    while bench.raw(&request).await.status != 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "the place is given back");
    }
}
