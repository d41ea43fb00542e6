//! How the program begins, goes on and ends: signals, what waits, slow readers, settings, the browser.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;

use crate::program::{Chat, NO_WEB, Run, pair};
use crate::support::nats_server::NatsServer;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

#[test]
fn signals_end_it_cleanly_with_and_without_a_server() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    for nats in ["127.0.0.1:1", &server.url()] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let mut chat = Chat::piped(folder.path(), nats, "alice", NO_WEB);
            chat.expect("* NATS is ");
            chat.write("the last words\n");
            chat.expect("alice: the last words");
            chat.signal(signal);
            assert!(chat.ends().success(), "{}", chat.errors());
            assert_eq!(chat.errors(), "");
        }
    }
}

#[test]
fn a_line_of_the_greatest_length_leaves_the_next_one_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut alice = Chat::piped(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    // The longest that is read at once has so many bytes with its end.
    for bytes in 17_406..17_411 {
        alice.write(&format!("{}\nafter {bytes}.\n", "x".repeat(bytes)));
        alice.expect(&format!("alice: after {bytes}."));
    }
}

#[test]
fn a_terminal_that_takes_nothing_keeps_nobody_from_ending() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut alice = Chat::in_terminal(folder.path(), &server.url(), "alice", NO_WEB);
    alice.expect("> ");
    alice.hold();
    let mut bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    bob.expect_to_see("alice");
    // More than a terminal keeps for its reader.
    bob.write(&format!("{}\n", "x".repeat(1000)).repeat(100));
    // Under load it may be read before bob's terminal has told that it was delivered.
    bob.expect_that("all delivered or read", |shown| {
        let told = |words| shown.matches(words).count();
        told(" delivered to 1 of 1") + told(" read by everybody") >= 100
    });
    alice.signal(Signal::TERM);
    assert!(alice.ends().success(), "{}", alice.errors());
}

#[test]
fn lines_that_could_not_be_done_show_in_the_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut alice = Chat::piped(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    alice.write(&format!("one\n{}\n/nonsense\n", "x".repeat(17_000)));
    assert_eq!(alice.ended().code(), Some(1));
    let told = alice.errors();
    assert!(told.contains("1 message waits") && told.contains("2 lines were not done"), "{told}");
}

#[test]
fn streams_that_nobody_reads_cost_no_line() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    let lines = |name: &str| (0..200).map(|n| format!("{name} {n}.\n")).collect::<String>();
    let gone = || std::io::pipe().expect("a pipe").1;
    let loud = format!("{NO_WEB} -vv");
    // Its log.
    let run = Run::node(folder.path(), &server.url(), "alice", &loud);
    let mut alice = run.with_streams(Stdio::piped(), Stdio::piped(), gone());
    alice.write(&lines("log"));
    assert_eq!(alice.ended().code(), Some(0));
    bob.expect("alice: log 199.");
    // What it shows: gone, and on a full disk.
    let full = File::options().write(true).open("/dev/full").expect("a device");
    for (name, output, why) in [
        ("gone", Stdio::from(OwnedFd::from(gone())), "nobody reads it any more"),
        ("full", Stdio::from(full), "No space left on device"),
    ] {
        let run = Run::node(folder.path(), &server.url(), "alice", NO_WEB);
        let mut alice = run.with_streams(Stdio::piped(), output, Stdio::piped());
        alice.write(&lines(name));
        assert_eq!(alice.ended().code(), Some(1));
        let told = alice.errors();
        assert!(told.contains("chat: standard output: "), "{told}");
        assert!(told.contains(why) || told.contains("Broken pipe"), "{told}");
        assert!(told.contains("the input was sent but for 0 lines"), "{told}");
        bob.expect(&format!("alice: {name} 199."));
    }
}

#[test]
fn it_ends_where_nobody_reads_it_while_its_input_stays_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, output) = std::io::pipe().expect("a pipe");
    let run = Run::node(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    let mut alice = run.with_streams(Stdio::piped(), output, Stdio::piped());
    let mut shown = BufReader::new(from);
    shown.read_line(&mut String::new()).expect("a greeting");
    drop(shown);
    assert_eq!(alice.ends().code(), Some(1));
    assert!(alice.errors().contains("standard output: "), "{}", alice.errors());
}

#[test]
fn pipes_that_do_not_block_are_waited_for() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    let (input, mut to) = std::io::pipe().expect("a pipe");
    let (mut from, output) = std::io::pipe().expect("a pipe");
    for end in [input.as_fd(), output.as_fd()] {
        let flags = fcntl_getfl(end).expect("flags");
        fcntl_setfl(end, flags | OFlags::NONBLOCK).expect("set");
    }
    let run = Run::node(folder.path(), &server.url(), "bob", NO_WEB);
    let mut bob = run.with_streams(input, output, Stdio::piped());
    alice.expect_to_see("bob");
    // More than the pipe takes, before anybody reads it.
    let filler = "x".repeat(1000);
    alice.write(&(0..200).map(|n| format!("message {n}. {filler}\n")).collect::<String>());
    alice.expect_that("all delivered or read", |shown| {
        let told = [" delivered to 1 of 1", " read by everybody"];
        told.iter().map(|told| shown.matches(told).count()).sum::<usize>() >= 200
    });
    to.write_all(b"an answer\n").expect("it reads its input");
    alice.expect("bob: an answer");
    drop(to);
    let mut shown = String::new();
    from.read_to_string(&mut shown).expect("text");
    assert_eq!(bob.ends().code(), Some(0), "{}", bob.errors());
    let times = (0..200).filter(|n| shown.contains(&format!("message {n}. {filler}\n"))).count();
    assert_eq!(times, 200);
}

#[test]
fn a_hangup_that_is_ignored_at_the_start_stays_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut chat = Run::node(folder.path(), "127.0.0.1:1", "alice", NO_WEB).ignoring("HUP").piped();
    chat.write("one\n");
    chat.expect("alice: one");
    chat.signal(Signal::HUP);
    chat.write("two\n");
    chat.expect("alice: two");
    chat.signal(Signal::TERM);
    assert!(chat.ends().success(), "{}", chat.errors());
}

#[test]
fn a_misspelt_variable_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Run::new(folder.path(), NO_WEB.split(' ')).env("CHAT_NODEID", "alice");
    let mut chat = run.piped();
    assert_eq!(chat.ended().code(), Some(2));
    assert!(chat.errors().contains("CHAT_NODE_ID is"), "{}", chat.errors());
}

#[test]
fn a_wrong_command_line_is_told_with_the_code_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for wrong in ["--web-origin nonsense", "--web-token short", "--prefix a.*", "--nats http://x:1"]
    {
        let mut chat = Run::new(folder.path(), wrong.split(' ')).piped();
        assert_eq!(chat.ended().code(), Some(2), "{wrong}: {}", chat.errors());
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing was begun");
}

#[test]
fn what_waits_when_the_input_ends_is_told() {
    let (mut server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, bob) = pair(folder.path(), &server.url());
    alice.write("arrives\n");
    bob.expect("alice: arrives");
    let delivered = |text: &str| format!("* {} delivered to 1 of 1", bob.called(text));
    alice.expect(&delivered("alice: arrives"));
    server.stop();
    alice.write("one\ntwo\nthree\n");
    assert!(alice.ended().success());
    assert_eq!(
        alice.errors(),
        "3 messages wait in ./chat-alice.db; they go out with the next run\n"
    );
    let mut alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    server.restart();
    bob.expect("alice: three");
    alice.expect(&delivered("alice: three"));
    assert!(alice.ended().success());
    assert_eq!(alice.errors(), "");
}

#[test]
fn a_slow_reader_misses_nothing() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, bob) = pair(folder.path(), &server.url());
    bob.hold();
    // More than pipes, output and notices take, and less than is kept in memory.
    let filler = "x".repeat(500);
    let lines = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| format!("message {number}. {filler}\n")).collect::<String>()
    };
    alice.write(&lines(0..1800));
    let last = alice.called("alice: message 1799. ");
    alice.expect(&format!("* {last} delivered to 1 of 1"));
    bob.release();
    bob.expect("message 1799. ");
    let shown = bob.shown();
    let numbers: Vec<usize> = shown
        .lines()
        .filter_map(|line| line.split_once("alice: message ")?.1.split('.').next()?.parse().ok())
        .collect();
    assert_eq!(numbers, (0..1800).collect::<Vec<_>>());
    assert!(!shown.contains("too fast"), "{shown}");
}

#[test]
fn nodes_with_different_prefixes_do_not_see_each_other() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let in_other = format!("{NO_WEB} --prefix other");
    let mut alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    let mut carol = Chat::piped(folder.path(), &server.url(), "carol", &in_other);
    let bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    let dave = Chat::piped(folder.path(), &server.url(), "dave", &in_other);
    alice.expect_to_see("bob");
    carol.expect_to_see("dave");
    alice.write("for bob\n");
    carol.write("for dave\n");
    bob.expect("alice: for bob");
    dave.expect("carol: for dave");
    for (chat, others) in [(&alice, "carol dave"), (&bob, "carol dave"), (&carol, "alice bob")] {
        let shown = chat.shown();
        assert!(others.split(' ').all(|other| !shown.contains(other)), "{shown}");
    }
}

#[test]
fn a_credentials_file_logs_in_and_wrong_ones_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let user = nkeys::KeyPair::new_user();
    let seed = user.seed().expect("a new pair has its seed");
    // A server without operators checks no signature, and lets in who has a credentials file of a valid form.
    let jwt = "eyJhbGciOiJlZDI1NTE5In0.eyJzZWNyZXQiOjF9.c2lnbmF0dXJl";
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(folder.path().join("alice.creds"), text).expect("a file");
    let with_creds = format!("{NO_WEB} --creds alice.creds");
    let open = NatsServer::start();
    let alice = Chat::piped(folder.path(), &open.url(), "alice", &with_creds);
    alice.expect("* NATS is here");
    alice.kill();
    let closed = NatsServer::with_config("authorization { user: somebody, password: else }");
    let alice = Chat::piped(folder.path(), &closed.url(), "alice", &with_creds);
    alice.expect("* NATS is away (");
    assert!(!format!("{}{}", alice.shown(), alice.errors()).contains(&seed));
    alice.kill();
    let nowhere = format!("{NO_WEB} --creds nowhere.creds");
    let mut alice = Chat::piped(folder.path(), &open.url(), "alice", &nowhere);
    assert_eq!(alice.ended().code(), Some(1));
    assert!(alice.errors().contains("nowhere.creds"), "{}", alice.errors());
}

#[test]
fn open_opens_the_page_in_the_browser() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a folder");
    let browsers = folder.path().join("bin");
    std::fs::create_dir(&browsers).expect("a folder");
    for name in ["xdg-open", "open"] {
        let browser = browsers.join(name);
        std::fs::write(&browser, "#!/bin/sh\necho \"$*\" > opened.new && mv opened.new opened\n")
            .expect("a file");
        std::fs::set_permissions(&browser, PermissionsExt::from_mode(0o755)).expect("a file");
    }
    let path = format!("{}:{}", browsers.display(), std::env::var("PATH").unwrap_or_default());
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let port = port.expect("a free port").port();
    let more = format!("--channel c --web {port} --open --web-token Sw0rdfish-83-Sw0rdfish");
    let chat = Run::node(folder.path(), "127.0.0.1:1", "alice", &more).env("PATH", &path).piped();
    let opened = folder.path().join("opened");
    crate::support::eventually(crate::program::PATIENCE, "a browser is opened", || opened.exists());
    let address = std::fs::read_to_string(opened).expect("a file");
    assert_eq!(address, format!("http://127.0.0.1:{port}/?token=Sw0rdfish-83-Sw0rdfish\n"));
    chat.expect(&format!("* web page: http://127.0.0.1:{port}/\n"));
    chat.kill();
    // One that cannot be started is no reason to end.
    let chat =
        Run::node(folder.path(), "127.0.0.1:1", "alice", &more).env("PATH", "/nowhere").piped();
    chat.expect("* web page: ");
}

#[test]
fn a_second_node_on_the_same_file_is_told_so() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let first = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    first.expect("/help");
    let mut second = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    assert_eq!(second.ended().code(), Some(1));
    assert!(second.errors().contains("the node does not start"), "{}", second.errors());
}
