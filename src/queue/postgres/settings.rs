//! Where the database is and how to log in: configuration, then libpq's environment, then libpq's defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::passfile;
use crate::config::{PostgresTarget, Secret};
use crate::queue::QueueError;

/// The longest time to connect and log in, unless `connect_timeout` or `PGCONNECT_TIMEOUT` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where servers have their Unix socket: Debian and most others, then PostgreSQL as it is built by hand.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// All that a connection needs. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tried in order. A host that begins with `/` is the directory of a Unix socket.
    pub hosts: Vec<(String, u16)>,
    /// Database.
    pub database: String,
    /// Role.
    pub user: String,
    /// Password, if there is one.
    pub password: Option<Secret<String>>,
    /// Who is to be believed.
    pub tls: TlsSettings,
    /// Longest time for one host.
    pub connect_timeout: Duration,
    /// Name in `pg_stat_activity`.
    pub application_name: String,
    /// Command-line options for the server's session (`options`, `PGOPTIONS`).
    pub options: Option<String>,
    /// The time zone of NAV's local times; `None`: the server's own.
    pub time_zone: Option<String>,
}

/// libpq's `sslmode` and its files.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// How much is wanted.
    pub mode: TlsMode,
    /// Certificates of those who may vouch for the server; `None`: the system's, if they are asked for.
    pub roots: Roots,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Whose word counts for the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Nobody's: `root.crt` does not exist.
    None,
    /// The certificates in this file (`sslrootcert`, else `~/.postgresql/root.crt`).
    File(PathBuf),
    /// The system's (`sslrootcert=system`).
    System,
}

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never TLS.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server has it (libpq's default).
    Prefer,
    /// TLS; the certificate is believed, unless there are roots to check it with.
    Require,
    /// TLS, and the certificate comes from one of the roots.
    VerifyCa,
    /// The same, and it is made out to the host that we asked for.
    VerifyFull,
}

impl Settings {
    /// Puts the settings together for this process.
    ///
    /// # Errors
    /// [`QueueError::Refused`] names the key that can not be used.
    pub fn resolve(target: &PostgresTarget) -> Result<Settings, QueueError> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let login = user.as_ref().map(|u| u.name.clone());
        let home = std::env::var_os("HOME").map(PathBuf::from).or(user.map(|u| u.dir));
        Settings::from_parts(target, &|name| std::env::var(name).ok(), login, home.as_deref())
    }

    /// The same from a given environment, login name and home directory.
    ///
    /// # Errors
    /// As [`Settings::resolve`].
    pub fn from_parts(
        target: &PostgresTarget,
        env: &dyn Fn(&str) -> Option<String>,
        login: Option<String>,
        home: Option<&Path>,
    ) -> Result<Settings, QueueError> {
        let given = match &target.url {
            Some(url) => parse(url.reveal())?,
            None => from_keys(target),
        };
        for key in given.keys() {
            if !KNOWN.iter().any(|(known, _)| known == key) {
                return Err(refused(format!("the database URL has {key:?}, which smsd does not know")));
            }
        }
        let get = |key: &str| {
            let var = KNOWN.iter().find(|(known, _)| *known == key).and_then(|(_, var)| *var);
            let set = given.get(key).cloned().or_else(|| env(var?));
            set.filter(|value| !value.is_empty())
        };

        let user = get("user").or(login).ok_or_else(|| refused("no database user is configured".into()))?;
        let database = get("dbname").unwrap_or_else(|| user.clone());
        let hosts = hosts(get("host"), get("port"))?;
        let connect_timeout = match get("connect_timeout") {
            None => CONNECT_TIMEOUT,
            Some(text) => match text.trim().parse::<u64>() {
                Ok(0) => CONNECT_TIMEOUT,
                Ok(seconds) => Duration::from_secs(seconds.clamp(2, 3600)),
                Err(_) => return Err(refused(format!("connect_timeout is {text:?}, not whole seconds"))),
            },
        };
        let password = match get("password") {
            Some(password) => Some(Secret::new(password)),
            None => {
                let file = get("passfile").map(PathBuf::from).or_else(|| Some(home?.join(".pgpass")));
                file.and_then(|file| passfile::look_up(&file, &hosts, &database, &user))
            }
        };
        let tls = tls(&get, home)?;
        let application_name = get("application_name").unwrap_or_else(|| "smsd".into());
        let options = get("options");
        let time_zone = target.time_zone.clone();
        Ok(Settings {
            hosts,
            database,
            user,
            password,
            tls,
            connect_timeout,
            application_name,
            options,
            time_zone,
        })
    }

    /// Where the queue is, for people: `host:port/database`, without the user and secrets.
    pub fn location(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("{}/{}", hosts.join(","), self.database)
    }
}

/// The keys of a connection string that we use, and the variable that stands in for each.
const KNOWN: [(&str, Option<&str>); 19] = [
    ("host", Some("PGHOST")),
    ("port", Some("PGPORT")),
    ("dbname", Some("PGDATABASE")),
    ("user", Some("PGUSER")),
    ("password", Some("PGPASSWORD")),
    ("passfile", Some("PGPASSFILE")),
    ("sslmode", Some("PGSSLMODE")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslkey", Some("PGSSLKEY")),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("application_name", Some("PGAPPNAME")),
    ("options", Some("PGOPTIONS")),
    // Known to libpq and without meaning for us: what they ask for is what we do.
    ("client_encoding", None),
    ("keepalives", None),
    ("keepalives_idle", None),
    ("keepalives_interval", None),
    ("keepalives_count", None),
    ("target_session_attrs", None),
];

fn from_keys(target: &PostgresTarget) -> BTreeMap<String, String> {
    let mut given = BTreeMap::new();
    let password = target.password.as_ref().map(|p| p.reveal().clone());
    let port = target.port.map(|p| p.to_string());
    for (key, value) in [
        ("host", target.host.clone()),
        ("port", port),
        ("dbname", target.database.clone()),
        ("user", target.user.clone()),
        ("password", password),
    ] {
        if let Some(value) = value {
            given.insert(key.to_owned(), value);
        }
    }
    given
}

/// Hosts with their ports: as many ports as hosts, or one for all.
fn hosts(hosts: Option<String>, ports: Option<String>) -> Result<Vec<(String, u16)>, QueueError> {
    let ports: Vec<u16> = match &ports {
        None => vec![5432],
        Some(text) => text
            .split(',')
            .map(|port| if port.is_empty() { Ok(5432) } else { port.trim().parse() })
            .collect::<Result<_, _>>()
            .map_err(|_| refused(format!("the database port is {text:?}; expected a number to 65535")))?,
    };
    let port = |i: usize| ports.get(i).or_else(|| ports.last()).copied().unwrap_or(5432);
    match hosts {
        Some(hosts) => {
            let hosts: Vec<_> = hosts.split(',').map(|host| host.trim().to_owned()).collect();
            if ports.len() > 1 && ports.len() != hosts.len() {
                let (n, m) = (hosts.len(), ports.len());
                return Err(refused(format!("{n} database hosts but {m} ports; expected one port or {n}")));
            }
            Ok(hosts.into_iter().enumerate().map(|(i, host)| (host, port(i))).collect())
        }
        None => {
            let port = port(0);
            let socket = |dir: &&&str| Path::new(dir).join(format!(".s.PGSQL.{port}")).exists();
            let [first, _] = &SOCKET_DIRECTORIES;
            let dir = SOCKET_DIRECTORIES.iter().find(socket).unwrap_or(first);
            Ok(vec![((*dir).to_owned(), port)])
        }
    }
}

fn tls(get: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Result<TlsSettings, QueueError> {
    let default = |name: &str| home.map(|home| home.join(".postgresql").join(name)).filter(|f| f.exists());
    let roots = match get("sslrootcert") {
        Some(word) if word == "system" => Roots::System,
        Some(file) => Roots::File(file.into()),
        None => default("root.crt").map_or(Roots::None, Roots::File),
    };
    let mode = match get("sslmode").as_deref() {
        // libpq: with the system's roots anything weaker than verify-full proves nothing.
        None if roots == Roots::System => TlsMode::VerifyFull,
        None | Some("prefer") => TlsMode::Prefer,
        Some("disable") => TlsMode::Disable,
        Some("allow") => TlsMode::Allow,
        Some("require") => TlsMode::Require,
        Some("verify-ca") => TlsMode::VerifyCa,
        Some("verify-full") => TlsMode::VerifyFull,
        Some(other) => {
            return Err(refused(format!(
                "sslmode is {other:?}; expected disable, allow, prefer, require, verify-ca or verify-full"
            )));
        }
    };
    let certificate = get("sslcert").map(PathBuf::from).or_else(|| default("postgresql.crt"));
    let key = get("sslkey").map(PathBuf::from).or_else(|| default("postgresql.key"));
    Ok(TlsSettings { mode, roots, identity: certificate.zip(key) })
}

/// Reads a connection string in either of libpq's forms.
fn parse(text: &str) -> Result<BTreeMap<String, String>, QueueError> {
    let text = text.trim();
    match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        Some(rest) => parse_url(rest),
        None => parse_pairs(text),
    }
}

/// `user:password@host:port,host:port/database?key=value`, after the scheme.
fn parse_url(rest: &str) -> Result<BTreeMap<String, String>, QueueError> {
    let decode = |part: &str| {
        let decoded = percent_decode_str(part).decode_utf8();
        decoded.map(String::from).map_err(|_| refused("the database URL is not UTF-8".into()))
    };
    let mut given = BTreeMap::new();
    let mut put = |key: &str, value: &str| -> Result<(), QueueError> {
        if !value.is_empty() {
            given.insert(decode(key)?, decode(value)?);
        }
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    // A bare `/` or `?` in a password ends it early, and its rest would be shown as a port, a database or a key.
    if database.contains('@') || (query.contains('@') && !authority.contains('@')) {
        let escapes = "in a password write / as %2F, ? as %3F and @ as %40";
        return Err(refused(format!("the database URL has an @ behind its first / or ?; {escapes}")));
    }
    put("dbname", database)?;
    let (login, places) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    put("user", user)?;
    put("password", password)?;
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for place in places.split(',') {
        let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or("")),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        hosts.push(host);
        ports.push(port);
    }
    put("host", &hosts.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        put("port", &ports.join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            ("ssl", "true") => put("sslmode", "require")?,
            _ => put(key, value)?,
        }
    }
    Ok(given)
}

/// `host=… dbname='…'`, quoted with `'` and escaped with `\`.
fn parse_pairs(text: &str) -> Result<BTreeMap<String, String>, QueueError> {
    let fault =
        |what: &str| refused(format!("the database URL is neither postgresql://… nor key=value: {what}"));
    let mut given = BTreeMap::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(given);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        // The word is not repeated: without its key it may be a password.
        chars.next_if_eq(&'=').ok_or_else(|| fault("a word without \"=\""))?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                None if quoted => return Err(fault("a quote that does not end")),
                None => break,
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
            }
        }
        given.insert(key, value);
    }
}

fn refused(message: String) -> QueueError {
    QueueError::Refused(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(url: &str, env: &[(&str, &str)]) -> Settings {
        try_resolve(url, env).unwrap()
    }

    fn try_resolve(url: &str, env: &[(&str, &str)]) -> Result<Settings, QueueError> {
        let target = PostgresTarget { url: Some(Secret::new(url.into())), ..Default::default() };
        let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Settings::from_parts(&target, &env, Some("login".into()), None)
    }

    #[test]
    fn a_password_that_is_not_escaped_is_refused_and_not_shown() {
        for password in ["12/secret", "secret/x", "a/secret", "a?secret", "12?sslmode=secret", "a@b/secret"] {
            let why = try_resolve(&format!("postgresql://nav:{password}@db.example/nav"), &[]).unwrap_err();
            assert!(why.to_string().contains("write / as %2F"), "{why}");
            assert!(!why.to_string().contains("secret"), "{why}");
        }
        assert_eq!(resolve("postgresql://nav@h/d?application_name=a@b", &[]).application_name, "a@b");
    }

    #[test]
    fn both_forms_of_a_connection_string() {
        for text in [
            "postgresql://nav:p%40ss%20w@db.example:5433/na%76?sslmode=verify-ca&connect_timeout=9",
            r"host=db.example port=5433 user=nav password='p@ss w' dbname = nav sslmode=verify-ca connect_timeout=9",
        ] {
            let s = resolve(text, &[]);
            assert_eq!(s.hosts, [("db.example".to_owned(), 5433)], "{text}");
            assert_eq!((s.user.as_str(), s.database.as_str()), ("nav", "nav"));
            assert_eq!(s.password.unwrap().reveal(), "p@ss w");
            assert_eq!(s.tls.mode, TlsMode::VerifyCa);
            assert_eq!(s.connect_timeout, Duration::from_secs(9));
        }
        let many = resolve("postgres://a,[::1]:7,c/d", &[]);
        assert_eq!(many.hosts, [("a".into(), 5432), ("::1".into(), 7), ("c".into(), 5432)]);
        let socket = resolve("postgresql://%2Ftmp%2Fpg/d", &[]);
        assert_eq!(socket.hosts, [("/tmp/pg".to_owned(), 5432)]);
        let escaped = resolve(r"password='it\'s \\' host=h", &[]);
        assert_eq!(escaped.password.unwrap().reveal(), r"it's \");
    }

    #[test]
    fn the_environment_and_the_login_name_fill_the_gaps() {
        let env = [
            ("PGHOST", "h1,h2"),
            ("PGPORT", "1,2"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "p"),
            ("PGSSLMODE", "require"),
        ];
        let s = resolve("host=given", &env[2..]);
        assert_eq!((s.hosts, s.user.as_str(), s.database.as_str()), (vec![("given".into(), 5432)], "u", "u"));
        let s = resolve("", &env);
        assert_eq!(s.hosts, [("h1".into(), 1), ("h2".into(), 2)]);
        assert_eq!((s.tls.mode, s.password.unwrap().reveal().as_str()), (TlsMode::Require, "p"));
        let s = resolve("", &[]);
        assert_eq!((s.user.as_str(), s.database.as_str(), s.tls.mode), ("login", "login", TlsMode::Prefer));
        assert!(SOCKET_DIRECTORIES.contains(&s.hosts[0].0.as_str()));
    }

    #[test]
    fn what_can_not_be_used_is_named_and_no_secret_shown() {
        for (text, part) in [
            ("postgresql://u:hunter2@h/d?sslmod=require", "\"sslmod\""),
            ("postgresql://u:hunter2@h:x/d", "port"),
            ("host=h sslmode=hunter3 password=hunter2", "verify-full"),
            ("host=h password=hunter2 connect_timeout=soon", "connect_timeout"),
            ("user=u hunter2", "key=value"),
            ("password='hunter2", "does not end"),
            ("host=a,b,c port=1,2 password=hunter2", "3 database hosts but 2 ports"),
        ] {
            let message = try_resolve(text, &[]).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("hunter2"), "{message}");
        }
        assert!(!format!("{:?}", resolve("host=h password=hunter2", &[])).contains("hunter2"));
    }
}
