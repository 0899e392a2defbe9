//! What people and intakes ask.

use super::*;
use smsd::queue::{Age, AlertRow, Cancelled, Filter, Stats, Which};

fn age(text: &str, seconds: u64) -> Age {
    Age { text: text.into(), duration: Duration::from_secs(seconds) }
}

const ALL: Filter = Filter { state: None, to: None, limit: 100, before: None };

async fn listed(queue: &dyn Queue, filter: Filter) -> Vec<AlertId> {
    queue.list(&filter).await.unwrap().iter().map(|a| a.id).collect()
}

pub async fn submit_returns_ids_in_order<F: Fixture>(f: &F) {
    let q = f.queue();
    let alerts: Vec<NewAlert> = (0..50).map(|i| new_alert(f, PHONE, &format!("no. {i}"), None)).collect();
    let ids = q.submit(&alerts).await.unwrap();
    assert_eq!(ids.len(), 50);
    assert!(ids.is_sorted() && ids[0].0 > 0);
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(story(&*q, *id).await.alert.text, format!("no. {i}"));
    }
    assert_eq!(q.submit(&[]).await.unwrap(), []);

    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..32 {
        let (q, alert) = (q.clone(), new_alert(f, PHONE, &format!("task {i}"), Some(i)));
        tasks.spawn(async move { (i, q.submit(&[alert]).await.unwrap()[0]) });
    }
    for (i, id) in tasks.join_all().await {
        let alert = story(&*q, id).await.alert;
        assert_eq!((alert.text, alert.severity), (format!("task {i}"), Severity(Some(i))));
    }
    clean(&*q).await;
}

pub async fn a_second_handle_sees_the_same<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let mine = submitted(f, PHONE, 1).await;
    let theirs = other.submit(&[new_alert(f, PHONE, "theirs", Some(3))]).await.unwrap();
    assert_eq!(claimed_ids(&*q).await, [mine[0], theirs[0]]);
    assert_eq!(claimed(&*q).await, claimed(&*other).await);
}

pub async fn cancel_all_that_waits<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let me = joined(&*q, LONG).await;
    let sent = begun(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, accept(&sent)).await;
    let done = q.cancel(&Which::All, "ann").await.unwrap();
    assert_eq!(
        done,
        Cancelled { cancelled: ids[1..].to_vec(), in_flight: Vec::new(), ..Cancelled::default() }
    );
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));
    let story = story(&*q, ids[1]).await;
    assert_eq!((story.alert.state, story.alert.reason), (AlertState::Ignored, Some(Reason::Cancelled)));
    assert!(story.alert.ended_at.is_some());
    let [note] = story.notes.as_slice() else { panic!("{story:#?}") };
    assert_eq!(
        (note.what.as_str(), note.reason, note.by.as_str()),
        ("ignored", Some(Reason::Cancelled), "ann")
    );
    assert_eq!(q.cancel(&Which::All, "ann").await.unwrap(), Cancelled::default());
    clean(&*q).await;
}

pub async fn cancel_some<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 3).await;
    let some = Which::Ids(vec![ids[1], AlertId(i64::from(i32::MAX)), ids[1]]);
    let done = q.cancel(&some, "ann").await.unwrap();
    assert_eq!(done, Cancelled { cancelled: vec![ids[1]], in_flight: Vec::new(), ..Cancelled::default() });
    assert_eq!(q.cancel(&some, "ann").await.unwrap(), Cancelled::default());
    assert_eq!(claimed_ids(&*q).await, [ids[0], ids[2]]);
    clean(&*q).await;
}

pub async fn cancel_leaves_what_is_being_sent<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let open = begun(&*q, me, PHONE, &ids[..1]).await;
    let done = q.cancel(&Which::Ids(ids.clone()), "ann").await.unwrap();
    assert_eq!(done, Cancelled { cancelled: vec![ids[1]], in_flight: vec![ids[0]], ..Cancelled::default() });
    settled(&*q, me, accept(&open)).await;
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Sent, None));
    clean(&*q).await;
}

pub async fn cancel_ends_doubt<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[..1]).await;
    let held = doubtful(&*q, me, PHONE, &ids[1..]).await;
    settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
    let done = q.cancel(&Which::All, "ann").await.unwrap();
    assert_eq!(done, Cancelled { cancelled: ids.clone(), in_flight: Vec::new(), ..Cancelled::default() });
    for (id, attempt) in [(ids[0], &doubt), (ids[1], &held)] {
        assert_eq!(state(&*q, id).await, (AlertState::Ignored, Some(Reason::Cancelled)));
        let row = record(&*q, id, attempt.id).await.unwrap();
        assert_eq!(row.state, AttemptState::Cancelled);
        assert!(row.ended_at.is_some());
    }
    assert_eq!(q.doubts(me).await.unwrap().len(), 0);
    let stats = q.stats().await.unwrap();
    assert_eq!((stats.in_doubt, stats.held, stats.ignored), (0, 0, 2));
    clean(&*q).await;
}

/// The attempt ends, since its text is not to be sent again; what nobody cancelled is not lost with it.
pub async fn cancel_of_one_lets_its_companions_wait<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids).await;
    q.cancel(&Which::Ids(vec![ids[0]]), "ann").await.unwrap();
    assert_eq!(attempt_state(&*q, &doubt).await, Some(AttemptState::Cancelled));
    assert_eq!(state(&*q, ids[0]).await, (AlertState::Ignored, Some(Reason::Cancelled)));
    let waits = claimed(&*q).await;
    assert_eq!(waits.iter().map(|a| (a.id, a.maybe_sent)).collect::<Vec<_>>(), [(ids[1], true)]);
    clean(&*q).await;
}

/// What stands in an attempt with one that was deleted can be had out of it.
pub async fn cancel_of_one_that_is_gone_lets_its_companions_wait<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids).await;
    f.meddle(ids[0], Meddling::Delete).await;
    let done = q.cancel(&Which::Ids(vec![ids[0]]), "ann").await.unwrap();
    assert_eq!(done, Cancelled::default());
    assert_eq!(record(&*q, ids[1], doubt.id).await.map(|a| a.state), Some(AttemptState::Cancelled));
    let waits = claimed(&*q).await;
    assert_eq!(waits.iter().map(|a| (a.id, a.maybe_sent)).collect::<Vec<_>>(), [(ids[1], true)]);
    clean(&*q).await;
}

pub async fn requeue_makes_it_wait_again_on_record<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let sms = doubtful(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, accept(&sms)).await;
    q.cancel(&Which::Ids(vec![ids[1]]), "ann").await.unwrap();
    assert_eq!(q.requeue(&ids, "bob").await.unwrap(), ids);

    let again = claimed(&*q).await;
    assert_eq!(
        again.iter().map(|a| (a.id, a.maybe_sent)).collect::<Vec<_>>(),
        [(ids[0], false), (ids[1], false)]
    );
    let story = story(&*q, ids[1]).await;
    assert_eq!((story.alert.reason, story.alert.ended_at), (None, None));
    let what: Vec<(&str, &str)> = story.notes.iter().map(|n| (n.what.as_str(), n.by.as_str())).collect();
    assert_eq!(what, [("ignored", "ann"), ("requeued", "bob")]);
    clean(&*q).await;

    let fresh = begun(&*q, me, PHONE, &ids).await;
    settled(&*q, me, accept(&fresh)).await;
    clean(&*q).await;
    assert_eq!(q.stats().await.unwrap().sent, 2);
}

pub async fn requeue_leaves_what_waits<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[..1]).await;
    let mut some = ids.clone();
    some.push(AlertId(i64::from(i32::MAX)));
    assert_eq!(q.requeue(&some, "bob").await.unwrap(), []);
    assert_eq!(attempt_state(&*q, &doubt).await, Some(AttemptState::InDoubt));
    assert_eq!(story(&*q, ids[1]).await.notes.len(), 0);
    clean(&*q).await;
}

pub async fn a_requeued_alert_does_not_expire_at_once<F: Fixture>(f: &F) {
    let q = f.queue();
    let id = f.insert(PHONE, "old", Severity(Some(3)), Duration::from_secs(7200)).await;
    assert_eq!(q.expire(&age("1 hour", 3600)).await.unwrap(), [id]);
    assert_eq!(q.requeue(&[id], "bob").await.unwrap(), [id]);
    assert_eq!(q.expire(&age("1 hour", 3600)).await.unwrap(), [], "it waits since the requeue");
    assert_eq!(claimed_ids(&*q).await, [id]);
}

pub async fn expire_takes_the_old<F: Fixture>(f: &F) {
    let q = f.queue();
    let old = f.insert(PHONE, "old", Severity(Some(3)), Duration::from_secs(2 * 86400)).await;
    let less = f.insert(PHONE, "less", Severity(Some(1)), Duration::from_secs(7200)).await;
    let new = submitted(f, PHONE, 1).await;
    assert_eq!(q.expire(&age("1 day 12 hours", 129_600)).await.unwrap(), [old]);
    assert_eq!(q.expire(&age("1 day 12 hours", 129_600)).await.unwrap(), []);
    let story = story(&*q, old).await;
    assert_eq!((story.alert.state, story.alert.reason), (AlertState::Ignored, Some(Reason::Expired)));
    let [note] = story.notes.as_slice() else { panic!("{story:#?}") };
    assert_eq!(
        (note.what.as_str(), note.reason, note.by.as_str()),
        ("ignored", Some(Reason::Expired), "smsd")
    );
    assert_eq!(claimed_ids(&*q).await, [less, new[0]]);
    clean(&*q).await;
}

/// The clock may have been wrong when it came.
pub async fn expire_takes_nothing_that_came_since_the_last_look<F: Fixture>(f: &F) {
    let q = f.queue();
    let before = f.insert(PHONE, "before", Severity(Some(3)), Duration::from_secs(60)).await;
    assert_eq!(q.expire(&age("1 hour", 3600)).await.unwrap(), []);
    let since = f.insert(PHONE, "since", Severity(Some(3)), Duration::from_secs(86400 * 3650)).await;
    assert_eq!(q.expire(&age("1 hour", 3600)).await.unwrap(), []);
    assert_eq!(claimed_ids(&*q).await, [before, since]);
}

pub async fn expire_leaves_unresolved_attempts_alone<F: Fixture>(f: &F) {
    let q = f.queue();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(f.insert(PHONE, "old", Severity(Some(3)), Duration::from_secs(86400)).await);
    }
    let me = joined(&*q, LONG).await;
    doubtful(&*q, me, PHONE, &ids[..1]).await;
    let open = begun(&*q, me, PHONE, &ids[1..2]).await;
    assert_eq!(q.expire(&age("1 hour", 3600)).await.unwrap(), ids[2..]);
    settled(&*q, me, accept(&open)).await;
    clean(&*q).await;
}

pub async fn list_filters_and_pages<F: Fixture>(f: &F) {
    let q = f.queue();
    let mut ids = submitted(f, "+4790000001", 4).await;
    ids.push(f.insert("+47(900) 00.002", "two", Severity(None), Duration::ZERO).await);
    ids.extend(submitted(f, "+4790000001", 1).await);
    let me = joined(&*q, LONG).await;
    let sent = begun(&*q, me, "+4790000001", &ids[..1]).await;
    settled(&*q, me, accept(&sent)).await;
    doubtful(&*q, me, "+4790000001", &ids[1..2]).await;
    let held = doubtful(&*q, me, "+4790000001", &ids[2..3]).await;
    settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
    q.cancel(&Which::Ids(vec![ids[3]]), "ann").await.unwrap();
    begun(&*q, me, "+4790000001", &ids[5..]).await;

    let newest_first: Vec<AlertId> = ids.iter().rev().copied().collect();
    assert_eq!(listed(&*q, ALL).await, newest_first);
    for (state, expected) in [
        (AlertState::Sent, &ids[..1]),
        (AlertState::InDoubt, &ids[1..2]),
        (AlertState::Held, &ids[2..3]),
        (AlertState::Ignored, &ids[3..4]),
        (AlertState::Waiting, &[ids[5], ids[4]]),
    ] {
        assert_eq!(listed(&*q, Filter { state: Some(state), ..ALL }).await, expected, "{state}");
        let one = q.list(&Filter { state: Some(state), ..ALL }).await.unwrap();
        assert!(one.iter().all(|row| row.state == state));
    }
    assert_eq!(listed(&*q, Filter { to: Some(phone("+47-90000002")), ..ALL }).await, [ids[4]]);
    assert_eq!(listed(&*q, Filter { to: Some(phone("+4790000001")), ..ALL }).await.len(), 5);

    assert_eq!(listed(&*q, Filter { limit: 2, ..ALL }).await, newest_first[..2]);
    assert_eq!(listed(&*q, Filter { limit: 2, before: Some(ids[4]), ..ALL }).await, newest_first[2..4]);
    let both = Filter { state: Some(AlertState::Waiting), before: Some(ids[5]), ..ALL };
    assert_eq!(listed(&*q, both).await, [ids[4]]);
    assert_eq!(listed(&*q, Filter { limit: 0, ..ALL }).await, []);

    let rows: Vec<AlertRow> = q.list(&ALL).await.unwrap();
    for row in rows {
        assert_eq!(row, story(&*q, row.id).await.alert, "a list and a story tell the same");
    }
}

pub async fn show_tells_the_whole_story<F: Fixture>(f: &F) {
    let q = f.queue();
    assert_eq!(q.show(AlertId(i64::from(i32::MAX))).await.unwrap(), None);
    let ids = submitted(f, PHONE, 2).await;
    let me = joined(&*q, LONG).await;
    let first = begun(&*q, me, PHONE, &ids).await;
    settled(&*q, me, close(&first, AttemptState::Failed, "unavailable")).await;
    let doubt = doubtful(&*q, me, PHONE, &ids).await;
    let again = resend(&doubt);
    q.begin(me, std::slice::from_ref(&again), &Known::default()).await.unwrap();
    settled(&*q, me, accept(&again)).await;
    q.requeue(&ids[..1], "ann").await.unwrap();

    let told = story(&*q, ids[0]).await;
    let attempts: Vec<(Uuid, AttemptState)> = told.attempts.iter().map(|a| (a.id, a.state)).collect();
    assert_eq!(
        attempts,
        [
            (first.id, AttemptState::Failed),
            (doubt.id, AttemptState::Resent),
            (again.id, AttemptState::Accepted)
        ]
    );
    assert!(told.attempts.is_sorted_by_key(|a| a.begun_at));
    assert!(told.attempts.iter().all(|a| a.carried == ids && a.ended_at >= Some(a.begun_at)));
    assert_eq!(told.attempts[2].resend_of, Some(doubt.id));
    assert_eq!(told.notes.len(), 1);
    assert_eq!((told.alert.id, told.alert.to.as_str()), (ids[0], PHONE));
    assert_eq!(told.alert.state, AlertState::Waiting);
    assert_eq!(story(&*q, ids[1]).await.alert.state, AlertState::Sent);
    clean(&*q).await;
}

pub async fn stats_count<F: Fixture>(f: &F) {
    let q = f.queue();
    assert_eq!(q.stats().await.unwrap(), Stats::default());
    let old = f.insert(PHONE, "old", Severity(None), Duration::from_secs(100)).await;
    let ids = submitted(f, PHONE, 6).await;
    let me = joined(&*q, LONG).await;
    let doubt = doubtful(&*q, me, PHONE, &ids[..1]).await;
    let again = resend(&doubt);
    q.begin(me, std::slice::from_ref(&again), &Known::default()).await.unwrap();
    settled(&*q, me, accept(&again)).await;
    let sent = begun(&*q, me, PHONE, &ids[1..2]).await;
    settled(&*q, me, accept(&sent)).await;
    doubtful(&*q, me, PHONE, &ids[2..3]).await;
    let held = doubtful(&*q, me, PHONE, &ids[3..4]).await;
    settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
    q.cancel(&Which::Ids(vec![ids[4]]), "ann").await.unwrap();
    begun(&*q, me, PHONE, &[ids[5], old]).await;

    let stats = q.stats().await.unwrap();
    let age = stats.oldest_waiting_seconds.unwrap();
    assert!((100..160).contains(&age), "{age}");
    assert_eq!(
        stats,
        Stats {
            waiting: 4,
            oldest_waiting_seconds: Some(age),
            open: 1,
            in_doubt: 1,
            held: 1,
            held_by_guard: 0,
            sent: 2,
            ignored: 1,
            sms: 2,
            possible_duplicates: 1,
        }
    );
    clean(&*q).await;
}
