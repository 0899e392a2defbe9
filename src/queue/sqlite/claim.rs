//! What the engine looks for: alerts to send, doubts to resolve.

use rusqlite::{Connection, Row, named_params, params};
use uuid::Uuid;

use super::clock::{Now, boot_id, timestamp};
use super::failure::Failure;
use super::reports::{alerts_of, id_of, severity, text};
use super::verbs::reap;
use crate::alert::{Alert, AlertId, Phone, Severity};
use crate::queue::{Doubt, Look, Place};

/// The rank of an alert without severity; see `alert.rank`.
const LAST: i64 = 2_147_483_648;

/// Alerts that wait in no unresolved attempt. Keys become visible in order, so a look for new ones needs no
/// overlap.
pub(super) fn claim(conn: &Connection, look: Look, limit: usize) -> Result<Vec<Alert>, Failure> {
    /// Walks `alert_waiting` from a place on, and stops at the limit.
    const FULL: &str = "
        SELECT a.id, a.phone, a.text, a.severity, a.queued_at, EXISTS (
            SELECT 1 FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
            WHERE s.alert = a.id AND s.requeued = 0
                AND (t.state IN ('resent', 'cancelled') OR t.state = 'failed' AND t.class = 'failed'))
        FROM alert a INDEXED BY alert_waiting
        WHERE a.state = 'waiting' AND (a.rank, a.id) > (:rank, :id)
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)
        ORDER BY a.rank, a.id LIMIT :limit";
    /// Walks the keys above the highest seen: never what waits below, however much it is.
    const NEW: &str = "
        SELECT a.id, a.phone, a.text, a.severity, a.queued_at, EXISTS (
            SELECT 1 FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt
            WHERE s.alert = a.id AND s.requeued = 0
                AND (t.state IN ('resent', 'cancelled') OR t.state = 'failed' AND t.class = 'failed'))
        FROM alert a NOT INDEXED
        WHERE a.state = 'waiting' AND a.id > :id
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)
        ORDER BY a.id LIMIT :limit";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match look {
        Look::Full { after } => {
            let (rank, id) = after.map_or((i64::MIN, i64::MIN), |place| (rank(place.severity), place.id.0));
            let params = named_params! { ":rank": rank, ":id": id, ":limit": limit };
            Ok(conn.prepare_cached(FULL)?.query_map(params, alert)?.collect::<Result<_, _>>()?)
        }
        Look::New { after } => {
            let params = named_params! { ":id": after.0, ":limit": limit };
            let mut new =
                conn.prepare_cached(NEW)?.query_map(params, alert)?.collect::<Result<Vec<_>, _>>()?;
            new.sort_by_key(|a: &Alert| Place { severity: a.severity, id: a.id });
            Ok(new)
        }
    }
}

pub(super) fn doubts(conn: &Connection, owner: Uuid, now: Now) -> Result<Vec<Doubt>, Failure> {
    const DOUBTS: &str = "
        SELECT t.seq, t.id, t.recipient, t.text, t.dispatcher, t.number, t.doubt_since, t.possible_duplicate,
            (SELECT min(a.rank) FROM attempt_alert s JOIN alert a ON a.id = s.alert WHERE s.attempt = t.seq)
        FROM attempt t JOIN instance i ON i.seq = t.instance
        WHERE t.state = 'in_doubt' AND (i.id = ?1 OR NOT (i.boot = ?2 AND i.lease_until > ?3))
        ORDER BY t.doubt_since, t.seq";
    reap(conn, now)?;
    let mut found = conn.prepare_cached(DOUBTS)?;
    let mut rows = found.query(params![owner.to_string(), boot_id(), now.uptime])?;
    let mut doubts = Vec::new();
    while let Some(row) = rows.next()? {
        // Our own `begin` wrote it; a number that is none would be somebody else's doing, and a person's to solve.
        let Ok(recipient) = Phone::parse(&text(row, 2)?) else { continue };
        let (carried, counted) = alerts_of(conn, row.get(0)?)?;
        let since: i64 = row.get::<_, Option<i64>>(6)?.unwrap_or(now.wall);
        doubts.push(Doubt {
            id: id_of(row, 1)?,
            recipient,
            text: text(row, 3)?.into(),
            dispatcher: text(row, 4)?.into(),
            number: row.get(5)?,
            age: std::time::Duration::from_micros(u64::try_from(now.wall.saturating_sub(since)).unwrap_or(0)),
            possible_duplicate: row.get(7)?,
            severity: Severity(row.get::<_, Option<i64>>(8)?.and_then(|rank| i32::try_from(rank).ok())),
            carried,
            counted,
        });
    }
    Ok(doubts)
}

fn alert(row: &Row<'_>) -> rusqlite::Result<Alert> {
    Ok(Alert {
        id: AlertId(row.get(0)?),
        phone: text(row, 1)?,
        text: text(row, 2)?,
        severity: severity(row, 3)?,
        queued_at: timestamp(row.get(4)?),
        maybe_sent: row.get(5)?,
    })
}

fn rank(severity: Severity) -> i64 {
    severity.0.map_or(LAST, i64::from)
}
