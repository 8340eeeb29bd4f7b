-- Guilds whose rooms do not yet say what follows from the last edit: taken up again at the next start.
CREATE TABLE guilds_unsettled (
    room_id     TEXT NOT NULL PRIMARY KEY,
    mark        INTEGER NOT NULL
);

-- Who did what in a guild that this server is home to: an edit takes one position and may have several entries.
CREATE TABLE guild_audit (
    room_nid    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    ts          INTEGER NOT NULL,
    user_id     TEXT NOT NULL,
    action      TEXT NOT NULL,
    target      TEXT NOT NULL,
    before      BLOB,
    after       BLOB,
    reason      TEXT,
    PRIMARY KEY (room_nid, position, number)
) WITHOUT ROWID;
