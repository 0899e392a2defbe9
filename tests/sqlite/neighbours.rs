//! What one row, one verb or another program costs everybody else: as little as can be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use smsd::alert::{AlertId, Phone, Reason, Severity, Verdict};
use smsd::queue::sqlite::SqliteQueue;
use smsd::queue::{
    Age, AttemptState, Closing, EXPIRED_AT_ONCE, Instance, Key, Known, Look, NewAlert, NewAttempt, Queue,
    QueueError, Settlement, Submission, Submitted, Suspects, TEXT_CLAIMED, Which,
};
use tokio::time::sleep;
use uuid::Uuid;

use super::{LONG, alert, attempt, create, place};

fn to(n: usize) -> Phone {
    Phone::parse(&format!("+47{}", 90_000_000 + n)).unwrap()
}

fn alert_to(n: usize, text: &str) -> NewAlert {
    NewAlert { to: to(n), ..alert(text) }
}

fn attempt_to(n: usize, alert: AlertId) -> NewAttempt {
    NewAttempt { recipient: to(n), ..attempt(&[alert]) }
}

async fn joined(queue: &dyn Queue, ttl: Duration) -> Uuid {
    let id = Uuid::now_v7();
    let instance = Instance { id, name: "host 1".into(), lock: id.to_string() };
    queue.join(&instance, ttl, &Known::default()).await.unwrap();
    id
}

fn closing(attempt: &NewAttempt, state: AttemptState, class: &'static str) -> Settlement {
    Settlement {
        closing: Some(Closing {
            id: attempt.id,
            state,
            class,
            code: None,
            detail: "as told".into(),
            references: Vec::new(),
            own: false,
        }),
        verdicts: attempt
            .carried
            .iter()
            .filter(|_| class == "accepted")
            .map(|id| (*id, Verdict::Sent))
            .collect(),
        detail: String::new(),
    }
}

fn by_hand(path: &Path, sql: &str) {
    let conn = Connection::open(path).unwrap();
    conn.busy_timeout(LONG).unwrap();
    conn.execute_batch(sql).unwrap();
}

/// Alerts that were queued two days ago, all of severity 3.
fn many_old(path: &Path, count: usize) {
    by_hand(
        path,
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
            INSERT INTO alert (phone, text, severity, queued_at)
            SELECT '+47' || (90000000 + i), 'an old alert', 3,
                CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - 172800000000 FROM n;"
        ),
    );
}

fn a_day() -> Age {
    Age { text: "1 day".into(), duration: Duration::from_secs(86_400) }
}

async fn state_of(queue: &SqliteQueue, alert: AlertId, attempt: &NewAttempt) -> Option<AttemptState> {
    let story = queue.show(alert).await.unwrap().unwrap();
    story.attempts.iter().find(|a| a.id == attempt.id).map(|a| a.state)
}

#[tokio::test]
async fn a_row_that_can_not_be_begun_poisons_its_batch_and_nothing_is_written() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let ids = queue.submit(&[alert_to(1, "good"), alert_to(2, "bad")]).await.unwrap();
    let me = joined(&queue, LONG).await;
    by_hand(
        &path,
        "CREATE TRIGGER refuse BEFORE INSERT ON attempt WHEN new.recipient = '+4790000002'
         BEGIN SELECT raise(ABORT, 'not this number'); END",
    );
    let batch = [attempt_to(1, ids[0]), attempt_to(2, ids[1])];
    let told = queue.begin(me, &batch, &Known::default()).await;
    assert!(matches!(&told, Err(QueueError::Poisoned(why)) if why.contains("not this number")), "{told:?}");
    assert_eq!(state_of(&queue, ids[0], &batch[0]).await, None, "nothing of the batch was written");
    assert_eq!(queue.begin(me, &batch[..1], &Known::default()).await.unwrap(), [batch[0].id]);
    let told = queue.begin(me, &batch[1..], &Known::default()).await;
    assert!(matches!(told, Err(QueueError::Poisoned(_))), "{told:?}");
}

#[tokio::test]
async fn a_row_that_can_not_be_settled_poisons_its_batch_and_no_other_caller() {
    let (_dir, path) = place();
    let queue = Arc::new(create(&path).await);
    let ids = queue.submit(&[alert_to(1, "good"), alert_to(2, "bad")]).await.unwrap();
    let me = joined(&*queue, LONG).await;
    let batch = [attempt_to(1, ids[0]), attempt_to(2, ids[1])];
    assert_eq!(queue.begin(me, &batch, &Known::default()).await.unwrap().len(), 2);
    // It ends the whole transaction, in which others stand as well.
    by_hand(
        &path,
        "CREATE TRIGGER refuse BEFORE UPDATE ON alert WHEN new.text = 'bad'
         BEGIN SELECT raise(ROLLBACK, 'not this row'); END",
    );
    let settlements = batch.each_ref().map(|a| closing(a, AttemptState::Accepted, "accepted"));
    let mut others = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (queue, settlements) = (Arc::clone(&queue), settlements.clone());
        others.spawn(async move {
            if n % 5 == 0 {
                let told = queue.settle(me, &settlements).await;
                assert!(matches!(told, Err(QueueError::Poisoned(_))), "{told:?}");
            } else {
                queue.submit(&[alert_to(n, "another's")]).await.unwrap();
            }
        });
    }
    others.join_all().await;
    assert_eq!(state_of(&queue, ids[0], &batch[0]).await, Some(AttemptState::Open));
    assert_eq!(queue.depth().await.unwrap().alerts(), 42, "all that others handed in, and the two");
    assert_eq!(queue.settle(me, &settlements[..1]).await.unwrap(), Default::default());
    assert_eq!(state_of(&queue, ids[0], &batch[0]).await, Some(AttemptState::Accepted));
}

#[tokio::test]
async fn a_submission_that_the_file_refuses_costs_no_other_of_its_call() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    by_hand(
        &path,
        "CREATE TRIGGER refuse BEFORE INSERT ON alert WHEN new.text = 'bad'
         BEGIN SELECT raise(ABORT, 'not this text'); END",
    );
    let submission = |key: &str, texts: &[&str]| Submission {
        key: Key { name: key.into(), kept: LONG },
        alerts: texts.iter().map(|text| alert(text)).collect(),
    };
    let all = [submission("1", &["good"]), submission("2", &["half", "bad"]), submission("3", &["good"])];
    let told = queue.enqueue(&all).await.unwrap();
    let [Submitted::Queued(_), Submitted::Unfit(why), Submitted::Queued(_)] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(why.contains("not this text"), "{why}");
    assert_eq!(queue.depth().await.unwrap().alerts(), 2, "half a submission is none");
}

/// Another program has the file for longer than the lease lasts: nobody could have written anything.
#[tokio::test]
async fn another_program_that_writes_for_long_costs_no_lease_and_leaves_no_doubt() {
    const TTL: Duration = Duration::from_millis(1500);
    let (_dir, path) = place();
    let queue = Arc::new(create(&path).await);
    let ids = queue.submit(&[alert_to(1, "on its way"), alert_to(2, "next")]).await.unwrap();
    let me = joined(&*queue, TTL).await;
    let on_its_way = attempt_to(1, ids[0]);
    queue.begin(me, std::slice::from_ref(&on_its_way), &Known::default()).await.unwrap();

    let holder = Connection::open(&path).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let renewing = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.renew(me, LONG, &Known::default()).await }
    });
    sleep(TTL + Duration::from_millis(500)).await;
    let doubting = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.doubts(me).await }
    });
    let settling = tokio::spawn({
        let (queue, refused) =
            (Arc::clone(&queue), closing(&on_its_way, AttemptState::Failed, "unavailable"));
        async move { queue.settle(me, &[refused]).await }
    });
    sleep(Duration::from_millis(200)).await;
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(doubting.await.unwrap().unwrap().len(), 0, "its own attempt is not in doubt");
    assert_eq!(settling.await.unwrap().unwrap(), Default::default(), "nothing is superseded");
    renewing.await.unwrap().expect("what was asked in time is granted");
    assert_eq!(state_of(&queue, ids[0], &on_its_way).await, Some(AttemptState::Failed));
    let next = attempt_to(2, ids[1]);
    assert_eq!(queue.begin(me, std::slice::from_ref(&next), &Known::default()).await.unwrap(), [next.id]);
}

/// A gateway was away for longer than `autocancel`, or smsd was installed on an old table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_too_old_alerts_hold_up_neither_an_urgent_one_nor_a_begin() {
    const OLD: usize = 1_000_000;
    let (_dir, path) = place();
    let queue = Arc::new(create(&path).await);
    many_old(&path, OLD);
    let urgent = NewAlert { severity: Severity(Some(4)), ..alert_to(1, "urgent") };
    let urgent = queue.submit(&[urgent]).await.unwrap();
    let me = joined(&*queue, LONG).await;
    let before = peak_memory();

    let begun = Instant::now();
    let claimed = queue.claim(Look::Full { after: None }, 4_000, Some(&a_day())).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(claimed.iter().map(|a| a.id).collect::<Vec<_>>(), urgent, "what is too old is left out");
    assert!(took < Duration::from_secs(2), "the urgent one was claimed after {took:?}");

    let expiring = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move {
            for _ in 0..20 {
                assert_eq!(queue.expire(&a_day()).await.unwrap().len(), EXPIRED_AT_ONCE);
            }
        }
    });
    let mut longest = Duration::ZERO;
    let mut n = 0;
    while !expiring.is_finished() {
        n += 1;
        let ids = queue.submit(&[alert_to(n, "new")]).await.unwrap();
        let begun = Instant::now();
        let new = attempt_to(n, ids[0]);
        assert_eq!(queue.begin(me, std::slice::from_ref(&new), &Known::default()).await.unwrap(), [new.id]);
        longest = longest.max(begun.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    expiring.await.unwrap();
    assert!(longest < Duration::from_millis(250), "a begin beside it took {longest:?}");
    assert!(peak_memory() - before < 64 << 10, "{} KiB more", peak_memory() - before);
    let waiting = queue.depth().await.unwrap().alerts();
    assert_eq!(waiting, (OLD - 20 * EXPIRED_AT_ONCE + 1 + n) as u64);
}

/// In KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// By another process, as `smsd --cancel` is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_very_many_lets_others_write_in_between() {
    const WAITING: usize = 60_000;
    let (_dir, path) = place();
    let (daemon, other) = (create(&path).await, create(&path).await);
    let me = joined(&daemon, LONG).await;
    many_old(&path, WAITING);
    let cancelling = tokio::spawn(async move { other.cancel(&Which::All, "ann").await.unwrap() });
    let (mut longest, mut n) = (Duration::ZERO, 0);
    while !cancelling.is_finished() {
        n += 1;
        let begun = Instant::now();
        let ids = daemon.submit(&[alert_to(n, "new")]).await.unwrap();
        let new = attempt_to(n, ids[0]);
        daemon.begin(me, std::slice::from_ref(&new), &Known::default()).await.unwrap();
        longest = longest.max(begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    let done = cancelling.await.unwrap();
    assert!(longest < Duration::from_millis(1500), "an alert was handed in and begun in {longest:?}");
    assert!(n > 5, "it was over too soon to show anything");
    let expected = daemon.stats().await.unwrap().ignored as usize;
    let all = done.cancelled.len() + done.more_cancelled as usize;
    assert!(all >= WAITING && all == expected && done.cancelled.len() == 1_000, "{all} of {expected}");
    assert!(done.cancelled.is_sorted());
}

/// Those of a later page must not wait, free to be sent, until it is their turn.
#[tokio::test]
async fn an_sms_that_is_cancelled_frees_none_of_its_alerts_that_are_meant_too() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let alerts: Vec<NewAlert> = (0..1_500).map(|i| alert(&format!("alert {i}"))).collect();
    let ids = queue.submit(&alerts).await.unwrap();
    let me = joined(&queue, LONG).await;
    let doubt = NewAttempt { carried: ids.clone(), ..attempt(&[]) };
    queue.begin(me, std::slice::from_ref(&doubt), &Known::default()).await.unwrap();
    queue.settle(me, &[closing(&doubt, AttemptState::Held, "unknown")]).await.unwrap();
    assert_eq!(queue.cancel(&Which::Ids(ids.clone()), "ann").await.unwrap().cancelled, ids);
    // A verb reads the clock once in each transaction.
    let times = "SELECT count(DISTINCT at) FROM note";
    let times: i64 = Connection::open(&path).unwrap().query_row(times, [], |row| row.get(0)).unwrap();
    assert_eq!(times, 1, "one transaction ended them all");
    assert_eq!(queue.audit().await.unwrap().offenders, []);
}

#[tokio::test]
async fn cancelling_what_the_guard_holds_gets_past_alerts_whose_rows_are_gone() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    let alerts: Vec<NewAlert> = (0..200).map(|n| alert_to(n, "held")).collect();
    let ids = queue.submit(&alerts).await.unwrap();
    let me = joined(&queue, LONG).await;
    let all = Suspects { until: jiff::Timestamp::MAX, after: AlertId(0), limit: 1_000 };
    assert_eq!(queue.hold(me, &all, "from the past").await.unwrap().alerts, 200);
    by_hand(&path, "DELETE FROM alert WHERE id <= 100");
    let mut cancelled = Vec::new();
    for _ in 0..10 {
        let held = queue.suspected(100).await.unwrap();
        if held.is_empty() {
            break;
        }
        cancelled.extend(queue.cancel(&Which::Ids(held), "ann").await.unwrap().cancelled);
    }
    assert_eq!(queue.suspected(100).await.unwrap(), [], "nothing is held any more");
    assert_eq!(cancelled, ids[100..]);
}

#[tokio::test]
async fn a_claim_takes_no_more_of_a_text_than_an_sms_can_carry() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    by_hand(
        &path,
        "INSERT INTO alert (phone, text) VALUES ('+4799999999', 'é' || printf('%.*c', 5000000, 'x'))",
    );
    let claimed = queue.claim(Look::Full { after: None }, 10, None).await.unwrap();
    assert_eq!(claimed[0].text.chars().count(), TEXT_CLAIMED);
    assert!(claimed[0].text.starts_with("éx") && claimed[0].text.capacity() < 2 * TEXT_CLAIMED);
    assert_eq!(
        queue.show(claimed[0].id).await.unwrap().unwrap().alert.text.len(),
        5_000_002,
        "people see all"
    );
}

#[tokio::test]
async fn an_old_row_that_the_file_will_not_change_keeps_no_other_from_expiring() {
    let (_dir, path) = place();
    let queue = create(&path).await;
    many_old(&path, 1_200);
    by_hand(
        &path,
        "CREATE TRIGGER refuse BEFORE UPDATE ON alert WHEN new.id % 3 = 0
         BEGIN SELECT raise(ABORT, 'not this row'); END",
    );
    let ended = queue.expire(&a_day()).await.unwrap();
    assert_eq!(ended.len(), 800);
    assert!(ended.iter().all(|id| id.0 % 3 != 0));
    assert_eq!(queue.show(AlertId(1)).await.unwrap().unwrap().alert.reason, Some(Reason::Expired));
    assert_eq!(queue.audit().await.unwrap().offenders, []);
}
