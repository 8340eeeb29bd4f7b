-- What is in links of mail that a pusher sends, so that whoever reads it can want it, or want no more of it.
ALTER TABLE pushers ADD COLUMN token TEXT;

-- Addresses that were asked whether they want mail, so that nobody is asked over and over.
CREATE TABLE mail_addresses (
    address     BLOB NOT NULL PRIMARY KEY,  -- in lower case
    asked_ts    INTEGER NOT NULL,           -- ms since 1970
    times       INTEGER NOT NULL,           -- since it last said yes
    refused     SMALLINT NOT NULL           -- 1: it wants none, whoever asks
) WITHOUT ROWID;

-- How far somebody was told of rooms by mail.
CREATE TABLE mail_rooms (
    user_id     TEXT NOT NULL,
    room_nid    INTEGER NOT NULL,
    mailed_ts   INTEGER NOT NULL,   -- ms since 1970, of the last mail
    mailed_upto INTEGER NOT NULL,   -- position
    pause_ms    INTEGER NOT NULL,   -- before there is another
    PRIMARY KEY (user_id, room_nid)
) WITHOUT ROWID;
