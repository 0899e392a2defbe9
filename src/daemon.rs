//! The daemon: the parts put together, signals, and a stop in two phases.
//!
//! Everything runs in one function, which returns when all is over; nothing is detached. What happens before
//! (arguments, pid file, privileges, background) is the command line's business.

mod admin;
mod around;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::compose::Shape;
use crate::config::{Config, DispatcherConfig, Main};
use crate::dispatch::{self, BuildError};
use crate::engine::guard::Keep;
use crate::engine::policy::Policy;
use crate::engine::{Command, Engine, Resources, Settings, Ways, WaysBox, core::Stop};
use crate::failover::WayConfig;
use crate::intake;
use crate::os::descriptors;
use crate::queue::Queue;
use crate::queue::mirror::Mirror;
use crate::standing::Standing;
use crate::telemetry::admin::Gravity;
use crate::telemetry::{Event, Hub, Sampler};
use crate::web::{Site, limits};

/// What the daemon is given by whoever starts it.
pub struct Setup {
    /// What to do.
    pub config: Config,
    /// The queue that `config` names.
    pub queue: Arc<dyn Queue>,
    /// What brings that queue together with one elsewhere.
    pub mirror: Option<Mirror>,
    /// Who we are, for people: `host pid`.
    pub name: String,
    /// What proves that our predecessors are dead ([`crate::queue::Instance::lock`]).
    pub lock: String,
    /// How many files and connections we may have open at once.
    pub descriptors: u64,
    /// What the storm guard remembers from one life to the next.
    pub keep: Box<dyn Keep>,
    /// A clock that goes on in suspend.
    pub boot_clock: Box<dyn Fn() -> Duration + Send>,
    /// Reads the configuration again; an error lists its faults.
    pub reload: Box<dyn FnMut() -> Result<Config, String> + Send>,
    /// Where our own commands reach us: a socket for our user alone.
    pub socket: Option<PathBuf>,
    /// Opens the log file again.
    pub reopen_log: Box<dyn FnMut() + Send>,
}

/// How the daemon ended when it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was on its way is settled or in doubt, and the lease given back.
    Well,
    /// At once, by a second signal: whoever comes next must find out that we are dead.
    AtOnce,
}

/// Why the daemon could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A dispatcher can not be built as configured.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The signals can not be waited for.
    #[error("signals can not be waited for: {0}")]
    Signals(#[from] std::io::Error),
    /// The policy says to stop.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

/// Runs the daemon until SIGTERM, SIGINT, or a reason of its own. A second signal ends the process at once.
///
/// # Errors
/// See [`DaemonError`]; everything unsent still waits in the queue.
pub async fn run(setup: Setup) -> Result<Ended, DaemonError> {
    let Setup {
        config,
        queue,
        mirror,
        name,
        lock,
        descriptors,
        keep,
        boot_clock,
        mut reload,
        mut reopen_log,
        socket,
    } = setup;
    let ways = build(&config, descriptors)?;
    let settings = settings(&config, &ways);
    let hub = Arc::new(Hub::new(lights(&config)));
    hub.mail_from(mailed(&config));
    let (desk, clerk) = intake::desk(Arc::clone(&queue));
    let (sampler, asker) = Sampler::new(Arc::clone(&queue));
    let names = names(&config);
    let kind = config.queue.kind.as_str();
    let (stand, standing) = watch::channel(Arc::new(Standing { config, ways: ways.clone() }));
    let site = Site { queue: Arc::clone(&queue), hub: Arc::clone(&hub), sampler, desk, standing, socket };
    let resources = Resources {
        queue,
        ways,
        name,
        lock,
        boot_clock,
        ids: Box::new(Uuid::now_v7),
        keep,
        seed: fastrand::u64(..),
        events: {
            let hub = Arc::clone(&hub);
            Box::new(move |event| hub.tell(event))
        },
    };
    let (stop, mut signals) = (CancellationToken::new(), Signals::new()?);
    let (commands, inbox) = mpsc::channel(1);
    tracing::info!(queue = kind, dispatchers = names, "smsd {} started", crate::VERSION);

    let engine = Engine::new(settings, resources).run(stop.clone(), inbox);
    let work = work(engine, mirror, |over| around::run(site, clerk, asker, over));
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return Ok(result.map(|()| Ended::Well)?),
            signal = signals.next() => match signal {
                Asked::Stop if stop.is_cancelled() => {
                    tracing::warn!("a second signal: leaving at once; what is on its way comes into doubt");
                    return Ok(Ended::AtOnce);
                }
                Asked::Stop => stop.cancel(),
                Asked::Reload => {
                    reopen_log();
                    match reload().and_then(|config| Ok((build(&config, descriptors).map_err(|e| e.to_string())?, config))) {
                        // One that is not yet read is replaced by nothing newer: the next SIGHUP says it again.
                        Ok((ways, config)) => if let Ok(place) = commands.try_reserve() {
                            hub.use_dispatchers(lights(&config));
                            hub.mail_from(mailed(&config));
                            place.send(Command::Reconfigure(Box::new(self::settings(&config, &ways)), WaysBox(ways.clone())));
                            stand.send_replace(Arc::new(Standing { config, ways }));
                        },
                        Err(faults) => hub.tell(Event::ReloadRefused { faults }),
                    }
                }
            }
        }
    }
}

/// The engine, and beside it what brings its queue together with one elsewhere, and what stands around. Both go on until
/// the engine has ended, so that they can tell how the last alerts did.
pub(crate) async fn work<T, A: Future<Output = ()>>(
    engine: impl Future<Output = T>,
    mirror: Option<Mirror>,
    around: impl FnOnce(CancellationToken) -> A,
) -> T {
    let settled = CancellationToken::new();
    let engine = async {
        let result = engine.await;
        settled.cancel();
        result
    };
    let mirroring = async {
        if let Some(mirror) = mirror {
            mirror.run(settled.clone()).await;
        }
    };
    tokio::join!(engine, mirroring, around(settled.clone())).0
}

/// The dispatchers, built, in order of priority, with what the engine needs to know of each.
///
/// # Errors
/// The first that can not be built as configured.
pub fn build_ways(config: &Config) -> Result<Ways, BuildError> {
    let way = |d: &DispatcherConfig| Ok((way_config(d, &config.main), dispatch::build(d, &config.main)?));
    config.dispatchers.iter().map(way).collect()
}

/// What the engine works by. An SMS is composed for the narrowest of the dispatchers, so that a failover does not
/// change what it says.
pub fn settings(config: &Config, ways: &Ways) -> Settings {
    let main = &config.main;
    let narrowest = ways.iter().filter_map(|(_, d)| d.limits().max_segments).min().unwrap_or(u8::MAX);
    Settings {
        policy: Policy::new(main),
        shape: Shape { max_segments: main.max_segments.min(narrowest).max(1), ..Shape::of(main) },
        poll_interval: config.queue.poll_interval,
        autocancel: main.autocancel.clone(),
        shutdown_timeout: main.shutdown_timeout,
    }
}

/// As many ways as [`build_ways`], within what the process may open.
fn build(config: &Config, descriptors: u64) -> Result<Ways, BuildError> {
    let connections = limits::connections(&config.http, descriptors);
    Ok(within_descriptors(build_ways(config)?, descriptors.saturating_sub(connections as u64)))
}

/// No more submits at once than there can be connections: one that finds no descriptor would count as its dispatcher's
/// failure.
fn within_descriptors(mut ways: Ways, descriptors: u64) -> Ways {
    let wanted: usize = ways.iter().map(|(way, _)| way.concurrency).sum();
    let needed = descriptors::OURS.saturating_add(wanted as u64);
    if needed > descriptors {
        let share = descriptors::share(descriptors, ways.len());
        for (way, _) in &mut ways {
            way.concurrency = way.concurrency.min(share);
        }
        tracing::warn!(
            "{needed} descriptors may be needed and {descriptors} are allowed: at most {share} SMS at once by each \
             dispatcher; raise the limit (ulimit -n, LimitNOFILE=) or lower `concurrency`"
        );
    }
    ways
}

fn way_config(d: &DispatcherConfig, main: &Main) -> WayConfig {
    WayConfig {
        name: d.name.as_str().into(),
        concurrency: d.concurrency(main),
        rate: d.rate,
        timeout: d.timeout.unwrap_or(main.submit_timeout),
        grace: d.grace.unwrap_or_else(|| d.kind.grace()),
        remembers: d.kind.remembers(),
    }
}

/// The dispatchers' names and types.
fn lights(config: &Config) -> Vec<(Arc<str>, &'static str)> {
    config.dispatchers.iter().map(|d| (d.name.as_str().into(), d.kind.as_str())).collect()
}

/// From what gravity on the admin is mailed.
fn mailed(config: &Config) -> Option<Gravity> {
    config.admin_mail().ok().flatten().map(|mail| mail.level)
}

fn names(config: &Config) -> String {
    config.dispatchers.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(",")
}

struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

enum Asked {
    Stop,
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop,
            _ = self.int.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
        }
    }
}
