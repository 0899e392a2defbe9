//! What a person decides of an SMS of which nobody knows whether it was taken.

use super::*;
use smsd::queue::{Age, Decision, Resolved, Which};

const BOTH: [Decision; 2] = [Decision::Accept, Decision::Resend];

/// Who did what to an alert, in order.
async fn notes(queue: &dyn Queue, id: AlertId) -> Vec<(String, String)> {
    story(queue, id).await.notes.into_iter().map(|n| (n.what, n.by)).collect()
}

async fn held(queue: &dyn Queue, owner: Uuid, to: &str, carried: &[AlertId]) -> NewAttempt {
    let attempt = doubtful(queue, owner, to, carried).await;
    settled(queue, owner, close(&attempt, AttemptState::Held, "unknown")).await;
    attempt
}

pub async fn accepting_sends_what_the_sms_carried<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    for hold in [false, true] {
        let ids = submitted(f, PHONE, 3).await;
        let sms = NewAttempt { counted: ids[2..].to_vec(), ..attempt(PHONE, &ids[..2]) };
        assert_eq!(q.begin(me, std::slice::from_ref(&sms), &Known::default()).await.unwrap(), [sms.id]);
        settled(&*q, me, close(&sms, AttemptState::InDoubt, "unknown")).await;
        if hold {
            settled(&*q, me, close(&sms, AttemptState::Held, "unknown")).await;
        }
        // Who decides for one decides for all that were in the SMS.
        let done = q.resolve(&ids[1..2], Decision::Accept, "ann").await.unwrap();
        assert_eq!(done, Resolved { decided: ids.clone(), untouched: Vec::new() });
        for id in &ids[..2] {
            assert_eq!(state(&*q, *id).await, (AlertState::Sent, None));
        }
        assert_eq!(state(&*q, ids[2]).await, (AlertState::Ignored, Some(Reason::Squeezed)));
        for id in &ids {
            assert_eq!(notes(&*q, *id).await, [("accepted".to_owned(), "ann".to_owned())]);
            assert!(story(&*q, *id).await.alert.ended_at.is_some());
        }
        let row = record(&*q, ids[0], sms.id).await.unwrap();
        assert_eq!((row.state, row.class.as_deref()), (AttemptState::Accepted, Some("accepted")));
        assert_eq!(row.detail.as_deref(), Some("ann accepted it; before: as told"));
        assert!(row.ended_at.is_some());
        assert_eq!(q.doubts(me).await.unwrap().len(), 0);
        clean(&*q).await;

        for decision in BOTH {
            let again = q.resolve(&ids, decision, "bob").await.unwrap();
            assert_eq!(again, Resolved { decided: Vec::new(), untouched: ids.clone() });
        }
        assert_eq!(notes(&*q, ids[0]).await.len(), 1);
        clean(&*q).await;
    }
    let stats = q.stats().await.unwrap();
    assert_eq!((stats.sent, stats.ignored, stats.sms, stats.in_doubt, stats.held), (4, 2, 2, 0, 0));
}

pub async fn released_alerts_wait_again_as_possible_duplicates<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let ids = submitted(f, PHONE, 3).await;
    let sms = NewAttempt { counted: ids[2..].to_vec(), ..attempt(PHONE, &ids[..2]) };
    assert_eq!(q.begin(me, std::slice::from_ref(&sms), &Known::default()).await.unwrap(), [sms.id]);
    settled(&*q, me, close(&sms, AttemptState::InDoubt, "unknown")).await;
    settled(&*q, me, close(&sms, AttemptState::Held, "unknown")).await;

    let done = q.resolve(&ids[2..], Decision::Resend, "ann").await.unwrap();
    assert_eq!(done, Resolved { decided: ids.clone(), untouched: Vec::new() });
    let waits: Vec<(AlertId, bool)> = claimed(&*q).await.iter().map(|a| (a.id, a.maybe_sent)).collect();
    assert_eq!(waits, [(ids[0], true), (ids[1], true), (ids[2], true)]);
    let row = record(&*q, ids[0], sms.id).await.unwrap();
    assert_eq!((row.state, row.class.as_deref()), (AttemptState::Failed, Some("failed")));
    assert_eq!(row.detail.as_deref(), Some("ann released it; before: as told"));
    assert_eq!(notes(&*q, ids[2]).await, [("released".to_owned(), "ann".to_owned())]);
    clean(&*q).await;

    for decision in BOTH {
        let again = q.resolve(&ids, decision, "bob").await.unwrap();
        assert_eq!(again, Resolved { decided: Vec::new(), untouched: ids.clone() });
    }
    let marked = NewAttempt { possible_duplicate: true, ..attempt(PHONE, &ids) };
    assert_eq!(q.begin(me, std::slice::from_ref(&marked), &Known::default()).await.unwrap(), [marked.id]);
    settled(&*q, me, accept(&marked)).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));
    clean(&*q).await;
}

pub async fn a_crash_leaves_a_doubt_that_a_person_can_decide<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    for (id, decision) in ids.iter().zip(BOTH) {
        let dead = joined(&*q, LONG).await;
        let sms = begun(&*q, dead, PHONE, &[*id]).await;
        q.leave(dead).await.unwrap();
        let done = q.resolve(&[*id], decision, "ann").await.unwrap();
        assert_eq!(done.decided, [*id]);
        let row = record(&*q, *id, sms.id).await.unwrap();
        let word = if decision == Decision::Accept { "ann accepted it" } else { "ann released it" };
        assert_eq!(row.detail.as_deref(), Some(word), "nothing was known before");
    }
    assert_eq!(claimed_ids(&*q).await, ids[1..]);
    clean(&*q).await;
}

pub async fn only_what_is_in_doubt_or_held_is_decided<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let mut ids = submitted(f, PHONE, 4).await;
    let sent = begun(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, accept(&sent)).await;
    q.cancel(&Which::Ids(vec![ids[1]]), "ann").await.unwrap();
    let open = begun(&*q, me, PHONE, &ids[2..3]).await;
    ids.push(AlertId(i64::from(i32::MAX)));
    for decision in BOTH {
        let done = q.resolve(&ids, decision, "bob").await.unwrap();
        assert_eq!(done, Resolved { decided: Vec::new(), untouched: ids.clone() });
        assert_eq!(q.resolve(&[], decision, "bob").await.unwrap(), Resolved::default());
    }
    assert_eq!(attempt_state(&*q, &open).await, Some(AttemptState::Open));
    assert_eq!(claimed_ids(&*q).await, [ids[3]]);
    for (id, n) in ids.iter().zip([0, 1, 0, 0]) {
        assert_eq!(story(&*q, *id).await.notes.len(), n);
    }
    settled(&*q, me, accept(&open)).await;
    clean(&*q).await;
}

pub async fn a_late_answer_changes_no_decision_but_a_release<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let ids = submitted(f, PHONE, 2).await;
    let accepted = held(&*q, me, PHONE, &ids[..1]).await;
    let released = held(&*q, me, PHONE, &ids[1..]).await;
    assert_eq!(q.resolve(&ids[..1], Decision::Accept, "ann").await.unwrap().decided, ids[..1]);
    assert_eq!(q.resolve(&ids[1..], Decision::Resend, "ann").await.unwrap().decided, ids[1..]);

    for attempt in [&accepted, &released] {
        for late in [AttemptState::Rejected, AttemptState::InDoubt, AttemptState::Held] {
            let done = q.settle(me, &[close(attempt, late, "rejected")]).await.unwrap();
            assert_eq!(done.superseded, [attempt.id], "{late:?}");
        }
    }
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));
    assert_eq!(claimed_ids(&*q).await, ids[1..]);
    // That it was taken is a fact, whoever says so last.
    for attempt in [&accepted, &released] {
        settled(&*q, me, accept(attempt)).await;
    }
    assert_eq!(state(&*q, ids[1]).await, (AlertState::Sent, None));
    assert_eq!(claimed_ids(&*q).await, []);
    clean(&*q).await;
}

/// Whoever is first wins: the attempt is repeated, or decided, never both.
pub async fn a_decision_races_a_resend<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let me = joined(&*q, LONG).await;
    let mut resent = Vec::new();
    for n in 0..24 {
        let number = format!("+47900000{n:02}");
        let ids = submitted(f, &number, 2).await;
        let old = held(&*q, me, &number, &ids).await;
        let new = resend(&old);
        let decision = BOTH[n % 2];
        let begin = async {
            // The first few are sure to come late, the next few to come early.
            if n < 4 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            q.begin(me, std::slice::from_ref(&new), &Known::default()).await.unwrap()
        };
        let decide = async {
            if (4..8).contains(&n) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other.resolve(&ids[..1], decision, "ann").await.unwrap()
        };
        let (owned, done) = tokio::join!(begin, decide);
        match owned.is_empty() {
            true => assert_eq!(done.decided, ids),
            false => {
                assert_eq!(done, Resolved { decided: Vec::new(), untouched: ids[..1].to_vec() });
                assert_eq!(attempt_state(&*q, &old).await, Some(AttemptState::Resent));
                resent.push(new);
            }
        }
        clean(&*q).await;
        // Decided is decided: no later resend comes through either.
        assert_eq!(q.begin(me, &[resend(&old)], &Known::default()).await.unwrap(), NONE);
    }
    assert!((4..=20).contains(&resent.len()), "{} of 24", resent.len());
    for sms in &resent {
        settled(&*q, me, accept(sms)).await;
    }
    clean(&*q).await;
}

pub async fn a_decision_leaves_what_changed_under_us<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    for decision in BOTH {
        let ids = submitted(f, PHONE, 3).await;
        let sms = held(&*q, me, PHONE, &ids).await;
        f.meddle(ids[0], Meddling::Delete).await;
        f.meddle(ids[1], Meddling::Sent).await;
        let done = q.resolve(&ids[..2], decision, "ann").await.unwrap();
        assert_eq!(done, Resolved { decided: ids[2..].to_vec(), untouched: ids[..2].to_vec() });
        assert!(!attempt_state_by(&*q, ids[2], &sms).await.is_unresolved());
        assert_eq!(story(&*q, ids[1]).await.notes, []);
        f.meddle(ids[1], Meddling::Delete).await;
        clean(&*q).await;
    }
}

pub async fn a_released_alert_does_not_expire_at_once<F: Fixture>(f: &F) {
    let q = f.queue();
    let hour = Age { text: "1 hour".into(), duration: Duration::from_secs(3600) };
    let id = f.insert(PHONE, "old", Severity(Some(3)), Duration::from_secs(7200)).await;
    let me = joined(&*q, LONG).await;
    held(&*q, me, PHONE, &[id]).await;
    assert_eq!(q.resolve(&[id], Decision::Resend, "ann").await.unwrap().decided, [id]);
    assert_eq!(q.expire(&hour).await.unwrap(), [], "it waits since its release");
    assert_eq!(claimed_ids(&*q).await, [id]);
    clean(&*q).await;
}

async fn attempt_state_by(queue: &dyn Queue, alert: AlertId, attempt: &NewAttempt) -> AttemptState {
    record(queue, alert, attempt.id).await.unwrap().state
}
