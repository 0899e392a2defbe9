//! NAV's queue, in a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use smsd::alert::{AlertId, Severity};
use smsd::config::PostgresTarget;
use smsd::queue::navdb::{self, NavDbQueue};
use smsd::queue::{AlertState, AttemptState, Decision, Known, Look, NewAttempt, Queue, Schema, Which};
use uuid::Uuid;

use super::queue::*;
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

// -- keys that are given again ---------------------------------------------------------------------

/// How the table comes to give keys again.
const AGAIN: [&str; 2] =
    ["TRUNCATE smsq RESTART IDENTITY", "DELETE FROM smsq; SELECT setval('smsq_id_seq', 1, false)"];

/// Without a witness, the new alert would be marked, tell another's story, and be the audit's offence for ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_with_a_key_that_was_given_before_is_a_new_alert() {
    for again in AGAIN {
        let nav = Nav::fresh().await;
        let q = nav.queue();
        let me = joined(&*q, LONG).await;
        let old = submitted(&nav, PHONE, 4).await;
        // Sent; failed, and may have been taken; ignored; squeezed.
        let sent = NewAttempt { counted: vec![old[3]], ..attempt(PHONE, &old[..1]) };
        assert_eq!(q.begin(me, std::slice::from_ref(&sent), &Known::default()).await.unwrap(), [sent.id]);
        settled(&*q, me, accept(&sent)).await;
        let failed = begun(&*q, me, PHONE, &old[1..2]).await;
        settled(&*q, me, close(&failed, AttemptState::Failed, "failed")).await;
        q.cancel(&Which::Ids(old[2..3].to_vec()), "ann").await.unwrap();
        clean(&*q).await;
        assert_eq!(ids(&q.claim(Look::New { after: old[3] }, 9, None).await.unwrap()), [old[1]]);

        nav.database.sql(again);
        let new = submitted(&nav, "+4790000001", 4).await;
        assert_eq!(new, old, "{again}");
        let found = claimed(&*q).await;
        assert_eq!(ids(&found), new);
        assert!(found.iter().all(|alert| !alert.maybe_sent), "{again}: {found:?}");
        for id in &new {
            let story = story(&*q, *id).await;
            assert_eq!((story.attempts.len(), story.notes.len()), (0, 0), "{again}: {story:?}");
            assert_eq!((story.alert.state, story.alert.reason), (AlertState::Waiting, None));
        }
        clean(&*q).await;

        // Its own story begins: unmarked, since nobody has seen it before.
        let sms = begun(&*q, me, "+4790000001", &new).await;
        settled(&*q, me, accept(&sms)).await;
        for id in &new {
            assert_eq!(story(&*q, *id).await.attempts.iter().map(|a| a.id).collect::<Vec<_>>(), [sms.id]);
        }
        clean(&*q).await;
        // And a foreign program ignores it without a word: the earlier alert's reason is no reason.
        assert_eq!(q.requeue(&new[2..3], "bob").await.unwrap(), new[2..3]);
        assert_eq!(story(&*q, new[2]).await.notes.len(), 1);
        nav.meddle(new[2], Meddling::Ignored).await;
        assert_eq!(q.audit().await.unwrap().offenders.len(), 1, "{again}");
    }
}

/// What the engine knows as the highest key is above all that come.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_for_new_alerts_finds_them_when_keys_have_fallen() {
    for again in AGAIN {
        let nav = Nav::fresh().await;
        let q = nav.queue();
        nav.database.sql("SELECT setval('smsq_id_seq', 5000)");
        let high = submitted(&nav, PHONE, 1).await[0];
        let look = async || ids(&q.claim(Look::New { after: high }, 500, None).await.unwrap());
        assert_eq!(look().await, [high]);
        nav.database.sql(again);
        assert_eq!(look().await, []);
        let first = submitted(&nav, PHONE, 3).await;
        assert_eq!(look().await, first, "{again}");
        // More than a page and the overlap, so that only what was not seen is new.
        let more = submitted(&nav, PHONE, 700).await;
        assert_eq!(look().await, more[..500]);
        assert!(look().await.ends_with(&more[500..]));
        assert!(!look().await.contains(&first[0]), "what was seen is not looked at again and again");
        // They climb past what the engine knows.
        nav.database.sql("SELECT setval('smsq_id_seq', 4990)");
        let past = submitted(&nav, PHONE, 20).await;
        assert!(look().await.ends_with(&past));
        q.cancel(&Which::All, "ann").await.unwrap();
        clean(&*q).await;
    }
}

/// An SMS is at its gateway, in doubt or held while the table is emptied: what becomes of it is not the new alert's.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_of_an_earlier_alert_is_not_that_of_the_new_one_with_its_key() {
    for again in AGAIN {
        let nav = Nav::fresh().await;
        let q = nav.queue();
        let me = joined(&*q, LONG).await;
        let old = submitted(&nav, PHONE, 4).await;
        let open = begun(&*q, me, PHONE, &old[..1]).await;
        let doubt = doubtful(&*q, me, "+4790000002", &old[1..2]).await;
        let held = doubtful(&*q, me, "+4790000003", &old[2..3]).await;
        settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
        nav.database.sql(again);
        let new = submitted(&nav, "+4790000001", 4).await;
        let told = q.settle(me, &[accept(&open)]).await.unwrap();
        assert_eq!(told.vanished, old[..1], "{again}");
        assert_eq!(
            q.begin(me, &[resend(&doubt)], &Known::default()).await.unwrap(),
            NONE,
            "nor is it resent"
        );
        let decided = q.resolve(&old[1..3], Decision::Accept, "ann").await.unwrap();
        assert_eq!(decided.decided, []);
        assert_eq!(claimed_ids(&*q).await, new, "{again}: all of them wait");
        assert!(claimed(&*q).await.iter().all(|alert| !alert.maybe_sent));
        clean(&*q).await;
    }
}

fn ids(alerts: &[smsd::alert::Alert]) -> Vec<AlertId> {
    alerts.iter().map(|alert| alert.id).collect()
}
