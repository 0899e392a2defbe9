//! The command line: bare `smsd` is the daemon with NAV's flags, sub-commands are for people.
//!
//! One file per command. Records go to stdout, and with `--json` nothing else does; what is said to people goes
//! to stderr as `smsd: …`. Exit codes: 0 done, 1 failed, 2 usage, 3 another smsd is running, 4 configuration
//! unusable.

mod ask;
mod check;
pub mod compose;
mod daemon;
mod db;
mod dispatcher;
mod encode;
mod manual;
mod nav;
mod output;
mod queue;
mod send;
mod shape;
mod status;
mod story;
mod token;
mod watch;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Env, LogLevel};
use crate::os::{User, privileges};
use crate::queue::Queue;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version come this way too; a closed pipe is no error.
            let _ = e.print();
            return exit(e.exit_code().try_into().unwrap_or(2));
        }
    };
    cli.run().unwrap_or_else(|e| report(&e))
}

/// Gets alerts onto people's phones as SMS when everything else is down
///
/// Without a command, smsd is the daemon: it goes to the background, writes its pid file and drops privileges.
#[derive(Debug, Parser)]
#[command(name = "smsd", version, after_help = SEARCH_PATH, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(flatten)]
    nav: nav::Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Before or after a command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// Configuration file (else $SMSD_CONFIG, else the first smsd.conf found: see `smsd --help`)
    #[arg(short = 'C', long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read every configuration file and name each fault
    Check(check::Check),
    /// Queue an alert
    Send(send::Send),
    /// What waits, what was sent, and why
    #[command(subcommand)]
    Queue(queue::Command),
    /// All that happened to one alert (same as `queue show`)
    Why(story::Show),
    /// Compose SMS from lines of JSON, without any configuration
    Compose(shape::Compose),
    /// What a text on stdin becomes on its way to a phone: encoding, segments, PDUs
    Encode(encode::Encode),
    /// The ways out
    #[command(subcommand)]
    Dispatcher(dispatcher::Command),
    /// What runs, and how deep the queue is
    Status(status::Status),
    /// The ledger beside the alerts in the queue's database
    #[command(subcommand)]
    Db(db::Command),
    /// Who may ask over HTTP
    #[command(subcommand)]
    Token(token::Command),
    /// The whole thing on this machine, in a temporary folder: a storm of alerts, a gateway that fails on the way
    Demo,
    /// Completions for a shell, on stdout
    Completions(manual::Completions),
    /// The manual page, on stdout
    Man(manual::Man),
}

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        let Cli { globals, nav, command } = self;
        let Some(command) = command else { return nav.run(&globals) };
        if let Some(flag) = nav.given() {
            let message = format!("{flag} belongs to smsd without a command");
            return Err(Stop::Usage(message).into());
        }
        match command {
            Command::Check(c) => c.run(&globals),
            Command::Send(c) => c.run(&globals),
            Command::Queue(c) => c.run(&globals),
            Command::Why(c) => c.run(&globals),
            Command::Compose(c) => c.run(),
            Command::Encode(c) => c.run(),
            Command::Dispatcher(c) => c.run(&globals),
            Command::Status(c) => c.run(&globals),
            Command::Db(c) => c.run(&globals),
            Command::Token(c) => c.run(&globals),
            Command::Demo => block_on(crate::demo::run()),
            Command::Completions(c) => c.run(),
            Command::Man(c) => c.run(),
        }
    }
}

/// Why a command ends with another code than 0 or 1.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    /// 2: what was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// 3: another smsd is running.
    #[error("{0}")]
    Running(String),
    /// 4: the configuration can not be used. The text is all faults, rendered for people.
    #[error("{0}")]
    Config(String),
}

/// What a command works with.
pub(crate) struct Session {
    pub(crate) config: Config,
    pub(crate) env: Env,
    globals: Globals,
}

impl Session {
    /// Loads the configuration; what is odd about it is said on stderr.
    pub(crate) fn load(globals: &Globals) -> anyhow::Result<Session> {
        globals.log_to_stderr();
        let env = Env::from_process();
        let loaded = config::load(globals.config.as_deref(), &env).map_err(unusable)?;
        globals.hint_at(&config::Faults(loaded.warnings));
        Ok(Session { config: loaded.config, env, globals: globals.clone() })
    }

    /// The queue, opened as the user that the daemon is, so that no file of it becomes root's.
    pub(crate) async fn queue(&self) -> anyhow::Result<Arc<dyn Queue>> {
        Ok(self.open().await?.queue)
    }

    /// The same with its schema and type.
    pub(crate) async fn open(&self) -> anyhow::Result<crate::queue::Opened> {
        self.drop_root()?;
        crate::queue::open(&self.config, &self.env).await.context("the queue can not be opened")
    }

    /// A command that root starts does its work as the daemon's user. Root itself runs no program that a configuration names,
    /// and makes no file that the daemon could not read.
    pub(crate) fn drop_root(&self) -> anyhow::Result<()> {
        if !privileges::is_root() {
            return Ok(());
        }
        let user = User::find(self.config.username())?;
        daemon::make_dirs(&self.config, &self.env, Some(&user))?;
        Ok(user.become_it()?)
    }

    /// Says something to people, unless they asked for quiet.
    pub(crate) fn say(&self, text: std::fmt::Arguments<'_>) {
        self.globals.say(text);
    }
}

impl Globals {
    /// The level of the log that `-v` and `-q` ask for; `None` leaves it to the configuration.
    pub(crate) fn log_level(&self) -> Option<LogLevel> {
        match (self.quiet, self.verbose) {
            (true, _) => Some(LogLevel::Error),
            (_, 0) => None,
            (_, 1) => Some(LogLevel::Debug),
            _ => Some(LogLevel::Trace),
        }
    }

    /// Says something to people, unless they asked for quiet.
    pub(crate) fn say(&self, text: std::fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln_quietly(format_args!("smsd: {text}"));
        }
    }

    /// Says that something is odd about the configuration, and where that is told in full.
    pub(crate) fn hint_at(&self, warnings: &config::Faults) {
        match warnings.0.len() {
            0 => {}
            1 => self.say(format_args!("1 warning about the configuration: see `smsd check`")),
            n => self.say(format_args!("{n} warnings about the configuration: see `smsd check`")),
        }
    }

    /// Shows what is odd about the configuration.
    pub(crate) fn warn(&self, warnings: &config::Faults) {
        if !self.quiet && !warnings.0.is_empty() {
            eprintln_quietly(format_args!("{}\n", warnings.render(output::colour_on_stderr())));
        }
    }

    /// With `-v`, what the parts log comes to stderr.
    fn log_to_stderr(&self) {
        let level = match self.verbose {
            0 => return,
            1 => tracing::Level::DEBUG,
            _ => tracing::Level::TRACE,
        };
        // An error means that one is there already.
        let _ = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_writer(io::stderr)
            .with_ansi(output::colour_on_stderr())
            .try_init();
    }
}

/// Runs what a command does on one thread.
pub(crate) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime: the system gives no more threads or descriptors")?
        .block_on(work)
}

/// Faults of the configuration as the end of a command.
pub(crate) fn unusable(faults: config::Faults) -> Stop {
    let hint = "the configuration can not be used; mend the above, then try `smsd check`";
    Stop::Config(format!("{}\n\nsmsd: {hint}", faults.render(output::colour_on_stderr())))
}

/// Who asks, for the record of what people did to alerts.
pub(crate) fn login() -> String {
    let sudo = std::env::var("SUDO_USER").ok();
    let user = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|u| u.name);
    let mut name = sudo.or_else(user).unwrap_or_else(|| format!("uid {}", nix::unistd::getuid().as_raw()));
    crate::telemetry::clip(&mut name, 64);
    name
}

/// Failed, and said why.
pub(crate) const FAILED: u8 = 1;

/// An exit code that is not 0.
pub(crate) fn exit(code: u8) -> ExitCode {
    ExitCode::from(code)
}

const SEARCH_PATH: &str = "\
smsd.conf is looked for in: --config, $SMSD_CONFIG, then the folders $NAV_CONFIG_DIR, ~/.local/etc/nav,
~/.local/etc, ~/.config/nav, /etc/nav, /etc/smsd. With none found, alerts wait in an embedded queue and nothing
leaves this machine.

Try it: `smsd demo`. Check what you have: `smsd check --probe`.";

/// Says why a command ended, and with which code.
fn report(e: &anyhow::Error) -> ExitCode {
    let closed = |c: &(dyn std::error::Error + 'static)| {
        c.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if e.chain().any(closed) {
        return ExitCode::SUCCESS;
    }
    match e.downcast_ref::<Stop>() {
        Some(Stop::Usage(message)) => {
            eprintln_quietly(format_args!("smsd: {message}"));
            exit(2)
        }
        Some(Stop::Running(message)) => {
            eprintln_quietly(format_args!("smsd: {message}"));
            exit(3)
        }
        Some(Stop::Config(faults)) => {
            eprintln_quietly(format_args!("{faults}"));
            exit(4)
        }
        None => {
            last_words(format!("smsd: {e:#}\n"));
            exit(FAILED)
        }
    }
}

/// Says why we end. Whoever does not read it for seconds does not keep a daemon from ending.
fn last_words(text: String) {
    use io::Write;
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);
    let (done, said) = std::sync::mpsc::sync_channel(1);
    let say = move || {
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(say).is_ok() {
        let _ = said.recv_timeout(PATIENCE);
    }
}

/// `eprintln!` that does not mind a closed stderr.
pub(crate) fn eprintln_quietly(text: std::fmt::Arguments<'_>) {
    use io::Write;
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
