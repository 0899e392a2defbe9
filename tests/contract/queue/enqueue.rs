//! Handing in: each submission whole and once, however often and by whomever.

use super::*;
use smsd::queue::{Key, QueueError, Submission, Submitted};

const KEPT: Duration = Duration::from_secs(600);

fn submission<F: Fixture>(f: &F, key: &str, texts: &[&str]) -> Submission {
    let alerts = texts.iter().map(|text| new_alert(f, PHONE, text, Some(3))).collect();
    Submission { key: Key { name: key.into(), kept: KEPT }, alerts }
}

async fn enqueued(queue: &dyn Queue, submission: &Submission) -> Submitted {
    let submitted = queue.enqueue(std::slice::from_ref(submission)).await.unwrap();
    let [submitted] = submitted.try_into().unwrap();
    submitted
}

fn queued(submitted: Submitted) -> Vec<AlertId> {
    let Submitted::Queued(ids) = submitted else { panic!("{submitted:?}") };
    ids
}

pub async fn a_submission_is_queued_once<F: Fixture>(f: &F) {
    let q = f.queue();
    let one = submission(f, "http:1", &["first", "second"]);
    let ids = queued(enqueued(&*q, &one).await);
    assert_eq!((ids.len(), ids.is_sorted()), (2, true));
    assert_eq!(enqueued(&*q, &one).await, Submitted::Before(ids.clone()));
    assert_eq!(enqueued(&*f.second().await, &one).await, Submitted::Before(ids.clone()));
    for other in [&["first"][..], &["second", "first"], &["first", "second", "third"], &["firsts", "econd"]] {
        let other = submission(f, "http:1", other);
        assert_eq!(enqueued(&*q, &other).await, Submitted::OtherAlerts, "{other:?}");
    }
    let again =
        queued(enqueued(&*q, &Submission { key: Key { name: "http:2".into(), ..one.key }, ..one }).await);
    assert!(again.iter().all(|id| !ids.contains(id)), "the key tells them apart, not what they say");
    assert_eq!(claimed_ids(&*q).await, [ids, again].concat());
    clean(&*q).await;
}

pub async fn what_is_enqueued_is_as_what_is_submitted<F: Fixture>(f: &F) {
    let q = f.queue();
    let alerts: Vec<NewAlert> = [Some(1), None, Some(i32::MAX)]
        .into_iter()
        .map(|severity| new_alert(f, PHONE, "it's \"æøå\" €\r\n\u{1b}%s", severity))
        .collect();
    let key = Key { name: "http:'\"\\ æ\0".into(), kept: KEPT };
    let one = queued(enqueued(&*q, &Submission { key, alerts: alerts.clone() }).await);
    let other = q.submit(&alerts).await.unwrap();
    for (one, other) in one.iter().zip(&other) {
        let (mut one, other) = (story(&*q, *one).await, story(&*q, *other).await);
        assert!(one.alert.queued_at <= other.alert.queued_at);
        (one.alert.id, one.alert.queued_at) = (other.alert.id, other.alert.queued_at);
        assert_eq!(one, other);
    }
}

pub async fn submissions_of_one_call_come_one_after_the_other<F: Fixture>(f: &F) {
    let q = f.queue();
    let all = [
        submission(f, "a", &["one"]),
        submission(f, "b", &["one", "two"]),
        submission(f, "a", &["one"]),
        submission(f, "a", &["another"]),
        submission(f, "c", &["three"]),
        submission(f, "a", &["one"]),
    ];
    let submitted = q.enqueue(&all).await.unwrap();
    let [Submitted::Queued(a), Submitted::Queued(b), rest @ ..] = submitted.as_slice() else {
        panic!("{submitted:?}")
    };
    let [before, other, Submitted::Queued(c), last] = rest else { panic!("{submitted:?}") };
    assert_eq!([before, last], [&Submitted::Before(a.clone()); 2]);
    assert_eq!(*other, Submitted::OtherAlerts);
    assert_eq!(claimed_ids(&*q).await, [&a[..], b, c].concat());
    assert_eq!(q.enqueue(&[]).await.unwrap(), []);
    clean(&*q).await;
}

pub async fn a_large_submission_keeps_its_order<F: Fixture>(f: &F) {
    let q = f.queue();
    let texts: Vec<String> = (0..1000).map(|i| format!("no. {i}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let all = [submission(f, "z", &texts[..500]), submission(f, "a", &texts[500..])];
    let ids: Vec<AlertId> = q.enqueue(&all).await.unwrap().into_iter().flat_map(queued).collect();
    let told = claimed(&*q).await;
    let text = |id: &AlertId| &*told.iter().find(|a| a.id == *id).unwrap().text;
    assert_eq!(ids.iter().map(text).collect::<Vec<_>>(), texts);
}

pub async fn a_forgotten_key_is_anothers<F: Fixture>(f: &F) {
    let q = f.queue();
    let short = |text| {
        let one = submission(f, "http:1", &[text]);
        Submission { key: Key { kept: SHORT, ..one.key }, ..one }
    };
    let first = queued(enqueued(&*q, &short("one")).await);
    let long = submission(f, "http:2", &["long"]);
    let kept = queued(enqueued(&*q, &long).await);
    tokio::time::sleep(PAST_SHORT).await;
    let second = queued(enqueued(&*q, &short("another")).await);
    assert_eq!(enqueued(&*q, &short("another")).await, Submitted::Before(second.clone()));
    tokio::time::sleep(PAST_SHORT).await;
    let third = queued(enqueued(&*q, &short("another")).await);
    assert_eq!(
        enqueued(&*q, &long).await,
        Submitted::Before(kept.clone()),
        "each is kept as long as it says"
    );
    assert_eq!(claimed_ids(&*q).await, [first, kept, second, third].concat());
    clean(&*q).await;
}

/// Many hand in the same at the same time, in any order, on two connections: each is queued once, and all are told so.
pub async fn who_hands_in_the_same_at_once_queues_it_once<F: Fixture>(f: &F) {
    let (q, other) = (f.queue(), f.second().await);
    let all: Vec<Submission> = (0..20).map(|i| submission(f, &format!("key {i}"), &["a", "b"])).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (q, mut mine) = (if n % 2 == 0 { q.clone() } else { other.clone() }, all.clone());
        mine.rotate_left(n);
        tasks.spawn(async move {
            let mut told = q.enqueue(&mine).await.unwrap();
            told.rotate_right(n);
            told
        });
    }
    let told = tasks.join_all().await;
    let ids = |submitted: &Submitted| match submitted {
        Submitted::Queued(ids) | Submitted::Before(ids) => ids.clone(),
        other => panic!("{other:?}"),
    };
    let first: Vec<Vec<AlertId>> = told[0].iter().map(ids).collect();
    for told in &told {
        assert_eq!(told.iter().map(ids).collect::<Vec<_>>(), first);
    }
    let new = told.iter().flatten().filter(|one| matches!(one, Submitted::Queued(_))).count();
    assert_eq!((new, claimed(&*q).await.len()), (20, 40));
    clean(&*q).await;
}

pub async fn what_comes_too_late_is_not_queued<F: Fixture>(f: &F) {
    let q = f.queue();
    let one = submission(f, "http:1", &["one"]);
    let now = tokio::time::Instant::now();
    let late = q.enqueue_by(std::slice::from_ref(&one), now).await;
    assert!(matches!(&late, Err(QueueError::Unavailable(why)) if why.contains("too late")), "{late:?}");
    assert_eq!(claimed_ids(&*q).await, []);
    let told = q.enqueue_by(&[one], now + KEPT).await.unwrap();
    assert!(
        matches!(told.as_slice(), [Submitted::Queued(_)]),
        "nothing is remembered of what came too late: {told:?}"
    );
    clean(&*q).await;
}
