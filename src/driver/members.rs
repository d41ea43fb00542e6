//! Membership: the connection's ups and downs, and what the part that decides about peers wants done.

use super::{Completion, Driver, Timer};
use crate::condition::{Link, Outage};
use crate::event::Event;
use crate::message::{ChannelName, Incarnation, NodeId};
use crate::protocol::frame::{Frame, Keepalive};
use crate::protocol::leadership::Leadership;
use crate::protocol::lifecycle::{Lifecycle, Rival};
use crate::protocol::membership::{self, Departure, Known, News};
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::{Around, Effect, Peers, Start};
use crate::protocol::{delivery, inbox};
use crate::store::{Peer, StoreError};
use crate::transport::{Audience, PublishError, ServerInfo, Subject, Transport};

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
    pub(super) fn link_up(&mut self, server: ServerInfo, denied: Vec<String>) {
        if self.peers.sessions() > 0 {
            self.tally.reconnects.add(1);
        }
        let server = format!("{} {}", server.name, server.version);
        if self.peers.has_stood_back() {
            return;
        }
        self.link = true;
        self.looks.link_up(denied);
        self.set_link(Link::Connected { server: server.clone() });
        self.tell(Event::Connected { server });
        self.with_lifecycle(Lifecycle::link_up);
        self.with_peers(Peers::link_up);
        self.with_leadership(Leadership::link_up);
        self.deliver_all(|| delivery::Event::LinkUp);
    }

    pub(super) fn link_down(&mut self, reason: String, outage: Outage) {
        let told = matches!(
            self.status.borrow().link,
            Link::Disconnected { .. } | Link::Unauthorized { .. }
        );
        let was_up = std::mem::replace(&mut self.link, false);
        if !self.peers.has_stood_back() {
            // It was said of a connection that is gone.
            self.looks.link_down();
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
        self.with_leadership(Leadership::link_down);
        self.with_outbound(Outbound::link_down);
        self.with_lifecycle(Lifecycle::link_down);
    }

    /// Says this to the membership, and does what it decides.
    pub(super) fn meet(&mut self, event: membership::Event) {
        self.with_peers(|it, around| it.handle(around, event));
    }

    /// Has it decided what follows from something, and does that.
    pub(super) fn with_peers<R>(
        &mut self,
        decide: impl FnOnce(&mut Peers, &mut Around<'_>) -> R,
    ) -> R {
        let (now, mut out) = (self.now(), Vec::new());
        let (outbound, inbound) = (&self.outbound, &self.inbound);
        let around = &mut Around {
            now,
            store: outbound.store(),
            sends_to: &|channel| outbound.sends_to_readers_of(channel),
            works_for: &|channel| inbound.works_for(channel),
            out: &mut out,
        };
        let decided = decide(&mut self.peers, around);
        for effect in out {
            self.perform_for_peers(effect);
        }
        decided
    }

    fn perform_for_peers(&mut self, effect: Effect) {
        match effect {
            Effect::Beat(keepalive) => self.beat(*keepalive),
            Effect::Say { to, frame } => {
                let to = Subject::Management { to: Audience::Node(to), from: self.me.clone() };
                // A lost one is made good by the next keepalive.
                let _ = self.transport.try_publish(&to, frame.encode());
            }
            Effect::Note(known) => {
                let answer = self.store.know_peers(known.into_iter().map(noted).collect());
                self.await_job(answer, Completion::Noted);
            }
            Effect::Subscribe { node, channel, start } => self.subscribe(node, channel, start),
            Effect::Unsubscribe { node, channel } => self.unsubscribe(node, channel),
            Effect::Forget { node } => self.forget(node, None),
            Effect::Heard { node, news } => self.heard(&node, &news),
            Effect::Offline { node, why } => {
                self.deliver(&node, delivery::Event::Offline);
                self.tell(Event::PeerOffline { node, goodbye: why == Departure::Goodbye });
            }
            Effect::Consumer { channel, consumer } => {
                self.receive(inbox::Event::Consumer { channel, consumer });
            }
            Effect::Rival { host, incarnation, stop } => self.rival(host, incarnation, stop),
            Effect::Full { refused } => {
                tracing::warn!(node = %self.me, %refused, "no room for another peer: raise max_peers");
                self.tell(Event::PeersFull { refused });
            }
            Effect::Changed => self.with_leadership(Leadership::peers_changed),
            Effect::Wake => {
                self.arm(Timer::Membership, self.peers.wake_at());
                let online = self.peers.online();
                self.status.send_if_modified(|status| {
                    std::mem::replace(&mut status.peers_online, online) != online
                });
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
            self.link = false;
            // Its name has a vote, and the other one uses it.
            self.with_leadership(Leadership::stand_back);
            self.set_link(Link::Conflict { host: host.clone() });
            self.deliver_all(|| delivery::Event::LinkDown);
            let rival = Rival { host, incarnation };
            self.with_lifecycle(|it, around| it.stood_back(around, rival));
        }
    }

    fn beat(&mut self, keepalive: Keepalive) {
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

    fn heard(&mut self, node: &NodeId, news: &News) {
        if news.other_store {
            tracing::warn!(node = %self.me, peer = %node, "a peer came back with another file");
            self.tell(Event::PeerLostItsFile { node: node.clone() });
        }
        if news.online || news.restarted {
            self.tell(Event::PeerOnline { node: node.clone(), restarted: news.restarted });
        }
        self.with_outbound(|it, around| it.heard(around, node, news));
    }

    /// Brings into the file what has changed of all peers: when they were last heard, and what they said.
    pub(super) fn note_peers(&mut self) {
        self.with_peers(|it, around| it.note(around, None));
    }

    fn subscribe(&mut self, node: NodeId, channel: ChannelName, start: Start) {
        let answer = self.store.subscribe(node.clone(), channel.clone(), start);
        self.await_job(answer, |result| {
            let result = result.map(drop);
            Completion::Subscribed { node, channel, result }
        });
    }

    pub(super) fn subscribed(
        &mut self,
        node: NodeId,
        channel: ChannelName,
        result: Result<(), StoreError>,
    ) {
        self.peers.subscribed(node.clone(), channel.clone(), result.is_ok());
        match result {
            Ok(()) => self.tell(Event::ReaderJoined { node, channel }),
            Err(error) => self.complain("note a reader", &error),
        }
    }

    fn unsubscribe(&mut self, node: NodeId, channel: ChannelName) {
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
        self.peers.unsubscribed(node.clone(), channel.clone(), result.is_ok());
        match result {
            Ok(purged) => {
                self.settled.send_modify(|changes| *changes += 1);
                self.tell(Event::ReaderLeft { node, channel, purged });
            }
            Err(error) => self.complain("note that a reader left", &error),
        }
    }
}
