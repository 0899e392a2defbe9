//! The whole contract in databases whose defaults are not PostgreSQL's: what is right does not hang on them.
//!
//! One database for several cases, one after the other, and several databases beside each other; a database
//! and a process for each case would take minutes.

use std::sync::{Arc, Mutex};

use smsd::config::{PostgresTarget, Secret};
use smsd::queue::Schema;
use smsd::queue::navdb;

use super::navdb::Nav;
use super::queue::{Case, queue_contract};
use crate::postgres::{Database, Server};

/// As many databases of a kind.
const LANES: usize = 3;

/// Functions and operators of PostgreSQL's names that do something else.
const HOSTILE: &str = "CREATE SCHEMA hostile;
    SET check_function_bodies = off;
    CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'epoch'::timestamptz $$;
    CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
    CREATE FUNCTION hostile.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'hostile' $$;
    CREATE FUNCTION hostile.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'hostile' $$;
    CREATE FUNCTION hostile.current_schemas(boolean) RETURNS name[] LANGUAGE sql AS $$ SELECT '{hostile}'::name[] $$;
    CREATE FUNCTION hostile.translate(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION hostile.translate(varchar, text, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
    CREATE FUNCTION hostile.string_to_array(text, text) RETURNS text[] LANGUAGE sql AS $$ SELECT '{}'::text[] $$;
    CREATE FUNCTION hostile.pg_notify(text, text) RETURNS void LANGUAGE sql AS $$ SELECT $$;
    CREATE FUNCTION hostile.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION hostile.never(bigint, bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION hostile.never(int, bigint) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE FUNCTION hostile.never(uuid, uuid) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
    CREATE OPERATOR hostile.= (leftarg = text, rightarg = text, function = hostile.never);
    CREATE OPERATOR hostile.= (leftarg = bigint, rightarg = bigint, function = hostile.never);
    CREATE OPERATOR hostile.= (leftarg = int, rightarg = bigint, function = hostile.never);
    CREATE OPERATOR hostile.= (leftarg = uuid, rightarg = uuid, function = hostile.never);";

/// A kind of database: how it is made, and the options of our sessions in it.
#[derive(Clone, Copy)]
struct Kind {
    encoding: &'static str,
    prepare: &'static str,
    defaults: &'static [&'static str],
    /// As `-c name=value`.
    options: &'static str,
    /// Cases whose texts its encoding has no letters for.
    without: &'static [&'static str],
}

const USUAL: Kind = Kind { encoding: "UTF8", prepare: "", defaults: &[], options: "", without: &[] };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_repeatable_read_with_commits_that_do_not_wait_in_another_zone_and_in_latin1() {
    holds(Kind {
        encoding: "LATIN1",
        defaults: &[
            "default_transaction_isolation = 'repeatable read'",
            "synchronous_commit = off",
            "timezone = 'Asia/Kathmandu'",
            "datestyle = 'German, DMY'",
            "intervalstyle = 'sql_standard'",
        ],
        without: &[
            "claim::an_alert_is_claimed_as_it_was_queued",
            "enqueue::what_is_enqueued_is_as_what_is_submitted",
        ],
        ..USUAL
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_serializable_where_other_names_come_before_postgresqls_own() {
    holds(Kind {
        prepare: HOSTILE,
        defaults: &[
            "default_transaction_isolation = 'serializable'",
            "standard_conforming_strings = off",
            "escape_string_warning = off",
        ],
        options: "-c search_path=hostile,pg_temp,public,pg_catalog -c lock_timeout=1 -c statement_timeout=500",
        ..USUAL
    })
    .await;
}

/// The contract, over all lanes; tells of every case that fails.
async fn holds(kind: Kind) {
    let mut cases: Vec<Case<Nav>> = queue_contract!(cases of Nav);
    cases.retain(|(name, _)| !kind.without.contains(name));
    let cases = Arc::new(Mutex::new(cases.into_iter()));
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(lane(kind, Arc::clone(&cases)));
    }
    let failed: Vec<String> = lanes.join_all().await.concat();
    assert_eq!(failed, Vec::<String>::new());
}

async fn lane(kind: Kind, cases: Arc<Mutex<std::vec::IntoIter<Case<Nav>>>>) -> Vec<String> {
    let database = Arc::new(database(kind));
    let target = target(&database, kind);
    navdb::open(&target, true).await.unwrap().init(false).await.unwrap();
    let mut failed = Vec::new();
    loop {
        let next = cases.lock().unwrap().next();
        let Some((name, case)) = next else { return failed };
        let queue = Arc::new(navdb::open(&target, false).await.unwrap());
        let nav = Arc::new(Nav { queue, database: Arc::clone(&database), target: target.clone() });
        nav.empty();
        if tokio::spawn(case(nav)).await.is_err() {
            failed.push(name.to_owned());
        }
    }
}

fn database(kind: Kind) -> Database {
    let database = Server::shared().database_in(kind.encoding);
    database.sql(kind.prepare);
    for default in kind.defaults {
        database.sql(&format!("ALTER DATABASE {} SET {default}", database.name));
    }
    database
}

fn target(database: &Database, kind: Kind) -> PostgresTarget {
    let url = format!(
        "host=127.0.0.1 port={} dbname={} user=postgres options='{}'",
        database.server.port, database.name, kind.options
    );
    PostgresTarget { url: Some(Secret::new(url)), ..PostgresTarget::default() }
}
