//! The embedded queue, in a file of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};
use smsd::alert::{AlertId, Severity};
use smsd::queue::Queue;
use smsd::queue::sqlite::SqliteQueue;
use tempfile::TempDir;
use uuid::Uuid;

use super::queue::{Fixture, Meddling, queue_contract};

const POLL: Duration = Duration::from_millis(50);

struct Sqlite {
    queue: Arc<SqliteQueue>,
    path: PathBuf,
    _dir: TempDir,
}

impl Sqlite {
    fn foreign(&self) -> Connection {
        let conn = Connection::open(&self.path).unwrap();
        conn.busy_timeout(Duration::from_secs(5)).unwrap();
        conn
    }
}

impl Fixture for Sqlite {
    async fn fresh() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("queue.db");
        let queue = Arc::new(SqliteQueue::open(&path, POLL, true).await.unwrap());
        Sqlite { queue, path, _dir: dir }
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    async fn second(&self) -> Arc<dyn Queue> {
        Arc::new(SqliteQueue::open(&self.path, POLL, false).await.unwrap())
    }

    async fn insert(&self, phone: &str, text: &str, severity: Severity, age: Duration) -> AlertId {
        let conn = self.foreign();
        conn.execute(
            "INSERT INTO alert (phone, text, severity) VALUES (?, ?, ?)",
            params![phone, text, severity.0],
        )
        .unwrap();
        let id = conn.last_insert_rowid();
        let micros = i64::try_from(age.as_micros()).unwrap();
        conn.execute("UPDATE alert SET queued_at = queued_at - ? WHERE id = ?", [micros, id]).unwrap();
        AlertId(id)
    }

    async fn meddle(&self, id: AlertId, what: Meddling) {
        let sql = match what {
            Meddling::Delete => "DELETE FROM alert WHERE id = ?",
            Meddling::Sent => "UPDATE alert SET state = 'sent' WHERE id = ?",
            Meddling::Ignored => "UPDATE alert SET state = 'ignored' WHERE id = ?",
            Meddling::Waiting => "UPDATE alert SET state = 'waiting' WHERE id = ?",
        };
        assert_eq!(self.foreign().execute(sql, [id.0]).unwrap(), 1);
    }

    async fn orphan(&self, attempt: Uuid) {
        let sql = "DELETE FROM attempt_alert WHERE attempt = (SELECT seq FROM attempt WHERE id = ?)";
        assert!(self.foreign().execute(sql, [attempt.to_string()]).unwrap() > 0);
    }
}

queue_contract!(Sqlite, tokio::test(flavor = "multi_thread", worker_threads = 2));
