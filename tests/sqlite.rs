//! The file of the embedded queue: whose it is, who may read it, what goes wrong with it, who else writes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test helpers fail by panicking")]

#[path = "sqlite/neighbours.rs"]
mod neighbours;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use smsd::alert::{AlertId, Phone, Severity};
use smsd::queue::sqlite::SqliteQueue;
use smsd::queue::{
    AttemptState, Instance, Key, Known, Look, NewAlert, NewAttempt, Queue, QueueError, Schema, Submission,
    Submitted,
};
use tempfile::TempDir;
use tokio::time::timeout;
use uuid::Uuid;

const POLL: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("queue.db");
    (dir, path)
}

async fn create(path: &Path) -> SqliteQueue {
    SqliteQueue::open(path, POLL, true).await.unwrap()
}

/// The message of a queue that refuses to open.
async fn refusal(path: &Path, create: bool) -> String {
    match SqliteQueue::open(path, POLL, create).await {
        Err(QueueError::Refused(why)) => why,
        Err(other) => panic!("refused expected: {other:?}"),
        Ok(_) => panic!("refused expected; it opened"),
    }
}

fn alert(text: &str) -> NewAlert {
    NewAlert {
        to: Phone::parse("+4799999999").unwrap(),
        text: text.into(),
        severity: Severity(Some(3)),
        account: None,
    }
}

fn attempt(alerts: &[AlertId]) -> NewAttempt {
    NewAttempt {
        id: Uuid::now_v7(),
        recipient: Phone::parse("+4799999999").unwrap(),
        text: "1: first; 2: second".into(),
        dispatcher: "gateway".into(),
        number: 1,
        deadline: Duration::from_secs(30),
        carried: alerts.to_vec(),
        counted: Vec::new(),
        possible_duplicate: false,
        resend_of: None,
    }
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let (dir, path) = place();
    let queue = create(&path).await;
    queue.submit(&[alert("secret")]).await.unwrap();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let (dir, path) = place();
    let why = refusal(&path, false).await;
    assert!(why.contains("queue.db") && why.contains("smsd db init"), "{why}");
    assert!(!path.exists(), "a look creates nothing");

    std::fs::write(&path, b"").unwrap();
    let why = refusal(&path, false).await;
    assert!(why.contains("holds no queue") && why.contains("smsd db init"), "{why}");
    create(&path).await;

    for create in [true, false] {
        let why = refusal(&dir.path().join("no/such/queue.db"), create).await;
        assert!(why.contains(dir.path().join("no/such").to_str().unwrap()), "{why}");
        assert!(why.contains("does not exist"), "{why}");
        let why = refusal(dir.path(), create).await;
        assert!(why.contains("expected a file"), "{why}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_alone() {
    let (dir, path) = place();
    let theirs = dir.path().join("theirs.db");
    Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "no database, but longer than the header of one; ".repeat(40)).unwrap();
    for other in [&theirs, &text] {
        let before = std::fs::read(other).unwrap();
        for create in [true, false] {
            let why = refusal(other, create).await;
            assert!(why.contains(other.to_str().unwrap()) && why.contains("`path` in [queue]"), "{why}");
        }
        assert_eq!(std::fs::read(other).unwrap(), before);
    }

    create(&path).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 4).unwrap();
    for create in [true, false] {
        let why = refusal(&path, create).await;
        assert!(why.contains("schema version 4") && why.contains("newer"), "{why}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_what_to_do() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let many: Vec<NewAlert> = (0..500).map(|i| alert(&format!("alert {i}"))).collect();
    queue.submit(&many).await.unwrap();
    drop(queue);
    let conn = Connection::open(&path).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(conn);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();

    let why = match SqliteQueue::open(&path, POLL, false).await {
        Err(QueueError::Refused(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(queue) => match queue.audit().await {
            Err(QueueError::Refused(why)) => why,
            other => panic!("{other:?}"),
        },
    };
    assert!(why.contains("queue.db") && why.contains("damaged") && why.contains("backup"), "{why}");
}

#[tokio::test]
async fn a_locked_file_is_waited_for_then_unavailable() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let one = [alert("one")];
    let (locked, told) = tokio::join!(queue.submit(&one), queue.stats());
    assert!(matches!(&locked, Err(QueueError::Unavailable(why)) if why.contains("queue.db")), "{locked:?}");
    assert_eq!(told.unwrap().waiting, 0, "reports do not wait for writers");

    let waits = tokio::spawn(async move {
        let done = queue.submit(&[alert("two")]).await;
        (queue, done)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    other.execute_batch("COMMIT").unwrap();
    let (queue, done) = waits.await.unwrap();
    assert_eq!(done.unwrap().len(), 1);
    assert_eq!(queue.stats().await.unwrap().waiting, 1, "what was refused was not written");
}

#[tokio::test]
async fn many_may_create_it_at_once() {
    let (_dir, path) = place();
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = path.clone();
        opening.spawn(async move {
            let queue = SqliteQueue::open(&path, POLL, true).await.unwrap();
            queue.submit(&[alert("hello")]).await.unwrap();
        });
    }
    opening.join_all().await;
    assert_eq!(create(&path).await.stats().await.unwrap().waiting, 8);
}

#[tokio::test]
async fn what_other_processes_queue_is_noticed() {
    let (_dir, path) = place();
    let (queue, other) = (create(&path).await, create(&path).await);
    while timeout(Duration::from_millis(200), queue.wait()).await.is_ok() {}
    other.submit(&[alert("by another smsd")]).await.unwrap();
    timeout(Duration::from_secs(5), queue.wait()).await.unwrap();

    while timeout(Duration::from_millis(200), queue.wait()).await.is_ok() {}
    let by_hand = "INSERT INTO alert (phone, text, severity) VALUES ('+4799999999', 'by hand', 1)";
    Connection::open(&path).unwrap().execute(by_hand, []).unwrap();
    timeout(Duration::from_secs(5), queue.wait()).await.unwrap();
    let claimed = queue.claim(Look::Full { after: None }, 10, None).await.unwrap();
    assert_eq!(claimed[0].text, "by hand");
    let age = jiff::Timestamp::now().duration_since(claimed[0].queued_at).as_secs();
    assert!((0..60).contains(&age), "the table's own default for the time: {age} s");
}

#[tokio::test]
async fn one_row_that_is_no_text_holds_up_nobody() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let odd = "INSERT INTO alert (phone, text) VALUES (CAST(x'2b34ff37' AS TEXT), CAST(x'61ff62' AS TEXT))";
    Connection::open(&path).unwrap().execute(odd, []).unwrap();
    queue.submit(&[alert("good")]).await.unwrap();
    let claimed = queue.claim(Look::Full { after: None }, 10, None).await.unwrap();
    assert_eq!(claimed.iter().map(|a| a.text.as_str()).collect::<Vec<_>>(), ["good", "a\u{fffd}b"]);
}

#[tokio::test]
async fn an_attempt_that_somebody_has_changed_by_hand_keeps_nobody_from_being_claimed() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let ids = queue.submit(&[alert("odd"), alert("good")]).await.unwrap();
    let instance = Instance { id: Uuid::from_u128(1), name: "host 1".into(), lock: "lock".into() };
    queue.join(&instance, LONG, &Known::default()).await.unwrap();
    let attempt = attempt(&ids[..1]);
    queue.begin(instance.id, std::slice::from_ref(&attempt), &Known::default()).await.unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "UPDATE attempt SET state = 'failed', class = 'failed', ended_at = NULL, number = -1, own = 1;
         UPDATE attempt_alert SET unresolved = 0;",
    )
    .unwrap();
    for (number, ended_at) in [("-1", "NULL"), ("9223372036854775807", "-9223372036854775808")] {
        conn.execute(&format!("UPDATE attempt SET number = {number}, ended_at = {ended_at}"), []).unwrap();
        let claimed = queue.claim(Look::Full { after: None }, 10, None).await.unwrap();
        assert_eq!(claimed.iter().map(|a| a.id).collect::<Vec<_>>(), ids, "{number}, {ended_at}");
        assert!(claimed[0].maybe_sent && claimed[0].tried.copies.is_empty(), "{:?}", claimed[0]);
    }
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let ids = queue.submit(&[alert("first"), alert("second")]).await.unwrap();
    let instance = |n: u128| Instance { id: Uuid::from_u128(n), name: "host 1".into(), lock: "lock".into() };
    queue.join(&instance(1), LONG, &Known::default()).await.unwrap();
    let attempt = attempt(&ids);
    queue.begin(Uuid::from_u128(1), std::slice::from_ref(&attempt), &Known::default()).await.unwrap();
    drop(queue);

    let queue = SqliteQueue::open(&path, POLL, false).await.unwrap();
    queue.join(&instance(2), LONG, &Known::default()).await.unwrap();
    let doubts = queue.doubts(Uuid::from_u128(2)).await.unwrap();
    assert_eq!((doubts[0].id, &doubts[0].carried), (attempt.id, &ids));
    let story = queue.show(ids[0]).await.unwrap().unwrap();
    assert_eq!(story.attempts[0].state, AttemptState::InDoubt);
    assert_eq!(story.alert.text, "first");
}

/// Rows that hold an alert for ever, since no open attempt will ever let it go.
#[tokio::test]
async fn the_audit_names_alerts_that_nothing_will_let_go() {
    for tampering in ["UPDATE attempt SET state = 'failed'", "PRAGMA foreign_keys = OFF; DELETE FROM attempt"]
    {
        let (_dir, path) = place();
        let queue = create(&path).await;
        let ids = queue.submit(&[alert("first")]).await.unwrap();
        let me = Instance { id: Uuid::now_v7(), name: "host 1".into(), lock: "lock".into() };
        queue.join(&me, LONG, &Known::default()).await.unwrap();
        assert_eq!(queue.begin(me.id, &[attempt(&ids)], &Known::default()).await.unwrap().len(), 1);
        assert_eq!(queue.audit().await.unwrap().offenders, []);
        Connection::open(&path).unwrap().execute_batch(tampering).unwrap();
        let offenders = queue.audit().await.unwrap().offenders;
        assert_eq!(offenders.iter().map(|o| o.alert).collect::<Vec<_>>(), [Some(ids[0])], "{offenders:?}");
    }
}

#[tokio::test]
async fn a_lease_of_an_earlier_boot_is_not_good() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let me = Instance { id: Uuid::now_v7(), name: "host 1".into(), lock: "lock".into() };
    queue.join(&me, LONG, &Known::default()).await.unwrap();
    queue.renew(me.id, LONG, &Known::default()).await.unwrap();
    Connection::open(&path).unwrap().execute("UPDATE instance SET boot = 'earlier'", []).unwrap();
    assert!(matches!(queue.renew(me.id, LONG, &Known::default()).await, Err(QueueError::LeaseLost)));
}

#[tokio::test]
async fn the_schema_comes_and_goes() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let ids = queue.submit(&[alert("kept")]).await.unwrap();
    queue.init(true).await.unwrap();
    assert_eq!(queue.show(ids[0]).await.unwrap().unwrap().alert.text, "kept", "init keeps what is there");
    let status = queue.status().await.unwrap();
    assert_eq!((status.version, status.wanted), (Some(3), 3));
    assert_eq!(status.location, path.to_str().unwrap());
    assert!(queue.sql(false).contains("CREATE TABLE alert"));

    queue.remove().await.unwrap();
    assert_eq!(queue.status().await.unwrap().version, None);
    let without = queue.claim(Look::Full { after: None }, 1, None).await;
    assert!(matches!(&without, Err(QueueError::Refused(why)) if why.contains("smsd db init")), "{without:?}");
    queue.init(false).await.unwrap();
    assert_eq!(queue.audit().await.unwrap(), Default::default());
    queue.submit(&[alert("anew")]).await.unwrap();
}

/// As an earlier smsd made it, with an alert that was sent and one that waits.
const VERSION_1: &str = concat!(
    include_str!("vectors/schema/sqlite-1.sql"),
    "INSERT INTO alert (phone, text, severity, state, ended_at) VALUES ('+4799999999', 'sent', 3, 'sent', 1);
     INSERT INTO alert (phone, text, severity) VALUES ('+4799999999', 'waits', 3);
     INSERT INTO instance (id, name, lock, joined_at, boot, lease_until) VALUES
        ('01890a5d-ac96-774b-bcce-b302099a8057', 'host 1', 'lock', 1, 'boot', 1);
     INSERT INTO attempt (id, recipient, text, dispatcher, number, state, instance, begun_at, deadline_at, ended_at,
            possible_duplicate) VALUES
        ('01890a5d-ac96-774b-bcce-b302099a8058', '+4799999999', 'sent', 'gateway', 1, 'accepted', 1, 1, 1, 2, 0);
     INSERT INTO attempt_alert (attempt, position, alert, counted, unresolved) VALUES (1, 0, 1, 0, 0);"
);

#[tokio::test]
async fn a_file_of_an_earlier_version_is_brought_to_this_one() {
    for (version, more) in [(1, ""), (2, include_str!("../src/queue/migrations/sqlite-2.sql"))] {
        let (_dir, path) = place();
        Connection::open(&path).unwrap().execute_batch(&format!("{VERSION_1}{more}")).unwrap();
        let why = refusal(&path, false).await;
        assert!(why.contains(&format!("schema version {version}")) && why.contains("smsd db init"), "{why}");

        let queue = create(&path).await;
        assert_eq!(queue.status().await.unwrap().version, Some(3));
        let waiting = queue.claim(Look::Full { after: None }, 10, None).await.unwrap();
        assert_eq!(waiting.iter().map(|a| a.text.as_str()).collect::<Vec<_>>(), ["waits"]);
        assert_eq!(queue.show(AlertId(1)).await.unwrap().unwrap().attempts.len(), 1);
        assert_eq!(queue.submit(&[alert("new")]).await.unwrap(), [AlertId(3)]);
        assert_eq!(queue.audit().await.unwrap().offenders, []);
        drop(queue);

        // It has what a new one has.
        let (_other, fresh) = place();
        create(&fresh).await;
        let shape = |path| -> Vec<(String, Option<String>)> {
            let conn = Connection::open(path).unwrap();
            let mut found = conn.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
            let rows = found.query_map([], |row| {
                let sql: Option<String> = row.get(1)?;
                // A line's comment is no part of what it makes, nor is an empty line.
                let bare = |l: &str| l.split("--").next().unwrap().trim_end().to_owned();
                Ok((row.get(0)?, sql.map(|sql| sql.lines().map(bare).filter(|l| !l.is_empty()).collect())))
            });
            rows.unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(shape(&path), shape(&fresh));
        SqliteQueue::open(&path, POLL, false).await.unwrap();
    }
}

/// A process that is killed leaves what this copy of its files holds: what was answered for is in it, with its key.
#[tokio::test]
async fn what_was_handed_in_is_known_after_a_kill() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let submission = Submission {
        key: Key { name: "http:1".into(), kept: LONG },
        alerts: vec![alert("first"), alert("second")],
    };
    let first = queue.enqueue(std::slice::from_ref(&submission)).await.unwrap();
    let [Submitted::Queued(ids)] = first.as_slice() else { panic!("{first:?}") };
    let (_other, copy) = place();
    for end in ["", "-wal"] {
        let file = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        std::fs::copy(file(&path), file(&copy)).unwrap();
    }
    let survivor = SqliteQueue::open(&copy, POLL, false).await.unwrap();
    let again = survivor.enqueue(&[submission]).await.unwrap();
    assert_eq!(again, [Submitted::Before(ids.clone())]);
    assert_eq!(survivor.claim(Look::Full { after: None }, 10, None).await.unwrap().len(), 2);
}

/// Keys that are remembered no longer go, some with each call.
#[tokio::test]
async fn forgotten_keys_leave_the_file() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let new =
        |key: String| Submission { key: Key { name: key, kept: Duration::ZERO }, alerts: vec![alert("x")] };
    let many: Vec<Submission> = (0..100).map(|i| new(format!("key {i}"))).collect();
    queue.enqueue(&many).await.unwrap();
    let left = || -> i64 {
        let conn = Connection::open(&path).unwrap();
        conn.query_row("SELECT count(*) FROM submission", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(left(), 100);
    // One that has not gone yet is another's all the same.
    let other = Submission { alerts: vec![alert("other")], ..new("key 99".into()) };
    let told = queue.enqueue(&[other]).await.unwrap();
    assert!(matches!(told.as_slice(), [Submitted::Queued(_)]), "{told:?}");
    let mut last = left();
    while last > 1 {
        queue.enqueue(&[new("another".into())]).await.unwrap();
        let now = left();
        assert!(now < last && now + 40 > last, "some at a time: {last}, then {now}");
        last = now;
    }
}

/// Root looks into the file while it is opened: for a moment its companions are root's.
#[tokio::test]
async fn companions_that_can_not_be_opened_just_now_are_waited_for() {
    let (_dir, path) = place();
    drop(create(&path).await);
    let companion = path.with_extension("db-wal");
    until_gone(&companion);
    std::fs::create_dir(&companion).unwrap();
    let begun = std::time::Instant::now();
    assert!(SqliteQueue::open(&path, LONG, false).await.is_err(), "not for ever");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let freed = std::thread::spawn({
        let companion = companion.clone();
        move || {
            std::thread::sleep(Duration::from_millis(300));
            std::fs::remove_dir(companion).unwrap();
        }
    });
    assert!(SqliteQueue::open(&path, LONG, false).await.is_ok());
    freed.join().unwrap();
}

/// The threads of a queue that was dropped close it a moment later.
fn until_gone(path: &Path) {
    let begun = std::time::Instant::now();
    while path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} stays", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A clock that was ten years ahead for a while does not swallow alerts for as long.
#[tokio::test]
async fn a_key_used_by_a_clock_that_was_ahead_is_anothers() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let same = || [Submission { key: Key { name: "http:1".into(), kept: LONG }, alerts: vec![alert("x")] }];
    let later = |seconds: i64| {
        let conn = Connection::open(&path).unwrap();
        let sql = "UPDATE submission SET until = until + ? * 1000000";
        assert_eq!(conn.execute(sql, [seconds]).unwrap(), 1);
    };
    queue.enqueue(&same()).await.unwrap();
    later(1_800);
    assert!(matches!(queue.enqueue(&same()).await.unwrap()[..], [Submitted::Before(_)]));
    later(10 * 365 * 86_400);
    assert!(matches!(queue.enqueue(&same()).await.unwrap()[..], [Submitted::Queued(_)]));
    assert!(matches!(queue.enqueue(&same()).await.unwrap()[..], [Submitted::Before(_)]));
}

/// Another process holds the file: what got its turn only after its time was told no, and is not queued.
#[tokio::test]
async fn what_waits_too_long_for_the_file_is_never_queued() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let holder = Connection::open(&path).unwrap();
    for (kept, patience, in_time) in
        [(Duration::from_millis(300), 100, false), (Duration::ZERO, 60_000, true)]
    {
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let key = Key { name: format!("http:{in_time}"), kept: LONG };
        let some = [Submission { key, alerts: vec![alert("x")] }];
        let until = tokio::time::Instant::now() + Duration::from_millis(patience);
        let release = async {
            tokio::time::sleep(kept).await;
            holder.execute_batch("COMMIT").unwrap();
        };
        let (told, ()) = tokio::join!(queue.enqueue_by(&some, until), release);
        assert_eq!(told.is_ok(), in_time, "{told:?}");
        assert_eq!(queue.depth().await.unwrap().alerts(), u64::from(in_time));
    }
}

/// Alerts without their key could be handed in again: they are not queued.
#[tokio::test]
async fn alerts_are_not_queued_without_their_key() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON submission
        BEGIN SELECT raise(ABORT, 'refused by a trigger'); END";
    Connection::open(&path).unwrap().execute_batch(trigger).unwrap();
    let failed = queue.submit(&[alert("one"), alert("two")]).await;
    assert!(matches!(&failed, Err(QueueError::Refused(why)) if why.contains("by a trigger")), "{failed:?}");
    assert_eq!(queue.depth().await.unwrap().alerts(), 0);
}

/// One caller's failure is its own, and whole, though it shares a transaction with others.
#[tokio::test]
async fn a_failed_write_spoils_no_other() {
    let (_dir, path) = place();
    let queue = std::sync::Arc::new(create(&path).await);
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON alert WHEN new.text = 'bad'
        BEGIN SELECT raise(ABORT, 'refused by a trigger'); END";
    Connection::open(&path).unwrap().execute_batch(trigger).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let queue = queue.clone();
        tasks.spawn(async move {
            if i % 2 == 0 {
                queue.submit(&[alert("good")]).await.unwrap();
            } else {
                let failed = queue.submit(&[alert("half"), alert("bad")]).await;
                assert!(matches!(&failed, Err(QueueError::Refused(why)) if why.contains("by a trigger")));
            }
        });
    }
    tasks.join_all().await;
    let all = queue.claim(Look::Full { after: None }, 1000, None).await.unwrap();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|a| a.text == "good"), "half a submit is none");
}

/// Whoever comes second finds the schema whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_create_one_queue_at_once() {
    for _ in 0..25 {
        let (_dir, path) = place();
        let open = |_| {
            let path = path.clone();
            tokio::spawn(async move { SqliteQueue::open(&path, POLL, true).await.map(drop) })
        };
        for opened in (0..6).map(open).collect::<Vec<_>>() {
            opened.await.unwrap().unwrap();
        }
    }
}
