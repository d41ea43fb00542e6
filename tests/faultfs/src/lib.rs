//! An SQLite VFS that records what reaches the disk, cuts the power, and fails on purpose.
//!
//! It stands in front of SQLite's own unix VFS, forwards everything (locks and shared memory included, so that several connections
//! in WAL mode work as ever), and registers itself as the default, so that the program under test needs no change. Files outside
//! of the folders that a [`Disk`] watches pass through unseen.
//!
//! A [`Disk`] has one log of all that happened to its files, in one order, with marks of the test's own in between. From the log,
//! [`Replay`] builds what a disk could hold if the power had failed at any place in it:
//!
//! - What a completed sync of a file covered is there. Of later writes and truncations none, all, some, or some sectors survive:
//!   see [`Survival`].
//! - After a *failed* sync, what it should have covered is in doubt for good: the kernel may have marked those pages as clean, so
//!   that a later sync that succeeds says nothing about them. Only writing them again helps.
//! - A write never harms bytes outside of its range (SQLite's `POWERSAFE_OVERWRITE`, which the unix VFS assumes too).
//! - The names of files, created or deleted, are durable after the next sync of their folder. SQLite does one with the first sync
//!   of a journal or log after it was opened, and with a deletion if it asks for that. Until then, a beginning of what happened
//!   to the names survives: journaling filesystems keep their order. A database that was empty when it was first opened counts as
//!   created there.
//! - Shared memory (`-shm`) never survives.
//!
//! No published crate fits: `sqlite-vfs` has no WAL, and with `sqlite-plugin` locks, shared memory and files would have to be
//! written anew, while it is SQLite's own that the product runs on.

mod disk;
mod fault;
mod log;
mod replay;
mod vfs;

pub use disk::Disk;
pub use fault::{Fault, Files, Operation};
pub use log::{Log, Name, Op};
pub use replay::{Image, Replay, Survival};
