-- The highest seq ever given to a message, beside the last id, which changes with it: AUTOINCREMENT keeps it in a table of its own, and so
-- wrote one page more with every message.
ALTER TABLE waypost_meta ADD COLUMN end_seq INTEGER NOT NULL DEFAULT 0 CHECK (end_seq >= 0);
UPDATE waypost_meta SET end_seq = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'waypost_outbox'), 0);
DELETE FROM sqlite_sequence WHERE name = 'waypost_outbox';
-- The table's pages are the same without it, so that only its definition is written, however long the log is.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(sql, 'INTEGER PRIMARY KEY AUTOINCREMENT', 'INTEGER PRIMARY KEY')
    WHERE type = 'table' AND name = 'waypost_outbox';
PRAGMA writable_schema = RESET;
