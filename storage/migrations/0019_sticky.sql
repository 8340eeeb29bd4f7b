-- Events that stick for a while: federation/room/sticky.py.
CREATE TABLE sticky_events (
    event_nid   INTEGER PRIMARY KEY,
    room_nid    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    until_ts    INTEGER NOT NULL    -- ms since 1970
);
CREATE INDEX sticky_events_until ON sticky_events (until_ts);
