-- What this node has promised in elections, and the state that masters hand on: one row, none where it never took part.
CREATE TABLE waypost_election (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    term        INTEGER NOT NULL CHECK (term >= 0),
    -- For whom it voted in this term.
    vote        TEXT CHECK (vote IS NULL OR length(vote) BETWEEN 1 AND 64),
    -- The state's version, and the state itself, as JSON.
    state_term  INTEGER NOT NULL CHECK (state_term >= 0),
    state_rev   INTEGER NOT NULL CHECK (state_rev >= 0),
    state       BLOB NOT NULL,
    -- CRC-32 of all of them: a flipped bit neither votes twice nor goes back to an earlier term.
    crc         INTEGER NOT NULL
) STRICT;

-- The highest fencing token that was seen for a resource that this node guards.
CREATE TABLE waypost_fences (
    resource    TEXT PRIMARY KEY CHECK (length(CAST(resource AS BLOB)) BETWEEN 1 AND 255),
    term        INTEGER NOT NULL CHECK (term >= 0),
    node        TEXT NOT NULL CHECK (length(node) BETWEEN 1 AND 64),
    -- CRC-32 of all of them: a flipped bit lets no token of the past through.
    crc         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The election's term that an audit's row is about, where it is about one.
ALTER TABLE waypost_audit ADD COLUMN term INTEGER;
