//! What happened, told once: the events of the program and where they go.
//!
//! The engine says what happened as an [`Event`]; here it becomes a log line. One line per SMS and per change of
//! state, never one per retry, never the text of an alert, and foreign words only escaped and cut.

pub mod board;
pub mod history;
mod hub;
pub mod log;
pub mod metrics;
pub mod sampler;

pub use hub::{Hub, Told};
pub use sampler::{Sample, Sampler};

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::alert::{AlertId, Phone, Reason};
use crate::dispatch::SubmitError;
use crate::failover::Cause;
use crate::queue::Forgot;

/// Something that people may want to know.
#[derive(Clone, Debug)]
pub enum Event {
    /// A program that a dispatcher speaks to has ended, or could not be started.
    ProgramEnded {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// How it ended.
        reason: SubmitError,
        /// How long it is left alone.
        pause: Duration,
    },
    /// A program says what makes no sense; told once for each kind and life of the program.
    Garbled {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// What it said.
        what: &'static str,
    },
    /// A program has answered when nobody waited any more.
    LateAnswer {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// What it has answered.
        attempt: String,
    },
    /// A line of what a program says on standard error.
    Overheard {
        /// Whose it is.
        dispatcher: Arc<str>,
        /// The line, cut, without secrets.
        words: String,
    },
    /// An SMS was taken by a gateway.
    Accepted {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// How many alerts it carries.
        alerts: usize,
        /// How many it only counts.
        squeezed: usize,
        /// Which attempt at it this was.
        number: u32,
        /// An earlier attempt may have been taken.
        possible_duplicate: bool,
        /// The gateway's references.
        references: Vec<String>,
        /// When the alerts that it carries were queued, by the queue's clock, as far as is known.
        queued_at: Vec<Timestamp>,
        /// How long the submit took.
        took: Duration,
    },
    /// An SMS was not taken.
    Refused {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// Which attempt at it this was.
        number: u32,
        /// The answer.
        error: SubmitError,
        /// How long the submit took.
        took: Duration,
    },
    /// Nobody knows whether an SMS was taken.
    Doubtful {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// By which dispatcher.
        dispatcher: Arc<str>,
        /// It waits for a person.
        held: bool,
        /// What happened.
        error: SubmitError,
        /// How long the submit took.
        took: Duration,
    },
    /// An attempt in doubt is repeated: a possible duplicate.
    Resent {
        /// The new attempt.
        attempt: Uuid,
        /// The one in doubt.
        resend_of: Uuid,
        /// To whom.
        recipient: Phone,
    },
    /// An attempt in doubt waits for a person.
    Held {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
    },
    /// Another instance has taken an attempt of ours over.
    Superseded {
        /// The attempt.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
    },
    /// Another number of instances works on the queue.
    Peers {
        /// How many, with us.
        instances: u32,
    },
    /// SMS were not begun: another instance was first, or somebody has changed their alerts.
    Outrun {
        /// How many.
        attempts: usize,
    },
    /// Alerts were given up.
    Ignored {
        /// Whose.
        recipient: Phone,
        /// Which.
        alerts: Vec<AlertId>,
        /// Why.
        reason: Reason,
        /// Why, in words.
        detail: String,
    },
    /// An alert's number is none.
    BadNumber {
        /// Which alert.
        alert: AlertId,
        /// The number as queued.
        number: String,
        /// What is wrong with it.
        detail: String,
    },
    /// An alert's number may not be texted (`allow`, `deny`); it waits.
    Barred {
        /// Which alert.
        alert: AlertId,
        /// Whose.
        recipient: Phone,
    },
    /// Alerts grew older than `autocancel`.
    Expired {
        /// Which.
        alerts: Vec<AlertId>,
    },
    /// Alerts were gone, or changed by others, when their outcome was written.
    Vanished {
        /// Which.
        alerts: Vec<AlertId>,
    },
    /// A dispatcher is out of rotation.
    DispatcherDown {
        /// Which.
        dispatcher: Arc<str>,
        /// Why.
        cause: Cause,
        /// Why, in words.
        reason: String,
        /// Alerts that were given up wrongly and wait again.
        wronged: usize,
    },
    /// A dispatcher works again.
    DispatcherUp {
        /// Which.
        dispatcher: Arc<str>,
    },
    /// No dispatcher works: alerts wait.
    AllDown {
        /// How many, as far as is known.
        waiting: usize,
    },
    /// A dispatcher works again after all were down.
    WayOut,
    /// The queue does not answer.
    QueueLost {
        /// Why.
        reason: String,
    },
    /// The queue answers again.
    QueueBack {
        /// How long it was away.
        after: Duration,
    },
    /// The queue elsewhere, of which ours is a mirror, does not answer.
    ElsewhereLost {
        /// Why.
        reason: String,
    },
    /// It answers again.
    ElsewhereBack {
        /// How long it was away.
        after: Duration,
    },
    /// The queue elsewhere was told how an alert ended, and lets it wait all the same.
    Unheard {
        /// Which.
        alert: AlertId,
        /// Its class.
        elsewhere: String,
    },
    /// Our lease ran out; a new instance was made.
    LeaseLost,
    /// The queue has forgotten what was committed in it. Nothing is sent until what is suspect is held.
    FromThePast {
        /// What it has forgotten.
        forgot: Forgot,
        /// What waits since then or longer is suspect, by the queue's clock.
        until: Timestamp,
    },
    /// What is suspect since the queue came back from the past is held.
    Suspected {
        /// Alerts.
        alerts: u64,
        /// Attempts in doubt.
        doubts: u64,
        /// They wait since then or longer, by the queue's clock.
        until: Timestamp,
    },
    /// The storm guard's record can not be read or written.
    NotKept {
        /// Why.
        reason: String,
    },
    /// Somebody sent a test straight through a dispatcher.
    Tested {
        /// The id by which the gateway may know the SMS.
        attempt: Uuid,
        /// To whom.
        recipient: Phone,
        /// Through which dispatcher.
        dispatcher: Arc<str>,
        /// `accepted`, or the class of the answer.
        class: &'static str,
        /// Who.
        by: String,
    },
    /// The queue has answered for the first time, and what waits is known.
    Ready,
    /// The configuration was read again.
    Reloaded,
    /// The new configuration is faulty; the old one stays.
    ReloadRefused {
        /// The faults.
        faults: String,
    },
    /// A stop was asked for.
    Stopping {
        /// SMS on their way that are waited for.
        in_flight: usize,
    },
    /// The stop is over.
    Stopped {
        /// SMS that were still on their way: they come into doubt.
        in_flight: usize,
    },
}

impl Event {
    /// Writes the event to the log.
    pub fn log(&self) {
        match self {
            Event::ProgramEnded { dispatcher, reason, pause } => {
                tracing::warn!(%dispatcher, "{reason}; it is started again after {} s, when it is needed", pause.as_secs());
            }
            Event::Garbled { dispatcher, what } => {
                tracing::warn!(%dispatcher, "the program says {what}, which is left alone");
            }
            Event::LateAnswer { dispatcher, attempt } => {
                tracing::debug!(%dispatcher, attempt, "the program has answered too late");
            }
            Event::Overheard { dispatcher, words } => {
                tracing::debug!(%dispatcher, "the program says: {words}")
            }
            Event::Accepted {
                attempt,
                recipient,
                dispatcher,
                alerts,
                squeezed,
                number,
                possible_duplicate,
                references,
                queued_at: _,
                took,
            } => {
                tracing::info!(%attempt, to = %recipient, %dispatcher, alerts, squeezed, number, possible_duplicate,
                    reference = references.join(","), ms = millis(*took), "SMS accepted");
            }
            Event::Refused { attempt, recipient, dispatcher, number, error, took } => {
                tracing::warn!(%attempt, to = %recipient, %dispatcher, number, class = %error.class,
                    code = error.code.as_deref().unwrap_or("-"), ms = millis(*took), "SMS not taken: {error}");
            }
            Event::Doubtful { attempt, recipient, dispatcher, held, error, took } => {
                let next = if *held {
                    "it waits for a person: smsd queue list --state held"
                } else {
                    "it is resent after the grace"
                };
                tracing::warn!(%attempt, to = %recipient, %dispatcher, ms = millis(*took),
                    "nobody knows whether the SMS was taken ({error}); {next}");
            }
            Event::Resent { attempt, resend_of, recipient } => {
                tracing::warn!(%attempt, %resend_of, to = %recipient, "resending an attempt in doubt: a possible duplicate");
            }
            Event::Held { attempt, recipient } => {
                tracing::error!(%attempt, to = %recipient, "an attempt in doubt waits for a person: smsd queue list --state held");
            }
            Event::Superseded { attempt, recipient } => {
                tracing::warn!(%attempt, to = %recipient, "another instance has taken this attempt over");
            }
            Event::Peers { instances: 1 } => tracing::info!("no other instance works on this queue any more"),
            Event::Peers { instances } => tracing::info!(instances, "others work on this queue too"),
            Event::Outrun { attempts } => {
                tracing::debug!(
                    attempts,
                    "not begun: another instance was first, or the alerts were changed"
                );
            }
            Event::Ignored { recipient, alerts, reason, detail } => {
                tracing::error!(to = %recipient, alerts = list(alerts), "alerts ignored: {reason}: {detail}");
            }
            Event::BadNumber { alert, number, detail } => {
                let mut number = number.clone();
                clip(&mut number, 64);
                tracing::error!(%alert, number, "alert ignored: {detail}");
            }
            Event::Barred { alert, recipient } => {
                tracing::warn!(%alert, to = %recipient, "allow/deny forbid this number; the alert waits");
            }
            Event::Expired { alerts } => {
                tracing::warn!(alerts = list(alerts), "alerts ignored: older than autocancel");
            }
            Event::Vanished { alerts } => {
                tracing::warn!(
                    alerts = list(alerts),
                    "alerts were removed or changed by others while their SMS was on its way"
                );
            }
            Event::DispatcherDown { dispatcher, cause, reason, wronged } => {
                let until = match cause {
                    Cause::Trouble => "it is probed, first after 1 s",
                    Cause::Refusals => {
                        "it refused five different numbers in a row; it is probed, first after 1 s"
                    }
                    Cause::Misconfigured => "it needs a person; it is probed every 10 minutes",
                };
                tracing::error!(%dispatcher, wronged, "dispatcher out of rotation: {reason}; {until}");
            }
            Event::DispatcherUp { dispatcher } => tracing::info!(%dispatcher, "dispatcher works again"),
            Event::AllDown { waiting } => {
                tracing::error!(waiting, "no dispatcher works; alerts wait");
            }
            Event::WayOut => tracing::info!("there is a way out again; what waits is sent"),
            Event::QueueLost { reason } => {
                tracing::error!("the queue does not answer: {reason}; trying again")
            }
            Event::QueueBack { after } => {
                tracing::info!(seconds = after.as_secs_f64(), "the queue answers again");
            }
            Event::ElsewhereLost { reason } => {
                tracing::error!(
                    "{reason}; trying again; what was taken over from there goes out all the same"
                );
            }
            Event::ElsewhereBack { after } => {
                tracing::info!(seconds = after.as_secs_f64(), "the queue elsewhere answers again");
            }
            Event::Unheard { alert, elsewhere } => tracing::warn!(
                %alert, "{elsewhere} was told how this alert ended and says that it waits; it is not sent again for an \
                hour; to send it again at once: smsd queue requeue {alert}"
            ),
            Event::LeaseLost => tracing::warn!("the lease ran out; joining anew"),
            Event::FromThePast { forgot, until } => {
                tracing::error!(%until, "the queue has come back from the past: {forgot}; nothing is sent until what \
                    may have been sent before is held");
            }
            Event::Suspected { alerts: 0, doubts: 0, until } => {
                tracing::warn!(%until, "the queue came back from the past, and nothing that waits in it is suspect");
            }
            Event::Suspected { alerts, doubts, until } => {
                tracing::error!(alerts, doubts, %until, "the queue came back from the past: what waits since before is \
                    held, since it may have been sent; new alerts go out. Look: smsd queue list --state held. Send \
                    all of it anyway: smsd queue release --held-by-guard; or accept, or cancel --held-by-guard");
            }
            Event::NotKept { reason } => {
                tracing::warn!(
                    "{reason}; sending goes on, but a queue that comes back from the past while smsd \
                    does not run may not be noticed"
                );
            }
            Event::Tested { attempt, recipient, dispatcher, class, by } => {
                tracing::info!(%attempt, to = %recipient, %dispatcher, class, by, "a test was sent");
            }
            Event::Ready => tracing::info!("the queue answers; ready"),
            Event::Reloaded => tracing::info!("configuration reread"),
            Event::ReloadRefused { faults } => {
                tracing::error!("the new configuration is faulty and the old one stays:\n{faults}");
            }
            Event::Stopping { in_flight } => tracing::info!(in_flight, "stopping: no new work"),
            Event::Stopped { in_flight: 0 } => tracing::info!("stopped"),
            Event::Stopped { in_flight } => {
                tracing::warn!(in_flight, "stopped with SMS on their way: they are in doubt");
            }
        }
    }
}

fn millis(d: Duration) -> f64 {
    (d.as_secs_f64() * 10_000.0).round() / 10.0
}

fn list(ids: &[AlertId]) -> String {
    const MOST: usize = 20;
    let mut s = ids.iter().take(MOST).map(|id| id.to_string()).collect::<Vec<_>>().join(",");
    if ids.len() > MOST {
        s.push_str(&format!(",… ({} in all)", ids.len()));
    }
    s
}

/// Cuts a foreign string to at most `max` bytes at a character, and makes its control characters visible:
/// C0 and C1, DEL, and the bidirectional overrides that reorder a log line.
pub fn clip(s: &mut String, max: usize) {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if s.contains(odd) {
        *s = s
            .chars()
            .flat_map(|c| if odd(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect();
    }
    if s.len() > max {
        let mut end = max.saturating_sub('…'.len_utf8());
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s.truncate(end);
        s.push('…');
    }
}
