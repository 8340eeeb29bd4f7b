-- Accounts that were closed, and what goes with them is not all taken down yet: their rooms, messages and files.
CREATE TABLE departures (
    user_id TEXT PRIMARY KEY,
    erase   SMALLINT NOT NULL   -- 1: all that was said goes too
) WITHOUT ROWID;
