//! What each remote code means: `status-classes.csv`, compiled in, and the overrides of a dispatcher.

use std::time::Duration;

use super::Class;

/// What a remote code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The SMS was taken.
    Accepted,
    /// It was not, and this is what follows.
    Refused(Class),
}

impl Status {
    /// Reads a class of the table: `OK`, `RCPT`, `MSG`, `BUG`, `RTMP`, `DTMP`, `THR`, `DPERM`, `ERR`, `AMB`.
    pub fn from_word(word: &str) -> Option<Status> {
        Some(match word {
            "OK" => Status::Accepted,
            "RCPT" | "MSG" | "BUG" => Status::Refused(Class::Rejected),
            "RTMP" => Status::Refused(Class::Deferred),
            "DTMP" => Status::Refused(Class::Unavailable),
            "THR" => Status::Refused(Class::Throttled { retry_after: DEFAULT_RETRY_AFTER }),
            "DPERM" => Status::Refused(Class::Misconfigured),
            "ERR" => Status::Refused(Class::Failed),
            "AMB" => Status::Refused(Class::Unknown),
            _ => return None,
        })
    }
}

/// How long a throttled dispatcher is left alone when it does not say (`status-classes.csv`, HTTP 429).
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);
