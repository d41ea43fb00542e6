-- CRC-32 of a dead letter, so that a flipped bit is not sent again: see waypost_outbox. NULL where the message was damaged before,
-- and for letters that are older than this column.
ALTER TABLE waypost_dead_letters ADD COLUMN crc INTEGER;
