//! Checks that take any bytes and panic where a promise is broken. Bytes are frames and names themselves, and for a state machine
//! the choices of what happens to it.

pub mod choices;
pub mod config;
pub mod delivery;
pub mod frames;
pub mod inbox;
pub mod keepalives;
pub mod names;
