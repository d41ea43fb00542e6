//! Standard streams that nobody reads, that take nothing, or that do not block.

use std::fs::{self, File};
use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use crate::program::{Ended, NOWHERE, PATIENCE, Program, Running, finish, numbered};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;

/// Runs a shell with this script, in which `$0` is the program.
fn shell(here: &Program, script: &str, input: &[u8]) -> Ended {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_waypost")]);
    finish(here.wrap(shell, ""), input)
}

/// Sets a pipe's end to not blocking, as whoever shares it can do at any time.
fn not_blocking(end: &impl AsFd) {
    let flags = fcntl_getfl(end).expect("flags");
    fcntl_setfl(end, flags | OFlags::NONBLOCK).expect("set");
}

/// Starts it, and keeps none of its ends of pipes.
fn start(mut command: Command, streams: impl FnOnce(&mut Command) -> &mut Command) -> Child {
    streams(&mut command).spawn().expect("the command starts")
}

fn ends(child: &mut Child) -> ExitStatus {
    let mut ended = None;
    eventually(PATIENCE, "it ends", || {
        ended = child.try_wait().expect("our own child");
        ended.is_some()
    });
    ended.expect("it ended")
}

fn pending(here: &Program) -> u64 {
    let rows = here.run("queue --json --id alice").expect_code(0).json();
    rows[0]["pending"].as_u64().expect("a number")
}

#[test]
fn a_reader_of_standard_error_that_goes_away_costs_nothing() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    for (level, count) in [("-vv", 5), ("", 10)] {
        let (gone, errors) = pipe().expect("a pipe");
        drop(gone);
        let line = format!("send chat --lines --id alice --to bob --flush 0 {level}");
        let mut command = here.command(&line);
        let out = File::create(here.path("ids")).expect("a file");
        command.stdin(Stdio::piped()).stdout(out).stderr(errors);
        let mut sender = command.spawn().expect("the command starts");
        let mut input = sender.stdin.take().expect("a pipe");
        input.write_all(numbered(5).as_bytes()).expect("it reads its input");
        drop(input);
        assert_eq!(ends(&mut sender).code(), Some(0));
        let ids = fs::read_to_string(here.path("ids")).expect("printed");
        assert_eq!((ids.lines().count(), pending(&here)), (5, count));
    }
    let (gone, errors) = pipe().expect("a pipe");
    drop(gone);
    let mut command = here.command("recv chat --id bob -vv --count 10");
    let out = File::create(here.path("out")).expect("a file");
    let mut reader = command.stdout(out).stderr(errors).spawn().expect("the command starts");
    here.run("send chat --lines --id alice --to bob --wait 30s").expect_code(0);
    assert_eq!(ends(&mut reader).code(), Some(0));
    let got = fs::read_to_string(here.path("out")).expect("printed");
    assert_eq!(got, numbered(5).repeat(2));
    // What fails has its exit code all the same.
    assert_eq!(shell(&here, "\"$0\" why 123 2>&- >&-", b"").code, Some(2));
}

#[test]
fn log_lines_do_not_wait_for_whoever_reads_them() {
    let here = Program::new(NOWHERE);
    let (held, errors) = pipe().expect("a pipe");
    // Full already, with a reader that reads nothing.
    not_blocking(&errors);
    let mut full = errors.try_clone().expect("a handle");
    while full.write(&[b'x'; 4096]).is_ok() {}
    drop(full);
    let mut command = here.command("send chat --lines --id alice --flush 0 -vvv");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let sender = command.spawn().expect("the command starts");
    drop(command);
    let mut sender = Feeding::new(sender, numbered(1_000).into_bytes());
    assert_eq!(sender.out().lines().count(), 1_000);
    assert_eq!(ends(&mut sender.child).code(), Some(0));
    drop(held);
    assert_eq!(pending(&here), 1_000);
}

/// A run whose input is written beside the test.
struct Feeding {
    child: Child,
}

impl Feeding {
    fn new(mut child: Child, bytes: Vec<u8>) -> Self {
        let mut input = child.stdin.take().expect("a pipe");
        // It may end without reading all of it.
        std::thread::spawn(move || drop(input.write_all(&bytes)));
        Self { child }
    }

    fn out(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
        text
    }
}

#[test]
fn every_line_is_sent_when_nobody_takes_the_ids_any_more() {
    let here = Program::new(NOWHERE).with("WAYPOST_QUEUE_LIMIT", "100000");
    let lines = numbered(20_000);
    let script =
        "{ \"$0\" send chat --id alice --lines --flush 0 2>err; echo $? >code; } | head -1";
    let ended = shell(&here, script, lines.as_bytes()).expect_code(0);
    assert_eq!(ended.lines().len(), 1);
    let (err, code) = (here.path("err"), here.path("code"));
    let (err, code) = (fs::read_to_string(err).expect("said"), fs::read_to_string(code));
    assert_eq!(code.expect("a code"), "1\n", "{err}");
    assert!(err.contains("20000 messages committed, the ids of the first "), "{err}");
    assert!(err.contains("Broken pipe"), "{err}");
    assert_eq!(pending(&here), 20_000);

    let full = |more: &str, input: &[u8], said: &str, total: u64| {
        let script = format!("\"$0\" send chat --id alice --flush 0 {more} >/dev/full");
        let ended = shell(&here, &script, input).says(1, said);
        assert!(ended.err.contains("No space left on device"), "{}", ended.err);
        assert_eq!(pending(&here), total);
    };
    full("--lines", b"a\nb\nc\n", "3 messages committed, the ids of the first 0", 20_003);
    full("--lines --json", b"a\n", "1 message committed, the ids of the first 0", 20_004);
    full("hello", b"", "1 message committed, the ids of the first 0", 20_005);
    // Other results are not there at all then, and that is an error.
    shell(&here, "\"$0\" queue --id alice >/dev/full", b"").says(1, "standard output: No space");
    shell(&here, "\"$0\" send --help >/dev/full", b"").says(1, "standard output: No space");
    shell(&here, "\"$0\" send --help | head -1", b"").expect_code(0);
}

#[test]
fn a_line_that_is_too_long_tells_which_ids_were_printed() {
    let here = Program::new(NOWHERE).with("WAYPOST_MAX_PAYLOAD_BYTES", "4");
    let script = "\"$0\" send chat --id alice --lines --flush 0 >/dev/full";
    let ended = shell(&here, script, b"one\n12345\n").says(1, "line 2 has 5 bytes");
    assert!(ended.err.contains("the ids of the first 0 printed; the rest"), "{}", ended.err);
}

#[test]
fn pipes_that_do_not_block_are_waited_for_in_every_direction() {
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_MAX_PAYLOAD_BYTES", "900000");
    let lines: Vec<String> =
        (0..3_u8).map(|n| char::from(b'a' + n).to_string().repeat(400_000)).collect();
    let text = lines.join("\n") + "\n";
    // Input that comes later, from a pipe that says "not now" until then.
    let (input, mut to) = pipe().expect("a pipe");
    not_blocking(&input);
    let sender = here.command("send chat --lines --id alice --to bob --wait 30s");
    let mut sender = start(sender, |sender| sender.stdin(input).stdout(Stdio::piped()));
    let (mut from, output) = pipe().expect("a pipe");
    not_blocking(&output);
    let reader = here.command("recv chat --id bob --count 3");
    let mut reader = start(reader, |reader| reader.stdout(output));
    eventually(PATIENCE, "both are there", || {
        here.run("topology --json").text().contains("\"bob\"")
    });
    to.write_all(text.as_bytes()).expect("it reads its input");
    drop(to);
    // Much more than the pipe takes at once.
    let mut got = String::new();
    from.read_to_string(&mut got).expect("text");
    assert!(got == text, "{} of {} bytes", got.len(), text.len());
    assert_eq!(ends(&mut reader).code(), Some(0));
    assert_eq!(ends(&mut sender).code(), Some(0));
}

#[test]
fn a_line_that_an_earlier_run_left_unfinished_is_ended_first() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let wait = || here.run("send chat --lines --id alice --to bob --wait 30s").expect_code(0);
    here.run("send chat one --id alice --to bob --flush 0").expect_code(0);
    fs::write(here.path("out"), "whole\nhalf").expect("a file");
    let appended = |more: &str| {
        let mut shell = Command::new("sh");
        let script = format!("\"$0\" recv chat --id bob --count 1 {more}");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_waypost")]);
        let reader = Running::new(here.wrap(shell, ""));
        wait();
        reader.ended().expect_code(0);
        fs::read_to_string(here.path("out")).expect("text")
    };
    assert_eq!(appended(">> out"), "whole\nhalf\none\n");
    here.run("send chat two --id alice --to bob --flush 0").expect_code(0);
    assert_eq!(appended(">> out"), "whole\nhalf\none\ntwo\n");
    // What the same script has written before it is no torn line.
    here.run("send chat three --id alice --to bob --flush 0").expect_code(0);
    fs::write(here.path("out"), "got: ").expect("a file");
    assert_eq!(appended("1<> out"), "three\n");
    fs::write(here.path("out"), "half").expect("a file");
    let script = "\"$0\" send chat --lines --id alice --flush 0 >> out";
    shell(&here, script, b"four\n").expect_code(0);
    let ids = fs::read_to_string(here.path("out")).expect("text");
    assert!(ids.starts_with("half\n01") && ids.lines().count() == 2, "{ids}");
}

#[test]
fn recv_notices_that_its_reader_has_gone_while_no_message_comes() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut reader = here.spawn("recv chat --id bob");
    eventually(PATIENCE, "bob is there", || here.run("topology").text().contains("bob"));
    reader.close_output();
    let ended = reader.ended().expect_code(0);
    assert_eq!(ended.err, "");
    assert!(!here.path("waypost-bob.db-lock").exists(), "the file is free");

    // A pipe that has a reader still, a file and a closed one are no reason to end.
    for script in ["| cat", "> out", ">&-", "> /dev/null"] {
        let mut shell = Command::new("sh");
        let script = format!("\"$0\" recv chat --id bob --count 1 {script}");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_waypost")]);
        let reader = Running::new(here.wrap(shell, ""));
        here.run("send chat hello --id alice --to bob --wait 30s").expect_code(0);
        reader.ended().expect_code(0);
    }
}

#[test]
fn a_signal_lets_a_line_end_that_its_reader_is_taking() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let text = "x".repeat(500_000);
    let (mut from, output) = pipe().expect("a pipe");
    let reader = here.command("recv chat --id bob");
    let mut reader = start(reader, |reader| reader.stdout(output));
    let sent = here.feed("send chat --id alice --to bob --flush 300ms", text.as_bytes());
    sent.expect_code(0);
    let mut got = vec![0; 1000];
    from.read_exact(&mut got).expect("the line has begun");
    rustix::process::kill_process(rustix::process::Pid::from_child(&reader), Signal::TERM)
        .expect("it runs");
    from.read_to_end(&mut got).expect("the rest of it");
    assert_eq!(got.len(), text.len() + 1, "a whole line");
    assert_eq!(ends(&mut reader).code(), Some(0));
    // What was printed was noted as well, and does not come again.
    let reader = here.spawn("recv chat --id bob --idle 3s");
    here.run("send chat --lines --id alice --wait 30s").expect_code(0);
    assert_eq!(reader.ended().expect_code(0).text(), "");
}

#[test]
fn what_expires_while_send_waits_has_an_exit_code_of_its_own() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    // One of an earlier run does not count.
    here.run("send chat old --id alice --to bob --ttl 200ms --flush 0").expect_code(0);
    let ended = here.run("send chat new --id alice --to carol --wait=1500ms").expect_code(3);
    assert!(!ended.err.contains("will not be made"), "{}", ended.err);

    let ended = here.run("send chat x --id alice --to bob --ttl 300ms --wait=1500ms");
    let ended = ended.says(5, "1 delivery of this run will not be made: 1 expired for bob");
    assert!(ended.err.contains("1 message still waits: 1 for carol"), "{}", ended.err);

    let lines = "send chat --lines --id dave --ttl 300ms --wait=1500ms";
    here.feed(lines, b"a\nb\nc\n")
        .says(5, "3 deliveries of this run will not be made: 3 expired for no known reader");
    // Also where it is only given some time to leave.
    here.run("send chat x --id hal --to bob --ttl 300ms --flush 30s")
        .says(5, "1 delivery of this run will not be made: 1 expired for bob");
    // It is not waited for any longer than that.
    here.run("send new x --id gus --ttl 300ms --wait=1h")
        .says(5, "1 delivery of this run will not be made: 1 expired for no known reader");
    // One reader gets them, another that is known does not.
    let erin = here.spawn("recv away --id erin --from all --count 1");
    here.run("send away first --id dave --wait=30s");
    erin.ended().expect_code(0);
    let reader = here.spawn("recv away --id frank --from all --count 3");
    let ended = here.feed("send away --lines --id dave --ttl 3s --wait=20s", b"a\nb\n");
    ended.says(5, "2 deliveries of this run will not be made: 2 expired for erin");
    reader.ended().expect_code(0);
}

#[test]
fn what_is_lost_is_counted_right_where_settled_messages_are_deleted_meanwhile() {
    const LINES: usize = 50;
    let server = NatsServer::start();
    let here = Program::new(server.url()).with("WAYPOST_RETENTION", "1s");
    let here = here.with("WAYPOST_CLEANUP_INTERVAL", "1s");
    here.run("send chat old --id alice --to bob --ttl 5s --flush 0").expect_code(0);
    let reader = here.spawn(&format!("recv chat --id carol --from all --count {LINES}"));
    // All of this run arrives and is deleted, and meanwhile one of an earlier run expires.
    let mut sender = here.spawn("send chat --lines --id alice --to carol --wait 60s");
    sender.write(numbered(LINES).as_bytes());
    let last = (0..LINES).map(|_| sender.line()).last().expect("an id");
    reader.ended().expect_code(0);
    eventually(PATIENCE, "its messages are deleted", || {
        here.run(&format!("why {last} --id alice")).err.contains("knows nothing of message")
    });
    eventually(PATIENCE, "the old one has expired", || {
        let rows = here.run("queue --id alice --json").expect_code(0).json();
        let mut rows = rows.as_array().expect("rows").iter();
        rows.any(|row| row["receiver"] == "bob" && row["expired"] == 1)
    });
    let ended = sender.ended().expect_code(0);
    assert!(!ended.err.contains("will not be made"), "{}", ended.err);
}
