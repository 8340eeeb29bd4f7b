-- Somebody's state that was redacted is little, and a guild's steward looks for its own at each start.
CREATE INDEX events_redacted_state ON events (sender_nid, room_nid) WHERE redacted_by IS NOT NULL AND key_nid IS NOT NULL;
