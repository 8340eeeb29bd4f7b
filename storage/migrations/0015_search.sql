-- The search index: texts of events as words (homeserver/search/words.py), one row for each event that can be found.
-- Of a message that was edited it holds the newest text. `meta.search_upto`: every event up to that position is in it.
CREATE TABLE search_docs (
    position    INTEGER PRIMARY KEY,    -- of the event, and rowid of its words
    event_nid   INTEGER NOT NULL,
    room_nid    INTEGER NOT NULL,
    sender_nid  INTEGER NOT NULL,
    source_nid  INTEGER NOT NULL,       -- the event that the text is of: itself, or its newest edit
    kind        SMALLINT NOT NULL       -- 0 body of a message, 1 name of a room, 2 topic
);
CREATE UNIQUE INDEX search_docs_event ON search_docs (event_nid);
CREATE INDEX search_docs_source ON search_docs (source_nid);

-- `room` holds one word, `r` and the room's nid: so that a search reads the words of its rooms only.
CREATE VIRTUAL TABLE search_words USING fts5(words, room, tokenize = 'ascii');
INSERT INTO search_words (search_words, rank) VALUES ('rank', 'bm25(1.0, 0.0)');

-- Events whose text is to be looked at (again): what came from before the others, and what an edit was taken back of.
CREATE TABLE search_todo (
    event_nid   INTEGER PRIMARY KEY
);
INSERT INTO search_todo (event_nid) SELECT nid FROM events WHERE position < 0;

-- How far all events were looked at that were here before the index was.
INSERT INTO meta (key, value) VALUES ('search_upto', '0');
