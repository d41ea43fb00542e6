//! `chat`, run as its user runs it: a process in a folder of its own, on pipes or in a terminal.
// Each test program uses a part of this and would call the rest dead.
#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Nothing here takes that long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A run; killed when dropped.
pub struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    terminal: Option<File>,
    shown: Arc<Mutex<Vec<u8>>>,
    errors: Arc<Mutex<Vec<u8>>>,
}

fn command(folder: &Path, nats: &str, node: &str, more: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
    let (nats, node) = (["--nats", nats], ["--node-id", node]);
    command.args(nats).args(node).args(more.split_whitespace()).current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CHAT_") || name == "NO_COLOR" {
            command.env_remove(&*name);
        }
    }
    command.env("TERM", "xterm").env("TZ", "UTC");
    command
}

fn gather(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let gathered = Arc::new(Mutex::new(Vec::new()));
    let into = gathered.clone();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // A terminal whose program is gone gives an error instead of an end.
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            into.lock().expect("no panic").extend_from_slice(&bytes[..count]);
        }
    });
    gathered
}

impl Chat {
    /// On pipes.
    pub fn piped(folder: &Path, nats: &str, node: &str, more: &str) -> Self {
        let mut command = command(folder, nats, node, more);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let shown = gather(child.stdout.take().expect("a pipe"));
        let errors = gather(child.stderr.take().expect("a pipe"));
        Self { input: child.stdin.take(), terminal: None, shown, errors, child }
    }

    /// In a terminal of 80 columns and 24 rows.
    pub fn in_terminal(folder: &Path, nats: &str, node: &str, more: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = name.to_str().expect("text").to_owned();
        let open = || -> OwnedFd {
            File::options().read(true).write(true).open(&name).expect("a terminal").into()
        };
        let mut command = command(folder, nats, node, more);
        command.stdin(Stdio::from(open())).stdout(Stdio::from(open())).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let errors = gather(child.stderr.take().expect("a pipe"));
        let master = File::from(master);
        let shown = gather(master.try_clone().expect("a terminal"));
        Self { input: None, terminal: Some(master), shown, errors, child }
    }

    /// Types this.
    pub fn write(&mut self, text: &str) {
        let written = match (&mut self.terminal, &mut self.input) {
            (Some(terminal), _) => terminal.write_all(text.as_bytes()),
            (None, Some(input)) => input.write_all(text.as_bytes()),
            _ => panic!("its input was closed"),
        };
        written.expect("it reads its input");
    }

    /// There is no more input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// All that was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no panic")).into_owned()
    }

    /// What it said on standard error.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().expect("no panic")).into_owned()
    }

    /// Waits until this was shown.
    #[track_caller]
    pub fn expect(&self, what: &str) {
        self.expect_that(what, |shown| shown.contains(what));
    }

    /// Waits until this node is shown as online.
    #[track_caller]
    pub fn expect_to_see(&self, node: &str) {
        self.expect_that(node, |shown| {
            let came = format!("* {node} is here");
            let is_there = |line: &str| {
                line.starts_with(&came)
                    || line
                        .strip_prefix("* online: ")
                        .is_some_and(|all| all.split(", ").any(|one| one == node))
            };
            shown.lines().any(is_there)
        });
    }

    /// Waits until what was shown is as asked for.
    #[track_caller]
    pub fn expect_that(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.shown()) {
            assert!(
                Instant::now() < deadline,
                "no {what:?} in {}\n{}",
                self.shown(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The file descriptor of the terminal's other end.
    pub fn terminal(&self) -> &File {
        self.terminal.as_ref().expect("a terminal")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// As a crash does, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("our own child");
    }

    /// Ends its input, and waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        self.input = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}\n{}",
                self.shown(),
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
