//! Membership: the connection's ups and downs, keepalives, who reads what.

use std::collections::VecDeque;
use std::time::Instant;

use super::leaving::Leaving;
use super::{Completion, Driver, Keepalive, LOOK, OBJECTION, Timer};
use crate::clock;
use crate::condition::{Link, Outage};
use crate::event::Event;
use crate::message::{ChannelName, Incarnation, NodeId, StartAt};
use crate::protocol::frame::{ChannelPresence, Frame, MAX_CHANNELS};
use crate::protocol::membership::{self, Action, Departure, Known, News};
use crate::protocol::outbound::Outbound;
use crate::protocol::{delivery, election, inbox};
use crate::refusal::StartError;
use crate::store::{Peer, Start, StoreError};
use crate::transport::{Audience, PublishError, ServerInfo, Subject, Transport};

/// Most bytes of a keepalive that the names of channels take that were left for good.
const LEFT_BYTES: usize = 64 * 1024;

/// A peer as it stands in the file, for the membership.
pub(super) fn known(peer: Peer) -> Known {
    Known {
        node: peer.node,
        incarnation: peer.incarnation,
        store: peer.store_id,
        host: peer.host,
        version: peer.version,
        channels: peer.channels,
        seen_ms: peer.last_seen_ms,
        linked: peer.linked,
        questions: peer.questions,
    }
}

fn noted(known: Known) -> Peer {
    Peer {
        node: known.node,
        store_id: known.store,
        incarnation: known.incarnation,
        host: known.host,
        version: known.version,
        channels: known.channels,
        last_seen_ms: known.seen_ms,
        linked: known.linked,
        questions: known.questions,
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn link_up(&mut self, server: ServerInfo) {
        self.sessions += 1;
        if self.sessions > 1 {
            self.tally.reconnects.add(1);
        }
        let server = format!("{} {}", server.name, server.version);
        if self.conflict {
            return;
        }
        self.link = true;
        self.stalls.denied.clear();
        self.set_link(Link::Connected { server: server.clone() });
        self.tell(Event::Connected { server });
        self.look_at = clock::now() + LOOK;
        self.arm(Timer::Look, Some(Instant::now() + LOOK));
        if self.contact.is_some() {
            self.arm(Timer::Contact, Some(Instant::now() + OBJECTION));
        }
        self.meet(membership::Event::LinkUp);
        self.elect(election::Event::LinkUp);
        self.deliver_all(|| delivery::Event::LinkUp);
    }

    pub(super) fn link_down(&mut self, reason: String, outage: Outage) {
        let told = matches!(
            self.status.borrow().link,
            Link::Disconnected { .. } | Link::Unauthorized { .. }
        );
        let was_up = std::mem::replace(&mut self.link, false);
        if !self.conflict {
            // It was said of a connection that is gone.
            self.stalls.denied.clear();
            self.set_link(Link::Disconnected { reason: reason.clone(), outage });
        }
        if was_up || !told {
            self.lost_link();
        }
        self.tell(Event::Disconnected { reason });
    }

    pub(super) fn unauthorized(&mut self, reason: String) {
        self.link = false;
        self.set_link(Link::Unauthorized { reason: reason.clone() });
        self.lost_link();
        self.tell(Event::Unauthorized { reason });
    }

    fn lost_link(&mut self) {
        self.link = false;
        self.meet(membership::Event::LinkDown);
        self.elect(election::Event::LinkDown);
        self.with_outbound(Outbound::link_down);
        self.made_contact(Ok(()));
    }

    /// Frozen or suspended, we would not notice that another node has taken our place.
    pub(super) fn look_whether_we_stood_still(&mut self) {
        let stood_still = self.is_late();
        self.look_at = clock::now() + LOOK;
        self.arm(Timer::Look, self.link.then(|| Instant::now() + LOOK));
        if stood_still && self.link {
            self.meet(membership::Event::StoodStill);
            if self.membership.is_in_doubt() {
                self.receive(inbox::Event::Doubted);
            }
        }
    }

    /// Whether this process stood still until just now. By a clock that goes on while the machine is suspended.
    pub(super) fn is_late(&self) -> bool {
        clock::now() > self.look_at + LOOK
    }

    /// Says this to the membership, and does what it decides.
    pub(super) fn meet(&mut self, event: membership::Event) {
        let mut actions = Vec::new();
        let mut peers_changed = matches!(event, membership::Event::Forget(_));
        self.membership.handle(self.now(), event, &mut actions);
        for action in actions {
            peers_changed |= match &action {
                Action::Heard { news, .. } => news.online || news.restarted,
                Action::Offline { .. } | Action::Expired { .. } => true,
                _ => false,
            };
            self.perform_membership(action);
        }
        if peers_changed {
            self.look_around();
        }
        let wake_at = self.membership.wake_at();
        self.arm(Timer::Membership, wake_at);
        let online = self.membership.online();
        self.status.send_if_modified(|status| {
            std::mem::replace(&mut status.peers_online, online) != online
        });
    }

    fn perform_membership(&mut self, action: Action) {
        match action {
            Action::Beat { rival } => self.beat(rival, false),
            Action::Hello { to, nonce } => {
                let keepalive = self.keepalive(None, false);
                self.say(to, Frame::Hello { nonce, keepalive });
            }
            Action::Welcome { to, nonce } => {
                let keepalive = self.keepalive(None, false);
                self.say(to, Frame::Welcome { nonce, keepalive });
            }
            Action::Heard { node, news, keepalive } => self.heard(node, news, *keepalive),
            Action::Offline { node, why } => {
                self.note_peers(Some(&node));
                self.deliver(&node, delivery::Event::Offline);
                self.tell(Event::PeerOffline { node, goodbye: why == Departure::Goodbye });
            }
            Action::Expired { node } => self.forget(node, None),
            Action::Conflict { host, incarnation, stop } => {
                self.rival(host, incarnation, stop);
            }
            Action::Full { refused } => {
                tracing::warn!(node = %self.me, %refused, "no room for another peer: raise max_peers");
                self.tell(Event::PeersFull { refused });
            }
        }
    }

    fn rival(&mut self, host: String, incarnation: Incarnation, stop: bool) {
        if !stop {
            tracing::error!(node = %self.me, host, %incarnation, "another node with our id is alive");
        }
        self.tell(Event::Conflict { host: host.clone(), incarnation, stopped: stop });
        if stop {
            let (me, detail) = (self.me.to_string(), format!("on {host}, run {incarnation}"));
            let answer = self.store.audit("stand back for another node", me, detail);
            self.await_job(answer, Completion::Noted);
            self.conflict = true;
            self.link = false;
            // Its name has a vote, and the other one uses it.
            self.elect(election::Event::LinkDown);
            self.elect(election::Event::Stop);
            self.set_link(Link::Conflict { host: host.clone() });
            self.deliver_all(|| delivery::Event::LinkDown);
            let id = self.me.clone();
            self.made_contact(Err(StartError::DuplicateNode { id, host, incarnation }));
        }
    }

    fn say(&mut self, to: NodeId, frame: Frame) {
        let to = Subject::Management { to: Audience::Node(to), from: self.me.clone() };
        // A lost one is made good by the next keepalive.
        let _ = self.transport.try_publish(&to, frame.encode());
    }

    pub(super) fn beat(&mut self, rival: Option<Incarnation>, goodbye: bool) {
        if self.conflict {
            return;
        }
        let keepalive = self.keepalive(rival, goodbye);
        let to = Subject::Keepalive { from: self.me.clone() };
        match self.transport.try_publish(&to, Frame::Keepalive(keepalive).encode()) {
            Ok(()) => self.tally.keepalives_sent.add(1),
            Err(error @ PublishError::TooLarge { .. }) => {
                tracing::error!(node = %self.me, %error, "nobody can find this node: it has joined too many channels for this server");
                self.tell(Event::Denied { reason: format!("the keepalive does not fit: {error}") });
            }
            // The next one makes it good.
            Err(PublishError::NotConnected | PublishError::Busy) => {}
        }
    }

    fn keepalive(&mut self, rival: Option<Incarnation>, goodbye: bool) -> Keepalive {
        self.keepalives += 1;
        let now_ms = self.store.now_ms();
        let channels =
            self.channels.iter().take(MAX_CHANNELS).map(|(name, joined)| ChannelPresence {
                name: name.clone(),
                mode: joined.mode,
                age_ms: now_ms.saturating_sub(joined.joined_ms),
                paused: joined.mode.reads() && !joined.is_ready(),
                start: joined.start,
            });
        Keepalive {
            from: self.me.clone(),
            incarnation: self.incarnation,
            store: self.outbound.store(),
            counter: self.keepalives,
            session: self.sessions,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: self.host.clone(),
            channels: channels.collect(),
            left: self.left_to_announce(),
            draining: self.stopping.is_some() || self.gate.look().draining.is_some(),
            goodbye,
            elects: self.office.is_some(),
            rival,
        }
    }

    /// The channels that were left, as far as there is room for their names.
    fn left_to_announce(&self) -> Vec<ChannelName> {
        let mut bytes = 0;
        let fits = |name: &&ChannelName| {
            bytes += name.as_str().len() + 3;
            bytes <= LEFT_BYTES
        };
        let told = self.left.iter().filter(|channel| !self.parting.contains(*channel));
        told.take(MAX_CHANNELS).take_while(fits).cloned().collect()
    }

    fn heard(&mut self, node: NodeId, news: News, keepalive: Keepalive) {
        if news.first || news.restarted || news.other_store {
            self.note_peers(Some(&node));
        }
        if news.other_store {
            tracing::warn!(node = %self.me, peer = %node, "a peer came back with another file");
            self.tell(Event::PeerLostItsFile { node: node.clone() });
        }
        for channel in keepalive.left {
            let joined = keepalive.channels.iter().any(|presence| presence.name == channel);
            if !joined && self.subscriptions.remove(&(node.clone(), channel.clone())) {
                self.leaving.push_back((Instant::now(), node.clone(), channel));
            }
        }
        self.leave_before_return(&node, &keepalive.channels);
        for presence in &keepalive.channels {
            self.subscribe(&node, presence);
        }
        if news.online || news.restarted {
            let restarted = news.restarted;
            self.tell(Event::PeerOnline { node: node.clone(), restarted });
        }
        self.with_outbound(|it, around| it.heard(around, &node, &news));
    }

    /// It is back in a channel that it left just before: its leaving is carried out first, or it would take the new subscription.
    fn leave_before_return(&mut self, node: &NodeId, channels: &[ChannelPresence]) {
        let is_back = |(_, who, channel): &Leaving| {
            who == node && channels.iter().any(|presence| presence.name == *channel)
        };
        let (back, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.leaving).into_iter().partition(is_back);
        self.leaving = others;
        for (_, node, channel) in back {
            self.unsubscribe(node, channel);
        }
    }

    /// Brings into the file what has changed of all peers or of one: when they were last heard, and what they said.
    pub(super) fn note_peers(&mut self, only: Option<&NodeId>) {
        let peers = self.membership.note_due(self.now(), only);
        if peers.is_empty() {
            return;
        }
        let peers = peers.into_iter().map(noted).collect();
        let answer = self.store.know_peers(peers);
        self.await_job(answer, Completion::Noted);
    }

    /// A peer reads a channel of ours that the file does not know it to read: it gets a cursor.
    fn subscribe(&mut self, node: &NodeId, presence: &ChannelPresence) {
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
        let margin_ms =
            u64::try_from(self.config.keepalive_interval.as_millis()).unwrap_or(u64::MAX);
        let start = match presence.start {
            StartAt::Now => Start::Now,
            StartAt::All => Start::All,
            // The announcement took its time, in which messages may have been sent.
            StartAt::Joined => Start::Joined { age_ms: presence.age_ms.saturating_add(margin_ms) },
            StartAt::SinceMs(age_ms) => {
                Start::Since { age_ms: age_ms.saturating_add(presence.age_ms) }
            }
        };
        let (node, channel) = (node.clone(), channel.clone());
        let answer = self.store.subscribe(node.clone(), channel.clone(), start);
        self.await_job(answer, |result| {
            let result = result.map(drop);
            Completion::Subscribed { node, channel, result }
        });
    }

    /// We write a channel now: its readers that we know of get their cursors.
    pub(super) fn subscribe_known(&mut self, channel: &ChannelName) {
        let now_ms = self.store.now_ms();
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
            self.subscribe(&node, &presence);
        }
    }

    pub(super) fn subscribed(
        &mut self,
        node: NodeId,
        channel: ChannelName,
        result: Result<(), StoreError>,
    ) {
        let key = (node.clone(), channel.clone());
        self.subscribing.remove(&key);
        match result {
            Ok(()) => {
                self.subscriptions.insert(key);
                self.tell(Event::ReaderJoined { node, channel });
            }
            // The reader's next keepalive tries again.
            Err(error) => self.complain("note a reader", &error),
        }
    }

    pub(super) fn unsubscribe(&mut self, node: NodeId, channel: ChannelName) {
        self.outbound.stand_still(node.clone());
        let answer = self.store.unsubscribe(node.clone(), channel.clone());
        self.await_job(answer, |result| Completion::Unsubscribed { node, channel, result });
    }

    pub(super) fn unsubscribed(
        &mut self,
        node: NodeId,
        channel: ChannelName,
        result: Result<u64, StoreError>,
    ) {
        self.with_outbound(|it, around| it.given_up(around, &node));
        match result {
            Ok(purged) => {
                self.settled.send_modify(|changes| *changes += 1);
                self.tell(Event::ReaderLeft { node, channel, purged });
            }
            Err(error) => {
                self.complain("note that a reader left", &error);
                self.subscriptions.insert((node, channel));
            }
        }
    }
}
