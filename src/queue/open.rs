//! From the configuration to the queue that it names.

use std::sync::Arc;

use super::sqlite::SqliteQueue;
use super::{Queue, QueueError, Schema, navdb};
use crate::config::{Config, Env, QueueConfig, QueueKind};

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
    let QueueConfig { kind, setup, poll_interval } = &config.queue;
    Ok(match kind {
        QueueKind::NavDb(target) => opened(navdb::open(target, *setup).await?, kind),
        QueueKind::Sqlite { path } => {
            let path = path.clone().unwrap_or_else(|| config.state_dir(env).join("queue.db"));
            opened(SqliteQueue::open(&path, *poll_interval, *setup).await?, kind)
        }
    })
}

fn opened(queue: impl Queue + Schema + 'static, kind: &QueueKind) -> Opened {
    let queue = Arc::new(queue);
    Opened { queue: Arc::clone(&queue) as _, schema: queue, kind: kind.as_str() }
}
