//! Conversations on pipes, through a real server.

use crate::program::{Chat, NO_WEB, pair};
use crate::support::nats_server::NatsServer;
use rustix::process::Signal;

#[test]
fn two_nodes_converse_edit_delete_and_react() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, mut bob) = pair(folder.path(), &server.url());
    alice.write("hello, bob\n");
    let name = bob.called("alice: hello, bob");
    assert_eq!(alice.called("alice: hello, bob"), name, "the same on every screen");
    alice.expect(&format!("* {name} delivered to 1 of 1"));
    bob.write(&format!("hello\n/react {} 👍\n", name.to_lowercase()));
    assert_eq!(alice.called("bob: hello"), bob.called("bob: hello"));
    alice.expect("alice: hello, bob [👍 1]");
    alice.write(&format!("/edit {name} hello, Bob!\n"));
    bob.expect(&format!("{name} alice: hello, Bob! (edited) [👍 1]"));
    bob.write(&format!("/edit {name} mine now\n"));
    bob.expect("* not done: only alice can edit that");
    alice.write("/delete\n");
    bob.expect(&format!("* {name} was deleted by alice"));
    bob.write(&format!("/react {name} 👍\n"));
    bob.expect("* not done: it was deleted");
    alice.write("/nonsense\n/delete #99\n");
    alice.expect("* there is no such command");
    alice.expect("* not done: no message was shown as #99");
    alice.write("/quit\n");
    assert!(alice.ended().success(), "{}", alice.errors());
    bob.expect("* alice has gone");
}

#[test]
fn a_direct_message_is_for_one_node_alone_and_so_are_its_changes() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, mut bob) = pair(folder.path(), &server.url());
    let carol = Chat::piped(folder.path(), &server.url(), "carol", NO_WEB);
    alice.expect_to_see("carol");
    carol.expect_to_see("alice");
    alice.write("/to bob a secret\n/edit a better secret\n/to alice me\n");
    bob.expect("alice to bob: a better secret (edited)");
    alice.expect("that is this node itself");
    bob.write("/react 🤫\n");
    alice.expect("[🤫 1]");
    alice.write("for all\n");
    carol.expect("alice: for all");
    assert!(!carol.shown().contains("secret"), "{}", carol.shown());
}

#[test]
fn messages_of_an_outage_wait_and_come_once() {
    let (mut server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, mut bob) = pair(folder.path(), &server.url());
    server.stop();
    alice.expect("* NATS is away");
    bob.expect("* NATS is away");
    for number in 0..20 {
        alice.write(&format!("from alice {number}.\n"));
        bob.write(&format!("from bob {number}.\n"));
    }
    alice.expect("alice: from alice 19.");
    bob.expect("bob: from bob 19.");
    server.restart();
    alice.expect("20 messages wait");
    alice.expect("bob: from bob 19.");
    bob.expect("alice: from alice 19.");
    for (chat, other) in [(&alice, "bob"), (&bob, "alice")] {
        for number in 0..20 {
            let text = format!("{other}: from {other} {number}.");
            assert_eq!(chat.shown().matches(&text).count(), 1, "{}", chat.shown());
        }
    }
    let last = alice.called("alice: from alice 19.");
    alice.expect(&format!("* {last} delivered to 1 of 1"));
}

#[test]
fn a_restart_shows_the_history_with_all_that_was_changed() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, mut bob) = pair(folder.path(), &server.url());
    alice.write("one\ntwo\nthree\n");
    bob.expect("alice: three");
    let [one, two, three] =
        ["one", "two", "three"].map(|text| bob.called(&format!("alice: {text}")));
    bob.write(&format!("/react {two} 👍\nfour\n"));
    alice.expect("bob: four");
    alice.write(&format!("/edit {one} ONE\n/delete {three}\n"));
    bob.expect("was deleted");
    alice.expect(&format!("* {three} was deleted"));
    // Whatever was shown is on the disk.
    bob.kill();
    let bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    bob.expect("bob: four");
    for (name, line) in
        [(&one, "alice: ONE (edited)"), (&two, "alice: two [👍 1]"), (&three, "alice: (deleted)")]
    {
        bob.expect(&format!("{name} {line}"));
    }
    alice.signal(Signal::TERM);
    assert!(alice.ended().success(), "{}", alice.errors());
    let mut alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    alice.expect(&format!("✓   {one} alice: ONE (edited)"));
    alice.write("/history 2\n");
    alice.expect_that("history", |shown| shown.matches("bob: four").count() == 2);
}

#[test]
fn messages_that_wait_when_the_node_is_killed_are_delivered_by_its_next_run() {
    let (mut server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, bob) = pair(folder.path(), &server.url());
    server.stop();
    alice.expect("* NATS is away");
    alice.write("still there?\n");
    let name = alice.called("alice: still there?");
    alice.kill();
    let alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    assert_eq!(alice.called("alice: still there?"), name);
    server.restart();
    assert_eq!(bob.called("alice: still there?"), name);
    alice.expect(&format!("* {name} delivered to 1 of 1"));
    assert_eq!(bob.shown().matches("still there?").count(), 1);
}

#[test]
fn reports_tell_who_is_there_and_what_was_sent() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, bob) = pair(folder.path(), &server.url());
    alice.write("hello\n/nodes\n/topology\n/master\n/stats\n/help\n/file Cargo.toml\n/file .\n");
    bob.expect("alice: hello");
    alice.expect("* bob  online, readwrite");
    alice.expect("*   bob  reads and writes, online");
    alice.expect("* nobody leads");
    alice.expect("1 accepted = ");
    alice.expect("/react [#ID] EMOJI");
    alice.expect("not done: Cargo.toml can't be read");
    alice.expect("not done: . is no file");
    std::fs::write(folder.path().join("plan.pdf"), vec![0; 1500]).expect("a file");
    alice.write("/file plan.pdf\n");
    bob.expect("alice: file plan.pdf (1.5 kB, application/pdf)");
}

#[test]
fn a_master_is_elected_where_that_is_asked_for() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut alice =
        Chat::piped(folder.path(), &server.url(), "alice", "--web 0 --election visible");
    let deadline = std::time::Instant::now() + crate::program::PATIENCE;
    while !alice.shown().contains("* this node leads, in term") {
        assert!(std::time::Instant::now() < deadline, "{}", alice.shown());
        let asked = alice.shown().matches("leads").count();
        alice.write("/master\n");
        alice.expect_that("an answer", |shown| shown.matches("leads").count() > asked);
    }
}

#[test]
fn readers_and_writers_keep_to_their_part() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let nats = server.url();
    let mut reader = Chat::piped(folder.path(), &nats, "r", "--channel c --web 0 --mode reader");
    let mut writer = Chat::piped(folder.path(), &nats, "w", "--channel c --web 0 --mode writer");
    reader.expect_to_see("w");
    reader.write("may I?\n");
    reader.expect("* not done: this node only reads");
    writer.write("news\n");
    reader.expect("w: news");
    // Its input ends: it delivers, and ends.
    assert!(writer.ended().success(), "{}", writer.errors());
}

#[test]
fn hostile_text_is_shown_as_text_and_too_much_of_it_is_refused() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (mut alice, bob) = pair(folder.path(), &server.url());
    alice.write("<img src=x onerror=alert(1)> \u{1b}[2J\u{1b}]0;title\u{7} \u{202e}x\n");
    bob.expect("<img src=x onerror=alert(1)> ␛[2J␛]0;title␇ \u{fffd}x");
    alice.write(&"x".repeat(1_000_000));
    alice.write("\nafter it\n");
    alice.expect("* not done: the line has 1000001 bytes, and a text may have 16384");
    bob.expect("alice: after it");
    assert!(!bob.shown().contains("xxxx"));
}

#[test]
fn what_is_refused_is_refused_by_its_cause() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut alice = Chat::piped(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    alice.write(&format!("{}\n", "x".repeat(16_384)));
    let name = alice.called("alice: xxx");
    alice.write(&format!("{}\n", "x".repeat(16_385)));
    alice.expect("* not done: the text has 16385 bytes, and 16384 are allowed");
    alice.write(&format!("/edit {}\n", "x".repeat(17_000)));
    alice.expect("* not done: the text has 17000 bytes, and 16384 are allowed");
    alice.write(&format!("/react {name} two words\n"));
    alice.expect(
        "* not done: a reaction is an emoji or a short word without spaces, not \"two words\"",
    );
    let name = "back\\slash";
    std::fs::write(folder.path().join(name), "").expect("a file");
    alice.write(&format!("/file {name}\n"));
    alice.expect("* not done: the file's name \"back\\\\slash\" is too long to be told, or holds a backslash");
    alice.write("/file nowhere.txt\n");
    alice.expect("* not done: nowhere.txt can't be read: No such file");
}

#[test]
fn a_message_to_a_node_that_nobody_knows_waits_for_it() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut alice = Chat::piped(folder.path(), &server.url(), "alice", NO_WEB);
    alice.write("/to zoe welcome\n");
    alice.expect("alice to zoe: welcome");
    alice.expect("* no node zoe is known yet: the message waits for it");
    // In the same words as everywhere, and so is its end.
    alice
        .expect("* 1 message waits for zoe, which was never heard: start it, and compare its name");
    let zoe = Chat::piped(folder.path(), &server.url(), "zoe", NO_WEB);
    zoe.expect("alice to zoe: welcome");
    alice.expect("* zoe is online");
    alice.write("/to zoe again\n");
    zoe.expect("alice to zoe: again");
    assert_eq!(alice.shown().matches("is known yet").count(), 1);
}
