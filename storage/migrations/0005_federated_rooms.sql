-- What this server knows of rooms through its peers only.

-- What a peer told of a room with an invitation, or in answer to a knock.
CREATE TABLE stripped_states (
    event_nid   INTEGER PRIMARY KEY,    -- the member event that it came with
    state       BLOB NOT NULL           -- JSON list of stripped state events
);

-- Redactions that came before what they redact.
CREATE TABLE pending_redactions (
    room_nid      INTEGER NOT NULL,
    event_id      TEXT NOT NULL,        -- of the event that is to be redacted, and that is not here
    redaction_nid INTEGER NOT NULL,
    PRIMARY KEY (room_nid, event_id, redaction_nid)
) WITHOUT ROWID;
