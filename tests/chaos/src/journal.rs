//! What the conductor did, and when: one line of JSON an event, each written in one write before the deed that it tells of.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::payload::Topic;

/// The journal's name in the folder of a part.
pub const NAME: &str = "journal.jsonl";

/// The fault of a disk that is full.
pub const DISK_FULL: &str = "disk full";
/// The fault of a disk on which writes fail.
pub const WRITES_FAIL: &str = "writes fail";

/// The fault of a wall clock that was set wrong.
pub const CLOCK: &str = "clock";
/// The fault of a standard error that nobody reads any more.
pub const STDERR_CLOSED: &str = "stderr closed";
/// The fault of a standard output that nobody reads any more.
pub const STDOUT_CLOSED: &str = "stdout closed";

/// The fault of a file that is replaced by an older copy of itself.
pub const RESTORE: &str = "restore";

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is fed lines.
    Sender,
    /// It prints what arrives.
    Receiver,
    /// It sells: a row and a message in one transaction.
    Seller,
    /// It buys: a message and a row in one transaction.
    Buyer,
    /// The NATS server.
    Server,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// With which everything began.
    Plan {
        /// What the faults were drawn from.
        seed: u64,
        /// Whether there were any.
        faults: bool,
    },
    /// There is such a node.
    Node {
        /// Its name.
        node: String,
        /// What it is for.
        role: Role,
        /// What it reads.
        #[serde(default)]
        channel: Option<String>,
    },
    /// A process was started.
    Start {
        /// Whose.
        node: String,
        /// Which start of the node this is, from 1.
        run: u32,
        /// Its process.
        pid: u32,
        /// Where its lines go.
        #[serde(default)]
        topic: Option<Topic>,
    },
    /// So many lines, from the first of the run, are about to have been fed.
    Fed {
        /// To whom.
        node: String,
        /// In which run.
        run: u32,
        /// How many in all.
        lines: u64,
    },
    /// A process is about to be killed (SIGKILL).
    Kill {
        /// Whose.
        node: String,
        /// In which run.
        run: u32,
    },
    /// A process is about to be asked to end (SIGTERM).
    Stop {
        /// Whose.
        node: String,
        /// In which run.
        run: u32,
    },
    /// The standard output of a process is about to be closed by its reader.
    Close {
        /// Whose.
        node: String,
        /// In which run.
        run: u32,
    },
    /// A copy of a node's file is about to be made.
    Backup {
        /// Whose.
        node: String,
        /// In which run.
        run: u32,
        /// Lines of that run whose ids it had printed by then: the copy has them.
        printed: u64,
    },
    /// The last such copy was put in the place of the node's file, after the process had been killed.
    Restored {
        /// Whose.
        node: String,
        /// The run that was killed for it.
        run: u32,
    },
    /// A process has ended.
    End {
        /// Whose.
        node: String,
        /// In which run.
        run: u32,
        /// By which signal.
        #[serde(default)]
        signal: Option<i32>,
        /// With which code.
        #[serde(default)]
        code: Option<i32>,
    },
    /// Something breaks.
    Fault {
        /// What.
        what: String,
        /// Whose.
        node: String,
    },
    /// It works again.
    Healed {
        /// What.
        what: String,
        /// Whose.
        node: String,
        /// How often it was felt, where that can be told: connections that were closed, pieces that were late or swallowed, a disk that
        /// was full.
        #[serde(default)]
        felt: Option<u64>,
    },
    /// From now on nothing breaks, and no line is fed.
    Calm,
    /// Nothing waits for this receiver any more.
    CaughtUp {
        /// Whose.
        node: String,
        /// Since the calm began.
        after_ms: u64,
    },
    /// Nothing waits for anybody any more.
    Settled {
        /// Since the calm began.
        after_ms: u64,
    },
}

/// An event and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Since the journal was begun.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    begun: Instant,
}

impl Journal {
    /// Begins one in this folder.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let file = File::options().create_new(true).append(true).open(folder.join(NAME))?;
        Ok(Self { file, begun: Instant::now() })
    }

    /// Adds an event.
    ///
    /// # Panics
    /// When it cannot be written: without a journal nothing can be judged.
    pub fn note(&self, event: Event) {
        let at_ms = self.begun.elapsed().as_millis() as u64;
        let mut line = serde_json::to_vec(&Record { at_ms, event }).expect("events serialize");
        line.push(b'\n');
        (&self.file).write_all(&line).expect("the journal can be written");
    }
}

/// Reads a journal.
///
/// # Errors
/// It cannot be read, or a line is no event.
pub fn read(folder: &Path) -> io::Result<Vec<Record>> {
    let lines = BufReader::new(File::open(folder.join(NAME))?).lines();
    lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::other)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::create(folder.path()).expect("a journal");
        let topic = Topic { channel: "orders".into(), lane: "high".into(), to: None };
        let events = [
            Event::Start { node: "s1".into(), run: 1, pid: 7, topic: Some(topic) },
            Event::End { node: "s1".into(), run: 1, signal: Some(9), code: None },
            Event::Calm,
        ];
        events.iter().for_each(|event| journal.note(event.clone()));
        let read = read(folder.path()).expect("a journal");
        assert!(read.iter().map(|record| &record.event).eq(&events));
    }
}
