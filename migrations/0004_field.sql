-- Which write-ahead log belongs to this state of the database: a random number that each log begins with, the one before it, and
-- the schema cookie. NULL until the first commit of a version that knows this column.
ALTER TABLE waypost_meta ADD COLUMN generation BLOB CHECK (generation IS NULL OR length(generation) = 44);

-- The drain that this node is under, so that it outlives a restart: one row, none where the node takes messages.
CREATE TABLE waypost_drain (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    -- At whose order, and since when.
    by_node     TEXT NOT NULL CHECK (length(by_node) BETWEEN 1 AND 64),
    at_ms       INTEGER NOT NULL
) STRICT;
