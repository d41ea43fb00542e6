//! Why the messages in a file don't move: by its running node's word, or by what is found in its place.

use waypost::inspect::{Holder, Inspector, Use};
use waypost::management::About;
use waypost::reason::Told;
use waypost::{Config, NodeId, Reason};

use super::{queue, reports};

/// What is in the way of this file's node, of all of its messages or of these; and how many more reasons it knows.
pub(super) async fn of_file(config: &Config, about: &[About]) -> anyhow::Result<(Vec<Told>, u64)> {
    let look = |inspector: &Inspector| {
        let owner = inspector.summary().ok().and_then(|summary| summary.node);
        Ok((inspector.path().display().to_string(), inspector.in_use(), owner))
    };
    let (path, in_use, owner) = queue::read(config, look).await?;
    let holder = match in_use? {
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
