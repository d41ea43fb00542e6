//! The judges, and the conductors that run into trouble themselves.

mod doctored;

mod doctored_ledgers;
mod doctored_logs;
mod elections;
mod interrupted;
