-- Servers that were in a room by one side of a fork and are not by what became of the forks: nobody need have told them.
-- They may ask about everything that was here when that was found out.
--   room_nid  server  upto
--   7         a.org   4711
CREATE TABLE overruled (
    room_nid INTEGER NOT NULL,
    server   TEXT NOT NULL,
    upto     INTEGER NOT NULL,      -- the last position about which it may ask
    PRIMARY KEY (room_nid, server)
) WITHOUT ROWID;
