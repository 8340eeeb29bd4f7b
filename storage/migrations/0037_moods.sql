-- How people chose to be seen, whatever their devices say: 0 as these say, 1 away, 2 busy, 3 invisible.
ALTER TABLE presence ADD COLUMN mood SMALLINT NOT NULL DEFAULT 0;

-- Rooms that people want to hear nothing of until a moment. That they are muted is one of their push rules.
CREATE TABLE mutes (
    user_id  TEXT NOT NULL,
    room_id  TEXT NOT NULL,
    until_ts INTEGER NOT NULL,      -- ms since 1970
    PRIMARY KEY (user_id, room_id)
) WITHOUT ROWID;
CREATE INDEX mutes_until ON mutes (until_ts);
