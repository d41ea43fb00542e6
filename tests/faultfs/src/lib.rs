//! An SQLite VFS that records what reaches the disk, cuts the power, and fails on purpose.
