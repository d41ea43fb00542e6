//! Sending, put together: which topics there are, one [`Delivery`] a receiver, and what the file, the peers and the connection say to
//! them. What is decided comes out as [`Effect`]s, which the shell performs in their order. A frame is asked for when it is its turn
//! ([`Outbound::next_frame`]); one that does not leave comes back by [`Outbound::unsent`] before anything else is done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::Now;
use super::backoff::Jitter;
use super::delivery::{Action, Delivery, Event, Foreseen, Head, Limits, Readers, Reply, Unsent};
use super::frame::Answer;
use super::membership::News;
use super::origin::Origin;
use super::peers::Peers;
use super::settling::{Attempt, Position, Run, Settling};
use super::stalls::Standing;
use crate::message::{ChannelName, MessageId, NodeId, Priority, StoreId, TopicId};

mod hold;
mod pages;
mod record;
mod turns;

use hold::Hold;
pub use pages::{BUFFER_BYTES_EACH, PageRequest, Read};
use pages::{Pages, Place};
use record::Record;
use turns::Turns;

/// What a topic is: a lane of a channel, for all who read it or for one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    pub channel: ChannelName,
    pub target: Option<NodeId>,
    pub lane: Priority,
}

/// Where a receiver stands in a topic, as the file has it.
#[derive(Debug, Clone)]
pub struct Cursor {
    pub receiver: NodeId,
    pub topic: TopicId,
    pub at: Position,
    /// How many of the topic's messages wait behind it.
    pub pending: u64,
    /// The topic's newest message, whether the receiver has it or not.
    pub last_seq: u64,
    /// A message behind it that the receiver's handler has failed, and how many attempts there were.
    pub failed: Option<(u64, u32)>,
}

/// A frame to be published.
#[derive(Debug)]
pub struct Outgoing<B> {
    pub receiver: NodeId,
    pub topic: TopicId,
    /// Under which it travels.
    pub store: StoreId,
    /// Never empty.
    pub heads: Vec<Head<B>>,
    pub attempt: u32,
    /// So many of its first messages went out before.
    pub repeated: usize,
    /// The message of the same store before it.
    pub previous: Option<MessageId>,
    pub skipped: u64,
}

impl<B> Outgoing<B> {
    /// The id of its first message.
    pub fn first(&self) -> MessageId {
        self.heads.first().map_or(MessageId::ZERO, |head| head.id)
    }

    /// Whether both are the same frame, so that the bytes of one do for the other.
    pub fn is_same_frame(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.topic, it.store, it.attempt, it.previous, it.skipped);
        of(self) == of(other)
            && self.heads.iter().map(|head| head.id).eq(other.heads.iter().map(|head| head.id))
    }
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// This receiver's next frame is to be published, if there is room and nobody comes before it: see [`Outbound::next_frame`].
    Publish { receiver: NodeId },
    /// To be read; then [`Outbound::page_read`] with the same age.
    Load { age: u64, request: PageRequest },
    /// Was added to what is to be brought into the file.
    Settled(Run),
    /// The receiver's handler failed.
    Attempted { receiver: NodeId, id: MessageId, attempt: u32, answer: String },
    /// The receiver is there, and says nothing about what it was sent, so many times in a row.
    Unanswered { receiver: NodeId, id: MessageId, times: u32 },
    /// To be brought into the file, also where there is nothing; then [`Outbound::recorded`].
    Record { runs: Vec<Run>, attempts: Vec<Attempt> },
    /// When to say [`Outbound::record`].
    RecordAt { at: Option<Instant> },
    /// The file is an older copy of itself: take a new store id for messages above `from`, and give out none up to `newest`. Then
    /// [`Outbound::new_store`], or [`Outbound::no_new_store`].
    WentBack { receiver: NodeId, newest: MessageId, from: MessageId },
    /// An answer that fits nothing.
    Unmatched,
    /// The time at which this receiver's delivery is to be woken may be another: see [`Outbound::wake_at`].
    Wake { receiver: NodeId },
    /// Nothing is for this receiver any more.
    Gone { receiver: NodeId },
}

/// What is around it: looked at, or added to.
pub struct Around<'a> {
    pub now: Now,
    /// Whether there is a connection.
    pub link: bool,
    pub peers: &'a Peers,
    pub settling: &'a mut Settling,
    /// Whether somebody waits to hear what has been settled.
    pub awaited: bool,
    /// Whether there is so little room that what is settled has to give way.
    pub tight: bool,
    pub out: &'a mut Vec<Effect>,
}

#[derive(Debug)]
pub struct Outbound<B> {
    limits: Limits,
    seeds: Jitter,
    origin: Origin,
    going_back: bool,
    topics: HashMap<TopicId, Topic>,
    names: HashMap<Topic, TopicId>,
    readers: Readers,
    receivers: BTreeMap<NodeId, Delivery<B>>,
    holds: BTreeMap<NodeId, Hold<B>>,
    /// What was decided to be sent and was not asked for yet; the last decision counts.
    ready: BTreeMap<NodeId, Outgoing<B>>,
    turns: Turns,
    pages: Pages<B>,
    record: Record,
}

impl<B: Clone> Outbound<B> {
    pub fn new(limits: Limits, seed: u64, origin: Origin) -> Self {
        Self {
            limits,
            seeds: Jitter::new(seed),
            origin,
            going_back: false,
            topics: HashMap::new(),
            names: HashMap::new(),
            readers: Readers::default(),
            receivers: BTreeMap::new(),
            holds: BTreeMap::new(),
            ready: BTreeMap::new(),
            turns: Turns::default(),
            pages: Pages::default(),
            record: Record::default(),
        }
    }

    /// The store id of new messages.
    pub fn store(&self) -> StoreId {
        self.origin.current()
    }

    pub fn topic(&self, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    /// The topic that is this.
    pub fn topic_of(&self, topic: &Topic) -> Option<TopicId> {
        self.names.get(topic).copied()
    }

    /// Whether messages were sent to whoever reads this channel.
    pub fn sends_to_readers_of(&self, channel: &ChannelName) -> bool {
        self.topics.values().any(|topic| topic.channel == *channel && topic.target.is_none())
    }

    pub fn receivers(&self) -> impl Iterator<Item = &NodeId> {
        self.receivers.keys()
    }

    /// Whether something could be sent to this receiver now, or is on its way.
    pub fn is_busy_with(&self, receiver: &NodeId) -> bool {
        self.receivers.get(receiver).is_some_and(Delivery::is_busy)
    }

    /// The same of any receiver.
    pub fn is_busy(&self) -> bool {
        self.receivers.values().any(Delivery::is_busy)
    }

    /// How it is with what waits for a receiver that is online and takes the topic.
    pub fn standing(&self, receiver: &NodeId, topic: TopicId) -> Standing {
        self.receivers.get(receiver).map_or(Standing::Moving, |delivery| delivery.standing(topic))
    }

    /// The frame that is likely to go to this receiver next, as it would be published.
    pub fn foresee(&self, receiver: &NodeId, now: Now) -> Option<Outgoing<B>> {
        let foreseen = self.receivers.get(receiver)?.foresee(now)?;
        let Foreseen { topic, heads, previous, skipped } = foreseen;
        self.outgoing(receiver, topic, heads, (1, 0), (previous, skipped))
    }

    pub fn know_topic(&mut self, id: TopicId, topic: Topic) {
        self.names.insert(topic.clone(), id);
        self.topics.insert(id, topic);
    }

    /// A receiver takes the messages of a topic from here on.
    pub fn open(&mut self, around: &mut Around<'_>, cursor: Cursor) {
        let Cursor { receiver, topic, at, pending, last_seq, failed } = cursor;
        let Some(lane) = self.topics.get(&topic).map(|topic| topic.lane) else { return };
        let last_seq = if pending > 0 { last_seq } else { at.acked_seq };
        self.readers.add(topic, receiver.clone());
        if !self.receivers.contains_key(&receiver) {
            self.add_receiver(around, &receiver);
        }
        let at = around.settling.ahead(&receiver, topic, at);
        self.deliver(around, &receiver, Event::Opened { topic, lane, at, last_seq });
        if let Some((seq, attempt)) = failed {
            self.deliver(around, &receiver, Event::Failed { topic, seq, attempt });
        }
        if let Some(active) = self.is_active(around, &receiver, topic) {
            self.deliver(around, &receiver, Event::Activity { topic, active });
        }
    }

    /// A cursor has to begin anew from here.
    pub fn begin_anew(&mut self, around: &mut Around<'_>, cursor: Cursor) {
        self.pages.outdate();
        let Cursor { receiver, topic, .. } = &cursor;
        around.settling.forget(receiver, *topic);
        self.deliver(around, receiver, Event::Closed { topic: *topic });
        self.open(around, cursor);
    }

    /// Nothing of the topic is for this receiver any more.
    pub fn close(&mut self, around: &mut Around<'_>, receiver: &NodeId, topic: TopicId) {
        self.readers.remove(topic, receiver);
        around.settling.forget(receiver, topic);
        self.never_opened(receiver, topic);
        self.deliver_first(around, receiver, Event::Closed { topic });
        self.let_go(around, receiver);
    }

    /// Messages were just committed, these in this order.
    pub fn appended(&mut self, around: &mut Around<'_>, heads: Vec<Head<B>>) {
        let ends: BTreeMap<TopicId, u64> =
            heads.iter().map(|head| (head.topic, head.seq)).collect();
        let heads: Arc<[_]> = heads.into();
        for receiver in self.readers.appended(ends.clone()) {
            self.deliver(around, &receiver, Event::Appended(heads.clone()));
            let Some(delivery) = self.receivers.get(&receiver) else { continue };
            for topic in ends.keys().filter(|topic| delivery.may_sleep(**topic)) {
                self.readers.put_to_sleep(*topic, &receiver);
            }
        }
    }

    /// Messages that waited gave way to new ones, or were purged.
    pub fn dropped(
        &mut self,
        around: &mut Around<'_>,
        receiver: &NodeId,
        (topic, up_to_seq, count): (TopicId, u64, u64),
    ) {
        self.deliver_first(around, receiver, Event::Dropped { topic, up_to_seq, count });
    }

    /// What was read of the file, or is being read, may not be what it holds any more.
    pub fn outdate_pages(&mut self) {
        self.pages.outdate();
    }

    /// A keepalive of this peer came.
    pub fn heard(&mut self, around: &mut Around<'_>, node: &NodeId, news: &News) {
        let mut topics: Vec<TopicId> =
            self.receivers.get(node).map(|d| d.topics().collect()).unwrap_or_default();
        // A receiver that takes messages again gets the urgent ones first.
        topics.sort_by_key(|topic| self.topics.get(topic).map(|topic| topic.lane));
        for topic in topics {
            if let Some(active) = self.is_active(around, node, topic) {
                self.deliver(around, node, Event::Activity { topic, active });
            }
        }
        let event = if news.online {
            Event::Online
        } else if news.restarted || news.reconnected {
            Event::Restarted
        } else {
            Event::Heard
        };
        self.deliver(around, node, event);
    }

    /// The connection is gone: what found no room in it is sent again when it is back.
    pub fn link_down(&mut self, around: &mut Around<'_>) {
        self.turns.clear();
        self.deliver_all(around, || Event::LinkDown);
    }

    pub fn answered(&mut self, around: &mut Around<'_>, answer: Answer) {
        let Answer { from, stream, id, last, verdict, store, .. } = answer;
        let target = stream.direct.then(|| from.clone());
        let name = Topic { channel: stream.channel, target, lane: stream.lane };
        let topic = self.topic_of(&name).filter(|_| self.receivers.contains_key(&from));
        let Some(topic) = topic else { return around.out.push(Effect::Unmatched) };
        let judgement = self.origin.judge((&from, topic), store, id, last);
        let reply = Reply { topic, id, last, verdict, judgement };
        self.deliver(around, &from, Event::Answered(reply));
    }

    /// Messages above `from` travel under this store id from now on.
    pub fn new_store(&mut self, around: &mut Around<'_>, from: MessageId, store: StoreId) {
        let from = self.origin.take(from, store);
        self.deliver_all(around, || Event::StoreChanged { from });
    }

    /// There is none: the next answer that proves that the file went back asks again.
    pub fn no_new_store(&mut self) {
        self.going_back = false;
    }

    /// Whether others, whose frames found no room, come before this receiver.
    pub fn is_behind(&self, receiver: &NodeId) -> bool {
        self.turns.is_behind(receiver)
    }

    /// The frame that is to be published to this receiver; none where it has gone out, or is not to be sent any more.
    pub fn next_frame(&mut self, receiver: &NodeId) -> Option<Outgoing<B>> {
        let outgoing = self.ready.remove(receiver)?;
        let (topic, first) = (outgoing.topic, outgoing.first());
        if !self.receivers.get(receiver)?.is_in_flight(topic, first) {
            return None;
        }
        self.origin.sent(receiver, topic, outgoing.heads.last()?.id);
        Some(outgoing)
    }

    /// The frame that was to be published to this receiver just now did not leave.
    pub fn unsent(&mut self, around: &mut Around<'_>, receiver: &NodeId, why: Unsent) {
        self.ready.remove(receiver);
        if why == Unsent::Busy {
            self.turns.refused(receiver);
        }
        self.deliver_together(around, receiver, vec![Event::Unsent(why)]);
    }

    /// When to say [`Event::Woke`] to this receiver's delivery.
    pub fn wake_at(&self, receiver: &NodeId, now: Now) -> Option<Instant> {
        self.receivers.get(receiver)?.wake_at(now)
    }

    /// The connection has room: the receiver that was refused first sends what it has now. `false`: nobody waits. To be called again while there
    /// is room.
    pub fn send_next(&mut self, around: &mut Around<'_>) -> bool {
        let Some(receiver) = self.turns.begin() else { return false };
        self.deliver(around, &receiver, Event::Room);
        true
    }

    /// No more of them are asked now.
    pub fn end_turns(&mut self) {
        self.turns.end();
    }

    /// How many receivers have a frame that found no room.
    pub fn wait_for_room(&self) -> usize {
        self.turns.len()
    }

    /// A page was read, or could not be.
    pub fn page_read(
        &mut self,
        around: &mut Around<'_>,
        (age, request): (u64, PageRequest),
        read: Option<Read<B>>,
    ) {
        let (waiting, request) = self.pages.take_waiting(age, request);
        for Place { receiver, token } in waiting {
            let event = match &read {
                Some(read) => read.loaded(token, &request),
                None => Event::LoadFailed { token },
            };
            self.deliver(around, &receiver, event);
        }
        if let Some(read) = read
            && self.receivers.len() > 1
        {
            self.pages.keep(age, request, read);
        }
    }

    /// Says this to all deliveries.
    pub fn deliver_all(&mut self, around: &mut Around<'_>, event: impl Fn() -> Event<B>) {
        let receivers: Vec<NodeId> = self.receivers.keys().cloned().collect();
        for receiver in receivers {
            self.deliver(around, &receiver, event());
        }
    }

    /// Says this to one delivery.
    pub fn deliver(&mut self, around: &mut Around<'_>, receiver: &NodeId, event: Event<B>) {
        if let Some(hold) = self.holds.get_mut(receiver) {
            return hold.later.push(event);
        }
        self.deliver_together(around, receiver, vec![event]);
    }

    /// The same with several events of one moment.
    fn deliver_together(
        &mut self,
        around: &mut Around<'_>,
        receiver: &NodeId,
        events: Vec<Event<B>>,
    ) {
        let slept = self.readers.wake(receiver).into_iter();
        let slept = slept.map(|(topic, end_seq)| Event::Slept { topic, end_seq });
        let mut together: Vec<_> = slept.chain(events).collect();
        let mut events = VecDeque::new();
        while !together.is_empty() {
            let Some(delivery) = self.receivers.get_mut(receiver) else { return };
            let mut actions = Vec::new();
            delivery.handle_together(around.now, together.drain(..), &mut actions);
            for action in actions {
                events.extend(self.act(around, receiver, action));
            }
            together.extend(events.pop_front());
        }
        around.out.push(Effect::Wake { receiver: receiver.clone() });
    }

    /// What follows from a delivery's decision; what it is told at once.
    fn act(
        &mut self,
        around: &mut Around<'_>,
        receiver: &NodeId,
        action: Action<B>,
    ) -> Option<Event<B>> {
        let whose = receiver.clone();
        let effect = match action {
            Action::Load { token, lane, topics, max_messages } => {
                let share = self.pages.share(self.receivers.len());
                let request = PageRequest { lane, topics, max_messages, max_bytes: share };
                return self.load(around, Place { receiver: whose, token }, request);
            }
            Action::Publish { topic, heads, attempt, repeated, previous, skipped } => {
                let (times, place) = ((attempt, repeated), (previous, skipped));
                let outgoing = self.outgoing(receiver, topic, heads, times, place)?;
                self.ready.insert(whose.clone(), outgoing);
                Effect::Publish { receiver: whose }
            }
            Action::Settle { topic, first_seq, last_seq, last_id, count, how } => {
                let at_ms = around.now.file_ms;
                let receiver = whose;
                let run = Run { receiver, topic, first_seq, last_seq, last_id, count, how, at_ms };
                around.settling.add(run.clone());
                self.settled(around, &run);
                Effect::Settled(run)
            }
            Action::Attempted { topic: _, seq, id, attempt, answer } => {
                let (receiver, at_ms) = (whose.clone(), around.now.file_ms);
                self.attempted(Attempt { receiver, seq, attempt, at_ms, answer: answer.clone() });
                Effect::Attempted { receiver: whose, id, attempt, answer }
            }
            Action::Unanswered { topic: _, seq, id, attempt, times } => {
                let (receiver, at_ms) = (whose.clone(), around.now.file_ms);
                let answer = format!("no answer ({times} in a row): it may have been handled");
                self.unanswered(Attempt { receiver, seq, attempt, at_ms, answer });
                Effect::Unanswered { receiver: whose, id, times }
            }
            Action::WentBack { newest } => {
                if std::mem::replace(&mut self.going_back, true) {
                    return None;
                }
                Effect::WentBack { receiver: whose, newest, from: self.origin.opened_at() }
            }
            Action::Unmatched => Effect::Unmatched,
        };
        around.out.push(effect);
        None
    }

    fn outgoing(
        &self,
        receiver: &NodeId,
        topic: TopicId,
        heads: Vec<Head<B>>,
        (attempt, repeated): (u32, usize),
        (previous, skipped): (Option<MessageId>, u64),
    ) -> Option<Outgoing<B>> {
        let store = self.origin.store_of(heads.first()?.id);
        // An id of another store means nothing to the receiver in this one's stream.
        let previous = previous.filter(|id| self.origin.store_of(*id) == store);
        let receiver = receiver.clone();
        Some(Outgoing { receiver, topic, store, heads, attempt, repeated, previous, skipped })
    }

    /// Has a page read; the answer, where it is there already.
    fn load(
        &mut self,
        around: &mut Around<'_>,
        place: Place,
        request: PageRequest,
    ) -> Option<Event<B>> {
        if let Some(read) = self.pages.recent(&request) {
            return Some(read.loaded(place.token, &request));
        }
        if let Some(age) = self.pages.wait(place, &request) {
            around.out.push(Effect::Load { age, request });
        }
        None
    }

    fn add_receiver(&mut self, around: &mut Around<'_>, receiver: &NodeId) {
        let (limits, seed) = (self.limits.clone(), self.seeds.draw());
        let delivery = Delivery::new(limits, seed, self.origin.beginnings());
        self.receivers.insert(receiver.clone(), delivery);
        if around.link {
            self.deliver(around, receiver, Event::LinkUp);
        }
        if around.peers.is_online(receiver) {
            self.deliver(around, receiver, Event::Online);
        }
    }

    /// Lets go of a receiver that has no topic any more.
    fn let_go(&mut self, around: &mut Around<'_>, receiver: &NodeId) {
        if self.holds.contains_key(receiver) {
            // A topic of its may be about to be opened.
            return;
        }
        if self.receivers.get(receiver).is_some_and(|delivery| delivery.topics().next().is_none()) {
            self.receivers.remove(receiver);
            self.ready.remove(receiver);
            around.out.push(Effect::Gone { receiver: receiver.clone() });
        }
    }

    /// Whether the peer takes this topic's messages, by its last word; none where it has said nothing in this run.
    fn is_active(&self, around: &Around<'_>, node: &NodeId, topic: TopicId) -> Option<bool> {
        around.peers.takes(node, &self.topics.get(&topic)?.channel)
    }
}

#[cfg(test)]
mod tests;
