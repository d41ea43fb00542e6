//! A message's way as `tracing` spans, all at the level debug and with the target `waypost::message`, so that one filter turns them on:
//! `send` and `commit` at the sender, `publish` for each frame, `receive`, `handle` for each message, `commit` and `receipt`, and `ack` on both
//! sides. Where nobody wants them, each costs the look at a static number.

use tracing::field::{Empty, display};
use tracing::{Span, debug_span};

use crate::incoming::Content;
use crate::message::{ChannelName, MessageId, NodeId};
use crate::protocol::frame::{Answer, MessageFrame, Verdict};
use crate::store::{InboxAdvance, Notice};

const TARGET: &str = "waypost::message";

/// Messages on their way into the file; [`ids`] adds which, once they have ids.
pub(crate) fn send(node: &NodeId, channel: &ChannelName, count: usize) -> Span {
    debug_span!(target: TARGET, "send", %node, %channel, count, id = Empty, last = Empty)
}

/// One transaction of the file.
pub(crate) fn commit(jobs: usize) -> Span {
    debug_span!(target: TARGET, "commit", jobs, id = Empty, last = Empty)
}

/// The messages that a transaction appended.
pub(crate) fn appended(span: &Span, notices: &[Notice]) {
    if span.is_disabled() {
        return;
    }
    let id = |notice: &Notice| match notice {
        Notice::Appended(entry) => Some(entry.id),
        _ => None,
    };
    ids(span, notices.iter().find_map(id), notices.iter().rev().find_map(id));
}

/// Which messages a span is about.
pub(crate) fn ids(span: &Span, first: Option<MessageId>, last: Option<MessageId>) {
    if let (Some(first), Some(last)) = (first, last) {
        span.record("id", display(first));
        span.record("last", display(last));
    }
}

/// A receipt, within its commit.
pub(crate) fn receipt(receipt: &InboxAdvance) -> Span {
    let InboxAdvance { sender, channel, id, .. } = receipt;
    debug_span!(target: TARGET, "receipt", %sender, %channel, %id)
}

/// A frame on its way out.
pub(crate) fn publish(
    (node, receiver): (&NodeId, &NodeId),
    id: MessageId,
    count: usize,
    attempt: u32,
) -> Span {
    debug_span!(target: TARGET, "publish", %node, %receiver, %id, count, attempt)
}

/// A frame that came in.
pub(crate) fn receive(node: &NodeId, frame: &MessageFrame) -> Span {
    let Some(first) = frame.messages.first() else { return Span::none() };
    let (sender, channel) = (&frame.from, &frame.stream.channel);
    let (id, count, attempt) = (first.id, frame.messages.len(), frame.attempt);
    debug_span!(target: TARGET, "receive", %node, %sender, %channel, %id, count, attempt)
}

/// A message with its handlers.
pub(crate) fn handle(message: &Content) -> Span {
    let Content { sender, channel, id, attempt, .. } = message;
    debug_span!(target: TARGET, "handle", %sender, %channel, %id, attempt)
}

/// An answer on its way out, or one that came in: `from` is who answers.
pub(crate) fn ack(answer: &Answer) -> Span {
    let Answer { from, to, id, verdict, .. } = answer;
    let verdict = match verdict {
        Verdict::Ack => "ack",
        Verdict::Working => "working",
        Verdict::Busy { .. } => "busy",
        Verdict::Paused => "paused",
        Verdict::NotJoined => "not joined",
        Verdict::Failed { .. } => "failed",
        Verdict::Refused { .. } => "refused",
    };
    debug_span!(target: TARGET, "ack", %from, %to, %id, verdict)
}
