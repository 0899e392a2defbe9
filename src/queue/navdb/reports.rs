//! What people ask: lists, stories, counts, and the proof that every alert is accounted for.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::notes::same;
use super::{Verb, ids, time};
use crate::alert::{AlertId, Reason, Severity};
use crate::queue::past::STORM_GUARD;
use crate::queue::postgres::{Begin, Client, Parameter, Statement, in_transaction};
use crate::queue::report::{HISTORY, step_micros};
use crate::queue::{
    Account, AlertRow, AlertState, AttemptRow, AttemptState, Audit, Depth, Filter, Layer, Mention, Note,
    Offender, Period, Stats, Story,
};

/// The audit names at most so many offenders.
const MAX_OFFENDERS: i64 = 1000;

/// An alert with its state. Why it was ignored is in its last note, or an attempt was accepted that only
/// counted it.
macro_rules! alerts {
    () => {
        concat!(
            "SELECT q.id::bigint AS id, q.phone::text AS phone, q.msg::text, q.severity, \
            CASE WHEN q.sent = 'Y' THEN 'sent' WHEN q.sent = 'I' THEN 'ignored' \
                WHEN a.state IN ('in_doubt', 'held') THEN a.state ELSE 'waiting' END AS state, \
            CASE WHEN q.sent = 'I' THEN coalesce( \
                (SELECT CASE WHEN n.what = 'ignored' THEN n.reason END FROM smsd.note n \
                    WHERE n.alert = q.id AND ",
            same!("n"),
            " ORDER BY n.id DESC LIMIT 1), \
                (SELECT 'squeezed' FROM smsd.attempt_alert l JOIN smsd.attempt s ON s.id = l.attempt \
                    WHERE l.alert = q.id AND ",
            same!("l"),
            " AND NOT l.carried AND NOT l.requeued \
                        AND s.state = 'accepted' LIMIT 1)) \
            END, \
            extract(epoch FROM q.time::timestamptz)::float8, \
            CASE WHEN q.sent <> 'N' THEN extract(epoch FROM q.timesent::timestamptz)::float8 END FROM "
        )
    };
}

/// Every alert, with the unresolved attempt that it stands in.
macro_rules! each {
    () => {
        "smsq q LEFT JOIN smsd.unresolved u ON u.alert = q.id LEFT JOIN smsd.attempt a ON a.id = u.attempt"
    };
}

/// A list of alerts in one state.
macro_rules! list {
    ($from:expr, $state:literal) => {
        concat!(
            alerts!(),
            $from,
            " WHERE ",
            $state,
            " AND ($1::bigint IS NULL OR q.id < $1) \
              AND ($2::text IS NULL OR translate(q.phone::text, ' -().', '') = $2) ORDER BY q.id DESC LIMIT $3"
        )
    };
}

/// What is in doubt is found by its attempts, of which there are few.
const IN_DOUBT: &str = list!(
    "(SELECT id, state, unnest(carried || counted) AS alert FROM smsd.attempt WHERE undecided = 'in_doubt') a \
     JOIN smsd.unresolved u ON u.alert = a.alert AND u.attempt = a.id JOIN smsq q ON q.id = u.alert",
    "q.sent = 'N'"
);
/// What is held may be much, and is found by its locks, the newest first.
const HELD: &str = list!(
    "smsd.unresolved u JOIN smsd.attempt a ON a.id = u.attempt JOIN smsq q ON q.id = u.alert",
    "q.sent = 'N' AND a.state = 'held'"
);

const ONE: &str = concat!(alerts!(), each!(), " WHERE q.id = $1");

/// An attempt as [`attempt`] reads it.
macro_rules! attempts {
    ($from:literal, $rest:literal) => {
        concat!(
            "SELECT a.id, a.number, a.recipient, a.text, a.dispatcher, a.state, \
                extract(epoch FROM a.begun_at)::float8, extract(epoch FROM a.ended_at)::float8, \
                a.class, a.code, a.detail, coalesce(a.refs, '{}'), a.possible_duplicate, a.resend_of, a.delivery, \
                coalesce(i.name, a.instance::text), a.carried, a.counted FROM ",
            $from,
            " LEFT JOIN smsd.instance i ON i.id = a.instance ",
            $rest
        )
    };
}

const ATTEMPTS: &str = concat!(
    attempts!(
        "smsd.attempt_alert l JOIN smsq q ON q.id = l.alert JOIN smsd.attempt a ON a.id = l.attempt",
        "WHERE l.alert = $1 AND "
    ),
    same!("l"),
    " ORDER BY a.begun_at, a.id"
);

/// An attempt's id begins with the time at which it was made.
const RECENT: &str =
    attempts!("smsd.attempt a", "WHERE $1::uuid IS NULL OR a.id < $1 ORDER BY a.id DESC LIMIT $2");

const UNDECIDED: &str = attempts!(
    "smsd.attempt a",
    "WHERE a.undecided IN ('in_doubt', 'held') ORDER BY a.begun_at, a.id LIMIT $1"
);

const HISTORY_OF: &str = "SELECT (floor(extract(epoch FROM ended_at) / $2) * $2)::float8, dispatcher, \
        count(*) FILTER (WHERE state = 'accepted'), count(*) FILTER (WHERE state <> 'accepted'), \
        coalesce(sum(greatest(extract(epoch FROM ended_at - begun_at), 0)) FILTER (WHERE state = 'accepted') * 1000, 0) \
            ::bigint \
     FROM (SELECT ended_at, begun_at, dispatcher, state FROM smsd.attempt ORDER BY id DESC LIMIT $3) a \
     WHERE ended_at >= to_timestamp($1) AND dispatcher <> $4 GROUP BY 1, 2 ORDER BY 1, 2";

const WAITING: &str = "SELECT severity, count(*), extract(epoch FROM min(time)::timestamptz)::float8 FROM smsq \
     WHERE sent = 'N' GROUP BY severity ORDER BY severity NULLS LAST";

/// What is open holds its recipient.
const UNRESOLVED: &str = "SELECT (SELECT count(*) FROM smsd.open), count(*) FILTER (WHERE undecided = 'in_doubt'), \
        count(*) FILTER (WHERE undecided = 'held') FROM smsd.attempt WHERE undecided IS NOT NULL";

/// Before statements that are to go by keys, whatever the planner thinks of the table's size. What it then
/// thinks of their cost would have them compiled, which takes a hundred times as long as they do.
const BY_KEYS: &str = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_mergejoin', 'off', true), \
        set_config('enable_hashjoin', 'off', true), set_config('jit', 'off', true)";

const NOTES: &str = concat!(
    "SELECT extract(epoch FROM n.at)::float8, n.what, n.reason, n.detail, n.by \
     FROM smsd.note n JOIN smsq q ON q.id = n.alert WHERE n.alert = $1 AND ",
    same!("n"),
    " ORDER BY n.id"
);

const STATS: &str = "SELECT a.*, l.*, s.* FROM \
     (SELECT count(*) FILTER (WHERE sent = 'N'), \
        extract(epoch FROM now() - min(time) FILTER (WHERE sent = 'N')::timestamptz)::float8, \
        count(*) FILTER (WHERE sent = 'Y'), count(*) FILTER (WHERE sent = 'I') FROM smsq) a, \
     (SELECT (SELECT count(*) FROM smsd.open), count(*) FILTER (WHERE undecided = 'in_doubt'), \
        count(*) FILTER (WHERE undecided = 'held'), \
        count(*) FILTER (WHERE undecided = 'held' AND class = 'from_the_past') FROM smsd.attempt \
        WHERE undecided IS NOT NULL) l, \
     (SELECT count(*), count(*) FILTER (WHERE possible_duplicate) FROM smsd.attempt WHERE state = 'accepted') s";

/// One snapshot for all of the audit.
const BEGIN_READING: Begin = Begin::all_see_one_moment("");

/// What the ledger says of each alert in the queue: attempts accepted that carried it (and how many of them
/// without a mark), why it was ignored, and whether it ended before the ledger was there. What the ledger
/// says of an earlier alert with the same key is that one's.
macro_rules! accounts {
    () => {
        "WITH sms AS (SELECT l.alert, coalesce(l.queued, q.time) AS queued, count(*) FILTER (WHERE l.carried) AS carriers, \
                count(*) FILTER (WHERE l.carried AND NOT a.possible_duplicate) AS unmarked, \
                count(*) FILTER (WHERE NOT l.carried) AS counters \
            FROM smsd.attempt_alert l JOIN smsd.attempt a ON a.id = l.attempt LEFT JOIN smsq q ON q.id = l.alert \
            WHERE a.state = 'accepted' AND NOT l.requeued GROUP BY 1, 2), \
         note AS (SELECT DISTINCT ON (n.alert, coalesce(n.queued, q.time)) n.alert, coalesce(n.queued, q.time) AS queued, \
                n.what FROM smsd.note n JOIN smsq q ON q.id = n.alert \
            ORDER BY n.alert, coalesce(n.queued, q.time), n.id DESC), \
         account AS (SELECT q.id, q.sent, coalesce(s.carriers, 0) AS carriers, coalesce(s.unmarked, 0) AS unmarked, \
                coalesce(n.what = 'ignored', false) OR coalesce(s.counters, 0) > 0 AS reasoned, \
                coalesce(coalesce(q.timesent, q.time)::timestamptz < m.installed_at, true) AS before \
            FROM smsq q CROSS JOIN smsd.meta m LEFT JOIN sms s ON s.alert = q.id AND s.queued IS NOT DISTINCT FROM q.time \
                LEFT JOIN note n ON n.alert = q.id AND n.queued IS NOT DISTINCT FROM q.time) "
    };
}

const COUNTS: &str = concat!(
    accounts!(),
    "SELECT count(*), count(*) FILTER (WHERE sent = 'N'), \
        count(*) FILTER (WHERE sent = 'Y' AND carriers > 0), count(*) FILTER (WHERE sent = 'I' AND reasoned), \
        count(*) FILTER (WHERE before AND (sent = 'Y' AND carriers = 0 OR sent = 'I' AND NOT reasoned)), \
        (SELECT count(*) FROM smsd.attempt WHERE state IN ('in_doubt', 'held')), \
        (SELECT count(DISTINCT l.alert) FROM smsd.attempt a JOIN smsd.attempt_alert l ON l.attempt = a.id \
            WHERE a.state = 'accepted' AND a.possible_duplicate AND l.carried) \
     FROM account"
);

const OFFENDERS: &str = concat!(
    accounts!(),
    "SELECT id::bigint, NULL::uuid, 'waits, though an accepted attempt carries it' FROM account \
        WHERE sent = 'N' AND carriers > 0 \
     UNION ALL SELECT id, NULL, 'sent, but no accepted attempt carries it' FROM account \
        WHERE sent = 'Y' AND carriers = 0 AND NOT before \
     UNION ALL SELECT id, NULL, 'ignored without a reason' FROM account \
        WHERE sent = 'I' AND NOT reasoned AND NOT before \
     UNION ALL SELECT alert, NULL, 'accepted more than once, but not marked a possible duplicate' FROM sms \
        WHERE unmarked > 1 \
     UNION ALL SELECT NULL, a.id, a.state || ', but does not hold all its alerts' FROM smsd.attempt a \
        WHERE a.state IN ('open', 'in_doubt', 'held') AND (cardinality(a.carried || a.counted) = 0 OR EXISTS \
            (SELECT FROM unnest(a.carried || a.counted) AS x (alert) WHERE NOT EXISTS \
                (SELECT FROM smsd.unresolved u WHERE u.alert = x.alert AND u.attempt = a.id))) \
     UNION ALL SELECT NULL, a.id, 'open, but does not hold its recipient' FROM smsd.attempt a \
        WHERE a.state = 'open' \
            AND NOT EXISTS (SELECT FROM smsd.open o WHERE o.recipient = a.recipient AND o.attempt = a.id) \
     UNION ALL SELECT u.alert, u.attempt, 'held by an attempt that is not unresolved' FROM smsd.unresolved u \
        WHERE NOT EXISTS (SELECT FROM smsd.attempt a \
            WHERE a.id = u.attempt AND a.state IN ('open', 'in_doubt', 'held')) \
     UNION ALL SELECT NULL, o.attempt, 'holds its recipient, but is not open' FROM smsd.open o \
        WHERE NOT EXISTS (SELECT FROM smsd.attempt a WHERE a.id = o.attempt AND a.state = 'open') \
     LIMIT $1"
);

pub(super) async fn list(client: &Client, filter: &Filter) -> Verb<Vec<AlertRow>> {
    let list = match filter.state {
        None => list!(each!(), "true"),
        Some(AlertState::Waiting) => {
            list!(each!(), "q.sent = 'N' AND coalesce(a.state, 'open') NOT IN ('in_doubt', 'held')")
        }
        Some(AlertState::InDoubt) => IN_DOUBT,
        Some(AlertState::Held) => HELD,
        Some(AlertState::Sent) => list!(each!(), "q.sent = 'Y'"),
        Some(AlertState::Ignored) => list!(each!(), "q.sent = 'I'"),
    };
    let before = filter.before.map(|id| id.0);
    let to = filter.to.as_ref().map(|phone| phone.as_str());
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let parameters: [Parameter<'_>; 3] = [(&before, Type::INT8), (&to, Type::TEXT), (&limit, Type::INT8)];
    let answers = in_transaction(client, BEGIN_READING, &[(BY_KEYS, &[]), (list, &parameters)]).await?;
    answers.get(1).into_iter().flatten().map(alert).collect()
}

pub(super) async fn show(client: &Client, id: AlertId) -> Verb<Option<Story>> {
    let id: [Parameter<'_>; 1] = [(&id.0, Type::INT8)];
    let answers = in_transaction(client, BEGIN_READING, &[(ONE, &id), (ATTEMPTS, &id), (NOTES, &id)]).await?;
    let [one, attempts, notes] = answers.as_slice() else { return Ok(None) };
    let Some(one) = one.first() else { return Ok(None) };
    Ok(Some(Story {
        alert: alert(one)?,
        attempts: attempts.iter().map(attempt).collect::<Verb<_>>()?,
        notes: notes.iter().map(note).collect::<Verb<_>>()?,
    }))
}

/// What the alerts say, and with `named` whose they are.
pub(super) async fn mention(client: &Client, keys: &[AlertId], named: bool) -> Verb<Vec<Mention>> {
    const NAMED: &str = "SELECT q.id::bigint, q.phone::text, q.msg::text, a.name::text, a.login::text \
         FROM smsq q LEFT JOIN account a ON a.id = q.accountid WHERE q.id = ANY($1) ORDER BY q.id";
    const BARE: &str = "SELECT q.id::bigint, q.phone::text, q.msg::text, NULL::text, NULL::text FROM smsq q \
         WHERE q.id = ANY($1) ORDER BY q.id";
    let keys: Vec<i64> = keys.iter().map(|id| id.0).collect();
    let keys: [Parameter<'_>; 1] = [(&keys, Type::INT8_ARRAY)];
    let rows = client.query_typed(if named { NAMED } else { BARE }, &keys).await?;
    let mention = |row: &Row| {
        let (name, login): (Option<String>, Option<String>) = (row.try_get(3)?, row.try_get(4)?);
        let account = name.zip(login).map(|(name, login)| Account { name, login });
        Ok(Mention { id: AlertId(row.try_get(0)?), to: row.try_get(1)?, text: row.try_get(2)?, account })
    };
    rows.iter().map(mention).collect()
}

pub(super) async fn recent(client: &Client, before: Option<Uuid>, limit: usize) -> Verb<Vec<AttemptRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let parameters: [Parameter<'_>; 2] = [(&before, Type::UUID), (&limit, Type::INT8)];
    client.query_typed(RECENT, &parameters).await?.iter().map(attempt).collect()
}

pub(super) async fn undecided(client: &Client, limit: usize) -> Verb<Vec<AttemptRow>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let limit: [Parameter<'_>; 1] = [(&limit, Type::INT8)];
    let answers = in_transaction(client, BEGIN_READING, &[(BY_KEYS, &[]), (UNDECIDED, &limit)]).await?;
    answers.get(1).into_iter().flatten().map(attempt).collect()
}

pub(super) async fn history(client: &Client, since: Timestamp, step: Duration) -> Verb<Vec<Period>> {
    let since = since.as_microsecond() as f64 / 1e6;
    let (step, looks) = (step_micros(step) / 1_000_000, i64::try_from(HISTORY).unwrap_or(i64::MAX));
    let parameters: [Parameter<'_>; 4] =
        [(&since, Type::FLOAT8), (&step, Type::INT8), (&looks, Type::INT8), (&STORM_GUARD, Type::TEXT)];
    let rows = client.query_typed(HISTORY_OF, &parameters).await?;
    let period = |row: &Row| {
        Ok(Period {
            from: time(row.try_get(0)?),
            dispatcher: row.try_get(1)?,
            accepted: count(row, 2)?,
            failed: count(row, 3)?,
            accepted_millis: count(row, 4)?,
        })
    };
    rows.iter().map(period).collect()
}

pub(super) async fn depth(client: &Client) -> Verb<Depth> {
    let statements: [Statement<'_>; 3] = [(WAITING, &[]), (BY_KEYS, &[]), (UNRESOLVED, &[])];
    let answers = in_transaction(client, BEGIN_READING, &statements).await?;
    let mut depth = Depth::default();
    for row in answers.first().into_iter().flatten() {
        depth.waiting.push(Layer {
            severity: Severity(row.try_get(0)?),
            alerts: count(row, 1)?,
            oldest: row.try_get::<_, Option<f64>>(2)?.map(time),
        });
    }
    if let Some(row) = answers.get(2).and_then(|rows| rows.first()) {
        (depth.open, depth.in_doubt, depth.held) = (count(row, 0)?, count(row, 1)?, count(row, 2)?);
    }
    Ok(depth)
}

pub(super) async fn stats(client: &Client) -> Verb<Stats> {
    let row = client.query_typed_one(STATS, &[]).await?;
    let age: Option<f64> = row.try_get(1)?;
    Ok(Stats {
        waiting: count(&row, 0)?,
        oldest_waiting_seconds: age.map(|age| age.max(0.0) as u64),
        sent: count(&row, 2)?,
        ignored: count(&row, 3)?,
        open: count(&row, 4)?,
        in_doubt: count(&row, 5)?,
        held: count(&row, 6)?,
        held_by_guard: count(&row, 7)?,
        sms: count(&row, 8)?,
        possible_duplicates: count(&row, 9)?,
    })
}

pub(super) async fn audit(client: &Client) -> Verb<Audit> {
    let limit: [Parameter<'_>; 1] = [(&MAX_OFFENDERS, Type::INT8)];
    let answers = in_transaction(client, BEGIN_READING, &[(COUNTS, &[]), (OFFENDERS, &limit)]).await?;
    let mut audit = Audit::default();
    let mut answers = answers.iter();
    if let Some(row) = answers.next().and_then(|rows| rows.first()) {
        audit = Audit {
            alerts: count(row, 0)?,
            waiting: count(row, 1)?,
            sent: count(row, 2)?,
            ignored: count(row, 3)?,
            before_ledger: count(row, 4)?,
            unresolved: count(row, 5)?,
            possible_duplicates: count(row, 6)?,
            offenders: Vec::new(),
        };
    }
    for row in answers.flatten() {
        let alert = row.try_get::<_, Option<i64>>(0)?.map(AlertId);
        audit.offenders.push(Offender { alert, attempt: row.try_get(1)?, what: row.try_get(2)? });
    }
    Ok(audit)
}

fn count(row: &Row, column: usize) -> Verb<u64> {
    Ok(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or_default())
}

fn alert(row: &Row) -> Verb<AlertRow> {
    let word: &str = row.try_get(4)?;
    let reason: Option<&str> = row.try_get(5)?;
    Ok(AlertRow {
        id: AlertId(row.try_get(0)?),
        to: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
        text: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
        severity: Severity(row.try_get(3)?),
        state: AlertState::ALL.into_iter().find(|s| s.as_str() == word).unwrap_or(AlertState::Waiting),
        reason: reason.and_then(Reason::from_word),
        queued_at: row.try_get::<_, Option<f64>>(6)?.map(time),
        ended_at: row.try_get::<_, Option<f64>>(7)?.map(time),
    })
}

fn attempt(row: &Row) -> Verb<AttemptRow> {
    // The words come from us, and the table checks them.
    let state = AttemptState::from_word(row.try_get(5)?).unwrap_or(AttemptState::InDoubt);
    Ok(AttemptRow {
        id: row.try_get(0)?,
        number: u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or_default(),
        recipient: row.try_get(2)?,
        text: row.try_get(3)?,
        dispatcher: row.try_get(4)?,
        state,
        begun_at: time(row.try_get(6)?),
        ended_at: row.try_get::<_, Option<f64>>(7)?.map(time),
        class: row.try_get(8)?,
        code: row.try_get(9)?,
        detail: row.try_get(10)?,
        references: row.try_get(11)?,
        possible_duplicate: row.try_get(12)?,
        resend_of: row.try_get(13)?,
        delivery: row.try_get(14)?,
        instance: row.try_get(15)?,
        carried: ids(row.try_get(16)?),
        counted: ids(row.try_get(17)?),
    })
}

fn note(row: &Row) -> Verb<Note> {
    let reason: Option<&str> = row.try_get(2)?;
    Ok(Note {
        at: time(row.try_get(0)?),
        what: row.try_get(1)?,
        reason: reason.and_then(Reason::from_word),
        detail: row.try_get(3)?,
        by: row.try_get(4)?,
    })
}
