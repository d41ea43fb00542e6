//! Membership: the connection's ups and downs, keepalives, who reads what.

use waypost::protocol::delivery;
use waypost::protocol::frame::{ChannelPresence, Frame, Keepalive};
use waypost::protocol::membership::{self, Action, News};
use waypost::protocol::outbound::Outbound;
use waypost::{ChannelName, Incarnation, NodeId, StartAt};

use super::{Process, Timer, host};
use crate::file::{Start, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

impl Process {
    pub(super) fn link_up(&mut self, world: &mut World) {
        self.sessions += 1;
        self.link = true;
        self.meet(world, membership::Event::LinkUp);
        self.deliver_all(world, || delivery::Event::LinkUp);
    }

    pub(super) fn link_down(&mut self, world: &mut World) {
        self.link = false;
        self.meet(world, membership::Event::LinkDown);
        self.with_outbound(world, Outbound::link_down);
    }

    /// Says this to the membership, and does what it decides.
    pub(super) fn meet(&mut self, world: &mut World, event: membership::Event) {
        let mut actions = Vec::new();
        self.membership.handle(self.now(world), event, &mut actions);
        for action in actions {
            if !world.goes_on(self.me) {
                return;
            }
            self.perform_membership(world, action);
        }
        let wake_at = self.membership.wake_at().map(|at| world.since_base(at));
        self.arm(world, Timer::Membership, wake_at);
    }

    fn perform_membership(&mut self, world: &mut World, action: Action) {
        match action {
            Action::Beat { rival } => self.beat(world, rival, false),
            Action::Hello { to, nonce } => {
                let keepalive = self.keepalive(world, None, false);
                self.say(world, to, Frame::Hello { nonce, keepalive });
            }
            Action::Welcome { to, nonce } => {
                let keepalive = self.keepalive(world, None, false);
                self.say(world, to, Frame::Welcome { nonce, keepalive });
            }
            Action::Heard { node, news, keepalive } => self.heard(world, node, news, *keepalive),
            Action::Offline { node, .. } => {
                self.note_peers(world, Some(&node));
                self.deliver(world, &node, delivery::Event::Offline);
            }
            Action::Expired { node } => self.forget(world, node),
            Action::Conflict { incarnation, stop, .. } => {
                if stop {
                    world.violated(format!(
                        "{} stands back for {incarnation}, and there is no such node",
                        self.id
                    ));
                }
            }
            Action::Full { refused } => world.violated(format!("no room for {refused}")),
        }
    }

    fn say(&mut self, world: &mut World, to: NodeId, frame: Frame) {
        let sent = Sent::new(Kind::Management, self.id.clone(), Some(to), frame);
        // A lost one is made good by the next keepalive.
        let _ = world.publish(self.me, sent);
    }

    pub(super) fn beat(&mut self, world: &mut World, rival: Option<Incarnation>, goodbye: bool) {
        let keepalive = self.keepalive(world, rival, goodbye);
        let sent = Sent::new(Kind::Keepalive, self.id.clone(), None, Frame::Keepalive(keepalive));
        // The next one makes it good.
        let _ = world.publish(self.me, sent);
    }

    fn keepalive(&mut self, world: &World, rival: Option<Incarnation>, goodbye: bool) -> Keepalive {
        self.keepalives += 1;
        let now_ms = self.file_ms(world);
        let channels = self.channels.iter().map(|(name, joined)| ChannelPresence {
            name: name.clone(),
            mode: joined.mode,
            age_ms: now_ms.saturating_sub(joined.joined_ms),
            paused: joined.mode.reads() && !joined.is_ready(),
            start: joined.start,
        });
        Keepalive {
            from: self.id.clone(),
            incarnation: self.incarnation,
            store: self.outbound.store(),
            counter: self.keepalives,
            session: self.sessions,
            uptime_ms: (world.now - self.started).as_millis() as u64,
            version: "0".to_owned(),
            host: host(),
            channels: channels.collect(),
            left: self.left.iter().cloned().collect(),
            draining: self.stopping.is_some(),
            elects: false,
            goodbye,
            rival,
        }
    }

    fn heard(&mut self, world: &mut World, node: NodeId, news: News, keepalive: Keepalive) {
        if news.first || news.restarted || news.other_store {
            self.note_peers(world, Some(&node));
        }
        for channel in keepalive.left {
            let joined = keepalive.channels.iter().any(|presence| presence.name == channel);
            if !joined && self.subscriptions.remove(&(node.clone(), channel.clone())) {
                self.outbound.stand_still(node.clone());
                world.submit(self.me, Work::Unsubscribe(node.clone(), channel));
            }
        }
        for presence in &keepalive.channels {
            self.subscribe(world, &node, presence);
        }
        self.with_outbound(world, |it, around| it.heard(around, &node, &news));
    }

    /// Brings what has changed of all peers or of one into the file.
    pub(super) fn note_peers(&mut self, world: &mut World, only: Option<&NodeId>) {
        for peer in self.membership.note_due(self.now(world), only) {
            world.submit(self.me, Work::KnowPeer(Box::new(peer)));
        }
    }

    /// A peer reads a channel of ours that the file does not know it to read: it gets a cursor.
    fn subscribe(&mut self, world: &mut World, node: &NodeId, presence: &ChannelPresence) {
        let channel = &presence.name;
        let ours = self.channels.get(channel).is_some_and(|joined| joined.mode.writes())
            || self.outbound.sends_to_readers_of(channel);
        let key = (node.clone(), channel.clone());
        if !ours
            || !presence.mode.reads()
            || self.subscriptions.contains(&key)
            || !self.subscribing.insert(key)
        {
            return;
        }
        let margin_ms = self.settings.membership.interval.as_millis() as u64;
        let start = match presence.start {
            StartAt::Now => Start::Now,
            StartAt::All => Start::All,
            StartAt::Joined => Start::Joined { age_ms: presence.age_ms + margin_ms },
            StartAt::SinceMs(age_ms) => Start::Since { age_ms: age_ms + presence.age_ms },
        };
        world.submit(self.me, Work::Subscribe(node.clone(), channel.clone(), start));
    }

    /// We write a channel now: its readers that we know of get their cursors.
    pub(super) fn subscribe_known(&mut self, world: &mut World, channel: &ChannelName) {
        let now_ms = self.file_ms(world);
        let readers: Vec<(NodeId, ChannelPresence)> = self
            .membership
            .peers()
            .flat_map(|peer| {
                let (node, since_ms) = (peer.node, now_ms.saturating_sub(peer.seen_ms));
                peer.channels.into_iter().map(move |mut presence| {
                    presence.age_ms = presence.age_ms.saturating_add(since_ms);
                    (node.clone(), presence)
                })
            })
            .filter(|(_, presence)| presence.name == *channel)
            .collect();
        for (node, presence) in readers {
            self.subscribe(world, &node, &presence);
        }
    }

    pub(super) fn subscribed(&mut self, node: NodeId, channel: ChannelName, failed: bool) {
        let key = (node, channel);
        self.subscribing.remove(&key);
        if !failed {
            self.subscriptions.insert(key);
        }
    }
}
