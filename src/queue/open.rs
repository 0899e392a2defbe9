//! From the configuration to the queue that it names.

use std::path::PathBuf;
use std::sync::Arc;

use super::mirror::Mirror;
use super::sqlite::{Ballast, SqliteQueue};
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
    /// What brings it together with a queue elsewhere, if that is what is configured.
    pub mirror: Option<Mirror>,
    /// The room that the embedded queue keeps for a full disk.
    pub ballast: Option<Arc<Ballast>>,
}

/// Opens the queue that the configuration names. A database server need not be there yet: it is waited for by
/// whoever asks the queue.
///
/// # Errors
/// [`QueueError::Refused`] if the configuration can not be used, or the embedded queue not be opened.
pub async fn open(config: &Config, env: &Env) -> Result<Opened, QueueError> {
    let QueueConfig { kind, setup, poll_interval } = &config.queue;
    let file =
        |path: &Option<PathBuf>| path.clone().unwrap_or_else(|| config.state_dir(env).join("queue.db"));
    Ok(match kind {
        QueueKind::NavDb(target) => opened(Arc::new(navdb::open(target, *setup).await?), kind),
        QueueKind::Sqlite { path } => {
            let queue = Arc::new(SqliteQueue::open(&file(path), *poll_interval, *setup).await?);
            let ballast = Some(queue.ballast());
            Opened { ballast, ..opened(queue, kind) }
        }
        QueueKind::Python { class, path, look_interval } => {
            let queue = Arc::new(SqliteQueue::open(&file(path), *poll_interval, *setup).await?);
            let mirror = Mirror::new(class.clone(), Arc::clone(&queue), *look_interval);
            let ballast = Some(queue.ballast());
            Opened { mirror: Some(mirror), ballast, ..opened(queue, kind) }
        }
    })
}

fn opened(queue: Arc<impl Queue + Schema + 'static>, kind: &QueueKind) -> Opened {
    Opened { queue: Arc::clone(&queue) as _, schema: queue, kind: kind.as_str(), mirror: None, ballast: None }
}
