//! The word of a wall clock that nothing proves.

use super::*;
use crate::message::NewMessage;
use crate::store::clock::TimeSource as _;
use crate::store::clock::hand::HandClock;
use crate::store::inspect::believe::believe;
use crate::store::tests::{DAY_MS, START_MS, options, prepared};
use crate::store::{Opened, Store};

fn opened(path: &Path, clock: &HandClock) -> Opened {
    Store::open_at(options(path), Box::new(clock.clone())).expect("the store opens")
}

#[tokio::test]
async fn time_that_was_not_counted_is_counted_once_it_is_believed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = fs::canonicalize(folder.path()).expect("a path").join("a.db");
    let clock = HandClock::at(START_MS);
    let believed = || believe(&path, Box::new(clock.clone()));
    assert!(matches!(believed(), Err(InspectError::Open(OpenError::Missing { .. }))));
    let Opened { store, .. } = opened(&path, &clock);
    store.send(vec![prepared("c", NewMessage::text("x"))]).await.expect("accepted");
    assert!(matches!(believed(), Err(InspectError::Open(OpenError::InUse { .. }))));
    store.close().await;

    // 500 days off, and nobody knows whether that is true.
    clock.reboot(500 * DAY_MS, 60_000);
    let Opened { store, .. } = opened(&path, &clock);
    clock.advance(5);
    let (before, shown) = (store.now_ms(), store.wall_ms(store.now_ms()));
    assert!(before < START_MS + DAY_MS, "{before}");
    assert_eq!(shown, clock.wall_ms());
    store.close().await;
    let ahead_ms = believed().expect("believed").ahead_ms;
    assert_eq!(ahead_ms, clock.wall_ms() - before);
    let Opened { store, .. } = opened(&path, &clock);
    assert_eq!(store.now_ms(), clock.wall_ms());
    // What was sent before is shown at the time at which it was sent.
    assert_eq!(store.wall_ms(START_MS), START_MS);
    assert_eq!(store.wall_ms(store.now_ms()), clock.wall_ms());
    store.close().await;
    assert_eq!(believed().expect("believed").ahead_ms, 0, "twice is once");
    let audit = Inspector::open(&path).expect("opened").audit(10).expect("read");
    assert_eq!(audit.iter().filter(|entry| entry.action == "clock believed").count(), 1);

    clock.set_wall(START_MS);
    match believed().expect_err("it goes back") {
        InspectError::ClockBehind { behind_ms, .. } => assert!(behind_ms > 499 * DAY_MS),
        other => panic!("{other:?}"),
    }
    let Opened { store, .. } = opened(&path, &clock);
    assert!(store.now_ms() > START_MS + 499 * DAY_MS);
    store.close().await;
}
