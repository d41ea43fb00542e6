//! Membership, put together: who is there, which channels this node has joined, who reads them, and what a keepalive says of all that.
//! What is decided comes out as [`Effect`]s, which the shell performs in their order. What the store makes of them comes back by
//! [`Peers::joined`], [`Peers::left`], [`Peers::subscribed`], [`Peers::unsubscribed`] and [`Peers::forgotten`].

use std::time::Instant;

use super::Now;
use super::frame::{Frame, Keepalive};
use super::inbox::Consumer;
use super::membership::{Action, Departure, Event, Known, Limits, Membership, News};
use crate::message::{ChannelName, Incarnation, NodeId, StoreId};

mod channels;
mod keepalive;
mod queries;
mod readers;

use channels::Channels;
pub use channels::{ConsumerId, Refused};
use keepalive::Spoken;
use readers::Readers;
pub use readers::{PATIENCE, Start};

/// Who this node is, for others.
#[derive(Debug, Clone)]
pub struct Identity {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub host: String,
    pub version: String,
    /// Whether it takes part in an election.
    pub elects: bool,
}

/// What is known from earlier runs.
#[derive(Debug, Default)]
pub struct Restored {
    pub known: Vec<Known>,
    /// Who reads which of our channels.
    pub subscriptions: Vec<(NodeId, ChannelName)>,
    /// The channels that were left for good.
    pub left: Vec<ChannelName>,
    /// Whether the node is being drained.
    pub held: bool,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// To be broadcast. One that does not leave is made good by the next.
    Beat(Box<Keepalive>),
    /// A hello or a welcome, to be sent to one node.
    Say { to: NodeId, frame: Box<Frame> },
    /// To be brought into the file.
    Note(Vec<Known>),
    /// A peer gets its cursors in a channel; then [`Peers::subscribed`].
    Subscribe { node: NodeId, channel: ChannelName, start: Start },
    /// A peer has left a channel: what waits for it there is given up; then [`Peers::unsubscribed`]. Its deliveries stand still meanwhile.
    Unsubscribe { node: NodeId, channel: ChannelName },
    /// A peer has been away too long: the file is to forget it; then [`Peers::forgotten`]. Its deliveries stand still meanwhile.
    Forget { node: NodeId },
    /// A peer was heard.
    Heard { node: NodeId, news: News },
    /// A peer is gone.
    Offline { node: NodeId, why: Departure },
    /// Whether messages of this channel are taken from now on; `None`: it is not read here.
    Consumer { channel: ChannelName, consumer: Option<Consumer> },
    /// Another node uses our id. `stop`: this node has stood back for it, and says nothing any more.
    Rival { host: String, incarnation: Incarnation, stop: bool },
    /// No room for another peer.
    Full { refused: NodeId },
    /// Others may be online, or gone.
    Changed,
    /// The time at which [`Event::Woke`] is due may be another: see [`Peers::wake_at`].
    Wake,
}

/// What is around it: looked at, or added to.
pub struct Around<'a> {
    pub now: Now,
    /// The store id of new messages.
    pub store: StoreId,
    /// Whether messages were sent to whoever reads this channel.
    pub sends_to: &'a dyn Fn(&ChannelName) -> bool,
    /// Whether a message of this channel is in work here.
    pub works_for: &'a dyn Fn(&ChannelName) -> bool,
    pub out: &'a mut Vec<Effect>,
}

#[derive(Debug)]
pub struct Peers {
    me: Identity,
    membership: Membership,
    channels: Channels,
    readers: Readers,
    spoken: Spoken,
    /// For another node of our name.
    stood_back: bool,
}

impl Peers {
    pub fn new(me: Identity, limits: Limits, restored: Restored, seed: u64, now: Now) -> Self {
        let Restored { known, subscriptions, left, held } = restored;
        let (node, incarnation) = (me.node.clone(), me.incarnation);
        Self {
            me,
            membership: Membership::new(node, incarnation, limits, known, seed, now),
            channels: Channels::new(left, held),
            readers: Readers::new(subscriptions, limits.interval),
            spoken: Spoken::new(now.mono),
            stood_back: false,
        }
    }

    /// A connection is there. One that stood back for another node of its name makes no use of it.
    pub fn link_up(&mut self, around: &mut Around<'_>) {
        self.spoken.sessions += 1;
        if !self.stood_back {
            self.handle(around, Event::LinkUp);
        }
    }

    /// Says this to the membership, and decides what follows from its answer.
    pub fn handle(&mut self, around: &mut Around<'_>, event: Event) {
        let mut changed = matches!(event, Event::Forget(_));
        let mut actions = Vec::new();
        self.membership.handle(around.now, event, &mut actions);
        for action in actions {
            changed |= match &action {
                Action::Heard { news, .. } => news.online || news.restarted,
                Action::Offline { .. } | Action::Expired { .. } => true,
                _ => false,
            };
            self.act(around, action);
        }
        if changed {
            around.out.push(Effect::Changed);
        }
        around.out.push(Effect::Wake);
    }

    /// This process stood still until now: what it has said before that proves nothing.
    pub fn stood_still(&mut self, around: &mut Around<'_>) {
        let spoken = self.spoken.keepalives;
        self.handle(around, Event::StoodStill { spoken });
    }

    /// The node stops: others are told that it takes nothing any more.
    pub fn stop(&mut self, around: &mut Around<'_>) {
        self.spoken.stopping = true;
        self.handle(around, Event::Changed);
    }

    /// Brings into the file what has changed of all peers or of one: when they were last heard, and what they said.
    pub fn note(&mut self, around: &mut Around<'_>, only: Option<&NodeId>) {
        let known = self.membership.note_due(around.now, only);
        if !known.is_empty() {
            around.out.push(Effect::Note(known));
        }
    }

    /// The file has forgotten this peer.
    pub fn forgotten(&mut self, around: &mut Around<'_>, node: NodeId) {
        self.readers.forget(&node);
        self.handle(around, Event::Forget(node));
    }

    /// The file failed while it was to forget this peer: nobody knows what of it is left.
    pub fn not_forgotten(&mut self, node: &NodeId) {
        self.readers.doubt(node);
    }

    /// A message or an answer came from this node: for a peer that is online, as good as a keepalive. False for any other, which
    /// [`Event::Unknown`] then asks. Cheap, because it is said of every frame.
    pub fn spoke(&mut self, now: Now, node: &NodeId) -> bool {
        self.membership.spoke(now, node)
    }

    /// When to say [`Event::Woke`], if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        self.membership.wake_at()
    }

    fn act(&mut self, around: &mut Around<'_>, action: Action) {
        match action {
            Action::Beat { rival } => self.beat(around, rival, false),
            Action::Hello { to, nonce } => {
                self.say(around, to, |keepalive| Frame::Hello { nonce, keepalive });
            }
            Action::Welcome { to, nonce } => {
                self.say(around, to, |keepalive| Frame::Welcome { nonce, keepalive });
            }
            Action::Heard { node, news, keepalive } => self.heard(around, node, news, *keepalive),
            Action::Offline { node, why } => {
                self.note(around, Some(&node));
                around.out.push(Effect::Offline { node, why });
            }
            Action::Expired { node } => around.out.push(Effect::Forget { node }),
            Action::Conflict { host, incarnation, stop } => {
                self.stood_back |= stop;
                around.out.push(Effect::Rival { host, incarnation, stop });
            }
            Action::Full { refused } => around.out.push(Effect::Full { refused }),
        }
    }

    fn heard(&mut self, around: &mut Around<'_>, node: NodeId, news: News, keepalive: Keepalive) {
        if news.first || news.restarted || news.other_store {
            self.note(around, Some(&node));
        }
        self.readers.heard(around.now.mono, &node, &keepalive);
        self.leave_before_return(around, &node, &keepalive.channels);
        for presence in &keepalive.channels {
            self.subscribe(around, &node, presence);
        }
        around.out.push(Effect::Heard { node, news });
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
