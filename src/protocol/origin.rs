//! Under which store id a message travels, and what an answer proves about this node's own file.

use std::collections::HashMap;

use crate::message::{MessageId, NodeId, StoreId, TopicId};

/// What this node's file has given out.
#[derive(Debug, Clone)]
pub struct Origin {
    /// From which id on each store id counts, ascending. Never empty.
    stores: Vec<(MessageId, StoreId)>,
    /// The newest id in the file when this process opened it.
    opened_at: MessageId,
    /// The newest id of each topic that this process has sent to a receiver. Nothing is taken out: a receiver that was forgotten
    /// may come back, and tell of it.
    sent: HashMap<NodeId, HashMap<TopicId, MessageId>>,
}

/// What to make of an answer that names `id` under `store` and says that `last` is the newest one it has of this topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It answers this message.
    Fits,
    /// It speaks of a store id under which this message does not travel.
    OtherStore,
    /// The receiver has seen a newer id than it was ever sent from this file: the file is an older copy of itself. `genuine`: the message
    /// is older than this process, so that the answer really is about it; otherwise the receiver took a new message for an old
    /// one, because new ids fell below ids that the lost part of the file had given out.
    WentBack { genuine: bool },
}

impl Origin {
    pub fn new(stores: Vec<(MessageId, StoreId)>, opened_at: MessageId) -> Self {
        assert!(!stores.is_empty(), "a file has a store id from its creation on");
        Self { stores, opened_at, sent: HashMap::new() }
    }

    /// Messages up to this one are on their way to a receiver.
    pub fn sent(&mut self, receiver: &NodeId, topic: TopicId, newest: MessageId) {
        if !self.sent.contains_key(receiver) {
            self.sent.insert(receiver.clone(), HashMap::new());
        }
        let known = self.sent.get_mut(receiver).map(|topics| topics.entry(topic).or_insert(newest));
        if let Some(known) = known {
            *known = newest.max(*known);
        }
    }

    /// The newest message of this topic that the receiver can have from this file: one that was sent by this process, or one by a process
    /// before it.
    fn newest_for(&self, receiver: &NodeId, topic: TopicId) -> MessageId {
        let sent = self.sent.get(receiver).and_then(|topics| topics.get(&topic));
        sent.map_or(self.opened_at, |sent| self.opened_at.max(*sent))
    }

    pub fn opened_at(&self) -> MessageId {
        self.opened_at
    }

    /// The store id of new messages.
    pub fn current(&self) -> StoreId {
        self.stores[self.stores.len() - 1].1
    }

    /// The store id under which this message travels.
    pub fn store_of(&self, id: MessageId) -> StoreId {
        let after = self.stores.partition_point(|(from, _)| *from <= id);
        self.stores[after.saturating_sub(1)].1
    }

    /// From which messages on each store id counts, ascending.
    pub fn beginnings(&self) -> Vec<MessageId> {
        self.stores.iter().map(|(from, _)| *from).collect()
    }

    /// From the next id after `from` on, messages travel under this store id. The first that do.
    pub fn take(&mut self, from: MessageId, store: StoreId) -> MessageId {
        let first = MessageId::from_u128(from.as_u128().saturating_add(1));
        self.stores.push((first, store));
        first
    }

    /// What an answer of this receiver about a message of this topic proves.
    pub fn judge(
        &self,
        (receiver, topic): (&NodeId, TopicId),
        store: StoreId,
        id: MessageId,
        last: Option<MessageId>,
    ) -> Judgement {
        let newest = self.newest_for(receiver, topic);
        if store != self.store_of(id) {
            Judgement::OtherStore
        } else if store == self.current() && last.is_some_and(|last| last > newest) {
            Judgement::WentBack { genuine: id <= self.opened_at }
        } else {
            Judgement::Fits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId(1);
    const OTHER: TopicId = TopicId(2);

    fn id(n: u128) -> MessageId {
        MessageId::from_u128(n)
    }

    fn node(name: &str) -> NodeId {
        name.parse().expect("a name")
    }

    #[test]
    fn an_answer_that_names_a_newer_id_than_any_given_out_proves_that_the_file_went_back() {
        let (first, ship) = (StoreId::from_u128(1), node("ship"));
        let mut origin = Origin::new(vec![(MessageId::ZERO, first)], id(50));
        origin.sent(&ship, TOPIC, id(60));
        origin.sent(&ship, TOPIC, id(58));
        let judge = |of, last| origin.judge((&ship, TOPIC), first, id(of), last);
        assert_eq!(judge(55, Some(id(60))), Judgement::Fits);
        assert_eq!(judge(55, None), Judgement::Fits);
        assert_eq!(judge(50, Some(id(100))), Judgement::WentBack { genuine: true });
        assert_eq!(judge(51, Some(id(100))), Judgement::WentBack { genuine: false });
    }

    #[test]
    fn what_others_were_sent_or_of_another_topic_is_no_excuse_for_what_a_receiver_has() {
        let (first, ship, shore) = (StoreId::from_u128(1), node("ship"), node("shore"));
        let mut origin = Origin::new(vec![(MessageId::ZERO, first)], id(50));
        origin.sent(&ship, TOPIC, id(55));
        origin.sent(&ship, OTHER, id(70));
        origin.sent(&shore, TOPIC, id(80));
        let judge = |last| origin.judge((&ship, TOPIC), first, id(55), Some(id(last)));
        assert_eq!(judge(55), Judgement::Fits);
        assert_eq!(judge(60), Judgement::WentBack { genuine: false });
        let earlier = origin.judge((&node("dock"), TOPIC), first, id(50), Some(id(50)));
        assert_eq!(earlier, Judgement::Fits);
    }

    #[test]
    fn messages_from_before_keep_their_store_id_and_new_ones_take_the_new() {
        let (first, second, ship) = (StoreId::from_u128(1), StoreId::from_u128(2), node("ship"));
        let mut origin = Origin::new(vec![(MessageId::ZERO, first)], id(50));
        origin.take(id(50), second);
        assert_eq!(origin.store_of(id(50)), first);
        assert_eq!(origin.store_of(id(51)), second);
        let judge = |of| origin.judge((&ship, TOPIC), first, id(of), Some(id(100)));
        assert_eq!(judge(51), Judgement::OtherStore);
        assert_eq!(judge(50), Judgement::Fits);
    }
}
