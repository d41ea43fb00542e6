//! Whose word counts: a term, and the fencing token that names it with its master.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::NodeId;

/// The header in which a message carries its sender's fencing token: see [`NewMessage::fenced`](crate::NewMessage::fenced).
pub const TOKEN_HEADER: &str = "waypost-token";

/// An election's number. It only grows.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Term(u64);

/// A number that no election has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("term {0} is beyond the last one, {last}", last = Term::LAST.0)]
pub struct TermTooHigh(pub u64);

impl Term {
    /// Before the first election.
    pub const ZERO: Self = Self(0);
    /// The last one: far below what a file's integers hold, so that nothing ever wraps.
    pub const LAST: Self = Self(1 << 62);

    /// # Errors
    /// A number beyond [`Term::LAST`].
    pub const fn new(number: u64) -> Result<Self, TermTooHigh> {
        if number <= Self::LAST.0 { Ok(Self(number)) } else { Err(TermTooHigh(number)) }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next one; none after the last.
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1).ok()
    }

    /// Whether going from here to `other` is further than elections bring anybody.
    pub(crate) fn is_far_below(self, other: Self, most: u64) -> bool {
        other.0.saturating_sub(self.0) > most
    }
}

impl TryFrom<u64> for Term {
    type Error = TermTooHigh;
    fn try_from(number: u64) -> Result<Self, TermTooHigh> {
        Self::new(number)
    }
}

impl From<Term> for u64 {
    fn from(term: Term) -> Self {
        term.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a master shows to whoever guards a resource. Of two, the one of the later term is greater; tokens of one term differ in
/// their node only where there is no quorum.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The term in which the node was elected.
    pub term: Term,
    /// The master.
    pub node: NodeId,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.node)
    }
}

/// A text that is no fencing token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a fencing token: a term, a dot and a node's name, like 7.alice")]
pub struct NotAToken;

impl FromStr for Token {
    type Err = NotAToken;
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (term, node) = text.split_once('.').ok_or(NotAToken)?;
        // As it is written, and in no other way.
        let plain = term.bytes().all(|digit| digit.is_ascii_digit())
            && (term == "0" || !term.starts_with('0'));
        let term = term.parse().ok().filter(|_| plain).and_then(|term| Term::new(term).ok());
        let node = NodeId::new(node).map_err(|_| NotAToken)?;
        Ok(Self { term: term.ok_or(NotAToken)?, node })
    }
}
