//! What is sent from here, and why something cannot be.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use waypost::NodeId;

use crate::hub::Hub;
use crate::room::{Change, File, MAX_TEXT_BYTES};

/// Whether it can be sent.
///
/// # Errors
/// It cannot, and why.
pub(super) fn check(change: &Change) -> anyhow::Result<()> {
    match change {
        Change::Text(text) | Change::Edit { text, .. } => {
            ensure!(!text.trim().is_empty(), "the text is empty");
            let bytes = text.len();
            ensure!(
                bytes <= MAX_TEXT_BYTES,
                "the text has {bytes} bytes, and {MAX_TEXT_BYTES} are allowed"
            );
        }
        Change::React { emoji, .. } => {
            ensure!(
                change.is_valid(),
                "a reaction is an emoji or a short word without spaces, not {emoji:?}"
            );
        }
        Change::File(file) => {
            ensure!(
                change.is_valid(),
                "the file's name {:?} is too long to be told, or holds a backslash or control characters",
                file.name
            );
        }
        Change::Delete { .. } | Change::Read(_) => {}
    }
    Ok(())
}

/// What is told of a file.
///
/// # Errors
/// It cannot be read, or has no name that is text.
pub(super) async fn describe(path: &Path) -> anyhow::Result<File> {
    let metadata = tokio::fs::metadata(path)
        .await
        .with_context(|| format!("{} can't be read", path.display()))?;
    if !metadata.is_file() {
        bail!("{} is no file", path.display());
    }
    let name =
        path.file_name().and_then(|name| name.to_str()).context("the file's name is no text")?;
    let media_type = mime_guess::from_path(path).first_or_octet_stream().essence_str().to_owned();
    Ok(File { name: name.to_owned(), size: metadata.len(), media_type })
}

/// Whether this node has ever heard of that one.
///
/// # Errors
/// The node has stopped.
pub(super) async fn is_known(hub: &Hub, node: &NodeId) -> anyhow::Result<bool> {
    Ok(hub.online().contains(node)
        || hub.node().peers().await?.iter().any(|peer| peer.node == *node))
}
