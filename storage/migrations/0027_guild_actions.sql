-- What other servers had done in guilds in the name of their people: none of it is done twice.
CREATE TABLE guild_actions (
    server      TEXT NOT NULL,
    action_id   TEXT NOT NULL,
    until_ts    INTEGER NOT NULL,   -- from then on it is too old to be asked for
    PRIMARY KEY (server, action_id)
) WITHOUT ROWID;
CREATE INDEX guild_actions_until ON guild_actions (until_ts);
