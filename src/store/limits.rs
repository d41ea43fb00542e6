//! The queue limit: how many messages may wait for one receiver, and what gives way to a new one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::params;

use super::error::{SendError, StoreError};
use super::fault::At;
use super::job::Group;
use super::ledger::{Audience, TopicState};
use super::types::{Notice, Outcome, Topic};
use crate::config::Overflow;
use crate::message::{ChannelName, NodeId, Prepared, TopicId};
use crate::protocol::laggard::{self, mark_at};

/// How far from a topic's end it is looked for what has expired, where somebody only asks what waits.
const SOME: usize = 256;

pub(super) const DELETE: &str = "DELETE FROM waypost_outbox WHERE seq = ?1";
pub(super) const RELINK: &str = "UPDATE waypost_outbox SET previous_seq = ?2 WHERE seq = ?1";

pub(super) const OLDEST: &str = "SELECT seq FROM waypost_outbox ORDER BY seq LIMIT ?1";

/// Who would have more waiting: a node, or the first reader, yet to come, of a channel.
type Waiting = Audience;

/// What a batch adds to a receiver.
#[derive(Debug, Default)]
struct More {
    count: u64,
    topics: BTreeSet<TopicId>,
}

/// Where old messages lie, found once for all the receivers that are at the same place.
type Found = HashMap<(TopicId, u64, u64), u64>;

/// Refuses the batch, or makes room for it, where it would take a receiver over the limit. In the ordinary case this costs one
/// look-up a message, however many readers there are: see `Ledger::is_safe`.
pub(super) fn make_room(group: &mut Group<'_>, batch: &[Prepared]) -> Result<(), SendError> {
    let more = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    if batch.iter().all(|message| group.ledger.is_safe(&audience(message), more)) {
        return Ok(());
    }
    let limit = group.settings.queue_limit;
    for message in batch {
        // Who was full a moment ago most often still is.
        if let Some(node) = group.ledger.full(&audience(message)) {
            let node = node.clone();
            let backlog = backlog_of(group, &node)?;
            if backlog >= limit {
                let receiver = Some(node);
                return Err(SendError::QueueFull { receiver, backlog, limit });
            }
        }
    }
    group.ledger.recounts += 1;
    let waiting = waiting(group, batch);
    let mut over = Vec::new();
    for (receiver, more) in &waiting {
        let mut pending = backlog(group, receiver, more.count)?;
        if let (Waiting::Node(node), true) = (receiver, pending + more.count > limit) {
            pending = backlog_of(group, node)?;
        }
        if pending + more.count > limit {
            over.push((receiver, more, pending));
        }
    }
    // Also where the oldest may give way: a batch larger than the limit would push itself out.
    let refuses = |(_, more, _): &&(_, &More, u64)| {
        group.settings.overflow == Overflow::Reject || more.count > limit
    };
    // Of several, the one that is furthest behind: with it gone the others may still have room.
    let behind = |(receiver, _, pending): &&(&Waiting, &More, u64)| {
        receiver.node().map_or((*pending, Reverse(0)), |node| group.ledger.behind(node))
    };
    if let Some((receiver, _, backlog)) = over.iter().filter(refuses).max_by_key(behind) {
        let (receiver, backlog) = (receiver.node().cloned(), *backlog);
        if let (Some(node), Overflow::Reject) = (&receiver, group.settings.overflow) {
            note_full(group, batch, node);
        }
        group.notices.push(Notice::Filling);
        return Err(SendError::QueueFull { receiver, backlog, limit });
    }
    let mut found = Found::new();
    for (receiver, more, pending) in over {
        let excess = pending + more.count - limit;
        match receiver {
            Waiting::Node(node) => drop_waiting(group, node, more, excess, &mut found)?,
            Waiting::Channel(channel) => drop_unclaimed(group, channel, excess)?,
        }
    }
    note_room(group, batch)?;
    Ok(())
}

fn audience(message: &Prepared) -> Audience {
    message.target.as_ref().map_or_else(
        || Audience::Channel(message.channel.clone()),
        |target| Audience::Node(target.clone()),
    )
}

/// Everyone for whom the batch holds something.
fn waiting(group: &Group<'_>, batch: &[Prepared]) -> BTreeMap<Waiting, More> {
    let mut kinds: BTreeMap<(Audience, Option<TopicId>), u64> = BTreeMap::new();
    for message in batch {
        let topic = group.ledger.named(&message.channel, message.target.as_ref(), message.lane);
        *kinds.entry((audience(message), topic)).or_default() += 1;
    }
    let mut waiting: BTreeMap<Waiting, More> = BTreeMap::new();
    let mut add = |receiver: Waiting, topic: Option<TopicId>, count| {
        let more = waiting.entry(receiver).or_default();
        more.count += count;
        more.topics.extend(topic);
    };
    for ((audience, topic), count) in kinds {
        let Audience::Channel(channel) = &audience else {
            add(audience, topic, count);
            continue;
        };
        let mut anybody = false;
        for reader in group.ledger.subscribers(channel) {
            add(Waiting::Node(reader.clone()), topic, count);
            anybody = true;
        }
        if !anybody {
            add(audience.clone(), topic, count);
        }
    }
    waiting
}

/// How many messages wait for this receiver once all is on record that is known.
fn backlog_of(group: &mut Group<'_>, node: &NodeId) -> Result<u64, StoreError> {
    group.settle_under_way(node)?;
    Ok(group.ledger.pending(node))
}

/// How many messages wait for a receiver, or for a channel's first reader, to which so many are to be added.
fn backlog(group: &mut Group<'_>, receiver: &Waiting, more: u64) -> Result<u64, StoreError> {
    let channel = match receiver {
        Waiting::Node(node) => return Ok(group.ledger.pending(node)),
        Waiting::Channel(channel) => channel,
    };
    let mut unclaimed = 0;
    for topic in group.ledger.broadcasts(channel) {
        // Expired ones do not count, and clean-up may not have come by yet. Nearly always those that came first.
        group.expire_first_unclaimed(topic, usize::MAX)?;
        let waits = group.ledger.topic(topic).map_or(0, |state| state.unclaimed);
        if waits + more > group.settings.queue_limit {
            group.expire_unclaimed(topic, None, usize::MAX)?;
        }
        unclaimed += group.ledger.topic(topic).map_or(0, |state| state.unclaimed);
    }
    Ok(unclaimed)
}

/// Notes how many more messages each audience of the batch can take before someone's backlog has to be counted again: at the limit, or
/// where it comes to the next mark below it. Tells where one is reached.
fn note_room(group: &mut Group<'_>, batch: &[Prepared]) -> Result<(), StoreError> {
    let limit = group.settings.queue_limit;
    let marks = laggard::MARKS.map(|percent| mark_at(limit, percent));
    let more = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    let audiences: BTreeSet<Audience> = batch.iter().map(audience).collect();
    for audience in audiences {
        let mut most = 0;
        let mut anybody = false;
        if let Audience::Channel(channel) = &audience {
            for reader in group.ledger.subscribers(channel) {
                most = group.ledger.pending(reader).max(most);
                anybody = true;
            }
        }
        if !anybody {
            most = backlog(group, &audience, 0)?;
        }
        if most.saturating_add(more) >= marks[0] {
            group.notices.push(Notice::Filling);
        }
        let next = marks.into_iter().find(|mark| *mark > most.saturating_add(more));
        let most_more = next.map_or(limit, |mark| mark - 1).saturating_sub(most);
        group.ledger.set_room(audience, most_more);
    }
    Ok(())
}

/// Notes who refuses the audiences of the batch that it belongs to.
fn note_full(group: &mut Group<'_>, batch: &[Prepared], node: &NodeId) {
    for audience in batch.iter().map(audience).collect::<BTreeSet<_>>() {
        let hears = match &audience {
            Audience::Channel(channel) => {
                group.ledger.subscribers(channel).any(|reader| reader == node)
            }
            Audience::Node(target) => target == node,
        };
        if hears {
            group.ledger.set_full(audience, node.clone());
        }
    }
}

/// Gives up the receiver's oldest waiting messages: of the topics that get new ones first, then of those whose oldest are oldest.
fn drop_waiting(
    group: &mut Group<'_>,
    receiver: &NodeId,
    more: &More,
    mut excess: u64,
    found: &mut Found,
) -> Result<(), StoreError> {
    let mut candidates: Vec<(bool, u64, TopicId, u64)> = Vec::new();
    for (topic, cursor) in group.ledger.cursors_of(receiver) {
        let Some(state) = group.ledger.topic(topic) else { continue };
        let pending = cursor.pending(state.topic.accepted);
        candidates.push((!more.topics.contains(&topic), cursor.acked_seq, topic, pending));
    }
    candidates.sort_unstable();
    for (_, acked_seq, topic, pending) in candidates {
        let count = pending.min(excess);
        if count == 0 {
            continue;
        }
        let up_to_seq = match found.get(&(topic, acked_seq, count)) {
            Some(seq) => *seq,
            None => {
                let seq = group.next_of(topic, acked_seq, count - 1)?;
                let last_seq = group.ledger.topic(topic).map_or(0, |state| state.topic.last_seq);
                *found.entry((topic, acked_seq, count)).or_insert(seq.unwrap_or(last_seq))
            }
        };
        group.advance(receiver, topic, up_to_seq, count, &Outcome::Purged, None)?;
        let receiver = receiver.clone();
        group.notices.push(Notice::Dropped { receiver, topic, up_to_seq, count });
        excess -= count;
    }
    Ok(())
}

/// Gives up so many of the log's oldest messages, for all whom they wait for. How many were given up, of all receivers together.
pub(super) fn drop_oldest(group: &mut Group<'_>, most: usize) -> Result<u64, StoreError> {
    let oldest = group.conn.prepare_cached(OLDEST).and_then(|mut select| {
        let rows = select.query_map([most], |row| row.get(0))?;
        rows.collect::<Result<Vec<u64>, _>>()
    });
    let Some(end) = oldest.at("look for the oldest messages")?.last().copied() else {
        return Ok(0);
    };
    let before = group.ledger.totals.dropped;
    let mut unclaimed = BTreeMap::new();
    let topics: Vec<_> =
        group.ledger.topics().map(|state| (state.topic.clone(), state.open)).collect();
    for (topic, open) in &topics {
        if *open == 0 && topic.target.is_none() {
            let claimed = group.ledger.topic(topic.topic).map_or(0, |state| state.claimed_seq);
            *unclaimed.entry(topic.channel.clone()).or_default() +=
                group.count(topic.topic, claimed, end)?;
        }
    }
    let receivers: Vec<NodeId> = group.ledger.receivers().cloned().collect();
    for receiver in receivers {
        group.settle_under_way(&receiver)?;
        for (topic, _) in &topics {
            drop_up_to(group, &receiver, topic, end)?;
        }
    }
    let mut given_up = group.ledger.totals.dropped - before;
    for (channel, count) in unclaimed {
        drop_unclaimed(group, &channel, count)?;
        given_up += count;
    }
    Ok(given_up)
}

fn drop_up_to(
    group: &mut Group<'_>,
    receiver: &NodeId,
    topic: &Topic,
    end: u64,
) -> Result<(), StoreError> {
    let Some(cursor) = group.ledger.cursor(receiver, topic.topic) else { return Ok(()) };
    let (pending, acked_seq) = (cursor.pending(topic.accepted), cursor.acked_seq);
    let up_to_seq = topic.last_seq.min(end);
    if pending == 0 || acked_seq >= up_to_seq {
        return Ok(());
    }
    let count = match up_to_seq == topic.last_seq {
        true => pending,
        false => group.count(topic.topic, acked_seq, up_to_seq)?.min(pending),
    };
    if count > 0 {
        group.advance(receiver, topic.topic, up_to_seq, count, &Outcome::Purged, None)?;
        let (receiver, topic) = (receiver.clone(), topic.topic);
        group.notices.push(Notice::Dropped { receiver, topic, up_to_seq, count });
    }
    Ok(())
}

/// Gives up the oldest messages that wait for a channel's first reader. They are counted with the expired ones.
fn drop_unclaimed(
    group: &mut Group<'_>,
    channel: &ChannelName,
    mut excess: u64,
) -> Result<(), StoreError> {
    let mut dropped = 0;
    for topic in group.ledger.broadcasts(channel) {
        let (mut count, mut up_to_seq, mut before) = (0, 0, 0);
        while excess > 0 {
            let Some(state) = group.ledger.topic(topic).filter(|state| state.unclaimed > 0) else {
                break;
            };
            let Some(seq) = group.next_of(topic, state.claimed_seq, 0)? else { break };
            if count == 0 {
                before = group.link(topic, seq)?.map_or(0, |(previous, _)| previous);
            }
            delete(group, seq)?;
            group.ledger.change_topic(topic, |state| {
                state.claimed_seq = seq;
                state.unclaimed -= 1;
                state.unclaimed_expired += 1;
            });
            (count, up_to_seq, excess) = (count + 1, seq, excess - 1);
        }
        if count > 0 {
            // Settled ones may lie before them, which a reader of all that is left still gets.
            let next = group.next_of(topic, up_to_seq, 0)?;
            group.relink(topic, next, before)?;
            dropped += count;
        }
    }
    if dropped > 0 {
        let channel = channel.clone();
        group.notices.push(Notice::DroppedUnclaimed { channel, count: dropped });
    }
    Ok(())
}

fn delete(group: &Group<'_>, seq: u64) -> Result<(), StoreError> {
    group
        .conn
        .prepare_cached(DELETE)
        .and_then(|mut delete| delete.execute([seq]))
        .at("delete a message")?;
    Ok(())
}

/// What a walk down a topic did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walk {
    pub(super) expired: u64,
    /// Whether it stopped before the end.
    pub(super) more: bool,
    /// The last message that stayed, behind which it goes on; `None`: from the topic's last one.
    kept: Option<u64>,
    /// No message that stayed so far expires earlier.
    expiry_ms: u64,
    /// How many messages the topic had accepted when it began.
    accepted: u64,
}

impl Group<'_> {
    /// Deletes and counts what has expired without any reader, as far as a few steps from either end of each topic find it: so it is told soon
    /// after it happened, where somebody looks. Clean-up finds the rest.
    pub(super) fn expire_some_unclaimed(&mut self) -> Result<(), StoreError> {
        let is_due = |state: &&TopicState| {
            state.open == 0 && state.unclaimed > 0 && state.unclaimed_expiry_ms <= self.now_ms
        };
        let due = self.ledger.topics().filter(is_due).map(|state| state.topic.topic);
        for topic in due.collect::<Vec<_>>() {
            self.expire_first_unclaimed(topic, SOME)?;
            self.expire_unclaimed(topic, None, SOME)?;
        }
        Ok(())
    }

    /// Deletes and counts the messages of a topic that expired before it had any reader, from the first one on, up to one that has not, or so
    /// many.
    fn expire_first_unclaimed(&mut self, topic: TopicId, most: usize) -> Result<(), StoreError> {
        let due = |state: &&TopicState| state.open == 0 && state.unclaimed_expiry_ms <= self.now_ms;
        let Some(state) = self.ledger.topic(topic).filter(due) else { return Ok(()) };
        let (mut last, channel) = (state.claimed_seq, state.topic.channel.clone());
        let (mut expired, mut own, mut before) = (0, 0, 0);
        let next = loop {
            let next = self.next_of(topic, last, 0)?;
            let Some(seq) = next.filter(|_| expired < most) else { break next };
            let Some((previous, expires_ms)) = self.link(topic, seq)? else { break next };
            if expires_ms.is_none_or(|expires_ms| expires_ms > self.now_ms) {
                break next;
            }
            if expired == 0 {
                before = previous;
            }
            delete(self, seq)?;
            (last, expired) = (seq, expired + 1);
            own += u64::from(seq > self.ledger.began_seq());
        };
        if expired == 0 {
            return Ok(());
        }
        let count = expired as u64;
        self.relink(topic, next, before)?;
        self.ledger.change_topic(topic, |state| {
            state.claimed_seq = last;
            state.unclaimed = state.unclaimed.saturating_sub(count);
            state.unclaimed_expired += count;
        });
        self.ledger.lose(None, own, 0);
        self.notices.push(Notice::ExpiredUnclaimed { channel, count });
        Ok(())
    }

    /// A message without a reader expires then: told where it is the first.
    pub(super) fn tell_unclaimed_expiry(&mut self, expires_ms: Option<u64>) {
        let told = &mut self.ledger.totals.told_expiry_ms;
        if let Some(at_ms) = expires_ms.filter(|at_ms| at_ms < told) {
            *told = at_ms;
            self.notices.push(Notice::UnclaimedExpires { at_ms });
        }
    }

    /// When the next message without a reader expires, for whoever looks then; an earlier one that comes is told.
    pub(super) fn next_unclaimed_expiry(&mut self) -> Option<u64> {
        let next_ms = self.ledger.next_unclaimed_expiry_ms();
        self.ledger.totals.told_expiry_ms = next_ms;
        Some(next_ms).filter(|next_ms| *next_ms < u64::MAX)
    }

    /// Deletes and counts the messages of a topic that expired before it had any reader, from the last one (or where `before` stopped)
    /// back, after looking at so many.
    pub(super) fn expire_unclaimed(
        &mut self,
        topic: TopicId,
        before: Option<Walk>,
        mut most: usize,
    ) -> Result<Walk, StoreError> {
        let nothing =
            Walk { expired: 0, more: false, kept: None, expiry_ms: u64::MAX, accepted: 0 };
        let Some(state) = self.ledger.topic(topic) else { return Ok(nothing) };
        if state.open > 0 || state.unclaimed_expiry_ms > self.now_ms {
            return Ok(nothing);
        }
        let begin = Walk { accepted: state.topic.accepted, ..nothing };
        let Walk { mut kept, mut expiry_ms, accepted, .. } = before.unwrap_or(begin);
        let (claimed_seq, channel) = (state.claimed_seq, state.topic.channel.clone());
        let mut seq = match kept {
            Some(kept) => self.link(topic, kept)?.map_or(0, |(previous, _)| previous),
            None => state.topic.last_seq,
        };
        let (mut expired, mut own, mut dangling) = (0, 0, false);
        while seq > claimed_seq && most > 0 {
            let Some((previous, expires_ms)) = self.link(topic, seq)? else { break };
            if expires_ms.is_some_and(|expires_ms| expires_ms <= self.now_ms) {
                delete(self, seq)?;
                (expired, dangling) = (expired + 1, true);
                own += u64::from(seq > self.ledger.began_seq());
            } else {
                if dangling {
                    self.relink(topic, kept, seq)?;
                }
                (kept, dangling) = (Some(seq), false);
                expiry_ms = expires_ms.unwrap_or(u64::MAX).min(expiry_ms);
            }
            (seq, most) = (previous, most - 1);
        }
        if dangling {
            self.relink(topic, kept, seq)?;
        }
        let more = most == 0 && seq > claimed_seq;
        self.ledger.change_topic(topic, |state| {
            state.unclaimed = state.unclaimed.saturating_sub(expired);
            state.unclaimed_expired += expired;
            // Nothing is known of what came since it began.
            if !more && state.topic.accepted == accepted {
                state.unclaimed_expiry_ms = expiry_ms;
            }
        });
        self.ledger.lose(None, own, 0);
        if expired > 0 {
            self.notices.push(Notice::ExpiredUnclaimed { channel, count: expired });
        }
        Ok(Walk { expired, more, kept, expiry_ms, accepted })
    }

    /// Makes `seq` the one before `kept`, or the topic's last one.
    fn relink(&mut self, topic: TopicId, kept: Option<u64>, seq: u64) -> Result<(), StoreError> {
        let Some(kept) = kept else {
            self.ledger.change_topic(topic, |state| state.topic.last_seq = seq);
            return Ok(());
        };
        self.conn
            .prepare_cached(RELINK)
            .and_then(|mut update| update.execute(params![kept, seq]))
            .at("link two messages")?;
        Ok(())
    }
}
