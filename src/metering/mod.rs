//! What is measured where it happens, for `Node::metrics`. Without the feature `metrics` nothing is, and all of this costs next to nothing.

#[cfg(feature = "metrics")]
mod measuring;
#[cfg(not(feature = "metrics"))]
mod nothing;
#[cfg(feature = "metrics")]
mod queues;

#[cfg(feature = "metrics")]
pub(crate) use measuring::{Flights, Meter, Stopwatch};
#[cfg(not(feature = "metrics"))]
pub(crate) use nothing::{Flights, Meter, Stopwatch};
#[cfg(feature = "metrics")]
pub(crate) use queues::{Named, Queue};

/// Whether a commit waited for an fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    Yes,
    No,
}
