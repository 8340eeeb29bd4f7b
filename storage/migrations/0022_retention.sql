-- Messages that have an end of their own: federation/room/retention.py.
CREATE TABLE ending_events (
    event_nid   INTEGER PRIMARY KEY,
    room_nid    INTEGER NOT NULL,
    ends_ts     INTEGER NOT NULL    -- ms since 1970
);
CREATE INDEX ending_events_ends ON ending_events (ends_ts);

-- Rooms whose state says, or once said, for how long messages live.
CREATE TABLE retention_rooms (
    room_nid    INTEGER PRIMARY KEY
);
