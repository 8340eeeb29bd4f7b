-- A file's SHA-256 is made only where something in quarantine is as long as a file that comes: NULL means now that nobody
-- has asked. What is in quarantine is found by its length first.
DROP INDEX media_quarantined;
CREATE INDEX media_quarantined ON media (size_bytes, sha256) WHERE quarantined_by IS NOT NULL;
