-- The book-keeping of what other servers were told begins with the database, not with the first time that it is written:
-- otherwise a crash before that would hide what was said until then.
INSERT INTO meta (key, value) VALUES ('sent_upto', '0') ON CONFLICT (key) DO NOTHING;
