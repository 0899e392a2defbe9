//! What people ask for: cancel, resolve, requeue; and what grows too old.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, ToSql, named_params, params};

use super::clock::Now;
use super::failure::Failure;
use super::old::TooOld;
use super::origin;
use super::verbs::{note, release};
use crate::alert::{AlertId, Reason};
use crate::queue::ledger::BEFORE;
use crate::queue::{Cancelled, Decision, Resolved};

/// Which alerts a person wants to cancel. They are cancelled page by page.
#[derive(Clone, Debug)]
pub(super) enum Meant {
    /// All that wait.
    All,
    /// These.
    These(BTreeSet<AlertId>),
}

impl Meant {
    fn has(&self, id: AlertId) -> bool {
        match self {
            Meant::All => true,
            Meant::These(ids) => ids.contains(&id),
        }
    }
}

/// A page of what waits: the lowest keys above `after`, and none above `last`.
pub(super) fn waiting(
    conn: &Connection,
    after: AlertId,
    last: AlertId,
    limit: usize,
) -> Result<Vec<AlertId>, Failure> {
    const WAITING: &str = "
        SELECT id FROM alert WHERE state = 'waiting' AND id > ? AND id <= ? ORDER BY id LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut waiting = conn.prepare_cached(WAITING)?;
    let ids = waiting.query_map(params![after.0, last.0, limit], |row| row.get(0).map(AlertId))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Cancels a page of what is meant. An attempt that holds one of them ends, with all of its alerts that are meant in the
/// same transaction: what is on a later page must not wait for as long as that, free to be sent. Also an attempt whose
/// alert is gone, or ended by another program, is ended with it.
pub(super) fn cancel(
    conn: &Connection,
    page: &[AlertId],
    meant: &Meant,
    by: &str,
    now: Now,
) -> Result<Cancelled, Failure> {
    const ALERTS: &str = "SELECT alert FROM attempt_alert WHERE attempt = ?";
    const HOLDER: &str = "
        SELECT t.seq, t.state FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
        WHERE s.alert = ? AND s.unresolved = 1";
    const END: &str = "UPDATE attempt SET state = 'cancelled', ended_at = ? WHERE seq = ?";
    let mut done = Cancelled::default();
    let mut ids: BTreeSet<AlertId> = page.iter().copied().collect();
    while let Some(id) = ids.pop_first() {
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
                let mut alerts = conn.prepare_cached(ALERTS)?;
                for alert in alerts.query_map([attempt], |row| row.get(0).map(AlertId))? {
                    ids.extend(Some(alert?).filter(|alert| meant.has(*alert)));
                }
                ids.remove(&id);
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

pub(super) fn requeue(
    conn: &Connection,
    ids: &[AlertId],
    by: &str,
    now: Now,
) -> Result<Vec<AlertId>, Failure> {
    const REQUEUE: &str = "
        UPDATE alert SET state = 'waiting', reason = NULL, ended_at = NULL, requeued_at = ?
        WHERE id = ? AND state <> 'waiting'";
    const PAST: &str = "UPDATE attempt_alert SET requeued = 1 WHERE alert = ? AND unresolved = 0";
    let mut changed = Vec::new();
    for id in ids {
        if conn.prepare_cached(REQUEUE)?.execute(params![now.wall, id.0])? == 1 {
            conn.prepare_cached(PAST)?.execute([id.0])?;
            origin::again(conn, *id)?;
            note(conn, *id, "requeued", None, "", by, now)?;
            changed.push(*id);
        }
    }
    Ok(changed)
}

/// A page of what is too old and stands in no unresolved attempt: the lowest keys above `after`.
pub(super) fn too_old(
    conn: &Connection,
    old: &TooOld,
    after: AlertId,
    limit: usize,
) -> Result<Vec<AlertId>, Failure> {
    let sql = format!(
        "SELECT id FROM alert a
        WHERE state = 'waiting' AND id > :after AND {}
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)
        ORDER BY id LIMIT :limit",
        old.sql()
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let old = old.params();
    let params = [&[(":after", &after.0 as &dyn ToSql), (":limit", &limit)], &*old].concat();
    let mut found = conn.prepare_cached(&sql)?;
    let ids = found.query_map(&*params, |row| row.get(0).map(AlertId))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Ignores those of a page that still wait since before `before`, and returns them. With `apart`, a row that the file will
/// not have is left, and costs no other.
pub(super) fn expire(
    conn: &Connection,
    page: &[AlertId],
    before: i64,
    why: &str,
    apart: bool,
    now: Now,
) -> Result<Vec<AlertId>, Failure> {
    let mut ended = Vec::new();
    for id in page {
        if !apart {
            ended.extend(expire_one(conn, *id, before, why, now)?.then_some(*id));
            continue;
        }
        conn.prepare_cached("SAVEPOINT expired")?.execute([])?;
        match expire_one(conn, *id, before, why, now) {
            Ok(done) => ended.extend(done.then_some(*id)),
            Err(failure) if failure.is_of_a_row() && !conn.is_autocommit() => {
                conn.prepare_cached("ROLLBACK TO expired")?.execute([])?;
            }
            Err(failure) => return Err(failure),
        }
        conn.prepare_cached("RELEASE expired")?.execute([])?;
    }
    Ok(ended)
}

fn expire_one(conn: &Connection, id: AlertId, before: i64, why: &str, now: Now) -> Result<bool, Failure> {
    const EXPIRE: &str = "
        UPDATE alert SET state = 'ignored', reason = ?, ended_at = ?
        WHERE id = ? AND state = 'waiting' AND coalesce(requeued_at, queued_at) < ?
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = alert.id AND s.unresolved = 1)";
    let mut expire = conn.prepare_cached(EXPIRE)?;
    let ended = expire.execute(params![Reason::Expired.as_str(), now.wall, id.0, before])? == 1;
    if ended {
        note(conn, id, "ignored", Some(Reason::Expired), why, "smsd", now)?;
    }
    Ok(ended)
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
