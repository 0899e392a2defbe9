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
    /// A row of the call is refused by the database; what the caller asks again by halves.
    Poisoned(String),
    /// The work ended in a panic, a fault of ours. Nothing was written.
    Panicked,
    /// The thread has ended.
    Gone,
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error.sqlite_error_code(), error.to_string())
    }
}

impl Failure {
    /// True if it is one row that the database will not have: a trigger, a CHECK, a value that does not fit. What else is
    /// asked of the database has nothing to do with it.
    pub(super) fn is_of_a_row(&self) -> bool {
        use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
        let of_a_row = |code: &ErrorCode| matches!(code, ConstraintViolation | TooBig | TypeMismatch);
        match self {
            Failure::Sqlite(code, _) => code.as_ref().is_some_and(of_a_row),
            Failure::Poisoned(_) => true,
            _ => false,
        }
    }

    /// True if the disk has no room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Failure::Sqlite(Some(ErrorCode::DiskFull), _))
    }

    /// Of a verb that is about many rows, which its caller asks again by halves if one of them is at fault.
    pub(super) fn by_halves(self) -> Failure {
        match self {
            Failure::Sqlite(_, why) if self.is_of_a_row() => Failure::Poisoned(why),
            other => other,
        }
    }

    /// The error for the queue's caller, with the file's name and what to do.
    pub(super) fn at(self, path: &Path) -> QueueError {
        let path = path.display();
        match self {
            Failure::Refused(why) => QueueError::Refused(why),
            Failure::Unavailable(why) => QueueError::Unavailable(why),
            Failure::LeaseLost => QueueError::LeaseLost,
            Failure::FromThePast(forgot) => QueueError::FromThePast(forgot),
            Failure::Poisoned(why) => QueueError::Poisoned(format!(
                "{path}: {why}: the file refuses a row, by a trigger or a CHECK that is not smsd's"
            )),
            Failure::Panicked => QueueError::Unavailable(format!(
                "{path}: the work on the file ended in a panic, a fault in smsd; the file was opened anew"
            )),
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

/// In the words of SQLite, or ours.
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Sqlite(_, why)
            | Failure::Refused(why)
            | Failure::Unavailable(why)
            | Failure::Poisoned(why) => f.write_str(why),
            Failure::LeaseLost => QueueError::LeaseLost.fmt(f),
            Failure::FromThePast(forgot) => forgot.fmt(f),
            Failure::Panicked => f.write_str("the work ended in a panic"),
            Failure::Gone => f.write_str("the thread has ended"),
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
