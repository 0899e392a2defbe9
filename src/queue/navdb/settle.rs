//! Closing attempts and setting their alerts, in one statement.

use std::borrow::Cow;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::notes::{anothers, note_id};
use super::{BEGIN, Verb, clean};
use crate::alert::{AlertId, Reason, Verdict};
use crate::queue::postgres::{Client, Letters, Parameter, Statement, in_transaction};
use crate::queue::{Settled, Settlement};

/// Between the references of one attempt, where they travel as one text.
const SEPARATOR: char = '\u{1f}';

/// Alerts that end without an attempt of theirs are locked first, so that no attempt begins meanwhile.
const TAKE: &str = "INSERT INTO smsd.unresolved (alert, attempt) \
     SELECT alert, $1 FROM unnest($2::bigint[]) AS t (alert) ORDER BY alert ON CONFLICT DO NOTHING";
const GIVE_BACK: &str = "DELETE FROM smsd.unresolved WHERE attempt = $1 AND alert = ANY ($2)";

/// Acceptance is a fact that anyone may record, late too. Anything else is its owner's word on an attempt
/// that is open, or the policy's on one in doubt (hold it), by its owner or, when that is gone, by anyone.
/// Only what this call closed sets alerts, so that a repeated call sets none again. A squeezed alert needs no
/// note: the attempt says that it was only counted. A row whose key was given again is another alert, and is
/// left. The rows of NAV's table are locked in the order of their keys, so that whoever changes several of
/// them in that order never meets us in a circle. Returns what could not be done: attempts (first column) and
/// alerts (second).
const SETTLE: &str = concat!(
    "WITH given AS MATERIALIZED (SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], \
        $5::text[], $6::text[], $7::text[], $15::bool[]) AS t (id, state, class, code, detail, refs, own)), \
     verdict AS MATERIALIZED (SELECT * FROM unnest($8::bigint[], $9::uuid[], $10::text[], $11::int[], $12::text[], \
        $13::text[]) AS t (alert, attempt, sent, smsid, reason, detail)), \
     lease AS MATERIALIZED (SELECT EXISTS (SELECT FROM smsd.instance \
        WHERE id = $1 AND lease_until > clock_timestamp()) AS good), \
     closed AS (UPDATE smsd.attempt a SET state = g.state, class = g.class, code = g.code, detail = g.detail, \
            refs = string_to_array(g.refs, chr(31)), own = g.own, \
            ended_at = CASE WHEN g.state NOT IN ('in_doubt', 'held') THEN now() END, \
            doubt_since = CASE WHEN g.state = 'in_doubt' THEN now() ELSE a.doubt_since END \
        FROM given g WHERE a.id = g.id AND g.state NOT IN ('open', 'resent') \
            AND (g.state = 'accepted' AND a.state <> 'accepted' OR (SELECT good FROM lease) AND \
                (a.state = 'open' AND a.instance = $1 \
                OR a.state = 'in_doubt' AND g.state = 'held' AND (a.instance = $1 OR NOT EXISTS \
                    (SELECT FROM smsd.instance i WHERE i.id = a.instance AND i.lease_until > clock_timestamp())))) \
        RETURNING a.id, a.recipient, a.state, a.carried || a.counted AS alerts), \
     freed AS (DELETE FROM smsd.open o USING closed c WHERE o.recipient = c.recipient AND o.attempt = c.id), \
     resolved AS (DELETE FROM smsd.unresolved u USING closed c, unnest(c.alerts) AS x (alert) \
        WHERE u.alert = x.alert AND u.attempt = c.id AND c.state NOT IN ('in_doubt', 'held')), \
     due AS MATERIALIZED (SELECT v.alert, v.attempt, v.sent, v.smsid, v.detail, \
            CASE WHEN c.state = 'accepted' AND v.reason = 'squeezed' THEN NULL ELSE v.reason END AS reason, \
            CASE WHEN c.state = 'accepted' AND (v.sent = 'Y' OR v.reason = 'squeezed') THEN EXISTS (SELECT \
                    FROM smsd.attempt_alert l WHERE l.alert = v.alert AND l.attempt = c.id AND NOT l.requeued) \
                WHEN v.sent = 'Y' THEN false \
                ELSE NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = v.alert AND u.attempt <> $14 \
                    AND u.attempt NOT IN (SELECT id FROM closed WHERE state NOT IN ('in_doubt', 'held'))) \
            END AS ripe \
        FROM verdict v LEFT JOIN closed c ON c.id = v.attempt WHERE v.attempt IS NULL OR c.id IS NOT NULL \
        ORDER BY v.alert), \
     ended AS (UPDATE smsq q SET sent = v.sent, smsid = v.smsid, timesent = now() \
        FROM due v WHERE q.id = v.alert AND v.ripe AND q.sent = 'N' AND (v.attempt IS NULL OR NOT ",
    anothers!("v.attempt"),
    ") RETURNING q.id::bigint, v.reason, v.detail, q.time), \
     noted AS (INSERT INTO smsd.note (alert, id, what, reason, detail, by, queued) SELECT e.id, ",
    note_id!("e.id"),
    ", 'ignored', e.reason, e.detail, 'smsd', e.time FROM ended e WHERE e.reason IS NOT NULL) \
     SELECT g.id, NULL::bigint FROM given g WHERE g.id NOT IN (SELECT id FROM closed) \
        AND NOT EXISTS (SELECT FROM smsd.attempt a WHERE a.id = g.id AND a.state = g.state \
            AND a.state NOT IN ('open', 'resent')) \
     UNION ALL SELECT NULL, v.alert FROM due v WHERE v.alert NOT IN (SELECT id FROM ended)"
);

/// Settlements, column by column.
#[derive(Clone, Default)]
pub(super) struct Rows<'a> {
    ids: Vec<Uuid>,
    states: Vec<&'a str>,
    classes: Vec<&'a str>,
    codes: Vec<Option<Cow<'a, str>>>,
    details: Vec<Cow<'a, str>>,
    references: Vec<Option<String>>,
    own: Vec<bool>,
    alerts: Vec<i64>,
    attempts: Vec<Option<Uuid>>,
    sent: Vec<&'a str>,
    smsids: Vec<i32>,
    reasons: Vec<Option<&'a str>>,
    whys: Vec<Cow<'a, str>>,
    /// Alerts that end for another reason than an acceptance.
    beside: Vec<i64>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(settlements: &'a [Settlement]) -> Rows<'a> {
        let mut rows = Rows::default();
        for settlement in settlements {
            let closing = settlement.closing.as_ref();
            if let Some(closing) = closing {
                rows.ids.push(closing.id);
                rows.states.push(closing.state.as_str());
                rows.classes.push(closing.class);
                rows.codes.push(closing.code.as_deref().map(clean));
                rows.details.push(clean(&closing.detail));
                rows.references.push(joined(&closing.references));
                rows.own.push(closing.own);
            }
            // NAV's column is an integer; a gateway's reference may be anything.
            let smsid = closing.and_then(|c| c.references.first()?.parse().ok()).unwrap_or(0);
            for (alert, verdict) in &settlement.verdicts {
                let (sent, reason) = match verdict {
                    Verdict::Sent => ("Y", None),
                    Verdict::Ignored(reason) => ("I", Some(reason.as_str())),
                    Verdict::Waits => continue,
                };
                rows.alerts.push(alert.0);
                rows.attempts.push(closing.map(|c| c.id));
                rows.sent.push(sent);
                rows.smsids.push(smsid);
                rows.reasons.push(reason);
                rows.whys.push(clean(&settlement.detail));
                if !matches!(verdict, Verdict::Sent | Verdict::Ignored(Reason::Squeezed)) {
                    rows.beside.push(alert.0);
                }
            }
        }
        rows
    }
}

impl Rows<'_> {
    /// The same in letters that the database has: what a gateway said is no reason not to settle.
    fn fitted(&self, letters: Letters) -> Rows<'_> {
        let fit = |text: &Cow<'_, str>| Cow::Owned(letters.fit(text).into_owned());
        Rows {
            codes: self.codes.iter().map(|code| code.as_ref().map(fit)).collect(),
            details: self.details.iter().map(fit).collect(),
            references: self
                .references
                .iter()
                .map(|r| r.as_ref().map(|r| letters.fit(r).into_owned()))
                .collect(),
            whys: self.whys.iter().map(fit).collect(),
            ..self.clone()
        }
    }
}

/// Writes the settlements; returns what it could not set.
pub(super) async fn settle(client: &Client, owner: Uuid, rows: &Rows<'_>) -> Verb<Settled> {
    let lock = Uuid::now_v7();
    let fitted = (client.letters() != Letters::All).then(|| rows.fitted(client.letters()));
    let rows = fitted.as_ref().unwrap_or(rows);
    let parameters: [Parameter<'_>; 15] = [
        (&owner, Type::UUID),
        (&rows.ids, Type::UUID_ARRAY),
        (&rows.states, Type::TEXT_ARRAY),
        (&rows.classes, Type::TEXT_ARRAY),
        (&rows.codes, Type::TEXT_ARRAY),
        (&rows.details, Type::TEXT_ARRAY),
        (&rows.references, Type::TEXT_ARRAY),
        (&rows.alerts, Type::INT8_ARRAY),
        (&rows.attempts, Type::UUID_ARRAY),
        (&rows.sent, Type::TEXT_ARRAY),
        (&rows.smsids, Type::INT4_ARRAY),
        (&rows.reasons, Type::TEXT_ARRAY),
        (&rows.whys, Type::TEXT_ARRAY),
        (&lock, Type::UUID),
        (&rows.own, Type::BOOL_ARRAY),
    ];
    let beside: [Parameter<'_>; 2] = [(&lock, Type::UUID), (&rows.beside, Type::INT8_ARRAY)];
    let mut statements: Vec<Statement<'_>> = vec![(SETTLE, &parameters)];
    if !rows.beside.is_empty() {
        statements = vec![(TAKE, &beside), (SETTLE, &parameters), (GIVE_BACK, &beside)];
    }
    let answers = in_transaction(client, BEGIN, &statements).await?;
    let mut settled = Settled::default();
    for row in answers.iter().flatten() {
        // Only the settlement itself answers with rows.
        settled.superseded.extend(row.try_get::<_, Option<Uuid>>(0)?);
        settled.vanished.extend(row.try_get::<_, Option<i64>>(1)?.map(AlertId));
    }
    Ok(settled)
}

fn joined(references: &[String]) -> Option<String> {
    let clean = |reference: &String| clean(reference).replace(SEPARATOR, "\u{fffd}");
    let all: Vec<String> = references.iter().map(clean).collect();
    (!all.is_empty()).then(|| all.join("\u{1f}"))
}
