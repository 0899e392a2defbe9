//! What a statement costs, however much the tables hold, and whom it holds up.

use std::time::{Duration, Instant};

use smsd::alert::{AlertId, Reason, Severity, Verdict};
use smsd::queue::{
    Age, CLAIMED_BYTES, Decision, EXPIRED_AT_ONCE, Known, Look, NewAlert, Place, Queue, Schema, Settled,
    Settlement, Submitted, TEXT_CLAIMED, Which, is_full_page,
};

use super::{LONG, Server, accepted, alerts, attempt, instance, phone, ready, submission};

fn an_hour() -> Age {
    Age { text: "1 hour".into(), duration: Duration::from_secs(3600) }
}

/// Inserts `n` waiting alerts that are `age` old, to as many phones, of severities 1 to 5 and none.
fn insert(database: &super::Database, n: usize, age: &str) {
    database.sql(&format!(
        "INSERT INTO smsq (time, phone, msg, severity) \
         SELECT now() - interval '{age}', '+47' || 10000000 + n, 'no. ' || n, nullif(n % 6, 0) \
         FROM generate_series(1, {n}) n"
    ));
}

// -- expire and cancel ---------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_thousand_that_expire_hold_up_no_begin() {
    let database = Server::shared().database();
    let queue = std::sync::Arc::new(ready(&database).await);
    insert(&database, 300_000, "2 hours");
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(40)).await.unwrap();
    let expiring = tokio::spawn({
        let queue = queue.clone();
        async move {
            let (mut expired, mut pages) = (0, 0);
            while pages < 20 {
                let page = queue.expire(&an_hour()).await.unwrap();
                assert!(page.len() <= EXPIRED_AT_ONCE && page.is_sorted());
                (expired, pages) = (expired + page.len(), pages + 1);
            }
            expired
        }
    });
    let mut took = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        let sms = attempt(i, *id);
        let started = Instant::now();
        let begun = queue.begin(me.id, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
        took.push(started.elapsed());
        assert_eq!(begun, [sms.id]);
        assert_eq!(queue.settle(me.id, &[accepted(&sms, "1")]).await.unwrap(), Settled::default());
        if expiring.is_finished() && i > 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(expiring.await.unwrap(), 20 * EXPIRED_AT_ONCE, "each page is full");
    took.sort();
    eprintln!("begins beside expire: {took:?}");
    assert!(took[took.len() * 9 / 10] < Duration::from_millis(250), "{took:?}");
    assert_eq!(database.sql("SELECT count(*) FROM smsd.unresolved"), "0");
    assert_eq!(queue.audit().await.unwrap().offenders, []);
}

/// Pages go on until nothing is too old; what is being sent, is held or was made to wait again is left.
#[tokio::test]
async fn all_that_is_too_old_expires_page_by_page_and_nothing_else() {
    for notify in [false, true] {
        let database = Server::shared().database();
        let queue = ready(&database).await;
        queue.init(notify).await.unwrap();
        insert(&database, 4_500, "2 hours");
        insert(&database, 10, "1 minute");
        let me = instance();
        queue.join(&me, LONG, &Known::default()).await.unwrap();
        assert_eq!(queue.begin(me.id, &[attempt(0, AlertId(7))], &Known::default()).await.unwrap().len(), 1);
        let left = queue.claim(Look::Full { after: None }, 9_000, Some(&an_hour())).await.unwrap();
        assert_eq!(left.len(), 10, "a claim leaves out what is about to expire");
        let new = queue.claim(Look::New { after: AlertId(0) }, 9_000, Some(&an_hour())).await.unwrap();
        assert_eq!(new.len(), 10);
        let pages: Vec<usize> = {
            let mut pages = Vec::new();
            loop {
                pages.push(queue.expire(&an_hour()).await.unwrap().len());
                if pages.last() < Some(&EXPIRED_AT_ONCE) {
                    break pages;
                }
            }
        };
        assert_eq!(pages, [2_000, 2_000, 499]);
        assert_eq!(queue.expire(&an_hour()).await.unwrap(), []);
        assert_eq!(queue.requeue(&[AlertId(1)], "ann").await.unwrap(), [AlertId(1)]);
        assert_eq!(queue.expire(&an_hour()).await.unwrap(), []);
        let left = queue.claim(Look::Full { after: None }, 9_000, Some(&an_hour())).await.unwrap();
        assert_eq!(left.len(), 11);
        assert_eq!(queue.audit().await.unwrap().offenders, []);
    }
}

/// A row that somebody holds locked neither expires nor keeps the others from it.
#[tokio::test(flavor = "multi_thread")]
async fn one_locked_row_holds_up_no_expiry_and_no_cancel() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    insert(&database, 50, "2 hours");
    let holder = locked(&database, "SELECT 1 FROM smsq WHERE id = 7 FOR UPDATE").await;
    let started = Instant::now();
    let expired = queue.expire(&an_hour()).await.unwrap();
    assert_eq!((expired.len(), expired.contains(&AlertId(7))), (49, false));
    insert(&database, 50, "1 minute");
    let done = queue.cancel(&Which::All, "ann").await.unwrap();
    assert_eq!((done.cancelled.len(), done.in_flight), (50, vec![AlertId(7)]));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    drop(holder);
}

#[tokio::test]
async fn an_urgent_alert_is_claimed_beside_a_million_that_are_too_old() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    insert(&database, 1_000_000, "2 hours");
    database.sql("INSERT INTO smsq (time, phone, msg, severity) VALUES (now(), '+4790000000', 'urgent', 1)");
    for notify in [false, true] {
        queue.init(notify).await.unwrap();
        let mut best = Duration::MAX;
        // A neighbour on the machine may hold up one of them.
        for _ in 0..3 {
            let started = Instant::now();
            let found = queue.claim(Look::Full { after: None }, 4_000, Some(&an_hour())).await.unwrap();
            best = best.min(started.elapsed());
            assert_eq!(found.iter().map(|a| a.text.as_str()).collect::<Vec<_>>(), ["urgent"]);
        }
        eprintln!("with the index {notify}: {best:?}");
        assert!(best < Duration::from_secs(2), "{best:?}");
    }
}

#[tokio::test]
async fn all_that_waits_is_cancelled_in_pages_and_the_answer_is_bounded() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    insert(&database, 10_001, "1 minute");
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let open = attempt(0, AlertId(4_001));
    assert_eq!(queue.begin(me.id, std::slice::from_ref(&open), &Known::default()).await.unwrap().len(), 1);
    let done = queue.cancel(&Which::All, "ann").await.unwrap();
    assert_eq!((done.cancelled.len(), done.more_cancelled), (1_000, 9_000));
    assert_eq!((done.in_flight, done.more_in_flight), (vec![AlertId(4_001)], 0));
    assert_eq!(database.sql("SELECT count(*) FROM smsd.note WHERE reason = 'cancelled'"), "10000");
    assert_eq!(queue.settle(me.id, &[accepted(&open, "1")]).await.unwrap(), Settled::default());
    assert_eq!(queue.audit().await.unwrap().offenders, []);
}

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

/// The clock is set back between them.
#[tokio::test]
async fn notes_keep_their_order_when_the_clock_is_set_back() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let ids = queue.submit(&alerts(1)).await.unwrap();
    queue.cancel(&Which::Ids(ids.clone()), "ann").await.unwrap();
    database.sql("UPDATE smsd.note SET id = id + 3600::bigint * 1000000 * 256");
    queue.requeue(&ids, "bob").await.unwrap();
    queue.cancel(&Which::Ids(ids.clone()), "cecilie").await.unwrap();
    let story = queue.show(ids[0]).await.unwrap().unwrap();
    assert_eq!(story.notes.iter().map(|n| n.by.as_str()).collect::<Vec<_>>(), ["ann", "bob", "cecilie"]);
    assert_eq!(queue.audit().await.unwrap().offenders, []);
}

// -- what is held --------------------------------------------------------------------------------

/// Holds `n` alerts of as many phones, as the storm guard does.
fn hold(database: &super::Database, n: usize) {
    insert(database, n, "1 day");
    database.sql(
        "INSERT INTO smsd.attempt (id, instance, deadline, doubt_since, number, possible_duplicate, state, recipient, \
                text, dispatcher, carried, counted, class) \
            SELECT lpad(to_hex(id), 32, '0')::uuid, gen_random_uuid(), now(), now(), 1, false, 'held', phone, '', \
                'storm guard', ARRAY[id], '{}', 'from_the_past' FROM smsq; \
         INSERT INTO smsd.attempt_alert (alert, attempt, carried) SELECT id, lpad(to_hex(id), 32, '0')::uuid, true FROM smsq; \
         INSERT INTO smsd.unresolved SELECT id, lpad(to_hex(id), 32, '0')::uuid FROM smsq; \
         ANALYZE",
    );
}

#[tokio::test]
async fn to_decide_for_a_hundred_costs_the_same_however_many_are_held() {
    let server = Server::shared();
    let mut took = Vec::new();
    for n in [3_000, 300_000] {
        let database = server.database();
        let queue = ready(&database).await;
        hold(&database, n);
        let me = instance();
        queue.join(&me, LONG, &Known::default()).await.unwrap();
        let mut each = [Duration::ZERO; 4];
        let timed = |slot: &mut Duration, started: Instant| *slot += started.elapsed();
        for round in 0..9 {
            let started = Instant::now();
            let ids = queue.suspected(100).await.unwrap();
            assert_eq!(ids.len(), 100);
            timed(&mut each[0], started);
            let started = Instant::now();
            let decided = match round % 3 {
                0 => queue.resolve(&ids, Decision::Accept, "ann").await.unwrap().decided.len(),
                1 => queue.resolve(&ids, Decision::Resend, "ann").await.unwrap().decided.len(),
                _ => queue.cancel(&Which::Ids(ids), "ann").await.unwrap().cancelled.len(),
            };
            assert_eq!(decided, 100);
            timed(&mut each[1 + round % 3], started);
        }
        let started = Instant::now();
        assert_eq!(queue.doubts(me.id).await.unwrap().len(), 0);
        eprintln!("{n} held: doubts {:?}, [suspected, accept, release, cancel] {each:?}", started.elapsed());
        took.push((started.elapsed(), each.iter().sum::<Duration>()));
    }
    let (few, many) = (took[0], took[1]);
    assert!(many.1 < few.1 * 4 + Duration::from_millis(200), "{took:?}");
    assert!(many.0 < Duration::from_millis(100), "doubts among the held: {took:?}");
}

// -- walks ---------------------------------------------------------------------------------------

/// The places of a whole walk, with how long each page took.
async fn walk(queue: &dyn Queue, page: usize) -> (Vec<Place>, Vec<Duration>) {
    let (mut places, mut took): (Vec<Place>, Vec<Duration>) = (Vec::new(), Vec::new());
    loop {
        let started = Instant::now();
        let found = queue.claim(Look::Full { after: places.last().copied() }, page, None).await.unwrap();
        took.push(started.elapsed());
        places.extend(found.iter().map(|alert| Place { severity: alert.severity, id: alert.id }));
        if found.len() < page {
            return (places, took);
        }
    }
}

#[tokio::test]
async fn the_last_page_of_a_walk_costs_no_more_than_the_first() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    queue.init(true).await.unwrap();
    insert(&database, 300_000, "1 minute");
    walk(&queue, 4_000).await;
    let (places, mut took) = walk(&queue, 4_000).await;
    assert_eq!(places.len(), 300_000);
    assert!(places.is_sorted());
    took.pop();
    // A neighbour on the machine may hold up one of them.
    let best = |some: &[Duration]| some.iter().min().copied().unwrap();
    let (first, last) = (best(&took[..5]), best(&took[took.len() - 5..]));
    eprintln!("with the index: first {first:?}, last {last:?}, all {:?}", took.iter().sum::<Duration>());
    assert!(last < first * 2, "first {first:?}, last {last:?}");
}

/// A table that was mostly sent long ago, without an index of ours.
#[tokio::test]
async fn a_walk_without_an_index_reads_the_table_once_and_not_once_a_page() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    database.sql(
        "INSERT INTO smsq (time, phone, msg, sent) SELECT now(), '+4790000000', 'sent', 'Y' \
         FROM generate_series(1, 500000)",
    );
    insert(&database, 100_000, "1 minute");
    walk(&queue, 4_000).await;
    let (places, took) = walk(&queue, 4_000).await;
    assert_eq!(places.len(), 100_000);
    assert!(places.is_sorted() && places.windows(2).all(|two| two[0] < two[1]));
    let (first, all) = (took[0], took.iter().sum::<Duration>());
    eprintln!("without an index: first {first:?}, all {all:?}: {took:?}");
    let mut later = took[1..].to_vec();
    later.sort();
    assert!(later[later.len() / 2] < first / 2, "{took:?}");
}

/// What changes between the pages of a walk is seen as it is, and what comes is left to the next walk or
/// found.
#[tokio::test]
async fn a_walk_goes_on_where_rows_have_changed() {
    for notify in [false, true] {
        let database = Server::shared().database();
        let queue = ready(&database).await;
        queue.init(notify).await.unwrap();
        insert(&database, 6_000, "1 minute");
        let page = |after| queue.claim(Look::Full { after }, 1_000, None);
        let first = page(None).await.unwrap();
        assert_eq!((first.len(), first[0].severity), (1_000, Severity(Some(1))));
        // All of severity 2 end, and the last of those without one.
        database.sql("UPDATE smsq SET sent = 'I' WHERE severity = 2 OR id = 6000");
        let (mut found, mut after) = (first.len(), first.last());
        let mut last;
        while let Some(alert) = after {
            last = page(Some(Place { severity: alert.severity, id: alert.id })).await.unwrap();
            assert!(
                last.iter().all(|alert| alert.severity != Severity(Some(2)) && alert.id != AlertId(6_000))
            );
            found += last.len();
            after = last.last().filter(|_| last.len() == 1_000);
        }
        assert_eq!(found, 4_999, "with the index: {notify}");
        assert_eq!(queue.claim(Look::Full { after: None }, 500, None).await.unwrap().len(), 500, "a peek");
    }
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

// -- texts ---------------------------------------------------------------------------------------

#[tokio::test]
async fn a_claim_returns_no_more_of_a_text_than_an_sms_can_carry() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    database.sql(
        "ALTER TABLE smsq ALTER msg TYPE text; \
         INSERT INTO smsq (time, phone, msg) VALUES (now(), '+4790000000', repeat('æ', 100000))",
    );
    for look in [Look::New { after: AlertId(0) }, Look::Full { after: None }] {
        let found = queue.claim(look, 9, None).await.unwrap();
        assert_eq!(found[0].text.chars().count(), TEXT_CLAIMED);
    }
    assert_eq!(queue.show(AlertId(1)).await.unwrap().unwrap().alert.text.chars().count(), 100_000);
}

/// A thousand long texts are 39 MB: no page has all of them, and no alert is missed for that.
#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_says_that_there_is_more() {
    for notify in [false, true] {
        let database = Server::shared().database();
        let queue = ready(&database).await;
        queue.init(notify).await.unwrap();
        database.sql(
            "ALTER TABLE smsq ALTER msg TYPE text; INSERT INTO smsq (time, phone, msg, severity) \
             SELECT now(), '+4790000000', repeat('x', 100000), n % 3 FROM generate_series(1, 1000) n",
        );
        let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = queue.claim(Look::Full { after }, 4_000, None).await.unwrap();
            let bytes: usize = page.iter().map(|alert| alert.text.len()).sum();
            assert!(bytes < CLAIMED_BYTES + 100_000, "{bytes}");
            pages += 1;
            found.extend(page.iter().map(|a| Place { severity: a.severity, id: a.id }));
            after = found.last().copied();
            if !is_full_page(&page, 4_000) {
                break;
            }
        }
        assert_eq!((found.len(), pages), (1_000, 3), "with the index: {notify}");
        assert!(found.windows(2).all(|two| two[0] < two[1]));

        let (mut found, mut newest) = (std::collections::BTreeSet::new(), AlertId(0));
        loop {
            let page = queue.claim(Look::New { after: newest }, 4_000, None).await.unwrap();
            found.extend(page.iter().map(|alert| alert.id));
            newest = *found.last().unwrap();
            if !is_full_page(&page, 4_000) {
                break;
            }
        }
        assert_eq!(found.len(), 1_000);
    }
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
