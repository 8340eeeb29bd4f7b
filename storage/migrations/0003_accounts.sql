-- Accounts, their devices, and the tokens that let them in (as hashes only).

CREATE TABLE users (
    user_id         TEXT PRIMARY KEY,
    password_hash   TEXT,               -- as the scheme writes it; NULL: no password lets in
    created_ts      INTEGER NOT NULL,   -- ms since 1970, as all times
    is_guest        SMALLINT NOT NULL DEFAULT 0,
    is_admin        SMALLINT NOT NULL DEFAULT 0,
    deactivated     SMALLINT NOT NULL DEFAULT 0,
    erased          SMALLINT NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE devices (
    user_id         TEXT NOT NULL,
    device_id       TEXT NOT NULL,
    display_name    TEXT,
    last_seen_ts    INTEGER,
    last_seen_ip    TEXT,
    user_agent      TEXT,
    PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

CREATE TABLE access_tokens (
    token_hash      BLOB PRIMARY KEY,
    user_id         TEXT NOT NULL,
    device_id       TEXT NOT NULL,
    created_ts      INTEGER NOT NULL,
    expires_ts      INTEGER,
    refresh_hash    BLOB                -- the refresh token that it came with
) WITHOUT ROWID;
CREATE INDEX access_tokens_device ON access_tokens (user_id, device_id);
CREATE INDEX access_tokens_refresh ON access_tokens (refresh_hash) WHERE refresh_hash IS NOT NULL;

CREATE TABLE refresh_tokens (
    token_hash      BLOB PRIMARY KEY,
    user_id         TEXT NOT NULL,
    device_id       TEXT NOT NULL,
    created_ts      INTEGER NOT NULL,
    expires_ts      INTEGER,
    predecessor     BLOB                -- dies when this one or its access token is first used
) WITHOUT ROWID;
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_id, device_id);
CREATE INDEX refresh_tokens_predecessor ON refresh_tokens (predecessor) WHERE predecessor IS NOT NULL;

CREATE TABLE registration_tokens (
    token           TEXT PRIMARY KEY,
    uses_allowed    INTEGER,            -- NULL: any number
    completed       INTEGER NOT NULL DEFAULT 0,
    expires_ts      INTEGER
) WITHOUT ROWID;
