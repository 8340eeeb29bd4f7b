-- What people keep on their server, and what passes between them beside events.
-- Types here as in 0001: BLOB for what somebody outside chooses freely, TEXT for what has a grammar.

-- Account data, tags and fully-read markers.
--   user_id      room_nid  type     content                          position
--   @ann:a.org   7         m.tag    {"tags":{"m.favourite":{}}}      4711
CREATE TABLE account_data (
    user_id     TEXT NOT NULL,
    room_nid    INTEGER NOT NULL,   -- 0: of no room
    type        BLOB NOT NULL,
    content     BLOB NOT NULL,      -- JSON object
    position    INTEGER NOT NULL,   -- of the last change, in the one stream
    PRIMARY KEY (user_id, room_nid, type)
) WITHOUT ROWID;
CREATE INDEX account_data_changes ON account_data (user_id, position);
CREATE INDEX account_data_position ON account_data (position);

CREATE TABLE receipts (
    room_nid    INTEGER NOT NULL,
    user_id     TEXT NOT NULL,
    type        TEXT NOT NULL,
    thread      TEXT NOT NULL,      -- root's event id, 'main', or '' for the whole room
    event_id    TEXT NOT NULL,
    event_position INTEGER,         -- the event's place in the room's order; NULL: not known here
    ts          INTEGER NOT NULL,
    position    INTEGER NOT NULL,   -- of the last change, in the one stream
    PRIMARY KEY (room_nid, user_id, type, thread)
) WITHOUT ROWID;
CREATE INDEX receipts_changes ON receipts (room_nid, position);
CREATE INDEX receipts_position ON receipts (position);

CREATE TABLE profiles (
    user_id     TEXT NOT NULL,
    key         TEXT NOT NULL,
    value       BLOB NOT NULL,      -- JSON
    PRIMARY KEY (user_id, key)
) WITHOUT ROWID;

-- Written now and then: it need not survive a crash to the second.
CREATE TABLE presence (
    user_id         TEXT PRIMARY KEY,
    state           SMALLINT NOT NULL,  -- 0 offline, 1 unavailable, 2 online
    status_msg      BLOB,
    last_active_ts  INTEGER NOT NULL    -- ms since 1970; 0: never
) WITHOUT ROWID;
CREATE INDEX presence_present ON presence (user_id) WHERE state <> 0;

CREATE TABLE filters (
    user_id     TEXT NOT NULL,
    filter_id   INTEGER NOT NULL,
    json        BLOB NOT NULL,
    PRIMARY KEY (user_id, filter_id)
) WITHOUT ROWID;
