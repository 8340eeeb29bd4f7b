-- What push rules made of events (homeserver/push/). Most people follow the server's own rules: what those say of an
-- event is one row for all of them.
CREATE TABLE push_log (
    room_nid    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    event_nid   INTEGER NOT NULL,
    thread      TEXT NOT NULL,      -- root's event id, or 'main'
    loud        SMALLINT NOT NULL,  -- 1: a highlight
    actions     BLOB NOT NULL,      -- JSON
    PRIMARY KEY (room_nid, position)
) WITHOUT ROWID;

-- Where it is something else for somebody, as the difference to what it is for everybody in the room.
--   user_id      position  notify  highlight
--   @ann:a.org   4711      0       1           Ann is mentioned in it
CREATE TABLE push_own (
    user_id     TEXT NOT NULL,
    room_nid    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    event_nid   INTEGER NOT NULL,
    thread      TEXT NOT NULL,
    notify      SMALLINT NOT NULL,
    highlight   SMALLINT NOT NULL,
    loud        SMALLINT NOT NULL,
    actions     BLOB NOT NULL,
    PRIMARY KEY (user_id, room_nid, position)
) WITHOUT ROWID;
CREATE INDEX push_own_order ON push_own (user_id, position);

CREATE TABLE push_reads (
    user_id     TEXT NOT NULL,
    room_nid    INTEGER NOT NULL,
    thread      TEXT NOT NULL,
    position    INTEGER NOT NULL,   -- of the last that somebody said there
    PRIMARY KEY (user_id, room_nid, thread)
) WITHOUT ROWID;

CREATE TABLE push_turns (
    user_id     TEXT NOT NULL,
    room_id     TEXT NOT NULL,      -- '': all rooms
    position    INTEGER NOT NULL,   -- since then usual messages count there, or do not
    PRIMARY KEY (user_id, room_id)
) WITHOUT ROWID;

CREATE INDEX account_data_rules ON account_data (user_id)
    WHERE type = CAST('m.push_rules' AS BLOB) AND room_nid = 0;
CREATE INDEX account_data_ignored ON account_data (user_id)
    WHERE type = CAST('m.ignored_user_list' AS BLOB) AND room_nid = 0;
