//! What was answered with 202 is kept: alerts are posted while the daemon is killed, its database is hurt, and its disk
//! is full. The oracle is what the clients were told, beside what stands in the queue and in the dispatcher's log.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bench::{Daemon, Site, nobody_listens, runtime, until, until_within};
use super::power::apart;
use crate::faults::Faults;
use crate::postgres::Server;
use crate::proxy::{Cut, Proxy};

const KILLS: usize = 8;
const CLIENTS: usize = 12;
/// What an intake waits for the queue (`smsd::intake::PATIENCE`), and a busy machine.
const PATIENCE: Duration = Duration::from_secs(12);

#[test]
fn kill_9_while_alerts_are_posted_to_the_embedded_queue_loses_none() {
    let at = nobody_listens();
    killed_while_posting(&Site::embedded(MAIN, &conf(at)), at, None);
}

#[test]
fn kill_9_while_alerts_are_posted_to_postgresql_loses_none() {
    let at = nobody_listens();
    killed_while_posting(&on_postgresql(at), at, None);
}

#[cfg(feature = "seeded-bugs")]
#[test]
#[should_panic(expected = "accepted and lost")]
fn seeded_a_yes_before_the_alert_is_durable_is_found() {
    let at = nobody_listens();
    killed_while_posting(&Site::embedded(MAIN, &conf(at)), at, Some("AcceptedBeforeDurable"));
}

#[test]
fn postgresql_restarted_hard_while_alerts_are_posted_costs_none() {
    let at = nobody_listens();
    let site = on_postgresql(at);
    let daemon = site.start();
    let clients = Clients::start(at);
    clients.go_on(300);
    site.db().server.stop();
    sleep(Duration::from_millis(300));
    site.db().server.start();
    clients.go_on(300);
    account(&site, daemon, clients.stop());
}

#[test]
fn commits_whose_reply_is_lost_queue_each_alert_once() {
    let at = nobody_listens();
    let site = on_postgresql(at);
    let direct = site.db().server.port;
    let proxy = runtime().block_on(Proxy::start(direct));
    let db = site.read("db.conf");
    site.write("db.conf", &db.replace(&format!("dbport={direct}"), &format!("dbport={}", proxy.port)));
    let mut command = site.command(&["-f"]);
    // The proxy reads what passes.
    command.env("PGSSLMODE", "disable");
    let daemon = site.spawn(command);
    let clients = Clients::start(at);
    clients.go_on(100);
    for n in 0..8 {
        proxy.cut_next(if n % 2 == 0 { Cut::AfterCommit } else { Cut::BeforeCommit });
        until("a commit is cut", || proxy.has_cut().then_some(()));
        clients.go_on(50);
    }
    account(&site, daemon, clients.stop());
}

/// Whoever posts is told within the time that an intake waits, however many do, and nothing piles up.
#[test]
fn a_disk_that_is_full_is_told_to_whoever_posts_and_costs_no_memory() {
    const MANY: usize = 2_000;
    let (faults, at) = (Faults::new(), nobody_listens());
    let site = apart(MAIN, &conf(at));
    let mut command = site.command(&["-f"]);
    faults.befall(&mut command, Some(&site.path("state")));
    let daemon = site.spawn(command);
    let mut client = Client::new(at);
    until("it takes alerts", || (client.post("first", None).ok()?.status == 202).then_some(()));
    let (before, _) = daemon.memory();
    faults.set_disk_full(true);
    refused_in_time(&mut client);

    let clients: Vec<_> = (0..MANY).map(|n| runtime().spawn(post_once(at, n))).collect();
    let started = Instant::now();
    let mut told = 0;
    for task in clients {
        // One for whom there is no place is not heard.
        if let Some(answer) = runtime().block_on(task).unwrap() {
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
            told += 1;
        }
    }
    let (_, most) = daemon.memory();
    eprintln!("{told} of {MANY} told in {:.1?}, {before} KiB before, {most} KiB at most", started.elapsed());
    assert!(told > 100, "hardly anybody was told: {told}");
    assert!(started.elapsed() < 2 * PATIENCE, "{:?}", started.elapsed());
    assert!(most < 96 * 1024, "{most} KiB");

    faults.set_disk_full(false);
    until("it takes alerts again", || (client.post("last", None).ok()?.status == 202).then_some(()));
    until("all are sent", || (site.json(&["queue", "stats"])["waiting"] == 0).then_some(()));
    site.audit();
    daemon.stop();
}

#[test]
fn a_postgresql_that_is_away_is_told_to_whoever_posts() {
    let at = nobody_listens();
    let site = on_postgresql(at);
    let daemon = site.start();
    let mut client = Client::new(at);
    until("it takes alerts", || (client.post("first", None).ok()?.status == 202).then_some(()));
    site.db().server.stop();
    refused_in_time(&mut client);
    site.db().server.start();
    until("it takes alerts again", || (client.post("last", None).ok()?.status == 202).then_some(()));
    daemon.stop();
}

/// A server of its own, that syncs to the disk as in production.
fn on_postgresql(at: SocketAddr) -> Site {
    Site::on(Arc::new(Arc::new(Server::own("")).database()), MAIN, &conf(at))
}

const MAIN: &str = "delay: 2";

fn conf(at: SocketAddr) -> String {
    format!(
        "[dispatcher]\ndispatcher1: DebugDispatcher\n[DebugDispatcher]\nlog: sms.jsonl\ngrace: 0.2s\n\
         [http]\nlisten: {at}\n"
    )
}

fn refused_in_time(client: &mut Client) {
    let asked = Instant::now();
    let answer = client.post("meanwhile", None).unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer:?}");
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
}

/// `bug` is a known fault to switch on (`src/seeded.rs`).
fn killed_while_posting(site: &Site, at: SocketAddr, bug: Option<&str>) {
    let start = || {
        let mut command = site.command(&["-f"]);
        command.envs(bug.map(|bug| ("SMSD_SEEDED_BUG", bug)));
        site.spawn(command)
    };
    let mut random = fastrand::Rng::new();
    let seed = random.get_seed();
    let clients = Clients::start(at);
    for _ in 0..KILLS {
        let daemon = start();
        clients.go_on(random.usize(1..200));
        sleep(Duration::from_micros(random.u64(0..20_000)));
        assert!(daemon.runs(), "it ended by itself");
        daemon.kill();
    }
    let daemon = start();
    clients.go_on(50);
    let told = clients.stop();
    eprintln!("seed {seed}: {KILLS} kills, {} unanswered", told.unanswered);
    assert!(told.unanswered > 0, "no kill fell into a post: the test does not test");
    account(site, daemon, told);
}

/// Holds what the clients were told against the queue and the dispatcher's log.
fn account(site: &Site, daemon: Daemon, told: Told) {
    let rows = site.json(&["queue", "list", "--limit", "100000"]);
    let mut queued: HashMap<&str, Vec<i64>> = HashMap::new();
    for row in rows.as_array().unwrap() {
        queued.entry(row["text"].as_str().unwrap()).or_default().push(row["id"].as_i64().unwrap());
    }
    let lost: Vec<_> = told.taken.keys().filter(|text| !queued.contains_key(text.as_str())).collect();
    assert!(lost.is_empty(), "{} accepted and lost, such as {:?}", lost.len(), lost[0]);
    for (text, ids) in &queued {
        assert_eq!(told.taken.get(*text), Some(ids), "{text:?}: one alert for each key, and its id told");
    }
    let held = || site.json(&["queue", "list", "--state", "held", "--limit", "1000"]);
    until_within(60, "nothing waits but what is held", || {
        let stats = site.json(&["queue", "stats"]);
        (stats["waiting"] == stats["held"] && stats["open"] == 0).then_some(())
    });
    // One that two kills met between begin and settling is a person's, who sends it anew.
    for row in held().as_array().unwrap() {
        let id = row["id"].to_string();
        for verb in ["cancel", "requeue"] {
            let said = site.run(&["queue", verb, &id]);
            assert_eq!(said.code, 0, "{said:?}");
        }
    }
    until_within(60, "nothing waits", || (site.json(&["queue", "stats"])["waiting"] == 0).then_some(()));
    daemon.stop();
    let log = site.read("sms.jsonl");
    let sent: HashSet<String> = log
        .lines()
        .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["text"].as_str()?.to_owned()))
        .collect();
    let unsent: Vec<_> = told.taken.keys().filter(|text| !sent.contains(*text)).collect();
    assert!(unsent.is_empty(), "{} never sent, such as {:?}", unsent.len(), unsent[0]);
    let audit = site.audit();
    assert_eq!([&audit["sent"], &audit["waiting"]], [told.taken.len(), 0], "{audit}");
    eprintln!(
        "{} accepted, {} of them when asked again, none lost, none doubled",
        told.taken.len(),
        told.again
    );
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    /// The ids that were answered with 202, by text.
    taken: HashMap<String, Vec<i64>>,
    /// Posts that had no answer, and were made again.
    unanswered: usize,
    /// Answers that said that the alert was there before.
    again: usize,
}

/// Clients that post one alert after the other, each until it is answered with 202.
struct Clients {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
    told: Arc<Mutex<Told>>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(at: SocketAddr) -> Clients {
        let (stop, taken, told) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let threads = (0..CLIENTS)
            .map(|number| {
                let (stop, taken, told) = (Arc::clone(&stop), Arc::clone(&taken), Arc::clone(&told));
                std::thread::spawn(move || post_on(at, number, &stop, &taken, &told))
            })
            .collect();
        Clients { stop, taken, told, threads }
    }

    /// Waits until so many more are taken.
    fn go_on(&self, count: usize) {
        let target = self.taken.load(Ordering::Relaxed) + count;
        until("alerts are taken", || {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a client has failed");
            (self.taken.load(Ordering::Relaxed) >= target).then_some(())
        });
    }

    /// Each finishes what it is at.
    fn stop(mut self) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn post_on(at: SocketAddr, number: usize, stop: &AtomicBool, taken: &AtomicUsize, told: &Mutex<Told>) {
    let mut client = Client::new(at);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let text = format!("alert {} of client {number}", n);
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            assert!(Instant::now() < deadline, "never taken: {text}");
            match client.post(&text, Some(number * 1_000_000 + n)) {
                Ok(answer) if answer.status == 202 => break answer,
                Ok(answer) => assert!(matches!(answer.status, 429 | 503), "{answer:?}"),
                Err(_) => told.lock().unwrap().unanswered += usize::from(client.had_sent),
            }
            sleep(Duration::from_millis(5));
        };
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let ids = body["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        let mut told = told.lock().unwrap();
        told.again += usize::from(answer.head.to_ascii_lowercase().contains("idempotency-replayed"));
        told.taken.insert(text, ids);
        taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client with a connection that it keeps.
struct Client {
    at: SocketAddr,
    stream: Option<TcpStream>,
    /// The last request was on its way in whole.
    had_sent: bool,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Client {
    fn new(at: SocketAddr) -> Client {
        Client { at, stream: None, had_sent: false }
    }

    /// Posts an alert to a number of its own; under a key, if there is one.
    fn post(&mut self, text: &str, key: Option<usize>) -> io::Result<Answer> {
        let result = self.try_post(text, key);
        if result.is_err() {
            self.stream = None;
        }
        result
    }

    fn try_post(&mut self, text: &str, key: Option<usize>) -> io::Result<Answer> {
        self.had_sent = false;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.at)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(Duration::from_secs(30)))?;
                none.insert(stream)
            }
        };
        stream.write_all(request(self.at, text, key).as_bytes())?;
        self.had_sent = true;
        let mut said = Vec::new();
        let mut part = [0; 2048];
        loop {
            if let Some(answer) = Answer::whole(&said) {
                return Ok(answer);
            }
            match stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => said.extend_from_slice(&part[..n]),
            }
        }
    }
}

impl Answer {
    /// If all of it is there.
    fn whole(said: &[u8]) -> Option<Answer> {
        let said = std::str::from_utf8(said).ok()?;
        let (head, body) = said.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        })?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        (body.len() >= length).then(|| Answer { status, head: format!("{head}\r\n"), body: body.to_owned() })
    }
}

fn request(at: SocketAddr, text: &str, key: Option<usize>) -> String {
    let number = 400_000_000 + key.unwrap_or(99_999_999);
    let mut alert = json!({ "to": format!("+47{number}"), "text": text, "account": 1 });
    if let Some(key) = key {
        alert["idempotency_key"] = json!(format!("key-{key}"));
    }
    let body = alert.to_string();
    format!(
        "POST /api/v1/alerts HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Posts one alert by a connection of its own; what was answered, if anything.
async fn post_once(at: SocketAddr, n: usize) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(at).await.ok()?;
    let request =
        request(at, "one of many", Some(90_000_000 + n)).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer)).await;
    read.expect("neither told nor dropped").ok()?;
    (!answer.is_empty()).then_some(answer)
}
