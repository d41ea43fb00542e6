//! What the user has chosen to see.

use std::time::Duration;

/// What the nodes are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Waiting,
    Rate,
}

impl Sort {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Name => Self::Waiting,
            Self::Waiting => Self::Rate,
            Self::Rate => Self::Name,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Waiting => "waiting",
            Self::Rate => "rate",
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) sort: Sort,
    pub(super) every: Duration,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// The first node that is shown; drawing keeps it where there is one.
    pub(super) first: usize,
}

impl View {
    pub(super) fn new(every: Duration) -> Self {
        Self { sort: Sort::Name, every, paused: false, help: false, first: 0 }
    }

    pub(super) fn scroll(&mut self, by: isize) {
        self.first = self.first.saturating_add_signed(by);
    }
}
