//! A real Kannel behind `preset: kannel`: bearerbox, smsbox and its own fake SMSC, which prints what reaches it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use smsd::dispatch::{Class, Dispatcher, Sms};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::contract::sms;
use crate::http::built;

const FAKE_SMSC: &str = "/usr/lib/kannel/test/fakesmsc";

/// A number of +4700… is on no route, one of +4711… is barred for the user, and two SMS may wait for an SMSC.
fn conf(dir: &Path, [admin, boxes, smsc, http]: [u16; 4]) -> String {
    let dir = dir.display();
    format!(
        "group = core\nadmin-port = {admin}\nadmin-interface = 127.0.0.1\nadmin-password = bar\nsmsbox-port = {boxes}\n\
         smsbox-interface = 127.0.0.1\nbox-deny-ip = \"*.*.*.*\"\nbox-allow-ip = \"127.0.0.1\"\nlog-file = \"{dir}/bb.log\"\n\
         log-level = 2\ndlr-storage = internal\nsms-outgoing-queue-limit = 2\n\n\
         group = smsc\nsmsc = fake\nsmsc-id = FAKE\nhost = 127.0.0.1\nport = {smsc}\nconnect-allow-ip = 127.0.0.1\n\
         denied-prefix = \"+4700\"\n\n\
         group = smsbox\nsmsbox-id = box1\nbearerbox-host = 127.0.0.1\nsendsms-interface = 127.0.0.1\n\
         sendsms-port = {http}\nlog-file = \"{dir}/sb.log\"\nlog-level = 2\n\n\
         group = sendsms-user\nusername = tester\npassword = foobar\ndefault-sender = 12345\nmax-messages = 10\n\
         concatenation = true\nblack-list-regex = \"^\\+?4711\"\n\n\
         group = sms-service\nkeyword = default\ntext = \"none\"\nmax-messages = 0\n"
    )
}

/// One of its programs; ended by its process id.
struct Program(Child);

impl Program {
    fn start(program: &str, args: &[&str], dir: &Path, log: &str) -> Program {
        let log = std::fs::File::create(dir.join(log)).unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Program(command.spawn().unwrap_or_else(|e| panic!("{program}: {e}; run scripts/install-test-deps")))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In the order in which they end.
struct Kannel {
    smsc: Option<Program>,
    _smsbox: Program,
    _bearerbox: Program,
    admin: u16,
    http: u16,
    dir: TempDir,
}

impl Kannel {
    async fn start() -> Kannel {
        let dir = tempfile::tempdir().unwrap();
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(listeners);
        let [admin, boxes, smsc, http] = ports;
        std::fs::write(dir.path().join("kannel.conf"), conf(dir.path(), ports)).unwrap();
        let bearerbox = Program::start("/usr/sbin/bearerbox", &["kannel.conf"], dir.path(), "bb.out");
        until("bearerbox listens", async || TcpStream::connect(("127.0.0.1", boxes)).await.is_ok()).await;
        until("it waits for its SMSC", async || TcpStream::connect(("127.0.0.1", smsc)).await.is_ok()).await;
        let smsbox = Program::start("/usr/sbin/smsbox", &["kannel.conf"], dir.path(), "sb.out");
        until("smsbox listens", async || TcpStream::connect(("127.0.0.1", http)).await.is_ok()).await;
        let port = smsc.to_string();
        let args = ["-H", "127.0.0.1", "-r", &port, "-i", "1", "-m", "0", "-v", "0", "1 2 text x"];
        let smsc = Some(Program::start(FAKE_SMSC, &args, dir.path(), "smsc.out"));
        let kannel = Kannel { smsc, _smsbox: smsbox, _bearerbox: bearerbox, admin, http, dir };
        until("the SMSC and smsbox are with bearerbox", async || {
            let status = kannel.status().await;
            status.contains("(online") && status.contains("smsbox:box1")
        })
        .await;
        kannel
    }

    /// What bearerbox says of itself.
    async fn status(&self) -> String {
        let mut said = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.admin)).await {
            let ask = "GET /status.txt?password=bar HTTP/1.0\r\nConnection: close\r\n\r\n";
            if stream.write_all(ask.as_bytes()).await.is_ok() {
                let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_string(&mut said)).await;
            }
        }
        said
    }

    fn dispatcher(&self, password: &str) -> std::sync::Arc<dyn Dispatcher> {
        built(&format!(
            "preset: kannel\nbase_url: http://127.0.0.1:{}\nusername: tester\npassword: {password}\nsender: 4321",
            self.http
        ))
    }

    /// What reached the SMSC: `4321 +47… text hei`.
    fn arrived(&self) -> Vec<String> {
        let out = std::fs::read(self.dir.path().join("smsc.out")).unwrap_or_default();
        let out = String::from_utf8_lossy(&out).into_owned();
        let message = |line: &str| {
            Some(line.split_once("Got message ")?.1.split_once(": <")?.1.strip_suffix('>')?.to_owned())
        };
        out.lines().filter_map(message).collect()
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn patient(to: &str, text: &str) -> Sms {
    Sms { timeout: Duration::from_secs(30), ..sms(to, text) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_its_answers_is_understood_and_texts_arrive() {
    let mut kannel = Kannel::start().await;
    let dispatcher = kannel.dispatcher("foobar");
    let class = async |to: &str| dispatcher.submit(&patient(to, "hei")).await.map_err(|e| (e.class, e.code));

    let texts = ["Router gw1 is down: 100% & more + less = #1?", "på Ærøskøbing", "漢字 😀"];
    for text in texts {
        let receipt = dispatcher.submit(&patient("+4799999999", text)).await.unwrap();
        assert!(receipt.references.is_empty(), "Kannel has no reference to give: {receipt:?}");
    }
    // The fake SMSC prints UCS-2 percent-encoded.
    let ucs2: Vec<u8> = texts[2].encode_utf16().flat_map(u16::to_be_bytes).collect();
    until("all have arrived", async || kannel.arrived().len() >= texts.len()).await;
    let arrived = kannel.arrived();
    assert_eq!(arrived[0], format!("4321 +4799999999 text {}", texts[0]));
    assert_eq!(arrived[1], format!("4321 +4799999999 text {}", texts[1]));
    let coded = arrived[2].strip_prefix("4321 +4799999999 ucs-2 ").unwrap_or_else(|| panic!("{arrived:?}"));
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(&coded.replace('+', " ")).collect();
    assert_eq!(decoded, ucs2, "{coded}");

    assert_eq!(class("+4711000000").await, Err((Class::Rejected, Some("400".into()))), "barred");
    assert_eq!(class("+4700000000").await, Err((Class::Rejected, Some("403".into()))), "not routable");
    let wrong = kannel.dispatcher("wrong-pass").submit(&patient("+4799999999", "hei")).await.unwrap_err();
    assert_eq!((wrong.class, wrong.code.as_deref()), (Class::Misconfigured, Some("403")), "{wrong}");
    assert!(wrong.detail.contains("Authorization failed") && !wrong.detail.contains("wrong-pass"), "{wrong}");

    // Without an SMSC two may wait; then it has no room.
    kannel.smsc = None;
    until("the SMSC is gone", async || !kannel.status().await.contains("(online")).await;
    let mut full = None;
    for _ in 0..10 {
        if let Err(error) = dispatcher.submit(&patient("+4799999999", "hei")).await {
            full = Some((error.class, error.code));
            break;
        }
    }
    assert_eq!(full, Some((Class::Unavailable, Some("503".into()))));
    assert!(dispatcher.probe().await.is_ok());
}
