//! NAV's queue, in a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use smsd::alert::{AlertId, Severity};
use smsd::config::PostgresTarget;
use smsd::queue::navdb::{self, NavDbQueue};
use smsd::queue::{Queue, Schema};
use uuid::Uuid;

use super::queue::{Fixture, Meddling, queue_contract};
use crate::postgres::{Database, Server};

pub struct Nav {
    pub queue: Arc<NavDbQueue>,
    pub database: Arc<Database>,
    pub target: PostgresTarget,
}

impl Nav {
    /// Makes the queue as a new one.
    pub fn empty(&self) {
        self.database.sql(
            "TRUNCATE smsq, smsd.instance, smsd.attempt, smsd.attempt_alert, smsd.open, smsd.unresolved, smsd.note, \
                smsd.submission RESTART IDENTITY; \
             UPDATE smsd.meta SET queue = gen_random_uuid(), installed_at = now()",
        );
    }
}

impl Fixture for Nav {
    async fn fresh() -> Self {
        let database = Server::shared().database();
        let target = database.target();
        let queue = navdb::open(&target, true).await.unwrap();
        queue.init(false).await.unwrap();
        Nav { queue: Arc::new(queue), database: Arc::new(database), target }
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    async fn second(&self) -> Arc<dyn Queue> {
        Arc::new(navdb::open(&self.target, false).await.unwrap())
    }

    async fn insert(&self, phone: &str, text: &str, severity: Severity, age: Duration) -> AlertId {
        let severity = severity.0.map_or("NULL".into(), |s| s.to_string());
        let age = age.as_secs();
        let id = self.database.sql(&format!(
            "INSERT INTO smsq (accountid, time, phone, msg, severity) \
             VALUES (1, now() - interval '{age} s', '{phone}', $text${text}$text$, {severity}) RETURNING id"
        ));
        AlertId(id.parse().unwrap())
    }

    async fn meddle(&self, id: AlertId, what: Meddling) {
        self.database.sql(&match what {
            Meddling::Delete => format!("DELETE FROM smsq WHERE id = {id}"),
            Meddling::Sent => format!("UPDATE smsq SET sent = 'Y', timesent = now() WHERE id = {id}"),
            Meddling::Ignored => format!("UPDATE smsq SET sent = 'I', timesent = now() WHERE id = {id}"),
            Meddling::Waiting => format!("UPDATE smsq SET sent = 'N' WHERE id = {id}"),
        });
    }

    async fn orphan(&self, attempt: Uuid) {
        self.database.sql(&format!("DELETE FROM smsd.unresolved WHERE attempt = '{attempt}'"));
    }

    fn account(&self) -> Option<i32> {
        Some(1)
    }
}

queue_contract!(Nav, tokio::test(flavor = "multi_thread"));

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_mentioned_without_their_accounts_where_these_can_not_be_read() {
    let nav = Nav::fresh().await;
    let id = nav.insert("+4790000001", "a text", Severity(None), Duration::ZERO).await;
    nav.database.sql("ALTER TABLE account RENAME TO elsewhere");
    let mentions = nav.queue.mention(&[id]).await.unwrap();
    assert_eq!(
        mentions.iter().map(|m| (m.text.as_str(), &m.account)).collect::<Vec<_>>(),
        [("a text", &None)]
    );
}
