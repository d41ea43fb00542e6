//! `--http`: metrics and health of the command's own node.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::program::{NOWHERE, PATIENCE, Program, Running};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use rustix::process::Signal;
use serde_json::{Value, json};

/// What was answered: the code, the header, the body.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) header: String,
    pub(crate) body: String,
}

/// Runs this beside the test with `--http` on a port that the system chooses, and waits until it says which.
fn serving(here: &Program, arguments: &str) -> (Running, u16) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let errors = here.path(&format!("errors-{}", RUNS.fetch_add(1, Ordering::Relaxed)));
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 2> \"$ERRORS\"", env!("CARGO_BIN_EXE_waypost")]);
    shell.env("ERRORS", &errors);
    let running = Running::new(here.wrap(shell, &format!("{arguments} --http 127.0.0.1:0")));
    let mut port = None;
    eventually(PATIENCE, "it says where it serves", || {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        let rest = said.split_once("metrics and health on http://127.0.0.1:");
        let line = rest.and_then(|(_, rest)| rest.split_once('\n'));
        port = line.map(|(port, _)| port.parse().expect("a port"));
        port.is_some()
    });
    (running, port.expect("it was said"))
}

pub(crate) fn ask(port: u16, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (header, body) = text.split_once("\r\n\r\n")?;
    let code = header.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { code, header: header.to_lowercase(), body: body.to_owned() })
}

#[track_caller]
fn get(port: u16, path: &str) -> Answer {
    ask(port, &format!("GET {path}")).unwrap_or_else(|| panic!("no answer for {path}"))
}

fn ready(port: u16) -> (u16, Value) {
    let answer = get(port, "/readyz");
    (answer.code, serde_json::from_str(&answer.body).expect("JSON"))
}

fn check<'a>(body: &'a Value, name: &str) -> &'a Value {
    let checks = body["checks"].as_array().expect("a list");
    checks.iter().find(|check| check["check"] == name).expect("it is checked")
}

#[test]
fn a_receiver_serves_its_metrics_and_its_health() {
    let mut server = NatsServer::start();
    let here = Program::new(server.url());
    let (mut bob, port) = serving(&here, "recv orders --id bob");
    let health = get(port, "/healthz");
    assert_eq!(health.code, 200);
    let health: Value = serde_json::from_str(&health.body).expect("JSON");
    assert_eq!((&health["status"], &health["node"]), (&json!("serving"), &json!("bob")));
    let metrics = || {
        let answer = get(port, "/metrics");
        assert_eq!(answer.code, 200);
        assert!(
            answer.header.contains("content-type: text/plain; version=0.0.4"),
            "{}",
            answer.header
        );
        crate::exposition::read(&answer.body)
    };
    assert_eq!(metrics().value("waypost_messages_processed_total"), 0.0);
    let sent = here.feed("send orders --id alice --lines --wait", b"one\ntwo\n");
    sent.expect_code(0);
    assert_eq!([bob.line(), bob.line()], ["one", "two"]);
    eventually(PATIENCE, "it tells of them", || {
        metrics().value("waypost_messages_processed_total") == 2.0
    });

    assert_eq!(ready(port).0, 200);
    server.stop();
    eventually(PATIENCE, "it is cut off", || {
        check(&ready(port).1, "nats")["state"] == json!("waiting")
    });
    let (code, body) = ready(port);
    assert_eq!((code, &body["ready"]), (200, &json!(true)), "it lets messages wait");
    assert_eq!(check(&body, "file")["state"], "passed");

    for (request, code) in
        [("GET /nothing", 404), ("POST /metrics", 405), ("GET /../etc/passwd", 404), ("GET /", 200)]
    {
        assert_eq!(ask(port, request).expect("an answer").code, code, "{request}");
    }
    bob.signal(Signal::TERM);
    bob.ended().expect_code(0);
    assert!(ask(port, "GET /healthz").is_none(), "nobody listens any more");
}

#[test]
fn a_sender_that_waits_serves_too_and_is_ready_as_it_was_told() {
    let here = Program::new(NOWHERE);
    let run =
        |arguments| serving(&here, &format!("send orders --to nobody --lines --wait {arguments}"));
    let ((a, lenient), (b, strict)) = (run("--id a"), run("--id b --ready-when connected"));
    let mut nodes = [a, b];
    for node in &mut nodes {
        node.write(b"one\n");
        node.line();
    }
    assert_eq!(ready(lenient).0, 200);
    let (code, body) = ready(strict);
    assert_eq!((code, &body["ready"]), (503, &json!(false)));
    let reason = check(&body, "nats")["reason"].as_str().expect("a text").to_owned();
    assert!(reason.contains("messages wait"), "{reason}");
    let page = crate::exposition::read(&get(lenient, "/metrics").body);
    assert_eq!(page.value("waypost_messages_accepted_total"), 1.0);
    assert_eq!(page.get("waypost_queue_messages", &[("receiver", "nobody")]), Some(1.0));
    assert_eq!(page.value("waypost_connected"), 0.0);
    for node in nodes {
        node.signal(Signal::INT);
        node.ended().expect_code(130);
    }
}

#[test]
fn a_bad_address_is_refused_before_anything_is_begun() {
    let here = Program::new(NOWHERE);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    here.run(&format!("send c x --id a --http {taken}"))
        .says(1, &format!("cannot listen on {taken}"));
    here.run("recv c --id a --http 9464").says(2, "127.0.0.1:9464");
    here.run("recv c --id a --http localhost:x").says(2, "HOST:PORT");
    here.run("recv c --id a --http 192.0.2.1:9464").says(1, "this machine's");
    here.run("recv c --id a --ready-when connected").says(2, "--http");
    assert!(!here.path("waypost-a.db").exists(), "no file was made");
    let (quiet, port) = serving(&here, "recv c --id a");
    assert_eq!(get(port, "/healthz").code, 200);
    let elsewhere =
        TcpStream::connect_timeout(&([127, 0, 0, 2], port).into(), Duration::from_secs(5));
    assert!(elsewhere.is_err(), "it listens only where it was told");
    quiet.signal(Signal::TERM);
    quiet.ended().expect_code(0);
}

#[test]
fn silent_connections_hold_up_neither_answers_nor_the_end() {
    let here = Program::new(NOWHERE);
    let (node, port) = serving(&here, "recv c --id a");
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    let mut idle: Vec<TcpStream> = (0..80).map(connect).collect();
    for stream in &mut idle[..40] {
        stream.write_all(b"GET /healthz HTT").expect("written");
    }
    assert_eq!(get(port, "/healthz").code, 200);
    node.signal(Signal::TERM);
    node.ended().expect_code(0);
}
