//! A disk that is full, or fails, and then has space again: `send` says so, nothing that was said Ok to is lost, nothing that was not
//! is kept, and everything goes on by itself (P1, P6).

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::nodes::child::{self, Child};
use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use crate::support::{eventually_async, not_run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use waypost::error::SendError;
use waypost::management::CheckState;
use waypost::{Event, Health, Message, Mode, NewMessage, Node, StartAt};

const PAYLOAD_BYTES: usize = 8_000;
/// What files may grow to, which is less than SQLite's log wants before it is copied.
const FILE_BYTES: u64 = 600_000;

/// Does what this process was started for. `false`: it was started for something else.
pub(crate) fn run(role: &str) -> bool {
    match role {
        "tmpfs" | "limit" => child::block_on(fill(role)),
        "restart" => child::block_on(stop_and_start_without_room()),
        "rounds" => child::block_on(send_more_than_fits()),
        "take" => child::block_on(receive_without_room()),
        "look" => hold_a_state(),
        _ => return false,
    }
    true
}

/// Takes all the space that there is, to the last byte, and keeps it.
pub(super) fn take_all() {
    let ballast = PathBuf::from(child::setting("FOLDER")).join("ballast");
    let mut ballast =
        std::fs::OpenOptions::new().create(true).append(true).open(ballast).expect("a file");
    let mut step = vec![1; 1 << 20];
    while !step.is_empty() {
        if !ballast.write(&step).is_ok_and(|written| written > 0) {
            step.truncate(step.len() / 2);
        }
    }
    // A disk that allocates later says so only now.
    let _ = ballast.sync_all();
}

fn numbered(n: usize) -> NewMessage {
    let bytes = std::env::var("WAYPOST_TEST_BYTES")
        .map_or(PAYLOAD_BYTES, |bytes| bytes.parse().expect("a number"));
    let mut payload = n.to_string().into_bytes();
    payload.resize(bytes, b' ');
    NewMessage::bytes(payload)
}

async fn start_alice() -> Node {
    let builder = builder_at(&child::setting("URL"), child::setting("FOLDER"), "alice");
    begin(builder.compression(false)).await
}

/// The child: sends until there is no space, has others take what is left, stops, starts, and delivers all of it.
async fn stop_and_start_without_room() {
    let node = start_alice().await;
    let out = node.join("work", Mode::Writer).await.expect("joined");
    let mut sent = 0;
    while out.send(numbered(sent)).await.is_ok() {
        sent += 1;
    }
    take_all();
    node.shutdown().await;
    take_all();
    let node = start_alice().await;
    child::write(&format!("started {sent}"));
    child::read();
    account_is(&node, "bob", |it| it.acknowledged == sent as u64).await;
    node.shutdown().await;
    take_all();
    let node = start_alice().await;
    let account = account(&node, "bob").await;
    child::write(&format!("on record {} {}", account.acknowledged, account.pending));
    std::fs::remove_file(PathBuf::from(child::setting("FOLDER")).join("ballast")).expect("removed");
    eventually_async(SOON, "it is healthy again", async || {
        node.status().storage == Health::Healthy
    })
    .await;
    let out = node.join("work", Mode::Writer).await.expect("joined");
    eventually_async(SOON, "it can send again", async || out.send(numbered(sent)).await.is_ok())
        .await;
    child::write("again");
    child::read();
}

/// The child: sends several times what its disk holds, as fast as there is room.
async fn send_more_than_fits() {
    let count: usize = child::setting("COUNT").parse().expect("a number");
    let node = start_alice().await;
    let out = node.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&node, "work", "bob").await;
    for n in 0..count {
        while let Err(error) = out.send(numbered(n)).await {
            assert!(error.is_transient(), "{error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    account_is(&node, "bob", |it| it.acknowledged == count as u64).await;
    node.shutdown().await;
    let node = start_alice().await;
    let account = account(&node, "bob").await;
    child::write(&format!("on record {} {}", account.acknowledged, account.pending));
    child::read();
}

/// The child: receives while others have taken all of the disk.
async fn receive_without_room() {
    let node = start_alice().await;
    let work = node.join("work", Mode::Reader).await.expect("joined");
    work.on_message(async |message: Message| {
        child::write(&format!("got {}", message.text()?.trim()));
        Ok(())
    })
    .await
    .expect("attached");
    take_all();
    child::write("full");
    child::read();
    node.shutdown().await;
    take_all();
    let node = start_alice().await;
    let work = node.join("work", Mode::Reader).await.expect("joined");
    work.on_message(async |message: Message| {
        child::write(&format!("got {}", message.text()?.trim()));
        Ok(())
    })
    .await
    .expect("attached");
    child::write("started");
    child::read();
}

/// The child: another program, which opens a state of the file and stays there.
fn hold_a_state() {
    let file = PathBuf::from(child::setting("FOLDER")).join("alice.db");
    let sql = rusqlite::Connection::open(file).expect("opened");
    sql.execute_batch("BEGIN").expect("begun");
    let count = "SELECT count(*) FROM waypost_outbox";
    let count: u64 = sql.query_row(count, [], |row| row.get(0)).expect("a state");
    child::write(&format!("sees {count}"));
    child::read();
}

/// How a child gets a disk of its own of so many MiB; `None` where this machine does not let it.
pub(super) fn small_disk(kind: &str, mib: u32) -> Option<[String; 5]> {
    let (unshare, mount) = match kind {
        // A small disk of its own needs a mount, which not every container allows.
        "tmpfs" => ("-rm", format!("mount -t tmpfs -o size={mib}m tmpfs \"$WAYPOST_TEST_FOLDER\"")),
        // An image in a loop device needs root.
        _ => {
            let image = "\"$WAYPOST_TEST_FOLDER.img\"";
            let mount = format!(
                "truncate -s {mib}M {image} && mkfs.{kind} -q -F {image} && mount -o loop {image} \"$WAYPOST_TEST_FOLDER\""
            );
            ("-m", mount)
        }
    };
    let words = |then: &str| {
        ["unshare", unshare, "sh", "-c", &format!("{mount} && {then}")].map(str::to_owned)
    };
    let dir = tempfile::tempdir().expect("a folder");
    let tried = words("true");
    let inner = dir.path().join("small");
    std::fs::create_dir(&inner).expect("a folder");
    let tried =
        Command::new(&tried[0]).args(&tried[1..]).env("WAYPOST_TEST_FOLDER", inner).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        not_run(&format!("this machine lets nobody mount a small {kind}"));
        return None;
    }
    Some(words("exec \"$0\" \"$@\""))
}

/// A child in this role on such a disk.
pub(super) fn child_on(
    disk: &[String; 5],
    role: &str,
    server: &NatsServer,
    dir: &tempfile::TempDir,
) -> Child {
    let inner = dir.path().join("small");
    std::fs::create_dir(&inner).expect("a folder");
    let shell: Vec<&str> = disk.iter().map(String::as_str).collect();
    Child::start_by(&shell, role, &server.url(), &inner, "alice")
}

async fn stopped_and_started(kind: &str, mib: u32) {
    let Some(mut disk) = small_disk(kind, mib) else { return };
    // Some hundreds of messages, however large the disk is.
    disk[4] = format!("export WAYPOST_TEST_BYTES={}; {}", 3_000 * mib, disk[4]);
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let mut alice = child_on(&disk, "restart", &server, &dir);
    alice.wrote(1).await;
    let sent: usize = alice.lines()[0]["started ".len()..].parse().expect("a number");
    assert!(sent > 0);
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
    let got = collect(&work).await;
    alice.tell("bob is there");
    let got = trimmed(&arrived(&got, sent).await);
    // The one that is sent again later may have come, too.
    assert_eq!(got[..sent], numbers(0..sent));
    alice.wrote(3).await;
    assert_eq!(alice.lines()[1..], [format!("on record {sent} 0"), "again".to_owned()]);
    drop(alice);
    bob.shutdown().await;
}

fn trimmed(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| text.trim().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_node_starts_and_delivers_on_a_full_disk_of_2_mib() {
    stopped_and_started("tmpfs", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_node_starts_and_delivers_on_a_full_disk_of_32_mib() {
    stopped_and_started("tmpfs", 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_node_starts_and_delivers_on_a_full_ext4() {
    stopped_and_started("ext4", 16).await;
}

async fn sent_in_rounds(kind: &str, mib: u32, count: usize) {
    let Some(mut disk) = small_disk(kind, mib) else { return };
    disk[4] = format!("export WAYPOST_TEST_COUNT={count}; {}", disk[4]);
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
    let got = collect(&work).await;
    let alice = child_on(&disk, "rounds", &server, &dir);
    eventually_async(4 * SOON, "all is delivered", async || !alice.lines().is_empty()).await;
    assert_eq!(alice.lines(), [format!("on record {count} 0")]);
    assert_eq!(trimmed(&arrived(&got, count).await), numbers(0..count));
    drop(alice);
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_what_is_delivered_does_not_fill_a_disk_of_4_mib() {
    sent_in_rounds("tmpfs", 4, 800).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_what_is_delivered_does_not_fill_an_ext4() {
    sent_in_rounds("ext4", 8, 1_500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_receiver_takes_messages_on_a_full_disk() {
    let Some(disk) = small_disk("tmpfs", 8) else { return };
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Writer).await.expect("joined");
    let mut alice = child_on(&disk, "take", &server, &dir);
    alice.wrote(1).await;
    reader_is_known(&bob, "work", "alice").await;
    send_numbers(&work, 0..50).await;
    settled(&bob).await;
    alice.tell("stop and start");
    alice.wrote(52).await;
    send_numbers(&work, 50..100).await;
    settled(&bob).await;
    let got =
        alice.lines().into_iter().filter_map(|line| Some(line.strip_prefix("got ")?.to_owned()));
    assert_eq!(got.collect::<Vec<_>>(), numbers(0..100));
    drop(alice);
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_who_keeps_the_log_from_beginning_again_is_told_by_its_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at("nats://127.0.0.1:1", &dir, "alice").compression(false)).await;
    let mut events = alice.events();
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    out.send("seen").await.expect("sent");
    let other = Child::start("look", "", dir.path(), "alice");
    other.wrote(1).await;
    for _ in 0..20 {
        let batch = (0..100).map(|_| NewMessage::bytes(vec![7; 40_000])).collect();
        out.send_all(batch).await.expect("sent");
    }
    let (bytes, readers) = event(&mut events, "a held log", |event| match event {
        Event::LogHeld { bytes, readers } => Some((*bytes, readers.clone())),
        _ => None,
    })
    .await;
    assert!(bytes >= 64 << 20, "{bytes}");
    // Only Linux tells who it is, and in a container of its own not even that.
    if cfg!(target_os = "linux") && !readers.is_empty() {
        assert_eq!(readers, [other.id()]);
    }
    drop(other);
    alice.shutdown().await;
}

/// Takes the space away, or gives it back.
fn leave_room(by: &str, enough: bool) {
    if by == "limit" {
        let maximum = getrlimit(Resource::Fsize).maximum;
        let current = if enough { maximum } else { Some(FILE_BYTES) };
        return setrlimit(Resource::Fsize, Rlimit { current, maximum }).expect("a softer limit");
    }
    let ballast = PathBuf::from(child::setting("FOLDER")).join("ballast");
    if enough {
        std::fs::remove_file(ballast).expect("removed");
    } else {
        std::fs::write(ballast, vec![1; 2_000_000]).expect("written");
    }
}

/// The child: sends until there is no space, waits for a word, makes space, and sends again.
async fn fill(by: &str) {
    let builder = builder_at(&child::setting("URL"), child::setting("FOLDER"), "alice");
    let node = begin(builder.compression(false)).await;
    let mut events = node.events();
    let out = node.join("work", Mode::Writer).await.expect("joined");
    let back = node.join("back", Mode::Reader).await.expect("joined");
    back.on_message(async |message: Message| {
        child::write(&format!("got {}", message.text()?));
        Ok(())
    })
    .await
    .expect("attached");
    leave_room(by, false);
    let mut sent = 0_usize;
    let send = async |n: usize| {
        let mut payload = n.to_string().into_bytes();
        payload.resize(PAYLOAD_BYTES, b' ');
        out.send(NewMessage::bytes(payload)).await
    };
    let error = loop {
        match send(sent).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "it is never full");
    };
    let kind = match &error {
        SendError::StorageFull { .. } => "full",
        SendError::Storage(_) => "failed",
        other => panic!("{other:?}"),
    };
    assert!(error.is_transient());
    child::write(&format!("refused {kind} {sent}"));
    let status = node.status();
    // What is said is the same in the error and in the status.
    let says_so = |reason: &waypost::Reason| reason.to_string() == error.to_string();
    if kind == "full" {
        assert!(status.reasons.iter().any(says_so), "{error}: {:?}", status.reasons);
        let readiness = node.readiness().await;
        let check = readiness.checks.iter().find(|check| check.name == Some("disk_full"));
        let said = check.is_some_and(|check| check.reason == error.to_string());
        assert!(said && readiness.state() == CheckState::Failed, "{readiness:?}");
        let stalled = |event: &Event| matches!(event, Event::Stalled { reason } if says_so(reason));
        event(&mut events, "the disk is full", |event| stalled(event).then_some(())).await;
    }
    child::write(match status.storage {
        Health::Healthy => "healthy",
        Health::Full => "full",
        _ => "failed",
    });
    child::read();
    leave_room(by, true);
    // Also in a node that only receives, and sends nothing that would prove it.
    eventually_async(SOON, "it is healthy again", async || {
        node.status().storage == Health::Healthy
    })
    .await;
    eventually_async(SOON, "it can send again", async || send(sent).await.is_ok()).await;
    let account = account(&node, "").await;
    child::write(&format!("again {}", account.accepted));
    child::read();
}

async fn full_and_then_not(shell: &[&str], by: &str, kind: &str) {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let back = bob.join("back", Mode::Writer).await.expect("joined");
    let inner = dir.path().join("small");
    std::fs::create_dir(&inner).expect("a folder");
    let mut alice = Child::start_by(shell, by, &server.url(), &inner, "alice");
    alice.wrote(2).await;
    let lines = alice.lines();
    let words: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!(&words[..2], ["refused", kind], "{lines:?}");
    assert_eq!(lines[1], kind);
    let sent: usize = words[2].parse().expect("a number");
    assert!(sent > 0);
    // What it cannot write down, it does not acknowledge: this one waits, or finds a last corner of the disk.
    reader_is_known(&bob, "back", "alice").await;
    back.send("hello").await.expect("sent");
    alice.wrote(3).await;
    alice.tell("there is space");
    settled(&bob).await;
    alice.wrote(4).await;
    let lines = alice.lines();
    assert_eq!(lines[2..], ["got hello".to_owned(), format!("again {}", sent + 1)]);

    let work = bob.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
    let got = collect(&work).await;
    let got: Vec<String> =
        arrived(&got, sent + 1).await.iter().map(|text| text.trim().to_owned()).collect();
    assert_eq!(got, numbers(0..sent + 1), "what was said Ok to, and nothing else");
    drop(alice);
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_full_disk_refuses_messages_and_takes_them_again_when_there_is_space() {
    // A small disk of its own needs a mount, which not every container allows.
    let mount = ["-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    let tried = Command::new("unshare").args(mount).output();
    let may_mount = tried.is_ok_and(|output| output.status.success());
    if !may_mount {
        return not_run("this machine lets nobody mount a small disk");
    }
    let mount = "mount -t tmpfs -o size=3m tmpfs \"$WAYPOST_TEST_FOLDER\" && exec \"$0\" \"$@\"";
    full_and_then_not(&["unshare", "-rm", "sh", "-c", mount], "tmpfs", "full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_limit_on_file_sizes_is_a_full_disk_and_not_a_broken_one() {
    // Beyond the limit a write fails with EFBIG, once the signal that goes with it is ignored.
    let shell = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    full_and_then_not(&shell, "limit", "full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_the_log_of_a_long_run_stays_small() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at("nats://127.0.0.1:1", &dir, "alice").compression(false)).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let batch = || (0..100).map(|_| NewMessage::bytes(vec![7; 4_000])).collect();
    for _ in 0..50 {
        out.send_all(batch()).await.expect("sent");
    }
    let stats = alice.statistics().await.expect("it runs");
    assert!(stats.wal_bytes < 16 << 20, "{} of 20 MB", stats.wal_bytes);
    tokio::time::timeout(Duration::from_secs(30), alice.shutdown()).await.expect("it ends");
    let left = dir.path().join("alice.db-wal");
    assert!(!left.exists(), "an orderly end leaves no log behind");
}
