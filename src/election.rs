//! One of the nodes leads: who, for how long, with which state.
//!
//! Turned on with [`Builder::election`](crate::Builder::election). `docs/election.md` says in plain words what is guaranteed and what is not.
//!
//! ```no_run
//! use waypost::{Election, Node};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder()
//!     .id("a")
//!     .election(Election::quorum(["a", "b", "c"])?)
//!     .start()
//!     .await?;
//! node.on_became_master(|state, reason| async move {
//!     println!("master ({reason}), the last one left {}", state.value());
//! })
//! .await?;
//! node.on_became_follower(|info| async move { println!("no longer: {}", info.reason) }).await?;
//!
//! if node.is_master() {
//!     // On the disks of a majority when this returns.
//!     node.set_state_field("round", 7).await?;
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

pub use crate::event::election::ElectionEvent;
pub use crate::message::{NotAToken, TOKEN_HEADER, Term, TermTooHigh, Token};
pub use crate::policy::{MAX_VOTERS, SettingsError};
use crate::protocol::election::State;
pub use crate::protocol::election::{Accession, Deposed, Refused, StaleToken, Version};
pub use crate::protocol::report::{ElectionInfo, Role};
pub use crate::store::Fence;

/// What a master hands on: one JSON value, replaced as a whole.
#[derive(Clone, PartialEq, Eq)]
pub struct HandedState {
    version: Version,
    json: Arc<[u8]>,
}

impl HandedState {
    /// The term of the master that wrote it, and how many it had written before.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The value; `null` where none was ever set.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or(Value::Null)
    }

    /// A field of the object that the state is; none where it is no object or has no such field.
    pub fn field(&self, key: &str) -> Option<Value> {
        match self.value() {
            Value::Object(mut fields) => fields.remove(key),
            _ => None,
        }
    }

    /// The value as a type of the program's.
    ///
    /// # Errors
    /// It is not of this type; a state that was never set is `null`.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.json)
    }
}

impl From<State> for HandedState {
    fn from(State { version, json }: State) -> Self {
        Self { version, json }
    }
}

impl fmt::Debug for HandedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.json);
        f.debug_struct("HandedState").field("version", &self.version).field("json", &text).finish()
    }
}

/// Why and when a node stopped being master.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stepped {
    /// The term in which it was master.
    pub term: Term,
    /// Why it no longer is.
    pub reason: Deposed,
}

/// What a node is told that is about to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopping {
    /// Its fencing token, where it is master: until the callback returns it stays so, and can set the state that it leaves.
    pub token: Option<Token>,
}
