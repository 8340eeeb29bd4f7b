-- What people were told of friends and direct rooms, as places in the stream: the newest of each, for whoever was away.
--   user_id  position  kind                     other_id   room_id
--   @a:here  4711      friend_request.accepted  @b:a.org   !dm
CREATE TABLE friend_news (
    user_id  TEXT NOT NULL,         -- who is told; lives here
    position INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    other_id TEXT NOT NULL,
    room_id  TEXT NOT NULL,
    PRIMARY KEY (user_id, position)
) WITHOUT ROWID;
