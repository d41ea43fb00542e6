//! A terminal that wraps all lines anew when its size changes, as most do.

use std::time::{Duration, Instant};

use crate::program::{Chat, PATIENCE, Run};
use crate::support::nats_server::NatsServer;

const LINE: &str = "half a line that was not sent yet, and quite a long one, so that it fills more than one row of all of these terminals but of one, which is very wide indeed";
const ROWS: u16 = 40;

struct Rewrapping {
    chat: Chat,
    screen: avt::Terminal,
    /// Bytes of what was shown that are on the screen.
    fed: usize,
}

impl Rewrapping {
    fn new(chat: Chat, columns: u16) -> Self {
        let screen =
            avt::Terminal::with_scrollback(columns.into(), ROWS.into(), None).expect("a size");
        Self { chat, screen, fed: 0 }
    }

    /// Changes the size, and waits until the line was drawn anew: what is drawn for one size is torn on a terminal that has another one by then.
    fn resize(&mut self, columns: u16) {
        self.text();
        let drawn = |shown: &str| shown.matches("> half a").count();
        let before = drawn(&self.chat.shown());
        self.screen.resize(columns.into(), ROWS.into());
        self.chat.resize(columns, ROWS);
        self.chat.expect_that("the line", |shown| drawn(shown) > before);
    }

    /// All that is on the screen, and what has left it at its top.
    fn text(&mut self) -> String {
        let shown = self.chat.shown();
        // The last character may be half here.
        if !shown.ends_with('\u{fffd}') {
            self.screen.feed(&shown[self.fed..]);
            self.fed = shown.len();
        }
        let rows = self.screen.screen().all_lines();
        rows.map(|row| row.text().trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    /// Waits until each of these is there once, wherever rows end, and the line being typed is the last.
    #[track_caller]
    fn expect_once(&mut self, columns: u16, texts: &[&str]) {
        let squeeze = |text: &str| text.replace([' ', '\n'], "");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            let squeezed = squeeze(&text);
            let once = |wanted: &&str| squeezed.matches(&squeeze(wanted)).count() == 1;
            if texts.iter().all(once) && once(&"> half a") && squeezed.ends_with(&squeeze(LINE)) {
                return;
            }
            assert!(Instant::now() < deadline, "at {columns} columns:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn all_sizes_show_the_line_being_typed_once_and_take_no_message_away() {
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut bob = Chat::piped(folder.path(), &server.url(), "bob", "--channel c --web 0");
    let run = Run::node(folder.path(), &server.url(), "alice", "--channel c --web 0");
    let chat = run.without("XTERM_VERSION").without("STY").size(120, ROWS).in_terminal();
    let mut alice = Rewrapping::new(chat, 120);
    alice.chat.expect("is here");
    let mut texts = vec![
        "* bob is here",
        "bob: the first of three",
        "bob: the second",
        "> /master",
        "* nobody leads",
    ];
    bob.write("the first of three messages, with some more words so that it needs some rows where they are short\nthe second\n");
    alice.chat.expect("the second");
    alice.chat.write("/master\r");
    alice.chat.expect("nobody leads");
    // One by one, as it is typed.
    for character in LINE.chars() {
        alice.chat.write(&character.to_string());
    }
    alice.expect_once(120, &texts);
    for columns in [100, 99, 60, 40, 30, 31, 75, 120, 200, 50] {
        alice.resize(columns);
        alice.expect_once(columns, &texts);
    }
    bob.write("meanwhile.\n");
    texts.push("bob: meanwhile.");
    alice.expect_once(50, &texts);
    alice.resize(90);
    alice.expect_once(90, &texts);
    alice.chat.write("\r");
    bob.expect(&format!("alice: {LINE}"));
}
