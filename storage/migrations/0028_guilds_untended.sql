-- Guilds of other servers' of whose channels some people here may still have to be joined.
CREATE TABLE guilds_untended (
    room_id     TEXT NOT NULL PRIMARY KEY
);
