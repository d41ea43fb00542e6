//! What happened to the files of a folder, in one order.

use std::sync::Arc;

use crate::fault::Operation;

/// The name of a file within its folder.
pub type Name = Arc<str>;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A file was opened that had this content before anything was recorded about it.
    Found {
        /// Which file.
        file: Name,
        /// What was in it.
        bytes: Arc<[u8]>,
    },
    /// A file was created, by SQLite or just before it was opened for the first time.
    Create {
        /// Which file.
        file: Name,
    },
    /// A connection opened a file.
    Open {
        /// Which file.
        file: Name,
    },
    /// Bytes were written.
    Write {
        /// Which file.
        file: Name,
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// A file was cut.
    Truncate {
        /// Which file.
        file: Name,
        /// What it was cut to.
        size: u64,
    },
    /// A file was synced, with success.
    Sync {
        /// Which file.
        file: Name,
        /// Its folder, too.
        folder: bool,
    },
    /// A file was deleted.
    Delete {
        /// Which file.
        file: Name,
        /// The folder was synced.
        folder: bool,
    },
    /// An operation was made to fail.
    Failed {
        /// Which file.
        file: Name,
        /// What was tried.
        operation: Operation,
    },
    /// Something that the test wanted to remember.
    Mark(Arc<str>),
}

/// All that happened so far. A cheap clone.
#[derive(Debug, Clone, Default)]
pub struct Log {
    pub(crate) ops: Vec<Op>,
}

impl Log {
    /// All of it, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The places of all completed syncs.
    pub fn sync_points(&self) -> Vec<usize> {
        let syncs = self.ops.iter().enumerate().filter(|(_, op)| matches!(op, Op::Sync { .. }));
        syncs.map(|(at, _)| at).collect()
    }

    /// The marks before this place, with their places.
    pub fn marks(&self, before: usize) -> impl Iterator<Item = (usize, &str)> {
        self.ops[..before].iter().enumerate().filter_map(|(at, op)| match op {
            Op::Mark(text) => Some((at, &**text)),
            _ => None,
        })
    }
}
