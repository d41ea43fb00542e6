//! What a process begins with, and what it is told anew when the file was opened again under it.

use waypost::protocol::TopicId;
use waypost::protocol::election::Durable;
use waypost::protocol::inbox::Source;
use waypost::protocol::membership::Known;
use waypost::{ChannelName, MessageId, NodeId, StoreId};

use super::{Cursor, Notice, Tables, TopicRow};

#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) stores: Vec<(MessageId, StoreId)>,
    pub(crate) last_id: MessageId,
    pub(crate) topics: Vec<(TopicId, TopicRow)>,
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) peers: Vec<Known>,
    pub(crate) subscriptions: Vec<(NodeId, ChannelName)>,
    pub(crate) inbox: Vec<(Source, MessageId)>,
    pub(crate) left: Vec<ChannelName>,
    pub(crate) draining: Option<NodeId>,
    pub(crate) election: Durable,
}

impl Tables {
    pub(crate) fn restored(&self) -> Restored {
        let left = self.joins.iter().filter(|(_, row)| row.left_ms.is_some());
        Restored {
            stores: self.stores.iter().map(|(from, store)| (*from, *store)).collect(),
            last_id: self.last_id.unwrap_or(MessageId::ZERO),
            topics: self.topics.iter().map(|(topic, row)| (*topic, row.clone())).collect(),
            cursors: self.open_cursors(),
            peers: self.peers.values().cloned().collect(),
            subscriptions: self.subscriptions.iter().map(|(c, n)| (n.clone(), c.clone())).collect(),
            inbox: self.inbox.iter().map(|(source, last)| (source.clone(), *last)).collect(),
            left: left.map(|(channel, _)| channel.clone()).collect(),
            draining: self.draining.clone(),
            election: self.election.clone(),
        }
    }

    /// Whether a message of this id came and was taken under another store id of its sender's: its file turned out to be an older copy of itself,
    /// and what this run of its had made was sent again under a new store id.
    pub(crate) fn was_taken_elsewhere(&self, source: &Source, id: MessageId) -> bool {
        self.inbox.iter().any(|(other, last)| {
            let same = other.sender == source.sender && other.stream == source.stream;
            same && other.store != source.store && *last >= id
        })
    }

    /// What a failed commit left in the file all the same has not been told. Whoever knows of it already sees nothing new.
    pub(crate) fn retold(&self, open_before: &[(NodeId, TopicId)]) -> Vec<Notice> {
        let topics = self.topics.iter().map(|(t, row)| Notice::TopicOpened(*t, row.clone()));
        let is_open =
            |key: &&(NodeId, TopicId)| self.cursors.get(*key).is_some_and(|cursor| cursor.open);
        let closed = open_before.iter().filter(|key| !is_open(key)).map(|(receiver, topic)| {
            Notice::CursorClosed { receiver: receiver.clone(), topic: *topic }
        });
        let cursors = self.open_cursors().into_iter().map(Notice::CursorOpened);
        let missed = Notice::Missed { end_seq: self.end_seq };
        let received = self.inbox.iter().map(|(source, last)| (source.clone(), *last)).collect();
        topics.chain(closed).chain(cursors).chain([missed, Notice::Up { received }]).collect()
    }
}
