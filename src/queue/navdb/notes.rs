//! Which alert the ledger speaks of, and in which order its notes were written.
//!
//! A key of `smsq` is given once, unless somebody resets its sequence (`TRUNCATE … RESTART IDENTITY`,
//! `setval`, a table that was restored without the ledger). So what the ledger says of a key holds for the
//! alert that had it, and the witness is the time at which that alert was queued: nobody changes that column,
//! and with the key it names one row. Where a row of the ledger has no such time (it is from before version
//! 3), the key has to do.
//!
//! A note has no key of a sequence: rows may be copied without it (logical replication, a dump of data only),
//! and every note would then collide with one that is there. Its id is the time, but greater than that of the
//! alert's notes before it, so that a clock that is set back changes no order.

/// An expression: the id of a new note of the alert with this key.
macro_rules! note_id {
    ($alert:literal) => {
        concat!(
            "greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 256 + floor(random() * 256)::bigint, \
             (SELECT max(earlier.id) + 1 FROM smsd.note earlier WHERE earlier.alert = ",
            $alert,
            "))"
        )
    };
}
pub(super) use note_id;

/// A condition: this row of the ledger (of `attempt_alert` or `note`) is about the row `q` of `smsq`, whose
/// key it has.
macro_rules! same {
    ($row:literal) => {
        concat!("(", $row, ".queued IS NULL OR ", $row, ".queued = q.time)")
    };
}
pub(super) use same;

/// A condition: the attempt is about another alert that had the key of the row `q` of `smsq`.
macro_rules! anothers {
    ($attempt:literal) => {
        concat!(
            "EXISTS (SELECT FROM smsd.attempt_alert own WHERE own.alert = q.id AND own.attempt = ",
            $attempt,
            " AND own.queued <> q.time)"
        )
    };
}
pub(super) use anothers;
