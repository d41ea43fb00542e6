//! Files with hand-made rows, at rest, in use by another process, and left by a killed one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::message::TopicId;
use crate::store::crc::Stored;
use crate::store::lock::lock_path;
use crate::store::migrate::SCHEMA_VERSION;
use crate::store::open::tests::{Other, created, listing, me, sql};

mod believing;
mod checks;
mod copies;
mod queues;
mod restores;
mod stories;

const T0: u64 = 1_700_000_000_000;

/// The id of the message at this place.
fn id(seq: u64) -> MessageId {
    MessageId::from_u128((u128::from(T0 + seq) << 80) | u128::from(seq))
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

struct Fixture {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Fixture {
    /// A node's file without messages.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = fs::canonicalize(folder.path()).expect("a path").join("a.db");
        created(&path);
        let fixture = Self { folder, path };
        fixture.sql(
            "INSERT INTO waypost_meta (only, node, last_id, created_ms) VALUES (1, 'alice', zeroblob(16), 7);
             INSERT INTO waypost_stores VALUES (zeroblob(16), x'000102030405060708090a0b0c0d0e0f')",
        );
        fixture
    }

    /// Messages for bob, for carol and for nobody: see the tests for what they are to say.
    fn filled() -> Self {
        let fixture = Self::new();
        fixture.sql(
            "INSERT INTO waypost_topics (topic, channel, target, lane) VALUES
               (1, 'orders', NULL, 1), (2, 'orders', NULL, 0), (3, 'orders', 'carol', 1), (4, 'void', NULL, 1)",
        );
        for seq in 1..=6 {
            fixture.message(seq, 1);
        }
        fixture.message(7, 2);
        fixture.message(8, 4);
        fixture.message(9, 3);
        fixture.message(10, 1);
        // bob: 1 to 3 acknowledged, 4 dead, 5, 6 and 10 wait, 7 goes before them. dave left after 2. carol came after 6.
        fixture.sql(
            "INSERT INTO waypost_cursors VALUES
               ('bob', 1, 1, 4, NULL, 0, 3, 0, 1, 0), ('bob', 2, 1, 0, NULL, 0, 0, 0, 0, 0),
               ('carol', 1, 1, 6, NULL, 6, 0, 0, 0, 0), ('carol', 3, 1, 0, NULL, 0, 0, 0, 0, 0),
               ('dave', 1, 0, 2, NULL, 0, 1, 1, 0, 0);
             INSERT INTO waypost_settlements VALUES
               ('bob', 1, 3, 1, 'acknowledged', 3, 1111), ('bob', 1, 4, 4, 'dead', 1, 2222),
               ('dave', 1, 1, 1, 'acknowledged', 1, 3333), ('dave', 1, 2, 2, 'expired', 1, 4444);
             INSERT INTO waypost_attempts VALUES
               ('bob', 4, 1, 1500, 'no answer'), ('bob', 4, 2, 1600, 'handler failed: no stock');
             UPDATE waypost_topics SET unclaimed_expired = 2, accepted = accepted + 2 WHERE topic = 4;
             INSERT INTO waypost_audit VALUES (NULL, 5, 'forget', 'erin', 'pending 3', NULL), (NULL, 6, 'purge', 'bob', '1', 9);
             INSERT INTO waypost_dead_letters
               SELECT 'bob', seq, id, 'orders', 1, created_ms, 2222, 'no stock', kind, headers, encoding, payload, NULL, NULL
               FROM waypost_outbox WHERE seq = 4",
        );
        fixture
    }

    fn message(&self, seq: u64, topic: i64) {
        let connection = Connection::open(&self.path).expect("opened");
        let payload = format!("payload {seq}");
        let headers = r#"{"unit":"percent"}"#;
        let signed = |number| i64::try_from(number).expect("small");
        let stored = Stored {
            id: id(seq),
            topic: TopicId(topic),
            seq: signed(seq),
            created_ms: signed(T0 + seq),
            expires_ms: Some(signed(T0 + seq + 1000)),
            kind: "reading",
            headers: Some(headers),
            encoding: 0,
            payload: payload.as_bytes(),
        };
        let crc = stored.crc();
        connection
            .execute(
                "INSERT INTO waypost_outbox SELECT ?1, ?2, topic, lane, last_seq, ?3, ?3 + 1000, 'reading', ?4, 0, ?5, ?6
                 FROM waypost_topics WHERE topic = ?7",
                (seq, id(seq).to_bytes(), T0 + seq, headers, crc, payload.as_bytes(), topic),
            )
            .expect("inserted");
        connection
            .execute(
                "UPDATE waypost_topics SET accepted = accepted + 1, last_seq = ?1 WHERE topic = ?2",
                (seq, topic),
            )
            .expect("counted");
        connection
            .execute("UPDATE waypost_meta SET last_id = ?1", [id(seq).to_bytes()])
            .expect("noted");
    }

    fn sql(&self, statements: &str) {
        sql(&self.path, statements);
    }

    fn open(&self) -> Inspector {
        Inspector::open(&self.path).expect("a node's file")
    }

    fn queue(&self) -> Vec<QueueRow> {
        self.open().queue().expect("queues")
    }

    fn story(&self, seq: u64) -> Story {
        self.open().why(id(seq)).expect("read").expect("known")
    }

    fn check(&self) -> Report {
        self.open().check(|_| {}).expect("checked")
    }

    fn finding(&self) -> Finding {
        let report = self.check();
        assert_eq!(report.findings.len(), 1, "{report:?}");
        report.findings.into_iter().next().expect("one")
    }
}

fn refused(path: &Path) -> InspectError {
    let before = listing(path);
    let error = Inspector::open(path).expect_err("refused");
    assert!(before == listing(path), "{error} changed something");
    assert!(error.to_string().contains(": "), "no remedy in {error}");
    error
}

#[test]
fn every_statement_fits_the_schema() {
    let fixture = Fixture::new();
    let connection = Connection::open(&fixture.path).expect("opened");
    for sql in [
        META,
        STORES,
        COUNT_MESSAGES,
        COUNT_DEAD,
        FREE_BYTES,
        check::INTEGRITY,
        check::REFERENCES,
        check::COUNT,
        check::MESSAGES,
        check::seals::LETTERS,
        check::IS_THERE,
        check::PLACES,
        check::TOPICS,
        check::META,
        copy::AUTO_VACUUM,
        copy::GIVE_BACK,
        restore::LATER,
        restore::LAST_OF,
        restore::RECEIVED,
        queue::CURSORS,
        queue::UNREAD_TOPICS,
        queue::UNCLAIMED_EXPIRED,
        queue::COUNT_PAST,
        queue::FIRST_PAST,
        queue::FIRST_BACKWARDS,
        queue::MESSAGE_AT,
        records::AUDIT,
        records::AUDIT_WITHOUT_TERMS,
        records::DEAD_LETTERS,
        records::DEAD_LETTERS_OF,
        records::LAST_FAILURE,
        records::FAILURES_OF,
        story::ENDS,
        story::ID_FROM,
        story::MESSAGE,
        story::STORE_OF,
        story::SETTLEMENTS_OF,
        story::COUNT_BETWEEN,
        story::LANES,
        story::INBOX_SPANS,
    ] {
        if let Err(error) = connection.prepare(sql) {
            panic!("{sql}: {error}");
        }
    }
}

#[test]
fn looking_changes_nothing_in_a_file_at_rest() {
    let fixture = Fixture::filled();
    let before = listing(&fixture.path);
    assert_eq!(before.len(), 1);
    let inspector = fixture.open();
    inspector.queue().expect("queues");
    inspector.check(|_| {}).expect("checked");
    drop(inspector);
    assert!(before == listing(&fixture.path));
}

#[test]
fn looking_changes_nothing_in_a_file_whose_owner_was_killed() {
    let fixture = Fixture::filled();
    Other::start(&fixture.path).kill();
    let before = listing(&fixture.path);
    assert_eq!(before.len(), 4, "database, log, index and lock");
    let inspector = fixture.open();
    assert_eq!(inspector.audit(1).expect("audit")[0].action, "test", "a row of the log is missing");
    assert!(inspector.summary().expect("summary").wal_bytes > 0);
    drop(inspector);
    let after = listing(&fixture.path);
    assert!(before.keys().eq(after.keys()));
    for (path, content) in before {
        // The index holds locks and counters of whoever is there.
        assert!(path.to_string_lossy().ends_with("-shm") || after[&path] == content, "{path:?}");
    }
}

#[test]
fn a_file_in_use_can_be_inspected_and_keeps_its_log() {
    let fixture = Fixture::filled();
    let other = Other::start(&fixture.path);
    let inspector = fixture.open();
    assert_eq!(inspector.audit(10).expect("audit").len(), 3);
    assert_eq!(inspector.queue().expect("queues").len(), 4);
    assert!(inspector.check(|_| {}).expect("checked").is_sound());
    drop(inspector);
    assert!(beside(&fixture.path, "-wal").exists());
    other.kill();
}

#[test]
fn a_node_can_start_while_its_file_is_inspected() {
    let fixture = Fixture::filled();
    let inspector = fixture.open();
    let before = inspector.audit(10).expect("audit").len();
    let other = Other::start(&fixture.path);
    assert_eq!(inspector.audit(10).expect("audit").len(), before + 1);
    drop(inspector);
    other.kill();
    drop(crate::store::open::open(&fixture.path, &me()).expect("opened"));
}

#[test]
fn what_is_no_nodes_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = fs::canonicalize(folder.path()).expect("a path").join("a.db");
    assert!(matches!(refused(&path), InspectError::Open(OpenError::Missing { .. })));
    assert!(!path.exists());
    fs::write(&path, "").expect("written");
    assert!(matches!(refused(&path), InspectError::NoNode { .. }));
    fs::write(beside(&path, "-wal"), "x".repeat(5000)).expect("written");
    assert!(matches!(refused(&path), InspectError::Open(OpenError::StrayWal { .. })));
    fs::remove_file(beside(&path, "-wal")).expect("removed");
    fs::write(&path, "my diary".repeat(1000)).expect("written");
    assert!(matches!(refused(&path), InspectError::Open(OpenError::NotADatabase { .. })));
    fs::remove_file(&path).expect("removed");
    sql(&path, "PRAGMA journal_mode = WAL; CREATE TABLE theirs (x)");
    assert!(matches!(refused(&path), InspectError::Open(OpenError::Foreign { .. })));
    sql(&path, "DROP TABLE theirs");
    assert!(matches!(refused(&path), InspectError::NoNode { .. }));

    let fixture = Fixture::filled();
    fixture.sql("PRAGMA user_version = 99");
    assert!(matches!(
        refused(&fixture.path),
        InspectError::Open(OpenError::Newer { found: 99, .. })
    ));
    let folder = fixture.folder.path();
    assert!(matches!(
        Inspector::open(folder).expect_err("a folder"),
        InspectError::Open(OpenError::NotAFile { .. })
    ));
    assert!(matches!(
        Inspector::open(folder.join("no/a.db")).expect_err("no folder"),
        InspectError::Open(OpenError::FolderMissing { .. })
    ));
}

#[test]
fn a_file_that_cannot_be_written_can_be_read() {
    // A superuser is not stopped by permissions; for all others this is the immutable connection.
    let fixture = Fixture::filled();
    fs::set_permissions(&fixture.path, fs::Permissions::from_mode(0o400)).expect("set");
    assert_eq!(fixture.queue().len(), 4);
    assert_eq!(listing(&fixture.path).len(), 1);
    let connection = look::immutable(&fixture.path).expect("opened");
    let inspector = Inspector { connection, path: fixture.path.clone() };
    assert_eq!(inspector.queue().expect("queues").len(), 4);
}

#[test]
fn the_summary_says_whose_file_it_is() {
    let fixture = Fixture::filled();
    let summary = fixture.open().summary().expect("a summary");
    assert_eq!(summary.node, Some(node("alice")));
    assert_eq!((summary.created_ms, summary.last_id), (Some(7), Some(id(10))));
    assert_eq!((summary.messages, summary.dead_letters), (10, 1));
    assert_eq!(summary.schema, SCHEMA_VERSION);
    assert_eq!(summary.stores.len(), 1);
    assert_eq!(summary.file_bytes, fs::metadata(&fixture.path).expect("there").len());
    fixture.sql("DELETE FROM waypost_meta");
    assert_eq!(fixture.open().summary().expect("a summary").node, None);
}
