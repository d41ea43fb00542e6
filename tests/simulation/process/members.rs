//! Membership: the connection's ups and downs, and what the part that decides about peers wants done.

use std::time::Duration;

use waypost::protocol::frame::{Frame, Keepalive};
use waypost::protocol::inbox::Source;
use waypost::protocol::leadership::Leadership;
use waypost::protocol::lifecycle::Lifecycle;
use waypost::protocol::outbound::Outbound;
use waypost::protocol::peers::{Around, Effect, Peers};
use waypost::protocol::{delivery, inbox, membership};

use super::{Process, Timer};
use crate::file::Work;
use crate::network::{Kind, Sent};
use crate::world::World;

/// How soon a node has mostly looked at what there was when it heard that a peer left a channel.
const SOON: Duration = Duration::from_millis(1);

impl Process {
    pub(super) fn link_up(&mut self, world: &mut World, denied: Vec<String>) {
        (self.link, self.was_linked, self.is_denied) = (true, true, !denied.is_empty());
        let now = world.mono(self.me);
        world.oracle.lives.links(self.me, now);
        self.looks.link_up(denied);
        self.tell_stalls(world);
        self.with_lifecycle(world, Lifecycle::link_up);
        self.with_peers(world, Peers::link_up);
        self.with_leadership(world, Leadership::link_up);
        self.deliver_all(world, || delivery::Event::LinkUp);
    }

    pub(super) fn link_down(&mut self, world: &mut World) {
        (self.link, self.is_denied) = (false, false);
        world.oracle.lives.loses_link(self.me);
        self.looks.link_down();
        self.tell_stalls(world);
        self.meet(world, membership::Event::LinkDown);
        self.with_leadership(world, Leadership::link_down);
        self.with_outbound(world, Outbound::link_down);
        self.with_lifecycle(world, Lifecycle::link_down);
    }

    /// Says this to the membership, and does what it decides.
    pub(super) fn meet(&mut self, world: &mut World, event: membership::Event) {
        self.with_peers(world, |it, around| it.handle(around, event));
    }

    /// Has it decided what follows from something, and does that, up to a crash.
    pub(super) fn with_peers<R>(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Peers, &mut Around<'_>) -> R,
    ) -> R {
        let (now, mut out) = (self.now(world), Vec::new());
        let Self { peers, outbound, inbound, .. } = self;
        let around = &mut Around {
            now,
            store: outbound.store(),
            sends_to: &|channel| outbound.sends_to_readers_of(channel),
            works_for: &|channel| inbound.works_for(channel),
            out: &mut out,
        };
        let decided = decide(peers, around);
        for effect in out {
            if !world.goes_on(self.me) {
                break;
            }
            self.perform_for_peers(world, effect);
        }
        decided
    }

    fn perform_for_peers(&mut self, world: &mut World, effect: Effect) {
        match effect {
            Effect::Beat(keepalive) => {
                self.has_ended(world, &keepalive);
                let (number, goodbye) = (keepalive.counter, keepalive.goodbye);
                let frame = Frame::Keepalive(*keepalive);
                let sent = Sent::new(Kind::Keepalive, self.id.clone(), None, frame);
                // The next one makes it good.
                let _ = world.publish(self.me, sent);
                world.note_word(self.me, number, goodbye);
            }
            Effect::Say { to, frame } => {
                let sent = Sent::new(Kind::Management, self.id.clone(), Some(to), *frame);
                // A lost one is made good by the next keepalive.
                let _ = world.publish(self.me, sent);
            }
            Effect::Note(known) => {
                for peer in known {
                    world.submit(self.me, Work::KnowPeer(Box::new(peer)));
                }
            }
            Effect::Subscribe { node, channel, start } => {
                world.submit(self.me, Work::Subscribe(node, channel, start));
            }
            Effect::Unsubscribe { node, channel } => {
                self.outbound.stand_still(node.clone());
                world.submit(self.me, Work::Unsubscribe(node, channel));
            }
            Effect::Forget { node } => self.forget(world, node),
            Effect::Heard { node, news } => {
                self.with_outbound(world, |it, around| it.heard(around, &node, &news));
            }
            Effect::Offline { node, .. } => self.deliver(world, &node, delivery::Event::Offline),
            Effect::Consumer { channel, consumer } => {
                self.receive(world, inbox::Event::Consumer { channel, consumer });
            }
            Effect::Rival { incarnation, stop: true, .. } => {
                let id = &self.id;
                let what = format!("{id} stands back for {incarnation}, and there is no such node");
                world.violated(what);
            }
            Effect::Full { refused } => world.violated(format!("no room for {refused}")),
            Effect::Wake => {
                let wake_at = self.peers.wake_at().map(|at| world.since_base(at));
                self.arm(world, Timer::Membership, wake_at);
            }
            Effect::Changed => self.with_leadership(world, Leadership::peers_changed),
            Effect::Rival { .. } => {}
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
        let Some(by) = self.peers.leaves_by() else { return };
        if !self.armed.contains_key(&Timer::Leaving) {
            let now = world.mono(self.me);
            let by = world.since_base(by).max(now);
            let soon = now + world.dice.micros(0, SOON.as_micros() as u64);
            let at = if world.dice.permille(800) { by.min(soon) } else { by };
            self.arm(world, Timer::Leaving, Some(at));
        }
    }
}
