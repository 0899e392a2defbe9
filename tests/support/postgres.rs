//! PostgreSQL for tests: a server in a temporary folder, as a user other than root, on a free port.
//!
//! Most tests share one server ([`Server::shared`]), also across test processes, each with a database of its
//! own ([`Server::database`]). A test that stops, kills or restarts the server starts one for itself
//! ([`Server::own`]). Either is ended by a guard, a small shell process that outlives the tests however they
//! end: it waits until no process holds the server's lock file any more.

#![allow(dead_code, reason = "not every test binary uses all of it")]

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use smsd::config::PostgresTarget;

/// NAV's own tables, as far as they concern us.
const NAV: &str = "
    CREATE TABLE account (id serial PRIMARY KEY, login varchar NOT NULL UNIQUE, name varchar NOT NULL);
    CREATE TABLE smsq (
        id serial PRIMARY KEY,
        accountid integer REFERENCES account (id) ON UPDATE CASCADE ON DELETE CASCADE,
        time timestamp NOT NULL,
        phone varchar(15) NOT NULL,
        msg varchar(145) NOT NULL,
        sent char(1) NOT NULL DEFAULT 'N' CHECK (sent = 'Y' OR sent = 'N' OR sent = 'I'),
        smsid integer,
        timesent timestamp,
        severity integer);
    INSERT INTO account (login, name) VALUES ('admin', 'Ann Admin'), ('bob', 'Bob');";

/// Roles that tell what the tests want to know: who needs a password, TLS, or none; who may do nothing.
const ROLES: &str = "
    CREATE ROLE with_password LOGIN SUPERUSER PASSWORD 'pass:w\\ord';
    CREATE ROLE tls_only LOGIN SUPERUSER;
    CREATE ROLE plain_only LOGIN SUPERUSER;
    CREATE ROLE nobody LOGIN;";

const HBA: &str = "local all all trust
local replication all trust
host all with_password 127.0.0.1/32 scram-sha-256
hostnossl all tls_only 127.0.0.1/32 reject
hostssl all plain_only 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
";

/// Waits until nobody holds $1 for a while (the next test process may be about to start), then ends the
/// server in $2 under the lock $3 that starters hold.
const GUARD: &str = r#"
    free=0
    while [ $free -lt "$5" ]; do
        sleep 0.3
        if flock -n -x "$1" true; then free=$((free + 1)); else free=0; fi
    done
    exec 9>"$3"
    flock -x 9
    if ! flock -n -x "$1" true; then exec 9>&-; exec sh -c "$0" "$0" "$@"; fi
    $4 pg_ctl -D "$2/data" -m immediate stop
    rm -rf "$2"
"#;

/// A PostgreSQL server.
pub struct Server {
    /// Holds the sockets, the data, and the certificates `ca.crt` (the server's) and `other-ca.crt`.
    pub dir: PathBuf,
    pub port: u16,
    _users: File,
}

impl Server {
    /// The server that all tests share. Nothing is lost in it, but nothing is synced to the disk either.
    pub fn shared() -> Arc<Server> {
        static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            let locks = Path::new(env!("CARGO_TARGET_TMPDIR"));
            let starting = File::create(locks.join("postgres-starting.lock")).unwrap();
            starting.lock().unwrap();
            let users_file = locks.join("postgres-users.lock");
            let users = File::create(&users_file).unwrap();
            users.lock_shared().unwrap();
            let place = locks.join("postgres");
            let found = fs::read_to_string(&place).ok().and_then(|text| {
                let (dir, port) = text.split_once('\n')?;
                Some((PathBuf::from(dir), port.trim().parse().ok()?))
            });
            if let Some((dir, port)) = found
                && answers(&dir, port)
            {
                return Arc::new(Server { dir, port, _users: users });
            }
            let dir = folder();
            guard(&dir, &users_file, &locks.join("postgres-starting.lock"), 10);
            let port = create(&dir, "-F -c full_page_writes=off");
            fs::write(&place, format!("{}\n{port}\n", dir.display())).unwrap();
            Arc::new(Server { dir, port, _users: users })
        });
        shared.clone()
    }

    /// A server that this test may do anything to. `options` go to `postgres`.
    pub fn own(options: &str) -> Server {
        Server::own_with(options, &[])
    }

    /// The same with more in its environment.
    pub fn own_with(options: &str, env: &[(&str, PathBuf)]) -> Server {
        let dir = folder();
        let env = env.iter().map(|(name, value)| format!("{name}={}\n", value.display()));
        fs::write(dir.join("env"), env.collect::<String>()).unwrap();
        let users_file = dir.join("users.lock");
        let users = File::create(&users_file).unwrap();
        users.lock_shared().unwrap();
        guard(&dir, &users_file, &dir.join("starting.lock"), 1);
        let port = create(&dir, options);
        Server { dir, port, _users: users }
    }

    /// A database of its own, with NAV's tables; it goes away with the value.
    pub fn database(self: &Arc<Server>) -> Database {
        let name = format!("t{}", uuid::Uuid::now_v7().simple());
        psql(&self.dir, self.port, "postgres", &format!("CREATE DATABASE {name} TEMPLATE nav"));
        Database { server: self.clone(), name }
    }

    /// The same in another encoding.
    pub fn database_in(self: &Arc<Server>, encoding: &str) -> Database {
        if encoding == "UTF8" {
            return self.database();
        }
        let name = format!("t{}", uuid::Uuid::now_v7().simple());
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        psql(&self.dir, self.port, "postgres", &sql);
        let database = Database { server: self.clone(), name };
        database.sql(NAV);
        database
    }

    /// Ends it without a checkpoint, as a crash of all its processes would.
    pub fn stop(&self) {
        pg_ctl(&self.dir, &["-m", "immediate", "stop"]);
    }

    /// Starts it again.
    pub fn start(&self) {
        start(&self.dir);
    }

    /// A copy of all that it holds, as after a crash at this moment.
    pub fn back_up(&self) -> PathBuf {
        let copy = self.dir.join("backup");
        self.stop();
        copy_all(&self.dir.join("data"), &copy);
        self.start();
        copy
    }

    /// Stops it, puts the copy in the place of all that it holds, and starts it.
    pub fn put_back(&self, copy: &Path) {
        self.stop();
        fs::remove_dir_all(self.dir.join("data")).unwrap();
        copy_all(copy, &self.dir.join("data"));
        self.start();
    }

    /// Writes all of a database of this server's into an empty one of another server's, as a dump has it.
    pub fn dump_into(&self, database: &str, other: &Server, into: &str) {
        for table in ["smsq", "account"] {
            psql(&other.dir, other.port, into, &format!("DROP TABLE {table}"));
        }
        let dump = self.dir.join("dump.sql");
        let mut from = as_server_user("pg_dump");
        from.args(["-U", "postgres", "-d", database, "-p"]).arg(self.port.to_string());
        run(from.arg("-h").arg(&self.dir).arg("-f").arg(&dump));
        let mut to = as_server_user("psql");
        to.args(["-qX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", into, "-p"])
            .arg(other.port.to_string());
        run(to.arg("-h").arg(&other.dir).arg("-f").arg(&dump));
    }

    /// A standby that follows it.
    pub fn standby(&self) -> Standby {
        let dir = self.dir.join("standby");
        fs::create_dir(&dir).unwrap();
        if let Some(user) = server_user() {
            nix::unistd::chown(&dir, Some(user.uid), Some(user.gid)).unwrap();
        }
        let mut copy = as_server_user("pg_basebackup");
        copy.args(["-U", "postgres", "-R", "-X", "stream", "-c", "fast", "-p"]).arg(self.port.to_string());
        run(copy.arg("-h").arg(&self.dir).arg("-D").arg(dir.join("data")));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(dir.join("options"), format!("-p {port}")).unwrap();
        start(&dir);
        Standby { dir, sockets: self.dir.clone(), port }
    }
}

/// A standby; its sockets lie where its primary's do.
pub struct Standby {
    dir: PathBuf,
    sockets: PathBuf,
    port: u16,
}

impl Standby {
    fn sql(&self, sql: &str) -> String {
        psql(&self.sockets, self.port, "postgres", sql)
    }

    fn wait_for(&self, sql: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.sql(sql) != "t" {
            assert!(Instant::now() < deadline, "{sql}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns when it has all that its primary has now.
    pub fn catch_up(&self, primary: &Server) {
        let here = psql(&primary.dir, primary.port, "postgres", "SELECT pg_current_wal_lsn()");
        self.wait_for(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'"));
    }

    /// From now on it hears nothing from its primary.
    pub fn lose_touch(&self) {
        self.sql("ALTER SYSTEM SET primary_conninfo = ''");
        self.sql("SELECT pg_reload_conf()");
        self.wait_for("SELECT count(*) = 0 FROM pg_stat_wal_receiver");
    }

    /// Takes the place of the primary, which has been stopped.
    pub fn take_over(&self, primary: &Server) {
        pg_ctl(&self.dir, &["-m", "fast", "stop"]);
        fs::write(self.dir.join("options"), format!("-p {}", primary.port)).unwrap();
        start(&self.dir);
        pg_ctl(&self.dir, &["-w", "promote"]);
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = as_server_user("pg_ctl")
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-m", "immediate", "stop"])
            .output();
    }
}

fn copy_all(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// A database in a server.
pub struct Database {
    pub server: Arc<Server>,
    pub name: String,
}

impl Database {
    /// Over TCP, as the superuser `postgres`.
    pub fn target(&self) -> PostgresTarget {
        self.target_at("127.0.0.1", self.server.port)
    }

    /// The same by another way.
    pub fn target_at(&self, host: &str, port: u16) -> PostgresTarget {
        PostgresTarget {
            host: Some(host.into()),
            port: Some(port),
            database: Some(self.name.clone()),
            user: Some("postgres".into()),
            ..PostgresTarget::default()
        }
    }

    /// Runs SQL as the superuser; returns what it prints, columns separated by `|`.
    pub fn sql(&self, sql: &str) -> String {
        psql(&self.server.dir, self.server.port, &self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A server of the test's own may be down.
        let _ = psql_command(&self.server.dir, self.server.port, "postgres", &sql).output();
    }
}

/// A folder that the server's user may use.
fn folder() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("smsd-pg-{}", uuid::Uuid::now_v7().simple()));
    fs::create_dir(&dir).unwrap();
    if let Some(user) = server_user() {
        nix::unistd::chown(&dir, Some(user.uid), Some(user.gid)).unwrap();
    }
    dir
}

/// Makes a server in a folder and starts it; returns its port.
fn create(dir: &Path, options: &str) -> u16 {
    let data = dir.join("data");
    let mut initdb = as_server_user("initdb");
    run(initdb.args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-N", "-D"]).arg(&data));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nssl = on\n\
         max_connections = 300\nshared_buffers = 64MB\n",
        dir.display()
    );
    File::options()
        .append(true)
        .open(data.join("postgresql.conf"))
        .unwrap()
        .write_all(settings.as_bytes())
        .unwrap();
    fs::write(data.join("pg_hba.conf"), HBA).unwrap();
    fs::write(dir.join("options"), options).unwrap();
    certificates(dir);
    start(dir);
    psql(dir, port, "postgres", ROLES);
    psql(dir, port, "postgres", "CREATE DATABASE nav TEMPLATE template0");
    psql(dir, port, "nav", NAV);
    port
}

/// A certificate for `localhost`, which `127.0.0.1` is not.
fn certificates(dir: &Path) {
    let authority = |name: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (rcgen::Issuer::new(params, key), certificate.pem())
    };
    let (issuer, ca) = authority("good");
    let (_, other) = authority("other");
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    for (file, content) in [
        ("data/server.crt", certificate.pem()),
        ("data/server.key", key.serialize_pem()),
        ("ca.crt", ca),
        ("other-ca.crt", other),
    ] {
        let file = dir.join(file);
        fs::write(&file, content).unwrap();
        if let Some(user) = server_user() {
            nix::unistd::chown(&file, Some(user.uid), Some(user.gid)).unwrap();
        }
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn start(dir: &Path) {
    let options = fs::read_to_string(dir.join("options")).unwrap();
    let log = dir.join("data/log");
    let env = fs::read_to_string(dir.join("env")).unwrap_or_default();
    let env = env.lines().filter_map(|line| line.split_once('='));
    let mut command = as_server_user("pg_ctl");
    command.arg("-D").arg(dir.join("data")).envs(env);
    run(command.args(["-w", "-t", "60", "-l", log.to_str().unwrap(), "-o", &options, "start"]));
}

fn pg_ctl(dir: &Path, arguments: &[&str]) {
    run(as_server_user("pg_ctl").arg("-D").arg(dir.join("data")).args(arguments));
}

fn guard(dir: &Path, users: &Path, starting: &Path, patience: u32) {
    let server_user =
        server_user().map(|u| format!("setpriv --reuid={} --regid={} --clear-groups", u.uid, u.gid));
    Command::new("setsid")
        .args(["--fork", "sh", "-c", GUARD, GUARD])
        .args([users, dir, starting])
        .arg(server_user.unwrap_or_default())
        .arg(patience.to_string())
        .env("PATH", path_with_servers())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

fn answers(dir: &Path, port: u16) -> bool {
    dir.exists()
        && psql_command(dir, port, "postgres", "SELECT 1").output().is_ok_and(|out| out.status.success())
}

fn psql(dir: &Path, port: u16, database: &str, sql: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let out = psql_command(dir, port, database, sql).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        if out.status.success() {
            return String::from_utf8(out.stdout).unwrap().trim_end().to_owned();
        }
        // A template is copied by one at a time.
        assert!(
            said.contains("is being accessed by other users") && Instant::now() < deadline,
            "{sql}: {said}"
        );
    }
}

fn psql_command(dir: &Path, port: u16, database: &str, sql: &str) -> Command {
    let mut command = Command::new("psql");
    command.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-c", sql]);
    command.arg("-h").arg(dir).arg("-p").arg(port.to_string()).stdin(Stdio::null());
    command.env("PATH", path_with_servers()).env("PGCLIENTENCODING", "UTF8");
    command
}

/// PostgreSQL refuses to run as root.
fn server_user() -> Option<nix::unistd::User> {
    let by_name = |name| nix::unistd::User::from_name(name).ok().flatten();
    nix::unistd::geteuid().is_root().then(|| by_name("postgres").or(by_name("nobody")).unwrap())
}

pub(crate) fn as_server_user(program: &str) -> Command {
    let mut command = match server_user() {
        None => Command::new(program),
        Some(user) => {
            let mut command = Command::new("setpriv");
            command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
            command.args(["--clear-groups", program]);
            command
        }
    };
    command.env("PATH", path_with_servers()).current_dir("/");
    command
}

/// Debian keeps the server programs out of the way.
fn path_with_servers() -> String {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|dir| dir.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let newest = versions.pop().unwrap_or_default();
    format!("{}:{}", std::env::var("PATH").unwrap_or_default(), newest.display())
}

fn run(command: &mut Command) {
    let log = tempfile::tempfile().unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
    let status = command.status().unwrap();
    if !status.success() {
        use std::io::{Read, Seek};
        let (mut log, mut said) = (log, String::new());
        log.rewind().unwrap();
        log.read_to_string(&mut said).unwrap();
        panic!("{command:?}: {status}\n{said}");
    }
}
