//! What changes alerts from outside: people, and age.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::notes::{anothers, note_id};
use super::{Verb, clean, ids, keys};
use crate::alert::AlertId;
use crate::os::BootTime;
use crate::queue::arrivals::Arrivals;
use crate::queue::ledger::BEFORE;
use crate::queue::postgres::{Begin, Client, Parameter, Statement, in_transaction};
use crate::queue::wall::{SLACK, Wall};
use crate::queue::{Age, Cancelled, Decision, EXPIRED_AT_ONCE, Resolved};

/// Alerts that are cancelled in one transaction.
const CANCELLED_AT_ONCE: usize = 2_000;
/// Of all that were cancelled, so many are named.
const NAMED: usize = 1_000;

/// Whoever waits for news hears that older alerts wait again.
const NOTIFY_FREED: &str = "SELECT pg_notify('smsd', 'freed')";

/// Begins a transaction in which no attempt begins or closes: what it finds without a lock stays so. Begins
/// wait for it, and look again when it is over.
pub(super) const BEGIN_ALONE: Begin =
    Begin::each_sees_commits("LOCK TABLE smsd.unresolved IN SHARE ROW EXCLUSIVE MODE");

/// The keys of the alerts that are to end, in one order for everybody: whoever begins an attempt with one of
/// them is waited for, and waits for us, so that no attempt begins meanwhile.
const TAKE: &str = "INSERT INTO smsd.unresolved (alert, attempt) \
     SELECT DISTINCT alert, $1::uuid FROM unnest($2::bigint[]) AS t (alert) ORDER BY 1 ON CONFLICT DO NOTHING";
const GIVE_BACK: &str = "DELETE FROM smsd.unresolved WHERE attempt = $1 AND alert = ANY ($2)";

/// Attempts in doubt or held end with the alerts that a person cancels, also where these are gone; their
/// other alerts wait again. An alert ends if its key is ours (`$3`), or was that of an attempt that ends
/// here. A row that somebody holds locked is left: a person who cancels keeps nobody waiting.
const CANCEL: &str = concat!(
    "WITH asked AS MATERIALIZED (SELECT DISTINCT t.id, u.attempt, a.undecided FROM unnest($1::bigint[]) AS t (id) \
        LEFT JOIN smsd.unresolved u ON u.alert = t.id LEFT JOIN smsd.attempt a ON a.id = u.attempt), \
     over AS (UPDATE smsd.attempt a SET state = 'cancelled', ended_at = now() \
        WHERE a.state IN ('in_doubt', 'held') \
            AND a.id IN (SELECT attempt FROM asked WHERE undecided IS NOT NULL) \
        RETURNING a.id, a.carried || a.counted AS alerts), \
     freed AS (DELETE FROM smsd.unresolved u USING over o, unnest(o.alerts) AS x (alert) \
        WHERE u.alert = x.alert AND u.attempt = o.id), \
     ours AS MATERIALIZED (SELECT q.id FROM smsq q JOIN asked c ON c.id = q.id \
        WHERE q.sent = 'N' AND (c.attempt = $3 OR c.attempt IN (SELECT id FROM over)) \
        ORDER BY q.id FOR NO KEY UPDATE OF q SKIP LOCKED), \
     ended AS (UPDATE smsq q SET sent = 'I', smsid = 0, timesent = now() FROM ours o \
        WHERE q.id = o.id AND q.sent = 'N' RETURNING q.id::bigint, q.time), \
     noted AS (INSERT INTO smsd.note (alert, id, what, reason, detail, by, queued) \
        SELECT e.id, ",
    note_id!("e.id"),
    ", 'ignored', 'cancelled', '', $2, e.time FROM ended e) \
     SELECT id, true FROM ended UNION ALL SELECT c.id, false FROM asked c JOIN smsq q ON q.id = c.id \
        WHERE q.sent = 'N' AND c.id NOT IN (SELECT id FROM ended) ORDER BY 1"
);

/// A page of all that waits.
const WAITING: &str =
    "SELECT q.id::bigint FROM smsq q WHERE q.id > $1 AND q.sent = 'N' ORDER BY q.id LIMIT $2";

/// A page of what is found in the order of keys reads the table in that order from where it begins, and stops
/// when it is full, whatever the planner thinks of the table. A person may have to wait for that.
const BY_KEY: &str = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), \
     set_config('enable_sort', 'off', true), set_config('jit', 'off', true), \
     set_config('statement_timeout', '600s', true)";

/// Attempts in doubt or held end as a person decides; those of their alerts that wait are what it decides of.
macro_rules! resolve {
    ($decided:expr) => {
        concat!(
            "WITH over AS (UPDATE smsd.attempt a SET state = $2, class = $3, ended_at = now(), \
                detail = $4 || coalesce($5 || nullif(a.detail, ''), '') \
                WHERE a.state IN ('in_doubt', 'held') \
                    AND a.id IN (SELECT attempt FROM smsd.unresolved WHERE alert = ANY ($1)) \
                RETURNING a.id, a.carried, a.counted), \
             freed AS (DELETE FROM smsd.unresolved u USING over, unnest(over.carried || over.counted) AS x (alert) \
                WHERE u.alert = x.alert AND u.attempt = over.id), \
             held AS (SELECT id AS attempt, unnest(carried) AS alert, 'Y' AS sent FROM over \
                UNION ALL SELECT id, unnest(counted), 'I' FROM over), \
             decided AS (",
            $decided,
            "), noted AS (INSERT INTO smsd.note (alert, id, what, detail, by, queued) SELECT d.id, ",
            note_id!("d.id"),
            ", $6, '', $7, d.time FROM decided d) SELECT id FROM decided"
        )
    };
}
const ACCEPT: &str = resolve!(concat!(
    "UPDATE smsq q SET sent = held.sent, smsid = 0, timesent = now() FROM held \
     WHERE q.id = held.alert AND q.sent = 'N' AND NOT ",
    anothers!("held.attempt"),
    " RETURNING q.id::bigint, q.time"
));
const RELEASE: &str = resolve!(concat!(
    "SELECT q.id::bigint, q.time FROM smsq q JOIN held ON held.alert = q.id WHERE q.sent = 'N' AND NOT ",
    anothers!("held.attempt")
));

/// A row of `smsq` that has waited too long, if nothing holds it. It is looked at for each of a million rows:
/// what does not depend on the row is a query of its own, done once. Its parameters are [`Seen::parameters`]:
///
/// * `$1`: the age; null if nothing is ever too old.
/// * `$5`: a key above this one is not old: it came since we know of it.
/// * `$3`: nothing is old while the clock is not the one that was looked at.
/// * An alert that was requeued or released waits since then.
/// * `$2`: what is young by anything that the server's clock has shown before it was set is young, give or take `$4`.
macro_rules! aged {
    () => {
        "q.id <= $5 AND q.time < (SELECT now() - $1::text::interval) \
         AND (SELECT abs(extract(epoch FROM now())::float8 * 1e6 - $3::bigint) < 6e7) \
         AND NOT EXISTS (SELECT FROM smsd.note n WHERE n.alert = q.id AND n.what IN ('requeued', 'released') \
            AND n.at >= now() - $1::text::interval) \
         AND (cardinality($2::bigint[]) = 0 OR NOT EXISTS (SELECT FROM unnest($2::bigint[]) AS was (ahead), \
            LATERAL (SELECT now() + ($4::bigint - was.ahead) * interval '1 us' AS late, \
                now() - was.ahead * interval '1 us' - $1::text::interval AS early) span \
            WHERE q.time BETWEEN span.early AND span.late \
                OR EXISTS (SELECT FROM smsd.note n WHERE n.alert = q.id AND n.what IN ('requeued', 'released') \
                    AND n.at BETWEEN span.early AND span.late)))"
    };
}
pub(super) use aged;

/// What the server's clock shows, the highest key, and whether what waits has an index of ours.
const LOOK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     coalesce((SELECT max(id) FROM smsq), 0)::bigint, \
     EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('smsd_waiting') AND indisvalid)";

/// The lowest key of what is to expire. The sum keeps the planner from walking through all keys in their
/// order.
const FIRST_OLD: &str = concat!(
    "SELECT min(q.id + 0)::bigint FROM smsq q WHERE q.sent = 'N' AND ",
    aged!(),
    " AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id)"
);
/// A page from that key on.
const OLD: &str = concat!(
    "SELECT q.id::bigint FROM smsq q WHERE q.id >= $6 AND q.sent = 'N' AND ",
    aged!(),
    " AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id) ORDER BY q.id LIMIT $7"
);
/// Those of the page whose keys are ours, and whose rows nobody holds locked.
const EXPIRE: &str = concat!(
    "WITH ours AS MATERIALIZED (SELECT q.id FROM smsq q JOIN smsd.unresolved u ON u.alert = q.id AND u.attempt = $6 \
        WHERE q.id = ANY ($7::bigint[]) AND q.sent = 'N' AND ",
    aged!(),
    " ORDER BY q.id FOR NO KEY UPDATE OF q SKIP LOCKED), \
     ended AS (UPDATE smsq q SET sent = 'I', smsid = 0, timesent = now() FROM ours o \
        WHERE q.id = o.id AND q.sent = 'N' RETURNING q.id::bigint, q.time), \
     noted AS (INSERT INTO smsd.note (alert, id, what, reason, detail, by, queued) \
        SELECT e.id, ",
    note_id!("e.id"),
    ", 'ignored', 'expired', 'waited longer than ' || $1, 'smsd', e.time FROM ended e) \
     SELECT id FROM ended ORDER BY id"
);

/// By what it is told how long an alert has waited: the server's clock may be set meanwhile.
#[derive(Default)]
pub(super) struct Ages {
    wall: Wall,
    arrivals: Arrivals,
    /// The last look, and the age that it was for.
    last: Option<(Duration, Seen)>,
    /// Where the next page of what is to expire begins, if the last one was full.
    next: Option<i64>,
}

/// What a look at the server's clock and the highest key found out.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    age: Option<String>,
    ahead: Vec<i64>,
    clock: i64,
    /// A key above this one can not have waited for the age.
    long: i64,
    /// What waits has an index of ours.
    indexed: bool,
    /// When, by the clock that nobody sets.
    uptime: Duration,
}

impl Seen {
    /// By this, nothing is ever too old.
    pub(super) fn nothing() -> Seen {
        let (age, ahead, uptime) = (None, Vec::new(), Duration::ZERO);
        Seen { age, ahead, clock: 0, long: i64::MIN, indexed: false, uptime }
    }

    /// False if nothing is ever too old.
    pub(super) fn knows_an_age(&self) -> bool {
        self.age.is_some()
    }

    /// As [`aged!`] reads them.
    pub(super) fn parameters(&self) -> [Parameter<'_>; 5] {
        [
            (&self.age, Type::TEXT),
            (&self.ahead, Type::INT8_ARRAY),
            (&self.clock, Type::INT8),
            (&SLACK, Type::INT8),
            (&self.long, Type::INT8),
        ]
    }
}

/// For so long a claim goes by the same look: less than the minute by which the clock may be another than it.
const FRESH: Duration = Duration::from_secs(10);

/// Looks at the clock and the highest key, or, for a claim, remembers what a look has just found.
pub(super) async fn seen(client: &Client, age: &Age, ages: &Mutex<Ages>, fresh: bool) -> Verb<Seen> {
    let uptime = BootTime::now();
    let lock = || ages.lock().unwrap_or_else(PoisonError::into_inner);
    let last = lock().last.clone().filter(|(of, seen)| {
        *of == age.duration && uptime.checked_sub(seen.uptime).is_some_and(|since| since < FRESH)
    });
    if let (Some((_, seen)), false) = (last, fresh) {
        return Ok(seen);
    }
    let look = client.query_typed_one(LOOK, &[]).await?;
    let (clock, newest): (i64, i64) = (look.try_get(0)?, look.try_get(1)?);
    let uptime = BootTime::now();
    let mut ages = lock();
    ages.wall.see(clock, i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX));
    let seen = Seen {
        age: Some(age.text.clone()),
        ahead: ages.wall.ahead(),
        clock,
        long: ages.arrivals.look(newest, uptime, age.duration),
        indexed: look.try_get(2)?,
        uptime,
    };
    ages.last = Some((age.duration, seen.clone()));
    Ok(seen)
}

/// What its attempts did counts no more, since a person says so.
const REQUEUE: &str = concat!(
    "WITH again AS (UPDATE smsq q SET sent = 'N', smsid = NULL, timesent = NULL \
        WHERE q.id = ANY ($1) AND q.sent <> 'N' RETURNING q.id::bigint, q.time), \
     forgotten AS (UPDATE smsd.attempt_alert l SET requeued = true FROM again, smsd.attempt a \
        WHERE l.alert = again.id AND a.id = l.attempt AND a.state NOT IN ('open', 'in_doubt', 'held')), \
     noted AS (INSERT INTO smsd.note (alert, id, what, detail, by, queued) SELECT g.id, ",
    note_id!("g.id"),
    ", 'requeued', '', $2, g.time FROM again g) SELECT id FROM again"
);

/// Cancels these, in pages, each a transaction of its own: nobody waits for all of them.
pub(super) async fn cancel(client: &Client, wanted: &[AlertId], by: &str) -> Verb<Cancelled> {
    let mut cancelled = Cancelled::default();
    for page in keys(wanted).chunks(CANCELLED_AT_ONCE) {
        cancel_page(client, page, by, &mut cancelled).await?;
    }
    Ok(cancelled)
}

/// Cancels a page of what waits above this key, and adds what it did to `cancelled`, which names the first of
/// all that were cancelled and counts the others. Returns the key above which the next page begins, if there
/// may be one.
pub(super) async fn cancel_above(
    client: &Client,
    after: i64,
    by: &str,
    cancelled: &Mutex<Cancelled>,
) -> Verb<Option<i64>> {
    let limit = CANCELLED_AT_ONCE as i64;
    let page: [Parameter<'_>; 2] = [(&after, Type::INT8), (&limit, Type::INT8)];
    let answers = in_transaction(client, super::BEGIN, &[(BY_KEY, &[]), (WAITING, &page)]).await?;
    let page = answers.iter().skip(1).flatten().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let mut done = Cancelled::default();
    cancel_page(client, &page, by, &mut done).await?;
    let mut all = cancelled.lock().unwrap_or_else(PoisonError::into_inner);
    let all = &mut *all;
    for (ids, all, more) in [
        (done.cancelled, &mut all.cancelled, &mut all.more_cancelled),
        (done.in_flight, &mut all.in_flight, &mut all.more_in_flight),
    ] {
        let room = NAMED.saturating_sub(all.len()).min(ids.len());
        all.extend_from_slice(&ids[..room]);
        *more += (ids.len() - room) as u64;
    }
    Ok(page.last().copied().filter(|_| page.len() >= CANCELLED_AT_ONCE))
}

async fn cancel_page(client: &Client, page: &[i64], by: &str, cancelled: &mut Cancelled) -> Verb<()> {
    let (lock, by) = (Uuid::now_v7(), clean(by));
    let ours: [Parameter<'_>; 2] = [(&lock, Type::UUID), (&page, Type::INT8_ARRAY)];
    let parameters: [Parameter<'_>; 3] = [(&page, Type::INT8_ARRAY), (&by, Type::TEXT), (&lock, Type::UUID)];
    let statements: [Statement<'_>; 4] =
        [(TAKE, &ours), (CANCEL, &parameters), (GIVE_BACK, &ours), (NOTIFY_FREED, &[])];
    let answers = in_transaction(client, super::BEGIN, &statements).await?;
    for row in answers.get(1).into_iter().flatten() {
        let ids = if row.try_get(1)? { &mut cancelled.cancelled } else { &mut cancelled.in_flight };
        ids.push(AlertId(row.try_get::<_, i64>(0)?));
    }
    Ok(())
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
        in_transaction(client, super::BEGIN, &[(statement, &parameters), (NOTIFY_FREED, &[])]).await?;
    let keys = answers.iter().take(1).flatten().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(Resolved::of(wanted, ids(keys)))
}

/// A page of what is too old. It is looked for without a lock; then the keys of what was found are taken, as
/// a settlement does that ends alerts, and what is still too old ends.
pub(super) async fn expire(client: &Client, age: &Age, ages: &Mutex<Ages>) -> Verb<Vec<AlertId>> {
    let seen = seen(client, age, ages, true).await?;
    let lock = || ages.lock().unwrap_or_else(PoisonError::into_inner);
    let next = lock().next.take();
    let first = match next {
        Some(next) => Some(next),
        None => first_old(client, &seen).await?,
    };
    // Most of the time there is nothing, and nobody is to wait for that.
    let Some(first) = first else { return Ok(Vec::new()) };
    let limit = EXPIRED_AT_ONCE as i64;
    let mut page = seen.parameters().to_vec();
    page.extend([(&first as &(dyn ToSql + Sync), Type::INT8), (&limit, Type::INT8)]);
    let answers = in_transaction(client, super::BEGIN, &[(BY_KEY, &[]), (OLD, &page)]).await?;
    let old = answers.iter().skip(1).flatten().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let Some(last) = old.last() else { return Ok(Vec::new()) };

    let owner = Uuid::now_v7();
    let ours: [Parameter<'_>; 2] = [(&owner, Type::UUID), (&old, Type::INT8_ARRAY)];
    let mut those = seen.parameters().to_vec();
    those.extend(ours.clone());
    let statements: [Statement<'_>; 3] = [(TAKE, &ours), (EXPIRE, &those), (GIVE_BACK, &ours)];
    let answers = in_transaction(client, super::BEGIN, &statements).await?;
    let keys =
        answers.get(1).into_iter().flatten().map(|row| row.try_get(0)).collect::<Result<Vec<_>, _>>()?;
    if old.len() >= EXPIRED_AT_ONCE {
        lock().next = last.checked_add(1);
    }
    Ok(ids(keys))
}

/// The whole table is read for this only where the operator has not given what waits its index.
async fn first_old(client: &Client, seen: &Seen) -> Verb<Option<i64>> {
    let parameters = seen.parameters();
    let row = match seen.indexed {
        false => client.query_typed_opt(FIRST_OLD, &parameters).await?,
        true => in_transaction(client, super::BEGIN, &[(FIRST_OLD, &parameters)])
            .await?
            .into_iter()
            .flatten()
            .next(),
    };
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
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
