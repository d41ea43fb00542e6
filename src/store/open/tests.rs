//! Every refusal, and that none of them leaves anything behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;
use crate::store::migrate::SCHEMA_VERSION;

const CHILD_PATH: &str = "WAYPOST_TEST_PATH";

pub(crate) fn me() -> Holder {
    Holder { node: "alice".to_owned(), pid: std::process::id(), host: "ship".to_owned() }
}

/// A node's file as a node would leave it, without rows.
pub(crate) fn created(path: &Path) {
    drop(open(path, &me()).expect("created"));
}

/// Runs these statements on the file through an ordinary connection.
pub(crate) fn sql(path: &Path, statements: &str) {
    Connection::open(path).and_then(|c| c.execute_batch(statements)).expect("valid statements");
}

/// All that is in the folder of this file: names, modes and bytes. No connection to the file may be open in this process.
pub(crate) fn listing(path: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    fs::read_dir(path.parent().expect("a folder"))
        .expect("readable")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let mode = fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode());
            let bytes = fs::read(&path).unwrap_or_default();
            (path, (mode, bytes))
        })
        .collect()
}

/// Another process that has the file open, with a row of its own that only the log has.
pub(crate) struct Other(Child);

impl Other {
    pub(crate) fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "store::open::tests::another_process", "--ignored", "--nocapture"])
            .env(CHILD_PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = lines.map_while(Result::ok).any(|line| line.contains("the file is open"));
        assert!(ready, "the other process did not open {path:?}");
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }
}

#[test]
#[ignore = "the other process of tests that need one"]
fn another_process() {
    let Some(path) = std::env::var_os(CHILD_PATH) else { return };
    let holder = Holder { pid: std::process::id(), ..me() };
    let file = open(Path::new(&path), &holder).expect("opened");
    file.writer
        .execute(
            "INSERT INTO waypost_audit VALUES (NULL, 1, 'test', 'subject', 'detail', NULL)",
            [],
        )
        .expect("committed");
    println!("the file is open");
    // Until the test ends or kills us.
    std::io::stdin().read_to_end(&mut Vec::new()).expect("read");
}

fn refused(path: &Path) -> OpenError {
    let before = listing(path);
    let error = open(path, &me()).expect_err("refused");
    assert_eq!(before.keys().collect::<Vec<_>>(), listing(path).keys().collect::<Vec<_>>());
    assert!(before == listing(path), "{error} changed something");
    let text = error.to_string();
    assert!(text.contains(": "), "no remedy in {text}");
    error
}

fn in_folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    // Canonical, so that errors name the same path.
    let path = fs::canonicalize(folder.path()).expect("a path").join("a.db");
    (folder, path)
}

#[test]
fn a_new_file_is_private_and_has_every_setting() {
    let (_folder, path) = in_folder();
    let file = open(&path, &me()).expect("created");
    assert!(file.fresh);
    assert_eq!(file.path, path);
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let mode = fs::metadata(beside(&path, suffix)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
    for &(name, _, wanted) in WRITER_SETTINGS {
        assert_eq!(setting(&file.writer, name).expect("a setting"), wanted, "{name}");
    }
    assert_eq!(setting(&file.writer, AUTO_VACUUM).expect("a setting"), INCREMENTAL);
    assert_eq!(setting(&file.writer, "busy_timeout").expect("a setting"), "5000");
    let reader = file.readers.get().expect("a reader");
    for &(name, _, wanted) in READER_SETTINGS {
        assert_eq!(setting(&reader, name).expect("a setting"), wanted, "{name}");
    }
    assert_eq!(setting(&reader, "busy_timeout").expect("a setting"), "5000");
    reader.execute("DELETE FROM waypost_audit", []).expect_err("readers cannot write");
}

#[test]
fn a_file_stays_fresh_until_it_says_whose_it_is() {
    let (_folder, path) = in_folder();
    created(&path);
    assert!(open(&path, &me()).expect("opened").fresh, "the first start was cut short");
    sql(&path, "INSERT INTO waypost_meta (only, node, last_id, created_ms) VALUES (1, 'alice', zeroblob(16), 0);
         INSERT INTO waypost_stores VALUES (zeroblob(16), randomblob(16))");
    assert!(!open(&path, &me()).expect("opened").fresh);
}

#[test]
fn closing_leaves_nothing_but_the_file() {
    let (_folder, path) = in_folder();
    let OpenFile { writer, readers, lock, .. } = open(&path, &me()).expect("created");
    drop(readers.get().expect("a reader"));
    drop(readers);
    drop(writer);
    drop(lock);
    assert_eq!(listing(&path).into_keys().collect::<Vec<_>>(), [path]);
}

#[test]
#[cfg(target_os = "linux")]
fn dropping_the_readers_leaves_no_thread() {
    fn threads(name: &str) -> usize {
        fs::read_dir("/proc/self/task")
            .expect("tasks")
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|comm| comm.trim_end() == name)
            .count()
    }
    let (_folder, path) = in_folder();
    created(&path);
    // A name that no other test's threads have.
    let pool = Readers::new(&path, "wp-counted");
    let (first, _second) = (pool.get().expect("a reader"), pool.get().expect("another"));
    assert_eq!(threads("wp-counted"), 1);
    drop((first, _second, pool));
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads("wp-counted") > 0 {
        assert!(Instant::now() < deadline, "a thread is left");
        std::thread::yield_now();
    }
}

#[test]
fn an_empty_database_and_an_empty_file_become_ours() {
    for set_up in ["", "PRAGMA journal_mode = WAL", "CREATE TABLE t (x); DROP TABLE t"] {
        let (_folder, path) = in_folder();
        fs::write(&path, "").expect("written");
        sql(&path, set_up);
        let file = open(&path, &me()).expect("opened");
        assert!(file.fresh);
        assert_eq!(setting(&file.writer, AUTO_VACUUM).expect("a setting"), INCREMENTAL, "{set_up}");
    }
}

#[test]
fn a_program_may_keep_its_own_tables_in_our_file() {
    let (_folder, path) = in_folder();
    created(&path);
    sql(&path, "CREATE TABLE orders (id); PRAGMA application_id = 12345");
    open(&path, &me()).expect("opened");
}

#[test]
fn a_program_may_have_the_file_open_itself() {
    let (_folder, path) = in_folder();
    created(&path);
    let program = Connection::open(&path).expect("opened");
    program.execute_batch("CREATE TABLE orders (id)").expect("created");
    let file = open(&path, &me()).expect("opened");
    file.writer.execute("INSERT INTO orders VALUES (1)", []).expect("written");
    let rows: u32 =
        program.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).expect("a count");
    assert_eq!(rows, 1);
}

#[test]
fn an_sqlite_with_the_log_defect_is_refused() {
    check_sqlite(rusqlite::version_number(), rusqlite::version()).expect("the bundled one is new");
    check_sqlite(3_051_003, "3.51.3").expect("the first without it");
    let error = check_sqlite(3_051_002, "3.51.2").expect_err("too old");
    assert!(matches!(error, OpenError::SqliteTooOld { found: "3.51.2" }), "{error}");
}

#[test]
fn a_path_that_is_no_file_is_refused() {
    let (folder, path) = in_folder();
    let folder = folder.path();
    let error = open(&folder.join("no/such/a.db"), &me()).expect_err("refused");
    assert!(matches!(error, OpenError::FolderMissing { .. }), "{error}");
    assert!(listing(&path).is_empty());
    let sub = folder.join("sub.db");
    fs::create_dir(&sub).expect("created");
    assert!(matches!(refused(&sub), OpenError::NotAFile { .. }));
    fs::write(&path, "").expect("written");
    let below = path.join("b.db");
    let error = open(&below, &me()).expect_err("a file is no folder");
    assert!(matches!(error, OpenError::BadPath { .. }), "{error}");
    let dangling = folder.join("dangling.db");
    symlink(folder.join("nothing"), &dangling).expect("linked");
    assert!(matches!(refused(&dangling), OpenError::BadPath { .. }));
    let circle = folder.join("circle.db");
    symlink(&circle, &circle).expect("linked");
    assert!(matches!(refused(&circle), OpenError::BadPath { .. }));
    let zero = Path::new("a\0b.db");
    for bad in [Path::new(""), Path::new(".."), Path::new("/"), zero, Path::new("/dev/null")] {
        let error = open(bad, &me()).expect_err("no file");
        let fits = matches!(error, OpenError::BadPath { .. } | OpenError::NotAFile { .. });
        assert!(fits, "{bad:?}: {error}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_takes_no_files_is_refused() {
    // Also for a superuser, whom permissions do not stop.
    let error = open(Path::new("/proc/waypost.db"), &me()).expect_err("refused");
    assert!(
        matches!(&error, OpenError::FolderNotWritable { folder, .. } if folder == Path::new("/proc")),
        "{error}"
    );
}

#[test]
fn two_names_of_a_file_are_one_file() {
    let (folder, path) = in_folder();
    let _file = open(&path, &me()).expect("created");
    let link = folder.path().join("link.db");
    symlink(&path, &link).expect("linked");
    let error = open(&link, &me()).expect_err("in use");
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[test]
fn a_file_in_use_by_another_process_is_refused_with_its_name_until_that_is_killed() {
    let (_folder, path) = in_folder();
    created(&path);
    let other = Other::start(&path);
    let error = refused(&path);
    let OpenError::InUse { holder: Some(holder), .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Holder { pid: other.id(), ..me() });
    assert!(error.to_string().contains(&format!("node alice (process {} on ship)", other.id())));
    other.kill();
    assert!(lock_path(&path).exists());
    let file = open(&path, &me()).expect("taken over");
    let rows: u32 = file
        .writer
        .query_row("SELECT count(*) FROM waypost_audit", [], |row| row.get(0))
        .expect("a count");
    assert_eq!(rows, 1, "a committed row is lost");
}

#[test]
fn a_file_that_is_not_sqlite_is_refused() {
    let (_folder, path) = in_folder();
    let long = "x".repeat(100_000);
    let page = "x".repeat(512);
    let header = "SQLite format 3\0";
    for text in ["x", "hello, this is my diary\n", header, &page[1..], &page, &long] {
        fs::write(&path, text).expect("written");
        let error = refused(&path);
        assert!(matches!(error, OpenError::NotADatabase { .. }), "{text:.20}: {error}");
    }
}

#[test]
fn another_programs_database_is_refused() {
    for set_up in [
        "CREATE TABLE theirs (x)",
        "PRAGMA journal_mode = WAL; CREATE TABLE theirs (x)",
        "CREATE VIEW theirs AS SELECT 1",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 7",
    ] {
        let (_folder, path) = in_folder();
        sql(&path, set_up);
        let error = refused(&path);
        assert!(matches!(error, OpenError::Foreign { .. }), "{set_up}: {error}");
    }
}

#[test]
fn a_newer_file_is_refused_also_when_its_owner_was_killed() {
    let (_folder, path) = in_folder();
    created(&path);
    sql(&path, "PRAGMA user_version = 99");
    let error = refused(&path);
    assert!(
        matches!(error, OpenError::Newer { found: 99, supported: SCHEMA_VERSION, .. }),
        "{error}"
    );

    let (_folder, path) = in_folder();
    created(&path);
    Other::start(&path).kill();
    // The version stands in the log only, and nobody may copy it into the database.
    let writer = Connection::open(&path).expect("opened");
    writer
        .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .expect("set");
    writer.execute_batch("PRAGMA user_version = 99").expect("written");
    drop(writer);
    fs::remove_file(beside(&path, "-shm")).expect("removed");
    fs::remove_file(lock_path(&path)).expect("removed");
    assert!(bytes(&beside(&path, "-wal")).expect("a size") > 0);
    let error = refused(&path);
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

#[test]
fn a_version_that_another_program_reset_is_refused() {
    let (_folder, path) = in_folder();
    created(&path);
    for version in [0, -1] {
        sql(&path, &format!("PRAGMA user_version = {version}"));
        let error = refused(&path);
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    }
}

/// A file of many pages.
fn filled(path: &Path) {
    created(path);
    sql(
        path,
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO waypost_audit SELECT i, i, 'test', 'subject', hex(randomblob(100)), NULL FROM n",
    );
}

#[test]
fn a_damaged_file_is_refused() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.truncate(5000),
        |bytes| bytes[4096 * 10..4096 * 30].fill(0xa5),
        // The schema's page, behind the header.
        |bytes| bytes[100..2000].fill(0xff),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let (_folder, path) = in_folder();
        filled(&path);
        let mut bytes = fs::read(&path).expect("read");
        damage(&mut bytes);
        fs::write(&path, bytes).expect("written");
        let error = refused(&path);
        assert!(matches!(error, OpenError::Corrupt { .. }), "damage {number}: {error}");
    }
}

#[test]
fn a_log_without_its_database_is_not_thrown_away() {
    let (_folder, path) = in_folder();
    created(&path);
    Other::start(&path).kill();
    fs::remove_file(lock_path(&path)).expect("removed");
    fs::write(&path, "").expect("emptied");
    assert!(matches!(refused(&path), OpenError::StrayWal { .. }));
    fs::remove_file(&path).expect("removed");
    assert!(matches!(refused(&path), OpenError::StrayWal { .. }));
}

#[test]
fn a_file_marked_as_read_only_is_refused() {
    let (_folder, path) = in_folder();
    created(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
    assert!(matches!(refused(&path), OpenError::NotWritable { .. }));
}

#[test]
fn a_file_that_another_program_keeps_locked_is_refused() {
    let (_folder, path) = in_folder();
    created(&path);
    let error = OpenError::sql(
        &path,
        "waiting",
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None),
    );
    assert!(matches!(error, OpenError::Busy { .. }), "{error}");
    let browser = Connection::open(&path).expect("opened");
    browser.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").expect("locked");
    let writer = look::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("opened");
    writer.busy_timeout(Duration::ZERO).expect("set");
    let refused = identify(&writer, &path).expect_err("locked");
    assert!(matches!(refused, OpenError::Busy { .. }), "{refused}");
}

#[test]
fn a_creation_that_fails_is_taken_back() {
    let (_folder, path) = in_folder();
    // The log cannot be created: something else has its name.
    fs::create_dir(beside(&path, "-wal")).expect("created");
    let error = refused(&path);
    assert!(!path.exists(), "{error}");
    fs::write(&path, "").expect("written");
    refused(&path);
}

#[test]
fn reopening_checks_the_file_and_keeps_the_lock() {
    let (_folder, path) = in_folder();
    filled(&path);
    let OpenFile { writer, readers, lock, .. } = open(&path, &me()).expect("opened");
    drop((readers, writer));
    let OpenFile { writer, readers, lock, fresh, .. } =
        reopen(lock, &path).expect("a good file opens again");
    assert!(fresh);
    drop((readers, writer));
    let good = fs::read(&path).expect("read");
    let mut bad = good.clone();
    bad[4096 * 10..4096 * 30].fill(0xa5);
    fs::write(&path, bad).expect("written");
    let NotReopened { lock, error } = *reopen(lock, &path).expect_err("damaged");
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    fs::remove_file(&path).expect("removed");
    let NotReopened { lock, error } = *reopen(lock, &path).expect_err("gone");
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(!path.exists());
    fs::write(&path, good).expect("restored");
    fs::remove_file(lock_path(&path)).expect("somebody tidied up");
    let NotReopened { error, .. } = *reopen(lock, &path).expect_err("not ours alone");
    assert!(matches!(error, OpenError::InUse { holder: None, .. }), "{error}");
}
