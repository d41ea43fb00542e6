//! Of the server.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Resource;
use waypost::Tls;

use super::*;
use crate::program::{NOWHERE, Running};

rows! {
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
        // A subscription is refused before the connection stands, each time anew.
        let deaf = r#"authorization { users: [{ user: x, password: x, permissions: {
                publish: ">", subscribe: { deny: "waypost.ack.>" } } }] }"#;
        let mut server = NatsServer::with_config(deaf);
        let url = server.url().replace("nats://", "nats://x:x@");
        let scene = Scene::new(&url, "half-deaf").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("far")).await;
        is_connected(&scene.node).await;
        scene.stands_in_its_status("denied").await;
        server.restart();
        is_connected(&scene.node).await;
        scene.is_told_everywhere("denied", Some(id)).await;
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
        // The node that has its file is silent: whoever asks would be refused in its place.
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.why_says(id, "server_limit");
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
        // Of one that goes on below it, its report tells it.
        server.stop();
        server.restart_with("");
        let url = announcing(server.port(), "-ERR 'Maximum Payload Violation'\r\n");
        let scene = Scene::new(&url, "stinted").await;
        let id = send(&scene.writes("c").await, NewMessage::text("x").to("b")).await;
        scene.is_told_everywhere("server_limit", Some(id)).await;
        scene.node.shutdown().await;
    };

    no_files => async {
        let mut server = NatsServer::start();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let test = "reasons::rows::servers::meets_a_limit_of_files";
        command.args([test, "--exact", "--ignored", "--nocapture"]).env(SERVER, server.url());
        let mut node = Running::new(command);
        while !node.line().ends_with(MAY_OPEN_FILES) {}
        node.limit(Resource::Nofile, Some(3));
        server.restart();
        while !node.line().ends_with(TELLS_THE_LIMIT) {}
        node.limit(Resource::Nofile, None);
        node.ended_within(PATIENCE).expect_code(0);
    };

    server_said => async {
        let server = NatsServer::start();
        let url = announcing(server.port(), "-ERR 'a word of the year 2030'\r\n");
        let scene = Scene::new(&url, "puzzled").await;
        scene.is_told_everywhere("server_said", None).await;
        scene.node.shutdown().await;
    };
}

const SERVER: &str = "WAYPOST_TEST_SERVER";
const MAY_OPEN_FILES: &str = "it may open files";
const TELLS_THE_LIMIT: &str = "it tells the limit";

/// A limit is a process's, so that this needs one of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by another test as a process of its own"]
async fn meets_a_limit_of_files() {
    let scene = Scene::new(&std::env::var(SERVER).expect("a server"), "crowded").await;
    is_connected(&scene.node).await;
    println!("{MAY_OPEN_FILES}");
    scene.stands_in_its_status("no_files").await;
    // A probe would need a file, too.
    scene.stands_in_its_own_readiness("no_files").await;
    scene.is_told("no_files").await;
    println!("{TELLS_THE_LIMIT}");
    scene.is_over("no_files").await;
    scene.node.shutdown().await;
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
                    // Newer servers say more right after it.
                    let words = &buffer[..count];
                    let answered = words.windows(6).any(|word| word == b"PONG\r\n");
                    if !said && answered && words.ends_with(b"\r\n") {
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
