//! The command, run as its user runs it: a process in a folder of its own, without this process's settings.
#![allow(unreachable_pub)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tempfile::TempDir;

/// Nothing here takes that long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Where no server listens.
pub const NOWHERE: &str = "nats://127.0.0.1:1";

/// A folder in which the command runs.
pub struct Program {
    pub folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What a run printed, and its exit code; none where a signal ended it.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ended {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("printed text")
    }

    pub fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// That it ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?} {}", String::from_utf8_lossy(&self.out));
        self
    }

    /// That it failed with this code, and said this.
    #[track_caller]
    pub fn says(self, code: i32, what: &str) -> Self {
        let ended = self.expect_code(code);
        assert!(ended.err.contains(what), "{what:?} is not in {:?}", ended.err);
        ended
    }
}

impl Program {
    /// With this server for all runs.
    pub fn new(nats: impl Into<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, variables: vec![("WAYPOST_NATS".to_owned(), nats.into())] }
    }

    /// One more setting for all runs.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run with these arguments, separated by spaces.
    pub fn command(&self, arguments: &str) -> Command {
        self.wrap(Command::new(env!("CARGO_BIN_EXE_waypost")), arguments)
    }

    /// The same, under another program that is given its own arguments already.
    pub fn wrap(&self, mut command: Command, arguments: &str) -> Command {
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WAYPOST_") {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs to its end.
    pub fn run(&self, arguments: &str) -> Ended {
        self.feed(arguments, b"")
    }

    /// Runs to its end with this input.
    pub fn feed(&self, arguments: &str, input: &[u8]) -> Ended {
        finish(self.command(arguments), input)
    }

    /// Runs beside the test.
    pub fn spawn(&self, arguments: &str) -> Running {
        Running::new(self.command(arguments))
    }
}

/// Runs a command to its end with this input.
pub fn finish(command: Command, input: &[u8]) -> Ended {
    let mut running = Running::new(command);
    // It may end without reading all of it.
    let _ = running.input.take().expect("a pipe").write_all(input);
    running.ended()
}

/// A run beside the test; killed when dropped.
pub struct Running {
    child: Child,
    pub input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
    errors: Arc<Mutex<Vec<u8>>>,
    errors_end: Option<JoinHandle<()>>,
}

impl Running {
    pub fn new(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut pipe = child.stderr.take().expect("a pipe");
        let errors = Arc::<Mutex<Vec<u8>>>::default();
        let so_far = Arc::clone(&errors);
        let read = move || {
            let mut buffer = [0; 4_096];
            loop {
                match pipe.read(&mut buffer).expect("standard error") {
                    0 => return,
                    count => so_far.lock().expect("no panic").extend(&buffer[..count]),
                }
            }
        };
        Self {
            input: child.stdin.take(),
            output: child.stdout.take().map(BufReader::new),
            errors,
            errors_end: Some(std::thread::spawn(read)),
            child,
        }
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().expect("no panic")).into_owned()
    }

    /// Gives it this input.
    pub fn write(&mut self, input: &[u8]) {
        self.input.as_mut().expect("open input").write_all(input).expect("it reads its input");
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let output = self.output.as_mut().expect("open output");
        let count = output.read_line(&mut line).expect("text");
        assert!(count > 0, "it printed nothing more");
        line.trim_end_matches('\n').to_owned()
    }

    /// Nobody reads its output any more.
    pub fn close_output(&mut self) {
        self.output = None;
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// How large a file it may write: with none as large as it likes, with few bytes as if the disk failed.
    pub fn limit_files(&self, bytes: Option<u64>) {
        self.limit(Resource::Fsize, bytes);
    }

    /// Lowers this limit; with none it is as high again as may be.
    pub fn limit(&self, resource: Resource, current: Option<u64>) {
        let maximum = getrlimit(resource).maximum;
        let limit = Rlimit { current: current.or(maximum), maximum };
        prlimit(Some(Pid::from_child(&self.child)), resource, limit).expect("it runs");
    }

    /// Ends its input, and waits for its end.
    pub fn ended(self) -> Ended {
        self.ended_within(PATIENCE)
    }

    /// The same, for what may take longer than anything else here.
    pub fn ended_within(mut self, patience: Duration) -> Ended {
        self.input = None;
        let output = self.output.take();
        let output = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut output) = output {
                output.read_to_end(&mut bytes).expect("standard output");
            }
            bytes
        });
        let status = self.wait(patience);
        self.errors_end.take().expect("taken once").join().expect("a reading thread");
        let out = output.join().expect("a reading thread");
        Ended { code: status.code(), out, err: self.said() }
    }

    fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The texts of what `recv --json` printed.
pub fn texts(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| field(line, "text")).collect()
}

/// A field of a line of JSON.
pub fn field(line: &str, name: &str) -> String {
    let object: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    object[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
}

/// `m0` to `m<count - 1>`, a line each.
pub fn numbered(count: usize) -> String {
    (0..count).map(|n| format!("m{n}\n")).collect()
}

/// Whether the file is there and not empty.
pub fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() > 0)
}
