//! An instance's life: leases, the dead and their doubts; and the wait for something new.

use super::*;
use smsd::queue::{Decision, News, Peers, QueueError, Which};
use tokio::time::{sleep, timeout};

pub async fn a_lease_lives_while_it_is_renewed<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, SHORT).await;
    for _ in 0..4 {
        sleep(SHORT / 3).await;
        q.renew(me, SHORT, &Known::default()).await.unwrap();
    }
    q.renew(me, LONG, &Known::default()).await.unwrap();
    sleep(PAST_SHORT).await;
    let ids = submitted(f, PHONE, 1).await;
    begun(&*q, me, PHONE, &ids).await;
}

pub async fn a_lease_that_ran_out_is_not_renewed<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, SHORT).await;
    sleep(PAST_SHORT).await;
    assert!(matches!(q.renew(me, LONG, &Known::default()).await, Err(QueueError::LeaseLost)));
    assert!(matches!(q.renew(Uuid::now_v7(), LONG, &Known::default()).await, Err(QueueError::LeaseLost)));
    joined(&*q, LONG).await;
}

pub async fn join_brings_attempts_of_the_expired_into_doubt<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 1).await;
    let dead = joined(&*q, SHORT).await;
    let lost = begun(&*q, dead, PHONE, &ids).await;
    sleep(PAST_SHORT).await;
    joined(&*other, LONG).await;
    assert_eq!(attempt_state(&*q, &lost).await, Some(AttemptState::InDoubt));
    assert_eq!(state(&*q, ids[0]).await, (AlertState::InDoubt, None));
    clean(&*q).await;
}

pub async fn join_brings_attempts_of_earlier_holders_of_our_lock_into_doubt<F: Fixture>(f: &F) {
    let (q, next) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 1).await;
    let killed = instance("boot-1 8:1 77");
    q.join(&killed, LONG, &Known::default()).await.unwrap();
    let lost = begun(&*q, killed.id, PHONE, &ids).await;

    let heir = instance("boot-1 8:1 77");
    next.join(&heir, LONG, &Known::default()).await.unwrap();
    assert_eq!(attempt_state(&*q, &lost).await, Some(AttemptState::InDoubt));
    assert!(
        matches!(q.renew(killed.id, LONG, &Known::default()).await, Err(QueueError::LeaseLost)),
        "the dead do not renew"
    );
    let doubts = next.doubts(heir.id).await.unwrap();
    assert_eq!(doubts.iter().map(|d| d.id).collect::<Vec<_>>(), [lost.id]);
}

pub async fn join_leaves_the_living_alone<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 1).await;
    let living = joined(&*q, LONG).await;
    let held = begun(&*q, living, PHONE, &ids).await;
    let newcomer = joined(&*other, LONG).await;
    assert_eq!(attempt_state(&*other, &held).await, Some(AttemptState::Open));
    assert_eq!(other.doubts(newcomer).await.unwrap().len(), 0);
    q.renew(living, LONG, &Known::default()).await.unwrap();
    settled(&*q, living, accept(&held)).await;
}

pub async fn a_repeated_join_changes_nothing<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = instance("lock");
    q.join(&me, LONG, &Known::default()).await.unwrap();
    let mine = begun(&*q, me.id, PHONE, &ids).await;
    q.join(&me, LONG, &Known::default()).await.unwrap();
    assert_eq!(attempt_state(&*q, &mine).await, Some(AttemptState::Open));
    settled(&*q, me.id, accept(&mine)).await;
}

pub async fn leave_brings_open_attempts_into_doubt<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let open = begun(&*q, me, PHONE, &ids[..1]).await;
    q.leave(me).await.unwrap();
    q.leave(me).await.unwrap();
    assert_eq!(attempt_state(&*q, &open).await, Some(AttemptState::InDoubt));
    assert!(matches!(q.renew(me, LONG, &Known::default()).await, Err(QueueError::LeaseLost)));
    let late = q.begin(me, &[attempt(PHONE, &ids[1..])], &Known::default()).await;
    assert!(matches!(late, Err(QueueError::LeaseLost)), "{late:?}");
}

pub async fn doubts_are_our_own_and_those_of_the_gone<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 4).await;
    let (me, living) = (joined(&*q, LONG).await, joined(&*q, LONG).await);
    let (gone, expiring) = (joined(&*q, LONG).await, joined(&*q, SHORT).await);
    let mine = doubtful(&*q, me, PHONE, &ids[..1]).await;
    let theirs = doubtful(&*q, living, PHONE, &ids[1..2]).await;
    let left = doubtful(&*q, gone, PHONE, &ids[2..3]).await;
    let open = begun(&*q, expiring, PHONE, &ids[3..]).await;
    q.leave(gone).await.unwrap();

    let seen = async |who| -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = q.doubts(who).await.unwrap().iter().map(|d| d.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(seen(me).await, [mine.id, left.id]);
    sleep(PAST_SHORT).await;
    assert_eq!(seen(me).await, [mine.id, left.id, open.id], "the expired are brought into doubt first");
    assert_eq!(seen(living).await, [theirs.id, left.id, open.id]);

    settled(&*q, me, close(&mine, AttemptState::Held, "unknown")).await;
    assert_eq!(seen(me).await, [left.id, open.id], "what is held waits for a person");
    clean(&*q).await;
}

pub async fn doubts_tell_all_that_a_resend_needs<F: Fixture>(f: &F) {
    let q = f.queue();
    let mut ids = vec![f.insert(PHONE, "none", Severity(None), Duration::ZERO).await];
    ids.push(f.insert(PHONE, "four", Severity(Some(4)), Duration::ZERO).await);
    ids.push(f.insert(PHONE, "two", Severity(Some(2)), Duration::ZERO).await);
    let me = joined(&*q, LONG).await;
    let first = NewAttempt {
        counted: ids[1..].to_vec(),
        number: 3,
        possible_duplicate: true,
        ..attempt(PHONE, &ids[..1])
    };
    assert_eq!(q.begin(me, std::slice::from_ref(&first), &Known::default()).await.unwrap(), [first.id]);
    settled(&*q, me, close(&first, AttemptState::InDoubt, "unknown")).await;
    sleep(Duration::from_millis(50)).await;

    let doubts = q.doubts(me).await.unwrap();
    let [doubt] = doubts.as_slice() else { panic!("{doubts:?}") };
    assert_eq!(doubt.id, first.id);
    assert_eq!(doubt.recipient, first.recipient);
    assert_eq!(doubt.text, first.text);
    assert_eq!(doubt.dispatcher, first.dispatcher);
    assert_eq!((doubt.number, doubt.possible_duplicate), (3, true));
    assert_eq!(doubt.severity, Severity(Some(2)), "the most severe of its alerts");
    assert_eq!((&doubt.carried, &doubt.counted), (&first.carried, &first.counted));
    assert!(doubt.age >= Duration::from_millis(45) && doubt.age < Duration::from_secs(60), "{:?}", doubt.age);
}

/// A queue may say that it has no others.
pub async fn peers_are_those_whose_lease_is_good<F: Fixture>(f: &F) {
    let q = f.queue();
    let one = joined(&*q, LONG).await;
    assert_eq!(q.peers(one).await.unwrap(), Peers { rank: 0, of: 1 });
    let (two, three) = (joined(&*q, LONG).await, joined(&*q, LONG).await);
    let mut ranks = Vec::new();
    for id in [one, two, three] {
        let peers = q.peers(id).await.unwrap();
        if peers == Peers::default() && ranks.is_empty() {
            return;
        }
        assert_eq!(peers.of, 3);
        ranks.push(peers.rank);
    }
    ranks.sort_unstable();
    assert_eq!(ranks, [0, 1, 2], "each its own");
    q.leave(two).await.unwrap();
    assert_eq!(q.peers(three).await.unwrap().of, 2);
}

pub async fn wait_notices_a_submit_here<F: Fixture>(f: &F) {
    let q = f.queue();
    while timeout(Duration::from_millis(400), q.wait()).await.is_ok() {}
    let waiting = tokio::spawn({
        let q = q.clone();
        async move { q.wait().await }
    });
    sleep(Duration::from_millis(20)).await;
    submitted(f, PHONE, 1).await;
    timeout(Duration::from_secs(5), waiting).await.expect("the wait ends").unwrap();
}

pub async fn wait_notices_a_submit_before_it<F: Fixture>(f: &F) {
    let q = f.queue();
    while timeout(Duration::from_millis(400), q.wait()).await.is_ok() {}
    submitted(f, PHONE, 1).await;
    timeout(Duration::from_secs(5), q.wait()).await.expect("a submit between two waits is not missed");
}

pub async fn wait_waits_when_there_is_nothing<F: Fixture>(f: &F) {
    let q = f.queue();
    submitted(f, PHONE, 1).await;
    for _ in 0..10 {
        if timeout(Duration::from_millis(400), q.wait()).await.is_err() {
            return;
        }
    }
    panic!("wait returned ten times for nothing");
}

pub async fn wait_tells_new_alerts_from_those_that_wait_again<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let me = joined(&*q, LONG).await;
    let ids = submitted(f, PHONE, 4).await;
    doubtful(&*q, me, PHONE, &ids[..1]).await;
    let sent = begun(&*q, me, PHONE, &ids[1..2]).await;
    settled(&*q, me, accept(&sent)).await;
    doubtful(&*q, me, PHONE, &ids[2..]).await;
    let quiet = async || while timeout(Duration::from_millis(400), q.wait()).await.is_ok() {};
    let next = async || timeout(Duration::from_secs(5), q.wait()).await.expect("the wait ends");

    quiet().await;
    other.resolve(&ids[..1], Decision::Resend, "ann").await.unwrap();
    assert_eq!(next().await, News::Freed);
    quiet().await;
    other.requeue(&ids[1..2], "ann").await.unwrap();
    assert_eq!(next().await, News::Freed);
    quiet().await;
    other.cancel(&Which::Ids(vec![ids[2]]), "ann").await.unwrap();
    assert_eq!(next().await, News::Freed, "the companion of what is cancelled waits again");
    quiet().await;
    quiet().await;
    other.submit(&[new_alert(f, PHONE, "new", None)]).await.unwrap();
    assert_eq!(next().await, News::Submitted);
}
