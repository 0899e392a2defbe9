//! smsd inside another program, which may bring ways out and a queue of its own.
//!
//! It is the daemon's engine without the process around it: no pid file, signals, reload or log file. Events go to
//! `tracing`, and whoever runs it says when it stops. `docs/own-dispatcher.md` and `docs/own-queue.md` are about the parts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Config, Env, Memory};
use crate::daemon::{build_ways, settings, work};
use crate::dispatch::{BuildError, Dispatcher};
use crate::engine::core::Stop;
use crate::engine::guard::{Keep, KeepNothing, RecordFile};
use crate::engine::{Engine, Resources, Sizes, Ways};
use crate::failover::WayConfig;
use crate::os::BootTime;
use crate::queue::{self, Queue, QueueError};

/// What smsd is put together from: what the configuration says, and what else is brought.
///
/// ```
/// # async fn example(pigeon: std::sync::Arc<dyn smsd::dispatch::Dispatcher>) -> Result<(), smsd::embed::RunError> {
/// let mut config = smsd::config::Config::embedded();
/// config.dispatchers.clear();
/// let parts = smsd::Parts::new(config).dispatcher("pigeon", pigeon);
/// smsd::run(parts, async { drop(tokio::signal::ctrl_c().await) }).await
/// # }
/// ```
pub struct Parts {
    config: Config,
    queue: Option<Arc<dyn Queue>>,
    own: Ways,
}

impl Parts {
    /// The queue and the dispatchers of the configuration. [`Config::embedded`] has a dispatcher that sends nowhere:
    /// whoever brings one clears `dispatchers`.
    pub fn new(config: Config) -> Parts {
        Parts { config, queue: None, own: Vec::new() }
    }

    /// This queue in place of the configuration's.
    pub fn queue(mut self, queue: Arc<dyn Queue>) -> Parts {
        self.queue = Some(queue);
        self
    }

    /// One more dispatcher, after those of the configuration and those brought before. It works by what `[main]` says
    /// of all; a name of its own tells it apart in the ledger.
    pub fn dispatcher(self, name: &str, dispatcher: Arc<dyn Dispatcher>) -> Parts {
        let main = &self.config.main;
        let way = WayConfig {
            name: name.into(),
            concurrency: main.concurrency.max(1) as usize,
            rate: None,
            timeout: main.submit_timeout,
            grace: GRACE,
            remembers: Duration::ZERO,
        };
        self.way(way, dispatcher)
    }

    /// The same with bounds of its own.
    pub fn way(mut self, way: WayConfig, dispatcher: Arc<dyn Dispatcher>) -> Parts {
        self.own.push((way, dispatcher));
        self
    }
}

/// How long an attempt stays in doubt before it is resent.
const GRACE: Duration = Duration::from_secs(30);

/// Why smsd could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A dispatcher can not be built as configured.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is no dispatcher, or two have one name.
    #[error("{0}")]
    Parts(String),
    /// The queue can not be opened as configured.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The policy says to stop.
    #[error(transparent)]
    Stopped(#[from] Stop),
}

/// Works until `stop` is ready, then finishes what is on its way (at most `shutdown_timeout`), or until it stops by
/// itself. Dropped before, it leaves what was on its way in doubt, to be resolved by whoever works on the queue when its
/// lease has run out.
///
/// # Errors
/// See [`RunError`]; everything unsent still waits in the queue.
pub async fn run(parts: Parts, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let Parts { config, queue, own } = parts;
    let mut ways = build_ways(&config)?;
    ways.extend(own);
    if ways.is_empty() {
        return Err(RunError::Parts("there is no dispatcher: nothing could be sent".to_owned()));
    }
    for (n, (way, _)) in ways.iter().enumerate() {
        if ways.iter().take(n).any(|(before, _)| before.name == way.name) {
            return Err(RunError::Parts(format!("two dispatchers are named {:?}", way.name)));
        }
    }
    let (queue, mirror) = match queue {
        Some(queue) => (queue, None),
        None => {
            let opened = queue::open(&config, &Env::from_process()).await?;
            (opened.queue, opened.mirror)
        }
    };
    let keep: Box<dyn Keep> = match &config.main.state_dir {
        Some(dir) => Box::new(RecordFile::at(dir.join("guard"))),
        None => Box::new(KeepNothing),
    };
    let resources = Resources {
        queue,
        name: format!("embedded {}", std::process::id()),
        // Nothing proves that those before us are dead: their leases must run out.
        lock: Uuid::now_v7().to_string(),
        boot_clock: Box::new(BootTime::now),
        ids: Box::new(Uuid::now_v7),
        keep,
        sizes: Sizes { window_bytes: config.main.memory(Memory::Texts), ..Sizes::default() },
        seed: fastrand::u64(..),
        events: Box::new(|event| event.log()),
        ways,
    };
    let settings = settings(&config, &resources.ways);
    let (asked, (_commands, inbox)) = (CancellationToken::new(), mpsc::channel(1));
    let work = work(Engine::new(settings, resources).run(asked.clone(), inbox), mirror, |_| async {});
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return Ok(result?),
        () = stop => asked.cancel(),
    }
    Ok(work.await?)
}
