-- Rooms that this server entered with most of the members left out, and that are made whole afterwards.

ALTER TABLE rooms ADD COLUMN is_partial SMALLINT NOT NULL DEFAULT 0;    -- 1: it has rows in partial_stays
ALTER TABLE rooms ADD COLUMN whole_since INTEGER NOT NULL DEFAULT 0;    -- position at which the members came, the last time

-- A stay that began without the members. Events from `since` to `until` may have a state that lacks some of them.
-- A row goes away when the stay is made whole; one of which nobody could make that in time stays for good.
--   room_nid  since  until  join_nid  via    servers            failures  retry_at_ts
--   7         4711   NULL   90210     a.org  ["a.org","b.org"]  0         0
CREATE TABLE partial_stays (
    room_nid    INTEGER NOT NULL,
    since       INTEGER NOT NULL,   -- position of the join
    until       INTEGER,            -- NULL: it is the present one; otherwise the last position before the next stay
    join_nid    INTEGER NOT NULL,   -- the join: the state before it is what has to be fetched
    via         TEXT NOT NULL,      -- the server that let us in
    servers     BLOB NOT NULL,      -- JSON list of the servers that it said to be in the room
    failures    INTEGER NOT NULL,   -- of attempts to make it whole, in a row
    retry_at_ts INTEGER NOT NULL,   -- ms since 1970: not before
    PRIMARY KEY (room_nid, since)
) WITHOUT ROWID;
