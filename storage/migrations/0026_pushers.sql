-- Where people want their notifications sent.
CREATE TABLE pushers (
    user_id     TEXT NOT NULL,
    app_id      BLOB NOT NULL,
    pushkey     BLOB NOT NULL,
    device_id   BLOB NOT NULL,      -- that set it: it goes with the device
    told        BLOB NOT NULL,      -- JSON, as the client gave it
    enabled     SMALLINT NOT NULL,
    set_ts      INTEGER NOT NULL,   -- ms since 1970
    sent_upto   INTEGER NOT NULL,   -- position: what came later was not passed on yet
    PRIMARY KEY (user_id, app_id, pushkey)
) WITHOUT ROWID;
CREATE INDEX pushers_key ON pushers (app_id, pushkey);
