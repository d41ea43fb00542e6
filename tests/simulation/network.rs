//! The network: what core NATS and its client do to frames, and worse.
//!
//! A connection that breaks is noticed late. Until then the client takes frames as if nothing had happened; some of them come out of its
//! buffer when the link is there again, stale.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use waypost::NodeId;
use waypost::protocol::delivery::Unsent;
use waypost::protocol::election::Said;
use waypost::protocol::frame::Frame;

use crate::process::Input;
use crate::process::MESSAGE_BYTES;
use crate::world::{Event, World};

/// What a subject is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Message,
    Ack,
    Keepalive,
    Management,
    Order,
    Election,
}

/// A frame on its subject.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) kind: Kind,
    pub(crate) from: NodeId,
    /// `None`: for everybody, the sender included.
    pub(crate) to: Option<NodeId>,
    pub(crate) frame: Frame,
}

impl Sent {
    pub(crate) fn new(kind: Kind, from: NodeId, to: Option<NodeId>, frame: Frame) -> Self {
        Self { kind, from, to, frame }
    }
}

/// What befalls frames, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    /// Late by anything up to `latest`.
    pub(crate) late: u32,
    pub(crate) latest: Duration,
    /// Whether frames of one subject overtake each other.
    pub(crate) shuffled: bool,
    /// Publishing that the client does not take in time.
    pub(crate) busy: u32,
}

/// Whether frames take the form of bytes on their way. Values are for scenarios where the number of frames is the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Bytes,
    Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Off,
    /// Subscribed, but not proven yet: frames arrive, and none may be sent.
    Proving,
    Up,
}

#[derive(Debug)]
pub(crate) struct Connection {
    /// Counts connections; what belongs to an earlier one is void.
    pub(crate) number: u64,
    pub(crate) state: State,
    pub(crate) server: usize,
    /// Nothing passes, and the client has not noticed.
    pub(crate) broken: bool,
    /// The client takes no messages before it says that there is room.
    pub(crate) full: bool,
    /// Taken by the client while broken.
    buffered: Vec<Rc<Sent>>,
    /// On their way to a node whose connection is broken.
    held: Vec<Rc<Sent>>,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) connections: Vec<Connection>,
    /// Nodes whose cable is cut.
    pub(crate) severed: Vec<bool>,
    pub(crate) server_up: [bool; 2],
    /// Whether the two servers hear each other.
    pub(crate) routed: bool,
    pub(crate) weather: Weather,
    pub(crate) wire: Wire,
    /// When the last frame of a subject arrives, so that the next one comes after it.
    last: BTreeMap<(Kind, NodeId, usize), Duration>,
    pub(crate) message_frames: u64,
}

impl Network {
    pub(crate) fn new(nodes: usize, wire: Wire) -> Self {
        let connection = |_| Connection {
            number: 0,
            state: State::Off,
            server: 0,
            broken: false,
            full: false,
            buffered: Vec::new(),
            held: Vec::new(),
        };
        Self {
            connections: (0..nodes).map(connection).collect(),
            severed: vec![false; nodes],
            server_up: [true; 2],
            routed: true,
            weather: Weather::default(),
            wire,
            last: BTreeMap::new(),
            message_frames: 0,
        }
    }

    fn reachable(&self, node: usize) -> Vec<usize> {
        let servers = (0..2).filter(|server| self.server_up[*server]);
        servers.filter(|_| !self.severed[node]).collect()
    }
}

impl World {
    /// Whether the node's client takes messages.
    pub(crate) fn has_room(&self, node: usize) -> bool {
        !self.network.connections[node].full
    }

    fn fill(&mut self, node: usize) {
        let connection = &mut self.network.connections[node];
        if !std::mem::replace(&mut connection.full, true) {
            let number = connection.number;
            let at = self.now + self.dice.micros(10, 20_000);
            self.schedule(at, Event::Room { node, number });
        }
    }

    /// Hands a frame to the node's client.
    pub(crate) fn publish(&mut self, node: usize, mut sent: Sent) -> Result<(), Unsent> {
        let weather = self.network.weather;
        let connection = &self.network.connections[node];
        if connection.state != State::Up {
            return Err(Unsent::NotConnected);
        }
        let is_message = sent.kind == Kind::Message;
        if (is_message && connection.full) || self.dice.permille(weather.busy) {
            if is_message {
                self.fill(node);
            }
            return Err(Unsent::Busy);
        }
        if let Frame::Messages(frame) = &sent.frame
            && frame.messages.len() > self.plan.most
        {
            // As large as the process takes them for.
            let bytes = |messages: usize| messages * MESSAGE_BYTES;
            let (size, limit) = (bytes(frame.messages.len()), bytes(self.plan.most));
            return Err(Unsent::TooLarge { size, limit });
        }
        log!(self, "{} publishes {}", sent.from, brief(&sent));
        if self.oracle.lives.is_gone(node) {
            self.violated(format!("{} speaks after its goodbye: {}", sent.from, brief(&sent)));
        }
        if sent.kind == Kind::Message {
            self.network.message_frames += 1;
        }
        // Keepalives and beats are most of all frames and much alike: a few of them stand for all.
        let alike = match &sent.frame {
            Frame::Keepalive(keepalive) => keepalive.counter % 8 > 1,
            Frame::Election(frame) => is_of_a_beat(&frame.said),
            _ => false,
        };
        if self.network.wire == Wire::Bytes && !alike {
            let bytes = sent.frame.clone().encode();
            let decoded = Frame::decode(&bytes);
            match decoded {
                Ok(frame) if frame == sent.frame && *frame.from() == sent.from => {
                    sent.frame = frame;
                }
                other => self.violated(format!("{:?} became {other:?} on the wire", sent.frame)),
            }
        }
        let sent = Rc::new(sent);
        if self.network.connections[node].broken {
            if self.dice.coin() {
                self.network.connections[node].buffered.push(sent);
            }
            return Ok(());
        }
        self.route(node, sent);
        Ok(())
    }

    /// From a node's server to everybody whom it is for.
    fn route(&mut self, node: usize, sent: Rc<Sent>) {
        let server = self.network.connections[node].server;
        match &sent.to {
            Some(to) => {
                if let Some(to) = self.index.get(to).copied() {
                    self.carry(server, to, &sent);
                }
            }
            None => (0..self.machines.len()).for_each(|to| self.carry(server, to, &sent)),
        }
    }

    fn carry(&mut self, server: usize, to: usize, sent: &Rc<Sent>) {
        let Connection { state, server: at, number, .. } = self.network.connections[to];
        let passes = server == at || self.network.routed;
        if state == State::Off || !passes || !self.network.server_up[at] {
            return;
        }
        let weather = self.network.weather;
        // A subscription is not live at once.
        if self.dice.permille(weather.lost) || (state == State::Proving && self.dice.permille(300))
        {
            log!(self, "  lost: {}", brief(sent));
            return;
        }
        let copies = if self.dice.permille(weather.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = self.now + self.dice.micros(100, 3_000);
            if self.dice.permille(weather.late) {
                at += self.dice.micros(0, weather.latest.as_micros() as u64);
            }
            if !weather.shuffled {
                let key = (sent.kind, sent.from.clone(), to);
                let last = self.network.last.entry(key).or_default();
                at = at.max(*last + Duration::from_micros(1));
                *last = at;
            }
            self.schedule(at, Event::Arrive { node: to, number, sent: sent.clone() });
        }
    }

    pub(crate) fn arrived(&mut self, node: usize, number: u64, sent: Rc<Sent>) {
        let connection = &mut self.network.connections[node];
        if connection.number != number || connection.state == State::Off {
            return;
        }
        if connection.broken {
            if self.dice.coin() {
                self.network.connections[node].held.push(sent);
            }
            return;
        }
        log!(self, "{} gets {}", self.machines[node].id, brief(&sent));
        self.input(node, Input::Frame(sent));
    }

    /// Nothing passes to and from the node any more. It notices after a while.
    pub(crate) fn break_connection(&mut self, node: usize) {
        let connection = &mut self.network.connections[node];
        if connection.state == State::Off || connection.broken {
            return;
        }
        connection.broken = true;
        let number = connection.number;
        let at = self.now + self.dice.micros(0, 12_000_000);
        self.schedule(at, Event::Noticed { node, number });
    }

    /// The client sees that its connection is gone; the node is told a little later.
    pub(crate) fn noticed(&mut self, node: usize, number: u64) {
        let connection = &mut self.network.connections[node];
        if connection.number != number || !connection.broken || connection.state == State::Off {
            return;
        }
        let told = connection.state == State::Up;
        connection.state = State::Off;
        connection.held.clear();
        log!(self, "{} loses its connection", self.machines[node].id);
        let mut at = self.now;
        if told {
            at += self.dice.micros(0, 250_000);
            self.schedule(at, Event::Down { node, number });
        }
        self.schedule(at + Duration::from_micros(1), Event::Connect { node, number });
    }

    pub(crate) fn hang_up(&mut self, node: usize) {
        let connection = &mut self.network.connections[node];
        connection.full = false;
        connection.number += 1;
        connection.state = State::Off;
        connection.broken = false;
        connection.buffered.clear();
        connection.held.clear();
    }

    /// Tries a server; where none can be reached, whoever mends the network tries again.
    pub(crate) fn connect(&mut self, node: usize, number: u64) {
        let servers = self.network.reachable(node);
        let connection = &mut self.network.connections[node];
        let idle = connection.number == number && connection.state == State::Off;
        if !idle || servers.is_empty() || self.machines[node].process.is_none() {
            return;
        }
        connection.server = *self.dice.pick(&servers);
        connection.number += 1;
        connection.state = State::Proving;
        connection.broken = false;
        connection.full = false;
        let number = connection.number;
        let stale = std::mem::take(&mut connection.buffered);
        stale.into_iter().for_each(|sent| self.route(node, sent));
        let proof = if self.dice.permille(100) { 1_000_000 } else { 20_000 };
        let at = self.now + self.dice.micros(500, proof);
        self.schedule(at, Event::Proven { node, number });
    }

    pub(crate) fn proven(&mut self, node: usize, number: u64) {
        let connection = &mut self.network.connections[node];
        if connection.number != number || connection.state != State::Proving {
            return;
        }
        if connection.broken {
            return;
        }
        connection.state = State::Up;
        log!(self, "{} is connected", self.machines[node].id);
        let denied = self.denied(number);
        self.input(node, Input::LinkUp(denied));
    }

    /// What a server refuses, in some worlds on some connections.
    fn denied(&self, number: u64) -> Vec<String> {
        let some = self.plan.seed.is_multiple_of(5) && number.is_multiple_of(3);
        let said = || "Permissions Violation for Publish to \"elsewhere\"".to_owned();
        some.then(said).into_iter().collect()
    }

    /// Whatever can be reached now is. A break that nobody noticed may turn out to be none.
    pub(crate) fn network_mended(&mut self) {
        for node in 0..self.machines.len() {
            let able = !self.network.reachable(node).is_empty();
            let connection = &mut self.network.connections[node];
            let number = connection.number;
            if !able {
                continue;
            }
            if connection.state == State::Off {
                let at = self.now + self.dice.micros(100_000, 5_000_000);
                self.schedule(at, Event::Connect { node, number });
            } else if connection.broken && self.network.server_up[connection.server] {
                let survives = connection.state == State::Up && self.dice.coin();
                if survives {
                    connection.broken = false;
                    let (out, held) = (
                        std::mem::take(&mut connection.buffered),
                        std::mem::take(&mut connection.held),
                    );
                    out.into_iter().for_each(|sent| self.route(node, sent));
                    for sent in held {
                        self.schedule(self.now, Event::Arrive { node, number, sent });
                    }
                } else {
                    self.schedule(self.now, Event::Noticed { node, number });
                }
            } else if connection.broken {
                self.schedule(self.now, Event::Noticed { node, number });
            }
        }
    }
}

/// Most beats, and the answers to them.
fn is_of_a_beat(said: &Said) -> bool {
    match said {
        Said::Beat(beat) => beat.number % 8 > 1,
        Said::BeatAnswer { number, .. } => number % 8 > 1,
        _ => false,
    }
}

/// A frame in a line of the trace.
fn brief(sent: &Sent) -> String {
    let to = sent.to.as_ref().map_or("all", |to| to.as_str());
    match &sent.frame {
        Frame::Messages(frame) => {
            let ids: Vec<String> = frame
                .messages
                .iter()
                .map(|m| {
                    let data = m.body.data[..].try_into().map_or(0, u64::from_be_bytes);
                    format!("#{data}")
                })
                .collect();
            let lane = frame.stream.lane;
            let direct = if frame.stream.direct { " direct" } else { "" };
            let (attempt, channel) = (frame.attempt, &frame.stream.channel);
            let skipped = frame.skipped;
            format!(
                "{} {channel}/{lane}{direct} to {to}, attempt {attempt}, skipped {skipped}",
                ids.join(" ")
            )
        }
        Frame::Answer(answer) => {
            format!("{:?} for {} (last {:?}) to {to}", answer.verdict, answer.id, answer.last)
        }
        Frame::Keepalive(k) => {
            format!(
                "keepalive {} of {} {}",
                k.counter,
                sent.from,
                if k.goodbye { "(goodbye)" } else { "" }
            )
        }
        Frame::Hello { .. } => format!("hello to {to}"),
        Frame::Welcome { .. } => format!("welcome to {to}"),
        Frame::Query(_) | Frame::Report(_) | Frame::Order(_) | Frame::Outcome(_) => {
            "management".to_owned()
        }
        Frame::Election(frame) => format!("in term {}: {:?}", frame.term, frame.said),
    }
}
