-- The first schema. Times are UTC milliseconds since 1970, ids are ULIDs as 16 bytes with the most significant first, so that
-- they sort by age. Every table is named waypost_*, so that a program's own tables can live in the same file.

-- One row: who this file belongs to.
CREATE TABLE waypost_meta (
    only        INTEGER PRIMARY KEY CHECK (only = 1),
    node        TEXT NOT NULL CHECK (length(node) BETWEEN 1 AND 64),
    last_id     BLOB NOT NULL CHECK (length(last_id) = 16),
    created_ms  INTEGER NOT NULL
) STRICT;

-- Under which store id a message travels: the row with the greatest from_id that is not above the message's id.
CREATE TABLE waypost_stores (
    from_id     BLOB PRIMARY KEY CHECK (length(from_id) = 16),
    store_id    BLOB NOT NULL UNIQUE CHECK (length(store_id) = 16)
) STRICT, WITHOUT ROWID;

-- What has one order and one set of readers: a channel's broadcasts in one lane, or its direct messages to one node in one lane.
-- Lanes: 0 high, 1 normal, 2 low.
CREATE TABLE waypost_topics (
    topic       INTEGER PRIMARY KEY,
    channel     TEXT NOT NULL CHECK (length(CAST(channel AS BLOB)) BETWEEN 1 AND 255),
    target      TEXT CHECK (target IS NULL OR length(target) BETWEEN 1 AND 64),
    lane        INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 2),
    -- Messages ever put into it, and the place of the last one.
    accepted    INTEGER NOT NULL DEFAULT 0 CHECK (accepted >= 0),
    last_seq    INTEGER NOT NULL DEFAULT 0 CHECK (last_seq >= 0),
    -- Messages that expired before any reader was known.
    unclaimed_expired INTEGER NOT NULL DEFAULT 0 CHECK (unclaimed_expired >= 0)
) STRICT;
CREATE UNIQUE INDEX waypost_topics_name ON waypost_topics (channel, coalesce(target, ''), lane);

-- The log of accepted messages: one row a message, whatever the number of receivers.
CREATE TABLE waypost_outbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL CHECK (length(id) = 16),
    topic       INTEGER NOT NULL,
    lane        INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 2),
    -- The topic's message before this one; 0 for its first.
    previous_seq INTEGER NOT NULL CHECK (previous_seq >= 0 AND previous_seq < seq),
    created_ms  INTEGER NOT NULL,
    expires_ms  INTEGER CHECK (expires_ms IS NULL OR expires_ms > created_ms),
    kind        TEXT NOT NULL,
    -- A JSON object of texts; NULL for none.
    headers     TEXT,
    -- 0 as it is, 1 one snappy block.
    encoding    INTEGER NOT NULL CHECK (encoding IN (0, 1)),
    -- CRC-32 of id, topic, kind, headers, encoding and payload: a flipped bit is never delivered.
    crc         INTEGER NOT NULL,
    payload     BLOB NOT NULL
) STRICT;
-- Only the lanes that are not normal, so that an urgent message behind a long backlog is found at once and normal ones pay nothing.
CREATE INDEX waypost_outbox_lanes ON waypost_outbox (lane, seq) WHERE lane <> 1;

-- How far one receiver is in one topic. pending = topic.accepted - base - acknowledged - expired - dead - purged while open, else 0.
CREATE TABLE waypost_cursors (
    receiver    TEXT NOT NULL,
    topic       INTEGER NOT NULL REFERENCES waypost_topics (topic),
    open        INTEGER NOT NULL CHECK (open IN (0, 1)),
    -- All messages of the topic up to here are settled; acked_id is the last acknowledged one among them.
    acked_seq   INTEGER NOT NULL CHECK (acked_seq >= 0),
    acked_id    BLOB CHECK (acked_id IS NULL OR length(acked_id) = 16),
    -- The topic's `accepted` where this cursor began, less what it settled before: see above.
    base        INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL DEFAULT 0 CHECK (acknowledged >= 0),
    expired     INTEGER NOT NULL DEFAULT 0 CHECK (expired >= 0),
    dead        INTEGER NOT NULL DEFAULT 0 CHECK (dead >= 0),
    purged      INTEGER NOT NULL DEFAULT 0 CHECK (purged >= 0),
    PRIMARY KEY (receiver, topic)
) STRICT, WITHOUT ROWID;

-- Runs of messages that were settled in the same way: what answers "when, and how" without a row a message.
CREATE TABLE waypost_settlements (
    receiver    TEXT NOT NULL,
    topic       INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    first_seq   INTEGER NOT NULL CHECK (first_seq <= last_seq),
    outcome     TEXT NOT NULL CHECK (outcome IN ('acknowledged', 'expired', 'dead', 'purged')),
    count       INTEGER NOT NULL CHECK (count > 0),
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (receiver, topic, last_seq)
) STRICT, WITHOUT ROWID;

-- What went wrong: an acknowledgement that did not come, a refusal.
CREATE TABLE waypost_attempts (
    receiver    TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    attempt     INTEGER NOT NULL CHECK (attempt > 0),
    at_ms       INTEGER NOT NULL,
    answer      TEXT NOT NULL,
    PRIMARY KEY (receiver, seq, attempt)
) STRICT, WITHOUT ROWID;

-- How far this node has committed each sender's topics: one row, not one a message, makes a duplicate recognisable for ever.
CREATE TABLE waypost_inbox (
    sender      TEXT NOT NULL,
    store_id    BLOB NOT NULL CHECK (length(store_id) = 16),
    channel     TEXT NOT NULL,
    direct      INTEGER NOT NULL CHECK (direct IN (0, 1)),
    lane        INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 2),
    first_id    BLOB NOT NULL CHECK (length(first_id) = 16),
    last_id     BLOB NOT NULL CHECK (length(last_id) = 16),
    count       INTEGER NOT NULL CHECK (count > 0),
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (sender, store_id, channel, direct, lane),
    CHECK (first_id <= last_id)
) STRICT, WITHOUT ROWID;

-- Membership as last known.
CREATE TABLE waypost_peers (
    node        TEXT PRIMARY KEY,
    store_id    BLOB NOT NULL CHECK (length(store_id) = 16),
    incarnation BLOB NOT NULL CHECK (length(incarnation) = 16),
    host        TEXT NOT NULL,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE waypost_subscriptions (
    node        TEXT NOT NULL,
    channel     TEXT NOT NULL,
    since_ms    INTEGER NOT NULL,
    PRIMARY KEY (node, channel)
) STRICT, WITHOUT ROWID;

-- The channels that this node itself has joined or left, and when, so that a join is as old as it is after a restart.
CREATE TABLE waypost_joins (
    channel     TEXT PRIMARY KEY,
    joined_ms   INTEGER NOT NULL,
    left_ms     INTEGER
) STRICT, WITHOUT ROWID;

-- Messages that a receiver refused or failed too often, with all that is needed to send them again.
CREATE TABLE waypost_dead_letters (
    receiver    TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    id          BLOB NOT NULL CHECK (length(id) = 16),
    channel     TEXT NOT NULL,
    lane        INTEGER NOT NULL CHECK (lane BETWEEN 0 AND 2),
    created_ms  INTEGER NOT NULL,
    died_ms     INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    -- The message as it stood; NULL where it was damaged.
    kind        TEXT,
    headers     TEXT,
    encoding    INTEGER,
    payload     BLOB,
    -- The id of the message that was sent in its place, once it was.
    redriven_as BLOB CHECK (redriven_as IS NULL OR length(redriven_as) = 16),
    PRIMARY KEY (receiver, seq)
) STRICT, WITHOUT ROWID;

-- What was decided about peers, messages and this file, and by whom.
CREATE TABLE waypost_audit (
    audit       INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms       INTEGER NOT NULL,
    action      TEXT NOT NULL,
    subject     TEXT NOT NULL,
    detail      TEXT NOT NULL
) STRICT;
