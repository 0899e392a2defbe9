
-- From version 1 to 2.

-- What intakes have handed in, and under which key, for as long as the same may come again.
CREATE TABLE submission (
    key         TEXT PRIMARY KEY,
    -- SHA-256 of the alerts.
    digest      BLOB NOT NULL,
    until       INTEGER NOT NULL,
    -- Of the alerts, as JSON.
    ids         TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX submission_until ON submission (until);

-- What waits and since when is told from the index alone.
DROP INDEX alert_waiting;
CREATE INDEX alert_waiting ON alert (rank, id, queued_at) WHERE state = 'waiting';

PRAGMA user_version = 2;
