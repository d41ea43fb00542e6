//! What the programs of this repository have in common as processes.
//!
//! - [`streams`]: the only code that reads standard input or writes standard output and standard error;
//! - [`Signals`]: the first SIGINT, SIGTERM or SIGHUP asks for a clean end, the second ends at once;
//! - [`runtime`]: one that a lack of threads does not end;
//! - [`begin`]: what a program checks of its limits before anything else;
//! - [`environment`]: variables that are misspelt.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

pub mod environment;
mod limits;
mod runtime;
mod signals;
pub mod streams;

pub use limits::{LimitError, begin};
pub use runtime::runtime;
pub use signals::{Number, Signals};
