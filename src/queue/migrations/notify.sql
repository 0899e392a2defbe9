-- On NAV's table, by the operator's wish only: new alerts make themselves known, and a look for what waits
-- no longer reads what was sent long ago.
CREATE OR REPLACE FUNCTION smsd.notify() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_notify('smsd', ''); RETURN NULL; END $$;
DROP TRIGGER IF EXISTS smsd_notify ON smsq;
CREATE TRIGGER smsd_notify AFTER INSERT ON smsq FOR EACH STATEMENT EXECUTE FUNCTION smsd.notify();
CREATE INDEX IF NOT EXISTS smsd_waiting ON smsq (severity, id) WHERE sent = 'N';
