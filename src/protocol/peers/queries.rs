//! What others want to know of the peers, and of this node's own channels.

use std::time::{Duration, Instant};

use super::Peers;
use crate::message::{ChannelName, Incarnation, NodeId};
use crate::protocol::Now;
use crate::protocol::frame::ChannelPresence;
use crate::protocol::membership::PeerView;
use crate::protocol::stalls::Standing;

impl Peers {
    /// Whether this node gave way to another one of its name.
    pub fn has_stood_back(&self) -> bool {
        self.stood_back
    }

    /// Whether messages have to wait: this node stood still, and does not know yet whether it is still the only one of its name.
    pub fn is_in_doubt(&self) -> bool {
        self.membership.is_in_doubt()
    }

    /// Until when another node of our name has time to object to a start, `least` at least; none where that is over.
    pub fn objects_until(&self, now: Instant, least: Duration) -> Option<Instant> {
        match self.membership.objects_until(least) {
            Some(until) => (until > now).then_some(until),
            // Our own word has not come back: on a loaded machine that takes its time.
            None => self.membership.is_probing(now).then_some(now + least),
        }
    }

    /// How many connections there were.
    pub fn sessions(&self) -> u64 {
        self.spoken.sessions
    }

    pub fn has_joined(&self, channel: &ChannelName) -> bool {
        self.channels.has(channel)
    }

    /// The channels that this node has joined.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.names()
    }

    /// The same, as others are told of them.
    pub fn presences(&self, now_ms: u64) -> impl Iterator<Item = ChannelPresence> {
        self.channels.presences(now_ms)
    }

    /// Those of them in which it is by this program's own doing that nothing is taken.
    pub fn deaf(&self) -> impl Iterator<Item = &ChannelName> {
        self.channels.deaf()
    }

    pub fn is_peer(&self, node: &NodeId) -> bool {
        self.membership.is_peer(node)
    }

    pub fn is_online(&self, node: &NodeId) -> bool {
        self.membership.is_online(node)
    }

    /// How many peers are online.
    pub fn online(&self) -> usize {
        self.membership.online()
    }

    /// The peers that are online and take part in an election.
    pub fn electors(&self) -> impl Iterator<Item = &NodeId> {
        self.membership.electors()
    }

    /// Which peers have joined this channel as readers, by their last word.
    pub fn readers(&self, channel: &ChannelName) -> impl Iterator<Item = &NodeId> {
        self.membership.readers(channel)
    }

    /// What is known of each peer.
    pub fn views(&self) -> impl Iterator<Item = PeerView> {
        self.membership.peers()
    }

    /// Which run of a peer was heard last.
    pub fn incarnation(&self, node: &NodeId) -> Option<Incarnation> {
        self.membership.peers().find(|peer| peer.node == *node).map(|peer| peer.incarnation)
    }

    /// Whether a peer is about to be forgotten, so that what is counted of it has to be noted: see [`note`](Self::note).
    pub fn forgets_soon(&self, now: Now) -> bool {
        self.membership.forgets_soon(now)
    }

    /// Whether the peer takes this channel's messages, by its last word; none where it has said nothing in this run.
    pub fn takes(&self, node: &NodeId, channel: &ChannelName) -> Option<bool> {
        let takes = |c: &ChannelPresence| c.name == *channel && c.mode.reads() && !c.paused;
        Some(self.membership.peer(node)?.iter().any(takes))
    }

    /// What keeps a receiver from being sent a channel's messages; none where nothing does.
    pub fn hindrance(
        &self,
        now_ms: u64,
        receiver: &NodeId,
        channel: &ChannelName,
    ) -> Option<Standing> {
        let Some(seen_ms) = self.membership.seen_ms(receiver) else {
            return Some(Standing::NeverHeard);
        };
        if !self.membership.is_online(receiver) {
            return Some(Standing::Offline { heard_ms_ago: now_ms.saturating_sub(seen_ms) });
        }
        let channels = self.membership.peer(receiver).unwrap_or_default();
        match channels.iter().find(|presence| presence.name == *channel && presence.mode.reads()) {
            None => Some(Standing::NotJoined),
            Some(presence) if presence.paused => Some(Standing::Paused),
            Some(_) => None,
        }
    }
}
