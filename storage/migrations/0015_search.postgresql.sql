-- The search index: texts of events as words (homeserver/search/words.py), one row for each event that can be found.
-- Of a message that was edited it holds the newest text. `meta.search_upto`: every event up to that position is in it.
CREATE TABLE search_docs (
    position    INTEGER PRIMARY KEY,    -- of the event
    event_nid   INTEGER NOT NULL,
    room_nid    INTEGER NOT NULL,
    sender_nid  INTEGER NOT NULL,
    source_nid  INTEGER NOT NULL,       -- the event that the text is of: itself, or its newest edit
    kind        SMALLINT NOT NULL,      -- 0 body of a message, 1 name of a room, 2 topic
    words       TSVECTOR NOT NULL
);
CREATE UNIQUE INDEX search_docs_event ON search_docs (event_nid);
CREATE INDEX search_docs_source ON search_docs (source_nid);
CREATE INDEX search_docs_room ON search_docs (room_nid);
-- What was written last waits in a list that every search reads through: it is to stay short (in KiB).
CREATE INDEX search_docs_words ON search_docs USING gin (words) WITH (gin_pending_list_limit = 128);

-- Events whose text is to be looked at (again): what came from before the others, and what an edit was taken back of.
CREATE TABLE search_todo (
    event_nid   INTEGER PRIMARY KEY
);
INSERT INTO search_todo (event_nid) SELECT nid FROM events WHERE position < 0;

-- How far all events were looked at that were here before the index was.
INSERT INTO meta (key, value) VALUES ('search_upto', '0');
