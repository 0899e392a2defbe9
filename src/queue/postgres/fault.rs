//! What an error of PostgreSQL's means to the caller, and what a person should do about it.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use super::link::Fault;
use super::settings::Settings;
use crate::queue::QueueError;

/// What a failed verb means. `by_rows`: a row that is locked or refused is told from a database that is.
pub(super) fn of_verb(settings: &Settings, error: &Error, by_rows: bool) -> QueueError {
    let place = settings.location();
    if let Some(why) = poisons(error).filter(|_| by_rows) {
        let code = why.code().code();
        return QueueError::Poisoned(format!("database {place}: {} ({code})", why.message()));
    }
    match error.as_db_error() {
        Some(error) => of_answer(settings, error, &format!("database {place}")),
        None => {
            QueueError::Unavailable(format!("the connection to database {place} was lost: {}", chain(error)))
        }
    }
}

/// What a failed connection means.
pub(super) fn of_connecting(settings: &Settings, host: &str, port: u16, error: &Error) -> QueueError {
    let Settings { user, database, .. } = settings;
    let place = format!("PostgreSQL at {host}:{port}, database {database}, user {user}");
    match error.as_db_error() {
        Some(error) => of_answer(settings, error, &place),
        None if is_tls(error) => QueueError::Refused(format!("{place}: {}", chain(error))),
        // The library has words of its own for what happens before and while logging in.
        None if error.source().is_some_and(|s| s.is::<std::io::Error>()) || error.is_closed() => {
            QueueError::Unavailable(format!("can not connect to {place}: {}", chain(error)))
        }
        None => QueueError::Refused(format!("can not log in to {place}: {}", chain(error))),
    }
}

/// True if the same may succeed when it is done again right away.
pub(super) fn is_collision(error: &Error) -> bool {
    let code = error.code();
    code == Some(&SqlState::T_R_SERIALIZATION_FAILURE) || code == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// True if the server ended the session with this answer, or there was no answer at all.
pub(super) fn ends_session(error: &Error) -> bool {
    error.as_db_error().is_none_or(|error| matches!(error.severity(), "FATAL" | "PANIC"))
}

/// What PostgreSQL says of rows that the table will not hold, whatever else goes on: a value that does not fit (class 22),
/// a constraint that it breaks (class 23; but a key that is there already is no fault of the row's), an index entry that
/// is too large.
pub(crate) fn spoils(error: &Error) -> Option<&DbError> {
    let error = error.as_db_error()?;
    let code = error.code();
    let of_a_row = matches!(code.code().get(..2), Some("22" | "23")) && *code != SqlState::UNIQUE_VIOLATION;
    (of_a_row || *code == SqlState::PROGRAM_LIMIT_EXCEEDED).then_some(error)
}

/// What PostgreSQL says of some row only: that another session holds it, or that it will not have it
/// ([`spoils`], and a site's own triggers and constraints).
pub(crate) fn poisons(error: &Error) -> Option<&DbError> {
    let found = error.as_db_error()?;
    let code = found.code();
    let of_a_row = match code.code().get(..2).unwrap_or_default() {
        // Keys of ours that are there already are no error, so this one is of another's making.
        "23" => true,
        // What a trigger raises, by itself, in what it calls, or as an SQL/MED or PL function does.
        "P0" | "09" | "27" | "38" | "39" => true,
        _ => *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED,
    };
    if of_a_row { Some(found) } else { spoils(error) }
}

/// True if a transaction of ours found that it is over its caller's time ([`crate::queue::navdb`]'s intake):
/// no other statement asks for a setting that does not exist.
pub(crate) fn is_late(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_OBJECT)
}

/// What it means that the server refuses NAV's time zone; other failures mean what they always do.
pub(super) fn of_zone(settings: &Settings, error: Error) -> Fault {
    let (Some(zone), Some(&SqlState::INVALID_PARAMETER_VALUE)) = (&settings.time_zone, error.code()) else {
        return Fault::Sql(error);
    };
    Fault::Queue(QueueError::Refused(format!(
        "database {} does not know the time zone {zone:?} of NAV's times; set TIME_ZONE in nav.conf to a name that \
         NAV and PostgreSQL both know, such as Europe/Oslo, or install the server's time zones (tzdata, \
         tzdata-legacy)",
        settings.location()
    )))
}

/// True if TLS, and not the network or PostgreSQL, is what failed.
pub(super) fn is_tls(error: &Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if cause.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        source = cause.source();
    }
    // "server does not support TLS" has no type of its own.
    error.code().is_none() && error.to_string().starts_with("error performing TLS handshake")
}

fn of_answer(settings: &Settings, error: &DbError, place: &str) -> QueueError {
    let said = error.message();
    let code = error.code();
    let class = code.code().get(..2).unwrap_or_default();
    if let "08" | "53" | "57" | "58" | "40" | "XX" = class {
        return QueueError::Unavailable(format!("{place}: {said} ({})", code.code()));
    }
    match *code {
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            QueueError::Unavailable(format!("{place} is read-only, as a standby is: {said}"))
        }
        SqlState::LOCK_NOT_AVAILABLE => QueueError::Poisoned(format!("{place}: {said}")),
        _ => match hint(settings, error) {
            Some(hint) => QueueError::Refused(format!("{place}: {said}; {hint}")),
            None => QueueError::Refused(format!("{place}: {said} ({})", code.code())),
        },
    }
}

/// What a person should do.
fn hint(settings: &Settings, error: &DbError) -> Option<String> {
    let Settings { user, database, .. } = settings;
    let said = error.message();
    Some(match *error.code() {
        SqlState::INVALID_PASSWORD => {
            format!("check the password of {user} (userpw_{user} in db.conf, url in [queue], or .pgpass)")
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            format!("check that role {user} exists and that pg_hba.conf lets it in from here")
        }
        SqlState::INVALID_CATALOG_NAME => {
            "check the database's name (db_nav in db.conf, or url in [queue])".into()
        }
        SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME
            if said.contains("smsd.") || said.contains("\"smsd\"") =>
        {
            "run `smsd db init`".into()
        }
        SqlState::UNDEFINED_TABLE if said.contains("smsq") => {
            format!("is {database} NAV's database? Its table smsq must be in the search_path of {user}")
        }
        SqlState::INSUFFICIENT_PRIVILEGE if said.contains("smsq") => format!(
            "run as its owner: GRANT SELECT, INSERT, UPDATE ON smsq TO {user}; GRANT USAGE ON SEQUENCE smsq_id_seq TO {user};"
        ),
        SqlState::INSUFFICIENT_PRIVILEGE if said.contains("for database") => format!(
            "run GRANT CREATE ON DATABASE {database} TO {user}; or let a DBA run what `smsd db sql` prints"
        ),
        SqlState::INSUFFICIENT_PRIVILEGE => format!(
            "run as the owner of schema smsd: GRANT USAGE ON SCHEMA smsd TO {user}; \
             GRANT ALL ON ALL TABLES IN SCHEMA smsd TO {user};"
        ),
        _ => return None,
    })
}

/// The error with its causes, which the library keeps apart.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
