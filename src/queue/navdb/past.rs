//! A database that may have been restored, or a standby that was promoted too early.

use jiff::Timestamp;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::notes::note_id;
use super::people::BEGIN_ALONE;
use super::{Verb, clean, ids, time};
use crate::alert::AlertId;
use crate::queue::ledger::BEFORE;
use crate::queue::past::{FROM_THE_PAST, NO_TEXT, STORM_GUARD, TOGETHER};
use crate::queue::postgres::{Fault, Parameter, in_transaction};
use crate::queue::{Caught, Forgot, Grant, Known, QueueError, Suspects};

/// An expression: the word for what the database has forgotten, null if nothing. A few looks into primary
/// keys.
macro_rules! forgot {
    ($queue:literal, $begun:literal, $closed:literal, $instance:literal, $renewals:literal) => {
        concat!(
            "CASE WHEN ",
            $queue,
            " IS NOT NULL AND ",
            $queue,
            " IS DISTINCT FROM (SELECT queue FROM smsd.meta) \
                    THEN 'identity' \
                WHEN ",
            $begun,
            " IS NOT NULL AND NOT EXISTS (SELECT FROM smsd.attempt WHERE id = ",
            $begun,
            ") \
                    THEN 'begun' \
                WHEN EXISTS (SELECT FROM unnest(",
            $closed,
            "::uuid[]) AS t (id) WHERE NOT EXISTS \
                    (SELECT FROM smsd.attempt a WHERE a.id = t.id AND a.state <> 'open')) THEN 'closed' \
                WHEN ",
            $instance,
            " IS NOT NULL AND NOT EXISTS \
                    (SELECT FROM smsd.instance WHERE id = ",
            $instance,
            " AND renewals >= ",
            $renewals,
            ") \
                    THEN 'renewed' END"
        )
    };
}
pub(super) use forgot;

/// The end of a statement with `past (forgot)` and `granted (renewals)`: one row, as [`granted`] reads it.
macro_rules! answer {
    () => {
        "SELECT past.forgot, granted.renewals, meta.queue, extract(epoch FROM clock_timestamp())::float8 \
         FROM past LEFT JOIN granted ON true LEFT JOIN smsd.meta ON true"
    };
}
pub(super) use answer;

/// [`Known`], column by column: the parameters of [`forgot!`].
pub(super) struct Parameters {
    queue: Option<Uuid>,
    begun: Option<Uuid>,
    closed: Vec<Uuid>,
    instance: Option<Uuid>,
    renewals: Option<i64>,
}

impl Parameters {
    pub(super) fn of(known: &Known) -> Parameters {
        Parameters {
            queue: known.queue,
            begun: known.begun,
            closed: known.closed.clone(),
            instance: known.renewed.map(|(id, _)| id),
            renewals: known.renewed.map(|(_, n)| i64::try_from(n).unwrap_or(i64::MAX)),
        }
    }

    pub(super) fn all(&self) -> [Parameter<'_>; 5] {
        [
            (&self.queue, Type::UUID),
            (&self.begun, Type::UUID),
            (&self.closed, Type::UUID_ARRAY),
            (&self.instance, Type::UUID),
            (&self.renewals, Type::INT8),
        ]
    }
}

/// Why nothing was written: what was forgotten, or else the lease.
pub(super) fn lost(forgot: Option<&str>) -> Fault {
    Fault::Queue(match forgot.map(Forgot::from_word) {
        Some(forgot) => QueueError::FromThePast(forgot.unwrap_or(Forgot::Identity)),
        None => QueueError::LeaseLost,
    })
}

pub(super) fn granted(row: Option<&Row>) -> Verb<Grant> {
    let Some(row) = row else { return Err(lost(None)) };
    let Some(renewals) = row.try_get::<_, Option<i64>>(1)? else { return Err(lost(row.try_get(0)?)) };
    Ok(Grant {
        queue: row.try_get(2)?,
        now: time(row.try_get(3)?),
        renewals: u64::try_from(renewals).unwrap_or_default(),
    })
}

/// As for every verb that an instance depends on.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true) \
    WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";

const HOLD_DOUBTS: &str = "UPDATE smsd.attempt a SET state = 'held', class = $4, \
        detail = $3 || coalesce($5 || nullif(a.detail, ''), '') \
    WHERE a.state = 'in_doubt' AND a.undecided = 'in_doubt' AND a.begun_at <= to_timestamp($2) \
        AND (a.instance = $1 OR NOT EXISTS \
            (SELECT FROM smsd.instance i WHERE i.id = a.instance AND i.lease_until > clock_timestamp())) \
        AND EXISTS (SELECT FROM smsd.instance WHERE id = $1 AND lease_until > clock_timestamp()) \
    RETURNING a.id";

/// A number is one that [`crate::alert::Phone::parse`] takes: any other is never sent.
const HOLD: &str = concat!(
    "WITH lease AS MATERIALIZED (SELECT EXISTS (SELECT FROM smsd.instance \
        WHERE id = $1 AND lease_until > clock_timestamp()) AS good), \
     suspect AS MATERIALIZED (SELECT q.id::bigint AS id, q.time, translate(q.phone, ' -().', '') AS recipient FROM smsq q \
        WHERE q.id > $2 AND q.sent = 'N' AND q.time <= to_timestamp($3) \
            AND translate(q.phone, ' -().', '') ~ '^[+]?[0-9]{3,15}$' \
            AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id) \
            AND NOT EXISTS (SELECT FROM smsd.note n WHERE n.alert = q.id AND n.what IN ('requeued', 'released') \
                AND n.at > to_timestamp($3)) \
            AND (SELECT good FROM lease) \
        ORDER BY q.id LIMIT $4), \
     sms AS MATERIALIZED (SELECT overlay(gen_random_uuid()::text \
        PLACING regexp_replace(lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0'), \
            '(.{8})(.{4})', '\\1-\\2-7') FROM 1 FOR 15)::uuid AS attempt, recipient, array_agg(id ORDER BY id) AS alerts, \
            array_agg(time ORDER BY id) AS times \
        FROM (SELECT id, time, recipient, \
                (row_number() OVER (PARTITION BY recipient ORDER BY id) - 1) / $5 AS part FROM suspect) x \
        GROUP BY recipient, part), \
     written AS (INSERT INTO smsd.attempt (id, instance, deadline, doubt_since, number, possible_duplicate, state, \
            recipient, text, dispatcher, carried, counted, class, detail) \
        SELECT attempt, $1, now(), now(), 1, false, 'held', recipient, $6, $7, alerts, '{}', $8, $9 FROM sms), \
     linked AS (INSERT INTO smsd.attempt_alert (attempt, alert, carried, queued) \
        SELECT attempt, unnest(alerts), true, unnest(times) FROM sms), \
     locked AS (INSERT INTO smsd.unresolved (alert, attempt) SELECT unnest(alerts), attempt FROM sms), \
     noted AS (INSERT INTO smsd.note (alert, id, what, detail, by, queued) SELECT s.id, ",
    note_id!("s.id"),
    ", 'held', $9, 'smsd', s.time FROM suspect s) \
     SELECT good, (SELECT count(*) FROM suspect), (SELECT max(id) FROM suspect) FROM lease"
);

/// Attempts that hold none of their alerts can not be decided through them, and are the audit's business.
const SUSPECTED: &str = "SELECT unnest(x.alerts) FROM (SELECT a.carried || a.counted AS alerts FROM smsd.attempt a \
    WHERE a.undecided = 'held' AND a.class = $1 AND EXISTS (SELECT FROM unnest(a.carried || a.counted) AS t (alert) \
        JOIN smsd.unresolved u ON u.alert = t.alert AND u.attempt = a.id) ORDER BY a.id LIMIT $2) x";

/// No attempt begins or closes meanwhile, so that what waits in none is found once by whoever asks.
pub(super) async fn hold(client: &Client, owner: Uuid, suspects: &Suspects, why: &str) -> Verb<Caught> {
    let Suspects { until, after, limit } = *suspects;
    let (until, why) = (epoch(until), clean(why));
    let (limit, together) = (i64::try_from(limit).unwrap_or(i64::MAX), TOGETHER as i64);
    let doubts: [Parameter<'_>; 5] = [
        (&owner, Type::UUID),
        (&until, Type::FLOAT8),
        (&why, Type::TEXT),
        (&FROM_THE_PAST, Type::TEXT),
        (&BEFORE, Type::TEXT),
    ];
    let alerts: [Parameter<'_>; 9] = [
        (&owner, Type::UUID),
        (&after.0, Type::INT8),
        (&until, Type::FLOAT8),
        (&limit, Type::INT8),
        (&together, Type::INT8),
        (&NO_TEXT, Type::TEXT),
        (&STORM_GUARD, Type::TEXT),
        (&FROM_THE_PAST, Type::TEXT),
        (&why, Type::TEXT),
    ];
    let page = [(DURABLE, &[][..]), (HOLD, &alerts), (super::lease::INTO_DOUBT, &[]), (HOLD_DOUBTS, &doubts)];
    let page = if after == AlertId(0) { &page[..] } else { &page[..2] };
    let answers = in_transaction(client, BEGIN_ALONE, page).await?;
    let Some(row) = answers.get(1).and_then(|rows| rows.first()) else { return Err(lost(None)) };
    if !row.try_get::<_, bool>(0)? {
        return Err(lost(None));
    }
    let (count, last): (i64, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Caught {
        alerts: u64::try_from(count).unwrap_or_default(),
        doubts: answers.get(3).map_or(0, |rows| rows.len() as u64),
        next: last.filter(|_| count >= limit).map(AlertId),
    })
}

pub(super) async fn suspected(client: &Client, limit: usize) -> Verb<Vec<AlertId>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters: [Parameter<'_>; 2] = [(&FROM_THE_PAST, Type::TEXT), (&limit, Type::INT8)];
    let rows = client.query_typed(SUSPECTED, &parameters).await?;
    Ok(ids(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?))
}

fn epoch(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}
