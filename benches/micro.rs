//! What single steps cost: frames, decisions, the file.
//!
//! `cargo bench --bench micro` measures times and compares them with the run before; `-- --save-baseline NAME` and `-- --baseline NAME` keep
//! and compare another, and a text names the only ones to be run. scripts/instructions counts the instructions of those that need neither
//! file nor thread, which are the same in every run.

#[path = "micro/deliveries.rs"]
mod deliveries;
#[path = "micro/frames.rs"]
mod frames;
#[path = "micro/inboxes.rs"]
mod inboxes;
#[path = "micro/meter.rs"]
mod meter;
#[path = "micro/sends.rs"]
mod sends;
#[path = "micro/stores.rs"]
mod stores;

use std::process::ExitCode;
use std::time::Duration;

use criterion::Criterion;
use inside::{
    clock, condition, config, exposure, fresh, message, metering, notation, policy, reason,
};
use meter::{Instructions, Meter, Times};
use store::inspect;

/// The library's own source once more, for what is not public: the store, and what it needs. What names its own path stands where it
/// does in the library, at the crate's root.
#[path = "../src/protocol/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod protocol;
#[path = "../src/store/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod store;
#[path = "../src"]
#[allow(dead_code, unused_imports, unreachable_pub, missing_docs)]
mod inside {
    pub(crate) mod clock;
    pub(crate) mod condition;
    pub(crate) mod config;
    pub(crate) mod exposure;
    pub(crate) mod fresh;
    pub(crate) mod message;
    pub(crate) mod metering;
    pub(crate) mod notation;
    pub(crate) mod policy;
    pub(crate) mod reason;
}

fn main() -> ExitCode {
    if let Some(mut instructions) = Instructions::asked_for() {
        without_file(&mut instructions);
        return instructions.end();
    }
    let criterion = Criterion::default().warm_up_time(Duration::from_secs(1));
    let mut criterion = criterion.measurement_time(Duration::from_secs(3)).configure_from_args();
    without_file(&mut Times(&mut criterion));
    sends::measure(&mut criterion);
    stores::measure(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}

/// What is the same in every run, down to the instruction.
fn without_file(meter: &mut impl Meter) {
    frames::measure(meter);
    deliveries::measure(meter);
    inboxes::measure(meter);
}

/// Bytes of a usual message's payload.
const PAYLOAD_BYTES: usize = 256;

/// Payloads that do not compress, the same ones in every run.
fn noise(bytes: usize) -> bytes::Bytes {
    let mut rng = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

/// A folder on the disk that cargo builds on: elsewhere temporary files may be in memory, where an fsync costs nothing.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}
