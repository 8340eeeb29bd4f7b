-- What is said in sounds, and the work that finding it out is: homeserver/transcripts/.
CREATE TABLE transcripts (
    origin      TEXT NOT NULL,
    media_id    TEXT NOT NULL,
    user_id     TEXT NOT NULL,      -- who asked for it
    state       SMALLINT NOT NULL,  -- 0 waits, 1 at work, 2 done, 3 failed
    due_ts      INTEGER NOT NULL,   -- ms since 1970: not to be begun before; once it has ended, when that was
    attempts    SMALLINT NOT NULL,
    text        BLOB NOT NULL,      -- as far as it was heard
    heard_ms    INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,   -- 0: not known yet
    language    TEXT,
    error       TEXT,
    PRIMARY KEY (origin, media_id)
) WITHOUT ROWID;
CREATE INDEX transcripts_todo ON transcripts (state, due_ts);
CREATE INDEX transcripts_user ON transcripts (user_id, state);
