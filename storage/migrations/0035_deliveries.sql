-- Up to which position everything has come to somebody's devices, and when that was: a row for each minute in which it
-- moved (homeserver/records/deliveries.py). What came before a position came at the least time of those behind it.
CREATE TABLE deliveries (
    user_id     TEXT NOT NULL,
    position    INTEGER NOT NULL,
    ts          INTEGER NOT NULL,   -- ms since 1970
    PRIMARY KEY (user_id, position)
) WITHOUT ROWID;
CREATE INDEX deliveries_ts ON deliveries (ts);

-- What was decided about a report: `open`, `resolved` or `dismissed`.
ALTER TABLE reports ADD COLUMN state TEXT NOT NULL DEFAULT 'open';
UPDATE reports SET state = 'resolved' WHERE resolved_ts IS NOT NULL;
