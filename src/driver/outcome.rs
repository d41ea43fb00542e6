//! What came of handlers' calls.

use crate::message::MessageId;
use crate::protocol::inbox::Done;

/// What came of each message of a run, up to the first that did not end well, and why it did not.
pub(super) type Results = Vec<(MessageId, Result<Done, String>)>;

/// The error with its sources.
pub(super) fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}
