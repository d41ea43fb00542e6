//! The same voters with a common clock: shows what time alone keeps true, that there are never two masters at one moment.
//!
//! The clock ticks for all alike, and each of them, and each vote, can be as late as it likes. Beats come in the tick in which they are sent, or never:
//! coming later they would only bind voters for longer. Two terms are enough for two masters, and in two terms states decide nothing. And whoever is
//! elected is believed to have stored its state with the others: a real one is master later, if at all.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stateright::{Model, Property};
use waypost::protocol::Now;
use waypost::protocol::election::{
    Action, Durable, Election, Event, Eyes, Frame, Said, Settings, Term, Times, Token,
};
use waypost::{Incarnation, NodeId};

use crate::machine::{index, name, number, settings};

const TICK: Duration = Duration::from_secs(1);
/// In ticks. A lease takes one less.
const LOST_AFTER: u32 = 3;
const TERMS: u64 = 2;

pub(crate) const ONE_MASTER: &str = "there is one master at a moment";

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) ticks: u32,
    pub(crate) restarts: u8,
    /// The clock of the first to be master runs at half the speed of the others.
    pub(crate) slow: bool,
    pub(crate) start: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct Voter {
    election: Election,
    durable: Durable,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    to: usize,
    at: u32,
    frame: Arc<Frame>,
}

#[derive(Clone)]
pub(crate) struct Moment {
    voters: [Arc<Voter>; 3],
    network: Vec<Sent>,
    tick: u32,
    restarts: u8,
    /// The first to be master.
    first: Option<NodeId>,
    /// Another was master after it.
    followed: bool,
    pub(crate) key: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happening {
    Tick,
    /// A voter notices the time.
    Wakes(usize),
    /// It stands, with pre-votes granted, where it may.
    Stands(usize),
    Arrives(Sent),
    Restarts(usize),
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Hash for Moment {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tick {}: {:?}", self.tick, self.voters)
    }
}

impl Clock {
    fn time(&self, at: usize, tick: u32) -> Now {
        let mut time = TICK * tick;
        if self.slow && at == 0 {
            time = TICK * LOST_AFTER + TICK * tick.saturating_sub(LOST_AFTER) / 2;
            time = time.min(TICK * tick);
        }
        Now { mono: self.start + time, file_ms: 0 }
    }

    fn settings(&self) -> Settings {
        let times = Times {
            beat: TICK,
            lost_after: TICK * LOST_AFTER,
            jitter: Duration::ZERO,
            lease_margin: TICK,
            handoff: TICK,
        };
        Settings { times, ..settings() }
    }

    fn voter(&self, at: usize, durable: Durable, tick: u32) -> Voter {
        let (run, now) = (Incarnation::from_u128(1), self.time(at, tick));
        let election = Election::new(name(at), run, self.settings(), durable.clone(), 1, now);
        let mut voter = Voter { election, durable };
        self.tell(&mut voter, Event::LinkUp, tick);
        voter
    }

    /// What it says to an event; whoever is elected by that has its state stored everywhere.
    fn tell(&self, voter: &mut Voter, event: Event, tick: u32) -> Vec<Frame> {
        let before = voter.election.beat_number();
        let mut frames = self.tell_now(voter, event, tick);
        if before.is_none() && voter.election.beat_number().is_some() {
            let (to, term) = (voter.election.me().clone(), voter.election.term());
            let version = voter.election.state().version;
            for from in (0..3).filter(|at| name(*at) != to) {
                let said = Said::StateStored { to: to.clone(), version };
                let event = heard(from, term, said);
                frames.extend(self.tell_now(voter, event, tick));
            }
        }
        frames
    }

    /// Its disk has at once what it is given.
    fn tell_now(&self, voter: &mut Voter, event: Event, tick: u32) -> Vec<Frame> {
        let (mut out, mut at, mut frames) = (Vec::new(), 0, Vec::new());
        let now = self.time(index(voter.election.me()), tick);
        voter.election.handle(now, event, &mut out);
        while at < out.len() {
            match out[at].clone() {
                Action::Persist { seq, record } => {
                    voter.durable.write(record);
                    let written = Event::Persisted { seq };
                    voter.election.handle(now, written, &mut out);
                }
                Action::Send(frame) => frames.push(frame),
                _ => {}
            }
            at += 1;
        }
        frames
    }

    fn hears(&self, voter: &mut Voter, term: Term, said: Said, tick: u32) -> Vec<Frame> {
        let from = (index(voter.election.me()) + 1) % 3;
        self.tell(voter, heard(from, term, said), tick)
    }

    fn happen(&self, voter: &mut Voter, what: Happening, tick: u32) -> Option<Vec<Frame>> {
        let to = voter.election.me().clone();
        Some(match what {
            Happening::Tick => return None,
            Happening::Wakes(_) => self.tell(voter, Event::Woke, tick),
            Happening::Stands(_) => {
                let woke = self.tell(voter, Event::Woke, tick);
                let round = voter.election.round();
                let granted = Said::PreVoteAnswer { to, round, granted: true };
                [woke, self.hears(voter, Term::ZERO, granted, tick)].concat()
            }
            Happening::Arrives(Sent { frame, .. }) => {
                self.tell(voter, Event::Frame((*frame).clone()), tick)
            }
            Happening::Restarts(at) => {
                *voter = self.voter(at, voter.durable.clone(), tick);
                Vec::new()
            }
        })
    }
}

impl Moment {
    fn send(&mut self, from: usize, frame: Frame) {
        let to = match &frame.said {
            Said::Beat(_) | Said::VoteRequest { .. } => None,
            Said::BeatAnswer { to, .. } | Said::VoteAnswer { to, granted: true } => Some(index(to)),
            _ => return,
        };
        let frame = Arc::new(frame);
        for to in (0..3).filter(|at| *at != from && to.is_none_or(|to| to == *at)) {
            let sent = Sent { to, at: self.tick, frame: frame.clone() };
            if !self.network.iter().any(|other| other.to == to && other.frame == sent.frame) {
                self.network.push(sent);
            }
        }
    }

    /// Frames that can have no effect any more.
    fn clear(&mut self) {
        let (voters, tick) = (&self.voters, self.tick);
        self.network.retain(|Sent { to, at, frame }| {
            let Voter { election, durable } = &*voters[*to];
            let sender = &voters[index(&frame.from)].election;
            let in_term = sender.term() == frame.term;
            let here = election.term() == frame.term;
            let free = durable.term == frame.term && durable.vote.is_none();
            match &frame.said {
                // A newer one of the same tick says the same.
                Said::Beat(beat) => {
                    let newest = in_term && sender.beat_number() == Some(beat.number);
                    durable.term <= frame.term && tick == *at && newest
                }
                Said::BeatAnswer { .. } => {
                    here && election.beat_number().is_some() && tick < at + LOST_AFTER
                }
                Said::VoteAnswer { .. } => here && election.is_standing(),
                // Who votes for one that stands no more has only wasted a vote.
                Said::VoteRequest { .. } => {
                    (durable.term < frame.term || free) && in_term && sender.is_standing()
                }
                _ => false,
            }
        });
    }

    fn key(&self, clock: &Clock) -> u64 {
        // Unlike in `cluster` names count: of two that stand together one by its name tries again later.
        let node = |node: &NodeId| index(node) as u8;
        let mut bytes = Vec::with_capacity(1024);
        for voter in &self.voters {
            voter.write(clock, self.tick, &node, &mut bytes);
        }
        let mut frames: Vec<[u8; 5]> = self.network.iter().map(written).collect();
        frames.sort_unstable();
        bytes.extend(frames.into_iter().flatten());
        let first = self.first.as_ref().map_or(9, node);
        bytes.extend([self.tick as u8, self.restarts, first, u8::from(self.followed)]);
        number(&bytes)
    }

    fn tokens<'a>(&'a self, clock: &'a Clock) -> impl Iterator<Item = Token> + 'a {
        let at_its_time = |(at, voter): (usize, &Arc<Voter>)| {
            voter.election.token(clock.time(at, self.tick).mono)
        };
        self.voters.iter().enumerate().filter_map(at_its_time)
    }

    fn sign(&mut self, clock: &Clock) {
        for Token { node, .. } in self.tokens(clock).collect::<Vec<_>>() {
            self.followed |= *self.first.get_or_insert(node.clone()) != node;
        }
        self.key = self.key(clock);
    }
}

impl Voter {
    fn write(&self, clock: &Clock, tick: u32, node: &dyn Fn(&NodeId) -> u8, out: &mut Vec<u8>) {
        let at = index(self.election.me());
        let now = clock.time(at, tick).mono;
        out.push(u8::from(clock.slow && at == 0));
        let ticks = |span: Duration| span.as_millis().div_ceil(TICK.as_millis()).min(5) as u8;
        let time = |at: Instant| match at.checked_duration_since(now) {
            Some(ahead) => 10 + ticks(ahead),
            None => 10 - ticks(now - at),
        };
        self.election.essence(&Eyes { time: &time, node, heard: &|lost_at| now < lost_at }, out);
        let Durable { term, vote, state } = &self.durable;
        let version = state.version;
        out.extend([term.get() as u8, vote.as_ref().map_or(9, node)]);
        out.extend([version.term.get() as u8, version.rev as u8]);
        // Which beat an answer is about.
        out.push(self.election.beat_number().map_or(0, |number| number as u8));
    }
}

fn heard(from: usize, term: Term, said: Said) -> Event {
    let incarnation = Incarnation::from_u128(1);
    Event::Frame(Frame { from: name(from), incarnation, term, voters: 0, said })
}

fn written(sent: &Sent) -> [u8; 5] {
    let Sent { to, frame, .. } = sent;
    let (kind, more) = match &frame.said {
        Said::Beat(beat) => (1, beat.number as u8),
        Said::BeatAnswer { number, .. } => (2, *number as u8),
        Said::VoteRequest { version, handoff: None } => (3, version.term.get() as u8),
        Said::VoteRequest { version, handoff: Some(term) } => {
            (4 + version.term.get() as u8, term.get() as u8)
        }
        Said::VoteAnswer { .. } => (20, 0),
        other => unreachable!("{other:?} is not on this network"),
    };
    [kind, more, *to as u8, index(&frame.from) as u8, frame.term.get() as u8]
}

impl Model for Clock {
    type State = Moment;
    type Action = Happening;

    fn init_states(&self) -> Vec<Moment> {
        // Long enough after their start for each of them to stand.
        let voter = |at| Arc::new(self.voter(at, Durable::default(), 0));
        let voters = [voter(0), voter(1), voter(2)];
        let mut moment = Moment {
            voters,
            network: Vec::new(),
            tick: LOST_AFTER,
            restarts: 0,
            first: None,
            followed: false,
            key: 0,
        };
        moment.sign(self);
        // The first of them is elected, by the second.
        let step = |moment: &Moment, happening| self.next_state(moment, happening);
        let asks = step(&moment, Happening::Stands(0)).expect("it may");
        let asked = asks.network.iter().find(|sent| sent.to == 1).expect("it was asked");
        let votes = step(&asks, Happening::Arrives(asked.clone())).expect("it votes");
        let vote = votes.network.iter().find(|sent| sent.to == 0).expect("it voted");
        let elected = step(&votes, Happening::Arrives(vote.clone())).expect("it is elected");
        vec![elected]
    }

    fn actions(&self, moment: &Moment, all: &mut Vec<Happening>) {
        if moment.tick < LOST_AFTER + self.ticks {
            all.push(Happening::Tick);
        }
        for (at, voter) in moment.voters.iter().enumerate() {
            all.push(Happening::Stands(at));
            if moment.restarts < self.restarts {
                all.push(Happening::Restarts(at));
            }
            if voter.election.is_in_office() {
                all.push(Happening::Wakes(at));
            }
        }
        all.extend(moment.network.iter().cloned().map(Happening::Arrives));
    }

    fn next_state(&self, before: &Moment, happening: Happening) -> Option<Moment> {
        let mut moment = before.clone();
        let at = match &happening {
            Happening::Tick => {
                moment.tick += 1;
                moment.clear();
                moment.sign(self);
                return Some(moment);
            }
            Happening::Wakes(at)
            | Happening::Stands(at)
            | Happening::Restarts(at)
            | Happening::Arrives(Sent { to: at, .. }) => *at,
        };
        moment.restarts += u8::from(matches!(happening, Happening::Restarts(_)));
        let frames = self.happen(Arc::make_mut(&mut moment.voters[at]), happening, before.tick)?;
        if moment.voters[at].election.term().get() > TERMS {
            return None;
        }
        frames.into_iter().for_each(|frame| moment.send(at, frame));
        moment.clear();
        moment.sign(self);
        (moment.key != before.key).then_some(moment)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_MASTER, |clock: &Self, moment: &Moment| {
                moment.tokens(clock).count() < 2
            }),
            Property::sometimes("a master follows another", |clock: &Self, moment: &Moment| {
                // Before that nobody else can be.
                clock.ticks < LOST_AFTER || (moment.followed && moment.tokens(clock).count() == 1)
            }),
        ]
    }
}
