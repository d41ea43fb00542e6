//! `waypost send` and `waypost recv` through a real server.

mod streams;

use std::collections::HashSet;
use std::time::Duration;

use crate::program::{NOWHERE, PATIENCE, Program, Running, field, numbered, texts};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use rustix::process::Signal;
use waypost::{HandlerError, Mode, Node};

#[test]
fn every_line_arrives_once_and_in_order_whatever_it_holds() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let reader = here.spawn("recv chat --id bob --json --from all --count 5");
    let sent =
        here.feed("send chat --lines --id alice --wait 30s", b"one\n\n\xff\xfe\ntab\there\r\nlast");
    let sent = sent.expect_code(0);
    assert_eq!(sent.err, "", "nothing is left to say");
    let got = reader.ended().expect_code(0);
    let lines = got.lines();
    assert_eq!(lines.iter().map(|line| field(line, "id")).collect::<Vec<_>>(), sent.lines());
    let plain: Vec<&str> = [0, 1, 3, 4].map(|at| lines[at]).to_vec();
    assert_eq!(texts(&plain), ["one", "", "tab\there\r", "last"]);
    assert_eq!(field(lines[2], "base64"), "//4=");

    let first: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
    for (name, value) in
        [("sender", "alice"), ("channel", "chat"), ("kind", "message"), ("priority", "normal")]
    {
        assert_eq!(first[name], value, "{first}");
    }
    assert_eq!(first["attempt"], 1);
    assert_eq!(first["headers"]["content-type"], "text/plain; charset=utf-8");
    let created = first["created"].as_str().expect("a time");
    assert!(created.starts_with("20") && created.ends_with('Z'), "{created}");
}

#[test]
fn payloads_are_printed_as_they_are_a_line_each() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let reader = here.spawn("recv chat --id bob --from all --count 3");
    here.run("send chat hello --id alice --wait 30s").expect_code(0);
    here.feed("send chat --id alice --wait 30s", b"two\nlines").expect_code(0);
    here.feed("send chat --id alice --wait 30s", b"").expect_code(0);
    assert_eq!(reader.ended().expect_code(0).text(), "hello\ntwo\nlines\n\n");
}

#[test]
fn options_of_a_message_arrive_with_it() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let carol = here.spawn("recv chat --id carol --from all --json --idle 3s");
    let bob = here.spawn("recv chat --id bob --from all --json --count 1");
    let options = "--to bob --kind order/new --priority high --ttl 1h --wait 30s";
    let sent = here.run(&format!("send chat hi --id alice --json {options}")).expect_code(0);
    let got = bob.ended().expect_code(0);
    assert_eq!(field(got.lines()[0], "id"), field(sent.lines()[0], "id"));
    assert_eq!(field(got.lines()[0], "kind"), "order/new");
    assert_eq!(field(got.lines()[0], "priority"), "high");
    assert_eq!(carol.ended().expect_code(0).text(), "", "it was for bob alone");
}

#[test]
fn recv_ends_after_idle_time_and_after_a_signal() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    assert_eq!(here.run("recv chat --id bob --idle 100ms").expect_code(0).text(), "");
    for signal in [Signal::TERM, Signal::INT] {
        let mut reader = here.spawn("recv chat --id bob --from all");
        here.run("send chat hello --id alice --wait 30s").expect_code(0);
        assert_eq!(reader.line(), "hello");
        reader.signal(signal);
        assert_eq!(reader.ended().expect_code(0).text(), "");
    }
}

#[test]
fn a_message_that_was_not_printed_is_not_acknowledged() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut reader = here.spawn("recv chat --id bob --from all");
    here.run("send chat first --id alice --wait 30s").expect_code(0);
    assert_eq!(reader.line(), "first");
    reader.close_output();
    here.run("send chat second --id alice --flush 0").expect_code(0);
    let sender = here.spawn("send chat --lines --id alice --wait 30s");
    reader.ended().expect_code(0);
    let again = here.run("recv chat --id bob --count 1").expect_code(0);
    assert_eq!(again.text(), "second\n");
    sender.ended().expect_code(0);
}

#[test]
fn messages_that_a_count_leaves_over_are_not_taken_for_refused() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut sender = here.spawn("send chat --lines --id alice --wait 30s");
    sender.write(numbered(3).as_bytes());
    for n in 0..3 {
        let got = here.run("recv chat --id bob --from all --count 1").expect_code(0);
        assert_eq!(got.text(), format!("m{n}\n"));
    }
    sender.ended().expect_code(0);
    let rows = here.run("queue --id alice --json").expect_code(0).json();
    assert_eq!((&rows[0]["acknowledged"], &rows[0]["last_failure"]), (&3.into(), &().into()));
}

#[test]
fn a_wait_tells_what_is_not_settled_and_the_next_run_carries_on() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let ended = here.run("send chat one --id alice --wait 500ms").expect_code(3);
    assert!(ended.err.contains("1 message still waits: 1 for no known reader"), "{}", ended.err);
    let ended = here.run("send chat two --id alice --flush 300ms").expect_code(0);
    assert!(ended.err.contains("2 messages still wait"), "{}", ended.err);
    let ended = here.run("send chat three --id alice --flush 0").expect_code(0);
    assert!(ended.err.contains("3 messages still wait"), "{}", ended.err);

    let reader = here.spawn("recv chat --id bob --from all --count 3");
    here.run("send --lines chat --id alice --wait 30s").expect_code(0);
    assert_eq!(reader.ended().expect_code(0).text(), "one\ntwo\nthree\n");

    let ended = here.run("send chat four --id alice --wait 500ms").expect_code(3);
    assert!(ended.err.contains("1 for bob (offline); the next run"), "{}", ended.err);
}

#[test]
fn without_a_server_messages_are_taken_and_wait() {
    let here = Program::new(NOWHERE);
    let ended = here.run("send chat hello --flush 100ms").expect_code(0);
    assert_eq!(ended.lines().len(), 1);
    assert!(ended.err.contains("still waits"), "{}", ended.err);
    assert!(ended.err.contains("not connected to NATS"), "{}", ended.err);
}

#[test]
fn a_full_queue_makes_lines_wait_and_refuses_a_single_message() {
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_QUEUE_LIMIT", "5");
    let mut sender = here.spawn("send chat --lines --id alice --wait 30s");
    sender.write(numbered(40).as_bytes());
    let ids: Vec<String> = (0..5).map(|_| sender.line()).collect();
    let reader = here.spawn("recv chat --id bob --from all --json --count 40");
    let sent = sender.ended().expect_code(0);
    assert!(sent.err.contains("standard input has to wait: 5 messages wait"), "{}", sent.err);
    let got = reader.ended().expect_code(0);
    let got_ids: Vec<String> = got.lines().iter().map(|line| field(line, "id")).collect();
    assert_eq!(got_ids, [ids, sent.lines().into_iter().map(str::to_owned).collect()].concat());
    assert_eq!(texts(&got.lines()).join("\n") + "\n", numbered(40));

    for _ in 0..5 {
        here.run("send chat more --id alice --flush 0").expect_code(0);
    }
    // Who is furthest behind is told at each start, and the limit is not reached yet.
    let near = "5 messages wait for bob, the oldest for ";
    eventually(PATIENCE, "a warning", || {
        here.run("send other x --id alice --to bo --flush 500ms").err.contains(near)
    });
    here.run("send chat more --id alice --flush 0").says(1, "5 messages wait for bob, limit 5");
}

#[test]
fn a_signal_ends_lines_and_what_was_printed_is_durable() {
    let here = Program::new(NOWHERE);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut sender = here.spawn("send chat --lines");
        sender.write(b"one\ntwo\n");
        let ids = [sender.line(), sender.line()];
        sender.signal(signal);
        // Its input stays open until it ends: the signal ends it, not the end of the input.
        let input = sender.input.take();
        let ended = sender.ended().expect_code(code);
        drop(input);
        assert!(ended.err.contains("for no known reader"), "{}", ended.err);
        let why = here.run(&format!("why {}", ids[1])).expect_code(0);
        assert!(why.text().contains("no reader of the channel is known yet"), "{}", why.text());
    }
}

#[test]
fn lines_commit_as_they_arrive() {
    let here = Program::new(NOWHERE);
    let mut sender = here.spawn("send chat --lines --flush 0");
    for n in 0..3 {
        sender.write(format!("m{n}\n").as_bytes());
        let id = sender.line();
        here.run(&format!("why {id}")).expect_code(0);
    }
    sender.ended().expect_code(0);
}

#[test]
fn a_reader_that_starts_now_leaves_out_what_was_sent_before() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    here.run("send chat before --id alice --flush 0").expect_code(0);
    let mut reader = here.spawn("recv chat --id bob --from now");
    eventually(PATIENCE, "bob is there", || here.run("topology").text().contains("bob"));
    here.run("send chat after --id alice --flush 5s").expect_code(0);
    assert_eq!(reader.line(), "after");
    reader.signal(Signal::TERM);
    assert_eq!(reader.ended().expect_code(0).text(), "");
}

#[test]
fn a_server_that_goes_and_comes_back_costs_nothing() {
    let mut server = NatsServer::start();
    let here = Program::new(server.url());
    let mut reader = here.spawn("recv chat --id bob --from all");
    let mut sender = here.spawn("send chat --lines --id alice --wait 40s");
    sender.write(b"one\n");
    assert_eq!(reader.line(), "one");
    server.kill();
    sender.write(b"two\nthree\n");
    for _ in 0..3 {
        sender.line();
    }
    server.restart();
    assert_eq!([reader.line(), reader.line()], ["two", "three"]);
    sender.ended().expect_code(0);
    reader.signal(Signal::TERM);
    assert_eq!(reader.ended().expect_code(0).text(), "");
}

/// Each has the file for a moment, and the others wait for it.
#[test]
fn parallel_one_shot_sends_are_all_stored() {
    const SENDS: usize = 20;
    let here = Program::new(NOWHERE);
    let send = |n| here.spawn(&format!("send chat m{n} --id alice --flush 0 --lock-wait 5min"));
    let sends: Vec<Running> = (0..SENDS).map(send).collect();
    let ids: HashSet<String> = sends
        .into_iter()
        .map(|send| send.ended_within(Duration::from_secs(240)).expect_code(0).text().to_owned())
        .collect();
    assert_eq!(ids.len(), SENDS);
    let queue = here.run("queue --id alice --json").expect_code(0).json();
    assert_eq!(queue[0]["pending"], SENDS);
}

/// With the default `lock_wait`: the file is given up as soon as the second says that it waits.
#[test]
fn a_send_waits_for_the_file_at_the_default_too() {
    let here = Program::new(NOWHERE);
    let mut first = here.spawn("send chat --lines --id alice --flush 0");
    first.write(b"m0\n");
    first.line();
    let second = here.spawn("send chat m1 --id alice --flush 0");
    eventually(PATIENCE, "the second says that it waits", || {
        second.said().contains("is in use by") && second.said().contains("waiting for up to 10s")
    });
    first.ended().expect_code(0);
    assert_eq!(second.ended().expect_code(0).lines().len(), 1);
    let queue = here.run("queue --id alice --json").expect_code(0).json();
    assert_eq!(queue[0]["pending"], 2);
}

#[test]
fn what_expires_is_told_at_the_sender() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let told = |ended: crate::program::Ended, what: &str| {
        assert!(ended.err.contains(what), "{what}: {}", ended.err);
    };
    let sent = here.run("send chat x --id alice --to bob --ttl 1s --wait 20s");
    told(sent, "1 message for bob expired undelivered");
    let sent = here.run("send chat x --id alice --ttl 1s --wait 20s");
    told(sent, "1 message on \"chat\" expired undelivered: no reader of it is known");
    // Also behind one that lasts, and with nobody connected.
    let away = Program::new(NOWHERE);
    away.run("send chat lasts --flush 0").expect_code(0);
    let sent = away.run("send chat x --ttl 500ms --wait 3s");
    told(sent, "1 message on \"chat\" expired undelivered");
    // Many are told together.
    let sent = here.feed(
        "send chat --lines --id alice --to eve --ttl 1s --wait 30s",
        numbered(500).as_bytes(),
    );
    let told_of: Vec<u64> = sent
        .err
        .lines()
        .filter_map(|line| {
            line.split_once(" for eve expired undelivered")?.0.split(' ').rev().nth(1)?.parse().ok()
        })
        .collect();
    assert_eq!(told_of.iter().sum::<u64>(), 500, "{}", sent.err);
    assert!(told_of.len() < 20, "{}", sent.err);
    // What expires while no node runs is told by the next run.
    here.run("send chat x --id alice --to carol --ttl 5s --flush 0").expect_code(0);
    eventually(PATIENCE, "the next run tells", || {
        let sent = here.run("send chat y --id alice --to dave --flush 100ms").expect_code(0);
        sent.err.contains("1 message for carol expired undelivered")
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dies_is_told_at_the_sender_and_ends_it_with_a_code_of_its_own() {
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_MAX_ATTEMPTS", "1");
    let reader = Node::builder().id("bob").nats([server.url()]).storage(here.path("bob.db"));
    let reader = reader.start().await.expect("started");
    let inbox = reader.join("chat", Mode::Reader).await.expect("joined");
    let refuse = |_| async { Err(HandlerError::from("not today")) };
    inbox.on_message(refuse).await.expect("attached");
    let one = here.run("send chat x --id alice --to bob --wait=30s").expect_code(5);
    let said = "bob does not take message ";
    assert!(one.err.contains(said) && one.err.contains("not today"), "{}", one.err);
    assert!(one.err.contains("1 delivery of this run will not be made: 1 dead letter for bob"));
    let why = here.run(&format!("why {} --id alice", one.text().trim())).expect_code(0);
    assert!(why.text().contains("not today"), "{}", why.text());
    // For whom it was not meant in particular, and one of several.
    let all = here.feed("send chat --lines --id alice --wait=30s", b"1\n2\n").expect_code(5);
    assert!(all.err.contains("2 deliveries of this run will not be made: 2 dead letters for bob"));
    reader.shutdown().await;
    // What died before is no loss of this run.
    let next = here.run("send chat y --id alice --to bob --flush 0").expect_code(0);
    assert!(!next.err.contains("will not be made"), "{}", next.err);
}

#[test]
fn what_is_dropped_for_newer_ones_is_told_at_the_sender() {
    let here = Program::new(NOWHERE).with("WAYPOST_QUEUE_LIMIT", "3");
    let here = here.with("WAYPOST_OVERFLOW", "drop_oldest");
    let sent = here.feed("send chat --lines --to bob --flush 100ms", b"1\n2\n3\n").expect_code(0);
    assert!(!sent.err.contains("given up"), "{}", sent.err);
    let sent = here.run("send chat 4 --to bob --flush 100ms").expect_code(0);
    assert!(sent.err.contains("1 message for bob given up: dropped"), "{}", sent.err);
    here.feed("send chat --lines --flush 100ms", b"1\n2\n3\n").expect_code(0);
    let sent = here.run("send chat 4 --flush 100ms").expect_code(0);
    assert!(sent.err.contains("1 message on \"chat\" dropped for newer ones"), "{}", sent.err);
}
