//! What people ask for: cancel, resolve, requeue; and what grows too old.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::clock::{Now, micros};
use super::failure::Failure;
use super::origin;
use super::verbs::{note, release};
use crate::alert::{AlertId, Reason};
use crate::queue::arrivals::Arrivals;
use crate::queue::ledger::BEFORE;
use crate::queue::wall::Wall;
use crate::queue::{Age, Cancelled, Decision, Resolved, Which};

pub(super) fn cancel(conn: &Connection, which: &Which, by: &str, now: Now) -> Result<Cancelled, Failure> {
    const ALL: &str = "SELECT id FROM alert WHERE state = 'waiting' ORDER BY id";
    const HOLDER: &str = "
        SELECT t.seq, t.state FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
        WHERE s.alert = ? AND s.unresolved = 1";
    const END: &str = "UPDATE attempt SET state = 'cancelled', ended_at = ? WHERE seq = ?";
    let ids: BTreeSet<i64> = match which {
        Which::Ids(ids) => ids.iter().map(|id| id.0).collect(),
        Which::All => conn.prepare_cached(ALL)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?,
    };
    let mut done = Cancelled::default();
    for id in ids.into_iter().map(AlertId) {
        let waits = waits(conn, id)?;
        let holder = conn
            .prepare_cached(HOLDER)?
            .query_row([id.0], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))
            .optional()?;
        match holder {
            Some((_, state)) if state == "open" => {
                if waits {
                    done.in_flight.push(id);
                }
                continue;
            }
            // It ends with the alert, also if that is gone.
            Some((attempt, _)) => {
                conn.prepare_cached(END)?.execute(params![now.wall, attempt])?;
                release(conn, attempt)?;
            }
            None => {}
        }
        if !waits {
            continue;
        }
        ignore(conn, id, Reason::Cancelled, now)?;
        note(conn, id, "ignored", Some(Reason::Cancelled), "", by, now)?;
        done.cancelled.push(id);
    }
    Ok(done)
}

/// Accepted or released, the attempt's alerts are no longer held by it, and those that wait are set and noted.
pub(super) fn resolve(
    conn: &Connection,
    ids: &[AlertId],
    decision: Decision,
    by: &str,
    now: Now,
) -> Result<Resolved, Failure> {
    const DOUBTED: &str = "
        SELECT t.seq FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
        WHERE s.alert = ? AND s.unresolved = 1 AND t.state IN ('in_doubt', 'held')";
    const END: &str = "
        UPDATE attempt SET state = :state, class = :class, ended_at = :wall,
            detail = :detail || coalesce(:before || nullif(detail, ''), '')
        WHERE seq = :attempt";
    const ALERTS: &str = "
        SELECT s.alert, s.counted FROM attempt_alert s JOIN alert a ON a.id = s.alert
        WHERE s.attempt = ? AND a.state = 'waiting' ORDER BY s.position";
    const ACCEPT: &str = "UPDATE alert SET state = ?, reason = ?, ended_at = ? WHERE id = ?";
    const AGAIN: &str = "UPDATE alert SET requeued_at = ? WHERE id = ?";
    let mut decided = Vec::new();
    for id in ids {
        let doubted = conn.prepare_cached(DOUBTED)?.query_row([id.0], |row| row.get(0)).optional()?;
        let Some(attempt): Option<i64> = doubted else { continue };
        conn.prepare_cached(END)?.execute(named_params! {
            ":state": decision.state().as_str(), ":class": decision.class(), ":wall": now.wall,
            ":detail": decision.detail(by), ":before": BEFORE, ":attempt": attempt,
        })?;
        release(conn, attempt)?;
        let alerts: Vec<(i64, bool)> = (conn.prepare_cached(ALERTS)?)
            .query_map([attempt], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (alert, counted) in alerts {
            let ended = match counted {
                false => ("sent", None),
                true => ("ignored", Some(Reason::Squeezed.as_str())),
            };
            match decision {
                Decision::Accept => {
                    conn.prepare_cached(ACCEPT)?.execute(params![ended.0, ended.1, now.wall, alert])?
                }
                Decision::Resend => conn.prepare_cached(AGAIN)?.execute(params![now.wall, alert])?,
            };
            note(conn, AlertId(alert), decision.word(), None, "", by, now)?;
            decided.push(AlertId(alert));
        }
    }
    Ok(Resolved::of(ids, decided))
}

/// `if_rejected`: only those that were given up as rejected, as the last thing that befell them.
pub(super) fn requeue(
    conn: &Connection,
    ids: &[AlertId],
    by: &str,
    if_rejected: bool,
    now: Now,
) -> Result<Vec<AlertId>, Failure> {
    const REQUEUE: &str = "
        UPDATE alert SET state = 'waiting', reason = NULL, ended_at = NULL, requeued_at = ?
        WHERE id = ? AND state <> 'waiting' AND (NOT ? OR state = 'ignored' AND reason = 'rejected'
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
                WHERE s.alert = alert.id AND s.counted = 0 AND s.requeued = 0 AND t.state = 'accepted'))";
    const PAST: &str = "UPDATE attempt_alert SET requeued = 1 WHERE alert = ? AND unresolved = 0";
    let mut changed = Vec::new();
    for id in ids {
        if conn.prepare_cached(REQUEUE)?.execute(params![now.wall, id.0, if_rejected])? == 1 {
            if !if_rejected {
                conn.prepare_cached(PAST)?.execute([id.0])?;
            }
            origin::again(conn, *id)?;
            note(conn, *id, "requeued", None, "", by, now)?;
            changed.push(*id);
        }
    }
    Ok(changed)
}

/// Ignores what waits since before: queued or made to wait again. Too old by the wall clock is not enough; it must be so
/// by every setting of that clock that has something to say, and not have come since. What was taken over from a queue
/// elsewhere has waited there.
pub(super) fn expire(
    conn: &Connection,
    age: &Age,
    (now, wall): (Now, Wall),
    arrivals: &Mutex<Arrivals>,
) -> Result<Vec<AlertId>, Failure> {
    const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM alert";
    const OLD: &str = "
        SELECT id, coalesce(requeued_at, queued_at) FROM alert a
        WHERE state = 'waiting' AND coalesce(requeued_at, queued_at) < ?
            AND (id <= ? OR EXISTS (SELECT 1 FROM origin o WHERE o.alert = a.id))
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)
        ORDER BY id";
    let before = now.wall.saturating_sub(micros(age.duration));
    let newest = conn.prepare_cached(NEWEST)?.query_row([], |row| row.get(0))?;
    let uptime = Duration::from_micros(now.uptime.unsigned_abs());
    let long = arrivals.lock().unwrap_or_else(PoisonError::into_inner).look(newest, uptime, age.duration);
    let mut ids = Vec::new();
    let mut old = conn.prepare_cached(OLD)?;
    let mut rows = old.query([before, long])?;
    while let Some(row) = rows.next()? {
        if wall.age(row.get(1)?, now.wall) > age.duration {
            ids.push(AlertId(row.get(0)?));
        }
    }
    drop(rows);
    let why = format!("waited longer than {}", age.text);
    for id in &ids {
        ignore(conn, *id, Reason::Expired, now)?;
        note(conn, *id, "ignored", Some(Reason::Expired), &why, "smsd", now)?;
    }
    Ok(ids)
}

/// The key of the last note, 0 if there is none.
pub(super) fn last_note(conn: &Connection) -> Result<i64, Failure> {
    const LAST: &str = "SELECT coalesce(max(seq), 0) FROM note";
    Ok(conn.prepare_cached(LAST)?.query_row([], |row| row.get(0))?)
}

fn waits(conn: &Connection, id: AlertId) -> Result<bool, Failure> {
    const WAITS: &str = "SELECT EXISTS (SELECT 1 FROM alert WHERE id = ? AND state = 'waiting')";
    Ok(conn.prepare_cached(WAITS)?.query_row([id.0], |row| row.get(0))?)
}

fn ignore(conn: &Connection, id: AlertId, reason: Reason, now: Now) -> Result<(), Failure> {
    const IGNORE: &str = "
        UPDATE alert SET state = 'ignored', reason = ?, ended_at = ? WHERE id = ? AND state = 'waiting'";
    conn.prepare_cached(IGNORE)?.execute(params![reason.as_str(), now.wall, id.0])?;
    Ok(())
}
