//! The dashboard of the real daemon in a real browser: Debian's Chromium, driven by `tests/browser/walk.js`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test helpers fail by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// What may stand in anything that comes from outside.
const BAD: &str = "<script>window.hit=1</script><img src=x onerror=\"window.hit=1\">'\"]]>&#x3c;!ENTITY ../ %0d%0a \
                   \u{1b}[2J\u{202e}\u{200b}\u{1a}\r\n{{7*7}}";
/// Old alerts and attempts in the queue.
const OLD: u64 = 20_000;

/// Who may do what where one has to log in.
const TOKENS: [(&str, &str); 3] = [("boss", "read operate"), ("guest", "read"), ("hook", "send")];

/// A daemon on a folder of its own; ends with the value.
struct Daemon {
    child: Child,
    base: String,
    dir: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.dir.path().join("log")).unwrap_or_default());
        }
    }
}

fn smsd(dir: &Path) -> Command {
    let program = std::env::var_os("SMSD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_smsd").into());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", dir)
        .env("TZ", "UTC")
        .arg("-C")
        .arg(dir.join("smsd.conf"))
        .stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sql(dir: &Path, sql: &str) -> String {
    let mut child = Command::new("sqlite3")
        .arg(dir.join("queue.db"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sqlite3: run scripts/install-test-deps");
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A daemon that anybody on this machine may ask.
fn start(old: u64) -> Daemon {
    start_with(old, "")
}

fn start_with(old: u64, http: &str) -> Daemon {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = dir.path();
    // The gateway takes all but two numbers: one is refused, one fails so that its alert waits.
    let conf = format!(
        "[main]\nusername: nobody\nstate_dir: {0}\non_unknown: hold\ndelay: 1\nretrylimit: 1\n[http]\nlisten: 127.0.0.1:{port}\n{http}\
         [dispatcher]\ndispatcher1: gateway\n[gateway]\ntype: ExecDispatcher\ncommand: {0}/gateway\n",
        at.display()
    );
    fs::write(at.join("smsd.conf"), conf).unwrap();
    fs::write(at.join("nav.conf"), format!("PID_DIR = {}\n", at.display())).unwrap();
    let gateway = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/gateway.py");
    fs::copy(gateway, at.join("gateway")).unwrap();
    fs::set_permissions(at.join("gateway"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    give(at);
    run(smsd(at).args(["db", "init"]));
    if old > 0 {
        sql(at, &fill(old));
    }
    give(at);
    let log = fs::File::create(at.join("log")).unwrap();
    let child = smsd(at).arg("-f").stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let daemon = Daemon { child, base: format!("http://127.0.0.1:{port}"), dir };
    until("it answers", || TcpStream::connect(("127.0.0.1", port)).ok());
    daemon
}

/// What root starts runs as nobody, who must own what is there.
fn give(folder: &Path) {
    if nix::unistd::geteuid().is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        for path in files.chain([folder.to_owned()]) {
            std::os::unix::fs::chown(path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
        }
    }
}

/// Old alerts, sent long ago, each by an attempt of a daemon that is gone.
fn fill(old: u64) -> String {
    format!(
        "BEGIN;
         INSERT INTO instance (seq, id, name, lock, joined_at, boot, lease_until)
         VALUES (1, '00000000-0000-0000-0000-000000000001', 'gone', 'gone', 1700000000000000, 'gone', 0);
         CREATE TEMP TABLE n AS
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {old}) SELECT i FROM n;
         INSERT INTO alert (phone, text, severity, queued_at, state, ended_at)
         SELECT '+4790' || i, 'old alert ' || i, 1 + i % 5, 1700000000000000 + i, 'sent', 1700000001000000 + i FROM n;
         INSERT INTO attempt (id, recipient, text, dispatcher, number, state, instance, begun_at, deadline_at,
                              ended_at, refs, possible_duplicate)
         SELECT printf('00000000-0000-7000-8000-%012x', i), '+4790' || i, 'old alert ' || i, 'gateway', 1, 'accepted', 1,
                1700000000000000 + i, 1700000030000000 + i, 1700000001000000 + i, '[]', 0 FROM n;
         INSERT INTO attempt_alert (attempt, position, alert, counted, unresolved) SELECT i, 0, i, 0, 0 FROM n;
         COMMIT;"
    )
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Queues an alert and returns its id when it stands like that.
fn alert(daemon: &Daemon, to: &str, text: &str, state: &str) -> i64 {
    let id = queue(daemon, to, text);
    until(&format!("alert {id} is {state}"), || (story(daemon, id)["alert"]["state"] == state).then_some(()));
    id
}

/// Queues an alert that is refused, serves another number meanwhile, so that the refusals count, and returns its id when
/// it is given up.
fn refused(daemon: &Daemon, to: &str, text: &str) -> i64 {
    let id = queue(daemon, to, text);
    until("it was refused", || story(daemon, id)["attempts"].get(0)?.get("ended_at")?.as_str().map(drop));
    alert(daemon, "+4790000001", "served since", "sent");
    until("it is given up", || (story(daemon, id)["alert"]["state"] == "ignored").then_some(()));
    id
}

fn story(daemon: &Daemon, id: i64) -> serde_json::Value {
    let story = run(smsd(daemon.dir.path()).args(["queue", "show", &id.to_string(), "--json"]));
    serde_json::from_str(&story).unwrap()
}

fn queue(daemon: &Daemon, to: &str, text: &str) -> i64 {
    let said = run(smsd(daemon.dir.path()).args(["send", "--to", to, "--json", text]));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let id = said.pointer("/ids/0").or(said.pointer("/0/id")).or(said.get("id")).and_then(|v| v.as_i64());
    id.unwrap_or_else(|| panic!("no id in {said}"))
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node/node_modules")
}

fn walk(daemon: &Daemon, only: &str, paint: u32, story: i64, held: i64) {
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
    fs::create_dir_all(&shots).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/walk.js");
    let mut command = Command::new("node");
    command
        .arg(script)
        .arg(&daemon.base)
        .arg(peers())
        .arg(shots)
        .arg(story.to_string())
        .arg(held.to_string());
    command.env("ONLY", only).env("PAINT", paint.to_string());
    let mut child = command
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("node: run scripts/install-test-deps");
    let mut faults = String::new();
    child.stdout.take().unwrap().read_to_string(&mut faults).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() && faults.is_empty(), "{status}\n{faults}");
}

#[test]
fn the_dashboard_holds_in_a_browser() {
    let walks = std::thread::spawn(who_has_a_token_logs_in);
    let daemon = start(OLD);
    let story = alert(&daemon, "+4790000001", BAD, "sent");
    refused(&daemon, "+4790000002", BAD);
    let held = alert(&daemon, "+4790000003", BAD, "held");
    alert(&daemon, "+4790000003", "also held", "held");
    walk(&daemon, "firstPaint,everyPage,keyboard,live,withoutScript,forged", 1_000, story, held);
    walks.join().unwrap();
}

/// With tokens configured, `walk.js` knows those of [`TOKENS`].
fn who_has_a_token_logs_in() {
    let mut http = String::new();
    for (name, scopes) in TOKENS {
        let hash = hex::encode(Sha256::digest(token(name)));
        http.push_str(&format!("token.{name}: {scopes} sha256:{hash}\n"));
    }
    let daemon = start_with(0, &http);
    let story = alert(&daemon, "+4790000666", "waits", "waiting");
    walk(&daemon, "login", 1_000, story, story);
}

fn token(name: &str) -> String {
    format!("a token for {name} that nobody guesses")
}

/// By hand, on a quiet machine and an optimised build: `make paint`.
#[test]
#[ignore = "measures; see make paint"]
fn the_first_paint_does_not_mind_a_million_old_rows() {
    let daemon = start(1_000_000);
    let story = alert(&daemon, "+4790000001", "one", "sent");
    walk(&daemon, "firstPaint", 100, story, story);
}
