//! Keepalives in, who is there out.
//!
//! A node that was only heard is a stranger: anybody can invent names. It becomes a peer when it has answered a hello that
//! carried a random number, and only peers cost memory for long, a row in the file, or a cursor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Now;
use super::allowance::Allowance;
use super::backoff::Jitter;
use super::frame::{ChannelPresence, Keepalive};
use crate::message::{ChannelName, Incarnation, NodeId, StoreId};

mod absence;
mod questions;
mod rival;

use absence::Absence;
pub use absence::Known;
use questions::{HELLOS_A_SECOND, Question, WELCOMES_A_SECOND};
pub use rival::PROBE;
use rival::{Challenge, Doubt};

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub interval: Duration,
    pub offline_after: Duration,
    pub expiry: Duration,
    pub max_peers: usize,
}

/// Longest pause before the first keepalive after something changed, so that many nodes do not speak at once.
const PROMPT: Duration = Duration::from_millis(20);
/// Least time between two keepalives, so that nobody can make us flood the network.
const FLOOR: Duration = Duration::from_millis(50);
/// We are later than this after our own timer: it is we who stood still, frozen or starved, and nobody else.
const STOOD_STILL: Duration = Duration::from_secs(1);
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
    /// The shell noticed that this process did not run for a while. `spoken`: the number of its last keepalive before that.
    StoodStill {
        spoken: u64,
    },
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
    absence: Absence,
    /// As last announced.
    channels: Vec<ChannelPresence>,
    host: String,
    version: String,
    draining: bool,
    elects: bool,
    question: Option<Question>,
}

/// What is known of a peer, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    pub node: NodeId,
    pub online: bool,
    /// File time when it was last heard.
    pub seen_ms: u64,
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
    /// How many of them are online.
    online: usize,
    strangers: BTreeMap<NodeId, Question>,
    up_since: Option<Instant>,
    first_up: Option<Instant>,
    welcomes: Allowance,
    hellos: Allowance,
    down_since: Instant,
    next_beat: Instant,
    /// The next time at which something is to be done; none without a link.
    due: Option<Instant>,
    /// No peer is to be looked at before this, and no question to be put again. A lower bound: that a peer spoke only makes it later, and to
    /// look through all of them at each word of each would cost their square.
    watch_at: Option<Instant>,
    last_beat: Option<Instant>,
    rival: Option<Incarnation>,
    /// When our own first word came back.
    first_echo: Option<Instant>,
    doubt: Option<Doubt>,
    challenge: Option<Challenge>,
    full: bool,
    /// How long this node has had a link in this run, and up to when that is counted.
    linked: Duration,
    linked_to: Instant,
}

impl Membership {
    /// `known`: the peers in the file; they are offline until they are heard.
    pub fn new(
        me: NodeId,
        incarnation: Incarnation,
        limits: Limits,
        known: impl IntoIterator<Item = Known>,
        seed: u64,
        now: Now,
    ) -> Self {
        let peer = |known: Known| {
            let peer = Peer {
                absence: Absence::restored(&known, now.mono),
                incarnation: known.incarnation,
                store: known.store,
                counter: 0,
                session: 0,
                online: false,
                heard: now.mono,
                channels: known.channels,
                host: known.host,
                version: known.version,
                draining: false,
                elects: false,
                question: None,
            };
            (known.node, peer)
        };
        Self {
            me,
            incarnation,
            started: now.mono,
            limits,
            jitter: Jitter::new(seed),
            peers: known.into_iter().map(peer).collect(),
            online: 0,
            strangers: BTreeMap::new(),
            up_since: None,
            first_up: None,
            welcomes: Allowance::new(WELCOMES_A_SECOND, Duration::from_secs(1)),
            hellos: Allowance::new(HELLOS_A_SECOND, Duration::from_secs(1)),
            down_since: now.mono,
            next_beat: now.mono,
            due: None,
            watch_at: None,
            last_beat: None,
            rival: None,
            first_echo: None,
            doubt: None,
            challenge: None,
            full: false,
            linked: Duration::ZERO,
            linked_to: now.mono,
        }
    }

    pub fn is_peer(&self, node: &NodeId) -> bool {
        self.peers.contains_key(node)
    }

    /// The channels of this peer, as announced in this run of ours; none where it has not been heard yet.
    pub fn peer(&self, node: &NodeId) -> Option<&[ChannelPresence]> {
        self.peers.get(node).filter(|peer| peer.counter > 0).map(|peer| &*peer.channels)
    }

    /// The peers that are online and take part in an election.
    pub fn electors(&self) -> impl Iterator<Item = &NodeId> {
        let elects = |peer: &Peer| peer.online && peer.elects;
        self.peers.iter().filter(move |(_, peer)| elects(peer)).map(|(node, _)| node)
    }

    /// File time when this peer was last heard; none where it is no peer.
    pub fn seen_ms(&self, node: &NodeId) -> Option<u64> {
        self.peers.get(node).map(|peer| peer.absence.seen_ms)
    }

    pub fn is_online(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.online)
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(node, peer)| PeerView {
            node: node.clone(),
            online: peer.online,
            seen_ms: peer.absence.seen_ms,
            incarnation: peer.incarnation,
            store: peer.store,
            host: peer.host.clone(),
            version: peer.version.clone(),
            draining: peer.draining,
            channels: peer.channels.clone(),
        })
    }

    pub fn online(&self) -> usize {
        debug_assert_eq!(self.online, self.peers.values().filter(|peer| peer.online).count());
        self.online
    }

    /// How many were asked who they are, and have not answered.
    pub fn strangers(&self) -> usize {
        self.strangers.len()
    }

    /// A message or an answer came from this node: for a peer that is online, as good as a keepalive. False for any other, which `Unknown`
    /// then asks. Cheap, because it is said of every frame.
    pub fn spoke(&mut self, now: Now, node: &NodeId) -> bool {
        let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.online) else { return false };
        peer.heard = peer.heard.max(now.mono);
        peer.absence.seen_ms = peer.absence.seen_ms.max(now.file_ms);
        true
    }

    /// Appends actions in the order in which the shell must perform them.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        let late = self.make_up_for_standing_still(now.mono);
        self.count_link(now.mono, late);
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
            Event::Keepalive(keepalive) => self.keepalive(now, keepalive, out),
            Event::Welcome { nonce, keepalive } if keepalive.from == self.me => {
                self.rival_answered(now.mono, nonce, &keepalive, out);
            }
            Event::Hello { nonce, keepalive } if keepalive.from == self.me => {
                // Our own question comes back as well.
                if keepalive.incarnation != self.incarnation && self.welcomes.take(now.mono) {
                    out.push(Action::Welcome { to: self.me.clone(), nonce });
                }
            }
            Event::Hello { nonce, keepalive } => {
                // A stranger that asks a thousand times a second must not silence us for our peers, who may be asking whether we live.
                let peer = self.is_peer(&keepalive.from);
                if peer || self.welcomes.take(now.mono) {
                    let to = keepalive.from.clone();
                    out.push(Action::Welcome { to, nonce });
                }
                self.keepalive(now, keepalive, out);
            }
            Event::Welcome { nonce, keepalive } => self.welcome(now, nonce, keepalive, out),
            Event::Unknown(node) => self.ask(now.mono, node, out),
            Event::Changed => self.beat_soon(now.mono),
            Event::Forget(node) => {
                let gone = self.peers.remove(&node);
                self.online -= usize::from(gone.is_some_and(|peer| peer.online));
                self.full = false;
            }
            Event::StoodStill { spoken } => self.begin_to_doubt(now.mono, spoken),
            Event::Woke => {}
        }
        self.end_doubt_in_time(now.mono);
        if self.up_since.is_some() {
            if self.watch_at.is_none_or(|at| at <= now.mono) {
                self.watch(now, out);
                self.watch_at = self.next_watch();
            }
            self.beat(now.mono, out);
        }
        debug_assert!(
            self.watch_at.is_none_or(|at| self.next_watch().is_none_or(|next| at <= next))
        );
        self.due = self.up_since.map(|_| {
            let at = self.watch_at.map_or(self.next_beat, |at| at.min(self.next_beat));
            self.doubt.map_or(at, |doubt| at.min(doubt.until))
        });
    }

    /// When to say `Woke`, if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        self.due
    }

    fn next_watch(&self) -> Option<Instant> {
        let peers = self.peers.values().map(|peer| self.look_at(peer));
        peers.chain(self.ask_again_at()).min()
    }

    /// When this peer's silence means something.
    fn look_at(&self, peer: &Peer) -> Instant {
        match peer.online {
            true => self.ask_at(peer).min(peer.heard + self.limits.offline_after),
            false => peer.absence.look_at,
        }
    }

    /// Something is to be done by then.
    fn watch_by(&mut self, at: Instant) {
        self.watch_at = self.watch_at.map(|before| before.min(at));
    }

    /// The time in which this node did not run counts against nobody: what others said meanwhile is still to be read.
    fn make_up_for_standing_still(&mut self, now: Instant) -> Duration {
        let late = self.late(now);
        if !late.is_zero() {
            self.peers.values_mut().for_each(|peer| peer.heard += late);
        }
        late
    }

    /// For how long this node did not run when it should have.
    fn late(&self, now: Instant) -> Duration {
        let late = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late > STOOD_STILL { late } else { Duration::ZERO }
    }

    /// The time that we were cut off does not count against anybody.
    fn link_up(&mut self, now: Instant) {
        if self.up_since.is_none() {
            let cut_off = now.saturating_duration_since(self.down_since);
            for peer in self.peers.values_mut() {
                peer.heard += cut_off;
                peer.question = None;
                peer.absence.look_at = now;
            }
            self.watch_at = None;
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

    fn keepalive(&mut self, now: Now, keepalive: Keepalive, out: &mut Vec<Action>) {
        match self.peers.get(&keepalive.from) {
            Some(peer) if peer.incarnation == keepalive.incarnation => {
                if keepalive.counter > peer.counter {
                    self.heard(now, keepalive, false, out);
                } else {
                    // Late; or what we believed was forged, and every true one would be late for ever.
                    self.ask(now.mono, keepalive.from, out);
                }
            }
            _ if keepalive.goodbye => {}
            // Another incarnation of a peer has to prove itself too: a late keepalive of the last one does not.
            _ => {
                let Keepalive { from, incarnation, counter, .. } = keepalive;
                self.ask(now.mono, from.clone(), out);
                if let Some(question) = self.question_to(&from) {
                    question.newest = Some((incarnation, counter));
                }
            }
        }
    }

    /// A keepalive that is surely the peer's own.
    fn heard(&mut self, now: Now, keepalive: Keepalive, proven: bool, out: &mut Vec<Action>) {
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
        let noted = before.and_then(|peer| peer.absence.noted);
        let absence = Absence::heard(now, self.linked, self.limits.expiry, noted);
        if keepalive.goodbye {
            if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.online) {
                peer.online = false;
                peer.counter = keepalive.counter;
                self.online -= 1;
                let at = absence.look_at;
                peer.absence = absence;
                self.watch_by(at);
                out.push(Action::Offline { node, why: Departure::Goodbye });
            }
            return;
        }
        let peer = Peer {
            absence,
            incarnation: keepalive.incarnation,
            store: keepalive.store,
            counter: keepalive.counter,
            session: keepalive.session,
            online: true,
            heard: now.mono,
            channels: keepalive.channels.clone(),
            host: keepalive.host.clone(),
            version: keepalive.version.clone(),
            draining: keepalive.draining,
            elects: keepalive.elects,
            question: self.peers.get_mut(&node).and_then(|peer| peer.question.take()),
        };
        self.watch_by(self.look_at(&peer));
        self.online += usize::from(news.online);
        self.peers.insert(node.clone(), peer);
        if proven {
            // It may not have heard of us yet.
            self.beat_soon(now.mono);
        }
        out.push(Action::Heard { node, news, keepalive: Box::new(keepalive) });
    }

    fn watch(&mut self, now: Now, out: &mut Vec<Action>) {
        self.watch_online(now.mono, out);
        self.watch_absent(now, out);
    }

    fn watch_online(&mut self, now: Instant, out: &mut Vec<Action>) {
        let limits = self.limits;
        let silent = |peer: &Peer| peer.online && self.ask_at(peer) <= now;
        let silent: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| silent(peer)).map(|(n, _)| n.clone()).collect();
        for node in silent {
            self.put_question(now, node, out);
        }
        self.ask_again(now, out);
        for (node, peer) in &mut self.peers {
            if peer.online && peer.heard + limits.offline_after <= now {
                peer.online = false;
                self.online -= 1;
                peer.absence.look_at = now;
                out.push(Action::Offline { node: node.clone(), why: Departure::Silence });
            }
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
mod tests;
