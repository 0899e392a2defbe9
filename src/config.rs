//! Configuration, parsed into types that can not be wrong.
//!
//! `smsd.conf` in the dialect of Python's `RawConfigParser`, NAV's `db.conf` and `nav.conf` beside it. Every
//! fault is collected, with file and line, before anything is refused. Defaults stand here and nowhere else.
//!
//! [`load()`] is the way in. It only reads: it makes no directory, opens no connection and looks up no user, so
//! that `smsd check` can run anywhere.

mod load;
pub mod secret;
pub mod env;
pub mod fault;
pub mod ini;
mod smsd_conf;
pub mod http;
mod webhooks;
mod dispatchers;
mod smtp;
mod spool;
mod nav;
mod section;
mod value;
mod age;
mod source;
mod keys;
pub(crate) mod example;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

pub use env::Env;
pub use fault::{Fault, Faults, Severity};
pub use http::{HttpConfig, Listen, TlsFiles, Token};
pub use load::{Loaded, load};
pub use secret::Secret;
pub use smtp::{Network, SmtpConfig, TextOf};
pub use spool::SpoolConfig;

use crate::alert::Phone;
use crate::dispatch::smtp::Tls;
use crate::dispatch::{self, boost, debug, exec, gammu, http_get, mail, python};
use crate::intake::{alertmanager, grafana, hook, notification};
use crate::queue::Age;
use crate::queue::mirror::PythonClass;
pub use crate::sms::transliterate::Transliterate;
use crate::telemetry::admin::Gravity;

/// All that the configuration says.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[main]`.
    pub main: Main,
    /// `[queue]`.
    pub queue: QueueConfig,
    /// The dispatchers in order of priority, disabled ones left out.
    pub dispatchers: Vec<DispatcherConfig>,
    /// What `nav.conf` says.
    pub nav: NavConf,
    /// `[groups]`: name → numbers.
    pub groups: BTreeMap<String, Vec<Phone>>,
    /// `[http]`.
    pub http: HttpConfig,
    /// `[spool]`, if it has a folder.
    pub spool: Option<SpoolConfig>,
    /// `[smtp]`, if it listens.
    pub smtp: Option<SmtpConfig>,
    /// `[alertmanager]`.
    pub alertmanager: notification::Settings,
    /// `[grafana]`.
    pub grafana: notification::Settings,
    /// `[webhook.NAME]`, by name.
    pub webhooks: BTreeMap<String, hook::Settings>,
    /// Where secrets may stand, whether one stands there or not: the section (or NAV's file) and the key, `*` for any
    /// name. It is made by the reading itself, so that a test that puts a secret into each place forgets none.
    pub secret_keys: BTreeSet<(String, String)>,
    /// The files that were read, in order; the first is smsd.conf, if there is one.
    pub files: Vec<PathBuf>,
}

impl Config {
    /// What holds without any file: the embedded queue and the DebugDispatcher.
    pub fn embedded() -> Config {
        Config {
            main: Main::embedded(),
            queue: QueueConfig::default(),
            dispatchers: vec![DispatcherConfig::new(
                "DebugDispatcher",
                DispatcherKind::Debug(debug::Settings::default()),
            )],
            nav: NavConf::default(),
            groups: BTreeMap::new(),
            http: HttpConfig::default(),
            spool: None,
            smtp: None,
            alertmanager: notification::Settings::new(alertmanager::REMEMBER),
            grafana: notification::Settings::new(grafana::REMEMBER),
            webhooks: BTreeMap::new(),
            secret_keys: BTreeSet::new(),
            files: Vec::new(),
        }
    }

    /// The user to become when started as root: `username`, else `NAV_USER`, else `navcron`.
    pub fn username(&self) -> &str {
        self.main.username.as_deref().or(self.nav.nav_user.as_deref()).unwrap_or("navcron")
    }

    /// What is mailed to the admin, and how: `[main]`, else `nav.conf`, else NAV's defaults.
    pub fn mail(&self) -> MailConfig {
        let (mail, nav) = (&self.main.mail, &self.nav);
        let or = |own: &Option<String>, navs: &Option<String>| own.clone().or_else(|| navs.clone());
        MailConfig {
            level: mail.level.clone().or_else(|| Some("ERROR".to_owned())),
            server: or(&mail.server, &nav.email_host).or_else(|| Some("localhost".to_owned())),
            to: or(&mail.to, &nav.admin_mail),
            from: or(&mail.from, &nav.default_from_email),
        }
    }

    /// Who is mailed what, and through which server; `None`: nobody. User, password, port and encryption of nav.conf are
    /// those of its own server, and go to no other.
    ///
    /// # Errors
    /// Why nobody can be mailed: an address of nav.conf that is none.
    pub fn admin_mail(&self) -> Result<Option<AdminMail>, String> {
        let (mail, nav) = (self.mail(), &self.nav);
        let Some(to) = &mail.to else { return Ok(None) };
        let addresses = to.split([',', '\n']).map(str::trim).filter(|one| !one.is_empty());
        let to = addresses
            .map(|one| mail::address(one).map(str::to_owned).ok_or_else(|| one.to_owned()))
            .collect::<Result<Vec<_>, String>>();
        let to = to.map_err(|one| format!("ADMIN_MAIL: {:?} is no mail address", value::clipped(&one)))?;
        if to.is_empty() {
            return Ok(None);
        }
        if let Some(from) = mail.from.as_deref().filter(|from| mail::address(from).is_none()) {
            return Err(format!("DEFAULT_FROM_EMAIL: {:?} is no mail address", value::clipped(from)));
        }
        let mut relay = mail::relay::Settings { fromaddr: mail.from, ..Default::default() };
        match (&self.main.mail.server, &nav.email_host) {
            (Some(server), _) => relay.server = dispatchers::mail::server(server).ok(),
            (None, Some(host)) => {
                relay.server = Some((host.clone(), nav.email_port));
                relay.tls = nav.email_use_tls.then_some(Tls::StartTls);
                relay.username.clone_from(&nav.email_host_user);
                relay.password.clone_from(&nav.email_host_password);
            }
            (None, None) => {}
        }
        let level = mail.level.unwrap_or_default();
        let level = Gravity::ALL.into_iter().find(|gravity| gravity.as_str() == level);
        Ok(Some(AdminMail { level: level.unwrap_or(Gravity::Error), to, relay }))
    }

    /// Where the pid file goes: `PID_DIR` of nav.conf, else `$RUNTIME_DIRECTORY`, else `/run/smsd` for root, else
    /// the state directory.
    pub fn pid_file(&self, env: &Env) -> PathBuf {
        let system = || env.root.then(|| env.system.join("run/smsd"));
        let dir =
            self.nav.pid_dir.clone().or_else(|| env.path("RUNTIME_DIRECTORY").map(first_dir)).or_else(system);
        dir.unwrap_or_else(|| self.state_dir(env)).join("smsd.pid")
    }

    /// Where the log of the background daemon goes: `log_file`, else `LOG_DIR` of nav.conf. In the foreground only
    /// `main.log_file` counts, else stderr.
    pub fn log_file(&self) -> Option<PathBuf> {
        self.main.log_file.clone().or_else(|| self.nav.log_dir.as_ref().map(|d| d.join("smsd.log")))
    }

    /// Where the embedded queue is: `state_dir`, else `$SMSD_STATE_DIR`, `$STATE_DIRECTORY`, `/var/lib/smsd` for
    /// root and whoever may write there, else `~/.local/state/smsd`. It need not exist.
    pub fn state_dir(&self, env: &Env) -> PathBuf {
        let configured = self.main.state_dir.clone().or_else(|| env.path("SMSD_STATE_DIR"));
        configured.or_else(|| env.path("STATE_DIRECTORY").map(first_dir)).unwrap_or_else(|| {
            let system = env.system.join("var/lib/smsd");
            let ours = env.root || nix::unistd::access(&system, nix::unistd::AccessFlags::W_OK).is_ok();
            match &env.home {
                Some(home) if !ours => home.join(".local/state/smsd"),
                _ => system,
            }
        })
    }
}

/// `[main]`. Durations are as documented in the reference; all defaults are in `Default`.
#[derive(Clone, Debug)]
pub struct Main {
    /// User to become when started as root.
    pub username: Option<String>,
    /// Time between full looks at the queue.
    pub delay: Duration,
    /// Growth of the back-off per failed attempt; at least 1.
    pub delayfactor: f64,
    /// Bound of the back-off.
    pub maxdelay: Duration,
    /// Failed attempts of a recipient's alerts before `retrylimitaction`; 0 = never.
    pub retrylimit: u32,
    /// What happens then.
    pub retrylimitaction: LimitAction,
    /// Exit 1 when every dispatcher is misconfigured.
    pub exit_on_permanent_error: bool,
    /// Age past which a waiting alert is ignored; `None` = off.
    pub autocancel: Option<Age>,
    /// Admin mail (what is mailed, and how).
    pub mail: MailConfig,
    /// Least time between two SMS to one recipient; `None` = `delay`.
    pub group_interval: Option<Duration>,
    /// Time to collect before the first SMS to an idle recipient.
    pub group_wait: Duration,
    /// Alerts this severe or more do not wait; 0 = none.
    pub urgent_severity: i32,
    /// Segments of one SMS at most.
    pub max_segments: u8,
    /// How several alerts become one SMS.
    pub compose: Style,
    /// What becomes of alerts that do not fit.
    pub overflow: Overflow,
    /// With [`Overflow::Severe`], alerts this severe or more are never only counted; 0 = none.
    pub severe: i32,
    /// So many SMS of a storm at most leave severe alerts for the next.
    pub severe_sms: u32,
    /// Where people read what an SMS only counts: what it says after `see`.
    pub web_address: String,
    /// Which encodings may be used.
    pub encoding: EncodingChoice,
    /// What may be replaced to save segments.
    pub transliterate: Transliterate,
    /// Put before each SMS.
    pub prefix: String,
    /// What becomes of attempts in doubt.
    pub on_unknown: OnUnknown,
    /// Submits at once per dispatcher.
    pub concurrency: u32,
    /// Longest time for one submit.
    pub submit_timeout: Duration,
    /// Number prefixes that may be texted; empty = all.
    pub allow: Vec<String>,
    /// Number prefixes that may not be texted.
    pub deny: Vec<String>,
    /// SMS to one number within an hour at most; what is more waits. 0 = no bound.
    pub max_per_hour: u32,
    /// MiB of memory for what comes from outside and waits, by smsd's own account: texts, bodies, answers.
    pub memory: usize,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: LogLevel,
    /// Form of a log line.
    pub log_format: LogFormat,
    /// The text of each SMS is logged, at `debug`.
    pub log_texts: bool,
    /// Where the log goes; `None`: stderr in the foreground, `LOG_DIR/smsd.log` in the background.
    pub log_file: Option<PathBuf>,
    /// Embedded queue and what must survive a restart.
    pub state_dir: Option<PathBuf>,
    /// How long a stop waits for what is in flight.
    pub shutdown_timeout: Duration,
}

impl Main {
    /// Least time between two SMS to one recipient.
    pub fn group_interval(&self) -> Duration {
        self.group_interval.unwrap_or(self.delay)
    }
}

impl Default for Main {
    fn default() -> Self {
        Main {
            username: None,
            delay: Duration::from_secs(30),
            delayfactor: 1.5,
            maxdelay: Duration::from_secs(3600),
            retrylimit: 5,
            retrylimitaction: LimitAction::Ignore,
            exit_on_permanent_error: true,
            autocancel: None,
            mail: MailConfig::default(),
            group_interval: None,
            group_wait: Duration::ZERO,
            urgent_severity: 0,
            max_segments: 1,
            compose: Style::Nav,
            overflow: Overflow::Ignore,
            severe: 2,
            severe_sms: 5,
            web_address: "web".to_owned(),
            encoding: EncodingChoice::Auto,
            transliterate: Transliterate::Punctuation,
            prefix: String::new(),
            on_unknown: OnUnknown::Resend,
            concurrency: 16,
            submit_timeout: Duration::from_secs(30),
            allow: Vec::new(),
            deny: Vec::new(),
            max_per_hour: 0,
            memory: 256,
            log_level: LogLevel::Info,
            log_format: LogFormat::Auto,
            log_texts: false,
            log_file: None,
            state_dir: None,
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

impl Main {
    /// How `memory` is shared out: a quarter for the texts that the engine knows, an eighth for answers that are not read yet,
    /// and a sixteenth each for bodies and for what waits to be queued. The rest is room for what is made of them.
    pub fn memory(&self, of: Memory) -> usize {
        let part = match of {
            Memory::Texts => 4,
            Memory::Answers => 8,
            Memory::Bodies | Memory::HandedIn => 16,
        };
        self.memory.saturating_mul(1 << 20) / part
    }

    /// As without keys where the queue is not NAV's, and many may write for one phone: nothing severe is only counted,
    /// and rather each alert is shortened.
    pub fn embedded() -> Main {
        Main { compose: Style::Digest, overflow: Overflow::Severe, ..Main::default() }
    }
}

/// What takes memory that others choose the size of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Texts of alerts that wait.
    Texts,
    /// Answers over HTTP that are not read yet.
    Answers,
    /// Bodies of requests.
    Bodies,
    /// Submissions that wait to be queued.
    HandedIn,
}

/// What happens to a recipient's alerts at the retry limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// That recipient's failed alerts are ignored.
    Ignore,
    /// The daemon stops with everything still waiting.
    Shutdown,
}

/// How several alerts become one SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// NAV's: the first alerts whole, the others counted.
    Nav,
    /// As many alerts as can be told, shortened if need be.
    Digest,
}

/// What becomes of alerts that do not fit the SMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// They are counted (`+N see web.`) and ignored.
    Ignore,
    /// Those that are severe wait for the next SMS, for the first SMS of a storm; the others are counted and ignored.
    Severe,
    /// They wait for the next SMS.
    Next,
}

/// Which encodings may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingChoice {
    /// The one with the fewest segments.
    Auto,
    /// GSM 03.38 only; what it lacks is replaced.
    Gsm7,
    /// UCS-2 always.
    Ucs2,
}

/// What becomes of an attempt in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// Resent after the dispatcher's grace.
    Resend,
    /// Resent at once by the next dispatcher.
    Failover,
    /// Waits for a person.
    Hold,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may.
    Warn,
    /// One line per SMS and change of state.
    Info,
    /// Each step.
    Debug,
    /// Everything.
    Trace,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The journal's own fields where standard error is the journal, else as `Text`.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is mailed to the admin, and how. [`Config::mail`] fills in what is not set.
#[derive(Clone, Debug, Default)]
pub struct MailConfig {
    /// `mailwarnlevel`: what is at least this grave is mailed; NAV's names (`ERROR`, `CRITICAL`, …).
    pub level: Option<String>,
    /// `mailserver`.
    pub server: Option<String>,
    /// `mailaddr`.
    pub to: Option<String>,
    /// `fromaddr`.
    pub from: Option<String>,
}

/// Who is mailed what, and how.
#[derive(Clone, Debug)]
pub struct AdminMail {
    /// What is at least so grave is mailed.
    pub level: Gravity,
    /// To these addresses.
    pub to: Vec<String>,
    /// Through this server.
    pub relay: mail::relay::Settings,
}

/// `[queue]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// Which queue, and where.
    pub kind: QueueKind,
    /// Create the ledger's schema at start.
    pub setup: bool,
    /// Time between looks for new rows.
    pub poll_interval: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            kind: QueueKind::Sqlite { path: None },
            setup: true,
            poll_interval: Duration::from_millis(250),
        }
    }
}

/// Which queue, and where.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueKind {
    /// NAV's table in PostgreSQL.
    NavDb(PostgresTarget),
    /// The embedded queue.
    Sqlite {
        /// The file; `None`: `queue.db` in the state directory.
        path: Option<PathBuf>,
    },
    /// A queue class in Python with the interface of NAV's, mirrored in an embedded queue.
    Python {
        /// The class.
        class: PythonClass,
        /// The file of the embedded queue; `None`: `queue.db` in the state directory.
        path: Option<PathBuf>,
        /// Time between looks into the class's queue.
        look_interval: Duration,
    },
}

impl QueueKind {
    /// True where NAV writes what is sent, and people know its SMS.
    pub fn is_navs(&self) -> bool {
        matches!(self, QueueKind::NavDb(_) | QueueKind::Python { .. })
    }

    /// The word for `type:`.
    pub fn as_str(&self) -> &'static str {
        match self {
            QueueKind::NavDb(_) => "NAVDBQueue",
            QueueKind::Sqlite { .. } => "SqliteQueue",
            QueueKind::Python { .. } => "PythonQueue",
        }
    }
}

/// Where a PostgreSQL database is. What is `None` comes from the `PG*` environment, `.pgpass` and libpq's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostgresTarget {
    /// `url`: `postgresql://…` or `host=… dbname=…`; wins over the rest.
    pub url: Option<Secret<String>>,
    /// Host name, address, or directory of the Unix socket.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Database.
    pub database: Option<String>,
    /// Role.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret<String>>,
    /// The time zone of the local times in NAV's table; `None`: the database's own.
    pub time_zone: Option<String>,
}

/// What `nav.conf` says that concerns us.
#[derive(Clone, Debug, Default)]
pub struct NavConf {
    /// `TIME_ZONE`.
    pub time_zone: Option<String>,
    /// `NAV_USER`.
    pub nav_user: Option<String>,
    /// `PID_DIR`.
    pub pid_dir: Option<PathBuf>,
    /// `LOG_DIR`.
    pub log_dir: Option<PathBuf>,
    /// `ADMIN_MAIL`.
    pub admin_mail: Option<String>,
    /// `DEFAULT_FROM_EMAIL`.
    pub default_from_email: Option<String>,
    /// `EMAIL_HOST`.
    pub email_host: Option<String>,
    /// `EMAIL_PORT`.
    pub email_port: Option<u16>,
    /// `EMAIL_HOST_USER`.
    pub email_host_user: Option<String>,
    /// `EMAIL_HOST_PASSWORD`.
    pub email_host_password: Option<Secret<String>>,
    /// `EMAIL_USE_TLS`.
    pub email_use_tls: bool,
}

/// One configured way out.
///
/// Two are equal if they would be built alike: what a reload finds equal stays as it is, with its connections and
/// children. Files that a key names count by what they hold.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatcherConfig {
    /// Its name: that of its section.
    pub name: String,
    /// Its type with that type's own keys.
    pub kind: DispatcherKind,
    /// Submits at once; `None`: the type's own, else `[main]`'s.
    pub concurrency: Option<u32>,
    /// Submits per second at most.
    pub rate: Option<f64>,
    /// Longest time for one submit; `None`: `[main]`'s.
    pub timeout: Option<Duration>,
    /// How long an attempt stays in doubt before it is resent; `None`: the type's own.
    pub grace: Option<Duration>,
    /// Segments at most.
    pub max_segments: Option<u8>,
    /// Time between probes while it is up; `None`: none.
    pub probe_interval: Option<Duration>,
    /// `class.CODE: CLASS`: code, in lower case like every key → what it means.
    pub classes: BTreeMap<String, crate::dispatch::status::Status>,
    /// What files hold that are read only when it is built: SHA-256, or `None` of one that can not be read.
    pub files: BTreeMap<PathBuf, Option<[u8; 32]>>,
}

impl DispatcherConfig {
    /// One with the common keys at their defaults.
    pub fn new(name: impl Into<String>, kind: DispatcherKind) -> DispatcherConfig {
        DispatcherConfig {
            name: name.into(),
            kind,
            concurrency: None,
            rate: None,
            timeout: None,
            grace: None,
            max_segments: None,
            probe_interval: None,
            classes: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// Submits at once: the section's, else the type's own, else `[main]`'s; at least 1.
    pub fn concurrency(&self, main: &Main) -> usize {
        self.concurrency.or_else(|| self.kind.concurrency()).unwrap_or(main.concurrency).max(1) as usize
    }
}

/// The types of dispatchers that this program has, with their keys.
#[derive(Clone, Debug, PartialEq)]
pub enum DispatcherKind {
    /// Sends nowhere; for tests and demonstrations.
    Debug(debug::Settings),
    /// GET on a URL.
    HttpGet(http_get::Settings),
    /// A phone or modem through Gammu.
    Gammu(gammu::Settings),
    /// A call of a SOAP service.
    Boost(boost::Settings),
    /// A mail to a gateway.
    Mail(mail::Settings),
    /// Any HTTP gateway.
    Http(Box<dispatch::http::Settings>),
    /// A program of the site's own.
    Exec(exec::Settings),
    /// A dispatcher class of NAV's smsd.
    Python(python::Settings),
}

impl DispatcherKind {
    /// The word for `type:`.
    pub fn as_str(&self) -> &'static str {
        match self {
            DispatcherKind::Debug(_) => "DebugDispatcher",
            DispatcherKind::HttpGet(_) => "HttpGetDispatcher",
            DispatcherKind::Gammu(_) => "GammuDispatcher",
            DispatcherKind::Boost(_) => "BoostDispatcher",
            DispatcherKind::Mail(_) => "UninettMailDispatcher",
            DispatcherKind::Http(_) => "HttpDispatcher",
            DispatcherKind::Exec(_) => "ExecDispatcher",
            DispatcherKind::Python(_) => "PythonDispatcher",
        }
    }

    /// How long an attempt in doubt waits for a late answer, where the section says nothing: DESIGN 8.
    pub fn grace(&self) -> Duration {
        match self {
            DispatcherKind::Mail(_) => Duration::ZERO,
            _ => Duration::from_secs(30),
        }
    }

    /// For how long its gateway does not send an SMS again under the same key.
    pub fn remembers(&self) -> Duration {
        match self {
            DispatcherKind::Http(settings) => settings.remembers,
            _ => Duration::ZERO,
        }
    }

    /// Submits at once, where the type has a bound of its own that no section but its own changes.
    pub fn concurrency(&self) -> Option<u32> {
        match self {
            // A phone sends one at a time; NAV calls its classes one SMS after the other, and few bear more.
            DispatcherKind::Gammu(_) | DispatcherKind::Python(_) => Some(1),
            _ => None,
        }
    }
}

/// The words for `type:` in the section of a dispatcher.
pub fn dispatcher_types() -> impl Iterator<Item = &'static str> {
    dispatchers::built_types()
}

/// systemd puts a colon between several directories.
fn first_dir(dirs: PathBuf) -> PathBuf {
    dirs.to_str().and_then(|d| d.split(':').next()).map(PathBuf::from).unwrap_or(dirs)
}
