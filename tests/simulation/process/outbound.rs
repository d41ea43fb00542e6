//! Sending: what the store commits goes to the deliveries, and what they decide is done.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use waypost::protocol::delivery::{self, Action, Delivery, Head, Settled};
use waypost::protocol::frame::{Answer as Reply, Frame, FrameMessage, MessageFrame};
use waypost::protocol::inbox;
use waypost::protocol::settling::{Position, Run};
use waypost::protocol::{Body, TopicId, membership};
use waypost::{Kind as MessageKind, MessageId, NodeId, StoreId};

use super::{Page, Process, SETTLE_EVERY, SETTLE_FEW, Timer, stream_of};
use crate::file::{Cursor, Notice, Outcome, Row, TopicRow, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

/// What a message costs besides its payload, roughly.
const MESSAGE_BYTES: usize = 256;

fn head(row: Rc<Row>) -> Head<Rc<Row>> {
    Head {
        seq: row.seq,
        id: row.id,
        topic: row.topic,
        expires_ms: row.expires_ms,
        bytes: MESSAGE_BYTES,
        header_bytes: MESSAGE_BYTES,
        body: Some(row),
    }
}

/// What happens to a receiver's deliveries while they stand still.
#[derive(Default)]
pub(super) struct Hold {
    jobs: usize,
    first: Vec<delivery::Event<Rc<Row>>>,
    later: Vec<delivery::Event<Rc<Row>>>,
}

impl Process {
    pub(super) fn take_notices(&mut self, world: &mut World) {
        let mut notices = world.take_notices(self.me).into_iter().peekable();
        while let Some(notice) = notices.next() {
            match notice {
                Notice::TopicOpened(topic, row) => self.know_topic(topic, row),
                Notice::CursorOpened(cursor) => {
                    // A purge that failed and stands in the file all the same.
                    let Cursor { receiver, topic, acked_seq, .. } = &cursor;
                    world.oracle.settled_by_file(self.me, receiver, *topic, *acked_seq);
                    self.open(world, cursor);
                }
                Notice::CursorBehind(cursor) => {
                    self.settling.forget(&cursor.receiver, cursor.topic);
                    world.oracle.told_anew(self.me, &cursor.receiver, cursor.topic);
                    let closed = delivery::Event::Closed { topic: cursor.topic };
                    self.deliver(world, &cursor.receiver.clone(), closed);
                    self.open(world, cursor);
                }
                Notice::Down => self.receive(world, inbox::Event::Suspended),
                Notice::Up { received: known } => {
                    self.receive(world, inbox::Event::Resumed { known });
                }
                Notice::CursorClosed { receiver, topic } => self.close(world, &receiver, topic),
                Notice::Appended(row) => {
                    let more = || match notices.next_if(|next| matches!(next, Notice::Appended(_)))
                    {
                        Some(Notice::Appended(row)) => Some(row),
                        _ => None,
                    };
                    let run = std::iter::once(row).chain(std::iter::from_fn(more)).collect();
                    self.appended(world, run);
                }
                Notice::Missed { end_seq } => {
                    self.deliver_all(world, || delivery::Event::Missed { end_seq });
                }
                Notice::Dropped { receiver, topic, up_to_seq, count } => {
                    world.oracle.settled_by_file(self.me, &receiver, topic, up_to_seq);
                    let dropped = delivery::Event::Dropped { topic, up_to_seq, count };
                    self.deliver_first(world, &receiver, dropped);
                }
            }
        }
    }

    fn appended(&mut self, world: &mut World, rows: Vec<Rc<Row>>) {
        let ends: BTreeMap<TopicId, u64> = rows.iter().map(|row| (row.topic, row.seq)).collect();
        let heads: Arc<[_]> = rows.into_iter().map(head).collect();
        for receiver in self.readers.appended(ends.clone()) {
            self.deliver(world, &receiver, delivery::Event::Appended(heads.clone()));
            let Some(delivery) = self.receivers.get(&receiver) else { continue };
            for topic in ends.keys().filter(|topic| delivery.may_sleep(**topic)) {
                self.readers.put_to_sleep(*topic, &receiver);
            }
        }
    }

    pub(super) fn know_topic(&mut self, topic: TopicId, row: TopicRow) {
        let name = (row.channel.clone(), row.target.clone(), row.lane);
        self.topic_names.insert(name, topic);
        self.topics.insert(topic, row);
    }

    /// A receiver takes the messages of a topic from here on.
    pub(super) fn open(&mut self, world: &mut World, cursor: Cursor) {
        let Some(lane) = self.topics.get(&cursor.topic).map(|topic| topic.lane) else { return };
        let last_seq = if cursor.pending > 0 { cursor.last_seq } else { cursor.acked_seq };
        self.readers.add(cursor.topic, cursor.receiver.clone());
        let Cursor { receiver, topic, acked_seq, acked_id, skipped, .. } = cursor;
        if !self.receivers.contains_key(&receiver) {
            self.add_receiver(world, &receiver);
        }
        let at = Position { acked_seq, acked_id, skipped };
        let at = self.settling.ahead(&receiver, topic, at);
        let opened = delivery::Event::Opened { topic, lane, at, last_seq };
        self.deliver(world, &receiver, opened);
        if let Some(active) = self.is_active(&receiver, topic) {
            self.deliver(world, &receiver, delivery::Event::Activity { topic, active });
        }
    }

    fn add_receiver(&mut self, world: &mut World, receiver: &NodeId) {
        let delivery = Delivery::new(
            self.settings.delivery.clone(),
            world.dice.draw(),
            self.origin.beginnings(),
        );
        self.receivers.insert(receiver.clone(), delivery);
        if self.link {
            self.deliver(world, receiver, delivery::Event::LinkUp);
        }
        if self.membership.is_online(receiver) {
            self.deliver(world, receiver, delivery::Event::Online);
        }
    }

    fn close(&mut self, world: &mut World, receiver: &NodeId, topic: TopicId) {
        self.readers.remove(topic, receiver);
        self.is_kept(world, receiver, topic);
        self.settling.forget(receiver, topic);
        world.oracle.settled_by_file(self.me, receiver, topic, u64::MAX);
        self.deliver_first(world, receiver, delivery::Event::Closed { topic });
        self.let_go(world, receiver);
    }

    /// P2: what was acknowledged before its cursor was closed is not purged.
    fn is_kept(&self, world: &mut World, receiver: &NodeId, topic: TopicId) {
        let acknowledged = self
            .settling
            .of(receiver)
            .into_iter()
            .filter(|run| run.topic == topic && run.how == delivery::Settled::Acknowledged);
        for run in acknowledged {
            let of = (receiver.clone(), topic, run.first_seq)..=(receiver.clone(), topic, u64::MAX);
            let rows = world.machines[self.me].file.current.settlements.range(of);
            let purged = rows
                .map(|(_, row)| row)
                .find(|row| row.outcome == Outcome::Purged && row.first_seq <= run.last_seq);
            if let Some(purged) = purged.copied() {
                world.violated(format!("P2: {run:?} was acknowledged, and is purged: {purged:?}"));
            }
        }
    }

    fn let_go(&mut self, world: &mut World, receiver: &NodeId) {
        if self.holds.contains_key(receiver) {
            return;
        }
        if self.receivers.get(receiver).is_some_and(|delivery| delivery.topics().next().is_none()) {
            self.receivers.remove(receiver);
            self.arm(world, Timer::Receiver(receiver.clone()), None);
        }
    }

    /// Says this to one delivery, and does what it decides.
    pub(super) fn deliver(
        &mut self,
        world: &mut World,
        receiver: &NodeId,
        event: delivery::Event<Rc<Row>>,
    ) {
        if let Some(hold) = self.holds.get_mut(receiver) {
            return hold.later.push(event);
        }
        self.deliver_together(world, receiver, vec![event]);
    }

    fn deliver_together(
        &mut self,
        world: &mut World,
        receiver: &NodeId,
        events: Vec<delivery::Event<Rc<Row>>>,
    ) {
        let slept = self.readers.wake(receiver).into_iter();
        let slept = slept.map(|(topic, end_seq)| delivery::Event::Slept { topic, end_seq });
        let mut together: Vec<_> = slept.chain(events).collect();
        let mut events = VecDeque::new();
        while !together.is_empty() {
            let now = self.now(world);
            let Some(delivery) = self.receivers.get_mut(receiver) else { return };
            let mut actions = Vec::new();
            delivery.handle_together(now, together.drain(..), &mut actions);
            for action in actions {
                if !world.goes_on(self.me) {
                    return;
                }
                events.extend(self.perform(world, receiver, action));
            }
            together.extend(events.pop_front());
        }
        let now = self.now(world);
        let wake_at = self.receivers.get(receiver).and_then(|delivery| delivery.wake_at(now));
        let wake_at = wake_at.map(|at| world.since_base(at));
        self.arm(world, Timer::Receiver(receiver.clone()), wake_at);
    }

    /// Lets the deliveries to this receiver stand still while the file gives up what waits for it.
    pub(super) fn stand_still(&mut self, receiver: NodeId) {
        self.holds.entry(receiver).or_default().jobs += 1;
    }

    fn deliver_first(
        &mut self,
        world: &mut World,
        receiver: &NodeId,
        event: delivery::Event<Rc<Row>>,
    ) {
        match self.holds.get_mut(receiver) {
            Some(hold) => hold.first.push(event),
            None => self.deliver(world, receiver, event),
        }
    }

    pub(super) fn given_up(&mut self, world: &mut World, receiver: &NodeId) {
        self.take_notices(world);
        let Some(hold) = self.holds.get_mut(receiver) else { return };
        hold.jobs -= 1;
        if hold.jobs > 0 {
            return;
        }
        let Hold { first, later, .. } = self.holds.remove(receiver).unwrap_or_default();
        self.deliver_together(world, receiver, first);
        for event in later {
            self.deliver(world, receiver, event);
        }
        self.let_go(world, receiver);
    }

    pub(super) fn deliver_all(
        &mut self,
        world: &mut World,
        event: impl Fn() -> delivery::Event<Rc<Row>>,
    ) {
        let receivers: Vec<NodeId> = self.receivers.keys().cloned().collect();
        for receiver in receivers {
            self.deliver(world, &receiver, event());
        }
    }

    fn perform(
        &mut self,
        world: &mut World,
        receiver: &NodeId,
        action: Action<Rc<Row>>,
    ) -> Option<delivery::Event<Rc<Row>>> {
        match action {
            Action::Load { token, lane, topics, max_messages } => {
                world.read_page(self.me, receiver.clone(), token, lane, topics, max_messages);
            }
            Action::Publish { topic, heads, attempt, previous, skipped, .. } => {
                let frame = self.message_frame(world, receiver, topic, &heads, attempt)?;
                let previous = previous.filter(|id| self.origin.store_of(*id) == frame.store);
                let frame = MessageFrame { previous, skipped, ..frame };
                self.origin.sent(receiver, topic, heads.last()?.id);
                let rows: Vec<Rc<Row>> = heads.into_iter().filter_map(|head| head.body).collect();
                world.note_publish(self.me, self.run, receiver, &rows);
                let to = Some(receiver.clone());
                let sent = Sent::new(Kind::Message, self.id.clone(), to, Frame::Messages(frame));
                return world.publish(self.me, sent).err().map(delivery::Event::Unsent);
            }
            Action::Settle { topic, first_seq, last_seq, last_id, count, how } => {
                let receiver = receiver.clone();
                let at_ms = self.file_ms(world);
                let run = Run { receiver, topic, first_seq, last_seq, last_id, count, how, at_ms };
                world.note_settled(self.me, &run);
                self.settling.add(run);
                if self.settling.is_urgent() {
                    self.settle(world);
                } else {
                    self.settle_soon(world);
                }
            }
            Action::Attempted { .. } | Action::Unanswered { .. } | Action::Unmatched => {}
            Action::WentBack { newest } => self.go_back(world, newest),
        }
        None
    }

    pub(super) fn page_read(&mut self, world: &mut World, page: Page) {
        let Page { receiver, token, topics, rows } = page;
        let event = match rows {
            Some((rows, scanned_to, end)) => {
                let heads = rows.into_iter().map(head).collect();
                delivery::Event::Loaded { token, topics, heads, scanned_to, end }
            }
            None => delivery::Event::LoadFailed { token },
        };
        self.deliver(world, &receiver, event);
    }

    fn message_frame(
        &self,
        world: &World,
        receiver: &NodeId,
        topic: TopicId,
        heads: &[Head<Rc<Row>>],
        attempt: u32,
    ) -> Option<MessageFrame> {
        let topic = self.topics.get(&topic)?;
        let now_ms = self.file_ms(world);
        let messages = heads.iter().filter_map(|head| head.body.as_ref()).map(|row| FrameMessage {
            id: row.id,
            kind: MessageKind::default(),
            headers: BTreeMap::new(),
            created_ms: row.created_ms,
            ttl_left_ms: row.expires_ms.map(|expires| expires.saturating_sub(now_ms)),
            body: Body::new(row.uid.to_be_bytes().to_vec().into()),
        });
        Some(MessageFrame {
            from: self.id.clone(),
            to: receiver.clone(),
            store: self.origin.store_of(heads.first()?.id),
            stream: stream_of(topic),
            previous: None,
            skipped: 0,
            attempt,
            ack_timeout_ms: self.settings.delivery.ack_timeout.as_millis() as u64,
            messages: messages.collect(),
        })
    }

    pub(super) fn settle_soon(&mut self, world: &mut World) {
        if self.settle_running {
            return;
        }
        let many = self.settling.is_many();
        let at = world.now + if many { SETTLE_EVERY } else { SETTLE_FEW };
        if self.armed.get(&Timer::Settle).is_none_or(|armed| at < *armed) {
            self.arm(world, Timer::Settle, Some(at));
        }
    }

    /// Writes what has been settled since the last time, unless that is still being done.
    pub(super) fn settle(&mut self, world: &mut World) {
        if self.settle_running {
            return;
        }
        self.arm(world, Timer::Settle, None);
        if self.settling.is_empty() {
            return;
        }
        self.settle_running = true;
        world.submit(self.me, Work::Settle(self.settling.take()));
    }

    pub(super) fn settled(&mut self, world: &mut World, failed: bool) {
        self.settle_running = false;
        if failed {
            self.settling.failed();
            let later = world.now + Duration::from_millis(500);
            return self.arm(world, Timer::Settle, Some(later));
        }
        for run in self.settling.written() {
            if run.how == Settled::Acknowledged {
                continue;
            }
            let recorded = delivery::Event::Recorded { topic: run.topic, up_to_seq: run.last_seq };
            self.deliver(world, &run.receiver, recorded);
        }
        if self.settling.is_urgent() {
            self.settle(world);
        } else if !self.settling.is_empty() {
            self.settle_soon(world);
        }
    }

    /// Our file turned out to be an older copy of itself: messages of this run travel under a new store id.
    fn go_back(&mut self, world: &mut World, newest: MessageId) {
        if std::mem::replace(&mut self.going_back, true) {
            return;
        }
        world.note_went_back(self.me, newest);
        world.submit(self.me, Work::RaiseLastId { from: self.origin.opened_at(), newest });
    }

    pub(super) fn new_store(&mut self, world: &mut World, from: MessageId, store: StoreId) {
        let from = self.origin.take(from, store);
        world.oracle.store_changed(self.me);
        self.deliver_all(world, || delivery::Event::StoreChanged { from });
        self.meet(world, membership::Event::Changed);
    }

    pub(super) fn answered(&mut self, world: &mut World, answer: Reply) {
        let Reply { from, stream, id, last, verdict, store, .. } = answer;
        let target = stream.direct.then(|| from.clone());
        let name = (stream.channel, target, stream.lane);
        let Some(topic) = self.topic_names.get(&name).copied() else { return };
        let judgement = self.origin.judge((&from, topic), store, id, last);
        world.oracle.answered(self.me, &from, topic, id, &verdict);
        let reply = delivery::Reply { topic, id, last, verdict, judgement };
        self.deliver(world, &from, delivery::Event::Answered(reply));
    }
}
