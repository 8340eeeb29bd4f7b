-- Direct rooms of people here, and what those in them are to each other: homeserver/friends/. A reading of the rooms,
-- kept so that a list of friends is one query and a change can be told from none.
--   user_id   other_id   room_id  relation
--   @a:here   @b:a.org   !dm      3
CREATE TABLE direct_rooms (
    user_id  TEXT NOT NULL,         -- lives here
    other_id TEXT NOT NULL,
    room_id  TEXT NOT NULL,
    relation SMALLINT NOT NULL,     -- see storage/friends.py
    PRIMARY KEY (user_id, other_id, room_id)
) WITHOUT ROWID;
CREATE INDEX direct_rooms_room ON direct_rooms (room_id);

-- What somebody says of a friendship where the room does not let them say it: an older direct room, above all.
CREATE TABLE friend_words (
    room_id  TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    state    TEXT NOT NULL,         -- as in the event that it stands for
    position INTEGER NOT NULL,      -- what the room was up to when it was said
    PRIMARY KEY (room_id, user_id)
) WITHOUT ROWID;
