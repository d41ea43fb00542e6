//! Backups that take the place of a file.

use std::time::Duration;

use waypost_faultfs::{Disk, Fault, Operation};

use super::*;
use crate::config::{Durability, Overflow};
use crate::message::NewMessage;
use crate::store::clock::hand::HandClock;
use crate::store::disk::beside;
use crate::store::open::RESTORING;
use crate::store::{Opened, Options, Store};

/// A node's file with messages, and a copy from before the last of them.
struct Backed {
    fixture: Fixture,
    copy: PathBuf,
}

impl Backed {
    fn new() -> Self {
        let fixture = Fixture::filled();
        let copy = fixture.folder.path().join("copy.db");
        fixture.open().backup(&copy).expect("copied");
        Self { fixture, copy }
    }

    fn restore(&self, replace: Replace) -> Result<Restored, InspectError> {
        restore(&self.copy, &self.fixture.path, replace)
    }

    fn message(&self, seq: u64) {
        self.fixture.message(seq, 1);
        self.fixture.sql(&format!("UPDATE waypost_meta SET end_seq = {seq}"));
    }

    /// Nothing has changed but for what is named.
    fn is_refused(&self, replace: Replace) -> InspectError {
        let before = listing(&self.fixture.path);
        let error = self.restore(replace).expect_err("refused");
        assert!(before == listing(&self.fixture.path), "{error} changed something");
        error
    }
}

#[test]
fn a_restored_file_is_the_backup_with_a_store_id_of_its_own() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("set");
    let restored = backed.restore(Replace::Nothing).expect("nothing is lost");
    assert_eq!((&restored.path, restored.node.as_str()), (path, "alice"));
    assert_eq!(restored.newer, Newer::default());
    let kept = restored.kept.expect("the old file");
    let stores =
        |path: &Path| Inspector::open(path).expect("opened").summary().expect("read").stores;
    let (old, new) = (stores(&kept), stores(path));
    assert_eq!(new[..1], old[..]);
    assert_eq!((new.len(), new[1].from_id > id(10)), (2, true));
    assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o640);
    let audit = backed.fixture.open().audit(10).expect("audit");
    assert_eq!(audit[0].action, "restored");
    assert!(backed.fixture.check().is_sound());
    // No half copy, no log, no lock.
    let left: Vec<_> = listing(path).into_keys().collect();
    assert_eq!(left.len(), 3, "{left:?}");
    // Again: the first one stays.
    let again = backed.restore(Replace::Nothing).expect("restored again");
    assert_ne!(again.kept, Some(kept));
}

#[test]
fn what_the_backup_lacks_is_given_up_only_where_that_is_said() {
    let backed = Backed::new();
    backed.message(11);
    backed.message(12);
    backed.fixture.sql(
        "INSERT INTO waypost_inbox (sender, store_id, channel, direct, lane, first_id, last_id, count, at_ms)
         VALUES ('bob', zeroblob(16), 'orders', 0, 1, zeroblob(16), zeroblob(16), 5, 1)",
    );
    let error = backed.is_refused(Replace::Nothing);
    assert!(error.to_string().contains("2 accepted and 5 received messages"), "{error}");
    assert!(error.to_string().contains("--yes"), "{error}");
    let restored = backed.restore(Replace::WhatIsNewer).expect("restored");
    assert_eq!((restored.newer.accepted, restored.newer.received), (2, 5));
    let kept = Inspector::open(restored.kept.expect("kept")).expect("opened");
    assert_eq!(kept.summary().expect("read").messages, 12);
    assert_eq!(backed.fixture.open().summary().expect("read").messages, 10);
}

#[test]
fn what_a_killed_node_left_is_kept_with_its_log_and_a_running_one_is_not_touched() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    let other = Other::start(path);
    match backed.restore(Replace::WhatIsNewer) {
        Err(InspectError::Open(OpenError::InUse { holder: Some(holder), .. })) => {
            assert_eq!(holder.pid, other.id());
        }
        found => panic!("{found:?}"),
    }
    other.kill();
    fs::remove_file(lock_path(path)).expect("removed");
    let log = fs::read(beside(path, "-wal")).expect("a log");
    // As whoever copies a backup over it finds it.
    let restored = backed.restore(Replace::WhatIsNewer).expect("restored");
    let kept = restored.kept.expect("kept");
    assert_eq!(fs::read(beside(&kept, "-wal")).expect("kept"), log);
    assert_eq!(Inspector::open(&kept).expect("opened").audit(10).expect("read").len(), 3);
    assert!(!beside(path, "-wal").exists());
    drop(crate::store::open::open(path, &me()).expect("a node starts with it"));
}

#[test]
fn a_backup_that_is_not_sound_or_of_another_node_is_refused() {
    let backed = Backed::new();
    backed.fixture.sql("UPDATE waypost_meta SET node = 'bob'");
    let error = backed.is_refused(Replace::WhatIsNewer);
    assert!(matches!(error, InspectError::OtherNode { .. }), "{error}");
    sql(&backed.copy, "UPDATE waypost_outbox SET payload = x'00' WHERE seq = 3");
    let error = backed.is_refused(Replace::WhatIsNewer);
    assert!(matches!(error, InspectError::NotSound { findings: 1, .. }), "{error}");
    let missing = restore("no.db", &backed.fixture.path, Replace::Nothing);
    assert!(matches!(missing, Err(InspectError::Open(OpenError::Missing { .. }))), "{missing:?}");
    let itself = restore(&backed.copy, &backed.copy, Replace::WhatIsNewer);
    assert!(matches!(itself, Err(InspectError::TargetExists { .. })), "{itself:?}");
    fs::write(&backed.copy, "").expect("emptied");
    let error = backed.is_refused(Replace::WhatIsNewer);
    assert!(matches!(error, InspectError::NoNode { .. }), "{error}");
}

/// Where it can be cut short: no node makes a new file, and the next run does the rest.
#[test]
fn a_restore_that_was_cut_short_is_noticed_and_can_be_run_again() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    fs::write(beside(path, RESTORING), "half").expect("written");
    fs::write(beside(path, &format!("{RESTORING}-wal")), "half").expect("written");
    drop(crate::store::open::open(path, &me()).expect("the old file is there still"));
    assert!(!beside(path, RESTORING).exists(), "nobody will finish it");
    assert!(!beside(path, &format!("{RESTORING}-wal")).exists());
    fs::write(beside(path, RESTORING), "half").expect("written");
    fs::rename(path, beside(path, "-replaced-1")).expect("moved");
    let before = listing(path);
    let error = crate::store::open::open(path, &me()).expect_err("not a new one");
    assert!(matches!(error, OpenError::HalfRestored { .. }), "{error}");
    assert!(before == listing(path), "something changed");
    let restored = backed.restore(Replace::Nothing).expect("nothing is there to be lost");
    assert_eq!(restored.kept, Some(beside(path, "-replaced-1")), "by the run before");
    assert!(!beside(path, RESTORING).exists());
    drop(crate::store::open::open(path, &me()).expect("a node starts with it"));
}

/// Its log follows the database, and its owner and mode are the new file's.
#[test]
fn a_restore_that_was_cut_between_database_and_log_keeps_them_together() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("set");
    Other::start(path).kill();
    fs::remove_file(lock_path(path)).expect("removed");
    let log = fs::read(beside(path, "-wal")).expect("a log");
    let aside = beside(path, "-replaced-1");
    fs::rename(path, &aside).expect("moved");
    fs::write(beside(path, RESTORING), "half").expect("written");
    let restored = backed.restore(Replace::WhatIsNewer).expect("restored");
    assert_eq!(restored.kept.as_ref(), Some(&aside));
    assert_eq!(fs::read(beside(&aside, "-wal")).expect("moved, too"), log);
    assert_eq!(Inspector::open(&aside).expect("opened").audit(10).expect("read").len(), 3);
    assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o640);
    drop(crate::store::open::open(path, &me()).expect("a node starts with it"));
}

#[test]
fn a_restore_that_fails_once_the_old_file_is_moved_leaves_no_room_for_a_new_one() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    fs::write(beside(path, "-begun"), "noted").expect("written");
    // What nobody can move a file to.
    let obstacle = beside(path, "-replaced-1-begun");
    fs::create_dir(&obstacle).expect("made");
    let error = backed.restore(Replace::Nothing).expect_err("not all can be moved");
    assert!(matches!(error, InspectError::Open(OpenError::Io { .. })), "{error}");
    let error = crate::store::open::open(path, &me()).expect_err("not a new one");
    assert!(matches!(error, OpenError::HalfRestored { .. }), "{error}");
    let error = backed.restore(Replace::Nothing).expect_err("it still cannot be moved");
    assert!(matches!(error, InspectError::Open(OpenError::Io { .. })), "{error}");
    assert!(beside(path, RESTORING).exists());
    fs::remove_dir(&obstacle).expect("removed");
    let restored = backed.restore(Replace::Nothing).expect("restored");
    assert_eq!(fs::read(obstacle).expect("moved"), b"noted");
    let kept = Inspector::open(restored.kept.expect("kept")).expect("opened");
    assert_eq!(kept.summary().expect("read").messages, 10);
    assert_eq!(backed.fixture.open().summary().expect("read").messages, 10);
}

/// Wherever it fails: the old file is there still, or the new one with all that belongs to it.
#[test]
fn a_restore_on_a_failing_disk_reports_it_or_is_complete() {
    for operation in [Operation::Write, Operation::Sync, Operation::Truncate] {
        let mut nth = 1;
        loop {
            let backed = Backed::new();
            let disk = Disk::watch(backed.fixture.folder.path());
            disk.fail(Fault::nth(operation, nth).of("a.db-restoring"));
            let restored = backed.restore(Replace::Nothing);
            let struck = disk.heal() > 0;
            let stores = backed.fixture.open().summary().expect("read").stores.len();
            match restored {
                Ok(_) => assert_eq!(stores, 2, "{operation:?} {nth}"),
                Err(error) => {
                    assert!(struck, "{operation:?} {nth}: {error}");
                    assert_eq!(stores, 1, "{operation:?} {nth}: {error}");
                    assert!(!beside(&backed.fixture.path, RESTORING).exists());
                }
            }
            assert!(backed.fixture.check().is_sound(), "{operation:?} {nth}");
            if !struck {
                break;
            }
            nth += if operation == Operation::Write { 5 } else { 1 };
        }
        assert!(nth > 1, "{operation:?}: nothing to fail");
    }
}

/// A stream's row, with this last message.
fn receive(fixture: &Fixture, last: u64, count: u64) {
    fixture.sql(&format!(
        "INSERT OR REPLACE INTO waypost_inbox (sender, store_id, channel, direct, lane, first_id, last_id, count, at_ms)
         VALUES ('bob', zeroblob(16), 'orders', 0, 1, zeroblob(16), x'{last:032x}', {count}, 1)"
    ));
}

fn would_lose(from: &Path, to: &Path) -> (u64, u64) {
    match restore(from, to, Replace::Nothing) {
        Err(InspectError::WouldLose { newer, .. }) => (newer.accepted, newer.received),
        other => panic!("{other:?}"),
    }
}

/// Both gave the same places to different messages.
#[tokio::test]
async fn files_that_went_on_from_the_same_state_are_told_apart_in_both_directions() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    (11..=15).for_each(|seq| backed.message(seq));
    receive(&backed.fixture, 9, 9);
    assert_eq!(would_lose(&backed.copy, path), (5, 9));
    let first = backed.restore(Replace::WhatIsNewer).expect("restored").kept.expect("kept");
    // The older copy goes on by itself.
    let Opened { store, .. } = Store::open(options(path)).expect("opened");
    for _ in 0..2 {
        store.send(vec![order()]).await.expect("sent");
    }
    store.close().await;
    receive(&backed.fixture, 20, 7);
    assert_eq!(would_lose(&first, path), (2, 1), "of the stream only that it is further");
    let second = restore(&first, path, Replace::WhatIsNewer).expect("restored").kept;
    let second = second.expect("kept");
    assert_eq!(would_lose(&second, path), (5, 2));
    // A backup of the file itself holds all of it, under whatever store ids.
    let copy = backed.fixture.folder.path().join("all.db");
    backed.fixture.open().backup(&copy).expect("copied");
    restore(&copy, path, Replace::Nothing).expect("nothing is lost");
}

#[tokio::test]
async fn a_restore_is_on_record_at_the_files_own_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = fs::canonicalize(folder.path()).expect("a path").join("a.db");
    // Of a machine whose clock was years ahead.
    let ahead_ms = 5_000_000_000_000;
    let clock = Box::new(HandClock::at(ahead_ms));
    let Opened { store, .. } = Store::open_at(options(&path), clock).expect("opened");
    store.send(vec![order()]).await.expect("sent");
    store.close().await;
    let copy = folder.path().join("copy.db");
    Inspector::open(&path).and_then(|it| it.backup(&copy)).expect("copied");
    restore(&copy, &path, Replace::Nothing).expect("restored");
    let at_ms: u64 = Connection::open(&path)
        .and_then(|it| {
            let at = "SELECT at_ms FROM waypost_audit WHERE action = 'restored'";
            it.query_row(at, [], |row| row.get(0))
        })
        .expect("on record");
    assert!(at_ms >= ahead_ms, "{at_ms}");
}

fn order() -> crate::message::Prepared {
    let orders = "orders".parse().expect("a name");
    NewMessage::text("x").prepare(&orders, None, 1_000).expect("valid")
}

fn options(path: &Path) -> Options {
    Options {
        path: path.to_owned(),
        id: None,
        fallback_id: node("home"),
        host: "host".to_owned(),
        durability: Durability::Normal,
        inbox_durability: Durability::Normal,
        queue_limit: 100,
        storage_limit: None,
        overflow: Overflow::Reject,
        retention: Duration::from_secs(60),
        audit_retention: Duration::from_secs(60),
        wall_clock: crate::config::WallClock::Auto,
    }
}

/// P2: what is sent after a restore has a store id that no receiver has seen.
#[tokio::test]
async fn p2_what_is_sent_after_a_restore_travels_under_the_new_store_id() {
    let backed = Backed::new();
    let path = &backed.fixture.path;
    backed.restore(Replace::Nothing).expect("restored");
    let Opened { store, restored, .. } = Store::open(options(path)).expect("opened");
    let sent = store.send(vec![order()]).await.expect("sent")[0];
    assert_eq!(restored.stores.len(), 2);
    assert!(sent >= restored.stores[1].0);
    store.close().await;
}
