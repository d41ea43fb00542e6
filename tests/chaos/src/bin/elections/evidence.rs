//! All that was written in a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::log::{At, COMMANDS, Command, DEEDS, Deed, Said, VOTERS, WATCHER, name_of, read};

/// What the judge looks at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// By node; the lines of all its runs, in order.
    pub(crate) said: BTreeMap<String, Vec<At<Said>>>,
    /// In the order in which the fence let them pass.
    pub(crate) commands: Vec<At<Command>>,
    pub(crate) deeds: Vec<At<Deed>>,
    /// Lines that a process had only begun when it was killed.
    pub(crate) torn: usize,
}

impl Evidence {
    /// Reads the folder of a run.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut evidence = Self::default();
        let (deeds, torn) = read(&folder.join(DEEDS))?;
        ensure!(torn == 0, "{DEEDS} has lines that are none");
        ensure!(!deeds.is_empty(), "{} is no folder of a run", folder.display());
        evidence.deeds = deeds;
        for name in VOTERS.into_iter().chain([WATCHER]) {
            let mut lines = Vec::new();
            for run in 1..=evidence.runs(name) {
                let path = folder.join(name_of(name, run));
                let (of_run, torn) = read(&path).with_context(|| path.display().to_string())?;
                lines.extend(of_run);
                evidence.torn += torn;
            }
            evidence.said.insert(name.to_owned(), lines);
        }
        let (commands, torn) = read(&folder.join(COMMANDS))?;
        evidence.commands = commands;
        evidence.torn += torn;
        Ok(evidence)
    }

    /// How often this node was started.
    fn runs(&self, name: &str) -> u32 {
        let started = self
            .deeds
            .iter()
            .filter(|deed| matches!(&deed.what, Deed::Start { node, .. } if node.as_str() == name));
        started.count().try_into().unwrap_or(u32::MAX)
    }
}
