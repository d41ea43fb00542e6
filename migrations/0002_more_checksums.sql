-- CRC-32 of a dead letter, so that a flipped bit is not sent again: see waypost_outbox. NULL where the message was damaged before,
-- and for letters that are older than this column.
ALTER TABLE waypost_dead_letters ADD COLUMN crc INTEGER;

-- CRC-32 of what says up to where a sender's messages are done with, so that a flipped bit does not pass over those to come. NULL for
-- rows that nothing was received for since this column is there.
ALTER TABLE waypost_inbox ADD COLUMN crc INTEGER;
