//! A file that may be an older copy of the one that we knew. Each runs in the caller's transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, ToSql, named_params, params};
use uuid::Uuid;

use super::clock::{Now, timestamp};
use super::failure::Failure;
use super::reports::{id_of, text};
use super::verbs::{living, note, reap};
use crate::alert::{AlertId, Phone};
use crate::queue::ledger::BEFORE;
use crate::queue::past::{FROM_THE_PAST, NO_TEXT, STORM_GUARD, TOGETHER};
use crate::queue::{Caught, Forgot, Grant, Known, Suspects, Witness};

/// All of `known` must be written.
pub(super) fn remember(conn: &Connection, known: &Known) -> Result<(), Failure> {
    const BEGUN: &str = "SELECT EXISTS (SELECT 1 FROM attempt WHERE id = ?)";
    const CLOSED: &str = "SELECT EXISTS (SELECT 1 FROM attempt WHERE id = ? AND state <> 'open')";
    let written = |sql: &str, params: &[&dyn ToSql]| -> Result<bool, Failure> {
        Ok(conn.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
    };
    if let Some(queue) = known.queue
        && queue != identity(conn)?
    {
        return Err(Failure::FromThePast(Forgot::Identity));
    }
    if let Some(id) = known.begun
        && !written(BEGUN, &[&id.to_string()])?
    {
        return Err(Failure::FromThePast(Forgot::Begun));
    }
    for id in &known.seen {
        if !written(BEGUN, &[&id.to_string()])? {
            return Err(Failure::FromThePast(Forgot::Seen));
        }
    }
    for id in &known.closed {
        if !written(CLOSED, &[&id.to_string()])? {
            return Err(Failure::FromThePast(Forgot::Closed));
        }
    }
    Ok(())
}

/// What an instance is told that has a lease now.
pub(super) fn grant(conn: &Connection, now: Now) -> Result<Grant, Failure> {
    Ok(Grant { queue: identity(conn)?, now: timestamp(now.wall), witness: newest(conn)? })
}

/// What everybody has committed, if all of `known` is written.
pub(super) fn witness(conn: &Connection, known: &Known) -> Result<Witness, Failure> {
    remember(conn, known)?;
    newest(conn)
}

/// Rows are written one transaction after the other, so the last row is the last commit.
fn newest(conn: &Connection) -> Result<Witness, Failure> {
    const NEWEST: &str = "SELECT id FROM attempt ORDER BY seq DESC LIMIT 1";
    let newest = conn.prepare_cached(NEWEST)?.query_row([], |row| id_of(row, 0)).optional()?;
    Ok(Witness { newest, log: None })
}

fn identity(conn: &Connection) -> Result<Uuid, Failure> {
    const IDENTITY: &str = "SELECT queue FROM identity";
    Ok(conn.prepare_cached(IDENTITY)?.query_row([], |row| id_of(row, 0))?)
}

pub(super) fn hold(
    conn: &Connection,
    owner: Uuid,
    suspects: &Suspects,
    why: &str,
    now: Now,
) -> Result<Caught, Failure> {
    const SUSPECT: &str = "
        SELECT id, phone FROM alert a NOT INDEXED
        WHERE id > :after AND state = 'waiting' AND coalesce(requeued_at, queued_at) <= :until
            AND NOT EXISTS (SELECT 1 FROM attempt_alert s WHERE s.alert = a.id AND s.unresolved = 1)
        ORDER BY id";
    let seq = living(conn, owner, now)?.ok_or(Failure::LeaseLost)?;
    let until = suspects.until.as_microsecond();
    let mut caught = Caught::default();
    if suspects.after == AlertId(0) {
        caught.doubts = hold_doubts(conn, seq, until, why, now)?;
    }
    let mut by_phone: BTreeMap<Phone, Vec<i64>> = BTreeMap::new();
    let mut found = conn.prepare_cached(SUSPECT)?;
    let mut rows = found.query(named_params! { ":after": suspects.after.0, ":until": until })?;
    while let Some(row) = rows.next()? {
        // What can not be texted is not sent, and needs no guard.
        let Ok(phone) = Phone::parse(&text(row, 1)?) else { continue };
        let id = row.get(0)?;
        by_phone.entry(phone).or_default().push(id);
        caught.alerts += 1;
        if caught.alerts >= suspects.limit as u64 {
            caught.next = Some(AlertId(id));
            break;
        }
    }
    drop(rows);
    for (phone, ids) in by_phone {
        for ids in ids.chunks(TOGETHER) {
            hold_alerts(conn, seq, &phone, ids, why, now)?;
        }
    }
    Ok(caught)
}

fn hold_alerts(
    conn: &Connection,
    owner: i64,
    phone: &Phone,
    ids: &[i64],
    why: &str,
    now: Now,
) -> Result<(), Failure> {
    const WRITE: &str = "
        INSERT INTO attempt (id, recipient, text, dispatcher, number, state, instance, begun_at, deadline_at,
            doubt_since, class, detail, possible_duplicate)
        VALUES (:id, :recipient, :text, :dispatcher, 1, 'held', :owner, :wall, :wall, :wall, :class, :why, 0)";
    const STAND: &str = "INSERT INTO attempt_alert (attempt, position, alert, counted) VALUES (?, ?, ?, 0)";
    conn.prepare_cached(WRITE)?.execute(named_params! {
        ":id": Uuid::now_v7().to_string(), ":recipient": phone.as_str(), ":text": NO_TEXT,
        ":dispatcher": STORM_GUARD, ":owner": owner, ":wall": now.wall, ":class": FROM_THE_PAST, ":why": why,
    })?;
    let attempt = conn.last_insert_rowid();
    for (position, id) in (0_i64..).zip(ids) {
        conn.prepare_cached(STAND)?.execute(params![attempt, position, id])?;
        note(conn, AlertId(*id), "held", None, why, "smsd", now)?;
    }
    Ok(())
}

fn hold_doubts(conn: &Connection, owner: i64, until: i64, why: &str, now: Now) -> Result<u64, Failure> {
    const HOLD: &str = "
        UPDATE attempt SET state = 'held', class = :class,
            detail = :why || coalesce(:before || nullif(detail, ''), '')
        WHERE state = 'in_doubt' AND begun_at <= :until AND (instance = :owner OR instance NOT IN
            (SELECT seq FROM instance WHERE boot = :boot AND lease_until > :uptime))";
    reap(conn, now)?;
    let held = conn.prepare_cached(HOLD)?.execute(named_params! {
        ":class": FROM_THE_PAST, ":why": why, ":before": BEFORE, ":until": until, ":owner": owner,
        ":boot": super::clock::boot_id(), ":uptime": now.uptime,
    })?;
    Ok(held as u64)
}

/// The alerts of what is held so.
pub(super) fn suspected(conn: &Connection, limit: usize) -> Result<Vec<AlertId>, Failure> {
    const SUSPECTED: &str = "
        SELECT alert FROM attempt_alert WHERE unresolved = 1 AND attempt IN
            (SELECT seq FROM attempt WHERE state = 'held' AND class = ? LIMIT ?)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = conn.prepare_cached(SUSPECTED)?;
    let ids = found.query_map(params![FROM_THE_PAST, limit], |row| row.get(0).map(AlertId))?;
    Ok(ids.collect::<Result<_, _>>()?)
}
