-- Events of which a peer was told that all is well, before they had a place in their room: what they rest on could not be
-- had, or judging them took too long. They are tried again, also by a server that starts anew.
--   origin  room_id  events
--   a.org   !x:b.org [{"type": …}]
CREATE TABLE heard (
    origin  TEXT NOT NULL,          -- who sent them
    room_id BLOB NOT NULL,
    events  BLOB NOT NULL,          -- JSON list of the events as they came, the newest 20
    PRIMARY KEY (origin, room_id)
) WITHOUT ROWID;
