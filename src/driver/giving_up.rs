//! Giving up what waits for a receiver, because it left, is forgotten, or its messages are purged.
//!
//! What it acknowledged before stays acknowledged: the store takes over what is known before it gives up the rest, and from the order to its
//! commit the receiver's deliveries stand still, so that nothing becomes known in between.

use std::time::{Duration, Instant};

use super::Driver;
use super::outbound::Body;
use crate::message::{ChannelName, NodeId};
use crate::protocol::delivery;
use crate::transport::Transport;

/// A node that said that it left a channel, and when. Its last answers may still lie in another subscription of ours: what is there is looked
/// at first.
pub(super) type Leaving = (Instant, NodeId, ChannelName);

/// How long input that does not end may put that off.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// What happens to a receiver's deliveries while they stand still.
#[derive(Default)]
pub(super) struct Hold {
    /// So many jobs of the store give something up.
    jobs: usize,
    /// What these jobs came to, which is told before the rest.
    first: Vec<delivery::Event<Body>>,
    pub(super) later: Vec<delivery::Event<Body>>,
}

impl<T: Transport> Driver<T> {
    /// Lets the deliveries to this receiver stand still until `given_up`.
    pub(super) fn stand_still(&mut self, receiver: NodeId) {
        self.holds.entry(receiver).or_default().jobs += 1;
    }

    /// Says what the store gave up, before anything that happened meanwhile.
    pub(super) async fn deliver_first(&mut self, receiver: &NodeId, event: delivery::Event<Body>) {
        match self.holds.get_mut(receiver) {
            Some(hold) => hold.first.push(event),
            None => self.deliver(receiver, event).await,
        }
    }

    /// A job for which these were held has ended, in one way or another.
    pub(super) async fn given_up(&mut self, receivers: &[NodeId]) {
        // What it came to was told before this answer.
        self.take_notices().await;
        for receiver in receivers {
            let Some(hold) = self.holds.get_mut(receiver) else { continue };
            hold.jobs = hold.jobs.saturating_sub(1);
            if hold.jobs > 0 {
                continue;
            }
            let Hold { first, later, .. } = self.holds.remove(receiver).unwrap_or_default();
            self.deliver_together(receiver, first).await;
            for event in later {
                self.deliver(receiver, event).await;
            }
            self.let_go(receiver);
        }
    }
}
