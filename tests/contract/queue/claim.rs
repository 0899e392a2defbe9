//! What may be claimed, in which order.

use super::*;
use smsd::queue::{Decision, Place, Which};

fn place(alert: &Alert) -> Place {
    Place { severity: alert.severity, id: alert.id }
}

pub async fn most_severe_first_then_oldest<F: Fixture>(f: &F) {
    let q = f.queue();
    let mut ids = Vec::new();
    for severity in [None, Some(5), Some(1), Some(i32::MAX), Some(3), Some(1), None, Some(-2)] {
        ids.push(f.insert(PHONE, "text", Severity(severity), Duration::ZERO).await);
    }
    let expected: Vec<AlertId> = [7, 2, 5, 4, 1, 3, 0, 6].into_iter().map(|i| ids[i]).collect();
    assert_eq!(claimed_ids(&*q).await, expected);
    let top = q.claim(Look::Full { after: None }, 3, None).await.unwrap();
    assert_eq!(top.iter().map(|a| a.id).collect::<Vec<_>>(), expected[..3]);
    assert_eq!(q.claim(Look::Full { after: None }, 0, None).await.unwrap(), []);
}

pub async fn pages_join_without_gap_or_overlap<F: Fixture>(f: &F) {
    let q = f.queue();
    for i in 0..40 {
        let severity = [None, Some(1), Some(2), Some(2), Some(i32::MAX)][i % 5];
        f.insert(PHONE, "text", Severity(severity), Duration::ZERO).await;
    }
    let all = claimed(&*q).await;
    assert_eq!(all.len(), 40);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = q.claim(Look::Full { after }, 7, None).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(place(last));
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert!(paged.is_sorted_by_key(place));
}

pub async fn a_look_for_new_alerts_finds_them<F: Fixture>(f: &F) {
    let q = f.queue();
    let old = submitted(f, PHONE, 3).await;
    let none_seen = q.claim(Look::New { after: AlertId(0) }, 100, None).await.unwrap();
    assert_eq!(none_seen.iter().map(|a| a.id).collect::<Vec<_>>(), old);

    let least = f.insert(PHONE, "new", Severity(None), Duration::ZERO).await;
    let most = f.insert(PHONE, "new", Severity(Some(1)), Duration::ZERO).await;
    let new = q.claim(Look::New { after: old[2] }, 100, None).await.unwrap();
    let above: Vec<AlertId> = new.iter().map(|a| a.id).filter(|id| *id > old[2]).collect();
    assert_eq!(above, [most, least]);
    assert!(new.is_sorted_by_key(place));

    let above = q.claim(Look::New { after: most }, 100, None).await.unwrap();
    assert!(above.iter().all(|a| a.id <= most));

    let me = joined(&*q, LONG).await;
    begun(&*q, me, PHONE, &[most]).await;
    let new = q.claim(Look::New { after: old[2] }, 100, None).await.unwrap();
    assert!(new.iter().all(|a| a.id != most), "an alert in an open attempt is not new");
}

pub async fn what_stands_in_an_unresolved_attempt_is_not_claimed<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 4).await;
    let me = joined(&*q, LONG).await;
    let open = NewAttempt { counted: vec![ids[1]], ..attempt(PHONE, &ids[..1]) };
    assert_eq!(q.begin(me, std::slice::from_ref(&open), &Known::default()).await.unwrap(), [open.id]);
    assert_eq!(claimed_ids(&*q).await, ids[2..]);
    settled(&*q, me, close(&open, AttemptState::InDoubt, "unknown")).await;
    assert_eq!(claimed_ids(&*q).await, ids[2..]);
    settled(&*q, me, close(&open, AttemptState::Held, "unknown")).await;
    assert_eq!(claimed_ids(&*q).await, ids[2..]);

    let other = begun(&*q, me, PHONE, &ids[2..3]).await;
    settled(&*q, me, accept(&other)).await;
    assert_eq!(claimed_ids(&*q).await, ids[3..], "what was sent is not claimed");
}

pub async fn an_earlier_sms_may_have_carried_it<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 4).await;
    let me = joined(&*q, LONG).await;

    let sure = begun(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, close(&sure, AttemptState::Failed, "unavailable")).await;
    let unsure = begun(&*q, me, PHONE, &ids[1..2]).await;
    settled(&*q, me, close(&unsure, AttemptState::Failed, "failed")).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[2..3]).await;
    let again = resend(&doubt);
    assert_eq!(q.begin(me, std::slice::from_ref(&again), &Known::default()).await.unwrap(), [again.id]);
    settled(&*q, me, close(&again, AttemptState::Failed, "unavailable")).await;

    let seen: Vec<(AlertId, bool)> = claimed(&*q).await.iter().map(|a| (a.id, a.maybe_sent)).collect();
    assert_eq!(seen, [(ids[0], false), (ids[1], true), (ids[2], true), (ids[3], false)]);
    let new = q.claim(Look::New { after: AlertId(0) }, 100, None).await.unwrap();
    assert_eq!(new.iter().map(|a| (a.id, a.maybe_sent)).collect::<Vec<_>>(), seen);
}

pub async fn a_claim_tells_what_was_tried<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let tried = async || {
        let all = claimed(&*q).await;
        let fresh = |age: &Duration| *age < Duration::from_secs(60);
        assert!(all.iter().all(|a| a.tried.copies.iter().chain(&a.tried.failed).all(fresh)), "{all:?}");
        let of = |a: &Alert| {
            assert_eq!(a.tried.failed.is_some(), a.tried.failures > 0, "{a:?}");
            (a.tried.attempts, a.tried.failures, a.tried.copies.len())
        };
        all.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(tried().await, [(0, 0, 0); 3]);

    // What is only counted was not in the SMS that may have gone out, and has failed with it.
    for (number, settle) in [(1, close as fn(&_, _, _) -> _), (2, close), (3, |attempt, _, _| fail(attempt))]
    {
        let one = NewAttempt {
            number,
            counted: vec![ids[1]],
            possible_duplicate: number > 1,
            ..attempt(PHONE, &ids[..1])
        };
        assert_eq!(q.begin(me, std::slice::from_ref(&one), &Known::default()).await.unwrap(), [one.id]);
        settled(&*q, me, settle(&one, AttemptState::Failed, "failed")).await;
    }
    assert_eq!(tried().await, [(3, 1, 2), (3, 1, 0), (0, 0, 0)]);
    let new = q.claim(Look::New { after: AlertId(0) }, 100, None).await.unwrap();
    assert_eq!(new.iter().map(|a| a.tried.failures).collect::<Vec<_>>(), [1, 1, 0]);

    // A process that comes after finds the same.
    q.leave(me).await.unwrap();
    let me = joined(&*q, LONG).await;
    assert_eq!(tried().await, [(3, 1, 2), (3, 1, 0), (0, 0, 0)]);

    // Doubts that were resent may have been taken, too; and a person's word begins the account anew.
    let doubt = doubtful(&*q, me, PHONE, &ids[2..]).await;
    let again = resend(&doubt);
    assert_eq!(q.begin(me, std::slice::from_ref(&again), &Known::default()).await.unwrap(), [again.id]);
    settled(&*q, me, close(&again, AttemptState::Failed, "unavailable")).await;
    assert_eq!(tried().await[2].2, 1);
    let held = NewAttempt { possible_duplicate: true, ..attempt(PHONE, &ids[..1]) };
    assert_eq!(q.begin(me, std::slice::from_ref(&held), &Known::default()).await.unwrap(), [held.id]);
    settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
    tokio::time::sleep(Duration::from_millis(2)).await;
    q.resolve(&ids[..1], Decision::Resend, "ann").await.unwrap();
    q.cancel(&Which::Ids(ids[1..2].to_vec()), "ann").await.unwrap();
    q.requeue(&ids[1..2], "ann").await.unwrap();
    let all = claimed(&*q).await;
    assert_eq!(tried().await[..2], [(0, 0, 0); 2]);
    assert_eq!(all.iter().map(|a| a.maybe_sent).collect::<Vec<_>>(), [true, true, true]);
}

pub async fn an_alert_is_claimed_as_it_was_queued<F: Fixture>(f: &F) {
    let q = f.queue();
    let text = "l'été: \"50 €\" \\ % \n ' ; -- 😀";
    let id = f.insert("+47 (999) ABC", text, Severity(Some(3)), Duration::from_secs(3600)).await;
    let submitted = q.submit(&[new_alert(f, PHONE, text, None)]).await.unwrap();
    let all = claimed(&*q).await;
    assert_eq!(all.iter().map(|a| a.id).collect::<Vec<_>>(), [id, submitted[0]]);
    assert_eq!(all[0].phone, "+47 (999) ABC");
    assert_eq!(all[1].phone, PHONE);
    assert_eq!((all[0].severity, all[1].severity), (Severity(Some(3)), Severity(None)));
    assert!(all.iter().all(|a| a.text == text && !a.maybe_sent));
    let apart = all[1].queued_at.duration_since(all[0].queued_at).as_secs();
    assert!((3599..3660).contains(&apart), "{apart} s");
}
