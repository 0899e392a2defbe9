//! Leases, and the way of an attempt: begun, settled. Each runs in the caller's transaction.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, named_params, params};
use uuid::Uuid;

use super::clock::{Now, boot_id, micros};
use super::failure::Failure;
use super::origin::repeats;
use super::past::{grant, remember};
use crate::alert::{AlertId, Reason, Verdict};
use crate::queue::ledger::{Judgement, judge};
use crate::queue::{AttemptState, Closing, Grant, Instance, Known, NewAttempt, Settled, Settlement};

pub(super) fn join(
    conn: &Connection,
    instance: &Instance,
    ttl: Duration,
    known: &Known,
    now: Now,
) -> Result<Grant, Failure> {
    const HEIR: &str = "UPDATE instance SET lease_until = 0 WHERE lock = :lock AND id <> :id";
    const JOIN: &str = "
        INSERT INTO instance (id, name, lock, joined_at, boot, lease_until)
        VALUES (:id, :name, :lock, :wall, :boot, :until)
        ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, lease_until = excluded.lease_until";
    remember(conn, known)?;
    let id = instance.id.to_string();
    conn.prepare_cached(HEIR)?.execute(named_params! { ":lock": instance.lock, ":id": id })?;
    conn.prepare_cached(JOIN)?.execute(named_params! {
        ":id": id, ":name": instance.name, ":lock": instance.lock, ":wall": now.wall,
        ":boot": boot_id(), ":until": until(ttl, now),
    })?;
    reap(conn, now)?;
    grant(conn, now)
}

/// What was `asked` in time, and waited for the file, is granted, unless another instance has ended the lease meanwhile.
pub(super) fn renew(
    conn: &Connection,
    instance: Uuid,
    ttl: Duration,
    known: &Known,
    asked: Now,
    now: Now,
) -> Result<Grant, Failure> {
    // Zero is the end of a lease that another instance has taken notice of, or that was given back.
    const RENEW: &str = "
        UPDATE instance SET lease_until = :until
        WHERE id = :id AND boot = :boot AND lease_until > :asked";
    remember(conn, known)?;
    let renewed = conn.prepare_cached(RENEW)?.execute(named_params! {
        ":until": until(ttl, now), ":id": instance.to_string(), ":boot": boot_id(), ":asked": asked.uptime,
    })?;
    if renewed == 1 { grant(conn, now) } else { Err(Failure::LeaseLost) }
}

pub(super) fn leave(conn: &Connection, instance: Uuid, now: Now) -> Result<(), Failure> {
    const LEAVE: &str = "UPDATE instance SET lease_until = 0 WHERE id = ?";
    conn.prepare_cached(LEAVE)?.execute([instance.to_string()])?;
    reap(conn, now)
}

/// Ends every lease that has run out, for good, and brings the open attempts of their instances into doubt.
pub(super) fn reap(conn: &Connection, now: Now) -> Result<(), Failure> {
    const END: &str = "
        UPDATE instance SET lease_until = 0
        WHERE lease_until <> 0 AND NOT (boot = :boot AND lease_until > :uptime)";
    const REAP: &str = "
        UPDATE attempt SET state = 'in_doubt', doubt_since = :wall
        WHERE state = 'open' AND instance NOT IN
            (SELECT seq FROM instance WHERE boot = :boot AND lease_until > :uptime)";
    let clock = named_params! { ":boot": boot_id(), ":uptime": now.uptime };
    conn.prepare_cached(END)?.execute(clock)?;
    conn.prepare_cached(REAP)?
        .execute(named_params! { ":wall": now.wall, ":boot": boot_id(), ":uptime": now.uptime })?;
    Ok(())
}

pub(super) fn begin(
    conn: &Connection,
    owner: Uuid,
    attempts: &[NewAttempt],
    known: &Known,
    now: Now,
) -> Result<Vec<Uuid>, Failure> {
    remember(conn, known)?;
    let owner = living(conn, owner, now)?.ok_or(Failure::LeaseLost)?;
    let mut owned = Vec::new();
    for new in attempts {
        conn.prepare_cached("SAVEPOINT attempt")?.execute([])?;
        if begin_one(conn, owner, new, now)? {
            owned.push(new.id);
        } else {
            conn.prepare_cached("ROLLBACK TO attempt")?.execute([])?;
        }
        conn.prepare_cached("RELEASE attempt")?.execute([])?;
    }
    Ok(owned)
}

/// Writes one attempt; false if it is not owned, and what was written is to be rolled back. The unique indexes
/// are the lock: a row that they refuse is not inserted, and the count tells.
fn begin_one(conn: &Connection, owner: i64, new: &NewAttempt, now: Now) -> Result<bool, Failure> {
    const KNOWN: &str = "SELECT instance = ?2 AND state = 'open' FROM attempt WHERE id = ?1";
    const INSERT: &str = "
        INSERT INTO attempt (id, recipient, text, dispatcher, number, state, instance, begun_at, deadline_at,
            possible_duplicate, resend_of)
        VALUES (:id, :recipient, :text, :dispatcher, :number, 'open', :owner, :wall, :deadline, :duplicate, :resend)
        ON CONFLICT DO NOTHING";
    const STAND: &str = "
        INSERT INTO attempt_alert (attempt, position, alert, counted)
        SELECT ?1, ?2, id, ?4 FROM alert WHERE id = ?3 AND state = 'waiting'
        ON CONFLICT DO NOTHING";
    // As the claim has it: what another instance has learned since the alert was claimed counts too.
    const UNMARKED: &str = concat!(
        "SELECT EXISTS (SELECT 1 FROM attempt_alert n JOIN attempt_alert s ON s.alert = n.alert
            JOIN attempt t ON t.seq = s.attempt
            WHERE n.attempt = ?1
                AND (t.state IN ('resent', 'cancelled') OR t.state = 'failed' AND t.class = 'failed'))
        OR EXISTS (SELECT 1 FROM attempt_alert n WHERE n.attempt = ?1 AND ",
        repeats!("n.alert"),
        ")"
    );
    let id = new.id.to_string();
    if let Some(ours) =
        conn.prepare_cached(KNOWN)?.query_row(params![id, owner], |row| row.get(0)).optional()?
    {
        return Ok(ours);
    }
    if let Some(old) = new.resend_of
        && !end_repeated(conn, old, new, now)?
    {
        return Ok(false);
    }
    let inserted = conn.prepare_cached(INSERT)?.execute(named_params! {
        ":id": id, ":recipient": new.recipient.as_str(), ":text": &*new.text, ":dispatcher": &*new.dispatcher,
        ":number": new.number, ":owner": owner, ":wall": now.wall,
        ":deadline": now.wall.saturating_add(micros(new.deadline)), ":duplicate": new.possible_duplicate,
        ":resend": new.resend_of.map(|old| old.to_string()),
    })?;
    if inserted != 1 {
        return Ok(false);
    }
    let attempt = conn.last_insert_rowid();
    let mut stand = conn.prepare_cached(STAND)?;
    for (position, (alert, counted)) in (0_i64..).zip(alerts(new)) {
        if stand.execute(params![attempt, position, alert, counted])? != 1 {
            return Ok(false);
        }
    }
    if !new.possible_duplicate
        && conn.prepare_cached(UNMARKED)?.query_row([attempt], |row| row.get::<_, bool>(0))?
    {
        return Ok(false);
    }
    Ok(!new.carried.is_empty() || !new.counted.is_empty())
}

/// Closes the attempt that `new` repeats; false if it does not wait to be repeated, or has other alerts.
fn end_repeated(conn: &Connection, old: Uuid, new: &NewAttempt, now: Now) -> Result<bool, Failure> {
    const OLD: &str = "SELECT seq FROM attempt WHERE id = ? AND state IN ('in_doubt', 'held')";
    const ALERTS: &str = "SELECT alert, counted FROM attempt_alert WHERE attempt = ?";
    const END: &str = "UPDATE attempt SET state = 'resent', ended_at = ? WHERE seq = ?";
    let Some(attempt) =
        conn.prepare_cached(OLD)?.query_row([old.to_string()], |row| row.get::<_, i64>(0)).optional()?
    else {
        return Ok(false);
    };
    let mut before = (conn.prepare_cached(ALERTS)?)
        .query_map([attempt], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, bool)>, _>>()?;
    let mut after: Vec<(i64, bool)> = alerts(new).collect();
    before.sort_unstable();
    after.sort_unstable();
    if before != after {
        return Ok(false);
    }
    conn.prepare_cached(END)?.execute(params![now.wall, attempt])?;
    release(conn, attempt)?;
    Ok(true)
}

pub(super) fn settle(
    conn: &Connection,
    owner: Uuid,
    settlements: &[Settlement],
    now: Now,
) -> Result<Settled, Failure> {
    let mut settled = Settled::default();
    for settlement in settlements {
        let closed = match &settlement.closing {
            None => None,
            Some(closing) => match close(conn, owner, closing, now)? {
                (Judgement::Close, attempt) => attempt.filter(|_| closing.state == AttemptState::Accepted),
                (Judgement::Repeat, _) => continue,
                (Judgement::Superseded, _) => {
                    settled.superseded.push(closing.id);
                    continue;
                }
            },
        };
        for (id, verdict) in &settlement.verdicts {
            if !apply(conn, *id, *verdict, closed, &settlement.detail, now)? {
                settled.vanished.push(*id);
            }
        }
    }
    Ok(settled)
}

/// Closes an attempt if that may be; returns its row.
fn close(
    conn: &Connection,
    owner: Uuid,
    closing: &Closing,
    now: Now,
) -> Result<(Judgement, Option<i64>), Failure> {
    const ATTEMPT: &str = "
        SELECT t.seq, t.state, t.instance, i.boot = ?2 AND i.lease_until > ?3
        FROM attempt t JOIN instance i ON i.seq = t.instance WHERE t.id = ?1";
    const CLOSE: &str = "
        UPDATE attempt SET state = :state, class = :class, code = :code, detail = :detail, refs = :refs, own = :own,
            ended_at = CASE WHEN :ends THEN :wall END,
            doubt_since = CASE WHEN :state = 'in_doubt' THEN :wall ELSE doubt_since END
        WHERE seq = :seq AND state = :from";
    let found = conn
        .prepare_cached(ATTEMPT)?
        .query_row(params![closing.id.to_string(), boot_id(), now.uptime], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, i64>(2)?,
                row.get::<_, bool>(3)?,
            ))
        })
        .optional()?;
    let Some((attempt, word, maker, maker_lives)) = found else { return Ok((Judgement::Superseded, None)) };
    let Some(from) = AttemptState::from_word(&word) else { return Ok((Judgement::Superseded, None)) };

    let orphaned = matches!(from, AttemptState::InDoubt | AttemptState::Held) && !maker_lives;
    let ours = living(conn, owner, now)?.is_some_and(|owner| owner == maker || orphaned);
    let judgement = judge(from, closing.state, ours);
    if judgement == Judgement::Close {
        let ends = !closing.state.is_unresolved();
        conn.prepare_cached(CLOSE)?.execute(named_params! {
            ":state": closing.state.as_str(), ":class": closing.class, ":code": closing.code,
            ":detail": closing.detail, ":refs": references(&closing.references), ":own": closing.own, ":ends": ends,
            ":wall": now.wall, ":seq": attempt, ":from": word,
        })?;
        if ends {
            release(conn, attempt)?;
        }
    }
    Ok((judgement, Some(attempt)))
}

/// Sets one alert, if it waits and the verdict is this settlement's to give; false if not. What an accepted
/// attempt did counts for its own alerts; any other alert must stand in no unresolved attempt.
fn apply(
    conn: &Connection,
    id: AlertId,
    verdict: Verdict,
    accepted: Option<i64>,
    detail: &str,
    now: Now,
) -> Result<bool, Failure> {
    /// By the alert: by the attempt, a storm squeezed into one SMS would take the square of its size.
    const BY_ATTEMPT: &str = "
        UPDATE alert SET state = :state, reason = :reason, ended_at = :wall
        WHERE id = :id AND state = 'waiting'
            AND EXISTS (SELECT 1 FROM attempt_alert INDEXED BY attempt_alert_alert
                WHERE alert = :id AND attempt = :attempt AND requeued = 0)";
    const BESIDE: &str = "
        UPDATE alert SET state = 'ignored', reason = :reason, ended_at = :wall
        WHERE id = :id AND state = 'waiting'
            AND NOT EXISTS (SELECT 1 FROM attempt_alert WHERE alert = :id AND unresolved = 1)";
    let set = match (verdict, accepted) {
        (Verdict::Waits, _) => return Ok(true),
        (Verdict::Sent, Some(attempt)) => conn.prepare_cached(BY_ATTEMPT)?.execute(named_params! {
            ":state": "sent", ":reason": None::<&str>, ":wall": now.wall, ":id": id.0, ":attempt": attempt,
        })?,
        (Verdict::Ignored(Reason::Squeezed), Some(attempt)) => {
            conn.prepare_cached(BY_ATTEMPT)?.execute(named_params! {
                ":state": "ignored", ":reason": Reason::Squeezed.as_str(), ":wall": now.wall, ":id": id.0,
                ":attempt": attempt,
            })?
        }
        (Verdict::Sent, None) => 0,
        (Verdict::Ignored(reason), _) => {
            let set = conn
                .prepare_cached(BESIDE)?
                .execute(named_params! { ":reason": reason.as_str(), ":wall": now.wall, ":id": id.0 })?;
            if set == 1 {
                note(conn, id, "ignored", Some(reason), detail, "smsd", now)?;
            }
            set
        }
    };
    Ok(set == 1)
}

/// Writes what happened to an alert outside an accepted attempt.
pub(super) fn note(
    conn: &Connection,
    alert: AlertId,
    what: &str,
    reason: Option<Reason>,
    detail: &str,
    who: &str,
    now: Now,
) -> Result<(), Failure> {
    const NOTE: &str = "INSERT INTO note (alert, at, what, reason, detail, who) VALUES (?, ?, ?, ?, ?, ?)";
    conn.prepare_cached(NOTE)?.execute(params![
        alert.0,
        now.wall,
        what,
        reason.map(Reason::as_str),
        detail,
        who
    ])?;
    Ok(())
}

/// Lets the alerts of an attempt that has ended go.
pub(super) fn release(conn: &Connection, attempt: i64) -> Result<(), Failure> {
    const RELEASE: &str = "UPDATE attempt_alert SET unresolved = 0 WHERE attempt = ? AND unresolved = 1";
    conn.prepare_cached(RELEASE)?.execute([attempt])?;
    Ok(())
}

/// The row of an instance whose lease is good.
pub(super) fn living(conn: &Connection, instance: Uuid, now: Now) -> Result<Option<i64>, Failure> {
    const LIVING: &str = "SELECT seq FROM instance WHERE id = ? AND boot = ? AND lease_until > ?";
    let mut living = conn.prepare_cached(LIVING)?;
    let found = living.query_row(params![instance.to_string(), boot_id(), now.uptime], |row| row.get(0));
    Ok(found.optional()?)
}

fn alerts(new: &NewAttempt) -> impl Iterator<Item = (i64, bool)> {
    let carried = new.carried.iter().map(|id| (id.0, false));
    carried.chain(new.counted.iter().map(|id| (id.0, true)))
}

/// References as a JSON array, since a gateway's reference may contain anything.
fn references(references: &[String]) -> String {
    serde_json::Value::from(references).to_string()
}

fn until(ttl: Duration, now: Now) -> i64 {
    now.uptime.saturating_add(micros(ttl))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::sqlite::file::SCHEMA;

    const TTL: Duration = Duration::from_secs(15);

    /// A clock that shows so many seconds.
    fn at(seconds: i64) -> Now {
        Now { wall: seconds * 1_000_000, uptime: seconds * 1_000_000 }
    }

    fn joined(conn: &Connection, now: Now) -> Uuid {
        let id = Uuid::now_v7();
        let instance = Instance { id, name: "host 1".into(), lock: id.to_string() };
        join(conn, &instance, TTL, &Known::default(), now).unwrap();
        id
    }

    /// Asked after 5 of its 15 s; the file was another program's until much later.
    #[test]
    fn a_renewal_that_was_asked_in_time_is_granted_late_unless_somebody_has_ended_the_lease() {
        for another_came in [false, true] {
            let conn = Connection::open_in_memory().unwrap();
            conn.execute_batch(SCHEMA).unwrap();
            let me = joined(&conn, at(0));
            if another_came {
                joined(&conn, at(40));
            }
            let renewed = renew(&conn, me, TTL, &Known::default(), at(5), at(40));
            let lives = living(&conn, me, at(40)).unwrap().is_some();
            match another_came {
                false => assert!(renewed.is_ok() && lives, "{renewed:?}"),
                true => assert!(matches!(renewed, Err(Failure::LeaseLost)) && !lives, "{renewed:?}"),
            }
        }
    }

    #[test]
    fn a_renewal_that_was_asked_too_late_is_not_granted() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(SCHEMA).unwrap();
        let me = joined(&conn, at(0));
        let renewed = renew(&conn, me, TTL, &Known::default(), at(16), at(16));
        assert!(matches!(renewed, Err(Failure::LeaseLost)), "{renewed:?}");
    }
}
