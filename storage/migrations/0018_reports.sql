-- What people here find inappropriate, for those who moderate.
CREATE TABLE reports (
    nid         INTEGER PRIMARY KEY,
    reporter    TEXT NOT NULL,
    room_id     TEXT,               -- of the room, or of the event
    event_id    TEXT,               -- where an event is reported
    user_id     TEXT,               -- who is reported, or who sent the event
    reason      BLOB NOT NULL,
    created_ts  INTEGER NOT NULL,
    resolved_ts INTEGER,            -- NULL: nobody has dealt with it yet
    resolved_by TEXT,
    resolution  BLOB                -- what was done, in words
);
CREATE INDEX reports_room ON reports (room_id, nid);
CREATE INDEX reports_user ON reports (user_id, nid);
