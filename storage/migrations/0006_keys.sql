-- Keys that servers sign with, and their own word on them.

CREATE TABLE server_keys (
    server_name     TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    verify_key      BLOB NOT NULL,      -- 32 bytes of ed25519
    valid_until_ts  INTEGER NOT NULL,   -- for a key out of use: when that began
    digest          BLOB NOT NULL,      -- of the newest response in which it stood
    PRIMARY KEY (server_name, key_id)
) WITHOUT ROWID;

CREATE TABLE key_responses (
    server_name     TEXT NOT NULL,
    digest          BLOB NOT NULL,      -- SHA-256 of the body
    fetched_ts      INTEGER NOT NULL,
    valid_until_ts  INTEGER NOT NULL,
    body            BLOB NOT NULL,      -- canonical JSON, signed by the server: what a notary hands on
    PRIMARY KEY (server_name, digest)
) WITHOUT ROWID;

CREATE TABLE own_keys (
    key_id          TEXT PRIMARY KEY,
    verify_key      BLOB NOT NULL,
    expired_ts      INTEGER             -- NULL: in use
) WITHOUT ROWID;
