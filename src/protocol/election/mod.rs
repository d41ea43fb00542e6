//! Beats, votes and time in; who is master, what goes to disk and what is said out.
//!
//! The rules are Raft's (Ongaro, *Consensus: Bridging Theory and Practice*, 2014: chapters 3, 6.4 and 9.6) for one value that is replaced
//! as a whole: a term has one vote of each voter; a vote goes only to a candidate whose state is at least as new; a new master writes
//! the state that it found under its own term, and counts as master once a majority has that on disk. Before that: pre-votes, so that a
//! node that comes back unseats nobody. After that: a lease, so that a master that lost its majority knows it before others elect.
//!
//! The one writing of this node's file that is under way is [`Action::Persist`]. Whatever depends on it is said after [`Event::Persisted`].
//!
//! `docs/election.md` tells what is guaranteed. `tests/election_model.rs` checks this very code exhaustively.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Now;
use super::backoff::Jitter;
use crate::message::{Incarnation, NodeId};
pub use crate::message::{NotAToken, Term, TermTooHigh, Token};
pub use crate::policy::{
    MAX_STATE_BYTES, MAX_VOTERS, Mode, Settings, SettingsError, Times, Warning,
};

mod candidate;
mod disk;
mod essence;
mod follower;
mod frame;
mod handoff;
mod master;
mod terms;

use candidate::{Asking, Standing};
use disk::{Disk, Owed};
use follower::Heard;
use handoff::Parting;
use master::Master;

pub use disk::{Durable, Record};
pub use essence::Eyes;
pub use frame::{Beat, Frame, FrameError, Header, Said};
pub use terms::{Admission, StaleToken, State, Version, admit};

/// We are later than this after our own timer: it is we who stood still, frozen or starved.
const STOOD_STILL: Duration = Duration::from_secs(1);
/// Most calls of `set_state` that wait for their majority.
pub const MAX_WAITING: usize = 1_024;

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Frame(Frame),
    /// The writing with this number is durable.
    Persisted {
        seq: u64,
    },
    /// It failed, or nobody knows.
    PersistFailed {
        seq: u64,
    },
    /// Which peers that take part are online; counts with `Mode::Visible`.
    Visible(BTreeSet<NodeId>),
    LinkUp,
    LinkDown,
    /// `ticket` comes back with the outcome.
    SetState {
        ticket: u64,
        json: Arc<[u8]>,
    },
    /// Give up mastership, to this node or to the best one.
    HandOver {
        to: Option<NodeId>,
    },
    /// The node stops: like `HandOver`, and never again a candidate.
    Stop,
    Woke,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write this with an fsync, then say `Persisted`. Never more than one at a time.
    Persist {
        seq: u64,
        record: Record,
    },
    /// Broadcast.
    Send(Frame),
    /// For people, callbacks and the audit.
    Notice(Notice),
    /// A majority has it on disk; without a quorum, this node.
    SetDone {
        ticket: u64,
        version: Version,
    },
    SetFailed {
        ticket: u64,
        why: SetError,
    },
    /// The answer to `HandOver` and `Stop`: who took over, if anybody was told to and did. Frames end here.
    HandoffDone {
        to: Option<NodeId>,
    },
}

/// Why a state was not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("only the master sets the state, and {}", match master {
        Some((node, term)) => format!("that is {node} (term {term})"),
        None => "there is none at the moment".to_owned(),
    })]
    NotMaster { master: Option<(NodeId, Term)> },
    #[error("this node is handing its mastership over: set the state on the next master")]
    HandingOver,
    #[error("the state is {actual} bytes, limit {limit}: keep it small, or raise max_state_bytes")]
    TooLarge { actual: usize, limit: usize },
    #[error("{limit} calls wait for their majority already: wait for some of them")]
    Busy { limit: usize },
    #[error(
        "mastership was lost while the state was on its way: it may be set or not; read it from the next master"
    )]
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// From now on `is_master` is true. `state`: what the master before has left.
    BecameMaster { term: Term, reason: Accession, state: State },
    /// `is_master` has become false.
    BecameFollower { term: Term, reason: Deposed },
    /// Who is master, as this node sees it; also this node itself where it took a higher term without an interruption.
    MasterChanged { master: NodeId, term: Term },
    /// Nobody, as this node sees it.
    MasterLost { master: NodeId, term: Term },
    /// The master's state is on this node's disk.
    StateChanged { version: Version },
    /// Two masters met.
    SplitSeen { other: NodeId, term: Term },
    /// That node's settings name other voters.
    OtherVoters { node: NodeId },
}

/// How a node became master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Accession {
    /// A majority voted for it.
    Elected,
    /// The master before gave it the role.
    HandedOver,
    /// There is nobody else to vote.
    OnlyNode,
}

impl fmt::Display for Accession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elected => "elected",
            Self::HandedOver => "handed over",
            Self::OnlyNode => "the only node",
        })
    }
}

/// Why a node stopped being master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Deposed {
    /// No majority answered for as long as a lease lasts, or this process stood still.
    LeaseOver,
    /// Another was elected.
    HigherTerm,
    /// It gave the role to another.
    HandedOver {
        /// To whom.
        to: NodeId,
    },
    /// It gave up, and nobody could take over at once.
    Resigned,
    /// Its file cannot be written.
    Disk,
}

impl fmt::Display for Deposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseOver => f.write_str("no majority answered, or the process stood still"),
            Self::HigherTerm => f.write_str("another was elected"),
            Self::HandedOver { to } => write!(f, "handed over to {to}"),
            Self::Resigned => f.write_str("it resigned"),
            Self::Disk => f.write_str("its file cannot be written"),
        }
    }
}

/// What was heard and not obeyed, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Refused {
    /// From a node that has no say.
    pub no_voter: u64,
    /// From a term before ours.
    pub stale: u64,
    /// From a term that no election can have led to.
    pub far_term: u64,
    /// Under our own name.
    pub own_name: u64,
    /// A state that is too large, or a version that its term cannot have.
    pub malformed: u64,
}

#[derive(Debug, Clone)]
enum Role {
    Follower,
    Asking(Asking),
    Standing(Standing),
    Master(Master),
}

#[derive(Debug, Clone)]
pub struct Election {
    me: NodeId,
    incarnation: Incarnation,
    settings: Settings,
    voters_hash: u64,
    jitter: Jitter,
    /// As it is to be on disk; see `disk` for what is.
    term: Term,
    vote: Option<NodeId>,
    state: State,
    disk: Disk,
    owed: Owed,
    role: Role,
    heard: Option<Heard>,
    /// What an earlier run of ours promised a master is forgotten; until then it would have held.
    quiet_until: Instant,
    /// When to stand for election, where no master is heard.
    campaign_at: Instant,
    /// Grows with each asking for pre-votes.
    round: u64,
    visible: BTreeSet<NodeId>,
    link: bool,
    stopping: bool,
    parting: Option<Parting>,
    /// A handing over has failed, of which the shell is still to be told, after the last frame.
    nobody_took_over: bool,
    /// Whom people were told to be master.
    told: Option<(NodeId, Term)>,
    /// Nodes with other voters in their settings, of whom people were told.
    odd: BTreeSet<NodeId>,
    refused: Refused,
    due: Option<Instant>,
}

impl Election {
    /// `durable`: what the file holds. Settings are taken as valid.
    pub fn new(
        me: NodeId,
        incarnation: Incarnation,
        settings: Settings,
        durable: Durable,
        seed: u64,
        now: Now,
    ) -> Self {
        let Durable { term, vote, state } = durable;
        let disk = Disk::holding(term, vote.clone(), state.version);
        let mut jitter = Jitter::new(seed);
        let voters_hash = settings.voters_hash();
        let alone = matches!(&settings.mode, Mode::Quorum { voters } if *voters == [me.clone()]);
        // Whoever is the only one has promised nothing to anybody.
        let wait = if alone { Duration::ZERO } else { settings.times.lost_after };
        let chance = if alone { Duration::ZERO } else { jitter.up_to(settings.times.jitter) };
        Self {
            me,
            incarnation,
            voters_hash,
            jitter,
            term,
            vote,
            state,
            disk,
            owed: Owed::default(),
            role: Role::Follower,
            heard: None,
            quiet_until: now.mono + wait,
            campaign_at: now.mono + wait + chance,
            round: 0,
            visible: BTreeSet::new(),
            link: false,
            stopping: false,
            parting: None,
            nobody_took_over: false,
            told: None,
            odd: BTreeSet::new(),
            refused: Refused::default(),
            due: Some(now.mono + wait + chance),
            settings,
        }
    }

    /// Appends actions in the order in which the shell must perform them.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        let now = now.mono;
        // Before anything else is said or acknowledged: whoever stood still may be master no longer.
        self.check_lease(now, out);
        self.make_up_for_standing_still(now);
        match event {
            Event::Frame(frame) => self.frame(now, frame, out),
            Event::Persisted { seq } => self.persisted(now, seq, out),
            Event::PersistFailed { seq } => self.persist_failed(now, seq, out),
            Event::Visible(nodes) => {
                self.visible = nodes;
                self.visible.remove(&self.me);
                self.count(now, out);
            }
            Event::LinkUp => self.link_up(now, out),
            Event::LinkDown => self.link = false,
            Event::SetState { ticket, json } => self.set_state(now, ticket, json, out),
            Event::HandOver { to } => self.hand_over(now, to, out),
            Event::Stop => {
                self.stopping = true;
                self.hand_over(now, None, out);
            }
            Event::Woke => {}
        }
        self.timers(now, out);
        self.save(now, out);
        if std::mem::take(&mut self.nobody_took_over) {
            out.push(Action::HandoffDone { to: None });
        }
        self.due = self.next_due();
    }

    /// When to say `Woke`, if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        self.due
    }

    fn timers(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.part(now, out);
        self.forget_the_silent(now, out);
        match &self.role {
            Role::Follower => {
                if self.campaign_at <= now && self.is_candidate() {
                    self.ask_or_wait(now, out);
                }
            }
            Role::Asking(asking) => {
                if asking.until <= now {
                    self.asked_long_enough(now, out);
                }
            }
            Role::Standing(standing) => {
                if standing.until <= now {
                    self.stood_long_enough(now, out);
                }
            }
            Role::Master(_) => self.reign(now, out),
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let role = match &self.role {
            Role::Follower if self.is_candidate() => Some(self.campaign_at.max(self.quiet_until)),
            Role::Follower => None,
            Role::Asking(asking) => Some(asking.until),
            Role::Standing(standing) => Some(standing.until),
            Role::Master(master) => Some(master.due()),
        };
        let silence = self.told.as_ref().and(self.heard.as_ref()).map(|heard| self.lost_at(heard));
        let lease = self.lease_until();
        let parting = self.parting.as_ref().map(Parting::due);
        [role, silence, lease, parting, self.disk.retry_at()].into_iter().flatten().min()
    }

    /// A node that stood still listens first: the beats of the meantime are still to be read.
    fn make_up_for_standing_still(&mut self, now: Instant) {
        let late = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late > STOOD_STILL && !self.is_alone() {
            self.listen_first(now);
        }
    }

    fn link_up(&mut self, now: Instant, out: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.link, true) && !self.is_alone() {
            self.listen_first(now);
            self.say_all_again(now, out);
        }
    }

    /// Gives a master the time of a beat to be heard before we stand for election.
    fn listen_first(&mut self, now: Instant) {
        let beat = self.settings.times.beat;
        let then = now + beat + self.jitter.up_to(beat);
        self.campaign_at = self.campaign_at.max(then);
        if let Role::Asking(_) = self.role {
            self.role = Role::Follower;
        }
    }

    /// A frame is obeyed where its sender has a say and its numbers can be true.
    fn frame(&mut self, now: Instant, frame: Frame, out: &mut Vec<Action>) {
        let Frame { from, incarnation, term, voters, ref said } = frame;
        if from == self.me {
            self.refused.own_name += u64::from(incarnation != self.incarnation);
            return;
        }
        // Whoever is behind may ask; nobody else without a say is listened to.
        let say = self.has_a_say(&from);
        if !say && !matches!(said, Said::StateRequest { .. }) {
            self.refused.no_voter += 1;
            return;
        }
        let proposed = if let Said::PreVote { proposed, .. } = said { *proposed } else { term };
        if self.term.is_far_below(term.max(proposed), self.settings.max_term_jump) {
            self.refused.far_term += 1;
            return;
        }
        let odd = say && voters != self.voters_hash && self.odd.len() < MAX_VOTERS;
        if odd && self.odd.insert(from.clone()) {
            out.push(Action::Notice(Notice::OtherVoters { node: from.clone() }));
        }
        self.obey(now, from, term, frame.said, out);
    }

    fn obey(&mut self, now: Instant, from: NodeId, term: Term, said: Said, out: &mut Vec<Action>) {
        match said {
            Said::Beat(beat) => self.beat(now, from, term, beat, out),
            Said::State(state) => self.state_came(now, from, term, state, out),
            Said::StateRequest { to, .. } if to == self.me => self.push_again(now, out),
            Said::PreVote { round, proposed, version } => {
                self.pre_vote(now, from, term, round, proposed, version, out);
            }
            Said::VoteRequest { version, handoff } => {
                self.vote_request(now, from, term, version, handoff, out);
            }
            Said::BeatAnswer { to, number, version } if to == self.me => {
                self.answered(now, from, term, Some(number), version, out);
            }
            Said::StateStored { to, version } if to == self.me => {
                self.answered(now, from, term, None, version, out);
            }
            Said::Behind { to } if to == self.me => self.higher_term(now, term, out),
            Said::PreVoteAnswer { to, round, granted } if to == self.me => {
                self.pre_vote_answer(now, from, term, round, granted, out);
            }
            Said::VoteAnswer { to, granted } if to == self.me => {
                self.vote_answer(now, from, term, granted, out);
            }
            Said::Handoff { to } => self.handed(now, &from, term, to, out),
            Said::Resign => self.resigned(now, &from, term),
            _ => {}
        }
    }

    fn say(&self, said: Said, out: &mut Vec<Action>) {
        let Self { me, incarnation, term, voters_hash: voters, .. } = self;
        let (from, incarnation, term, voters) = (me.clone(), *incarnation, *term, *voters);
        out.push(Action::Send(Frame { from, incarnation, term, voters, said }));
    }

    /// Goes to a higher term; what was owed in the last one is void.
    fn adopt(&mut self, term: Term) {
        debug_assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
        self.owed = Owed::default();
    }

    /// Whether this node is in the settings as a voter, or there is no list of them.
    pub fn is_voter(&self) -> bool {
        match &self.settings.mode {
            Mode::Quorum { voters } => voters.contains(&self.me),
            Mode::Visible => true,
        }
    }

    fn has_a_say(&self, node: &NodeId) -> bool {
        match &self.settings.mode {
            Mode::Quorum { voters } => voters.contains(node),
            Mode::Visible => self.visible.contains(node),
        }
    }

    fn is_candidate(&self) -> bool {
        self.is_voter() && !self.stopping
    }

    /// Whether nobody else has a say.
    fn is_alone(&self) -> bool {
        match &self.settings.mode {
            Mode::Quorum { voters } => *voters == [self.me.clone()],
            Mode::Visible => self.visible.is_empty(),
        }
    }

    /// Whether this node is master at this moment. It is to be asked again before every effect, since time alone ends it.
    pub fn is_master(&self, now: Instant) -> bool {
        self.token(now).is_some()
    }

    /// What to show to whoever guards a resource; none where this node is not master.
    pub fn token(&self, now: Instant) -> Option<Token> {
        let term = self.term_in_office(now)?;
        Some(Token { term, node: self.me.clone() })
    }

    /// Who is master, as this node knows.
    pub fn master(&self, now: Instant) -> Option<(NodeId, Term)> {
        match self.token(now) {
            Some(Token { term, node }) => Some((node, term)),
            None => self.heard_master(now),
        }
    }

    pub fn term(&self) -> Term {
        self.term
    }

    /// The newest state that this node has. On a follower it may be one that the master has not acknowledged to its caller yet.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn refused(&self) -> Refused {
        self.refused
    }
}

#[cfg(test)]
mod tests;
