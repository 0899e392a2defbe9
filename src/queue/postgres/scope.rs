//! What names and local times mean in a session, found out once and then said in each transaction; and which
//! letters the database can hold.

use std::borrow::Cow;

use tokio_postgres::types::Type;

use super::fault;
use super::link::Fault;
use super::settings::Settings;

/// The schemas in which NAV's connection would look for a table, whatever a pooler's other clients have set,
/// the session's own time zone, and the encoding that the database stores.
const OWN: &str = "SELECT pg_catalog.current_schemas(false)::pg_catalog.text[], \
     pg_catalog.current_setting('TimeZone'), pg_catalog.current_setting('server_encoding')";
/// The defaults that a session has at login are what NAV's programs have, too.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL search_path TO DEFAULT; \
     SET LOCAL TimeZone TO DEFAULT; SET LOCAL statement_timeout = '10s'";

/// What every transaction of a session says.
#[derive(Debug)]
pub(crate) struct Scope {
    /// In SQL.
    pub(super) said: String,
    /// The zone that the server would have read local times in.
    pub(crate) server_zone: String,
    /// What it can hold.
    pub(super) letters: Letters,
}

/// Which letters a database's encoding has. What people and gateways say is written down with `?` for any
/// other: an outcome that can not be written would be asked for again, and its SMS sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letters {
    /// All of them.
    All,
    /// Those of ISO 8859-1.
    Latin1,
    /// Those that every encoding has.
    Ascii,
}

impl Letters {
    fn of(encoding: &str) -> Letters {
        match encoding {
            // SQL_ASCII takes any bytes as they are.
            "UTF8" | "SQL_ASCII" => Letters::All,
            "LATIN1" => Letters::Latin1,
            _ => Letters::Ascii,
        }
    }

    /// The text as it can be held.
    pub(crate) fn fit<'t>(self, text: &'t str) -> Cow<'t, str> {
        let last = match self {
            Letters::All => return text.into(),
            Letters::Latin1 => '\u{ff}',
            Letters::Ascii => '\u{7f}',
        };
        match text.chars().all(|c| c <= last) {
            true => text.into(),
            false => text.chars().map(|c| if c <= last { c } else { '?' }).collect::<String>().into(),
        }
    }
}

impl Scope {
    /// Asks the server.
    pub(super) async fn of(wire: &tokio_postgres::Client, settings: &Settings) -> Result<Scope, Fault> {
        // Ends the transaction too, if the server knows the zone.
        let zone = settings.time_zone.as_deref().map(zone).unwrap_or_default();
        let (begun, own, ended) = futures_util::future::join3(
            wire.batch_execute(BEGIN),
            wire.query_typed(OWN, &[] as &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)]),
            wire.batch_execute(&format!("{zone}ROLLBACK")),
        )
        .await;
        begun?;
        let own = own?;
        if let Err(error) = ended {
            return Err(fault::of_zone(settings, error));
        }
        let (schemas, server_zone, encoding): (Vec<String>, String, String) = match own.first() {
            Some(row) => (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
            None => Default::default(),
        };
        Ok(Scope {
            said: format!("{}{zone}SET LOCAL standard_conforming_strings = on", path(&schemas)),
            server_zone,
            letters: Letters::of(&encoding),
        })
    }
}

/// PostgreSQL's own names before all others. Tables of a session's own come last: a pooler lends us sessions
/// in which others may have made some.
fn path(schemas: &[String]) -> String {
    let ours = schemas.iter().filter(|name| !name.starts_with("pg_temp") && *name != "pg_catalog");
    let names: String = ours.map(|name| format!("\"{}\", ", name.replace('"', "\"\""))).collect();
    format!("SET LOCAL search_path = pg_catalog, {names}pg_temp; ")
}

/// A zone's name is letters, digits and `/_+-`, as the configuration has checked.
fn zone(name: &str) -> String {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "/_+-".contains(*c)).collect();
    format!("SET LOCAL TimeZone = '{name}'; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_with_an_odd_name_is_quoted_and_temporary_tables_come_last() {
        let schemas = ["pg_temp_3", "profiles", "pg_catalog", "o\"dd"].map(str::to_owned);
        let expected = "SET LOCAL search_path = pg_catalog, \"profiles\", \"o\"\"dd\", pg_temp; ";
        assert_eq!(path(&schemas), expected);
        assert_eq!(path(&[]), "SET LOCAL search_path = pg_catalog, pg_temp; ");
    }

    #[test]
    fn letters_that_an_encoding_lacks_become_question_marks() {
        let text = "æ€😀";
        let fitted = ["UTF8", "SQL_ASCII", "LATIN1", "WIN1252", "KOI8R"]
            .map(|e| Letters::of(e).fit(text).into_owned());
        assert_eq!(fitted, [text, text, "æ??", "???", "???"]);
    }

    #[test]
    fn a_zone_is_no_way_into_the_statement() {
        assert_eq!(zone("Etc/GMT+5"), "SET LOCAL TimeZone = 'Etc/GMT+5'; ");
        assert_eq!(zone("x'; DROP TABLE smsq; --"), "SET LOCAL TimeZone = 'xDROPTABLEsmsq--'; ");
    }
}
