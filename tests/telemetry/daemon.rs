//! A daemon in the foreground with the HTTP interface, and the same configuration for commands. Ends with the test.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

pub struct Daemon {
    pub dir: TempDir,
    address: String,
    child: Option<Child>,
}

impl Daemon {
    /// Configured with these sections, not yet started.
    pub fn configured(rest: &str) -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        // Free now; whoever takes it before the daemon does makes the test fail, not pass.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let conf = format!(
            "[main]\nstate_dir: {0}\nusername: nobody\n[queue]\npoll_interval: 20ms\n[http]\nlisten: {address}\n{rest}",
            dir.path().display()
        );
        fs::write(dir.path().join("smsd.conf"), conf).unwrap();
        fs::write(dir.path().join("nav.conf"), format!("PID_DIR = {}\n", dir.path().display())).unwrap();
        if geteuid().is_root() {
            let nobody = User::from_name("nobody").unwrap().unwrap();
            chown(dir.path(), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
        }
        Daemon { dir, address, child: None }
    }

    /// The same, started, and answering.
    pub fn start(rest: &str) -> Daemon {
        let mut daemon = Daemon::configured(rest);
        let child = daemon.command(&["-f"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        daemon.child = Some(child.unwrap());
        until("an answer", || daemon.get("/healthz", "").filter(|answer| answer.starts_with("HTTP/1.1 200")));
        daemon
    }

    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().try_into().unwrap()
    }

    /// Asked to stop, and gone.
    pub fn stop(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        let mut child = self.child.take().unwrap();
        assert!(child.wait().unwrap().success());
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smsd"));
        command.env_clear().env("HOME", self.dir.path()).env("TZ", "UTC").stdin(Stdio::null());
        command.arg("-C").arg(self.path("smsd.conf")).args(args);
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The whole answer, head and body; `None` if nobody listens.
    pub fn get(&self, path: &str, headers: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
