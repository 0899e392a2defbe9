//! A site to test on: a folder with `smsd.conf`, `db.conf` and `nav.conf`, a queue, the daemon, gateways.
//!
//! What root starts here runs as `nobody`. Everything ends with the values that stand for it, also on a panic,
//! and then the daemon's log is shown.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;
use smsd::demo::gateway::{Accepted, Behaviour};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::postgres::{Database, Server};

/// One place with a configuration.
pub struct Site {
    pub dir: TempDir,
    /// NAV's database; none for the embedded queue.
    pub db: Option<Arc<Database>>,
    starts: AtomicUsize,
}

/// A running daemon.
pub struct Daemon {
    pub pid: Pid,
    /// What it says in the foreground, or its log file.
    log: PathBuf,
    child: Option<Child>,
    pidfile: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A gateway on the tests' runtime.
pub struct Gateway(smsd::demo::gateway::Gateway);

impl std::ops::Deref for Gateway {
    type Target = smsd::demo::gateway::Gateway;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Site {
    /// A site of NAV's with a database of its own. `main`: more keys for [main]; `rest`: sections.
    pub fn nav(main: &str, rest: &str) -> Site {
        Site::on(Arc::new(Server::shared().database()), main, rest)
    }

    /// A site of NAV's on a database that others use too.
    pub fn on(db: Arc<Database>, main: &str, rest: &str) -> Site {
        let site = Site::folder(Some(db));
        site.log_in_as("postgres", "");
        site.configure(main, rest);
        site
    }

    /// A site without NAV: the embedded queue.
    pub fn embedded(main: &str, rest: &str) -> Site {
        let site = Site::folder(None);
        site.configure(main, rest);
        site
    }

    fn folder(db: Option<Arc<Database>>) -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap(), db, starts: AtomicUsize::new(0) };
        let dir = site.dir.path().display();
        give(site.dir.path());
        site.write(
            "nav.conf",
            &format!("# NAV\nNAV_USER=nobody\nTIME_ZONE=UTC\nPID_DIR={dir}\nLOG_DIR={dir}\n"),
        );
        site
    }

    /// Writes `smsd.conf`.
    pub fn configure(&self, main: &str, rest: &str) {
        let dir = self.dir.path().display();
        self.write("smsd.conf", &format!("[main]\nusername: nobody\nstate_dir: {dir}\n{main}\n{rest}\n"));
    }

    /// The same site with another database.
    pub fn moved_to(mut self, db: Database) -> Site {
        self.db = Some(Arc::new(db));
        self.log_in_as("postgres", "");
        self
    }

    /// Writes `db.conf`.
    pub fn log_in_as(&self, user: &str, password: &str) {
        let db = self.db();
        self.write(
            "db.conf",
            &format!(
                "dbhost=127.0.0.1\ndbport={}\ndb_nav={}\nscript_default={user}\nuserpw_{user}={password}\n",
                db.server.port, db.name
            ),
        );
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
        give(&self.path(name));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn db(&self) -> &Database {
        self.db.as_deref().expect("a site of NAV's")
    }

    pub fn sql(&self, sql: &str) -> String {
        self.db().sql(sql)
    }

    /// Inserts as NAV's alert engine does; returns the id.
    pub fn insert(&self, phone: &str, msg: &str, severity: Option<i32>) -> i64 {
        let severity = severity.map_or("NULL".into(), |s| s.to_string());
        let sql = format!(
            "INSERT INTO smsq (accountid, time, phone, msg, severity) \
             VALUES (1, now(), $p${phone}$p$, $p${msg}$p$, {severity}) RETURNING id"
        );
        self.sql(&sql).parse().unwrap()
    }

    /// `count` alerts, each to a number of its own, with texts that name them: `alert 1` to +4790000001 and so on.
    pub fn insert_many(&self, from: usize, count: usize) {
        let to = from + count - 1;
        self.sql(&format!(
            "INSERT INTO smsq (accountid, time, phone, msg, severity) \
             SELECT 1, now(), '+47' || 90000000 + n, 'alert ' || n, 1 + n % 5 FROM generate_series({from}, {to}) n"
        ));
    }

    /// The program with the arguments, and nothing of this machine's configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(Path::new(&program()), args)
    }

    /// The same as the user that the daemon becomes, where root runs the test. That user need not reach the folder in
    /// which the program was built.
    pub fn command_as_nobody(&self, args: &[&str]) -> Command {
        if !geteuid().is_root() {
            return self.command(args);
        }
        let copy = self.path("smsd");
        if !copy.exists() {
            fs::copy(program(), &copy).unwrap();
        }
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let mut command = self.command_of(&copy, args);
        command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
        command
    }

    fn command_of(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("NAV_CONFIG_DIR", self.dir.path())
            .env("TZ", "UTC");
        command.args(args).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// What a command says with `--json`: one value and nothing else.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{args:?}: {e} in {said:?}"))
    }

    /// The daemon in the foreground.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, args: &[&str]) -> Daemon {
        self.spawn(self.command(&[&["-f"], args].concat()))
    }

    pub fn spawn(&self, mut command: Command) -> Daemon {
        let n = self.starts.fetch_add(1, Ordering::Relaxed);
        let log = self.path(&format!("stderr.{n}"));
        let child = command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        Daemon { pid, log, child: Some(child), pidfile: self.path("smsd.pid") }
    }

    /// The daemon in the background; it must have been started with success.
    pub fn start_in_background(&self) -> Daemon {
        let said = self.run(&[]);
        assert_eq!((said.code, &*said.out), (0, ""), "{}", said.err);
        let pidfile = self.path("smsd.pid");
        // The parent may be gone before the child has written its own pid.
        let pid = until("the pid file has the pid of a process that minds SIGTERM", || {
            let pid: i32 = fs::read_to_string(&pidfile).ok()?.trim().parse().ok()?;
            minds(pid, Signal::SIGTERM).then_some(pid)
        });
        Daemon { pid: Pid::from_raw(pid), log: self.path("smsd.log"), child: None, pidfile }
    }

    /// How many alerts stand in each of N, Y, I.
    pub fn counts(&self) -> [usize; 3] {
        let counts = self.sql(
            "SELECT count(*) FILTER (WHERE sent = 'N'), count(*) FILTER (WHERE sent = 'Y'), \
             count(*) FILTER (WHERE sent = 'I') FROM smsq",
        );
        let mut counts = counts.split('|').map(|n| n.parse().unwrap());
        [(); 3].map(|()| counts.next().unwrap())
    }

    /// `smsd queue audit` must have nothing to complain about.
    pub fn audit(&self) -> Value {
        let said = self.run(&["queue", "audit", "--json"]);
        assert_eq!(said.code, 0, "{} {}", said.out, said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    /// The oracle: holds what the gateways took against what the program says of it. Every alert went to a number
    /// of its own. Nothing is lost; nothing is said to be sent that was not; what went out twice is on record.
    /// Returns how many went out twice.
    pub fn account(&self, taken: &[Accepted]) -> usize {
        let rows = self.json(&["queue", "list", "--limit", "100000"]);
        let mut twice = 0;
        for row in rows.as_array().unwrap() {
            let (id, to, text) = (&row["id"], row["to"].as_str().unwrap(), row["text"].as_str().unwrap());
            let times = taken.iter().filter(|sms| sms.phone == to && sms.text == text).count();
            // Of one that is held nobody knows whether it was taken.
            if row["state"] != "held" {
                assert_eq!(times > 0, row["state"] == "sent", "alert {id}: {row}, taken {times} times");
            }
            assert!(times <= 2, "alert {id} went out {times} times without anyone's doing");
            if times == 2 {
                twice += 1;
                let story = self.json(&["queue", "show", &id.to_string()]);
                let attempts = story["attempts"].as_array().unwrap();
                assert!(attempts.iter().any(|a| a["possible_duplicate"] == true), "not on record: {story}");
            }
        }
        let known: std::collections::HashSet<&str> =
            rows.as_array().unwrap().iter().filter_map(|row| row["to"].as_str()).collect();
        for sms in taken {
            assert!(known.contains(&*sms.phone), "nobody asked for {sms:?}");
        }
        twice
    }
}

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Waits until it minds SIGTERM: from there on it is a daemon and not a program that starts.
    pub fn up(self) -> Daemon {
        until_within(30, "the daemon is up", || {
            assert!(self.runs(), "it ended: {}", self.log());
            minds(self.pid.as_raw(), Signal::SIGTERM).then_some(())
        });
        self
    }

    /// SIGTERM; it must end well.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended_within(40), Some(0), "{}", self.log());
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.ended_within(10);
    }

    /// Its exit code; `None` if a signal ended it, or if it was in the background.
    pub fn ended_within(&mut self, seconds: u64) -> Option<i32> {
        until_within(seconds, "the daemon has ended", || match &mut self.child {
            Some(child) => child.try_wait().unwrap().map(|status| status.code()),
            None => (!alive(self.pid)).then_some(None),
        })
    }

    /// True while it has not ended.
    pub fn runs(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How often the log says something.
    pub fn said(&self, what: &str) -> usize {
        self.log().matches(what).count()
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // USER_HZ is 100 on every Linux that Debian supports.
        Duration::from_millis(ticks * 10)
    }

    /// KiB that it holds itself, its program and libraries apart: those of a build for tests are twice those that are shipped.
    pub fn own_memory(&self) -> u64 {
        self.kib("RssAnon:")
    }

    /// Resident memory in KiB: now, and at most so far.
    pub fn memory(&self) -> (u64, u64) {
        (self.kib("VmRSS:"), self.kib("VmHWM:"))
    }

    fn kib(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        match &mut self.child {
            Some(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            // A pid that the file no longer names may be someone else's by now.
            None if fs::read_to_string(&self.pidfile).is_ok_and(|s| s.trim() == self.pid.to_string()) => {
                let _ = kill(self.pid, Signal::SIGKILL);
            }
            None => {}
        }
        if std::thread::panicking() {
            eprintln!("--- {} of {}:\n{}", self.log.display(), self.pid, self.log());
        }
    }
}

impl Said {
    pub fn of(output: Output) -> Said {
        Said {
            code: output.status.code().expect("ended by a signal"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Each of the parts must stand in what it says to people.
    #[track_caller]
    pub fn names(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing in {self:?}");
        }
    }
}

/// A gateway that takes everything.
pub fn gateway() -> Gateway {
    gateway_that(Behaviour::ok())
}

pub fn gateway_that(behaviour: Behaviour) -> Gateway {
    Gateway(runtime().block_on(smsd::demo::gateway::Gateway::start(behaviour)).unwrap())
}

/// A gateway at an address that nobody listened at so far.
pub fn gateway_at(addr: SocketAddr) -> Gateway {
    Gateway(runtime().block_on(smsd::demo::gateway::Gateway::start_at(addr, Behaviour::ok())).unwrap())
}

/// An address that refuses connections.
pub fn nobody_listens() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `[dispatcher]` with HTTP gateways in order of priority, named `gw1`, `gw2`; `keys` go to each of them.
pub fn ways(addrs: &[SocketAddr], keys: &str) -> String {
    let mut text = String::from("[dispatcher]\n");
    for n in 1..=addrs.len() {
        text += &format!("dispatcher{n}: gw{n}\n");
    }
    for (n, addr) in addrs.iter().enumerate() {
        text += &format!(
            "[gw{}]\ntype: HttpGetDispatcher\nurl: http://{addr}/send?to=%(phone)s&text=%(sms)s\n{keys}\n",
            n + 1
        );
    }
    text
}

/// Where the gateways and the tests' own connections live.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(30, what, probe)
}

pub fn until_within<T>(seconds: u64, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "still waiting after {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn alive(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// Another build of the program is measured by naming it: SMSD_BIN=target/dev-release/smsd.
fn program() -> std::ffi::OsString {
    std::env::var_os("SMSD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_smsd").into())
}

/// Does the process catch this signal?
fn minds(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal as u32 - 1) & 1 == 1
}

/// To the user that the daemon becomes.
pub fn give(path: &Path) {
    if geteuid().is_root() && fs::metadata(path).unwrap().uid() == 0 {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        chown(path, Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).unwrap();
    }
}
