//! Frames of messages that are made ahead of their time.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::convert::Body;
use crate::message::NodeId;
use crate::protocol::outbound::Outgoing;

/// Bytes of frames that are made ahead of their time and kept, of all receivers together.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;

/// Frames that were made while an answer was awaited, one a receiver.
#[derive(Default)]
pub(super) struct Ahead {
    /// Whose next frame is worth a look.
    candidates: Vec<NodeId>,
    made: BTreeMap<NodeId, (Outgoing<Body>, Bytes)>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn is_wanted(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// A frame to this receiver has left.
    pub(super) fn follows(&mut self, receiver: NodeId) {
        self.candidates.push(receiver);
    }

    pub(super) fn candidates(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.candidates)
    }

    /// The frame that was made for this one, if one was.
    pub(super) fn take(&mut self, outgoing: &Outgoing<Body>) -> Option<Bytes> {
        let (made, bytes) = self.remove(&outgoing.receiver)?;
        made.is_same_frame(outgoing).then_some(bytes)
    }

    pub(super) fn keep(&mut self, outgoing: Outgoing<Body>, bytes: Bytes) {
        self.remove(&outgoing.receiver);
        if self.bytes + bytes.len() <= AHEAD_BYTES {
            self.bytes += bytes.len();
            self.made.insert(outgoing.receiver.clone(), (outgoing, bytes));
        }
    }

    /// Messages travel under another store id from now on.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// This receiver is gone.
    pub(super) fn forget(&mut self, receiver: &NodeId) {
        self.remove(receiver);
    }

    fn remove(&mut self, receiver: &NodeId) -> Option<(Outgoing<Body>, Bytes)> {
        let taken = self.made.remove(receiver)?;
        self.bytes -= taken.1.len();
        Some(taken)
    }
}
