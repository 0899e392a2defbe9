//! Looking for what waits.
//!
//! A walk through all that waits goes in the order of severity and key, page by page. With the index of `smsd
//! db init --notify` a page is read from that index where the last one ended, and costs what it returns.
//! NAV's table has no such index, and to find a page there the whole table must be read, most of which was
//! sent long ago. So one reading finds the places of many pages ([`SCAN`]) in order and keeps them, some 3
//! MB; a page is then read by its keys, and what has changed since the reading is seen as it is now, or left
//! to the next walk. To read in the order of the primary key instead would cost each page its share of the
//! table and no memory, but the most urgent alert might stand in the last of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::notes::same;
use super::people::{Seen, aged};
use super::{BEGIN, Verb, time};
use crate::alert::{Alert, AlertId, Severity, Tried};
use crate::queue::ledger::REMEMBERED;
use crate::queue::postgres::{Client, Parameter, in_transaction};
use crate::queue::wall::SLACK;
use crate::queue::{CLAIMED_BYTES, Look, Place, TEXT_CLAIMED, is_full_page};

/// [`TEXT_CLAIMED`] as PostgreSQL takes it.
const TEXT: i32 = TEXT_CLAIMED as i32;

/// Keys come from a sequence, and a row becomes visible when its transaction commits: later ones may be
/// seen first. So a look for new rows goes this far back; what is later still is found by the next full look.
const OVERLAP: i64 = 200;

/// So many places are kept of one reading of a table without our index.
const SCAN: usize = 250_000;
/// What a page may have in bytes.
const BYTES: i64 = CLAIMED_BYTES as i64;
/// For a page that is smaller than this, nothing is kept: it is a look at the head, and no walk.
const WALK: usize = 1_000;

/// An alert as it is claimed, with what has come of it so far ([`tried`]); null where nothing was tried. An SMS with it may
/// have been taken if an attempt that it stood in ended without anyone knowing. As a join this is planned as a walk through
/// all attempts for each alert while the statistics are old, which they are in a storm; a query within the query (kept one
/// by `OFFSET 0`) can only use the keys.
macro_rules! alert {
    () => {
        concat!(
            "q.id::bigint, q.phone::text, left(q.msg, $6), q.severity, \
             extract(epoch FROM coalesce(q.time::timestamptz, now()))::float8, \
             (SELECT CASE WHEN count(*) > 0 THEN ARRAY[bool_or(t.taken)::int, \
                    max(t.number) FILTER (WHERE t.since), count(*) FILTER (WHERE t.since AND t.own), \
                    min(t.ended) FILTER (WHERE t.since AND t.own)]::float8[] \
                || array_agg(t.ended ORDER BY t.ended DESC) FILTER (WHERE t.since AND t.taken AND t.carried) END \
                FROM (SELECT a.*, l.carried, a.begun_at >= coalesce((SELECT max(n.at) FROM smsd.note n \
                        WHERE n.alert = q.id AND n.what IN ('requeued', 'released') AND ",
            same!("n"),
            "), '-infinity') AS since \
                    FROM smsd.attempt_alert l CROSS JOIN LATERAL (SELECT a.number, a.own, a.begun_at, \
                            a.state IN ('resent', 'cancelled') OR a.state = 'failed' AND a.class = 'failed' AS taken, \
                            (extract(epoch FROM now()) - extract(epoch FROM a.ended_at))::float8 AS ended \
                        FROM smsd.attempt a WHERE a.id = l.attempt OFFSET 0) a \
                    WHERE l.alert = q.id AND ",
            same!("l"),
            ") t)"
        )
    };
}

/// It waits and stands in no unresolved attempt; and, where there is an age, it is not about to expire.
macro_rules! free {
    (any) => {
        "q.sent = 'N' AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id)"
    };
    (young) => {
        concat!(
            "q.sent = 'N' AND (",
            aged!(),
            ") IS NOT TRUE AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id)"
        )
    };
}

/// A statement for those who know no age, and for those who do: it costs less where nothing can be too old.
struct Twice {
    any: &'static str,
    young: &'static str,
}

impl Twice {
    fn by(&self, seen: &Seen) -> &'static str {
        if seen.knows_an_age() { self.young } else { self.any }
    }
}

macro_rules! twice {
    ($statement:ident) => {
        Twice { any: $statement!(any), young: $statement!(young) }
    };
}

/// New rows first, then, as far as there is room, late ones from below.
macro_rules! new {
    ($whose:ident) => {
        concat!(
            "WITH near AS ((SELECT q.id FROM smsq q WHERE q.id > $7 AND ",
            free!($whose),
            " ORDER BY q.id LIMIT $8) UNION ALL \
        (SELECT q.id FROM smsq q WHERE q.id <= $7 AND q.id > $7 - $9 AND ",
            free!($whose),
            " ORDER BY q.id DESC LIMIT $8)), \
     chosen AS (SELECT q.*, sum(octet_length(left(q.msg, $6))) OVER (ORDER BY q.id <= $7, q.id) \
            - octet_length(left(q.msg, $6)) AS before \
        FROM (SELECT id FROM near ORDER BY id <= $7, id LIMIT $8) n JOIN smsq q ON q.id = n.id) SELECT ",
            alert!(),
            " FROM chosen q WHERE coalesce(q.before, 0) < $10 ORDER BY q.severity NULLS LAST, q.id"
        )
    };
}
const NEW: Twice = twice!(new);

/// What waits from a place on, in three ranges of the index, of which one after the other is read until there
/// is enough: the equally severe (`$8`) above the key (`$7`), the less severe, and those without severity
/// above the key `$9`.
macro_rules! ranges {
    ($whose:ident, $columns:literal) => {
        concat!(
            "SELECT * FROM ((SELECT ",
            $columns,
            " FROM smsq q WHERE q.severity = $8 AND q.id > $7 AND ",
            free!($whose),
            " ORDER BY q.severity, q.id LIMIT $10) UNION ALL (SELECT ",
            $columns,
            " FROM smsq q WHERE q.severity > $8 AND ",
            free!($whose),
            " ORDER BY q.severity, q.id LIMIT $10) UNION ALL (SELECT ",
            $columns,
            " FROM smsq q WHERE q.severity IS NULL AND q.id > $9 AND ",
            free!($whose),
            " ORDER BY q.severity, q.id LIMIT $10)) ranges LIMIT $10"
        )
    };
}

/// What `page` holds, in the order of places, until its texts have so many bytes.
macro_rules! until_full {
    ($bytes:literal) => {
        concat!(
            " SELECT ",
            alert!(),
            " FROM (SELECT p.*, sum(octet_length(left(p.msg, $6))) OVER (ORDER BY p.severity NULLS LAST, p.id) \
                - octet_length(left(p.msg, $6)) AS before FROM page p) q \
             WHERE coalesce(q.before, 0) < ",
            $bytes,
            " ORDER BY q.severity NULLS LAST, q.id"
        )
    };
}

/// A page of all that waits, by the index.
macro_rules! full {
    ($whose:ident) => {
        concat!("WITH page AS MATERIALIZED (", ranges!($whose, "q.*"), ")", until_full!("$11"))
    };
}
const FULL: Twice = twice!(full);

/// The places of what waits, by a reading of the table, in two arrays.
macro_rules! places {
    ($whose:ident) => {
        concat!(
            "SELECT coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.severity), '{}') \
     FROM (SELECT q.id::bigint AS id, q.severity FROM smsq q WHERE ",
            free!($whose),
            " AND (q.severity = $8 AND q.id > $7 OR q.severity > $8 OR q.severity IS NULL AND q.id > $9) \
        ORDER BY q.severity NULLS LAST, q.id LIMIT $10) p"
        )
    };
}
const PLACES: Twice = twice!(places);

/// Those of the keys that still wait.
macro_rules! these {
    ($whose:ident) => {
        concat!(
            "WITH page AS MATERIALIZED (SELECT q.* FROM smsq q WHERE q.id = ANY ($7::bigint[]) AND ",
            free!($whose),
            ")",
            until_full!("$8")
        )
    };
}
const THESE: Twice = twice!(these);

/// The ranges of an index are read in its order, however the planner sees the table.
const BY_INDEX: &str =
    "SELECT set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)";

/// The table is read from its beginning to its end.
const BY_TABLE: &str =
    "SELECT set_config('enable_seqscan', 'on', true), set_config('random_page_cost', '4', true)";

const NEWEST: &str = "SELECT coalesce(max(id), 0)::bigint FROM smsq";
const INDEXED: &str =
    "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('smsd_waiting') AND indisvalid)";

/// Where looks stand.
#[derive(Default)]
pub(super) struct Walks {
    /// What waits has an index of ours, as the walk found when it began.
    indexed: bool,
    /// Places that a reading has found, the next one last.
    places: Vec<Place>,
    /// The reading found no end.
    more: bool,
    /// The last place that a page of these places ended with.
    at: Option<Place>,
    /// The highest key that was seen since keys are given that are lower than those which the engine knows.
    low: Option<i64>,
}

/// The highest key, by its index.
pub(super) async fn newest(client: &Client) -> Verb<AlertId> {
    let rows = client.query_typed(NEWEST, &[]).await?;
    Ok(AlertId(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0)))
}

/// Alerts that wait and stand in no unresolved attempt, in the order of their places.
pub(super) async fn claim(
    client: &Client,
    look: Look,
    limit: usize,
    seen: &Seen,
    walks: &Mutex<Walks>,
) -> Verb<Vec<Alert>> {
    match look {
        Look::New { after } => new(client, after.0, limit, seen, walks).await,
        Look::Full { after } => {
            let lock = || walks.lock().unwrap_or_else(PoisonError::into_inner);
            if after.is_none() {
                let row = client.query_typed_one(INDEXED, &[]).await?;
                lock().indexed = row.try_get(0)?;
            }
            let indexed = lock().indexed;
            match indexed {
                true => by_index(client, after, limit, seen).await,
                false => by_reading(client, after, limit, seen, walks).await,
            }
        }
    }
}

/// Keys may fall: the table was emptied and its sequence begun anew, or set back. What is new is then above
/// the highest key that was seen since, until keys have come again to where they were.
async fn new(
    client: &Client,
    after: i64,
    limit: usize,
    seen: &Seen,
    walks: &Mutex<Walks>,
) -> Verb<Vec<Alert>> {
    let mut low = walks.lock().unwrap_or_else(PoisonError::into_inner).low;
    loop {
        let from = low.map_or(after, |low| low.min(after));
        let (alerts, newest) = above(client, from, limit, seen).await?;
        let fell = newest < after;
        let begun = fell && low.is_none();
        low = match alerts.iter().map(|alert| alert.id.0).max() {
            Some(last) if fell && is_full_page(&alerts, limit) => Some(last),
            _ if fell => Some(newest),
            _ => None,
        };
        if !begun {
            walks.lock().unwrap_or_else(PoisonError::into_inner).low = low;
            return Ok(alerts);
        }
    }
}

/// What waits above the key, or a little below; and the highest key.
async fn above(client: &Client, after: i64, limit: usize, seen: &Seen) -> Verb<(Vec<Alert>, i64)> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let new = parameters(
        seen,
        &[&TEXT, &after, &limit, &OVERLAP, &BYTES],
        &[Type::INT4, Type::INT8, Type::INT8, Type::INT8, Type::INT8],
    );
    let answers = in_transaction(client, BEGIN, &[(NEWEST, &[]), (NEW.by(seen), &new)]).await?;
    let newest = answers.first().and_then(|rows| rows.first()).map(|row| row.try_get(0)).transpose()?;
    let alerts = answers.get(1).into_iter().flatten().map(alert).collect::<Verb<_>>()?;
    Ok((alerts, newest.unwrap_or_default()))
}

/// What is read from a place on: a key, and a severity that it counts for; and a key for those without.
fn from(after: Option<Place>) -> (i64, Option<i64>, i64) {
    match after {
        // Below all that the column can hold.
        None => (0, Some(i64::MIN), i64::MIN),
        Some(Place { severity: Severity(Some(severity)), id }) => (id.0, Some(severity.into()), i64::MIN),
        Some(Place { severity: Severity(None), id }) => (0, None, id.0),
    }
}

async fn by_index(client: &Client, after: Option<Place>, limit: usize, seen: &Seen) -> Verb<Vec<Alert>> {
    let (id, severity, without) = from(after);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let page = parameters(
        seen,
        &[&TEXT, &id, &severity, &without, &limit, &BYTES],
        &[Type::INT4, Type::INT8, Type::INT8, Type::INT8, Type::INT8, Type::INT8],
    );
    let answers = in_transaction(client, BEGIN, &[(BY_INDEX, &[]), (FULL.by(seen), &page)]).await?;
    answers.get(1).into_iter().flatten().map(alert).collect()
}

async fn by_reading(
    client: &Client,
    after: Option<Place>,
    limit: usize,
    seen: &Seen,
    walks: &Mutex<Walks>,
) -> Verb<Vec<Alert>> {
    let lock = || walks.lock().unwrap_or_else(PoisonError::into_inner);
    let keep = limit >= WALK;
    let (mut places, mut more, mut last) = (Vec::new(), true, after);
    if keep && after.is_some() {
        let mut walks = lock();
        if walks.at.take() == after {
            (places, more) = (std::mem::take(&mut walks.places), walks.more);
        }
    }
    let mut alerts: Vec<Alert> = Vec::new();
    while !is_full_page(&alerts, limit) {
        if places.is_empty() {
            if !more {
                break;
            }
            let most = if keep { SCAN } else { limit };
            places = reading(client, last, most, seen).await?;
            more = places.len() >= most;
            continue;
        }
        let next = places.split_off(places.len().saturating_sub(limit - alerts.len()));
        last = next.first().copied();
        let keys: Vec<i64> = next.iter().rev().map(|place| place.id.0).collect();
        let these = parameters(seen, &[&TEXT, &keys, &BYTES], &[Type::INT4, Type::INT8_ARRAY, Type::INT8]);
        let answers = in_transaction(client, BEGIN, &[(THESE.by(seen), &these)]).await?;
        for row in answers.iter().flatten() {
            alerts.push(alert(row)?);
        }
        if is_full_page(&alerts, usize::MAX) {
            // What had no room is on the next page.
            let end = alerts.last().map(|alert| Place { severity: alert.severity, id: alert.id });
            places.extend(next.into_iter().filter(|place| Some(*place) > end));
        }
    }
    if keep {
        let at = alerts.last().map(|alert| Place { severity: alert.severity, id: alert.id });
        let mut walks = lock();
        (walks.places, walks.more, walks.at) = (places, more, at);
    }
    Ok(alerts)
}

/// Reads the table for the places of what waits, the next one last.
async fn reading(client: &Client, after: Option<Place>, most: usize, seen: &Seen) -> Verb<Vec<Place>> {
    let (id, severity, without) = from(after);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let page = parameters(
        seen,
        &[&TEXT, &id, &severity, &without, &most],
        &[Type::INT4, Type::INT8, Type::INT8, Type::INT8, Type::INT8],
    );
    let answers = in_transaction(client, BEGIN, &[(BY_TABLE, &[]), (PLACES.by(seen), &page)]).await?;
    let Some(row) = answers.get(1).and_then(|rows| rows.first()) else { return Ok(Vec::new()) };
    let (ids, severities): (Vec<i64>, Vec<Option<i32>>) = (row.try_get(0)?, row.try_get(1)?);
    let place = |(id, severity)| Place { severity: Severity(severity), id: AlertId(id) };
    Ok(ids.into_iter().zip(severities).map(place).rev().collect())
}

fn parameters<'a>(seen: &'a Seen, more: &[&'a (dyn ToSql + Sync)], types: &[Type]) -> Vec<Parameter<'a>> {
    let mut all = seen.parameters().to_vec();
    all.extend(more.iter().copied().zip(types.iter().cloned()));
    all
}

fn alert(row: &Row) -> Verb<Alert> {
    let (maybe_sent, tried) =
        tried(row.try_get::<_, Option<Vec<Option<f64>>>>(5)?.unwrap_or_default().into_iter());
    Ok(Alert {
        id: AlertId(row.try_get(0)?),
        phone: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
        text: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
        severity: Severity(row.try_get(3)?),
        queued_at: time(row.try_get(4)?),
        maybe_sent,
        tried,
    })
}

/// Reads what a claim found: whether an SMS with the alert may have been taken; attempts, failures, how many seconds ago the
/// last failure was; and how many seconds ago what may have been taken ended. What by this clock has not happened yet
/// says nothing.
fn tried(mut found: impl Iterator<Item = Option<f64>>) -> (bool, Tried) {
    let age = |seconds: f64| {
        let since = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        (seconds * 1e6 >= -(SLACK as f64)).then_some(since)
    };
    let mut next = || found.next().flatten();
    let (taken, attempts, failures, failed) = (next(), next(), next(), next());
    let count = |number: Option<f64>| number.unwrap_or(0.0) as u32;
    let copies = found.flatten().filter_map(age).filter(|age| *age < REMEMBERED).collect();
    let (attempts, failures, failed) = (count(attempts), count(failures), failed.and_then(age));
    (taken == Some(1.0), Tried { attempts, failures, failed, copies })
}
