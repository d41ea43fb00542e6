//! A waypost node's metrics and health over HTTP, for the programs of this repository that run a node:
//!
//! - `/metrics`: all metrics, in Prometheus' text format;
//! - `/healthz`: 200 as long as the process serves;
//! - `/readyz`: 200 where the node can do its work, else 503, with reasons.
//!
//! A package of its own and not part of the library, so that a program that embeds a node gets no HTTP server with it. One that has an axum server
//! takes [`router`]; one that has none, [`Address::bind`] and
//! [`Listener::serve`]. [`Options`] are these as a command line has them.
#![deny(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods)]

mod address;
mod kept;
mod options;
mod routes;
mod server;

pub use address::{Address, AddressError};
pub use options::Options;
pub use routes::{ReadyWhen, router};
pub use server::{BindError, Listener, Server};
