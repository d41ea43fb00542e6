//! Three voters and everything that can happen to them, as a model for the checker.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use stateright::{Model, Property};
use waypost::protocol::election::{Durable, Event, Frame, Said, State, Term, Version};
use waypost::{Incarnation, NodeId};

use crate::machine::{Disk, Machine, Shown, index, name, number, orders};

/// How far the model goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) terms: u64,
    pub(crate) crashes: u8,
    pub(crate) sets: u8,
    pub(crate) handoffs: u8,
    pub(crate) disk: Disk,
    /// Whether beats go over the network, or only states, which are signs of life as well.
    pub(crate) beats: bool,
}

pub(crate) const ONE_MASTER: &str = "a term has one master";
pub(crate) const NOTHING_LOST: &str = "nothing committed is lost";

/// So many crashes that they are not counted.
pub(crate) const ANY: u8 = u8::MAX;

pub(crate) struct Cluster {
    pub(crate) bounds: Bounds,
    pub(crate) start: Instant,
}

/// A frame that was sent. It stays: it can come never, now, later and again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    to: usize,
    frame: Arc<Frame>,
}

#[derive(Clone)]
pub(crate) struct World {
    pub(crate) machines: [Arc<Machine>; 3],
    pub(crate) network: Vec<Sent>,
    pub(crate) crashes: u8,
    pub(crate) sets: u8,
    pub(crate) handoffs: u8,
    /// By term: who was elected, ready or not.
    pub(crate) elected: [Option<usize>; 8],
    /// By term: who was master, and which calls its state had when it became master.
    pub(crate) masters: [Option<(usize, u8)>; 8],
    /// Whether it matters which master was heard.
    heard: bool,
    /// Calls that were told to be done, and in which term.
    pub(crate) done: Vec<(u8, u64)>,
    /// A promise that was broken.
    pub(crate) broken: Option<&'static str>,
    pub(crate) key: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happening {
    Arrives(Sent),
    /// After the machine has heard nothing for long.
    ArrivesLate(Sent),
    /// In the term after this one.
    StandsAfter(usize, u64),
    Learns(usize, u64),
    Written(usize),
    Crashes {
        at: usize,
        torn: bool,
    },
    Sets {
        at: usize,
        ticket: u8,
    },
    HandsOver {
        at: usize,
        to: usize,
    },
    /// And then it crashes, before any of it is on its disk.
    Unwritten(Box<Self>),
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for machine in &self.machines {
            writeln!(f, "{:?} on {:?}", machine.election, machine.durable)?;
        }
        write!(f, "masters {:?}, done {:?}: {:?}", self.masters, self.done, self.broken)
    }
}

impl World {
    fn new(start: Instant, bounds: &Bounds) -> Self {
        let machine = |at| {
            let mut machine = Machine::new(at, Durable::default(), start, Disk::AtOnce);
            machine.sign(bounds.handoffs > 0);
            Arc::new(machine)
        };
        let mut world = Self {
            machines: [machine(0), machine(1), machine(2)],
            network: Vec::new(),
            crashes: 0,
            sets: 0,
            handoffs: 0,
            elected: [None; 8],
            masters: [None; 8],
            heard: bounds.handoffs > 0,
            done: Vec::new(),
            broken: None,
            key: 0,
        };
        world.key = world.key();
        world
    }

    /// A number for the world that does not depend on what the nodes are called: the rules treat all voters alike. Nodes are put in the order
    /// of their signatures; where two have the same, both orders are tried.
    fn key(&self) -> u64 {
        let signatures: Vec<u64> = self.machines.iter().map(|m| m.signature).collect();
        let numbers = orders(&signatures).map(|order| {
            let mut bytes = Vec::with_capacity(1024);
            self.write(&order, &mut bytes);
            number(&bytes)
        });
        numbers.min().expect("one of them is sorted")
    }

    fn write(&self, order: &[u8; 3], out: &mut Vec<u8>) {
        let node = |node: &NodeId| order[index(node)];
        for place in 0..3 {
            let at = order.iter().position(|to| *to == place).expect("a permutation");
            self.machines[at].essence(&node, self.heard, out);
        }
        let mut frames: Vec<[u8; 10]> =
            self.network.iter().map(|sent| written(sent, order)).collect();
        frames.sort_unstable();
        out.extend(frames.into_iter().flatten());
        out.extend([255, self.crashes, self.sets, self.handoffs]);
        for (master, content) in self.masters.iter().flatten() {
            out.extend([order[*master], *content]);
        }
        out.extend(self.masters.iter().map(|master| u8::from(master.is_some())));
        out.extend(self.elected.iter().map(|elected| elected.map_or(9, |at| order[at])));
        out.extend(self.done.iter().flat_map(|(call, term)| [*call, *term as u8]));
        out.push(u8::from(self.broken.is_some()));
    }

    fn highest_term(&self) -> u64 {
        let terms = self.machines.iter().map(|machine| machine.election.term().get());
        terms.max().expect("there are three")
    }

    /// Takes note of what a machine has shown.
    fn note(&mut self, at: usize, shown: Shown, bounds: &Bounds) {
        for frame in shown.frames {
            if let Some(frame) = plain(frame, bounds) {
                self.send(at, Arc::new(frame));
            }
        }
        for (ticket, term) in shown.done {
            self.done.push((ticket as u8, term.get()));
            self.done.sort_unstable();
        }
        let machine = &self.machines[at];
        if machine.election.beat_number().is_some() {
            let term = machine.election.term().get();
            if *self.elected[term as usize].get_or_insert(at) != at {
                self.broken = Some(ONE_MASTER);
            }
        }
        if let Some(term) = machine.reigns_in() {
            let content = machine.content();
            let (master, _) = self.masters[term.get() as usize].get_or_insert((at, content));
            if *master != at {
                self.broken = Some(ONE_MASTER);
            }
        }
        for (call, done_in) in &self.done {
            let later = self.masters.iter().skip(*done_in as usize + 1).flatten();
            for (_, content) in later {
                if content & 1 << call == 0 {
                    self.broken = Some(NOTHING_LOST);
                }
            }
        }
    }

    fn send(&mut self, from: usize, frame: Arc<Frame>) {
        let to = addressee(&frame.said);
        for to in (0..3).filter(|at| *at != from && to.is_none_or(|to| to == *at)) {
            let sent = Sent { to, frame: frame.clone() };
            if !self.network.contains(&sent) {
                self.network.push(sent);
            }
        }
    }

    /// Frames that can have no effect any more are as good as never sent.
    fn clear(&mut self, disk: Disk) {
        let keeps_votes = disk != Disk::LosesVotes;
        let (machines, heard) = (&self.machines, self.heard);
        self.network.retain(|Sent { to, frame }| {
            let machine = &machines[*to];
            let Durable { term, vote, state } = &machine.durable;
            match &frame.said {
                Said::VoteAnswer { .. } => {
                    machine.election.is_standing() && machine.election.term() == frame.term
                }
                Said::StateStored { .. } | Said::BeatAnswer { .. } => {
                    machine.election.beat_number().is_some()
                        && machine.election.term() == frame.term
                }
                Said::VoteRequest { .. } => {
                    let voted = keeps_votes && vote.is_some();
                    *term < frame.term || (*term == frame.term && !voted)
                }
                Said::State(sent) => {
                    let has = *term == frame.term && state.version >= sent.version && keeps_votes;
                    *term <= frame.term && (heard || !has)
                }
                _ => *term <= frame.term,
            }
        });
    }
}

/// To whom something is said; to all, otherwise.
fn addressee(said: &Said) -> Option<usize> {
    match said {
        Said::BeatAnswer { to, .. }
        | Said::Behind { to }
        | Said::PreVoteAnswer { to, .. }
        | Said::VoteAnswer { to, .. }
        | Said::StateStored { to, .. }
        | Said::StateRequest { to, .. } => Some(index(to)),
        _ => None,
    }
}

/// The frame with all that makes no difference here made the same; none, where another happening stands for it.
fn plain(mut frame: Frame, bounds: &Bounds) -> Option<Frame> {
    match &mut frame.said {
        // Pre-votes are always granted, higher terms are learnt at any time, and what was sent may come again anyway.
        Said::PreVote { .. }
        | Said::PreVoteAnswer { .. }
        | Said::VoteAnswer { granted: false, .. }
        | Said::Behind { .. }
        | Said::StateRequest { .. } => return None,
        Said::Beat(beat) => {
            if !bounds.beats {
                return None;
            }
            beat.number = 0;
            beat.ready = false;
            beat.handing_over = false;
        }
        Said::BeatAnswer { number, .. } => *number = 0,
        _ => {}
    }
    frame.incarnation = Incarnation::from_u128(1);
    Some(frame)
}

fn written(sent: &Sent, order: &[u8; 3]) -> [u8; 10] {
    let Sent { to, frame } = sent;
    let none = Version::default();
    let (kind, version, more, content) = match &frame.said {
        Said::Beat(beat) => (1, beat.version, 0, 0),
        Said::BeatAnswer { version, .. } => (2, *version, 0, 0),
        Said::VoteRequest { version, handoff } => {
            (3, *version, handoff.map_or(255, |term| term.get() as u8), 0)
        }
        Said::VoteAnswer { .. } => (4, none, 0, 0),
        Said::State(State { version, json }) => {
            (5, *version, json.len() as u8, json.first().copied().unwrap_or(0))
        }
        Said::StateStored { version, .. } => (6, *version, 0, 0),
        Said::Handoff { to } => (7, none, order[index(to)], 0),
        Said::Resign => (8, none, 0, 0),
        other => unreachable!("{other:?} is not on this network"),
    };
    let Version { term, rev } = version;
    let from = order[index(&frame.from)];
    let numbers = [frame.term.get() as u8, term.get() as u8, rev as u8];
    [kind, order[*to], from, numbers[0], numbers[1], numbers[2], more, content, 0, 0]
}

impl Happening {
    /// Where it happens.
    fn place(&self) -> usize {
        match self {
            Self::Arrives(Sent { to, .. }) | Self::ArrivesLate(Sent { to, .. }) => *to,
            Self::StandsAfter(at, _)
            | Self::Learns(at, _)
            | Self::Written(at)
            | Self::Crashes { at, .. }
            | Self::Sets { at, .. }
            | Self::HandsOver { at, .. } => *at,
            Self::Unwritten(happening) => happening.place(),
        }
    }
}

/// Whether something may be said of it that does not wait for the disk: a state goes out while it is being written.
fn speaks_early(happening: &Happening) -> bool {
    match happening {
        Happening::Arrives(sent) => matches!(sent.frame.said, Said::VoteAnswer { .. }),
        other => matches!(other, Happening::Sets { .. }),
    }
}

impl Cluster {
    fn happen(&self, machine: &mut Machine, happening: &Happening, disk: Disk) -> Option<Shown> {
        Some(match happening {
            Happening::Arrives(Sent { frame, .. }) => {
                let mut frame = (**frame).clone();
                if let Said::BeatAnswer { number, .. } = &mut frame.said {
                    *number = machine.election.beat_number()?;
                }
                machine.step(Event::Frame(frame), disk)
            }
            Happening::ArrivesLate(Sent { frame, .. }) => {
                machine.late_step(Event::Frame((**frame).clone()), disk)
            }
            Happening::StandsAfter(_, term) => machine.stand_after(Term::new(*term).ok()?, disk),
            Happening::Learns(_, term) => machine.learn(Term::new(*term).ok()?, disk),
            Happening::Written(_) => machine.written(disk)?,
            Happening::Crashes { torn, .. } => {
                machine.crash(*torn, disk);
                Shown::default()
            }
            Happening::Sets { ticket, .. } => machine.set(u64::from(*ticket), disk),
            Happening::HandsOver { to, .. } => {
                machine.step(Event::HandOver { to: Some(name(*to)) }, disk)
            }
            Happening::Unwritten(_) => return None,
        })
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Happening;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.start, &self.bounds)]
    }

    fn actions(&self, world: &World, all: &mut Vec<Happening>) {
        let Bounds { terms, crashes, sets, handoffs, disk, .. } = self.bounds;
        let highest = world.highest_term();
        for at in 0..3 {
            let machine = &world.machines[at];
            let term = machine.election.term().get();
            let known = (term..=highest).filter(|term| *term < terms);
            all.extend(known.clone().map(|term| Happening::StandsAfter(at, term)));
            if machine.election.is_in_office() {
                all.extend(known.skip(1).map(|term| Happening::Learns(at, term)));
            }
            if machine.writing.is_some() {
                all.push(Happening::Written(at));
            }
            if world.crashes < crashes {
                all.push(Happening::Crashes { at, torn: false });
                if machine.writing.is_some() {
                    all.push(Happening::Crashes { at, torn: true });
                }
            }
            if machine.reigns_in().is_some() {
                if world.sets < sets {
                    all.push(Happening::Sets { at, ticket: world.sets });
                }
                if world.handoffs < handoffs {
                    let others = (0..3).filter(|to| *to != at);
                    all.extend(others.map(|to| Happening::HandsOver { at, to }));
                }
            }
        }
        for sent in &world.network {
            all.push(Happening::Arrives(sent.clone()));
            if matches!(sent.frame.said, Said::VoteRequest { .. })
                && world.machines[sent.to].election.is_in_office()
            {
                all.push(Happening::ArrivesLate(sent.clone()));
            }
        }
        if disk == Disk::AtOnce && world.crashes < crashes {
            let unwritten: Vec<Happening> =
                all.iter().filter(|h| speaks_early(h)).cloned().collect();
            all.extend(unwritten.into_iter().map(|h| Happening::Unwritten(Box::new(h))));
        }
    }

    fn next_state(&self, before: &World, happening: Happening) -> Option<World> {
        let mut world = before.clone();
        let (happening, disk, unwritten) = match happening {
            Happening::Unwritten(happening) => (*happening, Disk::Slow, true),
            happening => (happening, self.bounds.disk, false),
        };
        let at = happening.place();
        let machine = Arc::make_mut(&mut world.machines[at]);
        let shown = self.happen(machine, &happening, disk)?;
        match happening {
            Happening::Sets { .. } => world.sets += 1,
            Happening::HandsOver { .. } => world.handoffs += 1,
            _ => {}
        }
        if unwritten {
            machine.crash(false, self.bounds.disk);
        }
        if unwritten || matches!(happening, Happening::Crashes { .. }) {
            world.crashes += u8::from(self.bounds.crashes < ANY);
        }
        if machine.election.term().get() > self.bounds.terms {
            return None;
        }
        machine.sign(world.heard);
        world.note(at, shown, &self.bounds);
        world.clear(self.bounds.disk);
        world.key = world.key();
        (world.key != before.key).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_MASTER, |_, world: &World| world.broken != Some(ONE_MASTER)),
            Property::always(NOTHING_LOST, |_, world: &World| world.broken != Some(NOTHING_LOST)),
            Property::sometimes("every term has a master", |model: &Self, world: &World| {
                (1..=model.bounds.terms).all(|term| world.masters[term as usize].is_some())
            }),
            Property::sometimes(
                "a state is there after the next election",
                |model: &Self, world: &World| {
                    let next = |term: u64| {
                        world.masters.iter().skip(term as usize + 1).any(Option::is_some)
                    };
                    model.bounds.sets == 0 || world.done.iter().any(|(_, term)| next(*term))
                },
            ),
            Property::sometimes("mastership is handed over", |model: &Self, world: &World| {
                let given_up = |sent: &Sent| {
                    matches!(sent.frame.said, Said::VoteRequest { handoff: Some(_), .. })
                };
                model.bounds.handoffs == 0 || world.network.iter().any(given_up)
            }),
        ]
    }
}
