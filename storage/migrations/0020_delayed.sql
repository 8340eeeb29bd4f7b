-- Events that people want to be sent later, by a clock of this server's or at a word of theirs: homeserver/delayed/.
CREATE TABLE delayed_events (
    delay_id    TEXT PRIMARY KEY,   -- unguessable: whoever knows it may act
    user_id     TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    txn_id      BLOB NOT NULL,      -- of the request that asked for it: asking twice is asking once
    room_id     TEXT NOT NULL,
    type        BLOB NOT NULL,
    state_key   BLOB,               -- NULL: no state
    content     BLOB NOT NULL,      -- JSON
    sticky_ms   INTEGER,
    is_guest    SMALLINT NOT NULL,
    delay_ms    INTEGER NOT NULL,
    since_ts    INTEGER NOT NULL,   -- ms since 1970: when its clock was last set
    due_ts      INTEGER NOT NULL,
    outcome     SMALLINT NOT NULL,  -- 0 waits, 1 is being sent, 2 sent, 3 cancelled, 4 could not be sent
    ended_ts    INTEGER,
    event_id    TEXT,               -- what was sent
    error       BLOB                -- JSON: why it could not be sent
) WITHOUT ROWID;
CREATE UNIQUE INDEX delayed_events_txn ON delayed_events (user_id, device_id, room_id, txn_id);
CREATE INDEX delayed_events_due ON delayed_events (due_ts) WHERE outcome < 2;
CREATE INDEX delayed_events_ended ON delayed_events (ended_ts) WHERE outcome > 1;
