//! What an order keeps this node from, until it is readmitted.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::message::{ChannelName, NodeId};
use crate::reason::Reason;
use crate::store::SendError;

/// Shared by the driver, which changes it, and the channels, which look before they send.
#[derive(Debug, Default)]
pub(crate) struct Gate(RwLock<Closed>);

/// Who closed what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closed {
    pub(crate) kicked: Option<NodeId>,
    pub(crate) channels: BTreeMap<ChannelName, NodeId>,
    pub(crate) draining: Option<NodeId>,
}

impl Closed {
    /// What hinders a node that is kept out so.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = Reason> {
        let kicked = self.kicked.iter().map(|by| Reason::Kicked { by: by.clone() });
        let channels = self.channels.iter();
        let channels = channels.map(|(channel, by)| (channel.clone(), by.clone()));
        let channels = channels.map(|(channel, by)| Reason::KickedFrom { by, channel });
        let draining = self.draining.iter().map(|by| Reason::Draining { by: by.clone() });
        kicked.chain(channels).chain(draining)
    }

    /// Who keeps the node out of this channel.
    pub(crate) fn out_of(&self, channel: &ChannelName) -> Option<&NodeId> {
        self.kicked.as_ref().or_else(|| self.channels.get(channel))
    }
}

impl Gate {
    /// Of a node that was being drained when it ended.
    pub(crate) fn new(draining: Option<NodeId>) -> Self {
        Self(RwLock::new(Closed { draining, ..Closed::default() }))
    }

    pub(crate) fn look(&self) -> RwLockReadGuard<'_, Closed> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Closed> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
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
