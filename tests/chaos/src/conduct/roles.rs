//! What the nodes are started as.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::Clocks;
use super::progress::Progress;
use super::streams::{Stream, Streams};
use super::supervise::Role;
use crate::journal::{Event, Journal};
use crate::pace;
use crate::payload::{Line, Topic, small_among};

/// Bytes of an id and its line break.
const PRINTED_BYTES: u64 = 27;
/// Most lines that are fed and not printed; those are in doubt when the sender is killed.
const WINDOW: u64 = 1_024;
/// Lines fed at once: few, so that a sender commits often, and is often killed while it does.
const PIECE: u64 = 16;
/// No line is fed while one of its receivers has so many before it. Well below the default limit of a queue.
const MOST_WAITING: i64 = 3_000;
/// Far longer than a run, and far shorter than what clocks are set wrong by: no step of a clock may end a message's life.
const TTL: &str = "6h";
/// Between two looks at what a sender has printed.
const LOOK: Duration = Duration::from_millis(3);
/// After so many lines a sender that was not killed ends in order, so that its next run chooses another channel and lane.
const LINES_A_RUN: std::ops::Range<u64> = 1_000..8_000;

/// What all of them need.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// The part's folder.
    pub(super) folder: PathBuf,
    /// Where the programs are.
    pub(super) programs: PathBuf,
    pub(super) journal: Arc<Journal>,
    pub(super) progress: Arc<Progress>,
    /// Whether all is calm.
    pub(super) calm: watch::Receiver<bool>,
    /// Where they can be set.
    pub(super) clocks: Option<Clocks>,
    pub(super) streams: Arc<Streams>,
}

impl Stage {
    /// One of our programs, as this node: with its file, its server and the settings, and nothing of the conductor's own environment.
    pub(super) fn program(&self, program: &str, node: &str, url: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(self.programs.join(program));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("WAYPOST_")) {
                command.env_remove(name);
            }
        }
        for (name, value) in pace::SETTINGS {
            command.env(format!("WAYPOST_{}", name.to_uppercase()), value);
        }
        command.env("WAYPOST_NATS", url).env("WAYPOST_ID", node).env("WAYPOST_DB", self.file(node));
        if let Some(clocks) = &self.clocks {
            clocks.install(&mut command, node);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }

    /// The same program, for which a write beyond a limit is an error and not the end.
    fn shielded(program: &Command) -> Command {
        let program = program.as_std();
        let mut shell = Command::new("sh");
        // What is ignored stays ignored across exec, and the process id stays too.
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program.get_program());
        program.get_envs().for_each(|(name, value)| {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        });
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        shell
    }

    /// Keeps what this run logs.
    fn log(&self, node: &str, run: u32, child: &mut Child) -> anyhow::Result<()> {
        let log = self.folder.join("log").join(node);
        let stderr = child.stderr.take().context("a piped standard error")?;
        self.streams.relay((node, run, Stream::Error), stderr, &log)
    }

    /// Has the running node's file copied. Whether that was done; the node may have been killed meanwhile.
    pub(super) async fn back_up(&self, node: &str, run: u32, to: &Path) -> anyhow::Result<bool> {
        let printed = printed(&self.folder.join("sent").join(format!("{node}.{run}")));
        self.journal.note(Event::Backup { node: node.to_owned(), run, printed });
        let mut command = self.program("waypost", node, "nats://127.0.0.1:1")?;
        command.args(["db", "backup"]).arg(to).stderr(Stdio::null()).kill_on_drop(true);
        Ok(command.status().await?.success())
    }

    /// This node's folder, a disk of its own for some.
    pub(super) fn home(&self, node: &str) -> PathBuf {
        self.folder.join("nodes").join(node)
    }

    /// This node's file.
    pub(super) fn file(&self, node: &str) -> PathBuf {
        self.home(node).join("node.db")
    }

    /// Where this run of the node prints to.
    fn output(&self, folder: &str, node: &str, run: u32) -> anyhow::Result<(PathBuf, File)> {
        let path = self.folder.join(folder).join(format!("{node}.{run}"));
        let file = File::options().create_new(true).append(true).open(&path);
        let file = file.with_context(|| format!("making {}", path.display()))?;
        Ok((path, file))
    }
}

/// `nats-server`.
pub(super) struct Server {
    pub(super) stage: Stage,
    pub(super) binary: PathBuf,
    pub(super) port: u16,
    pub(super) max_payload: Arc<AtomicUsize>,
}

impl Role for Server {
    fn launch(&mut self, _run: u32) -> anyhow::Result<(Command, Option<Topic>)> {
        let config = self.stage.folder.join("server.conf");
        std::fs::write(
            &config,
            format!("max_payload: {}\n", self.max_payload.load(Ordering::Relaxed)),
        )?;
        let log =
            File::options().create(true).append(true).open(self.stage.folder.join("log/server"))?;
        let mut command = Command::new(&self.binary);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-c"]).arg(config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok((command, None))
    }
}

/// `waypost recv`.
pub(super) struct Receiver {
    pub(super) stage: Stage,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) channel: String,
}

impl Role for Receiver {
    fn launch(&mut self, run: u32) -> anyhow::Result<(Command, Option<Topic>)> {
        let mut command = self.stage.program("waypost", &self.name, &self.url)?;
        command.args(["recv", &self.channel, "--from", "all", "--json"]);
        command.stdout(self.stage.output("got", &self.name, run)?.1);
        Ok((command, None))
    }

    fn started(&mut self, run: u32, child: &mut Child) -> anyhow::Result<()> {
        self.stage.log(&self.name, run, child)
    }
}

/// `waypost send`, and who feeds it.
pub(super) struct Sender {
    pub(super) stage: Stage,
    pub(super) name: String,
    pub(super) url: String,
    /// Channels and their readers.
    pub(super) readers: Arc<Vec<(String, Vec<String>)>>,
    pub(super) random: fastrand::Rng,
    pub(super) next: Option<(PathBuf, Topic, Vec<String>)>,
    pub(super) feeder: Option<JoinHandle<()>>,
}

impl Sender {
    fn choose(&mut self) -> (Topic, Vec<String>) {
        let random = &mut self.random;
        let (channel, readers) = &self.readers[random.usize(..self.readers.len())];
        let lane = ["normal", "normal", "normal", "high", "low"][random.usize(..5)];
        let to = (random.u8(..10) < 8).then(|| readers[random.usize(..readers.len())].clone());
        let audience = to.clone().map_or_else(|| readers.clone(), |to| vec![to]);
        (Topic { channel: channel.clone(), lane: lane.to_owned(), to }, audience)
    }
}

impl Role for Sender {
    fn launch(&mut self, run: u32) -> anyhow::Result<(Command, Option<Topic>)> {
        let (topic, audience) = self.choose();
        let mut command = self.stage.program("waypost", &self.name, &self.url)?;
        command.args(["send", &topic.channel, "--lines", "--ttl", TTL, "--flush", "0"]);
        command.args(["--priority", &topic.lane]);
        if let Some(to) = &topic.to {
            command.args(["--to", to]);
        }
        let (path, _) = self.stage.output("sent", &self.name, run)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        self.next = Some((path, topic.clone(), audience));
        Ok((command, Some(topic)))
    }

    fn started(&mut self, run: u32, child: &mut Child) -> anyhow::Result<()> {
        let (path, topic, audience) = self.next.take().expect("a run is chosen before it starts");
        self.stage.log(&self.name, run, child)?;
        let printed = child.stdout.take().context("a piped output")?;
        self.stage.streams.relay((&self.name, run, Stream::Output), printed, &path)?;
        let line = Line { sender: self.name.clone(), run, number: 0, topic };
        let feeder = Feeder {
            stage: self.stage.clone(),
            line,
            path,
            audience,
            most: self.random.u64(LINES_A_RUN),
            printed: 0,
        };
        let input = child.stdin.take().expect("a piped input");
        self.feeder = Some(tokio::spawn(feeder.feed(input)));
        Ok(())
    }

    fn ended(&mut self) {
        if let Some(feeder) = self.feeder.take() {
            feeder.abort();
        }
    }

    async fn restore(&mut self, copy: &Path) -> anyhow::Result<()> {
        let mut command = self.stage.program("waypost", &self.name, &self.url)?;
        command.args(["db", "restore", "--yes"]).arg(copy).kill_on_drop(true);
        let done = command.output().await?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "restoring the file of {}: {}", self.name, said.trim());
        Ok(())
    }
}

/// Feeds one run of a sender.
struct Feeder {
    stage: Stage,
    /// The last line that was fed.
    line: Line,
    path: PathBuf,
    audience: Vec<String>,
    most: u64,
    printed: u64,
}

impl Feeder {
    /// Gives the run its lines; then, and once all is calm, only looks on until the process has ended and this is aborted.
    async fn feed(mut self, input: ChildStdin) {
        let mut input = Some(input);
        loop {
            self.look();
            let calm = *self.stage.calm.borrow();
            let in_doubt = self.line.number - self.printed;
            self.stage.progress.doubt(&self.line.sender, in_doubt);
            // A sender whose ids nobody reads goes on; it is to end, so that the next run prints again.
            let is_read = self.stage.streams.is_read(&self.line.sender, Stream::Output);
            if !is_read || (!calm && self.line.number >= self.most) {
                input = None;
            }
            let full = in_doubt + PIECE > WINDOW
                || self.stage.progress.backlog(&self.audience)
                    >= MOST_WAITING + self.stage.progress.forgotten();
            let Some(open) = input.as_mut().filter(|_| !calm && !full) else {
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let text = self.piece();
            let (node, run, lines) = (self.line.sender.clone(), self.line.run, self.line.number);
            self.stage.journal.note(Event::Fed { node, run, lines });
            if open.write_all(text.as_bytes()).await.is_err() {
                input = None;
            }
        }
    }

    fn piece(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..PIECE {
            self.line.number += 1;
            text.push_str(&self.line.to_string());
            text.push('\n');
        }
        text
    }

    /// Counts what the process has printed since the last look.
    fn look(&mut self) {
        let printed = printed(&self.path);
        let small = small_among(printed) - small_among(self.printed);
        self.stage.progress.accept(printed - self.printed, small, &self.audience);
        self.printed = printed;
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.look();
        self.stage.progress.ended(&self.line.sender, self.line.run, self.printed);
    }
}

/// Lines whose ids stand in this file.
fn printed(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |data| data.len() / PRINTED_BYTES)
}

/// `trader sell`.
pub(super) struct Seller {
    pub(super) stage: Stage,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) buyers: Vec<String>,
    /// Whether its writes can be made to fail: see `disk`.
    pub(super) is_limited: bool,
}

impl Role for Seller {
    fn launch(&mut self, run: u32) -> anyhow::Result<(Command, Option<Topic>)> {
        let mut command = self.stage.program("trader", &self.name, &self.url)?;
        if self.is_limited {
            command = Stage::shielded(&command);
        }
        command.arg("sell").args(&self.buyers);
        if *self.stage.calm.borrow() {
            command.arg("--closed");
        }
        command.stdout(self.stage.output("sold", &self.name, run)?.1);
        Ok((command, None))
    }

    fn started(&mut self, run: u32, child: &mut Child) -> anyhow::Result<()> {
        self.stage.log(&self.name, run, child)
    }
}

/// `trader buy`.
pub(super) struct Buyer {
    pub(super) stage: Stage,
    pub(super) name: String,
    pub(super) url: String,
}

impl Role for Buyer {
    fn launch(&mut self, _run: u32) -> anyhow::Result<(Command, Option<Topic>)> {
        let mut command = self.stage.program("trader", &self.name, &self.url)?;
        command.arg("buy");
        Ok((command, None))
    }

    fn started(&mut self, run: u32, child: &mut Child) -> anyhow::Result<()> {
        self.stage.log(&self.name, run, child)
    }
}
