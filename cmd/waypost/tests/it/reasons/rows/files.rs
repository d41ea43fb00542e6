//! Of its file.

use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::process::Command;

use waypost::Limit;
use waypost::error::SendError;

use super::*;
use crate::program::Running;

rows! {
    file_in_use => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "first").await;
        scene.command_says("send c x --flush 0", "file_in_use");
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        let lock = format!("{}-lock", scene.node.storage().display());
        // On a full disk it names nobody: then the node is asked whose file it is.
        std::fs::write(&lock, "").expect("written");
        scene.why_says(id, "never_heard");
        scene.command_says(&format!("why {id} --prefix other"), "file_in_use");
        scene.command_says("doctor --prefix other", "file_in_use");
        // A command that works on the file.
        std::fs::write(&lock, r#"{"node":"waypost db vacuum","pid":1,"host":"h"}"#).expect("written");
        scene.why_says(id, "file_in_use");
        scene.node.shutdown().await;
    };

    file_locked => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "browsed").await;
        let channel = scene.writes("c").await;
        let id = send(&channel, NewMessage::text("x").to("b")).await;
        let other = waypost::rusqlite::Connection::open(scene.node.storage()).expect("opened");
        other.execute_batch("BEGIN IMMEDIATE").expect("locked");
        let refused = channel.send("y").await.expect_err("it is locked");
        assert!(says(&refused.to_string(), "file_locked"), "{refused}");
        scene.is_told_everywhere("file_locked", Some(id)).await;
        other.execute_batch("ROLLBACK").expect("ended");
        scene.is_over("file_locked").await;
        scene.node.shutdown().await;
        other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
        scene.command_says("send c x --flush 0", "file_locked");
    };

    file_replaced => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "moved").await;
        let channel = scene.writes("c").await;
        let id = send(&channel, NewMessage::text("x").to("b")).await;
        scene.here.run("db backup copy.db --id moved").expect_code(0);
        std::fs::rename(scene.node.storage(), scene.here.path("elsewhere.db")).expect("renamed");
        // Commands find no file, and the node that had it.
        scene.is_told_everywhere("file_replaced", Some(id)).await;
        std::fs::rename(scene.here.path("copy.db"), scene.node.storage()).expect("renamed");
        // They find another file.
        scene.why_says(id, "file_replaced");
        scene.doctor_says("file_replaced");
        let doctor = scene.here.run("doctor --id moved").expect_code(1);
        assert!(doctor.text().contains("FAIL  moving "), "{}", doctor.text());
        let refused = channel.send("x").await.expect_err("it is lost");
        assert!(says(&refused.to_string(), "file_replaced"), "{refused}");
        scene.node.shutdown().await;
    };

    file_damaged => async {
        let server = NatsServer::start();
        let scene = Scene::with(&server.url(), "spoilt", |builder| builder.compression(false)).await;
        let channel = scene.writes("c").await;
        let first = send(&channel, NewMessage::text("x").to("nobody")).await;
        let many = |_| (0..100).map(|_| NewMessage::bytes(vec![7; 1_000]).to("b")).collect();
        for batch in (0..30).map(many) {
            channel.send_all(batch).await.expect("accepted");
        }
        let last = send(&channel, NewMessage::text("x").to("b")).await;
        scene.node.shutdown().await;
        let scene = Scene::on(scene.here, &server.url(), "spoilt", |builder| builder).await;
        spoil_the_second_half(&scene.node.storage());
        // Before the node itself has met it.
        scene.why_says(last, "file_damaged");
        scene.doctor_says("file_damaged");
        let reader = scene.other(&server.url(), "b").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_told_everywhere("file_damaged", Some(first)).await;
        scene.why_says(last, "file_damaged");
        let by_the_node = scene.here.run("doctor --id spoilt").expect_code(1);
        let moving = by_the_node.lines().into_iter().filter(|line| line.starts_with("FAIL  moving "));
        assert!(moving.clone().any(|line| says(line, "file_damaged")), "{}", by_the_node.text());
        reader.shutdown().await;
        let file = scene.node.storage();
        scene.node.shutdown().await;
        // At rest, it is not written over, nor does a node start with it.
        scene.doctor_says("file_damaged");
        spoil_the_first_page(&file);
        scene.command_says("send c x --flush 0", "file_damaged");
        scene.command_says("queue", "file_damaged");
    };

    storage_near => async {
        let server = NatsServer::start();
        let scene = Scene::with(&server.url(), "filling", of_8_mib).await;
        let mut events = scene.node.events();
        let refused = fill(&scene.writes("c").await).await;
        assert!(matches!(refused, SendError::StorageLimit { .. }), "{refused:?}");
        scene.is_told_everywhere("storage_near", None).await;
        let near = loop {
            if let Some(Event::LimitNear(near)) = events.next().await {
                break near;
            }
        };
        assert!(matches!(near.limit, Limit::Storage(_)), "{near:?}");
        assert_eq!(near.receiver.as_ref().map(NodeId::as_str), Some("b"));
        assert!(near.percent >= 50 && near.oldest_age_ms.is_some(), "{near:?}");
        scene.node.shutdown().await;
    };

    storage_limit => async {
        let server = NatsServer::start();
        let scene = Scene::with(&server.url(), "stuffed", of_8_mib).await;
        let channel = scene.writes("c").await;
        let refused = fill(&channel).await;
        assert!(says(&refused.to_string(), "storage_limit"), "{refused}");
        scene.is_told_everywhere("storage_limit", None).await;
        // What waits is still there, and goes on.
        scene.node.purge("b", None).await.expect("purged");
        scene.is_over("storage_limit").await;
        channel.send(large()).await.expect("there is room again");
        scene.node.shutdown().await;
    };

    log_held => async {
        let server = NatsServer::start();
        let plain = |builder: Builder| builder.compression(false);
        let scene = Scene::with(&server.url(), "pinned", plain).await;
        let channel = scene.writes("c").await;
        send(&channel, large()).await;
        let mut other = Running::new(holder_of(&scene.node.storage()));
        while !other.line().ends_with(HOLDS) {}
        for _ in 0..100 {
            channel.send_all((0..10).map(|_| large()).collect()).await.expect("accepted");
        }
        scene.is_told_everywhere("log_held", None).await;
        // Only Linux tells who it is, and in a container of its own not even that.
        let reasons = scene.node.status().reasons;
        let held = reasons.iter().find(|reason| reason.name() == "log_held").expect("it stands");
        let by = held.sentence();
        let is_named = by.starts_with(&format!("process {} keeps", other.id()));
        assert!(is_named || by.starts_with("another program keeps"), "{by}");
        other.ended();
        scene.is_over("log_held").await;
        scene.node.shutdown().await;
    };

    stray_log => async {
        let server = NatsServer::start();
        let (scene, _, log) = copied(&server.url(), "orphan").await;
        let file = scene.node.storage();
        std::fs::remove_file(&file).expect("removed");
        std::fs::copy(log, beside_it(&file)).expect("copied");
        is_refused_by_all(&scene, "stray_log");
    };

    foreign_log => async {
        let server = NatsServer::start();
        let (scene, backup, log) = copied(&server.url(), "mixed").await;
        let file = scene.node.storage();
        std::fs::copy(backup, &file).expect("copied");
        std::fs::copy(log, beside_it(&file)).expect("copied");
        is_refused_by_all(&scene, "foreign_log");
    };
}

fn of_8_mib(builder: Builder) -> Builder {
    let limit = (8 << 20).try_into().expect("above zero");
    builder.storage_limit(Some(limit)).compression(false)
}

/// For somebody who is not there.
fn large() -> NewMessage {
    NewMessage::bytes(vec![7; 100_000]).to("b")
}

/// Until no more is accepted.
async fn fill(channel: &Channel) -> SendError {
    loop {
        if let Err(error) = channel.send(large()).await {
            return error;
        }
    }
}

const HOLDS: &str = "it is held";
const HELD_FILE: &str = "WAYPOST_TEST_HELD_FILE";

#[test]
#[ignore = "run by another test as a process of its own"]
fn holds_a_file() {
    let path = std::env::var(HELD_FILE).expect("a file");
    let file = waypost::rusqlite::Connection::open(path).expect("opened");
    file.execute_batch("BEGIN").expect("begun");
    file.query_row("SELECT count(*) FROM waypost_outbox", [], |_| Ok(())).expect("read");
    println!("{HOLDS}");
    // Until its input ends.
    let _ = std::io::stdin().lines().count();
}

/// A process that has an old state of this file open until its input ends.
fn holder_of(file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["reasons::rows::files::holds_a_file", "--exact", "--ignored", "--nocapture"]);
    command.env(HELD_FILE, file);
    command
}

/// Written over in place: the same file, with pages of nothing in it.
fn spoil_the_second_half(path: &Path) {
    let half = std::fs::metadata(path).expect("a file").len() / 2;
    spoil(path, half, usize::try_from(half).expect("small"));
}

/// Behind the header, so that it is still a database.
fn spoil_the_first_page(path: &Path) {
    spoil(path, 100, 400);
}

fn spoil(path: &Path, at: u64, count: usize) {
    let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
    file.seek(SeekFrom::Start(at)).expect("a place");
    file.write_all(&vec![0xff; count]).expect("harm is done");
    file.sync_all().expect("synced");
}

fn beside_it(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", file.display()))
}

/// A node that has ended, a backup of its file, and a log that was beside it afterwards.
async fn copied(nats: &str, name: &'static str) -> (Scene, PathBuf, PathBuf) {
    let scene = Scene::new(nats, name).await;
    let channel = scene.writes("c").await;
    send(&channel, NewMessage::text("x").to("b")).await;
    scene.here.run(&format!("db backup old.db --id {name}")).expect_code(0);
    send(&channel, NewMessage::text("y").to("b")).await;
    let log = scene.here.path("log");
    std::fs::copy(beside_it(&scene.node.storage()), &log).expect("copied");
    scene.node.shutdown().await;
    let backup = scene.here.path("old.db");
    (scene, backup, log)
}

/// No command makes anything of this file, and each says why.
fn is_refused_by_all(scene: &Scene, name: &str) {
    scene.command_says("send c x --flush 0", name);
    scene.command_says("recv c --count 1", name);
    scene.command_says("queue", name);
    scene.command_says(&format!("why {}", MessageId::ZERO), name);
    scene.doctor_says(name);
}
