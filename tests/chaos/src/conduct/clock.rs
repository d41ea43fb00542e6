//! The wall clocks of nodes, each set by itself: libfaketime stands before the system's and reads a file by how much it is off. The clocks that
//! count from the machine's start are left alone, as they are when a person or a time server sets the clock.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

/// Between two looks of a process at how much its clock is off, in seconds.
const LOOK_S: &str = "1";
const DAY_S: i64 = 86_400;
/// By how much clocks are off: as a person mistypes, as a board without a battery boots (1970, or the day of its image), years ahead.
const STEPS_S: [i64; 6] =
    [-3_600, 3_600, -21 * DAY_S, 2 * DAY_S, 3 * 365 * DAY_S, -56 * 365 * DAY_S];

/// The clocks of one part.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    library: PathBuf,
    folder: PathBuf,
}

impl Clocks {
    /// Puts all of them right.
    pub(super) fn new(library: &Path, folder: &Path, nodes: &[String]) -> anyhow::Result<Self> {
        let clocks = Self { library: library.to_owned(), folder: folder.join("clocks") };
        std::fs::create_dir_all(&clocks.folder)?;
        nodes.iter().try_for_each(|node| clocks.set(node, 0))?;
        Ok(clocks)
    }

    /// Lets a program live by this node's clock.
    pub(super) fn install(&self, command: &mut Command, node: &str) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.folder.join(node))
            .env("FAKETIME_CACHE_DURATION", LOOK_S)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets a clock wrong, by one of the steps.
    pub(super) fn step(&self, node: &str, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        self.set(node, STEPS_S[random.usize(..STEPS_S.len())])
    }

    /// Sets it right.
    pub(super) fn correct(&self, node: &str) -> anyhow::Result<()> {
        self.set(node, 0)
    }

    /// In one step, since the file is read at any time.
    fn set(&self, node: &str, off_s: i64) -> anyhow::Result<()> {
        let (file, new) = (self.folder.join(node), self.folder.join(format!("{node}.new")));
        std::fs::write(&new, format!("{off_s:+}\n"))
            .and_then(|()| std::fs::rename(&new, &file))
            .with_context(|| format!("setting the clock of {node}"))
    }
}
