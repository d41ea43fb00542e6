//! What orders keep this node from, until it is readmitted.

use std::collections::BTreeMap;

use crate::message::{ChannelName, NodeId};
use crate::reason::Reason;

/// Who closed what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closed {
    /// All channels, for joining.
    pub kicked: Option<NodeId>,
    /// These, for joining.
    pub channels: BTreeMap<ChannelName, NodeId>,
    /// All, for new messages in either direction.
    pub draining: Option<NodeId>,
}

impl Closed {
    /// What hinders a node that is kept out so.
    pub fn reasons(&self) -> impl Iterator<Item = Reason> {
        let kicked = self.kicked.iter().map(|by| Reason::Kicked { by: by.clone() });
        let channels = self.channels.iter();
        let channels = channels.map(|(channel, by)| (channel.clone(), by.clone()));
        let channels = channels.map(|(channel, by)| Reason::KickedFrom { by, channel });
        let draining = self.draining.iter().map(|by| Reason::Draining { by: by.clone() });
        kicked.chain(channels).chain(draining)
    }

    /// Who keeps the node out of this channel.
    pub fn out_of(&self, channel: &ChannelName) -> Option<&NodeId> {
        self.kicked.as_ref().or_else(|| self.channels.get(channel))
    }
}
