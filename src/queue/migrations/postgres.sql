-- The ledger of smsd, beside the alerts in the same database. Nothing outside the schema smsd is touched.
-- The role that smsd logs in as either owns the schema (it made it), or needs:
--   GRANT USAGE ON SCHEMA smsd TO role; GRANT ALL ON ALL TABLES IN SCHEMA smsd TO role;
--   GRANT SELECT, INSERT, UPDATE ON smsq TO role;
CREATE SCHEMA IF NOT EXISTS smsd;

-- One row: what version this schema has, when the ledger began, and who this queue is: a dump, and what is
-- restored from it, says the same.
CREATE TABLE IF NOT EXISTS smsd.meta (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    version      integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    queue        uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO smsd.meta (version) VALUES (3) ON CONFLICT DO NOTHING;

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
-- changes, so that closing is an update within the page; undecided changes only for what comes into doubt.
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
    delivery           text,
    -- With it the SMS has failed by its recipient's own fault: retrylimit counts that.
    own                boolean NOT NULL DEFAULT false,
    undecided          text GENERATED ALWAYS AS
        (CASE WHEN state IN ('in_doubt', 'held') THEN state END) STORED
) WITH (fillfactor = 60);

-- From an alert to its attempts. Once a person has requeued the alert, what the attempt did no longer counts.
-- A key of smsq may be given again (TRUNCATE ... RESTART IDENTITY): the alert is the one whose time is queued
-- (null: not known, from before version 3).
CREATE TABLE IF NOT EXISTS smsd.attempt_alert (
    alert    bigint NOT NULL,
    attempt  uuid NOT NULL,
    carried  boolean NOT NULL,
    requeued boolean NOT NULL DEFAULT false,
    queued   timestamp,
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

-- What happened to an alert outside its attempts: ignored (with the reason), requeued, and what a person
-- decided of an SMS in doubt. Notes of one alert are in the order of their ids, which no sequence gives,
-- since a copy of the rows may come without it: microseconds since 1970 times 256, and something random.
-- queued is as in attempt_alert.
CREATE TABLE IF NOT EXISTS smsd.note (
    alert  bigint NOT NULL,
    id     bigint NOT NULL DEFAULT
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 256 + floor(random() * 256)::bigint,
    at     timestamptz NOT NULL DEFAULT now(),
    what   text NOT NULL CHECK (what IN ('ignored', 'requeued', 'held', 'accepted', 'released')),
    reason text,
    detail text NOT NULL,
    by     text NOT NULL,
    queued timestamp,
    PRIMARY KEY (alert, id)
);

-- What intakes have handed in, and under which key, for as long as the same may come again: SHA-256 of the
-- alerts, and their ids (none only within the transaction that queues them).
CREATE TABLE IF NOT EXISTS smsd.submission (
    key    text PRIMARY KEY,
    digest bytea NOT NULL,
    until  timestamptz NOT NULL,
    ids    bigint[]
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS submission_until ON smsd.submission (until);

-- From version 2 to 3.
DO $$ BEGIN
    IF (SELECT version < 3 FROM smsd.meta) THEN
        ALTER TABLE smsd.attempt ADD COLUMN IF NOT EXISTS undecided text GENERATED ALWAYS AS
            (CASE WHEN state IN ('in_doubt', 'held') THEN state END) STORED;
        ALTER TABLE smsd.attempt ADD COLUMN IF NOT EXISTS own boolean NOT NULL DEFAULT false;
        ALTER TABLE smsd.attempt_alert ADD COLUMN IF NOT EXISTS queued timestamp;
        ALTER TABLE smsd.note ADD COLUMN IF NOT EXISTS queued timestamp;
        ALTER TABLE smsd.note ALTER id SET DEFAULT
            (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 256 + floor(random() * 256)::bigint;
        ALTER TABLE smsd.note DROP CONSTRAINT IF EXISTS note_pkey, ADD PRIMARY KEY (alert, id);
        DROP SEQUENCE IF EXISTS smsd.note_id_seq;
        DROP INDEX IF EXISTS smsd.note_alert;
    END IF;
END $$;

-- What is in doubt or held is found without a look at what is open or has ended.
CREATE INDEX IF NOT EXISTS attempt_undecided ON smsd.attempt (undecided, id) WHERE undecided IS NOT NULL;
-- Since when an alert waits, of those few that were made to wait again.
CREATE INDEX IF NOT EXISTS note_again ON smsd.note (alert) WHERE what IN ('requeued', 'released');

-- A schema of an earlier version has all that it lacked by now.
UPDATE smsd.meta SET version = 3 WHERE version < 3;
