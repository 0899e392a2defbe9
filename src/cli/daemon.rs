//! From the command line to a running daemon: everything that must happen before there is a runtime.
//!
//! The order is the point. What may fail comes before the background, so that it is seen on the terminal and in
//! the exit code; the pid file is locked as root, since its folder may be root's; rights are given up before
//! the first byte of an alert is read.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use super::nav::Overrides;
use super::{Globals, Stop, unusable};
use crate::config::{self, Config, Env, Faults, Loaded};
use crate::os::{PidFile, PidFileError, User, daemonize, privileges};

/// What the daemon gets to run with.
pub struct Setup {
    /// The configuration, with what the command line says instead.
    pub config: Config,
    /// What is odd about it; already shown on stderr.
    pub warnings: Faults,
    /// The environment.
    pub env: Env,
    /// In the foreground: the log goes to stderr.
    pub foreground: bool,
    /// Names the lock on the pid file (`queue::Instance::lock`).
    pub lock: String,
    /// Reads the same files again, with the same overrides (SIGHUP).
    pub reload: Box<dyn Fn() -> Result<Loaded, Faults> + Send + Sync>,
}

/// Starts the daemon; returns when it has stopped.
pub(crate) fn start(globals: &Globals, foreground: bool, overrides: Overrides) -> anyhow::Result<ExitCode> {
    let env = Env::from_process();
    // In the background the working directory is `/`.
    let explicit = globals.config.as_deref().map(std::path::absolute).transpose()?;
    let Loaded { mut config, warnings } = config::load(explicit.as_deref(), &env).map_err(unusable)?;
    let warnings = Faults(warnings);
    overrides.apply(&mut config.main);
    globals.warn(&warnings);

    let user = if privileges::is_root() { Some(User::find(config.username())?) } else { None };
    make_dirs(&config, &env, user.as_ref())?;
    let mut pidfile = lock(&config.pid_file(&env))?;
    if let Some(user) = &user {
        pidfile.give_to(user.uid, user.gid)?;
        user.become_it()?;
    }
    if !foreground {
        daemonize().context("can not go to the background; try -f")?;
        pidfile.write_pid()?;
    }

    let reload = {
        let env = env.clone();
        Box::new(move || {
            let mut loaded = config::load(explicit.as_deref(), &env)?;
            overrides.apply(&mut loaded.config.main);
            Ok(loaded)
        })
    };
    let setup = Setup { config, warnings, env, foreground, lock: pidfile.lock_identity()?, reload };
    let code = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime: the system gives no more threads or descriptors")?
        .block_on(serve(setup));
    // The lock goes last: whoever gets it knows that nothing of us is left.
    drop(pidfile);
    code
}

/// The seam to the daemon itself.
async fn serve(setup: Setup) -> anyhow::Result<ExitCode> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let _ = setup;
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    Ok(ExitCode::SUCCESS)
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
