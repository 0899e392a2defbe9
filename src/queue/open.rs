//! From the configuration to the queue that it names.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Queue, QueueError, Schema};
use crate::config::{Config, Env, QueueKind};

/// An open queue.
pub struct Opened {
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The ledger's schema in the queue's database.
    pub schema: Arc<dyn Schema>,
    /// The word for `type:`.
    pub kind: &'static str,
}

/// Opens the queue that the configuration names. A database server need not be there yet: it is waited for by
/// whoever asks the queue.
///
/// # Errors
/// [`QueueError::Refused`] if the configuration can not be used, or the embedded queue not be opened.
pub async fn open(config: &Config, env: &Env) -> Result<Opened, QueueError> {
    let _ = env;
    match &config.queue.kind {
        QueueKind::NavDb(_target) => Err(QueueError::Refused("NAVDBQueue is not in this build".into())),
        QueueKind::Sqlite { path } => {
            let _path: PathBuf = path.clone().unwrap_or_default();
            Err(QueueError::Refused("SqliteQueue is not in this build".into()))
        }
    }
}
