//! What begins is owned, durable and alone; what does not begin leaves no trace.

use super::*;
use smsd::queue::QueueError;
use std::collections::HashMap;
use tokio::time::sleep;

const OTHER: &str = "+4788888888";

async fn begin(queue: &dyn Queue, owner: Uuid, attempts: &[&NewAttempt]) -> Vec<Uuid> {
    let attempts: Vec<NewAttempt> = attempts.iter().map(|a| (*a).clone()).collect();
    queue.begin(owner, &attempts, &Known::default()).await.unwrap()
}

async fn no_trace(queue: &dyn Queue, attempt: &NewAttempt) {
    for id in attempt.carried.iter().chain(&attempt.counted) {
        if let Some(story) = queue.show(*id).await.unwrap() {
            assert!(story.attempts.iter().all(|a| a.id != attempt.id), "{story:#?}");
        }
    }
}

pub async fn what_is_begun_is_on_record<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let new = NewAttempt {
        counted: vec![ids[2]],
        number: 4,
        possible_duplicate: true,
        text: "é 'quoted'; --".into(),
        ..attempt(PHONE, &ids[..2])
    };
    assert_eq!(begin(&*q, me, &[&new]).await, [new.id]);
    for id in &ids {
        let row = record(&*other, *id, new.id).await.expect("durable, for every handle");
        assert_eq!((row.id, row.number, row.state), (new.id, 4, AttemptState::Open));
        assert_eq!((row.recipient.as_str(), row.text.as_str()), (PHONE, "é 'quoted'; --"));
        assert_eq!(row.dispatcher, "gateway");
        assert!(row.possible_duplicate && !row.instance.is_empty());
        assert_eq!((row.resend_of, row.ended_at, row.class), (None, None, None));
        assert_eq!((row.carried, row.counted), (ids[..2].to_vec(), ids[2..].to_vec()));
    }
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Waiting, None));
    clean(&*q).await;
}

pub async fn an_alert_stands_in_one_unresolved_attempt<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 2).await;
    let (me, rival) = (joined(&*q, LONG).await, joined(&*other, LONG).await);
    let first = begun(&*q, me, PHONE, &ids).await;
    for unresolved in [AttemptState::Open, AttemptState::InDoubt, AttemptState::Held] {
        if unresolved != AttemptState::Open {
            settled(&*q, me, close(&first, unresolved, "unknown")).await;
        }
        let second = attempt(OTHER, &ids[..1]);
        assert_eq!(begin(&*other, rival, &[&second]).await, NONE, "{unresolved:?}");
        no_trace(&*q, &second).await;
    }
    settled(&*q, me, accept(&first)).await;
    clean(&*q).await;
}

pub async fn a_counted_alert_is_held_too<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let first = NewAttempt { counted: vec![ids[1]], ..attempt(PHONE, &ids[..1]) };
    assert_eq!(begin(&*q, me, &[&first]).await, [first.id]);
    let carries = attempt(OTHER, &ids[1..2]);
    let counts = NewAttempt { counted: vec![ids[1]], ..attempt(OTHER, &ids[2..]) };
    assert_eq!(begin(&*q, me, &[&carries]).await, NONE);
    assert_eq!(begin(&*q, me, &[&counts]).await, NONE);
    no_trace(&*q, &carries).await;
    no_trace(&*q, &counts).await;
    clean(&*q).await;
}

pub async fn one_alert_twice_in_a_batch_goes_once<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let (first, second) = (attempt(PHONE, &ids), attempt(OTHER, &ids));
    let owned = begin(&*q, me, &[&first, &second]).await;
    assert_eq!(owned.len(), 1);
    assert_eq!(story(&*q, ids[0]).await.attempts.len(), 1);
    clean(&*q).await;
}

pub async fn a_recipient_has_one_open_attempt<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 3).await;
    let (me, rival) = (joined(&*q, LONG).await, joined(&*other, LONG).await);
    let first = begun(&*q, me, PHONE, &ids[..1]).await;
    let second = attempt(PHONE, &ids[1..2]);
    assert_eq!(begin(&*other, rival, &[&second]).await, NONE);
    no_trace(&*q, &second).await;
    assert_eq!(claimed_ids(&*q).await, ids[1..]);

    settled(&*q, me, close(&first, AttemptState::InDoubt, "unknown")).await;
    assert_eq!(begin(&*other, rival, &[&second]).await, [second.id], "doubt does not hold up its recipient");
    let third = attempt(PHONE, &ids[2..]);
    assert_eq!(begin(&*q, me, &[&third]).await, NONE);
    clean(&*q).await;
}

pub async fn what_no_longer_waits_is_not_owned<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 5).await;
    let me = joined(&*q, LONG).await;
    f.meddle(ids[0], Meddling::Delete).await;
    f.meddle(ids[1], Meddling::Sent).await;
    f.meddle(ids[2], Meddling::Ignored).await;
    for gone in &ids[..3] {
        for new in [
            attempt(PHONE, &[*gone]),
            attempt(PHONE, &[ids[3], *gone]),
            NewAttempt { counted: vec![*gone], ..attempt(PHONE, &[ids[4]]) },
        ] {
            assert_eq!(begin(&*q, me, &[&new]).await, NONE);
            no_trace(&*q, &new).await;
        }
    }
    assert_eq!(claimed_ids(&*q).await, ids[3..], "what did not begin holds nothing");
    begun(&*q, me, PHONE, &ids[3..]).await;
}

pub async fn the_rest_of_a_batch_is_owned<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 4).await;
    let me = joined(&*q, LONG).await;
    f.meddle(ids[1], Meddling::Delete).await;
    let numbers = ["+4790000000", "+4790000001", "+4790000002", "+4790000003"];
    let batch: Vec<NewAttempt> = (0..4).map(|i| attempt(numbers[i], &ids[i..=i])).collect();
    let mut owned = q.begin(me, &batch, &Known::default()).await.unwrap();
    owned.sort();
    assert_eq!(owned, [batch[0].id, batch[2].id, batch[3].id]);
    no_trace(&*q, &batch[1]).await;
    assert_eq!(q.begin(me, &[], &Known::default()).await.unwrap(), NONE);
    clean(&*q).await;
}

pub async fn a_repeated_begin_finds_what_it_did<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let (one, two) = (attempt(PHONE, &ids[..1]), attempt(OTHER, &ids[1..2]));
    let owned = begin(&*q, me, &[&one, &two]).await;
    assert_eq!(owned.len(), 2);
    assert_eq!(begin(&*q, me, &[&one, &two]).await, owned);
    let three = attempt("+4777777777", &ids[2..]);
    assert_eq!(begin(&*q, me, &[&one, &three]).await.len(), 2);
    assert_eq!(story(&*q, ids[0]).await.attempts.len(), 1);

    let rival = joined(&*q, LONG).await;
    assert_eq!(begin(&*q, rival, &[&one]).await, NONE, "another's attempt is not ours");
    clean(&*q).await;
}

pub async fn a_repeated_begin_does_not_reopen<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let closed = begun(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, close(&closed, AttemptState::Failed, "unavailable")).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[1..]).await;
    assert_eq!(begin(&*q, me, &[&closed, &doubt]).await, NONE);
    assert_eq!(attempt_state(&*q, &closed).await, Some(AttemptState::Failed));
    assert_eq!(attempt_state(&*q, &doubt).await, Some(AttemptState::InDoubt));
    clean(&*q).await;
}

pub async fn without_a_lease_nothing_is_written<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let new = attempt(PHONE, &ids);
    let expired = joined(&*q, SHORT).await;
    sleep(PAST_SHORT).await;
    for nobody in [expired, Uuid::now_v7()] {
        let lost = q.begin(nobody, std::slice::from_ref(&new), &Known::default()).await;
        assert!(matches!(lost, Err(QueueError::LeaseLost)), "{lost:?}");
    }
    no_trace(&*q, &new).await;
    assert_eq!(claimed_ids(&*q).await, ids);
}

pub async fn a_resend_closes_what_it_repeats<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let old = NewAttempt { counted: vec![ids[1]], ..attempt(PHONE, &ids[..1]) };
    assert_eq!(begin(&*q, me, &[&old]).await, [old.id]);
    settled(&*q, me, close(&old, AttemptState::InDoubt, "unknown")).await;
    let new = resend(&old);
    assert_eq!(begin(&*q, me, &[&new]).await, [new.id]);

    let before = record(&*q, ids[0], old.id).await.unwrap();
    assert_eq!(before.state, AttemptState::Resent);
    assert!(before.ended_at.is_some());
    let after = record(&*q, ids[0], new.id).await.unwrap();
    assert_eq!((after.state, after.resend_of), (AttemptState::Open, Some(old.id)));
    assert!(after.possible_duplicate);
    assert_eq!(q.doubts(me).await.unwrap().len(), 0);
    assert_eq!(claimed_ids(&*q).await, []);
    settled(&*q, me, accept(&new)).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));
    assert_eq!(state(&*q, ids[1]).await, (AlertState::Ignored, Some(Reason::Squeezed)));
    clean(&*q).await;
}

pub async fn a_held_attempt_can_be_resent<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let old = doubtful(&*q, me, PHONE, &ids).await;
    settled(&*q, me, close(&old, AttemptState::Held, "unknown")).await;
    let new = resend(&old);
    let person = joined(&*q, LONG).await;
    assert_eq!(begin(&*q, person, &[&new]).await, [new.id]);
    settled(&*q, person, accept(&new)).await;
    clean(&*q).await;
}

pub async fn only_doubt_is_resent_and_only_once<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;

    let open = begun(&*q, me, PHONE, &ids[..1]).await;
    let early = NewAttempt { recipient: phone(OTHER), ..resend(&open) };
    assert_eq!(begin(&*q, me, &[&early]).await, NONE, "it is still being made");
    settled(&*q, me, close(&open, AttemptState::Failed, "unavailable")).await;
    assert_eq!(begin(&*q, me, &[&resend(&open)]).await, NONE, "a failure is retried, not resent");
    assert_eq!(attempt_state(&*q, &open).await, Some(AttemptState::Failed));

    let old = doubtful(&*q, me, PHONE, &ids[1..]).await;
    let (first, second) = (resend(&old), NewAttempt { recipient: phone(OTHER), ..resend(&old) });
    let owned = begin(&*q, me, &[&first, &second]).await;
    assert_eq!(owned.len(), 1, "{owned:?}");
    assert_eq!(begin(&*q, me, &[&resend(&old)]).await, NONE);
    let unknown = NewAttempt { resend_of: Some(Uuid::now_v7()), ..attempt(OTHER, &ids[..1]) };
    assert_eq!(begin(&*q, me, &[&unknown]).await, NONE);
    clean(&*q).await;
}

pub async fn a_resend_carries_the_same_alerts<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let old = doubtful(&*q, me, PHONE, &ids[..2]).await;
    for carried in [vec![ids[0]], vec![ids[0], ids[1], ids[2]], vec![ids[2]]] {
        let other = NewAttempt { carried, ..resend(&old) };
        assert_eq!(begin(&*q, me, &[&other]).await, NONE);
        no_trace(&*q, &other).await;
    }
    assert_eq!(attempt_state(&*q, &old).await, Some(AttemptState::InDoubt));
    assert_eq!(claimed_ids(&*q).await, ids[2..]);
    let same = resend(&old);
    assert_eq!(begin(&*q, me, &[&same]).await, [same.id]);
    clean(&*q).await;
}

pub async fn a_refused_resend_leaves_the_doubt_as_it_was<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let old = doubtful(&*q, me, PHONE, &ids[..2]).await;
    let busy = begun(&*q, me, PHONE, &ids[2..]).await;
    let new = resend(&old);
    assert_eq!(begin(&*q, me, &[&new]).await, NONE, "its recipient has an open attempt");
    no_trace(&*q, &new).await;
    assert_eq!(attempt_state(&*q, &old).await, Some(AttemptState::InDoubt));
    settled(&*q, me, accept(&busy)).await;

    f.meddle(ids[0], Meddling::Delete).await;
    assert_eq!(begin(&*q, me, &[&new]).await, NONE, "one of its alerts is gone");
    assert_eq!(state(&*q, ids[1]).await, (AlertState::InDoubt, None));
    assert_eq!(q.doubts(me).await.unwrap().len(), 1);
    assert_eq!(claimed_ids(&*q).await, [], "what is in doubt stays in doubt");
}

pub async fn a_repeated_resend_finds_what_it_did<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let new = resend(&doubtful(&*q, me, PHONE, &ids).await);
    assert_eq!(begin(&*q, me, &[&new]).await, [new.id]);
    assert_eq!(begin(&*q, me, &[&new]).await, [new.id]);
    assert_eq!(story(&*q, ids[0]).await.attempts.len(), 2);
    clean(&*q).await;
}

/// Both handles try to begin an attempt for each of 500 alerts, each from several tasks.
pub async fn two_racing_handles_own_each_alert_once<F: Fixture>(f: &F) {
    const ALERTS: usize = 500;
    let number = |i: usize| format!("+47900{i:05}");
    let (q, other) = (f.queue(), f.second().await);
    let alerts: Vec<NewAlert> = (0..ALERTS).map(|i| new_alert(f, &number(i), "storm", Some(3))).collect();
    let ids = q.submit(&alerts).await.unwrap();

    let mut tasks = tokio::task::JoinSet::new();
    for handle in [q.clone(), other.clone()] {
        let owner = joined(&*handle, LONG).await;
        for task in 0..4 {
            let (handle, ids) = (handle.clone(), ids.clone());
            tasks.spawn(async move {
                let mut owned = Vec::new();
                for step in 0..ALERTS / 20 {
                    let page = (step + task * 7) % (ALERTS / 20) * 20;
                    let batch: Vec<NewAttempt> =
                        (page..page + 20).map(|i| attempt(&number(i), &[ids[i]])).collect();
                    let won = handle.begin(owner, &batch, &Known::default()).await.unwrap();
                    owned.extend(batch.into_iter().filter(|a| won.contains(&a.id)).map(|a| (a, owner)));
                    tokio::task::yield_now().await;
                }
                owned
            });
        }
    }
    let owned: Vec<(NewAttempt, Uuid)> = tasks.join_all().await.into_iter().flatten().collect();

    let mut times: HashMap<AlertId, usize> = HashMap::new();
    for (attempt, _) in &owned {
        *times.entry(attempt.carried[0]).or_default() += 1;
    }
    assert_eq!(times.len(), ALERTS, "every alert is owned");
    assert!(times.values().all(|n| *n == 1), "and by one attempt");
    assert_eq!(q.stats().await.unwrap().open, ALERTS as u64);
    for (attempt, owner) in &owned[..20] {
        settled(&*other, *owner, accept(attempt)).await;
    }
    clean(&*q).await;
}

pub async fn what_may_have_been_sent_goes_out_only_marked<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 2).await;
    let (me, rival) = (joined(&*q, LONG).await, joined(&*other, LONG).await);
    // The rival claimed before we failed.
    assert!(claimed(&*other).await.iter().all(|a| !a.maybe_sent));
    let failed = begun(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, close(&failed, AttemptState::Failed, "failed")).await;
    let unmarked = NewAttempt { counted: ids[..1].to_vec(), ..attempt(PHONE, &ids[1..]) };
    assert_eq!(begin(&*other, rival, &[&unmarked]).await, NONE);
    no_trace(&*q, &unmarked).await;
    let marked = NewAttempt { possible_duplicate: true, ..unmarked };
    assert_eq!(begin(&*other, rival, &[&marked]).await, [marked.id]);
    // To be given up and made to wait again changes nothing about that.
    let rejected = Settlement {
        verdicts: ids.iter().map(|id| (*id, Verdict::Ignored(Reason::Rejected))).collect(),
        ..close(&marked, AttemptState::Rejected, "rejected")
    };
    settled(&*other, rival, rejected).await;
    assert_eq!(q.requeue(&ids[..1], "smsd").await.unwrap(), ids[..1]);
    assert!(claimed(&*q).await.iter().all(|a| a.maybe_sent));
    let unmarked = NewAttempt { id: Uuid::now_v7(), ..attempt(PHONE, &ids[..1]) };
    assert_eq!(begin(&*q, me, &[&unmarked]).await, NONE);
    clean(&*q).await;
}
