//! What the program sees and hears of an election.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{broadcast, oneshot, watch};

use super::callbacks::{Callback, Callbacks};
use super::command::Reply;
use crate::clock;
use crate::election::{HandedState, Stepped, Stopping};
use crate::event::election::ElectionEvent;
use crate::message::{NodeId, Term, Token};
use crate::protocol::election::{SetError, Version};
use crate::protocol::leadership::{Call, LeadershipView, NotHandedOver, NotSet, Ticket};
use crate::refusal::{HandOverError, SetStateError};

/// What the driver has shown last, looked at by the clock of this moment.
#[derive(Debug, Clone)]
pub(crate) struct Leader(watch::Receiver<LeadershipView>);

pub(crate) fn leader() -> (watch::Sender<LeadershipView>, Leader) {
    let (sender, shown) = watch::channel(LeadershipView::default());
    (sender, Leader(shown))
}

impl Leader {
    /// This node's token, if it is master at this very moment.
    pub(crate) fn token(&self) -> Option<Token> {
        self.0.borrow().token(clock::now()).cloned()
    }

    /// Who is master, as this node knows.
    pub(crate) fn master(&self) -> Option<(NodeId, Term)> {
        self.0.borrow().master(clock::now())
    }

    /// The newest term that this node knows.
    #[cfg(feature = "metrics")]
    pub(crate) fn term(&self) -> Term {
        self.0.borrow().term()
    }

    pub(crate) fn state(&self) -> HandedState {
        self.0.borrow().state().clone().into()
    }
}

/// Where the driver shows, tells, calls and answers.
pub(super) struct Outlets {
    view: watch::Sender<LeadershipView>,
    events: broadcast::Sender<ElectionEvent>,
    callbacks: Callbacks,
    setting: HashMap<Ticket, Reply<Result<Version, SetStateError>>>,
    handing: HashMap<Ticket, Reply<Result<NodeId, HandOverError>>>,
    last_ticket: u64,
}

impl Outlets {
    pub(super) fn new(
        view: watch::Sender<LeadershipView>,
        events: broadcast::Sender<ElectionEvent>,
        callbacks: Callbacks,
    ) -> Self {
        let (setting, handing) = (HashMap::new(), HashMap::new());
        Self { view, events, callbacks, setting, handing, last_ticket: 0 }
    }

    pub(super) fn show(&self, view: LeadershipView) {
        self.view.send_replace(view);
    }

    pub(super) fn tell(&self, event: ElectionEvent) {
        // Nobody listening is no error.
        let _ = self.events.send(event);
    }

    pub(super) fn register(&mut self, callback: Callback) {
        self.callbacks.register(callback);
    }

    /// The end of a call that somebody waits for.
    pub(super) fn call(&mut self, call: Call) -> Option<oneshot::Receiver<()>> {
        match call {
            Call::BecameMaster { reason, state } => {
                self.callbacks.became_master(state.into(), reason);
                None
            }
            Call::BecameFollower { term, reason } => {
                self.callbacks.became_follower(Stepped { term, reason });
                None
            }
            Call::ShuttingDown { token } => self.callbacks.shutting_down(Stopping { token }),
        }
    }

    pub(super) fn setting(&mut self, reply: Reply<Result<Version, SetStateError>>) -> Ticket {
        let ticket = self.next_ticket();
        self.setting.insert(ticket, reply);
        ticket
    }

    pub(super) fn handing(&mut self, reply: Reply<Result<NodeId, HandOverError>>) -> Ticket {
        let ticket = self.next_ticket();
        self.handing.insert(ticket, reply);
        ticket
    }

    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    pub(super) fn state_set(&mut self, ticket: Ticket, result: Result<Version, NotSet>) {
        if let Some(reply) = self.setting.remove(&ticket) {
            // Whoever asked may have gone.
            let _ = reply.send(result.map_err(Into::into));
        }
    }

    pub(super) fn handed_over(&mut self, ticket: Ticket, result: Result<NodeId, NotHandedOver>) {
        if let Some(reply) = self.handing.remove(&ticket) {
            let _ = reply.send(result.map_err(Into::into));
        }
    }

    /// Answers nobody any more, and lets the function that runs end, for so long.
    pub(super) async fn end(&mut self, within: Duration) {
        self.setting.clear();
        self.handing.clear();
        self.callbacks.end(within).await;
    }
}

impl From<NotSet> for SetStateError {
    fn from(why: NotSet) -> Self {
        match why {
            NotSet::Refused(SetError::NotMaster { master }) => Self::NotMaster { master },
            NotSet::Refused(SetError::HandingOver) => Self::HandingOver,
            NotSet::Refused(SetError::TooLarge { actual, limit }) => {
                Self::TooLarge { actual, limit }
            }
            NotSet::Refused(SetError::Busy { limit }) => Self::Busy { limit },
            NotSet::Refused(SetError::Unknown) => Self::Unknown,
            NotSet::NotJson(error) => Self::NotJson(error),
            NotSet::NotAnObject => Self::NotAnObject,
        }
    }
}

impl From<NotHandedOver> for HandOverError {
    fn from(why: NotHandedOver) -> Self {
        match why {
            NotHandedOver::NotMaster => Self::NotMaster,
            NotHandedOver::NoVoter(node) => Self::NoVoter { node },
            NotHandedOver::Nobody => Self::NobodyTookOver,
        }
    }
}
