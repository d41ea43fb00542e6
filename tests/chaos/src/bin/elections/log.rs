//! What voters and the conductor write: one line of JSON for each thing, in one write, with the time of a clock that all processes of a machine
//! share.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::plan::Kind;

/// Who has a vote.
pub(crate) const VOTERS: [&str; 3] = ["a", "b", "c"];
/// Who has none.
pub(crate) const WATCHER: &str = "watcher";
/// The conductor's log.
pub(crate) const DEEDS: &str = "conductor.jsonl";
/// What masters did to the resource that the fence guards, in the order in which they did it.
pub(crate) const COMMANDS: &str = "commands.jsonl";

/// Something, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct At<T> {
    pub(crate) at_us: u64,
    #[serde(flatten)]
    pub(crate) what: T,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Said {
    /// The process runs.
    Started,
    /// It is master, and has taken over this counter.
    BecameMaster { term: u64, reason: String, n: u64 },
    /// It is master no longer.
    BecameFollower { term: u64, reason: String, to: Option<String> },
    /// `is_master` was true when it was asked first and last, and every time in between: the earliest time at which the first question was
    /// answered for certain, and the latest at which the last was not yet asked.
    Led { term: u64, from_us: u64, to_us: u64 },
    /// Who is master, as it knows.
    Sees { master: Option<String>, term: Option<u64> },
    /// It has a newer state than before.
    Has { term: u64, rev: u64 },
    /// `set_state` has returned.
    Acknowledged { term: u64, n: u64 },
    /// It has failed.
    Unset { n: u64, why: String },
    /// The fence refused a command.
    Refused { term: u64 },
    /// The fence could not be asked.
    Unfenced { why: String },
    /// It was asked to end.
    Stopping,
    /// It has ended in order.
    Ended,
}

/// What a master did behind the fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) term: u64,
    pub(crate) node: String,
}

/// Why a process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// SIGKILL.
    Killed,
    /// SIGTERM.
    Asked,
    /// Nobody asked it to.
    Itself,
}

/// What the conductor did, noted before it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Deed {
    /// With which everything began.
    Plan { seed: u64, kills: u64, server: String },
    /// A process was started.
    Start { node: String, run: u32, pid: u32 },
    /// A fault begins at this node.
    Fault { kind: Kind, node: String },
    /// It is over.
    Healed { kind: Kind, node: String, felt: Option<u64> },
    /// SIGKILL.
    Kill { node: String },
    /// SIGTERM.
    Terminate { node: String },
    /// A process has ended.
    End { node: String, run: u32, cause: Cause, code: Option<i32> },
    /// All voters know this master.
    Agreed { node: String, term: u64 },
    /// They did not agree in time.
    Disagreed { seen: String },
    /// No more faults; all are asked to end.
    Over,
}

/// The time, in microseconds.
pub(crate) fn now_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    seconds * 1_000_000 + nanoseconds / 1_000
}

/// The name of the log of one run of a node.
pub(crate) fn name_of(node: &str, run: u32) -> String {
    format!("{node}.{run}.jsonl")
}

/// An open log. Several processes may write to one.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Self)
    }

    /// Adds a line.
    ///
    /// # Panics
    /// When it cannot be written: without logs nothing can be judged.
    pub(crate) fn say<T: Serialize>(&self, what: T) {
        // The first byte ends what a killed process had only begun.
        let mut line = vec![b'\n'];
        serde_json::to_writer(&mut line, &At { at_us: now_us(), what }).expect("lines serialize");
        line.push(b'\n');
        (&self.0).write_all(&line).expect("the log can be written");
    }
}

/// The lines of a log, and how many are torn.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<(Vec<At<T>>, usize)> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((vec![], 0)),
        Err(error) => return Err(error),
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let (mut read, mut torn) = (Vec::new(), 0);
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(line) => read.push(line),
            Err(_) => torn += 1,
        }
    }
    Ok((read, torn))
}
