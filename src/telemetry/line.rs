//! The log line of each event: its words, its fields, and its name, by which a journal's reader finds all of its kind.
//!
//! `docs/logs.md` lists the fields. Whatever comes from outside is escaped and cut here, whoever tells the event.

use std::time::Duration;

use jiff::Timestamp;

use super::{Event, clip};
use crate::alert::AlertId;
use crate::failover::Cause;

/// Bytes of a foreign string in the log.
const FOREIGN: usize = 512;
/// Lines of a faulty configuration's faults.
const FAULTS: usize = 100;

impl Event {
    /// Writes the event to the log.
    pub fn log(&self) {
        match self {
            Event::ProgramEnded { dispatcher, reason, pause } => {
                let reason = fit(&reason.detail);
                tracing::warn!(name: "program_ended", %dispatcher, "{reason}; it is started again after {} s, when it is needed", pause.as_secs());
            }
            Event::Garbled { dispatcher, what } => {
                tracing::warn!(name: "garbled", %dispatcher, "the program says {what}, which is left alone");
            }
            Event::LateAnswer { dispatcher, attempt } => {
                tracing::debug!(name: "late_answer", %dispatcher, attempt = fit(attempt), "the program has answered too late");
            }
            Event::Overheard { dispatcher, words } => {
                tracing::debug!(name: "overheard", %dispatcher, "the program says: {}", fit(words))
            }
            Event::Accepted {
                attempt,
                recipient,
                dispatcher,
                alerts,
                squeezed,
                segments,
                number,
                possible_duplicate,
                references,
                queued_at,
                took,
            } => {
                let reference = fit(&references.join(","));
                tracing::info!(name: "accepted", %attempt, to = %recipient, %dispatcher, alerts, squeezed, segments,
                    number, possible_duplicate, reference, queued_ms = waited(queued_at), ms = millis(*took),
                    "SMS accepted");
            }
            Event::Refused { attempt, recipient, dispatcher, number, error, took } => {
                let code = error.code.as_deref().map_or_else(|| "-".to_owned(), fit);
                tracing::warn!(name: "refused", %attempt, to = %recipient, %dispatcher, number, class = %error.class,
                    code, ms = millis(*took), "SMS not taken: {}", fit(&error.detail));
            }
            Event::Doubtful { attempt, recipient, dispatcher, held, error, took } => {
                let next = if *held {
                    "it waits for a person: smsd queue list --state held"
                } else {
                    "it is resent after the grace"
                };
                tracing::warn!(name: "doubtful", %attempt, to = %recipient, %dispatcher, ms = millis(*took),
                    "nobody knows whether the SMS was taken ({}); {next}", fit(&error.detail));
            }
            Event::Resent { attempt, resend_of, recipient } => {
                tracing::warn!(name: "resent", %attempt, %resend_of, to = %recipient, "resending an attempt in doubt: a possible duplicate");
            }
            Event::Held { attempt, recipient } => {
                tracing::error!(name: "held", %attempt, to = %recipient, "an attempt in doubt waits for a person: smsd queue list --state held");
            }
            Event::Superseded { attempt, recipient } => {
                tracing::warn!(name: "superseded", %attempt, to = %recipient, "another instance has taken this attempt over");
            }
            Event::Peers { instances: 1 } => {
                tracing::info!(name: "peers", "no other instance works on this queue any more")
            }
            Event::Peers { instances } => {
                tracing::info!(name: "peers", instances, "others work on this queue too")
            }
            Event::Outrun { attempts } => {
                tracing::debug!(name: "outrun",
                    attempts,
                    "not begun: another instance was first, or the alerts were changed"
                );
            }
            Event::Ignored { recipient, alerts, reason, detail } => {
                tracing::error!(name: "ignored", to = %recipient, alerts = list(alerts), "alerts ignored: {reason}: {}",
                    fit(detail));
            }
            Event::BadNumber { alert, number, detail } => {
                let mut number = number.clone();
                clip(&mut number, 64);
                tracing::error!(name: "bad_number", %alert, number, "alert ignored: {}", fit(detail));
            }
            Event::Barred { alert, recipient } => {
                tracing::warn!(name: "barred", %alert, to = %recipient, "allow/deny forbid this number; the alert waits");
            }
            Event::HeldBack { recipient } => {
                tracing::warn!(name: "held_back", to = %recipient, "max_per_hour is reached for this number; its alerts wait");
            }
            Event::Waits { recipient, alerts, why, detail, again_in, first } => {
                let (why, detail, seconds) = (why.words(), fit(detail), again_in.as_secs());
                // A change is told, and not each retry.
                match first {
                    true => {
                        tracing::warn!(name: "waits", to = %recipient, alerts = list(alerts), next_try_seconds = seconds,
                                                     "{why}; the alerts wait: {detail}")
                    }
                    false => {
                        tracing::debug!(name: "waits", to = %recipient, next_try_seconds = seconds, "{why}: {detail}")
                    }
                }
            }
            Event::Copied { recipient, dispatcher, alerts } => {
                tracing::warn!(name: "copied", to = %recipient, %dispatcher, alerts = list(alerts),
                    "this dispatcher says that it failed and may have sent all the same; a second copy may have gone out, \
                     and at most 5 within ten minutes and 10 within an hour will");
            }
            Event::Expired { alerts } => {
                tracing::warn!(name: "expired", alerts = list(alerts), "alerts ignored: older than autocancel");
            }
            Event::Vanished { alerts } => {
                tracing::warn!(name: "vanished",
                    alerts = list(alerts),
                    "alerts were removed or changed by others while their SMS was on its way"
                );
            }
            Event::DispatcherDown { dispatcher, cause, reason } => {
                let until = match cause {
                    Cause::Trouble => "it is probed, first after 1 s",
                    Cause::Refusals => {
                        "it refused different numbers in a row and served none between them; it is probed, first after 1 s"
                    }
                    Cause::Misconfigured => {
                        "it needs a person; it is probed after 30 s, 1, 2, 5 and then every 10 minutes"
                    }
                };
                let reason = fit(reason);
                tracing::error!(name: "dispatcher_down", %dispatcher,
                    "dispatcher out of rotation: {reason}; {until}");
            }
            Event::DispatcherUp { dispatcher } => {
                tracing::info!(name: "dispatcher_up", %dispatcher, "dispatcher works again")
            }
            Event::AllDown { waiting } => {
                tracing::error!(name: "all_down", waiting, "no dispatcher works; alerts wait");
            }
            Event::WayOut => tracing::info!(name: "way_out", "there is a way out again; what waits is sent"),
            Event::QueueLost { reason } => {
                tracing::error!(name: "queue_lost", "the queue does not answer: {}; trying again", fit(reason));
            }
            Event::QueueBack { after } => {
                tracing::info!(name: "queue_back", seconds = after.as_secs_f64(), "the queue answers again");
            }
            Event::DiskFull { place } => tracing::error!(name: "disk_full",
                "the disk of the queue is full: {}; smsd uses up what it has kept for that, which is enough for some \
                thousand SMS: make room now", fit(place)
            ),
            Event::DiskRoom => tracing::info!(name: "disk_room", "the disk of the queue has room again"),
            Event::ElsewhereLost { reason } => {
                tracing::error!(name: "elsewhere_lost",
                    "{}; trying again; what was taken over from there goes out all the same",
                    fit(reason)
                );
            }
            Event::ElsewhereBack { after } => {
                tracing::info!(name: "elsewhere_back", seconds = after.as_secs_f64(), "the queue elsewhere answers again");
            }
            Event::Unheard { alert, elsewhere } => tracing::warn!(name: "unheard",
                %alert, "{} was told how this alert ended and says that it waits; it is not sent again for an \
                hour; to send it again at once: smsd queue requeue {alert}", fit(elsewhere)
            ),
            Event::LeaseLost => tracing::warn!(name: "lease_lost", "the lease ran out; joining anew"),
            Event::FromThePast { forgot, until } => {
                tracing::error!(name: "from_the_past", %until, "the queue has come back from the past: {forgot}; nothing is sent until what \
                    may have been sent before is held");
            }
            Event::Suspected { alerts: 0, doubts: 0, until } => {
                tracing::warn!(name: "suspected", %until, "the queue came back from the past, and nothing that waits in it is suspect");
            }
            Event::Suspected { alerts, doubts, until } => {
                tracing::error!(name: "suspected", alerts, doubts, %until, "the queue came back from the past: what waits since before is \
                    held, since it may have been sent; new alerts go out. Look: smsd queue list --state held. Send \
                    all of it anyway: smsd queue release --held-by-guard; or accept, or cancel --held-by-guard");
            }
            Event::Stuck { attempt, alerts, begun, reason } => {
                let attempt = attempt.map_or_else(|| "-".to_owned(), |id| id.to_string());
                let what = match begun {
                    true => "the outcome of one SMS can not be written; it is tried again every few seconds",
                    false => "one SMS can not be begun; its alerts wait and are tried again",
                };
                tracing::warn!(name: "stuck", attempt, alerts = alerts.len(), first = alerts.first().map(|id| id.0),
                    "{what}, and all others go on: {}", fit(reason));
            }
            Event::NotKept { reason } => {
                tracing::warn!(name: "not_kept",
                    "{}; sending goes on, but a queue that comes back from the past while smsd \
                    does not run may not be noticed",
                    fit(reason)
                );
            }
            Event::Tested { attempt, recipient, dispatcher, class, by } => {
                tracing::info!(name: "tested", %attempt, to = %recipient, %dispatcher, class, by = fit(by), "a test was sent");
            }
            Event::Ready => tracing::info!(name: "ready", "the queue answers; ready"),
            Event::Reloaded => tracing::info!(name: "reloaded", "configuration reread"),
            Event::ReloadRefused { faults } => {
                let faults = faults.lines().take(FAULTS).map(fit).collect::<Vec<_>>().join("\n");
                tracing::error!(name: "reload_refused",
                    "the new configuration is faulty and the old one stays:\n{faults}");
            }
            Event::Wording { attempt, recipient, text } => {
                tracing::debug!(name: "wording", %attempt, to = %recipient, text = fit(text), "the SMS says");
            }
            Event::GaveUp { reason } => {
                tracing::error!(name: "gave_up", "stopping by itself: {}", fit(reason));
            }
            Event::Stopping { in_flight } => {
                tracing::info!(name: "stopping", in_flight, "stopping: no new work")
            }
            Event::Stopped { in_flight: 0 } => tracing::info!(name: "stopped", "stopped"),
            Event::Stopped { in_flight } => {
                tracing::warn!(name: "stopped", in_flight, "stopped with SMS on their way: they are in doubt");
            }
        }
    }
}

/// How long the first of the alerts has waited, from when it was queued until now; 0 if the queue's clock is ahead.
fn waited(queued_at: &[Timestamp]) -> i64 {
    let first = queued_at.iter().min().copied();
    first.map_or(0, |first| Timestamp::now().duration_since(first).as_millis().try_into().unwrap_or(0)).max(0)
}

/// A foreign string, cut and escaped.
fn fit(words: &str) -> String {
    let mut words = words.to_owned();
    clip(&mut words, FOREIGN);
    words
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

#[cfg(test)]
mod tests;
