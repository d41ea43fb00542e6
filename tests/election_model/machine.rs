//! One voter: the election that ships, its disk, and its own time.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost::protocol::Now;
use waypost::protocol::election::{
    Action, Durable, Election, Event, Eyes, Frame, Mode, Record, Said, Settings, State, Term,
    Version,
};
use waypost::{Incarnation, NodeId};

/// What the disk does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It is there at once.
    AtOnce,
    /// It is there later, or after a crash perhaps.
    Slow,
    /// As `AtOnce`, but a crash loses the vote: what the rules forbid.
    LosesVotes,
    /// As `AtOnce`, but a crash loses the state, which they forbid as well.
    LosesStates,
}

/// Longer than every time in the rules: nothing that was set before it is still to come.
const LONG: Duration = Duration::from_secs(8);

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) election: Election,
    pub(crate) durable: Durable,
    pub(crate) writing: Option<(u64, Record)>,
    pub(crate) now: Instant,
    /// Two machines with different ones are different, whatever nodes are called.
    pub(crate) signature: u64,
}

/// What a step of a machine has shown to the world.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    pub(crate) frames: Vec<Frame>,
    /// Tickets of calls that were told to be done, and the term of the version.
    pub(crate) done: Vec<(u64, Term)>,
}

impl Shown {
    fn and(mut self, more: Self) -> Self {
        self.frames.extend(more.frames);
        self.done.extend(more.done);
        self
    }
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Every order of three nodes in which their signatures do not fall: `order[at]` is the place of node `at`.
pub(crate) fn orders(signatures: &[u64]) -> impl Iterator<Item = [u8; 3]> {
    const ALL: [[u8; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    ALL.into_iter().filter(|order| {
        let mut sorted = [0; 3];
        (0..3).for_each(|at| sorted[usize::from(order[at])] = signatures[at]);
        sorted.is_sorted()
    })
}

pub(crate) fn name(at: usize) -> NodeId {
    NodeId::new(["a", "b", "c"][at]).expect("a valid name")
}

pub(crate) fn index(node: &NodeId) -> usize {
    usize::from(node.as_str().as_bytes()[0] - b'a')
}

pub(crate) fn settings() -> Settings {
    Settings::new(Mode::Quorum { voters: (0..3).map(name).collect() })
}

fn heard(from: usize, term: Term, said: Said) -> Event {
    let incarnation = Incarnation::from_u128(1);
    Event::Frame(Frame { from: name(from), incarnation, term, voters: 0, said })
}

impl Machine {
    pub(crate) fn new(at: usize, durable: Durable, now: Instant, disk: Disk) -> Self {
        let run = Incarnation::from_u128(1);
        let time = Now { mono: now, file_ms: 0 };
        let election = Election::new(name(at), run, settings(), durable.clone(), 1, time);
        let mut machine = Self { election, durable, writing: None, now, signature: 0 };
        machine.step(Event::LinkUp, disk);
        machine
    }

    fn time(&self) -> Now {
        Now { mono: self.now, file_ms: 0 }
    }

    fn tell(&mut self, event: Event, out: &mut Vec<Action>) {
        self.election.handle(self.time(), event, out);
    }

    /// The event, and whatever follows from it without anybody else.
    pub(crate) fn step(&mut self, event: Event, disk: Disk) -> Shown {
        let mut shown = self.step_now(event, disk);
        self.let_time_pass(disk, &mut shown);
        shown
    }

    /// For whoever neither is in office nor stands, time passes at once: a voter that still hears a master refuses what one that does not
    /// might do, and a frame that is refused is as one that never comes.
    fn let_time_pass(&mut self, disk: Disk, shown: &mut Shown) {
        if !self.election.is_in_office() && !self.election.is_standing() {
            self.pass(disk, shown);
        }
    }

    fn step_now(&mut self, event: Event, disk: Disk) -> Shown {
        let mut shown = Shown::default();
        let beat = self.election.beat_number();
        self.follow(event, disk, &mut shown);
        // Whoever was just elected has a lease: in a world without a common time nothing is said about leases, and a master that
        // always has one can do more than a real one.
        if beat.is_none()
            && let Some(number) = self.election.beat_number()
        {
            let version = Version::default();
            let me = self.election_name();
            for from in (0..3).filter(|at| name(*at) != me) {
                let answer = Said::BeatAnswer { to: me.clone(), number, version };
                self.follow(heard(from, self.election.term(), answer), disk, &mut shown);
            }
        }
        shown
    }

    fn election_name(&self) -> NodeId {
        self.election.me().clone()
    }

    fn follow(&mut self, event: Event, disk: Disk, shown: &mut Shown) {
        let mut out = Vec::new();
        self.tell(event, &mut out);
        self.perform(out, disk, shown);
    }

    fn perform(&mut self, mut out: Vec<Action>, disk: Disk, shown: &mut Shown) {
        let mut at = 0;
        while at < out.len() {
            match out[at].clone() {
                Action::Persist { seq, record } if disk == Disk::Slow => {
                    assert!(self.writing.is_none(), "one writing at a time");
                    self.writing = Some((seq, record));
                }
                Action::Persist { seq, record } => {
                    self.durable.write(record);
                    self.election.handle(self.time(), Event::Persisted { seq }, &mut out);
                }
                Action::Send(frame) => shown.frames.push(frame),
                Action::SetDone { ticket, version } => shown.done.push((ticket, version.term)),
                _ => {}
            }
            at += 1;
        }
    }

    /// The disk has done its work.
    pub(crate) fn written(&mut self, disk: Disk) -> Option<Shown> {
        let (seq, record) = self.writing.take()?;
        self.durable.write(record);
        Some(self.step(Event::Persisted { seq }, disk))
    }

    /// So much time passes for this node that all it waits for is over.
    fn pass(&mut self, disk: Disk, shown: &mut Shown) {
        let end = self.now + LONG;
        while let Some(wake) = self.election.wake_at().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.follow(Event::Woke, disk, shown);
        }
        self.now = end;
    }

    /// It hears nothing for long, then this.
    pub(crate) fn late_step(&mut self, event: Event, disk: Disk) -> Shown {
        let mut shown = Shown::default();
        self.pass(disk, &mut shown);
        shown.and(self.step(event, disk))
    }

    /// It hears nothing for long but that there is this term, and stands in the next. Its pre-votes are granted: granting one changes nothing
    /// at the voter, so that asking for them in earnest would show nothing more.
    pub(crate) fn stand_after(&mut self, term: Term, disk: Disk) -> Shown {
        let mut shown = Shown::default();
        self.pass(disk, &mut shown);
        if term > self.election.term() {
            shown = shown.and(self.learn(term, disk));
            self.pass(disk, &mut shown);
        }
        let (round, to) = (self.election.round(), self.election_name());
        let from = (index(&to) + 1) % 3;
        let granted = Said::PreVoteAnswer { to, round, granted: true };
        shown.and(self.step(heard(from, Term::ZERO, granted), disk))
    }

    /// It hears from a voter that there is this term.
    pub(crate) fn learn(&mut self, term: Term, disk: Disk) -> Shown {
        let to = self.election_name();
        let from = (index(&to) + 1) % 3;
        self.step(heard(from, term, Said::Behind { to }), disk)
    }

    /// A caller adds its bit to the state.
    pub(crate) fn set(&mut self, ticket: u64, disk: Disk) -> Shown {
        let json = Arc::from(&[self.content() | 1 << ticket][..]);
        self.step(Event::SetState { ticket, json }, disk)
    }

    /// Which of the calls its state has, one bit each.
    pub(crate) fn content(&self) -> u8 {
        match &*self.election.state().json {
            [bits] => *bits,
            _ => 0,
        }
    }

    /// In which term it says that it is master.
    pub(crate) fn reigns_in(&self) -> Option<Term> {
        self.election.token(self.now).map(|token| token.term)
    }

    /// It ends and starts again with what its disk has. `torn`: what was being written is there.
    pub(crate) fn crash(&mut self, torn: bool, disk: Disk) {
        if let Some((_, record)) = self.writing.take().filter(|_| torn) {
            self.durable.write(record);
        }
        if disk == Disk::LosesVotes {
            self.durable.vote = None;
        }
        if disk == Disk::LosesStates {
            self.durable.state = State::default();
        }
        let at = index(&self.election_name());
        *self = Self::new(at, self.durable.clone(), self.now, disk);
    }

    pub(crate) fn sign(&mut self, heard: bool) {
        let me = self.election_name();
        let mut bytes = Vec::with_capacity(256);
        self.essence(&|node| u8::from(*node == me), heard, &mut bytes);
        self.signature = number(&bytes);
    }

    /// All that decides what it does next.
    pub(crate) fn essence(&self, node: &dyn Fn(&NodeId) -> u8, heard: bool, out: &mut Vec<u8>) {
        let time = |at: Instant| u8::from(at <= self.now);
        self.election.essence(
            &Eyes { time: &time, node, heard: &|lost_at| heard || self.now < lost_at },
            out,
        );
        let Durable { term, vote, state } = &self.durable;
        let mut durable = |term: Term, vote: &Option<NodeId>| {
            out.extend([term.get() as u8, vote.as_ref().map_or(255, node)]);
        };
        durable(*term, vote);
        if let Some((_, Record { term, vote, .. })) = &self.writing {
            durable(*term, vote);
        }
        let content = |json: &[u8]| json.first().copied().unwrap_or(0);
        let of_writing = self.writing.as_ref().and_then(|(_, record)| record.state.as_ref());
        for state in [Some(state), of_writing].into_iter().flatten() {
            let Version { term, rev } = state.version;
            out.extend([term.get() as u8, rev as u8, content(&state.json)]);
        }
    }
}
