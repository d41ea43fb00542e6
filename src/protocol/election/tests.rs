use std::time::Duration;

use super::*;
use crate::message::Incarnation;
use crate::protocol::testing::Clock;

mod elections;
mod settings;
mod simulation;
mod states;
mod world;

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn term(number: u64) -> Term {
    Term::new(number).expect("a term")
}

fn version(number: u64, rev: u64) -> Version {
    Version { term: term(number), rev }
}

fn quorum(voters: &[&str]) -> Mode {
    Mode::Quorum { voters: voters.iter().copied().map(node).collect() }
}

const SECOND: Duration = Duration::from_secs(1);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One node called `me`, moved by hand.
struct Bench {
    clock: Clock,
    node: Election,
    durable: Durable,
    /// What is to be written, and has not been.
    writing: Option<(u64, Record)>,
    settings: Settings,
}

impl Bench {
    fn new(mode: Mode) -> Self {
        Self::with(Settings::new(mode), Durable::default())
    }

    /// One of the voters me, a and b.
    fn voter() -> Self {
        Self::new(quorum(&["me", "a", "b"]))
    }

    fn with(settings: Settings, durable: Durable) -> Self {
        let clock = Clock::new();
        let incarnation = Incarnation::from_u128(1);
        let copy = settings.clone();
        let node = Election::new(node("me"), incarnation, copy, durable.clone(), 7, clock.now());
        let mut bench = Self { clock, node, durable, writing: None, settings };
        bench.say(Event::LinkUp);
        bench
    }

    /// What comes of it, the disk left aside.
    fn say(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.node.handle(self.clock.now(), event, &mut out);
        self.take_writings(&mut out);
        out
    }

    fn take_writings(&mut self, out: &mut Vec<Action>) {
        out.retain(|action| {
            let Action::Persist { seq, record } = action else { return true };
            assert!(self.writing.is_none(), "one writing at a time");
            self.writing = Some((*seq, record.clone()));
            false
        });
    }

    /// Lets the disk do its work.
    fn write(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        while let Some((seq, record)) = self.writing.take() {
            self.durable.write(record);
            out.extend(self.say(Event::Persisted { seq }));
        }
        out
    }

    /// What comes of it, the disk's work included.
    fn does(&mut self, event: Event) -> Vec<Action> {
        let mut out = self.say(event);
        out.extend(self.write());
        out
    }

    fn hears(&mut self, from: &str, in_term: u64, said: Said) -> Vec<Action> {
        self.does(heard(from, in_term, said, &self.settings))
    }

    /// Lets time pass with a working disk.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.clock.now().mono + time;
        let mut out = Vec::new();
        while let Some(at) = self.node.wake_at().filter(|at| *at < end) {
            let before = self.clock.now().mono;
            self.clock.pass(at.saturating_duration_since(before));
            out.extend(self.does(Event::Woke));
            let again = self.node.wake_at();
            assert!(again.is_none_or(|again| again > at), "it wakes without end: {:?}", self.node);
        }
        out.extend(self.stand_still(end.saturating_duration_since(self.clock.now().mono)));
        out
    }

    fn stand_still(&mut self, time: Duration) -> Vec<Action> {
        self.clock.pass(time);
        self.does(Event::Woke)
    }

    fn is_master(&self) -> bool {
        self.node.is_master(self.clock.now().mono)
    }

    /// Passes the time until it asks for pre-votes, and returns the round.
    fn until_it_asks(&mut self) -> u64 {
        for _ in 0..100 {
            if let Some(round) = self.pass(ms(100)).iter().rev().find_map(asked) {
                return round;
            }
        }
        panic!("it never asks: {:?}", self.node);
    }

    /// Has it elected by `a`, in the next term.
    fn elect(&mut self) -> Term {
        let before = self.node.term().get();
        let round = self.until_it_asks();
        let granted = Said::PreVoteAnswer { to: node("me"), round, granted: true };
        self.hears("a", before, granted);
        self.hears("a", before + 1, Said::VoteAnswer { to: node("me"), granted: true });
        let now = self.node.term();
        self.answer_the_beat("a");
        assert!(self.is_master(), "{:?}", self.node);
        now
    }

    /// `from` answers the last beat, and has all of the state.
    fn answer_the_beat(&mut self, from: &str) -> Vec<Action> {
        let number = self.node.beat_number().expect("it was elected");
        let version = self.node.state().version;
        let term = self.node.term().get();
        self.hears(from, term, Said::BeatAnswer { to: node("me"), number, version })
    }

    /// The node crashes and starts again, with what its disk has.
    fn restart(&mut self) {
        self.writing = None;
        self.node = Election::new(
            node("me"),
            Incarnation::from_u128(2),
            self.settings.clone(),
            self.durable.clone(),
            8,
            self.clock.now(),
        );
        self.say(Event::LinkUp);
    }
}

fn heard(from: &str, in_term: u64, said: Said, settings: &Settings) -> Event {
    Event::Frame(Frame {
        from: node(from),
        incarnation: Incarnation::from_u128(9),
        term: term(in_term),
        voters: settings.voters_hash(),
        said,
    })
}

fn beat(number: u64, version: Version) -> Said {
    Said::Beat(Beat { number, version, ready: true, handing_over: false })
}

fn asked(action: &Action) -> Option<u64> {
    match action {
        Action::Send(Frame { said: Said::PreVote { round, .. }, .. }) => Some(*round),
        _ => None,
    }
}

fn said(actions: &[Action]) -> Vec<&Said> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(frame) => Some(&frame.said),
            _ => None,
        })
        .collect()
}

fn notices(actions: &[Action]) -> Vec<&Notice> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Notice(notice) => Some(notice),
            _ => None,
        })
        .collect()
}

/// Whether it voted for this node, or said that it would not.
fn voted(actions: &[Action], node: &str) -> Option<bool> {
    said(actions).into_iter().find_map(|said| match said {
        Said::VoteAnswer { to, granted } if to.as_str() == node => Some(*granted),
        _ => None,
    })
}

fn pre_voted(actions: &[Action]) -> Option<bool> {
    said(actions).into_iter().find_map(|said| match said {
        Said::PreVoteAnswer { granted, .. } => Some(*granted),
        _ => None,
    })
}

fn vote_request() -> Said {
    Said::VoteRequest { version: Version::default(), handoff: None }
}

fn pre_vote(proposed: u64) -> Said {
    Said::PreVote { round: 1, proposed: term(proposed), version: Version::default() }
}
