//! The writer's books: every topic and cursor in memory, so that sending reads nothing from the file. Changes are undone
//! together with the transaction or savepoint that they belong to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::types::{Cursor, Topic};
use crate::message::{ChannelName, MessageId, NodeId, Priority, TopicId};
use crate::protocol::looks::Pending;
use crate::protocol::report::Lost;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicState {
    pub(super) topic: Topic,
    pub(super) unclaimed_expired: u64,
    /// Up to here some reader has dealt with the messages.
    pub(super) claimed_seq: u64,
    /// While no cursor is open: messages past `claimed_seq`, which wait for a first reader.
    pub(super) unclaimed: u64,
    /// No unclaimed message expires before this time.
    pub(super) unclaimed_expiry_ms: u64,
    /// How many cursors are open.
    pub(super) open: usize,
}

impl TopicState {
    pub(super) fn new(topic: Topic) -> Self {
        Self {
            topic,
            unclaimed_expired: 0,
            claimed_seq: 0,
            unclaimed: 0,
            unclaimed_expiry_ms: u64::MAX,
            open: 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CursorState {
    pub(super) open: bool,
    pub(super) acked_seq: u64,
    pub(super) acked_id: Option<MessageId>,
    pub(super) base: i64,
    pub(super) acknowledged: u64,
    pub(super) expired: u64,
    pub(super) dead: u64,
    pub(super) purged: u64,
}

impl CursorState {
    pub(super) const fn settled(&self) -> u64 {
        self.acknowledged + self.expired + self.dead + self.purged
    }

    /// How many messages wait, of a topic that has accepted so many.
    pub(super) fn pending(&self, accepted: u64) -> u64 {
        if self.open { self.meant_for_it(accepted).saturating_sub(self.settled()) } else { 0 }
    }

    /// How many messages were ever meant for it.
    pub(super) fn meant_for_it(&self, accepted: u64) -> u64 {
        if !self.open {
            return self.settled();
        }
        let meant = i64::try_from(accepted).unwrap_or(i64::MAX).saturating_sub(self.base);
        u64::try_from(meant).unwrap_or(0)
    }
}

/// Who a message counts against at the queue limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Audience {
    Channel(ChannelName),
    Node(NodeId),
}

impl Audience {
    /// The node, if it is one.
    pub(super) const fn node(&self) -> Option<&NodeId> {
        match self {
            Self::Node(node) => Some(node),
            Self::Channel(_) => None,
        }
    }
}

/// What is copied at the start of a transaction or savepoint rather than undone step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) last_id: MessageId,
    pub(super) end_seq: u64,
    /// `created_ms` of the last message: it never decreases.
    pub(super) last_created_ms: u64,
    /// Messages accepted since the file was opened.
    pub(super) appended: u64,
    /// Messages that a receiver will not get since then, because they were purged or gave way to others.
    pub(super) dropped: u64,
    /// The driver knows that no message without a reader expires before this time, and is told of each that expires earlier.
    pub(super) told_expiry_ms: u64,
}

#[derive(Debug)]
enum Undo {
    Topic(TopicId, Option<TopicState>),
    Cursor(NodeId, TopicId, Option<CursorState>),
    Subscriber(ChannelName, NodeId, bool),
    Lost(Option<NodeId>, Option<Lost>),
}

/// A point to roll back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    undo: usize,
    totals: Totals,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) totals: Totals,
    topics: BTreeMap<TopicId, TopicState>,
    names: HashMap<(ChannelName, Option<NodeId>, Priority), TopicId>,
    cursors: BTreeMap<NodeId, BTreeMap<TopicId, CursorState>>,
    subscribers: HashMap<ChannelName, BTreeSet<NodeId>>,
    /// The log's end when the node was started: what it has accepted itself lies behind it.
    began_seq: u64,
    /// What will not arrive of that, by receiver.
    lost: BTreeMap<Option<NodeId>, Lost>,
    /// Until `totals.appended` reaches this, no receiver of the audience can be over the queue limit: whatever is appended
    /// adds at most one to what waits for each.
    safe_until: HashMap<Audience, u64>,
    /// Who was over the limit when it was last counted.
    full: HashMap<Audience, NodeId>,
    /// Topics whose row has yet to be written in this transaction.
    dirty: BTreeSet<TopicId>,
    undo: Vec<Undo>,
    /// How often the exact backlog of an audience had to be counted.
    pub(super) recounts: u64,
}

impl Ledger {
    pub(super) fn new(totals: Totals) -> Self {
        Self {
            totals,
            topics: BTreeMap::new(),
            names: HashMap::new(),
            cursors: BTreeMap::new(),
            subscribers: HashMap::new(),
            began_seq: totals.end_seq,
            lost: BTreeMap::new(),
            safe_until: HashMap::new(),
            full: HashMap::new(),
            dirty: BTreeSet::new(),
            undo: Vec::new(),
            recounts: 0,
        }
    }

    pub(super) fn topic(&self, topic: TopicId) -> Option<&TopicState> {
        self.topics.get(&topic)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &TopicState> {
        self.topics.values()
    }

    /// No message that waits for a first reader expires before this time.
    pub(super) fn next_unclaimed_expiry_ms(&self) -> u64 {
        let waiting = self.topics().filter(|state| state.open == 0 && state.unclaimed > 0);
        waiting.map(|state| state.unclaimed_expiry_ms).min().unwrap_or(u64::MAX)
    }

    pub(super) fn named(
        &self,
        channel: &ChannelName,
        target: Option<&NodeId>,
        lane: Priority,
    ) -> Option<TopicId> {
        self.names.get(&(channel.clone(), target.cloned(), lane)).copied()
    }

    /// The channel's topics that go to all its readers.
    pub(super) fn broadcasts(&self, channel: &ChannelName) -> Vec<TopicId> {
        Priority::ALL.into_iter().filter_map(|lane| self.named(channel, None, lane)).collect()
    }

    pub(super) fn next_topic(&self) -> TopicId {
        TopicId(self.topics.last_key_value().map_or(1, |(topic, _)| topic.0 + 1))
    }

    /// Changes a topic; its row is written at the end of the transaction.
    pub(super) fn change_topic(&mut self, topic: TopicId, change: impl FnOnce(&mut TopicState)) {
        if let Some(state) = self.topics.get_mut(&topic) {
            self.undo.push(Undo::Topic(topic, Some(state.clone())));
            change(state);
            self.dirty.insert(topic);
        }
    }

    pub(super) fn add_topic(&mut self, state: TopicState) {
        let Topic { topic, channel, target, lane, .. } = state.topic.clone();
        self.undo.push(Undo::Topic(topic, None));
        self.names.insert((channel, target, lane), topic);
        self.topics.insert(topic, state);
    }

    pub(super) fn cursor(&self, receiver: &NodeId, topic: TopicId) -> Option<&CursorState> {
        self.cursors.get(receiver)?.get(&topic)
    }

    pub(super) fn cursors_of(
        &self,
        receiver: &NodeId,
    ) -> impl Iterator<Item = (TopicId, &CursorState)> {
        self.cursors.get(receiver).into_iter().flatten().map(|(topic, state)| (*topic, state))
    }

    pub(super) fn receivers(&self) -> impl Iterator<Item = &NodeId> {
        self.cursors.keys()
    }

    /// Puts a cursor in place, or with `None` takes it away.
    pub(super) fn set_cursor(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        state: Option<CursorState>,
    ) {
        let before = self.put_cursor(receiver, topic, state);
        let was_open = before.is_some_and(|before| before.open);
        let is_open = state.is_some_and(|state| state.open);
        self.undo.push(Undo::Cursor(receiver.clone(), topic, before));
        if was_open != is_open {
            self.change_topic(topic, |topic| {
                if is_open {
                    topic.open += 1;
                } else {
                    topic.open -= 1;
                    topic.claimed_seq = topic.topic.last_seq;
                    topic.unclaimed = 0;
                    topic.unclaimed_expiry_ms = u64::MAX;
                }
            });
            // A new reader may be nearer to its limit than those known so far.
            self.forget_bounds();
        }
    }

    fn put_cursor(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        state: Option<CursorState>,
    ) -> Option<CursorState> {
        let Some(state) = state else {
            let cursors = self.cursors.get_mut(receiver)?;
            let before = cursors.remove(&topic);
            if cursors.is_empty() {
                self.cursors.remove(receiver);
            }
            return before;
        };
        self.cursors.entry(receiver.clone()).or_default().insert(topic, state)
    }

    /// A cursor as others see it.
    pub(super) fn shown(&self, receiver: &NodeId, topic: TopicId) -> Option<Cursor> {
        let state = self.cursor(receiver, topic)?;
        let Topic { accepted, last_seq, .. } = self.topic(topic)?.topic;
        Some(Cursor {
            receiver: receiver.clone(),
            topic,
            acked_seq: state.acked_seq,
            acked_id: state.acked_id,
            pending: state.pending(accepted),
            skipped: 0,
            failed: None,
            last_seq,
        })
    }

    pub(super) fn open_cursors(&self) -> Vec<Cursor> {
        let open = self.cursors.iter().flat_map(|(receiver, cursors)| {
            let open = cursors.iter().filter(|(_, state)| state.open);
            open.filter_map(move |(topic, _)| self.shown(receiver, *topic))
        });
        open.collect()
    }

    /// Up to where every open cursor of each topic has come; topics without one are missing.
    pub(super) fn passed_by_all(&self) -> HashMap<TopicId, u64> {
        let mut passed = HashMap::new();
        for (topic, state) in self.cursors.values().flatten().filter(|(_, state)| state.open) {
            let lowest = passed.entry(*topic).or_insert(u64::MAX);
            *lowest = state.acked_seq.min(*lowest);
        }
        passed
    }

    /// What waits in each topic, by receiver and for first readers.
    pub(super) fn all_pending(&self) -> Vec<Pending> {
        let for_receivers = self.cursors.iter().flat_map(|(receiver, cursors)| {
            let states = cursors.iter().map(|(topic, state)| (self.topics.get(topic), state));
            let states = states.filter_map(|(topic, state)| Some((&topic?.topic, state)));
            states.map(move |(topic, state)| (Some(receiver), topic, state.pending(topic.accepted)))
        });
        let for_first_readers = self.topics.values().filter(|state| state.open == 0);
        let for_first_readers =
            for_first_readers.map(|state| (None, &state.topic, state.unclaimed));
        let all = for_receivers.chain(for_first_readers).filter(|(_, _, count)| *count > 0);
        all.map(|(receiver, topic, count)| Pending {
            receiver: receiver.cloned(),
            topic: topic.topic,
            channel: topic.channel.clone(),
            count,
        })
        .collect()
    }

    /// The log's end when the node was started.
    pub(super) fn began_seq(&self) -> u64 {
        self.began_seq
    }

    /// Notes what will not arrive of the messages that were accepted since then.
    pub(super) fn lose(&mut self, receiver: Option<&NodeId>, expired: u64, dead: u64) {
        if expired + dead == 0 {
            return;
        }
        let receiver = receiver.cloned();
        let before = self.lost.get(&receiver).cloned();
        let mut lost =
            before.clone().unwrap_or(Lost { receiver: receiver.clone(), expired: 0, dead: 0 });
        lost.expired += expired;
        lost.dead += dead;
        self.lost.insert(receiver.clone(), lost);
        self.undo.push(Undo::Lost(receiver, before));
    }

    /// What will not arrive of the messages that were accepted since the node was started, by receiver; those without one come last.
    pub(super) fn lost(&self) -> Vec<Lost> {
        let (nobody, known): (Vec<&Lost>, _) =
            self.lost.values().partition(|lost| lost.receiver.is_none());
        known.into_iter().chain(nobody).cloned().collect()
    }

    /// Goes on with what another one has counted of this run, since the file does not say which messages are of it.
    pub(super) fn carry_on(&mut self, before: &Self) {
        self.began_seq = before.began_seq;
        self.lost.clone_from(&before.lost);
    }

    /// Something that changes with everything that is settled, and with every cursor that is closed.
    pub(super) fn settled(&self) -> u64 {
        let cursors = self.cursors.values().flatten();
        let settled = cursors.map(|(_, state)| state.settled() + u64::from(!state.open));
        settled.fold(0, u64::wrapping_add)
    }

    /// How many messages wait for a receiver, over all its topics.
    pub(super) fn pending(&self, receiver: &NodeId) -> u64 {
        self.cursors_of(receiver)
            .filter_map(|(topic, state)| Some(state.pending(self.topic(topic)?.topic.accepted)))
            .sum()
    }

    /// How far behind a receiver is, to compare it with others: how many messages wait, and of two with as many, whose oldest is older.
    pub(super) fn behind(&self, receiver: &NodeId) -> (u64, Reverse<u64>) {
        let (mut pending, mut oldest) = (0, u64::MAX);
        for (topic, state) in self.cursors_of(receiver) {
            let accepted = self.topic(topic).map_or(0, |topic| topic.topic.accepted);
            let waits = state.pending(accepted);
            pending += waits;
            if waits > 0 {
                oldest = state.acked_seq.min(oldest);
            }
        }
        (pending, Reverse(oldest))
    }

    pub(super) fn subscribers(&self, channel: &ChannelName) -> impl Iterator<Item = &NodeId> {
        self.subscribers.get(channel).into_iter().flatten()
    }

    pub(super) fn set_subscribed(&mut self, channel: &ChannelName, node: &NodeId, on: bool) {
        let was = self.put_subscriber(channel, node, on);
        if was != on {
            self.undo.push(Undo::Subscriber(channel.clone(), node.clone(), was));
            self.forget_bounds();
        }
    }

    pub(super) fn unsubscribe_all(&mut self, node: &NodeId) {
        let channels = self.subscribers.iter().filter(|(_, nodes)| nodes.contains(node));
        for channel in channels.map(|(channel, _)| channel.clone()).collect::<Vec<_>>() {
            self.set_subscribed(&channel, node, false);
        }
    }

    fn put_subscriber(&mut self, channel: &ChannelName, node: &NodeId, on: bool) -> bool {
        if on {
            return !self.subscribers.entry(channel.clone()).or_default().insert(node.clone());
        }
        let Some(nodes) = self.subscribers.get_mut(channel) else { return false };
        let was = nodes.remove(node);
        if nodes.is_empty() {
            self.subscribers.remove(channel);
        }
        was
    }

    /// Whether so many more messages can be accepted without counting anyone's backlog.
    pub(super) fn is_safe(&self, audience: &Audience, more: u64) -> bool {
        self.safe_until.get(audience).is_some_and(|until| self.totals.appended + more <= *until)
    }

    /// Who was over the limit, and may still be.
    pub(super) fn full(&self, audience: &Audience) -> Option<&NodeId> {
        self.full.get(audience)
    }

    pub(super) fn set_full(&mut self, audience: Audience, node: NodeId) {
        self.full.insert(audience, node);
    }

    fn forget_bounds(&mut self) {
        self.safe_until.clear();
        self.full.clear();
    }

    /// Notes that the audience has room for at least so many more messages.
    pub(super) fn set_room(&mut self, audience: Audience, room: u64) {
        self.safe_until.insert(audience, self.totals.appended + room);
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { undo: self.undo.len(), totals: self.totals }
    }

    /// Undoes everything since the mark.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        while self.undo.len() > mark.undo {
            match self.undo.pop().expect("longer than the mark, so not empty") {
                Undo::Topic(topic, Some(state)) => {
                    self.topics.insert(topic, state);
                }
                Undo::Topic(topic, None) => {
                    if let Some(TopicState { topic, .. }) = self.topics.remove(&topic) {
                        self.names.remove(&(topic.channel, topic.target, topic.lane));
                    }
                }
                Undo::Cursor(receiver, topic, state) => {
                    self.put_cursor(&receiver, topic, state);
                }
                Undo::Subscriber(channel, node, on) => {
                    self.put_subscriber(&channel, &node, on);
                }
                Undo::Lost(receiver, Some(before)) => drop(self.lost.insert(receiver, before)),
                Undo::Lost(receiver, None) => drop(self.lost.remove(&receiver)),
            }
        }
        self.totals = mark.totals;
        // More may wait again than when the bounds were drawn.
        self.forget_bounds();
    }

    /// The topics whose rows are to be written before the commit. What is gone was rolled back with its savepoint.
    pub(super) fn take_dirty(&mut self) -> Vec<TopicState> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().filter_map(|topic| self.topics.get(topic).cloned()).collect()
    }

    /// Everything so far is committed.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
        self.dirty.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rolled_back_leaves_no_trace() {
        let totals = Totals {
            last_id: MessageId::ZERO,
            end_seq: 0,
            last_created_ms: 0,
            appended: 0,
            dropped: 0,
            told_expiry_ms: u64::MAX,
        };
        let mut ledger = Ledger::new(totals);
        let channel = ChannelName::new("c").expect("a valid name");
        let node = NodeId::new("a").expect("a valid name");
        let topic = |topic| Topic {
            topic: TopicId(topic),
            channel: channel.clone(),
            target: None,
            lane: Priority::from_index(topic - 1).expect("a lane"),
            accepted: 0,
            last_seq: 0,
        };
        let cursor = CursorState {
            open: true,
            acked_seq: 0,
            acked_id: None,
            base: 0,
            acknowledged: 0,
            expired: 0,
            dead: 0,
            purged: 0,
        };
        ledger.add_topic(TopicState::new(topic(1)));
        ledger.set_subscribed(&channel, &node, true);
        ledger.set_cursor(&node, TopicId(1), Some(cursor));
        ledger.lose(None, 1, 0);
        ledger.keep();
        let state =
            |it: &Ledger| format!("{:?}", (&it.topics, &it.cursors, &it.subscribers, &it.lost));
        let before = state(&ledger);
        let mark = ledger.mark();
        ledger.add_topic(TopicState::new(topic(2)));
        ledger.set_cursor(&node, TopicId(2), Some(cursor));
        ledger.set_cursor(&node, TopicId(1), None);
        ledger.set_subscribed(&channel, &node, false);
        ledger.change_topic(TopicId(1), |topic| topic.topic.accepted = 7);
        ledger.totals.end_seq = 9;
        ledger.lose(None, 1, 0);
        ledger.lose(Some(&node), 0, 1);
        assert_eq!((ledger.broadcasts(&channel).len(), ledger.pending(&node)), (2, 0));
        ledger.roll_back(mark);
        assert_eq!((state(&ledger), ledger.totals, ledger.names.len()), (before, totals, 1));
    }
}
