//! Who reads this node's channels: peers get their cursors when they are heard to read one, and lose them when they have left it.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Around, Effect, Peers};
use crate::message::{ChannelName, NodeId, StartAt};
use crate::protocol::frame::{ChannelPresence, Keepalive};

/// How long input that does not end may put off what follows from a peer's leaving.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// Where a new reader begins in a channel's backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Now,
    All,
    /// As `Since`, and with what waits for a first reader.
    Joined {
        age_ms: u64,
    },
    /// With the first message that is not older than this, by the file's clock.
    Since {
        age_ms: u64,
    },
}

/// A node that said that it left a channel. Its last answers may still lie in another subscription of ours: what is there is looked at first.
#[derive(Debug)]
struct Leaving {
    heard: Instant,
    node: NodeId,
    channel: ChannelName,
}

#[derive(Debug)]
pub(super) struct Readers {
    /// As the file has them, but for those that are leaving.
    subscriptions: BTreeSet<(NodeId, ChannelName)>,
    /// The file failed while it noted that they came or went, and nobody knows what it holds: the next word of theirs is noted in any case.
    doubtful: BTreeSet<(NodeId, ChannelName)>,
    /// What the file is asked to note.
    subscribing: BTreeSet<(NodeId, ChannelName)>,
    /// In the order in which they were heard.
    leaving: VecDeque<Leaving>,
    /// By so much longer ago than a peer says it may have joined: the announcement took its time, in which messages may have been sent.
    margin: Duration,
}

impl Readers {
    pub(super) fn new(subscriptions: Vec<(NodeId, ChannelName)>, margin: Duration) -> Self {
        let subscriptions = subscriptions.into_iter().collect();
        let (doubtful, subscribing) = (BTreeSet::new(), BTreeSet::new());
        Self { subscriptions, doubtful, subscribing, leaving: VecDeque::new(), margin }
    }

    pub(super) fn forget(&mut self, node: &NodeId) {
        self.subscriptions.retain(|(reader, _)| reader != node);
        self.doubtful.retain(|(reader, _)| reader != node);
    }

    pub(super) fn doubt(&mut self, node: &NodeId) {
        let all = std::mem::take(&mut self.subscriptions).into_iter();
        let (of, others): (Vec<_>, Vec<_>) = all.partition(|(reader, _)| reader == node);
        self.subscriptions = others.into_iter().collect();
        self.doubtful.extend(of);
    }

    /// Which channels of ours this peer says that it left.
    pub(super) fn heard(&mut self, now: Instant, node: &NodeId, keepalive: &Keepalive) {
        for channel in &keepalive.left {
            let joined = keepalive.channels.iter().any(|presence| presence.name == *channel);
            let key = (node.clone(), channel.clone());
            let known = self.subscriptions.contains(&key) || self.doubtful.contains(&key);
            if !joined && known {
                self.subscriptions.remove(&key);
                self.doubtful.remove(&key);
                let (node, channel) = key;
                self.leaving.push_back(Leaving { heard: now, node, channel });
            }
        }
    }

    fn start(&self, presence: &ChannelPresence) -> Start {
        let margin_ms = u64::try_from(self.margin.as_millis()).unwrap_or(u64::MAX);
        match presence.start {
            StartAt::Now => Start::Now,
            StartAt::All => Start::All,
            StartAt::Joined => Start::Joined { age_ms: presence.age_ms.saturating_add(margin_ms) },
            StartAt::SinceMs(age_ms) => {
                Start::Since { age_ms: age_ms.saturating_add(presence.age_ms) }
            }
        }
    }
}

impl Peers {
    /// By when [`leave_next`](Self::leave_next) is to be said, whatever input there is; before, as soon as there is none.
    pub fn leaves_by(&self) -> Option<Instant> {
        self.readers.leaving.front().map(|leaving| leaving.heard + PATIENCE)
    }

    /// The peer whose leaving was heard first is taken at its word.
    pub fn leave_next(&mut self, around: &mut Around<'_>) {
        if let Some(leaving) = self.readers.leaving.pop_front() {
            unsubscribe(around, leaving);
        }
    }

    /// It is back in a channel that it left just before: its leaving is carried out first, or it would take the new subscription.
    pub(super) fn leave_before_return(
        &mut self,
        around: &mut Around<'_>,
        node: &NodeId,
        channels: &[ChannelPresence],
    ) {
        let is_back = |it: &Leaving| {
            it.node == *node && channels.iter().any(|presence| presence.name == it.channel)
        };
        let (back, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.readers.leaving).into_iter().partition(is_back);
        self.readers.leaving = others;
        back.into_iter().for_each(|leaving| unsubscribe(around, leaving));
    }

    /// A peer reads a channel of ours that the file does not know it to read: it gets a cursor.
    pub(super) fn subscribe(
        &mut self,
        around: &mut Around<'_>,
        node: &NodeId,
        presence: &ChannelPresence,
    ) {
        let channel = &presence.name;
        let ours = self.channels.writes(channel) || (around.sends_to)(channel);
        let key = (node.clone(), channel.clone());
        let readers = &mut self.readers;
        if !ours
            || !presence.mode.reads()
            || readers.subscriptions.contains(&key)
            || !readers.subscribing.insert(key)
        {
            return;
        }
        let (node, channel, start) = (node.clone(), channel.clone(), readers.start(presence));
        around.out.push(Effect::Subscribe { node, channel, start });
    }

    /// We write a channel now: its readers that we know of get their cursors.
    pub(super) fn subscribe_known(&mut self, around: &mut Around<'_>, channel: &ChannelName) {
        let now_ms = around.now.file_ms;
        let readers: Vec<(NodeId, ChannelPresence)> = self
            .membership
            .peers()
            .flat_map(|peer| {
                let (node, since_ms) = (peer.node, now_ms.saturating_sub(peer.seen_ms));
                peer.channels.into_iter().map(move |mut presence| {
                    presence.age_ms = presence.age_ms.saturating_add(since_ms);
                    (node.clone(), presence)
                })
            })
            .filter(|(_, presence)| presence.name == *channel)
            .collect();
        for (node, presence) in readers {
            self.subscribe(around, &node, &presence);
        }
    }

    /// The file has noted that this peer reads the channel, or could not; then its next keepalive tries again.
    pub fn subscribed(&mut self, node: NodeId, channel: ChannelName, taken: bool) {
        let key = (node, channel);
        self.readers.subscribing.remove(&key);
        if taken {
            self.readers.doubtful.remove(&key);
            self.readers.subscriptions.insert(key);
        } else {
            self.readers.doubtful.insert(key);
        }
    }

    /// The file has noted that this peer left the channel, or could not; then its next keepalive tries again.
    pub fn unsubscribed(&mut self, node: NodeId, channel: ChannelName, taken: bool) {
        if !taken {
            self.readers.doubtful.insert((node, channel));
        }
    }
}

fn unsubscribe(around: &mut Around<'_>, leaving: Leaving) {
    let Leaving { node, channel, .. } = leaving;
    around.out.push(Effect::Unsubscribe { node, channel });
}
