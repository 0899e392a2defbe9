//! An attempt closes, and its alerts with it; nothing that ended is set again.

use super::*;
use smsd::queue::Settled;
use tokio::time::sleep;

const OTHER: &str = "+4788888888";

async fn settle(queue: &dyn Queue, owner: Uuid, settlement: Settlement) -> Settled {
    queue.settle(owner, &[settlement]).await.unwrap()
}

fn superseded(attempt: &NewAttempt) -> Settled {
    Settled { superseded: vec![attempt.id], vanished: Vec::new() }
}

fn ignore(ids: &[AlertId], reason: Reason) -> Settlement {
    Settlement {
        closing: None,
        verdicts: ids.iter().map(|id| (*id, Verdict::Ignored(reason))).collect(),
        detail: "'a' is not a digit".into(),
    }
}

pub async fn acceptance_sends_and_squeezes<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 4).await;
    let me = joined(&*q, LONG).await;
    let sms = NewAttempt { counted: vec![ids[2]], ..attempt(PHONE, &ids[..2]) };
    assert_eq!(q.begin(me, std::slice::from_ref(&sms), &Known::default()).await.unwrap(), [sms.id]);
    settled(&*q, me, accept(&sms)).await;

    for (id, expected) in [
        (ids[0], (AlertState::Sent, None)),
        (ids[1], (AlertState::Sent, None)),
        (ids[2], (AlertState::Ignored, Some(Reason::Squeezed))),
        (ids[3], (AlertState::Waiting, None)),
    ] {
        assert_eq!(state(&*other, id).await, expected, "{id}");
        assert_eq!(story(&*other, id).await.alert.ended_at.is_some(), id != ids[3]);
    }
    let row = record(&*other, ids[2], sms.id).await.unwrap();
    assert_eq!(row.state, AttemptState::Accepted);
    assert_eq!((row.class.as_deref(), row.code.as_deref()), (Some("accepted"), Some("250")));
    assert_eq!(row.detail.as_deref(), Some("as told"));
    assert_eq!(row.references, ["ref-1", "42"]);
    assert!(row.ended_at.unwrap() >= row.begun_at);
    begun(&*q, me, PHONE, &ids[3..]).await;
    clean(&*q).await;
}

pub async fn failure_lets_alerts_wait_again<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let sms = begun(&*q, me, PHONE, &ids).await;
    let waits = Settlement {
        verdicts: vec![(ids[0], Verdict::Waits)],
        ..close(&sms, AttemptState::Failed, "unavailable")
    };
    settled(&*q, me, waits).await;
    assert_eq!(claimed_ids(&*q).await, ids);
    let row = record(&*q, ids[0], sms.id).await.unwrap();
    assert_eq!((row.state, row.class.as_deref()), (AttemptState::Failed, Some("unavailable")));
    let next = begun(&*q, me, PHONE, &ids).await;
    settled(&*q, me, accept(&next)).await;
    assert_eq!(story(&*q, ids[0]).await.attempts.iter().map(|a| a.id).collect::<Vec<_>>(), [sms.id, next.id]);
    clean(&*q).await;
}

pub async fn rejection_ignores_with_its_reason<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let sms = begun(&*q, me, PHONE, &ids[..2]).await;
    let rejected = Settlement {
        verdicts: vec![
            (ids[0], Verdict::Ignored(Reason::Rejected)),
            (ids[1], Verdict::Ignored(Reason::RetryLimit)),
            (ids[2], Verdict::Ignored(Reason::RetryLimit)),
        ],
        ..close(&sms, AttemptState::Rejected, "rejected")
    };
    settled(&*q, me, rejected).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Ignored, Some(Reason::Rejected)));
    assert_eq!(state(&*q, ids[1]).await, (AlertState::Ignored, Some(Reason::RetryLimit)));
    assert_eq!(
        state(&*q, ids[2]).await,
        (AlertState::Ignored, Some(Reason::RetryLimit)),
        "an alert beside the attempt that waits ends with it"
    );
    clean(&*q).await;
}

pub async fn doubt_holds_its_alerts<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::InDoubt, None));
    assert_eq!(claimed_ids(&*q).await, []);
    assert_eq!(q.doubts(me).await.unwrap()[0].id, doubt.id);
    settled(&*q, me, accept(&doubt)).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));
    assert_eq!(q.doubts(me).await.unwrap().len(), 0);
    clean(&*q).await;
}

pub async fn a_policy_may_hold_a_doubt<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, close(&doubt, AttemptState::Held, "unknown")).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Held, None));
    let at_once = begun(&*q, me, PHONE, &ids[1..]).await;
    settled(&*q, me, close(&at_once, AttemptState::Held, "unknown")).await;
    assert_eq!(attempt_state(&*q, &at_once).await, Some(AttemptState::Held));
    assert_eq!(q.doubts(me).await.unwrap().len(), 0);
    settled(&*q, me, accept(&doubt)).await;
    clean(&*q).await;
}

pub async fn the_policy_may_hold_an_orphaned_doubt<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let gone = joined(&*q, LONG).await;
    let orphan = begun(&*q, gone, PHONE, &ids).await;
    q.leave(gone).await.unwrap();
    let heir = joined(&*q, LONG).await;
    settled(&*q, heir, close(&orphan, AttemptState::Held, "unknown")).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Held, None));
    clean(&*q).await;
}

pub async fn a_repeat_is_harmless<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let sms = NewAttempt { counted: vec![ids[1]], ..attempt(PHONE, &ids[..1]) };
    q.begin(me, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
    let failed = attempt(OTHER, &ids[2..]);
    q.begin(me, std::slice::from_ref(&failed), &Known::default()).await.unwrap();
    let ends = [accept(&sms), close(&failed, AttemptState::Failed, "unavailable")];
    assert_eq!(q.settle(me, &ends).await.unwrap(), Settled::default());

    let before = [story(&*q, ids[0]).await, story(&*q, ids[1]).await, story(&*q, ids[2]).await];
    let again = q.settle(me, &ends).await.unwrap();
    assert_eq!(again.superseded, NONE);
    let after = [story(&*q, ids[0]).await, story(&*q, ids[1]).await, story(&*q, ids[2]).await];
    assert_eq!(before, after);

    let doubt = doubtful(&*q, me, OTHER, &ids[2..]).await;
    let before = story(&*q, ids[2]).await;
    assert_eq!(settle(&*q, me, close(&doubt, AttemptState::InDoubt, "unknown")).await, Settled::default());
    assert_eq!(story(&*q, ids[2]).await, before);
    clean(&*q).await;
}

pub async fn a_repeat_after_a_requeue_does_not_send_again<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let sms = begun(&*q, me, PHONE, &ids).await;
    settled(&*q, me, accept(&sms)).await;
    assert_eq!(q.requeue(&ids, "ann").await.unwrap(), ids);
    let repeated = settle(&*q, me, accept(&sms)).await;
    assert_eq!(repeated.superseded, NONE);
    assert_eq!(claimed_ids(&*q).await, ids, "the person's word came after the acceptance");
    clean(&*q).await;
}

pub async fn rows_that_changed_under_us_are_an_event<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 4).await;
    let me = joined(&*q, LONG).await;
    let sms = begun(&*q, me, PHONE, &ids).await;
    f.meddle(ids[0], Meddling::Delete).await;
    f.meddle(ids[1], Meddling::Ignored).await;
    f.meddle(ids[2], Meddling::Sent).await;
    let mut found = settle(&*q, me, accept(&sms)).await;
    found.vanished.sort();
    assert_eq!(found, Settled { vanished: ids[..3].to_vec(), superseded: Vec::new() });
    assert_eq!(q.show(ids[0]).await.unwrap(), None);
    assert_eq!(state(&*q, ids[1]).await.0, AlertState::Ignored, "what ended is not set again");
    assert_eq!(state(&*q, ids[3]).await.0, AlertState::Sent);
    assert_eq!(record(&*q, ids[3], sms.id).await.unwrap().state, AttemptState::Accepted);
}

pub async fn acceptance_may_come_late<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 2).await;
    let slow = joined(&*q, SHORT).await;
    let sms = NewAttempt { counted: vec![ids[1]], ..attempt(PHONE, &ids[..1]) };
    q.begin(slow, std::slice::from_ref(&sms), &Known::default()).await.unwrap();
    sleep(PAST_SHORT).await;
    joined(&*other, LONG).await;
    assert_eq!(attempt_state(&*q, &sms).await, Some(AttemptState::InDoubt));
    settled(&*q, slow, accept(&sms)).await;
    assert_eq!(state(&*other, ids[0]).await, (AlertState::Sent, None));
    assert_eq!(state(&*other, ids[1]).await, (AlertState::Ignored, Some(Reason::Squeezed)));

    let more = submitted(f, OTHER, 1).await;
    let living = joined(&*q, LONG).await;
    let sms = begun(&*q, living, OTHER, &more).await;
    settled(&*other, Uuid::now_v7(), accept(&sms)).await;
    assert_eq!(state(&*q, more[0]).await, (AlertState::Sent, None), "anyone who holds the id may say so");
    clean(&*q).await;
}

pub async fn acceptance_may_come_after_a_resend<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let old = doubtful(&*q, me, PHONE, &ids).await;
    let new = resend(&old);
    q.begin(me, std::slice::from_ref(&new), &Known::default()).await.unwrap();
    settled(&*q, me, accept(&old)).await;
    assert_eq!(attempt_state(&*q, &old).await, Some(AttemptState::Accepted));
    assert_eq!(attempt_state(&*q, &new).await, Some(AttemptState::Open));
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));

    let both = settle(&*q, me, accept(&new)).await;
    assert_eq!(both.superseded, NONE);
    assert_eq!(attempt_state(&*q, &new).await, Some(AttemptState::Accepted));
    let audit = q.audit().await.unwrap();
    assert_eq!((audit.offenders.len(), audit.possible_duplicates), (0, 1), "{audit:#?}");
}

pub async fn refusal_needs_the_owner<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let ids = submitted(f, PHONE, 1).await;
    let (me, rival) = (joined(&*q, LONG).await, joined(&*other, LONG).await);
    let sms = begun(&*q, me, PHONE, &ids).await;
    for state in [
        AttemptState::Failed,
        AttemptState::Rejected,
        AttemptState::InDoubt,
        AttemptState::Held,
        AttemptState::Cancelled,
    ] {
        let refused = Settlement {
            verdicts: vec![(ids[0], Verdict::Ignored(Reason::Rejected))],
            ..close(&sms, state, "rejected")
        };
        for stranger in [rival, Uuid::now_v7()] {
            assert_eq!(settle(&*other, stranger, refused.clone()).await, superseded(&sms), "{state:?}");
        }
        assert_eq!(attempt_state(&*q, &sms).await, Some(AttemptState::Open));
    }
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Waiting, None), "nor are its alerts touched");
    settled(&*q, me, close(&sms, AttemptState::InDoubt, "unknown")).await;
    let held = close(&sms, AttemptState::Held, "unknown");
    assert_eq!(settle(&*other, rival, held).await, superseded(&sms), "its owner lives");
    clean(&*q).await;
}

pub async fn refusal_comes_too_late_for_a_doubt<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids).await;
    for state in [AttemptState::Failed, AttemptState::Rejected, AttemptState::Cancelled] {
        assert_eq!(settle(&*q, me, close(&doubt, state, "failed")).await, superseded(&doubt));
    }
    settled(&*q, me, accept(&doubt)).await;
    for state in [AttemptState::Failed, AttemptState::InDoubt, AttemptState::Held] {
        assert_eq!(settle(&*q, me, close(&doubt, state, "failed")).await, superseded(&doubt));
    }
    assert_eq!(attempt_state(&*q, &doubt).await, Some(AttemptState::Accepted));
    clean(&*q).await;
}

pub async fn an_unknown_attempt_is_superseded<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let me = joined(&*q, LONG).await;
    let never = attempt(PHONE, &ids);
    assert_eq!(settle(&*q, me, accept(&never)).await, superseded(&never));
    let failed = close(&never, AttemptState::Failed, "failed");
    assert_eq!(settle(&*q, me, failed).await, superseded(&never));
    assert_eq!(claimed_ids(&*q).await, ids, "an alert leaves the waiting state with its attempt only");
    clean(&*q).await;
}

pub async fn one_superseded_settlement_spoils_no_other<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let (good, never) = (begun(&*q, me, PHONE, &ids[..1]).await, attempt(PHONE, &ids[1..2]));
    let all = [accept(&never), accept(&good), ignore(&ids[2..], Reason::Rejected)];
    assert_eq!(q.settle(me, &all).await.unwrap(), superseded(&never));
    assert_eq!(state(&*q, ids[0]).await.0, AlertState::Sent);
    assert_eq!(state(&*q, ids[1]).await.0, AlertState::Waiting);
    assert_eq!(state(&*q, ids[2]).await.0, AlertState::Ignored);
    assert_eq!(q.settle(me, &[]).await.unwrap(), Settled::default());
    clean(&*q).await;
}

pub async fn an_alert_without_an_attempt_is_ignored_on_record<F: Fixture>(f: &F) {
    let q = f.queue();
    let id = f.insert("+47 abc", "to nobody", Severity(Some(1)), Duration::ZERO).await;
    let me = joined(&*q, LONG).await;
    let ends = ignore(&[id], Reason::Rejected);
    settled(&*q, me, ends.clone()).await;
    settle(&*q, me, ends).await;
    let story = story(&*q, id).await;
    assert_eq!((story.alert.state, story.alert.reason), (AlertState::Ignored, Some(Reason::Rejected)));
    assert_eq!((story.alert.to.as_str(), story.attempts.len()), ("+47 abc", 0));
    let [note] = story.notes.as_slice() else { panic!("one note, however often it is repeated: {story:#?}") };
    assert_eq!((note.what.as_str(), note.reason), ("ignored", Some(Reason::Rejected)));
    assert_eq!((note.detail.as_str(), note.by.as_str()), ("'a' is not a digit", "smsd"));
    clean(&*q).await;
}

pub async fn an_alert_in_an_unresolved_attempt_is_not_ignored_past_it<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 1).await;
    let (me, rival) = (joined(&*q, LONG).await, joined(&*q, LONG).await);
    let sms = begun(&*q, me, PHONE, &ids).await;
    let past = settle(&*q, rival, ignore(&ids, Reason::RetryLimit)).await;
    assert_eq!(past.vanished, ids);
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Waiting, None));
    settled(&*q, me, accept(&sms)).await;
    clean(&*q).await;
}

/// Takes a second or so; a queue that looks through the attempt for each of its alerts takes minutes.
pub async fn a_storm_to_one_phone_is_one_attempt<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 20_000).await;
    let me = joined(&*q, LONG).await;
    let sms = NewAttempt { counted: ids[1..].to_vec(), ..attempt(PHONE, &ids[..1]) };
    let all = async {
        assert_eq!(q.begin(me, std::slice::from_ref(&sms), &Known::default()).await.unwrap(), [sms.id]);
        settled(&*q, me, accept(&sms)).await;
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time");
    let stats = q.stats().await.unwrap();
    assert_eq!((stats.waiting, stats.sent, stats.ignored), (0, 1, 19_999));
    clean(&*q).await;
}
