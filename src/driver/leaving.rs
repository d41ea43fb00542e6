//! Nodes that said that they left a channel.

use std::time::{Duration, Instant};

use crate::message::{ChannelName, NodeId};

/// A node that said that it left a channel, and when. Its last answers may still lie in another subscription of ours: what is there is looked
/// at first.
pub(super) type Leaving = (Instant, NodeId, ChannelName);

/// How long input that does not end may put that off.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
