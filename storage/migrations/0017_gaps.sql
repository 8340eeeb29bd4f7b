-- Where in the timeline something is missing: the lowest position of the events that follow what is not here.
ALTER TABLE missing_prev ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
UPDATE missing_prev SET position = (
    SELECT COALESCE(MIN(e.position), 0) FROM events e WHERE e.room_nid = missing_prev.room_nid AND e.position IS NOT NULL
);
CREATE INDEX missing_prev_position ON missing_prev (room_nid, position);

-- Events that anybody may be shown, by the time that they claim to be of.
CREATE INDEX events_moment ON events (room_nid, origin_ts, position) WHERE position IS NOT NULL AND flags = 0;
