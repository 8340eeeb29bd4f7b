-- Which threads people follow, and which they follow no more: homeserver/relations/subscriptions.py.
--   user_id   room_nid  root_id  kind  position
--   @ann:here 7         $root    2     4711      Ann subscribed by herself
--   @ann:here 7         $other   0     4800      and took back what she said of this one: nothing older brings it back
CREATE TABLE thread_subscriptions (
    user_id     TEXT NOT NULL,
    room_nid    INTEGER NOT NULL,
    root_id     TEXT NOT NULL,
    kind        SMALLINT NOT NULL,  -- 0 not any more, 1 automatic, 2 manual
    position    INTEGER NOT NULL,   -- of the last change, in the one stream
    PRIMARY KEY (user_id, room_nid, root_id)
) WITHOUT ROWID;
CREATE INDEX thread_subscriptions_changes ON thread_subscriptions (user_id, position);
