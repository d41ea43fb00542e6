//! A disk that is full, or fails, and then has space again: `send` says so, nothing that was said Ok to is lost, nothing that was not
//! is kept, and everything goes on by itself (P1, P6).

mod nodes;
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nodes::child::{self, Child};
use nodes::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::eventually_async;
use support::nats_server::NatsServer;
use waypost::error::SendError;
use waypost::{Health, Message, Mode, NewMessage, StartAt};

const PAYLOAD_BYTES: usize = 8_000;
/// What files may grow to, which is less than SQLite's log wants before it is copied.
const FILE_BYTES: u64 = 600_000;

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_process() {
    match std::env::var(child::ROLE).as_deref() {
        Ok(room @ ("tmpfs" | "limit")) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.expect("a runtime").block_on(fill(room));
        }
        _ => child::run(),
    }
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
        eprintln!("not run: this machine lets nobody mount a small disk");
        return;
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
