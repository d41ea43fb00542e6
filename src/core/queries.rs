//! What can be asked of a node without changing it; and what its shell pulls out of it when it performs an effect.

use std::collections::VecDeque;
use std::time::Instant;

use super::{At, Core, Effect, Outside, Turn};
use crate::message::{ChannelName, NodeId, StoreId, TopicId};
use crate::protocol::Now;
use crate::protocol::admin::Closed;
use crate::protocol::frame::ChannelPresence;
use crate::protocol::inbox::begun::{Note, Slot};
use crate::protocol::leadership::Leadership;
use crate::protocol::lifecycle::End;
use crate::protocol::outbound::{Outbound, Outgoing, Topic};
use crate::protocol::report::{ChannelInfo, PeerInfo, ReportedState, Topology};
use crate::protocol::settling::{Attempt, Run, Settling};

impl From<&ChannelPresence> for ChannelInfo {
    fn from(presence: &ChannelPresence) -> Self {
        Self {
            name: presence.name.clone(),
            mode: presence.mode,
            paused: presence.paused,
            age_ms: presence.age_ms,
        }
    }
}

impl<B: Clone, C> Core<B, C> {
    /// Whether there is a connection.
    pub fn is_linked(&self) -> bool {
        self.link
    }

    /// Whether the node takes part in an election.
    pub fn elects(&self) -> bool {
        self.leadership.is_some()
    }

    /// The store id of new messages.
    pub fn store(&self) -> StoreId {
        self.outbound.store()
    }

    pub fn topic(&self, topic: TopicId) -> Option<&Topic> {
        self.outbound.topic(topic)
    }

    pub fn topic_of(&self, topic: &Topic) -> Option<TopicId> {
        self.outbound.topic_of(topic)
    }

    /// Whether others, whose frames found no room, come before this receiver.
    pub fn is_behind(&self, receiver: &NodeId) -> bool {
        self.outbound.is_behind(receiver)
    }

    /// The frame that is to be published to this receiver; none where it has gone out, or is not to be sent any more.
    pub fn next_frame(&mut self, receiver: &NodeId) -> Option<Outgoing<B>> {
        self.outbound.next_frame(receiver)
    }

    /// The frame that is likely to be the next to this receiver.
    pub fn foresee(&self, receiver: &NodeId, now: Now) -> Option<Outgoing<B>> {
        self.outbound.foresee(receiver, now)
    }

    /// How many receivers have a frame that found no room.
    pub fn waits_for_room(&self) -> usize {
        self.outbound.wait_for_room()
    }

    /// By when a peer's leaving is to be acted upon, if one has left.
    pub fn leaves_by(&self) -> Option<Instant> {
        self.peers.leaves_by()
    }

    pub fn sessions(&self) -> u64 {
        self.peers.sessions()
    }

    pub fn has_joined(&self, channel: &ChannelName) -> bool {
        self.peers.has_joined(channel)
    }

    pub fn readers(&self, channel: &ChannelName) -> impl Iterator<Item = &NodeId> {
        self.peers.readers(channel)
    }

    /// What an order keeps this node from.
    pub fn closed(&self) -> &Closed {
        self.admin.closed()
    }

    pub fn topology(&self, at: At) -> Topology {
        let now_ms = at.now.file_ms;
        let peers = self.peers.views().map(|peer| PeerInfo {
            heard_ms_ago: now_ms.saturating_sub(peer.seen_ms),
            node: peer.node,
            online: peer.online,
            incarnation: peer.incarnation,
            host: peer.host,
            version: peer.version,
            draining: peer.draining,
            channels: peer.channels.iter().map(ChannelInfo::from).collect(),
        });
        Topology {
            node: self.me.clone(),
            election: self.leadership.as_ref().map(|it| it.info(at.counted)),
            channels: self.peers.presences(now_ms).map(|it| ChannelInfo::from(&it)).collect(),
            peers: peers.collect(),
        }
    }

    /// The election's state, for a report.
    pub fn state_to_report(&self) -> Option<ReportedState> {
        self.leadership.as_ref().and_then(Leadership::state_to_report)
    }

    /// What the last process was at when it ended: how that stands now.
    pub fn noted(&mut self, notes: Vec<Note>) -> Vec<(Slot, Note)> {
        self.inbound.noted(notes)
    }

    /// What is still begun, at the end.
    pub fn noted_at_end(&self) -> Vec<(Slot, Note)> {
        self.inbound.noted_at_end()
    }

    pub fn is_stopping(&self) -> bool {
        self.lifecycle.is_stopping()
    }

    /// Whether a stop has nothing left to wait for.
    pub fn has_stopped(&self, now: Instant) -> bool {
        let busy = || self.inbound.busy() > 0 || self.outbound.is_busy();
        self.lifecycle.is_stopping() && self.lifecycle.is_over(now, busy())
    }

    /// What is done at the end.
    pub fn end(&self) -> End {
        self.lifecycle.end()
    }

    /// How many receipts are on their way to the file.
    pub fn committing(&self) -> usize {
        self.inbound.committing()
    }

    /// All that is settled and not on record, at the end of the process.
    pub fn unrecorded<O>(
        &mut self,
        (outside, at): (&O, At),
        out: &mut VecDeque<Effect<C>>,
    ) -> (Vec<Run>, Vec<Attempt>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        self.with_outbound(&mut Turn { outside, at, out }, Outbound::unrecorded)
    }

    /// Whether the file knows all there is to know, and has answered.
    pub fn is_recorded(&self, settling: &Settling) -> bool {
        self.outbound.is_recorded(settling)
    }
}
