//! Looking for what waits.

use tokio_postgres::types::Type;

use super::{Verb, time};
use crate::alert::{Alert, AlertId, Severity};
use crate::queue::Look;
use crate::queue::postgres::{Client, Parameter};

/// Keys come from a sequence, and a row becomes visible when its transaction commits: later ones may be
/// seen first. So a look for new rows goes this far back; what is later still is found by the next full look.
const OVERLAP: i64 = 200;

/// An alert as it is claimed. It may have been sent if an attempt that it stood in ended without anyone
/// knowing, unless a person has requeued it since. As a join this is planned as a walk through all attempts for each
/// alert while the statistics are old, which they are in a storm; a query within the query can only use the keys.
macro_rules! alert {
    () => {
        "q.id::bigint, q.phone::text, q.msg::text, q.severity, \
         extract(epoch FROM coalesce(q.time::timestamptz, now()))::float8, \
         EXISTS (SELECT FROM smsd.attempt_alert l WHERE l.alert = q.id \
             AND (SELECT a.state IN ('resent', 'cancelled') OR a.state = 'failed' AND a.class = 'failed' \
                 FROM smsd.attempt a WHERE a.id = l.attempt))"
    };
}

/// New rows first, then, as far as there is room, late ones from below.
const NEW: &str = concat!(
    "WITH near AS ( \
        (SELECT q.id FROM smsq q WHERE q.id > $1 AND q.sent = 'N' \
            AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id) ORDER BY q.id LIMIT $2) \
        UNION ALL \
        (SELECT q.id FROM smsq q WHERE q.id <= $1 AND q.id > $1 - $3 AND q.sent = 'N' \
            AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id) ORDER BY q.id DESC LIMIT $2)), \
     chosen AS (SELECT id FROM near ORDER BY id <= $1, id LIMIT $2) \
     SELECT ",
    alert!(),
    " FROM chosen JOIN smsq q ON q.id = chosen.id ORDER BY q.severity NULLS LAST, q.id"
);

/// A page of all that waits.
const FULL: &str = concat!(
    "WITH page AS (SELECT q.* FROM smsq q \
        WHERE q.sent = 'N' AND ($1 IS NULL OR CASE WHEN $2 IS NULL THEN q.severity IS NULL AND q.id > $1 \
            ELSE q.severity > $2 OR q.severity IS NULL OR q.severity = $2 AND q.id > $1 END) \
            AND NOT EXISTS (SELECT FROM smsd.unresolved u WHERE u.alert = q.id) \
        ORDER BY q.severity NULLS LAST, q.id LIMIT $3) \
     SELECT ",
    alert!(),
    " FROM page q ORDER BY q.severity NULLS LAST, q.id"
);

/// The highest key, by its index.
pub(super) async fn newest(client: &Client) -> Verb<AlertId> {
    let rows = client.query_typed("SELECT coalesce(max(id), 0)::bigint FROM smsq", &[]).await?;
    Ok(AlertId(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(0)))
}

/// Alerts that wait and stand in no unresolved attempt, in the order of their places.
pub(super) async fn claim(client: &Client, look: Look, limit: usize) -> Verb<Vec<Alert>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = match look {
        Look::New { after } => {
            let parameters: [Parameter<'_>; 3] =
                [(&after.0, Type::INT8), (&limit, Type::INT8), (&OVERLAP, Type::INT8)];
            client.query_typed(NEW, &parameters).await?
        }
        Look::Full { after } => {
            let (id, severity) = (after.map(|p| p.id.0), after.and_then(|p| p.severity.0));
            let parameters: [Parameter<'_>; 3] =
                [(&id, Type::INT8), (&severity, Type::INT4), (&limit, Type::INT8)];
            client.query_typed(FULL, &parameters).await?
        }
    };
    let mut alerts = Vec::with_capacity(rows.len());
    for row in rows {
        alerts.push(Alert {
            id: AlertId(row.try_get(0)?),
            phone: row.try_get::<_, Option<String>>(1)?.unwrap_or_default(),
            text: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
            severity: Severity(row.try_get(3)?),
            queued_at: time(row.try_get(4)?),
            maybe_sent: row.try_get(5)?,
        });
    }
    Ok(alerts)
}
