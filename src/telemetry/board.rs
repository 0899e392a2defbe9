//! What holds now, as the events have it: which ways out work, whether the queue answers. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Event, clip};
use crate::failover::Cause;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Board {
    /// When the daemon was started.
    pub started_at: Timestamp,
    /// The ways out, in order of priority.
    pub dispatchers: Vec<Light>,
    /// Whether the queue answers.
    pub queue: Answering,
    /// No dispatcher works, since then.
    pub all_down_since: Option<Timestamp>,
    /// How many instances work on the queue, with us.
    pub instances: u32,
    /// A stop was asked for.
    pub stopping: bool,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Light {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// It is in rotation.
    pub up: bool,
    /// Since when that holds.
    pub since: Timestamp,
    /// What kind of trouble it is in: `trouble`, `refusals`, `misconfigured`.
    pub cause: Option<&'static str>,
    /// What it said last that was not a yes, without secrets.
    pub reason: Option<String>,
    /// When it last took an SMS.
    pub last_accepted_at: Option<Timestamp>,
}

/// Whether something answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Answering {
    /// It does.
    pub up: bool,
    /// Since when that holds.
    pub since: Timestamp,
    /// Why not.
    pub reason: Option<String>,
}

impl Board {
    /// All well, as far as is known.
    pub fn new(dispatchers: impl IntoIterator<Item = (Arc<str>, &'static str)>, now: Timestamp) -> Board {
        let mut board = Board {
            started_at: now,
            dispatchers: Vec::new(),
            queue: Answering { up: true, since: now, reason: None },
            all_down_since: None,
            instances: 1,
            stopping: false,
        };
        board.use_dispatchers(dispatchers, now);
        board
    }

    /// The dispatchers are these from now on; one that keeps its name keeps its state.
    pub fn use_dispatchers(
        &mut self,
        dispatchers: impl IntoIterator<Item = (Arc<str>, &'static str)>,
        now: Timestamp,
    ) {
        let mut known = std::mem::take(&mut self.dispatchers);
        for (name, kind) in dispatchers {
            let old = known.iter().position(|light| light.name == name).map(|n| known.swap_remove(n));
            let new =
                Light { name, kind, up: true, since: now, cause: None, reason: None, last_accepted_at: None };
            self.dispatchers.push(old.map(|light| Light { kind, ..light }).unwrap_or(new));
        }
    }

    /// Learns what an event says of what holds.
    pub fn learn(&mut self, event: &Event, now: Timestamp) {
        match event {
            Event::Accepted { dispatcher, .. } => {
                if let Some(light) = self.light(dispatcher) {
                    light.last_accepted_at = Some(now);
                }
            }
            Event::Refused { dispatcher, error, .. } | Event::Doubtful { dispatcher, error, .. } => {
                let why = short(&error.to_string());
                if let Some(light) = self.light(dispatcher) {
                    light.reason = Some(why);
                }
            }
            Event::DispatcherDown { dispatcher, cause, reason, .. } => {
                let (cause, why) = (word(*cause), short(reason));
                if let Some(light) = self.light(dispatcher) {
                    let since = if light.up { now } else { light.since };
                    *light =
                        Light { up: false, since, cause: Some(cause), reason: Some(why), ..light.clone() };
                }
            }
            Event::DispatcherUp { dispatcher } => {
                if let Some(light) = self.light(dispatcher) {
                    *light = Light { up: true, since: now, cause: None, reason: None, ..light.clone() };
                }
            }
            Event::AllDown { .. } => self.all_down_since = Some(now),
            Event::WayOut => self.all_down_since = None,
            Event::QueueLost { reason } => {
                self.queue = Answering { up: false, since: now, reason: Some(short(reason)) };
            }
            Event::QueueBack { .. } => self.queue = Answering { up: true, since: now, reason: None },
            Event::Peers { instances } => self.instances = *instances,
            Event::Stopping { .. } => self.stopping = true,
            _ => {}
        }
    }

    fn light(&mut self, name: &str) -> Option<&mut Light> {
        self.dispatchers.iter_mut().find(|light| &*light.name == name)
    }
}

/// The word for it in `--json` and on the dashboard.
fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Trouble => "trouble",
        Cause::Refusals => "refusals",
        Cause::Misconfigured => "misconfigured",
    }
}

fn short(reason: &str) -> String {
    let mut reason = reason.to_owned();
    clip(&mut reason, 300);
    reason
}
