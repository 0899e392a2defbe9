//! From the command line to a running daemon: everything that must happen before there is a runtime.
//!
//! The order is the point. What may fail comes before the background, so that it is seen on the terminal and in
//! the exit code; the pid file is locked as root, since its folder may be root's; rights are given up before
//! the first byte of an alert is read.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::nav::Overrides;
use super::{Globals, Stop, unusable};
use crate::config::{self, Config, Env, Faults, Loaded};
use crate::daemon::{self, Ended};
use crate::dispatch::mail::mark;
use crate::engine::guard::RecordFile;
use crate::os::descriptors::{self, OURS};
use crate::os::{BootTime, Inherited, Notify, PidFile, PidFileError, User, daemonize, privileges};
use crate::telemetry::log::{LOG_MODE, Log};

/// Starts the daemon; returns when it has stopped.
pub(crate) fn start(globals: &Globals, foreground: bool, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    let (inherited, odd) = Inherited::take();
    // In the background the working directory is `/`.
    let explicit = globals.config.as_deref().map(std::path::absolute).transpose()?;
    let load = move |env: &Env| {
        let mut loaded = config::load(explicit.as_deref(), env)?;
        overrides.apply(&mut loaded.config.main);
        Ok(loaded)
    };
    let Loaded { config, warnings } = load(&env).map_err(unusable)?;
    globals.warn(&Faults(warnings));

    let user = if privileges::is_root() { Some(User::find(config.username())?) } else { None };
    make_dirs(&config, &env, user.as_ref())?;
    let mut pidfile = lock(&config.pid_file(&env))?;
    if let Some(user) = &user {
        pidfile.give_to(user.uid, user.gid)?;
        user.become_it()?;
    } else {
        privileges::forswear()?;
    }
    let descriptors = descriptors::take_all().context("the limit of descriptors can not be asked for")?;
    if descriptors <= OURS {
        anyhow::bail!(
            "{descriptors} descriptors are allowed, and smsd needs more than {OURS}; raise the limit (ulimit -n, LimitNOFILE=)"
        );
    }
    // What the daemon is going to need, while there is a terminal to say that it can not be had.
    drop(daemon::build_ways(&config)?);
    let log = log_file(&config, &env, foreground);
    if let Some(path) = &log {
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(LOG_MODE)
            .open(path)
            .with_context(|| no_log(path))?;
    }
    if !foreground {
        daemonize().context("can not go to the background; try -f")?;
        pidfile.write_pid()?;
    }

    let lock = pidfile.lock_identity()?;
    let reload = {
        let env = env.clone();
        move || reloaded(load(&env))
    };
    let result = run(config, &env, log.as_deref(), lock, descriptors, (inherited, odd), reload);
    // The lock goes last: whoever gets it knows that nothing of us is left.
    match result {
        Ok(Ended::AtOnce) => pidfile.leave_behind(),
        _ => drop(pidfile),
    }
    result.map(|_| ExitCode::SUCCESS)
}

/// Builds the runtime and runs the daemon in it until it stops.
fn run(
    config: Config,
    env: &Env,
    log_file: Option<&Path>,
    lock: String,
    descriptors: u64,
    (inherited, odd): (Inherited, Vec<String>),
    reload: impl FnMut() -> Result<Config, String> + Send + 'static,
) -> anyhow::Result<Ended> {
    let log = Log::start(config.main.log_level, config.main.log_format, log_file)
        .with_context(|| no_log(log_file.unwrap_or(Path::new("stderr"))))?;
    odd.iter().for_each(|odd| tracing::warn!("{odd}"));
    mark::set(&nix::unistd::gethostname().unwrap_or_default().to_string_lossy(), &config.state_dir(env));
    // It outlives everything that may have something to say.
    let log = Arc::new(log);
    let reopened = Arc::clone(&log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime: the system gives no more threads or descriptors")?;
    let result = runtime.block_on(async {
        let opened = crate::queue::open(&config, env).await.context("the queue can not be opened")?;
        let pid_file = config.pid_file(env);
        let keep = Box::new(RecordFile::at(config.state_dir(env).join("guard")));
        let setup = daemon::Setup {
            config,
            keep,
            queue: opened.queue,
            mirror: opened.mirror,
            ballast: opened.ballast,
            name: name(),
            lock,
            descriptors,
            boot_clock: Box::new(BootTime::now),
            reload: Box::new(reload),
            notify: Notify::from_env(env).context("no socket to the service manager")?,
            inherited,
            socket: Some(pid_file.with_extension("sock")),
            reopen_log: Box::new(move || {
                if let Err(e) = reopened.reopen() {
                    tracing::warn!("the log file can not be opened anew, the old one stays in use: {e}");
                }
            }),
        };
        daemon::run(setup).await.context("smsd has stopped; everything unsent still waits")
    });
    // In the background nobody reads stderr.
    if let (Err(e), Some(_)) = (&result, log_file) {
        tracing::error!("{e:#}");
    }
    // Whatever blocks now is not worth waiting for: all that counts is settled, or in doubt.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(log);
    result
}

/// What a reload makes of the configuration: its warnings go to the log.
fn reloaded(loaded: Result<Loaded, Faults>) -> Result<Config, String> {
    let Loaded { config, warnings } = loaded.map_err(|faults| faults.to_string())?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

/// Where the log goes: where the configuration says; else to stderr in the foreground, and in the background, where
/// nobody reads that, into `LOG_DIR` of nav.conf or the state directory.
fn log_file(config: &Config, env: &Env, foreground: bool) -> Option<PathBuf> {
    if foreground {
        return config.main.log_file.clone();
    }
    Some(config.log_file().unwrap_or_else(|| config.state_dir(env).join("smsd.log")))
}

/// `host pid`, for people.
fn name() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("{} {}", host.to_string_lossy(), std::process::id())
}

fn no_log(path: &Path) -> String {
    format!("the log can not be written to {}; set `log_file` in [main]", path.display())
}

/// Makes the folders that the daemon writes into, for the user that it becomes.
pub(crate) fn make_dirs(config: &Config, env: &Env, user: Option<&User>) -> anyhow::Result<()> {
    let (state_dir, pid_file) = (config.state_dir(env), config.pid_file(env));
    for dir in [Some(&*state_dir), pid_file.parent()].into_iter().flatten() {
        let made = match user {
            Some(user) => user.make_dir(dir),
            None => std::fs::create_dir_all(dir),
        };
        made.with_context(|| {
            format!("can not make the folder {}; make it, or set `state_dir` in [main]", dir.display())
        })?;
    }
    Ok(())
}

fn lock(path: &Path) -> anyhow::Result<PidFile> {
    PidFile::lock(path).map_err(|e| match e {
        PidFileError::Held { .. } => {
            Stop::Running(format!("{e}; stop it first, or look at it with `smsd status`")).into()
        }
        other => other.into(),
    })
}
