//! What is different on a terminal: orders ask for confirmation, the topology is a tree.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::program::{PATIENCE, Program};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A run on a terminal of its own; killed when dropped.
struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn run(here: &Program, arguments: &str) -> Self {
        Self::run_with(here, arguments, OFlags::empty())
    }

    /// The same with these flags of the terminal's open files.
    fn run_with(here: &Program, arguments: &str, flags: OFlags) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let name = ptsname(&ours, Vec::new()).expect("a name").into_string().expect("a text");
        let flags = i32::try_from(flags.bits()).expect("small");
        let mut options = File::options();
        options.read(true).write(true).custom_flags(flags);
        let theirs = || options.open(&name).expect("opened");
        let mut command = here.command(arguments);
        command.stdin(theirs()).stdout(theirs()).stderr(Stdio::from(OwnedFd::from(theirs())));
        let child = command.spawn().expect("the command starts");
        drop(command);
        let keyboard = File::from(ours);
        let mut output = keyboard.try_clone().expect("another handle");
        let screen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // Reading fails once nobody has the other end open.
            while let Ok(count @ 1..) = output.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]);
                shown.lock().expect("not poisoned").push_str(&text);
            }
        });
        Self { child, keyboard, screen }
    }

    fn shows(&self, what: &str) {
        eventually(PATIENCE, what, || self.screen.lock().expect("not poisoned").contains(what));
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("typed");
    }

    fn ends_with(&mut self, code: i32) {
        let mut ended = None;
        eventually(PATIENCE, "it ends", || {
            ended = self.child.try_wait().expect("our own child");
            ended.is_some()
        });
        assert_eq!(ended.and_then(|status| status.code()), Some(code));
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_order_is_given_only_after_a_yes() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut alice = here.spawn("send chat --lines --id alice --to bob --wait 60s");
    alice.write(b"one\n");
    alice.line();
    let waiting = || {
        let stats = here.run("stats alice --json").expect_code(0).json();
        stats["accounts"][0]["pending"].as_u64()
    };
    for answer in ["n\n", "\n", "yess\n"] {
        let mut order = OnTerminal::run(&here, "purge queue alice");
        order.shows("purge queue on alice? [y/N]");
        order.types(answer);
        order.shows("nothing was done");
        order.ends_with(1);
        assert_eq!(waiting(), Some(1));
    }
    let mut order = OnTerminal::run(&here, "purge queue alice");
    order.shows("[y/N]");
    order.types("y\n");
    order.ends_with(0);
    assert_eq!(waiting(), Some(0));
}

#[test]
fn a_terminal_that_does_not_block_is_waited_for() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let _alice = here.spawn("send chat --lines --id alice --to bob --wait 60s");
    eventually(PATIENCE, "alice is there", || here.run("peers").text().contains("alice"));
    let mut order = OnTerminal::run_with(&here, "purge queue alice", OFlags::NONBLOCK);
    order.shows("purge queue on alice? [y/N]");
    order.types("y\n");
    order.ends_with(0);
    let mut top = OnTerminal::run_with(&here, "top", OFlags::NONBLOCK);
    top.shows("alice");
    top.types("q");
    top.ends_with(0);
}

#[test]
fn the_topology_is_a_tree() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    let mut alice = here.spawn("send chat --lines --id alice --to bob --wait 60s");
    alice.write(b"one\n");
    alice.line();
    let mut topology = OnTerminal::run(&here, "topology");
    for line in ["chat\r\n", "└─ alice (writer)", "alice -> bob: 1 message waiting"] {
        topology.shows(line);
    }
    topology.ends_with(0);
}
