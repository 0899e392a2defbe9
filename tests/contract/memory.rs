//! The queue in memory, with time paused.

use std::sync::Arc;
use std::time::Duration;

use smsd::alert::{AlertId, Severity};
use smsd::queue::Queue;
use smsd::queue::memory::{MemoryQueue, Standing};
use uuid::Uuid;

use super::queue::{Fixture, Meddling, queue_contract};

struct Memory(Arc<MemoryQueue>);

impl Fixture for Memory {
    async fn fresh() -> Self {
        Memory(Arc::new(MemoryQueue::new()))
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.0.clone()
    }

    async fn second(&self) -> Arc<dyn Queue> {
        self.0.clone()
    }

    async fn insert(&self, phone: &str, text: &str, severity: Severity, age: Duration) -> AlertId {
        self.0.insert(phone, text, severity, self.0.now() - age)
    }

    async fn meddle(&self, id: AlertId, what: Meddling) {
        match what {
            Meddling::Delete => self.0.delete(id),
            Meddling::Sent => self.0.overwrite(id, Standing::Sent),
            Meddling::Ignored => self.0.overwrite(id, Standing::Ignored),
            Meddling::Waiting => self.0.overwrite(id, Standing::Waiting),
        }
    }

    async fn orphan(&self, attempt: Uuid) {
        self.0.orphan(attempt);
    }
}

queue_contract!(Memory, tokio::test(start_paused = true));
