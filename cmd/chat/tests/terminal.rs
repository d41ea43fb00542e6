//! The line editor, in a terminal.

mod program;
#[path = "../../../tests/support/mod.rs"]
mod support;

use program::Chat;
use rustix::process::Signal;
use rustix::termios::{LocalModes, tcgetattr};
use support::nats_server::NatsServer;

const NO_WEB: &str = "--channel c --web 0";

#[test]
fn marks_change_in_place_and_the_line_being_typed_is_not_torn() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let nats = server.url();
    let mut alice = Chat::in_terminal(folder.path(), &nats, "alice", NO_WEB);
    alice.expect("> ");
    alice.write("hello?\r");
    alice.expect("  …   \u{1b}[2m#1\u{1b}[0m");
    let mut bob = Chat::in_terminal(folder.path(), &nats, "bob", NO_WEB);
    bob.expect("#1");
    bob.expect("hello?");
    // What bob has seen is read.
    alice.expect(" ✓✓  \u{1b}[");
    alice.write("half a li");
    alice.expect("half a li");
    bob.write("meanwhile\r");
    // The line goes, the message comes, and the line is there again.
    alice.expect_that("meanwhile, then the line", |shown| {
        shown.rsplit_once("meanwhile").is_some_and(|(_, after)| after.contains("> half a li"))
    });
    alice.write("ne\r");
    bob.expect("half a line");
    // The arrow key brings the line back.
    alice.write("\u{1b}[A!\r");
    bob.expect("half a line!");
    alice.write("/quit\r");
    assert!(alice.ended().success(), "{}", alice.errors());
}

#[test]
fn the_terminal_is_left_as_it_was_found() {
    let folder = tempfile::tempdir().expect("a folder");
    for end in ["/quit\r", "\u{4}", "\u{3}"] {
        let mut chat = Chat::in_terminal(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
        chat.expect("> ");
        chat.write(end);
        if end == "\u{3}" {
            chat.expect("press Ctrl-C once more");
            chat.write(end);
        }
        assert!(chat.ended().success(), "{}", chat.errors());
        assert_cooked(&chat);
    }
    let mut chat = Chat::in_terminal(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    chat.expect("> ");
    chat.signal(Signal::TERM);
    assert!(chat.ended().success(), "{}", chat.errors());
    assert_cooked(&chat);
}

fn assert_cooked(chat: &Chat) {
    let modes = tcgetattr(chat.terminal()).expect("a terminal").local_modes;
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
}

#[test]
fn commands_and_nodes_are_completed() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let bob = Chat::piped(folder.path(), &server.url(), "bob", NO_WEB);
    let mut alice = Chat::in_terminal(folder.path(), &server.url(), "alice", NO_WEB);
    alice.expect("bob");
    alice.write("/to b\thi there\r");
    bob.expect("alice to bob: hi there");
    alice.write("/he\t\r");
    alice.expect("/react [#N] EMOJI");
}
