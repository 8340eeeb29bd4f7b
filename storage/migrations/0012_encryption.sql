-- End-to-end encryption, as far as a server has to do with it: public keys, whose list of devices changed when, messages
-- from device to device, and backups that only their owners can read.

-- Identity keys of this server's devices.
CREATE TABLE device_keys (
    user_id     TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    json        BLOB NOT NULL,      -- as it was uploaded, without `unsigned`
    PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

-- A key is given out once. Its id is remembered for a while: who uploads it again did not hear the answer.
CREATE TABLE one_time_keys (
    user_id     TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    algorithm   TEXT NOT NULL,
    key_id      TEXT NOT NULL,
    ordinal     INTEGER NOT NULL,   -- of the upload that it came with: they go out in that order
    json        BLOB,               -- NULL: given out
    given_ts    INTEGER,            -- ms since 1970
    PRIMARY KEY (user_id, device_id, algorithm, key_id)
) WITHOUT ROWID;
CREATE INDEX one_time_keys_next ON one_time_keys (user_id, device_id, algorithm, ordinal) WHERE json IS NOT NULL;

CREATE TABLE fallback_keys (
    user_id     TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    algorithm   TEXT NOT NULL,
    key_id      TEXT NOT NULL,
    json        BLOB NOT NULL,
    used        SMALLINT NOT NULL,
    PRIMARY KEY (user_id, device_id, algorithm)
) WITHOUT ROWID;

-- Of people here and, as far as they are known, elsewhere.
CREATE TABLE cross_signing_keys (
    user_id     TEXT NOT NULL,
    usage       TEXT NOT NULL,      -- master, self_signing, user_signing
    public_key  TEXT NOT NULL,      -- unpadded Base64
    json        BLOB NOT NULL,
    PRIMARY KEY (user_id, usage)
) WITHOUT ROWID;

-- What people here signed after the key had been uploaded: their own devices and master key, others' master keys.
CREATE TABLE key_signatures (
    user_id     TEXT NOT NULL,      -- whose key it is
    key_id      TEXT NOT NULL,      -- device id, or public key of a master key
    signer      TEXT NOT NULL,      -- user id
    signer_key  TEXT NOT NULL,      -- e.g. ed25519:PHONE
    signature   TEXT NOT NULL,
    position    INTEGER NOT NULL,
    PRIMARY KEY (user_id, key_id, signer, signer_key)
) WITHOUT ROWID;
CREATE INDEX key_signatures_signer ON key_signatures (signer, position);

-- The newest change of everybody's list of devices, as those who share a room are told of it.
CREATE TABLE device_lists (
    user_nid    INTEGER PRIMARY KEY,    -- of `strings`
    position    INTEGER NOT NULL
);
CREATE INDEX device_lists_position ON device_lists (position);

-- What other servers are told of the devices of people here: they are counted, so that nobody misses one.
CREATE TABLE device_updates (
    user_id     TEXT PRIMARY KEY,
    stream_id   INTEGER NOT NULL,       -- of the newest update
    device_id   TEXT NOT NULL,          -- what it was about
    position    INTEGER NOT NULL        -- of the newest news of any kind
) WITHOUT ROWID;
CREATE INDEX device_updates_position ON device_updates (position);
INSERT INTO device_updates (user_id, stream_id, device_id, position)
    SELECT user_id, 1, MIN(device_id), 0 FROM devices GROUP BY user_id;

-- Lists of devices of other servers' people, as those servers told them.
CREATE TABLE remote_device_lists (
    user_id     TEXT PRIMARY KEY,
    stream_id   INTEGER NOT NULL,       -- of the newest update that is in it
    position    INTEGER NOT NULL,       -- when the whole list was read
    stale       SMALLINT NOT NULL       -- an update was missed: to be read again
) WITHOUT ROWID;
CREATE INDEX remote_device_lists_stale ON remote_device_lists (user_id) WHERE stale <> 0;

CREATE TABLE remote_devices (
    user_id     TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    json        BLOB NOT NULL,          -- keys, with all signatures
    display_name BLOB,
    PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

-- Messages that wait for a device of this server.
CREATE TABLE to_device (
    user_id     TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    position    INTEGER NOT NULL,
    sender      TEXT NOT NULL,          -- user id
    json        BLOB NOT NULL,          -- the event, as the device is shown it
    PRIMARY KEY (user_id, device_id, position)
) WITHOUT ROWID;

-- Messages for devices that wait to be told to other servers.
CREATE TABLE to_device_out (
    destination TEXT NOT NULL,          -- server name
    position    INTEGER NOT NULL,
    json        BLOB NOT NULL,          -- the EDU
    PRIMARY KEY (destination, position)
) WITHOUT ROWID;

-- Messages that other servers have delivered, which they may do more than once.
CREATE TABLE to_device_seen (
    origin      TEXT NOT NULL,
    message_id  BLOB NOT NULL,
    ts          INTEGER NOT NULL,
    PRIMARY KEY (origin, message_id)
) WITHOUT ROWID;
CREATE INDEX to_device_seen_ts ON to_device_seen (ts);

-- A server has yet to hear of a person's devices.
CREATE TABLE owed_devices (
    destination TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    position    INTEGER NOT NULL,
    PRIMARY KEY (destination, user_id)
) WITHOUT ROWID;

-- MSC3814: at most one a person; the device itself stands in `devices`.
CREATE TABLE dehydrated_devices (
    user_id     TEXT PRIMARY KEY,
    device_id   TEXT NOT NULL,
    data        BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE key_backups (
    user_id     TEXT NOT NULL,
    version     INTEGER NOT NULL,
    algorithm   BLOB NOT NULL,
    auth_data   BLOB NOT NULL,
    etag        INTEGER NOT NULL,       -- counts the changes of what is in it
    keys        INTEGER NOT NULL,       -- how many there are
    deleted     SMALLINT NOT NULL,
    PRIMARY KEY (user_id, version)
) WITHOUT ROWID;

CREATE TABLE backed_up_keys (
    user_id     TEXT NOT NULL,
    version     INTEGER NOT NULL,
    room_id     TEXT NOT NULL,
    session_id  TEXT NOT NULL,
    is_verified SMALLINT NOT NULL,
    first_index INTEGER NOT NULL,
    forwarded   INTEGER NOT NULL,
    data        BLOB NOT NULL,
    PRIMARY KEY (user_id, version, room_id, session_id)
) WITHOUT ROWID;
