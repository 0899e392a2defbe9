//! The ways out as the configuration has them, and what a reload leaves as it is.

use std::path::PathBuf;
use std::sync::Arc;

use crate::compose::Shape;
use crate::config::{Config, DispatcherConfig, LogFormat, LogLevel, Main, QueueConfig};
use crate::dispatch::{self, BuildError};
use crate::engine::policy::Policy;
use crate::engine::{Settings, Ways};
use crate::failover::WayConfig;
use crate::os::descriptors;
use crate::standing::Standing;
use crate::web::limits;

/// The dispatchers, built, in order of priority, with what the engine needs to know of each.
///
/// # Errors
/// The first that can not be built as configured.
pub fn build_ways(config: &Config) -> Result<Ways, BuildError> {
    rebuild_ways(config, None)
}

/// The same; a dispatcher of before that would be built alike stays, with all that it has open.
fn rebuild_ways(config: &Config, before: Option<&Standing>) -> Result<Ways, BuildError> {
    let main = &config.main;
    let way = |new: &DispatcherConfig| {
        let kept = before.and_then(|standing| {
            let old = standing.config.dispatchers.iter().find(|old| *old == new)?;
            let same_window = old.concurrency(&standing.config.main) == new.concurrency(main);
            let (_, dispatcher) = standing.ways.iter().find(|(way, _)| *way.name == *new.name)?;
            same_window.then(|| Arc::clone(dispatcher))
        });
        let dispatcher = match kept {
            Some(dispatcher) => dispatcher,
            None => dispatch::build(new, main)?,
        };
        Ok((way_config(new, main), dispatcher))
    };
    config.dispatchers.iter().map(way).collect()
}

/// As many ways as the configuration has, within what the process may open.
pub(super) fn build(
    config: &Config,
    before: Option<&Standing>,
    descriptors: u64,
) -> Result<Ways, BuildError> {
    let connections = limits::connections(&config.http, descriptors);
    Ok(within_descriptors(rebuild_ways(config, before)?, descriptors.saturating_sub(connections as u64)))
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

/// What holds from the start to the end, whatever a reload says.
pub(super) struct Fixed {
    queue: QueueConfig,
    username: Option<String>,
    state_dir: Option<PathBuf>,
    pid_dir: Option<PathBuf>,
    log: (LogLevel, LogFormat, Option<PathBuf>),
}

impl Fixed {
    pub(super) fn of(config: &Config) -> Fixed {
        let main = &config.main;
        Fixed {
            queue: config.queue.clone(),
            username: main.username.clone(),
            state_dir: main.state_dir.clone(),
            pid_dir: config.nav.pid_dir.clone(),
            log: (main.log_level, main.log_format, config.log_file()),
        }
    }

    /// What the configuration says otherwise, by the names of the keys.
    pub(super) fn differs(&self, config: &Config) -> Vec<&'static str> {
        let (new, old) = (Fixed::of(config), self);
        let differs = [
            ("type, url, path or class of [queue]", new.queue.kind != old.queue.kind),
            ("setup of [queue]", new.queue.setup != old.queue.setup),
            ("username", new.username != old.username),
            ("state_dir", new.state_dir != old.state_dir),
            ("PID_DIR of nav.conf", new.pid_dir != old.pid_dir),
            ("log_level", new.log.0 != old.log.0),
            ("log_format", new.log.1 != old.log.1),
            ("log_file", new.log.2 != old.log.2),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}
