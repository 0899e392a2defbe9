//! The file: how it is created and opened, whose it is, and which schema it holds.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::failure::Failure;
use crate::seeded::{Bug, bug};

/// The version of the schema that this program wants.
pub(super) const WANTED: i32 = 3;
/// The schema of that version: the first one, and what has come to it since.
pub(super) const SCHEMA: &str = concat!(
    include_str!("../migrations/sqlite.sql"),
    include_str!("../migrations/sqlite-2.sql"),
    include_str!("../migrations/sqlite-3.sql")
);
/// From each version to the next, the first one's first.
const STEPS: [&str; 2] =
    [include_str!("../migrations/sqlite-2.sql"), include_str!("../migrations/sqlite-3.sql")];
/// `smsd` in ASCII; stands in the header of the file.
const APPLICATION_ID: i32 = 0x736d_7364;
/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a renewal waits for it: longer than a lease lasts.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what can not be opened is tried again, and the pause between.
const SOON: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(10));

const DROP: &str = "
    DROP TABLE IF EXISTS submission;
    DROP TABLE IF EXISTS origin;
    DROP TABLE IF EXISTS note;
    DROP TABLE IF EXISTS attempt_alert;
    DROP TABLE IF EXISTS attempt;
    DROP TABLE IF EXISTS instance;
    DROP TABLE IF EXISTS alert;
    DROP TABLE IF EXISTS identity;
    PRAGMA application_id = 0;
    PRAGMA user_version = 0;
";

/// Opens the connection that writes.
pub(super) fn open(path: &Path, create: bool) -> Result<Connection, Failure> {
    patiently(|| open_once(path, create))
}

/// Opens the connection that renews leases. The file and its schema are there.
pub(super) fn open_for_leases(path: &Path) -> Result<Connection, Failure> {
    patiently(|| {
        let conn = connect(path)?;
        conn.busy_timeout(RENEWAL_TIMEOUT)?;
        Ok(conn)
    })
}

/// Opens a connection that only reads. The file and its schema are there.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Failure> {
    patiently(|| {
        let conn = connect(path)?;
        conn.pragma_update(None, "query_only", true)?;
        Ok(conn)
    })
}

/// Who opens the file first makes its companions (`-wal`, `-shm`), and who closes it last takes them away; if that is root
/// who looks into it, they are root's for a moment. What can not be opened just then can be soon.
fn patiently<T>(open: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    use ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
    let begun = Instant::now();
    loop {
        match open() {
            Err(Failure::Sqlite(Some(CannotOpen | PermissionDenied | ReadOnly), _))
                if begun.elapsed() < SOON.0 =>
            {
                std::thread::sleep(SOON.1);
            }
            done => return done,
        }
    }
}

fn open_once(path: &Path, create: bool) -> Result<Connection, Failure> {
    prepare(path, create)?;
    let conn = connect(path)?;
    let what = path.display();
    if conn.is_readonly(rusqlite::MAIN_DB)? {
        return Err(Failure::Refused(format!(
            "{what}: the file may not be written; the user that runs smsd needs to read and write it and its directory"
        )));
    }
    match version(&conn)? {
        Some(WANTED) => {}
        None if create => {}
        None => {
            return Err(Failure::Refused(format!(
                "{what}: the file holds no queue yet; create it with `smsd db init`"
            )));
        }
        Some(older) if older < WANTED && create => {}
        Some(older) if older < WANTED => {
            return Err(Failure::Refused(format!(
                "{what}: the queue has schema version {older}, and this smsd wants {WANTED}; \
                 bring it there with `smsd db init`"
            )));
        }
        Some(other) => {
            return Err(Failure::Refused(format!(
                "{what}: the queue has schema version {other}, and this smsd knows {WANTED}; \
                 run the smsd that made it, or a newer one"
            )));
        }
    }
    write_ahead(&conn)?;
    if create {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        // Dropping the connection rolls back.
        create_schema(&conn)?;
        conn.execute_batch("COMMIT")?;
    }
    Ok(conn)
}

/// Creates the schema if there is none, or brings an older one to what is wanted, in the caller's transaction.
pub(super) fn create_schema(conn: &Connection) -> Result<(), Failure> {
    match version(conn)? {
        Some(version) => {
            let done = usize::try_from(version - 1).unwrap_or(STEPS.len());
            STEPS.iter().skip(done).try_for_each(|step| Ok(conn.execute_batch(step)?))
        }
        None => Ok(conn.execute_batch(SCHEMA)?),
    }
}

/// Drops all that [`create_schema`] created.
pub(super) fn drop_schema(conn: &Connection) -> Result<(), Failure> {
    Ok(conn.execute_batch(DROP)?)
}

/// The version of the schema; `None` if the database is empty.
pub(super) fn version(conn: &Connection) -> Result<Option<i32>, Failure> {
    let ours = || -> Result<Option<i32>, Failure> {
        let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
        Ok(match application {
            APPLICATION_ID => Some(conn.pragma_query_value(None, "user_version", |row| row.get(0))?),
            _ => None,
        })
    };
    if let Some(version) = ours()? {
        return Ok(Some(version));
    }
    // `sqlite_sequence` stays when tables are dropped.
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    match (conn.query_row(sql, [], |row| row.get::<_, i64>(0))?, ours()?) {
        // Another process created the schema between our looks; it does so in one transaction.
        (_, Some(version)) => Ok(Some(version)),
        (0, None) => Ok(None),
        (_, None) => Err(Failure::Refused(format!(
            "{}: the database is another program's; set another `path` in [queue]",
            conn.path().unwrap_or_default()
        ))),
    }
}

/// A number that changes when another connection commits.
pub(super) fn change_counter(conn: &Connection) -> Result<i64, Failure> {
    Ok(conn.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
}

/// Sees to it that there is a file, and says in people's words why not.
fn prepare(path: &Path, create: bool) -> Result<(), Failure> {
    let what = path.display();
    if create {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        match made {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(refused(path, &e)),
        }
    }
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(Failure::Refused(format!("{what}: expected a file; set another `path` in [queue]"))),
        Err(e) => Err(refused(path, &e)),
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let what = path.display();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match error.kind() {
        io::ErrorKind::NotFound if !directory.exists() => Failure::Refused(format!(
            "{what}: the directory {} does not exist; create it for the user that runs smsd",
            directory.display()
        )),
        io::ErrorKind::NotFound => {
            Failure::Refused(format!("{what}: there is no such file; create it with `smsd db init`"))
        }
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::ReadOnlyFilesystem => Failure::Refused(format!(
            "{what}: {error}; the user that runs smsd needs to read and write the file and its directory"
        )),
        _ => Failure::Unavailable(format!("{what}: {error}")),
    }
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    if bug(Bug::CommitsNotSynced) {
        conn.execute_batch("PRAGMA synchronous = NORMAL")?;
    }
    Ok(conn)
}

/// Switches the file to a write-ahead log, which stays. SQLite does not wait by itself for others who have the
/// file open at that moment.
fn write_ahead(conn: &Connection) -> Result<(), Failure> {
    let patience = Instant::now() + BUSY_TIMEOUT;
    loop {
        let switched =
            conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match switched {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(Failure::Refused(format!(
                    "{}: the file system allows no write-ahead log (journal mode is {mode}); \
                     put the queue on a local file system",
                    conn.path().unwrap_or_default()
                )));
            }
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt is on stable storage before the first byte goes out; that hangs on these settings.
    #[test]
    fn every_connection_syncs_every_commit() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("queue.db");
        let writers = [open(&path, true).unwrap(), open(&path, false).unwrap()];
        let others = [open_for_leases(&path).unwrap(), open_reader(&path).unwrap()];
        for conn in writers.into_iter().chain(others) {
            let setting = |name| -> i64 { conn.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
            let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            assert_eq!((mode.as_str(), setting("synchronous")), ("wal", 2), "2 is FULL");
            assert_eq!(setting("foreign_keys"), 1);
            assert!(setting("busy_timeout") >= 5000);
        }
    }
}
