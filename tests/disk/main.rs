//! P1, P2, P5, P6 on a disk that fails: the power goes, writes and syncs fail, bits flip. A program of its own: in it SQLite works
//! through a VFS that records what reaches the disk (`tests/faultfs`), for all of the process.

#[path = "../nodes/mod.rs"]
mod nodes;
mod power;
mod rot;
#[path = "../support/mod.rs"]
mod support;

mod bit_rot;
mod faults;
mod power_cut;

/// Nobody listens there.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// Whether to try all, which takes long, or some.
fn thorough() -> bool {
    std::env::var("WAYPOST_CUTS").is_ok_and(|value| value == "all")
}
