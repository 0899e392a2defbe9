CREATE SCHEMA IF NOT EXISTS smsd;
CREATE TABLE IF NOT EXISTS smsd.meta (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    version      integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now(),
    queue        uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO smsd.meta (version) VALUES (1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS smsd.instance (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    lock        text NOT NULL,
    joined_at   timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL,
    renewals    bigint NOT NULL DEFAULT 0
);
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
CREATE TABLE IF NOT EXISTS smsd.attempt_alert (
    alert    bigint NOT NULL,
    attempt  uuid NOT NULL,
    carried  boolean NOT NULL,
    requeued boolean NOT NULL DEFAULT false,
    PRIMARY KEY (alert, attempt)
);
CREATE TABLE IF NOT EXISTS smsd.open (
    recipient text PRIMARY KEY,
    attempt   uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE TABLE IF NOT EXISTS smsd.unresolved (
    alert   bigint PRIMARY KEY,
    attempt uuid NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
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
