-- Rooms of channels and guilds that were deleted, out of which people are still to be put.
CREATE TABLE guilds_closing (
    room_id     TEXT NOT NULL PRIMARY KEY
);

-- Codes that let people into guilds of this server.
CREATE TABLE guild_invites (
    code        TEXT NOT NULL PRIMARY KEY,
    guild_id    TEXT NOT NULL,
    room_id     TEXT,
    user_id     TEXT NOT NULL,
    created_ts  INTEGER NOT NULL,
    expires_ts  INTEGER,
    max_uses    INTEGER,
    uses        INTEGER NOT NULL
);
CREATE INDEX guild_invites_guild ON guild_invites (guild_id);
