-- Names of rooms, and the rooms that this server shows to everybody.

CREATE TABLE aliases (
    alias       TEXT PRIMARY KEY,
    room_id     TEXT NOT NULL,
    creator     TEXT NOT NULL,
    created_ts  INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX aliases_room ON aliases (room_id);

CREATE TABLE published_rooms (
    room_nid    INTEGER PRIMARY KEY
);
