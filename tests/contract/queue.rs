//! The contract of [`Queue`], generic over a [`Fixture`].
//!
//! To run it over an implementation, write its fixture and one line:
//! `queue_contract!(MyFixture, tokio::test(flavor = "multi_thread"));`
//!
//! Every test begins with an empty queue of its own and ends with [`clean`]: whatever happened, the
//! audit finds every alert accounted for, unless the test itself made it false.

pub mod audit;
pub mod begin;
pub mod claim;
pub mod enqueue;
pub mod life;
pub mod past;
pub mod people;
pub mod reports;
pub mod resolve;
pub mod settle;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use smsd::alert::{Alert, AlertId, Phone, Reason, Severity, Verdict};
use smsd::queue::{
    AlertState, AttemptRow, AttemptState, Closing, Instance, Known, Look, NewAlert, NewAttempt, Queue,
    Settlement, Story,
};
use uuid::Uuid;

/// A queue under test, and what the rest of the world can do to it.
pub trait Fixture: Send + Sync + Sized + 'static {
    /// An empty queue of its own with its schema in place. What it needs goes away when it is dropped.
    fn fresh() -> impl Future<Output = Self> + Send;
    /// The queue as this process has it; always the same one.
    fn queue(&self) -> Arc<dyn Queue>;
    /// The same queue as another process would have it: a connection of its own.
    fn second(&self) -> impl Future<Output = Arc<dyn Queue>> + Send;
    /// Inserts a waiting alert as a foreign program would, past [`Queue::submit`], queued `age` ago.
    fn insert(
        &self,
        phone: &str,
        text: &str,
        severity: Severity,
        age: Duration,
    ) -> impl Future<Output = AlertId> + Send;
    /// Does to an alert's row what only a foreign program does; the ledger is not told.
    fn meddle(&self, id: AlertId, what: Meddling) -> impl Future<Output = ()> + Send;
    /// Damages the ledger: an unresolved attempt and its alerts no longer know of each other (one side is
    /// removed, whichever the schema lets be removed).
    fn orphan(&self, attempt: Uuid) -> impl Future<Output = ()> + Send;
    /// The account that [`Queue::submit`] wants (NAV); `None` where there are none.
    fn account(&self) -> Option<i32> {
        None
    }
}

/// What a foreign program does to an alert's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meddling {
    /// Deletes it.
    Delete,
    /// Marks it sent, now.
    Sent,
    /// Marks it ignored, now.
    Ignored,
    /// Makes it wait.
    Waiting,
}

/// A lease that outlasts every test.
pub const LONG: Duration = Duration::from_secs(120);
/// A lease that a test lets run out: long enough for what is done under it on a machine that does something else, too.
pub const SHORT: Duration = Duration::from_millis(1500);
/// By then a `SHORT` lease has run out.
pub const PAST_SHORT: Duration = Duration::from_millis(1650);

/// No attempt.
pub const NONE: [Uuid; 0] = [];

pub const PHONE: &str = "+4799999999";

pub fn phone(number: &str) -> Phone {
    Phone::parse(number).unwrap()
}

pub fn instance(lock: &str) -> Instance {
    Instance { id: Uuid::now_v7(), name: "host 1".into(), lock: lock.into() }
}

/// Joins as an instance with a lock of its own.
pub async fn joined(queue: &dyn Queue, ttl: Duration) -> Uuid {
    let id = Uuid::now_v7();
    queue
        .join(&Instance { id, name: "host 1".into(), lock: id.to_string() }, ttl, &Known::default())
        .await
        .unwrap();
    id
}

/// Submits `n` alerts of severity 3 to one number.
pub async fn submitted<F: Fixture>(f: &F, to: &str, n: usize) -> Vec<AlertId> {
    let alerts: Vec<NewAlert> = (0..n).map(|i| new_alert(f, to, &format!("alert {i}"), Some(3))).collect();
    f.queue().submit(&alerts).await.unwrap()
}

pub fn new_alert<F: Fixture>(f: &F, to: &str, text: &str, severity: Option<i32>) -> NewAlert {
    NewAlert { to: phone(to), text: text.into(), severity: Severity(severity), account: f.account() }
}

pub fn attempt(to: &str, carried: &[AlertId]) -> NewAttempt {
    NewAttempt {
        id: Uuid::now_v7(),
        recipient: phone(to),
        text: "1: first; 2: second".into(),
        dispatcher: "gateway".into(),
        number: 1,
        deadline: Duration::from_secs(30),
        carried: carried.to_vec(),
        counted: Vec::new(),
        possible_duplicate: false,
        resend_of: None,
    }
}

/// The attempt that repeats `old`.
pub fn resend(old: &NewAttempt) -> NewAttempt {
    NewAttempt {
        id: Uuid::now_v7(),
        number: old.number + 1,
        possible_duplicate: true,
        resend_of: Some(old.id),
        ..old.clone()
    }
}

/// Begins one attempt, which must come to be owned.
pub async fn begun(queue: &dyn Queue, owner: Uuid, to: &str, carried: &[AlertId]) -> NewAttempt {
    let attempt = attempt(to, carried);
    assert_eq!(
        queue.begin(owner, std::slice::from_ref(&attempt), &Known::default()).await.unwrap(),
        [attempt.id]
    );
    attempt
}

/// What the engine writes when an attempt was accepted.
pub fn accept(attempt: &NewAttempt) -> Settlement {
    let sent = attempt.carried.iter().map(|id| (*id, Verdict::Sent));
    let squeezed = attempt.counted.iter().map(|id| (*id, Verdict::Ignored(Reason::Squeezed)));
    Settlement {
        closing: Some(Closing {
            references: vec!["ref-1".into(), "42".into()],
            ..closing(attempt, AttemptState::Accepted, "accepted")
        }),
        verdicts: sent.chain(squeezed).collect(),
        detail: String::new(),
    }
}

/// What the engine writes when an attempt ends otherwise and its alerts wait on.
pub fn close(attempt: &NewAttempt, state: AttemptState, class: &'static str) -> Settlement {
    Settlement {
        closing: Some(closing(attempt, state, class)),
        verdicts: Vec::new(),
        detail: "as told".into(),
    }
}

/// What the engine writes when an attempt failed by its recipient's own fault.
pub fn fail(attempt: &NewAttempt) -> Settlement {
    let closing = Closing { own: true, ..closing(attempt, AttemptState::Rejected, "rejected") };
    Settlement { closing: Some(closing), ..close(attempt, AttemptState::Rejected, "rejected") }
}

fn closing(attempt: &NewAttempt, state: AttemptState, class: &'static str) -> Closing {
    Closing {
        id: attempt.id,
        state,
        class,
        code: Some("250".into()),
        detail: "as told".into(),
        references: Vec::new(),
        own: false,
    }
}

/// Settles one, of which nothing must be superseded or vanished.
pub async fn settled(queue: &dyn Queue, owner: Uuid, settlement: Settlement) {
    let settled = queue.settle(owner, &[settlement]).await.unwrap();
    assert_eq!(settled, Default::default());
}

/// Begins an attempt and brings it into doubt by its owner's word.
pub async fn doubtful(queue: &dyn Queue, owner: Uuid, to: &str, carried: &[AlertId]) -> NewAttempt {
    let attempt = begun(queue, owner, to, carried).await;
    settled(queue, owner, close(&attempt, AttemptState::InDoubt, "unknown")).await;
    attempt
}

pub async fn story(queue: &dyn Queue, id: AlertId) -> Story {
    queue.show(id).await.unwrap().unwrap()
}

pub async fn state(queue: &dyn Queue, id: AlertId) -> (AlertState, Option<Reason>) {
    let alert = story(queue, id).await.alert;
    (alert.state, alert.reason)
}

/// The record of an attempt, by way of one of its alerts.
pub async fn record(queue: &dyn Queue, alert: AlertId, attempt: Uuid) -> Option<AttemptRow> {
    story(queue, alert).await.attempts.into_iter().find(|a| a.id == attempt)
}

pub async fn attempt_state(queue: &dyn Queue, attempt: &NewAttempt) -> Option<AttemptState> {
    record(queue, attempt.carried[0], attempt.id).await.map(|a| a.state)
}

pub async fn claimed(queue: &dyn Queue) -> Vec<Alert> {
    queue.claim(Look::Full { after: None }, 1000, None).await.unwrap()
}

pub async fn claimed_ids(queue: &dyn Queue) -> Vec<AlertId> {
    claimed(queue).await.iter().map(|a| a.id).collect()
}

/// Every alert is accounted for, and the counts add up.
pub async fn clean(queue: &dyn Queue) {
    let audit = queue.audit().await.unwrap();
    assert_eq!(audit.offenders, [], "{audit:#?}");
    assert_eq!(audit.alerts, audit.waiting + audit.sent + audit.ignored + audit.before_ledger, "{audit:#?}");
}

/// One test of the contract, to be run over a fixture that is there already.
pub type Case<F> = (&'static str, fn(Arc<F>) -> BoxFuture<'static, ()>);

/// Runs the whole contract over one fixture: `queue_contract!(Fixture, tokio::test)` as a test each, where
/// the second argument is the test attribute; `queue_contract!(cases of Fixture)` is a list of [`Case`]s.
macro_rules! queue_contract {
    (cases of $fixture:ty) => {
        $crate::contract::queue::queue_contract! { # cases [$fixture] }
    };
    ($fixture:ty, $test:meta) => {
        $crate::contract::queue::queue_contract! { # tests [$fixture, $test] }
    };
    (# $what:ident [$($of:tt)*]) => {
        $crate::contract::queue::queue_contract! { @ $what [$($of)*]
            life {
                a_lease_lives_while_it_is_renewed
                a_lease_that_ran_out_is_not_renewed
                join_brings_attempts_of_the_expired_into_doubt
                join_brings_attempts_of_earlier_holders_of_our_lock_into_doubt
                join_leaves_the_living_alone
                a_repeated_join_changes_nothing
                leave_brings_open_attempts_into_doubt
                doubts_are_our_own_and_those_of_the_gone
                doubts_tell_all_that_a_resend_needs
                peers_are_those_whose_lease_is_good
                wait_notices_a_submit_here
                wait_notices_a_submit_before_it
                wait_waits_when_there_is_nothing
                wait_tells_new_alerts_from_those_that_wait_again
            }
            begin {
                what_is_begun_is_on_record
                an_alert_stands_in_one_unresolved_attempt
                a_counted_alert_is_held_too
                one_alert_twice_in_a_batch_goes_once
                a_recipient_has_one_open_attempt
                what_no_longer_waits_is_not_owned
                what_may_have_been_sent_goes_out_only_marked
                the_rest_of_a_batch_is_owned
                a_repeated_begin_finds_what_it_did
                a_repeated_begin_does_not_reopen
                without_a_lease_nothing_is_written
                a_resend_closes_what_it_repeats
                a_held_attempt_can_be_resent
                only_doubt_is_resent_and_only_once
                a_resend_carries_the_same_alerts
                a_refused_resend_leaves_the_doubt_as_it_was
                a_repeated_resend_finds_what_it_did
                two_racing_handles_own_each_alert_once
            }
            settle {
                acceptance_sends_and_squeezes
                failure_lets_alerts_wait_again
                rejection_ignores_with_its_reason
                doubt_holds_its_alerts
                a_policy_may_hold_a_doubt
                the_policy_may_hold_an_orphaned_doubt
                a_repeat_is_harmless
                a_repeat_after_a_requeue_does_not_send_again
                rows_that_changed_under_us_are_an_event
                acceptance_may_come_late
                acceptance_may_come_after_a_resend
                refusal_needs_the_owner
                refusal_comes_too_late_for_a_doubt
                an_unknown_attempt_is_superseded
                one_superseded_settlement_spoils_no_other
                an_alert_without_an_attempt_is_ignored_on_record
                an_alert_in_an_unresolved_attempt_is_not_ignored_past_it
                a_storm_to_one_phone_is_one_attempt
            }
            claim {
                most_severe_first_then_oldest
                pages_join_without_gap_or_overlap
                a_look_for_new_alerts_finds_them
                what_stands_in_an_unresolved_attempt_is_not_claimed
                an_earlier_sms_may_have_carried_it
                a_claim_tells_what_was_tried
                an_alert_is_claimed_as_it_was_queued
            }
            people {
                submit_returns_ids_in_order
                a_second_handle_sees_the_same
                cancel_all_that_waits
                cancel_some
                cancel_leaves_what_is_being_sent
                cancel_ends_doubt
                cancel_of_one_lets_its_companions_wait
                cancel_of_one_that_is_gone_lets_its_companions_wait
                requeue_makes_it_wait_again_on_record
                requeue_leaves_what_waits
                a_requeued_alert_does_not_expire_at_once
                expire_takes_the_old
                expire_takes_nothing_that_came_since_the_last_look
                expire_leaves_unresolved_attempts_alone
                list_filters_and_pages
                show_tells_the_whole_story
                stats_count
            }
            resolve {
                accepting_sends_what_the_sms_carried
                released_alerts_wait_again_as_possible_duplicates
                a_crash_leaves_a_doubt_that_a_person_can_decide
                only_what_is_in_doubt_or_held_is_decided
                a_late_answer_changes_no_decision_but_a_release
                a_decision_races_a_resend
                a_decision_leaves_what_changed_under_us
                a_released_alert_does_not_expire_at_once
            }
            past {
                what_is_known_to_be_committed_is_found_again
                an_idle_instance_is_shown_what_others_begin
                nothing_is_begun_on_a_server_that_was_not_heard_of
                a_queue_that_forgot_is_not_written_to
                what_is_suspect_is_held_on_record
                what_came_later_is_not_suspect
                pages_hold_each_alert_once
                doubts_of_the_gone_are_held_with_the_rest
                without_a_lease_nothing_is_held
                what_is_held_so_is_decided_as_a_whole
                what_is_held_so_is_decided_where_its_rows_are_gone
            }
            enqueue {
                a_submission_is_queued_once
                what_is_enqueued_is_as_what_is_submitted
                submissions_of_one_call_come_one_after_the_other
                a_large_submission_keeps_its_order
                a_forgotten_key_is_anothers
                who_hands_in_the_same_at_once_queues_it_once
                what_comes_too_late_is_not_queued
            }
            reports {
                depth_counts_what_waits
                mention_says_what_alerts_are_and_whose
                recent_attempts_come_in_pages
                undecided_attempts_come_oldest_first
                history_sums_what_has_ended
            }
            audit {
                an_empty_queue_is_clean
                a_regular_history_is_clean
                sent_without_an_accepted_attempt
                ignored_without_a_reason
                waiting_though_an_accepted_attempt_carries_it
                unresolved_rows_that_point_nowhere
                accepted_twice_without_the_mark
                accepted_twice_with_the_mark_is_on_record
                deleted_rows_are_no_offence
            }
        }
    };
    (@ cases [$fixture:ty] $($module:ident { $($name:ident)* })*) => {
        vec![$($((
            concat!(stringify!($module), "::", stringify!($name)),
            (|fixture| {
                Box::pin(async move { $crate::contract::queue::$module::$name::<$fixture>(&fixture).await })
            }) as fn(Arc<$fixture>) -> futures_util::future::BoxFuture<'static, ()>,
        ),)*)*]
    };
    (@ tests [$fixture:ty, $test:meta] $($module:ident { $($name:ident)* })*) => {
        $(mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(#[$test]
            async fn $name() {
                let fixture = <$fixture as $crate::contract::queue::Fixture>::fresh().await;
                $crate::contract::queue::$module::$name(&fixture).await;
            })*
        })*
    };
}
pub(crate) use queue_contract;
