//! The audit proves that every alert is accounted for, and names what is not.

use super::*;
use smsd::queue::{Audit, Offender, Which};

const OTHER: &str = "+4788888888";

/// The only offender.
async fn offender(queue: &dyn Queue) -> Offender {
    let audit = queue.audit().await.unwrap();
    let [offender] = audit.offenders.as_slice() else { panic!("one offender expected: {audit:#?}") };
    assert!(!offender.what.is_empty());
    offender.clone()
}

async fn sent<F: Fixture>(f: &F, n: usize) -> (Uuid, NewAttempt) {
    let q = f.queue();
    let ids = submitted(f, PHONE, n).await;
    let me = joined(&*q, LONG).await;
    let sms = begun(&*q, me, PHONE, &ids).await;
    settled(&*q, me, accept(&sms)).await;
    clean(&*q).await;
    (me, sms)
}

pub async fn an_empty_queue_is_clean<F: Fixture>(f: &F) {
    assert_eq!(f.queue().audit().await.unwrap(), Audit::default());
}

pub async fn a_regular_history_is_clean<F: Fixture>(f: &F) {
    let q = f.queue();
    let (me, _) = sent(f, 2).await;
    let ids = submitted(f, PHONE, 5).await;
    let squeezing = NewAttempt { counted: vec![ids[1]], ..attempt(PHONE, &ids[..1]) };
    q.begin(me, std::slice::from_ref(&squeezing), &Known::default()).await.unwrap();
    settled(&*q, me, accept(&squeezing)).await;
    q.cancel(&Which::Ids(vec![ids[2]]), "ann").await.unwrap();
    doubtful(&*q, me, PHONE, &ids[3..4]).await;
    let audit = q.audit().await.unwrap();
    assert_eq!(
        audit,
        Audit {
            alerts: 7,
            waiting: 2,
            sent: 3,
            ignored: 2,
            before_ledger: 0,
            unresolved: 1,
            possible_duplicates: 0,
            offenders: Vec::new(),
        }
    );
}

pub async fn sent_without_an_accepted_attempt<F: Fixture>(f: &F) {
    let q = f.queue();
    sent(f, 1).await;
    let ids = submitted(f, PHONE, 1).await;
    f.meddle(ids[0], Meddling::Sent).await;
    assert_eq!(offender(&*q).await.alert, Some(ids[0]));
}

pub async fn ignored_without_a_reason<F: Fixture>(f: &F) {
    let q = f.queue();
    sent(f, 1).await;
    let ids = submitted(f, PHONE, 2).await;
    q.cancel(&Which::Ids(vec![ids[0]]), "ann").await.unwrap();
    f.meddle(ids[1], Meddling::Ignored).await;
    assert_eq!(offender(&*q).await.alert, Some(ids[1]));
    assert_eq!(state(&*q, ids[1]).await, (AlertState::Ignored, None));
}

pub async fn waiting_though_an_accepted_attempt_carries_it<F: Fixture>(f: &F) {
    let q = f.queue();
    let (_, sms) = sent(f, 2).await;
    q.requeue(&sms.carried[..1], "ann").await.unwrap();
    clean(&*q).await;
    f.meddle(sms.carried[1], Meddling::Waiting).await;
    assert_eq!(offender(&*q).await.alert, Some(sms.carried[1]));
}

pub async fn unresolved_rows_that_point_nowhere<F: Fixture>(f: &F) {
    let q = f.queue();
    let (me, _) = sent(f, 1).await;
    let ids = submitted(f, PHONE, 2).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[..1]).await;
    doubtful(&*q, me, PHONE, &ids[1..]).await;
    f.orphan(doubt.id).await;
    let found = offender(&*q).await;
    assert!(found.attempt == Some(doubt.id) || found.alert == Some(ids[0]), "{found:?}");
}

pub async fn accepted_twice_without_the_mark<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let first = begun(&*q, me, PHONE, &ids).await;
    settled(&*q, me, close(&first, AttemptState::Failed, "unavailable")).await;
    let second = begun(&*q, me, OTHER, &ids).await;
    settled(&*q, me, accept(&second)).await;
    clean(&*q).await;
    let late = q.settle(me, &[accept(&first)]).await.unwrap();
    assert_eq!(late.superseded, NONE, "acceptance is a fact even if the gateway had said that it failed");
    assert_eq!(offender(&*q).await.alert, Some(ids[0]));
}

pub async fn accepted_twice_with_the_mark_is_on_record<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let old = doubtful(&*q, me, PHONE, &ids).await;
    let new = resend(&old);
    q.begin(me, std::slice::from_ref(&new), &Known::default()).await.unwrap();
    settled(&*q, me, accept(&new)).await;
    q.settle(me, &[accept(&old)]).await.unwrap();
    clean(&*q).await;
    let audit = q.audit().await.unwrap();
    assert_eq!((audit.sent, audit.possible_duplicates), (2, 2));
}

pub async fn deleted_rows_are_no_offence<F: Fixture>(f: &F) {
    let q = f.queue();
    let (me, sms) = sent(f, 2).await;
    f.meddle(sms.carried[0], Meddling::Delete).await;
    let ids = submitted(f, PHONE, 1).await;
    doubtful(&*q, me, PHONE, &ids).await;
    f.meddle(ids[0], Meddling::Delete).await;
    clean(&*q).await;
    assert_eq!(q.audit().await.unwrap().alerts, 1);
}
