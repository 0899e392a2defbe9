//! A queue that came back from the past, and what is held of it.

use jiff::Timestamp;
use smsd::queue::{
    Caught, Decision, FROM_THE_PAST, Forgot, Known, LogEnd, QueueError, STORM_GUARD, Suspects, Which,
};

use super::*;

/// Later than everything that waits.
async fn now(queue: &dyn Queue, me: Uuid) -> Timestamp {
    queue.renew(me, LONG, &Known::default()).await.unwrap().now + Duration::from_millis(1)
}

fn all(until: Timestamp) -> Suspects {
    Suspects { until, after: AlertId(0), limit: 1000 }
}

pub async fn what_is_known_to_be_committed_is_found_again<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = instance("lock");
    let joined = q.join(&me, LONG, &Known::default()).await.unwrap();
    let again = q.join(&me, LONG, &Known::default()).await.unwrap();
    assert_eq!((joined.queue, joined.witness.newest), (again.queue, None));
    let mut known = Known { queue: Some(joined.queue), log: joined.witness.log, ..Known::default() };
    for _ in 1..=3 {
        let grant = q.renew(me.id, LONG, &known).await.unwrap();
        assert_eq!((grant.queue, grant.witness.newest), (joined.queue, None));
        assert!(grant.now >= joined.now);
        known.log = grant.witness.log;
    }
    let ids = submitted(f, PHONE, 2).await;
    let first = attempt(PHONE, &ids[..1]);
    assert_eq!(q.begin(me.id, std::slice::from_ref(&first), &known).await.unwrap(), [first.id]);
    known.begun = Some(first.id);
    settled(&*q, me.id, accept(&first)).await;
    known.closed = vec![first.id];
    let second = attempt(PHONE, &ids[1..]);
    assert_eq!(q.begin(me.id, std::slice::from_ref(&second), &known).await.unwrap(), [second.id]);
    known.begun = Some(second.id);
    let other = f.second().await;
    other.join(&instance("other"), LONG, &known).await.unwrap();
    q.renew(me.id, LONG, &known).await.unwrap();
    q.witness(&known).await.unwrap();
}

/// Whoever asks, and however, is shown what anybody has begun, and where the log has come to.
pub async fn an_idle_instance_is_shown_what_others_begin<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let me = joined(&*q, LONG).await;
    let idle = instance("other");
    let at_first = other.join(&idle, LONG, &Known::default()).await.unwrap().witness;
    assert_eq!(other.witness(&Known::default()).await.unwrap().newest, None);
    let mut known = Known::default();
    for n in 0..3 {
        let to = format!("+479000000{n}");
        let sms = begun(&*q, me, &to, &submitted(f, &to, 1).await).await;
        let shown = other.witness(&known).await.unwrap();
        assert_eq!(shown.newest, Some(sms.id));
        known = Known { seen: vec![sms.id], log: shown.log, ..Known::default() };
        assert_eq!(other.renew(idle.id, LONG, &known).await.unwrap().witness.newest, Some(sms.id));
        settled(&*q, me, accept(&sms)).await;
        assert_eq!(other.witness(&known).await.unwrap().newest, Some(sms.id), "closed or not");
    }
    let last = other.join(&idle, LONG, &known).await.unwrap().witness;
    let grown = |(before, after): (LogEnd, LogEnd)| after.is_of(before) && after.position > before.position;
    assert!(at_first.log.zip(last.log).is_none_or(grown), "{at_first:?} {last:?}");
    assert_eq!(at_first.log.is_some(), last.log.is_some());
}

/// The log of another server, or of another timeline, tells nothing of what is lost. Nothing is begun
/// there before the instance has heard of it; a lease goes on.
pub async fn nothing_is_begun_on_a_server_that_was_not_heard_of<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = instance("lock");
    let here = q.join(&me, LONG, &Known::default()).await.unwrap().witness.log;
    let Some(here) = here else { return };
    let ids = submitted(f, PHONE, 1).await;
    let far = u64::MAX >> 2;
    for log in [
        LogEnd { system: here.system ^ 1, position: far, ..here },
        LogEnd { timeline: here.timeline + 1, position: far, ..here },
        LogEnd { timeline: here.timeline + 1, position: 1, ..here },
    ] {
        let known = Known { log: Some(log), ..Known::default() };
        let new = attempt(PHONE, &ids);
        let refused = q.begin(me.id, std::slice::from_ref(&new), &known).await;
        assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
        assert!(record(&*q, ids[0], new.id).await.is_none());
        let granted = q.renew(me.id, LONG, &known).await.unwrap().witness;
        assert!(granted.log.is_some_and(|log| log.is_of(here)));
        assert!(q.witness(&known).await.unwrap().log.is_some_and(|log| log.is_of(here)));
    }
    let known = Known { log: Some(here), ..Known::default() };
    let new = attempt(PHONE, &ids);
    assert_eq!(q.begin(me.id, std::slice::from_ref(&new), &known).await.unwrap(), [new.id]);
    clean(&*q).await;
}

pub async fn a_queue_that_forgot_is_not_written_to<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let ids = submitted(f, PHONE, 1).await;
    let open = begun(&*q, me, "+4790000001", &submitted(f, "+4790000001", 1).await).await;
    let strange = Uuid::now_v7();
    let nothing = Known::default;
    let log = q.renew(me, LONG, &nothing()).await.unwrap().witness.log;
    let mut forgotten = vec![
        (Known { queue: Some(strange), ..nothing() }, Forgot::Identity),
        (Known { begun: Some(strange), ..nothing() }, Forgot::Begun),
        (Known { seen: vec![strange], ..nothing() }, Forgot::Seen),
        (Known { seen: vec![strange, open.id], ..nothing() }, Forgot::Seen),
        (Known { closed: vec![strange], ..nothing() }, Forgot::Closed),
        (Known { closed: vec![open.id], ..nothing() }, Forgot::Closed),
    ];
    forgotten.extend(log.map(|log| {
        let further = LogEnd { position: log.position + (1 << 40), ..log };
        (Known { log: Some(further), ..nothing() }, Forgot::Log)
    }));
    for (known, forgot) in forgotten {
        let is = |result: Result<(), QueueError>| match result {
            Err(QueueError::FromThePast(found)) => assert_eq!(found, forgot),
            other => panic!("{known:?}: {other:?}"),
        };
        let new = attempt(PHONE, &ids);
        is(q.begin(me, std::slice::from_ref(&new), &known).await.map(|_| ()));
        // Whoever has no lease is told so too.
        is(q.begin(strange, std::slice::from_ref(&new), &known).await.map(|_| ()));
        assert!(record(&*q, ids[0], new.id).await.is_none());
        is(q.renew(me, LONG, &known).await.map(|_| ()));
        is(q.witness(&known).await.map(|_| ()));
        let heir = Instance { id: Uuid::now_v7(), name: "host 2".into(), lock: me.to_string() };
        is(q.join(&heir, LONG, &known).await.map(|_| ()));
        assert!(matches!(q.renew(heir.id, LONG, &nothing()).await, Err(QueueError::LeaseLost)));
        assert_eq!(attempt_state(&*q, &open).await, Some(AttemptState::Open), "nobody inherits");
    }
    // What was refused took no lock along.
    begun(&*q, me, PHONE, &ids).await;
    clean(&*q).await;
}

pub async fn what_is_suspect_is_held_on_record<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let ids = submitted(f, "+47 999 99-999", 60).await;
    let others = submitted(f, "+4790000001", 1).await;
    let bad = f.insert("nobody", "down", Severity(None), Duration::from_secs(60)).await;
    let caught = q.hold(me, &all(now(&*q, me).await), "so it is").await.unwrap();
    assert_eq!(caught, Caught { alerts: 61, doubts: 0, next: None });
    for id in ids.iter().chain(&others) {
        let story = story(&*q, *id).await;
        assert_eq!(story.alert.state, AlertState::Held);
        let [held] = &story.attempts[..] else { panic!("{story:?}") };
        assert_eq!((held.state, &*held.dispatcher), (AttemptState::Held, STORM_GUARD));
        assert_eq!((held.class.as_deref(), held.detail.as_deref()), (Some(FROM_THE_PAST), Some("so it is")));
        assert!(held.carried.contains(id) && held.carried.len() <= 50, "{held:?}");
        assert!(!held.possible_duplicate && held.ended_at.is_none());
        assert_eq!(held.recipient, if others.contains(id) { "+4790000001" } else { PHONE });
        let [note] = &story.notes[..] else { panic!("{story:?}") };
        assert_eq!((&*note.what, &*note.by, &*note.detail), ("held", "smsd", "so it is"));
    }
    // What can not be texted is rejected by whoever claims it, guard or not.
    assert_eq!(claimed_ids(&*q).await, [bad]);
    let stats = q.stats().await.unwrap();
    assert_eq!((stats.held, stats.held_by_guard, stats.waiting, stats.sms), (3, 3, 62, 0));
    assert_eq!(q.doubts(me).await.unwrap().len(), 0, "nothing resends it");
    clean(&*q).await;
    // Once is enough, whoever asks.
    let other = f.second().await;
    let you = joined(&*other, LONG).await;
    assert_eq!(other.hold(you, &all(now(&*q, me).await), "again").await.unwrap(), Caught::default());
    clean(&*q).await;
}

pub async fn what_came_later_is_not_suspect<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let old = f.insert(PHONE, "old", Severity(None), Duration::from_secs(100)).await;
    let sent = f.insert(PHONE, "sent", Severity(None), Duration::from_secs(100)).await;
    let freed = f.insert(PHONE, "freed", Severity(None), Duration::from_secs(100)).await;
    let new = f.insert(PHONE, "new", Severity(None), Duration::from_secs(10)).await;
    let sms = begun(&*q, me, PHONE, &[sent]).await;
    settled(&*q, me, accept(&sms)).await;
    let open = begun(&*q, me, PHONE, &[freed]).await;
    let until = now(&*q, me).await - Duration::from_secs(50);
    assert_eq!(q.hold(me, &all(until), "").await.unwrap(), Caught { alerts: 1, doubts: 0, next: None });
    assert_eq!(claimed_ids(&*q).await, [new]);
    assert_eq!(attempt_state(&*q, &open).await, Some(AttemptState::Open), "its instance lives");
    // A person's word is younger than the past.
    settled(&*q, me, close(&open, AttemptState::InDoubt, "unknown")).await;
    q.resolve(&[freed, old], Decision::Resend, "ann").await.unwrap();
    q.requeue(&[sent], "ann").await.unwrap();
    assert_eq!(q.hold(me, &all(until), "").await.unwrap(), Caught::default());
    assert_eq!(claimed_ids(&*q).await, [old, sent, freed, new]);
    clean(&*q).await;
}

pub async fn pages_hold_each_alert_once<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let mut ids = Vec::new();
    for n in 0..25 {
        let to = ["+4790000001", "+4790000002", "112"][n % 3];
        ids.push(f.insert(to, "down", Severity(None), Duration::from_secs(60)).await);
    }
    let until = now(&*q, me).await - Duration::from_secs(30);
    let (mut after, mut pages, mut alerts) = (AlertId(0), 0, 0);
    loop {
        let page = q.hold(me, &Suspects { until, after, limit: 10 }, "").await.unwrap();
        alerts += page.alerts;
        pages += 1;
        let Some(next) = page.next else { break };
        assert!(next > after);
        after = next;
        let late = submitted(f, PHONE, 1).await;
        assert!(claimed_ids(&*q).await.contains(&late[0]));
    }
    assert_eq!((pages, alerts), (3, 25));
    for id in ids {
        assert_eq!(state(&*q, id).await.0, AlertState::Held);
        assert_eq!(story(&*q, id).await.attempts.len(), 1);
    }
    clean(&*q).await;
}

/// What was on its way when the backup was made has long been decided since, and that is forgotten.
pub async fn doubts_of_the_gone_are_held_with_the_rest<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 2).await;
    let others = submitted(f, "+4790000001", 1).await;
    let gone = instance("lock");
    q.join(&gone, LONG, &Known::default()).await.unwrap();
    let doubt = doubtful(&*q, gone.id, PHONE, &ids[..1]).await;
    let open = begun(&*q, gone.id, PHONE, &ids[1..]).await;
    let living = joined(&*q, LONG).await;
    let theirs = doubtful(&*q, living, "+4790000001", &others).await;
    let me = instance("lock");
    q.join(&me, LONG, &Known::default()).await.unwrap();
    let caught = q.hold(me.id, &all(now(&*q, me.id).await), "so it is").await.unwrap();
    assert_eq!(caught, Caught { alerts: 0, doubts: 2, next: None });
    for (id, sms) in [(ids[0], &doubt), (ids[1], &open)] {
        let row = record(&*q, id, sms.id).await.unwrap();
        assert_eq!((row.state, &*row.dispatcher), (AttemptState::Held, "gateway"));
        assert_eq!(row.class.as_deref(), Some(FROM_THE_PAST));
        assert!(row.detail.unwrap().starts_with("so it is"));
    }
    assert_eq!(attempt_state(&*q, &theirs).await, Some(AttemptState::InDoubt));
    assert_eq!(q.doubts(me.id).await.unwrap().len(), 0);
    // A late answer is a fact.
    settled(&*q, me.id, accept(&open)).await;
    assert_eq!(state(&*q, ids[1]).await.0, AlertState::Sent);
    let stats = q.stats().await.unwrap();
    assert_eq!((stats.held, stats.held_by_guard), (1, 1));
    clean(&*q).await;
}

pub async fn without_a_lease_nothing_is_held<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let ids = submitted(f, PHONE, 1).await;
    let until = now(&*q, me).await;
    let gone = joined(&*q, LONG).await;
    q.leave(gone).await.unwrap();
    for nobody in [gone, Uuid::now_v7()] {
        assert!(matches!(q.hold(nobody, &all(until), "").await, Err(QueueError::LeaseLost)));
    }
    assert_eq!(claimed_ids(&*q).await, ids);
    assert_eq!(q.suspected(10).await.unwrap(), []);
}

pub async fn what_is_held_so_is_decided_as_a_whole<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    let by_hand = submitted(f, "112", 1).await;
    let held = doubtful(&*q, me, "112", &by_hand).await;
    settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
    for verb in 0..3 {
        let ids = submitted(f, PHONE, 70).await;
        assert_eq!(q.hold(me, &all(now(&*q, me).await), "").await.unwrap().alerts, 70);
        let mut found = Vec::new();
        loop {
            let page = q.suspected(1).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= 50 && !page.contains(&by_hand[0]));
            match verb {
                0 => assert_eq!(q.resolve(&page, Decision::Accept, "ann").await.unwrap().untouched, []),
                1 => assert_eq!(q.resolve(&page, Decision::Resend, "ann").await.unwrap().untouched, []),
                _ => assert_eq!(q.cancel(&Which::Ids(page.clone()), "ann").await.unwrap().in_flight, []),
            }
            found.extend(page);
        }
        found.sort();
        assert_eq!(found, ids, "each once");
        let expected = [AlertState::Sent, AlertState::Waiting, AlertState::Ignored][verb];
        for id in &ids {
            assert_eq!(state(&*q, *id).await.0, expected);
        }
        if verb == 1 {
            assert!(claimed(&*q).await.iter().all(|a| a.maybe_sent), "the next SMS is marked");
            q.cancel(&Which::Ids(ids), "ann").await.unwrap();
        }
        clean(&*q).await;
    }
    assert_eq!(state(&*q, by_hand[0]).await.0, AlertState::Held, "that is another matter");
}

/// After a restore somebody deletes last week's rows, and then decides for all that is held, page by page.
pub async fn what_is_held_so_is_decided_where_its_rows_are_gone<F: Fixture>(f: &F) {
    let q = f.queue();
    let me = joined(&*q, LONG).await;
    for verb in 0..3 {
        let mut ids = Vec::new();
        for i in 0..40 {
            ids.extend(submitted(f, &format!("+479{verb}0000{i:02}"), 1).await);
        }
        assert_eq!(q.hold(me, &all(now(&*q, me).await), "").await.unwrap().alerts, 40);
        for id in &ids[..20] {
            f.meddle(*id, Meddling::Delete).await;
        }
        let mut pages = 0;
        loop {
            let page = q.suspected(7).await.unwrap();
            if page.is_empty() {
                break;
            }
            pages += 1;
            assert!(pages < 12, "it comes to no end: {page:?}");
            match verb {
                0 => drop(q.resolve(&page, Decision::Accept, "ann").await.unwrap()),
                1 => drop(q.resolve(&page, Decision::Resend, "ann").await.unwrap()),
                _ => drop(q.cancel(&Which::Ids(page.clone()), "ann").await.unwrap()),
            }
        }
        assert_eq!(q.stats().await.unwrap().held, 0);
        let expected = [AlertState::Sent, AlertState::Waiting, AlertState::Ignored][verb];
        for id in &ids[20..] {
            assert_eq!(state(&*q, *id).await.0, expected);
        }
        q.cancel(&Which::All, "ann").await.unwrap();
        clean(&*q).await;
    }
}
