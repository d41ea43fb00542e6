//! `waypost top` on a terminal of its own, and printed once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use crate::program::{NOWHERE, PATIENCE, Program, Running};
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A program on a terminal of 80 by 24; killed when dropped.
struct Terminal {
    child: Child,
    keys: File,
    /// Our own hold on the program's end, to see how it leaves it.
    end: OwnedFd,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn start(command: Command) -> Self {
        Self::start_with(command, None)
    }

    /// With standard input from elsewhere, where that is wanted.
    fn start_with(mut command: Command, input: Option<Stdio>) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let end = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let end = end.expect("its other end");
        let size = Winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&end, size).expect("a size");
        let side = || Stdio::from(end.try_clone().expect("another handle"));
        command.stdin(input.unwrap_or_else(side)).stdout(side()).stderr(side());
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let child = command.spawn().expect("the command starts");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let keys = File::from(master);
        let (mut output, shown) = (keys.try_clone().expect("another handle"), screen.clone());
        // Ends with the terminal.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("not poisoned").process(&bytes[..count]);
            }
        });
        Self { child, keys, end, screen }
    }

    fn text(&self) -> String {
        self.screen.lock().expect("not poisoned").screen().contents()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it is open");
    }

    #[track_caller]
    fn shows(&self, what: &str) {
        let shown = || self.text().contains(what);
        eventually(PATIENCE, &format!("{what:?} is shown"), shown);
    }

    /// Writes to it, in place of the program, until nothing fits any more.
    fn fill(&self) {
        let name = ptsname(&self.keys, Vec::new()).expect("a name");
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        let end = rustix::fs::open(&name, flags, Mode::empty()).expect("its other end");
        let mut end = File::from(end);
        // What was written moves on within the system, and makes room once more.
        let mut refused_in_a_row = 0;
        eventually(PATIENCE, "it is full", || {
            refused_in_a_row += 1;
            while end.write(&[0; 512]).is_ok() {
                refused_in_a_row = 0;
            }
            refused_in_a_row == 10
        });
    }

    /// Waits for its end, and that the terminal is as it was before.
    fn ended(mut self) -> Option<i32> {
        let mut status: Option<ExitStatus> = None;
        eventually(PATIENCE, "it ends", || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        let given_back = || {
            let modes = tcgetattr(&self.end).expect("a terminal").local_modes;
            let screen = self.screen.lock().expect("not poisoned");
            modes.contains(LocalModes::ICANON | LocalModes::ECHO)
                && !screen.screen().alternate_screen()
                && !screen.screen().hide_cursor()
        };
        eventually(PATIENCE, "the terminal is given back", given_back);
        status.and_then(|status| status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(here: &Program, arguments: &str) -> Running {
    let mut node = here.spawn(&format!("send orders --lines --wait {arguments}"));
    node.write(b"one\n");
    node.line();
    node
}

#[test]
fn all_nodes_are_on_one_screen_and_what_happens_is_told() {
    let mut server = NatsServer::start();
    let here = Program::new(server.url());
    let mut alice = node(&here, "--id alice --to nobody");
    let mut top = Terminal::start(here.command("top --interval 500ms"));
    top.shows("1 of 1 nodes answering");
    top.shows("alice");
    for what in ["waypost top", "no master", "NODE", "WAITING", "recent", "q quit", "sort: name"] {
        assert!(top.text().contains(what), "{what:?} is not in\n{}", top.text());
    }
    let bob = node(&here, "--id bob --to nobody");
    top.shows("bob answers, from ");
    top.shows("2 of 2 nodes answering");
    alice.write(b"two\nthree\n");
    top.shows("4 waiting");
    top.press("?");
    top.shows("help, ? or Esc closes it");
    top.press("\x1b");
    eventually(PATIENCE, "help is closed", || !top.text().contains("closes it"));
    top.press("s");
    top.shows("sort: waiting");
    bob.signal(Signal::KILL);
    top.shows("bob does not answer");
    top.shows("silent");
    server.stop();
    top.shows("no answers");
    server.restart();
    top.shows("nodes can be asked again");
    top.press("q");
    assert_eq!(top.ended(), Some(0));
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    let here = Program::new(NOWHERE);
    for (end, code) in [("\x03", 0), ("\x1b", 0)] {
        let mut top = Terminal::start(here.command("top"));
        top.shows("space pause");
        top.press(end);
        assert_eq!(top.ended(), Some(code), "{end:?}");
    }
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let top = Terminal::start(here.command("top"));
        top.shows("asking ...");
        kill_process(Pid::from_child(&top.child), signal).expect("it runs");
        assert_eq!(top.ended(), Some(code), "{signal:?}");
    }
}

#[test]
fn a_second_signal_ends_it_though_nobody_reads_the_terminal_and_gives_that_back() {
    let here = Program::new(NOWHERE);
    let mut top = Terminal::start(here.command("top"));
    top.shows("asking ...");
    let screen = top.screen.clone();
    let unread = screen.lock().expect("not poisoned");
    top.fill();
    eventually(PATIENCE, "it ends", || {
        kill_process(Pid::from_child(&top.child), Signal::TERM).expect("it is ours");
        top.child.try_wait().expect("our own child").is_some()
    });
    let modes = tcgetattr(&top.end).expect("a terminal").local_modes;
    assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO), "{modes:?}");
    drop(unread);
    assert_eq!(top.ended(), Some(143));
}

#[test]
fn without_a_terminal_for_the_keys_there_is_no_screen() {
    let here = Program::new(NOWHERE);
    let mut alone = Command::new("setsid");
    alone.arg(env!("CARGO_BIN_EXE_waypost"));
    let top = Terminal::start_with(here.wrap(alone, "top"), Some(Stdio::null()));
    top.shows("top --once");
    assert_eq!(top.ended(), Some(2));
    here.run("top --interval 499ms").says(2, "from 500ms to 60s");
    here.run("top --interval 61s").says(2, "from 500ms to 60s");
}

#[test]
fn it_can_be_printed_once() {
    let server = NatsServer::start();
    let here = Program::new(server.url());
    here.run("top --once").says(4, "no node answered");
    here.run("top").says(2, "top --once");
    let _alice = node(&here, "--id alice --to nobody");
    let printed = here.run("top --once").expect_code(0);
    let lines = printed.lines();
    assert!(lines[0].starts_with("waypost top  1 of 1 nodes answering  no master"), "{lines:?}");
    assert_eq!(lines[1], "0 in/s  0 out/s  0 taken/s  1 waiting");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[3])[..6], ["alice", "up", "0", "0", "0", "1"]);
    assert!(words(lines[3])[6].ends_with('s'), "an age by alice's own clock: {lines:?}");
    assert!(lines.len() == 4 && lines.iter().all(|line| line.len() <= 80), "{lines:?}");
    let nowhere = Program::new(NOWHERE);
    nowhere.run("top --once").says(1, "not connected to NATS");
}
