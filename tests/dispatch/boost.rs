//! The dispatcher of SOAP services: the contract over it, what it sends as others would, and what answers mean.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use smsd::config::{DispatcherKind, Main, Secret};
use smsd::dispatch::boost::{Argument, METHOD, Settings, default_parameters};
use smsd::dispatch::status::{self, Status};
use smsd::dispatch::{self, Class, Dispatcher};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::contract::{CORPUS, Case, Fixture, contract, sms, submit};
use crate::debug::named;
use crate::peers::{self, Peer};

struct Boost {
    service: Service,
    dispatcher: Arc<dyn Dispatcher>,
}

contract!(super::Boost);

/// A service that writes down what it is sent, on loopback.
struct Service {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    requests: Vec<(String, Vec<u8>)>,
    all: Play,
    by_phone: BTreeMap<String, Play>,
}

/// How it behaves.
#[derive(Clone, Debug)]
enum Play {
    /// A status with a body, and the connection stays.
    Answer(u16, Vec<u8>),
    /// The request as the body of this status.
    Echo(u16),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// The first bytes, and then the second for ever; if there are no second, silence.
    Endless(Vec<u8>, Vec<u8>),
    Reset,
}

impl Default for Play {
    fn default() -> Play {
        Play::Answer(200, result("true"))
    }
}

impl Service {
    async fn start() -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let told = state.clone();
        let listen = async move {
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let state = told.clone();
                connections.spawn(async move { talk(tcp, &state).await });
            }
        };
        Service { addr, state, task: tokio::spawn(listen).abort_handle() }
    }

    fn play(&self, play: Play) {
        self.state.lock().unwrap().all = play;
    }

    fn requests(&self) -> Vec<(String, Vec<u8>)> {
        self.state.lock().unwrap().requests.clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(tcp: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut stream = BufReader::new(tcp);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await?;
        let phone = arguments(&body).into_iter().rev().nth(1).unwrap_or_default();
        let play = {
            let mut state = state.lock().unwrap();
            state.requests.push((head, body.clone()));
            state.by_phone.get(&phone).unwrap_or(&state.all).clone()
        };
        match play {
            Play::Answer(status, body) => stream.write_all(&proper(status, &body)).await?,
            Play::Echo(status) => stream.write_all(&proper(status, &body)).await?,
            Play::Raw(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Play::Endless(first, then) => {
                stream.write_all(&first).await?;
                while !then.is_empty() {
                    stream.write_all(&then).await?;
                }
                std::future::pending().await
            }
            Play::Reset => return socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO)),
        }
    }
}

fn proper(status: u16, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status} \r\n").into_bytes();
    if status != 204 && status != 304 {
        answer.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
    }
    answer.extend(b"\r\n");
    answer.extend(if status == 204 || status == 304 { &[] } else { body });
    answer
}

/// The values of the arguments in a request, read by a parser that shares nothing with the dispatcher.
fn arguments(body: &[u8]) -> Vec<String> {
    let document = roxmltree::Document::parse(std::str::from_utf8(body).unwrap()).unwrap();
    let soap = document.root_element().children().find(|e| e.has_tag_name((SOAP, "Body"))).unwrap();
    let call = soap.first_element_child().unwrap();
    let arguments = call.children().filter(|e| e.is_element());
    arguments.map(|e| e.text().unwrap_or_default().to_owned()).collect()
}

const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

fn envelope(inner: &str) -> Vec<u8> {
    format!("<s:Envelope xmlns:s=\"{SOAP}\"><s:Body>{inner}</s:Body></s:Envelope>").into_bytes()
}

fn result(value: &str) -> Vec<u8> {
    envelope(&format!(
        "<sendMessageResponse><sendMessageReturn>{value}</sendMessageReturn></sendMessageResponse>"
    ))
}

fn fault(code: &str) -> Vec<u8> {
    envelope(&format!("<s:Fault><faultcode>{code}</faultcode><faultstring>no</faultstring></s:Fault>"))
}

fn settings(url: String) -> Settings {
    Settings {
        url: Secret::new(url),
        username: "nav".into(),
        password: Secret::new("<p&ss-marker>".into()),
        sender: "NAV".into(),
        method: METHOD.into(),
        namespace: None,
        soapaction: METHOD.into(),
        parameters: default_parameters(),
        reference: None,
    }
}

fn built(settings: Settings, classes: &[(&str, &str)]) -> Arc<dyn Dispatcher> {
    let classes = classes.iter().map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap()));
    let config = named("boost", DispatcherKind::Boost(settings), classes.collect());
    assert!(!format!("{config:?}").contains("marker"), "{config:?}");
    dispatch::build(&config, &Main::default()).unwrap()
}

fn to(service: &Service) -> Settings {
    settings(format!(
        "http://marker-user:mark%65r-pass@{}/axis/services/ExternalSender?key=marker-key",
        service.addr
    ))
}

#[async_trait]
impl Fixture for Boost {
    type Play = Play;

    async fn start() -> Boost {
        let service = Service::start().await;
        let dispatcher = built(to(&service), &[]);
        Boost { service, dispatcher }
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.dispatcher.clone()
    }

    fn play(&self, phone: Option<&str>, play: &Play) {
        let mut state = self.service.state.lock().unwrap();
        match phone {
            Some(phone) => drop(state.by_phone.insert(phone.into(), play.clone())),
            None => state.all = play.clone(),
        }
    }

    fn cases() -> Vec<Case<Play>> {
        let by_table = |code| match status::http(code) {
            Status::Accepted => None,
            Status::Refused(class) => Some(class),
        };
        let plain = (300..=599).chain([600, 999]).map(|code| Case {
            name: format!("status {code} without an envelope"),
            play: Play::Answer(code, b"<h1>words &nbsp; marker-key &lt;p&amp;ss-marker&gt;</h1>".to_vec()),
            want: by_table(code),
        });
        let unread = [
            ("nothing", Vec::new()),
            ("OK", b"OK".to_vec()),
            ("a page", b"<html><body>OK</body></html>".to_vec()),
            (
                "a document type",
                [b"<!DOCTYPE e SYSTEM \"file:///etc/passwd\">", &result("true")[..]].concat(),
            ),
            ("an XML bomb", bomb()),
            ("an entity", result("&x;")),
            ("ten thousand levels", envelope(&("<a>".repeat(4000) + &"</a>".repeat(4000)))),
            ("endless levels", envelope(&"<a>".repeat(1_000_000))),
            ("a million elements", envelope(&"<a/>".repeat(1_000_000))),
            ("a million attributes", envelope(&format!("<a{}/>", " b=\"c\"".repeat(1_000_000)))),
            ("cut off", result("true").split_off(5)),
            ("invalid UTF-8", b"\xff\xfe<\0a\0>\0".to_vec()),
            ("an empty body", envelope("")),
        ];
        let unread = unread.into_iter().flat_map(|(name, body)| {
            [(200, Class::Unknown), (202, Class::Unknown), (500, Class::Failed)].map(|(status, class)| Case {
                name: format!("{status} with {name}"),
                play: Play::Answer(status, body.clone()),
                want: Some(class),
            })
        });
        let answers = [
            (200, result("true"), None),
            (200, result("1"), None),
            (200, result("4711"), None),
            (200, result("OK"), None),
            (202, result("true"), None),
            (200, result("false"), Some(Class::Failed)),
            (200, result("0"), Some(Class::Failed)),
            (200, result(""), Some(Class::Failed)),
            (200, envelope("<sendMessageResponse/>"), Some(Class::Failed)),
            (204, Vec::new(), Some(Class::Unknown)),
            (500, result("true"), Some(Class::Failed)),
            (404, fault("Client"), Some(Class::Misconfigured)),
            (503, fault("Client"), Some(Class::Unavailable)),
        ];
        let faults = [
            ("s:Client", Class::Rejected),
            ("s:Client.NoSuchNumber", Class::Rejected),
            ("s:Client.Authentication", Class::Misconfigured),
            ("s:Client.Authentication.Expired", Class::Misconfigured),
            ("s:Sender", Class::Rejected),
            ("s:Server", Class::Failed),
            ("s:Server.userException", Class::Failed),
            ("s:Receiver", Class::Failed),
            ("s:VersionMismatch", Class::Misconfigured),
            ("s:MustUnderstand", Class::Misconfigured),
            ("", Class::Failed),
            ("marker-key", Class::Failed),
            ("Server.&lt;p&amp;ss-marker&gt;", Class::Failed),
        ];
        let faults = faults
            .into_iter()
            .flat_map(|(code, class)| [200, 500].map(|status| (status, fault(code), Some(class))));
        let told = answers.into_iter().chain(faults).map(|(status, body, want)| Case {
            name: format!("{status} {}", String::from_utf8_lossy(&body)),
            play: Play::Answer(status, body),
            want,
        });
        let cut = |status: u16| format!("HTTP/1.1 {status} \r\nContent-Length: 9999\r\n\r\n<s:Envelope>");
        let head =
            |status: u16| format!("HTTP/1.1 {status} \r\nContent-Length: 99999999999\r\n\r\n").into_bytes();
        let hostile = [
            ("closed before the answer", Play::Raw(Vec::new()), Some(Class::Unknown)),
            ("reset before the answer", Play::Reset, Some(Class::Unknown)),
            ("no HTTP", Play::Raw(b"220 mail.example ESMTP\r\n".to_vec()), Some(Class::Unknown)),
            ("closed in a body of 200", Play::Raw(cut(200).into()), Some(Class::Unknown)),
            ("closed in a body of 500", Play::Raw(cut(500).into()), Some(Class::Failed)),
            ("silence in a body of 200", Play::Endless(cut(200).into(), Vec::new()), Some(Class::Unknown)),
            ("silence in a body of 500", Play::Endless(cut(500).into(), Vec::new()), Some(Class::Failed)),
            ("endless body of 200", Play::Endless(head(200), b"<a>".repeat(1000)), Some(Class::Unknown)),
            ("endless body of 503", Play::Endless(head(503), b"<a>".repeat(1000)), Some(Class::Unavailable)),
            ("length left out", Play::Raw([b"HTTP/1.1 200 \r\n\r\n", &result("true")[..]].concat()), None),
        ];
        let hostile = hostile.map(|(name, play, want)| Case { name: name.into(), play, want });
        plain.chain(unread).chain(told).chain(hostile).collect()
    }

    fn silence() -> Play {
        Play::Endless(Vec::new(), Vec::new())
    }

    fn echo() -> Play {
        Play::Echo(400)
    }

    /// XML can not carry these; no SMS has them either (`smsd::sms::clean`).
    fn carried(text: &str) -> String {
        text.replace(['\0', '\u{1a}', '\u{1b}'], "")
    }

    fn seen(&self) -> Vec<(String, String)> {
        let read = |(head, body): &(String, Vec<u8>)| {
            assert!(
                head.starts_with("POST /axis/services/ExternalSender?key=marker-key HTTP/1.1\r\n"),
                "{head}"
            );
            let values = arguments(body);
            assert_eq!(values[..3], ["nav", "<p&ss-marker>", "NAV"]);
            (values[3].clone(), values[4].clone())
        };
        self.service.requests().iter().map(read).collect()
    }

    async fn stop(self) -> Arc<dyn Dispatcher> {
        let Boost { service, dispatcher } = self;
        let (addr, state) = (service.addr, service.state.clone());
        drop(service);
        // Its connections hold the state until they have ended.
        while Arc::strong_count(&state) > 1 || TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
        dispatcher
    }
}

/// A document that would grow to gigabytes.
fn bomb() -> Vec<u8> {
    let mut document = String::from("<!DOCTYPE lol [<!ENTITY a0 \"lol\">");
    for n in 1..10 {
        document += &format!("<!ENTITY a{n} \"{}\">", format!("&a{};", n - 1).repeat(10));
    }
    (document + "]>" + &String::from_utf8(result("&a9;")).unwrap()).into_bytes()
}

#[tokio::test]
async fn the_request_is_one_call() {
    let service = Service::start().await;
    let dispatcher = built(Settings { password: Secret::new("p&\"<".into()), ..to(&service) }, &[]);
    submit(&*dispatcher, &sms("+47 999", "på\r\n<b> & ]]>")).await.unwrap();
    let requests = service.requests();
    let want = format!(
        "POST /axis/services/ExternalSender?key=marker-key HTTP/1.1\r\nhost: {}\r\nuser-agent: smsd/0.1.0\r\n\
         accept: text/xml, */*\r\ncontent-type: text/xml; charset=UTF-8\r\nsoapaction: \"sendMessage\"\r\n\
         authorization: Basic bWFya2VyLXVzZXI6bWFya2VyLXBhc3M=\r\ncontent-length: {}\r\n\r\n",
        service.addr,
        requests[0].1.len()
    );
    assert_eq!(requests[0].0, want);
    service.play(Play::Answer(400, b"no p&amp;&quot;&lt; here".to_vec()));
    let error = submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err();
    assert!(error.detail.ends_with(": no <secret> here"), "{error}");
    assert_eq!(arguments(&requests[0].1), ["nav", "p&\"<", "NAV", "+47999", "på\r\n<b> & ]]>"]);
}

#[tokio::test]
async fn errors_say_what_was_answered_and_where() {
    let service = Service::start().await;
    let dispatcher = built(to(&service), &[]);
    let words = "s:Server.userException</faultcode><faultstring>can not\nsend</faultstring><faultcode>";
    service.play(Play::Answer(500, fault(words)));
    let error = submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some("Server.userException"));
    let url = format!("http://{}/axis/services/ExternalSender", service.addr);
    let want = "service answered 500 Internal Server Error: fault Server.userException: can not\\nsend";
    assert_eq!(error.detail, format!("{url}: {want}"));
    service.play(Play::Answer(200, result("false")));
    let error = submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err();
    assert_eq!((error.code.as_deref(), error.class), (Some("200"), Class::Failed));
    assert_eq!(error.detail, format!("{url}: service answered 200 OK: the result is not true"));
}

#[tokio::test]
async fn what_the_operator_says_of_a_code_counts() {
    let service = Service::start().await;
    let classes = [
        ("client", "DPERM"),
        ("server.userexception", "RCPT"),
        ("server.known", "OK"),
        ("503", "ERR"),
        ("202", "OK"),
    ];
    let dispatcher = built(to(&service), &classes);
    for (status, body, want) in [
        (500, fault("s:Client"), Some(Class::Misconfigured)),
        (500, fault("s:Client.Other"), Some(Class::Misconfigured)),
        (500, fault("s:Clients"), Some(Class::Failed)),
        (500, fault("s:Server"), Some(Class::Failed)),
        (500, fault("s:Server.userException"), Some(Class::Rejected)),
        (200, fault("s:Server.userException.Deeper"), Some(Class::Rejected)),
        (500, fault("s:Server.Known"), None),
        (503, fault("s:Client"), Some(Class::Failed)),
        (202, Vec::new(), None),
        (200, Vec::new(), Some(Class::Unknown)),
    ] {
        service.play(Play::Answer(status, body.clone()));
        let answer = submit(&*dispatcher, &sms("112", "hei")).await;
        assert_eq!(
            answer.as_ref().err().map(|e| e.class),
            want,
            "{status} {}",
            String::from_utf8_lossy(&body)
        );
    }
    let dispatcher = built(to(&service), &[("500", "DTMP"), ("client", "DPERM")]);
    for (code, want) in [("Server", Class::Unavailable), ("Client", Class::Misconfigured)] {
        service.play(Play::Answer(500, fault(code)));
        assert_eq!(submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err().class, want, "{code}");
    }
}

#[tokio::test]
async fn the_reference_is_kept_short_and_without_secrets() {
    let service = Service::start().await;
    let dispatcher = built(Settings { reference: Some("id".into()), ..to(&service) }, &[]);
    for (answer, want) in [
        ("<ok>1</ok><id>4711</id>", vec!["4711".to_owned()]),
        ("<ok>1</ok>", vec![]),
        ("<ok>1</ok><id>x marker-key y</id>", vec!["x <secret> y".to_owned()]),
    ] {
        service.play(Play::Answer(200, envelope(&format!("<r>{answer}</r>"))));
        assert_eq!(submit(&*dispatcher, &sms("112", "hei")).await.unwrap().references, want);
    }
    service.play(Play::Answer(200, envelope(&format!("<r><ok>1</ok><id>{}</id></r>", "æ".repeat(9999)))));
    let receipt = submit(&*dispatcher, &sms("112", "hei")).await.unwrap();
    assert!(receipt.references[0].len() <= 100, "{receipt:?}");
}

/// What SOAPpy, which NAV used, makes of the same call, element by element: names, namespaces, types and values.
#[tokio::test]
async fn the_envelope_is_the_one_that_soappy_makes() {
    let service = Service::start().await;
    for (n, namespace) in [None, Some("urn:boost".to_owned())].into_iter().enumerate() {
        let dispatcher = built(Settings { namespace: namespace.clone(), ..to(&service) }, &[]);
        for (m, text) in CORPUS.iter().filter(|text| Boost::carried(text) == **text).enumerate() {
            submit(&*dispatcher, &sms(&format!("+4799{n}{m:04}"), text)).await.unwrap();
        }
    }
    let ours: Vec<String> =
        service.requests().into_iter().map(|(_, body)| String::from_utf8(body).unwrap()).collect();
    let said = run("soappy_call.py", serde_json::to_string(&ours).unwrap().as_bytes());
    assert_eq!(said, format!("{} the same\n", ours.len()));
}

/// SOAPpy's server, which takes the arguments by their places, and Spyne's, which takes them by their names.
#[tokio::test]
async fn servers_that_others_wrote_understand_the_call() {
    let by_name = [("user", Argument::Username), ("secret", Argument::Password), ("from", Argument::Sender)];
    let by_name = by_name.into_iter().chain([("body", Argument::Message), ("to", Argument::Phone)]);
    let by_name: Vec<(String, Argument)> = by_name.map(|(name, what)| (name.to_owned(), what)).collect();
    for peer in ["soappy_server.py", "spyne_server.py"] {
        let mut service = Peer::start(peer, &[]);
        let url = format!("http://127.0.0.1:{}/", service.port);
        let settings = match peer {
            "spyne_server.py" => Settings {
                namespace: Some("urn:boost".into()),
                parameters: by_name.clone(),
                reference: Some("id".into()),
                ..settings(url)
            },
            _ => settings(url),
        };
        let dispatcher = built(settings, &[]);
        for (n, text) in CORPUS.iter().enumerate() {
            let phone = format!("+4799{n:04}");
            let answer = dispatcher.submit(&patient(&phone, text)).await;
            let receipt = answer.unwrap_or_else(|e| panic!("{peer}: {e} for {text:?}"));
            let taken = service.line();
            assert_eq!(taken["phone"], *phone, "{peer}");
            assert_eq!(taken["message"], Boost::carried(text), "{peer}");
            assert_eq!(
                [&taken["username"], &taken["password"], &taken["sender"]],
                ["nav", "<p&ss-marker>", "NAV"]
            );
            if peer == "spyne_server.py" {
                assert_eq!(receipt.references, [format!("id-{phone}")]);
            }
        }
        for (phone, class) in
            [("+47000", Class::Failed), ("+47400", Class::Rejected), ("+47500", Class::Failed)]
        {
            let error = dispatcher.submit(&patient(phone, "hei")).await.unwrap_err();
            assert_eq!(error.class, class, "{peer}: {error}");
        }
    }
}

/// A script of Python may take its time to answer.
fn patient(phone: &str, text: &str) -> dispatch::Sms {
    dispatch::Sms { timeout: Duration::from_secs(20), ..sms(phone, text) }
}

#[test]
fn what_can_not_be_used_is_refused_by_section_and_key() {
    for (settings, classes, want) in [
        (settings("boost.example/axis?marker".into()), [].into(), "[boost] url: it begins with neither"),
        (
            Settings { soapaction: "a\r\nX: y".into(), ..settings("http://h/".into()) },
            [].into(),
            "[boost] soapaction: it can not stand",
        ),
        (
            settings("http://h/".into()),
            [("1000".to_owned(), Status::Accepted)].into(),
            "[boost] class.1000: ",
        ),
    ] {
        let config = named("boost", DispatcherKind::Boost(settings), classes);
        let Err(error) = dispatch::build(&config, &Main::default()) else { panic!("built, though {want}") };
        assert!(error.to_string().starts_with(want), "{error}");
        assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
    }
}

/// What a script says of its input; it must end well.
fn run(script: &str, input: &[u8]) -> String {
    let mut child = peers::python(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
