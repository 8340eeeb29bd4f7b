-- Kicks and bans that take along what was said, until all of that is gone: homeserver/rooms/purges.py.
CREATE TABLE purges (
    event_nid   INTEGER PRIMARY KEY,    -- of the member event
    room_nid    INTEGER NOT NULL
);
