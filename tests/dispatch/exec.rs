//! Programs as ways out: the contract over both modes, and what each has beside it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use smsd::config::{DispatcherConfig, DispatcherKind, Main, Secret};
use smsd::dispatch::exec::{Mode, Program, Settings, exit_code};
use smsd::dispatch::status::Status;
use smsd::dispatch::{self, Class, Dispatcher, Sms, SubmitError};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::contract::{Case, Fixture, contract, sms, submit};
use crate::debug::named;

/// Long enough for any machine.
const LONG: Duration = Duration::from_secs(30);

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/exec/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn program(words: &[&str]) -> Program {
    let args = words.iter().skip(1).map(|word| word.to_string()).collect();
    let token = Secret::new("secret-marker".to_owned());
    Program { args, env: [("TOKEN".to_owned(), token)].into(), ..Program::new(words[0]) }
}

fn config(program: Program, mode: Mode, classes: &[(&str, &str)]) -> DispatcherConfig {
    let classes = classes.iter().map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap()));
    named("prog", DispatcherKind::Exec(Settings { program, mode, probe: None }), classes.collect())
}

fn built(config: &DispatcherConfig) -> Arc<dyn Dispatcher> {
    dispatch::build(config, &Main::default()).unwrap()
}

/// A folder in which a scripted program is told what to do, and writes down what it was told.
pub(crate) struct Stage(pub(crate) TempDir);

impl Stage {
    pub(crate) fn new() -> Stage {
        Stage(tempfile::tempdir().unwrap())
    }

    pub(crate) fn home(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// At once and whole: the program may be reading it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.path().join(name)).unwrap();
    }

    pub(crate) fn play(&self, phone: Option<&str>, play: &str) {
        self.write(&phone.map_or("play".to_owned(), |phone| format!("play.{phone}")), play);
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn requests(&self) -> Vec<Value> {
        self.lines("seen").iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn seen(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        self.requests().iter().map(|seen| (word(&seen["to"]), word(&seen["text"]))).collect()
    }

    /// The process of its last start.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.lines("starts").last().unwrap().parse().unwrap())
    }
}

pub(crate) async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(begun.elapsed() < LONG, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a probe does, or does not.
pub(crate) async fn answers(dispatcher: &Arc<dyn Dispatcher>, does: bool) {
    let begun = Instant::now();
    while dispatcher.probe().await.is_ok() != does {
        assert!(begun.elapsed() < LONG, "still waiting for {does}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// A dispatcher with the folder that its program needs.
pub(crate) struct Staged {
    pub(crate) dispatcher: Arc<dyn Dispatcher>,
    pub(crate) _stage: Stage,
}

#[async_trait]
impl Dispatcher for Staged {
    fn limits(&self) -> dispatch::Limits {
        self.dispatcher.limits()
    }

    async fn submit(&self, sms: &Sms) -> Result<dispatch::Receipt, SubmitError> {
        self.dispatcher.submit(sms).await
    }

    async fn probe(&self) -> Result<dispatch::Health, SubmitError> {
        self.dispatcher.probe().await
    }
}

/// A class as programs name it.
fn word(class: Class) -> &'static str {
    match class {
        Class::Rejected => "RCPT",
        Class::Deferred => "RTMP",
        Class::Unavailable => "DTMP",
        Class::Throttled { .. } => "THR",
        Class::Misconfigured => "DPERM",
        Class::Failed => "ERR",
        Class::Unknown => "AMB",
    }
}

const CLASSES: [Class; 7] = [
    Class::Rejected,
    Class::Deferred,
    Class::Unavailable,
    Class::Throttled { retry_after: Duration::from_secs(30) },
    Class::Misconfigured,
    Class::Failed,
    Class::Unknown,
];

mod oneshot {
    use super::*;

    pub(super) struct Oneshot {
        stage: Stage,
        dispatcher: Arc<dyn Dispatcher>,
    }

    contract!(super::Oneshot);

    fn scripted(stage: &Stage, probe: Option<&str>, classes: &[(&str, &str)]) -> Arc<dyn Dispatcher> {
        let program = program(&["sh", &fixture("oneshot.sh"), stage.home()]);
        let probe = probe.map(|script| ["sh", "-c", script, stage.home()].map(str::to_owned).to_vec());
        let mut config = config(program, Mode::Oneshot, classes);
        config.kind = match config.kind {
            DispatcherKind::Exec(settings) => DispatcherKind::Exec(Settings { probe, ..settings }),
            kind => kind,
        };
        assert!(!format!("{config:?}").contains("marker"), "{config:?}");
        built(&config)
    }

    #[async_trait]
    impl Fixture for Oneshot {
        type Play = String;

        async fn start() -> Oneshot {
            let stage = Stage::new();
            stage.play(None, "exit 0");
            let probe = "echo \"$TOKEN\"; echo \"$TOKEN\" >&2; test ! -e $0/down || exit 69";
            Oneshot { dispatcher: scripted(&stage, Some(probe), &[]), stage }
        }

        fn dispatcher(&self) -> Arc<dyn Dispatcher> {
            Arc::clone(&self.dispatcher)
        }

        fn play(&self, phone: Option<&str>, play: &String) {
            self.stage.play(phone, play);
        }

        fn cases() -> Vec<Case<String>> {
            let codes = (0..=255).map(|code| {
                let want = match exit_code(code) {
                    Status::Accepted => None,
                    Status::Refused(class) => Some(class),
                };
                (format!("exit {code}"), format!("echo \"words of $TOKEN\" >&2; exit {code}"), want)
            });
            let classes = CLASSES.map(|class| {
                let name = word(class);
                let play = format!("echo '{{\"class\":\"{name}\",\"detail\":\"'$TOKEN'\"}}'; exit 1");
                (format!("class {name}"), play, Some(class))
            });
            let flood = "i=0; while [ $i -lt 2000 ]; do echo \
                0123456789012345678901234567890123456789012345678901234567890123456789; i=$((i+1)); done";
            let others = [
                ("killed", "kill -9 $$", Some(Class::Unknown)),
                ("ended by a signal", "kill -TERM $$", Some(Class::Unknown)),
                ("a reference", "echo 4711", None),
                ("a reference with a secret", "echo $TOKEN", None),
                ("no words of JSON", "echo '{\"class\":'", Some(Class::Failed)),
                (
                    "a refusal and a line",
                    "echo '{\"class\":\"DTMP\",\"detail\":[1]}'; echo 'warning: x'",
                    Some(Class::Unavailable),
                ),
                ("JSON of someone else", "echo '{\"status\":{\"code\":1},\"ok\":true}'", None),
                ("a class that there is not", "echo '{\"class\":\"WHAT\"}'", Some(Class::Failed)),
                ("a refusal with exit 0", "echo '{\"class\":\"RCPT\"}'", Some(Class::Rejected)),
                ("taken with exit 75", "echo '{\"class\":\"OK\"}'; exit 75", Some(Class::Failed)),
                ("control characters", "printf '\\033[31m\\001\\377\\n' >&2; exit 70", Some(Class::Failed)),
                ("much on stdout", flood, None),
                ("closed output", "exec >&- 2>&-; exit 0", None),
                ("a child that keeps the output", "sleep 987 & exit 0", None),
                ("silence", "sleep 987", Some(Class::Unknown)),
                ("deaf to signals", "trap '' TERM INT HUP; sleep 987", Some(Class::Unknown)),
            ];
            let others = others.map(|(name, play, want)| (name.to_owned(), play.to_owned(), want));
            let all = codes.chain(classes).chain(others);
            all.map(|(name, play, want)| Case { name, play, want }).collect()
        }

        fn silence() -> String {
            "sleep 987".into()
        }

        fn echo() -> String {
            "printf '%s %s %s\\n' \"$SMSD_TEXT\" \"$TOKEN\" \"$line\" >&2; exit 65".into()
        }

        fn seen(&self) -> Vec<(String, String)> {
            self.stage.seen()
        }

        async fn stop(self) -> Arc<dyn Dispatcher> {
            self.stage.play(None, "exit 69");
            self.stage.write("down", "");
            Arc::new(Staged { dispatcher: self.dispatcher, _stage: self.stage })
        }
    }

    #[tokio::test]
    async fn it_knows_what_is_to_be_sent_and_how_long_it_may_take() {
        let stage = Stage::new();
        stage.play(None, "env | grep ^SMSD_ > $1/env; echo \"  4711 \"; echo more");
        let dispatcher = scripted(&stage, None, &[]);
        let text = format!("{}æ€", "x".repeat(200));
        let first = sms("+4799999999", &text);
        let again = Sms { timeout: LONG, attempt: uuid(), ..first };
        let receipt = submit(&*dispatcher, &again).await.unwrap();
        assert_eq!(receipt.references, ["4711"]);
        let told = &stage.requests()[0];
        let (id, key) = (again.attempt.to_string(), again.key.to_string());
        assert_ne!(id, key);
        let want = json!({"id": id, "key": key, "to": "+4799999999", "text": text, "timeout_ms": 30000,
            "segments": 2, "encoding": "gsm7"});
        assert_eq!(*told, want);
        let env = stage.lines("env");
        for line in [
            format!("SMSD_ID={id}"),
            format!("SMSD_KEY={key}"),
            "SMSD_TO=+4799999999".to_owned(),
            format!("SMSD_TEXT={text}"),
            "SMSD_TIMEOUT_MS=30000".to_owned(),
            "SMSD_SEGMENTS=2".to_owned(),
            "SMSD_ENCODING=gsm7".to_owned(),
        ] {
            assert!(env.contains(&line), "{line} in {env:?}");
        }
        assert_eq!(env.len(), 7);
    }

    fn uuid() -> uuid::Uuid {
        uuid::Uuid::now_v7()
    }

    #[tokio::test]
    async fn codes_words_and_references_are_told() {
        let stage = Stage::new();
        let dispatcher = scripted(&stage, None, &[("75", "THR"), ("99", "RTMP")]);
        let error = async |play: &str| {
            stage.play(None, play);
            let sms = Sms { timeout: LONG, ..sms("+4799999999", "hei") };
            submit(&*dispatcher, &sms).await.unwrap_err()
        };
        let told = error("echo first >&2; echo 'no modem' >&2; exit 78").await;
        let want = SubmitError::new(Class::Misconfigured, "sh: exit 78 (EX_CONFIG): no modem").code("78");
        assert_eq!(told, want);
        let wait = |seconds| Class::Throttled { retry_after: Duration::from_secs(seconds) };
        assert_eq!(error("exit 75").await.class, wait(30), "as configured");
        assert_eq!(error("echo '{\"retry_after\": 7}'; exit 75").await.class, wait(7));
        let told = error("echo '{\"code\": 99, \"detail\": \"later\"}'; exit 1").await;
        assert_eq!(told, SubmitError::new(Class::Deferred, "sh: exit 1: later").code("99"));
        stage.play(None, "echo '{\"references\": [\"a\", 2], \"reference\": \"a\"}'");
        let sms = Sms { timeout: LONG, ..sms("+4799999999", "hei") };
        assert_eq!(submit(&*dispatcher, &sms).await.unwrap().references, ["a", "2"]);
    }

    #[tokio::test]
    async fn what_can_not_be_started_is_told_by_submit_and_probe_alike() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "no program").unwrap();
        let missing = dir.path().join("missing");
        let empty = Program { directory: Some(missing.clone()), ..program(&["sh"]) };
        for program in [
            program(&["/no/such/program"]),
            program(&["no-such-program-at-all"]),
            program(&[text.to_str().unwrap()]),
            program(&[dir.path().to_str().unwrap()]),
            empty,
        ] {
            let dispatcher = built(&config(program.clone(), Mode::Oneshot, &[]));
            let error = submit(&*dispatcher, &sms("+4799999999", "hei")).await.unwrap_err();
            assert_eq!(error.class, Class::Misconfigured, "{error:?}");
            let probed = dispatcher.probe().await.unwrap_err();
            assert_eq!(probed.class, Class::Misconfigured, "{probed:?}");
        }
        let found = built(&config(program(&["sh"]), Mode::Oneshot, &[])).probe().await.unwrap();
        assert!(found.0.ends_with("/sh is there; no probe is configured"), "{found:?}");
    }

    #[test]
    fn a_code_that_is_none_is_refused() {
        for code in ["256", "-1", "EX_CONFIG"] {
            let config = config(program(&["sh"]), Mode::Oneshot, &[(code, "ERR")]);
            let Err(error) = dispatch::build(&config, &Main::default()) else { panic!("{code}") };
            assert!(error.to_string().starts_with(&format!("[prog] class.{code}: ")), "{error}");
        }
    }
}

mod stream {
    use super::*;

    pub(super) struct Stream {
        stage: Stage,
        dispatcher: Arc<dyn Dispatcher>,
    }

    contract!(super::Stream);

    fn scripted(stage: &Stage, concurrency: u32, classes: &[(&str, &str)]) -> Arc<dyn Dispatcher> {
        let program = program(&["python3", &fixture("stream.py"), stage.home()]);
        let config = config(program, Mode::Stream, classes);
        built(&DispatcherConfig { concurrency: Some(concurrency), ..config })
    }

    async fn ready(dispatcher: &Arc<dyn Dispatcher>) {
        answers(dispatcher, true).await;
    }

    fn says(lines: &[&str]) -> String {
        json!({ "say": lines }).to_string()
    }

    const YES: &str = r#"{"id":"$ID","ok":true}"#;

    #[async_trait]
    impl Fixture for Stream {
        type Play = String;

        async fn start() -> Stream {
            let stage = Stage::new();
            let dispatcher = scripted(&stage, 16, &[]);
            ready(&dispatcher).await;
            Stream { stage, dispatcher }
        }

        fn dispatcher(&self) -> Arc<dyn Dispatcher> {
            Arc::clone(&self.dispatcher)
        }

        fn play(&self, phone: Option<&str>, play: &String) {
            self.stage.play(phone, play);
        }

        fn cases() -> Vec<Case<String>> {
            let classes = CLASSES.map(|class| {
                let name = word(class);
                let line = format!(r#"{{"id":"$ID","class":"{name}","detail":"secret-marker"}}"#);
                (format!("class {name}"), says(&[&line]), Some(class))
            });
            let long = "x".repeat(200_000);
            let deep = "[".repeat(50_000);
            let yes = |before: &str| says(&[before, YES]);
            let others = [
                ("yes", says(&[YES]), None),
                ("a reference", says(&[r#"{"id":"$ID","ok":true,"reference":"secret-marker"}"#]), None),
                ("no", says(&[r#"{"id":"$ID","ok":false}"#]), Some(Class::Failed)),
                ("neither", says(&[r#"{"id":"$ID"}"#]), Some(Class::Failed)),
                ("a class that there is not", says(&[r#"{"id":"$ID","class":"?"}"#]), Some(Class::Failed)),
                ("yes and no", says(&[r#"{"id":"$ID","ok":true,"class":"RTMP"}"#]), Some(Class::Failed)),
                ("no JSON before", yes("hello, world"), None),
                ("other JSON before", yes("[1, 2, {}]"), None),
                ("deep JSON before", yes(&deep), None),
                ("no id before", yes(r#"{"ok":true}"#), None),
                ("another id before", yes(r#"{"id":"4711","ok":true}"#), None),
                ("a long line before", yes(&long), None),
                ("bytes before", yes("\u{0}\u{ff}\u{fe}\u{80}"), None),
                ("empty lines before", yes("\n\r\n\n"), None),
                ("twice", says(&[YES, YES]), None),
                ("twice, otherwise", says(&[YES, r#"{"id":"$ID","class":"ERR"}"#]), None),
                ("once more ready", yes(r#"{"smsd":1}"#), None),
                ("CR LF", says(&["{\"id\":\"$ID\",\"ok\":true}\r"]), None),
                ("slow", json!({"say": [YES], "after": 0.1}).to_string(), None),
                ("late", json!({"say": [YES], "after": 0.4}).to_string(), Some(Class::Unknown)),
                ("only another's", says(&[r#"{"id":"4711","ok":true}"#]), Some(Class::Unknown)),
                ("wrong types", says(&[r#"{"id":"$ID","ok":"yes"}"#]), Some(Class::Failed)),
                (
                    "odd for show",
                    says(&[r#"{"id":"$ID","class":"DTMP","detail":{"error":"no network"}}"#]),
                    Some(Class::Unavailable),
                ),
                ("silence", says(&[]), Some(Class::Unknown)),
            ];
            let others = others.map(|(name, play, want)| (name.to_owned(), play, want));
            let all = classes.into_iter().chain(others);
            all.map(|(name, play, want)| Case { name, play, want }).collect()
        }

        fn silence() -> String {
            says(&[])
        }

        fn echo() -> String {
            json!({ "echo": true }).to_string()
        }

        fn seen(&self) -> Vec<(String, String)> {
            self.stage.seen()
        }

        async fn stop(self) -> Arc<dyn Dispatcher> {
            self.stage.write("broken", r#"{"exit": 69, "words": "secret-marker"}"#);
            kill(self.stage.pid(), Signal::SIGKILL).unwrap();
            answers(&self.dispatcher, false).await;
            Arc::new(Staged { dispatcher: self.dispatcher, _stage: self.stage })
        }
    }

    fn to(n: usize) -> Sms {
        Sms { timeout: LONG, ..sms(&format!("+479900{n:04}"), &format!("alert {n}")) }
    }

    #[tokio::test]
    async fn when_it_dies_what_it_was_told_of_is_in_doubt_and_the_rest_was_not_taken() {
        let stage = Stage::new();
        stage.play(None, &says(&[]));
        let dispatcher = scripted(&stage, 3, &[]);
        ready(&dispatcher).await;
        let mut submits = tokio::task::JoinSet::new();
        for n in 0..8 {
            let dispatcher = Arc::clone(&dispatcher);
            submits.spawn(async move {
                let sms = to(n);
                (sms.recipient.to_string(), submit_long(&*dispatcher, &sms).await.unwrap_err())
            });
        }
        until("three are told", async || (stage.seen().len() == 3).then_some(())).await;
        // No more than it may have at once.
        tokio::time::sleep(Duration::from_millis(100)).await;
        kill(stage.pid(), Signal::SIGKILL).unwrap();
        let all = submits.join_all().await;
        let seen: Vec<String> = stage.seen().into_iter().map(|(to, _)| to).collect();
        assert_eq!(seen.len(), 3);
        for (to, error) in all {
            let want = if seen.contains(&to) { Class::Unknown } else { Class::Unavailable };
            assert_eq!(error.class, want, "{to}: {error:?}");
            assert!(error.detail.contains("killed by signal 9"), "{error:?}");
        }
        // It is down: told at once. Then it is started again.
        let error = submit_long(&*dispatcher, &to(9)).await.unwrap_err();
        assert_eq!(error.class, Class::Unavailable);
        stage.play(None, &says(&[YES]));
        until("it is back", async || submit_long(&*dispatcher, &to(10)).await.ok()).await;
        assert_eq!(stage.lines("starts").len(), 2);
    }

    async fn submit_long(dispatcher: &dyn Dispatcher, sms: &Sms) -> Result<dispatch::Receipt, SubmitError> {
        tokio::time::timeout(LONG * 2, dispatcher.submit(sms)).await.expect("submit hangs")
    }

    #[tokio::test]
    async fn an_answer_just_before_the_end_counts() {
        let stage = Stage::new();
        stage.play(None, &json!({"say": [YES], "exit": 1}).to_string());
        let dispatcher = scripted(&stage, 3, &[]);
        submit_long(&*dispatcher, &to(1)).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_ends_while_it_starts_has_taken_nothing_and_is_not_started_over_and_over() {
        for (code, want) in [(78, Class::Misconfigured), (1, Class::Unavailable), (75, Class::Unavailable)] {
            let stage = Stage::new();
            stage.write("broken", &json!({"exit": code, "words": "Traceback\nno modem"}).to_string());
            let begun = Instant::now();
            let dispatcher = scripted(&stage, 3, &[]);
            for n in 0..20 {
                let error = submit_long(&*dispatcher, &to(n)).await.unwrap_err();
                if !error.detail.contains("just ended") {
                    assert_eq!(error.class, want, "{error:?}");
                    assert!(error.detail.contains(&format!("exit {code}")), "{error:?}");
                    assert!(error.detail.ends_with("no modem"), "{error:?}");
                }
            }
            let starts = stage.lines("starts").len() as u64;
            assert!(starts <= 1 + begun.elapsed().as_secs(), "{starts} starts in {:?}", begun.elapsed());
            assert!(stage.seen().is_empty());
        }
    }

    #[tokio::test]
    async fn one_that_does_not_speak_the_protocol_is_told_nothing() {
        for (say, want, words) in [
            (json!(["{\"smsd\":2}"]), Class::Misconfigured, "version 2"),
            (json!(["hello", "{\"id\":1,\"ok\":true}"]), Class::Unavailable, "it was not ready"),
        ] {
            let stage = Stage::new();
            stage.write("broken", &json!({ "say": say }).to_string());
            let dispatcher = scripted(&stage, 3, &[]);
            let sms = Sms { timeout: Duration::from_secs(2), ..to(1) };
            let error = submit_long(&*dispatcher, &sms).await.unwrap_err();
            assert_eq!(error.class, want, "{error:?}");
            assert!(error.detail.contains(words), "{error:?}");
            assert!(stage.seen().is_empty());
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_ended_and_started_again() {
        for (concurrency, asked) in [(16, 3), (1, 1)] {
            let stage = Stage::new();
            stage.play(None, &says(&[]));
            let dispatcher = scripted(&stage, concurrency, &[]);
            ready(&dispatcher).await;
            let first = stage.pid();
            for n in 0..asked {
                let error = submit(&*dispatcher, &sms(&format!("+47990000{n:02}"), "x")).await.unwrap_err();
                assert_eq!(error.class, Class::Unknown, "{error:?}");
            }
            until("it is ended", async || (!alive(first)).then_some(())).await;
            stage.play(None, &says(&[YES]));
            until("another serves", async || submit_long(&*dispatcher, &to(50)).await.ok()).await;
            assert_ne!(stage.pid(), first);
        }
    }

    #[tokio::test]
    async fn one_that_answers_between_is_left_alive() {
        let stage = Stage::new();
        stage.play(Some("+4799000000"), &says(&[]));
        let dispatcher = scripted(&stage, 16, &[]);
        ready(&dispatcher).await;
        for n in 0..5 {
            let error = submit(&*dispatcher, &sms("+4799000000", "x")).await.unwrap_err();
            assert_eq!(error.class, Class::Unknown, "{error:?}");
            submit_long(&*dispatcher, &to(n + 1)).await.unwrap();
        }
        assert_eq!(stage.lines("starts").len(), 1);
    }

    #[tokio::test]
    async fn one_that_babbles_for_ever_is_ended() {
        let stage = Stage::new();
        stage.write("broken", r#"{"flood": true, "say": []}"#);
        let dispatcher = scripted(&stage, 3, &[]);
        let error = submit_long(&*dispatcher, &to(1)).await.unwrap_err();
        assert_eq!(error.class, Class::Unavailable);
        assert!(error.detail.contains("makes no sense") || error.detail.contains("just ended"), "{error:?}");
        let pid = stage.pid();
        until("it is ended", async || (!alive(pid)).then_some(())).await;
    }

    #[tokio::test]
    async fn it_ends_with_the_dispatcher() {
        let stage = Stage::new();
        // That nobody speaks to it any more is nothing to it.
        stage.write("broken", r#"{"stays": true}"#);
        let dispatcher = scripted(&stage, 3, &[]);
        // Without having been asked for anything.
        until("it is started", async || (stage.lines("starts").len() == 1).then_some(())).await;
        let pid = stage.pid();
        assert!(alive(pid));
        drop(dispatcher);
        until("it is ended", async || (!alive(pid)).then_some(())).await;
    }

    #[tokio::test]
    async fn codes_may_be_given_classes() {
        let stage = Stage::new();
        let dispatcher = scripted(&stage, 3, &[("e451", "RTMP")]);
        stage.play(None, &says(&[r#"{"id":"$ID","class":"ERR","code":"E451","detail":"later"}"#]));
        let error = submit_long(&*dispatcher, &to(1)).await.unwrap_err();
        assert_eq!(error, SubmitError::new(Class::Deferred, "python3: later").code("E451"));
    }
}

/// The examples of docs/exec.md, as they stand there.
mod documented {
    use smsd::demo::gateway::{Answer, Behaviour, Gateway};

    use super::*;

    fn example(language: &str) -> String {
        let page = include_str!("../../docs/exec.md");
        let (_, rest) = page.split_once(&format!("```{language}\n")).expect("the page has an example");
        rest.split_once("```").unwrap().0.to_owned()
    }

    async fn run(language: &str, mode: Mode) {
        let gateway = Gateway::start(Behaviour::ok().body("4711")).await.unwrap();
        let stage = Stage::new();
        stage.write("example", &example(language));
        let interpreter = if language == "python" { "python3" } else { language };
        let args = vec![stage.0.path().join("example").to_str().unwrap().to_owned()];
        let env = [("GATEWAY".to_owned(), Secret::new(format!("http://{}/send", gateway.addr)))];
        let program = Program { env: env.into(), args, ..Program::new(interpreter) };
        let dispatcher = built(&config(program, mode, &[]));
        answers(&dispatcher, true).await;
        let send = async |to: &str, text: &str| {
            let sms = Sms { timeout: LONG, ..sms(to, text) };
            submit(&*dispatcher, &sms).await
        };
        let text = "æ & b = c; $(id) 'x' \"y\" \\ \u{1b} + %20\nnext";
        let receipt = send("+4799999999", text).await.unwrap();
        assert_eq!(receipt.references, if mode == Mode::Stream { vec!["4711"] } else { vec![] });
        let accepted = gateway.accepted();
        assert_eq!((&*accepted[0].phone, &*accepted[0].text), ("+4799999999", text));
        for (behaviour, want) in [
            (Behaviour::status(401), Class::Misconfigured),
            (Behaviour::status(422), Class::Rejected),
            (Behaviour::status(500), Class::Failed),
            (Behaviour::status(503), Class::Unavailable),
            (Behaviour::answering(Answer::Close), Class::Unknown),
        ] {
            gateway.set(behaviour);
            let error = send("+4799999998", "hei").await.unwrap_err();
            assert_eq!(error.class, want, "{error:?}");
        }
        let addr = gateway.addr;
        drop(gateway);
        until("nobody listens", async || std::net::TcpStream::connect(addr).err()).await;
        let error = send("+4799999998", "hei").await.unwrap_err();
        assert_eq!(error.class, Class::Unavailable, "{error:?}");
    }

    #[tokio::test]
    async fn the_shells_example_works() {
        run("sh", Mode::Oneshot).await;
    }

    #[tokio::test]
    async fn pythons_example_works() {
        run("python", Mode::Stream).await;
    }

    /// The page has the table of the program.
    #[test]
    fn the_tables_are_the_programs() {
        let page = include_str!("../../docs/exec.md");
        let mut known = 0;
        for row in smsd::dispatch::status::table() {
            if row.protocol != smsd::dispatch::status::Protocol::Sysexits
                || row.name == "EX_OK"
                || row.name.is_empty()
            {
                continue;
            }
            let line = page.lines().find(|line| line.contains(&format!("{} {}", row.code, row.name)));
            let line = line.unwrap_or_else(|| panic!("{row:?} is not on the page"));
            let class = line.rsplit('`').nth(1).unwrap();
            let said = Status::from_word(class).unwrap();
            assert_eq!(exit_code(row.code.parse().unwrap()), said, "{line}");
            known += 1;
        }
        assert_eq!(known, 15);
    }
}
