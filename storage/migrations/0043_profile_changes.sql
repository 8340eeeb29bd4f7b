-- When a field of somebody's profile was last set, changed or removed: homeserver/sync/profiles.py.
--   user_id   key          position
--   @ann:here displayname  4711      Ann called herself something, and
--   @ann:here m.tz         4800      said where she lives, or took that back: what it is now is in `profiles`, if anything
CREATE TABLE profile_changes (
    user_id     TEXT NOT NULL,
    key         TEXT NOT NULL,
    position    INTEGER NOT NULL,   -- of the last change, in the one stream
    PRIMARY KEY (user_id, key)
) WITHOUT ROWID;
CREATE INDEX profile_changes_position ON profile_changes (position);
