//! Instances, their leases by the database's clock, and what the dead leave behind.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::past::{self, forgot};
use super::{BEGIN, Verb, ids, millis};
use crate::alert::{Phone, Severity};
use crate::queue::postgres::{Client, Fault, Parameter, in_transaction};
use crate::queue::{Doubt, Grant, Instance, Peers};

/// Whoever had our lock before us is dead, whatever its lease says. One row, as [`past::granted`] reads it.
const JOIN: &str = concat!(
    "WITH past AS MATERIALIZED (SELECT ",
    forgot!("$5", "$6", "$7", "$8"),
    " AS forgot), \
     dead AS (UPDATE smsd.instance SET lease_until = now() \
        WHERE lock = $3 AND id <> $1 AND lease_until > now() AND (SELECT forgot IS NULL FROM past)), \
     granted AS (INSERT INTO smsd.instance (id, name, lock, lease_until) \
        SELECT $1, $2, $3, clock_timestamp() + $4 * interval '1 ms' FROM past WHERE forgot IS NULL \
        ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until RETURNING id) ",
    past::answer!()
);

const RENEW: &str = concat!(
    "WITH past AS MATERIALIZED (SELECT ",
    forgot!("$3", "$4", "$5", "$6"),
    " AS forgot), \
     granted AS (UPDATE smsd.instance SET lease_until = clock_timestamp() + $2 * interval '1 ms' \
        WHERE id = $1 AND lease_until > clock_timestamp() AND (SELECT forgot IS NULL FROM past) \
        RETURNING id) ",
    past::answer!()
);

/// A lease that ends later than anyone asks for was given before the clock was set back. Whoever lives renews it in
/// time; the dead would seem alive for as long as the clock was set back.
const SET_BACK: &str = "UPDATE smsd.instance SET lease_until = clock_timestamp() + interval '20 s' \
     WHERE id <> $1 AND lease_until > clock_timestamp() + interval '10 minutes'";

const LEAVE: &str = "UPDATE smsd.instance SET lease_until = now() WHERE id = $1 AND lease_until > now()";

const PEERS: &str = "SELECT count(*) FILTER (WHERE id < $1)::int, greatest(count(*), 1)::int \
     FROM smsd.instance WHERE lease_until > clock_timestamp() OR id = $1";

/// Open attempts of instances without a good lease come into doubt. Their alerts stay locked; their
/// recipients do not.
pub(super) const INTO_DOUBT: &str = "WITH doubtful AS (UPDATE smsd.attempt a SET state = 'in_doubt', doubt_since = now() \
        FROM smsd.open o WHERE a.id = o.attempt AND a.state = 'open' AND NOT EXISTS \
            (SELECT FROM smsd.instance i WHERE i.id = a.instance AND i.lease_until > clock_timestamp()) \
        RETURNING a.id, a.recipient) \
     DELETE FROM smsd.open o USING doubtful d WHERE o.recipient = d.recipient AND o.attempt = d.id";

const DOUBTS: &str = "SELECT a.id, a.recipient, a.text, a.dispatcher, a.number, \
        greatest(extract(epoch FROM clock_timestamp() - a.doubt_since), 0)::float8, a.possible_duplicate, \
        (SELECT min(q.severity) FROM unnest(a.carried || a.counted) AS x (alert) JOIN smsq q ON q.id = x.alert), \
        a.carried, a.counted \
     FROM smsd.attempt a \
     WHERE a.undecided = 'in_doubt' \
        AND (a.instance = $1 OR NOT EXISTS \
            (SELECT FROM smsd.instance i WHERE i.id = a.instance AND i.lease_until > clock_timestamp())) \
     ORDER BY a.doubt_since, a.id";

pub(super) async fn join(
    client: &Client,
    instance: &Instance,
    ttl: Duration,
    known: &past::Parameters<'_>,
) -> Verb<Grant> {
    let ttl = millis(ttl);
    let mut parameters: Vec<Parameter<'_>> = vec![
        (&instance.id, Type::UUID),
        (&instance.name, Type::TEXT),
        (&instance.lock, Type::TEXT),
        (&ttl, Type::FLOAT8),
    ];
    parameters.extend(known.all());
    let join = [(JOIN, &parameters[..]), (INTO_DOUBT, &[])];
    let (log, answers) = known.in_transaction(client, BEGIN, false, &join).await?;
    past::granted(answers.first().and_then(|rows| rows.first()), log)
}

pub(super) async fn renew(
    client: &Client,
    instance: Uuid,
    ttl: Duration,
    known: &past::Parameters<'_>,
) -> Verb<Grant> {
    let ttl = millis(ttl);
    let mut parameters: Vec<Parameter<'_>> = vec![(&instance, Type::UUID), (&ttl, Type::FLOAT8)];
    parameters.extend(known.all());
    let set_back: [Parameter<'_>; 1] = [(&instance, Type::UUID)];
    let renew = [(RENEW, &parameters[..]), (SET_BACK, &set_back)];
    let (log, answers) = known.in_transaction(client, BEGIN, false, &renew).await?;
    past::granted(answers.first().and_then(|rows| rows.first()), log)
}

pub(super) async fn peers(client: &Client, instance: Uuid) -> Verb<Peers> {
    let row = client.query_typed_one(PEERS, &[(&instance, Type::UUID)]).await?;
    let count = |column| Ok::<_, Fault>(u32::try_from(row.try_get::<_, i32>(column)?).unwrap_or_default());
    Ok(Peers { rank: count(0)?, of: count(1)? })
}

pub(super) async fn leave(client: &Client, instance: Uuid) -> Verb<()> {
    in_transaction(client, BEGIN, &[(LEAVE, &[(&instance, Type::UUID)]), (INTO_DOUBT, &[])]).await?;
    Ok(())
}

pub(super) async fn doubts(client: &Client, owner: Uuid) -> Verb<Vec<Doubt>> {
    let answers =
        in_transaction(client, BEGIN, &[(INTO_DOUBT, &[]), (DOUBTS, &[(&owner, Type::UUID)])]).await?;
    let mut doubts = Vec::new();
    for row in answers.last().into_iter().flatten() {
        // The ledger holds what a `Phone` once was; anything else is not ours to send.
        let Ok(recipient) = Phone::parse(row.try_get(1)?) else { continue };
        doubts.push(Doubt {
            id: row.try_get(0)?,
            recipient,
            text: row.try_get::<_, &str>(2)?.into(),
            dispatcher: row.try_get::<_, &str>(3)?.into(),
            number: u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or_default(),
            age: Duration::try_from_secs_f64(row.try_get(5)?).unwrap_or_default(),
            possible_duplicate: row.try_get(6)?,
            severity: Severity(row.try_get(7)?),
            carried: ids(row.try_get(8)?),
            counted: ids(row.try_get(9)?),
        });
    }
    Ok(doubts)
}
