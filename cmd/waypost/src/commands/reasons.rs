//! Why the messages in a file don't move: by its running node's word, or by what is found in its place.

use waypost::inspect::{Inspector, Use};
use waypost::reason::Told;
use waypost::{Config, NodeId, Reason};

use super::{queue, reports};

/// All that is in the way of this file's node, the most important first.
pub(super) async fn of_file(config: &Config) -> anyhow::Result<Vec<Told>> {
    let look = |inspector: &Inspector| Ok((inspector.path().to_owned(), inspector.in_use()));
    let (path, in_use) = queue::read(config, look).await?;
    let holder = match in_use? {
        Use::Free => return Ok(told(Reason::NotRunning { path: path.display().to_string() })),
        Use::By(holder) => holder,
        _ => None,
    };
    // A command that works on the file has its lock for a moment, too.
    let Some(holder) = holder else { return Ok(Vec::new()) };
    let Ok(node) = NodeId::new(&holder.node) else { return Ok(Vec::new()) };
    match reports::ask_quietly(config, &node).await {
        Ok(Some(report)) => Ok(report.reasons),
        Ok(None) => Ok(told(Reason::Silent { node, pid: holder.pid })),
        Err(error) => match error.reason() {
            Some(reason) => Ok(told(reason)),
            None => Err(error.into()),
        },
    }
}

fn told(reason: Reason) -> Vec<Told> {
    vec![Told::from(&reason)]
}
