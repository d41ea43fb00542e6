//! What nodes' files say, asked of the operator's command.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;

use anyhow::{Context, ensure};
use waypost::inspect::Inspector;

use super::roles::Stage;
use crate::check::{Account, DeadLetter, Queue};

/// What waits for whom in this node's file; none for nobody known.
pub(super) async fn pending(
    stage: &Stage,
    node: &str,
) -> anyhow::Result<BTreeMap<Option<String>, u64>> {
    let queues = queues(stage, node).await?;
    Ok(queues.into_iter().map(|queue| (queue.receiver, queue.pending)).collect())
}

async fn queues(stage: &Stage, node: &str) -> anyhow::Result<Vec<Queue>> {
    let mut command = stage.program("waypost", node, "nats://127.0.0.1:1")?;
    let output = command
        .args(["queue", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(output.status.success(), "`waypost queue` of {node} ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Writes down what this node's file, at rest now, says in the end.
pub(super) async fn close(stage: &Stage, node: &str) -> anyhow::Result<()> {
    let mut command = stage.program("waypost", node, "nats://127.0.0.1:1")?;
    let checked =
        command.args(["db", "check"]).stderr(Stdio::null()).kill_on_drop(true).status().await?;
    let letters = Inspector::open(stage.file(node))?.dead_letters(u32::MAX)?;
    let letter = |letter: waypost::inspect::DeadLetter| DeadLetter {
        receiver: letter.receiver.to_string(),
        id: letter.id.to_string(),
        reason: letter.reason,
    };
    let account = Account {
        check: checked.code().unwrap_or(-1),
        queue: queues(stage, node).await?,
        dead_letters: letters.into_iter().map(letter).collect(),
    };
    let path = stage.folder.join("accounts").join(format!("{node}.json"));
    serde_json::to_writer(
        File::create(&path).with_context(|| format!("making {}", path.display()))?,
        &account,
    )?;
    Ok(())
}
