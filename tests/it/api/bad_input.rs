//! Bad input at the library's doors: each is refused with an error that says what is wrong and what to do, and nothing is changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use tempfile::TempDir;
use waypost::error::{ChannelError, OpenError, SendError, StartError, StoreOpenError};
use waypost::rusqlite::Connection;
use waypost::{Builder, InvalidMessage, Mode, NameError, NewMessage, Node};

const NOWHERE: &str = "nats://127.0.0.1:1";

async fn refused(builder: Builder) -> StartError {
    builder.start().await.expect_err("it must not start")
}

async fn config_error(change: impl FnOnce(Builder) -> Builder) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let error = refused(change(builder_at(NOWHERE, &dir, "alice"))).await;
    assert!(matches!(error, StartError::Config(_)), "{error:?}");
    assert_eq!(std::fs::read_dir(&dir).expect("a folder").count(), 0, "nothing was created");
    error.to_string()
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused_at_the_start_with_names_and_values() {
    let seconds = Duration::from_secs;
    for (text, error) in [
        (
            "keepalive_interval (500ms) must be shorter than offline_after (500ms)",
            config_error(|b| b.offline_after(Duration::from_millis(500))).await,
        ),
        (
            "offline_after (3s) must be shorter than peer_expiry (2s)",
            config_error(|b| b.peer_expiry(seconds(2))).await,
        ),
        (
            "retry_delay (10s) must not be longer than max_retry_delay (1s)",
            config_error(|b| b.retry_delay(seconds(10)).max_retry_delay(seconds(1))).await,
        ),
        (
            "message_ttl (0s) would expire every message at once: give a time, or none",
            config_error(|b| b.message_ttl(Some(Duration::ZERO))).await,
        ),
        (
            "max_payload_bytes (0) must be from 1 to 67108864, the most that a NATS server allows",
            config_error(|b| b.max_payload_bytes(0)).await,
        ),
        (
            "nats is empty: name at least one server, like nats://localhost:4222",
            config_error(|b| b.nats(Vec::<String>::new())).await,
        ),
        (
            "ack_timeout (0s) must be at least 1ms",
            config_error(|b| b.ack_timeout(seconds(0))).await,
        ),
    ] {
        assert_eq!(error, text);
    }
    let prefix = config_error(|b| b.prefix("way.*")).await;
    assert!(prefix.starts_with("prefix \"way.*\" is not valid"), "{prefix}");
    let both =
        waypost::Auth { token: Some("t".into()), nkey: Some("SU".into()), ..Default::default() };
    assert!(config_error(|b| b.auth(both)).await.starts_with("auth has several ways to log in"));
}

#[tokio::test]
async fn names_that_could_leave_their_place_are_refused() {
    for bad in ["", "a.b", "*", ">", "a b", "a\nb", "ü", &"x".repeat(300)] {
        let error = config_error(|b| b.id(bad)).await;
        assert!(error.starts_with("node id ") && error.len() < 300, "{error}");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at(NOWHERE, &dir, "alice")).await;
    for bad in ["", "a\nb", "a\0b", &"x".repeat(300), &"é".repeat(150)] {
        let error = alice.join(bad, Mode::Writer).await.expect_err("refused");
        assert!(matches!(error, ChannelError::Name(NameError::Channel(_))), "{error:?}");
        assert!(error.to_string().len() < 300);
    }
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let text = || NewMessage::text("x");
    for bad in [
        text().to("a.b"),
        text().to("*"),
        text().to("x".repeat(300)),
        text().kind("two words"),
        text().kind(""),
        text().header("bad name", "x"),
        text().header("name", "line\nbreak"),
        text().header("name", "x".repeat(20_000)),
        (0..100).fold(text(), |message, n| message.header(format!("h{n}"), "x")),
    ] {
        let error = out.send(bad).await.expect_err("refused");
        assert!(matches!(error, SendError::Invalid(InvalidMessage::Name(_))), "{error:?}");
        assert!(!error.is_transient() && error.to_string().len() < 300);
    }
    assert_eq!(account(&alice, "").await.accepted, 0, "nothing was stored");
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_may_look_like_a_subject_without_ever_becoming_one() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = (start(&server, &dir, "alice").await, start(&server, &dir, "bob").await);
    let names = ["orders.> *", "waypost.msg.bob.alice", "'; DROP TABLE x; --", &"ü🚢".repeat(42)];
    for name in names {
        let got = collect(&bob.join(name, Mode::Reader).await.expect("joined")).await;
        let out = alice.join(name, Mode::Writer).await.expect("joined");
        out.send(name).await.expect("sent");
        assert_eq!(arrived(&got, 1).await, [name]);
    }
    settled(&alice).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_with_both_sizes_and_so_is_a_ttl_of_zero() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at(NOWHERE, &dir, "alice").max_payload_bytes(1000)).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let error = out.send(vec![0; 1001]).await.expect_err("too large");
    let sizes = match &error {
        SendError::Invalid(InvalidMessage::PayloadTooLarge { actual, limit }) => (*actual, *limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(sizes, (1001, 1000));
    let text = "payload is 1001 bytes, limit 1000: split it or raise max_payload_bytes";
    assert_eq!(error.to_string(), text);
    out.send(vec![0; 1000]).await.expect("it fits");
    let error = out.send(NewMessage::text("x").ttl(Duration::ZERO)).await.expect_err("refused");
    assert!(matches!(error, SendError::Invalid(InvalidMessage::ZeroTtl)));
    let keys = std::collections::HashMap::from([((1, 2), 3)]);
    let error = out.send_json(&keys).await.expect_err("keys are texts");
    assert!(matches!(error, SendError::Invalid(InvalidMessage::Json(_))));
    assert_eq!(account(&alice, "").await.accepted, 1);
    alice.shutdown().await;
}

/// Why a node does not start with this file. It is left as it was.
async fn open_error(path: impl Into<PathBuf>) -> OpenError {
    let path = path.into();
    let before = std::fs::read(&path).ok();
    let error = refused(Node::builder().id("alice").nats([NOWHERE]).storage(&path)).await;
    assert_eq!(std::fs::read(&path).ok(), before, "the file is as it was");
    match error {
        StartError::Storage(StoreOpenError::Open(error)) => {
            let text = error.to_string();
            let end = path.file_name().or_else(|| path.parent()?.file_name()).expect("a name");
            assert!(text.contains(&*end.to_string_lossy()) || text.contains("folder"), "{text}");
            error
        }
        other => panic!("{other:?}"),
    }
}

/// The file of a node that has run.
async fn used_file(dir: &TempDir) -> PathBuf {
    let alice = begin(builder_at(NOWHERE, dir, "alice")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    for _ in 0..50 {
        out.send(vec![7; 4_000]).await.expect("sent");
    }
    alice.shutdown().await;
    alice.storage()
}

fn sql(path: &Path, statements: &str) {
    Connection::open(path).and_then(|file| file.execute_batch(statements)).expect("done");
}

#[tokio::test]
async fn each_kind_of_wrong_file_is_refused_by_its_own_error_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let missing = open_error(dir.path().join("no/such/folder/alice.db")).await;
    assert!(matches!(missing, OpenError::FolderMissing { .. }), "{missing}");
    assert!(!dir.path().join("no").exists());
    let folder = open_error(dir.path().to_owned()).await;
    assert!(matches!(folder, OpenError::NotAFile { .. } | OpenError::BadPath { .. }), "{folder}");
    let unwritable = open_error("/proc/alice.db").await;
    assert!(matches!(unwritable, OpenError::FolderNotWritable { .. }), "{unwritable}");
    let diary = dir.path().join("diary.txt");
    std::fs::write(&diary, "Dear diary, this is not a database.".repeat(100)).expect("written");
    assert!(matches!(open_error(&diary).await, OpenError::NotADatabase { .. }));
    let theirs = dir.path().join("theirs.db");
    sql(&theirs, "CREATE TABLE customers (name TEXT); INSERT INTO customers VALUES ('Ida')");
    assert!(matches!(open_error(&theirs).await, OpenError::Foreign { .. }));
    let newer = used_file(&dir).await;
    sql(&newer, "PRAGMA user_version = 99");
    let error = open_error(&newer).await;
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_never_made_anew() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = used_file(&dir).await;
    let whole = std::fs::read(&path).expect("readable");
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2);
    let mut scribbled = whole.clone();
    scribbled[4096..20_000].fill(0xa5);
    for damaged in [cut, scribbled] {
        std::fs::write(&path, damaged).expect("written");
        let error = open_error(&path).await;
        assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    }
    std::fs::write(&path, whole).expect("written");
    let alice = begin(builder_at(NOWHERE, &dir, "alice")).await;
    assert_eq!(account(&alice, "").await.pending, 50, "the right file is taken again");
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_damaged_in_the_file_is_never_delivered_and_does_not_block_the_queue() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..3).await;
    let (file, id) = (alice.storage(), out.send("flipped").await.expect("sent"));
    out.send("3").await.expect("sent");
    alice.shutdown().await;
    sql(
        &file,
        "UPDATE waypost_outbox SET payload = CAST('flapped' AS BLOB) WHERE payload = CAST('flipped' AS BLOB)",
    );
    let alice = start(&server, &dir, "alice").await;
    let got = collect(&work).await;
    assert_eq!(arrived(&got, 4).await, numbers(0..4));
    settled(&alice).await;
    let dead = alice.dead_letters(10).await.expect("readable");
    assert_eq!((dead.len(), dead[0].id), (1, id));
    assert_eq!(dead[0].reason, "the stored message is damaged");
    assert_eq!(columns(&alice, "bob").await, [5, 0, 4, 0, 1, 0]);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deleted_or_replaced_while_open_is_noticed_and_nothing_is_said_ok_to() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at(NOWHERE, &dir, "alice")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    out.send("0").await.expect("sent");
    std::fs::rename(alice.storage(), dir.path().join("moved.db")).expect("moved");
    crate::support::eventually_async(SOON, "it is noticed", async || {
        out.send("lost").await.is_err()
    })
    .await;
    let error = out.send("lost").await.expect_err("it stays refused");
    assert!(!error.is_transient() && error.to_string().contains("deleted or replaced"), "{error}");
    alice.shutdown().await;
}
