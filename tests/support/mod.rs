//! What the tests share: a real NATS server, faults on the way to it, and waiting for conditions.
// Each test program uses a part of this and would call the rest dead.
#![allow(dead_code, unreachable_pub)]

pub mod nats_server;
pub mod tcp_proxy;

use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Says that a test is left out, and why. With `WAYPOST_TEST_STRICT=1` that fails it: where all tests have to run, none may pass unseen.
///
/// # Panics
/// None may be left out.
#[track_caller]
pub fn not_run(why: &str) {
    let is_strict = std::env::var_os("WAYPOST_TEST_STRICT").is_some_and(|value| value == "1");
    assert!(!is_strict, "not run, and WAYPOST_TEST_STRICT=1 asks for it: {why}");
    eprintln!("not run: {why}");
}

/// Waits until the condition holds.
///
/// # Panics
/// It does not within the time.
#[track_caller]
pub fn eventually(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Waits until the condition holds, while the runtime goes on. Keeps to the real clock.
///
/// # Panics
/// It does not within the time.
pub async fn eventually_async<F: Future<Output = bool>>(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let deadline = Instant::now() + within;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
