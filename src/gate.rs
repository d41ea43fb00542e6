//! What an order keeps this node from, until it is readmitted.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::message::{ChannelName, NodeId};
use crate::protocol::admin::Closed;
use crate::store::SendError;

/// Shared by the driver, which changes it, and the channels, which look before they send.
#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<Closed>);

impl Gate {
    /// Of a node that was being drained when it ended.
    pub(crate) fn new(draining: Option<NodeId>) -> Self {
        Self(RwLock::new(Closed { draining, ..Closed::default() }))
    }

    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Closed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn show(&self, closed: Closed) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = closed;
    }

    /// Whether a message for this channel is taken.
    pub(crate) fn admits(&self, channel: &ChannelName) -> Result<(), SendError> {
        let closed = self.look();
        if let Some(by) = closed.out_of(channel) {
            return Err(SendError::Kicked { channel: channel.clone(), by: by.clone() });
        }
        match &closed.draining {
            Some(by) => Err(SendError::Draining { by: by.clone() }),
            None => Ok(()),
        }
    }
}
