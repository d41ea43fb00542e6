//! Copies and shrunk files.

use std::slice;

use super::*;

#[test]
fn a_backup_is_whole_private_and_usable() {
    let fixture = Fixture::filled();
    let other = Other::start(&fixture.path);
    let to = fixture.folder.path().join("copy.db");
    let copied = fixture.open().backup(&to).expect("copied");
    other.kill();
    assert_eq!(copied.bytes, fs::metadata(&to).expect("there").len());
    let mode = fs::metadata(&to).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let copy = Inspector::open(&to).expect("a node's file");
    assert_eq!(copy.audit(10).expect("audit").len(), 3, "what stood in the log only is missing");
    assert_eq!(copy.queue().expect("queues"), fixture.queue());
    let stores = |inspector: &Inspector| inspector.summary().expect("a summary").stores;
    assert_eq!(stores(&copy), stores(&fixture.open()));
    drop(copy);
    let strays = listing(&to).into_keys().filter(|path| path.to_string_lossy().contains("copy.db"));
    assert_eq!(strays.count(), 1);
    drop(crate::store::open::open(&to, &me()).expect("a node starts with it"));
}

#[test]
fn a_backup_replaces_nothing_and_leaves_nothing_when_it_fails() {
    let fixture = Fixture::filled();
    let folder = fixture.folder.path();
    let inspector = fixture.open();
    for taken in ["copy.db", "copy.db-wal", "copy.db-partial"] {
        let taken = folder.join(taken);
        fs::write(&taken, "mine").expect("written");
        let error = inspector.backup(folder.join("copy.db")).expect_err("taken");
        assert!(matches!(error, InspectError::TargetExists { .. }), "{error}");
        assert_eq!(fs::read(&taken).expect("still there"), b"mine");
        fs::remove_file(&taken).expect("removed");
    }
    let error = inspector.backup(&fixture.path).expect_err("the file itself");
    assert!(matches!(error, InspectError::TargetExists { .. }), "{error}");
    let error = inspector.backup(folder.join("no/copy.db")).expect_err("no folder");
    assert!(matches!(error, InspectError::Open(OpenError::FolderMissing { .. })), "{error}");
    #[cfg(target_os = "linux")]
    {
        let error = inspector.backup("/proc/copy.db").expect_err("no place for files");
        assert!(
            matches!(error, InspectError::Open(OpenError::FolderNotWritable { .. })),
            "{error}"
        );
        let error = inspector.backup("/dev/full").expect_err("a device");
        assert!(matches!(error, InspectError::TargetExists { .. }), "{error}");
    }
    drop(inspector);

    // A source that is damaged where opening does not look.
    fixture
        .sql("INSERT INTO waypost_audit VALUES (NULL, 1, 'x', 'x', hex(randomblob(100000)), NULL)");
    let mut bytes = fs::read(&fixture.path).expect("read");
    let end = bytes.len();
    bytes[end - 4096 * 40..].fill(0xa5);
    fs::write(&fixture.path, bytes).expect("written");
    let inspector = fixture.open();
    let error = inspector.backup(folder.join("copy.db")).expect_err("damaged");
    assert!(matches!(error, InspectError::Open(OpenError::Corrupt { .. })), "{error}");
    drop(inspector);
    assert_eq!(
        listing(&fixture.path).into_keys().collect::<Vec<_>>(),
        slice::from_ref(&fixture.path)
    );
}

#[test]
fn vacuum_gives_free_pages_back() {
    let fixture = Fixture::filled();
    fixture.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         INSERT INTO waypost_audit SELECT NULL, i, 'x', 'x', hex(randomblob(1000)), NULL FROM n;
         DELETE FROM waypost_audit WHERE action = 'x'",
    );
    let queue = fixture.queue();
    let free = fixture.open().summary().expect("a summary").free_bytes;
    assert!(free > 4096 * 4096, "more than a step: {free}");
    let done = vacuum(&fixture.path).expect("done");
    assert!(done.after_bytes + free <= done.before_bytes, "{done:?}");
    let summary = fixture.open().summary().expect("a summary");
    assert_eq!((summary.free_bytes, summary.file_bytes), (0, done.after_bytes));
    assert_eq!(fixture.queue(), queue);
    assert!(fixture.check().is_sound());
    assert_eq!(listing(&fixture.path).len(), 1);
}

#[test]
fn vacuum_wants_the_file_for_itself() {
    let fixture = Fixture::filled();
    let other = Other::start(&fixture.path);
    let error = vacuum(&fixture.path).expect_err("in use");
    let InspectError::Open(OpenError::InUse { holder: Some(holder), .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(holder.pid, other.id());
    other.kill();
    vacuum(&fixture.path).expect("free again");
    assert!(!lock_path(&fixture.path).exists());

    let missing = fixture.folder.path().join("b.db");
    let error = vacuum(&missing).expect_err("missing");
    assert!(matches!(error, InspectError::Open(OpenError::Missing { .. })), "{error}");
    fs::write(&missing, "").expect("written");
    assert!(matches!(vacuum(&missing), Err(InspectError::NoNode { .. })));
    fs::set_permissions(&fixture.path, fs::Permissions::from_mode(0o400)).expect("set");
    let error = vacuum(&fixture.path).expect_err("read-only");
    assert!(matches!(error, InspectError::Open(OpenError::NotWritable { .. })), "{error}");
}
