//! Random histories, told to the queue in memory and to another one alike, the embedded one or NAV's: every
//! answer and everything visible afterwards is the same, and the audit is clean all along.
//!
//! The histories are regular, as the engine's are: what may have reached the phone is marked, and nothing is
//! accepted that was surely not taken. Within that, anything goes: strangers settle, the dead come back,
//! verbs are repeated, people cancel and requeue whatever they like.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use smsd::alert::{Alert, AlertId, Reason, Severity, Verdict};
use smsd::queue::memory::MemoryQueue;
use smsd::queue::navdb;
use smsd::queue::sqlite::SqliteQueue;
use smsd::queue::{
    Age, AttemptRow, AttemptState, Audit, Decision, Filter, Instance, Key, Known, Look, NewAlert, NewAttempt,
    Place, Queue, Settlement, Stats, Story, Submission, Submitted, Which,
};
use uuid::Uuid;

use super::navdb::Nav;
use super::queue::{Fixture, LONG, accept, attempt, close, phone, resend};

const PHONES: [&str; 3] = ["+4790000001", "+4790000002", "112"];

/// Small numbers choose among what there is by then.
#[derive(Clone, Debug)]
enum Step {
    Submit {
        to: usize,
        severity: Option<i32>,
        n: usize,
    },
    /// Few keys and texts: some are handed in again, some with other alerts.
    Enqueue(Vec<(usize, usize)>),
    Join {
        heir_of: Option<usize>,
    },
    Leave(usize),
    Begin {
        owner: usize,
        to: usize,
        carried: usize,
        counted: usize,
    },
    /// Any alerts, in any number: most of these are not to be owned.
    BeginAny {
        owner: usize,
        to: usize,
        alerts: Vec<usize>,
    },
    Resend {
        owner: usize,
        attempt: usize,
    },
    Accept {
        by: usize,
        attempt: usize,
    },
    Close {
        by: usize,
        attempt: usize,
        state: usize,
        class: usize,
        ignore: bool,
    },
    Ignore {
        by: usize,
        alerts: Vec<usize>,
    },
    Cancel(Vec<usize>),
    CancelAll,
    Resolve(Vec<usize>, bool),
    Requeue(Vec<usize>),
    Expire(bool),
    RepeatBegin,
    RepeatSettle,
}

fn step() -> impl Strategy<Value = Step> {
    let one = 0..64_usize;
    let some = || vec(0..64_usize, 1..4);
    prop_oneof![
        4 => (0..3_usize, prop_oneof![Just(None), (1..5).prop_map(Some)], 1..4_usize)
            .prop_map(|(to, severity, n)| Step::Submit { to, severity, n }),
        2 => vec((0..4_usize, 0..2_usize), 1..4).prop_map(Step::Enqueue),
        1 => prop::option::of(one.clone()).prop_map(|heir_of| Step::Join { heir_of }),
        1 => one.clone().prop_map(Step::Leave),
        8 => (one.clone(), 0..3_usize, 1..3_usize, 0..3_usize)
            .prop_map(|(owner, to, carried, counted)| Step::Begin { owner, to, carried, counted }),
        2 => (one.clone(), 0..3_usize, some())
            .prop_map(|(owner, to, alerts)| Step::BeginAny { owner, to, alerts }),
        4 => (one.clone(), one.clone()).prop_map(|(owner, attempt)| Step::Resend { owner, attempt }),
        6 => (one.clone(), one.clone()).prop_map(|(by, attempt)| Step::Accept { by, attempt }),
        8 => (one.clone(), one.clone(), 0..8_usize, 0..3_usize, any::<bool>())
            .prop_map(|(by, attempt, state, class, ignore)| Step::Close { by, attempt, state, class, ignore }),
        1 => (one.clone(), some()).prop_map(|(by, alerts)| Step::Ignore { by, alerts }),
        2 => some().prop_map(Step::Cancel),
        1 => Just(Step::CancelAll),
        3 => (some(), any::<bool>()).prop_map(|(alerts, accept)| Step::Resolve(alerts, accept)),
        3 => some().prop_map(Step::Requeue),
        1 => any::<bool>().prop_map(Step::Expire),
        1 => Just(Step::RepeatBegin),
        1 => Just(Step::RepeatSettle),
    ]
}

/// Both queues, and what the history has made so far.
struct World<'q> {
    memory: MemoryQueue,
    other: &'q dyn Queue,
    alerts: Vec<AlertId>,
    instances: Vec<Instance>,
    attempts: Vec<NewAttempt>,
    last_begin: Option<(Uuid, NewAttempt)>,
    last_settle: Option<(Uuid, Settlement)>,
}

/// Asks both the same; both must answer the same.
macro_rules! both {
    ($world:expr, $q:ident => $call:expr) => {{
        let $q = &$world.memory;
        let expected = $call.await;
        let $q = &$world.other;
        let found = $call.await;
        assert_eq!(format!("{expected:?}"), format!("{found:?}"), "{}", stringify!($call));
        expected
    }};
}

impl<'q> World<'q> {
    fn new(other: &'q dyn Queue) -> World<'q> {
        World {
            memory: MemoryQueue::new(),
            other,
            alerts: Vec::new(),
            instances: Vec::new(),
            attempts: Vec::new(),
            last_begin: None,
            last_settle: None,
        }
    }

    /// Lives through the steps; looks at everything after each so many of them, and at the end.
    async fn live(&mut self, steps: &[Step], looks: usize) {
        self.step(&Step::Join { heir_of: None }).await;
        for (n, step) in steps.iter().enumerate() {
            self.step(step).await;
            if n % looks == 0 {
                self.look().await;
            }
        }
        self.look().await;
        self.stories().await;
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Submit { to, severity, n } => {
                let new = |i| NewAlert {
                    to: phone(PHONES[*to]),
                    text: format!("alert {i}").into(),
                    severity: Severity(*severity),
                    account: None,
                };
                let alerts: Vec<NewAlert> = (0..*n).map(new).collect();
                self.alerts.extend(both!(self, q => q.submit(&alerts)).unwrap());
            }
            Step::Enqueue(some) => {
                let new = |(key, text): &(usize, usize)| Submission {
                    key: Key { name: format!("key {key}"), kept: LONG },
                    alerts: vec![NewAlert {
                        to: phone(PHONES[*key % 3]),
                        text: format!("text {text}").into(),
                        severity: Severity(None),
                        account: None,
                    }],
                };
                let some: Vec<Submission> = some.iter().map(new).collect();
                for submitted in both!(self, q => q.enqueue(&some)).unwrap() {
                    if let Submitted::Queued(ids) = submitted {
                        self.alerts.extend(ids);
                    }
                }
            }
            Step::Join { heir_of } => {
                let lock = heir_of.map_or_else(|| Uuid::now_v7().to_string(), |i| self.instance(i).lock);
                let new = Instance { id: Uuid::now_v7(), name: "host 1".into(), lock };
                both!(self, q => async { q.join(&new, LONG, &Known::default()).await.map(|_| ()) }).unwrap();
                self.instances.push(new);
            }
            Step::Leave(i) => {
                let id = self.instance(*i).id;
                both!(self, q => q.leave(id)).unwrap();
                both!(self, q => async { q.renew(id, LONG, &Known::default()).await.map(|_| ()) })
                    .unwrap_err();
            }
            Step::Begin { owner, to, carried, counted } => {
                let waiting = self.memory.claim(Look::Full { after: None }, usize::MAX, None).await.unwrap();
                let ids: Vec<AlertId> =
                    waiting.iter().filter(|a| a.phone == PHONES[*to]).map(|a| a.id).collect();
                if let Some((carried, rest)) = ids.split_at_checked(*carried) {
                    let counted = rest.iter().copied().take(*counted).collect();
                    self.begin(*owner, NewAttempt { counted, ..attempt(PHONES[*to], carried) }).await;
                }
            }
            Step::BeginAny { owner, to, alerts } => {
                let ids = self.some_alerts(alerts);
                self.begin(*owner, attempt(PHONES[*to], &ids)).await;
            }
            Step::Resend { owner, attempt } => {
                if let Some(old) = self.attempt(*attempt) {
                    self.begin(*owner, resend(&old)).await;
                }
            }
            Step::Accept { by, attempt } => {
                if let Some(attempt) = self.attempt(*attempt)
                    && self.may_have_been_taken(&attempt).await
                {
                    self.settle(*by, accept(&attempt)).await;
                }
            }
            Step::Close { by, attempt, state, class, ignore } => {
                let (state, class) =
                    (AttemptState::ALL[*state], ["unavailable", "failed", "rejected"][*class]);
                if let Some(attempt) = self.attempt(*attempt)
                    && state != AttemptState::Accepted
                {
                    let verdicts = match state {
                        AttemptState::Rejected if *ignore => attempt
                            .carried
                            .iter()
                            .map(|id| (*id, Verdict::Ignored(Reason::Rejected)))
                            .collect(),
                        _ => Vec::new(),
                    };
                    let mut settlement = Settlement { verdicts, ..close(&attempt, state, class) };
                    if let Some(closing) = &mut settlement.closing {
                        closing.own = class == "rejected";
                    }
                    self.settle(*by, settlement).await;
                }
            }
            Step::Ignore { by, alerts } => {
                // An alert has one verdict in a settlement.
                let ended: BTreeSet<AlertId> = self.some_alerts(alerts).into_iter().collect();
                let verdicts =
                    ended.into_iter().map(|id| (id, Verdict::Ignored(Reason::RetryLimit))).collect();
                self.settle(*by, Settlement { closing: None, verdicts, detail: "retry limit".into() }).await;
            }
            Step::Cancel(alerts) => {
                let which = Which::Ids(self.some_alerts(alerts));
                both!(self, q => q.cancel(&which, "ann")).unwrap();
            }
            Step::CancelAll => {
                both!(self, q => q.cancel(&Which::All, "ann")).unwrap();
            }
            Step::Resolve(alerts, accept) => {
                let ids = self.some_alerts(alerts);
                let decision = if *accept { Decision::Accept } else { Decision::Resend };
                both!(self, q => q.resolve(&ids, decision, "eve")).unwrap();
            }
            Step::Requeue(alerts) => {
                let ids = self.some_alerts(alerts);
                both!(self, q => q.requeue(&ids, "bob")).unwrap();
            }
            Step::Expire(all) => {
                // Older than nothing at all: make sure that both clocks have moved since the last submit.
                std::thread::sleep(Duration::from_micros(5));
                let (text, duration) = match all {
                    true => ("0 seconds", Duration::ZERO),
                    false => ("1 hour", Duration::from_secs(3600)),
                };
                both!(self, q => q.expire(&Age { text: text.into(), duration })).unwrap();
            }
            Step::RepeatBegin => {
                if let Some((owner, new)) = self.last_begin.clone() {
                    let _ = both!(self, q => q.begin(owner, std::slice::from_ref(&new), &Known::default()));
                }
            }
            Step::RepeatSettle => {
                if let Some((by, settlement)) = self.last_settle.clone() {
                    both!(self, q => q.settle(by, std::slice::from_ref(&settlement))).unwrap();
                }
            }
        }
    }

    /// Begins as the engine does: what an earlier SMS may have carried is marked.
    async fn begin(&mut self, owner: usize, mut new: NewAttempt) {
        let waiting = self.memory.claim(Look::Full { after: None }, usize::MAX, None).await.unwrap();
        new.possible_duplicate |= waiting
            .iter()
            .any(|a| a.maybe_sent && (new.carried.contains(&a.id) || new.counted.contains(&a.id)));
        let owner = self.instance(owner).id;
        let _ = both!(self, q => q.begin(owner, std::slice::from_ref(&new), &Known::default()));
        self.attempts.push(new.clone());
        self.last_begin = Some((owner, new));
    }

    async fn settle(&mut self, by: usize, settlement: Settlement) {
        let by = self.instance(by).id;
        both!(self, q => q.settle(by, std::slice::from_ref(&settlement))).unwrap();
        self.last_settle = Some((by, settlement));
    }

    async fn may_have_been_taken(&self, attempt: &NewAttempt) -> bool {
        let Some(story) = self.memory.show(attempt.carried[0]).await.unwrap() else { return false };
        story.attempts.iter().any(|a| {
            a.id == attempt.id
                && match a.state {
                    AttemptState::Failed => a.class.as_deref() == Some("failed"),
                    state => state != AttemptState::Rejected,
                }
        })
    }

    /// All that can be seen is the same, and all is accounted for.
    async fn look(&self) {
        let all = Filter { state: None, to: None, limit: usize::MAX, before: None };
        let listed = (self.memory.list(&all).await.unwrap(), self.other.list(&all).await.unwrap());
        assert_eq!(listed.0.len(), listed.1.len());
        for (memory, other) in listed.0.iter().zip(&listed.1) {
            let mut other = other.clone();
            level(&mut other.queued_at, memory.queued_at);
            level(&mut other.ended_at, memory.ended_at);
            assert_eq!(*memory, other);
        }
        let first = self.memory.claim(Look::Full { after: None }, 2, None).await.unwrap();
        let after = first.last().map(|a| Place { severity: a.severity, id: a.id });
        for look in [Look::Full { after: None }, Look::Full { after }, Look::New { after: AlertId(3) }] {
            let (memory, mut other) = (
                ageless(self.memory.claim(look, 10, None).await.unwrap()),
                ageless(self.other.claim(look, 10, None).await.unwrap()),
            );
            if let Look::New { after } = look {
                // Some from below may come with them: see the overlap of NAV's queue.
                other.retain(|alert| alert.id > after);
            }
            for (other, memory) in other.iter_mut().zip(&memory) {
                other.queued_at = memory.queued_at;
            }
            assert_eq!(memory, other, "{look:?}");
        }
        for instance in &self.instances {
            let mut doubts = (
                self.memory.doubts(instance.id).await.unwrap(),
                self.other.doubts(instance.id).await.unwrap(),
            );
            for all in [&mut doubts.0, &mut doubts.1] {
                all.sort_by_key(|d| d.id);
                all.iter_mut().for_each(|d| d.age = Duration::ZERO);
            }
            assert_eq!(format!("{:?}", doubts.0), format!("{:?}", doubts.1));
        }
        let stats = async |q: &dyn Queue| {
            let stats = q.stats().await.unwrap();
            Stats { oldest_waiting_seconds: stats.oldest_waiting_seconds.map(|_| 0), ..stats }
        };
        assert_eq!(stats(&self.memory).await, stats(self.other).await);
        let depth = async |q: &dyn Queue| {
            let mut depth = q.depth().await.unwrap();
            depth.waiting.iter_mut().for_each(|layer| level(&mut layer.oldest, Some(Timestamp::UNIX_EPOCH)));
            depth
        };
        assert_eq!(depth(&self.memory).await, depth(self.other).await);
        let timeless = |rows: Vec<AttemptRow>| rows.into_iter().map(timeless_attempt).collect::<Vec<_>>();
        // One that was begun: what "before" another means, each queue may take from what it has of it.
        let begun = self.memory.recent(None, usize::MAX).await.unwrap();
        let before = begun.get(begun.len() / 2).map(|a| a.id);
        for (memory, other) in [
            (self.memory.recent(None, 5).await, self.other.recent(None, 5).await),
            (self.memory.recent(before, 5).await, self.other.recent(before, 5).await),
            (self.memory.undecided(5).await, self.other.undecided(5).await),
        ] {
            assert_eq!(timeless(memory.unwrap()), timeless(other.unwrap()));
        }
        let counts = async |q: &dyn Queue| {
            // One period holds them all.
            let step = Duration::from_secs(1 << 40);
            let all = q.history(Timestamp::UNIX_EPOCH, step).await.unwrap().into_iter();
            all.map(|p| (p.dispatcher, p.accepted, p.failed)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&self.memory).await, counts(self.other).await);
        let audit: Audit = both!(self, q => q.audit()).unwrap();
        assert_eq!(audit.offenders, []);
        assert_eq!(audit.alerts, audit.waiting + audit.sent + audit.ignored);
    }

    async fn stories(&self) {
        for id in &self.alerts {
            let memory = self.memory.show(*id).await.unwrap().unwrap();
            let other = self.other.show(*id).await.unwrap().unwrap();
            assert_eq!(timeless(memory), timeless(other));
        }
    }

    fn instance(&self, i: usize) -> Instance {
        self.instances[i % self.instances.len()].clone()
    }

    fn attempt(&self, i: usize) -> Option<NewAttempt> {
        // The newest are the ones that something can still happen to.
        self.attempts.iter().rev().take(8).nth(i % 8).cloned()
    }

    fn some_alerts(&self, choice: &[usize]) -> Vec<AlertId> {
        // One more than there are: an id that nobody has.
        choice.iter().map(|i| AlertId(1 + i64::try_from(i % (self.alerts.len() + 1)).unwrap())).collect()
    }
}

fn level(found: &mut Option<Timestamp>, expected: Option<Timestamp>) {
    if found.is_some() && expected.is_some() {
        *found = expected;
    }
}

/// Alerts whose attempts were all made now.
fn ageless(mut alerts: Vec<Alert>) -> Vec<Alert> {
    for alert in &mut alerts {
        let ages = alert.tried.failed.iter_mut().chain(&mut alert.tried.copies);
        ages.for_each(|age| *age = Duration::ZERO);
    }
    alerts
}

/// A story with every time that is there set to one value.
fn timeless(mut story: Story) -> Story {
    let level = |t: &mut Option<Timestamp>| *t = t.map(|_| Timestamp::UNIX_EPOCH);
    level(&mut story.alert.queued_at);
    level(&mut story.alert.ended_at);
    story.attempts = story.attempts.into_iter().map(timeless_attempt).collect();
    story.notes.iter_mut().for_each(|note| note.at = Timestamp::UNIX_EPOCH);
    story
}

fn timeless_attempt(attempt: AttemptRow) -> AttemptRow {
    let ended_at = attempt.ended_at.map(|_| Timestamp::UNIX_EPOCH);
    AttemptRow { begun_at: Timestamp::UNIX_EPOCH, ended_at, ..attempt }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_and_sqlite_tell_the_same_story(steps in vec(step(), 1..80)) {
        runtime().block_on(async {
            let dir = tempfile::TempDir::new().unwrap();
            let path = dir.path().join("queue.db");
            let queue = SqliteQueue::open(&path, Duration::from_secs(1), true).await.unwrap();
            World::new(&queue).live(&steps, 1).await;
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// In one database, which is emptied for each history; what is visible is looked at less often, since
    /// that takes the most time.
    #[test]
    fn memory_and_postgresql_tell_the_same_story(steps in vec(step(), 1..80)) {
        static NAV: std::sync::OnceLock<Nav> = std::sync::OnceLock::new();
        let nav = NAV.get_or_init(|| runtime().block_on(Nav::fresh()));
        nav.empty();
        runtime().block_on(async {
            let queue = navdb::open(&nav.target, false).await.unwrap();
            World::new(&queue).live(&steps, 8).await;
        });
    }
}
