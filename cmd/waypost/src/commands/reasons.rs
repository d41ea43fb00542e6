//! Why the messages in a file don't move: by its running node's word, or by what is found in its place.

use std::path::PathBuf;

use anyhow::Context;
use waypost::inspect::{self, Holder, InspectError, Inspector, Use};
use waypost::management::About;
use waypost::reason::Told;
use waypost::{Config, NodeId, Reason};

use super::reports;
use crate::run::Usage;
use crate::settings;

/// Who uses a file, as far as that can be told.
struct Found {
    path: String,
    in_use: Use,
    owner: Option<NodeId>,
}

/// A node that runs has an answer even where its file is gone, or cannot be read any more.
fn look(path: PathBuf) -> Result<Found, InspectError> {
    let file = Inspector::open(&path);
    let in_use = inspect::in_use(&path)?;
    let file = match (file, &in_use) {
        (Err(error), Use::Free) => return Err(error),
        (file, _) => file.ok(),
    };
    let owner = file.as_ref().and_then(|file| file.summary().ok()?.node);
    let path = file.as_ref().map_or(&*path, Inspector::path).display().to_string();
    Ok(Found { path, in_use, owner })
}

/// What is in the way of this file's node, of all of its messages or of these; and how many more reasons it knows.
pub(super) async fn of_file(config: &Config, about: &[About]) -> anyhow::Result<(Vec<Told>, u64)> {
    let path = settings::storage(config).map_err(Usage)?;
    let looking = tokio::task::spawn_blocking(move || look(path));
    let Found { path, in_use, owner } = looking.await.context("reading the file")??;
    let holder = match in_use {
        Use::Free => return Ok(told(Reason::NotRunning { path })),
        Use::By(holder) => holder,
        _ => None,
    };
    let (node, silent) = match (holder, owner) {
        (Some(Holder { node, pid, host }), _) => match NodeId::new(&node) {
            Ok(node) => (node.clone(), Reason::Silent { node, pid }),
            // A command that works on the file has its lock for a moment, too.
            Err(_) => {
                let who = format!("{node} (process {pid} on {host})");
                return Ok(told(Reason::FileInUse { path, who }));
            }
        },
        // On a full disk the lock does not say who has it: most likely the node whose file it is.
        (None, Some(node)) => {
            let who =
                format!("{UNNAMED}, and {node}, whose file it is, answers no question over NATS");
            (node, Reason::FileInUse { path, who })
        }
        (None, None) => return Ok(told(Reason::FileInUse { path, who: UNNAMED.to_owned() })),
    };
    match reports::ask_why(config, &node, about).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Ok(told(silent)),
        Err(error) => match error.reason() {
            Some(reason) => Ok(told(reason)),
            None => Err(error.into()),
        },
    }
}

/// Who has a lock in which no name stands.
const UNNAMED: &str = "a process that its lock file does not name";

fn told(reason: Reason) -> (Vec<Told>, u64) {
    (vec![Told::from(&reason)], 0)
}
