//! The node's part in an election.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

use super::Node;
use crate::driver::{Callback, Change, Command};
use crate::election::{
    Accession, ElectionEvent, HandedState, Stepped, Stopping, Term, Token, Version,
};
use crate::message::NodeId;
use crate::refusal::{HandOverError, NodeError, SetStateError};

/// One of the nodes leads: see [`election`](crate::election) and `docs/election.md`.
impl Node {
    /// Whether this node is master at this moment. Costs next to nothing, and is true to the lease: ask again before every effect. A process
    /// that stands still between asking and acting acts on an old answer; guard what matters with the
    /// [`fencing_token`](Self::fencing_token).
    pub fn is_master(&self) -> bool {
        self.shared.leader.token().is_some()
    }

    /// Who is master, and in which term, as far as this node knows. With [`Election::Quorum`](crate::Election::Quorum) it may be a second or
    /// two behind; the term tells who is later.
    pub fn master(&self) -> Option<(NodeId, Term)> {
        self.shared.leader.master()
    }

    /// What this node shows, as master, to whoever guards a resource: a [`Fence`](crate::election::Fence), or
    /// [`NewMessage::fenced`](crate::NewMessage::fenced) for the receiver of a message. None where it is not master.
    pub fn fencing_token(&self) -> Option<Token> {
        self.shared.leader.token()
    }

    /// The newest state that this node has. On the master, what was set last. On others it is on this node's disk; in rare cases, when the
    /// master dies before a majority has it, the next master has an older one, and that counts.
    pub fn state(&self) -> HandedState {
        self.shared.leader.state()
    }

    /// A field of that state; none where it is no object or has no such field.
    pub fn state_field(&self, key: &str) -> Option<Value> {
        self.state().field(key)
    }

    /// Replaces the state, as master. When this returns, a majority of the voters has it on disk (with
    /// [`Election::Visible`](crate::Election::Visible): this node has), and every later master takes over this state or a later one.
    ///
    /// Calls are answered in order. Cancelling leaves open whether it is set.
    ///
    /// # Errors
    /// Nothing was changed, but for [`SetStateError::Unknown`]: mastership was lost on the way, and the next master has this state or the one
    /// before. [`SetStateError::NotMaster`] names the master.
    pub async fn set_state<S: Serialize + ?Sized>(
        &self,
        value: &S,
    ) -> Result<Version, SetStateError> {
        self.change_state(Change::Whole(serde_json::to_vec(value)?)).await
    }

    /// Sets one field of the object that the state is, as [`set_state`](Self::set_state) does all of it. A state that was never set becomes
    /// an object. Calls at the same time do not undo each other.
    ///
    /// # Errors
    /// As [`set_state`](Self::set_state), and [`SetStateError::NotAnObject`].
    pub async fn set_state_field<S: Serialize>(
        &self,
        key: impl Into<String>,
        value: S,
    ) -> Result<Version, SetStateError> {
        let (key, value) = (key.into(), serde_json::to_value(value)?);
        self.change_state(Change::Field { key, value }).await
    }

    async fn change_state(&self, change: Change) -> Result<Version, SetStateError> {
        let set = self.shared.line.ask(|reply| Command::SetState { change, reply }).await;
        set.unwrap_or(Err(SetStateError::ShutDown))
    }

    /// Gives mastership up, to this node or, with `None`, to the voter that answered last and has all of the state. Waits until it is master,
    /// twice `election_times.handoff` at most. `shutdown` does the same.
    ///
    /// # Errors
    /// This node is not master, or nobody took over in time; then the others elect.
    pub async fn hand_over(&self, to: Option<&str>) -> Result<NodeId, HandOverError> {
        let to = to.map(NodeId::new).transpose()?;
        let handed = self.shared.line.ask(|reply| Command::HandOver { to, reply }).await;
        handed.unwrap_or(Err(HandOverError::ShutDown))
    }

    /// What happens in the election from now on, as this node sees it. A listener that is more than 1,024 events behind misses the
    /// oldest. [`Node::events`] has them as well, among all others.
    pub fn election_events(&self) -> ElectionEvents {
        ElectionEvents { events: self.shared.elections.resubscribe() }
    }

    /// Calls this when this node becomes master, with the state that the master before has left; at once, if it is master already.
    ///
    /// The functions for an election run on the program's runtime, one at a time, in the order of what happened; a long one delays the next, so
    /// that by the time it runs the node may be master no longer: ask [`is_master`](Self::is_master). One that does not return holds up `shutdown` for
    /// as long as that may take, and then the role is not handed over: start a task for what goes on. One of each kind is kept, the latest.
    /// One that holds a clone of its own node keeps it running. Without an election, none is ever called.
    ///
    /// # Errors
    /// The node is shut down.
    pub async fn on_became_master<F, R>(&self, function: F) -> Result<(), NodeError>
    where
        F: Fn(HandedState, Accession) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let call = Arc::new(move |state, reason| Box::pin(function(state, reason)) as _);
        self.register(Callback::BecameMaster(call)).await
    }

    /// Calls this when this node is master no longer. Once it is called, another may be.
    ///
    /// # Errors
    /// As [`on_became_master`](Self::on_became_master).
    pub async fn on_became_follower<F, R>(&self, function: F) -> Result<(), NodeError>
    where
        F: Fn(Stepped) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let call = Arc::new(move |info| Box::pin(function(info)) as _);
        self.register(Callback::BecameFollower(call)).await
    }

    /// Calls this when this node is shut down, before the role is handed on: a master can set the state that it leaves. It counts against
    /// `shutdown_timeout`.
    ///
    /// # Errors
    /// As [`on_became_master`](Self::on_became_master).
    pub async fn on_shutdown<F, R>(&self, function: F) -> Result<(), NodeError>
    where
        F: Fn(Stopping) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let call = Arc::new(move |info| Box::pin(function(info)) as _);
        self.register(Callback::Shutdown(call)).await
    }

    async fn register(&self, callback: Callback) -> Result<(), NodeError> {
        self.shared.line.ask(|reply| Command::Register { callback, reply }).await
    }
}

/// A stream of [`ElectionEvent`]s.
#[derive(Debug)]
pub struct ElectionEvents {
    events: broadcast::Receiver<ElectionEvent>,
}

impl ElectionEvents {
    /// The next event; none once the node has stopped. What a slow listener missed is skipped. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<ElectionEvent> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
