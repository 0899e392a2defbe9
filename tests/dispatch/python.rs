//! Dispatcher classes of NAV's: the contract over one, and classes as sites wrote them.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use smsd::config::{DispatcherConfig, DispatcherKind, Main, Secret};
use smsd::dispatch::python::Settings;
use smsd::dispatch::status::Status;
use smsd::dispatch::{self, Class, Dispatcher, Sms, SubmitError};

use crate::contract::{Case, Fixture, contract, sms, submit};
use crate::debug::named;
use crate::exec::{Stage, Staged, answers};

/// Long enough for any machine.
const LONG: Duration = Duration::from_secs(30);

fn settings(class: &str, own: &[(&str, &str)]) -> Settings {
    let plugins = format!("{}/tests/fixtures/nav_plugin", env!("CARGO_MANIFEST_DIR"));
    Settings {
        python: "python3".into(),
        module: class.to_lowercase(),
        class: class.into(),
        path: vec![plugins.into()],
        common: [("type".to_owned(), "PythonDispatcher".to_owned())].into(),
        own: own.iter().map(|(key, value)| (key.to_string(), Secret::new(value.to_string()))).collect(),
    }
}

fn config(settings: Settings, concurrency: Option<u32>, classes: &[(&str, &str)]) -> DispatcherConfig {
    let classes: BTreeMap<String, Status> =
        classes.iter().map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap())).collect();
    DispatcherConfig { concurrency, ..named("plugin", DispatcherKind::Python(settings), classes) }
}

fn built(config: &DispatcherConfig) -> Arc<dyn Dispatcher> {
    dispatch::build(config, &Main::default()).unwrap()
}

fn scripted(stage: &Stage, concurrency: Option<u32>, classes: &[(&str, &str)]) -> Arc<dyn Dispatcher> {
    let settings = settings("ScriptedDispatcher", &[("home", stage.home()), ("password", "secret-marker")]);
    let config = config(settings, concurrency, classes);
    assert!(!format!("{config:?}").contains("marker"), "{config:?}");
    built(&config)
}

async fn send(dispatcher: &Arc<dyn Dispatcher>, to: &str, text: &str) -> Result<Vec<String>, SubmitError> {
    let sms = Sms { timeout: LONG, ..sms(to, text) };
    let sent = tokio::time::timeout(LONG * 2, dispatcher.submit(&sms)).await.expect("submit hangs");
    sent.map(|receipt| receipt.references)
}

struct Python {
    stage: Stage,
    dispatcher: Arc<dyn Dispatcher>,
}

contract!(super::Python);

#[async_trait]
impl Fixture for Python {
    type Play = String;

    async fn start() -> Python {
        let stage = Stage::new();
        let dispatcher = scripted(&stage, Some(16), &[]);
        answers(&dispatcher, true).await;
        Python { stage, dispatcher }
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.dispatcher)
    }

    fn play(&self, phone: Option<&str>, play: &String) {
        self.stage.play(phone, play);
    }

    fn cases() -> Vec<Case<String>> {
        let result = |result: &str, id: &str| format!("answer['result'] = (sms, sent, [], {result}, {id})");
        let yes_on_stdout = "import os, sys, subprocess\n\
            print('{\"id\": 1, \"ok\": true}')\nsys.stdout.write('x' * 100000)\n\
            os.write(1, b'\\n{\"smsd\": 2}\\n')\nsubprocess.run(['echo', 'loud'])";
        [
            ("sent", String::new(), None),
            ("sent under an id", result("True", "4711"), None),
            ("sent under words", result("True", "'secret-marker'"), None),
            ("nothing is not false", result("None", "0"), None),
            ("zero is not false", result("0", "0"), None),
            ("false", result("False", "0"), Some(Class::Failed)),
            ("four values", "answer['result'] = (sms, sent, [], True)".into(), Some(Class::Failed)),
            ("none", "answer['result'] = None".into(), Some(Class::Failed)),
            (
                "left out",
                "answer['result'] = (' +1 see web.', [], [1], True, 0)".into(),
                Some(Class::Rejected),
            ),
            ("an error", "raise DispatcherError(self.config['password'])".into(), Some(Class::Failed)),
            (
                "a permanent error",
                "raise PermanentDispatcherError(self.config['password'])".into(),
                Some(Class::Misconfigured),
            ),
            ("another error", "{}[self.config['password']]".into(), Some(Class::Failed)),
            ("a syntax error", "if:".into(), Some(Class::Failed)),
            ("exit", "import sys; sys.exit(0)".into(), Some(Class::Failed)),
            ("interrupted", "raise KeyboardInterrupt".into(), Some(Class::Failed)),
            ("recursion", "f = lambda: f()\nglobals()['f'] = f\nf()".into(), Some(Class::Failed)),
            ("words on stdout", yes_on_stdout.into(), None),
            ("reads stdin", "import sys; assert sys.stdin.readline() == ''".into(), None),
            ("a long word", "raise DispatcherError('x' * 1000000)".into(), Some(Class::Failed)),
            ("a long id", result("True", "'x' * 1000000"), None),
            ("odd characters", "raise DispatcherError('\\x1b[31m\\0\\n\\udcff')".into(), Some(Class::Failed)),
            ("slow", "import time; time.sleep(0.1)".into(), None),
            ("late", "import time; time.sleep(0.4)".into(), Some(Class::Unknown)),
            ("silence", Python::silence(), Some(Class::Unknown)),
        ]
        .map(|(name, play, want)| Case { name: name.to_owned(), play, want })
        .into()
    }

    fn silence() -> String {
        "import time; time.sleep(987)".into()
    }

    fn echo() -> String {
        "raise DispatcherError(f'{sms} {self.config[\"password\"]} {sms!r}')".into()
    }

    fn seen(&self) -> Vec<(String, String)> {
        self.stage.seen()
    }

    async fn stop(self) -> Arc<dyn Dispatcher> {
        self.stage.write("init", "raise ConnectionRefusedError(config['password'])");
        nix::sys::signal::kill(self.stage.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
        answers(&self.dispatcher, false).await;
        Arc::new(Staged { dispatcher: self.dispatcher, _stage: self.stage })
    }
}

#[tokio::test]
async fn a_class_as_a_site_wrote_it_sends_what_was_composed() {
    let stage = Stage::new();
    let command = "#!/bin/sh\n{ printf '%s|' \"$1\"; cat; echo; } >> \"${0%/*}/sent\"\n\
        case $1 in *2) exit 2;; *3) exit 3;; *4) exit 1;; esac\n";
    stage.write("modem", command);
    let modem = stage.0.path().join("modem");
    std::fs::set_permissions(&modem, std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = [("command", modem.to_str().unwrap()), ("pin", "marker-1234")];
    let dispatcher = built(&config(settings("ModemDispatcher", &own), None, &[]));
    assert_eq!(send(&dispatcher, "+4799000001", "1: gw1; 2: gw2").await.unwrap(), ["4711"]);
    // Of three segments, and so longer than the class and NAV allow.
    let long = "æ is down. ".repeat(40);
    assert_eq!(send(&dispatcher, "+4799000001", &long).await.unwrap(), ["4711"]);
    assert_eq!(stage.lines("sent"), ["+4799000001|1: gw1; 2: gw2".to_owned(), format!("+4799000001|{long}")]);

    let error = |class, detail, code: &str| SubmitError::new(class, detail).code(code);
    for (to, want) in [
        (
            "+4799000002",
            error(Class::Failed, "ModemDispatcher: DispatcherError: modem busy", "DispatcherError"),
        ),
        (
            "+4799000003",
            error(
                Class::Misconfigured,
                "ModemDispatcher: PermanentDispatcherError: PIN <secret> is wrong",
                "PermanentDispatcherError",
            ),
        ),
        ("+4799000004", error(Class::Failed, "ModemDispatcher: sendsms() returned false", "false")),
    ] {
        assert_eq!(send(&dispatcher, to, "hei").await.unwrap_err(), want);
    }
}

#[tokio::test]
async fn its_section_is_its_configuration() {
    let stage = Stage::new();
    let dispatcher = scripted(&stage, None, &[]);
    answers(&dispatcher, true).await;
    let config: Value = serde_json::from_str(&stage.lines("config").concat()).unwrap();
    let want = json!({"type": "PythonDispatcher", "home": stage.home(), "password": "secret-marker"});
    assert_eq!(config, want);
}

#[tokio::test]
async fn messages_are_what_nav_gives() {
    let stage = Stage::new();
    let dispatcher = scripted(&stage, None, &[]);
    stage.play(None, "assert msgs == [(1, 'hei', 1)], msgs\nassert phone == '+4799000001'");
    send(&dispatcher, "+4799000001", "hei").await.unwrap();
}

#[tokio::test]
async fn an_error_may_be_given_another_class() {
    let stage = Stage::new();
    let dispatcher = scripted(&stage, None, &[("dispatchererror", "DTMP"), ("valueerror", "RCPT")]);
    for (play, want) in [
        ("raise DispatcherError('x')", Class::Unavailable),
        ("raise ValueError('x')", Class::Rejected),
        ("raise KeyError('x')", Class::Failed),
    ] {
        stage.play(None, play);
        assert_eq!(send(&dispatcher, "+4799000001", "hei").await.unwrap_err().class, want, "{play}");
    }
}

#[tokio::test]
async fn what_can_not_be_loaded_needs_a_person() {
    let stage = Stage::new();
    let base = settings("ScriptedDispatcher", &[("home", stage.home())]);
    let module = Settings { module: "no_such_module".into(), ..base.clone() };
    let class = Settings { class: "NoSuchClass".into(), ..base.clone() };
    let key = Settings { own: BTreeMap::new(), ..settings("ModemDispatcher", &[]) };
    let python = Settings { python: "/no/such/python".into(), ..base };
    for (settings, words) in [
        (module, "ModuleNotFoundError: No module named 'no_such_module'"),
        (class, "ImportError: module scripteddispatcher has no class NoSuchClass"),
        (key, "DispatcherError: Config option not found: 'command'"),
        (python, "/no/such/python can not be started"),
    ] {
        let dispatcher = built(&config(settings, None, &[]));
        let error = send(&dispatcher, "+4799000001", "hei").await.unwrap_err();
        assert_eq!(error.class, Class::Misconfigured, "{error:?}");
        assert!(error.detail.contains(words), "{error:?}");
    }
}

#[tokio::test]
async fn one_that_hangs_is_ended_and_the_next_sms_goes_out() {
    let stage = Stage::new();
    stage.play(Some("+4799000001"), "while True: pass");
    let dispatcher = scripted(&stage, None, &[]);
    answers(&dispatcher, true).await;
    let error = submit(&*dispatcher, &sms("+4799000001", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Unknown, "{error:?}");
    crate::exec::until("another serves", async || send(&dispatcher, "+4799000002", "hei").await.ok()).await;
    assert_eq!(stage.lines("starts").len(), 2);

    let mute = built(&config(settings("Mute", &[]), None, &[]));
    answers(&mute, true).await;
    let error = submit(&*mute, &sms("+4799000001", "hei")).await.unwrap_err();
    assert_eq!(error.class, Class::Unknown, "{error:?}");
}

/// NAV's own base class drops a message that does not fit 160 characters; so does this one.
#[tokio::test]
async fn no_class_leaves_out_a_text_that_was_composed_to_fit() {
    let stage = Stage::new();
    let file = stage.0.path().join("sent");
    let file = file.to_str().unwrap();
    let dispatcher = built(&config(settings("ShortDispatcher", &[("file", file)]), None, &[]));
    for length in [159, 160, 161, 300] {
        send(&dispatcher, "+4799000001", &"x".repeat(length)).await.unwrap();
    }
    assert_eq!(stage.lines("sent").iter().map(String::len).collect::<Vec<_>>(), [159, 160, 161, 300]);
    // One that goes by something else than NAV's maxlen: it is not said that the text was sent.
    let own = [("file", file), ("own", "100")];
    let dispatcher = built(&config(settings("ShortDispatcher", &own), None, &[]));
    let error = send(&dispatcher, "+4799000001", &"x".repeat(160)).await.unwrap_err();
    assert_eq!((error.class, error.code.as_deref()), (Class::Rejected, Some("ignored")));
}
