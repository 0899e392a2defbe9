//! The real program, as people and other programs meet it: exit codes, what goes to stdout and what to stderr, the
//! way of an alert through the embedded queue, the way into the background.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test helpers fail by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a configuration of its own; what root starts there runs as `nobody`.
struct Site {
    dir: TempDir,
}

impl Site {
    fn new(rest: &str) -> Site {
        Site::with("", rest)
    }

    /// `main`: more keys for [main]; `rest`: sections.
    fn with(main: &str, rest: &str) -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap() };
        let conf = format!(
            "[main]\nusername: nobody\nstate_dir: {}\n{main}\n[queue]\npoll_interval: 20ms\n{rest}",
            site.dir.path().display()
        );
        site.write("smsd.conf", &conf);
        site.write("nav.conf", &format!("PID_DIR = {}\n", site.dir.path().display()));
        if geteuid().is_root() {
            let nobody = User::from_name("nobody").unwrap().unwrap();
            chown(site.dir.path(), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
        }
        site
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = bare(self.dir.path());
        command.arg("-C").arg(self.path("smsd.conf")).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    fn json(&self, args: &[&str]) -> Value {
        let said = self.run(&[args, &["--json"]].concat());
        one_json(&said.out)
    }

    /// The daemon in the background; it must have been started with success.
    fn daemon(&self) -> Daemon {
        self.daemon_by(self.command(&[]))
    }

    fn daemon_by(&self, mut command: Command) -> Daemon {
        let said = Said::of(command.output().unwrap());
        assert_eq!((said.code, &*said.out), (0, ""), "{}", said.err);
        let pidfile = self.path("smsd.pid");
        // The parent may be gone before the child has written its own pid and minds signals.
        let pid = until("a process that minds SIGTERM", || {
            let pid: i32 = fs::read_to_string(&pidfile).ok()?.trim().parse().ok()?;
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (caught >> (Signal::SIGTERM as u32 - 1) & 1 == 1).then_some(pid)
        });
        Daemon { pid: Pid::from_raw(pid), pidfile }
    }
}

/// Whatever daemon a test leaves behind, because it failed or because it should never have been started.
impl Drop for Site {
    fn drop(&mut self) {
        let pid = fs::read_to_string(self.path("smsd.pid")).unwrap_or_default();
        let Ok(pid) = pid.trim().parse::<i32>() else { return };
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&cmdline).contains(&*self.dir.path().to_string_lossy()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A daemon in the background, which ends with its site.
struct Daemon {
    pid: Pid,
    pidfile: PathBuf,
}

impl Daemon {
    fn stop(&self) {
        kill(self.pid, Signal::SIGTERM).unwrap();
        until("the pid file is gone", || (!self.pidfile.exists()).then_some(()));
    }
}

/// A process in the foreground, which ends with the test.
struct Foreground(Child);

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Said {
        Said {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program with nothing of this machine's configuration.
fn bare(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smsd"));
    command.env_clear().env("HOME", home).env("TZ", "UTC").stdin(Stdio::null());
    command
}

fn one_json(out: &str) -> Value {
    assert_eq!(out.matches('\n').count(), 1, "one line: {out:?}");
    assert!(out.ends_with('\n'));
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e} in {out:?}"))
}

fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const TWO_WAYS: &str = "[dispatcher]\ndispatcher1: down\ndispatcher2: works\n\
    [down]\ntype: DebugDispatcher\nresult: fail\n[works]\ntype: DebugDispatcher\n\
    [groups]\nnoc: +4790000001, +4790000002\n";

#[test]
fn usage_errors_exit_2_and_print_nothing_on_stdout() {
    let site = Site::new(TWO_WAYS);
    for args in [
        &["-t", "112", "-T", "112"][..],
        &["--message", "x"],
        &["-c", "-t", "112"],
        &["-d", "soon"],
        &["-a", "explode"],
        &["-f", "check"],
        &["-d", "5", "queue", "list"],
        &["nonsense"],
        &["queue"],
        &["queue", "list", "--state", "lost"],
        &["queue", "show", "x"],
        &["queue", "accept"],
        &["queue", "release", "1", "--by", " "],
        &["send", "text without recipient"],
        &["send", "--to", "112"],
        &["send", "--to", "112", "--severity", "6", "x"],
        &["send", "--to", "112,+47 abc", "x"],
        &["send", "--to", "group:nobody", "x"],
        &["send", "--to", "112", " "],
        &["send", "--to", "112", "--timeout", "3", "x"],
        &["db", "drop"],
        &["dispatcher", "probe", "unheard-of"],
        &["dispatcher", "test", "works"],
        &["man", "unheard-of"],
        &["completions", "cmd.exe"],
    ] {
        let said = site.run(args);
        assert_eq!((said.code, &*said.out), (2, ""), "{args:?}: {}", said.err);
        assert!(!said.err.is_empty(), "{args:?}");
    }
    assert_eq!(site.json(&["queue", "list"]), Value::Array(vec![]), "nothing was queued by any of them");
}

#[test]
fn nav_queue_wants_an_account_for_its_test_message() {
    let site = Site::new(TWO_WAYS);
    site.write("db.conf", "dbhost = /nonexistent\ndb_nav = nav\nscript_default = nav\nuserpw_nav = x\n");
    let said = site.run(&["-T", "+4799999999"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("-u ACCOUNT"), "{}", said.err);
}

/// Without any configuration: who has none yet asks this first.
#[test]
fn presets_are_listed_with_what_each_needs() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| Said::of(bare(home.path()).args(args).output().unwrap());
    let said = run(&["dispatcher", "presets", "--json"]);
    assert_eq!((said.code, &*said.err), (0, ""));
    let all: Value = serde_json::from_str(&said.out).unwrap();
    let of = |name: &str| all.as_array().unwrap().iter().find(|preset| preset["name"] == name).unwrap();
    assert_eq!(
        *of("kannel"),
        serde_json::json!({
            "name": "kannel", "needs": ["base_url", "password", "username"], "optional": ["sender"],
            "documentation": of("kannel")["documentation"],
        })
    );
    assert_eq!(of("sinch")["needs"], serde_json::json!(["sender", "token", "var.service_plan"]));
    let table = run(&["dispatcher", "presets"]);
    assert!(table.out.contains("gatewayapi") && table.out.contains("token"), "{}", table.out);
}

#[test]
fn help_names_the_commands_and_where_the_configuration_is_looked_for() {
    let home = tempfile::tempdir().unwrap();
    for flag in ["-h", "--help"] {
        let said = Said::of(bare(home.path()).arg(flag).output().unwrap());
        assert_eq!((said.code, &*said.err), (0, ""));
        for word in
            ["check", "dispatcher", "demo", "$SMSD_CONFIG", "$NAV_CONFIG_DIR", "/etc/nav", "/etc/smsd"]
        {
            assert!(said.out.contains(word), "{flag}: {word} is missing in {}", said.out);
        }
    }
    let said = Said::of(bare(home.path()).arg("-V").output().unwrap());
    assert_eq!((said.code, &*said.out), (0, &*format!("smsd {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_faulty_configuration_is_named_whole_and_nothing_starts() {
    let site = Site::with("delay: soon\nretrylimit: -1\nexit_on_permanent_eror: yes", TWO_WAYS);
    let check = site.run(&["check"]);
    assert_eq!(check.code, 1, "{}", check.err);
    for part in ["smsd.conf:4", "delay", "smsd.conf:5", "retrylimit", "exit_on_permanent_error"] {
        assert!(check.err.contains(part), "{part} is missing in {}", check.err);
    }
    let report = site.run(&["check", "--json"]);
    let value = one_json(&report.out);
    assert_eq!((report.code, &value["sound"]), (1, &Value::Bool(false)));
    assert!(value["faults"].as_array().unwrap().len() >= 3, "{value}");

    for args in [&[][..], &["-f"], &["queue", "list"], &["-c"], &["-t", "112"], &["status", "--json"]] {
        let said = site.run(args);
        assert_eq!((said.code, &*said.out), (4, ""), "{args:?}: {}", said.err);
        assert!(
            said.err.contains("smsd.conf:4") && said.err.contains("smsd.conf:5"),
            "{args:?}: {}",
            said.err
        );
    }
    assert!(!site.path("smsd.pid").exists());
}

#[test]
fn a_sound_configuration_is_said_to_be_and_probed() {
    let site = Site::new("[dispatcher]\ndispatcher1: works\n[works]\ntype: DebugDispatcher\n");
    let said = site.run(&["check", "--probe"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("works") && said.out.contains("answers"), "{}", said.out);
    assert!(said.err.contains("sound"), "{}", said.err);

    let report =
        Site::new("[dispatcher]\ndispatcher1: gone\n[gone]\ntype: DebugDispatcher\nresult: permanent\n")
            .run(&["check", "--probe", "--json"]);
    let value = one_json(&report.out);
    assert_eq!((report.code, &value["sound"]), (1, &Value::Bool(false)), "{value}");
    assert_eq!(value["queue"]["up"], Value::Bool(true), "{value}");
    assert_eq!(value["dispatchers"][0]["state"], "misconfigured", "{value}");
}

#[test]
fn an_alert_is_queued_listed_cancelled_and_requeued() {
    let site = Site::new(TWO_WAYS);
    let said = site.run(&[
        "send",
        "--to",
        "group:noc, 112",
        "--to",
        "+47 90 00 00 01",
        "--severity",
        "2",
        "disk full",
    ]);
    assert_eq!((said.code, &*said.out), (0, "1\n2\n3\n"), "{}", said.err);
    assert_eq!(site.json(&["send", "--to", "112", "again"])["ids"], serde_json::json!([4]));

    let waiting = site.json(&["queue", "list", "--state", "waiting"]);
    let brief: Vec<(i64, &str)> = waiting
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_i64().unwrap(), row["to"].as_str().unwrap()))
        .collect();
    assert_eq!(brief, [(4, "112"), (3, "112"), (2, "+4790000002"), (1, "+4790000001")]);
    assert_eq!(waiting[3]["severity"], 2);
    assert_eq!(site.json(&["queue", "list", "--to", "1-1-2", "--before", "4"])[0]["id"], 3);
    assert_eq!(site.json(&["queue", "list", "--limit", "1"]).as_array().unwrap().len(), 1);

    let said = site.run(&["queue", "cancel", "1", "77"]);
    assert_eq!((said.code, &*said.out), (1, "1 alert cancelled\n"), "one of them is unknown");
    assert!(said.err.contains("77"), "{}", said.err);
    let story = site.run(&["why", "1"]);
    assert_eq!(story.code, 0);
    assert!(story.out.contains("IGNORED") && story.out.contains("smsd queue requeue 1"), "{}", story.out);

    let said = site.run(&["-c"]);
    assert_eq!((said.code, &*said.out), (0, "3 alerts cancelled\n"));
    assert_eq!(site.run(&["-c"]).out, "0 alerts cancelled\n");
    assert_eq!(site.json(&["queue", "requeue", "2"])["requeued"], serde_json::json!([2]));
    let show = site.json(&["queue", "show", "2"]);
    assert_eq!((&show["alert"]["state"], show["notes"].as_array().unwrap().len()), (&"waiting".into(), 2));

    let audit = site.run(&["queue", "audit"]);
    assert_eq!(audit.code, 0, "{}", audit.err);
    let stats = site.json(&["queue", "stats"]);
    assert_eq!((&stats["waiting"], &stats["ignored"]), (&1.into(), &3.into()), "{stats}");
    assert_eq!(site.run(&["why", "99"]).code, 1);
}

/// A daemon that is killed while two SMS are on their way leaves two doubts; a person decides of both.
#[test]
fn what_is_held_is_accepted_or_released_by_name() {
    let main = "on_unknown: hold\n";
    let way = "[dispatcher]\ndispatcher1: gw\n[gw]\ntype: DebugDispatcher\n";
    let site = Site::with(main, &format!("{way}latency: 20s\n"));
    site.run(&["send", "--to", "+4790000001", "it came"]);
    site.run(&["send", "--to", "+4790000002", "it did not"]);
    let daemon = site.daemon();
    until("both are on their way", || (site.json(&["queue", "stats"])["open"] == 2).then_some(()));
    kill(daemon.pid, Signal::SIGKILL).unwrap();
    let conf = fs::read_to_string(site.path("smsd.conf")).unwrap();
    site.write("smsd.conf", &conf.replace("latency: 20s\n", ""));
    let daemon = site.daemon();
    until("both are held", || (site.json(&["queue", "stats"])["held"] == 2).then_some(()));

    let listed = site.run(&["queue", "list", "--state", "held"]);
    for verb in ["accept", "release", "cancel"] {
        let command = format!("smsd queue {verb} ID");
        assert!(listed.err.contains(&command), "{command} is missing in {}", listed.err);
        let why = site.run(&["why", "1"]).out;
        assert!(why.contains("HELD") && why.contains(&format!("smsd queue {verb} 1")), "{why}");
    }
    assert_eq!(site.json(&["queue", "list", "--state", "held"]).as_array().unwrap().len(), 2);

    let said = site.run(&["queue", "accept", "1", "77", "--by", " kari "]);
    assert_eq!((said.code, &*said.out), (1, "1 alert accepted\n"), "one of them is unknown");
    assert!(said.err.contains("nothing to decide: 77"), "{}", said.err);
    let told = site.run(&["why", "1"]).out;
    for part in ["SENT", "kari said at", "accepted by kari"] {
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    let done = site.json(&["queue", "release", "2", "--by", "ola"]);
    assert_eq!(done, serde_json::json!({ "decided": [2], "untouched": [] }));
    let again = site.run(&["queue", "release", "2"]);
    assert_eq!((again.code, &*again.out), (1, "0 alerts made to wait again, as possible duplicates\n"));
    let show = until("the running daemon sends it again", || {
        let show = site.json(&["queue", "show", "2"]);
        (show["alert"]["state"] == "sent").then_some(show)
    });
    assert_eq!(show["attempts"].as_array().unwrap().len(), 2, "{show}");
    assert_eq!(show["attempts"][1]["possible_duplicate"], true, "{show}");
    assert_eq!((&show["notes"][0]["what"], &show["notes"][0]["by"]), (&"released".into(), &"ola".into()));
    assert!(site.run(&["why", "2"]).out.contains("ola released it"));
    assert_eq!(site.run(&["queue", "audit"]).code, 0);
    daemon.stop();

    site.run(&["send", "--to", "112", "x"]);
    site.run(&["queue", "cancel", "3", "--by", "kari"]);
    site.run(&["queue", "requeue", "3", "--by", "ola"]);
    let show = site.json(&["queue", "show", "3"]);
    assert_eq!((&show["notes"][0]["by"], &show["notes"][1]["by"]), (&"kari".into(), &"ola".into()));
}

/// After a restore somebody deletes last week's alerts, and then decides for all that the storm guard holds.
#[test]
fn all_that_the_guard_holds_is_decided_although_alerts_were_deleted() {
    let held = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
        INSERT INTO alert (phone, text, severity) SELECT '+47900' || (10000 + i), 'no. ' || i, 3 FROM n;
        INSERT INTO instance (seq, id, name, lock, joined_at, boot, lease_until) VALUES (1, 'i', 'i', 'i', 0, '', 0);
        INSERT INTO attempt (seq, id, recipient, text, dispatcher, number, state, instance, begun_at, deadline_at,
                class, possible_duplicate)
            SELECT id, printf('01890a5d-ac96-774b-bcce-%012d', id), phone, '', 'storm guard', 1, 'held', 1, 0, 0,
                'from_the_past', 0 FROM alert;
        INSERT INTO attempt_alert (attempt, position, alert, counted) SELECT id, 0, id, 0 FROM alert;
        DELETE FROM alert WHERE id <= 120;";
    for (verb, expected) in [("cancel", "ignored"), ("accept", "sent"), ("release", "waiting")] {
        let site = Site::new(TWO_WAYS);
        site.run(&["db", "init"]);
        let file = rusqlite::Connection::open(site.path("queue.db")).unwrap();
        file.execute_batch(held).unwrap();
        drop(file);
        assert_eq!(site.json(&["queue", "stats"])["held_by_guard"], 250);
        let said = site.json(&["queue", verb, "--held-by-guard"]);
        assert_eq!(said["decided"], 130, "{verb}");
        let stats = site.json(&["queue", "stats"]);
        assert_eq!((&stats["held"], &stats[expected]), (&0.into(), &130.into()), "{verb}: {stats}");
        assert_eq!(site.run(&["queue", "audit"]).code, 0);
    }
}

#[test]
fn text_from_stdin_and_text_that_would_move_the_cursor() {
    let site = Site::new(TWO_WAYS);
    site.write("text", "red \x1b[31m alert\u{202e}\nline two\n\n");
    let input = fs::File::open(site.path("text")).unwrap();
    let said = Said::of(site.command(&["send", "--to", "112", "-"]).stdin(input).output().unwrap());
    assert_eq!((said.code, &*said.out), (0, "1\n"), "{}", said.err);
    for args in [&["queue", "list"][..], &["why", "1"]] {
        let said = site.run(args);
        assert!(said.out.contains(r"red \u{1b}[31m alert\u{202e}\nline two"), "{args:?}: {}", said.out);
        assert!(!said.out.contains(['\x1b', '\u{202e}']), "{args:?}");
    }
    assert_eq!(site.json(&["why", "1"])["alert"]["text"], "red \x1b[31m alert\u{202e}\nline two");
}

#[test]
fn each_json_is_exactly_one_value() {
    let site = Site::new(TWO_WAYS);
    site.run(&["send", "--to", "112", "x"]);
    for args in [
        &["check"][..],
        &["check", "--probe"],
        &["status"],
        &["queue", "list"],
        &["queue", "show", "1"],
        &["queue", "stats"],
        &["queue", "audit"],
        &["queue", "cancel", "1"],
        &["queue", "requeue", "1"],
        &["queue", "accept", "1"],
        &["queue", "release", "1"],
        &["why", "1"],
        &["dispatcher", "list"],
        &["dispatcher", "probe"],
        &["dispatcher", "test", "works", "--to", "112"],
        &["dispatcher", "test", "down", "--to", "112"],
        &["db", "status"],
    ] {
        let value = site.json(args);
        assert!(value.is_object() || value.is_array(), "{args:?}: {value}");
    }
}

#[test]
fn a_test_message_takes_the_first_way_that_works() {
    let site = Site::with("deny: +4788", TWO_WAYS);
    let said = site.run(&["-t", "+4799999999"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("works took it") && said.out.contains("reference"), "{}", said.out);
    assert!(said.err.contains("down: unavailable"), "{}", said.err);

    let said = site.run(&["dispatcher", "test", "down", "--to", "112"]);
    assert_eq!((said.code, &*said.out), (1, ""), "{}", said.err);
    assert_eq!(site.run(&["-t", "+4788123456"]).code, 2, "denied");

    let none = Site::new(
        "[dispatcher]\ndispatcher1: a\ndispatcher2: b\n[a]\ntype: DebugDispatcher\nresult: fail\n\
        [b]\ntype: DebugDispatcher\nresult: permanent\n",
    );
    let said = none.run(&["-t", "112", "--message", "x"]);
    assert_eq!((said.code, &*said.out), (1, ""));
    assert!(said.err.contains("a: unavailable") && said.err.contains("b: misconfigured"), "{}", said.err);

    let said = site.run(&["-T", "112", "--message", "to the queue"]);
    assert_eq!((said.code, &*said.out), (0, "1\n"));
    assert_eq!(site.json(&["queue", "list"])[0]["text"], "to the queue");
}

#[test]
fn a_closed_pipe_is_no_error() {
    let site = Site::new(TWO_WAYS);
    site.run(&["send", "--to", "112", "x"]);
    for args in [
        &["queue", "list"][..],
        &["queue", "list", "--json"],
        &["why", "1"],
        &["--help"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = site.command(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!((said.code, &*said.err), (0, ""), "{args:?}");
    }
}

#[test]
fn completions_and_manual_come_from_the_command_line() {
    let site = Site::new("");
    for shell in ["bash", "zsh", "fish"] {
        assert!(site.run(&["completions", shell]).out.contains("dispatcher"), "{shell}");
    }
    assert!(site.run(&["man"]).out.contains(".TH smsd 1"));
    assert!(site.run(&["man", "queue", "list"]).out.contains("\\-\\-before"));
    assert!(site.run(&["man", "status"]).out.contains("\\-\\-watch"));
    assert!(site.run(&["completions", "bash"]).out.contains("--watch"));
    let pages = site.path("man");
    assert_eq!(site.run(&["man", "--dir", pages.to_str().unwrap()]).code, 0);
    assert!(pages.join("smsd.1").is_file() && pages.join("smsd-queue-list.1").is_file());
    assert!(!pages.join("smsd-queue-help.1").exists(), "clap's own help has no page");
    let page = site.run(&["man"]).out;
    for section in ["EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES", "SEE ALSO"] {
        let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
        assert!(heading.iter().any(|heading| page.contains(heading)), "{section}");
    }
    let conf = site.run(&["man", "smsd.conf"]).out;
    assert!(conf.contains(".TH smsd.conf 5") && conf.contains("retrylimitaction: ignore"), "{conf}");
    assert_eq!(std::fs::read_to_string(pages.join("smsd.conf.5")).unwrap(), conf);
    assert_eq!(site.run(&["man", "nothing"]).code, 2);
    assert_eq!(site.run(&["check", "--example"]).out, include_str!("../dist/smsd.conf"));
}

#[test]
fn the_ledger_is_made_shown_and_removed() {
    let site = Site::new(TWO_WAYS);
    assert!(site.run(&["db", "sql"]).out.to_uppercase().contains("CREATE TABLE"));
    assert_eq!(site.run(&["db", "init"]).code, 0);
    let status = site.json(&["db", "status"]);
    assert_eq!(status["version"], status["wanted"], "{status}");
    assert!(status["location"].as_str().unwrap().ends_with("queue.db"), "{status}");
    let said = site.run(&["db", "drop", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn compose_needs_no_configuration() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("in"),
        "{\"messages\":[{\"id\":1,\"text\":\"a\"},{\"id\":2,\"text\":\"b\"}]}\n",
    )
    .unwrap();
    let input = fs::File::open(home.path().join("in")).unwrap();
    let mut command = bare(home.path());
    let said = Said::of(command.args(["compose", "--prefix", "NAV: "]).stdin(input).output().unwrap());
    let value = one_json(&said.out);
    assert_eq!((said.code, &value["sms"]), (0, &"NAV: 1: a; 2: b".into()), "{}", said.err);
}

#[test]
fn another_smsd_that_holds_the_pid_file_exits_3() {
    let site = Site::new(TWO_WAYS);
    let pidfile = fs::File::create(site.path("smsd.pid")).unwrap();
    pidfile.lock().unwrap();
    site.write("smsd.pid", "4711\n");
    for args in [&[][..], &["-f"]] {
        let said = site.run(args);
        assert_eq!((said.code, &*said.out), (3, ""), "{args:?}: {}", said.err);
        assert!(said.err.contains("4711") && said.err.contains("smsd.pid"), "{}", said.err);
    }
    assert_eq!(fs::read_to_string(site.path("smsd.pid")).unwrap(), "4711\n", "it is left as it was");
    let status = site.json(&["status"]);
    assert_eq!((&status["running"], &status["pid"]), (&true.into(), &4711.into()));
}

#[test]
fn root_becomes_the_user_or_does_not_start() {
    let site = Site::new(TWO_WAYS);
    for (name, word) in [("no-such-user-here", "no user"), ("root", "is root")] {
        site.write(
            "other.conf",
            &fs::read_to_string(site.path("smsd.conf")).unwrap().replace("nobody", name),
        );
        let mut command = bare(site.dir.path());
        command.arg("-f").arg("-C").arg(site.path("other.conf"));
        if geteuid().is_root() {
            let said = Said::of(command.output().unwrap());
            assert_eq!(said.code, 1, "{}", said.err);
            assert!(said.err.contains(word) && said.err.contains("`username`"), "{}", said.err);
        } else {
            // Nobody else can become a user, so none is looked for.
            let child = Foreground(command.stderr(Stdio::null()).spawn().unwrap());
            until("it runs", || site.path("smsd.pid").exists().then_some(()));
            drop(child);
        }
    }
}

#[test]
fn in_the_foreground_it_stops_well_and_takes_its_pid_file_with_it() {
    let site = Site::new(TWO_WAYS);
    let child = site.command(&["-f"]).stderr(Stdio::null()).spawn().unwrap();
    let mut child = Foreground(child);
    let pid = child.0.id();
    until("it runs", || site.json(&["status"])["running"].as_bool()?.then_some(()));
    assert_eq!(fs::read_to_string(site.path("smsd.pid")).unwrap().trim(), pid.to_string());
    let said = site.run(&["send", "--wait", "--timeout", "15", "--to", "112", "hello"]);
    assert_eq!(said.code, 0, "{}", said.err);
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(!site.path("smsd.pid").exists());
}

#[test]
fn in_the_background_it_is_nobodys_child_and_not_root() {
    let site = Site::new(TWO_WAYS);
    site.run(&["send", "--to", "group:noc", "before the start"]);
    let daemon = if geteuid().is_root() {
        // root often has groups that matter; none of them may stay.
        let mut setpriv = Command::new("setpriv");
        let smsd = site.command(&[]);
        setpriv.args(["--groups", "0,4", "--"]).arg(smsd.get_program()).args(smsd.get_args());
        setpriv.env("HOME", site.dir.path());
        site.daemon_by(setpriv)
    } else {
        site.daemon()
    };
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid)).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_ne!(fields[1], std::process::id().to_string(), "no child of ours");
    assert_eq!(fields[3], daemon.pid.to_string(), "a session of its own");
    assert_eq!(fields[4], "0", "no terminal");
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", daemon.pid)).ok(), Some("/".into()));

    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid)).unwrap();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    let uids: Vec<String> = field("Uid:").split_whitespace().map(str::to_owned).collect();
    assert!(uids.iter().all(|uid| uid != "0"), "{uids:?}");
    if geteuid().is_root() {
        assert_eq!(field("NoNewPrivs:"), "1");
        let nobody = User::from_name("nobody").unwrap().unwrap();
        assert_eq!(field("Groups:"), nobody.gid.to_string());
        assert_eq!(field("CapEff:"), "0000000000000000");
    }

    until("both are sent", || (site.json(&["queue", "stats"])["sent"] == 2).then_some(()));
    let story = site.run(&["why", "1"]).out;
    for part in [
        "SENT",
        "works took it",
        "attempt 1 by down: not taken (unavailable)",
        "attempt 2 by works: accepted",
    ] {
        assert!(story.contains(part), "{part:?} is missing in\n{story}");
    }
    assert_eq!(site.run(&["queue", "audit"]).code, 0);
    daemon.stop();
}

#[test]
fn after_a_kill_the_same_file_is_locked_again() {
    let site = Site::new(TWO_WAYS);
    let first = site.daemon();
    let inode = fs::metadata(site.path("smsd.pid")).unwrap().ino();
    kill(first.pid, Signal::SIGKILL).unwrap();
    until("it is dead", || (site.json(&["status"])["running"] == false).then_some(()));
    let second = site.daemon();
    assert_eq!(fs::metadata(site.path("smsd.pid")).unwrap().ino(), inode);
    assert_ne!(first.pid, second.pid);
    second.stop();
}

#[test]
fn what_keeps_it_from_running_is_said_before_it_leaves_the_terminal() {
    let site = Site::with("log_file: /nonexistent/smsd.log", TWO_WAYS);
    let said = site.run(&[]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("/nonexistent/smsd.log") && said.err.contains("`log_file`"), "{}", said.err);
    assert!(!site.path("smsd.pid").exists());
}

#[test]
fn a_reload_keeps_what_works_and_opens_the_log_anew() {
    let slow = TWO_WAYS.replace("[works]\n", "[works]\nlatency: 1500ms\n");
    let site = Site::new(&slow);
    let log = site.path("smsd.log");
    let read = || fs::read_to_string(&log).unwrap_or_default();
    let attempts = |alert: &str| site.json(&["why", alert])["attempts"].as_array().unwrap().clone();
    let taken_by = |alert: &str, way: &str| {
        let taken = |a: &Value| a["dispatcher"] == way && a["state"] == "accepted";
        attempts(alert).iter().any(taken).then_some(())
    };
    let daemon = site.daemon();
    until("it has started", || read().contains("started").then_some(()));
    let good = fs::read_to_string(site.path("smsd.conf")).unwrap();

    site.write("smsd.conf", &good.replace("[main]", "[main]\ndelay: soon"));
    kill(daemon.pid, Signal::SIGHUP).unwrap();
    until("the fault is said", || read().contains("smsd.conf:2").then_some(()));
    site.write("smsd.conf", &good);
    site.run(&["send", "--to", "112", "after the refused reload"]);
    until("what worked goes on", || taken_by("1", "works"));

    site.run(&["send", "--to", "113", "on its way"]);
    let open = |a: &Value| a["dispatcher"] == "works" && a["state"] == "open";
    until("it is on its way", || attempts("2").iter().any(open).then_some(()));
    fs::rename(&log, site.path("smsd.log.1")).unwrap();
    site.write(
        "smsd.conf",
        &good.replace("dispatcher2: works", "dispatcher2: other").replace("[works]", "[other]"),
    );
    kill(daemon.pid, Signal::SIGHUP).unwrap();
    until("there is a new log", || log.exists().then_some(()));
    assert!(attempts("2").iter().any(open), "the reload came too late to disturb it");
    site.run(&["send", "--to", "114", "after the reload"]);
    until("the new dispatcher takes it", || taken_by("3", "other"));
    until("what was on its way comes to its end", || taken_by("2", "works"));
    assert!(attempts("2").iter().all(|a| a["possible_duplicate"] == false), "{:?}", attempts("2"));
    daemon.stop();
}

#[test]
fn tokens_are_made_listed_and_rotated() {
    let none = Site::new("");
    let made = none.json(&[
        "token",
        "new",
        "--webhook",
        "alertmanager",
        "--severity",
        "3",
        "--to",
        "112",
        "--rate",
        "30/m",
        "--until",
        "2020-01-01",
        "am",
    ]);
    let line = made["line"].as_str().unwrap();
    let rights = "send:alertmanager severity=3 to=112 rate=30/m";
    assert!(line.starts_with(&format!("token.am: {rights} until=2020-01-01 sha256:")), "{line}");
    let bad = none.run(&["token", "new", "--severity", "9", "x"]);
    assert!(bad.code == 2 && bad.err.contains("--severity 9: expected N with N from 1 to 5"), "{}", bad.err);

    let site = Site::new(&format!("[dispatcher]\ndispatcher1: DebugDispatcher\n[http]\n{line}\n"));
    let listed = site.json(&["token", "list"]);
    assert_eq!(listed[0]["rights"], rights);
    assert_eq!((&listed[0]["ended"], &listed[0]["until"]), (&true.into(), &"2020-01-01".into()));
    let table = site.run(&["token", "list"]).out;
    assert!(table.contains("2020-01-01 (ended)") && !table.contains("sha256"), "{table}");

    let rotated = site.json(&["token", "rotate", "am"]);
    let both = rotated["line"].as_str().unwrap();
    assert!(both.starts_with(line) && both.matches("sha256:").count() == 2, "{both}");
    assert_ne!(rotated["token"], made["token"]);
    let unknown = site.run(&["token", "rotate", "icinga"]);
    assert!(unknown.code == 2 && unknown.err.contains("no token.icinga; it has am"), "{}", unknown.err);
}
