-- All that smsd made. NAV's table stays as it was before.
DROP TRIGGER IF EXISTS smsd_notify ON smsq;
DROP INDEX IF EXISTS smsd_waiting;
DROP SCHEMA IF EXISTS smsd CASCADE;
