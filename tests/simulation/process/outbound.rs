//! Sending: what the store commits goes to the deliveries, and what they decide is done.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use waypost::protocol::delivery::{self, Head, Unsent};
use waypost::protocol::frame::{Answer as Reply, Frame, FrameMessage, MessageFrame};
use waypost::protocol::inbox;
use waypost::protocol::looks::Looks;
use waypost::protocol::outbound::{self, Around, Effect, Outbound, Outgoing, Read, Topic};
use waypost::protocol::settling::Position;
use waypost::protocol::{Body, membership};
use waypost::{Kind as MessageKind, MessageId, NodeId, StoreId};

use super::{Page, Process, Timer, stream_of};
use crate::file::{Cursor, Notice, Row, TopicRow, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

/// Most messages that are shown to the receivers at once.
const RUN: usize = 16;
/// What a message costs besides its payload, roughly.
pub(crate) const MESSAGE_BYTES: usize = 256;

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

impl From<TopicRow> for Topic {
    fn from(TopicRow { channel, target, lane, .. }: TopicRow) -> Self {
        Self { channel, target, lane }
    }
}

impl From<Cursor> for outbound::Cursor {
    fn from(cursor: Cursor) -> Self {
        let Cursor { receiver, topic, acked_seq, acked_id, pending, skipped, failed, last_seq } =
            cursor;
        let at = Position { acked_seq, acked_id, skipped };
        Self { receiver, topic, at, pending, last_seq, failed }
    }
}

impl Process {
    pub(super) fn take_notices(&mut self, world: &mut World) {
        let mut notices = world.take_notices(self.me).into_iter().peekable();
        while let Some(notice) = notices.next() {
            if !matches!(notice, Notice::Appended(_)) {
                log!(world, "{}: {notice:?}", self.id);
            }
            match notice {
                Notice::TopicOpened(topic, row) => self.outbound.know_topic(topic, row.into()),
                Notice::CursorOpened(cursor) => {
                    // A purge that failed and stands in the file all the same.
                    let Cursor { receiver, topic, acked_seq, .. } = &cursor;
                    world.oracle.settled_by_file(self.me, receiver, *topic, *acked_seq);
                    self.with_outbound(world, |it, around| it.open(around, cursor.into()));
                }
                Notice::CursorBehind(cursor) => {
                    world.oracle.told_anew(self.me, &cursor.receiver, cursor.topic);
                    self.with_outbound(world, |it, around| it.begin_anew(around, cursor.into()));
                }
                Notice::Down => {
                    self.outbound.outdate_pages();
                    self.receive(world, inbox::Event::Suspended);
                    self.tell_stalls(world);
                }
                Notice::Up { received: known } => {
                    self.receive(world, inbox::Event::Resumed { known });
                    self.tell_stalls(world);
                }
                Notice::UnclaimedExpires { at_ms } => {
                    self.with_looks(world, |it, around| it.unclaimed_expires(around, at_ms));
                }
                Notice::Filling => self.with_looks(world, Looks::filling),
                Notice::CursorClosed { receiver, topic } => {
                    world.note_closed(self.me, &receiver, topic);
                    self.with_outbound(world, |it, around| it.close(around, &receiver, topic));
                }
                Notice::Appended(row) => {
                    let more = || match notices.next_if(|next| matches!(next, Notice::Appended(_)))
                    {
                        Some(Notice::Appended(row)) => Some(row),
                        _ => None,
                    };
                    let run = std::iter::once(row).chain(std::iter::from_fn(more));
                    let heads = run.take(RUN).map(head).collect();
                    self.with_outbound(world, |it, around| it.appended(around, heads));
                }
                Notice::Missed { end_seq } => {
                    self.deliver_all(world, || delivery::Event::Missed { end_seq });
                }
                Notice::Dropped { receiver, topic, up_to_seq, count } => {
                    world.oracle.settled_by_file(self.me, &receiver, topic, up_to_seq);
                    let what = (topic, up_to_seq, count);
                    self.with_outbound(world, |it, around| it.dropped(around, &receiver, what));
                }
            }
        }
    }

    /// Has it decided what follows from something, and does that, up to a crash.
    pub(super) fn with_outbound<R>(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Outbound<Rc<Row>>, &mut Around<'_>) -> R,
    ) -> R {
        let (decided, effects) = self.decide(world, decide);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if !world.goes_on(self.me) {
                break;
            }
            let Some((receiver, why)) = self.perform(world, effect) else { continue };
            let ((), first) = self.decide(world, |it, around| it.unsent(around, &receiver, why));
            first.into_iter().rev().for_each(|effect| effects.push_front(effect));
        }
        decided
    }

    fn decide<R>(
        &mut self,
        world: &World,
        decide: impl FnOnce(&mut Outbound<Rc<Row>>, &mut Around<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let (now, link, mut out) = (self.now(world), self.link, Vec::new());
        let Self { peers, settling, outbound, .. } = self;
        let (awaited, tight, out_of) = (world.plan.awaited, false, &mut out);
        let around = &mut Around { now, link, peers, settling, awaited, tight, out: out_of };
        let decided = decide(outbound, around);
        outbound.finish(around);
        (decided, out)
    }

    /// Says this to one delivery.
    pub(super) fn deliver(
        &mut self,
        world: &mut World,
        receiver: &NodeId,
        event: delivery::Event<Rc<Row>>,
    ) {
        self.with_outbound(world, |it, around| it.deliver(around, receiver, event));
    }

    pub(super) fn deliver_all(
        &mut self,
        world: &mut World,
        event: impl Fn() -> delivery::Event<Rc<Row>>,
    ) {
        self.with_outbound(world, |it, around| it.deliver_all(around, event));
    }

    /// Whose frame did not leave, and why.
    fn perform(&mut self, world: &mut World, effect: Effect) -> Option<(NodeId, Unsent)> {
        match effect {
            Effect::Load { age, request } => world.read_page(self.me, age, request),
            Effect::Publish { receiver } => {
                if self.outbound.is_behind(&receiver) || !world.has_room(self.me) {
                    return Some((receiver, Unsent::Busy));
                }
                let outgoing = self.outbound.next_frame(&receiver)?;
                let frame = self.message_frame(world, &outgoing);
                let bodies = outgoing.heads.into_iter().filter_map(|head| head.body);
                let rows: Vec<Rc<Row>> = bodies.collect();
                let to = Some(receiver.clone());
                let sent = Sent::new(Kind::Message, self.id.clone(), to, Frame::Messages(frame));
                if let Err(why) = world.publish(self.me, sent) {
                    return Some((receiver, why));
                }
                world.note_publish(self.me, self.run, &receiver, &rows);
            }
            Effect::Settled(run) => world.note_settled(self.me, &run),
            Effect::Record { runs, attempts } => {
                world.submit(self.me, Work::Settle(runs, attempts));
            }
            Effect::RecordAt { at } => {
                let at = at.map(|at| world.since_base(at));
                self.arm(world, Timer::Record, at);
            }
            Effect::WentBack { receiver: _, newest, from } => {
                world.note_went_back(self.me, newest);
                world.submit(self.me, Work::RaiseLastId { from, newest });
            }
            Effect::Wake { receiver } => {
                let at = self.outbound.wake_at(&receiver, self.now(world));
                let at = at.map(|at| world.since_base(at));
                self.arm(world, Timer::Receiver(receiver), at);
            }
            Effect::Gone { receiver } => self.arm(world, Timer::Receiver(receiver), None),
            Effect::Attempted { receiver, id, attempt, answer } => {
                if answer.starts_with(delivery::HANDLER_FAILED) {
                    world.note_attempt(self.me, &receiver, id, attempt);
                }
            }
            Effect::Unanswered { .. } | Effect::Unmatched => {}
        }
        None
    }

    /// There is room again: those whose frames found none send them now.
    pub(super) fn send_unsent(&mut self, world: &mut World) {
        let mut waiting = self.outbound.wait_for_room();
        while world.has_room(self.me)
            && self.with_outbound(world, |it, around| it.send_next(around))
        {
            let left = self.outbound.wait_for_room();
            if std::mem::replace(&mut waiting, left) <= left {
                break;
            }
        }
        self.outbound.end_turns();
    }

    pub(super) fn page_read(&mut self, world: &mut World, page: Page) {
        let Page { age, request, rows } = page;
        let read = rows.map(|(rows, scanned_to, end)| Read {
            heads: rows.into_iter().map(head).collect(),
            scanned_to,
            end,
        });
        self.with_outbound(world, |it, around| it.page_read(around, (age, request), read));
    }

    fn message_frame(&self, world: &World, outgoing: &Outgoing<Rc<Row>>) -> MessageFrame {
        let Outgoing { receiver, topic, store, heads, attempt, previous, skipped, .. } = outgoing;
        let topic = self.outbound.topic(*topic).expect("what is sent has a topic");
        let now_ms = self.file_ms(world);
        let messages = heads.iter().filter_map(|head| head.body.as_ref()).map(|row| FrameMessage {
            id: row.id,
            kind: MessageKind::default(),
            headers: BTreeMap::new(),
            created_ms: row.created_ms,
            ttl_left_ms: row.expires_ms.map(|expires| expires.saturating_sub(now_ms)),
            body: Body::new(row.uid.to_be_bytes().to_vec().into()),
        });
        MessageFrame {
            from: self.id.clone(),
            to: receiver.clone(),
            store: *store,
            stream: stream_of(topic),
            previous: *previous,
            skipped: *skipped,
            attempt: *attempt,
            ack_timeout_ms: self.settings.delivery.ack_timeout.as_millis() as u64,
            messages: messages.collect(),
        }
    }

    pub(super) fn new_store(&mut self, world: &mut World, from: MessageId, store: StoreId) {
        world.oracle.store_changed(self.me);
        self.with_outbound(world, |it, around| it.new_store(around, from, store));
        self.meet(world, membership::Event::Changed);
    }

    pub(super) fn answered(&mut self, world: &mut World, answer: Reply) {
        let Reply { from, stream, id, verdict, .. } = &answer;
        let target = stream.direct.then(|| from.clone());
        let name = Topic { channel: stream.channel.clone(), target, lane: stream.lane };
        if let Some(topic) = self.outbound.topic_of(&name) {
            world.oracle.answered(self.me, from, topic, *id, verdict);
        }
        self.with_outbound(world, |it, around| it.answered(around, answer));
    }
}
