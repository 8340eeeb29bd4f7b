-- What is sent to other servers by itself, and what they have missed.
-- How far that is written down stands in `meta`: every event of the stream up to `sent_upto` was delivered to all
-- whom it concerns, or stands here as owed to them.

-- Servers that did not answer.
CREATE TABLE destinations (
    server_name TEXT PRIMARY KEY,
    failures    INTEGER NOT NULL,   -- in a row
    retry_at_ts INTEGER NOT NULL    -- ms since 1970: not before
) WITHOUT ROWID;

-- A server has yet to hear of what came in a room up to a position; it is told of the room's newest events then.
CREATE TABLE owed (
    destination TEXT NOT NULL,      -- server name
    room_nid    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    PRIMARY KEY (destination, room_nid)
) WITHOUT ROWID;
