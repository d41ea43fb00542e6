use rusqlite::Connection;

use super::*;
use crate::{Disk, Fault};

fn name() -> Name {
    Name::from("a")
}

fn write(offset: u64, byte: u8, count: usize) -> Op {
    Op::Write { file: name(), offset, bytes: vec![byte; count].into() }
}

fn sync() -> Op {
    Op::Sync { file: name(), folder: true }
}

fn image(ops: Vec<Op>, survival: Survival) -> Option<Vec<u8>> {
    let log = Log { ops };
    let mut replay = Replay::new(&log);
    replay.advance_to(log.ops().len());
    replay.image(survival).file("a").map(<[u8]>::to_vec)
}

#[test]
fn what_was_synced_survives_and_what_came_after_it_may() {
    let ops = || {
        vec![Op::Create { file: name() }, write(0, 1, 4), sync(), write(2, 2, 4), write(8, 3, 1)]
    };
    assert_eq!(image(ops(), Survival::Nothing), Some(vec![1, 1, 1, 1]));
    assert_eq!(image(ops(), Survival::All), Some(vec![1, 1, 2, 2, 2, 2, 0, 0, 3]));
    let seen: std::collections::BTreeSet<_> =
        (0..200).map(|seed| image(ops(), Survival::Some(seed))).collect();
    assert_eq!(seen.len(), 4, "each write alone, both, and neither: {seen:?}");
}

#[test]
fn a_torn_write_keeps_whole_sectors() {
    let ops = || vec![Op::Create { file: name() }, sync(), write(0, 7, 2048)];
    let torn = |seed| image(ops(), Survival::Torn(seed)).expect("it is there");
    for bytes in (0..50).map(torn) {
        assert_eq!(bytes.len() % SECTOR_BYTES, 0);
        assert!(bytes.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|b| *b == sector[0])));
    }
    assert!((0..50).map(torn).any(|bytes| bytes.contains(&0) && bytes.contains(&7)));
}

#[test]
fn what_a_failed_sync_should_have_covered_stays_in_doubt() {
    let failed = Op::Failed { file: name(), operation: Operation::Sync };
    let ops = vec![
        Op::Create { file: name() },
        write(0, 1, 4),
        sync(),
        write(0, 2, 2),
        failed,
        write(1, 3, 1),
        sync(),
    ];
    assert_eq!(image(ops.clone(), Survival::Nothing), Some(vec![1, 3, 1, 1]));
    assert_eq!(image(ops, Survival::All), Some(vec![2, 3, 1, 1]));
}

#[test]
fn a_name_survives_once_its_folder_is_synced() {
    let data_only = Op::Sync { file: name(), folder: false };
    let created = vec![Op::Create { file: name() }, write(0, 1, 1), data_only];
    assert_eq!(image(created.clone(), Survival::Nothing), None);
    assert_eq!(image(created, Survival::All), Some(vec![1]));
    let gone = |folder| {
        let delete = Op::Delete { file: name(), folder };
        let ops = vec![Op::Create { file: name() }, write(0, 1, 1), sync(), delete];
        image(ops, Survival::Nothing)
    };
    assert_eq!((gone(false), gone(true)), (Some(vec![1]), None));
}

/// A database in WAL mode with this many rows, each committed with an fsync and marked.
fn fill(disk: &Disk, path: &Path, rows: usize) {
    let sql = Connection::open(path).expect("opened");
    sql.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (n)")
        .expect("set up");
    for row in 1..=rows {
        sql.execute("INSERT INTO t VALUES (?1)", [row]).expect("inserted");
        disk.mark(row.to_string());
    }
}

#[test]
fn sqlite_itself_keeps_every_row_that_it_committed_in_every_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    fill(&disk, &folder.path().join("a.db"), 20);
    let log = disk.log();
    assert!(log.sync_points().len() > 20);
    let mut replay = Replay::new(&log);
    for place in log.sync_points() {
        replay.advance_to(place);
        let marked = log.marks(place).count();
        let seed = place as u64;
        for survival in
            [Survival::Nothing, Survival::All, Survival::Some(seed), Survival::Torn(seed)]
        {
            let cut = tempfile::tempdir().expect("a folder");
            replay.image(survival).write("a.db", cut.path()).expect("written");
            let sql = Connection::open(cut.path().join("a.db")).expect("opened");
            let rows: usize = match marked {
                0 => continue,
                _ => sql.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("read"),
            };
            assert!(rows >= marked, "{rows} of {marked} at {place}, {survival:?}");
        }
    }
}

#[test]
fn a_database_that_does_not_sync_loses_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let sql = Connection::open(folder.path().join("a.db")).expect("opened");
    sql.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n); PRAGMA wal_checkpoint")
        .expect("set up");
    sql.execute_batch("PRAGMA synchronous = NORMAL; INSERT INTO t VALUES (1)").expect("inserted");
    let log = disk.log();
    let mut replay = Replay::new(&log);
    replay.advance_to(log.ops().len());
    let cut = tempfile::tempdir().expect("a folder");
    replay.image(Survival::Nothing).write("a.db", cut.path()).expect("written");
    let sql = Connection::open(cut.path().join("a.db")).expect("opened");
    let rows: usize = sql.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("read");
    assert_eq!(rows, 0);
}

#[test]
fn rot_is_read_until_it_is_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let path = folder.path().join("a.db");
    let write = |text: &str| {
        let sql = Connection::open(&path).expect("opened");
        sql.execute_batch("CREATE TABLE IF NOT EXISTS t (text); DELETE FROM t").expect("set up");
        sql.execute("INSERT INTO t VALUES (?1)", [text]).expect("inserted");
    };
    let read = || -> String {
        let sql = Connection::open(&path).expect("opened");
        sql.query_row("SELECT text FROM t", [], |row| row.get(0)).expect("read")
    };
    write("sound");
    let bytes = std::fs::read(&path).expect("readable");
    let place = bytes.windows(5).rposition(|bytes| bytes == b"sound").expect("it is there");
    disk.rot("a.db", place as u64, 0x20);
    assert_eq!(read(), "Sound");
    assert_eq!(std::fs::read(&path).expect("readable"), bytes);
    write("fresh");
    assert_eq!(read(), "fresh");
}

#[test]
fn a_fault_makes_sqlite_fail_and_stands_in_the_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    let path = folder.path().join("a.db");
    fill(&disk, &path, 1);
    let sql = Connection::open(&path).expect("opened");
    sql.execute_batch("PRAGMA synchronous = FULL").expect("set");
    disk.fail(Fault::nth(Operation::Sync, 1));
    let error = sql.execute("INSERT INTO t VALUES (2)", []).expect_err("it fails");
    let code = error.sqlite_error().map(|error| error.extended_code);
    assert_eq!(code, Some(rusqlite::ffi::SQLITE_IOERR_FSYNC));
    assert_eq!(disk.heal(), 1);
    let failed = |op: &Op| matches!(op, Op::Failed { operation: Operation::Sync, .. });
    assert!(disk.log().ops().iter().any(failed));
    sql.execute("INSERT INTO t VALUES (3)", []).expect("it works again");
    disk.fail(Fault::nth(Operation::Write, 1).full());
    let error = sql.execute("INSERT INTO t VALUES (4)", []).expect_err("it is full");
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull));
}
