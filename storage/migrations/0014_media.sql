-- People's files: what is known of each, what was made from it, and what names it. The files are elsewhere.

-- One row for each mxc:// URI that is known here, ours or another server's.
CREATE TABLE media (
    origin          TEXT NOT NULL,      -- the server in its URI
    media_id        TEXT NOT NULL,
    user_id         TEXT,               -- who uploaded it here; NULL for other servers' and for pictures of previews
    created_ts      INTEGER NOT NULL,   -- when it was uploaded, fetched, or its address made
    expires_ts      INTEGER,            -- until when it must be uploaded; NULL once it is here
    used_ts         INTEGER NOT NULL,   -- when somebody last asked for it, roughly
    size_bytes      INTEGER NOT NULL,   -- 0 until it is here
    type            BLOB NOT NULL,      -- content type, as it was stated
    name            BLOB,               -- file name
    sha256          BLOB,               -- of its bytes; NULL until it is here
    file            TEXT,               -- what the store calls it; NULL until it is here
    is_open         SMALLINT NOT NULL,  -- anybody may have it, without a token
    quarantined_by  TEXT,               -- who says that nobody may have it; NULL: nobody
    facts           BLOB,               -- JSON: what looking into it has found
    PRIMARY KEY (origin, media_id)
) WITHOUT ROWID;
CREATE INDEX media_user ON media (user_id, media_id) WHERE user_id IS NOT NULL;
CREATE INDEX media_local_used ON media (used_ts) WHERE user_id IS NOT NULL;
CREATE INDEX media_remote_used ON media (used_ts) WHERE user_id IS NULL;
CREATE INDEX media_pending ON media (expires_ts) WHERE expires_ts IS NOT NULL;
CREATE INDEX media_pending_user ON media (user_id, expires_ts) WHERE expires_ts IS NOT NULL;
CREATE INDEX media_file ON media (file) WHERE file IS NOT NULL;
CREATE INDEX media_quarantined ON media (sha256) WHERE quarantined_by IS NOT NULL;

CREATE TABLE thumbnails (
    origin          TEXT NOT NULL,
    media_id        TEXT NOT NULL,
    width           INTEGER NOT NULL,   -- as it was asked for, on the ladder of sizes
    height          INTEGER NOT NULL,
    method          TEXT NOT NULL,      -- crop or scale
    animated        SMALLINT NOT NULL,
    type            TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    file            TEXT NOT NULL,
    PRIMARY KEY (origin, media_id, width, height, method, animated)
) WITHOUT ROWID;
CREATE INDEX thumbnails_file ON thumbnails (file);

-- Files in the store that belong to nothing: they are to be written and nothing has them yet, or what had them is gone.
CREATE TABLE loose_files (
    file            TEXT PRIMARY KEY,
    after_ts        INTEGER NOT NULL    -- from when on they may be deleted
) WITHOUT ROWID;
CREATE INDEX loose_files_due ON loose_files (after_ts);

-- What names files of this server: an event (e17, by its nid; s17 where it is state), a profile (p@alice:a.org), a
-- piece of account data (a@alice:a.org).
CREATE TABLE media_refs (
    holder          TEXT NOT NULL,
    media_id        TEXT NOT NULL,
    PRIMARY KEY (holder, media_id)
) WITHOUT ROWID;
CREATE INDEX media_refs_media ON media_refs (media_id);

CREATE TABLE url_previews (
    key             BLOB PRIMARY KEY,   -- SHA-256 of language and URL
    expires_ts      INTEGER NOT NULL,
    answer          BLOB NOT NULL,      -- JSON, as it is given to clients
    image           TEXT                -- media id of its picture here
) WITHOUT ROWID;
CREATE INDEX url_previews_expiry ON url_previews (expires_ts);
