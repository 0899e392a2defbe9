//! What changes alerts from outside: people, and age.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio_postgres::types::{ToSql, Type};

use super::{Verb, clean, ids, keys};
use crate::alert::AlertId;
use crate::os::BootTime;
use crate::queue::arrivals::Arrivals;
use crate::queue::ledger::BEFORE;
use crate::queue::postgres::{Begin, Client, Parameter, in_transaction};
use crate::queue::wall::{SLACK, Wall};
use crate::queue::{Age, Cancelled, Decision, Resolved, Which};

/// Whoever waits for news hears that older alerts wait again.
const NOTIFY_FREED: &str = "SELECT pg_notify('smsd', 'freed')";

/// Begins a transaction in which no attempt begins or closes: what it finds without a lock stays so. Begins
/// wait for it, and look again when it is over.
pub(super) const BEGIN_ALONE: Begin =
    Begin::each_sees_commits("LOCK TABLE smsd.unresolved IN SHARE ROW EXCLUSIVE MODE");

/// Attempts in doubt or held end with the alerts that a person cancels; their other alerts wait again.
const CANCEL: &str = "WITH chosen AS MATERIALIZED (SELECT q.id, a.id AS attempt, a.state FROM smsq q \
        LEFT JOIN smsd.unresolved u ON u.alert = q.id LEFT JOIN smsd.attempt a ON a.id = u.attempt \
        WHERE q.sent = 'N' AND ($1::bigint[] IS NULL OR q.id = ANY ($1))), \
     over AS (UPDATE smsd.attempt a SET state = 'cancelled', ended_at = now() \
        WHERE a.state IN ('in_doubt', 'held') \
            AND a.id IN (SELECT attempt FROM chosen WHERE state IN ('in_doubt', 'held')) RETURNING a.id), \
     freed AS (DELETE FROM smsd.unresolved u USING over WHERE u.attempt = over.id), \
     ended AS (UPDATE smsq q SET sent = 'I', smsid = 0, timesent = now() FROM chosen c \
        WHERE q.id = c.id AND q.sent = 'N' AND c.state IS DISTINCT FROM 'open' RETURNING q.id), \
     noted AS (INSERT INTO smsd.note (alert, what, reason, detail, by) \
        SELECT id, 'ignored', 'cancelled', '', $2 FROM ended) \
     SELECT id::bigint, true FROM ended UNION ALL SELECT id, false FROM chosen WHERE state = 'open' ORDER BY 1";

/// Attempts in doubt or held end as a person decides; those of their alerts that wait are what it decides of.
macro_rules! resolve {
    ($decided:expr) => {
        concat!(
            "WITH over AS (UPDATE smsd.attempt a SET state = $2, class = $3, ended_at = now(), \
                detail = $4 || coalesce($5 || nullif(a.detail, ''), '') \
                WHERE a.state IN ('in_doubt', 'held') \
                    AND a.id IN (SELECT attempt FROM smsd.unresolved WHERE alert = ANY ($1)) \
                RETURNING a.id, a.carried, a.counted), \
             freed AS (DELETE FROM smsd.unresolved u USING over WHERE u.attempt = over.id), \
             held AS (SELECT unnest(carried) AS alert, 'Y' AS sent FROM over \
                UNION ALL SELECT unnest(counted), 'I' FROM over), \
             decided AS (",
            $decided,
            "), noted AS (INSERT INTO smsd.note (alert, what, detail, by) SELECT id, $6, '', $7 FROM decided) \
             SELECT id::bigint FROM decided"
        )
    };
}
const ACCEPT: &str = resolve!(
    "UPDATE smsq q SET sent = held.sent, smsid = 0, timesent = now() FROM held \
     WHERE q.id = held.alert AND q.sent = 'N' RETURNING q.id"
);
const RELEASE: &str = resolve!("SELECT q.id FROM smsq q JOIN held ON held.alert = q.id WHERE q.sent = 'N'");

/// An alert that was requeued or released waits since then. What came since we know of it (`$5`) is not old; and one that is young by what the server's clock has shown
/// before it was set, give or take `$4`, is not old; and while the clock is not the one that was looked at (`$3`), nothing is.
macro_rules! old {
    () => {
        "q.sent = 'N' AND q.time < now() - $1::text::interval AND q.id <= $5 \
         AND abs(extract(epoch FROM now())::float8 * 1e6 - $3::bigint) < 6e7 \
         AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id) \
         AND NOT EXISTS (SELECT FROM smsd.note n WHERE n.alert = q.id AND n.what IN ('requeued', 'released') \
            AND n.at >= now() - $1::text::interval) \
         AND NOT EXISTS (SELECT FROM unnest($2::bigint[]) AS was (ahead), \
            LATERAL (SELECT now() + ($4::bigint - was.ahead) * interval '1 us' AS late, \
                now() - was.ahead * interval '1 us' - $1::text::interval AS early) span \
            WHERE q.time BETWEEN span.early AND span.late \
                OR EXISTS (SELECT FROM smsd.note n WHERE n.alert = q.id AND n.what IN ('requeued', 'released') \
                    AND n.at BETWEEN span.early AND span.late))"
    };
}
const LOOK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     coalesce((SELECT max(id) FROM smsq), 0)::bigint";

/// By what it is told how long an alert has waited: the server's clock may be set meanwhile.
#[derive(Default)]
pub(super) struct Ages {
    wall: Wall,
    arrivals: Arrivals,
}

const ANY_OLD: &str = concat!("SELECT EXISTS (SELECT FROM smsq q WHERE ", old!(), ")");
const EXPIRE: &str = concat!(
    "WITH ended AS (UPDATE smsq q SET sent = 'I', smsid = 0, timesent = now() WHERE ",
    old!(),
    " RETURNING q.id), \
     noted AS (INSERT INTO smsd.note (alert, what, reason, detail, by) \
        SELECT id, 'ignored', 'expired', 'waited longer than ' || $1, 'smsd' FROM ended) \
     SELECT id::bigint FROM ended ORDER BY id"
);

/// What its attempts did counts no more, since a person says so.
const REQUEUE: &str = "WITH again AS (UPDATE smsq q SET sent = 'N', smsid = NULL, timesent = NULL \
        WHERE q.id = ANY ($1) AND q.sent <> 'N' RETURNING q.id), \
     forgotten AS (UPDATE smsd.attempt_alert l SET requeued = true FROM again, smsd.attempt a \
        WHERE l.alert = again.id AND a.id = l.attempt AND a.state NOT IN ('open', 'in_doubt', 'held')), \
     noted AS (INSERT INTO smsd.note (alert, what, detail, by) SELECT id, 'requeued', '', $2 FROM again) \
     SELECT id::bigint FROM again";

pub(super) async fn cancel(client: &Client, which: &Which, by: &str) -> Verb<Cancelled> {
    let chosen = match which {
        Which::All => None,
        Which::Ids(ids) => Some(keys(ids)),
    };
    let by = clean(by);
    let parameters: [Parameter<'_>; 2] = [(&chosen, Type::INT8_ARRAY), (&by, Type::TEXT)];
    let answers = in_transaction(client, BEGIN_ALONE, &[(CANCEL, &parameters), (NOTIFY_FREED, &[])]).await?;
    let mut cancelled = Cancelled::default();
    for row in answers.iter().take(1).flatten() {
        let id = AlertId(row.try_get(0)?);
        match row.try_get(1)? {
            true => cancelled.cancelled.push(id),
            false => cancelled.in_flight.push(id),
        }
    }
    Ok(cancelled)
}

pub(super) async fn resolve(
    client: &Client,
    wanted: &[AlertId],
    decision: Decision,
    by: &str,
) -> Verb<Resolved> {
    let (chosen, by) = (keys(wanted), clean(by));
    let (state, class) = (decision.state().as_str(), decision.class());
    let (detail, word) = (decision.detail(&by), decision.word());
    let parameters: [Parameter<'_>; 7] = [
        (&chosen, Type::INT8_ARRAY),
        (&state, Type::TEXT),
        (&class, Type::TEXT),
        (&detail, Type::TEXT),
        (&BEFORE, Type::TEXT),
        (&word, Type::TEXT),
        (&by, Type::TEXT),
    ];
    let statement = match decision {
        Decision::Accept => ACCEPT,
        Decision::Resend => RELEASE,
    };
    let answers =
        in_transaction(client, BEGIN_ALONE, &[(statement, &parameters), (NOTIFY_FREED, &[])]).await?;
    let keys = answers.iter().take(1).flatten().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(Resolved::of(wanted, ids(keys)))
}

pub(super) async fn expire(client: &Client, age: &Age, ages: &Mutex<Ages>) -> Verb<Vec<AlertId>> {
    let look = client.query_typed_one(LOOK, &[]).await?;
    let (clock, newest): (i64, i64) = (look.try_get(0)?, look.try_get(1)?);
    let uptime = BootTime::now();
    let (ahead, long) = {
        let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.wall.see(clock, i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX));
        (ages.wall.ahead(), ages.arrivals.look(newest, uptime, age.duration))
    };
    let age: [Parameter<'_>; 5] = [
        (&age.text as &(dyn ToSql + Sync), Type::TEXT),
        (&ahead, Type::INT8_ARRAY),
        (&clock, Type::INT8),
        (&SLACK, Type::INT8),
        (&long, Type::INT8),
    ];
    // Most of the time there is nothing, and nobody is to wait for that.
    if !client.query_typed_one(ANY_OLD, &age).await?.try_get(0)? {
        return Ok(Vec::new());
    }
    let answers = in_transaction(client, BEGIN_ALONE, &[(EXPIRE, &age)]).await?;
    let keys = answers.iter().flatten().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(ids(keys))
}

pub(super) async fn requeue(client: &Client, wanted: &[AlertId], by: &str) -> Verb<Vec<AlertId>> {
    let (chosen, by) = (keys(wanted), clean(by));
    let parameters: [Parameter<'_>; 2] = [(&chosen, Type::INT8_ARRAY), (&by, Type::TEXT)];
    let answers =
        in_transaction(client, super::BEGIN, &[(REQUEUE, &parameters), (NOTIFY_FREED, &[])]).await?;
    let keys = answers.iter().take(1).flatten().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let changed: HashSet<AlertId> = ids(keys).into_iter().collect();
    let mut told = HashSet::new();
    Ok(wanted.iter().copied().filter(|id| changed.contains(id) && told.insert(*id)).collect())
}
