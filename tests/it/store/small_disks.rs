//! Small disks of all sizes, filled by others at each moment of a node's life (P1, P2, P5, P6).

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::full_disk::{child_on, small_disk, take_all};
use crate::nodes::child::{self, Child};
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use waypost::{Channel, Health, Message, Mode, NewMessage, Node};

/// In MiB.
const SIZES: [u32; 4] = [2, 4, 8, 32];
/// When others take all that there is.
const TIMES: [&str; 3] = ["before it starts", "while it runs", "while it stops"];
/// Messages before the disk is full, while it is, and afterwards.
const MESSAGES: usize = 20;

/// Does what this process was started for. `false`: it was started for something else.
pub(crate) fn run(role: &str) -> bool {
    match role {
        "small-sender" => child::block_on(send_on_it()),
        "small-receiver" => child::block_on(receive_on_it()),
        _ => return false,
    }
    true
}

fn is_time(time: &str) -> bool {
    child::setting("TIME") == time
}

fn make_room() {
    std::fs::remove_file(PathBuf::from(child::setting("FOLDER")).join("ballast")).expect("removed");
}

async fn start_here() -> Node {
    let builder = builder_at(&child::setting("URL"), child::setting("FOLDER"), "alice");
    begin(builder.compression(false)).await
}

/// The first start of all needs room, and says so.
async fn is_refused_without_room() {
    take_all();
    let builder = builder_at(&child::setting("URL"), child::setting("FOLDER"), "alice");
    let refused = builder.start().await.expect_err("there is no room for a file");
    assert!(format!("{refused:?} {refused}").contains("disk is full"), "{refused:?}");
    make_room();
}

async fn stop_while_it_fills(node: Node) {
    let filling = tokio::task::spawn_blocking(take_all);
    node.shutdown().await;
    filling.await.expect("it fills");
    take_all();
}

/// Sends as much as there is room for, or all.
async fn send_some(out: &Channel, sent: &AtomicUsize) {
    for _ in 0..MESSAGES {
        let n = sent.load(Ordering::Relaxed);
        let mut payload = n.to_string().into_bytes();
        payload.resize(3_000, b' ');
        match out.send(NewMessage::bytes(payload)).await {
            Ok(_) => sent.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                return;
            }
        };
    }
}

/// The child: what it accepted at any time is delivered, and all that comes once there is room.
async fn send_on_it() {
    let sent = AtomicUsize::new(0);
    if is_time(TIMES[0]) {
        is_refused_without_room().await;
    }
    let mut node = start_here().await;
    let mut out = node.join("work", Mode::Writer).await.expect("joined");
    child::write("there");
    reader_is_known(&node, "work", "bob").await;
    send_some(&out, &sent).await;
    if is_time(TIMES[1]) {
        take_all();
    } else {
        if is_time(TIMES[0]) {
            node.shutdown().await;
            take_all();
        } else {
            stop_while_it_fills(node).await;
        }
        node = start_here().await;
        out = node.join("work", Mode::Writer).await.expect("joined");
    }
    send_some(&out, &sent).await;
    make_room();
    eventually_async(SOON, "it is healthy", async || node.status().storage == Health::Healthy)
        .await;
    let before = sent.load(Ordering::Relaxed);
    eventually_async(SOON, "it takes messages again", async || {
        send_some(&out, &sent).await;
        sent.load(Ordering::Relaxed) >= before + MESSAGES
    })
    .await;
    let sent = sent.into_inner();
    account_is(&node, "bob", |it| it.acknowledged == sent as u64).await;
    node.shutdown().await;
    let node = start_here().await;
    let account = account(&node, "bob").await;
    assert_eq!((account.acknowledged, account.pending), (sent as u64, 0));
    node.shutdown().await;
    child::write(&sent.to_string());
    child::read();
}

async fn take_all_that_comes(node: &Node) {
    let work = node.join("work", Mode::Reader).await.expect("joined");
    work.on_message(async |message: Message| {
        child::write(&format!("got {}", message.text()?.trim()));
        Ok(())
    })
    .await
    .expect("attached");
}

/// The child: takes what comes at any time, once.
async fn receive_on_it() {
    if is_time(TIMES[0]) {
        is_refused_without_room().await;
    }
    let mut node = start_here().await;
    take_all_that_comes(&node).await;
    child::write("there");
    child::read();
    if is_time(TIMES[1]) {
        take_all();
    } else {
        if is_time(TIMES[0]) {
            node.shutdown().await;
            take_all();
        } else {
            stop_while_it_fills(node).await;
        }
        node = start_here().await;
        take_all_that_comes(&node).await;
    }
    child::write("full");
    child::read();
    make_room();
    child::write("room");
    child::read();
    node.shutdown().await;
    child::write("done");
    child::read();
}

/// The disk of one child.
fn disk(mib: u32, time: &str) -> Option<[String; 5]> {
    let mut disk = small_disk("tmpfs", mib)?;
    disk[4] = format!("export WAYPOST_TEST_TIME='{time}'; {}", disk[4]);
    Some(disk)
}

async fn sender(disk: &[String; 5], server: &NatsServer) {
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let got = collect(&work).await;
    let alice = child_on(disk, "small-sender", server, &dir);
    alice.wrote(2).await;
    let sent: usize = alice.lines()[1].parse().expect("a number");
    let got: Vec<String> =
        arrived(&got, sent).await.iter().map(|text| text.trim().to_owned()).collect();
    assert_eq!(got, numbers(0..sent));
    drop(alice);
    bob.shutdown().await;
}

async fn receiver(disk: &[String; 5], server: &NatsServer) {
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(server, &dir, "bob").await;
    let work = bob.join("work", Mode::Writer).await.expect("joined");
    let mut alice = child_on(disk, "small-receiver", server, &dir);
    let mut sent = 0;
    for (at, step) in ["there", "full", "room"].into_iter().enumerate() {
        // What it got so far, and each step.
        alice.wrote(sent + at + 1).await;
        assert!(alice.lines().iter().any(|line| line == step), "{step}: {:?}", alice.lines());
        reader_is_known(&bob, "work", "alice").await;
        send_numbers(&work, sent..sent + MESSAGES).await;
        sent += MESSAGES;
        settled(&bob).await;
        alice.tell("go on");
    }
    alice.wrote(sent + 4).await;
    assert_eq!(got(&alice), numbers(0..sent));
    drop(alice);
    bob.shutdown().await;
}

fn got(alice: &Child) -> Vec<String> {
    let lines = alice.lines().into_iter();
    lines.filter_map(|line| Some(line.strip_prefix("got ")?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_small_disks_that_others_fill_at_any_time_cost_no_message() {
    let server = NatsServer::start();
    for time in TIMES {
        for mib in SIZES {
            let Some(disk) = disk(mib, time) else { return };
            println!("{mib} MiB, full {time}, a sender");
            sender(&disk, &server).await;
            println!("{mib} MiB, full {time}, a receiver");
            receiver(&disk, &server).await;
        }
    }
}
