-- Messages that are over some time after everybody in their room has read them: federation/room/retention.py. Once that
-- is so, the time counts, and they stand in ending_events.
CREATE TABLE read_timers (
    event_nid   INTEGER PRIMARY KEY,
    room_nid    INTEGER NOT NULL,
    sender      TEXT NOT NULL,      -- who need not read it
    thread      TEXT NOT NULL,      -- root's event id, or 'main'
    position    INTEGER NOT NULL,   -- the event's place in the room's order
    lasts_ms    INTEGER NOT NULL
);
CREATE INDEX read_timers_room ON read_timers (room_nid);
