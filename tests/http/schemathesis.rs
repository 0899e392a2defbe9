//! The real daemon, asked all that its own description allows and much that it does not, by schemathesis.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{User, geteuid};
use serde_json::Value;
use tempfile::TempDir;

/// Every secret of the gateway that nobody is at contains this.
const MARK: &str = "hunter2";

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As whom the daemon runs owns this.
fn give(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if geteuid().is_root() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        chown(path, Some(nobody.uid.as_raw()), None).unwrap();
    }
}

/// A token that `smsd token new` made is the one that is used, and what is handed in goes out.
#[test]
fn it_finds_nothing_that_the_description_does_not_say() {
    let smsd = env!("CARGO_BIN_EXE_smsd");
    let dir = TempDir::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let new = ["token", "new", "--json", "--scope", "send,read,operate", "st"];
    let made = Command::new(smsd).args(new).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let folder = dir.path().display();
    let sms = dir.path().join("sms.jsonl");
    let config = format!(
        "[main]\nusername: nobody\nstate_dir: {folder}\n\
         [http]\nlisten: 127.0.0.1:{port}\n{}\n[alertmanager]\nto: +4790000001\n[grafana]\nto: +4790000001\n\
         [dispatcher]\ndispatcher1: DebugDispatcher\ndispatcher2: gone\n[DebugDispatcher]\nlog: {}\n\
         [gone]\ntype: HttpGetDispatcher\n\
         url: http://user:{MARK}-a@127.0.0.1:1/send?key={MARK}-b&to=%(phone)s&text=%(sms)s\n",
        made["line"].as_str().unwrap(),
        sms.display()
    );
    fs::write(dir.path().join("smsd.conf"), config).unwrap();
    fs::write(dir.path().join("nav.conf"), format!("PID_DIR={folder}\nLOG_DIR={folder}\n")).unwrap();
    give(dir.path(), 0o700);
    give(&dir.path().join("smsd.conf"), 0o600);
    give(&dir.path().join("nav.conf"), 0o600);
    let log = fs::File::create(dir.path().join("stderr")).unwrap();
    let daemon = Command::new(smsd)
        .arg("-f")
        .env_clear()
        .env("NAV_CONFIG_DIR", dir.path())
        .env("HOME", dir.path())
        .stdin(Stdio::null())
        .stderr(log)
        .spawn();
    let mut daemon = Ends(daemon.unwrap());

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let peer = root.join("target/peers/schemathesis");
    let installed = fs::read_to_string(peer.join("installed")).unwrap_or_default();
    assert!(installed.starts_with(include_str!("requirements.txt")), "run scripts/install-test-deps");
    let (token, to) = (made["token"].as_str().unwrap(), format!("http://127.0.0.1:{port}"));
    let asked = Command::new("python3")
        .args(["-m", "schemathesis.cli", "run", "--seed", "1", "--max-time", "15", "--continue-on-failure"])
        // It has no end. What is not there yet is not waited for long.
        .args(["--exclude-path", "/api/v1/events", "--wait-for-schema", "15"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .arg(format!("{to}/openapi.json"))
        .env("PYTHONPATH", &peer)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout);
    let log = fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
    assert!(asked.status.success() && !said.contains("Unresolvable"), "{said}\n{log}");
    assert!(daemon.0.try_wait().unwrap().is_none(), "it runs on: {log}");
    let until = Instant::now() + Duration::from_secs(10);
    while fs::read_to_string(&sms).unwrap_or_default().is_empty() {
        assert!(Instant::now() < until, "what was handed in goes out: {log}");
        std::thread::sleep(Duration::from_millis(50));
    }

    // The gateway is tried, so that there is a reason to show; and what comes then says no secret.
    let curl = |args: &[&str], path: &str| {
        let login = format!("Authorization: Bearer {token}");
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "10", "--header", &login]).args(args);
        let said = command.arg(format!("{to}{path}")).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(!said.is_empty() && !said.contains(MARK) && !said.contains(token), "{path}: {said}");
        said
    };
    let tested = curl(&["--json", r#"{"to":"+4790000001"}"#], "/api/v1/dispatchers/gone/test");
    assert!(tested.contains(r#""accepted":false"#), "{tested}");
    for path in ["alerts", "alerts/1", "attempts", "dispatchers", "status"] {
        curl(&[], &format!("/api/v1/{path}"));
    }
    for path in ["/metrics", "/readyz", "/healthz", "/openapi.json", "/nothing"] {
        curl(&[], path);
    }
}
