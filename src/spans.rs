//! A message's way as `tracing` spans, all at the level debug and with the target `waypost::message`, so that one filter turns them on:
//! `send` and `commit` at the sender, `publish` for each frame, `receive`, `handle` for each message, `commit` and `receipt`, and `ack` on both
//! sides. Where nobody wants them, each costs the look at a static number.

use tracing::field::Empty;
use tracing::{Span, debug_span};

use crate::incoming::Content;
use crate::message::{ChannelName, MessageId, NodeId};
use crate::protocol::frame::{Answer, MessageFrame, Verdict};
use crate::store::spans::TARGET;
pub(crate) use crate::store::spans::ids;

/// Messages on their way into the file; [`ids`] adds which, once they have ids.
pub(crate) fn send(node: &NodeId, channel: &ChannelName, count: usize) -> Span {
    debug_span!(target: TARGET, "send", %node, %channel, count, id = Empty, last = Empty)
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
