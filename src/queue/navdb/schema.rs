//! The schema `smsd`: made, checked, removed.

use futures_util::future::BoxFuture;

use super::Verb;
use crate::queue::QueueError;
use crate::queue::postgres::{Client, Fault};

/// The version of the ledger that this program wants.
pub(super) const VERSION: i32 = 3;

const CREATE: &str = include_str!("../migrations/postgres.sql");
const NOTIFY: &str = include_str!("../migrations/notify.sql");
const DROP: &str = include_str!("../migrations/drop.sql");

/// One at a time: `CREATE … IF NOT EXISTS` of two sessions at once may fail in both.
const ALONE: &str = "SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock(7355608, 1);";

/// What a database has of ours.
pub(super) struct Found {
    pub(super) version: Option<i32>,
    pub(super) notify: bool,
    standby: bool,
}

/// Looks for the schema.
pub(super) async fn find(client: &Client) -> Verb<Found> {
    // A missing table is found out before its name stands in a statement.
    const WHAT: &str = "SELECT to_regclass('smsd.meta') IS NOT NULL, pg_is_in_recovery(), \
         EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass('smsq') AND tgname = 'smsd_notify')";
    const VERSION: &str = "SELECT version FROM smsd.meta";
    let row = client.query_typed_one(WHAT, &[]).await?;
    let version = match row.try_get(0)? {
        true => client.query_typed_opt(VERSION, &[]).await?.map(|row| row.try_get(0)).transpose()?,
        false => None,
    };
    Ok(Found { version, standby: row.try_get(1)?, notify: row.try_get(2)? })
}

/// Refuses a session whose database lacks the schema or has one that we do not know.
pub(super) fn check(client: Client, place: String) -> BoxFuture<'static, Verb<()>> {
    Box::pin(async move { judge(&find(&client).await?, &place) })
}

/// Creates the schema where it is missing, brings an older one to what is wanted, then the same.
pub(super) fn create_or_check(client: Client, place: String) -> BoxFuture<'static, Verb<()>> {
    Box::pin(async move {
        let found = find(&client).await?;
        if found.standby || found.version.is_some_and(|version| version >= VERSION) {
            return judge(&found, &place);
        }
        let created = create(&client, false).await;
        match (created, found.version) {
            (Err(Fault::Sql(error)), Some(older)) if error.as_db_error().is_some() => {
                return Err(Fault::Queue(QueueError::Refused(format!(
                    "{}: {error}",
                    upgrade(&place, older)
                ))));
            }
            (created, _) => created?,
        }
        judge(&find(&client).await?, &place)
    })
}

/// Creates what is missing.
pub(super) async fn create(client: &Client, notify: bool) -> Verb<()> {
    Ok(client.run_script(&format!("{ALONE} {}", sql(notify))).await?)
}

/// What [`create`] runs, for a DBA.
pub(super) fn sql(notify: bool) -> String {
    if notify { format!("{CREATE}\n{NOTIFY}") } else { CREATE.to_owned() }
}

/// Removes all that [`create`] made.
pub(super) async fn remove(client: &Client) -> Verb<()> {
    Ok(client.run_script(&format!("{ALONE} {DROP}")).await?)
}

fn upgrade(place: &str, older: i32) -> String {
    format!(
        "the schema smsd in database {place} has version {older}, this program wants {VERSION}; run `smsd db init` \
         as the owner of the schema, or let a DBA run what `smsd db sql` prints"
    )
}

fn judge(found: &Found, place: &str) -> Verb<()> {
    if found.standby {
        let message =
            format!("database {place} is a standby and can not be written to; waiting for the primary");
        return Err(Fault::Queue(QueueError::Unavailable(message)));
    }
    let message = match found.version {
        Some(VERSION) => return Ok(()),
        None => format!("database {place} has no schema smsd; run `smsd db init`"),
        Some(older) if older < VERSION => upgrade(place, older),
        Some(other) => format!(
            "the schema smsd in database {place} has version {other}, this program wants {VERSION}; \
             run the newer smsd of the two"
        ),
    };
    Err(Fault::Queue(QueueError::Refused(message)))
}
