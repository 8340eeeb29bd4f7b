-- Pushers that wait for a word from where they lead (web push: the browser; mail: whoever reads it) are told of nothing.
ALTER TABLE pushers ADD COLUMN activated SMALLINT NOT NULL DEFAULT 1;
