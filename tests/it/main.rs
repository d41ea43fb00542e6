//! The library as its users have it: nodes with files of their own, a NATS server of each test's own, and what can go wrong between
//! them. One program, since each one is linked with SQLite and a NATS client; `cargo test --test it promises::` runs a part of it.
//!
//! Programs of their own are the tests whose nodes stand on a disk that fails (`tests/disk`), the model of the election and the
//! simulation.

#[cfg(feature = "metrics")]
#[path = "../support/exposition.rs"]
mod exposition;
#[path = "../hostile/mod.rs"]
mod hostile;
#[path = "../support/logins.rs"]
mod logins;
#[path = "../nodes/mod.rs"]
mod nodes;
#[path = "../support/security_page.rs"]
mod security_page;
#[path = "../support/mod.rs"]
mod support;

/// What a program can ask a node for.
mod api {
    mod bad_input;
    mod batching;
    mod inline_handlers;
    mod looking;
    mod node;
    mod receiving;
    mod sending;
}

/// What an operator sees and does, and who leads.
mod management {
    mod election;
    #[cfg(feature = "metrics")]
    mod metrics;
    mod orders;
    mod spans;
}

/// P1 to P8, and what breaks them elsewhere.
mod promises {
    mod bounds;
    mod durable;
    mod once;
    mod order;
    mod outages;
    mod rmds;
    mod strangers;
    pub(crate) mod waiting;
}

/// What strangers can do, and what they can see.
mod security {
    mod hostile_bytes;
    mod hostile_peer;
    mod permissions;
    mod secrets;
}

/// Files that are too large, or from another time.
mod store {
    pub(crate) mod full_disk;
    mod going_back;
    pub(crate) mod small_disks;
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_process() {
    let Some(role) = nodes::child::role() else { return };
    let is_done = promises::waiting::run(&role)
        || store::full_disk::run(&role)
        || store::small_disks::run(&role)
        || hostile::honest::run(&role);
    if !is_done {
        nodes::child::run(&role);
    }
}
