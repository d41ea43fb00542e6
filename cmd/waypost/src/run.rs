//! How a run ends, and the code that says so.

use std::fmt;

use waypost_process::Number;

/// The end of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is done.
    Done,
    /// A check failed, and its findings are printed.
    Failed,
    /// Some messages of this run will not arrive.
    Lost,
    /// Some messages are not settled yet.
    Unsettled,
    /// Nothing failed, and not everything could be judged.
    Undecided,
    /// A node did not answer.
    Unanswered,
    /// A signal ended it before it was done.
    Interrupted(Number),
}

impl Outcome {
    /// The exit code.
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Unsettled | Self::Undecided => 3,
            Self::Unanswered => 4,
            Self::Lost => 5,
            Self::Interrupted(number) => 128 + number,
        }
    }
}

/// Marks an error as one of the command line or the settings.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) anyhow::Error);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

impl std::error::Error for Usage {}

/// The exit code of a failure.
pub(crate) fn code_of(error: &anyhow::Error) -> i32 {
    if error.is::<Usage>() { 2 } else { 1 }
}
