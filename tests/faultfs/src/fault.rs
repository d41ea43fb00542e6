//! Failures on purpose.

use rusqlite::ffi;

/// What can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Writing bytes.
    Write,
    /// Making what was written durable.
    Sync,
    /// Cutting a file.
    Truncate,
}

/// Whose operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// All files.
    Any,
    /// Write-ahead logs.
    Log,
    /// Databases.
    Database,
    /// Rollback journals.
    Journal,
}

impl Files {
    fn include(self, name: &str) -> bool {
        let (log, journal) = (name.ends_with("-wal"), name.ends_with("-journal"));
        match self {
            Self::Any => true,
            Self::Log => log,
            Self::Journal => journal,
            Self::Database => !log && !journal,
        }
    }
}

/// A failure that is to come.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    files: Files,
    /// Only files whose names begin so.
    prefix: String,
    code: i32,
    /// Half of a write is done before it fails.
    short: bool,
    /// So many more operations go well.
    spare: u64,
    /// So many fail after that; `None`: all until it is lifted.
    times: Option<u64>,
    pub(crate) hits: u64,
}

impl Fault {
    /// The `nth` of these operations, from 1, fails once with an input or output error.
    pub fn nth(operation: Operation, nth: u64) -> Self {
        let code = match operation {
            Operation::Write => ffi::SQLITE_IOERR_WRITE,
            Operation::Sync => ffi::SQLITE_IOERR_FSYNC,
            Operation::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
        };
        let spare = nth.saturating_sub(1);
        let (files, prefix) = (Files::Any, String::new());
        Self { operation, files, prefix, code, short: false, spare, times: Some(1), hits: 0 }
    }

    /// Only on these files counts and fails.
    pub fn on(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// Only files whose names begin so count and fail.
    pub fn of(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Fails as a full disk does: half of a write is done.
    pub fn full(mut self) -> Self {
        self.code = ffi::SQLITE_FULL;
        self.short = true;
        self
    }

    /// Half of a write is done before it fails.
    pub fn short(mut self) -> Self {
        self.short = true;
        self
    }

    /// Fails so many times in a row.
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Fails until it is lifted.
    pub fn lasting(mut self) -> Self {
        self.times = None;
        self
    }

    /// Whether this operation is to fail: the code, and whether half of it is done.
    pub(crate) fn strikes(&mut self, operation: Operation, name: &str) -> Option<(i32, bool)> {
        let ours = operation == self.operation
            && self.files.include(name)
            && name.starts_with(&self.prefix);
        if !ours || self.times.is_some_and(|times| self.hits >= times) {
            return None;
        }
        if self.spare > 0 {
            self.spare -= 1;
            return None;
        }
        self.hits += 1;
        Some((self.code, self.short))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(fault: &mut Fault, name: &str) -> bool {
        fault.strikes(Operation::Write, name).is_some()
    }

    #[test]
    fn the_nth_operation_on_a_matching_file_fails_and_no_other() {
        let mut fault = Fault::nth(Operation::Write, 2).on(Files::Log).of("a");
        assert!(!strikes(&mut fault, "a.db"), "not a log");
        assert!(!strikes(&mut fault, "b.db-wal"), "not its name");
        assert!(fault.strikes(Operation::Sync, "a.db-wal").is_none(), "not a write");
        let struck: Vec<bool> = (0..4).map(|_| strikes(&mut fault, "a.db-wal")).collect();
        assert_eq!(struck, [false, true, false, false]);
    }

    #[test]
    fn a_lasting_fault_goes_on() {
        let mut fault = Fault::nth(Operation::Write, 3).full().lasting();
        let struck: Vec<bool> = (0..5).map(|_| strikes(&mut fault, "a.db")).collect();
        assert_eq!(struck, [false, false, true, true, true]);
        assert_eq!(fault.strikes(Operation::Write, "x"), Some((ffi::SQLITE_FULL, true)));
    }
}
