-- Which write-ahead log belongs to this state of the database: a random number that each log begins with, the one before it, and
-- the schema cookie. NULL until the first commit of a version that knows this column.
ALTER TABLE waypost_meta ADD COLUMN generation BLOB CHECK (generation IS NULL OR length(generation) = 44);
