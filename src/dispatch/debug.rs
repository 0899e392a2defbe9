//! A way out that leads nowhere: for tests, demonstrations and rehearsals of trouble.

use std::path::PathBuf;
use std::time::Duration;

use crate::alert::Phone;

/// Its keys.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `result`.
    pub result: Outcome,
    /// `latency`: how long each submit takes.
    pub latency: Duration,
    /// `fail_rate`: share of submits that are answered `Unavailable`, 0 to 1.
    pub fail_rate: f64,
    /// `reject`: numbers that are always rejected.
    pub reject: Vec<Phone>,
    /// `log`: each accepted SMS as a JSON line in this file.
    pub log: Option<PathBuf>,
}

/// What every submit results in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted.
    #[default]
    Success,
    /// The dispatcher, for now (`Unavailable`).
    Fail,
    /// The dispatcher, until someone acts (`Misconfigured`).
    Permanent,
    /// The gateway failed and may have passed the SMS on (`Failed`).
    Error,
}
