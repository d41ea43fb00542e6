//! Keepalives in, who is there out.
//!
//! A node that was only heard is a stranger: anybody can invent names. It becomes a peer when it has answered a hello that
//! carried a random number, and only peers cost memory for long, a row in the file, or a cursor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Now;
use super::backoff::Jitter;
use super::frame::{ChannelPresence, Keepalive};
use crate::message::{ChannelName, Incarnation, NodeId, StoreId};

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub interval: Duration,
    pub offline_after: Duration,
    pub expiry: Duration,
    pub max_peers: usize,
}

/// Most strangers whose answer is awaited; a newer one takes the place of the oldest.
const MAX_STRANGERS: usize = 256;
/// Longest pause before the first keepalive after something changed, so that many nodes do not speak at once.
const PROMPT: Duration = Duration::from_millis(20);
/// Least time between two keepalives, so that nobody can make us flood the network.
const FLOOR: Duration = Duration::from_millis(50);
/// Time between two tries to have a peer forgotten.
const FORGET_AGAIN: Duration = Duration::from_secs(60);
/// Most hellos that are answered in a second: an answer can be much larger than its question.
const WELCOMES_A_SECOND: u32 = 1_000;
/// How long after first coming up an older node of our name is believed to be the rightful one.
pub const PROBE: Duration = Duration::from_secs(2);
/// Ages that differ by less are taken for equal: more than a frame is under way. Shorter than `PROBE`, so that of two that are
/// about as old both still probe.
const SAME_AGE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub enum Event {
    LinkUp,
    LinkDown,
    Keepalive(Keepalive),
    /// Somebody asks who we are.
    Hello {
        nonce: u64,
        keepalive: Keepalive,
    },
    /// Somebody answers our question.
    Welcome {
        nonce: u64,
        keepalive: Keepalive,
    },
    /// A frame came from a node that is no peer.
    Unknown(NodeId),
    /// This node joined, left, paused or resumed a channel.
    Changed,
    Forget(NodeId),
    Woke,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Broadcast a keepalive. `rival`: another incarnation of our own id that has to be told.
    Beat {
        rival: Option<Incarnation>,
    },
    Hello {
        to: NodeId,
        nonce: u64,
    },
    Welcome {
        to: NodeId,
        nonce: u64,
    },
    /// A peer was heard: first, again, or anew. Sent with every keepalive, so that a lost one is made good by the next.
    Heard {
        node: NodeId,
        news: News,
        keepalive: Box<Keepalive>,
    },
    Offline {
        node: NodeId,
        why: Departure,
    },
    /// A peer has been away too long.
    Expired {
        node: NodeId,
    },
    /// Another node uses our id. `stop`: it was there first.
    Conflict {
        host: String,
        incarnation: Incarnation,
        stop: bool,
    },
    /// No room for another peer.
    Full {
        refused: NodeId,
    },
}

/// What is new about a peer that was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// Was offline, or never seen in this run.
    pub online: bool,
    /// Another incarnation than before.
    pub restarted: bool,
    /// The same, over another connection: what was in flight may be lost.
    pub reconnected: bool,
    /// Another file than before: it has forgotten what it received.
    pub other_store: bool,
    /// The file does not know it yet.
    pub first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    Goodbye,
    Silence,
}

#[derive(Debug)]
struct Peer {
    incarnation: Incarnation,
    store: StoreId,
    counter: u64,
    session: u64,
    online: bool,
    /// By our own clock, moved on by the time that we were cut off ourselves.
    heard: Instant,
    /// As last announced.
    channels: Vec<ChannelPresence>,
    host: String,
    version: String,
    draining: bool,
}

#[derive(Debug)]
struct Stranger {
    nonce: u64,
    asked: Instant,
    /// What it has broadcast since it was asked: the answer can be older than that.
    newest: Option<(Incarnation, u64)>,
}

/// What is known of a peer, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    pub node: NodeId,
    pub online: bool,
    pub heard: Instant,
    pub incarnation: Incarnation,
    pub store: StoreId,
    pub host: String,
    pub version: String,
    pub draining: bool,
    pub channels: Vec<ChannelPresence>,
}

#[derive(Debug)]
pub struct Membership {
    me: NodeId,
    incarnation: Incarnation,
    started: Instant,
    limits: Limits,
    jitter: Jitter,
    peers: BTreeMap<NodeId, Peer>,
    strangers: BTreeMap<NodeId, Stranger>,
    up_since: Option<Instant>,
    first_up: Option<Instant>,
    /// The second that is being counted, and the hellos answered in it.
    welcomes: (Instant, u32),
    down_since: Instant,
    next_beat: Instant,
    last_beat: Option<Instant>,
    rival: Option<Incarnation>,
    full: bool,
}

impl Membership {
    /// `known`: the peers in the file; they are offline until they are heard.
    pub fn new(
        me: NodeId,
        incarnation: Incarnation,
        limits: Limits,
        known: impl IntoIterator<Item = (NodeId, Incarnation, StoreId, String)>,
        seed: u64,
        now: Now,
    ) -> Self {
        let peer = |(node, incarnation, store, host)| {
            let peer = Peer {
                incarnation,
                store,
                counter: 0,
                session: 0,
                online: false,
                heard: now.mono,
                channels: Vec::new(),
                host,
                version: String::new(),
                draining: false,
            };
            (node, peer)
        };
        Self {
            me,
            incarnation,
            started: now.mono,
            limits,
            jitter: Jitter::new(seed),
            peers: known.into_iter().map(peer).collect(),
            strangers: BTreeMap::new(),
            up_since: None,
            first_up: None,
            welcomes: (now.mono, 0),
            down_since: now.mono,
            next_beat: now.mono,
            last_beat: None,
            rival: None,
            full: false,
        }
    }

    pub fn is_peer(&self, node: &NodeId) -> bool {
        self.peers.contains_key(node)
    }

    /// The channels of this peer, as announced in this run of ours; none where it has not been heard yet.
    pub fn peer(&self, node: &NodeId) -> Option<&[ChannelPresence]> {
        self.peers.get(node).filter(|peer| peer.counter > 0).map(|peer| &*peer.channels)
    }

    pub fn is_online(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.online)
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(node, peer)| PeerView {
            node: node.clone(),
            online: peer.online,
            heard: peer.heard,
            incarnation: peer.incarnation,
            store: peer.store,
            host: peer.host.clone(),
            version: peer.version.clone(),
            draining: peer.draining,
            channels: peer.channels.clone(),
        })
    }

    pub fn online(&self) -> usize {
        self.peers.values().filter(|peer| peer.online).count()
    }

    /// Appends actions in the order in which the shell must perform them.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::LinkUp => self.link_up(now.mono),
            Event::LinkDown => {
                if self.up_since.take().is_some() {
                    self.down_since = now.mono;
                }
            }
            Event::Keepalive(keepalive) if keepalive.from == self.me => {
                self.own_name(now.mono, &keepalive, out);
            }
            Event::Keepalive(keepalive) => self.keepalive(now.mono, keepalive, out),
            Event::Hello { keepalive, .. } | Event::Welcome { keepalive, .. }
                if keepalive.from == self.me => {}
            Event::Hello { nonce, keepalive } => {
                if self.may_welcome(now.mono) {
                    let to = keepalive.from.clone();
                    out.push(Action::Welcome { to, nonce });
                }
                self.keepalive(now.mono, keepalive, out);
            }
            Event::Welcome { nonce, keepalive } => self.welcome(now.mono, nonce, keepalive, out),
            Event::Unknown(node) => self.stranger(now.mono, node, out),
            Event::Changed => self.beat_soon(now.mono),
            Event::Forget(node) => {
                self.peers.remove(&node);
                self.full = false;
            }
            Event::Woke => {}
        }
        if self.up_since.is_some() {
            self.watch(now.mono, out);
            self.beat(now.mono, out);
        }
    }

    /// When to say `Woke`, if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        self.up_since?;
        let silence = self.peers.values().map(|peer| {
            let patience = if peer.online { self.limits.offline_after } else { self.limits.expiry };
            peer.heard + patience
        });
        silence.chain([self.next_beat]).min()
    }

    /// The time that we were cut off does not count against anybody.
    fn link_up(&mut self, now: Instant) {
        if self.up_since.is_none() {
            let cut_off = now.saturating_duration_since(self.down_since);
            for peer in self.peers.values_mut() {
                peer.heard += cut_off;
            }
            self.up_since = Some(now);
            self.first_up.get_or_insert(now);
            // Their answers went to a connection that is gone.
            self.strangers.clear();
        }
        self.beat_soon(now);
    }

    fn beat_soon(&mut self, now: Instant) {
        let soon = now + self.jitter.up_to(PROMPT);
        let floor = self.last_beat.map_or(soon, |last| last + FLOOR);
        self.next_beat = self.next_beat.min(soon.max(floor));
    }

    fn beat(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.next_beat <= now {
            // The last tenth is left to chance, so that nodes that started together drift apart.
            let pause = self.limits.interval - self.jitter.up_to(self.limits.interval / 10);
            self.next_beat = now + pause;
            self.last_beat = Some(now);
            out.push(Action::Beat { rival: self.rival.take() });
        }
    }

    fn keepalive(&mut self, now: Instant, keepalive: Keepalive, out: &mut Vec<Action>) {
        match self.peers.get(&keepalive.from) {
            Some(peer) if peer.incarnation == keepalive.incarnation => {
                if keepalive.counter > peer.counter {
                    self.heard(now, keepalive, false, out);
                }
            }
            _ if keepalive.goodbye => {}
            // Another incarnation of a peer has to prove itself too: a late keepalive of the last one does not.
            _ => {
                let Keepalive { from, incarnation, counter, .. } = keepalive;
                self.stranger(now, from.clone(), out);
                if let Some(stranger) = self.strangers.get_mut(&from) {
                    stranger.newest = Some((incarnation, counter));
                }
            }
        }
    }

    fn may_welcome(&mut self, now: Instant) -> bool {
        let (second, count) = &mut self.welcomes;
        if *second + Duration::from_secs(1) <= now {
            (*second, *count) = (now, 0);
        }
        *count += 1;
        *count <= WELCOMES_A_SECOND
    }

    fn stranger(&mut self, now: Instant, node: NodeId, out: &mut Vec<Action>) {
        // Frames arrive before the link counts as up; a question would not leave, and be taken for asked. Our first keepalive
        // makes the other one ask us.
        if self.up_since.is_none() {
            return;
        }
        let asked_lately = |stranger: &Stranger| now < stranger.asked + Duration::from_millis(200);
        if self.strangers.get(&node).is_some_and(asked_lately) {
            return;
        }
        if self.strangers.len() >= MAX_STRANGERS && !self.strangers.contains_key(&node) {
            let oldest = self.strangers.iter().min_by_key(|(_, s)| s.asked).map(|(n, _)| n.clone());
            oldest.and_then(|oldest| self.strangers.remove(&oldest));
        }
        let nonce = self.jitter.draw();
        self.strangers.insert(node.clone(), Stranger { nonce, asked: now, newest: None });
        out.push(Action::Hello { to: node, nonce });
    }

    fn welcome(&mut self, now: Instant, nonce: u64, keepalive: Keepalive, out: &mut Vec<Action>) {
        let node = keepalive.from.clone();
        let Some(stranger) = self.strangers.get(&node).filter(|s| s.nonce == nonce) else { return };
        let newest = stranger.newest;
        self.strangers.remove(&node);
        let told = (keepalive.incarnation, keepalive.counter);
        let known =
            |peer: &Peer| peer.incarnation == keepalive.incarnation && peer.counter >= told.1;
        if self.peers.get(&node).is_some_and(known) {
            return;
        }
        if !self.peers.contains_key(&node) && self.peers.len() >= self.limits.max_peers {
            if !std::mem::replace(&mut self.full, true) {
                out.push(Action::Full { refused: node });
            }
            return;
        }
        self.heard(now, keepalive, true, out);
        // Subjects overtake each other: a broadcast that came before this answer, and could not be believed yet, told more.
        if newest.is_some_and(|(incarnation, counter)| incarnation == told.0 && counter > told.1) {
            self.stranger(now, node, out);
        }
    }

    /// A keepalive that is surely the peer's own.
    fn heard(&mut self, now: Instant, keepalive: Keepalive, proven: bool, out: &mut Vec<Action>) {
        let node = keepalive.from.clone();
        let before = self.peers.get(&node);
        let news = News {
            online: before.is_none_or(|peer| !peer.online),
            restarted: before.is_some_and(|peer| peer.incarnation != keepalive.incarnation),
            reconnected: before.is_some_and(|peer| {
                peer.online
                    && peer.incarnation == keepalive.incarnation
                    && peer.session != keepalive.session
            }),
            other_store: before.is_some_and(|peer| peer.store != keepalive.store),
            first: before.is_none(),
        };
        if keepalive.goodbye {
            if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.online) {
                peer.online = false;
                peer.counter = keepalive.counter;
                out.push(Action::Offline { node, why: Departure::Goodbye });
            }
            return;
        }
        let peer = Peer {
            incarnation: keepalive.incarnation,
            store: keepalive.store,
            counter: keepalive.counter,
            session: keepalive.session,
            online: true,
            heard: now,
            channels: keepalive.channels.clone(),
            host: keepalive.host.clone(),
            version: keepalive.version.clone(),
            draining: keepalive.draining,
        };
        self.peers.insert(node.clone(), peer);
        if proven {
            // It may not have heard of us yet.
            self.beat_soon(now);
        }
        out.push(Action::Heard { node, news, keepalive: Box::new(keepalive) });
    }

    /// A keepalive under our own name: our own, come back, or that of another node.
    fn own_name(&mut self, now: Instant, keepalive: &Keepalive, out: &mut Vec<Action>) {
        if keepalive.incarnation == self.incarnation || keepalive.goodbye {
            return;
        }
        // Only a node that speaks of us is surely alive: a keepalive can come late, from a run of ours that has ended.
        if keepalive.rival == Some(self.incarnation) {
            let older = self.is_older_than(now, keepalive);
            let probing = self.first_up.is_some_and(|up| now < up + PROBE);
            out.push(Action::Conflict {
                host: keepalive.host.clone(),
                incarnation: keepalive.incarnation,
                stop: probing && !older,
            });
            if older {
                // It heard of us before we heard of it, and stands back only for one that speaks of it.
                self.rival = Some(keepalive.incarnation);
                self.beat_soon(now);
            }
        } else {
            self.rival = Some(keepalive.incarnation);
            self.beat_soon(now);
        }
    }

    /// Which of two nodes with one name came first. Both must come to the same answer, so ages that a slow network could have mixed up
    /// do not decide.
    fn is_older_than(&self, now: Instant, other: &Keepalive) -> bool {
        let mine = now.saturating_duration_since(self.started);
        let theirs = Duration::from_millis(other.uptime_ms);
        if mine.abs_diff(theirs) < SAME_AGE {
            self.incarnation < other.incarnation
        } else {
            mine > theirs
        }
    }

    fn watch(&mut self, now: Instant, out: &mut Vec<Action>) {
        let limits = self.limits;
        for (node, peer) in &mut self.peers {
            if peer.online && peer.heard + limits.offline_after <= now {
                peer.online = false;
                out.push(Action::Offline { node: node.clone(), why: Departure::Silence });
            }
        }
        let expired = |peer: &Peer| !peer.online && peer.heard + limits.expiry <= now;
        let gone: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| expired(peer)).map(|(n, _)| n.clone()).collect();
        for node in gone {
            // It stays until the file has forgotten it, so that it is tried again where the file is full.
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.heard += FORGET_AGAIN;
            }
            out.push(Action::Expired { node });
        }
    }

    /// Which peers have joined this channel as readers, by their last word.
    pub fn readers(&self, channel: &ChannelName) -> impl Iterator<Item = &NodeId> {
        let reads =
            |peer: &Peer| peer.channels.iter().any(|c| c.name == *channel && c.mode.reads());
        self.peers.iter().filter(move |(_, peer)| reads(peer)).map(|(node, _)| node)
    }
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
