//! Writing attempts before they are made.
//!
//! Locks first, in one order for everybody, so that instances that race wait for each other and never in a
//! circle. What they hold is then looked at in a new statement, which sees all that was committed before
//! the locks were ours; so an alert that another instance has just settled is not sent again.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::notes::{anothers, same};
use super::past::{self, forgot};
use super::{BEGIN, Verb, clean};
use crate::alert::AlertId;
use crate::queue::NewAttempt;
use crate::queue::postgres::{Client, Letters, Parameter, Statement};

/// The recipients: one open attempt each.
const OPEN: &str = "INSERT INTO smsd.open (recipient, attempt) \
     SELECT recipient, id FROM unnest($1::uuid[], $2::text[]) AS t (id, recipient) ORDER BY recipient, id \
     ON CONFLICT DO NOTHING";

/// The alerts of new attempts: one unresolved attempt each.
const TAKE: &str = "INSERT INTO smsd.unresolved (alert, attempt) \
     SELECT alert, attempt FROM unnest($1::uuid[], $2::bigint[]) AS t (attempt, alert) ORDER BY alert, attempt \
     ON CONFLICT DO NOTHING";

/// The alerts of attempts that are repeated pass to their heirs, once.
const INHERIT: &str = "WITH old AS (SELECT a.id, t.id AS heir, a.carried || a.counted AS alerts \
        FROM unnest($1::uuid[], $2::uuid[]) AS t (id, resend_of) JOIN smsd.attempt a ON a.id = t.resend_of \
        WHERE a.state IN ('in_doubt', 'held') AND NOT EXISTS (SELECT FROM smsd.attempt WHERE id = t.id) \
        FOR UPDATE OF a) \
     UPDATE smsd.unresolved u SET attempt = old.heir FROM old, unnest(old.alerts) AS x (alert) \
        WHERE u.alert = x.alert AND u.attempt = old.id";

/// The attempts that hold all that they need are written; the others give back what they hold. What an
/// earlier call has written is ours as long as it is open. One row per attempt that is ours, or one without
/// an attempt if our lease is not good, or the queue has forgotten something: then it says what.
const WRITE: &str = concat!(
    "WITH past AS MATERIALIZED (SELECT ",
    forgot!("$12", "$13", "$14", "$15"),
    " AS forgot), \
     given AS MATERIALIZED (SELECT t.*, t.carried::bigint[] AS carries, \
            t.counted::bigint[] AS counts, t.carried::bigint[] || t.counted::bigint[] AS alerts, \
            a.state, a.state = 'open' AND a.instance = $1 AS ours \
        FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::int[], $7::float8[], $8::bool[], \
            $9::uuid[], $10::text[], $11::text[]) AS t (id, recipient, text, dispatcher, number, deadline, \
            possible_duplicate, resend_of, carried, counted) \
        LEFT JOIN smsd.attempt a ON a.id = t.id), \
     lease AS MATERIALIZED (SELECT forgot IS NULL AND EXISTS (SELECT FROM smsd.instance \
        WHERE id = $1 AND lease_until > clock_timestamp()) AS good FROM past), \
     fresh AS MATERIALIZED (SELECT g.* FROM given g \
        WHERE g.state IS NULL AND (SELECT good FROM lease) \
        AND EXISTS (SELECT FROM smsd.open o WHERE o.recipient = g.recipient AND o.attempt = g.id) \
        AND cardinality(g.alerts) > 0 AND cardinality(g.alerts) = \
            (SELECT count(DISTINCT x.alert) FROM unnest(g.alerts) AS x (alert) \
                JOIN smsd.unresolved u ON u.alert = x.alert AND u.attempt = g.id \
                JOIN smsq q ON q.id = x.alert AND q.sent = 'N') \
        AND (g.possible_duplicate OR NOT EXISTS (SELECT FROM unnest(g.alerts) AS x (alert) \
            JOIN smsd.attempt_alert l ON l.alert = x.alert \
            WHERE (SELECT a.state IN ('resent', 'cancelled') OR a.state = 'failed' AND a.class = 'failed' \
                FROM smsd.attempt a WHERE a.id = l.attempt) \
            AND (SELECT ",
    same!("l"),
    " FROM smsq q WHERE q.id = l.alert))) \
        AND (g.resend_of IS NULL OR EXISTS (SELECT FROM smsd.attempt a WHERE a.id = g.resend_of \
                AND a.carried @> g.carries AND a.carried <@ g.carries \
                AND a.counted @> g.counts AND a.counted <@ g.counts) \
            AND NOT EXISTS (SELECT FROM unnest(g.alerts) AS x (alert) JOIN smsq q ON q.id = x.alert \
                WHERE ",
    anothers!("g.resend_of"),
    "))), \
     written AS (INSERT INTO smsd.attempt (id, instance, deadline, number, possible_duplicate, resend_of, state, \
            recipient, text, dispatcher, carried, counted) \
        SELECT id, $1, now() + deadline * interval '1 ms', number, possible_duplicate, resend_of, 'open', \
            recipient, text, dispatcher, carries, counts FROM fresh ON CONFLICT DO NOTHING), \
     linked AS (INSERT INTO smsd.attempt_alert (attempt, alert, carried, queued) \
        SELECT x.id, x.alert, x.carried, (SELECT q.time FROM smsq q WHERE q.id = x.alert) \
        FROM (SELECT id, unnest(carries) AS alert, true AS carried FROM fresh \
            UNION ALL SELECT id, unnest(counts), false FROM fresh) x ON CONFLICT DO NOTHING), \
     resent AS (UPDATE smsd.attempt a SET state = 'resent', ended_at = now() FROM fresh f \
        WHERE a.id = f.resend_of), \
     bad AS MATERIALIZED (SELECT * FROM given g \
        WHERE NOT coalesce(g.ours, false) AND g.id NOT IN (SELECT id FROM fresh)), \
     closed AS (DELETE FROM smsd.open o USING bad \
        WHERE o.recipient = bad.recipient AND o.attempt = bad.id AND bad.state IS DISTINCT FROM 'open'), \
     given_up AS (DELETE FROM smsd.unresolved u USING bad, unnest(bad.alerts) AS x (alert) \
        WHERE u.alert = x.alert AND u.attempt = bad.id AND bad.resend_of IS NULL \
            AND coalesce(bad.state, '') NOT IN ('open', 'in_doubt', 'held')), \
     given_back AS (UPDATE smsd.unresolved u SET attempt = bad.resend_of \
        FROM bad JOIN smsd.attempt a ON a.id = bad.resend_of, unnest(a.carried || a.counted) AS x (alert) \
        WHERE u.alert = x.alert AND u.attempt = bad.id AND bad.state IS NULL) \
     SELECT id, NULL AS forgot FROM given WHERE ours AND (SELECT good FROM lease) \
     UNION ALL SELECT id, NULL FROM fresh \
     UNION ALL SELECT NULL, forgot FROM lease, past WHERE NOT good"
);

/// Attempts, column by column.
#[derive(Default)]
pub(super) struct Rows<'a> {
    ids: Vec<Uuid>,
    recipients: Vec<&'a str>,
    texts: Vec<std::borrow::Cow<'a, str>>,
    dispatchers: Vec<&'a str>,
    numbers: Vec<i32>,
    deadlines: Vec<f64>,
    possible_duplicates: Vec<bool>,
    resend_ofs: Vec<Option<Uuid>>,
    carried: Vec<String>,
    counted: Vec<String>,
    /// (attempt, alert) of attempts that repeat none.
    taking: (Vec<Uuid>, Vec<i64>),
    /// (attempt, attempt that it repeats).
    inheriting: (Vec<Uuid>, Vec<Uuid>),
}

impl<'a> Rows<'a> {
    pub(super) fn of(attempts: &'a [NewAttempt]) -> Rows<'a> {
        let mut rows = Rows::default();
        for attempt in attempts {
            rows.ids.push(attempt.id);
            rows.recipients.push(attempt.recipient.as_str());
            rows.texts.push(clean(&attempt.text));
            rows.dispatchers.push(&attempt.dispatcher);
            rows.numbers.push(i32::try_from(attempt.number).unwrap_or(i32::MAX));
            rows.deadlines.push(super::millis(attempt.deadline));
            rows.possible_duplicates.push(attempt.possible_duplicate);
            rows.resend_ofs.push(attempt.resend_of);
            rows.carried.push(array(&attempt.carried));
            rows.counted.push(array(&attempt.counted));
            match attempt.resend_of {
                Some(old) => {
                    rows.inheriting.0.push(attempt.id);
                    rows.inheriting.1.push(old);
                }
                None => {
                    for alert in attempt.carried.iter().chain(&attempt.counted) {
                        rows.taking.0.push(attempt.id);
                        rows.taking.1.push(alert.0);
                    }
                }
            }
        }
        rows
    }
}

/// An array of arrays may not be ragged, so each goes as its text.
fn array(ids: &[AlertId]) -> String {
    let ids: Vec<String> = ids.iter().map(AlertId::to_string).collect();
    format!("{{{}}}", ids.join(","))
}

/// Writes the attempts; returns those that are ours.
pub(super) async fn begin(
    client: &Client,
    owner: Uuid,
    rows: &Rows<'_>,
    known: &past::Parameters<'_>,
) -> Verb<Vec<Uuid>> {
    let letters = client.letters();
    // The SMS goes out as it was composed; the ledger keeps it in the letters that the database has.
    let fitted: Vec<_> =
        rows.texts.iter().filter(|_| letters != Letters::All).map(|text| letters.fit(text)).collect();
    let texts = if letters == Letters::All { &rows.texts } else { &fitted };
    let mut write: Vec<Parameter<'_>> = vec![
        (&owner, Type::UUID),
        (&rows.ids, Type::UUID_ARRAY),
        (&rows.recipients, Type::TEXT_ARRAY),
        (texts, Type::TEXT_ARRAY),
        (&rows.dispatchers, Type::TEXT_ARRAY),
        (&rows.numbers, Type::INT4_ARRAY),
        (&rows.deadlines, Type::FLOAT8_ARRAY),
        (&rows.possible_duplicates, Type::BOOL_ARRAY),
        (&rows.resend_ofs, Type::UUID_ARRAY),
        (&rows.carried, Type::TEXT_ARRAY),
        (&rows.counted, Type::TEXT_ARRAY),
    ];
    write.extend(known.all());
    let open = &write[1..3];
    let take: [Parameter<'_>; 2] = [(&rows.taking.0, Type::UUID_ARRAY), (&rows.taking.1, Type::INT8_ARRAY)];
    let inherit: [Parameter<'_>; 2] =
        [(&rows.inheriting.0, Type::UUID_ARRAY), (&rows.inheriting.1, Type::UUID_ARRAY)];
    let mut statements: Vec<Statement<'_>> = vec![(OPEN, open), (TAKE, &take)];
    if !rows.inheriting.0.is_empty() {
        statements.push((INHERIT, &inherit));
    }
    statements.push((WRITE, &write));
    let (_, answers) = known.in_transaction(client, BEGIN, true, &statements).await?;
    let mut owned = Vec::with_capacity(rows.ids.len());
    for row in answers.last().into_iter().flatten() {
        match row.try_get(0)? {
            Some(id) => owned.push(id),
            None => return Err(past::lost(row.try_get(1)?)),
        }
    }
    Ok(owned)
}
