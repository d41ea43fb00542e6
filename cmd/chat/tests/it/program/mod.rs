//! `chat`, run as its user runs it: a process in a folder of its own, on pipes or in a terminal.
#![allow(unreachable_pub)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Nothing here takes that long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A node of the channel `c`, in the terminal or on pipes alone.
pub const NO_WEB: &str = "--channel c --web 0";

/// Two nodes that see each other.
pub fn pair(folder: &Path, nats: &str) -> (Chat, Chat) {
    let alice = Chat::piped(folder, nats, "alice", NO_WEB);
    let bob = Chat::piped(folder, nats, "bob", NO_WEB);
    alice.expect_to_see("bob");
    bob.expect_to_see("alice");
    (alice, bob)
}

/// A run; killed when dropped.
pub struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    terminal: Option<File>,
    shown: Arc<Shown>,
    errors: Arc<Shown>,
}

/// What a run has written.
struct Shown {
    text: Mutex<Vec<u8>>,
    /// How it looks on a terminal.
    screen: Option<Mutex<vt100::Parser>>,
    /// Nobody reads on.
    is_held: AtomicBool,
    /// All that was written is here.
    has_ended: AtomicBool,
}

impl Shown {
    fn gather(mut from: impl Read + Send + 'static, size: Option<Winsize>) -> Arc<Self> {
        let screen = size.map(|size| Mutex::new(vt100::Parser::new(size.ws_row, size.ws_col, 0)));
        let [is_held, has_ended] = [AtomicBool::new(false), AtomicBool::new(false)];
        let shown = Arc::new(Self { text: Mutex::default(), screen, is_held, has_ended });
        let into = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal whose program is gone gives an error instead of an end.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                while into.is_held.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if let Some(screen) = &into.screen {
                    screen.lock().expect("no panic").process(&bytes[..count]);
                }
                into.text.lock().expect("no panic").extend_from_slice(&bytes[..count]);
            }
            into.has_ended.store(true, Ordering::SeqCst);
        });
        shown
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("no panic")).into_owned()
    }
}

/// How a program is run.
pub struct Run {
    command: Command,
    size: Winsize,
    errors_in_terminal: bool,
}

impl Run {
    /// With these arguments, in this folder.
    pub fn new<'a>(folder: &Path, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat"));
        command.args(arguments).current_dir(folder);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CHAT_") || name == "NO_COLOR" {
                command.env_remove(&*name);
            }
        }
        command.env("TERM", "xterm").env("TZ", "UTC");
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        Self { command, size, errors_in_terminal: false }
    }

    /// As a node of this name.
    pub fn node(folder: &Path, nats: &str, node: &str, more: &str) -> Self {
        let arguments = ["--nats", nats, "--node-id", node];
        Self::new(folder, arguments.into_iter().chain(more.split_whitespace()))
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// From a shell that ignores these signals, as `nohup` does.
    pub fn ignoring(mut self, signals: &str) -> Self {
        let chat = self.command;
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("trap '' {signals}; exec \"$0\" \"$@\"")]);
        shell.arg(chat.get_program()).args(chat.get_args());
        shell.current_dir(chat.get_current_dir().expect("a folder"));
        for (name, value) in chat.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        self.command = shell;
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// In a terminal of another size than 80 columns and 24 rows.
    pub fn size(mut self, columns: u16, rows: u16) -> Self {
        (self.size.ws_col, self.size.ws_row) = (columns, rows);
        self
    }

    /// Standard error is the terminal too, as it is for most.
    pub fn with_errors_in_terminal(mut self) -> Self {
        self.errors_in_terminal = true;
        self
    }

    /// As a shell with job control does.
    pub fn in_own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    pub fn piped(mut self) -> Chat {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the command starts");
        let shown = Shown::gather(child.stdout.take().expect("a pipe"), None);
        let errors = Shown::gather(child.stderr.take().expect("a pipe"), None);
        Chat { input: child.stdin.take(), terminal: None, shown, errors, child }
    }

    /// With these in place of pipes of its own that are read here.
    pub fn with_streams(
        mut self,
        input: impl Into<Stdio>,
        output: impl Into<Stdio>,
        errors: impl Into<Stdio>,
    ) -> Chat {
        self.command.stdin(input).stdout(output).stderr(errors);
        let mut child = self.command.spawn().expect("the command starts");
        // Its ends of the pipes are its own.
        drop(self.command);
        let none = || Box::new(std::io::empty()) as Box<dyn Read + Send>;
        let shown = child.stdout.take().map_or_else(none, |output| Box::new(output));
        let errors = child.stderr.take().map_or_else(none, |errors| Box::new(errors));
        let (shown, errors) = (Shown::gather(shown, None), Shown::gather(errors, None));
        Chat { input: child.stdin.take(), terminal: None, shown, errors, child }
    }

    pub fn in_terminal(mut self) -> Chat {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("a terminal");
        tcsetwinsize(&master, self.size).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let name = name.to_str().expect("text").to_owned();
        let open = || -> Stdio {
            let terminal = File::options().read(true).write(true).open(&name);
            Stdio::from(OwnedFd::from(terminal.expect("a terminal")))
        };
        let errors = if self.errors_in_terminal { open() } else { Stdio::piped() };
        self.command.stdin(open()).stdout(open()).stderr(errors);
        let mut child = self.command.spawn().expect("the command starts");
        // Its ends of the terminal are its own.
        drop(self.command);
        let errors: Box<dyn Read + Send> = match child.stderr.take() {
            Some(errors) => Box::new(errors),
            None => Box::new(std::io::empty()),
        };
        let errors = Shown::gather(errors, None);
        let master = File::from(master);
        let shown = Shown::gather(master.try_clone().expect("a terminal"), Some(self.size));
        Chat { input: None, terminal: Some(master), shown, errors, child }
    }
}

impl Chat {
    /// On pipes.
    pub fn piped(folder: &Path, nats: &str, node: &str, more: &str) -> Self {
        Run::node(folder, nats, node, more).piped()
    }

    /// In a terminal of 80 columns and 24 rows.
    pub fn in_terminal(folder: &Path, nats: &str, node: &str, more: &str) -> Self {
        Run::node(folder, nats, node, more).in_terminal()
    }

    /// How the terminal looks: its rows, without spaces at their ends.
    pub fn screen(&self) -> Vec<String> {
        let parser = self.shown.screen.as_ref().expect("a terminal").lock().expect("no panic");
        let screen = parser.screen();
        screen.rows(0, screen.size().1).map(|row| row.trim_end().to_owned()).collect()
    }

    /// The rows above the cursor and its own, without empty ones.
    pub fn rows(&self) -> Vec<String> {
        self.screen().into_iter().filter(|row| !row.is_empty()).collect()
    }

    /// Waits until the terminal looks as asked for.
    #[track_caller]
    pub fn expect_rows(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(&self.rows()) {
            let rows = self.rows().join("\n");
            assert!(Instant::now() < deadline, "no {what:?} in\n{rows}\n{}", self.errors());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The cursor's column, from 0.
    pub fn column(&self) -> u16 {
        let parser = self.shown.screen.as_ref().expect("a terminal").lock().expect("no panic");
        parser.screen().cursor_position().1
    }

    /// Closes the terminal, as its window does.
    pub fn close_terminal(&mut self) {
        // The reading end is another handle: only the program's look at it tells that.
        self.terminal = None;
        self.signal(Signal::HUP);
    }

    /// Gives the terminal another size, and tells so.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let parser = self.shown.screen.as_ref().expect("a terminal");
        parser.lock().expect("no panic").screen_mut().set_size(rows, columns);
        tcsetwinsize(self.terminal(), size).expect("a size");
        // It is not the terminal that its session is controlled by.
        self.signal(Signal::WINCH);
    }

    /// Reads no further until it is released.
    pub fn hold(&self) {
        self.shown.is_held.store(true, Ordering::SeqCst);
    }

    pub fn release(&self) {
        self.shown.is_held.store(false, Ordering::SeqCst);
    }

    /// Types this.
    pub fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes());
    }

    /// The same for what may be no text.
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        let written = match (&mut self.terminal, &mut self.input) {
            (Some(terminal), _) => terminal.write_all(bytes),
            (None, Some(input)) => input.write_all(bytes),
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
        self.shown.text()
    }

    /// What it said on standard error.
    pub fn errors(&self) -> String {
        self.errors.text()
    }

    /// Waits until a message is shown that begins so (`alice: hello`), and says what it is called: `#7K3F`.
    #[track_caller]
    pub fn called(&self, begins: &str) -> String {
        let begins = format!(" {begins}");
        let find = || {
            let is_on_a_screen = self.shown.screen.is_some();
            let lines = if is_on_a_screen { self.rows().join("\n") } else { self.shown() };
            lines.lines().find_map(|line| {
                let (before, _) = line.split_once(&begins)?;
                let name = before.rsplit_once('#')?.1;
                (name.len() == 4).then(|| format!("#{name}"))
            })
        };
        self.expect_that(&begins, |_| find().is_some());
        find().expect("it was there")
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
        self.ends()
    }

    /// Waits for its end, while its input stays open.
    #[track_caller]
    pub fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Its last words are still on the way when it has ended.
            let is_read = |shown: &Shown| {
                shown.has_ended.load(Ordering::SeqCst) || shown.is_held.load(Ordering::SeqCst)
            };
            if let Some(status) = self.child.try_wait().expect("our own child")
                && is_read(&self.shown)
                && is_read(&self.errors)
            {
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

    /// Waits until it was stopped by a signal, as a shell does.
    pub fn is_suspended(&self) {
        let pid = Some(Pid::from_child(&self.child));
        let deadline = Instant::now() + PATIENCE;
        while rustix::process::waitpid(pid, WaitOptions::UNTRACED | WaitOptions::NOHANG)
            .expect("our own child")
            .is_none_or(|(_, status)| !status.stopped())
        {
            assert!(Instant::now() < deadline, "it is not stopped");
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
