CREATE TABLE identity (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    queue       TEXT NOT NULL
) STRICT;
INSERT INTO identity (one, queue) VALUES (1, lower(hex(randomblob(16))));
CREATE TABLE alert (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account     INTEGER,
    phone       TEXT NOT NULL,
    text        TEXT NOT NULL,
    severity    INTEGER CHECK (severity BETWEEN -2147483648 AND 2147483647),
    state       TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'ignored')),
    reason      TEXT,
    queued_at   INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)),
    requeued_at INTEGER,
    ended_at    INTEGER,
    rank        INTEGER GENERATED ALWAYS AS (coalesce(severity, 2147483648)) VIRTUAL
) STRICT;
CREATE INDEX alert_waiting ON alert (rank, id) WHERE state = 'waiting';
CREATE INDEX alert_state ON alert (state);
CREATE TABLE instance (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    lock        TEXT NOT NULL,
    joined_at   INTEGER NOT NULL,
    boot        TEXT NOT NULL,
    lease_until INTEGER NOT NULL,
    renewals    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE attempt (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    recipient   TEXT NOT NULL,
    text        TEXT NOT NULL,
    dispatcher  TEXT NOT NULL,
    number      INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN
        ('open', 'in_doubt', 'held', 'accepted', 'failed', 'rejected', 'resent', 'cancelled')),
    instance    INTEGER NOT NULL REFERENCES instance,
    begun_at    INTEGER NOT NULL,
    deadline_at INTEGER NOT NULL,
    doubt_since INTEGER,
    ended_at    INTEGER,
    class       TEXT,
    code        TEXT,
    detail      TEXT,
    refs        TEXT NOT NULL DEFAULT '[]',
    delivery    TEXT,
    possible_duplicate INTEGER NOT NULL CHECK (possible_duplicate IN (0, 1)),
    resend_of   TEXT
) STRICT;
CREATE UNIQUE INDEX attempt_open ON attempt (recipient) WHERE state = 'open';
CREATE INDEX attempt_state ON attempt (state, possible_duplicate);
CREATE TABLE attempt_alert (
    attempt     INTEGER NOT NULL REFERENCES attempt,
    position    INTEGER NOT NULL,
    alert       INTEGER NOT NULL,
    counted     INTEGER NOT NULL CHECK (counted IN (0, 1)),
    unresolved  INTEGER NOT NULL DEFAULT 1 CHECK (unresolved IN (0, 1)),
    requeued    INTEGER NOT NULL DEFAULT 0 CHECK (requeued IN (0, 1)),
    PRIMARY KEY (attempt, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempt_alert_alert ON attempt_alert (alert, attempt);
CREATE UNIQUE INDEX attempt_alert_unresolved ON attempt_alert (alert) WHERE unresolved = 1;
CREATE TABLE note (
    seq         INTEGER PRIMARY KEY,
    alert       INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    what        TEXT NOT NULL CHECK (what IN ('ignored', 'requeued', 'held', 'accepted', 'released')),
    reason      TEXT,
    detail      TEXT NOT NULL,
    who         TEXT NOT NULL
) STRICT;
CREATE INDEX note_alert ON note (alert);
CREATE TABLE origin (
    key         TEXT PRIMARY KEY,
    alert       INTEGER NOT NULL UNIQUE,
    taken_at    INTEGER NOT NULL,
    known       TEXT NOT NULL DEFAULT 'N' CHECK (known IN ('N', 'Y', 'I')),
    settled     INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX origin_unsettled ON origin (alert) WHERE settled = 0;
PRAGMA application_id = 1936552804;
PRAGMA user_version = 1;
