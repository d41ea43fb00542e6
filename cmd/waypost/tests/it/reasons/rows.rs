//! One test a row of docs/troubleshooting.md.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use waypost::Limit;
use waypost::error::SendError;

use super::*;
use crate::program::{NOWHERE, Running};

/// Defines a test for each reason, and the list of them.
macro_rules! rows {
    ($($name:ident => $body:expr;)+) => {
        /// What is brought about here.
        const HERE: &[&str] = &[$(stringify!($name)),+];

        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                $body.await;
            }
        )+
    };
}

/// What other tests bring about, since it takes a disk that fails, certificates or limits of a server.
const ELSEWHERE: &[(&str, &str)] = &[
    ("broken", "store::tests::failures"),
    ("clock_wrong", "reason::tests"),
    ("limit_near", "tests/it/promises/bounds.rs"),
    ("no_trust", "transport::nats::tests::access, protocol::stalls::tests"),
    ("no_files", "a_limit_of_files_that_is_met_while_it_runs_is_named_and_it_goes_on_by_itself"),
    ("server_said", "a_servers_words_are_sorted_into_denials_limits_and_the_rest"),
    ("file_failed", "tests/disk/faults.rs"),
    ("file_damaged", "store::tests::failures"),
    ("disk_full", "tests/it/store/full_disk.rs, cmd/waypost/tests/it/full_disk.rs"),
];

#[test]
fn every_row_of_the_table_is_brought_about() {
    for template in Reason::ALL {
        let is_here = HERE.contains(&template.name);
        let is_elsewhere = ELSEWHERE.iter().any(|(name, _)| *name == template.name);
        assert!(is_here != is_elsewhere, "{}", template.name);
    }
    assert_eq!(HERE.len() + ELSEWHERE.len(), Reason::ALL.len());
}

#[test]
fn a_servers_words_are_sorted_into_denials_limits_and_the_rest() {
    for (said, name) in [
        ("Permissions Violation for Publish to \"waypost.msg.a.b\"", "denied"),
        ("maximum subscriptions exceeded: a node needs 7", "server_limit"),
        ("Maximum Payload Violation", "server_limit"),
        ("a word of the year 2030", "server_said"),
        ("the maximum of permissions violation", "server_said"),
    ] {
        assert_eq!(Reason::refused(said.to_owned()).name(), name, "{said}");
    }
}

rows! {
    ended => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "ended").await;
        scene.node.shutdown().await;
        assert_eq!(scene.node.status().reasons, [Reason::Ended {}]);
        scene.stands_in_its_readiness("ended").await;
        scene.node.reasons().await.expect_err("nobody answers any more");
    };

    name_taken => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "taken").await;
        let elsewhere = Program::new(server.url());
        let second = elsewhere.run("recv c --id taken").expect_code(1);
        assert!(says(&second.err, "name_taken"), "{}", second.err);
        scene.node.shutdown().await;
    };

    not_running => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "gone").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.node.shutdown().await;
        scene.why_says(id, "not_running");
        scene.doctor_says("not_running");
    };

    silent => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "silent").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.command_says(&format!("why {id} --prefix other"), "silent");
        scene.command_says("doctor --prefix other", "silent");
        scene.node.shutdown().await;
    };

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

    file_replaced => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "moved").await;
        let channel = scene.writes("c").await;
        std::fs::rename(scene.node.storage(), scene.here.path("elsewhere.db")).expect("renamed");
        scene.stands_in_its_status("file_replaced").await;
        scene.stands_in_its_readiness("file_replaced").await;
        scene.stands_in_its_report("file_replaced").await;
        scene.is_told("file_replaced").await;
        let refused = channel.send("x").await.expect_err("it is lost");
        assert!(says(&refused.to_string(), "file_replaced"), "{refused}");
        scene.node.shutdown().await;
    };

    kicked => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "kicked").await;
        let other = scene.other(&server.url(), "kicker").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        let kick = async || other.kick("kicked").await.is_ok();
        eventually_async(PATIENCE, "it is kicked", kick).await;
        scene.is_told_everywhere("kicked", Some(id)).await;
        other.readmit_node("kicked").await.expect("obeyed");
        scene.is_over("kicked").await;
        other.shutdown().await;
        scene.node.shutdown().await;
    };

    kicked_from => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "barred").await;
        let other = scene.other(&server.url(), "warden").await;
        let channel = scene.writes("c").await;
        let kick = async || {
            let whom = Whom::Node(NodeId::new("barred").expect("a valid name"));
            other.kick_channel("c", whom).await.is_ok_and(|all| all.iter().all(|it| it.result.is_ok()))
        };
        eventually_async(PATIENCE, "it is kicked", kick).await;
        scene.is_told_everywhere("kicked_from", None).await;
        let refused = channel.send("x").await.expect_err("it is kicked");
        assert!(says(&refused.to_string(), "kicked_from"), "{refused}");
        other.readmit_node("barred").await.expect("obeyed");
        scene.is_over("kicked_from").await;
        other.shutdown().await;
        scene.node.shutdown().await;
    };

    draining => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "drained").await;
        let other = scene.other(&server.url(), "drainer").await;
        let channel = scene.writes("c").await;
        let drain = async || other.drain("drained").await.is_ok();
        eventually_async(PATIENCE, "it is drained", drain).await;
        scene.is_told_everywhere("draining", None).await;
        let refused = channel.send("x").await.expect_err("it is drained");
        assert!(says(&refused.to_string(), "draining"), "{refused}");
        other.readmit_node("drained").await.expect("obeyed");
        scene.is_over("draining").await;
        other.shutdown().await;
        scene.node.shutdown().await;
    };

    unauthorized => async {
        let server = NatsServer::with_config("authorization { user: x, password: right }");
        let url = server.url().replace("nats://", "nats://x:wrong@");
        let scene = Scene::new(&url, "refused").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.stands_in_its_status("unauthorized").await;
        scene.stands_in_its_readiness("unauthorized").await;
        scene.is_logged("unauthorized").await;
        scene.why_says(id, "unauthorized");
        scene.doctor_says("unauthorized");
        scene.node.shutdown().await;
    };

    no_server => async {
        let mut server = NatsServer::start();
        let scene = Scene::new(&server.url(), "alone").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        server.stop();
        scene.stands_in_its_status("no_server").await;
        scene.stands_in_its_readiness("no_server").await;
        scene.is_told("no_server").await;
        scene.why_says(id, "no_server");
        scene.doctor_says("no_server");
        server.restart();
        scene.is_over("no_server").await;
        scene.node.shutdown().await;
        // From the start, too, and by the command itself.
        let nowhere = Program::new(NOWHERE).run("send c x --to b --flush 0").expect_code(0);
        assert!(says(&nowhere.err, "no_server"), "{}", nowhere.err);
    };

    denied => async {
        let server = NatsServer::with_config(
            r#"authorization { users: [{ user: x, password: x, permissions: {
                publish: { deny: "waypost.msg.>" }, subscribe: ">" } }] }"#,
        );
        let url = server.url().replace("nats://", "nats://x:x@");
        let scene = Scene::new(&url, "denied").await;
        let reader = scene.other(&url, "far").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        let channel = scene.writes("c").await;
        eventually_async(PATIENCE, "it is met", async || scene.node.status().peers_online == 1)
            .await;
        let id = send(&channel, NewMessage::text("x").to("far")).await;
        scene.is_told_everywhere("denied", Some(id)).await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    server_limit => async {
        // Below what a node subscribes to, so that it is never connected.
        let mut server = NatsServer::with_config("max_subscriptions: 5");
        let scene = Scene::new(&server.url(), "limited").await;
        scene.stands_in_its_status("server_limit").await;
        scene.stands_in_its_readiness("server_limit").await;
        scene.is_logged("server_limit").await;
        scene.doctor_says("server_limit");
        let log = Log::of_all().lines("limited").join("\n");
        assert!(!says(&log, "no_server"), "there is a server: {log}");
        // Once there is none, that is said.
        server.stop();
        scene.stands_in_its_status("no_server").await;
        scene.is_told("no_server").await;
        server.restart_with("");
        scene.is_over("no_server").await;
        let reasons = scene.node.status().reasons;
        assert!(reasons.iter().all(|reason| reason.name() != "server_limit"), "{reasons:?}");
        scene.node.shutdown().await;
    };

    queue_full => async {
        let server = NatsServer::start();
        let two = 2.try_into().expect("more than none");
        let limited = |builder: Builder| builder.queue_limit(two);
        let scene = Scene::with(&server.url(), "full", limited).await;
        let channel = scene.writes("c").await;
        send(&channel, NewMessage::text("x").to("b")).await;
        let id = send(&channel, NewMessage::text("x").to("b")).await;
        let third = channel.send(NewMessage::text("x").to("b")).await;
        let refused = third.expect_err("two wait");
        assert!(says(&refused.to_string(), "queue_full"), "{refused}");
        scene.is_told_everywhere("queue_full", Some(id)).await;
        scene.node.purge("b", None).await.expect("purged");
        scene.is_over("queue_full").await;
        scene.node.shutdown().await;
    };

    no_quorum => async {
        let server = NatsServer::start();
        let election = Election::quorum(["voter", "b", "c"]).expect("valid names");
        let voter = |builder: Builder| builder.election(election);
        let scene = Scene::with(&server.url(), "voter", voter).await;
        scene.is_told_everywhere("no_quorum", None).await;
        scene.node.shutdown().await;
    };

    paused_here => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "deaf").await;
        let channel = scene.node.join("c", Mode::Reader).await.expect("joined");
        scene.is_told_everywhere("paused_here", None).await;
        channel.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_over("paused_here").await;
        scene.node.shutdown().await;
    };

    nobody_yet => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "early").await;
        let id = send(&scene.writes("c").await, "x").await;
        scene.is_told_everywhere("nobody_yet", Some(id)).await;
        let reader = scene.other(&server.url(), "late").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_over("nobody_yet").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    never_heard => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "hopeful").await;
        let channel = scene.writes("c").await;
        let first = send(&channel, NewMessage::text("x").to("misspelt")).await;
        // Counted when it is asked, not at the node's next look.
        let at_once = scene.here.run(&format!("why {first} --id hopeful")).expect_code(0);
        assert!(says(at_once.text(), "never_heard"), "{}", at_once.text());
        scene.is_told_everywhere("never_heard", Some(first)).await;
        // One of many: a report holds a hundred reasons.
        let mut ids = Vec::new();
        for n in 0..150 {
            ids.push(send(&channel, NewMessage::text("x").to(format!("r{n:03}"))).await);
        }
        for (n, id) in [(0, ids[0]), (149, ids[149])] {
            let why = scene.here.run(&format!("why {id} --id hopeful")).expect_code(0);
            let its = format!("for r{n:03}, which was never heard");
            assert!(why.text().contains(&its) && why.text().matches("because").count() == 1, "{}", why.text());
        }
        let doctor = scene.here.run("doctor --id hopeful");
        assert!(doctor.text().contains("and 51 more reasons"), "{}", doctor.text());
        scene.node.shutdown().await;
    };

    offline => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "ashore").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "at-sea").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        is_read(&scene.node).await;
        reader.shutdown().await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("offline", Some(id)).await;
        let reader = scene.other(&server.url(), "at-sea").await;
        scene.is_over("offline").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    not_joined => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "talker").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "bystander").await;
        eventually_async(PATIENCE, "it is met", async || scene.node.status().peers_online == 1)
            .await;
        let id = send(&channel, NewMessage::text("x").to("bystander")).await;
        scene.is_told_everywhere("not_joined", Some(id)).await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        scene.is_over("not_joined").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    paused => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "eager").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "resting").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        is_read(&scene.node).await;
        inbox.pause().await.expect("paused");
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("paused", Some(id)).await;
        inbox.resume().await.expect("resumed");
        scene.is_over("paused").await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    refusing => async {
        let server = NatsServer::start();
        let patient = |builder: Builder| {
            builder
                .max_attempts(1_000.try_into().expect("more than none"))
                .max_retry_delay(Duration::from_secs(1))
        };
        let scene = Scene::with(&server.url(), "insistent", patient).await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "unwilling").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        let refuse = |_| async { Err(HandlerError::from("not today")) };
        inbox.on_message(refuse).await.expect("attached");
        is_read(&scene.node).await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("refusing", Some(id)).await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    no_answer => async {
        let server = NatsServer::with_config(
            r#"authorization { users: [
                { user: x, password: x },
                { user: mute, password: x, permissions: {
                    publish: { deny: "waypost.ack.>" }, subscribe: ">" } } ] }"#,
        );
        let url = server.url().replace("nats://", "nats://x:x@");
        let patient = |builder: Builder| {
            builder.max_attempts(1_000.try_into().expect("more than none"))
        };
        let scene = Scene::with(&url, "asking", patient).await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url().replace("nats://", "nats://mute:x@"), "mute").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| async { Ok(()) }).await.expect("attached");
        is_read(&scene.node).await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("no_answer", Some(id)).await;
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    working => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "waiting").await;
        let channel = scene.writes("c").await;
        let reader = scene.other(&server.url(), "hanging").await;
        let inbox = reader.join("c", Mode::Reader).await.expect("joined");
        inbox.on_message(|_| std::future::pending()).await.expect("attached");
        is_read(&scene.node).await;
        let id = send(&channel, "x").await;
        scene.is_told_everywhere("working", Some(id)).await;
        drop(inbox);
        reader.shutdown().await;
        scene.node.shutdown().await;
    };

    storage_near => async {
        let server = NatsServer::start();
        let scene = Scene::with(&server.url(), "filling", of_8_mib).await;
        let mut events = scene.node.events();
        let refused = fill(&scene.writes("c").await).await;
        assert!(matches!(refused, SendError::StorageLimit { .. }), "{refused:?}");
        scene.stands_in_its_status("storage_near").await;
        scene.stands_in_its_readiness("storage_near").await;
        scene.stands_in_its_report("storage_near").await;
        scene.doctor_says("storage_near");
        scene.is_logged("storage_near").await;
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

    clock_apart => async {
        let server = NatsServer::start();
        let here = Program::new(server.url());
        let off = here.path("off");
        std::fs::write(&off, "+0").expect("written");
        let mut faketime = Command::new("faketime");
        // Its file is only read where the command line says nothing.
        faketime.args(["-f", "+0", "env", "-u", "FAKETIME", env!("CARGO_BIN_EXE_waypost")]);
        let mut command = here.wrap(faketime, "send c --lines --id jumpy --wait 1ms");
        command.env("FAKETIME_TIMESTAMP_FILE", &off).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut node = Running::new(command);
        let mut config = Config::default();
        config.nats = vec![server.url()];
        until_it_tells(&mut node, &config, false).await;
        std::fs::write(&off, "+2d").expect("written");
        until_it_tells(&mut node, &config, true).await;
        let doctor = here.run("doctor --id jumpy");
        assert!(says(doctor.text(), "clock_apart"), "{}", doctor.text());
        std::fs::write(&off, "+0").expect("written");
        until_it_tells(&mut node, &config, false).await;
        let ended = node.ended();
        assert!(says(&ended.err, "clock_apart"), "{}", ended.err);
        assert!(ended.err.contains("the wall clock is 2days ahead of"), "{}", ended.err);
        assert!(holds(&ended.err, template("clock_apart").over), "{}", ended.err);
    };

    file_locked => async {
        let server = NatsServer::start();
        let scene = Scene::new(&server.url(), "browsed").await;
        scene.node.shutdown().await;
        let other = waypost::rusqlite::Connection::open(scene.node.storage()).expect("opened");
        other.execute_batch("BEGIN EXCLUSIVE").expect("locked");
        scene.command_says("send c x --flush 0", "file_locked");
    };
}

/// Until somebody reads the channel.
async fn is_read(node: &Node) {
    let is_read = async || !node.subscribers("c").await.expect("it runs").is_empty();
    eventually_async(PATIENCE, "somebody reads the channel", is_read).await;
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

/// Lets it send until it tells that its wall clock is apart, or no longer: each commit looks at the clock.
async fn until_it_tells(node: &mut Running, config: &Config, tells: bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        node.write(b"x\n");
        node.line();
        if let Some(report) = asked(config, "jumpy").await {
            let told = report.reasons.iter().find(|told| told.reason == "clock_apart");
            assert!(told.is_none_or(|told| says(&told.to_string(), "clock_apart")), "{told:?}");
            if told.is_some() == tells {
                return;
            }
        }
        assert!(Instant::now() < end, "its clock was set: {tells}");
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
    command.args(["reasons::rows::holds_a_file", "--exact", "--ignored", "--nocapture"]);
    command.env(HELD_FILE, file);
    command
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
