-- Lists of devices of other servers' people count what was missed, so that what is missed while one is read is noticed.
DROP TABLE remote_device_lists;
CREATE TABLE remote_device_lists (
    user_id     TEXT PRIMARY KEY,
    stream_id   INTEGER NOT NULL,       -- of the newest update that is in it
    position    INTEGER NOT NULL,       -- when the whole list was asked for
    missed      INTEGER NOT NULL        -- counts updates that were missed since: to be read again
) WITHOUT ROWID;
CREATE INDEX remote_device_lists_missed ON remote_device_lists (user_id) WHERE missed <> 0;
