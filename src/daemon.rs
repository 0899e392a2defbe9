//! The daemon: the parts put together, signals, and a stop in two phases.
//!
//! Everything runs in one function, which returns when all is over; nothing is detached. What happens before
//! (arguments, pid file, privileges, background) is the command line's business.

mod admin;
mod around;
mod service;
mod ways;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::ways::{build_ways, settings};

use self::service::Service;
use self::ways::{Fixed, build};
use crate::config::{Config, Memory};
use crate::dispatch::BuildError;
use crate::engine::guard::Keep;
use crate::engine::{Command, Engine, Resources, Sizes, WaysBox, core::Stop};
use crate::intake;
use crate::os::{Inherited, Notify};
use crate::queue::Queue;
use crate::queue::mirror::Mirror;
use crate::queue::sqlite::{Ballast, Kept, Room};
use crate::standing::Standing;
use crate::telemetry::admin::Gravity;
use crate::telemetry::{Event, Hub, Sampler};
use crate::web::Site;

/// What the daemon is given by whoever starts it.
pub struct Setup {
    /// What to do.
    pub config: Config,
    /// The queue that `config` names.
    pub queue: Arc<dyn Queue>,
    /// What brings that queue together with one elsewhere.
    pub mirror: Option<Mirror>,
    /// The room that the embedded queue keeps for a full disk.
    pub ballast: Option<Arc<Ballast>>,
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
    /// The service manager, if one wants to hear of us.
    pub notify: Option<Notify>,
    /// Sockets that were opened for us.
    pub inherited: Inherited,
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
    /// The system gives no thread.
    #[error("the room for a full disk can not be watched: {0}; allow smsd more threads")]
    Ballast(std::io::Error),
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
        ballast,
        name,
        lock,
        descriptors,
        keep,
        boot_clock,
        mut reload,
        mut reopen_log,
        socket,
        notify,
        inherited,
    } = setup;
    let ways = build(&config, None, descriptors)?;
    let (settings, fixed) = (settings(&config, &ways), Fixed::of(&config));
    let service = Arc::new(Service::new(notify));
    let hub = Arc::new(Hub::new(lights(&config)));
    hub.mail_from(mailed(&config));
    let mirror = mirror.map(|mirror| {
        let hub = Arc::clone(&hub);
        mirror.telling(move |event| hub.tell(event))
    });
    let _kept = ballast.map(|ballast| keep_ballast(&ballast, &hub)).transpose()?;
    let (desk, clerk) = intake::desk_within(Arc::clone(&queue), config.main.memory(Memory::HandedIn));
    let sizes = Sizes { window_bytes: config.main.memory(Memory::Texts), ..Sizes::default() };
    let (sampler, asker) = Sampler::new(Arc::clone(&queue));
    let names = names(&config);
    let kind = config.queue.kind.as_str();
    let (stand, standing) = watch::channel(Arc::new(Standing { config, ways: ways.clone() }));
    let site = Site {
        queue: Arc::clone(&queue),
        hub: Arc::clone(&hub),
        sampler,
        desk,
        standing,
        socket,
        inherited: Arc::new(inherited),
    };
    let resources = Resources {
        queue,
        ways,
        name,
        lock,
        boot_clock,
        ids: Box::new(Uuid::now_v7),
        keep,
        sizes,
        seed: fastrand::u64(..),
        events: {
            let hub = Arc::clone(&hub);
            Box::new(move |event| hub.tell(event))
        },
    };
    let (stop, mut signals) = (CancellationToken::new(), Signals::new()?);
    let (commands, inbox) = mpsc::channel(1);
    tracing::info!(queue = kind, dispatchers = names, "smsd {} started", crate::VERSION);

    let engine = Engine::new(settings, resources);
    let told = (Arc::clone(&service), engine.pulse());
    let engine = engine.run(stop.clone(), inbox);
    let work = work(engine, mirror, |over| around::run(site, clerk, asker, told, over));
    tokio::pin!(work);
    let mut reload_asked = false;
    loop {
        tokio::select! {
            result = &mut work => return Ok(result.map(|()| Ended::Well)?),
            signal = signals.next() => match signal {
                Asked::Stop if stop.is_cancelled() => {
                    tracing::warn!("a second signal: leaving at once; what is on its way comes into doubt");
                    return Ok(Ended::AtOnce);
                }
                Asked::Stop => {
                    service.stopping(stand.borrow().config.main.shutdown_timeout);
                    stop.cancel();
                }
                Asked::Reload => reload_asked = true,
            },
            // When the engine has read the last one: the newest is never left unread.
            Ok(place) = commands.reserve(), if reload_asked => {
                reload_asked = false;
                service.reloading();
                reopen_log();
                let before = Arc::clone(&stand.borrow());
                let built = reload().and_then(|config| {
                    let ways = build(&config, Some(&before), descriptors).map_err(|e| e.to_string())?;
                    Ok((config, ways))
                });
                let refused = built.is_err();
                match built {
                    Ok((config, ways)) => {
                        let stays = fixed.differs(&config);
                        if !stays.is_empty() {
                            tracing::warn!("{} changed, which takes a restart; until then the old holds", stays.join(", "));
                        }
                        hub.use_dispatchers(lights(&config));
                        hub.mail_from(mailed(&config));
                        let settings = self::settings(&config, &ways);
                        place.send(Command::Reconfigure(Box::new(settings), WaysBox(ways.clone())));
                        stand.send_replace(Arc::new(Standing { config, ways }));
                    }
                    Err(faults) => hub.tell(Event::ReloadRefused { faults }),
                }
                service.reloaded(refused);
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

/// Keeps the ballast for as long as the guard lives.
fn keep_ballast(ballast: &Arc<Ballast>, hub: &Arc<Hub>) -> Result<Kept, DaemonError> {
    let hub = Arc::clone(hub);
    let kept = ballast.keep(move |room| {
        hub.tell(match room {
            Room::Full { place } => Event::DiskFull { place: place.display().to_string() },
            Room::Again => Event::DiskRoom,
        });
    });
    kept.map_err(DaemonError::Ballast)
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
