//! A database that may have been restored, or a standby that was promoted too early.

use std::sync::atomic::{AtomicU8, Ordering};

use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::notes::note_id;
use super::people::BEGIN_ALONE;
use super::{Verb, clean, ids, time};
use crate::alert::AlertId;
use crate::queue::ledger::BEFORE;
use crate::queue::past::{ANOTHER_SERVER, FROM_THE_PAST, NO_TEXT, STORM_GUARD, TOGETHER};
use crate::queue::postgres::{Begin, Client, Fault, Parameter, Statement, in_transaction};
use crate::queue::{Caught, Forgot, Grant, Known, LogEnd, QueueError, Suspects, Witness};

/// An expression: the word for what the database has forgotten, null if nothing. A few looks into primary
/// keys, and what [`LOG`] found in the same transaction.
macro_rules! forgot {
    ($queue:literal, $begun:literal, $seen:literal, $closed:literal) => {
        concat!(
            "CASE WHEN current_setting('smsd.forgot', true) <> '' THEN current_setting('smsd.forgot') \
                WHEN ",
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
            $seen,
            "::uuid[]) AS t (id) WHERE NOT EXISTS (SELECT FROM smsd.attempt a WHERE a.id = t.id)) THEN 'seen' \
                WHEN EXISTS (SELECT FROM unnest(",
            $closed,
            "::uuid[]) AS t (id) WHERE NOT EXISTS \
                    (SELECT FROM smsd.attempt a WHERE a.id = t.id AND a.state <> 'open')) THEN 'closed' END"
        )
    };
}
pub(super) use forgot;

/// The newest attempt of all, by its id: one look at the end of the primary key. Ids are made by the
/// clocks of many machines, so this may for a while be one of a clock that is ahead; the log knows no
/// clock.
macro_rules! newest {
    () => {
        "(SELECT id FROM smsd.attempt ORDER BY id DESC LIMIT 1)"
    };
}

/// The end of a statement with `past (forgot)` and `granted (id)`: one row, as [`granted`] reads it.
macro_rules! answer {
    () => {
        concat!(
            "SELECT past.forgot, granted.id IS NOT NULL, meta.queue, \
                extract(epoch FROM clock_timestamp())::float8, ",
            $crate::queue::navdb::past::newest!(),
            " FROM past LEFT JOIN granted ON true LEFT JOIN smsd.meta ON true"
        )
    };
}
pub(super) use {answer, newest};

/// Where the log ends that is on this server's disk: a crash of PostgreSQL does not lose it, so that what
/// it does lose, with `synchronous_commit = off`, is no rollback. (It may end within a record; since
/// 14.1, 13.5, 12.9 PostgreSQL goes on behind it all the same.) Says in `smsd.forgot`, for the statements
/// after it in the transaction, what [`Forgot::from_word`] and [`lost`] read: `log` if it ended further
/// on before, in the same history; `elsewhere` if $4 asks for the same history and this is another. A
/// standby has nothing to say.
const LOG: &str = "WITH here AS MATERIALIZED (SELECT system_identifier AS system, \
        CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_flush_lsn() END AS flushed FROM pg_control_system()), \
     log AS MATERIALIZED (SELECT system, (flushed - '0/0'::pg_lsn)::bigint AS position, \
        ('x' || substr(CASE WHEN flushed IS NOT NULL THEN pg_walfile_name(flushed) END, 1, 8))::bit(32)::bigint \
            AS timeline FROM here) \
     SELECT system, timeline, position, set_config('smsd.forgot', CASE \
        WHEN $1 = system AND $2 = timeline AND $3 > position THEN 'log' \
        WHEN $4 AND ($1 <> system OR $2 <> timeline) THEN 'elsewhere' ELSE '' END, true) FROM log";

/// A standby that is read by mistake has forgotten nothing.
const WITNESS: &str = concat!(
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN ",
    forgot!("$1", "$2", "$3", "$4"),
    " END, CASE WHEN NOT pg_is_in_recovery() THEN ",
    newest!(),
    " END"
);

/// Whether the database lets smsd see its log: not every server that speaks PostgreSQL's protocol has
/// one, and the right may have been taken away. Asked at each join.
#[derive(Default)]
pub(super) struct LogAccess(AtomicU8);

impl LogAccess {
    const READABLE: u8 = 1;
    const HIDDEN: u8 = 2;

    /// Asks. A refusal is an answer, told once; a connection that is lost is none.
    pub(super) async fn ask(&self, client: &Client) -> Verb<()> {
        let nothing = Parameters::of(&Known::default(), self);
        let access = match client.query_typed(LOG, &nothing.of_log(&false)).await {
            Ok(_) => Self::READABLE,
            Err(error) if error.as_db_error().is_none() => return Err(error.into()),
            Err(error) => {
                if self.0.load(Ordering::Relaxed) != Self::HIDDEN {
                    tracing::info!("the database does not show where its log ends: {error}");
                }
                Self::HIDDEN
            }
        };
        self.0.store(access, Ordering::Relaxed);
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::READABLE
    }

    /// The right to look may be taken away under a running instance: it goes on without.
    fn close_on(&self, error: &Error) {
        let refused =
            [SqlState::INSUFFICIENT_PRIVILEGE, SqlState::UNDEFINED_FUNCTION, SqlState::FEATURE_NOT_SUPPORTED];
        if error.code().is_some_and(|code| refused.contains(code)) {
            self.0.store(Self::HIDDEN, Ordering::Relaxed);
        }
    }
}

/// [`Known`], column by column: the parameters of [`forgot!`] and of [`LOG`].
pub(super) struct Parameters<'a> {
    queue: Option<Uuid>,
    begun: Option<Uuid>,
    seen: Vec<Uuid>,
    closed: Vec<Uuid>,
    system: Option<i64>,
    timeline: Option<i64>,
    position: Option<i64>,
    access: &'a LogAccess,
}

/// PostgreSQL shows its system identifier as a signed number.
const fn signed(number: u64) -> i64 {
    number.cast_signed()
}

impl<'a> Parameters<'a> {
    pub(super) fn of(known: &Known, access: &'a LogAccess) -> Parameters<'a> {
        let log = known.log;
        Parameters {
            queue: known.queue,
            begun: known.begun,
            seen: known.seen.clone(),
            closed: known.closed.clone(),
            system: log.map(|log| signed(log.system)),
            timeline: log.map(|log| i64::from(log.timeline)),
            position: log.map(|log| signed(log.position)),
            access,
        }
    }

    pub(super) fn all(&self) -> [Parameter<'_>; 4] {
        [
            (&self.queue, Type::UUID),
            (&self.begun, Type::UUID),
            (&self.seen, Type::UUID_ARRAY),
            (&self.closed, Type::UUID_ARRAY),
        ]
    }

    fn of_log<'b>(&'b self, same: &'b bool) -> [Parameter<'b>; 4] {
        [
            (&self.system, Type::INT8),
            (&self.timeline, Type::INT8),
            (&self.position, Type::INT8),
            (same, Type::BOOL),
        ]
    }

    /// Does statements in one transaction, behind a look at the log if there may be one; with `same`,
    /// nothing is written in another history than the one that is known. Returns where the log ends, and
    /// the answers.
    pub(super) async fn in_transaction(
        &self,
        client: &Client,
        begin: Begin,
        same: bool,
        statements: &[Statement<'_>],
    ) -> Verb<(Option<LogEnd>, Vec<Vec<Row>>)> {
        if !self.access.is_open() {
            return Ok((None, in_transaction(client, begin, statements).await?));
        }
        let of_log = self.of_log(&same);
        let mut all: Vec<Statement<'_>> = vec![(LOG, &of_log)];
        all.extend_from_slice(statements);
        let mut answers =
            in_transaction(client, begin, &all).await.inspect_err(|error| self.access.close_on(error))?;
        let log = match answers.remove(0).first() {
            Some(row) => log_end(row)?,
            None => None,
        };
        Ok((log, answers))
    }
}

fn log_end(row: &Row) -> Verb<Option<LogEnd>> {
    let (system, timeline, position): (i64, Option<i64>, Option<i64>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let end = |timeline, position: i64| {
        let timeline = u32::try_from(timeline).ok()?;
        Some(LogEnd { system: system.cast_unsigned(), timeline, position: position.cast_unsigned() })
    };
    Ok(timeline.zip(position).and_then(|(timeline, position)| end(timeline, position)))
}

/// Why nothing was written: what was forgotten, another server, or else the lease.
pub(super) fn lost(forgot: Option<&str>) -> Fault {
    Fault::Queue(match forgot {
        Some("elsewhere") => QueueError::Unavailable(ANOTHER_SERVER.into()),
        Some(word) => QueueError::FromThePast(Forgot::from_word(word).unwrap_or(Forgot::Identity)),
        None => QueueError::LeaseLost,
    })
}

pub(super) fn granted(row: Option<&Row>, log: Option<LogEnd>) -> Verb<Grant> {
    let Some(row) = row else { return Err(lost(None)) };
    if !row.try_get::<_, bool>(1)? {
        return Err(lost(row.try_get(0)?));
    }
    let witness = Witness { newest: row.try_get(4)?, log };
    Ok(Grant { queue: row.try_get(2)?, now: time(row.try_get(3)?), witness })
}

pub(super) async fn witness(client: &Client, known: &Parameters<'_>) -> Verb<Witness> {
    let (log, answers) =
        known.in_transaction(client, Begin::PLAIN, false, &[(WITNESS, &known.all())]).await?;
    let Some(row) = answers.first().and_then(|rows| rows.first()) else { return Ok(Witness::default()) };
    match row.try_get::<_, Option<&str>>(0)? {
        Some(word) => Err(lost(Some(word))),
        None => Ok(Witness { newest: row.try_get(1)?, log }),
    }
}

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
     suspect AS MATERIALIZED (SELECT q.id::bigint AS id, q.time, translate(q.phone::text, ' -().', '') AS recipient FROM smsq q \
        WHERE q.id > $2 AND q.sent = 'N' AND q.time <= to_timestamp($3) \
            AND translate(q.phone::text, ' -().', '') ~ '^[+]?[0-9]{3,15}$' \
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
    let page = [(HOLD, &alerts[..]), (super::lease::INTO_DOUBT, &[]), (HOLD_DOUBTS, &doubts)];
    let page = if after == AlertId(0) { &page[..] } else { &page[..1] };
    let answers = in_transaction(client, BEGIN_ALONE, page).await?;
    let Some(row) = answers.first().and_then(|rows| rows.first()) else { return Err(lost(None)) };
    if !row.try_get::<_, bool>(0)? {
        return Err(lost(None));
    }
    let (count, last): (i64, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Caught {
        alerts: u64::try_from(count).unwrap_or_default(),
        doubts: answers.get(2).map_or(0, |rows| rows.len() as u64),
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
