//! The line editor, in a terminal.

use crate::program::{Chat, NO_WEB, Run};
use crate::support::nats_server::NatsServer;
use rustix::process::Signal;
use rustix::termios::{LocalModes, tcgetattr};

#[test]
fn marks_change_in_place_and_the_line_being_typed_is_not_torn() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let nats = server.url();
    let mut alice = Chat::in_terminal(folder.path(), &nats, "alice", NO_WEB);
    alice.expect("> ");
    alice.write("hello?\r");
    alice.expect("  …   \u{1b}[2m#");
    let name = alice.called("alice: hello?");
    let mut bob = Chat::in_terminal(folder.path(), &nats, "bob", NO_WEB);
    assert_eq!(bob.called("alice: hello?"), name);
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
}

#[test]
fn signals_from_outside_end_it_cleanly() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    for (signal, nats) in [
        (Signal::INT, "127.0.0.1:1"),
        (Signal::INT, server.url().as_str()),
        (Signal::TERM, server.url().as_str()),
        (Signal::HUP, server.url().as_str()),
    ] {
        let mut chat = Chat::in_terminal(folder.path(), nats, "alice", NO_WEB);
        chat.expect_rows("a prompt", |rows| rows.last().is_some_and(|last| last == ">"));
        chat.signal(signal);
        assert!(chat.ends().success(), "{}", chat.errors());
        assert_cooked(&chat);
        assert_eq!(chat.errors(), "");
        chat.expect_rows("no prompt", |rows| rows.last().is_some_and(|last| last != ">"));
    }
    let mut chat = Chat::in_terminal(folder.path(), &server.url(), "alice", NO_WEB);
    chat.expect("> ");
    chat.write("half a li");
    chat.expect("half a li");
    chat.signal(Signal::TERM);
    assert!(chat.ends().success(), "{}", chat.errors());
    // What was typed stays, and the shell's prompt is to come below it.
    assert_eq!(chat.rows().last().map(String::as_str), Some("> half a li"));
    assert_eq!(chat.column(), 0);
}

#[test]
fn it_ends_cleanly_when_the_terminal_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut chat = Chat::in_terminal(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    chat.expect("> ");
    chat.close_terminal();
    assert!(chat.ends().success(), "{}", chat.errors());
}

#[test]
fn a_suspended_program_gives_the_terminal_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Run::node(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    let mut chat = run.in_own_group().in_terminal();
    chat.expect("> ");
    chat.write("half a li\u{1a}");
    chat.is_suspended();
    assert_cooked(&chat);
    chat.signal(Signal::CONT);
    chat.write("ne\r");
    chat.expect("half a line");
    chat.expect(" \u{1b}[2m#");
    chat.called("alice: half a line");
    chat.write("/quit\r");
    assert!(chat.ends().success(), "{}", chat.errors());
}

#[test]
fn many_lines_typed_at_once_are_all_done_while_much_is_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Run::node(folder.path(), "127.0.0.1:1", "alice", NO_WEB).size(80, 3000);
    let mut chat = run.in_terminal();
    chat.expect("> ");
    let lines = (0..400).map(|number| match number % 20 {
        19 => "/history 1000\r".to_owned(),
        _ => format!("line {number}.\r"),
    });
    chat.write(&lines.chain(["/quit\r".to_owned()]).collect::<String>());
    assert!(chat.ends().success(), "{}", chat.errors());
    let rows = chat.rows();
    let clear = |row: &&String| {
        let message = row.as_bytes().get(2) == Some(&b':') && row.contains("alice: line ");
        !message && !row.starts_with("* ") && !row.starts_with("-- ") && *row != "> /history 1000"
    };
    assert_eq!(rows.iter().find(clear), Some(&"> /quit".to_owned()), "torn");
    let newest = rows.iter().rfind(|row| row.contains("alice: line ")).expect("messages");
    assert!(newest.ends_with(" alice: line 398."), "{newest}");
}

#[test]
fn a_byte_that_is_no_text_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut chat = Chat::in_terminal(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    chat.expect("> ");
    chat.write("half a l");
    chat.expect("half a l");
    chat.write_bytes(&[0xff]);
    chat.expect("what is no UTF-8 text was left out");
    chat.write("ine\r");
    chat.expect_rows("the line", |rows| {
        rows.iter().filter(|row| row.ends_with(" alice: half a line")).count() == 1
            && rows.last().is_some_and(|last| last == ">")
            && !rows.iter().any(|row| row.starts_with("> "))
    });
    chat.write("/quit\r");
    assert!(chat.ends().success(), "{}", chat.errors());
}

#[test]
fn log_lines_do_not_tear_the_line_being_typed() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = Run::node(folder.path(), "127.0.0.1:1", "alice", "--channel c --web 0 -vv");
    let mut chat = run.with_errors_in_terminal().size(200, 200).in_terminal();
    chat.expect("> ");
    chat.write("half a li");
    let is_log =
        |row: &String| row.contains(" DEBUG ") || row.contains(" INFO ") || row.contains(" WARN ");
    let count = |rows: &[String]| rows.iter().filter(|row| is_log(row)).count();
    chat.expect("half a li");
    let before = count(&chat.rows());
    chat.expect_rows("more log lines", |rows| count(rows) >= before + 3);
    chat.expect_rows("the line below them", |rows| {
        rows.last().is_some_and(|last| last == "> half a li")
            && rows.iter().filter(|row| row.contains("half a li")).count() == 1
    });
}

#[test]
fn marks_are_told_in_words_where_their_place_is_not_known() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let nats = server.url();
    let mut alice = Chat::in_terminal(folder.path(), &nats, "alice", NO_WEB);
    let bob = Chat::piped(folder.path(), &nats, "bob", NO_WEB);
    alice.expect("is here");
    bob.kill();
    // Ctrl-L clears the screen; the second Tab shows a list of commands; Ctrl-C leaves a line that fills two rows.
    let wide = "👩‍👩‍👧‍👦".repeat(30);
    for (number, moved) in ["\u{c}", "/\t\t", &format!("{wide}\u{3}")].into_iter().enumerate() {
        alice.write(&format!("hello {number}?\r"));
        let name = alice.called(&format!("alice: hello {number}?"));
        alice.expect_rows("a prompt", |rows| rows.last().is_some_and(|last| last == ">"));
        alice.write(moved);
        match number {
            0 => alice.expect_rows("nothing", |rows| rows == [">"]),
            1 => alice.expect("/topology"),
            _ => alice.expect("press Ctrl-C once more"),
        }
        let bob = Chat::piped(folder.path(), &nats, "bob", NO_WEB);
        alice.expect(&format!("{name} delivered to 1 of 1"));
        let rows = alice.rows();
        let painted = |row: &&String| row.contains('✓') && !row.contains(": hello ");
        assert_eq!(rows.iter().find(painted), None);
        bob.kill();
        if number == 1 {
            alice.write("\u{15}");
        }
    }
}

#[test]
fn that_a_message_out_of_reach_is_read_is_told_once() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let nats = server.url();
    let mut alice = Chat::in_terminal(folder.path(), &nats, "alice", NO_WEB);
    let bob = Chat::in_terminal(folder.path(), &nats, "bob", NO_WEB);
    bob.expect("is here");
    alice.expect("is here");
    // More than the terminal has rows, so that the first ones cannot be painted over any more.
    let mut names = Vec::new();
    for number in 0..30 {
        alice.write(&format!("number {number}\r"));
        names.push(alice.called(&format!("alice: number {number}")));
        bob.expect(&format!(": number {number}"));
    }
    alice.write("the last\r");
    alice.expect_rows("it is read", |rows| {
        rows.iter().any(|row| row.contains("the last") && row.contains("✓✓"))
    });
    let told = alice.shown();
    for name in names {
        let times = told.matches(&format!("{name} read by everybody")).count();
        assert!(times <= 1, "{name} is told {times} times:\n{told}");
    }
}

#[test]
fn narrow_terminals_and_new_sizes_leave_no_torn_line() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let nats = server.url();
    let mut bob = Chat::piped(folder.path(), &nats, "bob", NO_WEB);
    // As the emulator here, xterm leaves long lines as they are.
    let mut alice = Run::node(folder.path(), &nats, "alice", NO_WEB)
        .env("XTERM_VERSION", "XTerm(390)")
        .size(40, 24)
        .in_terminal();
    alice.expect("is here");
    let line = "a line of more than forty columns, which fills two rows";
    alice.write(line);
    let typed = |columns: usize| {
        let text: Vec<_> = format!("> {line}").chars().collect();
        text.chunks(columns)
            .map(|row| row.iter().collect::<String>().trim_end().to_owned())
            .collect::<Vec<_>>()
    };
    alice.expect_rows("two rows", |rows| rows.ends_with(&typed(40)));
    bob.write("meanwhile\n");
    alice.expect_rows("above them", |rows| {
        rows.ends_with(&typed(40)) && rows.iter().any(|row| row.ends_with("bob: meanwhile"))
    });
    alice.write("\r");
    bob.expect(&format!("alice: {line}"));
    alice.expect_rows("a prompt, and no rest of the line", |rows| {
        rows.last().is_some_and(|last| last == ">")
            && !rows.iter().any(|row| row.starts_with("> a"))
    });
    // The mark is painted in the first row of two.
    alice.expect_rows("a mark", |rows| {
        rows.iter().any(|row| row.contains(" ✓   #") && row.contains(" alice: a line"))
    });

    alice.resize(60, 24);
    alice.write(line);
    alice.expect_rows("one row", |rows| rows.ends_with(&typed(60)));
    alice.resize(34, 24);
    alice.expect_rows("two rows", |rows| rows.ends_with(&typed(34)));
    bob.write("and again\n");
    alice.expect_rows("above them", |rows| {
        rows.ends_with(&typed(34)) && rows.iter().any(|row| row.ends_with("bob: and again"))
    });
    assert_eq!(alice.rows().iter().filter(|row| row.starts_with("> ")).count(), 1);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = || Run::node(folder.path(), "127.0.0.1:1", "alice", NO_WEB);
    let mut chat = run().in_terminal();
    chat.write("hello\r");
    chat.expect("m: hello");
    let name = chat.shown().contains("malice\u{1b}[0m: hello");
    assert!(name, "{}", chat.shown());
    drop(chat);
    for setting in ["1", "yes"] {
        let mut chat = run().env("NO_COLOR", setting).in_terminal();
        chat.write("again\r");
        chat.expect(" alice: again");
        assert!(!colours(&chat.shown()), "{}", chat.shown());
    }
    // Empty is as if it was not set.
    let chat = run().env("NO_COLOR", "").in_terminal();
    chat.expect("\u{1b}[2m");
    drop(chat);
    let mut chat = run().piped();
    chat.write("on a pipe\n");
    chat.expect(" alice: on a pipe");
    assert!(!chat.shown().contains('\u{1b}'), "{}", chat.shown());
}

/// Whether there is a sequence that sets colours or the like.
fn colours(text: &str) -> bool {
    text.split('\u{1b}').skip(1).any(|sequence| {
        let end = sequence.find(|end: char| end.is_ascii_alphabetic()).unwrap_or(0);
        sequence.starts_with('[') && sequence[end..].starts_with('m')
    })
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
    alice.expect("/react [#ID] EMOJI");
}
