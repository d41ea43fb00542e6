//! One test a row of docs/troubleshooting.md.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use waypost::error::SendError;
use waypost::{Limit, Tls};

use super::*;
use crate::program::{NOWHERE, Running, finish};

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

/// What other tests bring about, since it takes a disk that fails or is full, a process of its own or a frozen node: the reason, the file, the test.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("broken", "src/store/tests/failures.rs", "a_writer_that_panicked_is_the_reason"),
    (
        "no_files",
        "cmd/waypost/tests/it/killed.rs",
        "a_limit_of_files_that_is_met_while_it_runs_is_named_and_it_goes_on_by_itself",
    ),
    (
        "file_failed",
        "src/store/tests/failures.rs",
        "a_failed_file_is_tried_again_without_anybody_asking",
    ),
    (
        "file_failed",
        "tests/disk/faults.rs",
        "p1_p5_p6_each_operation_of_a_running_sender_or_receiver_may_fail",
    ),
    (
        "file_damaged",
        "src/store/tests/failures.rs",
        "a_file_that_does_not_pass_the_check_is_not_written",
    ),
    (
        "file_damaged",
        "src/store/tests/failures.rs",
        "a_damaged_page_that_a_reader_meets_is_told_once",
    ),
    (
        "disk_full",
        "tests/it/store/full_disk.rs",
        "p6_a_full_disk_refuses_messages_and_takes_them_again_when_there_is_space",
    ),
    (
        "disk_full",
        "cmd/waypost/tests/it/full_disk.rs",
        "p6_a_wait_outlasts_a_full_disk_and_deliveries_go_on_meanwhile",
    ),
    (
        "disk_full",
        "cmd/waypost/tests/it/full_disk.rs",
        "a_full_disk_can_be_looked_at_and_every_command_says_that_it_is_full",
    ),
];

/// Reasons that are not looked for in every place (status, readiness, report, `why`, `doctor`, event, log): in which not, and why.
const NOT_EVERYWHERE: &[(&str, &str)] = &[
    (
        "ended",
        "whoever has ended tells nothing over the network or into its log; commands find `not_running`",
    ),
    ("broken", "a bug: only a store that is made to panic has it, in memory"),
    (
        "name_taken",
        "the second node never starts, so that its error is all there is; the first has no such reason",
    ),
    ("not_running", "of a node that is not there: only commands can tell"),
    ("silent", "of a node that does not answer: only commands can tell"),
    ("file_in_use", "of a node that never starts: only commands can tell"),
    ("file_locked", "of a node that never starts: only commands can tell"),
    (
        "file_failed",
        "no process can make its own disk fail; the disk that does is a library's, beside which no command runs",
    ),
    ("file_damaged", "as file_failed"),
    ("file_replaced", "commands open the file that is there now, which is another"),
    (
        "disk_full",
        "a disk of its own takes a process of its own: its status, event and readiness are looked at in tests/it, the rest here",
    ),
    (
        "storage_near",
        "told as `Event::LimitNear`; it keeps no message from moving, so that `why` has nothing to tell",
    ),
    ("limit_near", "told as `Event::LimitNear`"),
    ("stray_log", "of a node that never starts: only commands can tell"),
    ("foreign_log", "of a node that never starts: only commands can tell"),
    ("unauthorized", "a node that is not connected answers no question"),
    ("no_trust", "a node that is not connected answers no question"),
    (
        "no_files",
        "only a process of its own can have the limit, of which the log is looked at; a command with so low a one does not begin, and says so",
    ),
    ("no_server", "a node that is not connected answers no question"),
    (
        "server_limit",
        "a node that is not connected answers no question, so that `why` finds it silent",
    ),
    (
        "clock_wrong",
        "only a process of its own has a clock of its own; it keeps no message from moving, so that `why` has nothing to tell",
    ),
    ("clock_apart", "as clock_wrong"),
];

#[test]
fn every_row_of_the_table_is_brought_about_and_looked_for_everywhere() {
    for template in Reason::ALL {
        let is_here = HERE.contains(&template.name);
        let is_elsewhere = ELSEWHERE.iter().any(|(name, ..)| *name == template.name);
        assert!(is_here != is_elsewhere, "{}", template.name);
        let everywhere = format!("is_told_everywhere(\"{}\"", template.name);
        let is_everywhere = include_str!("rows.rs").contains(&everywhere);
        let is_excused = NOT_EVERYWHERE.iter().any(|(name, _)| *name == template.name);
        assert!(is_everywhere != is_excused, "{}: places", template.name);
    }
    let is_known = |name: &str| Reason::ALL.iter().any(|template| template.name == name);
    for name in HERE.iter().chain(NOT_EVERYWHERE.iter().map(|(name, _)| name)) {
        assert!(is_known(name), "{name}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (name, file, test) in ELSEWHERE {
        assert!(is_known(name), "{name}");
        let source = std::fs::read_to_string(root.join(file)).expect("a source file");
        let is_there =
            source.split("#[test]").chain(source.split("#[tokio::test")).skip(1).any(|part| {
                let mut lines = part.lines().map(str::trim_start).skip(1);
                let name = lines.next().map(|line| line.trim_start_matches("async "));
                name.is_some_and(|line| line.starts_with(&format!("fn {test}(")))
            });
        assert!(is_there, "{name}: no test {test} in {file}");
    }
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
        // Of one that was let in before, an event tells it.
        let with = |password: &str| format!("authorization {{ user: x, password: {password} }}");
        let mut server = NatsServer::with_config(with("right"));
        let url = server.url().replace("nats://", "nats://x:right@");
        let scene = Scene::new(&url, "shut-out").await;
        is_connected(&scene.node).await;
        server.stop();
        server.restart_with(with("other"));
        scene.is_told("unauthorized").await;
        server.stop();
        server.restart_with(with("right"));
        scene.is_over("unauthorized").await;
        scene.node.shutdown().await;
    };

    no_trust => async {
        let mut server = NatsServer::with_config(encrypted("expired"));
        let roots = [pem("expired-ca.pem"), pem("ca.pem")];
        let tls = Tls { root_certificates: roots.to_vec(), ..Tls::default() };
        let trusting = |builder: Builder| builder.tls(tls.clone());
        let scene = Scene::with(&server.url(), "wary", trusting).await;
        let paths = roots.each_ref().map(|path| path.to_str().expect("text")).join(",");
        let scene = Scene { here: scene.here.with("WAYPOST_TLS_ROOT_CERTIFICATES", &paths), ..scene };
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.stands_in_its_status("no_trust").await;
        scene.stands_in_its_readiness("no_trust").await;
        scene.is_logged("no_trust").await;
        scene.why_says(id, "no_trust");
        scene.doctor_says("no_trust");
        // By the command itself at the default level, with what is wrong.
        let sent = scene.here.run("send c x --id other --to b --flush 5s").expect_code(0);
        assert!(says(&sent.err, "no_trust") && sent.err.contains("expired"), "{}", sent.err);
        scene.node.shutdown().await;
        // Of one that was connected before, an event tells it.
        server.stop();
        server.restart_with(encrypted("server"));
        let scene = Scene::with(&server.url(), "once-trusting", trusting).await;
        is_connected(&scene.node).await;
        server.stop();
        server.restart_with(encrypted("expired"));
        scene.is_told("no_trust").await;
        server.stop();
        server.restart_with(encrypted("server"));
        scene.is_over("no_trust").await;
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
        // Of one that was connected before, an event tells it.
        server.stop();
        server.restart_with("max_subscriptions: 5");
        scene.is_told("server_limit").await;
        scene.node.shutdown().await;
    };

    server_said => async {
        let server = NatsServer::start();
        let url = announcing(server.port(), "-ERR 'a word of the year 2030'\r\n");
        let scene = Scene::new(&url, "puzzled").await;
        scene.is_told_everywhere("server_said", None).await;
        scene.node.shutdown().await;
    };

    limit_near => async {
        let server = NatsServer::start();
        let four = 4.try_into().expect("more than none");
        let limited = |builder: Builder| builder.queue_limit(four);
        let scene = Scene::with(&server.url(), "nearly", limited).await;
        let channel = scene.writes("c").await;
        send(&channel, NewMessage::text("x").to("b")).await;
        send(&channel, NewMessage::text("x").to("b")).await;
        let id = send(&channel, NewMessage::text("x").to("b")).await;
        scene.stands_in_its_status("limit_near").await;
        scene.stands_in_its_readiness("limit_near").await;
        scene.stands_in_its_report("limit_near").await;
        scene.why_says(id, "limit_near");
        scene.doctor_says("limit_near");
        scene.is_logged("limit_near").await;
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

    clock_wrong => async {
        let server = NatsServer::start();
        let here = Program::new(server.url());
        let young = |arguments: &str| {
            let mut faketime = Command::new("faketime");
            faketime.args(["-f", "@1980-01-01 00:00:00", env!("CARGO_BIN_EXE_waypost")]);
            let mut command = here.wrap(faketime, arguments);
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command
        };
        let mut node = Running::new(young("send c --lines --id young --wait 1ms"));
        let mut config = Config::default();
        config.nats = vec![server.url()];
        until_it_tells(&mut node, &config, ("young", "clock_wrong"), true).await;
        let doctor = finish(young("doctor --id young"), b"");
        let of_the_machine = format!("warn  clock        {}", template("clock_wrong").sentence);
        assert!(holds(doctor.text(), &of_the_machine), "{}", doctor.text());
        // By the node's own word, where the one who asks has the right time.
        let doctor = here.run("doctor --id young");
        assert!(says(doctor.text(), "clock_wrong"), "{}", doctor.text());
        let ended = node.ended();
        assert!(says(&ended.err, "clock_wrong"), "{}", ended.err);
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
        until_it_tells(&mut node, &config, ("jumpy", "clock_apart"), false).await;
        std::fs::write(&off, "+2d").expect("written");
        until_it_tells(&mut node, &config, ("jumpy", "clock_apart"), true).await;
        let doctor = here.run("doctor --id jumpy");
        assert!(says(doctor.text(), "clock_apart"), "{}", doctor.text());
        std::fs::write(&off, "+0").expect("written");
        until_it_tells(&mut node, &config, ("jumpy", "clock_apart"), false).await;
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

/// Lets it send until it tells this about its wall clock, or no longer: each commit looks at the clock.
async fn until_it_tells(
    process: &mut Running,
    config: &Config,
    (node, reason): (&str, &str),
    tells: bool,
) {
    let end = Instant::now() + PATIENCE;
    loop {
        process.write(b"x\n");
        process.line();
        if let Some(report) = asked(config, node).await {
            let told = report.reasons.iter().find(|told| told.reason == reason);
            assert!(told.is_none_or(|told| says(&told.to_string(), reason)), "{told:?}");
            if told.is_some() == tells {
                return;
            }
        }
        assert!(Instant::now() < end, "its clock was set: {tells}");
    }
}

async fn is_connected(node: &Node) {
    let is_connected = async || matches!(node.status().link, waypost::Link::Connected { .. });
    eventually_async(PATIENCE, "it is connected", is_connected).await;
}

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/support/tls").join(name)
}

/// A server's settings with this certificate.
fn encrypted(name: &str) -> String {
    let (certificate, key) = (pem(&format!("{name}.pem")), pem(&format!("{name}-key.pem")));
    format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}")
}

/// The address of a server that says this to each client that it has answered once, and is this server in all else.
fn announcing(port: u16, what: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let [mut from, mut to] = [&client, &server].map(|it| it.try_clone().expect("a socket"));
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                let (mut buffer, mut said) = ([0; 65_536], false);
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    client.write_all(&buffer[..count])?;
                    if !said && buffer[..count].ends_with(b"PONG\r\n") {
                        client.write_all(what.as_bytes())?;
                        said = true;
                    }
                }
                client.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    url
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
