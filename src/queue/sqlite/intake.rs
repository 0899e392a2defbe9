//! What is handed in.

use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, params};

use super::clock::{Now, micros};
use super::failure::Failure;
use crate::alert::AlertId;
use crate::queue::submission::{AHEAD, Digest, forgotten_with, too_late};
use crate::queue::{Submission, Submitted};

/// The file is locked for us by now, however long that took; what is left to do takes no longer than the disk does.
pub(super) fn enqueue(
    conn: &Connection,
    submissions: &[Submission],
    until: Option<Instant>,
    now: Now,
) -> Result<Vec<Submitted>, Failure> {
    const FORGET: &str = "
        DELETE FROM submission WHERE key IN (SELECT key FROM submission WHERE until <= ? ORDER BY until LIMIT ?)";
    if until.is_some_and(|until| Instant::now() >= until) {
        return Err(Failure::Unavailable(too_late().to_string()));
    }
    let some = i64::try_from(forgotten_with(submissions.len())).unwrap_or(i64::MAX);
    conn.prepare_cached(FORGET)?.execute(params![now.wall, some])?;
    submissions.iter().map(|submission| enqueue_apart(conn, submission, now)).collect()
}

/// What the file will not have of one submission costs no other.
fn enqueue_apart(conn: &Connection, submission: &Submission, now: Now) -> Result<Submitted, Failure> {
    conn.prepare_cached("SAVEPOINT submission")?.execute([])?;
    let submitted = match enqueue_one(conn, submission, now) {
        Err(failure) if failure.is_of_a_row() && !conn.is_autocommit() => {
            conn.prepare_cached("ROLLBACK TO submission")?.execute([])?;
            Submitted::Unfit(failure.to_string())
        }
        done => done?,
    };
    conn.prepare_cached("RELEASE submission")?.execute([])?;
    Ok(submitted)
}

fn enqueue_one(conn: &Connection, submission: &Submission, now: Now) -> Result<Submitted, Failure> {
    const BEFORE: &str = "SELECT digest, ids FROM submission WHERE key = ? AND until > ? AND until <= ?";
    const ALERT: &str =
        "INSERT INTO alert (account, phone, text, severity, queued_at) VALUES (?, ?, ?, ?, ?)";
    const REMEMBER: &str = "INSERT OR REPLACE INTO submission (key, digest, until, ids) VALUES (?, ?, ?, ?)";
    let (key, digest) = (&submission.key, submission.digest());
    let until = now.wall.saturating_add(micros(key.kept));
    let before: Option<(Digest, String)> = (conn.prepare_cached(BEFORE)?)
        .query_row(params![key.name, now.wall, until.saturating_add(micros(AHEAD))], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match before {
        Some((before, ids)) if before == digest => return Ok(Submitted::Before(read(&ids)?)),
        Some(_) => return Ok(Submitted::OtherAlerts),
        None => {}
    }
    let mut insert = conn.prepare_cached(ALERT)?;
    let mut ids = Vec::with_capacity(submission.alerts.len());
    for new in &submission.alerts {
        insert.execute(params![new.account, new.to.as_str(), new.text, new.severity.0, now.wall])?;
        ids.push(AlertId(conn.last_insert_rowid()));
    }
    conn.prepare_cached(REMEMBER)?.execute(params![key.name, digest, until, written(&ids)])?;
    Ok(Submitted::Queued(ids))
}

fn written(ids: &[AlertId]) -> String {
    let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
    serde_json::Value::from(ids).to_string()
}

fn read(ids: &str) -> Result<Vec<AlertId>, Failure> {
    serde_json::from_str(ids).map_err(|e| Failure::Refused(format!("table submission: {e}: {ids:?}")))
}
