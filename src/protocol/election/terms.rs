//! Versions, the state that is handed on, and the fence.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::message::{Term, Token};

/// Which state this is: the term of the master that wrote it, and how many it had written before. Compared in this order.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version {
    /// The term of the master that wrote it.
    pub term: Term,
    /// How many it had written before.
    pub rev: u64,
}

impl Version {
    /// What a master of this term takes over.
    pub const fn first_of(term: Term) -> Self {
        Self { term, rev: 0 }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.rev)
    }
}

/// What a master hands on: JSON that is not looked into here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub version: Version,
    pub json: Arc<[u8]>,
}

impl Default for State {
    /// Nothing was ever set: `null`.
    fn default() -> Self {
        Self { version: Version::default(), json: Arc::from(&b"null"[..]) }
    }
}

/// What a fence says to a token that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The highest so far is this one.
    Same,
    /// It is higher: it must be durable as the highest before anything is done in its name.
    Newer,
}

/// A token that came too late: another master was seen since.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the token of {} in term {} is stale: {} was seen in term {}; ask for the master again",
    token.node, token.term, highest.node, highest.term
)]
pub struct StaleToken {
    /// The one that was shown.
    pub token: Token,
    /// The highest that was seen.
    pub highest: Token,
}

/// The fence's rule: never below the highest token that was seen.
///
/// # Errors
/// A token below it.
pub fn admit(highest: Option<&Token>, token: &Token) -> Result<Admission, StaleToken> {
    match highest {
        Some(highest) if token < highest => {
            Err(StaleToken { token: token.clone(), highest: highest.clone() })
        }
        Some(highest) if token == highest => Ok(Admission::Same),
        _ => Ok(Admission::Newer),
    }
}
