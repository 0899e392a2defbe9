
-- From version 2 to 3.

-- With this attempt the SMS has failed by its recipient's own fault: retrylimit counts that.
ALTER TABLE attempt ADD COLUMN own INTEGER NOT NULL DEFAULT 0 CHECK (own IN (0, 1));

PRAGMA user_version = 3;
