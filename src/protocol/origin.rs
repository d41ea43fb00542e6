//! Under which store id a message travels, and what an answer proves about this node's own file.

use crate::message::{MessageId, StoreId};

/// What this node's file has given out.
#[derive(Debug, Clone)]
pub struct Origin {
    /// From which id on each store id counts, ascending. Never empty.
    stores: Vec<(MessageId, StoreId)>,
    /// The newest id in the file when this process opened it.
    opened_at: MessageId,
    /// The newest id that this file is known to have given out.
    newest: MessageId,
}

/// What to make of an answer that names `id` under `store` and says that `last` is the newest one it has of this topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It answers this message.
    Fits,
    /// It speaks of a store id under which this message does not travel.
    OtherStore,
    /// The receiver has seen a newer id than this file ever gave out: the file is an older copy of itself. `genuine`: the message
    /// is older than this process, so that the answer really is about it; otherwise the receiver took a new message for an old
    /// one, because new ids fell below ids that the lost part of the file had given out.
    WentBack { genuine: bool },
}

impl Origin {
    pub fn new(stores: Vec<(MessageId, StoreId)>, opened_at: MessageId) -> Self {
        assert!(!stores.is_empty(), "a file has a store id from its creation on");
        Self { stores, opened_at, newest: opened_at }
    }

    /// This many ids were given out.
    pub fn gave_out(&mut self, id: MessageId) {
        self.newest = self.newest.max(id);
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

    /// From the next id after `from` on, messages travel under this store id.
    pub fn take(&mut self, from: MessageId, store: StoreId) {
        self.stores.push((MessageId::from_u128(from.as_u128().saturating_add(1)), store));
    }

    pub fn judge(&self, store: StoreId, id: MessageId, last: Option<MessageId>) -> Judgement {
        if store != self.store_of(id) {
            Judgement::OtherStore
        } else if store == self.current() && last.is_some_and(|last| last > self.newest) {
            Judgement::WentBack { genuine: id <= self.opened_at }
        } else {
            Judgement::Fits
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> MessageId {
        MessageId::from_u128(n)
    }

    #[test]
    fn an_answer_that_names_a_newer_id_than_any_given_out_proves_that_the_file_went_back() {
        let first = StoreId::from_u128(1);
        let mut origin = Origin::new(vec![(MessageId::ZERO, first)], id(50));
        origin.gave_out(id(60));
        assert_eq!(origin.judge(first, id(55), Some(id(60))), Judgement::Fits);
        assert_eq!(origin.judge(first, id(55), None), Judgement::Fits);
        assert_eq!(
            origin.judge(first, id(50), Some(id(100))),
            Judgement::WentBack { genuine: true }
        );
        assert_eq!(
            origin.judge(first, id(51), Some(id(100))),
            Judgement::WentBack { genuine: false }
        );
    }

    #[test]
    fn messages_from_before_keep_their_store_id_and_new_ones_take_the_new() {
        let (first, second) = (StoreId::from_u128(1), StoreId::from_u128(2));
        let mut origin = Origin::new(vec![(MessageId::ZERO, first)], id(50));
        origin.take(id(50), second);
        assert_eq!(origin.store_of(id(50)), first);
        assert_eq!(origin.store_of(id(51)), second);
        assert_eq!(origin.judge(first, id(51), Some(id(100))), Judgement::OtherStore);
        assert_eq!(origin.judge(first, id(50), Some(id(100))), Judgement::Fits);
    }
}
