//! A real PgBouncer before a test's PostgreSQL, in transaction mode: a client has a server's session for the length
//! of a transaction, and another one for the next.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::postgres::{Server, as_server_user};

/// Ends with the value.
pub struct PgBouncer {
    pub port: u16,
    dir: PathBuf,
    process: Option<Child>,
    _server: Arc<Server>,
}

#[allow(dead_code, reason = "not every test binary uses all of it")]
impl PgBouncer {
    /// Starts one. Only what a pooler must be told is told; all else is as Debian has it.
    pub fn start(server: &Arc<Server>) -> PgBouncer {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = server.dir.join(format!("pgbouncer-{port}"));
        fs::create_dir(&dir).unwrap();
        let files = [
            ("users", "\"postgres\" \"\"\n".to_owned()),
            (
                "ini",
                format!(
                    "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                     listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {dir}/users\n\
                     pool_mode = transaction\ndefault_pool_size = 5\n\
                     ; Or a database that was away is asked again after 15 s only.\nserver_login_retry = 1\n",
                    server.port,
                    dir = dir.display()
                ),
            ),
        ];
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let mut bouncer = PgBouncer { port, dir, process: None, _server: server.clone() };
        bouncer.go();
        bouncer
    }

    fn go(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = as_server_user("pgbouncer");
        command.arg(self.dir.join("ini"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "no answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once (its connections too) and starts another.
    pub fn restart(&mut self) {
        self.end();
        self.go();
    }

    /// The same, and from now on a client keeps its session.
    pub fn restart_in_session_mode(&mut self) {
        let ini = self.dir.join("ini");
        let text = fs::read_to_string(&ini).unwrap();
        fs::write(&ini, text.replace("pool_mode = transaction", "pool_mode = session")).unwrap();
        self.restart();
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// What it says.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- PgBouncer:\n{}", self.log());
        }
    }
}
