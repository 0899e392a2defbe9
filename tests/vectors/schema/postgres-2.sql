-- The ledger of smsd, beside the alerts in the same database. Nothing outside the schema smsd is touched.
-- The role that smsd logs in as either owns the schema (it made it), or needs:
--   GRANT USAGE ON SCHEMA smsd TO role; GRANT ALL ON ALL TABLES IN SCHEMA smsd TO role;
--   GRANT USAGE ON ALL SEQUENCES IN SCHEMA smsd TO role; GRANT SELECT, INSERT, UPDATE ON smsq TO role;
CREATE SCHEMA IF NOT EXISTS smsd;

-- One row: what version this schema has, when the ledger began, and who this queue is: a dump, and what is restored
-- from it, says the same.
CREATE TABLE IF NOT EXISTS smsd.meta (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    version      integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    queue        uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO smsd.meta (version) VALUES (2) ON CONFLICT DO NOTHING;

-- An instance lives while its lease, by this database's clock, has not run out.
CREATE TABLE IF NOT EXISTS smsd.instance (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    lock        text NOT NULL,
    joined_at   timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    renewals    bigint NOT NULL DEFAULT 0
);

-- One submit: written before it is made, closed with its outcome. No index has a column that closing
-- changes, so that closing is an update within the page.
CREATE TABLE IF NOT EXISTS smsd.attempt (
    id                 uuid PRIMARY KEY,
    instance           uuid NOT NULL,
    begun_at           timestamptz NOT NULL DEFAULT now(),
    deadline           timestamptz NOT NULL,
    doubt_since        timestamptz,
    ended_at           timestamptz,
    resend_of          uuid,
    number             integer NOT NULL,
    possible_duplicate boolean NOT NULL,
    state              text NOT NULL CHECK (state IN
        ('open', 'in_doubt', 'held', 'accepted', 'failed', 'rejected', 'resent', 'cancelled')),
    recipient          text NOT NULL,
    text               text NOT NULL,
    dispatcher         text NOT NULL,
    carried            bigint[] NOT NULL,
    counted            bigint[] NOT NULL,
    class              text,
    code               text,
    detail             text,
    refs               text[],
    delivery           text
) WITH (fillfactor = 60);

-- From an alert to its attempts. Once a person has requeued the alert, what the attempt did no longer counts.
CREATE TABLE IF NOT EXISTS smsd.attempt_alert (
    alert    bigint NOT NULL,
    attempt  uuid NOT NULL,
    carried  boolean NOT NULL,
    requeued boolean NOT NULL DEFAULT false,
    PRIMARY KEY (alert, attempt)
);

-- The locks. Rows come with begin and go when the attempt closes; the keys are what holds across instances:
-- at most one open attempt per recipient, and an alert in at most one unresolved attempt.
CREATE TABLE IF NOT EXISTS smsd.open (
    recipient text PRIMARY KEY,
    attempt   uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE IF NOT EXISTS smsd.unresolved (
    alert   bigint PRIMARY KEY,
    attempt uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- What happened to an alert outside its attempts: ignored (with the reason), requeued,
-- and what a person decided of an SMS in doubt.
CREATE TABLE IF NOT EXISTS smsd.note (
    id     bigserial PRIMARY KEY,
    alert  bigint NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    what   text NOT NULL CHECK (what IN ('ignored', 'requeued', 'held', 'accepted', 'released')),
    reason text,
    detail text NOT NULL,
    by     text NOT NULL
);
CREATE INDEX IF NOT EXISTS note_alert ON smsd.note (alert);

-- What intakes have handed in, and under which key, for as long as the same may come again: SHA-256 of the alerts, and
-- their ids (none only within the transaction that queues them).
CREATE TABLE IF NOT EXISTS smsd.submission (
    key    text PRIMARY KEY,
    digest bytea NOT NULL,
    until  timestamptz NOT NULL,
    ids    bigint[]
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS submission_until ON smsd.submission (until);

-- A schema of an earlier version has all that it lacked by now.
UPDATE smsd.meta SET version = 2 WHERE version < 2;
