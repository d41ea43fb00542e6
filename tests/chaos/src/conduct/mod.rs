//! Starts a server, links and nodes, breaks them by a seeded plan, lets them come to rest and collects what the judges need.

mod account;
mod cast;
mod clock;
mod disk;
pub mod link;
mod part;
mod progress;
mod roles;
pub mod server;
mod streams;
mod supervise;
mod torment;

pub use part::{Goal, Part, Settings, run};
