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

-- The file's clock: one row, none in a file that no version with such a clock has opened yet. Milliseconds all of them. File time is what
-- the other tables' times are in; "up" is the time since the machine was started.
CREATE TABLE waypost_clock (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    -- One moment of the boot, from which file time is counted.
    base_ms     INTEGER NOT NULL,
    base_up_ms  INTEGER NOT NULL,
    -- The last moment that was noted, by all clocks.
    seen_ms     INTEGER NOT NULL,
    seen_up_ms  INTEGER NOT NULL,
    seen_wall_ms INTEGER NOT NULL,
    -- Whether the wall clock was right: 0 unknown, 1 as the battery-backed clock, 2 synchronised, 3 set to another time since, 4 by the settings.
    trust       INTEGER NOT NULL CHECK (trust BETWEEN 0 AND 4),
    -- The latest time that a synchronised wall clock of this machine has shown; 0 for none.
    synchronised_ms INTEGER NOT NULL,
    -- Hashes; NULL where the system does not tell.
    host        INTEGER,
    boot        INTEGER,
    time_namespace INTEGER NOT NULL,
    -- CRC-32 of all of them: a flipped bit takes no message's life.
    crc         INTEGER NOT NULL
) STRICT;

-- What was last said by a peer, and how long this node has been connected since without hearing of it, how often it asked in vain.
ALTER TABLE waypost_peers ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE waypost_peers ADD COLUMN channels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE waypost_peers ADD COLUMN linked_ms INTEGER NOT NULL DEFAULT 0 CHECK (linked_ms >= 0);
ALTER TABLE waypost_peers ADD COLUMN questions INTEGER NOT NULL DEFAULT 0 CHECK (questions >= 0);

-- By how much the wall clock differs from file time, from a moment on, for showing times to people.
CREATE TABLE waypost_clock_segments (
    from_ms     INTEGER PRIMARY KEY,
    offset_ms   INTEGER NOT NULL,
    trust       INTEGER NOT NULL CHECK (trust BETWEEN 0 AND 4)
) STRICT;
