//! What is handed in.
//!
//! A batch is one transaction and one round trip. Keys come first, in one order for everybody: whoever hands
//! in the same at the same time waits until the other is through, and then finds it. A batch of which NAV's
//! table will not hold something is done by halves, so that what is wrong with one submission costs the
//! others some milliseconds. So is one that waits for a row that another session holds locked (an account
//! that is being deleted): the submission that needs it, and those for the same account, are told so, and the
//! others are queued.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::Type;

use super::{BEGIN, Verb, clean, ids, millis};
use crate::alert::AlertId;
use crate::queue::postgres::{Client, Parameter, Statement, in_transaction, is_late, spoils};
use crate::queue::submission::{AHEAD, Digest, forgotten_with, too_late};
use crate::queue::{NewAlert, QueueError, Submission, Submitted};

/// Keys that are not remembered any more, some at a time, last of all, and none that another is about to take
/// up again: so that nobody waits for it.
const FORGET: &str = "DELETE FROM smsd.submission WHERE key IN \
     (SELECT key FROM smsd.submission WHERE until <= now() ORDER BY until LIMIT $1 FOR UPDATE SKIP LOCKED)";

/// Those of the keys that are new, or forgotten, or were used by a clock that was ahead ([`AHEAD`]). Nobody
/// else sees them before their ids are there.
const REMEMBER: &str = "INSERT INTO smsd.submission AS s (key, digest, until) \
     SELECT key, digest, now() + kept * interval '1 ms' \
     FROM unnest($1::text[], $2::bytea[], $3::float8[]) AS t (key, digest, kept) ORDER BY key \
     ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, until = excluded.until, ids = NULL \
        WHERE s.until <= now() OR s.until > excluded.until + $4::float8 * interval '1 ms'";

/// The alerts of those. NAV's sequence gives ids in the order of the array. One row per key that was new.
const QUEUE: &str = "WITH fresh AS MATERIALIZED (SELECT t.nth, t.key \
        FROM unnest($1::text[]) WITH ORDINALITY AS t (key, nth) JOIN smsd.submission s ON s.key = t.key \
        WHERE s.ids IS NULL), \
     given AS MATERIALIZED (SELECT t.*, f.key, row_number() OVER (ORDER BY t.nth) AS place \
        FROM unnest($2::int[], $3::int[], $4::text[], $5::text[], $6::int[]) WITH ORDINALITY \
            AS t (submission, accountid, phone, msg, severity, nth) JOIN fresh f ON f.nth = t.submission), \
     new AS (INSERT INTO smsq (accountid, time, phone, msg, severity) \
        SELECT accountid, now(), phone, msg, severity FROM given ORDER BY place RETURNING id), \
     numbered AS MATERIALIZED (SELECT id, row_number() OVER (ORDER BY id) AS place FROM new), \
     queued AS MATERIALIZED (SELECT g.key, array_agg(n.id::bigint ORDER BY g.place) AS ids \
        FROM given g JOIN numbered n ON n.place = g.place GROUP BY g.key) \
     UPDATE smsd.submission s SET ids = q.ids FROM queued q WHERE s.key = q.key RETURNING s.key";

/// What stands under the keys now.
const FOUND: &str = "SELECT key, digest, ids FROM smsd.submission WHERE key = ANY ($1)";

/// No statement waits for another's lock beyond the time that is left.
const PATIENCE: &str = "SELECT set_config('statement_timeout', $1, true)";

/// Fails, and so undoes it all, if waiting has taken longer than that: the caller has been told no. There is
/// no such setting, and asking for one is an error that no row can cause ([`is_late`]).
const IN_TIME: &str = "SELECT CASE WHEN clock_timestamp() - now() >= $1::float8 * interval '1 ms' \
     THEN current_setting('smsd.too_late') END";
/// How long a statement waits for another's lock.
const LOCK_PATIENCE: &str = "SELECT set_config('lock_timeout', $1, true)";

/// So long a batch waits for a lock, then its halves, and then a submission that is left alone with it. In
/// milliseconds: the batches that wait behind have 10 s.
const FOR_ALL: f64 = 500.0;
const FOR_HALVES: f64 = 150.0;
const FOR_ONE: f64 = 2_000.0;

/// Whoever listens hears of it, trigger or not.
const NOTIFY: &str = "SELECT pg_notify('smsd', '')";

/// As long as a statement may take in any verb (`BEGIN`), in milliseconds.
const LONG: f64 = 20_000.0;

/// A submission on its way in.
struct Entry<'a> {
    submission: &'a Submission,
    key: Cow<'a, str>,
    digest: Digest,
}

/// What is known of a key.
enum Fate {
    /// These alerts are queued under it, now or before.
    Stands { digest: Digest, ids: Vec<AlertId>, new: bool },
    /// These were not to be queued, and others may be.
    Free { digest: Digest, why: Submitted },
}

impl Fate {
    /// What became of the submission that this was found out for; `None` if it is still to be queued.
    fn of(&self, entry: &Entry<'_>) -> Option<Submitted> {
        match self {
            Fate::Stands { digest, .. } if *digest != entry.digest => Some(Submitted::OtherAlerts),
            Fate::Stands { ids, new: true, .. } => Some(Submitted::Queued(ids.clone())),
            Fate::Stands { ids, .. } => Some(Submitted::Before(ids.clone())),
            Fate::Free { digest, why } => (*digest == entry.digest).then(|| why.clone()),
        }
    }
}

/// Queues what is not queued yet. Of submissions with one key a round sees to one; what became of it mostly
/// answers for the others. Once something is committed, the rest of the call no longer depends on `until`:
/// its answer tells of all.
pub(super) async fn enqueue(
    client: &Client,
    submissions: &[Submission],
    mut until: Option<Instant>,
) -> Verb<Vec<Submitted>> {
    let mut waiting: Vec<(usize, Entry<'_>)> = submissions.iter().map(Entry::of).enumerate().collect();
    let mut answers: Vec<(usize, Submitted)> = Vec::with_capacity(waiting.len());
    let mut fates: HashMap<String, Fate> = HashMap::new();
    while !waiting.is_empty() {
        let mut keys = HashSet::new();
        let (round, later): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, entry)| keys.insert(entry.key.clone()));
        by_halves(client, round.iter().map(|(_, entry)| entry).collect(), &mut until, &mut fates).await?;
        for (n, entry) in round {
            let answer = fates.get(&*entry.key).and_then(|fate| fate.of(&entry));
            // The server tells of every key that it was asked for.
            let unheard = || QueueError::Unavailable("a submission can not be found again".to_owned());
            answers.push((n, answer.ok_or_else(unheard)?));
        }
        for fate in fates.values_mut() {
            if let Fate::Stands { new, .. } = fate {
                *new = false;
            }
        }
        waiting = Vec::new();
        for (n, entry) in later {
            match fates.get(&*entry.key).and_then(|fate| fate.of(&entry)) {
                Some(answer) => answers.push((n, answer)),
                None => waiting.push((n, entry)),
            }
        }
    }
    answers.sort_unstable_by_key(|(n, _)| *n);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// Queues all of them together, or, where that can not be, each half by itself.
async fn by_halves(
    client: &Client,
    entries: Vec<&Entry<'_>>,
    until: &mut Option<Instant>,
    fates: &mut HashMap<String, Fate>,
) -> Verb<()> {
    let mut parts = vec![entries];
    let mut locked_out = LockedOut::default();
    let mut lock_patience = FOR_ALL;
    while let Some(part) = parts.pop() {
        let (locked, part): (Vec<_>, Vec<_>) = part.into_iter().partition(|entry| locked_out.shares(entry));
        for entry in locked {
            fates.insert(entry.key.to_string(), entry.not_now(&locked_out.why));
        }
        if part.is_empty() {
            continue;
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(too_late().into());
        }
        let patience = if part.len() == 1 { FOR_ONE } else { lock_patience };
        let error = match together(client, &part, left, patience, fates).await {
            Ok(()) => {
                *until = None;
                continue;
            }
            // The server's time began after ours: what it ended for being late is late here too.
            Err(error) if !error.is_closed() && until.is_some_and(|until| Instant::now() >= until) => {
                return Err(too_late().into());
            }
            Err(error) if is_late(&error) => return Err(too_late().into()),
            Err(error) => error,
        };
        match (spoils(&error), locks_out(&error), part.as_slice()) {
            (None, None, _) => return Err(error.into()),
            (Some(why), _, [entry]) => {
                let fate = Fate::Free { digest: entry.digest, why: entry.spoilt(why) };
                fates.insert(entry.key.to_string(), fate);
            }
            (_, Some(why), [entry]) => {
                locked_out.add(entry, why);
                fates.insert(entry.key.to_string(), entry.not_now(&locked_out.why));
            }
            (_, _, part) => {
                lock_patience = FOR_HALVES;
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second.to_vec(), first.to_vec()]);
            }
        }
    }
    Ok(())
}

/// What another session keeps from being queued.
#[derive(Default)]
struct LockedOut {
    accounts: HashSet<i32>,
    why: String,
}

impl LockedOut {
    fn add(&mut self, entry: &Entry<'_>, why: &DbError) {
        self.accounts.extend(entry.submission.alerts.iter().filter_map(|alert| alert.account));
        self.why = format!("a row that it needs is locked by another session: {}", why.message());
    }

    /// Most likely it would wait for the same lock.
    fn shares(&self, entry: &Entry<'_>) -> bool {
        let locked = |alert: &NewAlert| alert.account.is_some_and(|account| self.accounts.contains(&account));
        entry.submission.alerts.iter().any(locked)
    }
}

/// What PostgreSQL says of a statement that waited too long, for a lock or at all.
fn locks_out(error: &tokio_postgres::Error) -> Option<&DbError> {
    let error = error.as_db_error()?;
    let code = error.code();
    (*code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED).then_some(error)
}

/// Queues all of them, or none; none, if what is `left` of the time does not do.
async fn together(
    client: &Client,
    entries: &[&Entry<'_>],
    left: Option<Duration>,
    lock_patience: f64,
    fates: &mut HashMap<String, Fate>,
) -> Result<(), tokio_postgres::Error> {
    let keys: Vec<&str> = entries.iter().map(|e| &*e.key).collect();
    let digests: Vec<&[u8]> = entries.iter().map(|e| e.digest.as_slice()).collect();
    let kept: Vec<f64> = entries.iter().map(|e| millis(e.submission.key.kept)).collect();
    let alerts = || (1_i32..).zip(entries).flat_map(|(n, e)| e.submission.alerts.iter().map(move |a| (n, a)));
    let places: Vec<i32> = alerts().map(|(n, _)| n).collect();
    let accounts: Vec<Option<i32>> = alerts().map(|(_, a)| a.account).collect();
    let phones: Vec<&str> = alerts().map(|(_, a)| a.to.as_str()).collect();
    let texts: Vec<Cow<'_, str>> = alerts().map(|(_, a)| clean(&a.text)).collect();
    let severities: Vec<Option<i32>> = alerts().map(|(_, a)| a.severity.0).collect();
    let forget = i64::try_from(forgotten_with(entries.len())).unwrap_or(i64::MAX);
    let ahead = millis(AHEAD);
    let remember: [Parameter<'_>; 4] = [
        (&keys, Type::TEXT_ARRAY),
        (&digests, Type::BYTEA_ARRAY),
        (&kept, Type::FLOAT8_ARRAY),
        (&ahead, Type::FLOAT8),
    ];
    let queue: [Parameter<'_>; 6] = [
        (&keys, Type::TEXT_ARRAY),
        (&places, Type::INT4_ARRAY),
        (&accounts, Type::INT4_ARRAY),
        (&phones, Type::TEXT_ARRAY),
        (&texts, Type::TEXT_ARRAY),
        (&severities, Type::INT4_ARRAY),
    ];
    let (found, forget): ([Parameter<'_>; 1], [Parameter<'_>; 1]) =
        ([(&keys, Type::TEXT_ARRAY)], [(&forget, Type::INT8)]);
    let left = left.map_or(LONG, millis);
    let patience = format!("{}ms", left.ceil().min(LONG));
    let lock_patience = format!("{}ms", left.ceil().min(lock_patience));
    let (patience, in_time): ([Parameter<'_>; 1], [Parameter<'_>; 1]) =
        ([(&patience, Type::TEXT)], [(&left, Type::FLOAT8)]);
    let lock_patience: [Parameter<'_>; 1] = [(&lock_patience, Type::TEXT)];
    let statements: [Statement<'_>; 8] = [
        (PATIENCE, &patience),
        (LOCK_PATIENCE, &lock_patience),
        (REMEMBER, &remember),
        (QUEUE, &queue),
        (FOUND, &found),
        (FORGET, &forget),
        (NOTIFY, &[]),
        (IN_TIME, &in_time),
    ];
    let answers = in_transaction(client, BEGIN, &statements).await?;
    let mut new: HashSet<String> = HashSet::new();
    for row in answers.get(3).into_iter().flatten() {
        new.insert(row.try_get(0)?);
    }
    for row in answers.get(4).into_iter().flatten() {
        let key: String = row.try_get(0)?;
        // Another length is nobody's digest.
        let digest = Digest::try_from(row.try_get::<_, &[u8]>(1)?).unwrap_or_default();
        let stands = Fate::Stands { digest, ids: ids(row.try_get(2)?), new: new.contains(&key) };
        fates.insert(key, stands);
    }
    Ok(())
}

impl<'a> Entry<'a> {
    fn of(submission: &'a Submission) -> Entry<'a> {
        Entry { submission, key: clean(&submission.key.name), digest: submission.digest() }
    }

    /// It can be queued later.
    fn not_now(&self, why: &str) -> Fate {
        Fate::Free { digest: self.digest, why: Submitted::NotNow(why.to_owned()) }
    }

    /// Why it can not be queued.
    fn spoilt(&self, why: &DbError) -> Submitted {
        match *why.code() {
            SqlState::FOREIGN_KEY_VIOLATION => {
                let named = self.submission.alerts.iter().find_map(|alert| alert.account);
                Submitted::NoAccount(account_in(why.detail().unwrap_or_default()).or(named))
            }
            SqlState::NOT_NULL_VIOLATION => Submitted::NoAccount(None),
            SqlState::STRING_DATA_RIGHT_TRUNCATION => Submitted::Unfit(
                "NAV's table holds numbers of up to 15 and texts of up to 145 characters".to_owned(),
            ),
            _ => Submitted::Unfit(format!("the queue's table does not take it: {}", why.message())),
        }
    }
}

/// The account in `Key (accountid)=(99) is not present in table "account".`, in whatever language.
fn account_in(detail: &str) -> Option<i32> {
    detail.split_once(")=(")?.1.split_once(')')?.0.parse().ok()
}
