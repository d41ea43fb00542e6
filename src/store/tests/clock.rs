//! The file's clock: what time messages live by.

use super::*;
use crate::protocol::life::Trust;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const LIVING: &str = "SELECT count(*) FROM waypost_outbox";
const NOTED: &str = "SELECT seen_ms FROM waypost_clock";

async fn send_for(bench: &Bench, ttl_ms: u64) {
    let message = NewMessage::text("x").ttl(Duration::from_millis(ttl_ms));
    bench.store.send(vec![prepared("c", message)]).await.expect("accepted");
}

/// How many messages a clean-up leaves.
async fn living(bench: &Bench) -> u64 {
    bench.store.cleanup().await.expect("clean");
    bench.count(LIVING)
}

/// A wall clock that was wrong, whichever way, and is set right while the node runs or between two runs.
#[tokio::test]
async fn a_wall_clock_that_is_set_takes_no_message_s_life() {
    for wrong_ms in [0, START_MS - 21 * DAY_MS, START_MS + 3_650 * DAY_MS] {
        for restarts in [false, true] {
            let bench = Bench::new();
            bench.clock.set_wall(wrong_ms);
            let mut bench = bench.reopened().await;
            send_for(&bench, DAY_MS).await;
            bench.clock.set_wall(START_MS + HOUR_MS);
            if restarts {
                bench = bench.reopened().await;
            }
            send_for(&bench, DAY_MS).await;
            bench.clock.advance(DAY_MS - 1);
            assert_eq!(living(&bench).await, 2, "{wrong_ms}");
            bench.clock.advance(1);
            assert_eq!(living(&bench).await, 0, "{wrong_ms}: nobody lives for ever");
        }
    }
}

#[tokio::test]
async fn time_goes_on_between_short_runs() {
    let mut bench = Bench::new();
    send_for(&bench, HOUR_MS).await;
    for _ in 0..59 {
        bench.clock.set_wall(START_MS);
        bench.clock.advance(MINUTE_MS);
        bench = bench.reopened().await;
        assert_eq!(living(&bench).await, 1);
    }
    bench.clock.advance(MINUTE_MS);
    let bench = bench.reopened().await;
    assert_eq!(living(&bench).await, 0);
}

#[tokio::test]
async fn the_time_in_which_the_machine_was_off_counts_where_both_clocks_were_right() {
    for (trust, left) in [(Trust::Unknown, 1), (Trust::Battery, 1), (Trust::Synchronised, 0)] {
        let bench = Bench::new();
        bench.clock.set_trust(trust);
        let bench = bench.reopened().await;
        send_for(&bench, HOUR_MS).await;
        bench.clock.reboot(DAY_MS, MINUTE_MS);
        let bench = bench.reopened().await;
        assert_eq!(living(&bench).await, left, "{trust:?}");
        let told = "SELECT count(*) FROM waypost_audit WHERE action = 'time not counted'";
        assert_eq!(bench.count(told), left, "{trust:?}");
    }
}

/// A battery that is empty, and a network that comes late.
#[tokio::test]
async fn a_machine_that_boots_at_1970_every_time_counts_the_time_it_is_on() {
    let mut bench = Bench::new();
    send_for(&bench, HOUR_MS).await;
    for boot in 0..6 {
        assert_eq!(living(&bench).await, 1, "boot {boot}");
        bench.clock.reboot(DAY_MS, MINUTE_MS);
        bench.clock.set_wall(MINUTE_MS);
        bench = bench.reopened().await;
        bench.clock.advance(5 * MINUTE_MS);
        bench.clock.set_wall(START_MS + DAY_MS * boot);
        bench.clock.advance(5 * MINUTE_MS);
        bench.store.watch_clock().await.expect("noted");
    }
    assert_eq!(living(&bench).await, 0, "11 minutes a boot");
}

#[tokio::test]
async fn times_are_shown_by_the_clock_that_was_right() {
    let bench = Bench::new();
    bench.clock.set_wall(5);
    let bench = bench.reopened().await;
    let sent_ms = bench.store.now_ms();
    bench.clock.advance(HOUR_MS);
    bench.clock.set_trust(Trust::Synchronised);
    bench.clock.set_wall(START_MS);
    bench.store.watch_clock().await.expect("noted");
    assert_eq!(bench.store.wall_ms(sent_ms), START_MS - HOUR_MS);
    assert_eq!(bench.store.wall_ms(bench.store.now_ms()), START_MS);
    // And in the next boot.
    bench.clock.reboot(DAY_MS, MINUTE_MS);
    let bench = bench.reopened().await;
    assert_eq!(bench.store.wall_ms(sent_ms), START_MS - HOUR_MS);
    assert_eq!(bench.store.wall_ms(bench.store.now_ms()), START_MS + DAY_MS + MINUTE_MS);
}

#[tokio::test]
async fn the_clock_is_written_with_other_things_or_once_in_ten_minutes() {
    let bench = Bench::new().reopened().await;
    let noted = bench.count(NOTED);
    bench.clock.advance(29_000);
    bench.send("c", "x").await;
    assert_eq!(bench.count(NOTED), noted);
    bench.clock.advance(1_000);
    bench.send("c", "y").await;
    assert_eq!(bench.count(NOTED), noted + 30_000);
    bench.clock.advance(9 * MINUTE_MS);
    bench.store.watch_clock().await.expect("looked");
    bench.store.accounts().await.expect("read");
    assert_eq!(bench.count(NOTED), noted + 30_000, "an idle node writes nothing");
    bench.clock.advance(MINUTE_MS);
    bench.store.watch_clock().await.expect("noted");
    assert_eq!(bench.count(NOTED), noted + 30_000 + 10 * MINUTE_MS);
}

#[tokio::test]
async fn a_damaged_clock_is_told_and_takes_nobody_s_life() {
    let bench = Bench::new();
    send_for(&bench, DAY_MS).await;
    let (path, folder, clock) = (bench.path(), bench.folder, bench.clock);
    bench.store.close().await;
    let harm = "UPDATE waypost_clock SET seen_ms = seen_ms + 1099511627776, base_ms = base_ms + 1099511627776";
    Connection::open(&path).and_then(|sql| sql.execute_batch(harm)).expect("harmed");
    let found = inspect::Inspector::open(&path).expect("opened").check(|_| ()).expect("checked");
    assert!(found.findings.iter().any(|f| f.detail.contains("clock is damaged")), "{found:?}");
    let bench = Bench::open(folder, clock, |_| {});
    assert_eq!(living(&bench).await, 1);
    let told = "SELECT count(*) FROM waypost_audit WHERE action = 'clock damaged'";
    assert_eq!(bench.count(told), 1);
    assert!(bench.store.now_ms() < START_MS + DAY_MS);
}

/// Who does not know this reader yet keeps for it what it was sent while nobody counted.
#[tokio::test]
async fn what_was_joined_is_not_younger_than_it_can_be() {
    let bench = Bench::new();
    let joined = bench.store.join(name("c")).await.expect("joined");
    let age = |bench: &Bench, joined: u64| bench.store.now_ms() - joined;
    assert_eq!(age(&bench, joined), 0);
    bench.clock.reboot(3 * DAY_MS, MINUTE_MS);
    let bench = bench.reopened().await;
    let joined = bench.store.join(name("c")).await.expect("joined");
    assert_eq!(age(&bench, joined), 3 * DAY_MS + MINUTE_MS);
    bench.clock.set_wall(5);
    bench.clock.reboot(0, MINUTE_MS);
    let bench = bench.reopened().await;
    let joined = bench.store.join(name("c")).await.expect("joined");
    assert!(age(&bench, joined) > 100 * DAY_MS, "nobody knows how long it was");
}

/// Else their receivers would take new messages for old ones.
#[tokio::test]
async fn ids_of_a_restored_backup_are_above_those_that_it_has_lost() {
    let bench = Bench::new();
    bench.send("c", "kept").await;
    let bench = bench.reopened().await;
    let path = bench.path();
    let copy = path.with_extension("copy");
    inspect::Inspector::open(&path).and_then(|file| file.backup(&copy)).expect("copied");
    bench.clock.advance(HOUR_MS);
    let lost = bench.send("c", "lost").await;
    let (folder, clock) = (bench.folder, bench.clock);
    bench.store.close().await;
    std::fs::copy(&copy, &path).expect("restored");
    // Nothing shows that the wall clock is right, so that the hour does not count.
    clock.reboot(DAY_MS, MINUTE_MS);
    let bench = Bench::open(folder, clock, |_| {});
    assert!(bench.store.now_ms() < START_MS + HOUR_MS);
    assert!(bench.send("c", "new").await > lost);
}

/// What an earlier version has left.
#[tokio::test]
async fn a_file_without_a_clock_begins_where_its_youngest_message_is() {
    let bench = Bench::new();
    bench.clock.advance(DAY_MS);
    send_for(&bench, DAY_MS).await;
    let (path, folder, clock) = (bench.path(), bench.folder, bench.clock);
    bench.store.close().await;
    let older = "DELETE FROM waypost_clock; DELETE FROM waypost_clock_segments";
    Connection::open(&path).and_then(|sql| sql.execute_batch(older)).expect("changed");
    clock.set_wall(5);
    let bench = Bench::open(folder, clock, |_| {});
    assert_eq!(bench.store.now_ms(), START_MS + DAY_MS);
    assert_eq!(living(&bench).await, 1);
}

#[tokio::test]
async fn a_wall_clock_that_is_far_from_what_is_known_is_a_reason_until_it_is_believed() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    let apart = |bench: &Bench| bench.store.clock_reason().map(|reason| reason.sentence());
    assert_eq!(apart(&bench), None);
    // Set while it runs, by little, by much, and back.
    for (by_ms, told) in [
        (600_000, None),
        (2 * DAY_MS, Some("the wall clock is 2days ahead of what is known to have passed")),
    ] {
        bench.clock.set_wall(START_MS + by_ms);
        bench.store.watch_clock().await.expect("looked");
        assert_eq!(apart(&bench).as_deref(), told);
    }
    bench.clock.set_wall(START_MS - DAY_MS);
    bench.store.watch_clock().await.expect("looked");
    let behind = "the wall clock is 1day behind what is known to have passed";
    assert_eq!(apart(&bench).as_deref(), Some(behind));
    // The next run in this boot takes it as it is.
    let bench = bench.reopened().await;
    assert_eq!(apart(&bench), None);
    // Off for longer than anybody believes.
    bench.clock.reboot(500 * DAY_MS, 60_000);
    let bench = bench.reopened().await;
    assert!(apart(&bench).is_some_and(|text| text.contains("ahead of")), "{:?}", apart(&bench));
}
