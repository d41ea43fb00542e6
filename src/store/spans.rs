//! The store's part of a message's way as `tracing` spans; see `crate::spans`.

use tracing::field::{Empty, display};
use tracing::{Span, debug_span};

use super::types::{InboxAdvance, Notice};
use crate::message::MessageId;

pub(crate) const TARGET: &str = "waypost::message";

/// One transaction of the file.
pub(super) fn commit(jobs: usize) -> Span {
    debug_span!(target: TARGET, "commit", jobs, id = Empty, last = Empty)
}

/// The messages that a transaction appended.
pub(super) fn appended(span: &Span, notices: &[Notice]) {
    if span.is_disabled() {
        return;
    }
    let id = |notice: &Notice| match notice {
        Notice::Appended(entry) => Some(entry.id),
        _ => None,
    };
    ids(span, notices.iter().find_map(id), notices.iter().rev().find_map(id));
}

/// A receipt, within its commit.
pub(super) fn receipt(receipt: &InboxAdvance) -> Span {
    let InboxAdvance { sender, channel, id, .. } = receipt;
    debug_span!(target: TARGET, "receipt", %sender, %channel, %id)
}

/// Which messages a span is about, from the first to the last.
pub(crate) fn ids(span: &Span, first: Option<MessageId>, last: Option<MessageId>) {
    if let (Some(first), Some(last)) = (first, last) {
        span.record("id", display(first));
        span.record("last", display(last));
    }
}
