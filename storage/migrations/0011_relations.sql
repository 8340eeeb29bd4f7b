-- What events say of others: `m.relates_to` with a `rel_type`. Of events that have a place in a timeline, that were accepted
-- and are not redacted; federation/room/relations.py says which relations count.
--   parent_id  rel_nid     position  room_nid  event_nid  type_nid    sender_nid  origin_ts  key
--   $hello     m.thread    4711      7         90         m.room.m…   @ann:a.org  17000…     NULL
CREATE TABLE relations (
    parent_id   TEXT NOT NULL,      -- event id; of an event that may come later, or never, or be of another room
    rel_nid     INTEGER NOT NULL,   -- of `strings`, as type and sender
    position    INTEGER NOT NULL,   -- of the child
    room_nid    INTEGER NOT NULL,   -- of the child
    event_nid   INTEGER NOT NULL,   -- the child
    type_nid    INTEGER NOT NULL,
    sender_nid  INTEGER NOT NULL,
    origin_ts   INTEGER NOT NULL,
    key         BLOB,               -- of an annotation
    PRIMARY KEY (parent_id, rel_nid, position)
) WITHOUT ROWID;
CREATE UNIQUE INDEX relations_event ON relations (event_nid);
CREATE INDEX relations_sender ON relations (parent_id, sender_nid, rel_nid);

-- The threads of rooms: how many events hang on a root, and where the newest of them is.
CREATE TABLE threads (
    root_id     TEXT NOT NULL,      -- event id
    room_nid    INTEGER NOT NULL,
    replies     INTEGER NOT NULL,
    latest      INTEGER NOT NULL,   -- position
    PRIMARY KEY (root_id, room_nid)
) WITHOUT ROWID;
CREATE INDEX threads_latest ON threads (room_nid, latest);

-- The same by who speaks there, for those who ignore somebody, and to know who took part.
CREATE TABLE thread_senders (
    root_id     TEXT NOT NULL,
    room_nid    INTEGER NOT NULL,
    sender_nid  INTEGER NOT NULL,
    replies     INTEGER NOT NULL,
    latest      INTEGER NOT NULL,
    PRIMARY KEY (root_id, room_nid, sender_nid)
) WITHOUT ROWID;
CREATE INDEX thread_senders_own ON thread_senders (room_nid, sender_nid);
