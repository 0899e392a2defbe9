//! What the engine looks for: alerts to send, doubts to resolve.

use std::cmp::Reverse;
use std::time::Duration;

use rusqlite::{Connection, Row, ToSql, params};
use uuid::Uuid;

use super::clock::{Now, boot_id, timestamp};
use super::failure::Failure;
use super::old::TooOld;
use super::origin::repeats;
use super::reports::{alerts_of, id_of, severity, text, text_of};
use super::verbs::reap;
use crate::alert::{Alert, AlertId, Phone, Severity, Tried};
use crate::queue::ledger::REMEMBERED;
use crate::queue::wall::{SLACK, Wall};
use crate::queue::{CLAIMED_BYTES, Doubt, Look, Place, TEXT_CLAIMED, is_full_page};

/// The rank of an alert without severity; see `alert.rank`.
const LAST: i64 = 2_147_483_648;

/// A way to walk the alerts: the index, and the range in its order.
type Walk = (&'static str, &'static str);
/// The next in the order of [`Place`] among the equally severe.
const EQUAL: Walk = ("INDEXED BY alert_waiting", "a.rank = :rank AND a.id > :id ORDER BY a.id");
/// All that are less severe.
const BELOW: Walk = ("INDEXED BY alert_waiting", "a.rank > :rank ORDER BY a.rank, a.id");
/// The keys above the highest seen: never what waits below, however much it is.
const NEW: Walk = ("NOT INDEXED", "a.id > :id ORDER BY a.id");

/// What has come of the alert `a` so far, as JSON ([`tried`]); null where nothing was tried. What may have been taken is as
/// [`crate::queue::ledger::may_have_been_taken`] has it.
const TRIED: &str = "
    SELECT CASE WHEN count(*) > 0 THEN json_array(
        max(taken), coalesce(max(number) FILTER (WHERE since), 0), count(*) FILTER (WHERE since AND own),
        max(ended_at) FILTER (WHERE since AND own), json_group_array(ended_at) FILTER (WHERE since AND taken AND counted = 0))
    END FROM (
        SELECT t.number, t.own, t.begun_at, t.ended_at, s.counted, t.begun_at >= coalesce(a.requeued_at, 0) AS since,
            t.state IN ('resent', 'cancelled') OR t.state = 'failed' AND coalesce(t.class, '') = 'failed' AS taken
        FROM attempt_alert s JOIN attempt t ON t.seq = s.attempt WHERE s.alert = a.id)";

/// The claim that walks so, leaves out what is too old, and stops at the limit.
fn claim_by((index, range): Walk, old: Option<&TooOld>) -> String {
    let repeats = repeats!("a.id");
    let young = old.map_or(String::new(), |old| format!("AND NOT ({})", old.sql()));
    format!(
        "SELECT a.id, a.phone, a.text, a.severity, a.queued_at, {repeats}, ({TRIED})
        FROM alert a {index}
        WHERE a.state = 'waiting'
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)
            {young}
            AND {range} LIMIT :limit"
    )
}

/// Alerts that wait in no unresolved attempt. Keys become visible in order, so a look for new ones needs no
/// overlap.
pub(super) fn claim(
    conn: &Connection,
    look: Look,
    limit: usize,
    old: Option<&TooOld>,
) -> Result<Vec<Alert>, Failure> {
    match look {
        Look::New { after } => {
            let mut new = claimed(conn, NEW, &[(":id", &after.0)], limit, old)?;
            new.sort_by_key(|a| Place { severity: a.severity, id: a.id });
            Ok(new)
        }
        Look::Full { after: None } => claimed(conn, BELOW, &[(":rank", &i64::MIN)], limit, old),
        Look::Full { after: Some(Place { severity, id }) } => {
            let rank = severity.0.map_or(LAST, i64::from);
            let mut page = claimed(conn, EQUAL, &[(":rank", &rank), (":id", &id.0)], limit, old)?;
            if !is_full_page(&page, limit) {
                page.extend(claimed(conn, BELOW, &[(":rank", &rank)], limit - page.len(), old)?);
            }
            Ok(page)
        }
    }
}

fn claimed(
    conn: &Connection,
    walk: Walk,
    from: &[(&str, &dyn ToSql)],
    limit: usize,
    old: Option<&TooOld>,
) -> Result<Vec<Alert>, Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let old_params = old.map(TooOld::params).unwrap_or_default();
    let params = [from, &[(":limit", &limit)], &old_params].concat();
    let mut found = conn.prepare_cached(&claim_by(walk, old))?;
    let (mut alerts, mut bytes) = (Vec::new(), 0);
    let mut rows = found.query(params.as_slice())?;
    let now = Now::read().wall;
    while let Some(row) = rows.next()? {
        let alert = alert(row, now)?;
        bytes += alert.text.len();
        alerts.push(alert);
        if bytes >= CLAIMED_BYTES {
            break;
        }
    }
    Ok(alerts)
}

/// The highest key.
pub(super) fn newest(conn: &Connection) -> Result<AlertId, Failure> {
    const NEWEST: &str = "SELECT coalesce(max(id), 0) FROM alert";
    Ok(AlertId(conn.prepare_cached(NEWEST)?.query_row([], |row| row.get(0))?))
}

pub(super) fn doubts(
    conn: &Connection,
    owner: Uuid,
    (now, wall): (Now, Wall),
) -> Result<Vec<Doubt>, Failure> {
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
            age: wall.age(since, now.wall),
            possible_duplicate: row.get(7)?,
            severity: Severity(row.get::<_, Option<i64>>(8)?.and_then(|rank| i32::try_from(rank).ok())),
            carried,
            counted,
        });
    }
    Ok(doubts)
}

fn alert(row: &Row<'_>, now: i64) -> Result<Alert, Failure> {
    let (taken, tried) = match row.get::<_, Option<String>>(6)? {
        Some(found) => tried(&found, now)?,
        None => (false, Tried::default()),
    };
    Ok(Alert {
        id: AlertId(row.get(0)?),
        phone: text(row, 1)?,
        text: text_of(row, 2, TEXT_CLAIMED)?,
        severity: severity(row, 3)?,
        queued_at: timestamp(row.get(4)?),
        maybe_sent: taken || row.get(5)?,
        tried,
    })
}

/// Reads what [`TRIED`] found: whether an SMS with it may have been taken, and the rest. What by this clock has not happened
/// yet says nothing, and neither does a number that none of ours can be: an attempt that somebody has changed by hand must
/// not keep all that waits from being claimed.
fn tried(found: &str, now: i64) -> Result<(bool, Tried), Failure> {
    type Found = (u8, i64, i64, Option<i64>, Vec<Option<i64>>);
    let wrong = |e: serde_json::Error| Failure::Refused(format!("table attempt: {e}: {found:?}"));
    let (taken, attempts, failures, failed, ended): Found = serde_json::from_str(found).map_err(wrong)?;
    let count = |number: i64| u32::try_from(number).unwrap_or(0);
    let (attempts, failures) = (count(attempts), count(failures));
    let age = |then: i64| {
        let age = now.saturating_sub(then);
        (age >= -SLACK).then(|| Duration::from_micros(age.max(0).unsigned_abs()))
    };
    let mut copies: Vec<Duration> =
        ended.into_iter().flatten().filter_map(age).filter(|age| *age < REMEMBERED).collect();
    copies.sort_unstable_by_key(|age| Reverse(*age));
    Ok((taken != 0, Tried { attempts, failures, failed: failed.and_then(age), copies }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Age;
    use crate::queue::sqlite::file::SCHEMA;

    /// A claim costs what it returns: each look walks an index in its order and sorts nothing.
    #[test]
    fn claims_walk_an_index() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(SCHEMA).unwrap();
        let plan = |sql: &str| -> String {
            let mut explained = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = explained.raw_query().mapped(|row| row.get::<_, String>(3));
            steps.map(Result::unwrap).collect::<Vec<_>>().join("; ")
        };
        let age = Age { text: "1 hour".into(), duration: std::time::Duration::from_secs(3600) };
        let clocks = crate::queue::sqlite::Clocks::default();
        let old = TooOld::look(&conn, &age, clocks.read(), &std::sync::Mutex::default()).unwrap();
        for (walk, expected) in [
            (EQUAL, "SEARCH a USING INDEX alert_waiting (rank=? AND id>?);"),
            (BELOW, "SEARCH a USING INDEX alert_waiting (rank>?);"),
            (NEW, "SEARCH a USING INTEGER PRIMARY KEY (rowid>?);"),
        ] {
            for old in [None, Some(&old)] {
                let plan = plan(&claim_by(walk, old));
                assert!(plan.starts_with(expected) && !plan.contains("TEMP B-TREE"), "{plan}");
                assert!(plan.contains("attempt_alert_unresolved (alert=?)"), "{plan}");
            }
        }
    }
}
