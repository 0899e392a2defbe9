//! The HTTP GET dispatcher: the contract over it, and what is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use regex::Regex;
use smsd::config::{DispatcherConfig, DispatcherKind, Main, Secret};
use smsd::demo::gateway::{Answer, Behaviour, Gateway};
use smsd::dispatch::http_get::Settings;
use smsd::dispatch::status::{self, Status};
use smsd::dispatch::{self, Class, Dispatcher, Sms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::contract::{Case, Fixture, TIMEOUT, contract, sms, submit};
use crate::debug::named;

struct HttpGet {
    gateway: Gateway,
    dispatcher: Arc<dyn Dispatcher>,
}

contract!(super::HttpGet);

fn config(url: String, success: Option<&str>, classes: &[(&str, &str)]) -> DispatcherConfig {
    let classes = classes.iter().map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap()));
    let success = success.map(|rule| Regex::new(rule).unwrap());
    named("gw", DispatcherKind::HttpGet(Settings { url: Secret::new(url), success }), classes.collect())
}

fn to(gateway: &Gateway, success: Option<&str>, classes: &[(&str, &str)]) -> Arc<dyn Dispatcher> {
    let url = format!("http://{}/send?to=%(phone)s&text=%(sms)s", gateway.addr);
    dispatch::build(&config(url, success, classes), &Main::default()).unwrap()
}

pub(crate) async fn gateway(behaviour: Behaviour) -> Gateway {
    Gateway::start(behaviour).await.unwrap()
}

pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Behaviour {
    Behaviour::answering(Answer::Raw(bytes.into()))
}

fn drip(first: &str, then: &str, every: Duration) -> Behaviour {
    Behaviour::answering(Answer::Drip { first: first.into(), then: then.into(), every })
}

async fn class_of(dispatcher: &Arc<dyn Dispatcher>) -> Option<Class> {
    submit(&**dispatcher, &sms("+4799999999", "hei")).await.err().map(|error| error.class)
}

#[async_trait]
impl Fixture for HttpGet {
    type Play = Behaviour;

    async fn start() -> HttpGet {
        let gateway = gateway(Behaviour::ok()).await;
        let url = format!(
            "http://marker-user:mark%65r-pass@{}/send?key=secret-marker&enc=mark%65r%2Fenc+x&to=%(phone)s&text=%(sms)s",
            gateway.addr
        );
        let config = config(url, None, &[]);
        assert!(!format!("{config:?}").contains("mark"), "{config:?}");
        let dispatcher = dispatch::build(&config, &Main::default()).unwrap();
        HttpGet { gateway, dispatcher }
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.dispatcher.clone()
    }

    fn play(&self, phone: Option<&str>, play: &Behaviour) {
        match phone {
            Some(phone) => self.gateway.set_for(phone, play.clone()),
            None => self.gateway.set(play.clone()),
        }
    }

    fn cases() -> Vec<Case<Behaviour>> {
        hostile()
    }

    fn silence() -> Behaviour {
        Behaviour::answering(Answer::Hang)
    }

    fn echo() -> Behaviour {
        Behaviour::answering(Answer::Echo(400))
    }

    fn seen(&self) -> Vec<(String, String)> {
        // Read by a parser that shares nothing with the dispatcher.
        let parse = |target: &String| {
            let url = url::Url::parse(&format!("http://gw{target}")).unwrap();
            let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            let keys: Vec<_> = pairs.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!(keys, ["key", "enc", "to", "text"], "{target}");
            assert!(target.starts_with("/send?key=secret-marker&enc=mark%65r%2Fenc+x&to=%2B47"), "{target}");
            (pairs[2].1.clone(), pairs[3].1.clone())
        };
        self.gateway.targets().iter().map(parse).collect()
    }

    async fn stop(self) -> Arc<dyn Dispatcher> {
        let HttpGet { gateway, dispatcher } = self;
        gateway.stop().await;
        dispatcher
    }
}

/// All that an HTTP gateway can do to a client. The body decides nothing.
pub(crate) fn hostile() -> Vec<Case<Behaviour>> {
    let statuses = (200..=599).chain([600, 777, 999]).map(|code| Case {
        name: format!("status {code}"),
        play: Behaviour::status(code)
            .body("<h1>words & \u{1b}[31m marker-user mark%65r-pass secret-marker</h1>\r\n"),
        want: match status::http(code) {
            Status::Accepted => None,
            Status::Refused(class) => Some(class),
        },
    });
    let head = "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n";
    let chunked = "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n";
    let many = format!("HTTP/1.1 200 \r\n{}\r\n", "X-Y: z\r\n".repeat(1_000_000));
    let bomb = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice(), &[0; 100_000]].concat();
    let hostile = [
        ("closed before the answer", Behaviour::answering(Answer::Close), Some(Class::Unknown)),
        ("taken, then closed", Behaviour::answering(Answer::Close).taking(), Some(Class::Unknown)),
        ("reset before the answer", Behaviour::answering(Answer::Reset), Some(Class::Unknown)),
        ("closed in the head", raw("HTTP/1.1 200 OK\r\nContent-Le"), Some(Class::Unknown)),
        ("closed in the body", raw("HTTP/1.1 200 \r\nContent-Length: 99\r\n\r\nOK"), None),
        (
            "closed in the body of a 500",
            raw("HTTP/1.1 500 \r\nContent-Length: 99\r\n\r\nno"),
            Some(Class::Failed),
        ),
        ("no length", raw("HTTP/1.1 200 \r\n\r\nOK"), None),
        ("slow", Behaviour::ok().delay(TIMEOUT / 3), None),
        ("a byte a second", drip("", head, Duration::from_secs(1)), Some(Class::Unknown)),
        (
            "endless body",
            Behaviour::answering(Answer::Endless(chunked.into(), b"5\r\nhello\r\n".to_vec())),
            None,
        ),
        (
            "endless body of a 503",
            {
                let first = "HTTP/1.1 503 \r\nContent-Length: 99999999999\r\n\r\n";
                Behaviour::answering(Answer::Endless(first.into(), vec![b'x'; 4096]))
            },
            Some(Class::Unavailable),
        ),
        (
            "endless 100 Continue",
            {
                let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
                Behaviour::answering(Answer::Endless(go_on.clone(), go_on))
            },
            Some(Class::Unknown),
        ),
        (
            "endless header",
            { Behaviour::answering(Answer::Endless(b"HTTP/1.1 200 \r\nX: ".to_vec(), vec![b'x'; 4096])) },
            Some(Class::Unknown),
        ),
        ("a million headers", raw(many), Some(Class::Unknown)),
        ("gzip bomb", Behaviour::ok().header("Content-Encoding", "gzip").body(bomb), None),
        ("bad chunking", raw([chunked, "zz\r\nhello\r\n"].concat()), None),
        ("chunk of 2^64", raw([chunked, "ffffffffffffffff1\r\nhello\r\n"].concat()), None),
        (
            "two lengths",
            raw("HTTP/1.1 200 \r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nOK"),
            Some(Class::Unknown),
        ),
        (
            "redirect loop",
            Behaviour::status(302).header("Location", "/send?to=+4799010000&text=x"),
            Some(Class::Misconfigured),
        ),
        (
            "redirect to a file",
            Behaviour::status(301).header("Location", "file:///etc/passwd"),
            Some(Class::Misconfigured),
        ),
        (
            "redirect elsewhere",
            Behaviour::status(307).header("Location", "gopher://169.254.169.254/"),
            Some(Class::Misconfigured),
        ),
        (
            "invalid UTF-8",
            Behaviour::status(400).header("X", "y").body(b"\xff\xfe\xc0\x80".as_slice()),
            Some(Class::Rejected),
        ),
        ("NUL in the body", Behaviour::status(400).body(b"a\0b".as_slice()), Some(Class::Rejected)),
        ("NUL in the head", raw("HTTP/1.1 200 \r\nX: a\0b\r\n\r\n"), Some(Class::Unknown)),
        ("no HTTP", raw("220 mail.example ESMTP\r\n"), Some(Class::Unknown)),
        ("HTTP/0.9", raw("OK"), Some(Class::Unknown)),
        ("HTTP/2 preface", raw("\0\0\x12\x04\0\0\0\0\0"), Some(Class::Unknown)),
        ("101", raw("HTTP/1.1 101 \r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), Some(Class::Unknown)),
        ("HTTP/1.0", raw("HTTP/1.0 200 OK\r\n\r\nOK"), None),
        ("two answers", raw([head, "OK", head, "OK"].concat()), None),
    ];
    let hostile = hostile.map(|(name, play, want)| Case { name: name.into(), play, want });
    statuses.chain(hostile).collect()
}

#[tokio::test]
async fn the_request_is_one_small_get() {
    let gateway = gateway(Behaviour::ok()).await;
    let url =
        format!("http://na%76:p%40ss@{}/a%20b/%zz;x?q=1%%&to=%(phone)s&text=%(sms)s&%(x)s", gateway.addr);
    let dispatcher = dispatch::build(&config(url, None, &[]), &Main::default()).unwrap();
    submit(&*dispatcher, &sms("+47 999", "på & av")).await.unwrap();
    let target = "/a%20b/%zz;x?q=1%%&to=%2B47999&text=p%C3%A5%20%26%20av&%(x)s";
    let head = format!(
        "GET {target} HTTP/1.1\r\nhost: {}\r\nuser-agent: smsd/0.1.0\r\naccept: */*\r\nauthorization: Basic bmF2OnBAc3M=\r\n\r\n",
        gateway.addr
    );
    assert_eq!(gateway.heads(), [head]);
    assert_eq!(gateway.accepted()[0].target, target);
    assert_eq!((&*gateway.accepted()[0].phone, &*gateway.accepted()[0].text), ("+47999", "på & av"));
}

#[tokio::test]
async fn errors_say_what_was_answered_and_where() {
    let gateway = gateway(Behaviour::status(503).body("try\nlater\0")).await;
    let error = submit(&*to(&gateway, None, &[]), &sms("112", "hei")).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("503"));
    let want = format!(
        "http://{}/send: gateway answered 503 Service Unavailable: try\\nlater\\u{{0}}",
        gateway.addr
    );
    assert_eq!(error.detail, want);
}

#[tokio::test]
async fn success_decides_what_a_200_is() {
    let gateway = gateway(Behaviour::ok()).await;
    let dispatcher = to(&gateway, Some(r"^OK(?:: (\S+))?"), &[]);
    for (body, want) in
        [("OK: 4711\n", Some(vec!["4711".to_string()])), ("OK", Some(vec![])), ("ERR 12", None)]
    {
        gateway.set(Behaviour::ok().body(body));
        match submit(&*dispatcher, &sms("112", "hei")).await {
            Ok(receipt) => assert_eq!(Some(receipt.references), want),
            Err(error) => assert_eq!((error.class, want), (Class::Failed, None), "{error}"),
        }
    }
    let broken = |bytes: &str| raw(bytes.to_string());
    for (behaviour, want) in [
        (broken("HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\nOK"), Some(Class::Unknown)),
        (broken("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\nzz"), Some(Class::Unknown)),
        (Behaviour::answering(Answer::Endless(b"HTTP/1.1 200 \r\n\r\nOK".to_vec(), vec![b'x'; 9000])), None),
        (
            Behaviour::answering(Answer::Endless(b"HTTP/1.1 200 \r\n\r\nno".to_vec(), vec![b'x'; 9000])),
            Some(Class::Failed),
        ),
        (Behaviour::status(302).body("OK"), Some(Class::Misconfigured)),
        (Behaviour::status(500).body("OK"), Some(Class::Failed)),
    ] {
        gateway.set(behaviour.clone());
        assert_eq!(class_of(&dispatcher).await, want, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_slow_body_is_waited_for_only_if_it_decides() {
    // A body that decides nothing is waited for half a second. Each letter of this one takes a second.
    let head = "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n";
    let gateway = gateway(drip(head, "OK", Duration::from_secs(1))).await;
    let patient = Sms { timeout: Duration::from_secs(10), ..sms("112", "hei") };
    let begun = Instant::now();
    assert!(submit(&*to(&gateway, Some("^OK$"), &[]), &patient).await.is_ok(), "what decides is waited for");
    assert!(begun.elapsed() >= Duration::from_secs(1), "it did come late: {:?}", begun.elapsed());

    gateway.set(drip(head, "OK", Duration::from_secs(60)));
    assert_eq!(class_of(&to(&gateway, Some("^OK$"), &[])).await, Some(Class::Unknown));
    let begun = Instant::now();
    assert!(submit(&*to(&gateway, None, &[]), &patient).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

/// The runtime learns late that a server has closed a connection, if it was busy in between; the kernel knows.
#[test]
fn a_connection_that_was_closed_unnoticed_is_not_used() {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let closing = raw("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").taking();
    let gateway = threads.block_on(gateway(closing));
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    own.block_on(async {
        let dispatcher = to(&gateway, None, &[]);
        for _ in 0..50 {
            assert_eq!(class_of(&dispatcher).await, None);
            // Not tokio's: this thread is to be too busy to hear of anything.
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(gateway.accepted_count(), 50);
}

/// A server that answers each connection's first request by this, until it ends.
async fn once<F: Future<Output = std::io::Result<()>> + Send>(
    answer: impl Fn(TcpStream) -> F + Clone + Send + 'static,
) -> Arc<dyn Dispatcher> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/send?to=%(phone)s&text=%(sms)s", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                answer(client).await
            });
        }
    });
    dispatch::build(&config(url, None, &[]), &Main::default()).unwrap()
}

#[tokio::test]
async fn a_server_that_closes_what_we_keep_puts_one_sms_in_doubt_and_no_other() {
    let dispatcher = once(|mut client| async move {
        client.write_all(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    })
    .await;
    let mut all = Vec::new();
    for _ in 0..30 {
        all.push(class_of(&dispatcher).await);
    }
    let doubts = all.iter().filter(|class| **class == Some(Class::Unknown)).count();
    assert!(doubts <= 1 && all.iter().filter(|class| class.is_none()).count() >= 29, "{all:?}");
}

#[tokio::test]
async fn a_server_that_works_while_it_answers_is_read_to_its_end() {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let dispatcher = once(move |mut client| {
        let told = Arc::clone(&told);
        async move {
            client.write_all(b"HTTP/1.1 200 \r\nContent-Length: 9\r\n\r\n").await?;
            for _ in 0..9 {
                tokio::time::sleep(Duration::from_millis(150)).await;
                client.write_all(b".").await?;
            }
            told.store(true, Ordering::Relaxed);
            Ok(())
        }
    })
    .await;
    let begun = Instant::now();
    let patient = Sms { timeout: Duration::from_secs(10), ..sms("112", "hei") };
    assert!(submit(&*dispatcher, &patient).await.is_ok());
    assert!(begun.elapsed() < Duration::from_secs(1), "it is not waited for: {:?}", begun.elapsed());
    while !ended.load(Ordering::Relaxed) {
        assert!(begun.elapsed() < Duration::from_secs(5), "it was cut off");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn overrides_and_retry_after_are_heeded() {
    let gateway = gateway(Behaviour::status(503).header("Retry-After", "7")).await;
    let wait = |s| Some(Class::Throttled { retry_after: Duration::from_secs(s) });
    assert_eq!(class_of(&to(&gateway, None, &[])).await, wait(7));
    assert_eq!(class_of(&to(&gateway, None, &[("503", "ERR")])).await, Some(Class::Failed));
    gateway.set(Behaviour::status(409));
    assert_eq!(class_of(&to(&gateway, None, &[("409", "OK")])).await, None);
    gateway.set(Behaviour::status(429));
    assert_eq!(class_of(&to(&gateway, None, &[])).await, wait(30));
}

#[tokio::test]
async fn connections_are_kept_and_a_dead_one_costs_nothing() {
    let gateway = gateway(Behaviour::ok()).await;
    let dispatcher = to(&gateway, None, &[]);
    for _ in 0..20 {
        assert_eq!(class_of(&dispatcher).await, None);
    }
    assert_eq!((gateway.accepted_count(), gateway.connections()), (20, 1));
    // The server closes each connection behind its answer, and says so only by closing it.
    gateway.set(raw("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n").taking());
    for _ in 0..50 {
        assert_eq!(class_of(&dispatcher).await, None);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(gateway.accepted_count(), 70);
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let gateway = gateway(Behaviour::ok()).await;
    let dispatcher = to(&gateway, None, &[]);
    let port = format!(":{:04X}", gateway.addr.port());
    let open = || {
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let ours = |line: &&str| line.split_whitespace().nth(2).is_some_and(|remote| remote.ends_with(&port));
        table.lines().filter(ours).filter(|line| line.split_whitespace().nth(3) == Some("01")).count()
    };
    assert_eq!(class_of(&dispatcher).await, None);
    assert_eq!(open(), 1);
    let begun = Instant::now();
    while open() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "still open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_text_that_no_url_holds_is_rejected() {
    let gateway = gateway(Behaviour::ok()).await;
    let long = Sms { ..sms("112", &"æ".repeat(20_000)) };
    let error = submit(&*to(&gateway, None, &[]), &long).await.unwrap_err();
    assert_eq!(error.class, Class::Rejected);
    assert!(gateway.heads().is_empty());
}

#[test]
fn what_can_not_be_used_is_refused_by_section_and_key() {
    let url = |u: &str| config(u.into(), None, &[]);
    let good = "http://gw/?to=%(phone)s&text=%(sms)s&key=secret-marker";
    for (config, want) in [
        (url("gw?secret-marker"), "[gw] url: it begins with neither http:// nor https://"),
        (
            url("http://gw/?to=%(phone)s&key=secret-marker"),
            "[gw] url: it has no %(sms)s, where the text belongs",
        ),
        (config(good.into(), None, &[("5xx", "ERR")]), "[gw] class.5xx: \"5xx\" is no HTTP status"),
    ] {
        let Err(error) = dispatch::build(&config, &Main::default()) else { panic!("built, though {want}") };
        assert!(error.to_string().starts_with(want), "{error}");
        assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
    }
}
