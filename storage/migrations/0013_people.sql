-- People as they can be searched for: this server's own, and those of others who are in rooms that are open to all.

CREATE TABLE people (
    user_id     TEXT PRIMARY KEY,
    name        BLOB,               -- by which everybody may know them, not what they are called in some room
    avatar_url  BLOB
) WITHOUT ROWID;

-- The beginnings of words by which they are found, folded: see homeserver/people/words.py.
CREATE TABLE people_words (
    word        TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    PRIMARY KEY (word, user_id)
) WITHOUT ROWID;
CREATE INDEX people_words_user ON people_words (user_id);
