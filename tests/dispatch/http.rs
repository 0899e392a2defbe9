//! The HTTP dispatcher: the contract over it, what it escapes, and how it judges.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use smsd::config::{self, DispatcherConfig, Env, Main};
use smsd::demo::gateway::{Answer, Behaviour, Gateway};
use smsd::dispatch::{self, Class, Dispatcher, Sms};
use uuid::Uuid;

use crate::contract::{CORPUS, Case, Fixture, contract, sms, submit};
use crate::http_get::{gateway, hostile, raw};

struct Http {
    gateway: Gateway,
    dispatcher: Arc<dyn Dispatcher>,
}

contract!(super::Http);

/// What `smsd.conf` says of the one section `[gw]`, or why not.
pub(crate) fn load(keys: &str) -> Result<DispatcherConfig, String> {
    let dir = tempfile::tempdir().unwrap();
    load_in(dir.path(), keys)
}

/// The same where files may stand beside it.
pub(crate) fn load_in(dir: &std::path::Path, keys: &str) -> Result<DispatcherConfig, String> {
    let path = dir.join("smsd.conf");
    std::fs::write(&path, format!("[dispatcher]\ndispatcher1: gw\n[gw]\ntype: HttpDispatcher\n{keys}\n"))
        .unwrap();
    let mut env = Env::from_process();
    env.root = false;
    match config::load(Some(&path), &env) {
        Ok(mut loaded) => {
            let odd: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            let odd: Vec<&String> = odd.iter().filter(|w| !w.contains("can read this secret")).collect();
            assert!(odd.is_empty(), "{odd:?}");
            Ok(loaded.config.dispatchers.remove(0))
        }
        Err(faults) => Err(faults.to_string().replace(&format!("{}/", dir.display()), "")),
    }
}

pub(crate) fn built(keys: &str) -> Arc<dyn Dispatcher> {
    let config = load(keys).unwrap_or_else(|faults| panic!("{faults}"));
    dispatch::build(&config, &Main::default()).unwrap()
}

const JSON: &str = r#"method: POST
auth: basic
username: marker-user
password: marker-pass
var.key: secret-marker
header.x-key: literal-marker-{{ var.key }}
body: {"key": "{{ var.key }}", "login": "body-marker",
  "to": "{{ phone }}", "text": {{ text }}, "end": {{ segments }}}
"#;

#[async_trait]
impl Fixture for Http {
    type Play = Behaviour;

    async fn start() -> Http {
        let gateway = gateway(Behaviour::ok()).await;
        let keys = format!("url: http://{}/send?q=query-marker\n{JSON}", gateway.addr);
        let config = load(&keys).unwrap();
        assert!(!format!("{config:?}").contains("marker-"), "{config:?}");
        let dispatcher = dispatch::build(&config, &Main::default()).unwrap();
        Http { gateway, dispatcher }
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
        let parse = |body: &Vec<u8>| {
            let json: serde_json::Value = serde_json::from_slice(body).unwrap();
            let mut keys: Vec<&String> = json.as_object().unwrap().keys().collect();
            keys.sort();
            assert_eq!(keys, ["end", "key", "login", "text", "to"]);
            assert_eq!((&json["key"], &json["login"]), (&"secret-marker".into(), &"body-marker".into()));
            let text = |key: &str| json[key].as_str().unwrap().to_string();
            (text("to"), text("text"))
        };
        self.gateway.bodies().iter().map(parse).collect()
    }

    async fn stop(self) -> Arc<dyn Dispatcher> {
        let Http { gateway, dispatcher } = self;
        gateway.stop().await;
        dispatcher
    }
}

/// One request as it came, and what an answer to it meant.
async fn one(keys: &str, sms: &Sms) -> (String, String) {
    let gateway = gateway(Behaviour::ok()).await;
    let dispatcher = built(&keys.replace("GW", &gateway.addr.to_string()));
    dispatcher.submit(sms).await.unwrap();
    let body = String::from_utf8(gateway.bodies().remove(0)).unwrap();
    (gateway.heads().remove(0).replace(&gateway.addr.to_string(), "GW"), body)
}

#[tokio::test]
async fn the_request_is_what_was_written_with_the_values_in_it() {
    let sms = sms("+47 999", "på & \"av\"");
    let keys = "base_url: http://GW/api/\nurl: /a%20b/{{ phone_digits }}?x=%zz{% if unicode %}&u=1{% endif %}\n\
                method: PUT\ntoken: t/1\nauth: query api key\n";
    assert!(load(&keys.replace("GW", "gw")).unwrap_err().contains("auth: found \"query api key\""));
    let keys = keys.replace("api key", "api_key");
    let (head, body) = one(&format!("{keys}body: text={{{{ text }}}}\n  &n={{{{ segments }}}}"), &sms).await;
    assert_eq!(
        head,
        "PUT /api/a%20b/47999?x=%zz&api_key=t%2F1 HTTP/1.1\r\nhost: GW\r\nuser-agent: smsd/0.1.0\r\n\
         accept: */*\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 33\r\n\r\n"
    );
    assert_eq!(body, "text=p%C3%A5%20%26%20%22av%22&n=1");
}

#[tokio::test]
async fn each_way_to_log_in() {
    for (keys, header) in [
        ("auth: basic\nusername: næv\npassword: p:w", "authorization: Basic bsOmdjpwOnc="),
        ("auth: bearer\ntoken: t.1", "authorization: Bearer t.1"),
        ("auth: header X-Api-Key\ntoken: t.1", "x-api-key: t.1"),
        ("header.authorization: AccessKey {{ token }}\ntoken: t.1", "authorization: AccessKey t.1"),
    ] {
        let keys = format!("url: http://GW/?to={{{{ phone }}}}&text={{{{ text }}}}\n{keys}");
        let (head, body) = one(&keys, &sms("112", "hei")).await;
        assert!(head.starts_with("GET /?to=112&text=hei HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
        assert_eq!(body, "");
    }
    let (head, _) =
        one("url: http://us%40er:p%2Fw@GW/?to={{ phone }}&text={{ text }}", &sms("112", "hei")).await;
    assert!(head.contains("authorization: Basic dXNAZXI6cC93\r\n"), "{head}");
}

/// The corpus arrives to the letter in every kind of body and in the URL, read by parsers that share nothing with us.
#[tokio::test]
async fn no_text_leaves_its_field() {
    let gateway = gateway(Behaviour::ok()).await;
    let url = format!("url: http://{}", gateway.addr);
    let both = "?to={{ phone }}&text={{ text }}&end=1";
    let json = r#"{"a": ["{{ text }}", {{ text }}, "<{{ text }}>"], "end": 1}"#;
    let xml = r#"<m a="{{ text }}" b='{{ text }}'>{{ phone }}<t>{{ text }}</t><!-- > --><end/></m>"#;
    let of = |rest: &str| built(&format!("{url}{rest}"));
    let (query, path) = (of(&format!("/s{both}")), of("/s/{{ text }}/{{ phone }}"));
    let form = of(&format!("/s\nbody: {}", both.trim_start_matches('?')));
    let json = of(&format!("/{{{{ phone }}}}\nbody: {json}"));
    let xml = of(&format!("/s\nbody: {xml}"));
    let plain = of("/{{ phone }}\nbody: {{ text }}\ncontent_type: text/plain; charset=utf-8");
    for text in CORPUS {
        let own = |key: &str, value: &str| (key.to_string(), value.to_string());
        let pairs = [own("to", "112"), own("text", text), own("end", "1")];
        let target = || url::Url::parse(&format!("http://gw{}", gateway.targets().pop().unwrap())).unwrap();
        let body = || gateway.bodies().pop().unwrap();
        let sms = sms("112", text);

        submit(&*query, &sms).await.unwrap();
        let found: Vec<(String, String)> = target().query_pairs().into_owned().collect();
        assert_eq!(found, pairs);

        submit(&*path, &sms).await.unwrap();
        let parts: Vec<String> = target().path_segments().unwrap().map(decoded).collect();
        let way_up = if matches!(text, "." | "..") { " " } else { "" };
        assert_eq!(parts, ["s", &format!("{text}{way_up}"), "112"]);

        submit(&*form, &sms).await.unwrap();
        let found: Vec<(String, String)> = url::form_urlencoded::parse(&body()).into_owned().collect();
        assert_eq!(found, pairs);

        submit(&*json, &sms).await.unwrap();
        let found: serde_json::Value = serde_json::from_slice(&body()).unwrap();
        assert_eq!(found, serde_json::json!({"a": [text, text, format!("<{text}>")], "end": 1}));

        submit(&*xml, &sms).await.unwrap();
        let possible: String =
            text.chars().map(|c| if c < ' ' && !"\t\r\n".contains(c) { '\u{fffd}' } else { c }).collect();
        assert_eq!(xml_parts(&String::from_utf8(body()).unwrap()), [&possible, &possible, "112", &possible]);

        submit(&*plain, &sms).await.unwrap();
        assert_eq!(body(), text.as_bytes());
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// The attributes `a` and `b` of `m`, its own text, and that of `t`, of a document with nothing else in it.
fn xml_parts(xml: &str) -> Vec<String> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut parts, mut names) = (Vec::new(), Vec::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => {
                names.push(tag.name().as_ref().to_owned());
                parts.extend(tag.attributes().map(|a| {
                    let raw = a.unwrap().value.into_owned();
                    quick_xml::escape::unescape(&raw).unwrap().into_owned()
                }));
                parts.push(String::new());
            }
            Event::Text(text) => parts.last_mut().unwrap().push_str(&text.xml10_content()),
            Event::GeneralRef(name) => {
                let c = name.resolve_char_ref().unwrap().map(String::from);
                let known =
                    || quick_xml::escape::resolve_xml_entity(&name.borrow().into_inner()).unwrap().to_owned();
                parts.last_mut().unwrap().push_str(&c.unwrap_or_else(known));
            }
            Event::Empty(tag) => names.push(tag.name().as_ref().to_owned()),
            Event::Eof => break,
            Event::End(_) | Event::Comment(_) => {}
            other => panic!("{other:?} in {xml}"),
        }
    }
    assert_eq!(names, ["m", "t", "end"], "{xml}");
    parts
}

const KEYED: &str = "url: http://GW/{{ key }}\nidempotency: header Idempotency-Key\nidempotency_window: 1h\n\
                     body: {\"to\": \"{{ phone }}\", \"text\": \"{{ text }}\", \"ref\": \"{{ key }}\"}";

/// An SMS of which nobody knows whether it was taken goes out again under its first key.
#[tokio::test]
async fn a_resend_is_the_same_byte_for_byte() {
    let gateway = gateway(Behaviour::answering(Answer::Close)).await;
    let dispatcher = built(&KEYED.replace("GW", &gateway.addr.to_string()));
    let first = sms("112", "Router gw1 is down");
    assert_eq!(submit(&*dispatcher, &first).await.unwrap_err().class, Class::Unknown);
    gateway.set(Behaviour::ok());
    submit(&*dispatcher, &Sms { attempt: Uuid::now_v7(), ..first.clone() }).await.unwrap();
    submit(&*dispatcher, &sms("112", "Router gw1 is down")).await.unwrap();
    let (heads, bodies) = (gateway.heads(), gateway.bodies());
    assert_eq!((&heads[0], &bodies[0]), (&heads[1], &bodies[1]));
    assert!(heads[0].contains(&format!("\r\nidempotency-key: {}\r\n", first.key)), "{}", heads[0]);
    assert_ne!((&heads[0], &bodies[0]), (&heads[2], &bodies[2]));
}

#[tokio::test]
async fn rules_decide_before_the_status_does() {
    let gateway = gateway(Behaviour::ok()).await;
    let dispatcher = built(&format!(
        "url: http://{}/?to={{{{ phone }}}}&text={{{{ text }}}}\nreference: /ids\nclass.409: DPERM\n\
         reject: /error/code in 21211, 21614\n  status 400 and not /error\ndefer: /error/code = busy\n\
         throttle: /error/code = slow\nmisconfigured: body ~ (?i)password\nunavailable: /error/code = down\n\
         fail: /error/code = maybe\nsuccess: /ok = true\n  status 422 and /error/code = duplicate",
        gateway.addr
    ));
    let wait = |s| Class::Throttled { retry_after: Duration::from_secs(s) };
    for (behaviour, want) in [
        (Behaviour::ok().body(r#"{"ok":true,"ids":["a",2]}"#), Ok(vec!["a", "2"])),
        (Behaviour::status(422).body(r#"{"error":{"code":"duplicate"}}"#), Ok(vec![])),
        (Behaviour::ok().body(r#"{"error":{"code":21211}}"#), Err(Class::Rejected)),
        (Behaviour::status(400).body("{}"), Err(Class::Rejected)),
        (Behaviour::ok().body(r#"{"error":{"code":"busy"},"ok":true}"#), Err(Class::Deferred)),
        (Behaviour::ok().body(r#"{"error":{"code":"slow"}}"#), Err(wait(30))),
        (
            Behaviour::status(500).body(r#"{"error":{"code":"slow"}}"#).header("Retry-After", "7"),
            Err(wait(7)),
        ),
        (Behaviour::status(429), Err(wait(30))),
        (Behaviour::ok().body("Wrong PASSWORD"), Err(Class::Misconfigured)),
        (Behaviour::ok().body(r#"{"error":{"code":"down"}}"#), Err(Class::Unavailable)),
        (Behaviour::ok().body(r#"{"error":{"code":"maybe"}}"#), Err(Class::Failed)),
        // Nothing holds: a 2xx that does not say what it should has failed, and may have sent.
        (Behaviour::ok().body("?"), Err(Class::Failed)),
        (Behaviour::status(500).body(r#"{"ok":true}"#), Err(Class::Failed)),
        (Behaviour::status(503), Err(Class::Unavailable)),
        (Behaviour::status(409), Err(Class::Misconfigured)),
        (raw("HTTP/1.1 200 \r\nContent-Length: 99\r\n\r\n{\"ok\":true}"), Err(Class::Unknown)),
        (raw("HTTP/1.1 401 \r\nContent-Length: 99\r\n\r\n{"), Err(Class::Misconfigured)),
    ] {
        gateway.set(behaviour.clone());
        let answer = submit(&*dispatcher, &sms("112", "hei")).await;
        let answer = answer.map(|receipt| receipt.references).map_err(|error| error.class);
        assert_eq!(
            answer,
            want.map(|all: Vec<&str>| all.into_iter().map(String::from).collect()),
            "{behaviour:?}"
        );
    }
}

#[tokio::test]
async fn a_rule_is_named_in_the_error_and_what_was_answered() {
    let gateway = gateway(Behaviour::status(400).body(r#"{"code":1,"text":"no such number"}"#)).await;
    let keys =
        format!("url: http://{}/s?to={{{{ phone }}}}&text={{{{ text }}}}\ndefer: /code = 1", gateway.addr);
    let error = submit(&*built(&keys), &sms("112", "hei")).await.unwrap_err();
    assert_eq!((error.class, error.code.as_deref()), (Class::Deferred, Some("400")));
    let want = r#"answered 400 Bad Request, by rule defer: {"code":1,"text":"no such number"}"#;
    assert!(error.detail.ends_with(want), "{error}");
}

#[test]
fn what_can_not_be_used_is_said_with_line_and_key() {
    let url = "url: http://gw/?to={{ phone }}&text={{ text }}";
    let mut wrong = Vec::new();
    for (keys, want) in [
        ("", "smsd.conf:3:1: [gw] has no url"),
        ("url: /send", "smsd.conf:3:1: [gw] has no base_url"),
        (
            "base_url: http://gw\nurl: http://other/{{ phone }}{{ text }}",
            "smsd.conf:5:1: base_url: url has a host",
        ),
        (
            "base_url: http://u:p@gw\nurl: /{{ phone }}{{ text }}",
            "smsd.conf:5:1: base_url: expected http:// or https:// and a host",
        ),
        ("url: gw/{{ phone }}{{ text }}", "smsd.conf:5:1: url: it begins with neither http:// nor"),
        ("url: http://{{ phone }}/{{ text }}", "smsd.conf:5:1: url: {{ stands before the path"),
        ("url: http://gw/?a=å{{ phone }}{{ text }}", "smsd.conf:5:1: url: 'å' can not stand in a URL"),
        ("url: http://gw/?to=%(phone)s&text=%(sms)s", "smsd.conf:5:1: url: here the places are {{ phone }}"),
        ("url: http://gw/?to={{ phone }}", "smsd.conf:5:1: url: the text stands nowhere"),
        ("url: http://gw/?t={{ text }}", "smsd.conf:5:1: url: the number stands nowhere"),
        ("url: http://gw/?t={{ text }&{{ phone }}", "smsd.conf:5:1: url, line 1: unexpected `}`"),
        (
            "url: http://gw/?t={{ text }}&{{ phnoe }}",
            "url: \"phnoe\" is no name of a template (did you mean \"phone\"?)",
        ),
        (
            "url: http://gw/?t={{ text|safe }}&{{ phone }}",
            "smsd.conf:5:1: url, line 1: filter safe is unknown",
        ),
        (
            "url: http://gw/{{ phone }}{% set x %}{{ text }}{% endset %}{{ x }}",
            "smsd.conf:5:1: url, line 1: what a block or `escape` has made of a value can not be put out",
        ),
        ("url: http://gw/?{{ phone }}{{ text }}{{ sender }}", "smsd.conf:3:1: [gw] has no sender"),
        ("url: http://gw/?{{ phone }}{{ text }}{{ var.x }}", "smsd.conf:3:1: [gw] has no var.x"),
        ("{url}\nvar.x: 1", "smsd.conf:6:1: var.x: nothing uses it"),
        ("{url}\ntoken_env: HOME", "smsd.conf:6:1: token: nothing uses it"),
        ("{url}\nvar.a-b: 1", "smsd.conf:6:1: var.a-b: expected letters"),
        ("{url}\nauth: digest", "smsd.conf:6:7: auth: found \"digest\", expected none, basic, bearer"),
        ("{url}\nauth: bearer", "smsd.conf:3:1: [gw] has no token (its auth needs it)"),
        ("{url}\nmethod: PATCH", "smsd.conf:6:9: method: found \"PATCH\", expected GET, POST or PUT"),
        ("{url}\nmethod: GET\nbody: x=1", "smsd.conf:6:1: method: GET has no body"),
        ("{url}\ncontent_type: text/plain", "smsd.conf:6:1: content_type: there is no body"),
        (
            "{url}\ncontent_type: image/png\nbody: x",
            "content_type: found \"image/png\", expected a type of JSON",
        ),
        ("{url}\nbody: x\nbody_file: y", "smsd.conf:7:1: body and body_file are both set"),
        ("{url}\nbody_file: none", "smsd.conf:6:1: body_file: can not read"),
        ("{url}\nbody: {\n  \"a\": {{ phone }},\n  \"b\": {{ tekst }}}", "body: \"tekst\" is no name"),
        ("{url}\nbody:\n  {\n  \"a\": {{ phone }\n  }", "smsd.conf:8:3: body, line 2: unexpected"),
        ("{url}\nbody: {\n  \"a\": x{{ phone }}}", "smsd.conf:7:3: body, line 2: it is no JSON"),
        (
            "{url}\nbody: {\"a\": \"\\{{ phone }}\"}",
            "smsd.conf:6:1: body, line 1: a value stands behind a backslash",
        ),
        ("{url}\nbody: <a>\n  <b {{ text }}/></a>", "smsd.conf:7:3: body, line 2: a value stands in a tag"),
        (
            "{url}\nbody: <a><!-- {{ text }} --></a>",
            "smsd.conf:6:1: body, line 1: a value stands in a comment",
        ),
        ("{url}\nbody: <a><b></a>", "smsd.conf:6:1: body: it is no XML"),
        ("{url}\nheader.x: {{ text }}", "smsd.conf:6:1: header.x: the text can not stand in a header"),
        (
            "{url}\nvar.x: å\nheader.x: {{ var.x }}",
            "smsd.conf:7:1: header.x, line 1: a value for a header has other",
        ),
        ("{url}\nheader.a b: x", "smsd.conf:6:1: header.a b: expected the name of a header"),
        ("{url}\nheader.Host: x", "smsd.conf:6:1: header.host: smsd sets this header itself"),
        (
            "{url}\nheader.content-type: x",
            "smsd.conf:6:1: header.content-type: expected the key content_type",
        ),
        (
            "{url}\nsuccess: status 200\n  statsu 3xx",
            "smsd.conf:7:3: success: found \"statsu\", expected status, body",
        ),
        ("{url}\nreject:", "smsd.conf:6:1: reject: found nothing, expected a rule"),
        ("{url}\nreference: id", "smsd.conf:6:1: reference: found \"id\", expected status"),
        ("{url}\nidempotency: field", "smsd.conf:6:1: idempotency: no template has {{ key }}"),
        (
            "{url}{{ attempt }}\nidempotency: header K",
            "smsd.conf:6:1: idempotency: a template has {{ attempt }}",
        ),
        ("{url}\nidempotency: K", "smsd.conf:6:14: idempotency: found \"K\", expected field, or header"),
        ("{url}\nidempotency_window: 1h", "smsd.conf:6:1: idempotency_window: there is no idempotency"),
        (
            "{url}\nidempotency: header K\nidempotency_window: 40s\ntimeout: 20s",
            "smsd.conf:7:1: idempotency_window: a resend comes 50 s later",
        ),
        ("{url}\nproxy: https://p:1", "smsd.conf:6:1: proxy: expected the URL of a proxy"),
        ("{url}\ntls_ca: none.pem", "smsd.conf:6:1: tls_ca: can not read"),
        ("{url}\ntls_ca: smsd.conf", "smsd.conf:6:1: tls_ca: found no certificate in PEM"),
        ("{url}\ntls_cert: smsd.conf", "smsd.conf:6:1: tls_cert: there is no tls_key"),
        (
            "{url}\npreset: twillio",
            "smsd.conf:6:9: preset: found \"twillio\", expected a preset (did you mean \"twilio\"?)",
        ),
        ("{url}\nclass.99: OK", "smsd.conf:6:1: class.99: expected an HTTP status"),
    ] {
        let told = load(&keys.replace("{url}", url)).err().unwrap_or_default();
        if !told.contains(want) {
            wrong.push(format!("{keys}\n  told: {told}\n  want: {want}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_secret_stands_in_a_fault() {
    for keys in [
        "url: http://gw/?{{ phone }}&k=hunter2hunter2",
        "url: http://gw/?{{ phone }}{{ text }}\nproxy: http://u:hunter2hunter2@/",
        "url: http://gw/?{{ phone }}{{ text }}\nbody: {\"k\": \"hunter2hunter2\", x: {{ text }}}",
        "url: http://gw/?{{ phone }}{{ text }}\npassword: hunter2hunter2",
        "url: http://gw/?{{ phone }}{{ text }}\nheader.x: {{ token }}\ntoken: å hunter2hunter2",
        "url: /?{{ phone }}{{ text }}\nbase_url: http://u:hunter2hunter2@gw",
        "url: http://gw/?{{ phone }}{{ text }}\nheader.x: {{ va.token }}\ntoken: hunter2hunter2",
    ] {
        let told = load(keys).unwrap_err();
        assert!(!told.contains("hunter2"), "{told}");
    }
}
