//! What is told of the queue as a whole: how deep it is, and how its attempts did.

use super::*;
use jiff::Timestamp;
use smsd::queue::{Depth, Layer, Period};

pub async fn depth_counts_what_waits<F: Fixture>(f: &F) {
    let q = f.queue();
    assert_eq!(q.depth().await.unwrap(), Depth::default());
    let old = f.insert(PHONE, "old", Severity(None), Duration::from_secs(100)).await;
    let ids = submitted(f, PHONE, 5).await;
    let most = q.submit(&[new_alert(f, PHONE, "most severe", Some(-1))]).await.unwrap();
    let me = joined(&*q, LONG).await;
    let sent = begun(&*q, me, PHONE, &ids[..1]).await;
    settled(&*q, me, accept(&sent)).await;
    doubtful(&*q, me, PHONE, &ids[1..2]).await;
    for held in [&ids[2..3], &most] {
        let held = doubtful(&*q, me, PHONE, held).await;
        settled(&*q, me, close(&held, AttemptState::Held, "unknown")).await;
    }
    begun(&*q, me, PHONE, &[ids[3], old]).await;

    let depth = q.depth().await.unwrap();
    let queued_at = async |id| story(&*q, id).await.alert.queued_at;
    let layer = |severity, alerts, oldest| Layer { severity: Severity(severity), alerts, oldest };
    assert_eq!(
        depth.waiting,
        [
            layer(Some(-1), 1, queued_at(most[0]).await),
            layer(Some(3), 4, queued_at(ids[1]).await),
            layer(None, 1, queued_at(old).await)
        ]
    );
    assert_eq!((depth.open, depth.in_doubt, depth.held), (1, 1, 2));
    assert_eq!((depth.alerts(), depth.oldest()), (6, queued_at(old).await));
    clean(&*q).await;
}

pub async fn recent_attempts_come_in_pages<F: Fixture>(f: &F) {
    let q = f.queue();
    assert_eq!(q.recent(None, 10).await.unwrap(), []);
    let ids = submitted(f, PHONE, 5).await;
    let me = joined(&*q, LONG).await;
    let mut begun_so = Vec::new();
    for id in &ids {
        let sms = begun(&*q, me, PHONE, &[*id]).await;
        settled(&*q, me, accept(&sms)).await;
        begun_so.push((sms.id, *id));
    }
    begun_so.reverse();
    let (mut pages, mut before) = (Vec::new(), None);
    loop {
        let page = q.recent(before, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        before = Some(last.id);
        pages.extend(page);
    }
    assert_eq!(pages.iter().map(|a| (a.id, a.carried[0])).collect::<Vec<_>>(), begun_so);
    for row in pages {
        assert_eq!(record(&*q, row.carried[0], row.id).await, Some(row), "a page and a story tell the same");
    }
    assert_eq!(q.recent(None, 0).await.unwrap(), []);
}

pub async fn undecided_attempts_come_oldest_first<F: Fixture>(f: &F) {
    let q = f.queue();
    let ids = submitted(f, PHONE, 5).await;
    let me = joined(&*q, LONG).await;
    let mut doubts = Vec::new();
    for id in &ids[..4] {
        doubts.push(doubtful(&*q, me, PHONE, &[*id]).await);
    }
    begun(&*q, me, PHONE, &ids[4..]).await;
    settled(&*q, me, close(&doubts[1], AttemptState::Held, "unknown")).await;
    settled(&*q, me, accept(&doubts[2])).await;
    let undecided = q.undecided(10).await.unwrap();
    let expected = [
        (doubts[0].id, AttemptState::InDoubt),
        (doubts[1].id, AttemptState::Held),
        (doubts[3].id, AttemptState::InDoubt),
    ];
    assert_eq!(undecided.iter().map(|a| (a.id, a.state)).collect::<Vec<_>>(), expected);
    let first = q.undecided(2).await.unwrap();
    assert_eq!(first[..], undecided[..2]);
    for row in undecided {
        assert_eq!(record(&*q, row.carried[0], row.id).await, Some(row));
    }
}

pub async fn history_sums_what_has_ended<F: Fixture>(f: &F) {
    let q = f.queue();
    let (step, ever) = (Duration::from_secs(3600), Timestamp::UNIX_EPOCH);
    assert_eq!(q.history(ever, step).await.unwrap(), []);
    let ids = submitted(f, PHONE, 6).await;
    let me = joined(&*q, LONG).await;
    let through =
        |dispatcher: &str, id| NewAttempt { dispatcher: dispatcher.into(), ..attempt(PHONE, &[id]) };
    let mut millis = 0;
    for (dispatcher, id, state) in [
        ("a", ids[0], AttemptState::Accepted),
        ("a", ids[1], AttemptState::Failed),
        ("b", ids[2], AttemptState::Rejected),
        ("a", ids[3], AttemptState::Accepted),
        ("b", ids[4], AttemptState::InDoubt),
        ("c", ids[5], AttemptState::Open),
    ] {
        let sms = through(dispatcher, id);
        assert_eq!(q.begin(me, std::slice::from_ref(&sms), &Known::default()).await.unwrap(), [sms.id]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        match state {
            AttemptState::Open => {}
            AttemptState::Accepted => settled(&*q, me, accept(&sms)).await,
            state => settled(&*q, me, close(&sms, state, "unavailable")).await,
        }
        if state == AttemptState::Accepted {
            let row = record(&*q, id, sms.id).await.unwrap();
            let took = row.ended_at.unwrap().duration_since(row.begun_at);
            millis += u64::try_from(took.as_millis()).unwrap();
        }
    }
    let mut told = q.history(ever, step).await.unwrap();
    assert!(told.iter().all(|period| period.from.as_second() % 3600 == 0), "{told:?}");
    // The hour may have ended meanwhile.
    let mut sums: Vec<Period> = Vec::new();
    told.sort_by(|a, b| a.dispatcher.cmp(&b.dispatcher));
    for period in told {
        match sums.last_mut().filter(|sum| sum.dispatcher == period.dispatcher) {
            Some(sum) => {
                sum.accepted += period.accepted;
                sum.failed += period.failed;
                sum.accepted_millis += period.accepted_millis;
            }
            None => sums.push(period),
        }
    }
    let counts: Vec<(&str, u64, u64)> =
        sums.iter().map(|p| (p.dispatcher.as_str(), p.accepted, p.failed)).collect();
    assert_eq!(counts, [("a", 2, 1), ("b", 0, 1)]);
    assert!(sums[0].accepted_millis.abs_diff(millis) <= 2 && millis >= 40, "{sums:?} {millis}");
    let last = record(&*q, ids[3], q.recent(None, 9).await.unwrap()[2].id).await.unwrap().ended_at.unwrap();
    let late: u64 = q.history(last, step).await.unwrap().iter().map(|p| p.accepted + p.failed).sum();
    assert_eq!(late, 1, "those before are left out");
    assert!(q.history(ever, Duration::from_secs(1)).await.unwrap().is_sorted_by_key(|p| p.from));
}

pub async fn mention_says_what_alerts_are_and_whose<F: Fixture>(f: &F) {
    let q = f.queue();
    assert_eq!(q.mention(&[]).await.unwrap(), []);
    let old = f.insert("12 x", "no number; 'quoted'\r\nand på linja", Severity(None), Duration::ZERO).await;
    let id = q.submit(&[new_alert(f, PHONE, "with an account", Some(1))]).await.unwrap()[0];
    let gone = AlertId(id.0 + 1_000);
    let mut said = q.mention(&[id, gone, old]).await.unwrap();
    said.sort_by_key(|mention| mention.id);
    let what: Vec<_> = said.iter().map(|m| (m.id, m.to.as_str(), m.text.as_str())).collect();
    let want = [(old, "12 x", "no number; 'quoted'\r\nand på linja"), (id, PHONE, "with an account")];
    assert_eq!(what, want);
    // Where there are accounts, the alert's is named as NAV names it.
    let named = said[1].account.as_ref().map(|account| (account.name.as_str(), account.login.as_str()));
    assert!(matches!(named, None | Some(("Ann Admin", "admin") | ("Bob", "bob"))), "{named:?}");
    assert_eq!(named.is_some(), f.account().is_some());
}
