//! What the programs of this repository have in common as processes.
//!
//! - [`streams`]: the only code that reads standard input or writes standard output and standard error;
//! - [`Signals`]: the first SIGINT, SIGTERM or SIGHUP asks for a clean end, the second ends at once;
//! - [`begin`]: what a program checks of its limits before anything else;
//! - [`environment`]: variables that are misspelt.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

pub mod environment;
mod limits;
mod signals;
pub mod streams;

pub use limits::{LimitError, begin};
pub use signals::{Number, Signals};
