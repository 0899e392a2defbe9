//! The Gammu dispatcher: the contract over a stand-in that can be told anything, and the real program.

mod dummy;
mod modem;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use smsd::alert::Phone;
use smsd::config::{DispatcherConfig, DispatcherKind, Main};
use smsd::dispatch::gammu::{MAX_SEGMENTS, Settings};
use smsd::dispatch::status::{Codes, Meaning, Protocol, Status, table};
use smsd::dispatch::{self, Class, Dispatcher, Health, Limits, Receipt, Sms, SubmitError};
use tempfile::TempDir;

use crate::contract::{CORPUS, Case, Fixture, contract, sms, submit};
use crate::debug::named;

/// The deadline of a submit through a program, on a machine that may have much else to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// Stands in for gammu: what it does with an SMS stands in a file of its number, else in `all`.
struct StandIn {
    dir: TempDir,
    dispatcher: Arc<dyn Dispatcher>,
}

// One that hangs does delay the others: the phone is one.
contract!(super::StandIn: what_a_person_wrote_arrives_to_the_letter, every_behaviour_has_its_class,
    silence_ends_at_the_deadline, nobody_there_is_unavailable, nothing_comes_back_that_should_not_show);

/// As gammu speaks: `begin`, then `sends I N` and `ok REF` or `error CODE` for each part.
const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
begin() { echo 'If you want break, press Ctrl+C…' >&2; }
sends() { printf 'Sending SMS %s/%s' "$1" "$2"; }
waits() { printf '…waiting for network answer'; }
ok() { waits; printf '..OK, message reference=%s\n' "$1"; }
error() { printf '..error %s, message reference=-1\n' "$1"; }
case $1 in
batch | monitor) . "./$1"; exit 0 ;;
--version) echo asked >>versions; cat version; exit 0 ;;
sendsms) ;;
*) exit 255 ;;
esac
for text; do :; done
printf '%s\000%s\000' "$3" "$text" >>seen
echo '5000 / 0'
if [ -e "to$3" ]; then . "./to$3"; else . ./all; fi
exit 0
"#;

const TAKES: &str = "begin; sends 1 1; ok 7";

fn settings(command: PathBuf) -> Settings {
    Settings { command: command.into(), ..Settings::default() }
}

fn config(settings: Settings, classes: &[(&str, &str)]) -> DispatcherConfig {
    let classes = classes.iter().map(|(code, word)| (code.to_string(), Status::from_word(word).unwrap()));
    named("phone", DispatcherKind::Gammu(settings), classes.collect())
}

fn build(settings: Settings, classes: &[(&str, &str)]) -> Arc<dyn Dispatcher> {
    dispatch::build(&config(settings, classes), &Main::default()).unwrap()
}

fn patient(to: &str, text: &str) -> Sms {
    Sms { timeout: Duration::from_secs(60), ..sms(to, text) }
}

impl StandIn {
    fn with(classes: &[(&str, &str)]) -> StandIn {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("gammu");
        // Renamed: a file that anybody has open for writing can not be run.
        fs::write(dir.path().join("new"), SCRIPT).unwrap();
        fs::set_permissions(dir.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(
            std::process::Command::new("cp")
                .args(["-p", "new", "gammu"])
                .current_dir(&dir)
                .status()
                .unwrap()
                .success()
        );
        let phone = "echo 'Manufacturer         : Huawei'; echo 'Model                : E1750 (E1750)'\n\
             echo 'Network state        : home network'\n\
             echo 'Network              : 242 01 (Telenor, Norway), LAC 0A, CID 0B'\n";
        let signal = "echo 'Network level        : 80 percent'";
        let version = "[Gammu version 1.42.0]\n";
        for (name, play) in [("all", TAKES), ("batch", phone), ("monitor", signal), ("version", version)] {
            fs::write(dir.path().join(name), play).unwrap();
        }
        StandIn { dispatcher: build(settings(script), classes), dir }
    }

    fn set(&self, name: &str, play: &str) {
        fs::write(self.dir.path().join(name), play).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    async fn class(&self) -> Option<Class> {
        submit(&*self.dispatcher, &patient("+4799999999", "hei")).await.err().map(|error| error.class)
    }
}

#[async_trait]
impl Fixture for StandIn {
    type Play = String;
    const TIMEOUT: Duration = PATIENCE;

    async fn start() -> StandIn {
        StandIn::with(&[])
    }

    fn dispatcher(&self) -> Arc<dyn Dispatcher> {
        self.dispatcher.clone()
    }

    fn play(&self, phone: Option<&str>, play: &String) {
        self.set(&phone.map_or("all".to_string(), |phone| format!("to{phone}")), play);
    }

    fn cases() -> Vec<Case<String>> {
        let by_code = (1..=155).flat_map(|code| {
            let row =
                table().iter().find(|row| row.protocol == Protocol::Gammu && row.code == code.to_string());
            let class = match row.map(|row| row.meaning) {
                Some(Meaning::Answer(Status::Refused(class))) => class,
                _ => Class::Unknown,
            };
            let usage = code == 155;
            let before = match class {
                _ if usage => Class::Misconfigured,
                Class::Unknown | Class::Rejected => Class::Unavailable,
                class => class,
            };
            let exit = 100 + code;
            [
                (format!("{code} before"), format!("echo Words.; exit {exit}"), Some(before)),
                (
                    format!("{code} after"),
                    format!("begin; sends 1 1; waits; echo Words.; exit {exit}"),
                    Some(class),
                ),
            ]
        });
        let cms = (1..=700).filter_map(|code| {
            let row = table().iter().filter(|row| row.protocol == Protocol::GsmCms);
            let row = row
                .filter(|row| matches!(&row.codes, Codes::These(r) if r.iter().any(|r| r.contains(&code))));
            let class = match (row.map(|row| row.meaning).next(), code) {
                (Some(Meaning::Answer(Status::Refused(class))), _) => class,
                (Some(_), _) => Class::Unknown,
                // One of each kind that the table does not know.
                (None, 5) => Class::Failed,
                (None, 600) => Class::Unknown,
                (None, _) => return None,
            };
            let play = format!("begin; sends 1 1; waits; error {code}; echo 'Unknown error.'; exit 127");
            Some((format!("CMS {code}"), play, Some(class)))
        });
        let flood = "head -c 100000 /dev/zero | tr '\\0' x";
        let others = [
            ("no words, and well", "exit 0", Some(Class::Unknown)),
            ("begun, and well", "begin; exit 0", Some(Class::Unknown)),
            ("interrupted, and well", "begin; sends 1 1; waits; exit 0", Some(Class::Unknown)),
            ("no gammu: a timeout", "echo >/dev/null; exit 127", Some(Class::Unavailable)),
            ("usage", "echo 'Bad option!'; exit 2", Some(Class::Misconfigured)),
            ("usage after it had begun", "begin; exit 2", Some(Class::Unknown)),
            ("its library is another", "echo words; exit 98", Some(Class::Misconfigured)),
            ("no memory", "echo words; exit 1", Some(Class::Unavailable)),
            ("hangs before", "exec sleep 987654", Some(Class::Unavailable)),
            ("hangs before, out of reach", "setsid sleep 5 & exec sleep 987654", Some(Class::Unknown)),
            ("hangs after, its words held back", "begin; exec sleep 987654", Some(Class::Unknown)),
            ("hangs after its words", "begin; sends 1 1; waits; exec sleep 987654", Some(Class::Unknown)),
            ("hangs when all is done", "begin; sends 1 1; ok 7; exec sleep 987654", None),
            ("crashes before", "kill -SEGV $$", Some(Class::Unavailable)),
            ("crashes after, its words held back", "begin; kill -SEGV $$", Some(Class::Unknown)),
            ("crashes after its words", "begin; sends 1 1; waits; kill -SEGV $$", Some(Class::Unknown)),
            ("crashes when all is done", "begin; sends 1 1; ok 7; kill -SEGV $$", None),
            ("fails to close the phone", "begin; sends 1 1; ok 7; waits; echo Words.; exit 114", None),
            ("endless words", "exec yes", Some(Class::Unknown)),
            ("endless complaints", "exec yes >&2", Some(Class::Unknown)),
            ("endless after it is done", "begin; sends 1 1; ok 7; exec yes", None),
            ("too many words to know", &format!("{flood}; exit 104"), Some(Class::Unknown)),
            ("many words, and then done", &format!("{flood}; begin; sends 1 1; ok 7"), Some(Class::Unknown)),
            ("leaves somebody behind", "setsid sleep 2 & echo words; exit 104", Some(Class::Unknown)),
            ("noise", "head -c 60000 /dev/urandom", Some(Class::Unknown)),
            ("noise, done", "printf '\\377\\376\\0'; begin; sends 1 1; ok 7", None),
            ("no reference", "begin; sends 1 1; ok -1", None),
            ("an odd reference", "begin; sends 1 1; ok ''", None),
            ("two parts", "begin; sends 1 2; ok 7; sends 2 2; ok 8", None),
            (
                "two parts of a dummy",
                "begin; for i in 1 2; do sends $i 2; echo '..OK, message reference=255'; waits; done",
                None,
            ),
            ("one part of two, and well", "begin; sends 1 2; ok 7; exit 0", Some(Class::Unknown)),
            (
                "one part of two, and nothing more",
                "begin; sends 1 2; ok 7; sends 2 2; waits; exit 0",
                Some(Class::Unknown),
            ),
            (
                "the second part is refused",
                "begin; sends 1 2; ok 7; sends 2 2; waits; error 38; exit 127",
                Some(Class::Failed),
            ),
            (
                "the second part is refused for good",
                "begin; sends 1 2; ok 7; sends 2 2; waits; error 1; exit 127",
                Some(Class::Failed),
            ),
            (
                "the second part meets no network",
                "begin; sends 1 2; ok 7; sends 2 2; exit 173",
                Some(Class::Failed),
            ),
            (
                "the second part meets silence",
                "begin; sends 1 2; ok 7; sends 2 2; exit 114",
                Some(Class::Unknown),
            ),
            (
                "the second part crashes",
                "begin; sends 1 2; ok 7; sends 2 2; kill -SEGV $$",
                Some(Class::Unknown),
            ),
            (
                "the second part hangs",
                "begin; sends 1 2; ok 7; sends 2 2; exec sleep 987654",
                Some(Class::Unknown),
            ),
            ("the second part first", "begin; sends 2 2; ok 7", Some(Class::Unknown)),
            ("the first part twice", "begin; sends 1 2; ok 7; sends 1 2; ok 7", Some(Class::Unknown)),
            ("parts of another SMS", "begin; sends 1 2; ok 7; sends 2 3; ok 7", Some(Class::Unknown)),
            ("no parts", "begin; sends 1 0; ok 7", Some(Class::Unknown)),
            ("part nought", "begin; sends 0 0; ok 7", Some(Class::Unknown)),
            ("very many parts", "begin; sends 1 99999999999999999999; ok 7", Some(Class::Unknown)),
            ("OK of nothing", "begin; ok 7", Some(Class::Unknown)),
            (
                "refused as it stands in line",
                "begin; sends 1 1; error 331; exit 173",
                Some(Class::Unavailable),
            ),
            (
                "no SIM, by the phone's own code",
                "begin; sends 1 1; error 10; exit 149",
                Some(Class::Misconfigured),
            ),
            (
                "a code of the phone's that is none of the network's",
                "begin; sends 1 1; error 30; exit 127",
                Some(Class::Unknown),
            ),
            ("a code of its maker's", "begin; sends 1 1; error 515; exit 166", Some(Class::Unavailable)),
            ("ERROR before the text", "begin; sends 1 1; error -1; exit 127", Some(Class::Unknown)),
            ("ERROR after the text", "begin; sends 1 1; waits; error -1; exit 127", Some(Class::Unknown)),
            (
                "an error beyond numbers",
                "begin; sends 1 1; waits; error 99999999999999999999; exit 127",
                Some(Class::Unknown),
            ),
            (
                "refused, then hangs",
                "begin; sends 1 1; waits; error 38; exec sleep 987654",
                Some(Class::Unavailable),
            ),
            (
                "no configuration",
                "echo 'Warning: No configuration read, using builtin defaults!'; echo words; exit 104",
                Some(Class::Misconfigured),
            ),
            (
                "no configuration, and yet it sends",
                "echo 'Warning: No configuration read, using builtin defaults!'; begin; sends 1 1; ok 7",
                None,
            ),
        ];
        let others = others.map(|(name, play, want)| (name.to_string(), play.to_string(), want));
        let all = by_code.chain(cms).chain(others);
        all.map(|(name, play, want)| Case { name, play, want }).collect()
    }

    fn silence() -> String {
        "begin; sends 1 1; waits; exec sleep 987654".into()
    }

    fn echo() -> String {
        "begin; sends 1 1; waits; echo \"$*\"; echo \"$*\" >&2; exit 127".into()
    }

    fn carried(text: &str) -> String {
        text.replace('\0', "")
    }

    fn seen(&self) -> Vec<(String, String)> {
        let seen = self.read("seen");
        let mut words = seen.split_terminator('\0').map(str::to_string);
        let mut seen = Vec::new();
        while let (Some(phone), Some(mut text)) = (words.next(), words.next()) {
            // As gammu does.
            if text.ends_with('\n') {
                text.pop();
            }
            seen.push((phone, text));
        }
        seen
    }

    async fn stop(self) -> Arc<dyn Dispatcher> {
        for name in ["all", "batch"] {
            self.set(name, "echo \"Error opening device, it doesn't exist.\"; exit 104");
        }
        Arc::new(Unplugged(self))
    }
}

/// The phone is gone, and gammu is still there.
struct Unplugged(StandIn);

#[async_trait]
impl Dispatcher for Unplugged {
    fn limits(&self) -> Limits {
        self.0.dispatcher.limits()
    }

    async fn submit(&self, sms: &Sms) -> Result<Receipt, SubmitError> {
        self.0.dispatcher.submit(sms).await
    }

    async fn probe(&self) -> Result<Health, SubmitError> {
        self.0.dispatcher.probe().await
    }
}

#[tokio::test]
async fn the_receipt_has_a_reference_for_each_part() {
    let phone = StandIn::with(&[]);
    for (play, want) in [
        (TAKES, vec!["7"]),
        ("begin; sends 1 2; ok 255; sends 2 2; ok 0", vec!["255", "0"]),
        ("begin; sends 1 2; ok -1; sends 2 2; ok 9", vec!["9"]),
    ] {
        phone.set("all", play);
        let receipt = submit(&*phone.dispatcher, &patient("112", "hei")).await.unwrap();
        assert_eq!(receipt.references, want, "{play}");
    }
}

#[tokio::test]
async fn errors_say_what_happened_and_when() {
    let phone = StandIn::with(&[]);
    let device = "Error opening device, it doesn't exist.";
    for (play, code, want) in [
        (
            &*format!("echo \"{device}\"; exit 104"),
            "ERR_DEVICENOTEXIST",
            &*format!("gammu ended with ERR_DEVICENOTEXIST before it sent anything: {device}"),
        ),
        (
            "begin; sends 1 1; waits; error 38; echo 'Unknown error.'; exit 127",
            "CMS 38",
            "the network or the phone answered CMS 38 (network out of order): Unknown error.",
        ),
        (
            "begin; sends 1 2; ok 1; sends 2 2; echo; echo 'No response.'; exit 114",
            "ERR_TIMEOUT",
            "gammu ended with ERR_TIMEOUT, after some of the parts were sent: No response.",
        ),
        ("kill -SEGV $$", "signal 11", "gammu was ended by signal 11 before it sent anything: 5000 / 0"),
        ("exit 0", "exit 0", "gammu ended well, but did not say that the SMS was sent: 5000 / 0"),
        (
            "echo 'Warning: No configuration read, using builtin defaults!'; echo Words.; exit 104",
            "ERR_DEVICENOTEXIST",
            "gammu ended with ERR_DEVICENOTEXIST before it sent anything; it found no configuration: write \
             /etc/gammurc or ~/.gammurc, or set config and section: Words.",
        ),
    ] {
        phone.set("all", play);
        let error = submit(&*phone.dispatcher, &patient("112", "hei")).await.unwrap_err();
        assert_eq!((error.code.as_deref(), &*error.detail), (Some(code), want));
    }
}

#[tokio::test]
async fn no_line_of_a_text_comes_back() {
    let phone = StandIn::with(&[]);
    phone.set("all", &<StandIn as Fixture>::echo());
    let text = "core-gw1 is down\nand so is\ngw2";
    let error = submit(&*phone.dispatcher, &patient("112", text)).await.unwrap_err();
    for line in text.lines() {
        assert!(!error.detail.contains(line), "{error:?}");
    }
}

#[tokio::test]
async fn overrides_are_heeded() {
    let phone = StandIn::with(&[("err_timeout", "DTMP"), ("4", "DPERM"), ("cms 500", "OK"), ("28", "OK")]);
    for (play, want) in [
        ("begin; sends 1 1; exit 114", Some(Class::Unavailable)),
        ("echo words; exit 104", Some(Class::Misconfigured)),
        ("begin; sends 1 1; waits; error 500; exit 127", None),
        // One that was never sent, or not wholly, is not taken by anybody's word.
        ("begin; sends 1 2; waits; error 500; exit 127", Some(Class::Unknown)),
        ("begin; sends 1 1; exit 128", None),
        ("begin; exit 128", Some(Class::Unknown)),
        ("echo words; exit 128", Some(Class::Unavailable)),
    ] {
        phone.set("all", play);
        assert_eq!(phone.class().await, want, "{play}");
    }
}

#[tokio::test]
async fn sms_go_one_after_the_other() {
    let phone = StandIn::with(&[]);
    phone.set("all", "mkdir open || echo overlap >>seen; sleep 0.05; rmdir open; begin; sends 1 1; ok 7");
    phone.set("batch", "mkdir open || echo overlap >>seen; sleep 0.05; rmdir open; echo 'Model : x'");
    let mut all = tokio::task::JoinSet::new();
    for n in 0..12 {
        let dispatcher = phone.dispatcher.clone();
        all.spawn(async move {
            if n % 4 == 0 {
                dispatcher.probe().await.unwrap();
            } else {
                dispatcher.submit(&patient(&format!("+479900{n:04}"), "hei")).await.unwrap();
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    assert!(!phone.read("seen").contains("overlap"), "{}", phone.read("seen"));
    assert_eq!(phone.seen().len(), 9);
}

#[tokio::test]
async fn an_sms_that_never_got_the_phone_was_certainly_not_sent() {
    let phone = StandIn::with(&[]);
    phone.set("to+4790000001", "touch open; until [ -e go ]; do sleep 0.01; done; begin; sends 1 1; ok 7");
    let dispatcher = phone.dispatcher.clone();
    let first = tokio::spawn(async move { dispatcher.submit(&patient("+4790000001", "first")).await });
    while !phone.dir.path().join("open").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = submit(&*phone.dispatcher, &sms("+4790000002", "second")).await.unwrap_err();
    assert_eq!(error.class, Class::Unavailable, "{error}");
    phone.set("go", "");
    assert_eq!(first.await.unwrap().unwrap().references, ["7"]);
    assert_eq!(phone.seen(), [("+4790000001".to_string(), "first".to_string())]);
}

#[tokio::test]
async fn the_probe_tells_phone_signal_and_network() {
    let phone = StandIn::with(&[]);
    let probe =
        || async { phone.dispatcher.probe().await.map(|health| health.0).map_err(|e| (e.class, e.detail)) };
    assert_eq!(probe().await.unwrap(), "Huawei E1750, signal 80 %, registered with Telenor");
    phone.set("monitor", "exit 121");
    assert_eq!(probe().await.unwrap(), "Huawei E1750, registered with Telenor");
    for (play, want, words) in [
        (
            "echo 'Model : x'; echo 'Network state : requesting network'",
            Class::Unavailable,
            "requesting network",
        ),
        ("echo 'Model : x'; echo 'Can not access SIM card.'; exit 149", Class::Misconfigured, "SIM card"),
        ("echo \"No response.\"; exit 114", Class::Unavailable, "No response."),
        ("echo words; exit 122", Class::Unavailable, "words"),
        ("echo 'Bad option!'; exit 2", Class::Misconfigured, "Bad option!"),
        (
            "echo 'Warning: No configuration read, using builtin defaults!'; echo words; exit 104",
            Class::Misconfigured,
            "it found no configuration",
        ),
        ("kill -SEGV $$", Class::Unavailable, "signal 11"),
        ("exit 0", Class::Unavailable, "which phone"),
    ] {
        phone.set("batch", play);
        let (class, detail) = probe().await.unwrap_err();
        assert!(class == want && detail.contains(words), "{play}: {class} {detail}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_with_what_to_do() {
    for (command, words) in [
        ("/no/such/gammu", "/no/such/gammu is not there: install gammu, or set command"),
        ("no-such-gammu", "no-such-gammu is not there: install gammu, or set command"),
        ("/dev/null", "/dev/null may not be run"),
    ] {
        let dispatcher = build(settings(command.into()), &[]);
        for error in [
            submit(&*dispatcher, &sms("112", "hei")).await.unwrap_err(),
            dispatcher.probe().await.unwrap_err(),
        ] {
            assert_eq!(error.class, Class::Misconfigured, "{error}");
            assert!(error.detail.starts_with(words), "{error}");
        }
    }
}

/// gammu says why it fails. Whatever this is, it may have sent.
#[tokio::test]
async fn a_program_that_says_nothing_is_not_believed() {
    for command in ["false", "true"] {
        let dispatcher = build(settings(command.into()), &[]);
        let error = submit(&*dispatcher, &patient("112", "hei")).await.unwrap_err();
        assert_eq!(error.class, Class::Unknown, "{command}: {error}");
    }
}

#[tokio::test]
async fn a_text_beyond_what_gammu_holds_is_neither_cut_nor_given_to_it() {
    let phone = StandIn::with(&[]);
    assert_eq!(phone.dispatcher.limits().max_segments, Some(2), "as configured");
    let most = DispatcherConfig { max_segments: Some(255), ..config(Settings::default(), &[]) };
    let most = dispatch::build(&most, &Main::default()).unwrap();
    assert_eq!(most.limits().max_segments, Some(MAX_SEGMENTS));
    let longest = "x".repeat(153 * usize::from(MAX_SEGMENTS));
    assert!(submit(&*phone.dispatcher, &patient("112", &longest)).await.is_ok());
    let error = submit(&*phone.dispatcher, &patient("112", &format!("{longest}x"))).await.unwrap_err();
    assert_eq!(error.class, Class::Rejected);
    assert_eq!(phone.seen(), [("112".to_string(), longest)]);
}

/// A number is a word of the command line.
#[test]
fn no_number_is_an_option() {
    let odd = ["-5", "-text", "--help", "-c/etc/passwd", "TEXT", "+", "@file", "1", "12a", "+-12"];
    for text in odd.iter().chain(&CORPUS) {
        if let Ok(phone) = Phone::parse(text) {
            let digits = phone.as_str().strip_prefix('+').unwrap_or(phone.as_str());
            assert!(digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit()), "{phone:?}");
        }
    }
}

#[test]
fn what_can_not_be_used_is_refused_by_section_and_key() {
    for code in ["err_none_such", "104", "cms", "5xx"] {
        let Err(error) = dispatch::build(&config(Settings::default(), &[(code, "ERR")]), &Main::default())
        else {
            panic!("built, with class.{code}");
        };
        let want = format!("[phone] class.{code}: {code:?} is no code of gammu's or of the network's");
        assert_eq!(error.to_string(), want);
    }
}

/// That a killed run has not begun is known only of a version that is known to say when it begins.
#[tokio::test]
async fn a_killed_run_of_an_unknown_version_is_in_doubt() {
    let quick = Sms { timeout: PATIENCE, ..sms("+4799999999", "hei") };
    for (version, killed) in [
        ("Warning: No configuration file found!\n[Gammu version 1.42.0]\n", Class::Unavailable),
        ("[Gammu version 1.43.0]\n", Class::Unknown),
        ("[Gammu version 1.41.0 built 10:00:00]\n", Class::Unknown),
        ("", Class::Unknown),
    ] {
        let phone = StandIn::with(&[]);
        phone.set("version", version);
        for (play, want) in [
            ("kill -SEGV $$", killed),
            ("exec sleep 987654", killed),
            ("begin; kill -SEGV $$", Class::Unknown),
            // One that ends by itself says all that it has to say.
            ("echo \"Error opening device, it doesn't exist.\"; exit 104", Class::Unavailable),
        ] {
            phone.set("all", play);
            let told = submit(&*phone.dispatcher, &quick).await.err().map(|error| error.class);
            match want {
                Class::Unknown => assert_eq!(told, Some(Class::Unknown), "{version:?} {play}"),
                _ => assert_ne!(told, Some(Class::Unknown), "{version:?} {play}"),
            }
        }
        let asked = phone.read("versions").lines().count();
        assert_eq!(asked, if version.is_empty() { 4 } else { 1 }, "{version:?}");
    }
}
