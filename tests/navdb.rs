//! NAV's queue beside its contract: logging in, what NAV's rows look like, and what goes wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/pgbouncer.rs"]
mod pgbouncer;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "navdb/sessions.rs"]
mod sessions;
#[path = "navdb/statements.rs"]
mod statements;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postgres::{Database, Server};
use proxy::{Cut, Proxy};
use smsd::alert::{AlertId, Phone, Reason, Severity, Verdict};
use smsd::config::{PostgresTarget, Secret};
use smsd::queue::navdb::{self, NavDbQueue};
use smsd::queue::{
    AttemptState, Cancelled, Closing, Instance, Key, Known, Look, NewAlert, NewAttempt, Queue, QueueError,
    Schema, Settled, Settlement, Submission, Submitted, Which,
};
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(120);

// -- logging in ----------------------------------------------------------------------------------

#[tokio::test]
async fn tls_modes_are_those_of_libpq() {
    let database = Server::shared().database();
    ready(&database).await;
    let dir = database.server.dir.display();
    for (host, user, options, expected) in [
        ("127.0.0.1", "tls_only", "", Ok(())),
        ("127.0.0.1", "plain_only", "", Ok(())),
        ("127.0.0.1", "tls_only", "sslmode=disable", Err("pg_hba.conf")),
        ("127.0.0.1", "plain_only", "sslmode=disable", Ok(())),
        ("127.0.0.1", "tls_only", "sslmode=allow", Ok(())),
        ("127.0.0.1", "plain_only", "sslmode=allow", Ok(())),
        ("127.0.0.1", "tls_only", "sslmode=prefer", Ok(())),
        ("127.0.0.1", "tls_only", "sslmode=require", Ok(())),
        ("127.0.0.1", "plain_only", "sslmode=require", Err("pg_hba.conf")),
        ("127.0.0.1", "tls_only", "sslmode=require&sslrootcert={dir}/other-ca.crt", Err("certificate")),
        ("127.0.0.1", "tls_only", "sslmode=verify-ca&sslrootcert={dir}/ca.crt", Ok(())),
        ("127.0.0.1", "tls_only", "sslmode=verify-ca&sslrootcert={dir}/other-ca.crt", Err("certificate")),
        ("127.0.0.1", "tls_only", "sslmode=verify-full&sslrootcert={dir}/ca.crt", Err("certificate")),
        ("localhost", "tls_only", "sslmode=verify-full&sslrootcert={dir}/ca.crt", Ok(())),
        ("localhost", "tls_only", "sslmode=verify-full&sslrootcert={dir}/other-ca.crt", Err("certificate")),
        ("localhost", "tls_only", "sslmode=verify-full&sslrootcert={dir}/none.crt", Err("none.crt")),
        ("localhost", "tls_only", "sslmode=verify-full&sslrootcert=system", Err("certificate")),
    ] {
        let options = options.replace("{dir}", &dir.to_string());
        let url = format!("postgresql://{user}@{host}:{}/{}?{options}", database.server.port, database.name);
        let said = open(&url).await.stats().await;
        match (said, expected) {
            (Ok(_), Ok(())) => {}
            (Err(QueueError::Refused(said)), Err(part)) => assert!(said.contains(part), "{url}: {said}"),
            (said, expected) => panic!("{url}: {said:?}, expected {expected:?}"),
        }
    }
    let socket = format!(
        "host={dir} port={} dbname={} user=postgres sslmode=verify-full",
        database.server.port, database.name
    );
    open(&socket).await.stats().await.expect("TLS has no meaning on a Unix socket");
}

#[tokio::test]
async fn passwords_come_from_the_configuration_or_the_password_file() {
    use std::os::unix::fs::PermissionsExt;
    let database = Server::shared().database();
    ready(&database).await;
    let (port, name) = (database.server.port, &database.name);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgpass");
    std::fs::write(&file, format!("127.0.0.1:{port}:*:with_password:pass\\:w\\\\ord\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let base =
        format!("host=127.0.0.1 port={port} dbname={name} user=with_password passfile={}", file.display());
    open(&base).await.stats().await.unwrap();

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = open(&base).await.stats().await.unwrap_err();
    assert!(matches!(&said, QueueError::Refused(text) if text.contains("with_password")), "{said:?}");

    open(&format!(r"{base} password='pass:w\\ord'")).await.stats().await.unwrap();
    let said = open(&format!("{base} password=hunter2")).await.stats().await.unwrap_err();
    assert!(matches!(&said, QueueError::Refused(text) if text.contains("db.conf")), "{said:?}");
    assert!(!format!("{said} {said:?}").contains("hunter2"));
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do() {
    let database = Server::shared().database();
    let port = database.server.port;
    let nobody_there = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = |target: PostgresTarget, setup| async move {
        let queue = navdb::open(&target, setup).await.unwrap();
        queue.claim(Look::Full { after: None }, 1, None).await.unwrap_err()
    };

    let error = said(database.target_at("127.0.0.1", nobody_there), true).await;
    let QueueError::Unavailable(text) = &error else { panic!("{error:?}") };
    for part in ["127.0.0.1", &nobody_there.to_string(), &database.name, "user postgres", "refused"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }

    let as_nobody = PostgresTarget { user: Some("nobody".into()), ..database.target() };
    let no_database = PostgresTarget { database: Some("nowhere".into()), ..database.target() };
    let no_role = PostgresTarget { user: Some("stranger".into()), ..database.target() };
    let cases = [
        (no_database, true, "db_nav"),
        (no_role, true, "role stranger"),
        (as_nobody.clone(), true, "GRANT CREATE ON DATABASE"),
        (database.target(), false, "smsd db init"),
    ];
    for (target, setup, part) in cases {
        let error = said(target, setup).await;
        let QueueError::Refused(text) = &error else { panic!("{part}: {error:?}") };
        assert!(text.contains(part) && text.contains(&port.to_string()), "{part} is not in: {text}");
    }

    ready(&database).await;
    let error = said(as_nobody.clone(), true).await;
    assert!(error.to_string().contains("GRANT USAGE ON SCHEMA smsd TO nobody"), "{error}");
    database.sql("GRANT USAGE ON SCHEMA smsd TO nobody; GRANT ALL ON ALL TABLES IN SCHEMA smsd TO nobody");
    let error = said(as_nobody, true).await;
    assert!(error.to_string().contains("GRANT SELECT, INSERT, UPDATE ON smsq TO nobody"), "{error}");

    database.sql("DROP TABLE smsq");
    let error = said(database.target(), true).await;
    assert!(error.to_string().contains("NAV's database"), "{error}");
}

#[tokio::test]
async fn the_database_need_not_be_there_yet() {
    let server = Arc::new(Server::own("-F"));
    let database = server.database();
    server.stop();
    let queue = navdb::open(&database.target(), true).await.unwrap();
    let me = instance();
    assert!(matches!(queue.join(&me, LONG, &Known::default()).await, Err(QueueError::Unavailable(_))));
    server.start();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(1)).await.unwrap();

    server.stop();
    assert!(matches!(
        queue.begin(me.id, &[attempt(0, ids[0])], &Known::default()).await,
        Err(QueueError::Unavailable(_))
    ));
    server.start();
    assert_eq!(queue.begin(me.id, &[attempt(0, ids[0])], &Known::default()).await.unwrap().len(), 1);
    server.stop();
    server.start();
    assert_eq!(queue.claim(Look::Full { after: None }, 9, None).await.unwrap(), [], "what began is durable");
}

// -- NAV's rows ----------------------------------------------------------------------------------

#[tokio::test]
async fn rows_are_read_as_nav_writes_them() {
    let database = Server::shared().database();
    database.sql(&format!("ALTER DATABASE {} SET timezone = 'Europe/Oslo'", database.name));
    let queue = ready(&database).await;
    database.sql(
        "INSERT INTO smsq (accountid, time, phone, msg, severity) VALUES \
         (1, '2026-07-01 12:00:00', '+47 99 99 99 99', 'æøå € ''\"\\ %s', NULL), \
         (2, '2026-01-01 12:00:00.5', '99999999', 'second', 3), (NULL, 'infinity', '', '', -1)",
    );
    let found = queue.claim(Look::Full { after: None }, 9, None).await.unwrap();
    let [odd, second, first] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.phone.as_str(), first.text.as_str()), ("+47 99 99 99 99", "æøå € '\"\\ %s"));
    assert_eq!((first.severity, second.severity), (Severity(None), Severity(Some(3))));
    assert_eq!(first.queued_at, "2026-07-01T10:00:00Z".parse::<Timestamp>().unwrap(), "summer time");
    assert_eq!(second.queued_at, "2026-01-01T11:00:00.5Z".parse::<Timestamp>().unwrap());
    assert_eq!((odd.queued_at, odd.phone.as_str()), (Timestamp::MAX, ""));
}

#[tokio::test]
async fn rows_end_as_nav_expects_them() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(5)).await.unwrap();
    let attempts: Vec<NewAttempt> = (0..5).map(|i| attempt(i, ids[i])).collect();
    assert_eq!(queue.begin(me.id, &attempts, &Known::default()).await.unwrap().len(), 5);
    for (i, reference) in ["4711", "gw-7", "2147483648", "-5"].into_iter().enumerate() {
        let settled = queue.settle(me.id, &[accepted(&attempts[i], reference)]).await.unwrap();
        assert_eq!(settled, Settled::default());
    }
    let refused = Settlement {
        verdicts: vec![(ids[4], Verdict::Ignored(Reason::Rejected))],
        ..accepted(&attempts[4], "12")
    };
    let closing =
        refused.closing.clone().map(|c| Closing { state: AttemptState::Rejected, references: vec![], ..c });
    queue.settle(me.id, &[Settlement { closing, ..refused }]).await.unwrap();
    assert_eq!(
        database.sql(
            "SELECT sent, smsid, timesent BETWEEN now()::timestamp - interval '1 min' AND now()::timestamp \
             FROM smsq ORDER BY id"
        ),
        "Y|4711|t\nY|0|t\nY|0|t\nY|-5|t\nI|0|t"
    );
}

#[tokio::test]
async fn a_deleted_account_is_an_event() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(2)).await.unwrap();
    let attempts = [attempt(0, ids[0]), attempt(1, ids[1])];
    queue.begin(me.id, &attempts, &Known::default()).await.unwrap();
    database.sql("UPDATE smsq SET accountid = 2 WHERE id = 1; DELETE FROM account WHERE id = 2");
    let settlements = [accepted(&attempts[0], "1"), accepted(&attempts[1], "2")];
    let settled = queue.settle(me.id, &settlements).await.unwrap();
    assert_eq!(settled, Settled { vanished: vec![ids[0]], superseded: vec![] });
    assert_eq!(queue.audit().await.unwrap().offenders, []);
    assert_eq!(database.sql("SELECT count(*) FROM smsd.unresolved"), "0");
}

#[tokio::test]
async fn what_nav_can_not_hold_is_refused_with_the_reason() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let long = NewAlert { text: "x".repeat(146).into(), ..alerts(1).remove(0) };
    let nobodys = NewAlert { account: Some(99), ..alerts(1).remove(0) };
    for (alert, part) in [(long, "145 characters"), (nobodys, "no such account")] {
        let error = queue.submit(&[alert]).await.unwrap_err();
        assert!(matches!(&error, QueueError::Refused(text) if text.contains(part)), "{error:?}");
    }
    let nul = NewAlert { text: "a\0b".into(), ..alerts(1).remove(0) };
    let ids = queue.submit(&[nul]).await.unwrap();
    assert_eq!(queue.show(ids[0]).await.unwrap().unwrap().alert.text, "a\u{fffd}b");
}

#[tokio::test]
async fn late_commits_are_found_within_the_overlap_and_by_the_full_look() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let insert = |id: i64| {
        database
            .sql(&format!("INSERT INTO smsq (id, time, phone, msg) VALUES ({id}, now(), '99999999', 'x')"))
    };
    let ids = |found: Vec<smsd::alert::Alert>| -> Vec<i64> { found.iter().map(|a| a.id.0).collect() };
    insert(1000);
    insert(850);
    insert(700);
    let new = queue.claim(Look::New { after: AlertId(1000) }, 9, None).await.unwrap();
    assert_eq!(ids(new), [850, 1000]);
    insert(1001);
    let new = queue.claim(Look::New { after: AlertId(1000) }, 1, None).await.unwrap();
    assert_eq!(ids(new), [1001], "what is new comes before what may be late");
    let full = queue.claim(Look::Full { after: None }, 9, None).await.unwrap();
    assert_eq!(ids(full), [700, 850, 1000, 1001]);
}

/// The planner knows nothing of tables that have just grown. Whatever it thinks of them, an alert's attempts are found
/// by their keys: 4,000 walks through 10,000 attempts would take many seconds.
#[tokio::test]
async fn a_claim_and_a_begin_cost_what_they_take_and_not_what_the_ledger_holds() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    database.sql(
        "ALTER TABLE smsq SET (autovacuum_enabled = off);
         ALTER TABLE smsd.attempt SET (autovacuum_enabled = off);
         ALTER TABLE smsd.attempt_alert SET (autovacuum_enabled = off);
         INSERT INTO smsq (accountid, time, phone, msg, sent) SELECT 1, now(), '+47' || 40000000 + n, 'down', 'Y'
            FROM generate_series(1, 60000) n;
         ANALYZE smsq;
         INSERT INTO smsd.attempt (id, instance, deadline, number, possible_duplicate, state, recipient, text, dispatcher,
                carried, counted)
            SELECT lpad(to_hex(id), 32, '0')::uuid, '00000000-0000-0000-0000-000000000000', now(), 1, false, 'accepted',
                phone, msg, 'd', ARRAY[id], '{}' FROM smsq WHERE id <= 10000;
         INSERT INTO smsd.attempt_alert SELECT id, lpad(to_hex(1 + id % 10000), 32, '0')::uuid, id <= 10000 FROM smsq;
         INSERT INTO smsq (accountid, time, phone, msg) SELECT 1, now(), '+47' || 40000000 + n, 'down'
            FROM generate_series(60001, 65000) n",
    );
    let begun = Instant::now();
    let claimed = queue.claim(Look::Full { after: None }, 4000, None).await.unwrap();
    let newer = queue.claim(Look::New { after: AlertId(61_000) }, 4000, None).await.unwrap();
    eprintln!("claimed {:?}", begun.elapsed());
    assert_eq!((claimed.len(), newer.len()), (4000, 4000));
    let owner = instance();
    queue.join(&owner, LONG, &Known::default()).await.unwrap();
    let attempts: Vec<NewAttempt> = claimed
        .iter()
        .map(|alert| NewAttempt {
            id: Uuid::now_v7(),
            recipient: Phone::parse(&alert.phone).unwrap(),
            text: "down".into(),
            dispatcher: "d".into(),
            number: 1,
            deadline: LONG,
            carried: vec![alert.id],
            counted: Vec::new(),
            possible_duplicate: false,
            resend_of: None,
        })
        .collect();
    assert_eq!(queue.begin(owner.id, &attempts, &Known::default()).await.unwrap().len(), 4000);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_ended_before_the_ledger_is_no_offence() {
    let database = Server::shared().database();
    database.sql(
        "INSERT INTO smsq (time, phone, msg, sent, timesent) VALUES \
         (now(), '99999999', 'a', 'Y', now() - interval '1 day'), (now(), '99999999', 'b', 'I', NULL), \
         (now(), '99999999', 'c', 'N', NULL)",
    );
    let queue = ready(&database).await;
    let audit = queue.audit().await.unwrap();
    assert_eq!((audit.alerts, audit.waiting, audit.before_ledger), (3, 1, 2));
    assert_eq!(audit.offenders, []);
}

/// A clock that was ten years ahead for a while does not swallow alerts for as long.
#[tokio::test]
async fn a_key_used_by_a_clock_that_was_ahead_is_anothers() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let same = || [submission("http:1", alerts(1))];
    let later = |interval: &str| {
        database.sql(&format!("UPDATE smsd.submission SET until = until + interval '{interval}'"));
    };
    queue.enqueue(&same()).await.unwrap();
    later("30 minutes");
    assert!(matches!(queue.enqueue(&same()).await.unwrap()[..], [Submitted::Before(_)]));
    later("10 years");
    assert!(matches!(queue.enqueue(&same()).await.unwrap()[..], [Submitted::Queued(_)]));
    assert!(matches!(queue.enqueue(&same()).await.unwrap()[..], [Submitted::Before(_)]));
}

/// What is wrong with some is found out without harm to the others, wherever they stand.
#[tokio::test]
async fn what_nav_can_not_hold_spoils_no_other_submission() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let one = || alerts(1).remove(0);
    let of = |account| NewAlert { account, ..one() };
    database.sql("ALTER TABLE smsq ALTER accountid SET NOT NULL");
    let mut all: Vec<Submission> =
        (0..40).map(|i| submission(&format!("good {i}"), vec![one(), one()])).collect();
    all.insert(0, submission("no such account", vec![one(), of(Some(99)), of(Some(98))]));
    all.insert(20, submission("none", vec![of(None)]));
    all.insert(21, submission("long", vec![one(), NewAlert { text: "x".repeat(146).into(), ..one() }]));
    all.insert(30, submission("k".repeat(5_000).as_str(), vec![one()]));
    all.push(submission("far", vec![NewAlert { to: Phone::parse("+123456789012345").unwrap(), ..one() }]));
    // The key is free again, for the same or others.
    all.push(submission("long", vec![one(), NewAlert { text: "x".repeat(146).into(), ..one() }]));
    all.push(submission("long", vec![one()]));
    let told = queue.enqueue(&all).await.unwrap();
    assert_eq!(told.len(), all.len());
    let mut good = 0;
    for (submission, told) in all.iter().zip(&told) {
        match (submission.key.name.as_str(), submission.alerts.len(), told) {
            ("no such account", _, Submitted::NoAccount(Some(99)))
            | ("none", _, Submitted::NoAccount(None)) => {}
            ("long", 2, Submitted::Unfit(why)) | ("far", _, Submitted::Unfit(why)) if why.contains("145") => {
            }
            (name, n, Submitted::Queued(ids)) if ids.len() == n => {
                good += n;
                assert!(
                    name.starts_with("good") || name.starts_with('k') || (name, n) == ("long", 1),
                    "{name}"
                );
            }
            (name, _, Submitted::Unfit(_)) if name.starts_with('k') => {}
            told => panic!("{told:?}"),
        }
    }
    assert_eq!(database.sql("SELECT count(*) FROM smsq"), good.to_string());
    assert!(good >= 81);
    assert_eq!(database.sql("SELECT count(*) FROM smsd.submission WHERE ids IS NULL"), "0");
    let again = queue.enqueue(&all[1..3]).await.unwrap();
    assert!(again.iter().all(|told| matches!(told, Submitted::Before(_))), "{again:?}");
}

/// Another session holds the table: what it let through only after its time was told no, and is not queued.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_for_the_table_is_never_queued() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    for (lock, patience, in_time) in [
        ("LOCK TABLE smsq IN EXCLUSIVE MODE", 400, false),
        ("LOCK TABLE smsd.submission IN EXCLUSIVE MODE", 400, false),
        ("LOCK TABLE smsq IN EXCLUSIVE MODE", 15_000, true),
    ] {
        let sql = format!("BEGIN; {lock}; SELECT pg_sleep(1.5); COMMIT");
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| database.sql(&sql));
            let held = || {
                let held = "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation IS NOT NULL AND granted";
                database.sql(held) != "0"
            };
            while !held() {
                assert!(!holder.is_finished(), "{lock}");
            }
            let until = tokio::time::Instant::now() + Duration::from_millis(patience);
            let some = [submission(&format!("http:{in_time}"), alerts(1))];
            let told = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(queue.enqueue_by(&some, until))
            });
            assert_eq!(told.is_ok(), in_time, "{lock}: {told:?}");
            holder.join().unwrap();
        });
        assert_eq!(database.sql("SELECT count(*) FROM smsq"), u32::from(in_time).to_string(), "{lock}");
    }
}

// -- the schema ----------------------------------------------------------------------------------

#[tokio::test]
async fn nothing_of_navs_is_altered_unasked_and_all_is_removed() {
    let database = Server::shared().database();
    let shape = "SELECT (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal), \
        (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = 'smsq'), \
        to_regnamespace('smsd') IS NOT NULL";
    let queue = navdb::open(&database.target(), true).await.unwrap();
    assert_eq!(queue.status().await.unwrap().version, None);
    queue.claim(Look::Full { after: None }, 1, None).await.unwrap();
    assert_eq!(database.sql(shape), "0|1|t");
    queue.init(true).await.unwrap();
    queue.init(true).await.unwrap();
    assert_eq!(database.sql(shape), "1|2|t");
    let status = queue.status().await.unwrap();
    assert_eq!((status.version, status.wanted, status.notify), (Some(3), 3, true));
    assert_eq!(status.location, format!("127.0.0.1:{}/{}", database.server.port, database.name));
    database.sql("INSERT INTO smsq (time, phone, msg) VALUES (now(), '99999999', 'stays')");
    queue.remove().await.unwrap();
    queue.remove().await.unwrap();
    assert_eq!(database.sql(shape), "0|1|f");
    assert_eq!(database.sql("SELECT msg FROM smsq"), "stays");
    database.sql(&queue.sql(true));
    assert_eq!(database.sql(shape), "1|2|t");
}

/// The schema as earlier versions of smsd made it.
const EARLIER: [(i32, &str); 2] =
    [(1, include_str!("vectors/schema/postgres-1.sql")), (2, include_str!("vectors/schema/postgres-2.sql"))];
/// Rows in it: one alert was sent, one waits, one is in doubt, and one was ignored, made to wait again and ignored.
const ROWS: &str = "
    INSERT INTO smsq (accountid, time, phone, msg, sent, timesent) VALUES
        (1, now(), '+4799999999', 'sent', 'Y', now()), (1, now(), '+4799999999', 'waits', 'N', NULL),
        (1, now(), '+4799999999', 'in doubt', 'N', NULL), (1, now(), '+4799999999', 'ignored', 'I', now());
    INSERT INTO smsd.attempt (id, instance, deadline, ended_at, number, possible_duplicate, state, recipient, text,
            dispatcher, carried, counted) VALUES
        ('01890a5d-ac96-774b-bcce-b302099a8058', gen_random_uuid(), now(), now(), 1, false, 'accepted',
            '+4799999999', 'sent', 'gateway', '{1}', '{}'),
        ('01890a5d-ac96-774b-bcce-b302099a8059', gen_random_uuid(), now(), NULL, 1, false, 'in_doubt',
            '+4799999999', 'in doubt', 'gateway', '{3}', '{}');
    INSERT INTO smsd.attempt_alert (alert, attempt, carried) VALUES
        (1, '01890a5d-ac96-774b-bcce-b302099a8058', true), (3, '01890a5d-ac96-774b-bcce-b302099a8059', true);
    INSERT INTO smsd.unresolved (alert, attempt) VALUES (3, '01890a5d-ac96-774b-bcce-b302099a8059');
    INSERT INTO smsd.note (alert, what, reason, detail, by) VALUES
        (4, 'ignored', 'expired', '', 'smsd'), (4, 'requeued', NULL, '', 'ann'),
        (4, 'ignored', 'cancelled', '', 'ann');";

#[tokio::test]
async fn a_schema_of_an_earlier_version_is_brought_to_this_one() {
    let server = Server::shared();
    let kept = async |queue: &NavDbQueue| {
        assert_eq!(queue.status().await.unwrap().version, Some(3));
        let waiting = queue.claim(Look::Full { after: None }, 10, None).await.unwrap();
        assert_eq!(waiting.iter().map(|a| a.text.as_str()).collect::<Vec<_>>(), ["waits"]);
        assert_eq!(queue.show(AlertId(1)).await.unwrap().unwrap().attempts.len(), 1);
        let ignored = queue.show(AlertId(4)).await.unwrap().unwrap();
        assert_eq!(ignored.alert.reason, Some(Reason::Cancelled), "the last note, not the first");
        let words = |notes: &[smsd::queue::Note]| notes.iter().map(|n| n.what.clone()).collect::<Vec<_>>();
        assert_eq!(words(&ignored.notes), ["ignored", "requeued", "ignored"]);
        let me = instance();
        queue.join(&me, LONG, &Known::default()).await.unwrap();
        assert_eq!(queue.doubts(me.id).await.unwrap().len(), 1);
        let decided = queue.resolve(&[AlertId(3)], smsd::queue::Decision::Accept, "ann").await.unwrap();
        assert_eq!(decided.decided, [AlertId(3)]);
        queue.requeue(&[AlertId(4)], "bob").await.unwrap();
        let again = queue.show(AlertId(4)).await.unwrap().unwrap();
        assert_eq!(words(&again.notes), ["ignored", "requeued", "ignored", "requeued"]);
        queue.submit(&alerts(1)).await.unwrap();
        assert_eq!(queue.audit().await.unwrap().offenders, []);
    };
    for (version, schema) in EARLIER {
        let database = server.database();
        database.sql(schema);
        database.sql(ROWS);
        let identity = database.sql("SELECT queue FROM smsd.meta");
        let off = navdb::open(&database.target(), false).await.unwrap();
        let why = off.newest().await.unwrap_err().to_string();
        assert!(why.contains(&format!("has version {version}")) && why.contains("smsd db init"), "{why}");
        off.init(false).await.unwrap();
        kept(&off).await;
        assert_eq!(database.sql("SELECT queue FROM smsd.meta"), identity);
        assert_eq!(shape(&database), shape_of_a_new_one(&server).await, "from version {version}");
        off.init(false).await.unwrap();
        assert_eq!(shape(&database), shape_of_a_new_one(&server).await, "and nothing more");

        let database = server.database();
        database.sql(schema);
        database.sql(ROWS);
        let auto = navdb::open(&database.target(), true).await.unwrap();
        auto.newest().await.unwrap();
        kept(&auto).await;

        database.sql("UPDATE smsd.meta SET version = 4");
        let later = navdb::open(&database.target(), true).await.unwrap();
        let why = later.newest().await.unwrap_err().to_string();
        assert!(why.contains("has version 4") && why.contains("newer"), "{why}");
        assert_eq!(database.sql("SELECT version FROM smsd.meta"), "4");
    }
}

/// All columns with their types and defaults, indexes, constraints and sequences of the schema.
fn shape(database: &Database) -> String {
    database.sql(
        "SELECT table_name, column_name, data_type, is_nullable, column_default, generation_expression \
            FROM information_schema.columns WHERE table_schema = 'smsd' ORDER BY 1, 2; \
         SELECT indexdef FROM pg_indexes WHERE schemaname = 'smsd' ORDER BY 1; \
         SELECT conrelid::regclass, pg_get_constraintdef(oid) FROM pg_constraint \
            WHERE connamespace = 'smsd'::regnamespace ORDER BY 1, 2; \
         SELECT relname FROM pg_class WHERE relkind = 'S' AND relnamespace = 'smsd'::regnamespace",
    )
}

async fn shape_of_a_new_one(server: &Arc<Server>) -> String {
    let database = server.database();
    ready(&database).await;
    shape(&database)
}

#[tokio::test]
async fn two_daemons_may_start_at_once() {
    let database = Server::shared().database();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let target = database.target();
        tasks.spawn(async move {
            let queue = navdb::open(&target, true).await.unwrap();
            queue.join(&instance(), LONG, &Known::default()).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(database.sql("SELECT count(*) FROM smsd.instance"), "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_alerts_make_themselves_known_within_20_ms() {
    let database = Arc::new(Server::shared().database());
    let queue = ready(&database).await;
    queue.init(true).await.unwrap();
    let mut seen = AlertId(0);
    queue.claim(Look::New { after: seen }, 9, None).await.unwrap();
    while tokio::time::timeout(Duration::from_millis(200), queue.wait()).await.is_ok() {}
    let mut delays = Vec::new();
    for _ in 0..15 {
        let insert = "INSERT INTO smsq (time, phone, msg) VALUES (clock_timestamp(), '99999999', 'new')";
        let inserting = tokio::task::spawn_blocking({
            let database = database.clone();
            move || database.sql(insert)
        });
        tokio::time::timeout(Duration::from_secs(5), queue.wait()).await.expect("a notification comes");
        let new = queue.claim(Look::New { after: seen }, 9, None).await.unwrap();
        let last = new.iter().max_by_key(|a| a.id).unwrap();
        assert!(last.id > seen);
        seen = last.id;
        delays.push(Timestamp::now().duration_since(last.queued_at));
        inserting.await.unwrap();
    }
    delays.sort();
    assert!(delays[7].as_millis() < 20, "{delays:?}");
}

// -- what goes wrong -----------------------------------------------------------------------------

#[tokio::test]
async fn a_lost_commit_reply_is_no_rollback() {
    let database = Server::shared().database();
    ready(&database).await;
    for cut in [Cut::AfterCommit, Cut::BeforeCommit] {
        let proxy = Proxy::start(database.server.port).await;
        let queue = open(&format!(
            "host=127.0.0.1 port={} dbname={} user=postgres sslmode=disable",
            proxy.port, database.name
        ))
        .await;
        let me = instance();
        queue.join(&me, LONG, &Known::default()).await.unwrap();

        queue.submit(&alerts(1)).await.unwrap();
        let before = database.sql("SELECT count(*) FROM smsq");
        proxy.cut_next(cut);
        let ids = queue.submit(&alerts(3)).await.unwrap();
        assert!(proxy.has_cut(), "{cut:?}");
        assert_eq!(ids.len(), 3);
        let after = database.sql("SELECT count(*) FROM smsq");
        assert_eq!(
            after.parse::<u32>().unwrap(),
            before.parse::<u32>().unwrap() + 3,
            "{cut:?}: each is queued once"
        );

        let handed = submission(&format!("http:{cut:?}"), alerts(2));
        proxy.cut_next(cut);
        let told = queue.enqueue(std::slice::from_ref(&handed)).await.unwrap();
        assert!(proxy.has_cut(), "{cut:?}");
        match (cut, told.as_slice()) {
            (Cut::AfterCommit, [Submitted::Before(ids)]) | (Cut::BeforeCommit, [Submitted::Queued(ids)]) => {
                assert_eq!(queue.enqueue(&[handed]).await.unwrap(), [Submitted::Before(ids.clone())]);
            }
            told => panic!("{told:?}"),
        }
        let queued: u32 = database.sql("SELECT count(*) FROM smsq").parse().unwrap();
        assert_eq!(queued, after.parse::<u32>().unwrap() + 2, "{cut:?}: each is queued once");

        let attempts = [attempt(1, ids[0]), attempt(2, ids[1])];
        let other = attempt(3, ids[2]);
        queue.begin(me.id, std::slice::from_ref(&other), &Known::default()).await.unwrap();
        proxy.cut_next(cut);
        let mut owned = queue.begin(me.id, &attempts, &Known::default()).await.unwrap();
        assert!(proxy.has_cut(), "{cut:?}");
        owned.sort();
        assert_eq!(owned, [attempts[0].id, attempts[1].id]);

        queue.settle(me.id, &[accepted(&other, "1")]).await.unwrap();
        proxy.cut_next(cut);
        let settlements = [accepted(&attempts[0], "7"), accepted(&attempts[1], "8")];
        assert_eq!(queue.settle(me.id, &settlements).await.unwrap(), Settled::default());
        assert!(proxy.has_cut(), "{cut:?}");
        for (attempt, id) in attempts.iter().zip(&ids) {
            let story = queue.show(*id).await.unwrap().unwrap();
            let [record] = story.attempts.as_slice() else { panic!("{story:#?}") };
            assert_eq!((record.id, record.state), (attempt.id, AttemptState::Accepted));
        }
        assert_eq!(queue.audit().await.unwrap().offenders, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_queues_race_for_the_same_1000_alerts() {
    each_of_1000_alerts_is_won_once(&Server::shared().database()).await;
}

async fn each_of_1000_alerts_is_won_once(database: &Database) {
    let first = ready(database).await;
    let second = navdb::open(&database.target(), false).await.unwrap();
    let ids = first.submit(&alerts(1000)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for (reversed, queue) in [(false, first), (true, second)] {
        let ids = ids.clone();
        tasks.spawn(async move {
            let me = instance();
            queue.join(&me, LONG, &Known::default()).await.unwrap();
            let mut attempts: Vec<NewAttempt> = (0..1000).map(|i| attempt(i, ids[i])).collect();
            if reversed {
                attempts.reverse();
            }
            let mut won = Vec::new();
            for batch in attempts.chunks(100) {
                let owned: HashSet<Uuid> =
                    queue.begin(me.id, batch, &Known::default()).await.unwrap().into_iter().collect();
                let mine: Vec<Settlement> =
                    batch.iter().filter(|a| owned.contains(&a.id)).map(|a| accepted(a, "1")).collect();
                won.extend(batch.iter().filter(|a| owned.contains(&a.id)).map(|a| a.carried[0]));
                assert_eq!(queue.settle(me.id, &mine).await.unwrap(), Settled::default());
            }
            won
        });
    }
    let mut won: Vec<AlertId> = tasks.join_all().await.into_iter().flatten().collect();
    won.sort();
    assert_eq!(won, ids, "each alert is won once");
    assert_eq!(database.sql("SELECT count(*) FROM smsq WHERE sent = 'Y'"), "1000");
    assert_eq!(database.sql("SELECT count(*) FROM smsd.attempt WHERE state = 'accepted'"), "1000");
    assert_eq!(
        database.sql("SELECT (SELECT count(*) FROM smsd.open), (SELECT count(*) FROM smsd.unresolved)"),
        "0|0"
    );
}

/// A cancel that meets a begin half-way waits for it, and then leaves what is being sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_waits_for_a_begin_that_is_half_way() {
    let database = Server::shared().database();
    let queue = Arc::new(ready(&database).await);
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(2)).await.unwrap();
    let address =
        format!("host=127.0.0.1 port={} dbname={} user=postgres", database.server.port, database.name);
    let (half_way, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    let (id, alert) = (Uuid::now_v7(), ids[0]);
    half_way
        .batch_execute(&format!(
            "BEGIN; INSERT INTO smsd.unresolved VALUES ({alert}, '{id}'); INSERT INTO smsd.open VALUES ('+47', '{id}'); \
             INSERT INTO smsd.attempt (id, instance, deadline, number, possible_duplicate, state, recipient, text, \
                dispatcher, carried, counted) \
             VALUES ('{id}', '{}', now(), 1, false, 'open', '+47', '', '', '{{{alert}}}', '{{}}')",
            me.id
        ))
        .await
        .unwrap();
    let cancelling = tokio::spawn({
        let queue = queue.clone();
        async move { queue.cancel(&Which::All, "ann").await.unwrap() }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity \
        WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let deadline = Instant::now() + Duration::from_secs(10);
    while database.sql(waits) != "1" {
        assert!(!cancelling.is_finished() && Instant::now() < deadline, "the cancel did not wait");
    }
    half_way.batch_execute("COMMIT").await.unwrap();
    let done = cancelling.await.unwrap();
    assert_eq!(done, Cancelled { cancelled: vec![ids[1]], in_flight: vec![ids[0]], ..Cancelled::default() });
    driver.abort();
}

/// The owner whose lease ran out may still say what it knows, but no longer what it decides.
#[tokio::test]
async fn refusal_needs_a_good_lease() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(1)).await.unwrap();
    let sms = attempt(0, ids[0]);
    queue.begin(me.id, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
    database.sql("UPDATE smsd.instance SET lease_until = now()");
    let acceptance = accepted(&sms, "1");
    let closing = acceptance.closing.clone().map(|c| Closing { state: AttemptState::Failed, ..c });
    let failure = Settlement { closing, verdicts: Vec::new(), detail: String::new() };
    let refused = queue.settle(me.id, &[failure]).await.unwrap();
    assert_eq!(refused, Settled { superseded: vec![sms.id], vanished: vec![] });
    assert_eq!(queue.settle(me.id, &[acceptance]).await.unwrap(), Settled::default());
    assert_eq!(database.sql("SELECT sent FROM smsq"), "Y");
}

/// The server's clock is set back by ten years, and what an instance had begun that died before is not to wait for ten.
#[tokio::test]
async fn the_dead_do_not_live_on_when_the_clock_is_set_back() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let (me, dead) = (instance(), instance());
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    queue.join(&dead, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(1)).await.unwrap();
    let sms = attempt(0, ids[0]);
    queue.begin(dead.id, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
    queue.renew(me.id, LONG, &Known::default()).await.unwrap();
    let ahead =
        |id| format!("SELECT lease_until > now() + interval '1 minute' FROM smsd.instance WHERE id = '{id}'");
    assert_eq!(database.sql(&ahead(dead.id)), "t", "a peer is left alone");

    database.sql("UPDATE smsd.instance SET lease_until = lease_until + interval '10 years'");
    queue.renew(me.id, LONG, &Known::default()).await.unwrap();
    assert_eq!([database.sql(&ahead(me.id)), database.sql(&ahead(dead.id))], ["t", "f"]);
    assert_eq!(queue.doubts(me.id).await.unwrap().len(), 0, "it has time to renew it");
    database.sql("UPDATE smsd.instance SET lease_until = lease_until - interval '20 s'");
    assert_eq!(queue.doubts(me.id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_verb_given_up_in_the_middle_spoils_no_other() {
    let database = Server::shared().database();
    let queue = ready(&database).await;
    let me = instance();
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    let ids = queue.submit(&alerts(50)).await.unwrap();
    for (i, id) in ids.iter().enumerate() {
        let started = Instant::now();
        let new = [attempt(i, *id)];
        let short = tokio::time::timeout(
            Duration::from_micros(150 * i as u64),
            queue.begin(me.id, &new, &Known::default()),
        )
        .await;
        assert!(started.elapsed() < Duration::from_secs(5));
        let owned = queue.begin(me.id, &new, &Known::default()).await.unwrap();
        assert_eq!(owned, [new[0].id], "repeated after {short:?}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM smsd.attempt"), "50");
    assert_eq!(queue.audit().await.unwrap().offenders, []);
}

// -- helpers -------------------------------------------------------------------------------------

async fn open(url: &str) -> NavDbQueue {
    let target = PostgresTarget { url: Some(Secret::new(url.to_owned())), ..PostgresTarget::default() };
    navdb::open(&target, true).await.unwrap()
}

/// A queue with its schema in place.
async fn ready(database: &Database) -> NavDbQueue {
    let queue = navdb::open(&database.target(), true).await.unwrap();
    queue.init(false).await.unwrap();
    queue
}

fn instance() -> Instance {
    let id = Uuid::now_v7();
    Instance { id, name: "host 1".into(), lock: id.to_string() }
}

fn phone(i: usize) -> Phone {
    Phone::parse(&format!("+47{}", 90_000_000 + i)).unwrap()
}

fn alerts(n: usize) -> Vec<NewAlert> {
    let new = |i| NewAlert {
        to: phone(i),
        text: format!("no. {i}").into(),
        severity: Severity(Some(3)),
        account: Some(1),
    };
    (0..n).map(new).collect()
}

fn submission(key: &str, alerts: Vec<NewAlert>) -> Submission {
    Submission { key: Key { name: key.into(), kept: LONG }, alerts }
}

fn attempt(i: usize, alert: AlertId) -> NewAttempt {
    NewAttempt {
        id: Uuid::now_v7(),
        recipient: phone(i),
        text: "text".into(),
        dispatcher: "gateway".into(),
        number: 1,
        deadline: Duration::from_secs(30),
        carried: vec![alert],
        counted: Vec::new(),
        possible_duplicate: false,
        resend_of: None,
    }
}

fn accepted(attempt: &NewAttempt, reference: &str) -> Settlement {
    Settlement {
        closing: Some(Closing {
            id: attempt.id,
            state: AttemptState::Accepted,
            class: "accepted",
            code: None,
            detail: "accepted".into(),
            references: vec![reference.into()],
            own: false,
        }),
        verdicts: attempt.carried.iter().map(|id| (*id, Verdict::Sent)).collect(),
        detail: String::new(),
    }
}
