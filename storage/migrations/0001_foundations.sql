-- The tables of the room engine.
-- Written for SQLite; `storage.migrate` reads it for PostgreSQL too, where INTEGER is BIGINT, BLOB is BYTEA, TEXT is
-- compared by bytes, and WITHOUT ROWID means nothing.
--
-- nid: an interned id, which means something inside this database only.
-- BLOB is also the type of text that somebody outside may choose freely: PostgreSQL's TEXT refuses NUL.
-- TEXT is for what has a grammar (ids of users, rooms, events, aliases) and for our own words.

-- server_name, schema_version
CREATE TABLE meta (
    key     TEXT PRIMARY KEY,
    value   TEXT NOT NULL
) WITHOUT ROWID;

-- Event types, state keys, users, transaction paths.
CREATE TABLE strings (
    nid     INTEGER PRIMARY KEY,
    value   BLOB NOT NULL UNIQUE
);

-- A room and its head: what the next event builds on.
--   nid  room_id     version  extremities      depth  snapshot  newest  oldest
--   1    !abc:a.org  12       ["$x1","$y7"]    118    97        4711    -20
CREATE TABLE rooms (
    nid         INTEGER PRIMARY KEY,
    room_id     TEXT NOT NULL UNIQUE,
    version     TEXT NOT NULL,
    creator     TEXT NOT NULL,
    room_type   BLOB,               -- `type` of the create event's content; m.space is a space
    extremities BLOB NOT NULL,      -- JSON list of event ids, oldest first
    depth       INTEGER NOT NULL,   -- the greatest among the extremities
    snapshot    INTEGER NOT NULL,   -- the resolved current state
    newest      INTEGER NOT NULL,   -- the greatest position among its events, or 0
    oldest      INTEGER NOT NULL    -- the lowest; below 0 once events were backfilled
);

CREATE TABLE events (
    nid         INTEGER PRIMARY KEY,
    room_nid    INTEGER NOT NULL,
    position    INTEGER,            -- order of this server: > 0 live, < 0 backfilled, NULL for an outlier
    event_id    TEXT NOT NULL,
    type_nid    INTEGER NOT NULL,
    key_nid     INTEGER,            -- state key; NULL for what is no state
    sender_nid  INTEGER NOT NULL,
    before_nid  INTEGER NOT NULL,   -- snapshot of the state before it; 0 for an outlier
    after_nid   INTEGER NOT NULL,   -- snapshot after it
    origin_ts   INTEGER NOT NULL,
    received_ts INTEGER NOT NULL,
    flags       SMALLINT NOT NULL,  -- 1 rejected, 2 soft-failed
    membership  SMALLINT,           -- of m.room.member: see storage/memberships.py
    redacted_by INTEGER,            -- nid of the redaction in force; `raw` is then the redacted form
    replaces    INTEGER,            -- nid of the state event that it replaced
    chain       INTEGER,            -- place in the chain cover of the auth graph, for state events:
    chain_seq   INTEGER,            --   storage/auth_chains.py
    device_id   BLOB,               -- the local device that sent it
    txn_id      BLOB,               -- and its transaction id
    raw         BLOB NOT NULL       -- canonical JSON as it was signed, or its redacted form
);
CREATE UNIQUE INDEX events_event_id ON events (event_id);
CREATE INDEX events_timeline ON events (room_nid, position) WHERE position IS NOT NULL;
CREATE INDEX events_state ON events (room_nid, type_nid, key_nid, position) WHERE key_nid IS NOT NULL;
CREATE UNIQUE INDEX events_chain ON events (chain, chain_seq) WHERE chain IS NOT NULL;
CREATE INDEX events_sender ON events (sender_nid, nid);

-- An event at (chain, seq) has (target, target_seq), and what that one reaches, in its auth chain.
CREATE TABLE auth_chain_links (
    chain       INTEGER NOT NULL,
    seq         INTEGER NOT NULL,
    target      INTEGER NOT NULL,
    target_seq  INTEGER NOT NULL,
    PRIMARY KEY (chain, seq, target)
) WITHOUT ROWID;
CREATE INDEX auth_chain_links_target ON auth_chain_links (target, target_seq);

-- A state is a chain of deltas: a snapshot's rows in state_deltas are laid over those of its base (0: nothing below).
-- Every 64th snapshot takes the last 64 deltas together: storage/state.py.
--   nid  room_nid  base  height  path_rows
--   97   1         96    97      130
CREATE TABLE state_snapshots (
    nid         INTEGER PRIMARY KEY,
    room_nid    INTEGER NOT NULL,
    base        INTEGER NOT NULL,
    height      INTEGER NOT NULL,   -- steps from the empty state, as the room engine made them
    path_rows   INTEGER NOT NULL    -- rows in its own delta and all those below it
);

CREATE TABLE state_deltas (
    snapshot    INTEGER NOT NULL,
    type_nid    INTEGER NOT NULL,
    key_nid     INTEGER NOT NULL,
    event_nid   INTEGER NOT NULL,   -- 0: the key is not in the state any more
    PRIMARY KEY (snapshot, type_nid, key_nid)
) WITHOUT ROWID;

-- What changed in a room's current (resolved) state, and when.
CREATE TABLE state_changes (
    room_nid    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    type_nid    INTEGER NOT NULL,
    key_nid     INTEGER NOT NULL,
    event_nid   INTEGER NOT NULL,   -- 0: the key went away
    previous    INTEGER NOT NULL,   -- event that stood there before; 0: none
    PRIMARY KEY (room_nid, position, type_nid, key_nid)
) WITHOUT ROWID;

-- Current memberships of all users in all rooms.
CREATE TABLE memberships (
    user_nid    INTEGER NOT NULL,   -- of `strings`
    room_nid    INTEGER NOT NULL,
    membership  SMALLINT NOT NULL,  -- see storage/memberships.py
    event_nid   INTEGER NOT NULL,   -- 0: resolution took the membership away
    position    INTEGER NOT NULL,   -- of its latest change, be it only of the display name
    since       INTEGER NOT NULL,   -- from where this membership holds without a break
    forgotten   SMALLINT NOT NULL,
    PRIMARY KEY (user_nid, room_nid)
) WITHOUT ROWID;
CREATE INDEX memberships_room ON memberships (room_nid, membership);

-- Previous events that a room's events name and that are not here.
CREATE TABLE missing_prev (
    room_nid    INTEGER NOT NULL,
    event_id    TEXT NOT NULL,
    PRIMARY KEY (room_nid, event_id)
) WITHOUT ROWID;

-- Transaction ids of clients' requests that made an event.
CREATE TABLE transactions (
    user_nid    INTEGER NOT NULL,   -- of `strings`, as device and path
    device_nid  INTEGER NOT NULL,
    path_nid    INTEGER NOT NULL,
    txn_id      BLOB NOT NULL,
    event_nid   INTEGER NOT NULL,
    ts          INTEGER NOT NULL,
    PRIMARY KEY (user_nid, device_nid, path_nid, txn_id)
) WITHOUT ROWID;
