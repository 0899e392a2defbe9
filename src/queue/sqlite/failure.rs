//! What can go wrong with an SQLite file, and what its owner should do.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::queue::{Forgot, QueueError};

/// A failure inside the thread that owns the connection.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// SQLite's own.
    Sqlite(Option<ErrorCode>, String),
    /// Found while opening; for people, and final until someone acts.
    Refused(String),
    /// Found while opening; may pass.
    Unavailable(String),
    /// The lease of the asking instance is not good.
    LeaseLost,
    /// The queue does not know what was committed in it.
    FromThePast(Forgot),
    /// The thread has ended.
    Gone,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error.sqlite_error_code(), error.to_string())
    }
}

impl Failure {
    /// The error for the queue's caller, with the file's name and what to do.
    pub(super) fn at(self, path: &Path) -> QueueError {
        let path = path.display();
        match self {
            Failure::Refused(why) => QueueError::Refused(why),
            Failure::Unavailable(why) => QueueError::Unavailable(why),
            Failure::LeaseLost => QueueError::LeaseLost,
            Failure::FromThePast(forgot) => QueueError::FromThePast(forgot),
            Failure::Gone => {
                QueueError::Unavailable(format!("{path}: the thread that owns the file has ended"))
            }
            Failure::Sqlite(code, why) => match code {
                Some(
                    ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::OperationInterrupted
                    | ErrorCode::OutOfMemory
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DiskFull
                    | ErrorCode::FileLockingProtocolFailed
                    | ErrorCode::SchemaChanged,
                ) => QueueError::Unavailable(format!("{path}: {why}")),
                code => QueueError::Refused(format!("{path}: {why}; {}", advice(code))),
            },
        }
    }
}

/// What to do about a failure that will not pass by itself.
fn advice(code: Option<ErrorCode>) -> &'static str {
    match code {
        Some(ErrorCode::DatabaseCorrupt) => {
            "the file is damaged: stop smsd, keep a copy, and restore a backup or save what can be saved with \
             `sqlite3 FILE .recover`"
        }
        Some(ErrorCode::NotADatabase) => "expected an SQLite database: set another `path` in [queue]",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "the user that runs smsd needs to read and write the file and its directory"
        }
        _ => "`smsd db status` shows what is there, `smsd db init` creates what is missing",
    }
}
