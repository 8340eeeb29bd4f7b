-- How much rooms are used, by day (days since 1970, UTC): counted as it happens (homeserver/records/activity.py).
-- `meta.activity_upto`: every event up to that position is in it.
CREATE TABLE activity (
    room_nid    INTEGER NOT NULL,
    day         INTEGER NOT NULL,
    messages    INTEGER NOT NULL,
    active      INTEGER NOT NULL,   -- people who said something; of a guild's room: in all of the guild
    joins       INTEGER NOT NULL,
    leaves      INTEGER NOT NULL,
    PRIMARY KEY (room_nid, day)
) WITHOUT ROWID;

-- Who is counted in `active` already. Only the last days are kept.
CREATE TABLE activity_people (
    day         INTEGER NOT NULL,
    room_nid    INTEGER NOT NULL,
    user_id     TEXT NOT NULL,
    PRIMARY KEY (day, room_nid, user_id)
) WITHOUT ROWID;
