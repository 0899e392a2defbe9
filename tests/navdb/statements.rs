//! What a statement costs, however much the tables hold, and whom it holds up.

use std::time::{Duration, Instant};

use smsd::alert::{Reason, Verdict};
use smsd::queue::{Known, NewAlert, Queue, Schema, Settled, Settlement, Submitted, Which};

use super::{LONG, Server, accepted, alerts, attempt, instance, phone, ready, submission};

// -- the schema ----------------------------------------------------------------------------------

/// Rows are copied without what a sequence knows: by logical replication, or a dump of data only.
#[tokio::test]
async fn a_copy_of_the_rows_lets_no_note_collide() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let ids = queue.submit(&alerts(12)).await.unwrap();
    queue.cancel(&Which::Ids(ids[..10].to_vec()), "ann").await.unwrap();
    database.sql("CREATE TABLE copied AS SELECT * FROM smsd.note");
    queue.remove().await.unwrap();
    queue.init(false).await.unwrap();
    database.sql("INSERT INTO smsd.note SELECT * FROM copied");
    let sequences =
        "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'smsd'::regnamespace";

    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let good = attempt(11, ids[11]);
    queue.begin(me.id, std::slice::from_ref(&good), &Known::default()).await.unwrap();
    let bad = Settlement {
        closing: None,
        verdicts: vec![(ids[10], Verdict::Ignored(Reason::Rejected))],
        detail: "no number".into(),
    };
    let settled = queue.settle(me.id, &[bad, accepted(&good, "1")]).await.unwrap();
    assert_eq!(settled, Settled::default());
    assert_eq!(database.sql("SELECT sent FROM smsq WHERE id > 10 ORDER BY id"), "I\nY");
    assert_eq!(database.sql(sequences), "0");
}

// -- what comes in -------------------------------------------------------------------------------

/// Somebody is about to delete an account, and takes his time.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_account_costs_its_own_submissions_only() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let holder = locked(&database, "DELETE FROM account WHERE id = 2").await;
    let one = |i, account| NewAlert { to: phone(i), account: Some(account), ..alerts(1).remove(0) };
    let all: Vec<_> = (0..200)
        .map(|i| submission(&format!("http:{i}"), vec![one(i, if i % 20 == 7 { 2 } else { 1 })]))
        .collect();
    let started = Instant::now();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    let told = queue.enqueue_by(&all, until).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    for (i, told) in told.iter().enumerate() {
        match told {
            Submitted::Queued(_) => assert_ne!(i % 20, 7),
            Submitted::NotNow(why) => assert!(i % 20 == 7 && why.contains("lock"), "{i}: {why}"),
            other => panic!("{i}: {other:?}"),
        }
    }
    assert_eq!(database.sql("SELECT count(*) FROM smsq"), "190");
    drop(holder);
    let again = queue.enqueue(&all[7..8]).await.unwrap();
    assert!(matches!(again[..], [Submitted::NotNow(_) | Submitted::Queued(_)]), "{again:?}");
}

// -- helpers -------------------------------------------------------------------------------------

/// A session in which a transaction has done this and stays open; it ends when this is dropped.
struct Holder(tokio::task::JoinHandle<()>, #[allow(dead_code)] tokio_postgres::Client);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn locked(database: &super::Database, sql: &str) -> Holder {
    let address =
        format!("host=127.0.0.1 port={} dbname={} user=postgres", database.server.port, database.name);
    let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
    Holder(driver, client)
}
