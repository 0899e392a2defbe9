//! Alerts that were taken over from a queue elsewhere: under which key, and what that queue knows of them.

use rusqlite::{Connection, OptionalExtension, params};

use super::clock::{Now, micros};
use super::failure::Failure;
use super::verbs::note;
use crate::alert::AlertId;
use crate::queue::mirror::{AGAIN, Foreign, TakenOver, Untold};

pub(super) fn take_over(conn: &Connection, page: &[Foreign], now: Now) -> Result<TakenOver, Failure> {
    const KNOWN: &str = "
        SELECT o.alert, o.settled = 0, a.phone = ?1 AND a.text = ?2, o.known <> 'N' AND o.taken_at > ?3
        FROM origin o LEFT JOIN alert a ON a.id = o.alert WHERE o.key = ?4";
    const INSERT: &str = "INSERT INTO alert (phone, text, severity, queued_at) VALUES (?, ?, ?, ?)";
    const ORIGIN: &str = "
        INSERT INTO origin (key, alert, taken_at) VALUES (?, ?, ?)";
    let mut taken = TakenOver::default();
    let lately = now.wall.saturating_sub(micros(AGAIN));
    for foreign in page {
        let known: Option<(AlertId, bool, bool, bool)> = conn
            .prepare_cached(KNOWN)?
            .query_row(params![foreign.phone, foreign.text, lately, foreign.key], |row| {
                let same: Option<bool> = row.get(2)?;
                Ok((AlertId(row.get(0)?), row.get(1)?, same.unwrap_or(false), row.get(3)?))
            })
            .optional()?;
        match known {
            Some((_, true, ..)) => continue,
            Some((alert, _, true, true)) => {
                taken.unheard.push(alert);
                continue;
            }
            _ => {}
        }
        // What waits since the future waits since now.
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a float ends at the bounds")]
        let queued = foreign.queued_at.map_or(now.wall, |seconds| (seconds * 1e6) as i64).clamp(0, now.wall);
        let row = params![foreign.phone, foreign.text, foreign.severity, queued];
        conn.prepare_cached(INSERT)?.execute(row)?;
        let new = AlertId(conn.last_insert_rowid());
        if let Some((before, _, same, _)) = known {
            supersede(conn, before, new, &foreign.key, same, now)?;
        }
        conn.prepare_cached(ORIGIN)?.execute(params![foreign.key, new.0, now.wall])?;
        taken.new += 1;
    }
    Ok(taken)
}

/// The key is a new alert's from now on. If that is the same as the alert before, which may have been sent, both are noted,
/// and `repeats!` says so of the new one.
fn supersede(
    conn: &Connection,
    before: AlertId,
    new: AlertId,
    key: &str,
    same: bool,
    now: Now,
) -> Result<(), Failure> {
    const FORGET: &str = "DELETE FROM origin WHERE key = ?";
    const KEEP: &str = "UPDATE origin SET key = 'before ' || ?, settled = 1 WHERE key = ?";
    const MAYBE_SENT: &str = "
        SELECT EXISTS (SELECT 1 FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt WHERE s.alert = ?
            AND (t.state IN ('accepted', 'resent', 'cancelled') OR t.state = 'failed' AND t.class = 'failed'))";
    let sent = same && conn.prepare_cached(MAYBE_SENT)?.query_row([before.0], |row| row.get::<_, bool>(0))?;
    if !sent {
        conn.prepare_cached(FORGET)?.execute([key])?;
        return Ok(());
    }
    conn.prepare_cached(KEEP)?.execute(params![new.0, key])?;
    let told = format!("listed again under the key {key} after it had ended: it is alert {new} now");
    note(conn, before, "requeued", None, &told, "the queue elsewhere", now)?;
    let told =
        format!("the same as alert {before}, which may have been sent: listed again under the key {key}");
    note(conn, new, "requeued", None, &told, "the queue elsewhere", now)
}

/// True of the alert whose key is `$alert` if it repeats one that may have been sent ([`supersede`]): an SQL condition. No
/// key from elsewhere looks so: they are JSON.
macro_rules! repeats {
    ($alert:literal) => {
        concat!("EXISTS (SELECT 1 FROM origin WHERE key = 'before ' || ", $alert, ")")
    };
}
pub(super) use repeats;

/// What the queue elsewhere does not know yet.
pub(super) fn untold(conn: &Connection, limit: usize) -> Result<Vec<Untold>, Failure> {
    const UNTOLD: &str = "
        SELECT o.alert, o.key, w.word, (
            SELECT t.refs FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
            WHERE s.alert = a.id AND t.state = 'accepted' ORDER BY t.seq DESC LIMIT 1)
        FROM origin o JOIN alert a ON a.id = o.alert
            JOIN (SELECT 'waiting' AS state, 'N' AS word UNION ALL SELECT 'sent', 'Y' UNION ALL SELECT 'ignored', 'I') w
            ON w.state = a.state
        WHERE o.settled = 0 AND o.known <> w.word ORDER BY o.alert LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut untold = conn.prepare_cached(UNTOLD)?;
    let rows = untold.query_map([limit], |row| {
        let refs: Option<String> = row.get(3)?;
        let refs: Vec<String> = refs.and_then(|refs| serde_json::from_str(&refs).ok()).unwrap_or_default();
        let smsid = refs.first().and_then(|first| first.parse().ok()).unwrap_or(0);
        Ok(Untold { alert: AlertId(row.get(0)?), key: row.get(1)?, sent: row.get(2)?, smsid })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The queue elsewhere has heard what they are. One that has changed since is told anew.
pub(super) fn told(conn: &Connection, told: &[(AlertId, String)]) -> Result<(), Failure> {
    const TOLD: &str = "
        UPDATE origin SET known = ?1, settled = ?1 <> 'N'
            AND EXISTS (SELECT 1 FROM alert a WHERE a.id = ?2 AND a.state <> 'waiting')
        WHERE alert = ?2";
    for (alert, sent) in told {
        conn.prepare_cached(TOLD)?.execute(params![sent, alert.0])?;
    }
    Ok(())
}

/// They were taken for cancelled there: nothing is told of them, and if they are listed again they are taken over anew.
pub(super) fn gone(conn: &Connection, alerts: &[AlertId]) -> Result<(), Failure> {
    for alert in alerts {
        conn.prepare_cached("UPDATE origin SET settled = 1 WHERE alert = ?")?.execute([alert.0])?;
    }
    Ok(())
}

/// An alert that has ended waits again.
pub(super) fn again(conn: &Connection, alert: AlertId) -> Result<(), Failure> {
    conn.prepare_cached("UPDATE origin SET settled = 0 WHERE alert = ?")?.execute([alert.0])?;
    Ok(())
}

/// What waits here and is not on its way, and waits there as far as we have said, with its key.
pub(super) fn waiting(conn: &Connection) -> Result<Vec<(AlertId, String)>, Failure> {
    const WAITING: &str = "
        SELECT o.alert, o.key FROM origin o JOIN alert a ON a.id = o.alert
        WHERE o.settled = 0 AND o.known = 'N' AND a.state = 'waiting'
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)";
    let mut waiting = conn.prepare_cached(WAITING)?;
    let rows = waiting.query_map([], |row| Ok((AlertId(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
