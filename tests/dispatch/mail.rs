//! The mail dispatcher: the contract over it with a server that misbehaves, and a real server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use smsd::config::{DispatcherKind, Main, Secret};
use smsd::dispatch::mail::{SUBJECT, Settings};
use smsd::dispatch::smtp::Tls;
use smsd::dispatch::status::{DEFAULT_RETRY_AFTER, Status};
use smsd::dispatch::{self, Class, Dispatcher, Sms};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::contract::{CORPUS, Case, Fixture, contract, sms, submit};
use crate::debug::named;
use crate::peers::Peer;

struct Mail {
    server: Server,
    dispatcher: Arc<dyn Dispatcher>,
}

contract!(super::Mail);

/// A mail server that does as it is told, on loopback.
struct Server {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    /// Number and text of each mail, and of each session that was armed, without its text.
    seen: Vec<(String, String)>,
    mails: Vec<String>,
    /// What clients said, mails left out.
    commands: Vec<String>,
    extensions: Vec<String>,
    /// For the next session: it is over before anyone can know whom the mail is for.
    armed: Option<(String, Play)>,
    /// At the final dot.
    all: Option<Act>,
    by_phone: BTreeMap<String, Act>,
}

/// What it does in place of one answer.
#[derive(Clone, Debug)]
struct Play(Stage, Act);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Greeting,
    Hello,
    Login,
    Sender,
    Recipient,
    Data,
    /// With the mail half read.
    Body,
    Dot,
}

#[derive(Clone, Debug)]
enum Act {
    Say(Vec<u8>),
    SayAndClose(Vec<u8>),
    SayForEver(Vec<u8>),
    Echo,
    Reset,
    Hang,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        state.lock().unwrap().extensions =
            ["PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN"].map(str::to_owned).into();
        let told = state.clone();
        let listen = async move {
            let mut sessions = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let state = told.clone();
                sessions.spawn(async move { talk(tcp, &state).await });
            }
        };
        Server { addr, state, task: tokio::spawn(listen).abort_handle() }
    }

    fn arm(&self, stage: Stage, act: Act) {
        self.state.lock().unwrap().armed = Some((String::new(), Play(stage, act)));
    }

    fn commands(&self) -> Vec<String> {
        self.state.lock().unwrap().commands.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(tcp: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = BufReader::new(tcp);
    let armed = state.lock().unwrap().armed.take();
    if let Some((phone, _)) = &armed {
        state.lock().unwrap().seen.push((phone.clone(), String::new()));
    }
    let at = |stage| armed.as_ref().filter(|(_, play)| play.0 == stage).map(|(_, play)| play.1.clone());
    let hello = {
        let extensions = state.lock().unwrap().extensions.clone();
        let lines: String = extensions.iter().map(|line| format!("250-{line}\r\n")).collect();
        format!("250-mx\r\n{lines}250 ENHANCEDSTATUSCODES\r\n")
    };
    answer(&mut stream, at(Stage::Greeting), b"220 mx ESMTP\r\n", "").await?;
    let mut log = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        log += &line;
        state.lock().unwrap().commands.push(line.trim_end().to_owned());
        let (stage, usual): (_, &[u8]) = match line.split(' ').next().unwrap().trim_end() {
            "EHLO" => (Stage::Hello, hello.as_bytes()),
            "STARTTLS" => (Stage::Login, b"220 go on\r\n"),
            "AUTH" if line.trim_end() == "AUTH LOGIN" => (Stage::Login, b"334 VXNlcm5hbWU6\r\n"),
            "AUTH" => (Stage::Login, b"235 2.7.0 welcome\r\n"),
            "MAIL" => (Stage::Sender, b"250 2.1.0 Ok\r\n"),
            "RCPT" => (Stage::Recipient, b"250 2.1.5 Ok\r\n"),
            "DATA" => (Stage::Data, b"354 go on\r\n"),
            "QUIT" => return stream.write_all(b"221 bye\r\n").await,
            // A user name or a password for AUTH LOGIN.
            _ if log.ends_with(&format!("AUTH LOGIN\r\n{line}")) => (Stage::Login, b"334 UGFzc3dvcmQ6\r\n"),
            _ => (Stage::Login, b"235 2.7.0 welcome\r\n"),
        };
        answer(&mut stream, at(stage), usual, &log).await?;
        if stage != Stage::Data {
            continue;
        }
        if let Some(act) = at(Stage::Body) {
            // The first bytes of the mail have come.
            stream.fill_buf().await?;
            answer(&mut stream, Some(act), b"", "").await?;
        }
        let mut mail = Vec::new();
        while !mail.ends_with(b"\r\n.\r\n") {
            if stream.read_until(b'\n', &mut mail).await? == 0 {
                return Ok(());
            }
        }
        mail.truncate(mail.len() - 3);
        let mail = String::from_utf8(mail).unwrap();
        let (phone, text) = read(&mail);
        let act = {
            let mut state = state.lock().unwrap();
            match &armed {
                Some(_) => state.seen.last_mut().unwrap().1 = text,
                None => state.seen.push((phone.clone(), text)),
            }
            state.mails.push(mail.clone());
            at(Stage::Dot).or_else(|| state.by_phone.get(&phone).or(state.all.as_ref()).cloned())
        };
        let log = format!("{}\n{log}", mail.split("\r\n\r\n").nth(1).unwrap());
        answer(&mut stream, act, b"250 2.0.0 Ok: queued as 0815-X\r\n", &log).await?;
    }
}

async fn answer(
    stream: &mut BufReader<TcpStream>,
    act: Option<Act>,
    usual: &[u8],
    log: &str,
) -> std::io::Result<()> {
    let end = || Err(std::io::ErrorKind::ConnectionAborted.into());
    match act {
        None => stream.write_all(usual).await,
        Some(Act::Say(bytes)) => stream.write_all(&bytes).await,
        Some(Act::SayAndClose(bytes)) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            // What is left unread would make the end a reset.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            end()
        }
        Some(Act::SayForEver(bytes)) => loop {
            stream.write_all(&bytes).await?;
        },
        Some(Act::Echo) => {
            let lines: String = log.lines().map(|line| format!("554-5.7.1 {line}\r\n")).collect();
            stream.write_all(format!("{lines}554 5.7.1 refused\r\n").as_bytes()).await
        }
        Some(Act::Reset) => {
            socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO))?;
            end()
        }
        Some(Act::Hang) => std::future::pending().await,
    }
}

/// Number and text of a mail as it came over the wire.
fn read(mail: &str) -> (String, String) {
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let phone = value("Subject: sms ").to_owned();
    let body: String =
        body.split_inclusive('\n').map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
    let text = match value("Content-Transfer-Encoding: ") {
        "base64" => String::from_utf8(BASE64_STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap(),
        _ => body.strip_suffix("\r\n").unwrap().replace("\r\n", "\n"),
    };
    (phone, text)
}

fn settings(host: &str, port: u16) -> Settings {
    Settings {
        mailaddr: "sms@gateway.example".into(),
        subject: SUBJECT.into(),
        server: Some((host.into(), Some(port))),
        tls: None,
        tls_ca: None,
        username: None,
        password: None,
        fromaddr: Some("NAV på nett <nav@example.org>".into()),
    }
}

fn with_login(settings: Settings, password: &str) -> Settings {
    Settings { username: Some("alerter".into()), password: Some(Secret::new(password.into())), ..settings }
}

fn built(settings: Settings) -> Arc<dyn Dispatcher> {
    let config = named("mail", DispatcherKind::Mail(settings), BTreeMap::new());
    assert!(!format!("{config:?}").contains("marker"), "{config:?}");
    dispatch::build(&config, &Main::default()).unwrap()
}

fn to(server: &Server) -> Settings {
    settings("127.0.0.1", server.addr.port())
}

#[async_trait]
impl Fixture for Mail {
    type Play = Play;

    async fn start() -> Mail {
        let server = Server::start().await;
        let dispatcher = built(with_login(to(&server), "my-marker-password"));
        Mail { server, dispatcher }
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.dispatcher.clone()
    }

    fn play(&self, phone: Option<&str>, play: &Play) {
        let mut state = self.server.state.lock().unwrap();
        match (phone, play) {
            (Some(phone), Play(Stage::Dot, act)) => drop(state.by_phone.insert(phone.into(), act.clone())),
            (Some(phone), play) => state.armed = Some((phone.into(), play.clone())),
            (None, Play(_, act)) => state.all = Some(act.clone()),
        }
    }

    fn cases() -> Vec<Case<Play>> {
        use Stage::{Body, Data, Dot, Greeting, Hello, Login, Recipient, Sender};
        const UNAVAILABLE: Option<Class> = Some(Class::Unavailable);
        const MISCONFIGURED: Option<Class> = Some(Class::Misconfigured);
        const REJECTED: Option<Class> = Some(Class::Rejected);
        const UNKNOWN: Option<Class> = Some(Class::Unknown);
        const THROTTLED: Option<Class> = Some(Class::Throttled { retry_after: DEFAULT_RETRY_AFTER });
        let answers = [
            (Greeting, "421 4.3.2 busy", UNAVAILABLE),
            (Greeting, "554 5.3.2 no SMTP here", MISCONFIGURED),
            (Greeting, "521 no", MISCONFIGURED),
            (Greeting, "556 no", MISCONFIGURED),
            (Greeting, "SSH-2.0-OpenSSH_9.2", UNAVAILABLE),
            (Greeting, "HTTP/1.1 400 Bad Request", UNAVAILABLE),
            (Greeting, "999 what", UNAVAILABLE),
            (Greeting, "22", UNAVAILABLE),
            (Greeting, "220\u{feff}", UNAVAILABLE),
            (Greeting, "\0\u{1}\u{2}", UNAVAILABLE),
            (Greeting, "220-one\r\n250 two", UNAVAILABLE),
            (Hello, "421 busy", UNAVAILABLE),
            (Hello, "502 5.5.1 what", UNAVAILABLE),
            (Login, "454 4.7.0 later", UNAVAILABLE),
            (Login, "530 5.7.0 no", MISCONFIGURED),
            (Login, "534 5.7.9 weak", MISCONFIGURED),
            (Login, "535 5.7.8 wrong: my-marker-password", MISCONFIGURED),
            (Login, "538 5.7.11 encrypt", MISCONFIGURED),
            (Sender, "421 4.3.2 closing", UNAVAILABLE),
            (Sender, "451 4.3.0 error", UNAVAILABLE),
            (Sender, "452 4.3.1 full", THROTTLED),
            (Sender, "530 5.7.0 log in", MISCONFIGURED),
            (Sender, "554 5.7.1 no", MISCONFIGURED),
            (Sender, "555 5.5.4 what", REJECTED),
            (Recipient, "421 4.3.2 closing", UNAVAILABLE),
            (Recipient, "450 4.2.1 busy", UNAVAILABLE),
            (Recipient, "450 busy", UNAVAILABLE),
            (Recipient, "451 4.7.1 grey", UNAVAILABLE),
            (Recipient, "452 4.5.3 many", THROTTLED),
            (Recipient, "550 5.1.1 unknown", MISCONFIGURED),
            (Recipient, "551 elsewhere", MISCONFIGURED),
            (Recipient, "553 5.1.3 bad", MISCONFIGURED),
            (Recipient, "550 5.7.1 relaying denied", MISCONFIGURED),
            (Recipient, "552 5.2.2 full", UNAVAILABLE),
            (Recipient, "501 5.5.4 what", REJECTED),
            (Recipient, "251 2.1.5 forwarded", None),
            (Data, "421 4.3.2 closing", UNAVAILABLE),
            (Data, "451 4.3.0 error", UNAVAILABLE),
            (Data, "554 5.5.1 no valid recipients", MISCONFIGURED),
            (Data, "250 2.0.0 taken already", UNAVAILABLE),
            (Dot, "250 2.0.0 Ok: queued as 47", None),
            (Dot, "250", None),
            (Dot, "250-one\r\n250 two", None),
            (Dot, "421 4.3.2 closing", UNAVAILABLE),
            (Dot, "451 4.3.0 error", UNAVAILABLE),
            (Dot, "452 4.3.1 full", THROTTLED),
            (Dot, "552 5.2.2 full", UNAVAILABLE),
            (Dot, "552 5.3.4 big", REJECTED),
            (Dot, "554 5.6.0 what", REJECTED),
            (Dot, "554 5.7.1 spam", MISCONFIGURED),
            (Dot, "354 go on", UNKNOWN),
            (Dot, "OK", UNKNOWN),
            (Dot, "250-one\r\n451 two", UNKNOWN),
        ];
        let answers = answers.map(|(stage, words, want)| Case {
            name: format!("{stage:?}: {words}"),
            play: Play(stage, Act::Say(format!("{words}\r\n").into())),
            want,
        });
        let before = [Greeting, Hello, Login, Sender, Recipient, Data];
        let lost = before.into_iter().chain([Dot]).flat_map(|stage| {
            let want = if stage == Dot { UNKNOWN } else { UNAVAILABLE };
            let lines = b"250-and\r\n".repeat(100_000);
            [
                ("closed", Act::SayAndClose(Vec::new())),
                ("reset", Act::Reset),
                ("silence", Act::Hang),
                ("half a line", Act::SayAndClose(b"250".to_vec())),
                ("100,000 lines", Act::Say([&lines[..], b"250 end\r\n"].concat())),
                ("lines without end", Act::SayForEver(b"250-and\r\n".repeat(1000))),
                ("a line without end", Act::SayForEver(vec![b'2'; 4096])),
            ]
            .map(|(name, act)| Case {
                name: format!("{stage:?}: {name}"),
                play: Play(stage, act),
                want,
            })
        });
        let body = [
            ("421 in mid-mail", Act::SayAndClose(b"421 4.3.2 closing\r\n".to_vec()), UNAVAILABLE),
            ("421 in mid-mail, and on", Act::Say(b"421 4.3.2 closing\r\n".to_vec()), UNAVAILABLE),
        ];
        let body = body.map(|(name, act, want)| Case { name: name.into(), play: Play(Body, act), want });
        answers.into_iter().chain(lost).chain(body).collect()
    }

    fn silence() -> Play {
        Play(Stage::Dot, Act::Hang)
    }

    fn echo() -> Play {
        Play(Stage::Dot, Act::Echo)
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.server.state.lock().unwrap().seen.clone()
    }

    async fn stop(self) -> Arc<dyn Dispatcher> {
        let Mail { server, dispatcher } = self;
        let (addr, state) = (server.addr, server.state.clone());
        drop(server);
        while Arc::strong_count(&state) > 1 || TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
        dispatcher
    }
}

#[tokio::test]
async fn the_session_is_as_short_as_it_can_be() {
    let server = Server::start().await;
    let dispatcher = built(with_login(to(&server), "secret"));
    let sms = sms("+47 999", "på\n.\n..\nav");
    let receipt = submit(&*dispatcher, &sms).await.unwrap();
    assert_eq!(receipt.references, ["0815-X"]);
    let commands = server.commands();
    assert!(commands[0].starts_with("EHLO ") && commands[0].len() > 5, "{commands:?}");
    let rest = [
        "AUTH PLAIN AGFsZXJ0ZXIAc2VjcmV0",
        "MAIL FROM:<nav@example.org> BODY=8BITMIME",
        "RCPT TO:<sms@gateway.example>",
        "DATA",
    ];
    assert_eq!(commands[1..5], rest);
    let mail = server.state.lock().unwrap().mails[0].clone();
    assert!(mail.contains(&format!("\r\nMessage-ID: <{}@example.org>\r\n", sms.key)), "{mail}");
    assert!(mail.ends_with("\r\n\r\npå\r\n..\r\n...\r\nav\r\n"), "{mail}");
}

#[tokio::test]
async fn what_repeats_a_mail_has_its_message_id() {
    let server = Server::start().await;
    let dispatcher = built(to(&server));
    let first = sms("+47999", "hei");
    let again = Sms { key: first.key, ..sms("+47999", "hei") };
    server.arm(Stage::Dot, Act::Say(b"250 2.0.0 Message accepted\r\n".to_vec()));
    let id = format!("{}@example.org", first.key);
    assert_eq!(submit(&*dispatcher, &first).await.unwrap().references, std::slice::from_ref(&id));
    submit(&*dispatcher, &again).await.unwrap();
    assert_ne!(first.attempt, again.attempt);
    for mail in &server.state.lock().unwrap().mails {
        assert!(mail.contains(&format!("Message-ID: <{id}>\r\n")), "{mail}");
    }
}

#[tokio::test]
async fn login_is_by_what_the_server_offers() {
    let server = Server::start().await;
    let dispatcher = built(with_login(to(&server), "secret"));
    server.state.lock().unwrap().extensions = vec!["AUTH=CRAM-MD5 LOGIN".into()];
    submit(&*dispatcher, &sms("+47999", "hei")).await.unwrap();
    assert_eq!(server.commands()[1..4], ["AUTH LOGIN", "YWxlcnRlcg==", "c2VjcmV0"]);
    for extensions in [vec!["AUTH CRAM-MD5".to_owned()], vec![]] {
        server.state.lock().unwrap().extensions = extensions;
        let error = submit(&*dispatcher, &sms("+47999", "hei")).await.unwrap_err();
        assert_eq!(error.class, Class::Misconfigured, "{error}");
        assert!(error.detail.contains("neither AUTH PLAIN nor AUTH LOGIN"), "{error}");
        assert_eq!(dispatcher.probe().await.unwrap_err().class, Class::Misconfigured);
    }
    assert_eq!(server.state.lock().unwrap().mails.len(), 1);
}

#[tokio::test]
async fn what_was_to_be_encrypted_is_not_sent_without() {
    let server = Server::start().await;
    let dispatcher = built(with_login(Settings { tls: Some(Tls::StartTls), ..to(&server) }, "secret"));
    let error = submit(&*dispatcher, &sms("+47999", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Misconfigured, "{error}");
    assert!(error.detail.contains("does not offer STARTTLS"), "{error}");
    server.state.lock().unwrap().extensions = vec!["STARTTLS".into(), "AUTH PLAIN".into()];
    for (answer, class, words) in [
        ("454 4.7.0 not now\r\n", Class::Unavailable, "454 4.7.0 not now"),
        ("501 no\r\n", Class::Misconfigured, "501 no"),
        ("220 go on\r\n250-injected\r\n250 AUTH PLAIN\r\n", Class::Unavailable, "said before the encryption"),
        ("220 but no TLS follows\r\n", Class::Unavailable, "TLS"),
    ] {
        server.arm(Stage::Login, Act::Say(answer.into()));
        let error = submit(&*dispatcher, &sms("+47999", "hei")).await.unwrap_err();
        assert_eq!(error.class, class, "{answer}: {error}");
        assert!(error.detail.contains(words), "{answer}: {error}");
    }
    let commands = server.commands();
    assert!(
        commands.iter().all(|c| c.starts_with("EHLO ") || c == "STARTTLS" || !c.is_ascii()),
        "{commands:?}"
    );
    let smtps = built(Settings { tls: Some(Tls::Smtps), ..to(&server) });
    assert_eq!(submit(&*smtps, &sms("+47999", "hei")).await.unwrap_err().class, Class::Unavailable);
    assert!(server.state.lock().unwrap().mails.is_empty());
}

#[tokio::test]
async fn an_address_made_of_the_number_is_the_numbers_fault() {
    let server = Server::start().await;
    let settings = Settings { mailaddr: "%(phone)s@gateway.example".into(), ..to(&server) };
    let dispatcher = built(settings);
    submit(&*dispatcher, &sms("+47 999", "hei")).await.unwrap();
    assert!(
        server.commands().contains(&"RCPT TO:<+47999@gateway.example>".to_owned()),
        "{:?}",
        server.commands()
    );
    server.arm(Stage::Recipient, Act::Say(b"550 5.1.1 no such subscriber\r\n".to_vec()));
    let error = submit(&*dispatcher, &sms("+47999", "hei")).await.unwrap_err();
    assert_eq!((error.class, error.code.as_deref()), (Class::Rejected, Some("5.1.1")));
    let want = format!("127.0.0.1:{}: RCPT: 550 5.1.1 no such subscriber", server.addr.port());
    assert_eq!(error.detail, want);
}

#[tokio::test]
async fn what_the_operator_says_of_a_code_counts() {
    let server = Server::start().await;
    let classes = [("550", "MSG"), ("5.7.1", "DTMP"), ("554", "OK")];
    let classes = classes.map(|(code, word)| (code.to_owned(), Status::from_word(word).unwrap())).into();
    let config = named("mail", DispatcherKind::Mail(to(&server)), classes);
    let dispatcher = dispatch::build(&config, &Main::default()).unwrap();
    for (stage, answer, want) in [
        (Stage::Recipient, "550 5.1.1 no", Some(Class::Rejected)),
        (Stage::Dot, "554 5.7.1 no", Some(Class::Unavailable)),
        (Stage::Dot, "554 known already", None),
        (Stage::Recipient, "554 no", Some(Class::Misconfigured)),
    ] {
        server.arm(stage, Act::Say(format!("{answer}\r\n").into()));
        let answered = submit(&*dispatcher, &sms("+47999", "hei")).await;
        assert_eq!(answered.err().map(|e| e.class), want, "{answer}");
    }
}

#[test]
fn what_can_not_be_used_is_refused_by_section_and_key() {
    let good = settings("127.0.0.1", 25);
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for (settings, want) in [
        (Settings { mailaddr: "sms".into(), ..good.clone() }, "[mail] mailaddr: \"sms\" found"),
        (Settings { mailaddr: "a@b>\r\nDATA".into(), ..good.clone() }, "[mail] mailaddr: "),
        (Settings { fromaddr: Some("a@b\r\nBcc: c@d".into()), ..good.clone() }, "[mail] fromaddr: "),
        (Settings { fromaddr: Some("nav".into()), ..good.clone() }, "[mail] fromaddr: "),
        (
            Settings { tls_ca: Some("/no/such/ca.pem".into()), ..good.clone() },
            "[mail] tls_ca: /no/such/ca.pem can",
        ),
        (Settings { tls_ca: Some(empty), ..good }, "[mail] tls_ca: "),
    ] {
        let config = named("mail", DispatcherKind::Mail(settings), BTreeMap::new());
        let Err(error) = dispatch::build(&config, &Main::default()) else { panic!("built, though {want}") };
        assert!(error.to_string().starts_with(want), "{error}");
    }
}

// -- with a server that others wrote ---------------------------------------------------------------

/// An authority, and a certificate of its for one name, in files.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new(name: &str, year_of_end: i32) -> Certificates {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year_of_end, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let folder = TempDir::new().unwrap();
        for (name, pem) in
            [("ca.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        Certificates { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// aiosmtpd with this certificate.
    fn serve(&self, how: &str, options: &[&str]) -> Peer {
        let (certificate, key) = (self.path("cert.pem"), self.path("key.pem"));
        let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
        Peer::start("smtp_server.py", &[&[how], &files[..], options].concat())
    }
}

/// A script of Python may take its time to answer.
fn patient(phone: &str, text: &str) -> Sms {
    Sms { timeout: Duration::from_secs(20), ..sms(phone, text) }
}

/// Each text of the corpus, and what mail is known to change.
fn hard_texts() -> Vec<String> {
    let more = [
        ".",
        "..",
        ".\n.\n.",
        "a \nb\t\nc ",
        "lone\rreturn",
        "a\r\nb\n\rc\n\n",
        "From me",
        "",
        "=20=\n=",
        "\u{2028}",
    ];
    let long = [
        "x".repeat(5000),
        "æ".repeat(500),
        "å".repeat(499),
        format!("{}\n.{}", "y".repeat(998), "z".repeat(999)),
    ];
    CORPUS.iter().chain(&more).map(|text| text.to_string()).chain(long).collect()
}

#[tokio::test]
async fn a_mail_is_the_text_to_the_letter() {
    for (options, encodings) in
        [(&[][..], ["7bit", "8bit", "base64"]), (&["no8bit"], ["7bit", "base64", "base64"])]
    {
        let mut server = Peer::start("smtp_server.py", &[&["plain"], options].concat());
        let dispatcher = built(settings("127.0.0.1", server.port));
        let mut used = Vec::new();
        for (n, text) in hard_texts().iter().enumerate() {
            let sms = patient(&format!("+4799{n:04}"), text);
            let receipt = dispatcher.submit(&sms).await.unwrap_or_else(|e| panic!("{e} for {text:?}"));
            assert_eq!(receipt.references, ["4711XYZ"]);
            let mail = server.line();
            assert_eq!(mail["text"], *text);
            let header =
                |name: &str| mail["headers"][name].as_str().unwrap_or_else(|| panic!("{name}: {mail}"));
            assert_eq!(header("Subject"), format!("sms +4799{n:04}"));
            assert_eq!(header("From"), "NAV på nett <nav@example.org>");
            assert_eq!(header("Message-ID"), format!("<{}@example.org>", sms.key));
            assert_eq!(
                (&mail["sender"], &mail["to"][0]),
                (&"nav@example.org".into(), &"sms@gateway.example".into())
            );
            used.push(header("Content-Transfer-Encoding").to_owned());
        }
        used.sort();
        used.dedup();
        assert!(encodings.iter().all(|e| used.contains(&(*e).to_owned())), "{used:?}");
        assert!(options.is_empty() || !used.contains(&"8bit".to_owned()), "{used:?}");
    }
}

#[tokio::test]
async fn encryption_and_login_are_as_a_real_server_wants_them() {
    let certificates = Certificates::new("localhost", 2999);
    for (how, tls) in [("starttls", Tls::StartTls), ("smtps", Tls::Smtps)] {
        let mut server = certificates.serve(how, &["login"]);
        let ca = Some(certificates.path("ca.pem"));
        let secure = Settings { tls: Some(tls), tls_ca: ca, ..settings("localhost", server.port) };
        let good = built(with_login(secure.clone(), "secret"));
        let health = good.probe().await.unwrap();
        assert!(health.0.starts_with("logged in at localhost:"), "{health:?}");
        good.submit(&patient("+47999", "på nett")).await.unwrap();
        let mail = server.line();
        assert_eq!(
            (&mail["text"], &mail["tls"], &mail["user"]),
            (&"på nett".into(), &true.into(), &"alerter".into())
        );

        for (what, settings, class) in [
            ("wrong password", with_login(secure.clone(), "Secret"), Class::Misconfigured),
            ("no login", secure.clone(), Class::Misconfigured),
            (
                "untrusted",
                with_login(Settings { tls_ca: None, ..secure.clone() }, "secret"),
                Class::Unavailable,
            ),
            (
                "another name",
                {
                    let server = Some(("127.0.0.1".to_owned(), Some(server.port)));
                    with_login(Settings { server, ..secure.clone() }, "secret")
                },
                Class::Unavailable,
            ),
            (
                "unencrypted",
                Settings { tls: Some(Tls::None), ..secure.clone() },
                match tls {
                    // Where the server waits for TLS and we for its greeting, nobody speaks.
                    Tls::Smtps => Class::Unavailable,
                    _ => Class::Misconfigured,
                },
            ),
        ] {
            let patience =
                if what == "unencrypted" { Duration::from_secs(2) } else { Duration::from_secs(20) };
            let sms = Sms { timeout: patience, ..sms("+47999", "hei") };
            let error = built(settings).submit(&sms).await.unwrap_err();
            assert_eq!(error.class, class, "{how}, {what}: {error}");
            if matches!(what, "untrusted" | "another name") {
                assert!(error.detail.contains("certificate"), "{how}, {what}: {error}");
            }
        }
        // Nothing else has come: the next mail is the next line.
        good.submit(&patient("+47999", "the next")).await.unwrap();
        assert_eq!(server.line()["text"], "the next");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let certificates = Certificates::new("localhost", 2001);
    let server = certificates.serve("starttls", &[]);
    let ca = Some(certificates.path("ca.pem"));
    let settings = Settings { tls: Some(Tls::StartTls), tls_ca: ca, ..settings("localhost", server.port) };
    let error = built(settings).submit(&patient("+47999", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Unavailable, "{error}");
    assert!(error.detail.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_real_servers_refusals_have_their_class() {
    let server = Peer::start("smtp_server.py", &["plain"]);
    for (address, class, code) in [
        ("reject@gateway.example", Class::Misconfigured, "5.1.1"),
        ("temp@gateway.example", Class::Unavailable, "4.7.1"),
    ] {
        let settings = Settings { mailaddr: address.into(), ..settings("127.0.0.1", server.port) };
        let error = built(settings).submit(&patient("+47999", "hei")).await.unwrap_err();
        assert_eq!((error.class, error.code.as_deref()), (class, Some(code)), "{error}");
    }
}
