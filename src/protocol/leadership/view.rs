//! How an election stands, as the program sees it without asking the node.

use std::time::Instant;

use crate::message::{NodeId, Term, Token};
use crate::protocol::election::{Election, State};

/// How things stand at one moment, and until when that is so.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeadershipView {
    /// This node's, while it is master.
    token: Option<Token>,
    /// When it is master no longer, if nothing more is heard. None: never.
    until: Option<Instant>,
    /// Who is, as this node knows.
    master: Option<(NodeId, Term)>,
    /// The newest that this node knows.
    term: Term,
    state: State,
}

impl LeadershipView {
    pub(super) fn of(election: &Election, now: Instant) -> Self {
        Self {
            token: election.token(now),
            until: election.lease_until(),
            master: election.master(now),
            term: election.term(),
            state: election.state().clone(),
        }
    }

    /// The node has ended, and this is the state that it had.
    pub(super) fn nobody(state: State) -> Self {
        Self { state, ..Self::default() }
    }

    /// This node's token, if it is master at this very moment.
    pub fn token(&self, now: Instant) -> Option<&Token> {
        let holds = self.until.is_none_or(|until| now < until);
        self.token.as_ref().filter(|_| holds)
    }

    pub fn master(&self, now: Instant) -> Option<(NodeId, Term)> {
        match (&self.token, self.token(now)) {
            (_, Some(token)) => Some((token.node.clone(), token.term)),
            // It was this node, and is not.
            (Some(_), None) => None,
            (None, None) => self.master.clone(),
        }
    }

    pub fn term(&self) -> Term {
        self.term
    }

    pub fn state(&self) -> &State {
        &self.state
    }
}
