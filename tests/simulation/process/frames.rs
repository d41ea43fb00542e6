//! Frames from the network to the core, and from it to the network; the connection's ups and downs.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use waypost::core::{Address, Input, Port, ServerUp};
use waypost::protocol::delivery::Unsent;
use waypost::protocol::frame::{Answer, Frame, FrameMessage, Keepalive, MessageFrame, Stream};
use waypost::protocol::inbox::Source;
use waypost::protocol::outbound::{Outgoing, Topic};
use waypost::{Kind as MessageKind, NodeId, Outage};

use super::{Process, Timer, payload};
use crate::file::Row;
use crate::network::{Kind, Sent};
use crate::world::World;

/// What a message costs besides its payload, roughly.
pub(crate) const MESSAGE_BYTES: usize = 256;
/// How soon a node has mostly looked at what there was when it heard that a peer left a channel.
const SOON: Duration = Duration::from_millis(1);

impl Process {
    pub(super) fn link_up(&mut self, world: &mut World, denied: Vec<String>) {
        self.is_denied = !denied.is_empty();
        let now = world.mono(self.me);
        world.oracle.lives.links(self.me, now);
        let name = "simulated".to_owned();
        self.say(world, Input::LinkUp(ServerUp { name, max_frame: usize::MAX, denied }));
    }

    pub(super) fn link_down(&mut self, world: &mut World) {
        self.is_denied = false;
        world.oracle.lives.loses_link(self.me);
        let reason = "it is gone".to_owned();
        self.say(world, Input::LinkDown { reason, outage: Outage::NoServer });
    }

    pub(super) fn frame(&mut self, world: &mut World, sent: &Sent) {
        let port = match sent.kind {
            Kind::Message => Port::Message,
            Kind::Ack => Port::Ack,
            Kind::Keepalive => Port::Keepalive,
            Kind::Management => Port::Management { all: false },
            Kind::Order => Port::Order,
            Kind::Election => Port::Election,
        };
        match &sent.frame {
            Frame::Keepalive(keepalive) if keepalive.from == self.id => {
                world.oracle.lives.hears_itself(self.me, keepalive.counter);
            }
            Frame::Answer(answer) => self.is_answered(world, answer),
            _ => {}
        }
        let (from, frame) = (sent.from.clone(), sent.frame.clone());
        self.say(world, Input::Frame { port, from, frame });
    }

    fn is_answered(&self, world: &mut World, answer: &Answer) {
        let Answer { from, stream, id, verdict, .. } = answer;
        let target = stream.direct.then(|| from.clone());
        let name = Topic { channel: stream.channel.clone(), target, lane: stream.lane };
        if let Some(topic) = self.core.topic_of(&name) {
            world.oracle.answered(self.me, from, topic, *id, verdict);
        }
    }

    /// There is room again: those whose frames found none send them now.
    pub(super) fn send_unsent(&mut self, world: &mut World) {
        let mut waiting = self.core.waits_for_room();
        while waiting > 0 && world.has_room(self.me) {
            self.say(world, Input::Room);
            let left = self.core.waits_for_room();
            if std::mem::replace(&mut waiting, left) <= left {
                break;
            }
        }
        self.say(world, Input::RoomEnds);
    }

    pub(super) fn publish(&mut self, world: &mut World, receiver: &NodeId) -> Result<(), Unsent> {
        if self.core.is_behind(receiver) || !world.has_room(self.me) {
            return Err(Unsent::Busy);
        }
        let Some(outgoing) = self.core.next_frame(receiver) else { return Ok(()) };
        let frame = self.message_frame(world, &outgoing);
        let bodies = outgoing.heads.into_iter().filter_map(|head| head.body);
        let rows: Vec<Rc<Row>> = bodies.collect();
        let to = Some(receiver.clone());
        let sent = Sent::new(Kind::Message, self.id.clone(), to, Frame::Messages(frame));
        world.publish(self.me, sent)?;
        world.note_publish(self.me, self.run, receiver, &rows);
        Ok(())
    }

    fn message_frame(&self, world: &World, outgoing: &Outgoing<Rc<Row>>) -> MessageFrame {
        let Outgoing { receiver, topic, store, heads, attempt, previous, skipped, .. } = outgoing;
        let topic = self.core.topic(*topic).expect("what is sent has a topic");
        let now_ms = self.file_ms(world);
        let messages = heads.iter().filter_map(|head| head.body.as_ref()).map(|row| FrameMessage {
            id: row.id,
            kind: MessageKind::default(),
            headers: BTreeMap::new(),
            created_ms: row.created_ms,
            ttl_left_ms: row.expires_ms.map(|expires| expires.saturating_sub(now_ms)),
            body: payload(row),
        });
        let (channel, direct) = (topic.channel.clone(), topic.target.is_some());
        MessageFrame {
            from: self.id.clone(),
            to: receiver.clone(),
            store: *store,
            stream: Stream { channel, direct, lane: topic.lane },
            previous: *previous,
            skipped: *skipped,
            attempt: *attempt,
            ack_timeout_ms: self.settings.delivery.ack_timeout.as_millis() as u64,
            messages: messages.collect(),
        }
    }

    /// What does not leave is said again.
    pub(super) fn send(&mut self, world: &mut World, to: Address, frame: Frame) {
        let (kind, to) = match to {
            Address::All => (Kind::Keepalive, None),
            Address::Voters => (Kind::Election, None),
            Address::Order(to) => (Kind::Order, Some(to)),
            Address::Node(to) => (Kind::Management, Some(to)),
        };
        let mut word = None;
        match &frame {
            Frame::Keepalive(keepalive) => {
                self.has_ended(world, keepalive);
                word = Some((keepalive.counter, keepalive.goodbye));
            }
            Frame::Election(frame) => world.note_election_frame(self.me, frame),
            _ => {}
        }
        let _ = world.publish(self.me, Sent::new(kind, self.id.clone(), to, frame));
        if let Some((number, goodbye)) = word {
            world.note_word(self.me, number, goodbye);
        }
    }

    /// P2: a channel is announced as left when nothing of it is being handled any more, because senders then purge what has no answer.
    fn has_ended(&self, world: &mut World, keepalive: &Keepalive) {
        let is_left = |source: &&Source| keepalive.left.contains(&source.stream.channel);
        if let Some(source) = self.handing.keys().find(is_left) {
            world.violated(format!("P2: {} says that it left, and handles {source:?}", self.id));
        }
    }

    /// What is there already comes before a peer's leaving, for a while: mostly little, sometimes more than there is patience for.
    pub(super) fn leave_soon(&mut self, world: &mut World) {
        let Some(by) = self.core.leaves_by() else { return };
        if !self.armed.contains_key(&Timer::Leaving) {
            let now = world.mono(self.me);
            let by = world.since_base(by).max(now);
            let soon = now + world.dice.micros(0, SOON.as_micros() as u64);
            let at = if world.dice.permille(800) { by.min(soon) } else { by };
            self.arm(world, Timer::Leaving, Some(at));
        }
    }
}
