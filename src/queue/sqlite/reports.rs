//! What people see of the alerts and of the ledger: list, show, counts, audit. Nothing here writes.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Row, named_params, params};
use uuid::Uuid;

use super::clock::{Now, timestamp};
use super::failure::Failure;
use crate::alert::{AlertId, Phone, Reason, Severity};
use crate::queue::ledger::MAX_OFFENDERS;
use crate::queue::past::STORM_GUARD;
use crate::queue::report::{HISTORY, step_micros};
use crate::queue::{
    AlertRow, AlertState, AttemptRow, AttemptState, Audit, Depth, Filter, Layer, Note, Offender, Period,
    Stats, Story,
};

/// An alert as [`alert_row`] reads it: its own state, and that of the unresolved attempt that it stands in.
const ALERT: &str =
    "SELECT a.id, a.phone, a.text, a.severity, a.state, t.state, a.reason, a.queued_at, a.ended_at FROM";
/// Every alert, with that attempt.
const EACH: &str = "alert a
    LEFT JOIN attempt_alert s ON s.alert = a.id AND s.unresolved = 1
    LEFT JOIN attempt t ON t.seq = s.attempt";
/// The same from the attempt on, in that order, for attempts of which there are few.
const UNDECIDED: &str = "attempt t
    CROSS JOIN attempt_alert s ON s.attempt = t.seq AND s.unresolved = 1
    CROSS JOIN alert a ON a.id = s.alert";

pub(super) fn list(conn: &Connection, filter: &Filter) -> Result<Vec<AlertRow>, Failure> {
    let (from, state) = match filter.state {
        None => (EACH, "true"),
        Some(AlertState::Waiting) => {
            (EACH, "a.state = 'waiting' AND coalesce(t.state, 'open') NOT IN ('in_doubt', 'held')")
        }
        Some(AlertState::InDoubt) => (UNDECIDED, "a.state = 'waiting' AND t.state = 'in_doubt'"),
        Some(AlertState::Held) => (UNDECIDED, "a.state = 'waiting' AND t.state = 'held'"),
        Some(AlertState::Sent) => (EACH, "a.state = 'sent'"),
        Some(AlertState::Ignored) => (EACH, "a.state = 'ignored'"),
    };
    // The punctuation is that of `Phone::parse`.
    let sql = format!(
        "{ALERT} {from}
         WHERE {state} AND a.id <= :last AND (:to IS NULL OR :to =
            replace(replace(replace(replace(replace(a.phone, ' ', ''), '-', ''), '(', ''), ')', ''), '.', ''))
         ORDER BY a.id DESC LIMIT :limit"
    );
    let params = named_params! {
        ":last": filter.before.map_or(i64::MAX, |id| id.0.saturating_sub(1)),
        ":to": filter.to.as_ref().map(Phone::as_str),
        ":limit": i64::try_from(filter.limit).unwrap_or(i64::MAX),
    };
    Ok(conn.prepare_cached(&sql)?.query_map(params, alert_row)?.collect::<Result<_, _>>()?)
}

/// The columns that [`attempt_row`] reads.
macro_rules! attempts {
    ($rest:literal) => {
        concat!(
            "SELECT t.seq, t.id, t.number, t.recipient, t.text, t.dispatcher, t.state, t.begun_at, t.ended_at, t.class,
                t.code, t.detail, t.refs, t.possible_duplicate, t.resend_of, t.delivery, i.name
             FROM attempt t JOIN instance i ON i.seq = t.instance ",
            $rest
        )
    };
}

pub(super) fn show(conn: &Connection, id: AlertId) -> Result<Option<Story>, Failure> {
    const ATTEMPTS: &str =
        attempts!("WHERE t.seq IN (SELECT attempt FROM attempt_alert WHERE alert = ?) ORDER BY t.seq");
    const NOTES: &str = "SELECT at, what, reason, detail, who FROM note WHERE alert = ? ORDER BY seq";
    let sql = format!("{ALERT} {EACH} WHERE a.id = ?");
    let Some(alert) = conn.prepare_cached(&sql)?.query_row([id.0], alert_row).optional()? else {
        return Ok(None);
    };
    let attempts = attempts(conn, ATTEMPTS, [id.0])?;
    let notes = conn.prepare_cached(NOTES)?.query_map([id.0], note)?.collect::<Result<_, _>>()?;
    Ok(Some(Story { alert, attempts, notes }))
}

/// The last begun first.
pub(super) fn recent(
    conn: &Connection,
    before: Option<Uuid>,
    limit: usize,
) -> Result<Vec<AttemptRow>, Failure> {
    const LAST: &str = attempts!("ORDER BY t.seq DESC LIMIT ?");
    const BEFORE: &str =
        attempts!("WHERE t.seq < (SELECT seq FROM attempt WHERE id = ?2) ORDER BY t.seq DESC LIMIT ?1");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    match before {
        None => attempts(conn, LAST, [limit]),
        Some(before) => attempts(conn, BEFORE, params![limit, before.to_string()]),
    }
}

/// In doubt or held, the first begun first. Their keys are sorted, not their rows.
pub(super) fn undecided(conn: &Connection, limit: usize) -> Result<Vec<AttemptRow>, Failure> {
    const UNDECIDED: &str = attempts!(
        "WHERE t.seq IN (SELECT seq FROM attempt WHERE state IN ('in_doubt', 'held') ORDER BY seq LIMIT ?)
         ORDER BY t.seq"
    );
    attempts(conn, UNDECIDED, [i64::try_from(limit).unwrap_or(i64::MAX)])
}

fn attempts(conn: &Connection, sql: &str, params: impl Params) -> Result<Vec<AttemptRow>, Failure> {
    let mut found = conn.prepare_cached(sql)?;
    let mut rows = found.query(params)?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        attempts.push(attempt_row(conn, row)?);
    }
    Ok(attempts)
}

pub(super) fn history(conn: &Connection, since: Timestamp, step: Duration) -> Result<Vec<Period>, Failure> {
    const HISTORY_OF: &str = "
        SELECT ended_at / :step * :step AS since, dispatcher, sum(state = 'accepted'), sum(state <> 'accepted'),
            sum(CASE WHEN state = 'accepted' THEN max(ended_at - begun_at, 0) ELSE 0 END) / 1000
        FROM attempt
        WHERE seq > (SELECT max(seq) FROM attempt) - :looks AND ended_at >= :since AND dispatcher <> :guard
        GROUP BY 1, 2 ORDER BY 1, 2";
    let params = named_params! {
        ":step": step_micros(step), ":looks": i64::try_from(HISTORY).unwrap_or(i64::MAX),
        ":since": since.as_microsecond(), ":guard": STORM_GUARD,
    };
    let mut found = conn.prepare_cached(HISTORY_OF)?;
    let periods = found.query_map(params, |row| {
        Ok(Period {
            from: timestamp(row.get(0)?),
            dispatcher: text(row, 1)?,
            accepted: count(row, 2)?,
            failed: count(row, 3)?,
            accepted_millis: count(row, 4)?,
        })
    })?;
    Ok(periods.collect::<Result<_, _>>()?)
}

pub(super) fn depth(conn: &Connection) -> Result<Depth, Failure> {
    const WAITING: &str = "
        SELECT nullif(rank, 2147483648), count(*), min(queued_at) FROM alert INDEXED BY alert_waiting
        WHERE state = 'waiting' GROUP BY rank ORDER BY rank";
    const UNRESOLVED: &str = "
        SELECT (SELECT count(*) FROM attempt WHERE state = 'open'),
            (SELECT count(*) FROM attempt WHERE state = 'in_doubt'),
            (SELECT count(*) FROM attempt WHERE state = 'held')";
    let mut found = conn.prepare_cached(WAITING)?;
    let layers = found.query_map([], |row| {
        let (alerts, oldest) = (count(row, 1)?, Some(timestamp(row.get(2)?)));
        Ok(Layer { severity: severity(row, 0)?, alerts, oldest })
    })?;
    let waiting = layers.collect::<Result<_, _>>()?;
    Ok(conn.prepare_cached(UNRESOLVED)?.query_row([], |row| {
        Ok(Depth { waiting, open: count(row, 0)?, in_doubt: count(row, 1)?, held: count(row, 2)? })
    })?)
}

pub(super) fn stats(conn: &Connection, now: Now) -> Result<Stats, Failure> {
    const STATS: &str = "
        SELECT (SELECT count(*) FROM alert WHERE state = 'waiting'),
            (SELECT min(queued_at) FROM alert WHERE state = 'waiting'),
            (SELECT count(*) FROM attempt WHERE state = 'open'),
            (SELECT count(*) FROM attempt WHERE state = 'in_doubt'),
            (SELECT count(*) FROM attempt WHERE state = 'held'),
            (SELECT count(*) FROM attempt WHERE state = 'held' AND class = 'from_the_past'),
            (SELECT count(*) FROM alert WHERE state = 'sent'),
            (SELECT count(*) FROM alert WHERE state = 'ignored'),
            (SELECT count(*) FROM attempt WHERE state = 'accepted'),
            (SELECT count(*) FROM attempt WHERE state = 'accepted' AND possible_duplicate = 1)";
    let age = |queued_at: i64| u64::try_from(now.wall.saturating_sub(queued_at) / 1_000_000).unwrap_or(0);
    Ok(conn.prepare_cached(STATS)?.query_row([], |row| {
        Ok(Stats {
            waiting: count(row, 0)?,
            oldest_waiting_seconds: row.get::<_, Option<i64>>(1)?.map(age),
            open: count(row, 2)?,
            in_doubt: count(row, 3)?,
            held: count(row, 4)?,
            held_by_guard: count(row, 5)?,
            sent: count(row, 6)?,
            ignored: count(row, 7)?,
            sms: count(row, 8)?,
            possible_duplicates: count(row, 9)?,
        })
    })?)
}

pub(super) fn audit(conn: &Connection) -> Result<Audit, Failure> {
    /// What accepted attempts carried and still speak for.
    const CARRIED: &str = "
        WITH carried AS MATERIALIZED (
            SELECT s.alert, count(*) AS times, sum(t.possible_duplicate) AS marked
            FROM attempt t JOIN attempt_alert s ON s.attempt = t.seq
            WHERE t.state = 'accepted' AND s.counted = 0 AND s.requeued = 0
            GROUP BY s.alert)";
    const COUNTS: &str = "
        SELECT (SELECT count(*) FROM alert),
            (SELECT count(*) FROM alert WHERE state = 'waiting'),
            (SELECT count(*) FROM alert WHERE state = 'sent' AND id IN (SELECT alert FROM carried)),
            (SELECT count(*) FROM alert WHERE state = 'ignored' AND reason IS NOT NULL),
            (SELECT count(*) FROM attempt WHERE state IN ('in_doubt', 'held')),
            (SELECT count(DISTINCT s.alert) FROM attempt t JOIN attempt_alert s ON s.attempt = t.seq
                WHERE t.state = 'accepted' AND t.possible_duplicate = 1 AND s.counted = 0)";
    const OFFENDERS: &str = "
        SELECT id, NULL, 'waits, though an accepted attempt carries it' FROM alert
            WHERE state = 'waiting' AND id IN (SELECT alert FROM carried)
        UNION ALL
        SELECT id, NULL, 'sent, but no accepted attempt carries it' FROM alert
            WHERE state = 'sent' AND id NOT IN (SELECT alert FROM carried)
        UNION ALL
        SELECT id, NULL, 'ignored without a reason' FROM alert WHERE state = 'ignored' AND reason IS NULL
        UNION ALL
        SELECT alert, NULL, 'accepted more than once, but not marked a possible duplicate' FROM carried
            WHERE times - marked > 1
        UNION ALL
        SELECT NULL, id, 'unresolved, but carries no alert' FROM attempt t
            WHERE state IN ('open', 'in_doubt', 'held')
                AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.attempt = t.seq AND s.unresolved = 1)
        UNION ALL
        SELECT s.alert, t.id, 'held by an attempt that is gone or has ended'
            FROM attempt_alert s LEFT JOIN attempt t ON t.seq = s.attempt
            WHERE s.unresolved = 1 AND coalesce(t.state NOT IN ('open', 'in_doubt', 'held'), true)
        LIMIT :limit";
    let mut audit = conn.prepare_cached(&format!("{CARRIED} {COUNTS}"))?.query_row([], |row| {
        Ok(Audit {
            alerts: count(row, 0)?,
            waiting: count(row, 1)?,
            sent: count(row, 2)?,
            ignored: count(row, 3)?,
            // The ledger is as old as the file.
            before_ledger: 0,
            unresolved: count(row, 4)?,
            possible_duplicates: count(row, 5)?,
            offenders: Vec::new(),
        })
    })?;
    let limit = i64::try_from(MAX_OFFENDERS).unwrap_or(i64::MAX);
    audit.offenders = (conn.prepare_cached(&format!("{CARRIED} {OFFENDERS}"))?)
        .query_map(named_params! { ":limit": limit }, |row| {
            Ok(Offender {
                alert: row.get::<_, Option<i64>>(0)?.map(AlertId),
                attempt: row.get::<_, Option<String>>(1)?.and_then(|id| id.parse().ok()),
                what: row.get(2)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(audit)
}

/// The alerts that an attempt carries, and those that it only counts, in their order.
pub(super) fn alerts_of(conn: &Connection, attempt: i64) -> Result<(Vec<AlertId>, Vec<AlertId>), Failure> {
    const ALERTS: &str = "SELECT alert, counted FROM attempt_alert WHERE attempt = ? ORDER BY position";
    let (mut carried, mut counted) = (Vec::new(), Vec::new());
    let mut found = conn.prepare_cached(ALERTS)?;
    let mut rows = found.query([attempt])?;
    while let Some(row) = rows.next()? {
        if row.get(1)? { &mut counted } else { &mut carried }.push(AlertId(row.get(0)?));
    }
    Ok((carried, counted))
}

/// A text as a foreign program left it: what is no UTF-8 is replaced, since one bad row must not hold up the rest.
pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(row.get_ref(column)?.as_bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())?)
}

/// The first characters of such a text, so many at most, and nothing of the rest is kept.
pub(super) fn text_of(row: &Row<'_>, column: usize, most: usize) -> rusqlite::Result<String> {
    let bytes = row.get_ref(column)?.as_bytes()?;
    let mut text = String::from_utf8_lossy(bytes.get(..most.saturating_mul(4)).unwrap_or(bytes)).into_owned();
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.shrink_to_fit();
    }
    Ok(text)
}

pub(super) fn severity(row: &Row<'_>, column: usize) -> rusqlite::Result<Severity> {
    Ok(Severity(row.get(column)?))
}

/// An id that our own `begin` wrote.
pub(super) fn id_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    parsed(column, Uuid::parse_str(&text(row, column)?))
}

fn parsed<T, E: std::error::Error + Send + Sync + 'static>(
    column: usize,
    parsed: Result<T, E>,
) -> rusqlite::Result<T> {
    parsed.map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e))
    })
}

fn alert_row(row: &Row<'_>) -> rusqlite::Result<AlertRow> {
    let (own, holder) = (text(row, 4)?, row.get::<_, Option<String>>(5)?);
    Ok(AlertRow {
        id: AlertId(row.get(0)?),
        to: text(row, 1)?,
        text: text(row, 2)?,
        severity: severity(row, 3)?,
        state: match (own.as_str(), holder.as_deref()) {
            ("sent", _) => AlertState::Sent,
            ("ignored", _) => AlertState::Ignored,
            (_, Some("in_doubt")) => AlertState::InDoubt,
            (_, Some("held")) => AlertState::Held,
            _ => AlertState::Waiting,
        },
        reason: reason(row, 6)?,
        queued_at: Some(timestamp(row.get(7)?)),
        ended_at: row.get::<_, Option<i64>>(8)?.map(timestamp),
    })
}

fn attempt_row(conn: &Connection, row: &Row<'_>) -> Result<AttemptRow, Failure> {
    let (carried, counted) = alerts_of(conn, row.get(0)?)?;
    Ok(AttemptRow {
        id: id_of(row, 1)?,
        number: row.get(2)?,
        recipient: text(row, 3)?,
        text: text(row, 4)?,
        dispatcher: text(row, 5)?,
        // The table allows no other word.
        state: AttemptState::from_word(&text(row, 6)?).unwrap_or(AttemptState::Held),
        begun_at: timestamp(row.get(7)?),
        ended_at: row.get::<_, Option<i64>>(8)?.map(timestamp),
        class: row.get(9)?,
        code: row.get(10)?,
        detail: row.get(11)?,
        references: parsed(12, serde_json::from_str(&text(row, 12)?))?,
        possible_duplicate: row.get(13)?,
        resend_of: row.get::<_, Option<String>>(14)?.and_then(|id| id.parse().ok()),
        delivery: row.get(15)?,
        instance: text(row, 16)?,
        carried,
        counted,
    })
}

fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note {
        at: timestamp(row.get(0)?),
        what: text(row, 1)?,
        reason: reason(row, 2)?,
        detail: text(row, 3)?,
        by: text(row, 4)?,
    })
}

fn reason(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Reason>> {
    Ok(row.get::<_, Option<String>>(column)?.and_then(|word| Reason::from_word(&word)))
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}
